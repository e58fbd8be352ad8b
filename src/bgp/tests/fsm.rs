//! RFC 4271 section 8: states, timers, collisions, back-off.

use std::time::Duration;

use super::rig::{
    Rig, SECOND, closes, config, isp_open, keepalive, message, notification, open_of, restart_time,
};
use crate::bgp::wire::capability::{Capabilities, ReceivedRole, Role};
use crate::bgp::wire::header::MessageType;
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::wire::open::Open;
use crate::bgp::{ConnId, Origin, PeerConfig, PeerEffect, PeerEvent, PeerState, StopCause};
use crate::net::Asn;

#[test]
fn active_open_effect_by_effect() {
    let mut rig = Rig::new(config());
    assert_eq!(rig.peer.state(), PeerState::Active);
    assert_eq!(rig.peer.poll_timeout(), Some(rig.now));
    rig.peer.handle_timeout(rig.now);
    let conn = ConnId { origin: Origin::Outgoing, serial: 0 };
    assert_eq!(rig.effects(), [PeerEffect::Connect { conn }]);
    assert_eq!(rig.peer.state(), PeerState::Connect);
    let local = rig.local;
    assert_eq!(rig.event(PeerEvent::TransportConnected { conn, local }), [PeerEffect::Transmit { conn }]);
    assert_eq!(rig.peer.state(), PeerState::OpenSent);
    assert_eq!(rig.fetch_types(conn), [MessageType::Open]);
    assert_eq!(rig.send_open(conn, &isp_open()), [PeerEffect::Transmit { conn }]);
    assert_eq!(rig.peer.state(), PeerState::OpenConfirm);
    assert_eq!(rig.fetch_types(conn), [MessageType::Keepalive]);
    assert_eq!(rig.send(conn, keepalive()), [PeerEffect::SessionUp]);
    assert_eq!(rig.peer.state(), PeerState::Established);
    let status = rig.peer.status();
    assert_eq!((status.hold_time_s, status.established_since), (Some(90), Some(rig.now)));
    assert_eq!(status.peer_router_id, Some(isp_open().router_id));
}

#[test]
fn passive_open() {
    let mut rig = Rig::new(PeerConfig { passive: true, ..config() });
    assert_eq!((rig.peer.state(), rig.peer.poll_timeout()), (PeerState::Active, None));
    let (conn, effects) = rig.accept();
    assert_eq!(effects, [PeerEffect::Transmit { conn }]);
    assert!(rig.establish(conn, &isp_open()).contains(&PeerEffect::SessionUp));
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    assert_eq!(rig.peer.poll_timeout(), None);
}

/// An octet at a time is as good as a message at a time.
#[test]
fn messages_in_pieces() {
    let mut rig = Rig::new(config());
    let conn = rig.connect();
    let mut octets = Vec::new();
    isp_open().put(&mut octets);
    octets.extend(keepalive());
    for octet in octets {
        rig.send(conn, vec![octet]);
    }
    assert_eq!(rig.peer.state(), PeerState::Established);
}

