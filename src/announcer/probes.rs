//! From probes to verdicts: when one goes out, when its time is up, what its answer changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::conduct::Member;
use super::effect::{Level, Sample};
use super::event::{Outcome, ProbeId};
use super::gate;
use super::journal::State;
use super::timers::{CheckId, InstanceId, Timer};
use super::witness::Doubt;
use super::{Announcer, Effect, LATE};
use crate::config::model;
use crate::fib::object::LinkState;
use crate::health::{Check, Verdict, is_together};
use crate::time::Time;

/// A timeout as long as the interval may be seen to be over only after the next probe went out.
const OVERDUE: Duration = Duration::from_millis(20);

/// Witnesses of one check that may be under way when another one is wanted: who answers slowly is not to be overrun.
const ESCORTS: usize = 2;

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
            match link_of(&check) {
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

    /// Its next failure would decide, or one has. (Where a single one does, what is required is asked after it: not all the time.)
    fn may_prove_death(&self, id: CheckId) -> bool {
        let Some(check) = self.checks.get(&id).filter(|_| self.of_primaries.contains(&id)) else {
            return false;
        };
        let threshold = check.threshold();
        // One whose time is up in this moment is a failure already.
        let is_long = check.config.timeout + OVERDUE >= check.config.interval;
        let overdue =
            || is_long && self.outstanding.values().any(|o| o.check == id && o.errand != Errand::Witness);
        // Down or not: after a success, which was one too few, there has to be a whole fall again.
        let may_decide = match check.config.fall.failures().saturating_sub(threshold.failures()) {
            0 => true,
            1 => threshold.failures() > 0,
            2 => overdue(),
            _ => false,
        };
        may_decide && self.users_of(id).iter().any(|user| self.is_unproved(id, *user))
    }

    /// It is that instance's primary, and nothing has confirmed yet that it is dead. (What is seen in FAULT will not count.)
    fn is_unproved(&self, primary: CheckId, user: InstanceId) -> bool {
        self.members.get(&user).is_some_and(|m| {
            let counts = !matches!(m.instance.state(), State::Fault | State::Stop);
            let asks = !m.require.is_empty() && m.primary.contains(&primary);
            counts && asks && !m.rows.is_confirmed(primary)
        })
    }

    /// Together with all that its instances require: what is asked before or after it says little of our line just then.
    fn send_escorted(&mut self, id: CheckId, now: Time) {
        self.send_probe(id, Errand::Escorted, now);
        self.ask_escort(id, now);
    }

    fn ask_escort(&mut self, primary: CheckId, now: Time) {
        let required = self.required_with(primary, |id, _| self.is_unproved(primary, id));
        let room = |id: &CheckId| self.asked.get(id).is_none_or(|asked| asked.len() < ESCORTS);
        let fresh: Vec<CheckId> =
            required.into_iter().filter(|id| room(id) && !self.was_asked(*id, now)).collect();
        self.ask(&fresh, now);
    }

    /// True if it was probed as a witness at that moment, or is told of.
    fn was_asked(&self, id: CheckId, moment: Time) -> bool {
        let Some(check) = self.checks.get(&id) else { return false };
        check.testimony(moment).is_some() || self.is_asked(id, moment)
    }

    fn is_asked(&self, id: CheckId, moment: Time) -> bool {
        self.asked.get(&id).is_some_and(|asked| asked.iter().any(|sent| is_together(*sent, moment)))
    }

    /// What a required check says of our own line at that moment: the answer to the probe that was sent then, and no other. (One
    /// before or after it may be that of a line that bounces.) A session answers when it is its turn: it has to have done
    /// so before and after it. None: it is not known yet.
    pub(super) fn says(&self, check: &Check, doubt: &Doubt) -> Option<bool> {
        let moment = doubt.sent;
        if check.verdict() != Verdict::Up {
            return Some(false);
        }
        if check.is_told() {
            // Who wants one failure to decide wants no bracket either.
            let is_single = self.checks.get(&doubt.check).is_some_and(|c| c.config.fall.failures() == 1);
            let before = !check.is_session() || is_single || check.has_testified(doubt.before..=moment);
            let is_sound = before && check.since() <= moment;
            let is_fresh = check.last_success_sent() >= Some(moment);
            return if is_sound { is_fresh.then_some(true) } else { Some(false) };
        }
        let id = self.check_ids.get(&check.config.name)?;
        match self.is_asked(*id, moment) {
            true => None,
            false => Some(check.testimony(moment).unwrap_or(false)),
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
            if let Some(member) = self.members.get_mut(&id) {
                member.rows.failed(check, sent, asked.filter(|_| was_asked), now);
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

    /// What was counted against this check does not count: `instance` was cut off meanwhile. If another one that was not
    /// goes by the check as well, it does count: the first has forgotten its rows, and waits for new ones (unless a
    /// single failure makes a row).
    pub(super) fn distrust(&mut self, id: CheckId, instance: InstanceId, now: Time) {
        let others = self.users_of(id).into_iter().filter(|user| *user != instance);
        let sees = |m: &Member| m.primary.contains(&id) && self.is_connected(m, now);
        let is_seen = others.filter_map(|user| self.members.get(&user)).any(sees);
        if is_seen && self.checks.get(&id).is_some_and(|c| c.config.fall.failures() > 1) {
            return;
        }
        let is_down = self.checks.get(&id).is_some_and(|c| c.verdict() == Verdict::Down && !c.is_told());
        if is_down && self.forget_check(id, "what it seemed while this node was cut off does not count", now)
        {
            self.reconsider(id, true, now);
        }
    }

    fn report_verdict(&mut self, id: CheckId, before: Verdict) {
        let Some(check) = self.checks.get(&id) else { return };
        let name = check.config.name.clone();
        let level = if check.verdict() == Verdict::Up { Level::Info } else { Level::Warn };
        let text = format!("{} (was {})", check.describe(), before.word());
        self.log(level, Some(&name), text);
    }

    /// A primary's check failed: whatever its instances require is asked at once, so that our own isolation shows
    /// before the fall is complete.
    fn call_witnesses(&mut self, failed: CheckId, now: Time) {
        let required = self.required_with(failed, |_, member| member.instance.could_take_over());
        self.ask_witnesses(&required, now);
    }

    /// What those instances require whose primary that is.
    fn required_with(&self, primary: CheckId, wants: impl Fn(InstanceId, &Member) -> bool) -> Vec<CheckId> {
        let mut wanted: Vec<CheckId> = Vec::new();
        for id in self.users_of(primary) {
            if let Some(user) = self.members.get(&id).filter(|m| m.primary.contains(&primary) && wants(id, m))
            {
                wanted.extend(&user.require);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// These checks are probed at once, out of turn, unless they just are.
    pub(super) fn ask_witnesses(&mut self, checks: &[CheckId], now: Time) {
        let idle = checks.iter().copied().filter(|id| !self.asked.contains_key(id));
        self.ask(&idle.collect::<Vec<_>>(), now);
    }

    fn ask(&mut self, checks: &[CheckId], now: Time) {
        for id in checks.iter().copied() {
            match self.checks.get(&id).is_some_and(Check::is_told) {
                true => self.ask_told(id, now),
                false => self.send_probe(id, Errand::Witness, now),
            }
        }
    }

    fn ask_told(&mut self, id: CheckId, now: Time) {
        let probe = self.checks.get(&id).map(|check| check.config.probe.clone());
        let sent = match probe {
            Some(model::Probe::Bgp(session)) => self.ask_session(&session.peer, now),
            Some(model::Probe::Bfd(_)) => {
                self.verify_bfd(id);
                true
            }
            _ => {
                self.refresh_told_check(id, now);
                false
            }
        };
        // Nobody answers what was not sent.
        if let Some(check) = self.checks.get_mut(&id).filter(|_| sent) {
            check.ask(now);
        }
    }

    /// True while a probe of it is under way that went out before the last one that succeeded: nobody knows yet whether that
    /// one was lost.
    pub(super) fn is_unanswered(&self, id: CheckId) -> bool {
        let Some(seen) = self.checks.get(&id).and_then(Check::last_success_sent) else { return false };
        self.outstanding.values().any(|o| o.check == id && o.sent < seen)
    }

    /// What a check that is told would be told now; None if it is not such a check, or nothing is known yet.
    fn told_state(&self, check: &Check) -> Option<Result<(), String>> {
        match &check.config.probe {
            // Before the first dump no link is known; that a device is missing is not to be claimed then.
            model::Probe::Link(link) if self.fib.is_known() => Some(link_state(self.links.get(&link.device))),
            model::Probe::Bgp(session) => self.session_state(&session.peer),
            model::Probe::Bfd(session) => self.bfd_verdict(&session.path),
            _ => None,
        }
    }

    /// The kernel tells of links at once, so what it last said holds now. (A session stays Established long after the line
    /// was cut: what is known of it proves nothing about now, so it is asked.)
    fn refresh_told_check(&mut self, id: CheckId, now: Time) {
        let probe = self.checks.get(&id).map(|check| check.config.probe.clone());
        if let Some(model::Probe::Bgp(session)) = probe {
            self.ask_session(&session.peer, now);
            return;
        }
        let link = self.checks.get(&id).filter(|check| link_of(check).is_some());
        let state = link.and_then(|check| self.told_state(check));
        if let Some(state) = state {
            self.tell_check(id, state.err().as_deref(), now);
        }
    }

    /// News of what a check watches: None if all is well.
    pub(super) fn tell_check(&mut self, id: CheckId, wrong: Option<&str>, now: Time) {
        let Some(check) = self.checks.get_mut(&id) else { return };
        let before = check.verdict();
        let changed = check.told(wrong, now);
        if changed {
            self.report_verdict(id, before);
        }
        // News are news even if they are the old ones: a witness, or a failure of the primary's.
        if wrong.is_none() {
            self.note_success(id, true, now);
        } else if changed {
            self.call_witnesses(id, now);
        }
        if changed {
            self.reconsider(id, true, now);
        }
    }

    pub(super) fn on_link(&mut self, link: LinkState, now: Time) {
        let name = link.name.clone();
        self.dump.link_told(&name);
        if self.links.insert(name.clone(), link.clone()) != Some(link) {
            self.link_news(&name, now);
        }
    }

    pub(super) fn on_link_gone(&mut self, name: &str, now: Time) {
        self.dump.link_told(name);
        if self.links.remove(name).is_some() {
            self.link_news(name, now);
        }
    }

    /// After a dump every link check is judged, whether its device exists or not.
    pub(super) fn refresh_told_checks(&mut self, now: Time) {
        let ids: Vec<CheckId> = self.checks.iter().filter(|(_, c)| c.is_told()).map(|(id, _)| *id).collect();
        for id in ids {
            self.refresh_told_check(id, now);
        }
    }

    fn link_news(&mut self, name: &str, now: Time) {
        if self.fib.is_known() {
            let on_it = |c: &Check| link_of(c) == Some(name);
            let ids: Vec<CheckId> = self.checks.iter().filter(|(_, c)| on_it(c)).map(|(id, _)| *id).collect();
            for id in ids {
                self.refresh_told_check(id, now);
            }
        }
        // What was refused for want of this device may go now; what hung on it may be gone without a word.
        self.fib.retry(now, true);
        self.want_dump(now);
    }

    /// This process had the processor until then: what was due before is late by its own work, and that is no absence.
    pub fn worked_until(&mut self, at: Time) {
        self.present = self.present.max(at);
    }

    /// If a timer is overdue we did not run for a while: what happened meanwhile was not seen, and what was under way
    /// proves nothing. Counts older than a check's interval are too old to act on. Nobody decides before every timer that is
    /// due by then has had its turn, however many events come first.
    pub(super) fn notice_absence(&mut self, now: Time) {
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
        let under_way: Vec<(ProbeId, CheckId)> =
            self.outstanding.iter().map(|(p, o)| (*p, o.check)).collect();
        for (probe, _) in &under_way {
            self.cancel_probe(*probe);
        }
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
            if stale || under_way.iter().any(|(_, c)| *c == id) {
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

    /// What was counted for or against this check does not count any more. Returns true if its verdict changed.
    pub(super) fn forget_check(&mut self, id: CheckId, why: &str, now: Time) -> bool {
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
}

fn link_of(check: &Check) -> Option<&str> {
    match &check.config.probe {
        model::Probe::Link(link) => Some(&link.device),
        _ => None,
    }
}

/// A link is well if it is there, administratively up, and has carrier.
fn link_state(link: Option<&LinkState>) -> Result<(), String> {
    match link {
        None => Err("there is no such device".into()),
        Some(l) if !l.admin_up => Err("administratively down".into()),
        Some(l) if !l.carrier => Err("no carrier".into()),
        Some(_) => Ok(()),
    }
}

fn millis(d: Duration) -> Duration {
    Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
