//! SPEC 4, "Stop and restart".

use announcerd::announcer::Event;
use announcerd::announcer::event::{Command, Forced, ScriptEnd};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, SUPPORT, standby};

/// "Stop withdraws": at once, and a second signal cuts the drain.
#[test]
fn a_second_signal_cuts_the_drain() {
    let mut rig = Rig::master(STANDBY);
    rig.tell(Event::Terminate);
    assert!(!rig.kernel.has(EXPORT) && rig.kernel.has(SUPPORT));
    rig.run(SECOND);
    assert!(rig.exit.is_none());
    rig.tell(Event::Terminate);
    let took = rig.until("exit", 10 * SECOND, |r| r.exit.is_some());
    assert!(took <= 10 * MS, "{took:?}");
    assert_eq!((rig.exit, rig.kernel.objects.len()), (Some(None), 0));
}

/// A stop in any state ends, and leaves nothing.
#[test]
fn a_stop_in_any_state_leaves_nothing() {
    for after in [0, 1, 2, 5, 9, 1000, 3000, 3801, 5000, 14_000, 44_000, 50_000] {
        let mut rig = Rig::new(STANDBY);
        rig.set("ping", Target::Turns([vec![Target::Answers(MS); 4], vec![Target::Refuses(MS); 9]].concat()));
        rig.run(MS * after);
        rig.tell(Event::Terminate);
        rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
        assert_eq!(rig.kernel.all(), Vec::<&str>::new(), "stopped after {after} ms");
    }
}

/// A kernel that never answers, or a script that hangs: the stop ends all the same.
#[test]
fn a_stop_is_bounded() {
    let mut rig = Rig::master(STANDBY);
    rig.kernel.mute = true;
    rig.programs.hang.insert("/stop");
    rig.programs.immortal.insert("/stop");
    rig.tell(Event::Terminate);
    let took = rig.until("exit", 600 * SECOND, |r| r.exit.is_some());
    assert!(took <= 150 * SECOND, "{took:?}");
    assert!(rig.logs.iter().any(|l| l.contains("stopping took too long")));
}

/// "unless `on_stop = \"keep\"`", and `keep_max` bounds it; the next start goes on without a flap.
#[test]
fn on_stop_keep() {
    let text = standby("on_stop = \"keep\"\nkeep_max = \"90s\"\nnotify_stop = \"\"");
    let mut rig = Rig::master(&text);
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    assert_eq!((rig.exit, rig.kernel.objects.len()), (Some(Some(90 * SECOND)), 4));
    assert_eq!(rig.told(), ["a STOP", "exit"]);
    assert_eq!(rig.memory.instances["a"].state, State::Master);
    assert!(rig.memory.kept_until.is_some());
    let mut next = rig.crash(&text, 5 * SECOND, true);
    next.run(60 * SECOND);
    assert_eq!((next.told(), next.state("a")), (vec!["a MASTER"], State::Master));
    assert_eq!(next.memory.kept_until, None);
}

/// What is kept is a MASTER's, but notify_stop has undone what notify_master did: the next start does that again, and moves
/// nothing else.
#[test]
fn on_stop_keep_and_the_scripts() {
    let text = standby("on_stop = \"keep\"\nkeep_max = \"90s\"");
    let mut rig = Rig::master(&text);
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    assert_eq!(rig.told(), ["a STOP", "run /stop", "exit"]);
    let mut next = rig.crash(&text, 5 * SECOND, true);
    next.run(60 * SECOND);
    assert_eq!((next.told(), next.state("a")), (vec!["a MASTER", "run /master"], State::Master));
    // Once, and not at each further restart.
    let mut next = next.crash(&text, 5 * SECOND, true);
    next.run(60 * SECOND);
    assert_eq!(next.told(), ["a MASTER"]);
}

/// The story but for what the last process had no time to add.
fn without_routes(rig: &Rig) -> Vec<&str> {
    rig.told().into_iter().filter(|words| !words.starts_with("add route")).collect()
}

