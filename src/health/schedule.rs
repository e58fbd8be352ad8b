//! When the next probe is due: regular, spread over the interval, never a burst to catch up.

use std::time::Duration;

use crate::time::Time;

/// The gap between the first probes of two checks, so that a start with thousands of them is no burst.
const STAGGER: Duration = Duration::from_micros(200);

/// Probes start on a grid of this, so that a thousand a second are fifty wake-ups. Intervals shorter than ten of
/// these are not rounded.
const GRID: Duration = Duration::from_millis(20);

/// The golden ratio's fraction: multiples of it modulo one fill the interval evenly for any number of checks.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A regular series of points in time.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
    next: Time,
    phase: Duration,
    started: bool,
}

impl Schedule {
    /// The first is due (almost) at once; the later ones at a phase of their own. `ordinal` numbers the checks.
    pub fn new(now: Time, interval: Duration, ordinal: u32) -> Self {
        let stagger = STAGGER.saturating_mul(ordinal).min(interval);
        let phase = interval.mul_f64((f64::from(ordinal) * GOLDEN).fract());
        Schedule { interval, next: now + stagger, phase, started: false }
    }

    /// When the next probe is due.
    pub fn next(&self) -> Time {
        self.next
    }

    /// The probe that was due has been sent at `now`. Those that were missed meanwhile are left out.
    pub fn sent(&mut self, now: Time) {
        if !self.started {
            // The second probe brings the check to its phase: half an interval away at least, one and a half at most.
            self.started = true;
            self.next = self.next + self.interval / 2 + self.phase;
        } else {
            self.next = self.next + self.interval;
        }
        if self.next <= now {
            let behind = now.since(self.next).as_nanos() / self.interval.as_nanos().max(1) + 1;
            self.next = self.next + self.interval.saturating_mul(u32::try_from(behind).unwrap_or(u32::MAX));
            // Back at its phase, but not right behind this one: both would fail of one and the same trouble.
            if self.next.since(now) < self.interval / 2 {
                self.next = self.next + self.interval;
            }
        }
        if self.interval >= GRID * 10 {
            let grid = i64::try_from(GRID.as_nanos()).unwrap_or(1);
            let over = self.next.as_nanos().rem_euclid(grid);
            // Down to the grid: never later than an interval, and on the grid already the next time.
            self.next = Time::from_nanos(self.next.as_nanos() - over);
        }
    }

    /// The next is due at `now`.
    pub fn hasten(&mut self, now: Time) {
        self.next = self.next.min(now);
    }

    /// A new interval: for a reload.
    pub fn adjust(&mut self, now: Time, interval: Duration) {
        self.interval = interval;
        self.next = self.next.min(now + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn regular_and_without_drift() {
        let t0 = Time::ZERO;
        let mut s = Schedule::new(t0, SECOND, 0);
        assert_eq!(s.next(), t0);
        s.sent(t0);
        let second = s.next();
        s.sent(second + Duration::from_millis(9));
        assert_eq!(s.next(), second + SECOND, "lateness does not add up");
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut s = Schedule::new(Time::ZERO, SECOND, 0);
        s.sent(Time::ZERO);
        let due = s.next();
        let late = due + SECOND * 61;
        s.sent(late);
        assert!(s.next() > late && s.next() <= late + SECOND);
    }

    #[test]
    fn a_thousand_checks_are_spread_over_the_interval() {
        let mut seen = [0; 10];
        for n in 0..1000 {
            let mut s = Schedule::new(Time::ZERO, SECOND, n);
            s.sent(s.next());
            s.sent(s.next());
            let tenth = s.next().as_nanos() % 1_000_000_000 / 100_000_000;
            seen[usize::try_from(tenth).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (50..=200).contains(&n)), "{seen:?}");
    }
}
