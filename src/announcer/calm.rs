//! Long stretches in which every probe succeeds, passed in one step: what makes the back-test of a year a matter of
//! seconds. The daemon never does this: it lives through its time.

use std::time::Duration;

use super::Announcer;
use super::timers::{CheckId, Timer};
use crate::time::Time;

/// From the end of a calm stretch to the next reading of the kernel.
const SCAN: Duration = Duration::from_secs(10);

impl Announcer {
    /// Passes the time until `until` as if every probe that is due before it had succeeded, and returns true; or does
    /// nothing and returns false, because there is something going on that this could change: a probe under way, a failure
    /// that still counts, a verdict that is not up, anything but probes and kernel scans that is due before.
    pub fn skip_calm(&mut self, until: Time) -> bool {
        let still = self.outstanding.is_empty() && self.dump_is_idle() && self.stopping.is_none();
        if !still || !self.checks.values().all(|c| c.is_calm()) || !self.is_nothing_due(until) {
            return false;
        }
        for check in self.checks.values_mut() {
            check.skip(until);
        }
        let next: Vec<(CheckId, Option<Time>)> =
            self.checks.iter().map(|(id, c)| (*id, c.next_probe())).collect();
        for (id, at) in next {
            self.timers.set(Timer::Probe(id), at);
        }
        self.timers.set(Timer::Scan, Some(until + SCAN));
        self.present = until;
        true
    }

    fn is_nothing_due(&self, until: Time) -> bool {
        let matters = |timer: &Timer| !matches!(timer, Timer::Probe(_) | Timer::Scan | Timer::NoSession);
        self.timers.all().take_while(|(at, _)| *at <= until).all(|(_, timer)| !matters(&timer))
    }
}
