//! The drill: a failover exercise. It pretends that the primary is down, lets everything else happen for real, verifies each
//! step, hands back, and verifies that.
//!
//! Only the verdict is pretended: `require`, its witness, `takeover_delay`, drain and scripts are the real ones, and an
//! operator's override, maintenance or the end of the client's connection end it. If the primary really fails meanwhile, the
//! ordinary rules go on from there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bgp::GSHUT;
use super::conduct::Member;
use super::effect::{DrillNews, Level};
use super::event::RequestId;
use super::gate::{PrimaryState, RequireState};
use super::instance;
use super::journal::State;
use super::report::Explanation;
use super::timers::{InstanceId, Timer};
use super::{Announcer, Effect};
use crate::config::model::{self, Name};
use crate::health::Check;
use crate::time::Time;

/// What kernel and peers may take for their part of a step.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an instance is to make of its primary during a drill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pretence {
    /// Down since then.
    Down(Time),
    /// Well again.
    Well,
}

/// Where a drill is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    TakingOver,
    Holding { until: Time },
    HandingBack,
}

/// Something that must be seen before a phase is over.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Decision,
    Kernel,
    Peer(Name),
    Scripts,
}

/// The drill under way.
#[derive(Clone, Debug)]
pub(super) struct Drill {
    id: InstanceId,
    name: Name,
    client: RequestId,
    began: Time,
    hold: Duration,
    phase: Phase,
    phase_began: Time,
    deadline: Time,
    open: Vec<Step>,
    /// The transition of this phase, once it is decided.
    seq: Option<u64>,
    /// The kernel is read back once it has acknowledged: seen when so many dumps have been.
    dumps: Option<u64>,
    acked: BTreeSet<String>,
    script_failed: bool,
    failed: bool,
}

impl Drill {
    fn enter(&mut self, phase: Phase, open: Vec<Step>, deadline: Time, now: Time) {
        (self.phase, self.phase_began, self.deadline, self.open) = (phase, now, deadline, open);
        (self.seq, self.dumps, self.script_failed) = (None, None, false);
        self.acked.clear();
    }
}

impl Announcer {
    /// Begins a drill. Errors say why that cannot be.
    pub(super) fn start_drill(
        &mut self,
        client: RequestId,
        name: &str,
        hold: Duration,
        now: Time,
    ) -> Result<String, String> {
        let id = self.may_drill(name, now)?;
        let Some(member) = self.members.get_mut(&id) else { return Err(self.no_such_instance(name)) };
        member.instance.pretend(Some(Pretence::Down(now)));
        let (config, required) = (member.instance.config.clone(), member.require.clone());
        let deadline = now + config.takeover_delay + patience(&config, State::Master);
        let mut drill = Drill {
            id,
            name: config.name.clone(),
            client,
            began: now,
            hold,
            phase: Phase::TakingOver,
            phase_began: now,
            deadline,
            open: Vec::new(),
            seq: None,
            dumps: None,
            acked: BTreeSet::new(),
            script_failed: false,
            failed: false,
        };
        drill.enter(Phase::TakingOver, steps(&config, State::Master), deadline, now);
        self.timers.set(Timer::Drill, Some(deadline));
        self.drill = Some(drill);
        self.log(Level::Warn, Some(&config.name), "drill: pretending that the primary is down");
        self.ask_witnesses(&required, now);
        self.evaluate(id, now);
        Ok(format!("{name}: drill begins; hold {}", humantime::format_duration(hold)))
    }

    /// What a drill would do, or why it would be refused.
    pub fn plan_drill(&self, name: &str, now: Time) -> Result<Explanation, String> {
        let id = self.may_drill(name, now)?;
        let member = self.members.get(&id).ok_or_else(|| self.no_such_instance(name))?;
        Ok(self.explain_drill(id, member))
    }

