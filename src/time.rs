//! The core's clock: a point in time that the caller supplies, never one that the core reads.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the machine's boot clock (`CLOCK_BOOTTIME`, which goes on counting while suspended).
///
/// Nanoseconds since boot. Signed, because state restored from before the boot lies in the past of
/// it. In a simulation it is whatever the test says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

impl Time {
    /// The boot itself.
    pub const ZERO: Time = Time(0);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: i64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, by: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(by)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e9)
    }
}

fn nanos(d: Duration) -> i64 {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_goes_negative() {
        let t = Time::from_nanos(5);
        assert_eq!((t + Duration::from_nanos(7)).since(t), Duration::from_nanos(7));
        assert_eq!(t.since(t + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(t + Duration::MAX, Time::from_nanos(i64::MAX));
        assert_eq!((t - Duration::from_nanos(6)).as_nanos(), -1);
    }
}
