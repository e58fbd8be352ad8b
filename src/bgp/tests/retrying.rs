//! When to try again, and what a peer's refusal says of it (RFC 4271 section 8.1.1).

use super::rig::{Rig, SECOND, config, isp_open, keepalive, notification};
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::{ConnId, Origin, PeerConfig, PeerEffect, PeerEvent, PeerState};

/// Tries to connect in an hour, if each ends as `fail` says.
fn tries_in_an_hour(cfg: PeerConfig, fail: impl Fn(&mut Rig, ConnId)) -> usize {
    let mut rig = Rig::new(cfg);
    let end = rig.now + SECOND * 3600;
    let mut tries = 0;
    while rig.peer.poll_timeout().is_some_and(|at| at < end) {
        let conn = rig.connect();
        tries += 1;
        fail(&mut rig, conn);
        rig.effects();
    }
    tries
}

/// FIELD 19: back-off against a peer that refuses, whichever way it says so; never a tight loop.
#[test]
fn a_peer_that_refuses_is_not_hammered() {
    let says = |cause: Cause| {
        move |rig: &mut Rig, conn| {
            rig.send(conn, notification(&Notification::new(cause)));
        }
    };
    for cause in
        [Cause::ADMIN_SHUTDOWN, Cause::CONNECTION_REJECTED, Cause::OUT_OF_RESOURCES, Cause::BAD_PEER_AS]
    {
        let tries = tries_in_an_hour(config(), says(cause));
        assert!((12..=22).contains(&tries), "{cause}: {tries}");
    }
    let hard = |rig: &mut Rig, conn| {
        rig.send(conn, notification(&Notification::new(Cause::ADMIN_SHUTDOWN).into_hard_reset()));
    };
    assert!(tries_in_an_hour(config(), hard) <= 22);
    let lost = tries_in_an_hour(config(), |rig, conn| {
        rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    });
    assert!((55..=90).contains(&lost), "{lost}");
    // A session that comes up and falls at once is trouble too.
    let flapping = tries_in_an_hour(config(), |rig, conn| {
        rig.establish(conn, &isp_open());
        rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    });
    assert!((55..=90).contains(&flapping), "{flapping}");
    let shut = |rig: &mut Rig, conn| {
        rig.establish(conn, &isp_open());
        rig.send(conn, notification(&Notification::with_message(Cause::ADMIN_SHUTDOWN, "see you\n")));
        assert_eq!(
            rig.peer.status().last_error.as_deref(),
            Some("the peer closed: Cease/Administrative Shutdown, \"see you\u{fffd}\"")
        );
    };
    assert!(tries_in_an_hour(config(), shut) <= 22);
}

/// After a lasting session the first try comes soon again.
#[test]
fn a_lasting_session_makes_trouble_forgotten() {
    let (mut rig, conn) = Rig::up(config());
    for _ in 0..10 {
        rig.pass(SECOND * 20);
        rig.send(conn, keepalive());
    }
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    assert!(rig.peer.status().next_try.unwrap() <= rig.now + SECOND * 5);
    assert_eq!(rig.peer.status().last_error.as_deref(), Some("reset"));
}

/// Who hears that the trouble may be over tries at once, a try that hangs is begun anew, and a peer that refused is left its
/// time (FIELD 19).
#[test]
fn a_session_is_tried_at_once_when_trouble_may_be_over() {
    let mut rig = Rig::new(config());
    for _ in 0..6 {
        let conn = rig.connect();
        rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    }
    assert!(rig.peer.poll_timeout() > Some(rig.now + SECOND * 40));
    assert_eq!(rig.event(PeerEvent::TryNow), []);
    let passed = rig.pass(SECOND);
    let Some((_, PeerEffect::Connect { conn: hangs })) = passed.first().cloned() else {
        panic!("{passed:?}")
    };
    assert_eq!(rig.event(PeerEvent::TryNow), [PeerEffect::Close { conn: hangs, last_words: vec![] }]);
    let began = rig.now;
    let conn = rig.connect();
    assert_eq!((rig.now, conn == hangs), (began, false));
    rig.send(conn, notification(&Notification::new(Cause::CONNECTION_REJECTED)));
    let next = rig.peer.poll_timeout();
    assert!(next <= Some(rig.now + SECOND * 30), "what failed before does not count any more: {next:?}");
    assert_eq!(rig.event(PeerEvent::TryNow), []);
    assert_eq!(rig.peer.poll_timeout(), next);
    let (mut rig, _) = Rig::up(config());
    assert_eq!((rig.event(PeerEvent::TryNow), rig.peer.state()), (vec![], PeerState::Established));
}