    fn may_drill(&self, name: &str, now: Time) -> Result<InstanceId, String> {
        let id = self.id_of(name).ok_or_else(|| self.no_such_instance(name))?;
        let member = self.members.get(&id).ok_or_else(|| self.no_such_instance(name))?;
        if let Some(other) = &self.drill {
            return Err(format!("a drill of {} is under way; one at a time", other.name));
        }
        if self.in_maintenance() {
            return Err("the node is in maintenance; end that first: announcerctl maintenance off".into());
        }
        if member.instance.forced().is_some() {
            return Err(format!("{name} is forced; end that first: announcerctl auto {name}"));
        }
        if member.instance.state() != State::Backup {
            let word = member.instance.state().word();
            return Err(format!("{name} is in {word}: a drill begins in BACKUP"));
        }
        if let Some((what, _)) = member.instance.pending() {
            return Err(format!("{name} waits for its {what}; try again when that is over"));
        }
        let inputs = self.inputs(member, now);
        if inputs.require.state != RequireState::Met {
            let (word, why) = (inputs.require.state.word(), &inputs.require.reason);
            return Err(format!("what {name} requires is {word} ({why}): a takeover would fail"));
        }
        match inputs.primary {
            None => Err(format!("{name} has no primary that could seem down")),
            Some(p) if p.state != PrimaryState::Well => {
                Err(format!("the primary is {} ({}): that is no time for a drill", p.state.word(), p.reason))
            }
            Some(_) => Ok(id),
        }
    }

    /// A transition of that number was decided.
    pub(super) fn drill_decided(&mut self, id: InstanceId, seq: u64) {
        if let Some(drill) = self.drill.as_mut().filter(|d| d.id == id) {
            drill.seq = Some(seq);
        }
    }

    /// A peer's TCP has all that it was told up to that transition.
    pub(super) fn drill_acked(&mut self, peer: &str, token: u64) {
        if let Some(drill) = self.drill.as_mut().filter(|d| d.seq.is_some_and(|seq| token >= seq)) {
            drill.acked.insert(peer.to_owned());
        }
    }

    /// A script of an instance failed.
    pub(super) fn drill_script_failed(&mut self, id: InstanceId) {
        if let Some(drill) = self.drill.as_mut().filter(|d| d.id == id) {
            drill.script_failed = true;
        }
    }

    /// The client of a drill is no longer there: hand back at once.
    pub(super) fn leave_drill(&mut self, client: RequestId, now: Time) {
        if self.drill.as_ref().is_some_and(|d| d.client == client) {
            self.interrupt_drill("interrupted: the operator has left", now);
        }
    }

    /// A drill hands back at once. True if one is under way.
    pub(super) fn interrupt_drill(&mut self, why: &str, now: Time) -> bool {
        let Some(drill) = &self.drill else { return false };
        if drill.phase != Phase::HandingBack {
            self.tell_drill(Some(false), why, now);
            self.hand_back(now);
        }
        true
    }

    /// A drill whose time is over hands back before anything more is done for it: nothing is announced to be withdrawn in
    /// the same turn.
    pub(super) fn end_drill_in_time(&mut self, now: Time) {
        let is_over = |d: &Drill| match d.phase {
            Phase::TakingOver => d.deadline <= now,
            Phase::Holding { until } => until <= now,
            Phase::HandingBack => false,
        };
        if self.drill.as_ref().is_some_and(is_over) {
            self.watch_drill(now);
        }
    }

    /// After every event: what has been seen of the drill's steps? True if that changed what is wanted.
    pub(super) fn watch_drill(&mut self, now: Time) -> bool {
        let Some(drill) = &self.drill else { return false };
        let (id, phase) = (drill.id, drill.phase);
        let Some(member) = self.members.get(&id).filter(|m| !m.retired) else {
            return self.end_drill("interrupted: the instance is no longer configured", now);
        };
        if self.stopping.is_some() {
            return self.end_drill("interrupted: announcerd stops", now);
        }
        if member.instance.forced().is_some() || self.in_maintenance() {
            return self.end_drill("interrupted: an operator decides otherwise", now);
        }
        let state = member.instance.state();
        match phase {
            Phase::TakingOver if state == State::Fault => {
                self.end_drill("interrupted: what it requires is not met", now)
            }
            Phase::Holding { .. } if state != State::Master => {
                self.end_drill("interrupted: it is no longer MASTER", now)
            }
            Phase::HandingBack if state == State::Master && self.is_really_down(id, now) => {
                self.end_drill("the primary really is down now: it stays MASTER", now)
            }
            Phase::TakingOver | Phase::HandingBack => self.check_steps(id, now),
            Phase::Holding { until } if until <= now => {
                self.hand_back(now);
                true
            }
            Phase::Holding { .. } => false,
        }
    }

    fn is_really_down(&self, id: InstanceId, now: Time) -> bool {
        self.members
            .get(&id)
            .is_some_and(|m| m.instance.knows_death() || self.inputs(m, now).is_really_down())
    }

