//! The thread's sleep: until something is due or has come, and a little longer where that saves a turn.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::{OFFER, Worker};
use crate::time::Time;

/// The longest rest between two turns where the next event is here already.
const REST: Duration = Duration::from_millis(4);
/// The part of the shortest interval that such a rest may be.
const REST_SHARE: u32 = 25;
/// The sockets that there may be: of each family, of one hop and of several.
const PORTS: usize = 4;

/// How far apart turns begin at least, where that is the shortest interval.
///
/// With hundreds of sessions a turn for each packet costs more than the packets. So a turn waits until it may find more than
/// one; after a quiet time nothing waits, and the kernel's stamp tells when a packet came.
pub(super) fn rest(shortest: Duration) -> Duration {
    (shortest / REST_SHARE).min(REST)
}

impl Worker {
    /// Until something is due, or has come; at least until the next turn may begin.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        let now = self.now();
        let offer = (!self.unheard.is_empty()).then(|| now + OFFER);
        let due = [self.speaker.poll_timeout(), self.retry_at, offer].into_iter().flatten().min();
        let due = due.map(|at| at.max(now));
        let rested = self.turned + self.rest;
        if due.is_some_and(|at| at <= rested) {
            // One sleep instead of a wait for the first of a crowd and a rest then.
            self.wake = Some(rested.max(now));
            self.rest_until(rested);
            return self.look(Some(Duration::ZERO));
        }
        self.wake = due;
        self.look(due.map(|at| at.since(now)))?;
        if !self.called && self.rest_until(rested) {
            self.rung = true;
        }
        Ok(())
    }

    /// Looks whether the driver calls or packets have come; waits so long for that, or for ever. For a real-time thread the
    /// kernel ends that on the microsecond; what a suspended machine sleeps is not part of it, but of the boot clock, which
    /// then tells that we were away.
    fn look(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let of = |n: usize| match n.checked_sub(1).and_then(|n| self.ports.get(n)) {
            Some(port) => port.fd(),
            None => self.ear.as_fd(),
        };
        let mut all: [PollFd<'_>; 1 + PORTS] = std::array::from_fn(|n| PollFd::new(of(n), PollFlags::POLLIN));
        let used = all.len().min(1 + self.ports.len());
        let fds = all.get_mut(..used).unwrap_or_default();
        match ppoll(fds, wait.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        self.called |= fds.first().is_some_and(is_ready);
        self.rung = fds.iter().skip(1).any(is_ready);
        let mut rung = [0; 64];
        while self.called && self.ear.read(&mut rung).is_ok_and(|n| n == rung.len()) {}
        Ok(())
    }

    /// True if there was time to sleep.
    fn rest_until(&mut self, rested: Time) -> bool {
        let left = rested.since(self.now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        !left.is_zero()
    }
}
