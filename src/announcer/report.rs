//! The read-only picture: status and explain.
//!
//! Both are taken in the loop, and both may tell of 100,000 routes: what is taken there is a copy, and the words are made
//! of it elsewhere ([`Picture::into_status`], [`Explanation::into_lines`]).

use std::time::Duration;

use super::Announcer;
use super::conduct::Member;
use super::event::Forced;
use super::gate::RequireState;
use super::instance;
use super::journal::{Record, State};
use super::timers::InstanceId;
use crate::config::model::{Failback, Instance};
use crate::fib::object::Action;
use crate::fib::view::Row;
use crate::health::{Check, Verdict};
use crate::status::{
    CheckStatus, EventStatus, InstanceStatus, KernelStatus, NodeStatus, Notice, OverrideStatus,
    PendingStatus, Status, WallClock, micros,
};
use crate::time::Time;

/// The status, but for the words about the kernel's objects.
#[derive(Clone, Debug)]
pub struct Picture {
    status: Status,
    rows: Vec<Row>,
}

impl Picture {
    /// Puts it in words.
    pub fn into_status(mut self) -> Status {
        self.rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // Two instances may plan the same object.
        self.rows.dedup_by(|a, b| a.key == b.key);
        self.status.kernel = self.rows.iter().map(kernel_status).collect();
        self.status
    }
}

/// The answer to `explain`.
#[derive(Clone, Debug)]
pub struct Explanation {
    before: Vec<String>,
    kernel: Vec<Action>,
    after: Vec<String>,
}

impl Explanation {
    /// Sentences, operations of the kernel, and what follows them.
    pub(super) fn new(before: Vec<String>, kernel: Vec<Action>, after: Vec<String>) -> Self {
        Explanation { before, kernel, after }
    }

    /// Puts it in words, a sentence or an operation a line.
    pub fn into_lines(self) -> Vec<String> {
        let kernel = self.kernel.iter().map(|action| {
            let object = action.object();
            format!("  kernel: {} {} {object}", action.verb(), object.kind())
        });
        self.before.into_iter().chain(kernel).chain(self.after).collect()
    }
}

impl Announcer {
    /// Everything on one screen.
    pub fn status(&self, now: Time, clock: &WallClock) -> Status {
        self.picture(now, clock).into_status()
    }

    /// The same, with the words to be made elsewhere.
    pub fn picture(&self, now: Time, clock: &WallClock) -> Picture {
        Picture { status: self.overview(now, clock), rows: self.fib.rows() }
    }

    /// The same without the kernel's objects: small however many routes there are.
    pub fn overview(&self, now: Time, clock: &WallClock) -> Status {
        let node = NodeStatus {
            name: self.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.date(self.started),
        };
        Status {
            node,
            instances: self.members.values().map(|m| self.instance_status(m, now, clock)).collect(),
            checks: self.checks_in_order().map(|c| check_status(c, clock)).collect(),
            bgp: self.bgp_status(now),
            bfd: self.bfd_status(clock),
            kernel: Vec::new(),
        }
    }

    /// In the order of the configuration.
    pub(super) fn checks_in_order(&self) -> impl Iterator<Item = &Check> {
        let ids = self.config.checks.iter().filter_map(|c| self.check_ids.get(&c.name));
        ids.filter_map(|id| self.checks.get(id))
    }

    /// Transitions with a number above `seq`, oldest first.
    pub fn events_after(&self, seq: u64) -> impl Iterator<Item = &Record> {
        self.journal.after(seq)
    }

