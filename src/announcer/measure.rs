//! What is counted for `/metrics`: plain numbers, fed as things happen, copied when somebody asks.
//!
//! Counting is an addition to an integer; words, units and labels are made of a copy, elsewhere ([`crate::metrics`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Announcer;
use super::event::{Outcome, ScriptEnd};
use super::journal::{State, Timeline};
use crate::bgp::counters::Counters;
use crate::config::model::Name;
use crate::fib::object::{Action, Op, OpError, OpId};
use crate::fib::view::Census;
use crate::status::{Status, WallClock, micros};
use crate::time::Time;

/// The upper bounds of a histogram's buckets, in microseconds; what is above the last has a bucket of its own.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How often something took how long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    /// In each bucket alone (not cumulated), as in [`BOUNDS_US`]; the last is for what is above all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All together, microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Once more, so long.
    pub fn observe(&mut self, took: Duration) {
        let us = micros(took);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How often at all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What one check has seen since it was configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckTally {
    /// Good answers.
    pub successes: u64,
    /// Wrong answers, and none.
    pub failures: u64,
    /// Probes that could not be made, or whose answer could not have been seen.
    pub blind: u64,
    /// Round-trip times of good answers.
    pub rtt: Histogram,
}

impl CheckTally {
    /// One more result.
    pub fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Success { rtt } => {
                self.successes += 1;
                if let Some(rtt) = rtt {
                    self.rtt.observe(*rtt);
                }
            }
            Outcome::Failure(_) => self.failures += 1,
            Outcome::Blind(_) => self.blind += 1,
        }
    }
}

/// The steps of a transition after its decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // the steps are explained at `journal::Timeline`
pub enum Step {
    KernelAcked,
    UpdateWritten,
    UpdateAcked,
    NotifyDone,
}

impl Step {
    /// As in `timeline_us`.
    pub fn word(self) -> &'static str {
        match self {
            Step::KernelAcked => "kernel_acked",
            Step::UpdateWritten => "update_written",
            Step::UpdateAcked => "update_acked",
            Step::NotifyDone => "notify_done",
        }
    }
}

/// What all of it has seen since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Transitions, by instance and the state they led to.
    pub transitions: BTreeMap<(Name, State), u64>,
    /// From the decision to each step, by the state that was decided.
    pub reaction: BTreeMap<(State, Step), Histogram>,
    /// From the first bad probe to the decision.
    pub detection: Histogram,
    /// Operations given to the kernel, by verb and kind.
    pub kernel_ops: BTreeMap<(&'static str, &'static str), u64>,
    /// Operations that the kernel refused, or did not answer.
    pub kernel_errors: u64,
    /// How often the kernel was read, and how often that failed.
    pub dumps: u64,
    /// Of these, those that failed.
    pub dump_failures: u64,
    /// Script runs, by instance and end: "ok", "failed", "killed", "not_started".
    pub scripts: BTreeMap<(Name, &'static str), u64>,
    /// How often we found that we had not run for a while.
    pub absences: u64,
}

impl Tally {
    /// A transition was decided.
    pub(super) fn transition(&mut self, name: &Name, to: State, timeline: &Timeline) {
        *self.transitions.entry((name.clone(), to)).or_default() += 1;
        if let (Some(first), Some(decision)) = (timeline.first_bad_probe, timeline.decision) {
            self.detection.observe(decision.since(first));
        }
    }

    /// More of a transition's timeline is known; a step counts when it is first done.
    pub(super) fn progress(&mut self, to: State, before: &Timeline, after: &Timeline) {
        let Some(decision) = after.decision else { return };
        let steps = [
            (Step::KernelAcked, before.kernel_acked, after.kernel_acked),
            (Step::UpdateWritten, before.update_written, after.update_written),
            (Step::UpdateAcked, before.update_acked, after.update_acked),
            (Step::NotifyDone, before.notify_done, after.notify_done),
        ];
        for (step, before, after) in steps {
            if let (None, Some(at)) = (before, after) {
                self.reaction.entry((to, step)).or_default().observe(at.since(decision));
            }
        }
    }

    /// Operations go out.
    pub(super) fn ops(&mut self, ops: &[Op]) {
        for op in ops {
            let action: &Action = &op.action;
            *self.kernel_ops.entry((action.verb(), action.object().kind())).or_default() += 1;
        }
    }

    /// The kernel's answers.
    pub(super) fn op_results(&mut self, results: &[(OpId, Result<(), OpError>)]) {
        self.kernel_errors += results.iter().filter(|(_, r)| r.is_err()).count() as u64;
    }

    /// An instance is no more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.transitions.retain(|(of, _), _| of != name);
        self.scripts.retain(|(of, _), _| of != name);
    }

    /// A script ended.
    pub(super) fn script(&mut self, name: &Name, end: &ScriptEnd) {
        let word = match end {
            ScriptEnd::Exited(0) => "ok",
            ScriptEnd::Exited(_) => "failed",
            ScriptEnd::Killed(_) => "killed",
            ScriptEnd::NotStarted(_) => "not_started",
        };
        *self.scripts.entry((name.clone(), word)).or_default() += 1;
    }
}

/// A copy of everything that `/metrics` tells.
#[derive(Clone, PartialEq, Debug)]
pub struct Measures {
    /// The status, without the kernel's objects.
    pub status: Status,
    /// What was counted.
    pub tally: Tally,
    /// What each check saw, in the order of the configuration.
    pub checks: Vec<(Name, CheckTally)>,
    /// What each BGP peer counted.
    pub bgp: Vec<(String, Counters)>,
    /// Kernel objects, counted.
    pub kernel: Census,
    /// True while `maintenance on` is in force.
    pub maintenance: bool,
    /// How long the daemon has run.
    pub uptime: Duration,
    /// How late timers were acted on; the driver's own.
    pub lateness: Histogram,
    /// What became of the notices for each `notify_url`; the edge's own.
    pub hooks: Vec<(Name, crate::hook::Tally)>,
}

impl Announcer {
    /// A copy of all that is counted. What it costs grows with checks and peers, never with routes or history.
    pub fn measure(&self, now: Time, clock: &WallClock) -> Measures {
        Measures {
            status: self.overview(now, clock),
            tally: self.tally.clone(),
            checks: self.checks_in_order().map(|c| (c.config.name.clone(), c.tally().clone())).collect(),
            bgp: self.bgp_counters(),
            kernel: self.fib.census(),
            maintenance: self.in_maintenance(),
            uptime: now.since(self.started),
            lateness: Histogram::default(),
            hooks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut h = Histogram::default();
        for us in [0, 100, 101, 60_000_000, 60_000_001] {
            h.observe(Duration::from_micros(us));
        }
        assert_eq!((h.counts[0], h.counts[1], h.counts[17], h.counts[18]), (2, 1, 1, 1));
        assert_eq!((h.count(), h.sum_us), (5, 120_000_202));
        h.observe(Duration::MAX);
        assert_eq!(h.sum_us, u64::MAX, "saturates");
    }

    #[test]
    fn a_step_counts_once() {
        let mut tally = Tally::default();
        let at = |ms| Some(Time::ZERO + Duration::from_millis(ms));
        let decided = Timeline { decision: at(10), ..Timeline::default() };
        let acked = Timeline { kernel_acked: at(12), ..decided };
        tally.progress(State::Master, &decided, &acked);
        tally.progress(State::Master, &acked, &Timeline { kernel_acked: at(99), ..acked });
        let h = &tally.reaction[&(State::Master, Step::KernelAcked)];
        assert_eq!((h.count(), h.sum_us), (1, 2000));
    }
}
