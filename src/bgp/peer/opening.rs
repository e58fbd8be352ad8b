//! A connection on its way to a session: made, opened (RFC 4271 section 6.8), Established.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Dial, Peer};
use crate::bgp::connection::{Awaited, ConnId, Connection, Context, Origin, Reason, State};
use crate::bgp::event::PeerEffect;
use crate::bgp::negotiate::{Negotiated, our_open};
use crate::bgp::retry::Setback;
use crate::bgp::wire::notification::{Cause, Notification};

/// How long the peer has to close one of two connections that crossed.
const CROSSING: Duration = Duration::from_secs(5);

impl Peer {
    fn begin(&mut self, id: ConnId, local: SocketAddr) {
        let ours = our_open(&self.cfg, self.restart, local.ip(), self.plain);
        let Peer { cfg, retry, counters, now, .. } = self;
        let mut context = Context { cfg, retry, counters, now: *now };
        self.connections.push(Connection::new(id, local, ours, &mut context));
    }

    pub(super) fn connected(&mut self, id: ConnId, local: SocketAddr) {
        match self.dial {
            Dial::Connecting { conn, .. } if conn == id => {
                self.dial = Dial::Off;
                self.begin(id, local);
            }
            // Too late: given up, or stopped.
            _ => self.emit_close(id, Vec::new()),
        }
    }

    pub(super) fn connect_failed(&mut self, id: ConnId, words: String) {
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

    pub(super) fn accepted(&mut self, id: ConnId, local: SocketAddr) {
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

    /// A good OPEN came: RFC 4271 section 6.8 before anything else may happen on the connection.
    pub(super) fn opened(&mut self, id: ConnId, negotiated: Negotiated) -> Result<(), Reason> {
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
    pub(super) fn uncross(&mut self) {
        if self.duty.ends() || self.connections.iter_mut().any(|c| c.established().is_some()) {
            return;
        }
        let waiting = self.connections.iter().find(|connection| connection.awaits(Awaited::Collision));
        let Some(id) = waiting.map(|connection| connection.id) else { return };
        let next = self.bfd_wait();
        self.release(id, next);
    }

    /// What the connection's KEEPALIVE waited for is settled.
    pub(in crate::bgp) fn release(&mut self, id: ConnId, next: Option<(Duration, Awaited)>) {
        let mut is_up = false;
        let released = self.with(id, |connection, context| {
            is_up = connection.release(next, context);
            Ok(())
        });
        if released.is_ok() && is_up {
            self.session_up(id);
        }
    }

    pub(in crate::bgp) fn session_up(&mut self, id: ConnId) {
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
}
