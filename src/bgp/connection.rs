//! One TCP connection with a peer, from OPEN to Established (RFC 4271 section 8.2.2: OpenSent, OpenConfirm,
//! Established). What goes before, and what happens when two connections meet, is the [`Peer`](super::Peer)'s.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::adj_rib_out::AdjRibOut;
use super::config::PeerConfig;
use super::counters::Counters;
use super::negotiate::{Negotiated, negotiate};
use super::output::Output;
use super::retry::Retry;
use super::session::{Established, Session};
use super::wire::header::{Frame, MessageType, frame};
use super::wire::notification::{Cause, Notification};
use super::wire::open::Open;
use crate::time::Time;

/// RFC 4271 section 8.2.2: the large hold time that bounds the wait for an OPEN.
const OPEN_HOLD_TIME: Duration = Duration::from_secs(240);
/// Who made a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// We did; the peer numbers these.
    Outgoing,
    /// The peer did; whoever accepts numbers these.
    Incoming,
}

/// Names a connection, or a try at one; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// Who made it.
    pub origin: Origin,
    /// Counts up for each origin.
    pub serial: u64,
}

/// Why a connection or session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// TCP could not connect, or lost the connection; in the system's words.
    Network(String),
    /// The peer said so.
    Received(Notification),
    /// We said so.
    Sent(Notification),
    /// The peer came back on a new connection (RFC 4724 section 4.2).
    Replaced,
    /// We closed without a word, to come back.
    Handover,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Network(words) => f.write_str(words),
            Reason::Received(notification) => write!(f, "the peer closed: {notification}"),
            Reason::Sent(notification) => write!(f, "closed by us: {notification}"),
            Reason::Replaced => f.write_str("the peer restarted: it opened a new connection"),
            Reason::Handover => f.write_str("handed over"),
        }
    }
}

/// What a message led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// No whole message left.
    Wait,
    /// Nothing for the peer to do.
    Done,
    /// A good OPEN: look for a collision, then `accept`.
    Open(Box<Negotiated>),
    /// The session is up.
    Established,
    /// Something for the log.
    Note(String),
}

/// The state of a connection, with what only that state has.
#[derive(Debug)]
pub(crate) enum State {
    OpenSent { hold: Time },
    OpenConfirm(Box<Session>),
    Established(Box<Established>),
}

/// What our KEEPALIVE waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaited {
    /// Strict BFD: the session on the path.
    Bfd,
    /// Connections that crossed: which of them the peer closes.
    Collision,
}

/// Our KEEPALIVE is kept back.
#[derive(Clone, Copy, Debug)]
struct Withheld {
    until: Time,
    by: Awaited,
    /// The peer's has come.
    confirmed: bool,
}

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: ConnId,
    /// When TCP had made it.
    pub made: Time,
    pub local: SocketAddr,
    pub state: State,
    pub output: Output,
    ours: Open,
    withheld: Option<Withheld>,
    received: Vec<u8>,
    consumed: usize,
}

/// What the steps of a connection need from their peer.
pub(crate) struct Context<'a> {
    pub cfg: &'a PeerConfig,
    pub retry: &'a mut Retry,
    pub counters: &'a mut Counters,
    pub now: Time,
}

impl Connection {
    /// A connection that TCP has just made: our OPEN goes out.
    pub fn new(id: ConnId, local: SocketAddr, ours: Open, context: &mut Context<'_>) -> Self {
        let mut output = Output::default();
        ours.put(output.control());
        context.counters.sent.count(MessageType::Open);
        let state = State::OpenSent { hold: context.now + OPEN_HOLD_TIME };
        let (made, received) = (context.now, Vec::new());
        Connection { id, made, local, state, output, ours, withheld: None, received, consumed: 0 }
    }

    /// Takes octets from TCP; `step` looks at them.
    pub fn receive(&mut self, octets: &[u8]) {
        self.received.drain(..self.consumed);
        self.consumed = 0;
        self.received.extend_from_slice(octets);
    }

