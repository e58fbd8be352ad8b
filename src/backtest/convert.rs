//! Traces from the logs of `fping -D -l` and `ping -D`.
//!
//! fping tells every probe. Its time is that of the answer: the round-trip time is taken off; that of a lost one stays as it
//! is, late by fping's time-out. ping tells of lost probes only with `-O`; what is missing between two answers is filled in.
//!
//! ```text
//! [1795320000.12345] 198.18.0.1 : [7], 64 bytes, 12.3 ms (12.1 avg, 0% loss)
//! [1795320001.12345] 198.18.0.1 : [8], timed out (12.1 avg, 11% loss)
//! [1795320000.123456] 64 bytes from 198.18.0.1: icmp_seq=7 ttl=58 time=12.3 ms
//! [1795320001.123456] no answer yet for icmp_seq=8
//! ```

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::time::Duration;

use super::trace::{Row, Seen, nanos};

/// What a log tells of one probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The host; ping's lost probes do not say.
    host: Option<String>,
    /// Its number, if it has one that others can be counted from (ping).
    seq: Option<u16>,
    row: Row,
}

/// Reads one line; None if it tells of no probe.
pub fn line(text: &str) -> Option<Line> {
    let (stamp, rest) = text.trim().strip_prefix('[')?.split_once("] ")?;
    let at = nanos(stamp.as_bytes())?;
    ping(at, rest).or_else(|| fping(at, rest))
}

fn fping(at: i64, rest: &str) -> Option<Line> {
    let (host, rest) = rest.split_once(" : [")?;
    let (_, rest) = rest.split_once("], ")?;
    let rtt =
        rest.split_once(" bytes, ").and_then(|(_, r)| r.split_once(" ms")).and_then(|(ms, _)| millis(ms));
    // "timed out", and words about ICMP errors: no answer.
    let row = answer(at, rtt);
    Some(Line { host: Some(host.trim().to_owned()), seq: None, row })
}

fn ping(at: i64, rest: &str) -> Option<Line> {
    let (before, after) = rest.split_once("icmp_seq=")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let seq: u16 = after.get(..digits)?.parse().ok()?;
    if after.contains("(DUP!)") {
        return None;
    }
    let rtt = after.split_once("time=").and_then(|(_, r)| r.split_once(" ms")).and_then(|(ms, _)| millis(ms));
    let from = before.split_once(" from ").map(|(_, h)| h).or_else(|| before.strip_prefix("From "));
    let host = from.and_then(|h| {
        // "name (address):" or "address:"; a router that answers in the target's place is not the host.
        let address = h.rsplit_once('(').map_or(h, |(_, a)| a);
        rtt.map(|_| address.trim_end_matches([':', ' ', ')']).to_owned())
    });
    Some(Line { host, seq: Some(seq), row: answer(at, rtt) })
}

fn answer(at: i64, rtt: Option<Duration>) -> Row {
    match rtt {
        Some(rtt) => {
            let sent = at.saturating_sub(i64::try_from(rtt.as_nanos()).unwrap_or(0));
            Row { at: sent, seen: Seen::Ok, rtt: Some(rtt) }
        }
        None => Row { at, seen: Seen::Error, rtt: None },
    }
}

fn millis(text: &str) -> Option<Duration> {
    let ms: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(ms / 1e3).ok()
}