/// The scripts of MASTER had not run to their end: a crash while they wait for the kernel, run, or wait for another try.
#[test]
fn a_resumed_master_runs_the_scripts_that_the_crash_kept_from_ending() {
    let text = standby("notify_retry = 5");
    let again = |rig: Rig| {
        let mut next = rig.crash(&text, SECOND, true);
        next.run(60 * SECOND);
        assert_eq!(
            (without_routes(&next), next.state("a")),
            (vec!["a MASTER", "run /master"], State::Master)
        );
    };
    let takes_over = |rig: &mut Rig| {
        rig.set("ping", Target::Silent);
        rig.until_state("a", State::Master, 20 * SECOND);
    };
    // Held back: the kernel has not answered.
    let mut rig = Rig::settled(&text);
    takes_over(&mut rig);
    assert!(!rig.has_told("run /master"));
    again(rig);
    // Running.
    let mut rig = Rig::settled(&text);
    rig.programs.hang.insert("/master");
    takes_over(&mut rig);
    rig.run(SECOND);
    assert!(rig.has_told("run /master"));
    again(rig);
    // Failed, with another try to come.
    let mut rig = Rig::settled(&text);
    rig.programs.takes.insert("/master", (MS, ScriptEnd::Exited(1)));
    takes_over(&mut rig);
    rig.run(10 * SECOND);
    again(rig);
    // Queued behind a script of the state before.
    let mut rig = Rig::settled(&text);
    rig.programs.takes.insert("/fault", (25 * SECOND, ScriptEnd::Exited(0)));
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 10 * SECOND);
    takes_over(&mut rig);
    rig.run(SECOND);
    assert!(!rig.has_told("run /master"));
    again(rig);
}

/// Given up for good is an end, too: nobody hears of it twice.
#[test]
fn a_script_that_was_given_up_is_not_run_again_by_a_restart() {
    let mut rig = Rig::settled(STANDBY);
    rig.programs.hang.insert("/master");
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 20 * SECOND);
    rig.run(40 * SECOND);
    assert!(rig.has_told("kill /master"));
    let mut next = rig.crash(STANDBY, SECOND, true);
    next.run(60 * SECOND);
    assert_eq!(next.told(), ["a MASTER"]);
}

/// A handover lets the script that runs come to its end; what has not begun is the successor's.
#[test]
fn a_handover_loses_no_script() {
    let running = |takes: u64, text: &str| {
        let mut rig = Rig::settled(text);
        rig.programs.takes.insert("/master", (SECOND * u32::try_from(takes).unwrap(), ScriptEnd::Exited(0)));
        rig.set("ping", Target::Silent);
        rig.until_state("a", State::Master, 20 * SECOND);
        rig.run(SECOND);
        rig.forget();
        rig.command(Command::Handover).unwrap();
        rig.until("exit", 20 * SECOND, |r| r.exit.is_some());
        assert!(!rig.has_told("kill"), "{:?}", rig.told());
        rig
    };
    for (takes, expected) in [(5, vec!["a MASTER"]), (25, vec!["a MASTER", "run /master"])] {
        let mut next = running(takes, STANDBY).crash(STANDBY, SECOND, true);
        next.run(60 * SECOND);
        assert_eq!(next.told(), expected, "a script of {takes} s");
    }
    // Another try, or the kernel's answer, was waited for.
    for mute in [false, true] {
        let text = standby("notify_retry = 5");
        let mut rig = Rig::settled(&text);
        rig.kernel.mute = mute;
        rig.programs.takes.insert("/master", (MS, ScriptEnd::Exited(1)));
        rig.set("ping", Target::Silent);
        rig.until_state("a", State::Master, 20 * SECOND);
        rig.run(500 * MS);
        rig.command(Command::Handover).unwrap();
        rig.until("exit", 20 * SECOND, |r| r.exit.is_some());
        rig.kernel.mute = false;
        let mut next = rig.crash(&text, SECOND, true);
        next.run(60 * SECOND);
        assert_eq!(without_routes(&next), ["a MASTER", "run /master"]);
    }
}

/// What is wanted always has nothing to do with the state: a standby that keeps leaves it, and the next start finds it.
#[test]
fn on_stop_keep_leaves_a_standby_what_is_wanted_always() {
    let text = standby("on_stop = \"keep\"\nkeep_max = \"90s\"\nnotify_stop = \"\"");
    let mut rig = Rig::settled(&text);
    let before: Vec<String> = rig.kernel.all().into_iter().map(str::to_owned).collect();
    assert!(!before.is_empty());
    rig.forget();
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    assert_eq!((rig.exit, rig.told()), (Some(Some(90 * SECOND)), vec!["a STOP", "exit"]));
    assert_eq!(rig.kernel.all(), before);
    assert!(rig.memory.kept_until.is_some());
    let mut next = rig.crash(&text, 5 * SECOND, true);
    next.run(20 * SECOND);
    assert_eq!((next.told(), next.state("a")), (vec!["a BACKUP", "run /backup"], State::Backup));
    assert_eq!(next.kernel.all(), before);
    // Where nothing is wanted always, nothing is left to be swept.
    let mut rig = Rig::settled(&text.replace("when = \"always\"", "when = \"master\""));
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    assert_eq!((rig.exit, rig.kernel.objects.len(), rig.memory.kept_until), (Some(None), 0, None));
}

