//! RFC 4271 section 8: states, timers, collisions, back-off.

use std::time::Duration;

use super::rig::{Rig, config, isp_open, message, notification};
use crate::bgp::wire::capability::{Capabilities, GracefulRestart, ReceivedRole, Role};
use crate::bgp::wire::header::MessageType;
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::wire::open::Open;
use crate::bgp::{
    ConnId, GracefulRestartConfig, Origin, PeerConfig, PeerEffect, PeerEvent, PeerState, StopCause,
};
use crate::net::{Asn, RouterId};

/// The ISP's OPEN with another AS number.
fn open_of(asn: u32) -> Open {
    let mut open = Open { asn: Asn(asn), ..isp_open() };
    open.capabilities.four_octet_as = Some(Asn(asn));
    open
}

fn closes(conn: ConnId, cause: Cause, data: &[u8]) -> PeerEffect {
    let last_words = notification(&Notification::with_data(cause, data.to_vec()));
    PeerEffect::Close { conn, last_words }
}

fn keepalive() -> Vec<u8> {
    message(MessageType::Keepalive, &[])
}

const SECOND: Duration = Duration::from_secs(1);

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

fn restart_time() -> Option<GracefulRestartConfig> {
    Some(GracefulRestartConfig { restart_time: Duration::from_secs(120) })
}

fn restarting_open() -> Open {
    let restart = GracefulRestart {
        restarting: true,
        notification: true,
        restart_time: 60,
        families: crate::bgp::PerFamily { v4: Some(true), v6: Some(true) },
    };
    let mut open = isp_open();
    open.capabilities.graceful_restart = Some(restart);
    open
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
    for (hold_time, expected) in [(90, 2), (0, 0)] {
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
