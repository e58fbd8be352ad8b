//! What was recorded: for each check, when a probe was sent and what came of it.
//!
//! A CSV file, a probe a line, nearly in the order of time: `TIME,CHECK,RESULT,RTT[,TRUTH]`. TIME is seconds since 1970 with
//! decimals, or RFC 3339; RESULT is `ok`, `error`, or `blind` (neither: it could not be made, or its answer not be seen); RTT is
//! milliseconds, or with a unit as in `12.5ms`, and may be left out, as for an error without an answer. TRUTH, if known, says
//! whether the primary really was `up` or `down` at that time. A heading, empty lines and lines that begin with `#` are skipped.
//!
//! A year of three checks each second is 95 million rows: a row is eight bytes here.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::time::Duration;

use crate::config::model::Name;

/// Ticks are ten microseconds: times as 44 bits of them last five years, round-trip times as 19 bits five seconds.
const TICK_NS: i64 = 10_000;
const RTT_BITS: u32 = 18;
const RTT_NONE: u64 = (1 << RTT_BITS) - 1;
const RTT_TICK_US: u64 = 20;
const TIME_BITS: u32 = 64 - RTT_BITS - 2;

/// What a probe saw.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seen {
    /// The answer that was expected.
    Ok,
    /// A wrong answer, or none.
    Error,
    /// Neither.
    Blind,
}

/// One probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// When it was sent, nanoseconds since 1970 (to ten microseconds).
    pub at: i64,
    /// What it saw.
    pub seen: Seen,
    /// How long the answer took (to 20 microseconds, at most 5.2 s); None: there was none.
    pub rtt: Option<Duration>,
}

/// All probes of one check, in the order of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Series {
    /// The check's name.
    pub check: Name,
    start: i64,
    rows: Vec<u64>,
}

impl Series {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The n-th.
    pub fn get(&self, n: usize) -> Option<Row> {
        self.rows.get(n).map(|packed| unpack(*packed, self.start))
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows.iter().map(|packed| unpack(*packed, self.start))
    }

    /// The usual time from one probe to the next: the median. None with fewer than two.
    pub fn step(&self) -> Option<Duration> {
        // A sample is enough, and must not take longer than the replay.
        let stride = (self.rows.len() / 10_000).max(1);
        let pair = |n: usize| Some(self.get(n + 1)?.at - self.get(n)?.at);
        let mut gaps: Vec<i64> = (0..self.rows.len()).step_by(stride).filter_map(pair).collect();
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2)?;
        Some(Duration::from_nanos(u64::try_from(*median).unwrap_or(0)))
    }
}

/// A whole recording.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// One entry a check, in the order of their first rows.
    pub series: Vec<Series>,
    /// When the primary's real state became this (true: down), in the order of time; empty if nobody knew.
    pub truth: Vec<(i64, bool)>,
}

impl Trace {
    /// The series of a check.
    pub fn of(&self, check: &str) -> Option<&Series> {
        self.series.iter().find(|s| &*s.check == check)
    }

    /// From the first probe to the last, nanoseconds since 1970.
    pub fn span(&self) -> Option<(i64, i64)> {
        let first = self.series.iter().filter_map(|s| s.get(0)).map(|r| r.at).min()?;
        let last = self.series.iter().filter_map(|s| s.get(s.len().checked_sub(1)?)).map(|r| r.at).max()?;
        Some((first, last))
    }

