//! SPEC 4, "Checks".

use std::time::Duration;

use announcerd::announcer::event::{Event, Outcome, ProbeId};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{Rig, STANDBY, clock, standby, with};

/// "A probe never outlives its timeout."
#[test]
fn a_probe_without_an_answer_is_ended_at_its_timeout_and_is_a_failure() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until("a failure", 3 * SECOND, |r| r.check("ping").failures == 1);
    let sent = *rig.sent("ping").last().unwrap();
    assert_eq!(rig.now.since(sent), 800 * MS);
    assert_eq!(rig.cancelled, 1);
    assert_eq!(rig.check("ping").last_error.as_deref(), Some("no answer in 800ms"));
}

/// An answer after the timeout, or one that nobody asked for, changes nothing.
#[test]
fn late_and_unknown_answers_are_dropped() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Answers(900 * MS));
    rig.run(10 * SECOND);
    assert_eq!(rig.verdict("ping"), "down");
    let before = rig.status();
    for id in 0..100_000 {
        let outcome = Outcome::Success { rtt: None };
        if id % 7 == 0 {
            rig.core.handle_event(Event::Probe { id: ProbeId(u64::MAX - id), outcome }, rig.now);
        }
    }
    assert_eq!(rig.status(), before);
}

/// "A slow probe never delays another." FIELD 4: a hung check blocks all others (exabgp healthcheck).
#[test]
fn a_slow_probe_never_delays_another() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Answers(799 * MS));
    rig.run(20 * SECOND);
    let sent = rig.sent("uplink");
    assert!(sent.windows(2).all(|w| w[1].since(w[0]) == SECOND), "{sent:?}");
    assert_eq!(sent.len(), 20);
}

/// "The first success gives `up`, the first `down` needs the whole `fall`."
#[test]
fn the_first_verdicts() {
    let mut rig = Rig::new(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until("a success", SECOND, |r| r.check("uplink").successes == 1);
    assert_eq!((rig.verdict("uplink").as_str(), rig.verdict("ping").as_str()), ("up", "unknown"));
    rig.until("two failures", 5 * SECOND, |r| r.check("ping").failures == 2);
    assert_eq!(rig.verdict("ping"), "unknown");
    rig.until("three failures", 5 * SECOND, |r| r.check("ping").failures == 3);
    assert_eq!(rig.verdict("ping"), "down");
}

/// "A probe that could not be made, or whose answer we could not have seen, counts as neither."
#[test]
fn what_could_not_be_seen_counts_as_neither() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Blind);
    rig.run(600 * SECOND);
    assert_eq!((rig.verdict("ping").as_str(), rig.check("ping").failures), ("unknown", 0));
    assert_eq!(rig.state("a"), State::Backup);
    rig.set("ping", Target::Turns(vec![Target::Refuses(MS), Target::Blind]));
    rig.until("down", 10 * SECOND, |r| r.check("ping").failures == 3);
    assert_eq!(rig.verdict("ping"), "down");
}

