//! What operators ask, and the way out.

use std::time::Duration;

use super::conduct::Member;
use super::effect::Level;
use super::event::{Command, RequestId};
use super::instance;
use super::memory::Override;
use super::timers::{InstanceId, Timer};
use super::{Announcer, Effect, Stopping};
use crate::config::model::{Name, OnStop};
use crate::fib::desired;
use crate::time::Time;

/// What a stop may take beyond drain and scripts.
const STOP_SLACK: Duration = Duration::from_secs(10);
/// How long a handover waits for its successor.
const HANDOVER: Duration = Duration::from_secs(60);
/// How long the peers have to hear the withdraw of a drill that a handover ends.
const DRILL_OVER: Duration = Duration::from_secs(1);

impl Announcer {
    pub(super) fn on_command(&mut self, request: RequestId, command: Command, now: Time) {
        let answer = match command {
            Command::LeaveDrill => return self.leave_drill(request, now),
            Command::Drill { .. } if self.stopping.is_some() => Err("announcerd is stopping".into()),
            Command::Drill { instance, hold } => self.start_drill(request, &instance, hold, now),
            command => self.obey(command, now),
        };
        if let Ok(text) = &answer {
            let text = format!("an operator asked: {text}");
            self.log(Level::Info, None, text);
        }
        self.emit(Effect::Reply { id: request, answer });
    }

