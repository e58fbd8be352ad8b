//! How late something was, again and again: counts in buckets that double.

use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; one more bucket has what is above.
pub const BOUNDS_US: [u64; 12] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000];

/// A histogram of durations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// Counts of the buckets of [`BOUNDS_US`], and of what is above, last.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The greatest, in microseconds.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The bound below which that share (0 to 1) lies, in microseconds; the greatest value for what is above all bounds.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut so_far = 0;
        for (count, bound) in self.counts.iter().zip(BOUNDS_US) {
            so_far += count;
            if so_far >= wanted {
                return bound.min(self.max_us);
            }
        }
        self.max_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lie_in_their_buckets() {
        let mut h = Histogram::default();
        for us in [10, 50, 51, 700, 5_000_000] {
            h.record(Duration::from_micros(us));
        }
        assert_eq!(h.counts()[..5], [2, 1, 0, 0, 1]);
        assert_eq!((h.total(), h.max_us(), h.counts().last()), (5, 5_000_000, Some(&1)));
        assert_eq!((h.quantile_us(0.4), h.quantile_us(1.0)), (50, 5_000_000));
        assert_eq!(Histogram::default().quantile_us(0.99), 0);
    }
}