/// "Our own link down … counts as neither": who saw nothing for the whole fall time knows nothing of what was before it.
#[test]
fn what_was_settled_before_a_long_blindness_is_gone() {
    let text = with(STANDBY, "primary = { checks = [\"ping\"] }", "");
    let mut rig = Rig::new(&text);
    rig.run(10 * SECOND);
    assert_eq!(rig.state("a"), State::Master);
    for before in ["up", "down"] {
        assert_eq!(rig.verdict("uplink"), before);
        rig.set("uplink", Target::Blind);
        rig.run(60 * SECOND);
        assert_eq!((rig.verdict("uplink").as_str(), rig.state("a")), ("unknown", State::Fault));
        // Down needs the whole fall, and not one of its failures brings the old verdict back.
        rig.forget();
        rig.set("uplink", Target::Silent);
        rig.until("two failures", 5 * SECOND, |r| r.check("uplink").failures == 2);
        assert_eq!(rig.verdict("uplink"), "unknown", "was {before}");
        rig.until("three failures", 5 * SECOND, |r| r.check("uplink").failures == 3);
        assert_eq!((rig.verdict("uplink").as_str(), rig.states("a")), ("down", Vec::new()), "was {before}");
        // Up needs `rise` in a row.
        rig.set("uplink", Target::Blind);
        rig.run(60 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.until("a success", 5 * SECOND, |r| r.check("uplink").successes == 1);
        assert_eq!(rig.verdict("uplink"), "unknown", "was {before}");
        rig.until("two successes", 5 * SECOND, |r| r.check("uplink").successes == 2);
        assert_eq!(rig.verdict("uplink"), "up", "was {before}");
        rig.set("uplink", Target::Silent);
        rig.until("down", 10 * SECOND, |r| r.verdict("uplink") == "down");
    }
    // Never decided before: the first success gives up.
    let mut rig = Rig::new(&text);
    rig.set("uplink", Target::Blind);
    rig.run(60 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until("up", 5 * SECOND, |r| r.verdict("uplink") == "up");
    assert_eq!(rig.check("uplink").successes, 1);
}

/// A blindness shorter than the fall time changes nothing of what is counted.
#[test]
fn a_short_blindness_keeps_what_was_settled() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Blind);
    rig.until("unknown", 2 * SECOND, |r| r.verdict("ping") == "unknown");
    rig.run(SECOND);
    rig.set("ping", Target::Answers(MS));
    rig.until("up", 2 * SECOND, |r| r.verdict("ping") == "up");
    rig.set("ping", Target::Blind);
    rig.until("unknown", 2 * SECOND, |r| r.verdict("ping") == "unknown");
    rig.set("ping", Target::Silent);
    rig.until("a failure", 3 * SECOND, |r| r.check("ping").failures == 1);
    assert_eq!(rig.verdict("ping"), "up");
}

/// "An ICMP unreachable from afar is a failure."
#[test]
fn a_refusal_from_afar_is_a_failure_at_once() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Refuses(40 * MS));
    let took = rig.until_state("a", State::Master, 10 * SECOND);
    assert!(took <= 3 * SECOND + 100 * MS, "{took:?}");
    assert!(rig.instance("a").reason.contains("host unreachable"), "{}", rig.instance("a").reason);
}

/// "Probes are spread over their interval."
#[test]
fn probes_are_spread_over_their_interval() {
    let checks: String = (0..200)
        .map(|n| {
            format!(
                "[[check]]\nname = \"c{n}\"\ntype = \"ping\"\nhost = \"198.18.1.{n}\"\ninterval = \"1s\"\n"
            )
        })
        .collect();
    let mut rig = Rig::new(&format!("{checks}{STANDBY}").replace("[node]\nname = \"hk-1\"", ""));
    rig.run(5 * SECOND);
    rig.forget();
    rig.run(SECOND);
    assert!((200..=204).contains(&rig.probes.len()), "{}", rig.probes.len());
    for tenth in 0..10 {
        let from = rig.now - SECOND + 100 * MS * tenth;
        let in_it = rig.probes.iter().filter(|(t, _)| *t >= from && *t < from + 100 * MS).count();
        assert!((10..=35).contains(&in_it), "tenth {tenth}: {in_it}");
    }
}

/// `{ failures = 8, of = 10 }` for lossy links.
#[test]
fn a_window_bears_loss_that_a_row_would_not() {
    let mut rig = Rig::settled(&with(STANDBY, "fall = 3", "fall = { failures = 4, of = 6 }"));
    let (good, bad) = (Target::Answers(MS), Target::Refuses(MS));
    rig.set(
        "ping",
        Target::Turns(vec![bad.clone(), bad.clone(), bad.clone(), good.clone(), good.clone(), good]),
    );
    rig.run(600 * SECOND);
    assert_eq!((rig.verdict("ping").as_str(), rig.state("a")), ("up", State::Backup));
    rig.set("ping", bad);
    rig.until_state("a", State::Master, 10 * SECOND);
}

