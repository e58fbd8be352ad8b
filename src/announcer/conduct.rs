//! From verdicts to transitions, and from transitions to kernel, scripts and journal.

mod sessions;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use super::gate::{self, PrimaryState, RequireState, RequireView};
use super::instance::{self, Inputs, Instance, Transition};
use super::journal::{State, Timeline};
use super::memory::Remembered;
use super::scripts::{Job, Scripts};
use super::timers::{CheckId, InstanceId, Timer};
use super::witness::{Doubt, Rows};
use super::{Announcer, Effect, Legacy, Stopping};
use crate::config::model::{self, Name};
use crate::fib::desired;
use crate::fib::hops::Choices;
use crate::health::{Check, Verdict};
use crate::time::Time;

/// A session is asked no more than once a second (RFC 4271 section 4.4): its last word may be as old as that.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// An instance and all that belongs to it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance: Instance,
    pub(super) scripts: Scripts,
    /// The checks of `primary`, in the order of the configuration.
    pub(super) primary: Vec<CheckId>,
    /// The checks of `require`.
    pub(super) require: Vec<CheckId>,
    /// What speaks for it that the primary's failures are its own.
    pub(super) rows: Rows,
    /// The primary is down, and a takeover waits for that only.
    waits_for_witness: bool,
    /// Scripts of MASTER that wait for the kernel.
    held: Option<Job>,
    /// The scripts of the state that is remembered have run to their end, or there were none…
    told: bool,
    /// …or will be when those of this transition have.
    telling: Option<u64>,
    /// The transition whose kernel work is not done yet.
    open: Option<u64>,
    /// The next hops in use.
    pub(super) hops: Choices,
    /// No longer configured: it leaves, and is then forgotten.
    pub(super) retired: bool,
}

impl Member {
    pub(super) fn name(&self) -> &Name {
        &self.instance.config.name
    }

    /// What is worth keeping across a restart.
    pub(super) fn remember(&self) -> Remembered {
        Remembered { told: self.told, ..self.instance.remember() }
    }

    /// A transition: must its scripts have run before it is remembered as told? Only a MASTER is ever resumed.
    fn begin_telling(&mut self, to: State, seq: u64, has_scripts: bool) {
        // A stop that has no scripts lets those of MASTER end, and they count.
        if to != State::Stop || has_scripts {
            self.telling = (to == State::Master && has_scripts).then_some(seq);
        }
        self.told = match to {
            State::Master => !has_scripts,
            // What is kept is a MASTER's, and its scripts have been undone.
            State::Stop => self.told && !has_scripts,
            State::Init | State::Backup | State::Fault => true,
        };
    }

    /// True if peers hear of it though it is BACKUP.
    pub(super) fn announces_as_backup(&self) -> bool {
        let told = self.instance.config.announces.iter().any(|a| a.backup.is_some());
        told && self.instance.state() == State::Backup
    }
}

impl Announcer {
    pub(super) fn add_instance(&mut self, config: Arc<model::Instance>, legacy: &Legacy, now: Time) {
        self.next_id += 1;
        let id = InstanceId(u32::try_from(self.next_id).unwrap_or(u32::MAX));
        let until = now + self.config.node.init_timeout;
        let remembered = legacy.memory.instances.get(&config.name);
        let mut instance = Instance::new(config.clone(), remembered, legacy.resumable, now, until);
        instance.set_maintenance(self.in_maintenance());
        self.fib.set_objects(id, desired::planned(&config));
        let level = instance.level();
        self.fib.set_level(id, level, level == instance::Level::Full);
        let member = Member {
            scripts: Scripts::new(config.name.clone()),
            primary: self.ids_of(config.primary.as_ref().map_or(&[], |p| &p.checks)),
            require: self.ids_of(config.require.as_ref().map_or(&[], |r| &r.checks)),
            rows: Rows::default(),
            waits_for_witness: false,
            instance,
            held: None,
            told: remembered.is_none_or(|r| r.told),
            telling: None,
            open: None,
            hops: Choices::new(),
            retired: false,
        };
        self.members.insert(id, member);
        // The first look follows from the timer, so that all instances exist by then.
        self.timers.set(Timer::Instance(id), Some(now));
    }

    pub(super) fn ids_of(&self, names: &[Name]) -> Vec<CheckId> {
        // Every name was checked at load.
        names.iter().filter_map(|n| self.check_ids.get(n).copied()).collect()
    }

    /// Who goes by which check; to be called when an instance has come, gone or changed.
    pub(super) fn index_users(&mut self) {
        self.index_hops();
        self.users.clear();
        self.of_primaries = self.members.values().flat_map(|m| &m.primary).copied().collect();
        for (id, member) in &self.members {
            for check in member.primary.iter().chain(&member.require) {
                let users = self.users.entry(*check).or_default();
                if users.last() != Some(id) {
                    users.push(*id);
                }
            }
        }
    }

