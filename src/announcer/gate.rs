//! From verdicts to the two conditions of an instance: how its primary is, and whether `require` is met.

use std::time::Duration;

use crate::config::model::{Primary, Require};
use crate::health::{Check, Verdict};
use crate::time::Time;

/// How the primary is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrimaryState {
    /// The `down` verdicts reach `down_when`.
    Down,
    /// The `up` verdicts reach `up_when`.
    Well,
    /// Neither: no takeover, and the failback clock starts anew.
    Undecided,
}

impl PrimaryState {
    /// "down", "well" or "undecided".
    pub fn word(self) -> &'static str {
        match self {
            PrimaryState::Down => "down",
            PrimaryState::Well => "well",
            PrimaryState::Undecided => "undecided",
        }
    }
}

/// What is known of the primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrimaryView {
    /// How it is.
    pub state: PrimaryState,
    /// When the first of the failures that count became known.
    pub first_bad: Option<Time>,
    /// A witness of our own connectivity must have been heard of since then: the last failure but one of what is down became
    /// known, long after the decision perhaps, for which a takeover may have to wait. None while it answers again.
    pub witness_since: Option<Time>,
    /// The verdicts, in words.
    pub reason: String,
}

/// Whether `require` is met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequireState {
    /// Enough verdicts are `up`.
    Met,
    /// Not met, but it could be if what is unknown turned out well; from this time on that no longer excuses.
    Unknown(Time),
    /// Not met.
    Unmet,
}

impl RequireState {
    /// "met", "unknown" or "unmet".
    pub fn word(self) -> &'static str {
        match self {
            RequireState::Met => "met",
            RequireState::Unknown(_) => "unknown",
            RequireState::Unmet => "unmet",
        }
    }
}

/// What is known of `require`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequireView {
    /// Whether it is met.
    pub state: RequireState,
    /// The verdicts that are not `up`, in words; empty if there is none.
    pub reason: String,
}

impl RequireView {
    /// An instance that requires nothing.
    pub fn nothing() -> Self {
        RequireView { state: RequireState::Met, reason: String::new() }
    }
}

/// Judges a primary by its checks (in the order of the configuration).
pub fn primary(config: &Primary, checks: &[&Check]) -> PrimaryView {
    let count = |v: Verdict| checks.iter().filter(|c| c.verdict() == v).count();
    let state = if count(Verdict::Down) >= config.down_when.needed(checks.len()) {
        PrimaryState::Down
    } else if count(Verdict::Up) >= config.up_when.needed(checks.len()) {
        PrimaryState::Well
    } else {
        PrimaryState::Undecided
    };
    let fallen = || checks.iter().filter(|c| c.verdict() == Verdict::Down);
    PrimaryView {
        state,
        first_bad: fallen().filter_map(|c| c.threshold().first_bad()).min(),
        witness_since: fallen().filter_map(|c| c.threshold().before_last()).max(),
        reason: describe(checks.iter().copied()),
    }
}

/// Judges `require` by its checks (in the order of the configuration).
pub fn require(config: &Require, checks: &[&Check], now: Time) -> RequireView {
    let needed = config.up_when.needed(checks.len());
    let ups = checks.iter().filter(|c| c.verdict() == Verdict::Up).count();
    // An unknown is excused until it has lasted the check's fall time.
    let mut excused: Vec<Time> = checks.iter().filter_map(|c| c.lapses_at()).filter(|t| *t > now).collect();
    excused.sort_unstable_by(|a, b| b.cmp(a));
    let state = if ups >= needed {
        RequireState::Met
    } else {
        // Enough excuses must hold at once: the one that decides is the missing-th longest.
        match excused.get(needed - ups - 1) {
            Some(until) => RequireState::Unknown(*until),
            None => RequireState::Unmet,
        }
    };
    let reason = describe(checks.iter().copied().filter(|c| c.verdict() != Verdict::Up));
    RequireView { state, reason }
}

/// True if enough required checks have had a success from a probe that was sent after `moment`: then it is not we who
/// are cut off.
pub fn witnessed(config: &Require, checks: &[&Check], moment: Time) -> bool {
    are_enough(config, checks, |c| c.last_success_sent() >= Some(moment))
}

/// True if enough required checks have had a success that became known after `moment`; a session one that is `slack` older.
pub fn heard(config: &Require, checks: &[&Check], moment: Time, slack: Duration) -> bool {
    let slack = |c: &Check| if c.is_session() { slack } else { Duration::ZERO };
    are_enough(config, checks, |c| c.last_success_known() >= Some(moment - slack(c)))
}

