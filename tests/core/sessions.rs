//! A primary that only a BGP session tells of: what our own absence and isolation do to the session is no death of its.

use std::time::Duration;

use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State;
use announcerd::bgp::wire::notification::Cause;

use crate::fake::{MS, SECOND, Target};
use crate::far::Away;
use crate::rig::{Rig, standby, with};

/// [`crate::rig::STANDBY`] with a router of the primary's in the place of its ping.
fn asked_by_bgp(hold_time: &str) -> String {
    let peer = format!(
        "[[bgp]]\nname = \"router\"\npeer = \"198.18.0.4\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"{hold_time}\"\nmultihop = 8\n"
    );
    let check = "[[check]]\nname = \"session\"\ntype = \"bgp\"\npeer = \"router\"\n";
    let text = with(&standby(""), "name = \"hk-1\"", "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"");
    let text = with(&text, "checks = [\"ping\"]", "checks = [\"session\"]");
    with(&text, "[[instance]]", &format!("{peer}{check}[[instance]]"))
}

fn backup(text: &str) -> Rig {
    let mut rig = Rig::new(text);
    rig.until_state("a", State::Backup, 60 * SECOND);
    rig.run(60 * SECOND);
    assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup));
    rig.forget();
    rig
}

/// Everything that we can reach, or nothing.
fn isolate(rig: &mut Rig, on: bool) {
    rig.far.silent = on;
    rig.set("uplink", if on { Target::Silent } else { Target::Answers(MS) });
}

/// FIELD 9: we did not run for longer than the peer's hold time, and shorter than a probe's interval: it is we who lost the
/// session, though nothing that is required has failed.
#[test]
fn a_session_that_our_absence_cost_us_has_time_to_come_back() {
    let uplink = "host = \"203.0.113.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"";
    let slow = with(&asked_by_bgp("9s"), uplink, "host = \"203.0.113.1\"\ninterval = \"10s\"");
    for phase in (0..20).map(|n| 500 * MS * n) {
        let mut rig = backup(&slow);
        rig.run(phase);
        rig.pause(9500 * MS, true);
        let (peer, event) = rig.far.breaks("router");
        rig.tell(Event::Bgp { peer, event });
        rig.run(60 * SECOND);
        assert_eq!(rig.states("a"), [], "after {phase:?}: {:?}", rig.records);
        assert_eq!(rig.verdict("session"), "up");
    }
}

/// A session is required as well, and one of the two is enough.
fn with_isp(text: &str) -> String {
    let isp = "[[bgp]]\nname = \"isp\"\npeer = \"203.0.113.1\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"90s\"\n";
    let check = "[[check]]\nname = \"isp-session\"\ntype = \"bgp\"\npeer = \"isp\"\n";
    let text = with(text, "[[instance]]", &format!("{isp}{check}[[instance]]"));
    with(&text, "checks = [\"uplink\"]", "checks = [\"uplink\", \"isp-session\"], up_when = \"any\"")
}

fn broken(rig: &mut Rig) {
    let (peer, event) = rig.far.breaks("router");
    rig.tell(Event::Bgp { peer, event });
}

/// FIELD 9: that session has not failed either, and its answer is prompt; and yet it may be we who lost the other one.
#[test]
fn a_required_session_does_not_vouch_for_our_absence() {
    let mut rig = backup(&with_isp(&asked_by_bgp("9s")));
    assert_eq!(rig.verdict("isp-session"), "up");
    rig.pause(9500 * MS, true);
    broken(&mut rig);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [], "{:?}", rig.records);
    assert_eq!(rig.verdict("session"), "up");
}

