//! The kernel's side: operations out, answers and dumps in, and when to look again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::effect::Level;
use super::event::{Dump, DumpId};
use super::timers::{InstanceId, Timer};
use super::{Announcer, Effect};
use crate::fib::object::{OpError, OpId};
use crate::time::Time;

/// How often the kernel is read though nothing was said.
const SCAN: Duration = Duration::from_secs(10);
/// News come in swarms: from one dump to the next at least this long…
const DUMP_GAP: Duration = Duration::from_millis(100);
/// …after one that failed at least this long…
const DUMP_FAILED: Duration = Duration::from_secs(1);
/// …and this many times as long as a dump takes, so that reading never is all that we do.
const DUMP_SHARE: u32 = 10;
/// A dump that has not come back by then is asked for again.
const DUMP_BOUND: Duration = Duration::from_secs(15);
/// So many dumps that failed one after the other are enough for who wants to leave.
const UNREADABLE: u32 = 3;

/// Where the reading of the kernel stands.
#[derive(Clone, Debug, Default)]
pub(super) struct DumpState {
    /// Under way since then.
    running: Option<(DumpId, Time)>,
    /// Something changed while it ran, or before it may run.
    again: bool,
    not_before: Time,
    /// The last number given.
    last: u64,
    /// Links that were heard of while it ran: what it says of them is older.
    told: BTreeSet<String>,
    /// The last one failed, for that reason.
    failed: Option<String>,
    /// So many in a row did, or never came back.
    failures: u32,
}

impl DumpState {
    /// There was news of that link.
    pub(super) fn link_told(&mut self, name: &str) {
        if self.running.is_some() {
            self.told.insert(name.to_owned());
        }
    }
}

impl Announcer {
    /// True if nothing is known of the kernel, and that will hardly change.
    pub(super) fn is_kernel_unreadable(&self) -> bool {
        !self.fib.is_known() && self.dump.failures >= UNREADABLE
    }

    /// True if the kernel is not being read.
    pub(super) fn dump_is_idle(&self) -> bool {
        self.dump.running.is_none() && !self.dump.again
    }

    /// Something may have changed: read the kernel soon.
    pub(super) fn want_dump(&mut self, now: Time) {
        if self.dump.running.is_some() {
            self.dump.again = true;
        } else if self.dump.not_before > now {
            self.dump.again = true;
            self.timers.set(Timer::Scan, Some(self.dump.not_before));
        } else {
            self.start_dump(now);
        }
    }

    fn start_dump(&mut self, now: Time) {
        self.dump.last += 1;
        let id = DumpId(self.dump.last);
        self.dump.running = Some((id, now));
        self.dump.again = false;
        self.dump.told.clear();
        self.fib.dump_started();
        self.timers.set(Timer::Scan, Some(now + DUMP_BOUND));
        self.emit(Effect::Dump(id));
    }

    pub(super) fn on_scan(&mut self, now: Time) {
        if self.dump.running.take().is_some() {
            self.dump.failures = self.dump.failures.saturating_add(1);
            self.log(Level::Error, None, "the kernel's routes could not be read in time; trying again");
        }
        self.start_dump(now);
    }

    pub(super) fn on_dump(&mut self, id: DumpId, result: Result<Dump, String>, now: Time) {
        let Some((running, since)) = self.dump.running else { return };
        if running != id {
            return;
        }
        self.dump.running = None;
        self.tally.dumps += 1;
        self.tally.dump_failures += u64::from(result.is_err());
        self.dump.failures = if result.is_ok() { 0 } else { self.dump.failures.saturating_add(1) };
        let least = if result.is_ok() { DUMP_GAP } else { DUMP_FAILED };
        let gap = least.max(now.since(since).saturating_mul(DUMP_SHARE));
        self.dump.not_before = now + gap;
        let next = if self.dump.again || result.is_err() { gap } else { SCAN };
        self.timers.set(Timer::Scan, Some(now + next));
        match result {
            Ok(dump) => {
                self.dump.failed = None;
                self.take_in(dump, now);
            }
            Err(why) if self.dump.failed.as_ref() == Some(&why) => {}
            Err(why) => {
                self.log(Level::Error, None, format!("the kernel's routes cannot be read: {why}"));
                self.dump.failed = Some(why);
            }
        }
    }

    fn take_in(&mut self, dump: Dump, now: Time) {
        let first = !self.fib.is_known();
        let told = std::mem::take(&mut self.dump.told);
        self.links.retain(|name, _| told.contains(name));
        let others = dump.links.into_iter().filter(|l| !told.contains(&l.name));
        self.links.extend(others.map(|l| (l.name.clone(), l)));
        self.nets = dump.nets;
        self.locate_gateways();
        self.fib.dumped(dump.objects);
        self.refresh_told_checks(now);
        if first {
            // Who leaves already connects to nobody: nobody would have to be told, or waited for.
            if self.stopping.is_none() {
                self.start_peers(now);
            }
            let ids: Vec<InstanceId> = self.members.keys().copied().collect();
            for id in ids {
                self.evaluate(id, now);
            }
        }
    }

    pub(super) fn on_ops(&mut self, results: Vec<(OpId, Result<(), OpError>)>, now: Time) {
        self.tally.op_results(&results);
        if self.fib.done(results, now) {
            self.want_dump(now);
        }
    }

    /// Sends out what is due.
    pub(super) fn plan_kernel(&mut self, now: Time) {
        let ops = self.fib.plan(now);
        if !ops.is_empty() {
            self.tally.ops(&ops);
            self.emit(Effect::Kernel(ops));
        }
        for note in self.fib.take_notes() {
            self.log(Level::Warn, None, note);
        }
        self.timers.set(Timer::Retry, self.fib.retry_at());
    }
}
