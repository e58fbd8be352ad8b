//! The thread's sleep: until something is due or has come, and a little longer where that saves a turn.
//!
//! A timerfd ends it, in every case: on a machine whose processors are busy it was late by a third of what a time-out of
//! `ppoll` or a `clock_nanosleep` was late by.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

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

/// A timer that is set again only to another time. Nobody reads it: once it has gone off it stays so until it is set.
pub(super) struct Alarm {
    timer: TimerFd,
    at: Option<Time>,
}

impl Alarm {
    /// On the clock that counts the time in which a machine is suspended.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Alarm { timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, at: None })
    }

    fn set(&mut self, at: Option<Time>) -> io::Result<()> {
        if self.at == at {
            return Ok(());
        }
        match at {
            Some(at) => {
                // Zero would disarm it.
                let at = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0).max(1));
                let once = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer.set(once, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.unset()?,
        }
        self.at = at;
        Ok(())
    }
}

impl Worker {
    /// Until something is due, or has come; at least until the next turn may begin.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        let now = self.now();
        let offer = (!self.unheard.is_empty()).then(|| now + OFFER);
        let due = [self.speaker.poll_timeout(), self.retry_at, offer].into_iter().flatten().min();
        let due = due.map(|at| at.max(now));
        let rested = self.turned + self.rest;
        if due.is_none_or(|at| at > rested) {
            self.wait(due, true)?;
            if self.called || !self.rung || self.now() >= rested {
                return Ok(());
            }
        }
        // One sleep for all that comes or falls due until then.
        self.wait(Some(rested.max(now)), false)?;
        self.rung = true;
        Ok(())
    }

    /// Until that time, or for ever; or until the driver calls, or, where packets matter, one has come.
    fn wait(&mut self, until: Option<Time>, packets: bool) -> io::Result<()> {
        self.wake = until;
        self.alarm.set(until)?;
        let of = |n: usize| match n {
            0 => self.alarm.timer.as_fd(),
            _ => self.ports.get(n.wrapping_sub(2)).map_or(self.ear.as_fd(), |port| port.fd()),
        };
        let mut all: [PollFd<'_>; 2 + PORTS] = std::array::from_fn(|n| PollFd::new(of(n), PollFlags::POLLIN));
        let used = if packets { all.len().min(2 + self.ports.len()) } else { 2 };
        let fds = all.get_mut(..used).unwrap_or_default();
        match poll(fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        self.called |= fds.get(1).is_some_and(is_ready);
        self.rung = fds.iter().skip(2).any(is_ready);
        let mut rung = [0; 64];
        while self.called && self.ear.read(&mut rung).is_ok_and(|n| n == rung.len()) {}
        Ok(())
    }
}