    /// Handles the next whole message. `Err` ends the connection.
    pub fn step(&mut self, context: &mut Context<'_>) -> Result<Step, Reason> {
        let unread = self.received.get(self.consumed..).unwrap_or(&[]);
        let extended = self.ours.capabilities.extended_message;
        let (kind, length) = match frame(unread, extended).map_err(Reason::Sent)? {
            Frame::Incomplete => return Ok(Step::Wait),
            Frame::Message(kind, length) => (kind, length),
        };
        let message = unread.get(..length).unwrap_or(unread);
        context.counters.received.count(kind);
        self.consumed += length;
        let body = message.get(super::wire::HEADER_LEN..).unwrap_or(&[]);
        if kind == MessageType::Notification {
            return Err(Reason::Received(Notification::parse(body)));
        }
        match &mut self.state {
            State::OpenSent { .. } if kind == MessageType::Open => {
                let open = Open::parse(body).map_err(Reason::Sent)?;
                let negotiated = negotiate(context.cfg, &self.ours, open, self.local.ip());
                negotiated.map(|negotiated| Step::Open(Box::new(negotiated))).map_err(Reason::Sent)
            }
            State::OpenSent { .. } => Err(unexpected(Cause::FSM_OPEN_SENT, kind)),
            State::OpenConfirm(session) if kind == MessageType::Keepalive && self.withheld.is_some() => {
                session.restart_hold(context.now);
                self.withheld = self.withheld.map(|w| Withheld { confirmed: true, ..w });
                Ok(Step::Done)
            }
            State::OpenConfirm(_) if kind == MessageType::Keepalive => {
                self.establish(context.now);
                Ok(Step::Established)
            }
            State::OpenConfirm(_) => Err(unexpected(Cause::FSM_OPEN_CONFIRM, kind)),
            State::Established(established) => {
                established.handle(kind, message, context).map_err(Reason::Sent)
            }
        }
    }

    /// No other connection wins over this one: OpenSent to OpenConfirm.
    ///
    /// `withheld`: what must be settled before the session is; so long our KEEPALIVE may wait for it.
    pub fn accept(
        &mut self,
        negotiated: Negotiated,
        withheld: Option<(Duration, Awaited)>,
        context: &mut Context<'_>,
    ) {
        let mut session = Session { negotiated, hold: None, keepalive: None, kept_alive: None };
        session.restart_hold(context.now);
        match withheld {
            Some((time, by)) => {
                self.withheld = Some(Withheld { until: context.now + time, by, confirmed: false });
            }
            None => {
                self.output.send_keepalive();
                session.restart_keepalive(context);
            }
        }
        self.output.limit_silence(session.send_hold_time(context.cfg));
        self.state = State::OpenConfirm(Box::new(session));
    }

    /// True while our KEEPALIVE waits for that.
    pub fn awaits(&self, what: Awaited) -> bool {
        self.withheld.is_some_and(|w| w.by == what)
    }

    /// What our KEEPALIVE waited for is settled; it waits no longer, or for `next`. True if that makes the session.
    pub fn release(&mut self, next: Option<(Duration, Awaited)>, context: &mut Context<'_>) -> bool {
        let Some(Withheld { confirmed, .. }) = self.withheld.take() else { return false };
        if let Some((time, by)) = next {
            self.withheld = Some(Withheld { until: context.now + time, by, confirmed });
            return false;
        }
        self.output.send_keepalive();
        if let Some(session) = self.session() {
            session.restart_keepalive(context);
        }
        if confirmed {
            self.establish(context.now);
        }
        confirmed
    }

    fn establish(&mut self, now: Time) {
        let placeholder = State::OpenSent { hold: now };
        if let State::OpenConfirm(mut session) = std::mem::replace(&mut self.state, placeholder) {
            session.restart_hold(now);
            let rib = AdjRibOut::new(session.negotiated.encoding, true);
            self.state = State::Established(Box::new(Established::new(*session, rib, now)));
        }
    }

    /// The session that is up, if it is.
    pub fn established(&mut self) -> Option<&mut Established> {
        match &mut self.state {
            State::Established(established) => Some(established),
            _ => None,
        }
    }

