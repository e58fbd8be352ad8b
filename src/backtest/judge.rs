//! What a replay did, held against what really happened.

use std::time::Duration;

use super::outage::Span;
use super::replay::Story;
use crate::announcer::journal::State;

/// A verdict on one instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Times that it became MASTER.
    pub takeovers: usize,
    /// Of these, those while the primary was not down.
    pub false_takeovers: usize,
    /// Outages of the primary.
    pub outages: usize,
    /// Of these, those during which it never became (or was) MASTER.
    pub missed: usize,
    /// From the beginning of each outage that was seen to the takeover; sorted.
    pub detection: Vec<Duration>,
    /// How long it was MASTER altogether.
    pub announced: Duration,
    /// Of that, while the primary was not down.
    pub announced_falsely: Duration,
    /// When it was MASTER.
    pub mastered: Vec<Span>,
}

impl Verdict {
    /// The detection time that so many percent of the outages do not exceed (nearest rank); None if none was seen.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.detection.len() * percent).div_ceil(100).max(1);
        self.detection.get(rank - 1).copied()
    }

    /// The longest detection time.
    pub fn slowest(&self) -> Option<Duration> {
        self.detection.last().copied()
    }
}

/// Judges one instance.
pub fn judge(story: &Story, instance: &str, outages: &[Span]) -> Verdict {
    let mastered = mastered(story, instance);
    let mut verdict = Verdict { takeovers: mastered.len(), outages: outages.len(), ..Verdict::default() };
    for span in &mastered {
        let overlap: i64 = outages.iter().map(|o| overlap(*o, *span)).sum();
        verdict.announced += nanos(span.to - span.from);
        verdict.announced_falsely += nanos(span.to - span.from - overlap);
        let in_outage = outages.iter().any(|o| (o.from..o.to).contains(&span.from));
        verdict.false_takeovers += usize::from(!in_outage);
    }
    for outage in outages {
        match mastered.iter().find(|m| overlap(*outage, **m) > 0) {
            // Whoever is MASTER already needs no time.
            Some(m) => verdict.detection.push(nanos((m.from - outage.from).max(0))),
            None => verdict.missed += 1,
        }
    }
    verdict.detection.sort_unstable();
    verdict.mastered = mastered;
    verdict
}

fn mastered(story: &Story, instance: &str) -> Vec<Span> {
    let mut since = None;
    let mut spans = Vec::new();
    for change in story.changes.iter().filter(|c| &*c.instance == instance) {
        match (change.to, since) {
            (State::Master, None) => since = Some(change.at),
            (State::Master, Some(_)) => {}
            (_, Some(from)) => {
                spans.push(Span { from, to: change.at });
                since = None;
            }
            (_, None) => {}
        }
    }
    spans.extend(since.map(|from| Span { from, to: story.span.1.max(from) }));
    spans
}

fn overlap(a: Span, b: Span) -> i64 {
    (a.to.min(b.to) - a.from.max(b.from)).max(0)
}

fn nanos(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::replay::Change;

    #[test]
    fn takeovers_are_held_against_the_outages() {
        let s = 1_000_000_000;
        let change = |at: i64, to| Change {
            at: at * s,
            instance: "a".into(),
            from: State::Backup,
            to,
            reason: String::new(),
        };
        let changes = vec![
            change(10, State::Master), // false
            change(15, State::Backup),
            change(23, State::Master), // three seconds into an outage, until after it
            change(35, State::Backup),
            change(92, State::Master),
        ];
        let story = Story { changes, span: (0, 100 * s) };
        let span = |from: i64, to: i64| Span { from: from * s, to: to * s };
        let outages = [span(20, 30), span(50, 60), span(90, 100)];
        let v = judge(&story, "a", &outages);
        assert_eq!((v.takeovers, v.false_takeovers, v.outages, v.missed), (3, 1, 3, 1));
        let seconds: Vec<u64> = v.detection.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 3]);
        assert_eq!(v.percentile(50), Some(Duration::from_secs(2)));
        assert_eq!((v.percentile(95), v.slowest()), (v.percentile(100), Some(Duration::from_secs(3))));
        assert_eq!((v.announced.as_secs(), v.announced_falsely.as_secs()), (25, 10));
        assert_eq!(Verdict::default().percentile(50), None);
    }
}