    /// The instances that go by a check.
    pub(super) fn users_of(&self, check: CheckId) -> Vec<InstanceId> {
        self.users.get(&check).cloned().unwrap_or_default()
    }

    /// True if an instance knows that it is not cut off.
    pub(super) fn is_connected(&self, member: &Member, now: Time) -> bool {
        matches!(member.instance.state(), State::Backup | State::Master)
            && self.inputs(member, now).require.state == RequireState::Met
    }

    pub(super) fn id_of(&self, name: &str) -> Option<InstanceId> {
        self.members.iter().find(|(_, m)| !m.retired && &**m.name() == name).map(|(id, _)| *id)
    }

    /// What an instance decides by.
    pub(super) fn inputs(&self, member: &Member, now: Time) -> Inputs {
        let checks =
            |ids: &[CheckId]| -> Vec<&Check> { ids.iter().filter_map(|id| self.checks.get(id)).collect() };
        let config = &member.instance.config;
        let required = checks(&member.require);
        let require =
            config.require.as_ref().map_or_else(RequireView::nothing, |r| gate::require(r, &required, now));
        let primary = config.primary.as_ref().map(|p| gate::primary(p, &checks(&member.primary)));
        let down = primary.as_ref().filter(|p| p.state == PrimaryState::Down);
        let confirmed = down.is_none() || config.require.is_none() || self.is_confirmed(member, |_| true);
        let witnessed = match (&config.require, down) {
            (Some(r), Some(p)) => {
                // No moment: what is down has begun to answer again. No time to begin a takeover.
                let seen = p.witness_since;
                seen.is_some_and(|moment| gate::heard(r, &required, moment, ASKED_EVERY))
                    && self.is_confirmed(member, |moment| gate::witnessed(r, &required, moment))
            }
            _ => true,
        };
        let returning = match (&config.require, down, witnessed) {
            (Some(_), Some(_), false) => member.primary.iter().filter_map(|id| member.rows.due(*id)).min(),
            _ => None,
        };
        let drilled = self.is_drilled(member, &required);
        Inputs { primary, require, witnessed, confirmed, drilled, returning }
    }

    /// Enough of the checks that are down are so by what is confirmed. A link's state is no row of failures: it holds until the
    /// kernel says otherwise.
    fn is_confirmed(&self, member: &Member, witnessed: impl Fn(Time) -> bool) -> bool {
        let Some(primary) = &member.instance.config.primary else { return true };
        let counts = |id: &&CheckId| {
            self.checks.get(id).filter(|c| c.verdict() == Verdict::Down).is_some_and(|c| {
                match c.is_told() && !c.is_session() {
                    true => witnessed(c.since()),
                    false => member.rows.is_confirmed(**id),
                }
            })
        };
        member.primary.iter().filter(counts).count() >= primary.down_when.needed(member.primary.len())
    }

    /// The failures of the primary's probes: which of them count by now?
    fn judge_rows(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get(&id) else { return };
        let Some(require) = member.instance.config.require.clone() else { return };
        let required: Vec<&Check> = member.require.iter().filter_map(|id| self.checks.get(id)).collect();
        let known = |doubt: Doubt| {
            let was_well = gate::vouched(&require, &required, |c| self.says(c, &doubt))?;
            Some((doubt.check, was_well, gate::heard(&require, &required, doubt.counted, Duration::ZERO)))
        };
        let known: Vec<(CheckId, bool, bool)> = member.rows.doubtful().filter_map(known).collect();
        let Some(member) = self.members.get_mut(&id) else { return };
        for (check, was_well, heard) in &known {
            member.rows.settle(*check, *was_well, *heard, now);
        }
        if known.iter().any(|(_, was_well, _)| !was_well) {
            // As soon as that is answered the primary is probed once more.
            let required = member.require.clone();
            self.ask_witnesses(&required, now);
        }
    }

    /// A check's verdict changed, or (without `changed`) it has a new result: its success may be the witness that a
    /// takeover waits for, its failure the confirmation.
    pub(super) fn reconsider(&mut self, check: CheckId, changed: bool, now: Time) {
        for id in self.users_of(check) {
            let waits = |m: &Member| m.waits_for_witness || m.rows.is_in_doubt();
            if !(changed || self.members.get(&id).is_some_and(waits)) {
                continue;
            }
            if self.doubted.is_some() {
                self.timers.set(Timer::Instance(id), Some(now));
            } else {
                self.evaluate(id, now);
            }
        }
    }