    fn obey(&mut self, command: Command, now: Time) -> Result<String, String> {
        if self.stopping.is_some() {
            return Err("announcerd is stopping".into());
        }
        let name = match &command {
            Command::Maintenance { on } => return Ok(self.set_maintenance(*on, now)),
            Command::Handover => return Ok(self.begin_handover(now)),
            Command::Force { instance, .. }
            | Command::Auto { instance }
            | Command::Failback { instance, .. }
            | Command::Drill { instance, .. } => instance,
            Command::LeaveDrill => return Ok(String::new()), // never comes here
        };
        let id = self.id_of(name).ok_or_else(|| self.no_such_instance(name))?;
        let answer = match command {
            Command::Force { instance, state, lasting } => {
                let until = lasting.map(|d| now + d);
                self.change(id, |m| m.instance.force(Some(Override { state, until })));
                let state = format!("{state:?}").to_uppercase();
                match lasting {
                    Some(d) => format!("{instance}: forced to {state} for {}", humantime::format_duration(d)),
                    None => format!("{instance}: forced to {state} until `announcerctl auto {instance}`"),
                }
            }
            Command::Auto { instance } => {
                self.change(id, |m| m.instance.force(None));
                format!("{instance}: back to the ordinary rules")
            }
            Command::Failback { reset_flaps, .. } => {
                let inputs = self.members.get(&id).map(|m| self.inputs(m, now));
                let member = self.members.get_mut(&id).zip(inputs);
                let (member, inputs) = member.ok_or_else(|| "that instance has just left".to_owned())?;
                member.instance.ask_failback(&inputs, reset_flaps)?
            }
            // Answered above.
            Command::Maintenance { .. } | Command::Handover | Command::Drill { .. } | Command::LeaveDrill => {
                String::new()
            }
        };
        self.evaluate(id, now);
        Ok(answer)
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&id) {
            change(member);
        }
    }

    pub(super) fn no_such_instance(&self, name: &str) -> String {
        let names: Vec<&str> = self.config.instances.iter().map(|i| &*i.name).collect();
        format!("there is no instance `{name}`; there are: {}", names.join(", "))
    }

    /// SIGTERM. A second one cuts the drain short.
    pub(super) fn on_terminate(&mut self, now: Time) {
        // An upgrade says `handover` and then waits for the end with a signal.
        if self.timers.runs(Timer::Handover) {
            return;
        }
        let ids: Vec<InstanceId> = self.members.keys().copied().collect();
        if self.stopping.is_some() {
            for id in ids {
                self.change(id, |m| m.instance.cut_drain());
                self.evaluate(id, now);
            }
            return;
        }
        self.stopping = Some(Stopping::Leaving);
        self.timers.set(Timer::StopBound, Some(now + self.stop_bound()));
        self.kept_until = self.keep_max().map(|d| now + d);
        let moments: Vec<Duration> = ids.iter().map(|id| self.moment_of(*id)).collect();
        self.stop_peers(now);
        for (id, moment) in ids.into_iter().zip(moments) {
            self.leave(id, "announcerd stops", true, moment, now);
        }
        self.fib.retry(now, true);
    }

    /// `handover`. What a drill announces is not handed over: who comes next knows nothing of the drill.
    fn begin_handover(&mut self, now: Time) -> String {
        let seconds = HANDOVER.as_secs();
        let words = format!("kernel objects stay; start the successor within {seconds} s, or they are swept");
        if self.interrupt_drill("interrupted: handover", now) {
            self.timers.set(Timer::Handover, Some(now + DRILL_OVER));
            return format!("the drill is handed back first; then handing over: {words}");
        }
        self.hand_over(now);
        format!("handing over: {words}")
    }

    /// The kernel stays as it is, the peers keep our routes where they can, the successor has a minute.
    pub(super) fn hand_over(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping::HandingOver);
        self.timers.set(Timer::StopBound, Some(now + STOP_SLACK));
        self.kept_until = Some(now + HANDOVER);
        self.hand_over_peers(now);
        let ids: Vec<InstanceId> = self.members.keys().copied().collect();
        for id in ids {
            let transition = self.members.get_mut(&id).and_then(|m| m.instance.hand_over(now));
            if let Some(transition) = transition {
                self.carry_out(id, transition, now);
            }
            self.evaluate(id, now);
        }
    }

    /// An instance goes to STOP.
    pub(super) fn leave(
        &mut self,
        id: InstanceId,
        reason: &str,
        may_keep: bool,
        moment: Duration,
        now: Time,
    ) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(transition) = member.instance.stop(reason, may_keep, moment, now) {
            self.carry_out(id, transition, now);
        }
        self.evaluate(id, now);
    }

    /// How long what instances leave in the kernel may stay; None if nothing stays.
    fn keep_max(&self) -> Option<Duration> {
        let keeps = |m: &&Member| match m.instance.heritable_level() {
            instance::Level::Full => true,
            instance::Level::Drain | instance::Level::Base => {
                desired::has_base(&m.instance.config) || m.announces_as_backup()
            }
            instance::Level::Nothing => false,
        };
        self.members.values().filter(|m| !m.retired).filter(keeps).filter_map(kept_for).min()
    }

    /// How long a stop may take: drain, scripts, and what else there is to do.
    pub fn stop_bound(&self) -> Duration {
        let configs = || self.members.values().map(|m| &m.instance.config);
        let drain = configs().map(|c| c.drain).max().unwrap_or_default();
        // One script may be running, and one waits; each may be two commands.
        let scripts = configs().map(|c| c.notify.timeout * 4).max().unwrap_or_default();
        drain.max(scripts) + STOP_SLACK
    }

    /// Ends the process, or forgets a retired instance, once nothing is left to do for it.
    pub(super) fn leave_if_done(&mut self) {
        let is_over = |id: &&InstanceId| self.members.get(id).is_none_or(|m| self.is_gone(**id, m));
        let gone: Vec<InstanceId> = self.retired.iter().filter(is_over).copied().collect();
        for id in gone {
            self.forget_instance(id);
        }
        let done = match self.stopping {
            Some(Stopping::Leaving) => {
                let gone = self.members.iter().all(|(id, m)| self.is_gone(*id, m));
                let swept = self.fib.is_known() && self.fib.is_quiet() && !self.fib.has_leftovers();
                gone && (swept || self.is_kernel_unreadable())
            }
            Some(Stopping::HandingOver) => {
                self.members.values().all(|m| m.scripts.is_idle()) && self.fib.is_quiet()
            }
            Some(Stopping::Gone) | None => false,
        };
        if done && self.peers_are_gone() {
            self.exit();
        }
    }

    fn is_gone(&self, id: InstanceId, member: &Member) -> bool {
        member.instance.has_drained() && member.scripts.is_idle() && self.fib.progress(id).leaving == 0
    }

    fn forget_instance(&mut self, id: InstanceId) {
        self.fib.remove(id);
        if let Some(member) = self.members.remove(&id) {
            self.tally.forget(member.name());
        }
        self.open.remove(&id);
        self.retired.remove(&id);
        self.index_users();
        self.timers.set(Timer::Instance(id), None);
        self.timers.set(Timer::Script(id), None);
        self.memory_stale = true;
    }

    pub(super) fn give_up_stopping(&mut self) {
        let stuck: Vec<Name> = self
            .members
            .iter()
            .filter(|(id, m)| !self.is_gone(**id, m))
            .map(|(_, m)| m.name().clone())
            .collect();
        self.log(
            Level::Error,
            None,
            format!("stopping took too long ({}); leaving all the same", stuck.join(", ")),
        );
        self.exit();
    }

    fn exit(&mut self) {
        let handover = self.stopping == Some(Stopping::HandingOver);
        self.stopping = Some(Stopping::Gone);
        let under_way: Vec<_> = self.outstanding.keys().copied().collect();
        for id in under_way {
            self.cancel_probe(id);
        }
        self.memory_stale = true;
        self.save_if_changed();
        let sweep_after = if handover { Some(HANDOVER) } else { self.keep_max() };
        self.emit(Effect::Exit { sweep_after });
    }
}

/// How long what it leaves may stay, if it is to leave anything.
pub(super) fn kept_for(member: &Member) -> Option<Duration> {
    match member.instance.config.on_stop {
        OnStop::Keep { max } => Some(max),
        OnStop::Withdraw => None,
    }
}
