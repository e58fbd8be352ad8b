//! RFC 4271 section 6.8: two connections to one peer.

use super::rig::{
    Rig, SECOND, closes, config, isp_open, keepalive, notification, open_of, restart_time, restarting_open,
};
use crate::bgp::wire::header::MessageType;
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::wire::open::Open;
use crate::bgp::{ConnId, Origin, PeerConfig, PeerEffect, PeerState};
use crate::net::{Asn, RouterId};

/// RFC 4271 section 6.8, RFC 6286 section 2.3: which of two connections stays, in both orders of their OPENs.
#[test]
fn collisions() {
    let cases = [
        ("203.0.113.1", 64500, Origin::Outgoing),
        ("203.0.113.3", 64500, Origin::Incoming),
        // Compared as unsigned numbers.
        ("223.255.255.255", 64500, Origin::Incoming),
        // Equal: the greater AS number's.
        ("203.0.113.2", 64500, Origin::Outgoing),
        ("203.0.113.2", 64502, Origin::Incoming),
    ];
    for (id, asn, kept) in cases {
        for incoming_first in [true, false] {
            let mut rig = Rig::new(PeerConfig { peer_as: Asn(asn), ..config() });
            let ours = rig.connect();
            let (theirs, _) = rig.accept();
            let open = Open { router_id: RouterId(id.parse().unwrap()), ..open_of(asn) };
            let (first, second) = if incoming_first { (theirs, ours) } else { (ours, theirs) };
            rig.send_open(first, &open);
            let effects = rig.send_open(second, &open);
            let loser = if kept == Origin::Outgoing { theirs } else { ours };
            let winner = if kept == Origin::Outgoing { ours } else { theirs };
            assert!(
                effects.contains(&closes(loser, Cause::CONNECTION_COLLISION, &[])),
                "{id} {asn} {effects:?}"
            );
            assert_eq!(rig.send(winner, keepalive()).first(), Some(&PeerEffect::SessionUp));
            assert_eq!(rig.peer.status().last_error, None);
        }
    }
}

/// Our connection is up here before the peer's OPEN on its own comes: both were made at once. `theirs` is the one to be kept
/// if `id` is greater than ours.
fn crossed(cfg: PeerConfig, open: Open, id: &str) -> (Rig, ConnId, ConnId, Vec<PeerEffect>) {
    let mut rig = Rig::new(cfg);
    let ours = rig.connect();
    let (theirs, _) = rig.accept();
    let open = Open { router_id: RouterId(id.parse().unwrap()), ..open };
    rig.pass(SECOND);
    rig.send_open(ours, &open);
    rig.send(ours, keepalive());
    assert_eq!(rig.peer.state(), PeerState::Established);
    rig.fetch_types(ours);
    let effects = rig.send_open(theirs, &open);
    (rig, ours, theirs, effects)
}