    /// Lets an instance decide, carries out what it decided, and asks when it wants to be asked again.
    pub(super) fn evaluate(&mut self, id: InstanceId, now: Time) {
        // Nothing is decided before it is known what is there: what was left behind must be adopted or swept first.
        let leaves = self.members.get(&id).is_some_and(|m| m.instance.state() == State::Stop);
        if !self.fib.is_known() && !leaves {
            self.timers.set(Timer::Instance(id), None);
            return;
        }
        self.stale.insert(id);
        loop {
            self.judge_rows(id, now);
            self.judge_sessions(id, now);
            self.ask_sessions_again(id, now);
            let Some(member) = self.members.get(&id) else { return };
            let inputs = self.inputs(member, now);
            let Some(member) = self.members.get_mut(&id) else { return };
            match member.instance.decide(&inputs, now) {
                Some(transition) => self.carry_out(id, transition, now),
                None => {
                    let level = member.instance.level();
                    let deadline = member.instance.deadline(&inputs, now);
                    member.waits_for_witness = !(inputs.witnessed && inputs.drilled);
                    self.fib.set_level(id, level, false);
                    self.timers.set(Timer::Instance(id), deadline);
                    return;
                }
            }
        }
    }

    /// Kernel first, then journal; scripts at once, but those of MASTER when the kernel has everything.
    pub(super) fn carry_out(&mut self, id: InstanceId, transition: Transition, now: Time) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let name = member.name().clone();
        let level = member.instance.level();
        self.fib.set_level(id, level, transition.resumed);
        let (from, to) = (transition.from, transition.to);
        let record = self.journal.push(now, name, from, to, transition.reason.clone());
        record.timeline.first_bad_probe = transition.first_bad;
        record.drill = member.instance.pretence().is_some();
        let record = record.clone();
        self.tally.transition(&record.instance, to, &record.timeline);
        member.open = Some(record.seq);
        let seq = record.seq;
        self.open.insert(id);
        member.held = None;
        let handing_over = self.stopping == Some(Stopping::HandingOver);
        if handing_over {
            member.scripts.hand_over();
        } else {
            member.scripts.left(to, now);
        }
        if transition.was_cut_off {
            member.rows.forget();
        }
        let is_back = (from, to) == (State::Fault, State::Backup);
        let doubted = if is_back { member.primary.clone() } else { Vec::new() };
        let job = telling::job(member, &transition, record.seq, &self.config.node.name);
        // A MASTER that is resumed says nothing, unless its scripts had not run to their end when the last process went.
        let silent = handing_over || (transition.resumed && member.told);
        if !silent {
            member.begin_telling(to, seq, job.is_some());
        }
        self.emit(Effect::Journal(record));
        self.drill_decided(id, seq);
        match job {
            _ if silent => {}
            None => {}
            Some(job) if to == State::Master => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.held = Some(job);
                }
            }
            Some(job) => self.start_job(id, job, now),
        }
        self.set_script_timer(id);
        for check in doubted {
            match transition.was_cut_off {
                true => self.distrust(check, id, now),
                false => self.pardon(check, id, now),
            }
        }
        if transition.was_cut_off {
            self.give_sessions_time(id, now);
        }
    }

    /// After the kernel's answers: what waited for them goes on.
    pub(super) fn conclude(&mut self, now: Time) {
        if self.open.is_empty() {
            return;
        }
        let ids: Vec<InstanceId> = self.open.iter().copied().collect();
        for id in ids {
            self.conclude_one(id, now);
        }
    }

    fn conclude_one(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let progress = self.fib.progress(id);
        let full = member.instance.level() == instance::Level::Full;
        let done = match full {
            // It goes when BGP has told everybody.
            _ if member.instance.is_gshut() => false,
            true => self.fib.is_released(id) && progress.export_missing == 0 && progress.support_missing == 0,
            // What is left for the drain goes later; the announcement is what this is about.
            false => progress.leaving == 0,
        };
        if !done {
            return;
        }
        self.open.remove(&id);
        let held = member.held.take();
        if let Some(seq) = member.open.take() {
            self.note_step(seq, |t| t.kernel_acked = Some(now));
        }
        if let Some(job) = held {
            self.start_job(id, job, now);
        }
    }

    /// A step of a transition is done.
    pub(super) fn note_step(&mut self, seq: u64, step: impl FnOnce(&mut Timeline)) {
        if let Some(record) = self.journal.get_mut(seq) {
            let before = record.timeline;
            step(&mut record.timeline);
            let record = record.clone();
            self.tally.progress(record.to, &before, &record.timeline);
            self.emit(Effect::Journal(record));
        }
    }
}