/// FIELD 9: a machine that was paused for a while wakes up and fails over falsely. "A driver that woke late" is no
/// failure of anybody's.
#[test]
fn a_pause_is_nobodys_failure() {
    for keep_events in [true, false] {
        for pause in [300 * MS, 900 * MS, 3 * SECOND, 60 * SECOND, 6 * 3600 * SECOND] {
            let mut rig = Rig::settled(STANDBY);
            // In the middle of a probe of both.
            rig.set("ping", Target::Answers(500 * MS));
            rig.set("uplink", Target::Answers(500 * MS));
            rig.run(5 * SECOND);
            rig.forget();
            rig.pause(pause, keep_events);
            rig.run(30 * SECOND);
            assert_eq!(rig.states("a"), [], "after {pause:?}");
            assert_eq!(rig.verdict("ping"), "up");
        }
    }
}

/// FIELD 9, the other way round: a MASTER that was paused does not fall into FAULT for it.
#[test]
fn a_paused_master_stays_master() {
    for pause in [300 * MS, 3 * SECOND, 60 * SECOND] {
        let mut rig = Rig::master(STANDBY);
        rig.pause(pause, false);
        rig.run(60 * SECOND);
        assert_eq!(rig.told(), Vec::<&str>::new(), "after {pause:?}");
    }
}

/// A pause in the middle of a fall: the failures before it count only if they are not too old.
#[test]
fn a_fall_does_not_go_on_after_a_long_pause() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until("two failures", 5 * SECOND, |r| r.check("ping").failures == 2);
    rig.pause(20 * SECOND, false);
    rig.run(2 * SECOND);
    assert_eq!(rig.state("a"), State::Backup);
    rig.until_state("a", State::Master, 5 * SECOND);
}

/// A turn that took long by its own work (a hundred thousand routes) was no absence; a stop in the midst of it is one.
#[test]
fn our_own_work_is_no_absence() {
    let absences = |rig: &Rig| rig.core.measure(rig.now, &clock()).tally.absences;
    for (worked, seen) in [(3 * SECOND, 0), (2_800 * MS, 0), (SECOND, 1)] {
        let mut rig = Rig::settled(STANDBY);
        let until = rig.now + worked;
        rig.pause(3 * SECOND, true);
        rig.core.worked_until(until);
        rig.run(5 * SECOND);
        assert_eq!(absences(&rig), seen, "{worked:?} of 3 s");
    }
}

/// What was missed is not made up for, and a late turn is no reason for two probes at a time: they would count one
/// trouble twice.
#[test]
fn after_a_late_turn_there_are_never_two_probes_at_once() {
    for late in 1..240 {
        let mut rig = Rig::settled(STANDBY);
        rig.pause(Duration::from_micros(4_003) * late, true);
        rig.run(5 * SECOND);
        let sent = rig.sent("uplink");
        assert!(sent.windows(2).all(|w| w[1].since(w[0]) > 50 * MS), "{late}: {sent:?}");
    }
    for late in 985..1010 {
        let mut rig = Rig::settled(STANDBY);
        rig.now = rig.now + late * MS;
        rig.run(5 * SECOND);
        let sent = rig.sent("uplink");
        assert!(sent.windows(2).all(|w| w[1].since(w[0]) > 9 * MS), "{late}: {sent:?}");
    }
}

/// Verdict, counts and reason are in the status; a reason travels from the probe to the state.
#[test]
fn a_reason_travels_with_every_verdict_and_state() {
    let mut rig = Rig::settled(&standby("takeover_delay = \"5s\""));
    rig.set("ping", Target::Silent);
    rig.until("down", 10 * SECOND, |r| r.verdict("ping") == "down");
    rig.run(500 * MS);
    let reason = rig.instance("a").reason;
    assert!(reason.contains("ping is down (3 failures, last: no answer in 800ms)"), "{reason}");
    assert_eq!(rig.instance("a").pending.map(|p| p.what).as_deref(), Some("takeover"));
}
