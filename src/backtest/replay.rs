//! A trace played to the core in virtual time.
//!
//! When the core sends a probe, the answer is that of the last recorded probe that was sent by then. Kernel, scripts and
//! BGP are left out: a back-test is about decisions. Checks that are not probed in the trace (a link, a session) are
//! taken to be well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::trace::{Row, Seen, Series, Trace};
use crate::announcer::event::{Dump, Event, Outcome, ProbeId};
use crate::announcer::journal::State;
use crate::announcer::{Announcer, Effect, Legacy};
use crate::config::model::{Check, Config, File, Instance, Name, Notify, Probe};
use crate::time::Time;

/// Before the next trouble the time is lived through from so far on, so that the core is in step when it comes.
const APPROACH: Duration = Duration::from_secs(5);
/// A recording that says nothing for so many of its usual steps has a gap, in which nothing is known…
const GAP_STEPS: u32 = 3;
/// …but not if it is shorter than this.
const GAP_LEAST: Duration = Duration::from_secs(5);

/// A change of state in the replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// When, nanoseconds since 1970.
    pub at: i64,
    /// Whose.
    pub instance: Name,
    /// From which state.
    pub from: State,
    /// To which state.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// What a configuration makes of a trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Story {
    /// Every transition, in order.
    pub changes: Vec<Change>,
    /// From when to when, nanoseconds since 1970.
    pub span: (i64, i64),
}

/// What a configuration has that a trace cannot play: in words, for the person who asked.
pub fn shortcomings(config: &Config, trace: &Trace) -> Result<Vec<String>, String> {
    if trace.is_empty() {
        return Err("the trace is empty".into());
    }
    let mut notes = Vec::new();
    for check in &config.checks {
        let used = |i: &Arc<Instance>| {
            let primary = i.primary.as_ref().is_some_and(|p| p.checks.contains(&check.name));
            primary || i.require.as_ref().is_some_and(|r| r.checks.contains(&check.name))
        };
        let of_primary =
            |i: &Arc<Instance>| i.primary.as_ref().is_some_and(|p| p.checks.contains(&check.name));
        match trace.of(&check.name) {
            None if config.instances.iter().any(of_primary) => {
                let known: Vec<&str> = trace.series.iter().map(|s| &*s.check).collect();
                return Err(format!(
                    "the trace says nothing of the primary's check {}; it knows: {}",
                    check.name,
                    known.join(", ")
                ));
            }
            None if config.instances.iter().any(used) => {
                notes
                    .push(format!("the trace says nothing of {}: taken to be well all the time", check.name));
            }
            Some(series) if series.step().is_some_and(|s| is_finer(check.interval, s)) => {
                notes.push(format!(
                    "{} is probed each {} but was recorded each {}: its results are used more than once",
                    check.name,
                    humantime::format_duration(check.interval),
                    humantime::format_duration(series.step().unwrap_or_default())
                ));
            }
            _ => {}
        }
    }
    Ok(notes)
}

/// True if probes each `interval` would use recorded results of each `step` more than once. The clock of a recording
/// is not exact.
pub fn is_finer(interval: Duration, step: Duration) -> bool {
    interval < step.mul_f64(0.75)
}

fn quiet(notify: &Notify) -> Notify {
    let none = Vec::new;
    Notify { master: none(), backup: none(), fault: none(), stop: none(), any: none(), ..notify.clone() }
}

/// The configuration as it is replayed: checks and conditions, nothing that acts.
fn stage(config: &Config) -> Config {
    let probe = || Probe::File(File { path: "/".into(), max_age: None });
    let check = |c: &Arc<Check>| Arc::new(Check { probe: probe(), ..Check::clone(c) });
    let instance = |i: &Arc<Instance>| {
        Arc::new(Instance {
            routes: Vec::new(),
            addresses: Vec::new(),
            announces: Vec::new(),
            notify: quiet(&i.notify),
            ..Instance::clone(i)
        })
    };
    Config {
        node: config.node.clone(),
        checks: config.checks.iter().map(check).collect(),
        instances: config.instances.iter().map(instance).collect(),
        bgp: Vec::new(),
    }
}

/// Plays `trace` to a core with `config`. With `leap` it passes calm stretches in one step; that changes nothing but
/// the time it takes.
pub fn replay(config: &Config, trace: &Trace, leap: bool) -> Story {
    let Some((first, last)) = trace.span() else { return Story::default() };
    let config = stage(config);
    let longest = config.checks.iter().map(|c| c.interval + c.timeout).max().unwrap_or_default();
    let tapes = config.checks.iter().map(|c| (c.name.clone(), Tape::new(trace.of(&c.name), c.timeout)));
    let start = Time::from_nanos(first);
    let mut player = Player {
        tapes: tapes.collect(),
        core: Announcer::new(config, &Legacy::default(), start),
        now: start,
        answers: BTreeMap::new(),
        sequence: 0,
        story: Story { changes: Vec::new(), span: (first, last) },
        approach: longest + APPROACH,
    };
    player.perform();
    player.play(Time::from_nanos(last) + longest, leap);
    player.story
}

