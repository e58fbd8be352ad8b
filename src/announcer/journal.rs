//! The decision journal: every transition with its cause, and when each step of it was done.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::config::model::Name;
use crate::time::Time;

/// The state of an instance, in keepalived's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Started; the checks have not decided yet.
    Init,
    /// The primary serves; we stand by.
    Backup,
    /// We announce.
    Master,
    /// We must not announce: `require` is unmet.
    Fault,
    /// Leaving.
    Stop,
}

impl State {
    /// The word: INIT, BACKUP, MASTER, FAULT or STOP.
    pub fn word(self) -> &'static str {
        match self {
            State::Init => "INIT",
            State::Backup => "BACKUP",
            State::Master => "MASTER",
            State::Fault => "FAULT",
            State::Stop => "STOP",
        }
    }
}

/// When each step of a transition was done. A step that has not been, or does not apply, is None.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeline {
    /// The first failed probe of the streak that led here.
    pub first_bad_probe: Option<Time>,
    /// The state changed.
    pub decision: Option<Time>,
    /// The kernel acknowledged everything that the new state wants.
    pub kernel_acked: Option<Time>,
    /// The UPDATE is in the socket.
    pub update_written: Option<Time>,
    /// The peer's TCP has the UPDATE.
    pub update_acked: Option<Time>,
    /// The scripts of the transition ended.
    pub notify_done: Option<Time>,
}

/// One transition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Counts up from 1, one for each transition.
    pub seq: u64,
    /// When it was decided.
    pub time: Time,
    /// Whose.
    pub instance: Name,
    /// From which state.
    pub from: State,
    /// To which state.
    pub to: State,
    /// Why, in words.
    pub reason: String,
    /// A drill was under way.
    pub drill: bool,
    /// Its steps, as far as they are done.
    pub timeline: Timeline,
}

/// The last transitions, oldest first, bounded.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    records: VecDeque<Record>,
    last_seq: u64,
}

/// Records that are kept; older ones go.
pub const CAPACITY: usize = 1000;

impl Journal {
    /// Adds a transition and returns it, numbered.
    pub fn push(
        &mut self,
        time: Time,
        instance: Name,
        from: State,
        to: State,
        reason: String,
    ) -> &mut Record {
        self.last_seq += 1;
        if self.records.len() == CAPACITY {
            self.records.pop_front();
        }
        let timeline = Timeline { decision: Some(time), ..Timeline::default() };
        let record = Record { seq: self.last_seq, time, instance, from, to, reason, drill: false, timeline };
        self.records.push_back(record);
        self.records.back_mut().expect("just pushed")
    }

    /// Goes on counting after `seq`, the last number of an earlier run.
    pub fn number_after(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq);
    }

    /// The record of that number, while it is kept.
    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Record> {
        let first = self.records.front()?.seq;
        self.records.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// The number of the last transition; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Records with a number above `seq`, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |r| r.seq > seq)
    }
}
