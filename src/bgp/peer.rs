//! One configured peer (RFC 4271 section 8): when to connect, which of two connections to keep, how to stop.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::config::PeerConfig;
use super::connection::{Awaited, ConnId, Connection, Context, Origin, Reason, State, Step};
use super::counters::Counters;
use super::drain::Duty;
use super::event::{PeerEffect, PeerEvent};
use super::family::Families;
use super::negotiate::{Negotiated, Restart, our_open};
use super::retry::{Retry, Setback};
use super::table::Wanted;
use super::wire::header::MessageType;
use super::wire::notification::{Cause, Notification};
use crate::time::Time;

/// How long TCP may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A session that lasted this long makes earlier trouble forgotten.
const LASTING: Duration = Duration::from_secs(60);
/// How long the peer's own connections are refused after repeated errors.
const REFUSED_AFTER_ERRORS: Duration = Duration::from_secs(10);
/// How long the peer has to close one of two connections that crossed.
const CROSSING: Duration = Duration::from_secs(5);

/// Who ends our connections without a word may be BIRD after an error: its `error wait time` is a minute at first. It may as
/// well be what answers in the place of a speaker that is dead: a proxy, a load balancer.
const WORDLESS: Duration = Duration::from_secs(60);

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

    fn begin(&mut self, id: ConnId, local: SocketAddr) {
        let ours = our_open(&self.cfg, self.restart, local.ip(), self.plain);
        let Peer { cfg, retry, counters, now, .. } = self;
        let mut context = Context { cfg, retry, counters, now: *now };
        self.connections.push(Connection::new(id, local, ours, &mut context));
    }

    fn connected(&mut self, id: ConnId, local: SocketAddr) {
        match self.dial {
            Dial::Connecting { conn, .. } if conn == id => {
                self.dial = Dial::Off;
                self.begin(id, local);
            }
            // Too late: given up, or stopped.
            _ => self.emit_close(id, Vec::new()),
        }
    }

    fn connect_failed(&mut self, id: ConnId, words: String) {
        match self.dial {
            Dial::Connecting { conn, .. } if conn == id => {
                self.dial = Dial::Off;
                (self.turned_away, self.wordless) = (None, None);
                self.last_error = Some(words.clone());
                self.effects.push_back(PeerEffect::AttemptFailed { reason: words });
                self.retry_after(Setback::Network);
            }
            _ => {}
        }
    }

    fn accepted(&mut self, id: ConnId, local: SocketAddr) {
        if self.duty.ends() {
            return self.reject(id, &Notification::new(Cause::ADMIN_SHUTDOWN));
        }
        if self.refuse_until.is_some_and(|until| self.now < until) {
            return self.reject(id, &Notification::new(Cause::CONNECTION_REJECTED));
        }
        // A peer has one try at a time: an earlier one that got nowhere is dead at its end.
        let stale = self.connections.iter().find(|connection| {
            connection.id.origin == Origin::Incoming && !matches!(connection.state, State::Established(_))
        });
        if let Some(stale) = stale.map(|connection| connection.id) {
            self.close(stale, Reason::Sent(Notification::new(Cause::CONNECTION_COLLISION)));
        }
        // Our own tries go on: this connection may be dead at its other end, and section 6.8 tells which of two to keep.
        self.begin(id, local);
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

    /// A good OPEN came: RFC 4271 section 6.8 before anything else may happen on the connection.
    fn opened(&mut self, id: ConnId, negotiated: Negotiated) -> Result<(), Reason> {
        let collision = || Reason::Sent(Notification::new(Cause::CONNECTION_COLLISION));
        // Section 6.8 and RFC 6286 section 2.3: the greater identifier's connection stays; between equal ones the
        // greater AS number's.
        let ours = (u32::from(self.cfg.router_id.0), self.cfg.local_as);
        let open = &negotiated.peer;
        let kept =
            if ours > (u32::from(open.router_id.0), open.asn) { Origin::Outgoing } else { Origin::Incoming };
        let made = self.connection(id).map_or(self.now, |connection| connection.made);
        let mut crossed = false;
        let mut losers = Vec::new();
        for other in self.connections.iter_mut().filter(|other| other.id != id) {
            match &other.state {
                State::OpenSent { .. } => {}
                State::OpenConfirm(_) if other.id.origin != id.origin && id.origin != kept => {
                    return Err(collision());
                }
                State::OpenConfirm(_) => losers.push((other.id, collision())),
                // The two crossed. The peer, which has our OPENs of both, may or may not have that session up: if so it
                // closes this one, else it keeps the one that is to be kept. Were we to choose, both could be closed.
                State::Established(up) if made < up.since && other.id.origin != id.origin => match kept {
                    kept if kept == id.origin => crossed = true,
                    _ => return Err(collision()),
                },
                // RFC 4724 section 4.2: the old session is taken as ended, and gets no NOTIFICATION.
                State::Established(up) if up.session.negotiated.graceful_restart => {
                    losers.push((other.id, Reason::Replaced));
                }
                State::Established(_) => {
                    // If the peer forgot that session, its TCP says so when it hears of it.
                    other.output.send_keepalive();
                    return Err(collision());
                }
            }
        }
        losers.into_iter().for_each(|(loser, reason)| self.close(loser, reason));
        let withheld = if crossed { Some((CROSSING, Awaited::Collision)) } else { self.bfd_wait() };
        self.with(id, |connection, context| {
            connection.accept(negotiated, withheld, context);
            Ok(())
        })
    }

    /// How long a new session waits for BFD, if it does.
    fn bfd_wait(&self) -> Option<(Duration, Awaited)> {
        let time = self.cfg.bfd_strict.filter(|_| !self.bfd_is_up)?;
        Some((time, Awaited::Bfd))
    }

    /// The peer has closed the session that another connection had crossed: that one is the session.
    fn uncross(&mut self) {
        if self.duty.ends() || self.connections.iter_mut().any(|c| c.established().is_some()) {
            return;
        }
        let waiting = self.connections.iter().find(|connection| connection.awaits(Awaited::Collision));
        let Some(id) = waiting.map(|connection| connection.id) else { return };
        let next = self.bfd_wait();
        self.release(id, next);
    }

    /// What the connection's KEEPALIVE waited for is settled.
    pub(super) fn release(&mut self, id: ConnId, next: Option<(Duration, Awaited)>) {
        let mut is_up = false;
        let released = self.with(id, |connection, context| {
            is_up = connection.release(next, context);
            Ok(())
        });
        if released.is_ok() && is_up {
            self.session_up(id);
        }
    }

    pub(super) fn session_up(&mut self, id: ConnId) {
        if let Dial::Connecting { conn, .. } = std::mem::replace(&mut self.dial, Dial::Off) {
            self.emit_close(conn, Vec::new());
        }
        self.counters.established += 1;
        self.last_error = None;
        self.refuse_until = None;
        (self.turned_away, self.wordless) = (None, None);
        self.effects.push_back(PeerEffect::SessionUp);
        let (wanted, kept, init_over) = (&self.wanted, &self.kept, self.init_over);
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let Some(up) = connection.established() else { return };
        up.rib.set_wanted(wanted);
        if up.session.negotiated.graceful_restart {
            up.rib.set_kept(kept);
        }
        if init_over {
            up.rib.release_end_of_rib();
        }
        let notes = up.session.negotiated.missing.iter().cloned().map(PeerEffect::Note);
        self.effects.extend(notes);
    }

    /// Ends a connection, if it is still there.
    pub(crate) fn close(&mut self, id: ConnId, reason: Reason) {
        if matches!(self.dial, Dial::Connecting { conn, .. } if conn == id) {
            return self.connect_failed(id, reason.to_string());
        }
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let connection = self.connections.swap_remove(at);
        match &reason {
            Reason::Sent(notification) => self.reject(id, notification),
            _ => self.emit_close(id, Vec::new()),
        }
        let words = reason.to_string();
        let setback = setback_of(&reason);
        if let State::Established(up) = &connection.state {
            if self.now.since(up.since) >= LASTING {
                self.retry.forgive();
            }
            self.last_error = Some(words.clone());
            self.effects.push_back(PeerEffect::SessionDown { reason: words });
        } else if setback != Setback::Collision {
            self.last_error = Some(words.clone());
            self.effects.push_back(PeerEffect::AttemptFailed { reason: words });
        }
        let refused_parameter = |notification: &Notification| {
            notification.cause == Cause::UNSUPPORTED_OPTIONAL_PARAMETER && !self.plain
        };
        if matches!(&reason, Reason::Received(notification) if refused_parameter(notification)) {
            self.plain = true;
            (self.turned_away, self.wordless) = (None, None);
            return self.retry_after(Setback::Collision);
        }
        if !matches!(connection.state, State::Established(_)) && setback != Setback::Collision {
            self.plain = false;
        }
        self.uncross();
        self.retry_after(setback);
        let was_up = matches!(connection.state, State::Established(_));
        self.note_turned_away(&reason, was_up);
        let said = matches!(reason, Reason::Sent(_) | Reason::Received(_)) && setback != Setback::Collision;
        if said && self.retry.failures() > 1 {
            // DampPeerOscillations (RFC 4271 section 8.1.1): errors that come again and again.
            self.refuse_until = Some(self.now + REFUSED_AFTER_ERRORS);
        }
    }

    /// Whether its speaker lives, and until when that is believed.
    fn note_turned_away(&mut self, reason: &Reason, was_up: bool) {
        let lives = turns_away(reason, was_up);
        self.wordless = match reason {
            Reason::Network(_) if lives => self.wordless.or(Some(self.now)),
            _ => None,
        };
        let believed = self.wordless.map(|since| since + WORDLESS);
        // It may have us then, and is not heard of any more if it has not.
        if let (Dial::Waiting { at, refused: false }, Some(end)) =
            (&mut self.dial, believed.filter(|end| *end > self.now))
        {
            *at = (*at).min(end);
        }
        let next_try = match self.dial {
            Dial::Waiting { at, .. } | Dial::Connecting { until: at, .. } => at,
            Dial::Off => self.now,
        };
        self.turned_away = lives.then_some(believed.map_or(next_try, |end| end.min(next_try)));
    }

    fn is_confirming(&self) -> bool {
        self.connections.iter().any(|connection| matches!(connection.state, State::OpenConfirm(_)))
    }

    fn retry_after(&mut self, setback: Setback) {
        let established = self.connections.iter_mut().any(|connection| connection.established().is_some());
        if self.duty.ends() || established {
            return;
        }
        let wait = self.retry.after(setback);
        let trying = self.connections.iter().any(|connection| connection.id.origin == Origin::Outgoing);
        if !trying && self.dial == Dial::Off && !self.cfg.passive {
            self.dial = Dial::Waiting { at: self.now + wait, refused: setback == Setback::Refused };
        }
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

    /// True if [`PeerEvent::AskForLife`] sends a KEEPALIVE now.
    pub fn may_ask_for_life(&self, now: Time) -> bool {
        self.connections.iter().any(|connection| connection.may_ask_for_life(now))
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

/// True if the peer's speaker ended the connection, and may have the next one: it still has the old session (RFC 4271 section
/// 6.8), or waits after an error (section 8.1.1; BIRD closes without a word then). Neither an operator's will nor a
/// configuration that contradicts ours changes by itself.
fn turns_away(reason: &Reason, was_up: bool) -> bool {
    match reason {
        Reason::Network(_) => !was_up,
        Reason::Received(notification) => !matches!(
            notification.unwrapped().0,
            Cause::ADMIN_SHUTDOWN | Cause::PEER_DECONFIGURED | Cause::MAX_PREFIXES | Cause { code: 2, .. }
        ),
        Reason::Sent(_) | Reason::Replaced | Reason::Handover => false,
    }
}

/// How a connection's end bears on the next try.
fn setback_of(reason: &Reason) -> Setback {
    let notification = match reason {
        Reason::Network(_) | Reason::Replaced | Reason::Handover => return Setback::Network,
        Reason::Received(notification) | Reason::Sent(notification) => notification,
    };
    match notification.unwrapped().0 {
        Cause::CONNECTION_COLLISION => Setback::Collision,
        Cause::MAX_PREFIXES
        | Cause::ADMIN_SHUTDOWN
        | Cause::PEER_DECONFIGURED
        | Cause::ADMIN_RESET
        | Cause::CONNECTION_REJECTED
        | Cause::OUT_OF_RESOURCES => Setback::Refused,
        Cause { code: 2, .. } => Setback::Refused,
        _ => Setback::Network,
    }
}