/// RFC 4271 section 6.2, RFC 6286, RFC 9234, RFC 5492: errors in an OPEN that need the configuration.
#[test]
fn opens_that_are_refused() {
    let good = isp_open();
    let role = |role| Capabilities { role, ..isp_open().capabilities };
    let internal = PeerConfig { peer_as: Asn(64501), ..config() };
    let customer = PeerConfig { role: Some(Role::Customer), ..config() };
    let strict = PeerConfig { role_strict: true, ..customer.clone() };
    let v6_only = PeerConfig { families: crate::bgp::Families::V6, ..config() };
    let same = Open { asn: Asn(64501), router_id: config().router_id, ..good.clone() };
    let cases: [(PeerConfig, Open, Cause, &[u8]); 7] = [
        (config(), open_of(64999), Cause::BAD_PEER_AS, &[]),
        (internal, Open { capabilities: Capabilities::default(), ..same }, Cause::BAD_BGP_IDENTIFIER, &[]),
        (
            customer.clone(),
            Open { capabilities: role(ReceivedRole::One(Role::Peer)), ..good.clone() },
            Cause::ROLE_MISMATCH,
            &[],
        ),
        (strict.clone(), good.clone(), Cause::ROLE_MISMATCH, &[]),
        (
            strict,
            Open { capabilities: role(ReceivedRole::One(Role::Customer)), ..good.clone() },
            Cause::ROLE_MISMATCH,
            &[],
        ),
        (
            v6_only,
            Open { capabilities: Capabilities::default(), ..good.clone() },
            Cause::UNSUPPORTED_CAPABILITY,
            &[1, 4, 0, 2, 0, 1],
        ),
        (config(), Open { hold_time: 2, ..good.clone() }, Cause::UNACCEPTABLE_HOLD_TIME, &[]),
    ];
    for (cfg, open, cause, data) in cases {
        let mut rig = Rig::new(cfg);
        let conn = rig.connect();
        let effects = rig.send_open(conn, &open);
        assert_eq!(effects[0], closes(conn, cause, data));
        assert!(matches!(&effects[1..], [PeerEffect::AttemptFailed { .. }]), "{effects:?}");
        assert_eq!(rig.peer.state(), PeerState::Idle);
        // Only a person mends this: no hammering.
        assert!(rig.peer.status().next_try.unwrap() >= rig.now + SECOND * 22);
    }
    // RFC 6286 section 2.1: between two ASes the same identifier is fine. A customer's provider fits.
    let mut rig = Rig::new(customer.clone());
    let conn = rig.connect();
    let provider = role(ReceivedRole::One(Role::Provider));
    let open = Open { router_id: customer.router_id, capabilities: provider, ..good };
    assert!(rig.establish(conn, &open).contains(&PeerEffect::SessionUp));
}

/// RFC 6608 section 3 (RFC 4271 section 6.6): each message in each state that does not expect it.
#[test]
fn unexpected_messages() {
    use MessageType::{Keepalive, Open, RouteRefresh, Update};
    let body = |kind| match kind {
        Open => {
            let mut octets = Vec::new();
            isp_open().put(&mut octets);
            octets
        }
        Update => message(Update, &[0; 4]),
        RouteRefresh => message(RouteRefresh, &[0, 1, 0, 1]),
        _ => keepalive(),
    };
    let cases = [
        (PeerState::OpenSent, Keepalive, Cause::FSM_OPEN_SENT),
        (PeerState::OpenSent, Update, Cause::FSM_OPEN_SENT),
        (PeerState::OpenSent, RouteRefresh, Cause::FSM_OPEN_SENT),
        (PeerState::OpenConfirm, Open, Cause::FSM_OPEN_CONFIRM),
        (PeerState::OpenConfirm, Update, Cause::FSM_OPEN_CONFIRM),
        (PeerState::OpenConfirm, RouteRefresh, Cause::FSM_OPEN_CONFIRM),
        (PeerState::Established, Open, Cause::FSM_ESTABLISHED),
    ];
    for (state, kind, cause) in cases {
        let mut rig = Rig::new(config());
        let conn = rig.connect();
        if state > PeerState::OpenSent {
            rig.send_open(conn, &isp_open());
        }
        if state > PeerState::OpenConfirm {
            rig.send(conn, keepalive());
        }
        assert_eq!(rig.peer.state(), state);
        assert_eq!(
            rig.send(conn, body(kind))[0],
            closes(conn, cause, &[kind.octet()]),
            "{kind:?} in {state:?}"
        );
        assert_eq!(rig.peer.state(), PeerState::Active);
    }
}

/// Puts a peer into each state; the connection that is there, or a name for none.
fn in_state(state: PeerState) -> (Rig, ConnId) {
    let mut rig = Rig::new(PeerConfig { passive: state == PeerState::Active, ..config() });
    let none = ConnId { origin: Origin::Outgoing, serial: 0 };
    match state {
        PeerState::Active => {}
        PeerState::Idle => {
            let conn = rig.connect();
            rig.send(conn, notification(&Notification::new(Cause::ADMIN_SHUTDOWN)));
        }
        PeerState::Connect => {
            rig.peer.handle_timeout(rig.now);
            rig.effects();
        }
        PeerState::OpenSent | PeerState::OpenConfirm | PeerState::Established => {
            let conn = rig.connect();
            if state > PeerState::OpenSent {
                rig.send_open(conn, &isp_open());
            }
            if state == PeerState::Established {
                rig.send(conn, keepalive());
            }
        }
    }
    assert_eq!(rig.peer.state(), state);
    (rig, none)
}

