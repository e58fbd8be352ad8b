//! From probes to verdicts: when one goes out, when its time is up, what its answer changes.

mod absence;
mod escort;
mod told;

use std::collections::HashSet;
use std::sync::Arc;

use super::conduct::Member;
use super::effect::{Level, Sample};
use super::event::{Outcome, ProbeId};
use super::gate;
use super::timers::{CheckId, Timer};
use super::{Announcer, Effect};
use crate::config::model;
use crate::health::{Check, Verdict};
use crate::time::Time;

/// A probe that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outstanding {
    check: CheckId,
    sent: Time,
    errand: Errand,
}

/// What a probe is sent for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Errand {
    /// It is its turn.
    Turn,
    /// The same, of a primary that may be dead: what its instances require is probed together with it.
    Escorted,
    /// Out of turn, to see whether it is we who are cut off: only its success counts.
    Witness,
}

impl Announcer {
    pub(super) fn add_check(&mut self, config: Arc<model::Check>, now: Time) {
        self.next_id += 1;
        let id = CheckId(u32::try_from(self.next_id).unwrap_or(u32::MAX));
        let ordinal = u32::try_from(self.checks.len()).unwrap_or(u32::MAX);
        self.check_ids.insert(config.name.clone(), id);
        let mut check = Check::new(config, ordinal, now);
        if let Some(state) = self.told_state(&check) {
            let wrong = state.as_ref().err().map(String::as_str);
            // What the kernel last said of a link holds now; of a session it proves nothing.
            match told::link_of(&check) {
                Some(_) => check.told(wrong, now),
                None => check.restore(wrong, now),
            };
        }
        self.timers.set(Timer::Probe(id), check.next_probe());
        self.checks.insert(id, check);
    }

    pub(super) fn remove_check(&mut self, id: CheckId) {
        self.cancel_probes_of(id);
        self.timers.set(Timer::Probe(id), None);
        if let Some(check) = self.checks.remove(&id) {
            self.check_ids.remove(&check.config.name);
        }
    }

    pub(super) fn cancel_probes_of(&mut self, id: CheckId) {
        let theirs: Vec<ProbeId> =
            self.outstanding.iter().filter(|(_, o)| o.check == id).map(|(p, _)| *p).collect();
        for probe in theirs {
            self.cancel_probe(probe);
        }
    }

    /// The probe is no longer under way.
    fn take_probe(&mut self, id: ProbeId) -> Option<Outstanding> {
        let probe = self.outstanding.remove(&id)?;
        if let Some(asked) = self.asked.get_mut(&probe.check).filter(|_| probe.errand == Errand::Witness) {
            asked.retain(|sent| *sent != probe.sent);
            if asked.is_empty() {
                self.asked.remove(&probe.check);
            }
        }
        Some(probe)
    }

    pub(super) fn cancel_probe(&mut self, id: ProbeId) {
        self.take_probe(id);
        self.timers.set(Timer::ProbeTimeout(id), None);
        self.emit(Effect::CancelProbe(id));
    }

    pub(super) fn on_probe_due(&mut self, id: CheckId, now: Time) {
        let Some(check) = self.checks.get_mut(&id) else { return };
        check.probe_sent(now);
        let next = check.next_probe();
        self.timers.set(Timer::Probe(id), next);
        match self.may_prove_death(id) {
            true => self.send_escorted(id, now),
            false => self.send_probe(id, Errand::Turn, now),
        }
    }

    fn send_probe(&mut self, check: CheckId, errand: Errand, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        let Some(config) = self.checks.get(&check).map(|c| c.config.clone()) else { return };
        self.next_probe += 1;
        let id = ProbeId(self.next_probe);
        self.outstanding.insert(id, Outstanding { check, sent: now, errand });
        if errand == Errand::Witness {
            self.asked.entry(check).or_default().push(now);
        }
        self.timers.set(Timer::ProbeTimeout(id), Some(now + config.timeout));
        // What the primary does must not be asked of ourselves; a service of our own may well be.
        let own = if self.of_primaries.contains(&check) { self.own.clone() } else { Arc::default() };
        self.emit(Effect::Probe { id, check: config, own });
    }

