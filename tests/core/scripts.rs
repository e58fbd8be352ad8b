//! SPEC 4, "Scripts".

use announcerd::announcer::event::{Event, ScriptEnd};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, standby};

fn slow(rig: &mut Rig, program: &'static str, takes: std::time::Duration) {
    rig.programs.takes.insert(program, (takes, ScriptEnd::Exited(0)));
}

/// "One at a time per instance, in the order of the transitions, awaited." FIELD 1: notify scripts run at the same time
/// and finish out of order (keepalived #1055, #996, #584).
#[test]
fn one_at_a_time_in_the_order_of_the_transitions() {
    let mut rig = Rig::master(STANDBY);
    slow(&mut rig, "/fault", 5 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 4 * SECOND);
    rig.run(SECOND);
    assert_eq!(rig.started(), ["/fault"]);
    rig.run(10 * SECOND);
    assert_eq!(rig.started(), ["/fault", "/master"]);
    assert_eq!(rig.when("run /master"), rig.when("run /fault") + 5 * SECOND);
}

/// "One runs, one waits; a newer transition replaces one that has not started."
#[test]
fn a_newer_transition_replaces_what_has_not_started() {
    let mut rig = Rig::settled(STANDBY);
    slow(&mut rig, "/fault", 25 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    for _ in 0..3 {
        rig.set("uplink", Target::Answers(MS));
        rig.until_state("a", State::Backup, 5 * SECOND);
        rig.set("uplink", Target::Refuses(MS));
        rig.until_state("a", State::Fault, 5 * SECOND);
    }
    rig.set("uplink", Target::Answers(MS));
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a").len(), 8);
    assert_eq!(rig.started(), ["/fault", "/backup"]);
}

/// "STOP is never replaced." FIELD 2: the stop script is killed a second after SIGTERM, or never run (keepalived #2372,
/// #2239).
#[test]
fn the_stop_script_runs_and_is_awaited() {
    let mut rig = Rig::settled(&standby("notify_timeout = \"60s\""));
    slow(&mut rig, "/fault", 20 * SECOND);
    slow(&mut rig, "/stop", 50 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.tell(Event::Terminate);
    rig.run(SECOND);
    rig.tell(Event::Terminate);
    rig.until("exit", 200 * SECOND, |r| r.exit.is_some());
    assert_eq!(rig.started(), ["/fault", "/stop"]);
    assert!(!rig.has_told("kill"));
    assert_eq!(rig.when("exit"), rig.when("run /stop") + 50 * SECOND);
}

/// "Killed with the whole group at `notify_timeout`." FIELD 4: a script that hangs causes no failover, or cannot be
/// killed for days (keepalived #535, #1364).
#[test]
fn a_script_that_hangs_is_killed_and_stops_nothing() {
    let mut rig = Rig::master(STANDBY);
    rig.programs.hang.insert("/fault");
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 5 * SECOND);
    rig.run(10 * MS);
    assert!(rig.kernel.has(EXPORT), "the announcement does not wait for it");
    rig.run(60 * SECOND);
    assert_eq!(rig.when("kill /fault"), rig.when("run /fault") + 30 * SECOND);
    assert_eq!(rig.started(), ["/fault", "/master"]);
    assert!(rig.logs.iter().any(|l| l.contains("had not ended after notify_timeout, 30s")), "{:?}", rig.logs);
}

/// FIELD 4 still: not even a script that cannot be killed holds up the next one.
#[test]
fn a_script_that_cannot_be_killed_holds_up_nothing() {
    let mut rig = Rig::master(STANDBY);
    rig.programs.hang.insert("/fault");
    rig.programs.immortal.insert("/fault");
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.run(60 * SECOND);
    assert_eq!(rig.when("run /master"), rig.when("run /fault") + 32 * SECOND);
}

/// "Leaving MASTER gives the running script two more seconds."
#[test]
fn leaving_master_gives_two_more_seconds() {
    let mut rig = Rig::settled(STANDBY);
    rig.programs.hang.insert("/master");
    rig.set("ping", Target::Silent);
    rig.until("the script runs", 10 * SECOND, |r| r.has_told("run /master"));
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(5 * SECOND);
    assert_eq!(rig.when("kill /master"), rig.when("a FAULT") + 2 * SECOND);
    assert_eq!(rig.when("run /fault"), rig.when("kill /master") + MS);
}

/// "notify_retry = 0: tries again with back-off while the state lasts."
#[test]
fn a_failed_script_is_tried_again_while_the_state_lasts() {
    let mut rig = Rig::settled(&standby("notify_retry = 3"));
    rig.programs.takes.insert("/fault", (MS, ScriptEnd::Exited(1)));
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(60 * SECOND);
    let starts: Vec<u64> = rig
        .story
        .iter()
        .filter(|(_, w)| w == "run /fault")
        .map(|(t, _)| t.since(rig.when("a FAULT")).as_secs())
        .collect();
    assert_eq!(starts, [0, 1, 3, 7]);
    // The state ends: so do the tries.
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 5 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 5 * SECOND);
    rig.forget();
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 5 * SECOND);
    rig.run(60 * SECOND);
    assert!(rig.story.iter().filter(|(_, w)| w == "run /fault").count() <= 2, "{:?}", rig.story);
    assert_eq!(rig.told().last(), Some(&"run /backup"));
}

/// "They run for the first state after a start too, and not again for a resumed one."
#[test]
fn scripts_after_a_start() {
    let mut rig = Rig::new(STANDBY);
    rig.run(5 * SECOND);
    assert_eq!(rig.started(), ["/backup"]);
    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, true);
    rig.run(5 * SECOND);
    assert_eq!((rig.state("a"), rig.started().len()), (State::Master, 0));
    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, false);
    rig.run(10 * SECOND);
    assert_eq!(rig.started().last().map(String::as_str), Some("/master"));
}

/// "keepalived's arguments, plus `ANNOUNCERD_*` in the environment."
#[test]
fn arguments_and_environment() {
    let mut rig = Rig::settled(&standby("notify = \"/any --flag 'two words'\""));
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    let commands: Vec<Vec<String>> = rig.runs.iter().map(|r| r.command.clone()).collect();
    assert_eq!(
        commands,
        [vec!["/master"], vec!["/any", "--flag", "two words", "INSTANCE", "a", "MASTER", "100"]]
    );
    let env: std::collections::BTreeMap<_, _> = rig.runs[0].env.iter().cloned().collect();
    assert_eq!(env["ANNOUNCERD_NODE"], "hk-1");
    assert_eq!(env["ANNOUNCERD_INSTANCE"], "a");
    assert_eq!(env["ANNOUNCERD_STATE"], "MASTER");
    assert_eq!(env["ANNOUNCERD_PREVIOUS_STATE"], "BACKUP");
    assert!(env["ANNOUNCERD_REASON"].contains("the primary is down"));
}

/// "A script … that others than root can write to is refused": that it never ran is said, and nothing hangs on it.
#[test]
fn a_script_that_is_refused_stops_nothing() {
    let mut rig = Rig::settled(STANDBY);
    rig.programs
        .takes
        .insert("/master", (MS, ScriptEnd::NotStarted("/master can be written to by others".into())));
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    assert!(rig.kernel.has(EXPORT));
    assert!(rig.logs.iter().any(|l| l.contains("can be written to by others")), "{:?}", rig.logs);
}

/// Scripts of MASTER that wait for the kernel are forgotten with MASTER.
#[test]
fn scripts_of_a_master_that_never_was_do_not_run() {
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.mute = true;
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.kernel.mute = false;
    rig.run(10 * SECOND);
    assert_eq!(rig.started(), ["/fault"]);
}
