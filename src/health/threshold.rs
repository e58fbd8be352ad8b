//! Rise and fall: when a row of results becomes a verdict.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::model::Fall;
use crate::time::Time;

/// What is known of a check's target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// Not decided yet, or it could not be seen: nobody may act on it.
    Unknown,
}

impl Verdict {
    /// "up", "down" or "unknown".
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Counts results and gives a verdict.
///
/// - From the start the first success gives `Up`; the first `Down` needs the whole `fall`.
/// - Later `Up` needs `rise` successes in a row, `Down` the whole `fall` again.
/// - A result that counts as neither changes no count. The verdict is `Unknown` until the next result that counts,
///   which restores what the counts say; unless that took so long that they are too old ([`Threshold::lapse`]).
#[derive(Clone, Debug)]
pub struct Threshold {
    fall: Fall,
    rise: u32,
    /// What the counted results say; None before the first decision.
    settled: Option<Verdict>,
    /// Since the first of the last results, all of which count as neither.
    blind_since: Option<Time>,
    /// What was once decided has lapsed: `Up` needs the whole `rise` as well.
    lapsed: bool,
    successes: u32,
    /// Consecutive failures.
    failures: u32,
    /// The last counted results, newest last, a failure with its time; used by [`Fall::Window`] only.
    window: VecDeque<Option<Time>>,
    /// When the first of the failures that count became known; kept as it was from the moment of `Down` until `Up`.
    first_bad: Option<Time>,
    /// When the last failure became known, and the one before it in the same row.
    last_failure: Option<Time>,
    before_last: Option<Time>,
}

impl Threshold {
    /// Nothing known yet.
    pub fn new(fall: Fall, rise: u32) -> Self {
        Threshold {
            fall,
            rise,
            settled: None,
            blind_since: None,
            lapsed: false,
            successes: 0,
            failures: 0,
            window: VecDeque::new(),
            first_bad: None,
            last_failure: None,
            before_last: None,
        }
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        if self.blind_since.is_some() { Verdict::Unknown } else { self.settled.unwrap_or(Verdict::Unknown) }
    }

    /// Consecutive successes.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Consecutive failures, or failures in the window.
    pub fn failures(&self) -> u32 {
        match self.fall {
            Fall::Consecutive(_) => self.failures,
            Fall::Window { .. } => self.failures_in_window(),
        }
    }

    /// How many further successes would make it up; None if it is.
    pub fn to_up(&self) -> Option<u32> {
        match self.verdict() {
            Verdict::Up => None,
            Verdict::Down => Some(self.rise.saturating_sub(self.successes).max(1)),
            Verdict::Unknown if self.needs_rise() => Some(self.rise.saturating_sub(self.successes).max(1)),
            Verdict::Unknown => Some(1),
        }
    }

    /// How many further failures would make it down; None if it is.
    pub fn to_down(&self) -> Option<u32> {
        (self.verdict() != Verdict::Down).then(|| self.fall.failures().saturating_sub(self.failures()).max(1))
    }

    /// When the first of the failures that count now (or led to `Down`) became known.
    pub fn first_bad(&self) -> Option<Time> {
        self.first_bad
    }

    /// When the last failure but one of the row became known (or the only one): whoever was seen to be well after it
    /// was well while the last probe failed, or nearly so.
    pub fn before_last(&self) -> Option<Time> {
        self.before_last.or(self.last_failure)
    }

    /// A probe succeeded.
    pub fn success(&mut self) {
        self.blind_since = None;
        self.failures = 0;
        (self.last_failure, self.before_last) = (None, None);
        self.successes = self.successes.saturating_add(1);
        self.remember(None);
        let enough = !self.needs_rise() || self.successes >= self.rise;
        if enough && !self.is_fallen() {
            self.settled = Some(Verdict::Up);
            self.lapsed = false;
        }
        if self.settled != Some(Verdict::Down) {
            self.first_bad = self.first_counted();
        }
    }

    /// A probe failed; known at `now`.
    pub fn failure(&mut self, now: Time) {
        self.blind_since = None;
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.remember(Some(now));
        self.before_last = self.last_failure.replace(now);
        if self.settled != Some(Verdict::Down) {
            self.first_bad = self.first_counted().or(self.first_bad).or(Some(now));
        }
        if self.is_fallen() {
            self.settled = Some(Verdict::Down);
            self.lapsed = false;
        }
    }

    /// A probe could not be made, or its answer could not have been seen; known at `now`.
    pub fn blind(&mut self, now: Time) {
        self.blind_since.get_or_insert(now);
    }

    /// Whoever has seen nothing for as long as `fall` knows nothing any more: what was settled is gone with its counts, and
    /// neither a single failure nor a single success brings it back. To be called with each result, before it is counted.
    pub fn lapse(&mut self, fall: Duration, now: Time) {
        let Some(since) = self.blind_since.filter(|since| now >= *since + fall) else { return };
        let lapsed = self.lapsed || self.settled.is_some();
        *self = Threshold { blind_since: Some(since), lapsed, ..Threshold::new(self.fall, self.rise) };
    }

    /// What has failed so far, and was not enough, does not count.
    pub fn pardon(&mut self) {
        if self.settled == Some(Verdict::Down) {
            return;
        }
        self.failures = 0;
        (self.first_bad, self.last_failure, self.before_last) = (None, None, None);
        self.window.clear();
    }

    /// We were away: what was counted is too old to act on.
    pub fn forget(&mut self) {
        *self = Threshold::new(self.fall, self.rise);
    }

    /// New limits, the same history: for a reload.
    pub fn adjust(&mut self, fall: Fall, rise: u32) {
        self.fall = fall;
        self.rise = rise;
        self.trim();
    }

