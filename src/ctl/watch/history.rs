//! The last results of each check, and how they look in a row.

use std::collections::{BTreeMap, VecDeque};

use crate::status::ProbeStatus;

/// Results that are kept of each check.
const KEPT: usize = 120;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A lost probe.
const LOST: char = '×';
/// One that says nothing.
const BLIND: char = '·';

/// What one probe saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Ok(u64),
    Lost,
    Blind,
}

/// The last results of all checks.
#[derive(Debug, Default)]
pub(super) struct History {
    checks: BTreeMap<String, VecDeque<Seen>>,
}

impl History {
    pub(super) fn add(&mut self, probe: ProbeStatus) {
        let seen = match probe.result.as_str() {
            "ok" => Seen::Ok(probe.rtt_us.unwrap_or(0)),
            "error" => Seen::Lost,
            _ => Seen::Blind,
        };
        let row = self.checks.entry(probe.check).or_default();
        if row.len() == KEPT {
            row.pop_front();
        }
        row.push_back(seen);
    }

    /// Checks that are no longer configured are forgotten.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.checks.retain(|name, _| is_known(name));
    }

    /// Lost probes of those that say something, in percent.
    pub(super) fn loss(&self, check: &str) -> Option<usize> {
        let row = self.checks.get(check)?;
        let counted = row.iter().filter(|s| **s != Seen::Blind).count();
        let lost = row.iter().filter(|s| **s == Seen::Lost).count();
        (counted > 0).then(|| lost * 100 / counted)
    }

    /// The last results, the newest on the right, in at most `width` characters.
    pub(super) fn spark(&self, check: &str, width: usize) -> String {
        let Some(row) = self.checks.get(check) else { return String::new() };
        let shown = row.iter().skip(row.len().saturating_sub(width));
        let rtts = shown.clone().filter_map(|s| if let Seen::Ok(us) = s { Some(*us) } else { None });
        let (low, high) = (rtts.clone().min().unwrap_or(0), rtts.max().unwrap_or(0));
        // A jitter of a few percent is not to look like a storm.
        let range = (high - low).max(high / 4).max(1);
        shown
            .map(|seen| match seen {
                Seen::Lost => LOST,
                Seen::Blind => BLIND,
                Seen::Ok(us) => {
                    let level = (us - low) * (LEVELS.len() as u64 - 1) / range;
                    usize::try_from(level).ok().and_then(|l| LEVELS.get(l)).copied().unwrap_or('█')
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_in_a_row() {
        let mut history = History::default();
        let mut add = |result: &str, rtt_us| {
            let (time, check, result) = (String::new(), "a".to_owned(), result.to_owned());
            history.add(ProbeStatus { time, check, result, rtt_us });
        };
        for us in [1000, 2000, 8000] {
            add("ok", Some(us));
        }
        add("error", None);
        add("blind", None);
        assert_eq!(history.spark("a", 10), "▁▂█×·");
        assert_eq!(history.spark("a", 2), "×·");
        assert_eq!(history.loss("a"), Some(25));
        assert_eq!((history.spark("b", 9), history.loss("b")), (String::new(), None));
        history.retain(|name| name != "a");
        assert_eq!(history.loss("a"), None);
    }
}