/// A speaker that turns us away lives, and may have us at the next try; who is not there, and who does not want us at all, is told
/// from it.
#[test]
fn who_turns_us_away_is_there() {
    let says = |cause| notification(&Notification::new(cause));
    let mut rig = Rig::new(config());
    let conn = rig.connect();
    rig.event(PeerEvent::Closed { conn, reason: "closed by the peer".into() });
    assert!(rig.peer.turned_away().is_some());
    assert_eq!(rig.peer.turned_away(), rig.peer.status().next_try);
    // The next try finds nobody.
    rig.pass(SECOND * 6);
    let conn = ConnId { origin: Origin::Outgoing, serial: conn.serial + 1 };
    rig.event(PeerEvent::TransportFailed { conn, reason: "connection refused".into() });
    assert_eq!(rig.peer.turned_away(), None);
    for (cause, lives) in [
        (Cause::CONNECTION_REJECTED, true),
        (Cause::CONNECTION_COLLISION, true),
        (Cause::HOLD_TIMER_EXPIRED, true),
        (Cause::ADMIN_SHUTDOWN, false),
        (Cause::PEER_DECONFIGURED, false),
        (Cause::BAD_PEER_AS, false),
    ] {
        let mut rig = Rig::new(config());
        let conn = rig.connect();
        rig.send(conn, says(cause));
        assert_eq!(rig.peer.turned_away().is_some(), lives, "{cause:?}");
        let (mut rig, conn) = Rig::up(config());
        assert_eq!(rig.peer.turned_away(), None);
        rig.send(conn, says(cause));
        assert_eq!(rig.peer.turned_away().is_some(), lives, "a session: {cause:?}");
    }
    // The system that resets a session need not have a speaker any more.
    let (mut rig, conn) = Rig::up(config());
    rig.event(PeerEvent::Closed { conn, reason: "connection reset by peer".into() });
    assert_eq!(rig.peer.turned_away(), None);
}

/// A proxy in front of a dead speaker takes connections, and closes them; BIRD, alive, does so for a minute.
#[test]
fn who_says_nothing_is_believed_for_a_minute() {
    let mut rig = Rig::new(config());
    let hang_up = |rig: &mut Rig| {
        let conn = rig.connect();
        rig.event(PeerEvent::Closed { conn, reason: "closed by the peer".into() });
    };
    hang_up(&mut rig);
    let end = rig.now + SECOND * 60;
    while rig.now < end {
        assert_eq!(rig.peer.turned_away(), rig.peer.status().next_try);
        assert!(rig.peer.turned_away() <= Some(end));
        hang_up(&mut rig);
    }
    assert_eq!(rig.now, end, "tried when it may have us");
    hang_up(&mut rig);
    assert_eq!(rig.peer.turned_away(), Some(end));
    assert!(rig.peer.status().next_try > Some(rig.now));
    // A word is another matter, whatever follows it.
    let conn = rig.connect();
    rig.send(conn, notification(&Notification::new(Cause::CONNECTION_REJECTED)));
    assert_eq!(rig.peer.turned_away(), rig.peer.status().next_try);
    hang_up(&mut rig);
    assert!(rig.peer.turned_away() > Some(rig.now));
}

/// What is said of optional parameters is no turning away, and nothing older stays.
#[test]
fn a_refused_parameter_ends_what_was_believed() {
    let mut rig = Rig::new(config());
    let conn = rig.connect();
    rig.send(conn, notification(&Notification::new(Cause::CONNECTION_REJECTED)));
    assert!(rig.peer.turned_away().is_some());
    let conn = rig.connect();
    rig.send(conn, notification(&Notification::new(Cause::UNSUPPORTED_OPTIONAL_PARAMETER)));
    assert_eq!(rig.peer.turned_away(), None);
}

/// TCP that neither connects nor fails.
#[test]
fn connecting_is_bounded() {
    let mut rig = Rig::new(config());
    let passed = rig.pass(SECOND * 16);
    let conn = ConnId { origin: Origin::Outgoing, serial: 0 };
    let effects: Vec<PeerEffect> = passed.into_iter().map(|(_, effect)| effect).collect();
    assert_eq!(effects[..2], [PeerEffect::Connect { conn }, PeerEffect::Close { conn, last_words: vec![] }]);
    // Too late.
    let local = rig.local;
    assert_eq!(
        rig.event(PeerEvent::TransportConnected { conn, local }),
        [PeerEffect::Close { conn, last_words: vec![] }]
    );
}