    pub(super) fn on_probe_timeout(&mut self, id: ProbeId, now: Time) {
        let Some(probe) = self.take_probe(id) else { return };
        self.emit(Effect::CancelProbe(id));
        let Some(check) = self.checks.get(&probe.check) else { return };
        let waited = humantime::format_duration(check.config.timeout);
        self.judge(probe, Outcome::Failure(format!("no answer in {waited}")), now);
    }

    pub(super) fn on_probe(&mut self, id: ProbeId, outcome: Outcome, now: Time) {
        // Unknown ids are answers that came too late, or to a check that is no more.
        let Some(probe) = self.take_probe(id) else { return };
        self.timers.set(Timer::ProbeTimeout(id), None);
        self.judge(probe, outcome, now);
    }

    fn judge(&mut self, probe: Outstanding, outcome: Outcome, now: Time) {
        if self.sampling {
            self.sample(probe, &outcome, now);
        }
        let Some(check) = self.checks.get_mut(&probe.check) else { return };
        let succeeded = matches!(outcome, Outcome::Success { .. });
        let failed = matches!(outcome, Outcome::Failure(_));
        if probe.errand == Errand::Witness {
            check.testify(probe.sent, succeeded);
        }
        if probe.errand == Errand::Witness && !succeeded {
            // Not counted, but not forgotten: what it should have been a witness of is in doubt.
            check.note_trouble(probe.sent, now);
            self.note_trouble(probe.check, now);
            return self.reconsider(probe.check, false, now);
        }
        let before = check.verdict();
        let changed = check.result(probe.sent, outcome, now);
        // A window that is not full has old failures in it: they must not speak for a row that begins later.
        let fall = check.config.fall.failures();
        let is_fallen = check.verdict() == Verdict::Down && check.threshold().failures() >= fall;
        let row_is_over = check.threshold().failures() == 0 || check.verdict() != Verdict::Down;
        if changed {
            self.report_verdict(probe.check, before);
        }
        if !succeeded {
            self.note_trouble(probe.check, now);
        }
        if failed {
            let asked = match probe.errand {
                Errand::Escorted => Some(probe.sent),
                // Who wants that one failure decides does not want to wait for a second one: asked after it, but at once.
                _ if fall == 1 => {
                    self.ask_escort(probe.check, now);
                    Some(now)
                }
                _ => None,
            };
            // In a window one that decides nothing may be followed by one that does, and only that one counts.
            self.note_failure(&probe, asked.filter(|_| is_fallen), now);
            self.call_witnesses(probe.check, now);
        } else if succeeded {
            self.note_success(probe.check, row_is_over, now);
        }
        // Every failure, too: the one after a witness is what a takeover may wait for.
        if changed || succeeded || failed {
            self.reconsider(probe.check, changed, now);
        }
    }

    /// A required check has not answered: those whose takeover waits for its delay doubt what was certain, unless enough of the
    /// others speak for them.
    pub(super) fn note_trouble(&mut self, check: CheckId, now: Time) {
        for id in self.users_of(check) {
            let waits = |m: &&Member| m.require.contains(&check) && m.instance.awaits_takeover();
            let Some(member) = self.members.get(&id).filter(waits) else { continue };
            let Some(require) = &member.instance.config.require else { continue };
            let required: Vec<&Check> = member.require.iter().filter_map(|id| self.checks.get(id)).collect();
            let is_well = gate::are_well(require, &required);
            if !is_well && self.members.get_mut(&id).is_some_and(|m| m.rows.shake()) {
                self.timers.set(Timer::Instance(id), Some(now));
            }
        }
    }