/// Every probe in a log, in the order of time, each with the name of its check: `names` says which host is which check; a host
/// that is not in it is called as it is.
///
/// # Errors
///
/// If the log cannot be read, or tells of no probe.
pub fn read(from: impl BufRead, names: &BTreeMap<String, String>) -> io::Result<Vec<(String, Row)>> {
    let mut rows: Vec<(String, Row)> = Vec::new();
    let mut numbered: BTreeMap<u64, Row> = BTreeMap::new();
    let (mut target, mut last) = (None, None);
    for text in from.lines() {
        let Some(Line { host, seq, row }) = line(&text?) else { continue };
        let name = |host: String| names.get(&host).cloned().unwrap_or(host);
        match seq {
            None => rows.push((name(host.unwrap_or_default()), row)),
            Some(seq) => {
                target = target.or(host.map(name));
                let seq = unwrap(seq, last);
                last = Some(last.map_or(seq, |l: u64| l.max(seq)));
                // "no answer yet", and then an answer: it was late.
                let is_news = numbered.get(&seq).is_none_or(|r| r.seen != Seen::Ok);
                if is_news {
                    numbered.insert(seq, row);
                }
            }
        }
    }
    let target = target.unwrap_or_else(|| "ping".to_owned());
    let only = names.values().next().filter(|_| names.len() == 1 && rows.is_empty()).cloned();
    let target = only.unwrap_or(target);
    rows.extend(fill(&numbered).into_iter().map(|row| (target.clone(), row)));
    if rows.is_empty() {
        let what =
            "there is no line of `fping -D -l` or `ping -D` (with -O, so that lost probes are told) in it";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    rows.sort_by_key(|(_, row)| row.at);
    Ok(rows)
}

/// ping counts to 65,535 and begins anew.
fn unwrap(seq: u16, last: Option<u64>) -> u64 {
    let Some(last) = last else { return u64::from(seq) };
    let base = last & !0xffff;
    let candidates = [base.saturating_sub(0x1_0000), base, base + 0x1_0000].map(|b| b + u64::from(seq));
    candidates.into_iter().min_by_key(|c| c.abs_diff(last)).unwrap_or(u64::from(seq))
}

/// What is missing between two probes was lost; when it was sent lies between.
fn fill(numbered: &BTreeMap<u64, Row>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut before: Option<(u64, Row)> = None;
    for (seq, row) in numbered {
        if let Some((first, from)) = before {
            let steps = seq - first;
            let step = row.at.saturating_sub(from.at) / i64::try_from(steps).unwrap_or(i64::MAX).max(1);
            // A day of lost probes is a pause of ping's, not a loss.
            for n in 1..steps.min(86_400) {
                let at = from.at + step * i64::try_from(n).unwrap_or(0);
                rows.push(Row { at, seen: Seen::Error, rtt: None });
            }
        }
        rows.push(*row);
        before = Some((*seq, *row));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(log: &str, names: &[(&str, &str)]) -> Vec<(String, i64, bool)> {
        let names = names.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let rows = read(log.as_bytes(), &names).unwrap();
        rows.into_iter().map(|(n, r)| (n, r.at / 1_000_000, r.seen == Seen::Ok)).collect()
    }

    #[test]
    fn fping() {
        let log = "[1795320000.50000] 198.18.0.1 : [0], 64 bytes, 12.0 ms (12.0 avg, 0% loss)\n\
                   [1795320001.50000] 203.0.113.1 : [1], timed out (NaN avg, 100% loss)\n\
                   ICMP Host Unreachable from 192.0.2.1 for ICMP Echo sent to 203.0.113.1\n";
        let got = told(log, &[("198.18.0.1", "ping")]);
        let want = [("ping", 1_795_320_000_488, true), ("203.0.113.1", 1_795_320_001_500, false)];
        assert_eq!(got, want.map(|(n, at, ok)| (n.to_owned(), at, ok)));
    }

    #[test]
    fn ping_with_losses_late_answers_and_the_counter_beginning_anew() {
        let log = "PING a (198.18.0.1) 56(84) bytes of data.\n\
                   [1795320000.010] 64 bytes from a (198.18.0.1): icmp_seq=65534 ttl=58 time=10.0 ms\n\
                   [1795320001.900] no answer yet for icmp_seq=65535\n\
                   [1795320002.500] 64 bytes from a (198.18.0.1): icmp_seq=65535 ttl=58 time=1500 ms\n\
                   [1795320004.010] 64 bytes from a (198.18.0.1): icmp_seq=2 ttl=58 time=10.0 ms (DUP!)\n\
                   [1795320005.010] 64 bytes from a (198.18.0.1): icmp_seq=3 ttl=58 time=10.0 ms\n\
                   [1795320006.000] From 192.0.2.1 icmp_seq=4 Destination Host Unreachable\n";
        let got = told(log, &[]);
        let ok: Vec<(i64, bool)> = got.iter().map(|(_, at, ok)| (at - 1_795_320_000_000, *ok)).collect();
        assert_eq!(
            ok,
            [
                (0, true),
                (1000, true),
                (2000, false),
                (3000, false),
                (4000, false),
                (5000, true),
                (6000, false)
            ]
        );
        assert!(got.iter().all(|(n, ..)| n == "198.18.0.1"));
    }

    #[test]
    fn a_log_of_something_else_is_refused() {
        assert!(read("hello\n".as_bytes(), &BTreeMap::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_line_panics(text in "\\PC{0,120}", seq in any::<u16>(), last in proptest::option::of(0u64..1 << 40)) {
            let _ = (line(&text), unwrap(seq, last));
            let _ = line(&format!("[1795320000.1] {text}"));
        }
    }
}
