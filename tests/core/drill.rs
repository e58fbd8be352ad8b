//! The drill: a failover exercise that verifies each step, hands back, and never makes things worse.

use std::time::Duration;

use announcerd::announcer::event::{Command, Event, Forced, RequestId};
use announcerd::announcer::journal::State;
use announcerd::fib::object::OpError;

use crate::fake::{SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, clock, standby, with};

fn begin(rig: &mut Rig) -> Result<String, String> {
    rig.command(Command::Drill { instance: "a".into(), hold: SECOND * 5 })
}

fn until_done(rig: &mut Rig) -> bool {
    rig.until("the drill is over", SECOND * 200, |r| r.drill.iter().any(|n| n.done));
    rig.drill.last().and_then(|n| n.ok).expect("a verdict")
}

fn report(rig: &Rig) -> Vec<(Option<bool>, &str)> {
    rig.drill.iter().map(|n| (n.ok, n.text.as_str())).collect()
}

fn says(rig: &Rig, part: &str) {
    assert!(rig.drill.iter().any(|n| n.text.contains(part)), "no `{part}` in {:#?}", report(rig));
}

#[test]
fn a_drill_takes_over_verifies_holds_hands_back_and_verifies() {
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    assert!(rig.instance("a").drill, "the status says that it is a drill");
    rig.until("the hold", SECOND * 5, |r| r.drill.iter().any(|n| n.text.contains("holding")));
    assert!(rig.kernel.has(EXPORT));
    assert!(until_done(&mut rig), "{:#?}", report(&rig));
    assert_eq!(rig.states("a"), [State::Master, State::Backup]);
    assert!(rig.records.iter().all(|r| r.reason.starts_with("drill: ")), "events say so too");
    assert!(!rig.kernel.has(EXPORT));
    let instance = rig.instance("a");
    assert!(!instance.drill && instance.flaps == 0, "an exercise is no flap");
    for part in ["MASTER is decided", "has what MASTER needs", "the scripts ended well", "BACKUP is decided"]
    {
        says(&rig, part);
    }
    assert_eq!(rig.started(), ["/master", "/backup"], "scripts run for real");
    assert!(rig.logs.iter().any(|l| l.contains("drill: pretending")));
    // Whenever the driver comes to ask: what `notify_url` is told of these transitions says that it was a drill.
    let notice = |r| rig.core.notice(r, &clock());
    assert!(rig.records.iter().all(|r| notice(r).drill));
    // The primary's checks were never touched.
    assert_eq!(rig.verdict("ping"), "up");
}

/// The witness must answer a probe that was sent after the drill began, as in a real takeover.
#[test]
fn a_drill_asks_the_witness() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Silent);
    begin(&mut rig).unwrap();
    rig.run(SECOND);
    assert_eq!(rig.state("a"), State::Backup, "nothing that it requires has answered");
    rig.set("uplink", Target::Answers(SECOND / 100));
    assert!(until_done(&mut rig));
}

#[test]
fn a_drill_is_refused_when_it_is_no_time_for_one() {
    let refused = |rig: &mut Rig, words: &str| {
        let error = begin(rig).unwrap_err();
        assert!(error.contains(words), "{error}");
        assert!(rig.drill.is_empty());
    };
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    let second = rig.command(Command::Drill { instance: "a".into(), hold: SECOND }).unwrap_err();
    assert!(second.contains("one at a time"), "{second}");

    let mut rig = Rig::settled(STANDBY);
    let error = rig.command(Command::Drill { instance: "b".into(), hold: SECOND }).unwrap_err();
    assert!(error.contains("there is no instance `b`"), "{error}");
    rig.force(Forced::Backup, None);
    refused(&mut rig, "is forced");

    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Silent);
    rig.run(SECOND * 2);
    rig.command(Command::Maintenance { on: true }).unwrap();
    refused(&mut rig, "maintenance");

    refused(&mut Rig::master(STANDBY), "is in MASTER");

    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Silent);
    rig.until_state("a", State::Fault, SECOND * 20);
    refused(&mut rig, "is in FAULT");

    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Blind);
    rig.run(SECOND * 2);
    refused(&mut rig, "a takeover would fail");
}