    /// True if a single success is too little.
    fn needs_rise(&self) -> bool {
        self.settled == Some(Verdict::Down) || (self.settled.is_none() && self.lapsed)
    }

    fn is_fallen(&self) -> bool {
        self.failures() >= self.fall.failures()
    }

    fn failures_in_window(&self) -> u32 {
        self.window.iter().map(|bad| u32::from(bad.is_some())).sum()
    }

    /// The oldest failure in the window; None without a window.
    fn first_counted(&self) -> Option<Time> {
        self.window.iter().flatten().next().copied()
    }

    fn remember(&mut self, bad: Option<Time>) {
        if matches!(self.fall, Fall::Window { .. }) {
            self.window.push_back(bad);
            self.trim();
        }
    }

    fn trim(&mut self) {
        let keep = match self.fall {
            Fall::Consecutive(_) => 0,
            Fall::Window { of, .. } => of as usize,
        };
        while self.window.len() > keep {
            self.window.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Time {
        Time::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn first_success_gives_up_and_first_down_needs_the_whole_fall() {
        let mut t = Threshold::new(Fall::Consecutive(3), 2);
        assert_eq!(t.verdict(), Verdict::Unknown);
        t.failure(at(1));
        t.failure(at(2));
        assert_eq!(t.verdict(), Verdict::Unknown);
        t.failure(at(3));
        assert_eq!(t.verdict(), Verdict::Down);
        assert_eq!(t.first_bad(), Some(at(1)));

        let mut t = Threshold::new(Fall::Consecutive(3), 2);
        t.success();
        assert_eq!(t.verdict(), Verdict::Up);
    }

    #[test]
    fn up_again_needs_rise_in_a_row() {
        let mut t = Threshold::new(Fall::Consecutive(1), 3);
        t.failure(at(1));
        t.success();
        t.success();
        t.failure(at(2));
        t.success();
        t.success();
        assert_eq!(t.verdict(), Verdict::Down);
        assert_eq!(t.first_bad(), Some(at(1)), "the streak that led to down, not the last relapse");
        t.success();
        assert_eq!(t.verdict(), Verdict::Up);
        assert_eq!(t.first_bad(), None);
    }

    #[test]
    fn a_success_between_failures_starts_the_fall_anew() {
        let mut t = Threshold::new(Fall::Consecutive(2), 1);
        for s in 0..10 {
            t.failure(at(s));
            t.success();
        }
        assert_eq!(t.verdict(), Verdict::Up);
    }

    #[test]
    fn neither_is_unknown_at_once_and_changes_no_count() {
        let mut t = Threshold::new(Fall::Consecutive(2), 2);
        t.success();
        t.failure(at(1));
        t.blind(at(2));
        assert_eq!(t.verdict(), Verdict::Unknown);
        assert_eq!(t.failures(), 1);
        t.failure(at(3));
        assert_eq!(t.verdict(), Verdict::Down);
        t.blind(at(4));
        t.success();
        assert_eq!(t.verdict(), Verdict::Down, "down through the blindness: rise still counts");
        t.success();
        assert_eq!(t.verdict(), Verdict::Up);
    }

    #[test]
    fn what_was_settled_lapses_with_the_fall_time() {
        let fall = Duration::from_secs(3);
        for (before, short) in [(Verdict::Up, true), (Verdict::Up, false), (Verdict::Down, false)] {
            let mut t = Threshold::new(Fall::Consecutive(2), 2);
            t.success();
            (0..2).filter(|_| before == Verdict::Down).for_each(|s| t.failure(at(s)));
            assert_eq!(t.verdict(), before);
            for s in 10..if short { 13 } else { 14 } {
                t.lapse(fall, at(s));
                t.blind(at(s));
            }
            t.lapse(fall, at(if short { 12 } else { 14 }));
            t.failure(at(14));
            assert_eq!(t.verdict(), if short { before } else { Verdict::Unknown }, "{before:?}");
            if short {
                continue;
            }
            assert_eq!((t.to_up(), t.to_down()), (Some(2), Some(1)));
            t.success();
            assert_eq!(t.verdict(), Verdict::Unknown, "{before:?}");
            t.success();
            assert_eq!(t.verdict(), Verdict::Up, "{before:?}");
        }
        // Never decided before: as at the start.
        let mut t = Threshold::new(Fall::Consecutive(2), 2);
        t.blind(at(1));
        t.lapse(fall, at(60));
        t.success();
        assert_eq!(t.verdict(), Verdict::Up);
    }

    #[test]
    fn only_blindness_never_becomes_a_failure() {
        let mut t = Threshold::new(Fall::Consecutive(1), 1);
        for _ in 0..1000 {
            t.blind(at(5));
        }
        assert_eq!((t.verdict(), t.failures()), (Verdict::Unknown, 0));
    }

    #[test]
    fn a_window_tolerates_loss_that_a_row_would_not() {
        let mut t = Threshold::new(Fall::Window { failures: 3, of: 5 }, 2);
        t.success();
        for s in [1, 2] {
            t.failure(at(s));
        }
        t.success();
        t.success();
        assert_eq!((t.verdict(), t.failures()), (Verdict::Up, 2));
        t.failure(at(5)); // the window is now f s s f after the oldest success left
        assert_eq!(t.verdict(), Verdict::Down);
        assert_eq!(t.first_bad(), Some(at(1)));
        // Rise is consecutive, but not while the window itself still says down.
        t.success();
        t.success();
        assert_eq!(t.verdict(), Verdict::Up);
    }

    #[test]
    fn after_a_pause_everything_is_asked_anew() {
        let mut t = Threshold::new(Fall::Consecutive(2), 2);
        t.failure(at(1));
        t.forget();
        t.failure(at(60));
        assert_eq!(t.verdict(), Verdict::Unknown);
    }
}