    fn check_steps(&mut self, id: InstanceId, now: Time) -> bool {
        let open = self.drill.as_mut().map(|d| std::mem::take(&mut d.open)).unwrap_or_default();
        let mut still = Vec::new();
        for step in open {
            match self.is_seen(id, &step, now) {
                Some((ok, words)) => self.tell_drill(Some(ok), &words, now),
                None => still.push(step),
            }
        }
        let Some(drill) = &mut self.drill else { return false };
        let (phase, late) = (drill.phase, drill.deadline <= now);
        let names: Vec<String> = still.iter().map(Step::words).collect();
        drill.open = still;
        if late && !names.is_empty() {
            self.tell_drill(Some(false), &format!("not seen in time: {}", names.join(", ")), now);
        } else if !names.is_empty() {
            return false;
        }
        match (phase, late && !names.is_empty()) {
            (Phase::TakingOver, false) => {
                self.begin_hold(now);
                true
            }
            (Phase::TakingOver, true) => {
                self.hand_back(now);
                true
            }
            _ => {
                let state = self.members.get(&id).map_or(State::Stop, |m| m.instance.state());
                self.end_drill(&format!("it is in {}", state.word()), now)
            }
        }
    }

    /// Whether a step has been seen, and how it went, in words.
    fn is_seen(&mut self, id: InstanceId, step: &Step, now: Time) -> Option<(bool, String)> {
        let (seq, phase, dumps, script_failed) = {
            let drill = self.drill.as_ref()?;
            (drill.seq?, drill.phase, drill.dumps, drill.script_failed)
        };
        let wanted = if phase == Phase::TakingOver { State::Master } else { State::Backup };
        let member = self.members.get(&id)?;
        let timeline = self.journal.after(seq.checked_sub(1)?).next().filter(|r| r.seq == seq)?.timeline;
        match step {
            Step::Decision => {
                (member.instance.state() == wanted).then(|| (true, format!("{} is decided", wanted.word())))
            }
            Step::Kernel => {
                let acked = timeline.kernel_acked?.since(timeline.decision?);
                // What is left for the drain goes later.
                let settled = member.instance.pending().is_none_or(|(what, _)| what != "drain");
                let p = self.fib.progress(id);
                if !settled || p.support_missing + p.export_missing + p.leaving > 0 {
                    return None;
                }
                let Some(dumps) = dumps else {
                    let target = self.tally.dumps + 1 + u64::from(!self.dump_is_idle());
                    if let Some(drill) = &mut self.drill {
                        drill.dumps = Some(target);
                    }
                    self.want_dump(now);
                    return None;
                };
                let verb = if wanted == State::Master { "has" } else { "no longer has" };
                let ms = acked.as_secs_f64() * 1e3;
                let words = format!(
                    "the kernel acknowledged {ms:.1} ms after the decision; read back, it {verb} what MASTER needs"
                );
                (self.tally.dumps >= dumps).then_some((true, words))
            }
            Step::Peer(peer) => {
                let acked = self.drill.as_ref().is_some_and(|d| d.acked.contains(&**peer));
                let what = if wanted == State::Master { "the announcement" } else { "the withdrawal" };
                acked.then(|| (true, format!("{peer} has acknowledged {what}")))
            }
            Step::Scripts => {
                timeline.notify_done?;
                let words = if script_failed { "a script failed" } else { "the scripts ended well" };
                Some((!script_failed, words.to_owned()))
            }
        }
    }

    fn begin_hold(&mut self, now: Time) {
        let Some(drill) = &mut self.drill else { return };
        let until = now + drill.hold;
        drill.enter(Phase::Holding { until }, Vec::new(), until, now);
        let text = format!("takeover verified; holding for {}", humantime::format_duration(drill.hold));
        self.timers.set(Timer::Drill, Some(until));
        self.tell_drill(None, &text, now);
    }

    fn hand_back(&mut self, now: Time) {
        let Some(drill) = &mut self.drill else { return };
        let id = drill.id;
        let Some(member) = self.members.get_mut(&id) else { return };
        let config = member.instance.config.clone();
        // A takeover that never came needs no way back.
        let took = member.instance.state() == State::Master;
        member.instance.pretend(Some(Pretence::Well));
        let deadline = now + config.drain + GSHUT + patience(&config, State::Backup);
        let open = if took { steps(&config, State::Backup) } else { Vec::new() };
        drill.enter(Phase::HandingBack, open, deadline, now);
        self.timers.set(Timer::Drill, Some(deadline));
        self.tell_drill(None, "handing back", now);
        self.evaluate(id, now);
    }

