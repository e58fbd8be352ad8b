//! One check at run time: its schedule, its counts, and why its verdict is what it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::Schedule;
use super::threshold::{Threshold, Verdict};
use crate::announcer::event::Outcome;
use crate::announcer::measure::CheckTally;
use crate::config::model;
use crate::time::Time;

/// Two probes so close to each other met the same line.
const TOGETHER: Duration = Duration::from_millis(1);

/// So long it is known what came of a witness, longer than the slowest probe takes; and no more of them.
const REMEMBERED: Duration = Duration::from_secs(60);
const TESTIMONY: usize = 256;

/// Of a session's signs of life, which come with each packet, this is fine enough.
const MOMENT: Duration = Duration::from_millis(200);

/// True if a witness that was asked at `witness` speaks for `moment`.
pub fn is_together(witness: Time, moment: Time) -> bool {
    witness <= moment && moment < witness + TOGETHER
}

/// A check at run time.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its configuration.
    pub config: Arc<model::Check>,
    threshold: Threshold,
    schedule: Schedule,
    since: Time,
    last_rtt: Option<Duration>,
    last_error: Option<String>,
    /// The last success: what a witness is judged by.
    last_success: Option<Seen>,
    /// The last sign that not all was well: a probe that failed or could not be made, or a verdict that was not up until then.
    trouble: Option<Seen>,
    /// Of a session: it is asked for a sign of life since then, and has not given one.
    asked: Option<Time>,
    /// Probes that were sent as witnesses: when, and whether they were answered; of a session its signs of life. The newest last.
    testimony: VecDeque<(Time, bool)>,
    tally: CheckTally,
}

/// What was seen of a target by some of its probes: its last success, say, or the last sign that not all was well.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When the last of the probes in question was sent.
    sent: Time,
    /// When the last of it became known.
    known: Time,
}

impl Check {
    /// Nothing known yet; the first probe is due almost at once. `ordinal` spreads the checks over their intervals.
    pub fn new(config: Arc<model::Check>, ordinal: u32, now: Time) -> Self {
        Check {
            threshold: Threshold::new(config.fall, config.rise),
            schedule: Schedule::new(now, config.interval, ordinal),
            since: now,
            last_rtt: None,
            last_error: None,
            last_success: None,
            trouble: None,
            asked: None,
            testimony: VecDeque::new(),
            tally: CheckTally::default(),
            config,
        }
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        self.threshold.verdict()
    }

    /// Since when.
    pub fn since(&self) -> Time {
        self.since
    }