/// The recording of one check, read in the order of time.
struct Tape<'a> {
    series: Option<&'a Series>,
    /// The first row after the time that was asked for last.
    next: usize,
    timeout: Duration,
    gap: i64,
    /// The next row from `next` on that is no plain success, once it was looked for.
    trouble: Option<Time>,
}

impl<'a> Tape<'a> {
    fn new(series: Option<&'a Series>, timeout: Duration) -> Self {
        let step = series.and_then(Series::step).unwrap_or_default();
        let gap = i64::try_from((step * GAP_STEPS).max(GAP_LEAST).as_nanos()).unwrap_or(i64::MAX);
        Tape { series, next: 0, timeout, gap, trouble: None }
    }

    /// What a probe sent at `now` is answered; None: nothing, ever. Times must not go back.
    fn ask(&mut self, now: Time) -> Option<(Duration, Outcome)> {
        let success = |rtt| (rtt, Outcome::Success { rtt: Some(rtt) });
        let Some(series) = self.series else { return Some(success(Duration::from_millis(1))) };
        while series.get(self.next).is_some_and(|r| r.at <= now.as_nanos()) {
            self.next += 1;
        }
        let row = self.next.checked_sub(1).and_then(|n| series.get(n));
        let Some(row) = row.filter(|r| now.as_nanos() - r.at <= self.gap) else {
            return Some((Duration::ZERO, Outcome::Blind("the recording has a gap".into())));
        };
        // An answer after the time is none.
        let rtt = row.rtt.filter(|d| *d < self.timeout);
        match row.seen {
            Seen::Ok if row.rtt.is_none() => Some(success(Duration::ZERO)),
            Seen::Blind => Some((rtt.unwrap_or_default(), Outcome::Blind("so it was recorded".into()))),
            Seen::Ok => Some(success(rtt?)),
            Seen::Error => Some((rtt?, Outcome::Failure("so it was recorded".into()))),
        }
    }

    fn is_plain(&self, row: Row) -> bool {
        row.seen == Seen::Ok && row.rtt.is_none_or(|d| d < self.timeout)
    }

    /// When the next row that is no plain success begins to count, at the earliest.
    fn trouble_after(&mut self, now: Time, end: Time) -> Time {
        let Some(series) = self.series else { return end };
        if let Some(at) = self.trouble.filter(|at| *at > now) {
            return at;
        }
        let begin = self.next.saturating_sub(1);
        let mut before: Option<i64> = None;
        let mut found = end;
        for n in begin..series.len() {
            let Some(row) = series.get(n) else { break };
            if before.is_some_and(|b| row.at - b > self.gap) {
                found = Time::from_nanos(before.unwrap_or(row.at) + self.gap);
                break;
            }
            if !self.is_plain(row) {
                found = Time::from_nanos(row.at);
                break;
            }
            before = Some(row.at);
        }
        self.trouble = Some(found);
        found
    }
}

struct Player<'a> {
    core: Announcer,
    now: Time,
    tapes: BTreeMap<Name, Tape<'a>>,
    answers: BTreeMap<(Time, u64), (ProbeId, Outcome)>,
    sequence: u64,
    story: Story,
    approach: Duration,
}

impl Player<'_> {
    fn play(&mut self, end: Time, leap: bool) {
        while self.now < end {
            if leap && self.answers.is_empty() {
                self.leap(end);
            }
            let timer = self.core.poll_timeout().map(|(at, _)| at);
            let answer = self.answers.keys().next().map(|(at, _)| *at);
            let wake = timer.into_iter().chain(answer).min().unwrap_or(end);
            self.now = self.now.max(wake);
            if self.now >= end {
                return;
            }
            while let Some(entry) = self.answers.first_entry().filter(|e| e.key().0 <= self.now) {
                let (id, outcome) = entry.remove();
                self.core.handle_event(Event::Probe { id, outcome }, self.now);
                self.perform();
            }
            if self.core.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                self.core.handle_timeout(self.now);
                self.perform();
            }
        }
    }

    /// Passes the time until shortly before the next trouble, if that is worth it.
    fn leap(&mut self, end: Time) {
        let now = self.now;
        let trouble = self.tapes.values_mut().map(|t| t.trouble_after(now, end)).min().unwrap_or(end);
        let until = trouble - self.approach;
        if until > now + self.approach && self.core.skip_calm(until) {
            self.now = until;
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Probe { id, check, .. } => {
                    let answer = self.tapes.get_mut(&check.name).and_then(|tape| tape.ask(self.now));
                    if let Some((after, outcome)) = answer {
                        self.sequence += 1;
                        self.answers.insert((self.now + after, self.sequence), (id, outcome));
                    }
                }
                Effect::Dump(id) => {
                    let event = Event::Dump { id, result: Ok(Dump::default()) };
                    self.core.handle_event(event, self.now);
                }
                // The first word about a transition; the later ones are about its timeline.
                Effect::Journal(r) if r.timeline.kernel_acked.is_none() => {
                    let (from, to, reason) = (r.from, r.to, r.reason);
                    let at = self.now.as_nanos();
                    self.story.changes.push(Change { at, instance: r.instance, from, to, reason });
                }
                _ => {}
            }
        }
    }
}