/// Ctrl-C, or a connection that is lost.
#[test]
fn who_leaves_makes_it_hand_back() {
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    let stranger = Event::Command { id: RequestId(7), command: Command::LeaveDrill };
    rig.tell(stranger);
    assert_eq!(rig.state("a"), State::Master, "it is not theirs");
    rig.tell(Event::Command { id: RequestId(1), command: Command::LeaveDrill });
    assert_eq!(rig.state("a"), State::Backup);
    assert!(!until_done(&mut rig));
    says(&rig, "the operator has left");
    rig.run(SECOND * 60);
    assert_eq!(rig.state("a"), State::Backup);
}

#[test]
fn a_real_death_meanwhile_is_a_real_takeover() {
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    rig.set("ping", Target::Silent);
    assert!(!until_done(&mut rig));
    says(&rig, "really is down");
    rig.run(SECOND * 60);
    assert_eq!(rig.states("a"), [State::Master], "announced without a break");
    rig.set("ping", Target::Answers(SECOND / 100));
    rig.until_state("a", State::Backup, SECOND * 60);
    let drills: Vec<bool> = rig.records.iter().map(|r| rig.core.notice(r, &clock()).drill).collect();
    assert_eq!(drills, [true, false], "the way back was none");
}

#[test]
fn what_fails_is_told_and_handed_back() {
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.refuses.push(("198.51.100.0", OpError::Refused("No buffer space available".into())));
    begin(&mut rig).unwrap();
    assert!(!until_done(&mut rig));
    says(&rig, "not seen in time: the kernel as it should be");
    assert_eq!(rig.state("a"), State::Backup);

    let mut rig = Rig::settled(STANDBY);
    let end = announcerd::announcer::event::ScriptEnd::Exited(3);
    rig.programs.takes.insert("/master", (Duration::from_millis(5), end));
    begin(&mut rig).unwrap();
    assert!(!until_done(&mut rig));
    says(&rig, "a script failed");
    assert_eq!(rig.state("a"), State::Backup);
}

/// `require` counts in a drill as always.
#[test]
fn an_isolation_during_a_drill_is_a_fault() {
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    rig.set("uplink", Target::Refuses(SECOND / 100));
    assert!(!until_done(&mut rig));
    rig.until_state("a", State::Fault, SECOND * 20);
    assert!(!rig.kernel.has(EXPORT));
}

/// During the hold: MASTER, for the exercise.
fn holding(text: &str) -> Rig {
    let mut rig = Rig::settled(text);
    begin(&mut rig).unwrap();
    rig.until("the hold", SECOND * 5, |r| r.drill.iter().any(|n| n.text.contains("holding")));
    assert!(rig.kernel.has(EXPORT));
    rig
}

/// Who comes next knows nothing of the drill: nothing is resumed for a primary that is well.
#[test]
fn a_crash_during_a_drill_resumes_nothing() {
    let rig = holding(STANDBY);
    let mut next = rig.crash(STANDBY, SECOND, true);
    next.run(SECOND * 60);
    assert!(!next.kernel.has(EXPORT));
    assert_eq!((next.states("a"), next.started()), (vec![State::Backup], vec!["/backup".to_owned()]));
}

/// But where the primary has really died meanwhile it is a MASTER like any other.
#[test]
fn a_crash_during_a_drill_that_has_become_real_resumes() {
    let mut rig = Rig::settled(STANDBY);
    rig.command(Command::Drill { instance: "a".into(), hold: SECOND * 50 }).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    rig.set("ping", Target::Silent);
    rig.run(SECOND * 10);
    let mut next = rig.crash(STANDBY, SECOND, true);
    next.run(SECOND * 60);
    assert_eq!(next.told(), ["a MASTER"]);
}