    /// How many probes.
    pub fn len(&self) -> usize {
        self.series.iter().map(Series::len).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Puts a trace together, row by row.
#[derive(Debug, Default)]
pub struct Builder {
    trace: Trace,
    index: HashMap<Name, usize>,
    start: Option<i64>,
    /// The series of the next row, if checks take turns: looked at first.
    hint: usize,
}

impl Builder {
    /// Adds a probe. Errors: its time is out of all proportion.
    pub fn push(&mut self, check: &str, row: Row) -> Result<(), String> {
        let start = *self.start.get_or_insert(row.at - row.at.rem_euclid(1_000_000_000) - 3_600_000_000_000);
        let hinted = self.trace.series.get(self.hint).filter(|s| &*s.check == check).map(|_| self.hint);
        let n = match hinted.or_else(|| self.index.get(check).copied()) {
            Some(n) => n,
            None => {
                let name: Name = check.into();
                self.index.insert(name.clone(), self.trace.series.len());
                self.trace.series.push(Series { check: name, start, rows: Vec::new() });
                self.trace.series.len() - 1
            }
        };
        let packed = pack(row, start).ok_or("the time is out of the five years of a trace")?;
        self.hint = (n + 1) % self.trace.series.len().max(1);
        let Some(series) = self.trace.series.get_mut(n) else { return Ok(()) };
        series.rows.push(packed);
        Ok(())
    }

    /// The primary really was down, or up, at that time.
    pub fn truth(&mut self, at: i64, down: bool) {
        if self.trace.truth.last().is_none_or(|(_, was)| *was != down) {
            self.trace.truth.push((at, down));
        }
    }

    /// The trace.
    pub fn finish(mut self) -> Trace {
        // Results are recorded as they come: a time-out after the answers that overtook it.
        for series in self.trace.series.iter_mut().filter(|s| !s.rows.is_sorted()) {
            series.rows.sort_unstable();
        }
        self.trace.truth.sort_by_key(|(at, _)| *at);
        self.trace.truth.dedup_by_key(|(_, down)| *down);
        self.trace
    }
}

fn pack(row: Row, start: i64) -> Option<u64> {
    let ticks = u64::try_from(row.at.checked_sub(start)? / TICK_NS).ok().filter(|t| t >> TIME_BITS == 0)?;
    let rtt = row.rtt.map_or(RTT_NONE, |d| {
        u64::try_from(d.as_micros()).unwrap_or(u64::MAX).div_euclid(RTT_TICK_US).min(RTT_NONE - 1)
    });
    let seen = match row.seen {
        Seen::Ok => 0,
        Seen::Error => 1,
        Seen::Blind => 2,
    };
    Some(ticks << (RTT_BITS + 2) | seen << RTT_BITS | rtt)
}

fn unpack(packed: u64, start: i64) -> Row {
    let ticks = i64::try_from(packed >> (RTT_BITS + 2)).unwrap_or(i64::MAX);
    let rtt = packed & RTT_NONE;
    Row {
        at: start.saturating_add(ticks.saturating_mul(TICK_NS)),
        seen: match packed >> RTT_BITS & 3 {
            0 => Seen::Ok,
            1 => Seen::Error,
            _ => Seen::Blind,
        },
        rtt: (rtt != RTT_NONE).then(|| Duration::from_micros(rtt * RTT_TICK_US)),
    }
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What is in it.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong, and how it should be.
        what: String,
    },
}

/// Reads a CSV file.
///
/// # Errors
///
/// The first line that is wrong, with its number.
pub fn read(mut from: impl BufRead) -> Result<Trace, TraceError> {
    let mut builder = Builder::default();
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        if io::Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut text)? == 0 {
            return Ok(builder.finish());
        }
        line += 1;
        let row = text.trim_ascii();
        if row.is_empty() || row.starts_with(b"#") || (line == 1 && row.starts_with(b"time")) {
            continue;
        }
        add(&mut builder, row).map_err(|what| TraceError::Line { line, what })?;
    }
}

/// Bytes of a line.
const LONGEST_LINE: u64 = 4096;

fn add(builder: &mut Builder, row: &[u8]) -> Result<(), String> {
    let mut fields = row.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let (time, check) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let (seen, rtt) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let truth = fields.next().unwrap_or_default();
    let at = nanos(time).ok_or_else(|| format!("`{}` is no time: {TIMES}", show(time)))?;
    let check = std::str::from_utf8(check).ok().filter(|c| !c.is_empty());
    let check = check.ok_or("the second field must be the name of a check")?;
    let seen = match seen {
        b"ok" => Seen::Ok,
        b"error" => Seen::Error,
        b"blind" => Seen::Blind,
        other => return Err(format!("`{}` must be ok, error or blind", show(other))),
    };
    let rtt = if rtt.is_empty() { None } else { Some(millis(rtt)?) };
    builder.push(check, Row { at, seen, rtt })?;
    match truth {
        b"" => {}
        b"down" => builder.truth(at, true),
        b"up" => builder.truth(at, false),
        other => return Err(format!("`{}`: the truth is up or down, or left out", show(other))),
    }
    Ok(())
}

const TIMES: &str = "write 1795320000.123456 or 2026-11-22T04:00:00.123456Z";

fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(40).collect()
}

