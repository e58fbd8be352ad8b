//! Many thresholds at once: each replayed, each judged, and those that no other beats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::judge::{Verdict, judge};
use super::outage::Span;
use super::replay::replay;
use super::trace::Trace;
use crate::config::model::{Check, Config, Fall};

/// No more combinations than this are tried.
pub const LARGEST: usize = 10_000;

/// Which thresholds to try: every combination.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grid {
    /// `fall`, as consecutive failures; empty: as configured.
    pub fall: Vec<u32>,
    /// `rise`.
    pub rise: Vec<u32>,
    /// `interval`.
    pub interval: Vec<Duration>,
    /// `failback_delay`.
    pub failback_delay: Vec<Duration>,
}

/// One combination; None: as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// `fall`.
    pub fall: Option<u32>,
    /// `rise`.
    pub rise: Option<u32>,
    /// `interval`.
    pub interval: Option<Duration>,
    /// `failback_delay`.
    pub failback_delay: Option<Duration>,
}

/// What one combination did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Which.
    pub choice: Choice,
    /// What it did.
    pub verdict: Verdict,
    /// No other has fewer false takeovers, misses fewer outages and is faster, all at once.
    pub best: bool,
}

impl Grid {
    /// From `fall=2..8,rise=1..5,interval=500ms/1s/2s,failback_delay=30s/5m`.
    ///
    /// # Errors
    ///
    /// What is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut grid = Grid::default();
        for part in text.split(',') {
            let (key, values) = part.split_once('=').ok_or_else(|| {
                format!("`{part}`: write keys and values as fall=2..8,rise=1..5,interval=500ms/1s")
            })?;
            match key.trim() {
                "fall" => grid.fall = numbers(values)?,
                "rise" => grid.rise = numbers(values)?,
                "interval" => grid.interval = durations(values)?,
                "failback_delay" => grid.failback_delay = durations(values)?,
                other => {
                    return Err(format!(
                        "`{other}` cannot be swept; fall, rise, interval and failback_delay can"
                    ));
                }
            }
        }
        match grid.size() {
            n if n > LARGEST => Err(format!("that is {n} combinations; {LARGEST} is the most")),
            _ => Ok(grid),
        }
    }

    fn size(&self) -> usize {
        [self.fall.len(), self.rise.len(), self.interval.len(), self.failback_delay.len()]
            .into_iter()
            .fold(1, |n, len| n.saturating_mul(len.max(1)))
    }

    /// Every combination.
    pub fn choices(&self) -> Vec<Choice> {
        let mut all = Vec::new();
        for fall in each(&self.fall) {
            for rise in each(&self.rise) {
                for interval in each(&self.interval) {
                    for failback_delay in each(&self.failback_delay) {
                        all.push(Choice { fall, rise, interval, failback_delay });
                    }
                }
            }
        }
        all
    }
}

fn each<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
}

fn numbers(text: &str) -> Result<Vec<u32>, String> {
    let wrong = || format!("`{text}`: write 2..8, 3, or 2/3/5; 1 to 1000");
    let number = |t: &str| t.trim().parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(wrong);
    if let Some((low, high)) = text.split_once("..") {
        let (low, high) = (number(low)?, number(high.trim_start_matches('='))?);
        return if low <= high { Ok((low..=high).collect()) } else { Err(wrong()) };
    }
    text.split('/').map(number).collect()
}

fn durations(text: &str) -> Result<Vec<Duration>, String> {
    let parse = |t: &str| match humantime::parse_duration(t.trim()) {
        Ok(d) if d >= Duration::from_millis(10) => Ok(d),
        _ => Err(format!("`{t}`: write durations of 10ms and more as 500ms/1s/2s")),
    };
    text.split('/').map(parse).collect()
}

/// `config` with a choice applied: thresholds to the checks of that instance's primary, the delay to the instance.
pub fn with(config: &Config, instance: &str, choice: Choice) -> Config {
    let mut config = config.clone();
    let primary = config.instance(instance).and_then(|i| i.primary.clone());
    let checks = primary.map(|p| p.checks).unwrap_or_default();
    for check in config.checks.iter_mut().filter(|c| checks.contains(&c.name)) {
        let interval = choice.interval.unwrap_or(check.interval);
        *check = Arc::new(Check {
            fall: choice.fall.map_or(check.fall, Fall::Consecutive),
            rise: choice.rise.unwrap_or(check.rise),
            interval,
            timeout: check.timeout.min(interval),
            ..Check::clone(check)
        });
    }
    for instance in config.instances.iter_mut().filter(|i| &*i.name == instance) {
        let mut new = (**instance).clone();
        new.failback_delay = choice.failback_delay.unwrap_or(new.failback_delay);
        *instance = Arc::new(new);
    }
    config
}

/// Replays every combination, on all processors, and marks the Pareto front.
pub fn sweep(config: &Config, trace: &Trace, instance: &str, outages: &[Span], grid: &Grid) -> Vec<Outcome> {
    let choices = grid.choices();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(choices.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((n, choice)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|n| choices.get(n).map(|choice| (n, *choice)))
                {
                    let story = replay(&with(config, instance, choice), trace, true);
                    let verdict = judge(&story, instance, outages);
                    let outcome = Outcome { choice, verdict, best: false };
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((n, outcome));
                }
            });
        }
    });
    let mut outcomes = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(n, _)| *n);
    let mut outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, o)| o).collect();
    mark_best(&mut outcomes);
    outcomes
}

/// What is better when it is less.
fn costs(v: &Verdict) -> [u128; 3] {
    let p95 = v.percentile(95).map_or(u128::MAX, |d| d.as_nanos());
    [v.false_takeovers as u128, v.missed as u128, p95]
}

fn mark_best(outcomes: &mut [Outcome]) {
    let all: Vec<[u128; 3]> = outcomes.iter().map(|o| costs(&o.verdict)).collect();
    for (outcome, mine) in outcomes.iter_mut().zip(&all) {
        let beats = |other: &[u128; 3]| other != mine && other.iter().zip(mine).all(|(a, b)| a <= b);
        outcome.best = !all.iter().any(beats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_written_in_ranges_and_lists() {
        let grid = Grid::parse("fall=2..4,rise=1/3,interval=500ms/1s").unwrap();
        assert_eq!((grid.fall.clone(), grid.rise.clone()), (vec![2, 3, 4], vec![1, 3]));
        assert_eq!(grid.choices().len(), 12);
        assert_eq!(grid.choices()[0].failback_delay, None);
        for (text, words) in [
            ("fall", "write keys and values"),
            ("fell=1", "cannot be swept"),
            ("fall=5..2", "write 2..8"),
            ("fall=0", "write 2..8"),
            ("interval=1ms", "10ms and more"),
            ("fall=1..1000,rise=1..1000", "is the most"),
        ] {
            assert!(Grid::parse(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn the_front_is_what_nobody_beats() {
        let outcome = |false_takeovers, ms| Outcome {
            choice: Choice::default(),
            verdict: Verdict {
                false_takeovers,
                detection: vec![Duration::from_millis(ms)],
                ..Verdict::default()
            },
            best: false,
        };
        let mut all = [outcome(0, 900), outcome(0, 800), outcome(5, 300), outcome(6, 300), outcome(9, 100)];
        mark_best(&mut all);
        assert_eq!(all.map(|o| o.best), [false, true, true, false, true]);
    }
}