/// Every event in every state, late and impossible ones too: no panic, no timer that stands still, and the peer still
/// works.
#[test]
fn every_event_in_every_state() {
    use PeerState::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    let events = |conn: ConnId, local| {
        let stranger = ConnId { origin: Origin::Incoming, serial: 99 };
        let stop = |moment| PeerEvent::Stop { moment, cause: StopCause::Shutdown, message: "bye".into() };
        let mut all = vec![
            PeerEvent::TransportAccepted { conn: stranger, local },
            PeerEvent::SetWanted {
                wanted: super::rig::wanted(&["192.0.2.0/24"], crate::bgp::Claim::Master(super::rig::med(1))),
                token: 1,
            },
            PeerEvent::InitOver,
            PeerEvent::ForwardingPreserved(crate::bgp::Families::BOTH),
            PeerEvent::BfdDown,
            PeerEvent::TryNow,
            PeerEvent::MaintenanceOn { moment: SECOND },
            PeerEvent::MaintenanceOff,
            stop(SECOND),
            stop(Duration::ZERO),
            PeerEvent::Handover,
        ];
        for conn in [conn, stranger] {
            all.push(PeerEvent::TransportConnected { conn, local });
            all.push(PeerEvent::TransportFailed { conn, reason: "refused".into() });
            all.push(PeerEvent::Closed { conn, reason: "reset".into() });
            all.push(PeerEvent::Written { conn, total: u64::MAX });
            all.push(PeerEvent::Acked { conn, total: u64::MAX });
            for octets in [keepalive(), vec![0; 19], message(MessageType::Update, &[0; 4]), vec![0xff; 18]] {
                all.push(PeerEvent::Received { conn, octets });
            }
        }
        all
    };
    for state in [Idle, Connect, Active, OpenSent, OpenConfirm, Established] {
        let (rig, conn) = in_state(state);
        for first in events(conn, rig.local) {
            for second in events(conn, rig.local) {
                let (mut rig, _) = in_state(state);
                let mut effects = rig.event(first.clone());
                effects.extend(rig.event(second.clone()));
                effects.extend(rig.pass(SECOND * 300).into_iter().map(|(_, effect)| effect));
                if effects.contains(&PeerEffect::Stopped) {
                    assert_eq!(
                        (rig.peer.state(), rig.peer.poll_timeout()),
                        (Idle, None),
                        "{first:?} {second:?}"
                    );
                    continue;
                }
                let (conn, effects) = rig.accept();
                assert!(
                    !effects.iter().any(|e| matches!(e, PeerEffect::Close { .. })),
                    "{state:?} {first:?} {second:?} {effects:?}"
                );
                rig.establish(conn, &isp_open());
                assert_eq!(rig.peer.state(), Established, "{state:?} {first:?} {second:?}");
            }
        }
    }
}

/// RFC 4271 section 6.5, and section 8.2.2 for OpenSent; section 4.4 and 10 for the interval of KEEPALIVEs.
#[test]
fn hold_and_keepalive_timers() {
    let (mut rig, conn) = Rig::up(config());
    let start = rig.now;
    let passed = rig.pass(SECOND * 200);
    let sent: Vec<_> = passed.iter().filter(|(_, e)| matches!(e, PeerEffect::Transmit { .. })).collect();
    // Not fetched: it is signalled once.
    assert_eq!(sent.len(), 1);
    let gap = sent[0].0.since(start).as_secs_f64();
    assert!((22.5..=30.0).contains(&gap), "{gap}");
    let (at, effect) = passed.iter().find(|(_, effect)| matches!(effect, PeerEffect::Close { .. })).unwrap();
    assert_eq!((at.since(start), effect), (SECOND * 90, &closes(conn, Cause::HOLD_TIMER_EXPIRED, &[])));

    let mut rig = Rig::new(config());
    let conn = rig.connect();
    let start = rig.now;
    let passed = rig.pass(SECOND * 241);
    assert_eq!(passed[0].0.since(start), SECOND * 240);
    assert_eq!(passed[0].1, closes(conn, Cause::HOLD_TIMER_EXPIRED, &[]));
}

