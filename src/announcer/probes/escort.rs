//! Whom a primary's probe is sent together with: the witnesses by whom its failure is judged ([`crate::announcer::witness`]).

use std::time::Duration;

use super::Errand;
use crate::announcer::Announcer;
use crate::announcer::conduct::Member;
use crate::announcer::journal::State;
use crate::announcer::timers::{CheckId, InstanceId};
use crate::announcer::witness::Doubt;
use crate::health::{Check, Verdict, is_together};
use crate::time::Time;

/// A timeout as long as the interval may be seen to be over only after the next probe went out.
const OVERDUE: Duration = Duration::from_millis(20);

/// Witnesses of one check that may be under way when another one is wanted: who answers slowly is not to be overrun.
const ESCORTS: usize = 2;

impl Announcer {
    /// Its next failure would decide, or one has. (Where a single one does, what is required is asked after it: not all the time.)
    pub(super) fn may_prove_death(&self, id: CheckId) -> bool {
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
    pub(super) fn send_escorted(&mut self, id: CheckId, now: Time) {
        self.send_probe(id, Errand::Escorted, now);
        self.ask_escort(id, now);
    }

    pub(super) fn ask_escort(&mut self, primary: CheckId, now: Time) {
        let required = self.required_with(primary, |id, _| self.is_unproved(primary, id));
        let room = |id: &CheckId| self.asked.get(id).is_none_or(|asked| asked.len() < ESCORTS);
        let fresh: Vec<CheckId> =
            required.into_iter().filter(|id| room(id) && !self.was_asked(*id, now)).collect();
        self.ask(&fresh, now);
    }

    /// True if it was probed as a witness at that moment, or is told of.
    pub(super) fn was_asked(&self, id: CheckId, moment: Time) -> bool {
        let Some(check) = self.checks.get(&id) else { return false };
        check.testimony(moment).is_some() || self.is_asked(id, moment)
    }

    fn is_asked(&self, id: CheckId, moment: Time) -> bool {
        self.asked.get(&id).is_some_and(|asked| asked.iter().any(|sent| is_together(*sent, moment)))
    }

    /// What a required check says of our own line at that moment: the answer to the probe that was sent then, and no other. (One
    /// before or after it may be that of a line that bounces.) A session answers when it is its turn: it has to have done
    /// so before and after it. None: it is not known yet.
    pub(in crate::announcer) fn says(&self, check: &Check, doubt: &Doubt) -> Option<bool> {
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

    /// A primary's check failed: whatever its instances require is asked at once, so that our own isolation shows
    /// before the fall is complete.
    pub(super) fn call_witnesses(&mut self, failed: CheckId, now: Time) {
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
    pub(in crate::announcer) fn ask_witnesses(&mut self, checks: &[CheckId], now: Time) {
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
}
