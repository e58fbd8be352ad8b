//! A hash for keys that nobody outside chooses: the operator's objects, our own numbers. A bulk of 100,000 routes looks
//! each key up some twenty times, and the standard library's hash, made against attackers, was a third of that.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// [`HashMap`] with [`Mix`].
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;
/// [`HashSet`] with [`Mix`].
pub type Set<K> = HashSet<K, BuildHasherDefault<Mix>>;

/// The fraction of the golden ratio in 64 bits: an odd number without a pattern.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies and folds both halves of the product together: every bit of the input reaches high and low bits, which
/// the table uses both.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mix(u64);

impl Mix {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ ODD) * u128::from(ODD);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.word(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.word(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::object::Key;
    use std::hash::BuildHasher;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Neighbouring prefixes, of which bulks are made, spread evenly over high and low bits.
    #[test]
    fn neighbours_do_not_collide() {
        let route = |to: String| Key::Route { table: 254, to: to.parse().unwrap(), metric: 0 };
        let v4 = (0..1 << 14).map(|i| route(format!("{}/32", Ipv4Addr::from(0x0a00_0000 + i))));
        let v6 =
            (0..1 << 14).map(|i: u128| route(format!("{}/64", Ipv6Addr::from(0x2001_0db8 << 96 | i << 64))));
        let hasher = BuildHasherDefault::<Mix>::default();
        for keys in [v4.collect::<Vec<_>>(), v6.collect()] {
            let (mut low, mut high) = (vec![0u32; 1 << 10], vec![0u32; 1 << 7]);
            for key in &keys {
                let hash = hasher.hash_one(key);
                low[(hash & 0x3ff) as usize] += 1;
                high[(hash >> 57) as usize] += 1;
            }
            // On average 16 and 128.
            assert!(low.iter().all(|n| *n < 48), "{:?}", low.iter().max());
            assert!(high.iter().all(|n| (64..256).contains(n)), "{high:?}");
        }
    }
}