    /// Why an instance is in its state, what would change it, and what it would do then: sentences.
    pub fn explain(&self, name: &str, now: Time, clock: &WallClock) -> Result<Explanation, String> {
        let id = self.id_of(name).ok_or_else(|| self.no_such_instance(name))?;
        let member = self.members.get(&id).ok_or_else(|| self.no_such_instance(name))?;
        let i = &member.instance;
        let mut text = vec![format!(
            "{name} is in {} since {}: {}.",
            i.state().word(),
            clock.date(i.since()),
            i.reason()
        )];
        self.explain_override(member, clock, &mut text);
        self.explain_primary(member, now, &mut text);
        self.explain_require(member, now, &mut text);
        self.explain_hops(member, &mut text);
        // What a session is given to come back is no delay of the instance's own, but it ends at a time, too.
        let returning = self.inputs(member, now).returning.map(|at| ("takeover", at));
        if let Some((what, at)) = i.pending().or(returning) {
            let left = humantime::format_duration(Duration::from_secs(at.since(now).as_secs()));
            text.push(format!("Pending: {what} in {left}, at {}.", clock.date(at)));
        }
        Ok(self.explain_next(id, member, text))
    }

    /// A transition as `notify_url` is told of it. Of an instance that a reload has removed, it is that alone.
    pub fn notice(&self, record: &Record, clock: &WallClock) -> Notice {
        let member = self.id_of(&record.instance).and_then(|id| self.members.get(&id));
        Notice {
            node: self.config.node.name.to_string(),
            event: EventStatus::new(record, clock),
            drill: record.drill,
            forced: member.and_then(|m| forced_status(m, clock)),
        }
    }

    fn instance_status(&self, member: &Member, now: Time, clock: &WallClock) -> InstanceStatus {
        let inputs = self.inputs(member, now);
        let i = &member.instance;
        InstanceStatus {
            name: i.config.name.to_string(),
            state: i.state(),
            since: clock.date(i.since()),
            reason: i.reason().to_owned(),
            forced: forced_status(member, clock),
            primary: inputs.primary.map(|p| p.state.word().to_owned()),
            require: i.config.require.as_ref().map(|_| inputs.require.state.word().to_owned()),
            pending: i
                .pending()
                .map(|(what, at)| PendingStatus { what: what.to_owned(), at: clock.date(at) }),
            flaps: i.flaps(),
            drill: i.pretence().is_some(),
        }
    }

    fn explain_override(&self, member: &Member, clock: &WallClock, text: &mut Vec<String>) {
        let Some(forced) = member.instance.forced() else { return };
        let name = member.name();
        let until = match forced.until {
            Some(t) => format!("until {}", clock.date(t)),
            None => format!("until `announcerctl auto {name}`"),
        };
        text.push(format!(
            "An operator forces {} {until}; `require` still counts.",
            forced_state(forced.state).word()
        ));
    }

    fn explain_primary(&self, member: &Member, now: Time, text: &mut Vec<String>) {
        let Some(view) = self.inputs(member, now).primary else {
            text.push("It has no primary to stand in for.".into());
            return;
        };
        text.push(format!("The primary is {}:", view.state.word()));
        self.explain_checks(&member.primary, text);
    }

    fn explain_require(&self, member: &Member, now: Time, text: &mut Vec<String>) {
        if member.require.is_empty() && member.instance.config.primary.is_none() {
            text.push("It requires nothing.".into());
            return;
        }
        if member.require.is_empty() {
            text.push("It requires nothing: its own isolation would look like the primary's death.".into());
            return;
        }
        let inputs = self.inputs(member, now);
        let word = match inputs.require.state {
            RequireState::Met if inputs.returning.is_some() => {
                "met, but it was not all the time (the primary's session has its time to come back)"
            }
            RequireState::Met if !inputs.witnessed => {
                "met, but by no answer as late as the primary's failure (the witness is awaited)"
            }
            state => state.word(),
        };
        text.push(format!("What it requires is {word}:"));
        self.explain_checks(&member.require, text);
    }

    fn explain_checks(&self, ids: &[super::timers::CheckId], text: &mut Vec<String>) {
        for check in ids.iter().filter_map(|id| self.checks.get(id)) {
            let threshold = check.threshold();
            let change = match (check.is_told(), threshold.to_down(), threshold.to_up()) {
                (true, ..) => "changes at once with what it watches".to_owned(),
                (_, Some(n), None) => format!("{n} more failed probes make it down"),
                (_, None, Some(n)) => format!("{n} more good probes make it up"),
                (_, Some(down), Some(up)) => format!("{up} good probes make it up, {down} failed ones down"),
                (_, None, None) => String::new(),
            };
            text.push(format!("  {}: {change}", check.describe()));
        }
    }