    fn sample(&mut self, probe: Outstanding, outcome: &Outcome, now: Time) {
        let Some(config) = self.checks.get(&probe.check).map(|c| c.config.clone()) else { return };
        let took = Some(now.since(probe.sent)).filter(|took| *took < config.timeout);
        let (sent, check) = (probe.sent, config.name.clone());
        self.emit(Effect::Sample(Sample { sent, check, outcome: outcome.clone(), took }));
    }

    /// `asked`: what is required was to be probed then, to judge this failure by.
    fn note_failure(&mut self, probe: &Outstanding, asked: Option<Time>, now: Time) {
        let Outstanding { check, sent, .. } = *probe;
        for id in self.users_of(check) {
            let Some(member) = self.members.get(&id).filter(|m| m.primary.contains(&check)) else { continue };
            let is_known = |id: &&CheckId| {
                let is_told = self.checks.get(id).is_some_and(Check::is_told);
                is_told || asked.is_some_and(|asked| self.was_asked(**id, asked))
            };
            let needed =
                member.instance.config.require.as_ref().map(|r| r.up_when.needed(member.require.len()));
            let was_asked = member.require.iter().filter(is_known).count() >= needed.unwrap_or(0);
            let sessions =
                || member.require.iter().filter_map(|id| self.checks.get(id)).filter(|c| c.is_session());
            let has_spoken = |since: Time| sessions().all(|c| c.has_testified(since..=now));
            let spoken = member.rows.before(check).is_some_and(has_spoken);
            if let Some(member) = self.members.get_mut(&id) {
                member.rows.failed(check, sent, asked.filter(|_| was_asked), spoken, now);
            }
        }
    }

    /// A success ends the check's own row of failures, and may be the witness that other rows wait for.
    pub(super) fn note_success(&mut self, check: CheckId, row_is_over: bool, now: Time) {
        let mut again = Vec::new();
        for id in self.users_of(check) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if row_is_over {
                member.rows.ended(check);
            }
            let Some(require) =
                member.instance.config.require.as_ref().filter(|_| member.require.contains(&check))
            else {
                continue;
            };
            let required: Vec<&Check> = member.require.iter().filter_map(|id| self.checks.get(id)).collect();
            let is_down = |id: CheckId| {
                self.checks.get(&id).is_some_and(|c| c.verdict() == Verdict::Down && !c.is_told())
            };
            again.extend(member.rows.stir(is_down, |since| gate::witnessed(require, &required, since)));
        }
        if again.is_empty() {
            return;
        }
        // Down already, and only now it is known that we are not cut off: do not wait for the next turn (unless it has just been).
        let answered = self.checks.get(&check).and_then(|c| match c.is_told() {
            true => c.last_success_known(),
            false => c.last_success_sent(),
        });
        let escorted = self.outstanding.values().filter(|o| o.errand == Errand::Escorted);
        let covered: HashSet<CheckId> =
            escorted.filter(|o| Some(o.sent) >= answered).map(|o| o.check).collect();
        again.retain(|id| !covered.contains(id));
        again.sort_unstable();
        again.dedup();
        for id in again {
            self.send_escorted(id, now);
        }
    }

    fn report_verdict(&mut self, id: CheckId, before: Verdict) {
        let Some(check) = self.checks.get(&id) else { return };
        let name = check.config.name.clone();
        let level = if check.verdict() == Verdict::Up { Level::Info } else { Level::Warn };
        let text = format!("{} (was {})", check.describe(), before.word());
        self.log(level, Some(&name), text);
    }

    /// True while a probe of it is under way that went out before the last one that succeeded: nobody knows yet whether that
    /// one was lost.
    pub(super) fn is_unanswered(&self, id: CheckId) -> bool {
        let Some(seen) = self.checks.get(&id).and_then(Check::last_success_sent) else { return false };
        self.outstanding.values().any(|o| o.check == id && o.sent < seen)
    }
}
