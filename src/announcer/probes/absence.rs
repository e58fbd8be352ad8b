//! This process did not run for a while: nothing that it did not see may be held against anybody.

use std::collections::HashSet;
use std::time::Duration;

use crate::announcer::conduct::Member;
use crate::announcer::effect::Level;
use crate::announcer::event::ProbeId;
use crate::announcer::timers::{CheckId, InstanceId, Timer};
use crate::announcer::{Announcer, LATE};
use crate::health::Verdict;
use crate::time::Time;

impl Announcer {
    /// This process had the processor until then: what was due before is late by its own work, and that is no absence.
    pub fn worked_until(&mut self, at: Time) {
        self.present = self.present.max(at);
    }

    /// If a timer is overdue we did not run for a while: what happened meanwhile was not seen, and what was under way
    /// proves nothing. Counts older than a check's interval are too old to act on. Nobody decides before every timer that is
    /// due by then has had its turn, however many events come first.
    pub(in crate::announcer) fn notice_absence(&mut self, now: Time) {
        let present = std::mem::replace(&mut self.present, now);
        let Some((due, _)) = self.timers.next() else { return };
        let away = now.since(due.max(present));
        if away <= LATE {
            return;
        }
        self.tally.absences += 1;
        let why = format!("announcerd did not run for {}", humantime::format_duration(millis(away)));
        self.log(
            Level::Warn,
            None,
            format!("{why}: a suspended machine, a stopped process, or one without CPU time"),
        );
        let cancelled = self.cancel_all_probes();
        // Whoever lost a session meanwhile may have lost it by our fault: nobody is unblemished, sessions neither.
        let asked = self.checks.values_mut().filter(|c| !c.is_told() || c.is_session());
        asked.for_each(|check| check.note_trouble(now, now));
        self.members.values_mut().for_each(|member| member.rows.slept(away, now));
        // All of them first: nobody may decide by the half that has not been forgotten yet.
        let mut changed = Vec::new();
        let ids: Vec<CheckId> = self.checks.iter().filter(|(_, c)| !c.is_told()).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(check) = self.checks.get_mut(&id) else { continue };
            let stale = away > check.config.interval;
            if stale || cancelled.contains(&id) {
                // One probe at once, in the place of the next: two at a time would count one trouble twice.
                check.probe_soon(now);
                let next = check.next_probe();
                self.timers.set(Timer::Probe(id), next);
            }
            if stale && self.forget_check(id, &why, now) {
                changed.push(id);
            }
        }
        self.doubted.get_or_insert_default().extend(changed);
    }

    /// Nothing is under way any more; the checks whose probes were.
    fn cancel_all_probes(&mut self) -> HashSet<CheckId> {
        let under_way: Vec<(ProbeId, CheckId)> =
            self.outstanding.iter().map(|(p, o)| (*p, o.check)).collect();
        under_way.iter().for_each(|(probe, _)| self.cancel_probe(*probe));
        under_way.into_iter().map(|(_, check)| check).collect()
    }

    /// What was counted for or against this check does not count any more. Returns true if its verdict changed.
    pub(in crate::announcer) fn forget_check(&mut self, id: CheckId, why: &str, now: Time) -> bool {
        for user in self.users_of(id) {
            if let Some(member) = self.members.get_mut(&user) {
                member.rows.ended(id);
            }
        }
        let Some(check) = self.checks.get_mut(&id) else { return false };
        let before = check.verdict();
        let changed = check.forget(why, now);
        if changed {
            self.report_verdict(id, before);
        }
        changed
    }

    /// What was counted against this check does not count: `instance` was cut off meanwhile. If another one that was not
    /// goes by the check as well, it does count: the first has forgotten its rows, and waits for new ones (unless a
    /// single failure makes a row).
    pub(in crate::announcer) fn distrust(&mut self, id: CheckId, instance: InstanceId, now: Time) {
        self.pardon(id, instance, now);
        let is_down = self.checks.get(&id).is_some_and(|c| c.verdict() == Verdict::Down && !c.is_told());
        if is_down
            && !self.is_trusted_by_others(id, instance, now)
            && self.forget_check(id, "what it seemed while this node was cut off does not count", now)
        {
            self.reconsider(id, true, now);
        }
    }

    /// Failures of it that were not enough may have been our own, and nobody knows which: none of them counts.
    pub(in crate::announcer) fn pardon(&mut self, id: CheckId, instance: InstanceId, now: Time) {
        if self.is_trusted_by_others(id, instance, now) {
            return;
        }
        if let Some(check) = self.checks.get_mut(&id) {
            check.pardon();
        }
    }

    /// Another instance goes by that check, and was not cut off, or knows by it of a death.
    fn is_trusted_by_others(&self, id: CheckId, instance: InstanceId, now: Time) -> bool {
        let is_row = self.checks.get(&id).is_some_and(|c| c.config.fall.failures() > 1);
        let trusts = |m: &Member| {
            let sees = self.is_connected(m, now) && (is_row || m.rows.is_confirmed(id));
            m.primary.contains(&id) && (sees || m.instance.knows_death())
        };
        let others = self.users_of(id).into_iter().filter(|user| *user != instance);
        others.filter_map(|user| self.members.get(&user)).any(trusts)
    }
}

fn millis(d: Duration) -> Duration {
    Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
