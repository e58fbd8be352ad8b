//! What survives a restart of the daemon: overrides, flap history, the last state.

use std::collections::BTreeMap;

use super::event::Forced;
use super::journal::State;
use crate::config::model::Name;
use crate::time::Time;

/// All that is kept, by instance. Times are on the current boot's clock; the edge translates after a reboot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// One entry an instance that has anything to remember.
    pub instances: BTreeMap<Name, Remembered>,
    /// `on_stop = "keep"`: until then a successor may resume MASTER though the daemon stopped in order.
    pub kept_until: Option<Time>,
    /// `maintenance on` is in force.
    pub maintenance: bool,
}

/// What is kept of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The state it was in.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// The scripts of that state have run to their end, or there were none. A MASTER whose scripts have not is resumed all
    /// the same, and runs them then.
    pub told: bool,
    /// An operator's override, if one is in force.
    pub forced: Option<Override>,
    /// Takeovers within an hour of a failback, counted for the failback delay.
    pub flaps: u32,
    /// When it last handed back.
    pub last_failback: Option<Time>,
    /// How often in a row it came back as MASTER out of FAULT within an hour of the time before.
    pub recoveries: u32,
    /// When it last did.
    pub last_recovery: Option<Time>,
}

/// An operator's override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// Into which state.
    pub state: Forced,
    /// Until when; None: until `auto`.
    pub until: Option<Time>,
}