/// RFC 4271 section 4.2: a hold time of zero means no timers; else the smaller one counts.
#[test]
fn hold_time_is_negotiated() {
    for (ours, theirs, agreed) in [(90, 0, 0), (0, 90, 0), (90, 3, 3), (9, 240, 9)] {
        let mut rig = Rig::new(PeerConfig { hold_time: SECOND * ours, ..config() });
        let conn = rig.connect();
        rig.establish(conn, &Open { hold_time: theirs, ..isp_open() });
        assert_eq!(rig.peer.status().hold_time_s, Some(agreed));
        if agreed == 0 {
            rig.fetch(conn);
            assert_eq!(rig.pass(SECOND * 100_000), []);
        }
    }
}

/// RFC 9687, FIELD 20: a peer that sends KEEPALIVEs but takes nothing.
#[test]
fn send_hold_timer() {
    let (mut rig, conn) = Rig::up(PeerConfig { send_hold_time: Some(SECOND * 100), ..config() });
    let mut octets = Vec::new();
    let start = rig.now;
    for second in 0.. {
        assert!(second < 150, "still there");
        let closed =
            rig.pass(SECOND).into_iter().find(|(_, effect)| matches!(effect, PeerEffect::Close { .. }));
        if let Some((at, effect)) = closed {
            assert_eq!(effect, closes(conn, Cause::SEND_HOLD_TIMER_EXPIRED, &[]));
            // OPEN and KEEPALIVE were fetched and never written.
            assert_eq!(at.since(start), SECOND * 100);
            break;
        }
        rig.send(conn, keepalive());
        rig.peer.poll_transmit(conn, 4096, &mut octets);
    }
    // One that takes what comes stays.
    let (mut rig, conn) = Rig::up(PeerConfig { send_hold_time: Some(SECOND * 100), ..config() });
    for _ in 0..1000 {
        rig.event(PeerEvent::Written { conn, total: u64::MAX });
        rig.pass(SECOND);
        rig.send(conn, keepalive());
        rig.fetch(conn);
    }
    assert_eq!(rig.peer.state(), PeerState::Established);
}

/// RFC 5492 section 3: a peer that knows no optional parameters is tried again without.
#[test]
fn a_peer_that_refuses_capabilities() {
    let mut rig = Rig::new(config());
    let conn = rig.connect();
    rig.send(conn, notification(&Notification::new(Cause::UNSUPPORTED_OPTIONAL_PARAMETER)));
    let again = rig.connect();
    let open = rig.fetch(again);
    assert_eq!(open.len(), 29);
    rig.establish(again, &Open { capabilities: Capabilities::default(), ..isp_open() });
    assert_eq!(rig.peer.state(), PeerState::Established);
}

/// RFC 9384; RFC 5882 section 4.2.
#[test]
fn bfd_down_ends_the_session() {
    let (mut rig, conn) = Rig::up(config());
    let effects = rig.event(PeerEvent::BfdDown);
    assert_eq!(effects[0], closes(conn, Cause::BFD_DOWN, &[]));
    assert_eq!(effects[1], PeerEffect::SessionDown { reason: "closed by us: Cease/BFD Down".into() });
    assert_eq!(rig.event(PeerEvent::BfdDown), []);
}

