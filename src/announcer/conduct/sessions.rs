//! The primary's sessions that are down: when that counts, and how long they have to come back.

use std::time::Duration;

use crate::announcer::Announcer;
use crate::announcer::gate::{self, RequireState};
use crate::announcer::timers::{CheckId, InstanceId};
use crate::announcer::witness::{Look, Rows};
use crate::config::model;
use crate::health::{Check, Verdict};
use crate::time::Time;

/// The longest that a BGP session is waited for after our own isolation.
const BGP_REJOIN: Duration = Duration::from_secs(30);

/// The same where the peer has to connect, if it is certain that we were cut off: it tries again every two minutes (ConnectRetryTimer, RFC 4271 section 10).
const BGP_PASSIVE_REJOIN: Duration = Duration::from_secs(150);

/// A session of a primary's that is down.
struct FallenSession {
    check: CheckId,
    since: Time,
    /// How long a silence that proves.
    silence: Duration,
    /// How long it may take to come back…
    rejoin: Duration,
    /// …or until when, because its speaker turned us away.
    hope: Option<Time>,
}

impl Announcer {
    /// The primary's sessions that are down: which of them count by now?
    pub(super) fn judge_sessions(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get(&id) else { return };
        let config = member.instance.config.clone();
        let Some(require) = &config.require else { return };
        let fallen: Vec<FallenSession> =
            member.primary.iter().filter_map(|id| self.fallen_session(*id, &member.rows)).collect();
        if fallen.is_empty() {
            return;
        }
        let required: Vec<&Check> = member.require.iter().filter_map(|id| self.checks.get(id)).collect();
        let met = gate::require(require, &required, now).state == RequireState::Met;
        let up = required.iter().filter(|c| c.verdict() == Verdict::Up);
        let trouble = up.filter_map(|c| c.last_trouble_sent()).max();
        let needed = require.up_when.needed(required.len());
        let looks: Vec<(CheckId, Look)> = fallen
            .into_iter()
            .map(|FallenSession { check, since, silence, rejoin, hope }| {
                // As many as are needed: one that is down for days, or loses packets, slows nothing.
                let clean = |id: &&CheckId| {
                    let check = self.checks.get(id);
                    !self.is_unanswered(**id)
                        && check.is_some_and(|c| c.is_unblemished_since(since - silence))
                };
                let unblemished = member.require.iter().filter(clean).count() >= needed;
                (check, Look { since, rejoin, hope, met, trouble, unblemished })
            })
            .collect();
        let Some(member) = self.members.get_mut(&id) else { return };
        let mut awaited = Vec::new();
        for (check, look) in looks {
            if member.rows.judge(check, &look, now, |moment| gate::witnessed(require, &required, moment)) {
                awaited.push(check);
            }
        }
        for check in awaited {
            self.try_session(check, now);
        }
    }

    /// A required session answers when it is asked, and only then: one that had answered before the last trouble of
    /// another check, or before a link of the primary's went down, has to be asked once more, or a takeover would wait for ever.
    pub(super) fn ask_sessions_again(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get(&id) else { return };
        let fallen_link = |id: &CheckId| {
            let is_link = |c: &&Check| c.is_told() && !c.is_session() && c.verdict() == Verdict::Down;
            self.checks.get(id).filter(is_link).map(Check::since)
        };
        let moments = member.primary.iter().filter_map(|id| member.rows.lacks(*id).or(fallen_link(id)));
        let Some(moment) = moments.max() else { return };
        let is_old = |c: &Check| c.is_session() && !c.is_asked() && c.last_success_sent() < Some(moment);
        let is_old = |id: &&CheckId| self.checks.get(id).is_some_and(is_old);
        let old: Vec<CheckId> = member.require.iter().filter(is_old).copied().collect();
        self.ask_witnesses(&old, now);
    }

    fn fallen_session(&self, id: CheckId, rows: &Rows) -> Option<FallenSession> {
        let check = self.checks.get(&id).filter(|c| c.verdict() == Verdict::Down)?;
        let (silence, rejoin, hope) = match &check.config.probe {
            model::Probe::Bfd(session) => (session.detection_time(), session.patience(), None),
            model::Probe::Bgp(watched) => {
                let bgp = self.config.bgp.iter().find(|b| *b.session.name == *watched.peer)?;
                let rejoin = match bgp.session.passive && rows.was_cut_off(id) {
                    true => BGP_PASSIVE_REJOIN,
                    false => bgp.session.connect_retry.saturating_mul(2).min(BGP_REJOIN),
                };
                let hope = self.turned_away(&watched.peer).map(|next_try| next_try + rejoin);
                (bgp.session.hold_time, rejoin, hope)
            }
            _ => return None,
        };
        Some(FallenSession { check: id, since: check.since(), silence, rejoin, hope })
    }

    /// It is we who end the session: if it does not come back at once that is no death.
    pub(in crate::announcer) fn give_session_time(&mut self, check: CheckId, now: Time) {
        for id in self.users_of(check) {
            if let Some(member) = self.members.get_mut(&id).filter(|m| m.primary.contains(&check)) {
                member.rows.begin_anew(check, now);
            }
        }
    }

    /// Sessions of its primary that are down when its own isolation ends have their time from now on.
    pub(super) fn give_sessions_time(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get(&id) else { return };
        let fallen: Vec<CheckId> = member
            .primary
            .iter()
            .copied()
            .filter(|id| self.fallen_session(*id, &member.rows).is_some())
            .collect();
        let Some(member) = self.members.get_mut(&id).filter(|_| !fallen.is_empty()) else { return };
        fallen.into_iter().for_each(|check| member.rows.begin_anew(check, now));
        let required = member.require.clone();
        self.ask_witnesses(&required, now);
    }
}
