//! The scripts of a transition: which they are, and what follows from how they end.

use super::Member;
use crate::announcer::effect::Level;
use crate::announcer::event::{ScriptEnd, ScriptId};
use crate::announcer::instance::Transition;
use crate::announcer::journal::State;
use crate::announcer::scripts::{Action, Job};
use crate::announcer::timers::{InstanceId, Timer};
use crate::announcer::{Announcer, Effect};
use crate::time::Time;

impl Announcer {
    pub(super) fn start_job(&mut self, id: InstanceId, job: Job, now: Time) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let actions = member.scripts.push(job, now, &mut self.next_script);
        self.script_actions(id, actions, now);
    }

    pub(in crate::announcer) fn on_script(&mut self, script: ScriptId, end: &ScriptEnd, now: Time) {
        let ids: Vec<InstanceId> = self.members.keys().copied().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.scripts.is_running(script) {
                self.tally.script(member.name(), end);
            }
            let actions = member.scripts.ended(script, end, now, &mut self.next_script);
            self.script_actions(id, actions, now);
        }
    }

    pub(in crate::announcer) fn on_script_timer(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let actions = member.scripts.timeout(now, &mut self.next_script);
        self.script_actions(id, actions, now);
    }

    fn script_actions(&mut self, id: InstanceId, actions: Vec<Action>, now: Time) {
        for action in actions {
            match action {
                Action::Run(run) => self.emit(Effect::RunScript(run)),
                Action::Kill(script) => self.emit(Effect::KillScript(script)),
                Action::Failed(text) => {
                    self.drill_script_failed(id);
                    let name = self.members.get(&id).map(|m| m.name().clone());
                    self.log(Level::Error, name.as_ref(), text);
                }
                Action::Done(seq, in_full) => {
                    self.note_step(seq, |t| t.notify_done = Some(now));
                    if let Some(member) =
                        self.members.get_mut(&id).filter(|m| m.telling == Some(seq) && in_full)
                    {
                        (member.told, member.telling) = (true, None);
                        self.stale.insert(id);
                    }
                }
            }
        }
        self.set_script_timer(id);
    }

    pub(super) fn set_script_timer(&mut self, id: InstanceId) {
        let deadline = self.members.get(&id).and_then(|m| m.scripts.deadline());
        self.timers.set(Timer::Script(id), deadline);
    }
}

/// The scripts of a transition, as keepalived calls them; None if there are none.
pub(super) fn job(member: &Member, transition: &Transition, seq: u64, node: &str) -> Option<Job> {
    /// keepalived's priority for an instance that has none.
    const PRIORITY: &str = "100";
    let config = &member.instance.config;
    let (notify, name, state) = (&config.notify, &config.name, transition.to);
    let own = match state {
        State::Master => &notify.master,
        State::Backup => &notify.backup,
        State::Fault => &notify.fault,
        State::Stop => &notify.stop,
        State::Init => return None,
    };
    let mut commands = std::collections::VecDeque::new();
    if !own.is_empty() {
        commands.push_back(own.clone());
    }
    if !notify.any.is_empty() {
        let mut any = notify.any.clone();
        any.extend(["INSTANCE", name, state.word(), PRIORITY].map(str::to_owned));
        commands.push_back(any);
    }
    if commands.is_empty() {
        return None;
    }
    let env = vec![
        ("ANNOUNCERD_NODE", node.to_owned()),
        ("ANNOUNCERD_INSTANCE", name.to_string()),
        ("ANNOUNCERD_STATE", state.word().to_owned()),
        ("ANNOUNCERD_PREVIOUS_STATE", transition.from.word().to_owned()),
        ("ANNOUNCERD_REASON", transition.reason.clone()),
        ("ANNOUNCERD_PRIORITY", PRIORITY.to_owned()),
        ("ANNOUNCERD_SEQ", seq.to_string()),
    ];
    Some(Job { seq, state, commands, env, timeout: notify.timeout, retry: notify.retry })
}
