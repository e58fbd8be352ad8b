//! When the primary really was down: as the trace's truth says, or by a rule.

use std::time::Duration;

use super::trace::{Seen, Series, Trace};
use crate::config::model::Primary;

/// A stretch of time, nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// From.
    pub from: i64,
    /// Until; not part of it.
    pub to: i64,
}

/// The outages of a primary: by the truth of the trace if it has any; else whenever, for at least `least`, as many of
/// the checks as `down_when` asks for had no success.
pub fn outages(trace: &Trace, primary: &Primary, least: Duration) -> Vec<Span> {
    let end = trace.span().map_or(0, |(_, last)| last);
    if !trace.truth.is_empty() {
        return by_truth(&trace.truth, end);
    }
    let least = i64::try_from(least.as_nanos()).unwrap_or(i64::MAX);
    let series: Vec<&Series> = primary.checks.iter().filter_map(|name| trace.of(name)).collect();
    let needed = primary.down_when.needed(primary.checks.len());
    let mut edges: Vec<(i64, i32)> = Vec::new();
    for span in series.iter().flat_map(|s| silences(s, end)) {
        edges.extend([(span.from, 1), (span.to, -1)]);
    }
    // Where one begins as another ends, the end counts first.
    edges.sort_unstable();
    let mut down = 0;
    let mut since = None;
    let mut found = Vec::new();
    for (at, change) in edges {
        down += change;
        let is_down = usize::try_from(down).unwrap_or(0) >= needed;
        match (since, is_down) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                found.push(Span { from, to: at });
                since = None;
            }
            _ => {}
        }
    }
    found.retain(|s| s.to - s.from >= least);
    found
}

fn by_truth(truth: &[(i64, bool)], end: i64) -> Vec<Span> {
    let ends = truth.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let spans = truth.iter().zip(ends).filter(|((_, down), _)| *down);
    spans.map(|((from, _), to)| Span { from: *from, to }).collect()
}

/// From each first error to the next success. A result that says nothing neither begins one nor ends it.
fn silences(series: &Series, end: i64) -> Vec<Span> {
    let mut since = None;
    let mut found = Vec::new();
    for row in series.iter() {
        match (row.seen, since) {
            (Seen::Error, None) => since = Some(row.at),
            (Seen::Ok, Some(from)) => {
                found.push(Span { from, to: row.at });
                since = None;
            }
            _ => {}
        }
    }
    found.extend(since.map(|from| Span { from, to: end }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::trace::read;
    use crate::config::model::Quorum;

    fn primary(down_when: Quorum) -> Primary {
        Primary { checks: vec!["a".into(), "b".into()], down_when, up_when: Quorum::All }
    }

    fn seconds(spans: &[Span]) -> Vec<(i64, i64)> {
        spans.iter().map(|s| (s.from / 1_000_000_000, s.to / 1_000_000_000)).collect()
    }

    #[test]
    fn the_truth_counts_if_there_is_one() {
        let text = "1,a,ok,1,up\n2,a,ok,1,down\n3,a,ok,1,up\n4,a,ok,1,down\n9,a,ok,1,down\n";
        let trace = read(text.as_bytes()).unwrap();
        assert_eq!(seconds(&outages(&trace, &primary(Quorum::All), Duration::ZERO)), [(2, 3), (4, 9)]);
    }

    #[test]
    fn else_a_long_enough_silence_of_enough_checks() {
        let mut rows: Vec<(u32, String)> = Vec::new();
        for at in 1..=100u32 {
            let a = (10..30).contains(&at) || (50..55).contains(&at);
            let b = (20..40).contains(&at) || (90..).contains(&at);
            rows.push((at, format!("{at},a,{},1\n{at},b,{},1\n", word(a), word(b))));
        }
        let text: String = rows.into_iter().map(|(_, l)| l).collect();
        let trace = read(text.as_bytes()).unwrap();
        let ten = Duration::from_secs(10);
        assert_eq!(seconds(&outages(&trace, &primary(Quorum::All), ten)), [(20, 30)]);
        assert_eq!(seconds(&outages(&trace, &primary(Quorum::Any), ten)), [(10, 40), (90, 100)]);
    }

    fn word(down: bool) -> &'static str {
        if down { "error" } else { "ok" }
    }
}
