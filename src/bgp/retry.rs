//! When to try again: back-off that doubles, with jitter from a seed.

use std::time::Duration;

/// Why a wait is needed: it decides how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setback {
    /// The network, or an error that the next try may not meet.
    Network,
    /// The peer does not want us, or the two configurations contradict each other: only a person mends that.
    Refused,
    /// Two connections met (RFC 4271 section 6.8): nobody's fault.
    Collision,
}

/// The longest wait after trouble of the network.
const NETWORK_CAP: Duration = Duration::from_secs(60);
/// The first wait after a refusal.
const REFUSED_FIRST: Duration = Duration::from_secs(30);
/// The longest wait after a refusal.
const REFUSED_CAP: Duration = Duration::from_secs(300);

/// ConnectRetryTimer's values, and all jitter of one peer (RFC 4271 section 10).
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    base: Duration,
    failures: u32,
    random: u64,
}

impl Retry {
    /// `base`: the first wait. Equal seeds give equal waits.
    pub fn new(base: Duration, seed: u64) -> Self {
        Retry { base: base.max(Duration::from_millis(100)), failures: 0, random: seed }
    }

    /// How often ConnectRetryCounter (RFC 4271 section 8) was raised since the last lasting success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A session lasted: the next trouble starts from the first wait.
    pub fn forgive(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after this setback.
    pub fn after(&mut self, setback: Setback) -> Duration {
        let (first, cap) = match setback {
            Setback::Collision => return self.jitter(self.base.min(Duration::from_secs(1))),
            Setback::Network => (self.base, self.base.max(NETWORK_CAP)),
            Setback::Refused => (self.base.max(REFUSED_FIRST), self.base.max(REFUSED_CAP)),
        };
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(cap);
        self.failures = self.failures.saturating_add(1);
        self.jitter(wait)
    }

    /// Three quarters to all of `duration` (RFC 4271 section 10).
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = 750 + (z ^ (z >> 31)) % 251;
        duration.mul_f64(thousandths as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4271 section 10: jitter between 0.75 and 1; FIELD 19: back-off against a peer that refuses.
    #[test]
    fn waits_double_up_to_a_cap_and_differ() {
        let mut retry = Retry::new(Duration::from_secs(5), 7);
        for expected in [5, 10, 20, 40, 60, 60] {
            let wait = retry.after(Setback::Network).as_secs_f64() / f64::from(expected);
            assert!((0.75..=1.0).contains(&wait), "{wait}");
        }
        let waits: Vec<Duration> = (0..100).map(|_| retry.after(Setback::Refused)).collect();
        assert!(waits.iter().all(|wait| (225.0..=300.0).contains(&wait.as_secs_f64())));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
        retry.forgive();
        assert!(retry.after(Setback::Refused) >= Duration::from_millis(22_500));
        assert!(retry.after(Setback::Collision) <= Duration::from_secs(1));
    }
}
