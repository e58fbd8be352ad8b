//! SPEC 4, "States".

use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{ADDRESS, BASE, EXPORT, Rig, STANDBY, SUPPORT, config, standby};

/// "INIT ends when primary and require are decided."
#[test]
fn init_ends_when_all_is_decided() {
    let mut rig = Rig::new(STANDBY);
    assert_eq!(rig.state("a"), State::Init);
    let took = rig.until_state("a", State::Backup, 30 * SECOND);
    assert!(took <= 100 * MS, "{took:?}");
    let mut rig = Rig::new(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until("INIT ends", 30 * SECOND, |r| r.state("a") != State::Init);
    assert_eq!(rig.verdict("ping"), "down");
    rig.until_state("a", State::Master, 3 * SECOND);
}

/// "… or after `init_timeout`; then an unmet require is FAULT, an undecided primary BACKUP".
#[test]
fn init_ends_after_init_timeout() {
    for (check, end) in [("ping", State::Backup), ("uplink", State::Fault)] {
        let mut rig = Rig::new(&STANDBY.replace("fall = 3", "fall = 300"));
        rig.set(check, Target::Silent);
        let took = rig.until("INIT ends", 60 * SECOND, |r| r.state("a") != State::Init);
        assert_eq!((took, rig.state("a")), (30 * SECOND, end));
    }
}

/// "INIT (unless resumed), FAULT and STOP announce nothing": what an earlier process left is swept first.
#[test]
fn init_and_fault_have_what_is_wanted_always_and_no_more() {
    let master = Rig::master(STANDBY);
    assert!(master.kernel.has(EXPORT) && master.kernel.has(SUPPORT) && master.kernel.has(ADDRESS));
    let mut rig = master.crash(STANDBY, SECOND, false);
    rig.set("ping", Target::Blind);
    rig.set("uplink", Target::Blind);
    rig.run(2 * SECOND);
    assert_eq!(rig.state("a"), State::Init);
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"]);
    rig.run(60 * SECOND);
    assert_eq!(rig.state("a"), State::Fault);
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"]);
}

/// "`takeover_delay` is fixed, runs from the decision".
#[test]
fn takeover_delay_is_fixed_and_runs_from_the_decision() {
    let mut rig = Rig::settled(&standby("takeover_delay = \"5s\""));
    rig.set("ping", Target::Silent);
    rig.until("pending", 10 * SECOND, |r| r.instance("a").pending.is_some());
    assert_eq!(rig.verdict("ping"), "down");
    assert_eq!(rig.until_state("a", State::Master, 60 * SECOND), 5 * SECOND);
}

/// "… and is cancelled unless the primary stays down."
#[test]
fn takeover_delay_is_cancelled_unless_the_primary_stays_down() {
    let mut rig = Rig::settled(&standby("takeover_delay = \"5s\""));
    for answer in [Target::Answers(MS), Target::Blind] {
        rig.set("ping", Target::Silent);
        rig.until("pending", 10 * SECOND, |r| r.instance("a").pending.is_some());
        rig.set("ping", answer);
        rig.until("cancelled", 4 * SECOND, |r| r.instance("a").pending.is_none());
        rig.run(3 * SECOND);
        rig.set("ping", Target::Answers(MS));
        rig.run(30 * SECOND);
        assert_eq!(rig.states("a"), []);
    }
}

/// One witness that is lost while the delay runs does not start it anew: the primary stays down.
#[test]
fn a_lost_witness_does_not_start_takeover_delay_anew() {
    let mut rig = Rig::settled(&standby("takeover_delay = \"10s\""));
    rig.set("ping", Target::Silent);
    rig.until("pending", 10 * SECOND, |r| r.instance("a").pending.is_some());
    rig.run(8 * SECOND);
    rig.set("uplink", Target::Silent);
    rig.run(1900 * MS);
    rig.set("uplink", Target::Answers(MS));
    let took = rig.until_state("a", State::Master, 60 * SECOND);
    assert!(took <= 2 * SECOND, "{took:?}");
}

/// "A takeover is never damped. Failback waits until the primary has been well for `failback_delay` without a break;
/// the delay doubles with each flap … up to `failback_delay_max`."
#[test]
fn failback_doubles_with_each_flap_and_a_takeover_is_never_damped() {
    let mut rig = Rig::settled(&standby("failback_delay_max = \"200s\""));
    let mut delays = Vec::new();
    for _ in 0..6 {
        rig.set("ping", Target::Silent);
        let took = rig.until_state("a", State::Master, 10 * SECOND);
        assert!(took <= 4 * SECOND, "{took:?}");
        rig.set("ping", Target::Answers(MS));
        rig.until("well", 5 * SECOND, |r| r.instance("a").primary.as_deref() == Some("well"));
        delays.push(rig.until_state("a", State::Backup, 1000 * SECOND).as_secs());
        rig.run(20 * SECOND);
    }
    assert_eq!(delays, [30, 60, 120, 200, 200, 200]);
    assert_eq!(rig.instance("a").flaps, 5);
    // "a takeover within an hour of the last failback": later it is none.
    rig.run(3600 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    assert_eq!(rig.instance("a").flaps, 0);
}

/// "without a break"
#[test]
fn one_relapse_starts_the_failback_clock_anew() {
    let mut rig = Rig::master(STANDBY);
    let relapse = [vec![Target::Answers(MS); 25], vec![Target::Refuses(MS); 3]].concat();
    rig.set("ping", Target::Turns(relapse));
    rig.run(3600 * SECOND);
    assert_eq!((rig.state("a"), rig.states("a").len()), (State::Master, 0));
}

/// "A takeover during `drain` cancels the drain and announces again at once."
#[test]
fn a_takeover_during_drain_announces_again_at_once() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    assert_eq!(rig.instance("a").pending.map(|p| p.what).as_deref(), Some("drain"));
    rig.set("ping", Target::Refuses(MS));
    rig.until_state("a", State::Master, 5 * SECOND);
    let decided = rig.now;
    rig.run(60 * SECOND);
    assert_eq!(rig.when(&format!("add route {EXPORT}")), decided);
    assert!(!rig.has_told("delete address") && !rig.has_told(&format!("delete route {SUPPORT}")));
}

/// "Leaving FAULT decides anew at once." FIELD 6: a delay that is ignored, or applied, when leaving FAULT
/// (keepalived #296). The primary's failures were seen while we were cut off, so they do not count: a whole fall.
#[test]
fn leaving_fault_decides_anew() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Silent);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 5 * SECOND);
    let took = rig.until_state("a", State::Master, 10 * SECOND);
    assert!((1900 * MS..=5 * SECOND).contains(&took), "{took:?}");
}

