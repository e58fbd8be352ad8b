//! A peer that leaves: BFD, maintenance, stop, handover.

use std::time::Duration;

use super::connection::{Awaited, ConnId, Connection, Reason, State};
use super::drain::{Drain, Duty, last_words};
use super::event::{PeerEffect, StopCause};
use super::peer::{Dial, Peer};
use super::table::{Claim, Wanted};
use super::wire::notification::{Cause, Notification};

impl Peer {
    /// RFC 9384: Cease with its own subcode.
    pub(super) fn bfd_down(&mut self) {
        self.bfd_is_up = false;
        let up = self.connections.iter().filter(|c| !matches!(c.state, State::OpenSent { .. }));
        let ids: Vec<ConnId> = up.map(|connection| connection.id).collect();
        for id in ids {
            self.close(id, Reason::Sent(Notification::new(Cause::BFD_DOWN)));
        }
    }

    /// What waited for BFD goes on: our KEEPALIVE, and the session if the peer's has come.
    pub(super) fn bfd_up(&mut self) {
        self.bfd_is_up = true;
        for id in self.connection_ids() {
            if self.connection(id).is_some_and(|connection| connection.awaits(Awaited::Bfd)) {
                self.release(id, None);
            }
        }
    }

    /// Takes a drain's next step, if it is due.
    pub(super) fn drain(&mut self) {
        let manner = self.duty.manner(self.now);
        self.for_established(|up| up.rib.set_manner(manner));
        if !self.duty.ends() {
            return;
        }
        let quiet = self.connections.iter_mut().all(|connection| {
            let told = connection.established().is_none_or(|up| up.rib.is_settled());
            told && connection.output.written() == connection.output.queued() && !connection.has_output()
        });
        let gone = self.connections.is_empty();
        let Some(cause) = self.duty.finished(self.now, quiet, gone) else { return };
        for id in self.connection_ids() {
            if self.keeps(id) {
                self.close(id, Reason::Handover);
                continue;
            }
            let hard = self.connection(id).is_some_and(|c| c.negotiated().is_some_and(|n| n.hard_reset));
            let notification =
                if hard && flushes(cause.cause) { cause.clone().into_hard_reset() } else { cause.clone() };
            self.close(id, Reason::Sent(notification));
        }
        self.stopped();
    }

    fn stopped(&mut self) {
        self.duty = Duty::Stopped;
        self.effects.push_back(PeerEffect::Stopped);
    }

    pub(super) fn maintain(&mut self, moment: Duration) {
        if matches!(self.duty, Duty::Run) {
            self.duty = Duty::Maintenance(Drain::begin(moment, self.now));
        }
    }

    /// Of what is wanted this outlives the stop that follows, where it can.
    pub(super) fn keep(&mut self, claims: Vec<Claim>) {
        self.kept = Wanted { table: self.wanted.table.clone(), claims };
        let kept = std::mem::take(&mut self.kept);
        self.for_established(|up| {
            if up.session.negotiated.graceful_restart {
                up.rib.set_kept(&kept);
            }
        });
        self.kept = kept;
    }

    /// True if the connection is to be closed without a word: RFC 4724 section 4.2, the peer then retains what it was not
    /// told to forget.
    fn keeps(&self, id: ConnId) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let helps = connection.negotiated().is_some_and(|n| n.graceful_restart);
        helps
            && match &connection.state {
                State::Established(up) => up.rib.keeps_something(),
                _ => self.kept.claims.iter().any(|claim| *claim != Claim::None),
            }
    }

    pub(super) fn stop(&mut self, moment: Duration, cause: StopCause, message: &str) {
        if self.duty.ends() {
            return;
        }
        let ids = self.connection_ids();
        if ids.iter().any(|id| self.keeps(*id)) && self.connections.iter_mut().all(keeps_everything) {
            return self.hand_over();
        }
        self.cancel_dial();
        let up = self.connections.iter_mut().any(|connection| connection.established().is_some());
        let drain = match &self.duty {
            // Already drained, or on its way.
            Duty::Maintenance(drain) => *drain,
            _ if up => Drain::begin(moment, self.now),
            _ => Drain::Withdrawn { since: self.now },
        };
        self.duty = Duty::Stopping { drain, last_words: last_words(cause, message) };
    }

    fn cancel_dial(&mut self) {
        if let Dial::Connecting { conn, .. } = std::mem::replace(&mut self.dial, Dial::Off) {
            self.emit_close(conn, Vec::new());
        }
    }

    pub(super) fn hand_over(&mut self) {
        if self.duty == Duty::Stopped {
            return;
        }
        self.cancel_dial();
        self.duty = Duty::Stopped;
        for id in self.connection_ids() {
            let kept =
                self.connection(id).is_some_and(|c| c.negotiated().is_some_and(|n| n.graceful_restart));
            let cease = Reason::Sent(Notification::new(Cause::ADMIN_SHUTDOWN));
            self.close(id, if kept { Reason::Handover } else { cease });
        }
        self.stopped();
    }
}

fn keeps_everything(connection: &mut Connection) -> bool {
    connection.established().is_none_or(|up| up.rib.keeps_everything())
}

/// RFC 8538 section 4: what should not leave routes behind is sent as Hard Reset.
fn flushes(cause: Cause) -> bool {
    matches!(cause, Cause::ADMIN_SHUTDOWN | Cause::PEER_DECONFIGURED)
}
