//! Stop, maintenance, handover: who leaves says so, in order.

use std::time::Duration;

use super::rig::{Rig, config, isp_open, med, message, notification, types, wanted};
use super::view::View;
use crate::bgp::wire::capability::GracefulRestart;
use crate::bgp::wire::header::MessageType;
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::{
    Claim, ConnId, GracefulRestartConfig, PeerConfig, PeerEffect, PeerEvent, PeerState, PerFamily, StopCause,
};

const SECOND: Duration = Duration::from_secs(1);
const PREFIXES: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];

fn stop(moment: Duration) -> PeerEvent {
    PeerEvent::Stop { moment, cause: StopCause::Shutdown, message: "moving house".into() }
}

/// A session that announces two prefixes.
fn announcing(cfg: PeerConfig, restart: bool) -> (Rig, ConnId, View) {
    let mut rig = Rig::new(cfg);
    rig.want(wanted(&PREFIXES, Claim::Master(med(7))), 1);
    rig.event(PeerEvent::InitOver);
    let conn = rig.connect();
    let mut open = isp_open();
    let families = PerFamily { v4: Some(true), v6: Some(true) };
    open.capabilities.graceful_restart = restart.then_some(GracefulRestart {
        restarting: false,
        notification: true,
        restart_time: 60,
        families,
    });
    rig.establish(conn, &open);
    let mut view = View::new();
    rig.read(conn, &mut view);
    assert_eq!(view.routes.len(), 2);
    (rig, conn, view)
}

fn written(rig: &mut Rig, conn: ConnId) -> Vec<PeerEffect> {
    rig.event(PeerEvent::Written { conn, total: u64::MAX })
}

/// SPEC 4: GSHUT (RFC 8326), a moment, withdraw, Cease with the operator's words (RFC 9003).
#[test]
fn stop_in_order() {
    let (mut rig, conn, mut view) = announcing(config(), false);
    written(&mut rig, conn);
    assert_eq!(rig.event(stop(SECOND * 2)), [PeerEffect::Transmit { conn }]);
    rig.read(conn, &mut view);
    assert!(view.routes.values().all(|heard| heard.graceful_shutdown && heard.med == Some(7)));
    let start = rig.now;
    let passed = rig.pass(SECOND * 2);
    assert_eq!(passed, [(start + SECOND * 2, PeerEffect::Transmit { conn })]);
    rig.read(conn, &mut view);
    assert!(view.routes.is_empty());
    // Not before the withdraws are with TCP.
    assert_eq!(rig.peer.state(), PeerState::Idle.max(PeerState::Established));
    let words = Notification::with_message(Cause::ADMIN_SHUTDOWN, "moving house");
    assert_eq!(
        written(&mut rig, conn),
        [
            PeerEffect::Close { conn, last_words: notification(&words) },
            PeerEffect::SessionDown {
                reason: "closed by us: Cease/Administrative Shutdown, \"moving house\"".into()
            },
            PeerEffect::Stopped,
        ]
    );
    assert_eq!(rig.peer.poll_timeout(), None);
    let (late, effects) = rig.accept();
    let refusal = notification(&Notification::new(Cause::ADMIN_SHUTDOWN));
    assert_eq!(effects, [PeerEffect::Close { conn: late, last_words: refusal }]);
}

/// RFC 8538 section 3.1: where the N bit was negotiated a plain Cease would leave the routes in place.
#[test]
fn stop_is_a_hard_reset_where_notifications_are_graceful() {
    let restart = Some(GracefulRestartConfig { restart_time: SECOND * 120 });
    let (mut rig, conn, mut view) = announcing(PeerConfig { graceful_restart: restart, ..config() }, true);
    rig.event(stop(Duration::ZERO));
    rig.read(conn, &mut view);
    assert!(view.routes.is_empty());
    let words = Notification::with_message(Cause::ADMIN_SHUTDOWN, "moving house").into_hard_reset();
    assert_eq!(written(&mut rig, conn)[0], PeerEffect::Close { conn, last_words: notification(&words) });
}

