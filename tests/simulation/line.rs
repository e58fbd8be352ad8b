//! A connection between us and an ISP, as TCP has it, and what can happen to it.

use announcerd::announcer::event::PeerId;
use announcerd::bgp::ConnId;

use crate::view::View;

/// One way of a connection.
#[derive(Debug, Default)]
pub struct Way {
    /// Taken from the speaker, not yet with the other.
    pub octets: Vec<u8>,
    pub written: u64,
    pub acked: u64,
    /// A delivery is due, or waits for the line.
    pub moving: bool,
    /// The speaker closed: what is in the way is the last.
    pub finished: bool,
}

/// A TCP connection, seen from both ends.
#[derive(Debug)]
pub struct Link {
    pub id: u64,
    pub peer: PeerId,
    pub ours: ConnId,
    pub theirs: ConnId,
    /// The ends that still know it.
    pub open: [bool; 2],
    /// What goes to the ISP, and what comes from it.
    pub ways: [Way; 2],
    /// Nothing gets through any more, and nobody is told.
    pub dead: bool,
    /// How much of ours is taken before the far side reads.
    pub capacity: usize,
    /// We have more for it.
    pub wants: bool,
    /// What our octets say, when written and when read.
    pub told: View,
    pub view: View,
}

pub const US: usize = 0;
pub const THEM: usize = 1;

/// What happened on the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Troubles {
    pub sessions: u64,
    /// Two connections at a time.
    pub collisions: u64,
    /// NOTIFICATIONs of either side that say Hold Timer Expired.
    pub expiries: u64,
    /// ROUTE-REFRESHs.
    pub refreshes: u64,
    /// Our octets had to wait for room.
    pub stalls: u64,
    /// Ends that learnt by a reset that the other had forgotten the connection.
    pub half_open: u64,
    /// Connections of ours that a living far side turned away.
    pub turned_away: u64,
}

impl Troubles {
    pub fn add(&mut self, o: &Troubles) {
        self.sessions += o.sessions;
        self.collisions += o.collisions;
        self.expiries += o.expiries;
        self.refreshes += o.refreshes;
        self.stalls += o.stalls;
        self.half_open += o.half_open;
        self.turned_away += o.turned_away;
    }
}
