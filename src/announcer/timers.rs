//! Timers are data: one enum, one table. Setting a timer that runs moves it.

use std::collections::{BTreeSet, HashMap};

use super::event::{PeerId, ProbeId};
use crate::bfd::SessionId;
use crate::time::Time;

/// The number of a check at run time; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CheckId(pub u32);

/// The number of an instance at run time; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId(pub u32);

/// Everything that happens because time passed; at the same time in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A probe has had its time. (Before the next one goes out, which may be the one that decides.)
    ProbeTimeout(ProbeId),
    /// A check's next probe is due.
    Probe(CheckId),
    /// An instance has something to decide: a delay is over, an unknown has lapsed, an override expires.
    Instance(InstanceId),
    /// A script's time is up, or its next try is due.
    Script(InstanceId),
    /// Operations that were refused are due again.
    Retry,
    /// Kernel and memory are read and compared though nobody said that anything changed.
    Scan,
    /// A BGP peer has something to do.
    Peer(PeerId),
    /// A BFD session has had time enough to come up.
    Bfd(SessionId),
    /// Of a next hop nothing is known any more: looked at after every event.
    Lapse,
    /// What the peers were told counts as complete, whether INIT is over or not.
    InitOver,
    /// There has been no BGP session for a while.
    NoSession,
    /// The peers have been told of the maintenance; the instances follow.
    Maintenance,
    /// A drill's step has had its time, or its hold is over.
    Drill,
    /// The peers have had their moment to hear that a drill is over; the handover follows.
    Handover,
    /// A stop has taken as long as it may.
    StopBound,
}

/// The running timers.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    times: HashMap<Timer, Time>,
}

impl Timers {
    /// Runs `timer` until `at`; None stops it.
    pub fn set(&mut self, timer: Timer, at: Option<Time>) {
        if let Some(old) = self.times.get(&timer) {
            if Some(*old) == at {
                return;
            }
            self.by_time.remove(&(*old, timer));
        }
        match at {
            Some(at) => {
                self.times.insert(timer, at);
                self.by_time.insert((at, timer));
            }
            None => {
                self.times.remove(&timer);
            }
        }
    }

    /// True if `timer` runs.
    pub fn runs(&self, timer: Timer) -> bool {
        self.times.contains_key(&timer)
    }

    /// When the first timer ends, and which.
    pub fn next(&self) -> Option<(Time, Timer)> {
        self.by_time.first().copied()
    }

    /// All that run, by their time.
    pub fn all(&self) -> impl Iterator<Item = (Time, Timer)> {
        self.by_time.iter().copied()
    }

    /// Takes out the first timer that has ended by `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_of_time_and_once_each() {
        let mut timers = Timers::default();
        let t = Time::from_nanos;
        timers.set(Timer::Scan, Some(t(5)));
        timers.set(Timer::Retry, Some(t(3)));
        timers.set(Timer::Scan, Some(t(1)));
        timers.set(Timer::StopBound, Some(t(2)));
        timers.set(Timer::StopBound, None);
        assert_eq!(timers.next(), Some((t(1), Timer::Scan)));
        assert_eq!(timers.pop_due(t(4)), Some(Timer::Scan));
        assert_eq!(timers.pop_due(t(4)), Some(Timer::Retry));
        assert_eq!(timers.pop_due(t(4)), None);
    }
}