/// RFC 4271 section 6.8 when one end has the session up already and the other may have not: whichever the peer closes, the
/// other one is the session. Both were closed once where each end chose for itself (after a handover, with BIRD).
#[test]
fn connections_that_cross_end_as_one() {
    for graceful in [false, true] {
        let restart = restart_time().filter(|_| graceful);
        let cfg = PeerConfig { graceful_restart: restart, ..config() };
        let open = if graceful { restarting_open() } else { isp_open() };
        let start = |id| crossed(cfg.clone(), open.clone(), id);
        let closing = |effects: &[PeerEffect]| effects.iter().any(|e| matches!(e, PeerEffect::Close { .. }));
        let passed = |rig: &mut Rig| rig.pass(SECOND * 6).into_iter().map(|(_, e)| e).collect::<Vec<_>>();
        let collision = || notification(&Notification::new(Cause::CONNECTION_COLLISION));

        // The peer keeps what came from us, whatever it has: so do we.
        let (_, _, theirs, effects) = start("203.0.113.1");
        assert!(effects.contains(&closes(theirs, Cause::CONNECTION_COLLISION, &[])), "{effects:?}");

        // It had not our KEEPALIVE yet, and keeps its own.
        let (mut rig, ours, theirs, effects) = start("203.0.113.3");
        assert!(!closing(&effects), "{effects:?}");
        assert_eq!(rig.fetch_types(theirs), [MessageType::Open]);
        assert!(!closing(&rig.send(theirs, keepalive())), "nothing changes by it");
        let effects = rig.send(ours, collision());
        assert!(effects.iter().any(|e| matches!(e, PeerEffect::SessionDown { .. })), "{effects:?}");
        assert!(effects.contains(&PeerEffect::SessionUp), "{effects:?}");
        assert_eq!(rig.fetch_types(theirs).first(), Some(&MessageType::Keepalive));
        assert_eq!(rig.peer.state(), PeerState::Established);

        // It had, and closes its own.
        let (mut rig, ours, theirs, _) = start("203.0.113.3");
        let effects = rig.send(theirs, collision());
        assert!(!effects.iter().any(|e| matches!(e, PeerEffect::SessionDown { .. })), "{effects:?}");
        assert!(!closing(&passed(&mut rig)) && rig.peer.state() == PeerState::Established);
        assert!(rig.peer.status().last_error.is_none());
        rig.send(ours, keepalive());

        // It closes neither: the session stays, the other goes.
        let (mut rig, ours, theirs, _) = start("203.0.113.3");
        rig.send(ours, keepalive());
        let effects = passed(&mut rig);
        assert!(effects.contains(&closes(theirs, Cause::CONNECTION_COLLISION, &[])), "{effects:?}");
        assert_eq!(rig.peer.state(), PeerState::Established);
    }
}

/// RFC 4271 section 6.8: an established session wins; and if the peer forgot it, a KEEPALIVE finds that out.
#[test]
fn a_new_connection_beside_an_established_one() {
    let (mut rig, old) = Rig::up(config());
    let (new, _) = rig.accept();
    let effects = rig.send_open(new, &isp_open());
    assert!(effects.contains(&closes(new, Cause::CONNECTION_COLLISION, &[])), "{effects:?}");
    assert!(effects.contains(&PeerEffect::Transmit { conn: old }));
    assert_eq!(rig.fetch_types(old), [MessageType::Keepalive]);
    assert_eq!(rig.peer.state(), PeerState::Established);
}

/// RFC 4724 section 4.2: with graceful restart the new connection wins, and the old one gets no NOTIFICATION; but not
/// because of an OPEN that is wrong.
#[test]
fn a_restarted_peer_replaces_its_session() {
    let mut rig = Rig::new(PeerConfig { graceful_restart: restart_time(), ..config() });
    let old = rig.connect();
    rig.establish(old, &restarting_open());
    let (wrong, _) = rig.accept();
    rig.send_open(wrong, &open_of(64999));
    assert_eq!(rig.peer.state(), PeerState::Established);
    rig.pass(SECOND * 60);
    let (new, _) = rig.accept();
    let effects = rig.send_open(new, &restarting_open());
    assert_eq!(effects[0], PeerEffect::Close { conn: old, last_words: vec![] });
    assert!(matches!(effects[1], PeerEffect::SessionDown { .. }));
    assert_eq!(rig.send(new, keepalive()).first(), Some(&PeerEffect::SessionUp));
}

/// A connection of the peer's that never says anything does not keep us from trying ourselves.
#[test]
fn a_dead_incoming_connection_is_no_obstacle() {
    let mut rig = Rig::new(config());
    let (dead, _) = rig.accept();
    let conn = rig.connect();
    rig.establish(conn, &isp_open());
    assert_eq!(rig.peer.state(), PeerState::Established);
    let passed = rig.pass(SECOND * 241);
    let effect = closes(dead, Cause::HOLD_TIMER_EXPIRED, &[]);
    assert!(passed.iter().any(|(_, closed)| *closed == effect));
    // While the peer's connection is nearly up, ours waits.
    let mut rig = Rig::new(config());
    let (theirs, _) = rig.accept();
    rig.send_open(theirs, &isp_open());
    let passed = rig.pass(SECOND * 20);
    assert!(passed.iter().all(|(_, effect)| !matches!(effect, PeerEffect::Connect { .. })), "{passed:?}");
}