/// FIELD 9: the time that a lost session has to come back is not over because we slept through it, and neither is a
/// takeover's delay.
#[test]
fn a_session_that_is_waited_for_gets_its_time_anew_after_our_absence() {
    let text = with_isp(&asked_by_bgp("9s"));
    for cut_off in [true, false] {
        let text = if cut_off {
            text.clone()
        } else {
            with(&text, "name = \"a\"", "name = \"a\"\ntakeover_delay = \"5s\"")
        };
        let mut rig = backup(&text);
        if cut_off {
            isolate(&mut rig, true);
        }
        rig.far.away = Some(Away::Closes);
        broken(&mut rig);
        rig.run(2 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.run(2 * SECOND);
        assert_eq!((rig.verdict("session").as_str(), rig.states("a")), ("down", vec![]), "it is waited for");
        let waits = if cut_off { "time to come back" } else { "takeover_delay runs" };
        assert!(rig.instance("a").reason.contains(waits), "{}", rig.instance("a").reason);
        isolate(&mut rig, false);
        rig.far.away = None;
        rig.pause(116 * SECOND, true);
        rig.run(60 * SECOND);
        assert_eq!(rig.states("a"), [], "{:?}", rig.records);
        assert_eq!(rig.verdict("session"), "up");
    }
    // A short one takes nothing from it, and gives nothing: who pauses all the time takes over one day.
    let mut rig = backup(&text);
    isolate(&mut rig, true);
    rig.run(2 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    broken(&mut rig);
    let began = rig.now;
    while rig.state("a") != State::Master {
        assert!(rig.now.since(began) < 120 * SECOND, "{:?}", rig.instance("a"));
        rig.run(4 * SECOND);
        rig.pause(800 * MS, true);
    }
    assert!(rig.now.since(began) > 10 * SECOND);
}

/// FIELD 8: whom we lost by our own isolation may turn us away for a while: after an error BIRD closes every connection for
/// its `error wait time` of a minute, others say Connection Rejected (DampPeerOscillations, RFC 4271 section 8.1.1), or
/// that they still have the old session (section 6.8). Its speaker lives, and that is no death.
#[test]
fn who_turns_us_away_after_our_isolation_is_not_dead() {
    let says = [Cause::CONNECTION_REJECTED, Cause::CONNECTION_COLLISION, Cause::ADMIN_RESET].map(Away::Says);
    for (away, minutes) in [Away::Closes].into_iter().chain(says).flat_map(|a| [(a, 1), (a, 4), (a, 11)]) {
        let mut rig = backup(&asked_by_bgp("9s"));
        isolate(&mut rig, true);
        rig.run(Duration::from_secs(60) * minutes);
        rig.far.away = Some(away);
        isolate(&mut rig, false);
        rig.run(60 * SECOND);
        rig.far.away = None;
        rig.run(120 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{away:?}, {minutes} minutes: {:?}", rig.records);
        assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup), "{away:?}");
    }
}

/// But not for ever, and not where it is no leftover of our isolation: its operator does not want the session.
#[test]
fn who_turns_us_away_for_good_is_taken_over_from() {
    let bounds = [
        (Away::Closes, 55..=75),
        (Away::Says(Cause::CONNECTION_REJECTED), 300..=370),
        (Away::Says(Cause::ADMIN_SHUTDOWN), 10..=11),
        (Away::Says(Cause::PEER_DECONFIGURED), 10..=11),
    ];
    for (away, bound) in bounds {
        let mut rig = backup(&asked_by_bgp("9s"));
        isolate(&mut rig, true);
        rig.until_state("a", State::Fault, 60 * SECOND);
        rig.run(600 * SECOND);
        rig.far.away = Some(away);
        isolate(&mut rig, false);
        rig.until_state("a", State::Backup, 10 * SECOND);
        let took = rig.until_state("a", State::Master, 600 * SECOND);
        assert!(bound.contains(&took.as_secs()), "{away:?}: {took:?}");
    }
}

/// FIELD 8: after a long isolation the next try would be a minute away, and the session has ten seconds: it is tried at
/// once.
#[test]
fn after_our_isolation_the_session_is_tried_at_once() {
    for minutes in 1..12u32 {
        let mut rig = backup(&asked_by_bgp("90s"));
        isolate(&mut rig, true);
        rig.run(Duration::from_secs(60) * minutes + 7 * SECOND * minutes);
        isolate(&mut rig, false);
        rig.run(120 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{minutes} minutes: {:?}", rig.records);
        assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup));
    }
    // And if it is dead, it has no longer than that.
    let mut rig = backup(&asked_by_bgp("90s"));
    isolate(&mut rig, true);
    rig.until_state("a", State::Fault, 60 * SECOND);
    rig.run(600 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Backup, 10 * SECOND);
    let took = rig.until_state("a", State::Master, 60 * SECOND);
    assert!(took <= 11 * SECOND, "{took:?}");
}

/// FIELD 8: with `passive` it is the peer who has to connect, and it tries again every two minutes (ConnectRetryTimer, RFC 4271
/// section 10).
#[test]
fn after_our_isolation_a_passive_session_has_the_peers_time() {
    let passive = with(&asked_by_bgp("90s"), "multihop = 8", "multihop = 8\npassive = true");
    let connected = || {
        let mut rig = Rig::new(&passive);
        rig.run(SECOND);
        let (peer, event) = rig.far.dial("router");
        rig.tell(Event::Bgp { peer, event });
        rig.run(60 * SECOND);
        assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup));
        rig.forget();
        isolate(&mut rig, true);
        rig.run(300 * SECOND);
        isolate(&mut rig, false);
        rig
    };
    for seconds in [1, 60, 120, 145] {
        let mut rig = connected();
        rig.run(SECOND * seconds);
        let (peer, event) = rig.far.dial("router");
        rig.tell(Event::Bgp { peer, event });
        rig.run(120 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "after {seconds} s: {:?}", rig.records);
        assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup));
    }
    // And if it is dead, it has no longer than that.
    let took = connected().until_state("a", State::Master, 600 * SECOND);
    assert!((150..=153).contains(&took.as_secs()), "{took:?}");
}

/// The last words of a required session are no sign that our line is well: it is down with them.
#[test]
fn a_notification_is_no_witness() {
    let isp =
        with(&with_isp(&standby("")), "name = \"hk-1\"", "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"");
    let mut rig =
        Rig::new(&with(&isp, "\"uplink\", \"isp-session\"], up_when = \"any\"", "\"isp-session\"]"));
    rig.run(60 * SECOND);
    assert_eq!((rig.state("a"), rig.instance("a").require.as_deref()), (State::Backup, Some("met")));
    isolate(&mut rig, true);
    rig.set("ping", Target::Silent);
    rig.run(10 * SECOND);
    assert_eq!((rig.state("a"), rig.verdict("ping").as_str()), (State::Backup, "down"));
    let (peer, event) = rig.far.notifies("isp", Cause::HOLD_TIMER_EXPIRED);
    rig.tell(Event::Bgp { peer, event });
    rig.run(SECOND);
    assert!(!rig.states("a").contains(&State::Master), "{:?}", rig.records);
    assert_eq!(rig.state("a"), State::Fault);
}