/// "1795320000.123456" or RFC 3339, in nanoseconds since 1970.
pub fn nanos(text: &[u8]) -> Option<i64> {
    if text.contains(&b'T') {
        let date = humantime::parse_rfc3339_weak(std::str::from_utf8(text).ok()?).ok()?;
        return i64::try_from(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos()).ok();
    }
    decimal(text, 9).filter(|ns| *ns >= 0)
}

/// A decimal number without exponent, times ten to `places`; further decimals are cut off.
fn decimal(text: &[u8], places: usize) -> Option<i64> {
    let (whole, part) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &[][..]),
    };
    if whole.is_empty() && part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |n: Option<i64>, b: &u8| n?.checked_mul(10)?.checked_add(i64::from(b.wrapping_sub(b'0')));
    if !whole.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = whole.iter().fold(Some(0), digit);
    let padding = std::iter::repeat_n(&b'0', places);
    part.iter().chain(padding).take(places).fold(n, digit)
}

fn millis(text: &[u8]) -> Result<Duration, String> {
    let wrong = || format!("`{}` is no round-trip time: write 12.5 (milliseconds) or 12.5ms", show(text));
    let (number, unit) = match text.iter().position(u8::is_ascii_alphabetic) {
        Some(at) => text.split_at(at),
        None => (text, &b"ms"[..]),
    };
    let places = match unit {
        b"s" => 9,
        b"ms" => 6,
        b"us" => 3,
        _ => return Err(wrong()),
    };
    let ns = decimal(number, places).ok_or_else(wrong)?;
    Ok(Duration::from_nanos(u64::try_from(ns).map_err(|_| wrong())?))
}

/// A line of a trace, with its newline.
pub fn line(check: &str, row: Row) -> String {
    let seen = match row.seen {
        Seen::Ok => "ok",
        Seen::Error => "error",
        Seen::Blind => "blind",
    };
    let rtt = row.rtt.map(|d| format!("{:.3}", d.as_secs_f64() * 1e3)).unwrap_or_default();
    let us = row.at.max(0) / 1000;
    format!("{}.{:06},{check},{seen},{rtt}\n", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(text: &str) -> Result<Trace, String> {
        read(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_trace_is_read_as_it_says() {
        let text = "time,check,result,rtt,truth\n\n# by hand\n1795320000.5,a,ok,12.5,up\n\
                    2026-11-22T04:00:01Z, b , error,,down\n1795320001.25,a,error,3ms\n1795320002,a,blind\n";
        let trace = read_text(text).unwrap();
        let rows: Vec<Row> = trace.of("a").unwrap().iter().collect();
        let row = |at, seen, ms: Option<u64>| Row { at, seen, rtt: ms.map(Duration::from_micros) };
        assert_eq!(rows[0], row(1_795_320_000_500_000_000, Seen::Ok, Some(12_500)));
        assert_eq!(rows[1], row(1_795_320_001_250_000_000, Seen::Error, Some(3_000)));
        assert_eq!(rows[2], row(1_795_320_002_000_000_000, Seen::Blind, None));
        assert_eq!(trace.of("b").unwrap().len(), 1);
        assert_eq!(trace.truth.iter().map(|t| t.1).collect::<Vec<_>>(), [false, true]);
        assert_eq!(trace.of("a").unwrap().step(), Some(Duration::from_millis(750)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("1,a,ok,1\nyesterday,a,ok,1\n", "line 2: `yesterday` is no time"),
            ("1,a,good,1\n", "line 1: `good` must be ok, error or blind"),
            ("1,a,ok,fast\n", "`fast` is no round-trip time"),
            ("1,,ok,1\n", "the name of a check"),
            ("1,a,ok,1,maybe\n", "the truth is up or down"),
            ("1,a,ok,1\n999999999,a,ok,1\n", "five years"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes[..]);
        }

        #[test]
        fn what_is_written_is_read(ticks in 0i64..1_000_000_000, rtt in proptest::option::of(0u64..250_000), seen in 0..3) {
            let seen = [Seen::Ok, Seen::Error, Seen::Blind][seen as usize];
            let rtt = rtt.map(|t| Duration::from_micros(t * 20));
            let row = Row { at: 1_795_320_000_000_000_000 + ticks * TICK_NS, seen, rtt };
            let trace = read_text(&line("c", row)).unwrap();
            prop_assert_eq!(trace.of("c").unwrap().get(0), Some(row));
        }
    }
}