/// A peer that does not read cannot hold up a stop, nor one that is gone.
#[test]
fn stop_is_bounded() {
    let (mut rig, _, _) = announcing(config(), false);
    rig.event(stop(SECOND));
    let start = rig.now;
    let passed = rig.pass(SECOND * 30);
    let (at, _) = passed.iter().find(|(_, effect)| *effect == PeerEffect::Stopped).unwrap();
    assert_eq!(at.since(start), SECOND * 6);

    let (mut rig, conn, _) = announcing(config(), false);
    rig.event(stop(SECOND * 60));
    let effects = rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    assert_eq!(effects.last(), Some(&PeerEffect::Stopped));

    // Without a session there is nothing to drain.
    let mut rig = Rig::new(config());
    assert_eq!(rig.event(stop(SECOND * 60)), [PeerEffect::Stopped]);
    let mut rig = Rig::new(config());
    let conn = rig.connect();
    rig.fetch(conn);
    rig.event(stop(SECOND * 60));
    assert_eq!(written(&mut rig, conn).last(), Some(&PeerEffect::Stopped));
}

/// SPEC 2: `maintenance on` drains and keeps the session, over a reconnection too; `off` announces again.
#[test]
fn maintenance() {
    let (mut rig, conn, mut view) = announcing(config(), false);
    rig.event(PeerEvent::MaintenanceOn { moment: SECOND });
    rig.read(conn, &mut view);
    assert!(view.routes.values().all(|heard| heard.graceful_shutdown));
    rig.pass(SECOND);
    rig.read(conn, &mut view);
    assert!(view.routes.is_empty());
    assert_eq!(rig.peer.state(), PeerState::Established);
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    let conn = rig.connect();
    rig.establish(conn, &isp_open());
    let mut view = View::new();
    rig.read(conn, &mut view);
    assert!(view.routes.is_empty());
    assert_eq!(rig.event(PeerEvent::MaintenanceOff), [PeerEffect::Transmit { conn }]);
    rig.read(conn, &mut view);
    assert_eq!(view.routes.len(), 2);
    assert!(view.routes.values().all(|heard| !heard.graceful_shutdown));
    // Changed one's mind before the withdraw.
    rig.event(PeerEvent::MaintenanceOn { moment: SECOND });
    rig.event(PeerEvent::MaintenanceOff);
    let updates = view.updates;
    rig.read(conn, &mut view);
    assert_eq!(view.updates, updates);
}

/// SPEC 2, RFC 4724 section 5: closed without a word where the peer keeps our routes; elsewhere Cease.
#[test]
fn handover() {
    let restart = Some(GracefulRestartConfig { restart_time: SECOND * 120 });
    for peer_restarts in [true, false] {
        let (mut rig, conn, _) =
            announcing(PeerConfig { graceful_restart: restart, ..config() }, peer_restarts);
        let effects = rig.event(PeerEvent::Handover);
        let cease = notification(&Notification::new(Cause::ADMIN_SHUTDOWN));
        let last_words = if peer_restarts { vec![] } else { cease };
        assert_eq!(effects[0], PeerEffect::Close { conn, last_words });
        assert_eq!(effects.last(), Some(&PeerEffect::Stopped));
    }
}

/// RFC 4486: the other reasons, each with its own subcode.
#[test]
fn causes() {
    let cases = [
        (StopCause::Reset, Cause::ADMIN_RESET),
        (StopCause::Deconfigured, Cause::PEER_DECONFIGURED),
        (StopCause::ConfigurationChange, Cause::CONFIGURATION_CHANGE),
    ];
    for (cause, expected) in cases {
        let (mut rig, conn, _) = announcing(config(), false);
        rig.event(PeerEvent::Stop { moment: Duration::ZERO, cause, message: String::new() });
        rig.fetch(conn);
        let last_words = notification(&Notification::new(expected));
        assert_eq!(written(&mut rig, conn)[0], PeerEffect::Close { conn, last_words });
    }
}

/// A KEEPALIVE that is due goes before what is left of the table.
#[test]
fn keepalives_go_between_updates() {
    let (mut rig, conn, _) = announcing(config(), false);
    rig.send(conn, message(MessageType::RouteRefresh, &[0, 1, 0, 1]));
    rig.pass(SECOND * 31);
    let mut octets = Vec::new();
    rig.peer.poll_transmit(conn, 1, &mut octets);
    assert_eq!(types(&octets), [MessageType::Keepalive]);
}