/// Strict mode: our KEEPALIVE waits for BFD, so that the peer's session waits as well; with a bound. Later BFD is as ever.
#[test]
fn a_strict_session_waits_for_bfd() {
    let cfg = PeerConfig { bfd_strict: Some(SECOND * 20), ..config() };
    let mut open = Vec::new();
    isp_open().put(&mut open);
    for keepalive_first in [true, false] {
        let mut rig = Rig::new(cfg.clone());
        let conn = rig.connect();
        rig.fetch(conn);
        rig.send(conn, open.clone());
        if keepalive_first {
            rig.send(conn, keepalive());
        }
        assert_eq!((rig.fetch(conn), rig.peer.state()), (vec![], PeerState::OpenConfirm));
        let effects = rig.event(PeerEvent::BfdUp);
        assert_eq!(effects.contains(&PeerEffect::SessionUp), keepalive_first);
        assert_eq!(rig.fetch_types(conn)[0], MessageType::Keepalive);
        if !keepalive_first {
            assert!(rig.send(conn, keepalive()).contains(&PeerEffect::SessionUp));
        }
        assert_eq!(rig.peer.state(), PeerState::Established);
        assert_eq!(rig.event(PeerEvent::BfdDown)[0], closes(conn, Cause::BFD_DOWN, &[]));
    }
    let mut rig = Rig::new(cfg);
    let conn = rig.connect();
    rig.fetch(conn);
    rig.send(conn, open);
    let effects = rig.pass(SECOND * 21);
    assert_eq!(effects[0].1, closes(conn, Cause::BFD_DOWN, &[]));
}

/// AdminDown let a strict session begin without BFD; once that is over the next one waits, and this one stays.
#[test]
fn a_strict_session_waits_again_once_bfd_is_wanted_again() {
    let mut rig = Rig::new(PeerConfig { bfd_strict: Some(SECOND * 20), ..config() });
    assert_eq!(rig.event(PeerEvent::BfdUp), []);
    let conn = rig.connect();
    rig.establish(conn, &isp_open());
    assert_eq!(rig.peer.state(), PeerState::Established);
    assert_eq!(rig.event(PeerEvent::BfdAwaited), []);
    assert_eq!(rig.peer.state(), PeerState::Established);
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    let again = rig.connect();
    rig.fetch(again);
    let mut open = Vec::new();
    isp_open().put(&mut open);
    rig.send(again, open);
    rig.send(again, keepalive());
    assert_eq!((rig.fetch(again), rig.peer.state()), (vec![], PeerState::OpenConfirm));
    assert!(rig.event(PeerEvent::BfdUp).contains(&PeerEffect::SessionUp));
}

/// RFC 4724 section 3: R until the first End-of-RIB, F as the core says.
#[test]
fn restart_bits() {
    let cfg = PeerConfig { graceful_restart: restart_time(), ..config() };
    let ours = |rig: &mut Rig, conn| {
        let octets = rig.fetch(conn);
        Open::parse(&octets[19..]).unwrap().capabilities.graceful_restart.unwrap()
    };
    let mut rig = Rig::started(cfg, true);
    rig.event(PeerEvent::ForwardingPreserved(crate::bgp::Families::V4));
    let conn = rig.connect();
    let restart = ours(&mut rig, conn);
    assert!(restart.restarting && restart.notification);
    assert_eq!(
        (restart.restart_time, restart.families.v4, restart.families.v6),
        (120, Some(true), Some(false))
    );
    rig.establish(conn, &isp_open());
    rig.event(PeerEvent::InitOver);
    rig.fetch(conn);
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    let conn = rig.connect();
    assert!(!ours(&mut rig, conn).restarting);
}

/// RFC 4271 section 4.4: "KEEPALIVE messages MUST NOT be sent more frequently than one per second", and periodic ones
/// not at all where the hold time is zero.
#[test]
fn who_is_asked_for_life_is_asked_once_a_second() {
    for (hold_time, expected) in [(90, 2), (0, 2)] {
        let mut rig = Rig::new(config());
        let conn = rig.connect();
        rig.establish(conn, &Open { hold_time, ..isp_open() });
        rig.fetch(conn);
        rig.pass(Duration::from_secs(2));
        let mut sent = 0;
        for _ in 0..4 {
            rig.event(PeerEvent::AskForLife);
            sent += rig.fetch_types(conn).iter().filter(|kind| **kind == MessageType::Keepalive).count();
            rig.pass(Duration::from_millis(400));
        }
        assert_eq!(sent, expected, "hold time {hold_time}");
    }
}