/// True if enough required checks have had no trouble since they succeeded last.
pub fn are_well(config: &Require, checks: &[&Check]) -> bool {
    are_enough(config, checks, Check::is_answering)
}

/// Was our own line well when a probe of the primary's was lost? `says` tells what each required check says of that moment, if
/// that is known. None: it is not known yet.
pub fn vouched(config: &Require, checks: &[&Check], says: impl Fn(&Check) -> Option<bool>) -> Option<bool> {
    let words: Vec<Option<bool>> = checks.iter().map(|c| says(c)).collect();
    let needed = config.up_when.needed(checks.len());
    let those = |word: Option<bool>| words.iter().filter(|w| **w == word).count();
    match (those(Some(true)), those(None)) {
        (well, _) if well >= needed => Some(true),
        (well, open) => (well + open < needed).then_some(false),
    }
}

fn are_enough(config: &Require, checks: &[&Check], is_fresh: impl Fn(&Check) -> bool) -> bool {
    let fresh = checks.iter().filter(|c| c.verdict() == Verdict::Up && is_fresh(c));
    fresh.count() >= config.up_when.needed(checks.len())
}

/// Checks that a reason names. It is worked out for every decision, and read by a person: thousands would serve neither.
const NAMED: usize = 8;

fn describe<'a>(mut checks: impl Iterator<Item = &'a Check>) -> String {
    let mut words: Vec<String> = checks.by_ref().take(NAMED).map(Check::describe).collect();
    match checks.count() {
        0 => {}
        more => words.push(format!("and {more} more")),
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::announcer::event::Outcome;
    use crate::config::model::{self, Fall, Quorum};

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    /// A check with this verdict since that second; unknowns lapse `fall` + 1 seconds after that.
    fn check(name: &str, verdict: Verdict, fall: u32, since: u64) -> Check {
        let probe = model::Probe::File(model::File { path: "/nowhere".into(), max_age: None });
        let second = Duration::from_secs(1);
        let fall = Fall::Consecutive(fall);
        let config =
            model::Check { name: name.into(), probe, interval: second, timeout: second, fall, rise: 1 };
        let mut check = Check::new(Arc::new(config), 0, at(since));
        let outcome = || match verdict {
            Verdict::Up => Outcome::Success { rtt: None },
            Verdict::Down => Outcome::Failure("no".into()),
            Verdict::Unknown => Outcome::Blind("no route".into()),
        };
        while check.verdict() != verdict || check.last_error().is_none() && verdict != Verdict::Up {
            check.result(at(since), outcome(), at(since));
        }
        check
    }

    fn judged(quorum: Quorum, checks: &[Check], now: u64) -> RequireState {
        let config = Require { checks: Vec::new(), up_when: quorum };
        require(&config, &checks.iter().collect::<Vec<_>>(), at(now)).state
    }

    #[test]
    fn an_unknown_excuses_until_it_lapses() {
        let checks = [check("a", Verdict::Up, 3, 0), check("b", Verdict::Unknown, 3, 10)];
        assert_eq!(judged(Quorum::Any, &checks, 11), RequireState::Met);
        assert_eq!(judged(Quorum::All, &checks, 13), RequireState::Unknown(at(14)));
        assert_eq!(judged(Quorum::All, &checks, 14), RequireState::Unmet);
    }

    #[test]
    fn as_many_excuses_as_are_missing_must_hold_at_once() {
        let unknown = |name, fall| check(name, Verdict::Unknown, fall, 10);
        let checks = [unknown("a", 3), unknown("b", 6), unknown("c", 9), check("d", Verdict::Down, 1, 10)];
        assert_eq!(judged(Quorum::All, &checks, 11), RequireState::Unmet, "one is down for certain");
        assert_eq!(judged(Quorum::AtLeast(3), &checks, 11), RequireState::Unknown(at(14)));
        assert_eq!(judged(Quorum::AtLeast(2), &checks, 11), RequireState::Unknown(at(17)));
        assert_eq!(judged(Quorum::Any, &checks, 15), RequireState::Unknown(at(20)));
        assert_eq!(judged(Quorum::Any, &checks, 20), RequireState::Unmet);
    }

    #[test]
    fn a_reason_is_bounded_however_many_checks_there_are() {
        let checks: Vec<Check> = (0..1000).map(|n| check(&format!("c{n}"), Verdict::Down, 1, 0)).collect();
        let config = Primary { checks: Vec::new(), down_when: Quorum::All, up_when: Quorum::All };
        let view = primary(&config, &checks.iter().collect::<Vec<_>>());
        assert_eq!(view.state, PrimaryState::Down);
        assert!(view.reason.len() < 1000 && view.reason.ends_with("and 992 more"), "{}", view.reason);
    }
}