    /// The counts behind the verdict.
    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// Round-trip time of the last success.
    pub fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt
    }

    /// What was wrong with the last probe that was not a success.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// When the last successful probe was sent.
    pub fn last_success_sent(&self) -> Option<Time> {
        self.last_success.map(|s| s.sent)
    }

    /// When the last success became known.
    pub fn last_success_known(&self) -> Option<Time> {
        self.last_success.map(|s| s.known)
    }

    /// True if it is up, and since `moment` nothing has become known that speaks against it: no probe that failed or could
    /// not be made, no other verdict, and no session that was slow to answer when it was asked.
    pub fn is_unblemished_since(&self, moment: Time) -> bool {
        self.verdict() == Verdict::Up && self.trouble.is_none_or(|t| t.known < moment) && self.asked.is_none()
    }

    /// True if what became known last of it is a success.
    pub fn is_answering(&self) -> bool {
        let known = self.last_success_known();
        self.trouble.is_none_or(|t| Some(t.known) <= known)
    }

    /// When the last probe was sent that was no success (or what was told instead).
    pub fn last_trouble_sent(&self) -> Option<Time> {
        self.trouble.map(|t| t.sent)
    }

    /// A probe that was sent at `sent` proves that not all is well, though it is not counted.
    pub fn note_trouble(&mut self, sent: Time, now: Time) {
        let before = self.trouble.map_or(sent, |t| t.sent);
        self.trouble = Some(Seen { sent: before.max(sent), known: now });
    }

    /// A session is asked for a sign of life: the question goes out at that time.
    pub fn ask(&mut self, at: Time) {
        if self.verdict() == Verdict::Up {
            self.asked.get_or_insert(at);
        }
    }

    /// It was asked, and has not answered yet.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// It gave one. Whoever took longer than `prompt` may have been beyond a line that was cut meanwhile: what asks is sent
    /// again until it is answered. True if it did. (What comes before the question goes out is no answer.)
    pub fn answered(&mut self, prompt: Duration, now: Time) -> bool {
        let Some(asked) = self.asked.filter(|asked| *asked <= now) else { return false };
        self.asked = None;
        let is_late = now.since(asked) > prompt;
        if is_late {
            self.note_trouble(asked, now);
        }
        is_late
    }

    /// Of a session: it gave a sign of life. The last one is kept, and one for each moment before it.
    pub fn testify_alive(&mut self, now: Time) {
        let newest_first = &mut self.testimony.iter().rev();
        if newest_first.nth(1).is_some_and(|(before, _)| now < *before + MOMENT) {
            self.testimony.pop_back();
        }
        self.testify(now, true);
    }

    /// A probe that was sent as a witness has come to an end.
    pub fn testify(&mut self, sent: Time, answered: bool) {
        self.testimony.push_back((sent, answered));
        let is_old = |(at, _): &(Time, bool)| *at + REMEMBERED < sent;
        while self.testimony.len() > TESTIMONY || self.testimony.front().is_some_and(is_old) {
            self.testimony.pop_front();
        }
    }

    /// Whether the probe was answered that was sent as a witness at `moment`, or shortly before it; None if there is none.
    pub fn testimony(&self, moment: Time) -> Option<bool> {
        let newest_first = self.testimony.iter().rev();
        newest_first.copied().find(|(sent, _)| is_together(*sent, moment)).map(|(_, answered)| answered)
    }

    /// Of a session: did it give a sign of life in that time?
    pub fn has_testified(&self, within: std::ops::RangeInclusive<Time>) -> bool {
        self.testimony.iter().rev().any(|(at, _)| within.contains(at))
    }

    /// All that it has seen, for the metrics.
    pub fn tally(&self) -> &CheckTally {
        &self.tally
    }

    /// When the next probe is due; None for a check that is told.
    pub fn next_probe(&self) -> Option<Time> {
        (!self.is_told()).then(|| self.schedule.next())
    }

    /// True for what needs no probe because news of it come by themselves: a link, a BGP or BFD session.
    pub fn is_told(&self) -> bool {
        matches!(self.config.probe, model::Probe::Link(_) | model::Probe::Bgp(_) | model::Probe::Bfd(_))
    }

    /// True for a BGP or BFD session: it takes a handshake to come back after the line has.
    pub fn is_session(&self) -> bool {
        matches!(self.config.probe, model::Probe::Bgp(_) | model::Probe::Bfd(_))
    }

    /// The due probe has been sent.
    pub fn probe_sent(&mut self, now: Time) {
        self.schedule.sent(now);
    }

    /// The next probe is due at once.
    pub fn probe_soon(&mut self, now: Time) {
        self.schedule.hasten(now);
    }

    /// An unknown that has lasted this long is as bad as down (SPEC: "after that check's fall time"). That of a BFD session
    /// is what it takes to come back: it is judged then.
    pub fn lapses_at(&self) -> Option<Time> {
        let lapse = match &self.config.probe {
            model::Probe::Bfd(session) => session.patience().max(self.config.fall_time()),
            _ => self.config.fall_time(),
        };
        (self.verdict() == Verdict::Unknown).then(|| self.since + lapse)
    }

    /// A probe that was sent at `sent` came to `outcome`. Returns true if the verdict changed.
    pub fn result(&mut self, sent: Time, outcome: Outcome, now: Time) -> bool {
        let before = self.verdict();
        self.tally.note(&outcome);
        if !matches!(outcome, Outcome::Success { .. }) {
            self.note_trouble(sent, now);
        }
        self.threshold.lapse(self.config.fall_time(), now);
        match outcome {
            Outcome::Success { rtt } => {
                self.threshold.success();
                self.last_rtt = rtt;
                self.note_success(sent, now);
            }
            Outcome::Failure(why) => {
                self.threshold.failure(now);
                self.last_error = Some(why);
            }
            Outcome::Blind(why) => {
                self.threshold.blind(now);
                self.last_error = Some(why);
            }
        }
        self.changed(before, sent, now)
    }

    /// What a check that is told says now (None: all is well): no counting, it is so.
    pub fn told(&mut self, wrong: Option<&str>, now: Time) -> bool {
        if wrong.is_none() {
            self.seen_well(now);
        }
        self.restore(wrong, now)
    }

    /// What was known before this check was: a verdict, and no sign of life.
    pub fn restore(&mut self, wrong: Option<&str>, now: Time) -> bool {
        let before = self.verdict();
        match wrong {
            None => {
                if before != Verdict::Up {
                    self.threshold.forget();
                    self.threshold.success();
                }
            }
            Some(why) => {
                self.last_error = Some(why.to_owned());
                while self.threshold.verdict() != Verdict::Down {
                    self.threshold.failure(now);
                }
            }
        }
        self.changed(before, now, now)
    }

    /// A sign of life of what is watched, as fresh as `now`.
    pub fn seen_well(&mut self, now: Time) {
        self.note_success(now, now);
    }

    fn note_success(&mut self, sent: Time, now: Time) {
        let before = self.last_success.map_or(sent, |s| s.sent);
        self.last_success = Some(Seen { sent: before.max(sent), known: now });
    }

    /// We were away for so long that the counts are too old to act on. Returns true if the verdict changed.
    pub fn forget(&mut self, why: &str, now: Time) -> bool {
        let before = self.verdict();
        self.threshold.forget();
        self.last_error = Some(why.to_owned());
        self.changed(before, now, now)
    }

    /// What has failed so far, and was not enough, was our own fault.
    pub fn pardon(&mut self) {
        self.threshold.pardon();
    }

    /// True if it is up and no failure counts against it: a further success changes nothing.
    pub fn is_calm(&self) -> bool {
        let quiet = self.threshold.failures() == 0 && self.threshold.first_bad().is_none();
        self.is_told() || (self.verdict() == Verdict::Up && quiet)
    }

    /// All probes that are due before `until` have been sent, and have succeeded.
    pub fn skip(&mut self, until: Time) {
        if self.is_told() {
            return;
        }
        let mut count = 0u32;
        while self.schedule.next() < until {
            let at = self.schedule.next();
            self.schedule.sent(at);
            self.note_success(at, at);
            count = count.saturating_add(1);
        }
        // More would say no more: a window holds no more than this.
        (0..count.min(self.config.fall.length())).for_each(|_| self.threshold.success());
    }

    /// A new configuration of the same probe: counts and verdict stay.
    pub fn adjust(&mut self, config: Arc<model::Check>, now: Time) {
        self.threshold.adjust(config.fall, config.rise);
        if config.interval != self.config.interval {
            self.schedule.adjust(now, config.interval);
        }
        self.config = config;
    }

    /// The verdict in a sentence's words: "mainland-ping is down (3 failures: no reply in 800 ms)".
    pub fn describe(&self) -> String {
        let name = &self.config.name;
        let error = || self.last_error.as_deref().unwrap_or("no probe has come back yet");
        match self.verdict() {
            Verdict::Up => format!("{name} is up"),
            Verdict::Down if self.is_told() => format!("{name} is down ({})", error()),
            Verdict::Down => {
                format!("{name} is down ({} failures, last: {})", self.threshold.failures(), error())
            }
            Verdict::Unknown => format!("{name} is unknown ({})", error()),
        }
    }

    /// `sent`: when that was asked which may have changed the verdict.
    fn changed(&mut self, before: Verdict, sent: Time, now: Time) -> bool {
        let changed = before != self.verdict();
        if changed {
            self.since = now;
            // Up now, and not until now; or not up any more.
            self.note_trouble(sent, now);
            self.asked = None;
        }
        changed
    }
}