#[test]
fn a_handover_during_a_drill_hands_back_first() {
    for hold in [true, false] {
        let mut rig = if hold { holding(STANDBY) } else { Rig::settled(STANDBY) };
        if !hold {
            begin(&mut rig).unwrap();
        }
        let answer = rig.command(Command::Handover).unwrap();
        assert!(answer.contains("the drill is handed back first"), "{answer}");
        // How an upgrade waits for the end: it makes no stop of a handover.
        rig.tell(Event::Terminate);
        rig.until("exit", SECOND * 12, |r| r.exit.is_some());
        assert!(!rig.kernel.has(EXPORT), "{:?}", rig.told());
        assert!(!rig.has_told("run /stop") && rig.exit == Some(Some(SECOND * 60)), "{:?}", rig.told());
        says(&rig, "interrupted: handover");
        assert_ne!(rig.memory.instances["a"].state, State::Master);
        let mut next = rig.crash(STANDBY, SECOND, true);
        next.run(SECOND * 60);
        assert_eq!(next.states("a"), [State::Backup]);
    }
}

#[test]
fn a_stop_that_keeps_keeps_no_drill() {
    let text = standby("on_stop = \"keep\"\nkeep_max = \"90s\"");
    let mut rig = holding(&text);
    rig.tell(Event::Terminate);
    rig.until("exit", SECOND * 60, |r| r.exit.is_some());
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"], "what is wanted always");
    let mut next = rig.crash(&text, SECOND, true);
    next.run(SECOND * 60);
    assert_eq!(next.states("a"), [State::Backup]);
}

#[test]
fn an_operator_who_decides_otherwise_ends_it() {
    let mut rig = Rig::settled(STANDBY);
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 5);
    rig.force(Forced::Master, None);
    assert!(!until_done(&mut rig));
    assert_eq!(rig.state("a"), State::Master, "as the operator wants");
    rig.command(Command::Auto { instance: "a".into() }).unwrap();
    rig.until_state("a", State::Backup, SECOND * 60);
}

/// FIELD 9: what it requires was well when it was asked, and its hold time ends while we do not run: that is heard before
/// anything is decided.
#[test]
fn a_required_session_that_died_while_we_slept_is_no_witness() {
    let isp = "[[bgp]]\nname = \"isp\"\npeer = \"203.0.113.1\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"9s\"\n\
               [[check]]\nname = \"session\"\ntype = \"bgp\"\npeer = \"isp\"\n";
    let text = with(
        &standby("takeover_delay = \"5s\""),
        "name = \"hk-1\"",
        "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"",
    );
    let text = with(&text, "[[instance]]", &format!("{isp}[[instance]]"));
    let text = with(&text, "checks = [\"uplink\"]", "checks = [\"session\"]");
    for events_come_first in [false, true] {
        let mut rig = Rig::settled(&text);
        begin(&mut rig).unwrap();
        rig.run(SECOND * 5 / 2);
        assert_eq!(
            (rig.states("a"), rig.instance("a").pending.map(|p| p.what)),
            (vec![], Some("takeover".into()))
        );
        rig.pause(SECOND * 30, false);
        if events_come_first {
            rig.tell(Event::KernelChanged);
        }
        rig.run(SECOND * 60);
        assert!(!rig.states("a").contains(&State::Master), "{:?}", rig.records);
    }
}

#[test]
fn a_takeover_delay_is_kept_to() {
    let mut rig = Rig::settled(&standby("takeover_delay = \"7s\""));
    let start = rig.now;
    begin(&mut rig).unwrap();
    rig.until_state("a", State::Master, SECOND * 20);
    assert!(rig.now.since(start) >= SECOND * 7);
    assert!(until_done(&mut rig));
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let mut rig = Rig::settled(STANDBY);
    let plan = rig.core.plan_drill("a", rig.now).unwrap().into_lines().join("\n");
    assert!(plan.contains("kernel: add route 198.51.100.0/24"), "{plan}");
    assert!(plan.contains("Nothing was done"), "{plan}");
    rig.run(SECOND * 10);
    assert!(rig.records.is_empty() && rig.drill.is_empty());
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, SECOND * 60);
    assert!(rig.core.plan_drill("a", rig.now).is_err());
}

/// The journal's numbers go on where an earlier run ended.
#[test]
fn events_are_numbered_after_those_of_earlier_runs() {
    let mut rig = Rig::new(STANDBY);
    rig.core.number_events_after(41);
    rig.run(SECOND * 10);
    assert_eq!(rig.records.first().map(|r| r.seq), Some(42));
}