/// "After a crash MASTER is resumed …; then the ordinary rules decide."
#[test]
fn a_resumed_master_obeys_the_ordinary_rules() {
    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, true);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Master, 5 * SECOND);
    let took = rig.until_state("a", State::Backup, 60 * SECOND);
    assert_eq!(
        took,
        30 * SECOND,
        "FIELD 6: the failback delay, not at once and not for ever (keepalived #80)"
    );

    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, true);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    assert!(!rig.kernel.has(EXPORT));
}

/// A resumed MASTER whose checks cannot see anything: FAULT, at `init_timeout` at the latest.
#[test]
fn a_resumed_master_that_is_blind_gives_up() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Blind);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    assert_eq!(rig.until_state("a", State::Fault, 60 * SECOND).as_secs(), 3);
}

/// A resumed MASTER announces from the start: it does not wait for the primary to be decided before it obeys `require`.
#[test]
fn a_resumed_master_whose_require_is_unmet_is_fault_at_once() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.set("ping", Target::Blind);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    let took = rig.until_state("a", State::Fault, 60 * SECOND);
    assert!(took <= 3 * SECOND, "{took:?}: the fall of `uplink`, and not init_timeout");
    assert!(!rig.kernel.has(EXPORT));
}

/// A crash while a MASTER is being resumed: it still is one.
#[test]
fn a_crash_while_resuming_resumes() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Blind);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    rig.run(2 * SECOND);
    assert_eq!(rig.state("a"), State::Init);
    assert_eq!(rig.memory.instances["a"].state, State::Master);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    rig.run(60 * SECOND);
    assert_eq!((rig.told(), rig.state("a")), (vec!["a MASTER"], State::Master));
}

/// A crash out of FAULT, BACKUP or STOP resumes nothing: swept.
#[test]
fn only_a_master_is_resumed() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    rig.set("uplink", Target::Answers(MS));
    rig.run(2 * SECOND);
    assert!(!rig.has_told(EXPORT));

    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    let mut rig = rig.crash(STANDBY, SECOND, true);
    rig.run(60 * SECOND);
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"]);
}

/// "What must survive (overrides, maintenance, flap history, last state) is written".
#[test]
fn overrides_and_flaps_survive() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    rig.set("ping", Target::Refuses(MS));
    rig.until_state("a", State::Master, 60 * SECOND);
    rig.force(Forced::Backup, Some(100 * SECOND));
    let mut rig = rig.crash(STANDBY, 10 * SECOND, true);
    assert_eq!(rig.instance("a").flaps, 1);
    rig.run(30 * SECOND);
    assert_eq!(rig.state("a"), State::Backup);
    let took = rig.until_state("a", State::Master, 100 * SECOND);
    assert_eq!(took, 60 * SECOND, "the rest of the hundred seconds");
}

/// Nor does a crash forgive the recoveries of the last hour.
#[test]
fn recoveries_survive() {
    let mut rig = Rig::master(STANDBY);
    for _ in 0..2 {
        rig.set("uplink", Target::Refuses(MS));
        rig.until_state("a", State::Fault, 10 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.until_state("a", State::Master, 60 * SECOND);
    }
    let mut rig = rig.crash(STANDBY, SECOND, true);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until("require is met", 10 * SECOND, |r| r.instance("a").require.as_deref() == Some("met"));
    assert_eq!(rig.until_state("a", State::Master, 60 * SECOND), 4 * SECOND, "the third within an hour");
}

/// What is kept is written when it changes, and then only.
#[test]
fn it_is_saved_when_it_changes_only() {
    let mut rig = Rig::settled(STANDBY);
    rig.run(600 * SECOND);
    assert_eq!(rig.saves, 0);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    assert_eq!((rig.saves, rig.memory.instances["a"].state), (1, State::Master));
}
