//! TCP as the simulation needs it: two ways with a send buffer each, delay, odd pieces.

use std::collections::VecDeque;
use std::time::Duration;

use super::view::View;
use crate::bgp::{ConnId, Origin};
use crate::time::Time;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(1 + self.below(bound))
    }
}

/// What one node sends.
pub struct Way {
    /// The sender's name for the connection.
    pub conn: ConnId,
    /// Taken from the peer, not yet delivered.
    pub buffer: VecDeque<u8>,
    pub capacity: usize,
    pub written: u64,
    pub acked: u64,
    /// The peer has said that there is more.
    pub wants: bool,
    /// A delivery is planned.
    pub moving: bool,
    /// The sender has closed.
    pub finished: bool,
    /// The receiver does not read before.
    pub slow_until: Time,
    /// What the receiver will have understood.
    pub view: View,
}

/// A connection; `ways[n]` is what node n sends.
pub struct Link {
    pub ways: [Way; 2],
    /// The network drops everything.
    pub dead: bool,
}

impl Link {
    pub fn new(rng: &mut Rng, from: usize, here: ConnId, there: ConnId) -> Self {
        let mut way = |conn| Way {
            conn,
            buffer: VecDeque::new(),
            capacity: 100 + rng.below(6000) as usize,
            written: 0,
            acked: 0,
            wants: false,
            moving: false,
            finished: false,
            slow_until: Time::ZERO,
            view: View::new(),
        };
        let (here, there) = (way(here), way(there));
        Link { ways: if from == 0 { [here, there] } else { [there, here] }, dead: false }
    }

    /// A node's own index is its side.
    pub fn side_of(&self, node: usize) -> usize {
        node
    }

    /// A node died: its name for this connection names nothing any more.
    pub fn forget(&mut self, node: usize) {
        self.ways[node].conn = ConnId { origin: Origin::Incoming, serial: u64::MAX };
        self.ways[node].finished = true;
        self.ways[node].buffer.clear();
    }
}
