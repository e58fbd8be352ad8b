//! What goes to TCP on one connection: control messages, and how far the octets have come.

use std::time::Duration;

use super::wire::header::put_keepalive;
use crate::time::Time;

/// The sending side of a connection. UPDATEs are not queued here: see [`super::adj_rib_out`].
#[derive(Debug, Default)]
pub(crate) struct Output {
    control: Vec<u8>,
    /// At most one waits: a peer that reads slowly does not pile them up.
    keepalive: bool,
    queued: u64,
    written: u64,
    acked: u64,
    /// The owner of the socket knows that there is something to fetch.
    signalled: bool,
    limit: Option<Duration>,
    silent_until: Option<Time>,
}

impl Output {
    /// For messages that go before everything else.
    pub fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    pub fn send_keepalive(&mut self) {
        self.keepalive = true;
    }

    pub fn has_control(&self) -> bool {
        self.keepalive || !self.control.is_empty()
    }

    /// Moves control messages to `out`; the number of KEEPALIVEs among them.
    pub fn take_control(&mut self, out: &mut Vec<u8>) -> u64 {
        out.append(&mut self.control);
        if std::mem::take(&mut self.keepalive) {
            put_keepalive(out);
            return 1;
        }
        0
    }

    /// RFC 9687: how long TCP may take nothing while something waits; `None`: for ever.
    pub fn limit_silence(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    /// When SendHoldTimer expires.
    pub fn silent_until(&self) -> Option<Time> {
        self.silent_until
    }

    /// There is something to fetch: true if the owner of the socket has to be told.
    pub fn signal(&mut self, now: Time) -> bool {
        self.start_timer(now);
        !std::mem::replace(&mut self.signalled, true)
    }

    /// `count` octets were fetched.
    pub fn handed_out(&mut self, count: usize, now: Time) {
        self.queued += count as u64;
        if count == 0 {
            self.signalled = false;
            if self.written == self.queued {
                self.silent_until = None;
            }
        } else {
            self.start_timer(now);
        }
    }

    fn start_timer(&mut self, now: Time) {
        if self.silent_until.is_none() {
            self.silent_until = self.limit.map(|limit| now + limit);
        }
    }

    /// TCP has taken octets up to `total`.
    pub fn set_written(&mut self, total: u64, now: Time) {
        let total = total.min(self.queued);
        if total > self.written {
            self.written = total;
            self.silent_until = None;
            if self.written < self.queued || self.signalled {
                self.start_timer(now);
            }
        }
    }

    /// The peer's TCP has acknowledged octets up to `total`.
    pub fn set_acked(&mut self, total: u64) {
        self.acked = self.acked.max(total.min(self.written));
    }

    pub fn queued(&self) -> u64 {
        self.queued
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn acked(&self) -> u64 {
        self.acked
    }
}