    /// The end; `verified` only if no step failed and all is as it was.
    fn end_drill(&mut self, why: &str, now: Time) -> bool {
        let Some(drill) = &self.drill else { return false };
        let (id, done) = (drill.id, drill.phase == Phase::HandingBack && drill.open.is_empty());
        let back = self.members.get(&id).is_some_and(|m| m.instance.state() == State::Backup);
        self.tell_drill(Some(done && back), why, now);
        let Some(drill) = self.drill.take() else { return false };
        self.timers.set(Timer::Drill, None);
        if let Some(member) = self.members.get_mut(&id) {
            member.instance.pretend(None);
        }
        let verified = !drill.failed;
        let text = format!(
            "{} in {:.1} s",
            if verified { "every step was verified" } else { "NOT every step was verified" },
            now.since(drill.began).as_secs_f64()
        );
        self.emit(Effect::Drill(DrillNews {
            instance: drill.name.clone(),
            at: now,
            since_began: now.since(drill.began),
            in_phase: Duration::ZERO,
            ok: Some(verified),
            text: text.clone(),
            done: true,
        }));
        self.log(
            if verified { Level::Info } else { Level::Error },
            Some(&drill.name),
            format!("drill: {text}"),
        );
        self.evaluate(id, now);
        true
    }

    fn tell_drill(&mut self, ok: Option<bool>, text: &str, now: Time) {
        let Some(drill) = &mut self.drill else { return };
        drill.failed |= ok == Some(false);
        let news = DrillNews {
            instance: drill.name.clone(),
            at: now,
            since_began: now.since(drill.began),
            in_phase: now.since(drill.phase_began),
            ok,
            text: text.to_owned(),
            done: false,
        };
        let level = if ok == Some(false) { Level::Error } else { Level::Info };
        let name = drill.name.clone();
        self.emit(Effect::Drill(news));
        self.log(level, Some(&name), format!("drill: {text}"));
    }

    /// Whether what the drilled instance requires has answered since the drill began.
    pub(super) fn is_drilled(&self, member: &Member, required: &[&Check]) -> bool {
        let Some(Pretence::Down(began)) = member.instance.pretence() else { return true };
        let require = member.instance.config.require.as_ref();
        require.is_none_or(|r| super::gate::witnessed(r, required, began))
    }

    fn explain_drill(&self, id: InstanceId, member: &Member) -> Explanation {
        let config = &member.instance.config;
        let mut before = vec![format!(
            "A drill would probe what {} requires, and then, with its primary taken to be down:",
            config.name
        )];
        if !config.takeover_delay.is_zero() {
            before.push(format!(
                "  wait: takeover_delay {}",
                humantime::format_duration(config.takeover_delay)
            ));
        }
        let mut after: Vec<String> =
            self.preview_bgp(config, State::Master).into_iter().map(|s| format!("  bgp: {s}")).collect();
        if super::report::has_scripts(config, State::Master) {
            after.push("  script: those of MASTER".into());
        }
        after.push(
            "It would verify each of these, hold, hand back, and verify that. Nothing was done.".into(),
        );
        Explanation::new(before, self.fib.preview(id, instance::Level::Full), after)
    }
}

impl Step {
    fn words(&self) -> String {
        match self {
            Step::Decision => "the decision".into(),
            Step::Kernel => "the kernel as it should be".into(),
            Step::Peer(peer) => format!("{peer}'s acknowledgement"),
            Step::Scripts => "the end of the scripts".into(),
        }
    }
}

fn steps(config: &model::Instance, to: State) -> Vec<Step> {
    let mut steps = vec![Step::Decision, Step::Kernel];
    // Who is told the same as BACKUP and as MASTER has nothing to acknowledge.
    let changing = config.announces.iter().filter(|a| a.backup.as_ref() != Some(&a.master));
    let peers: BTreeSet<&Name> = changing.flat_map(|a| &a.peers).collect();
    steps.extend(peers.into_iter().map(|p| Step::Peer(p.clone())));
    if super::report::has_scripts(config, to) {
        steps.push(Step::Scripts);
    }
    steps
}

fn patience(config: &model::Instance, to: State) -> Duration {
    let scripts =
        if super::report::has_scripts(config, to) { config.notify.timeout * 2 } else { Duration::ZERO };
    PATIENCE + scripts
}
