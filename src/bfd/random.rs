//! Randomness from a seed: jitter (RFC 5880 section 6.8.7), discriminators, first sequence numbers.

use std::time::Duration;

/// SplitMix64. Equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Thirty-two bits of it.
    pub fn word(&mut self) -> u32 {
        (self.draw() >> 32) as u32
    }
}

/// The share of an interval that a packet waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(u32);

impl Share {
    const WHOLE: u64 = 1_000_000;

    /// RFC 5880 section 6.8.7: "reduced by a random value of 0 to 25%"; at a Detect Mult of 1 "no more than 90%, and no
    /// less than 75%".
    pub fn draw(random: &mut Random, multiplier: u8) -> Self {
        let (least, most) = if multiplier == 1 { (750_000, 900_000) } else { (750_000, Self::WHOLE) };
        Share((least + random.draw() % (most - least + 1)) as u32)
    }

    /// That share of the interval.
    pub fn of(self, interval: Duration) -> Duration {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let (wholes, rest) = (nanos / Self::WHOLE, nanos % Self::WHOLE);
        Duration::from_nanos(wholes * u64::from(self.0) + rest * u64::from(self.0) / Self::WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5880 section 6.8.7.
    #[test]
    fn jitter_is_within_its_bounds_and_uses_them() {
        let mut random = Random::new(1);
        for (multiplier, most) in [(3, 100_000), (1, 90_000)] {
            let interval = Duration::from_millis(100);
            let waits: Vec<u128> =
                (0..10_000).map(|_| Share::draw(&mut random, multiplier).of(interval).as_micros()).collect();
            let (low, high) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!((75_000..75_100).contains(low) && (most - 100..=most).contains(high), "{low} {high}");
        }
    }
}