/// FIELD 6: `takeover_delay` counts when leaving FAULT, too.
#[test]
fn takeover_delay_holds_when_leaving_fault() {
    let mut rig = Rig::master(&standby("takeover_delay = \"5s\""));
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 5 * SECOND);
    assert_eq!(rig.until_state("a", State::Master, 60 * SECOND), 5 * SECOND);
}

/// As MASTER through FAULT, and meanwhile the primary has come back: no announcement against it, no delay either.
#[test]
fn a_primary_that_came_back_during_fault_keeps_its_traffic() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("ping", Target::Answers(MS));
    rig.run(10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 5 * SECOND);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault, State::Backup]);
}

/// In FAULT, still cut off, the primary seems dead; the line to it is back a moment after the uplink: one failure after the
/// witness, and not a whole fall.
fn nothing_is_known(mut rig: Rig) {
    rig.until("seems dead", 10 * SECOND, |r| r.verdict("ping") == "down");
    rig.set("uplink", Target::Answers(MS));
    rig.run(1500 * MS);
    rig.set("ping", Target::Answers(MS));
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault, State::Backup]);
}

/// A MASTER comes back at once because it knew before that its primary is dead. What it has forgotten meanwhile it does not
/// know: what the primary seemed to be after that, while this node was cut off, says nothing.
#[test]
fn a_master_that_has_forgotten_its_primary_knows_nothing_of_it() {
    let mut rig = Rig::master(STANDBY);
    for check in ["uplink", "ping"] {
        rig.set(check, Target::Blind);
    }
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.until("forgotten", 10 * SECOND, |r| r.verdict("ping") == "unknown");
    for check in ["uplink", "ping"] {
        rig.set(check, Target::Silent);
    }
    nothing_is_known(rig);
}

/// The same of a primary that was well again when this node was cut off, and was only not handed back to yet.
#[test]
fn a_master_whose_primary_was_well_knows_nothing_of_its_death() {
    let mut rig = Rig::master(&standby("failback_delay = \"5m\""));
    rig.set("ping", Target::Answers(MS));
    rig.run(10 * SECOND);
    for check in ["uplink", "ping"] {
        rig.set(check, Target::Silent);
    }
    rig.until_state("a", State::Fault, 10 * SECOND);
    nothing_is_known(rig);
}

/// "An instance with no `primary` is MASTER while `require` is met."
#[test]
fn without_a_primary_it_is_master_while_require_is_met() {
    let text = standby("").replace("primary = { checks = [\"ping\"] }\n", "");
    let mut rig = Rig::new(&text);
    rig.until_state("a", State::Master, SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 5 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 5 * SECOND);
    assert_eq!(rig.states("a"), [State::Master, State::Fault, State::Master]);
}

/// FIELD 6: a failback delay applied at start or reload gives an outage (keepalived #80): a standby that finds its
/// primary dead at its start takes over after a fall, whatever `failback_delay` says.
#[test]
fn no_failback_delay_at_the_start() {
    let mut rig = Rig::new(&standby("failback_delay = \"30m\""));
    rig.set("ping", Target::Silent);
    let took = rig.until_state("a", State::Master, 30 * SECOND);
    assert!(took <= 6 * SECOND, "{took:?}");
}

/// Each state at each moment wants just its objects.
#[test]
fn what_each_state_has_in_the_kernel() {
    let mut rig = Rig::settled(STANDBY);
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"]);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    assert_eq!(rig.kernel.objects.len(), 4);
    for part in [EXPORT, SUPPORT, BASE, ADDRESS] {
        assert!(rig.kernel.has(part), "{part}");
    }
    let status = rig.status();
    assert!(status.kernel.iter().all(|k| k.desired && k.observed && k.error.is_none()), "{status:#?}");
    assert_eq!(status.kernel.len(), config(STANDBY).instances[0].routes.len() + 1);
}
