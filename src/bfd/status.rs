//! What is shown of a session.

use std::time::Duration;

use super::histogram::Histogram;
use super::wire::{Diagnostic, State};
use crate::time::Time;

/// What was counted in a session's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Packets sent.
    pub sent: u64,
    /// Packets taken.
    pub received: u64,
    /// Packets that were for this session and were discarded.
    pub discarded: u64,
    /// Times that it came Up.
    pub up: u64,
    /// Times that it went from Up to another state.
    pub down: u64,
    /// Times that silence was forgiven because we ourselves had been away, or had no room for packets.
    pub forgiven: u64,
}

/// A session as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStatus {
    /// bfd.SessionState.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// bfd.RemoteSessionState.
    pub remote_state: State,
    /// bfd.LocalDiag.
    pub diagnostic: Diagnostic,
    /// Diag of the last packet.
    pub remote_diagnostic: Diagnostic,
    /// bfd.LocalDiscr and bfd.RemoteDiscr.
    pub discriminators: (u32, u32),
    /// The interval of our packets as negotiated; None: the neighbour wants none.
    pub tx_interval: Option<Duration>,
    /// The same of the neighbour's.
    pub rx_interval: Duration,
    /// Silence of this length is death; zero before the first packet.
    pub detection_time: Duration,
    /// bfd.DetectMult and the neighbour's.
    pub multipliers: (u8, u8),
    /// A Poll Sequence is under way.
    pub polling: bool,
    /// What was counted.
    pub counters: Counters,
    /// Why the last packet that was discarded was.
    pub last_discard: Option<String>,
    /// How late our periodic packets left.
    pub lateness: Histogram,
    /// By how much the gaps between the neighbour's packets were longer than agreed.
    pub jitter: Histogram,
}
