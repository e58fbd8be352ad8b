//! One configured peer (RFC 4271 section 8): when to connect, which of two connections to keep, how to stop.

mod closing;
mod opening;

use std::collections::VecDeque;
use std::time::Duration;

use super::config::PeerConfig;
use super::connection::{ConnId, Connection, Context, Origin, Reason, State, Step};
use super::counters::Counters;
use super::drain::Duty;
use super::event::{PeerEffect, PeerEvent};
use super::family::Families;
use super::negotiate::Restart;
use super::retry::{Retry, Setback};
use super::table::Wanted;
use super::wire::header::MessageType;
use super::wire::notification::Notification;
use crate::time::Time;

/// How long TCP may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Connecting to the peer: Idle, Connect and Active of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dial {
    /// Not now: passive, stopped, or there is a connection.
    Off,
    /// ConnectRetryTimer runs.
    Waiting { at: Time, refused: bool },
    /// TCP is connecting.
    Connecting { conn: ConnId, until: Time },
}

/// A BGP peer; see the module's description for how to drive it.
#[derive(Debug)]
pub struct Peer {
    pub(crate) cfg: PeerConfig,
    pub(super) now: Time,
    pub(crate) duty: Duty,
    pub(crate) dial: Dial,
    pub(crate) connections: Vec<Connection>,
    pub(crate) retry: Retry,
    pub(crate) counters: Counters,
    pub(crate) last_error: Option<String>,
    pub(super) effects: VecDeque<PeerEffect>,
    pub(super) wanted: Wanted,
    /// What stays with the peer when the rest is withdrawn.
    pub(super) kept: Wanted,
    init_over: bool,
    restart: Restart,
    next_serial: u64,
    /// The peer refused optional parameters: the next OPEN has none (RFC 5492 section 3).
    plain: bool,
    refuse_until: Option<Time>,
    /// The peer turned the last connection away, and we try, or tried, again then.
    turned_away: Option<Time>,
    /// Since then its system takes our connections, and nobody says a word.
    wordless: Option<Time>,
    /// BFD was heard of, and not that it lost the peer since.
    pub(super) bfd_is_up: bool,
}