    /// What was negotiated, from OpenConfirm on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        match &self.state {
            State::OpenSent { .. } => None,
            State::OpenConfirm(session) => Some(&session.negotiated),
            State::Established(established) => Some(&established.session.negotiated),
        }
    }

    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::OpenSent { .. } => None,
            State::OpenConfirm(session) => Some(session),
            State::Established(established) => Some(&mut established.session),
        }
    }

    /// Lets timers that are due act. `Err` ends the connection.
    pub fn handle_timeout(&mut self, context: &mut Context<'_>) -> Result<(), Reason> {
        let now = context.now;
        if self.hold().is_some_and(|at| at <= now) {
            return Err(Reason::Sent(Notification::new(Cause::HOLD_TIMER_EXPIRED)));
        }
        if let Some(withheld) = self.withheld.filter(|w| w.until <= now) {
            let cause = match withheld.by {
                Awaited::Bfd => Cause::BFD_DOWN,
                Awaited::Collision => Cause::CONNECTION_COLLISION,
            };
            return Err(Reason::Sent(Notification::new(cause)));
        }
        if self.output.silent_until().is_some_and(|at| at <= now) {
            return Err(Reason::Sent(Notification::new(Cause::SEND_HOLD_TIMER_EXPIRED)));
        }
        if let Some(session) = self.session().filter(|session| session.keepalive.is_some_and(|at| at <= now))
        {
            session.restart_keepalive(context);
            self.output.send_keepalive();
        }
        Ok(())
    }

    /// When the next KEEPALIVE goes out if one is wanted now; None without a session.
    pub fn may_ask_for_life_at(&self, now: Time) -> Option<Time> {
        let State::Established(up) = &self.state else { return None };
        let at = up.session.may_keep_alive_at().unwrap_or(now);
        // Where the hold time is three seconds its turn may come before that.
        Some(up.session.keepalive.map_or(at, |due| due.min(at)).max(now))
    }

    /// A KEEPALIVE out of turn, on a session; a second after the last one at the soonest.
    pub fn ask_for_life(&mut self, context: &mut Context<'_>) {
        let State::Established(up) = &mut self.state else { return };
        match up.session.may_keep_alive_at().filter(|at| *at > context.now) {
            Some(at) => up.session.keepalive = Some(up.session.keepalive.map_or(at, |due| due.min(at))),
            None => {
                up.session.restart_keepalive(context);
                self.output.send_keepalive();
            }
        }
    }

    fn hold(&self) -> Option<Time> {
        match &self.state {
            State::OpenSent { hold } => Some(*hold),
            State::OpenConfirm(session) => session.hold,
            State::Established(established) => established.session.hold,
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let keepalive = match &self.state {
            State::OpenSent { .. } => None,
            State::OpenConfirm(session) => session.keepalive,
            State::Established(established) => established.session.keepalive,
        };
        let withheld = self.withheld.map(|w| w.until);
        [self.hold(), self.output.silent_until(), keepalive, withheld].into_iter().flatten().min()
    }

    /// True if `transmit` would give octets.
    pub fn has_output(&mut self) -> bool {
        self.output.has_control() || self.established().is_some_and(|up| up.rib.has_message())
    }

    /// Appends whole messages, at most about `limit` octets; control messages go first.
    pub fn transmit(&mut self, limit: usize, out: &mut Vec<u8>, context: &mut Context<'_>) {
        let start = out.len();
        context.counters.sent.keepalive += self.output.take_control(out);
        if let State::Established(established) = &mut self.state {
            while out.len() - start < limit && established.rib.put_message(out) {
                context.counters.sent.update += 1;
            }
            self.output.handed_out(out.len() - start, context.now);
            established.mark(self.output.queued());
        } else {
            self.output.handed_out(out.len() - start, context.now);
        }
    }

    /// TCP took, or the peer acknowledged, octets: the tokens that became true, with whether it is the acknowledgement.
    pub fn progressed(&mut self) -> Vec<(u64, bool)> {
        let (written, acked) = (self.output.written(), self.output.acked());
        let mut reached = Vec::new();
        if let Some(established) = self.established() {
            established.reach(written, acked, &mut reached);
        }
        reached
    }
}

/// RFC 6608 section 3: Data is the type of the message.
fn unexpected(cause: Cause, kind: MessageType) -> Reason {
    Reason::Sent(Notification::with_data(cause, vec![kind.octet()]))
}