    fn explain_next(&self, id: InstanceId, member: &Member, mut before: Vec<String>) -> Explanation {
        let config = &member.instance.config;
        let has_primary = config.primary.is_some();
        let (to, level) = match member.instance.state() {
            State::Master if has_primary || member.require.is_empty() => {
                (State::Backup, instance::Level::Base)
            }
            State::Master => (State::Fault, instance::Level::Base),
            _ => (State::Master, instance::Level::Full),
        };
        before.push(match (to, config.failback) {
            (State::Backup, _) if !has_primary => format!(
                "With neither, it stays MASTER until an operator forces it: announcerctl force {} backup. Then it would:",
                config.name
            ),
            (State::Fault, _) => {
                "It is MASTER until what it requires is no longer met. Then it would go to FAULT:".to_owned()
            }
            (_, _) if !has_primary => format!(
                "It is MASTER as soon as what it requires is met{}. Then it would:",
                after_delay(config.takeover_delay)
            ),
            (State::Backup, Failback::Manual) => {
                format!("It hands back by `announcerctl failback {}` only. Then it would:", config.name)
            }
            (State::Backup, Failback::Auto) => format!(
                "It hands back when the primary has been well for {}. Then it would:",
                humantime::format_duration(member.instance.failback_delay())
            ),
            _ => format!(
                "It takes over when the primary is down and what it requires is met{}. Then it would:",
                after_delay(config.takeover_delay)
            ),
        });
        let bgp = self.preview_bgp(config, to).into_iter().map(|s| format!("  bgp: {s}"));
        let scripts = scripts_of(config, to).into_iter().map(|s| format!("  script: {s}"));
        Explanation { before, kernel: self.fib.preview(id, level), after: bgp.chain(scripts).collect() }
    }
}

fn kernel_status(row: &Row) -> KernelStatus {
    KernelStatus {
        kind: row.object.kind().to_owned(),
        object: row.object.to_string(),
        desired: row.desired,
        observed: row.observed,
        error: row.error.as_ref().map(ToString::to_string),
    }
}

fn after_delay(delay: Duration) -> String {
    match delay {
        d if d.is_zero() => String::new(),
        d => format!(", {} after that", humantime::format_duration(d)),
    }
}

fn scripts_of(config: &Instance, state: State) -> Vec<String> {
    let own = match state {
        State::Master => &config.notify.master,
        State::Fault => &config.notify.fault,
        _ => &config.notify.backup,
    };
    let mut all = Vec::new();
    if !own.is_empty() {
        all.push(own.join(" "));
    }
    if !config.notify.any.is_empty() {
        all.push(format!("{} INSTANCE {} {} 100", config.notify.any.join(" "), config.name, state.word()));
    }
    all
}

/// True if a transition to that state runs a script.
pub(super) fn has_scripts(config: &Instance, state: State) -> bool {
    !scripts_of(config, state).is_empty()
}

fn forced_status(member: &Member, clock: &WallClock) -> Option<OverrideStatus> {
    let forced = member.instance.forced()?;
    Some(OverrideStatus { state: forced_state(forced.state), until: forced.until.map(|t| clock.date(t)) })
}

fn forced_state(forced: Forced) -> State {
    match forced {
        Forced::Master => State::Master,
        Forced::Backup => State::Backup,
    }
}

fn check_status(check: &Check, clock: &WallClock) -> CheckStatus {
    let threshold = check.threshold();
    CheckStatus {
        name: check.config.name.to_string(),
        kind: check.config.probe.kind().to_owned(),
        verdict: check.verdict().word().to_owned(),
        since: clock.date(check.since()),
        last_rtt_us: check.last_rtt().map(micros),
        last_error: check
            .last_error()
            .filter(|_| check.verdict() != Verdict::Up || threshold.failures() > 0)
            .map(str::to_owned),
        successes: threshold.successes(),
        failures: threshold.failures(),
    }
}