impl Peer {
    /// A peer that connects at once (unless passive). Equal seeds give equal jitter.
    ///
    /// `restarted`: routes of an earlier process may still be with the peer: the R bit of RFC 4724 is set until
    /// the first End-of-RIB.
    pub fn new(cfg: PeerConfig, seed: u64, restarted: bool, now: Time) -> Self {
        let dial = if cfg.passive { Dial::Off } else { Dial::Waiting { at: now, refused: false } };
        Peer {
            retry: Retry::new(cfg.connect_retry, seed),
            cfg,
            now,
            duty: Duty::Run,
            dial,
            connections: Vec::new(),
            counters: Counters::default(),
            last_error: None,
            effects: VecDeque::new(),
            wanted: Wanted::default(),
            kept: Wanted::default(),
            init_over: false,
            restart: Restart { restarting: restarted, preserved: Families::NONE },
            next_serial: 0,
            plain: false,
            refuse_until: None,
            turned_away: None,
            wordless: None,
            bfd_is_up: false,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &PeerConfig {
        &self.cfg
    }

    /// Something happened.
    pub fn handle_event(&mut self, event: PeerEvent, now: Time) {
        self.now = now;
        match event {
            PeerEvent::TransportConnected { conn, local } => self.connected(conn, local),
            PeerEvent::TransportFailed { conn, reason } => self.connect_failed(conn, reason),
            PeerEvent::TransportAccepted { conn, local } => self.accepted(conn, local),
            PeerEvent::Received { conn, octets } => self.received(conn, &octets),
            PeerEvent::Written { conn, total } => self.progressed(conn, Some(total), None),
            PeerEvent::Acked { conn, total } => self.progressed(conn, None, Some(total)),
            PeerEvent::Closed { conn, reason } => self.close(conn, Reason::Network(reason)),
            PeerEvent::SetWanted { wanted, token } => self.set_wanted(wanted, token),
            PeerEvent::AskForLife => self.ask_for_life(),
            PeerEvent::TryNow => self.try_now(),
            PeerEvent::InitOver => {
                self.init_over = true;
                self.for_established(|up| up.rib.release_end_of_rib());
            }
            PeerEvent::ForwardingPreserved(families) => self.restart.preserved = families,
            PeerEvent::BfdDown => self.bfd_down(),
            PeerEvent::BfdUp => self.bfd_up(),
            PeerEvent::BfdAwaited => self.bfd_is_up = false,
            PeerEvent::MaintenanceOn { moment } => self.maintain(moment),
            PeerEvent::MaintenanceOff => {
                if matches!(self.duty, Duty::Maintenance(_)) {
                    self.duty = Duty::Run;
                }
            }
            PeerEvent::Keep { claims } => self.keep(claims),
            PeerEvent::Stop { moment, cause, message } => self.stop(moment, cause, &message),
            PeerEvent::Handover => self.hand_over(),
        }
        self.settle();
    }

    /// Time passed: lets timers that are due act.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        let ids: Vec<ConnId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            if let Err(reason) = self.with(id, |connection, context| connection.handle_timeout(context)) {
                self.close(id, reason);
            }
        }
        match self.dial {
            Dial::Connecting { conn, until } if until <= now => {
                self.emit_close(conn, Vec::new());
                self.connect_failed(conn, "connecting: no answer".to_owned());
            }
            // Nearly there by another way: look again a little later.
            Dial::Waiting { at, refused } if at <= now && self.is_confirming() => {
                self.dial = Dial::Waiting { at: now + self.retry.after(Setback::Collision), refused };
            }
            Dial::Waiting { at, .. } if at <= now => {
                let conn = ConnId { origin: Origin::Outgoing, serial: self.next_serial };
                self.next_serial += 1;
                self.dial = Dial::Connecting { conn, until: now + CONNECT_TIMEOUT };
                self.effects.push_back(PeerEffect::Connect { conn });
            }
            Dial::Off | Dial::Waiting { .. } | Dial::Connecting { .. } => {}
        }
        self.settle();
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::Waiting { at: time, .. } | Dial::Connecting { until: time, .. } => Some(time),
        };
        let connections = self.connections.iter().filter_map(Connection::poll_timeout);
        connections.chain(dial).chain(self.duty.timer()).min()
    }

    /// What the world must do; call until `None` after each of the other methods.
    pub fn poll_effect(&mut self) -> Option<PeerEffect> {
        self.effects.pop_front()
    }

    /// Appends octets for a connection's socket to `out`, whole messages, hardly more than `limit` (one message's
    /// length at most); how many. Nothing is kept: what is fetched must be written, in order.
    pub fn poll_transmit(&mut self, conn: ConnId, limit: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        self.with(conn, |connection, context| {
            connection.transmit(limit, out, context);
            Ok(())
        })
        .unwrap_or(());
        if self.connections.iter_mut().any(|c| c.established().is_some_and(|up| up.rib.initial_table_told()))
        {
            self.restart.restarting = false;
        }
        out.len() - start
    }

    pub(super) fn with(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Connection, &mut Context<'_>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let Peer { cfg, retry, counters, now, .. } = self;
        let mut context = Context { cfg, retry, counters, now: *now };
        match self.connections.iter_mut().find(|connection| connection.id == id) {
            Some(connection) => act(connection, &mut context),
            None => Ok(()),
        }
    }

    pub(crate) fn for_established(&mut self, act: impl FnMut(&mut super::session::Established)) {
        self.connections.iter_mut().filter_map(Connection::established).for_each(act);
    }

    pub(super) fn emit_close(&mut self, conn: ConnId, last_words: Vec<u8>) {
        self.effects.push_back(PeerEffect::Close { conn, last_words });
    }

    fn reject(&mut self, conn: ConnId, notification: &Notification) {
        let mut last_words = Vec::new();
        notification.put(&mut last_words);
        self.counters.sent.count(MessageType::Notification);
        self.emit_close(conn, last_words);
    }

    fn received(&mut self, id: ConnId, octets: &[u8]) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.receive(octets);
        }
        // Each turn looks the connection up again: a message may have ended it.
        loop {
            let mut step = Step::Wait;
            let stepped = self.with(id, |connection, context| {
                step = connection.step(context)?;
                Ok(())
            });
            let outcome = match (stepped, step) {
                (Err(reason), _) => Err(reason),
                (Ok(()), Step::Wait) => return,
                (Ok(()), Step::Done) => Ok(()),
                (Ok(()), Step::Open(negotiated)) => self.opened(id, *negotiated),
                (Ok(()), Step::Established) => {
                    self.session_up(id);
                    Ok(())
                }
                (Ok(()), Step::Note(words)) => {
                    self.effects.push_back(PeerEffect::Note(words));
                    Ok(())
                }
            };
            if let Err(reason) = outcome {
                return self.close(id, reason);
            }
        }
    }

    fn is_confirming(&self) -> bool {
        self.connections.iter().any(|connection| matches!(connection.state, State::OpenConfirm(_)))
    }

    fn progressed(&mut self, id: ConnId, written: Option<u64>, acked: Option<u64>) {
        let now = self.now;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if let Some(total) = written {
            connection.output.set_written(total, now);
        }
        if let Some(total) = acked {
            connection.output.set_acked(total);
        }
        for (token, acked) in connection.progressed() {
            let effect =
                if acked { PeerEffect::UpdateAcked { token } } else { PeerEffect::UpdateWritten { token } };
            self.effects.push_back(effect);
        }
    }

    fn set_wanted(&mut self, wanted: Wanted, token: u64) {
        self.wanted = wanted;
        let wanted = std::mem::take(&mut self.wanted);
        self.for_established(|up| {
            up.rib.set_wanted(&wanted);
            up.track(token);
        });
        self.wanted = wanted;
    }

    /// When the next try is due, or was, after the peer's speaker turned us away: it lives, and may have us then. Who says
    /// nothing at all is believed to live for a minute. None if it did not turn us away, if it wants no session with us at all,
    /// or if a later try found nobody.
    pub fn turned_away(&self) -> Option<Time> {
        self.turned_away
    }

    /// When a KEEPALIVE goes out for a [`PeerEvent::AskForLife`] of now; None if there is no session.
    pub fn may_ask_for_life_at(&self, now: Time) -> Option<Time> {
        self.connections.iter().find_map(|connection| connection.may_ask_for_life_at(now))
    }

    fn try_now(&mut self) {
        match self.dial {
            Dial::Waiting { refused: false, .. } => {}
            // Its SYN may have been lost, and TCP's own back-off be long by now.
            Dial::Connecting { conn, .. } => self.emit_close(conn, Vec::new()),
            Dial::Off | Dial::Waiting { .. } => return,
        }
        // What failed so far was nobody's refusal, and is over.
        self.retry.forgive();
        self.dial = Dial::Waiting { at: self.now, refused: false };
    }

    fn ask_for_life(&mut self) {
        for id in self.connection_ids() {
            self.with(id, |connection, context| {
                connection.ask_for_life(context);
                Ok(())
            })
            .unwrap_or(());
        }
    }

    /// What follows every event: the drain's next step, news for sockets.
    fn settle(&mut self) {
        self.drain();
        let now = self.now;
        for connection in &mut self.connections {
            if connection.has_output() && connection.output.signal(now) {
                self.effects.push_back(PeerEffect::Transmit { conn: connection.id });
            }
        }
    }

    pub(crate) fn connection_ids(&self) -> Vec<ConnId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    pub(crate) fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }
}
