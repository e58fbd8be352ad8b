//! A picture of a replay: for each check when it failed and how long answers took, for each instance when it was MASTER,
//! and when the primary really was down.
//!
//! One path for each curve, not a rectangle for each column: a year's picture is as small as an hour's.

use std::fmt::Write;
use std::time::Duration;

use super::outage::Span;
use super::replay::Story;
use super::trace::{Seen, Series, Trace};
use crate::announcer::journal::State;

/// Columns of pixels that show the time.
const WIDTH: usize = 1200;
/// Left of it, for names; and right of it.
const LEFT: usize = 190;
const RIGHT: usize = 30;
/// Of a check: its curves, and with the space to the next.
const CURVE: usize = 46;
const ROW: usize = 62;
/// Of a bar, and with the space to the next.
const BAR: usize = 18;
const BAND: usize = 26;
const TOP: usize = 66;
/// Characters of a name that fit.
const NAME: usize = 24;
/// Marks on the axis of time, at most.
const MARKS: i64 = 9;
/// Between two marks, seconds.
const STEPS: [i64; 20] = [
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    2 * 3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
];
const DAY: i64 = 86_400;
const SECOND: i64 = 1_000_000_000;

const RTT: &str = "#7fb3d5";
const BAD: &str = "#c0392b";

/// One column of a check: the share of errors, and the longest answer.
#[derive(Clone, Copy, Default)]
struct Column {
    probes: u32,
    errors: u32,
    rtt_us: u64,
}

/// An SVG file.
pub fn svg(trace: &Trace, story: &Story, instances: &[(String, Vec<Span>)]) -> String {
    let (from, to) = story.span;
    let scale = Scale { from, span: (to - from).max(1) };
    let bottom = TOP + trace.series.len() * ROW + instances.len() * 2 * BAND;
    let (total, height) = (LEFT + WIDTH + RIGHT, bottom + 34);
    let mut out = String::new();
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"{height}\" \
         viewBox=\"0 0 {total} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{total}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(&mut out, LEFT, 22, "start", &format!("{} to {}", date(from), date(to)));
    axis(&mut out, &scale, to, bottom);
    let mut y = TOP;
    for series in &trace.series {
        check(&mut out, series, &scale, y);
        y += ROW;
    }
    for (name, outages) in instances {
        text(&mut out, LEFT - 10, y + 14, "end", "primary down");
        for span in outages {
            bar(&mut out, &scale, *span, y, BAD, "down");
        }
        y += BAND;
        text(&mut out, LEFT - 10, y + 14, "end", &short(name));
        states(&mut out, story, name, &scale, y);
        y += BAND;
    }
    legend(&mut out, y + 20);
    out.push_str("</svg>\n");
    out
}

struct Scale {
    from: i64,
    span: i64,
}

impl Scale {
    fn x(&self, at: i64) -> f64 {
        let share = (at - self.from) as f64 / self.span as f64;
        LEFT as f64 + share.clamp(0.0, 1.0) * WIDTH as f64
    }

    fn column(&self, at: i64) -> usize {
        let share = i128::from(at - self.from) * WIDTH as i128 / i128::from(self.span);
        usize::try_from(share).unwrap_or(0).min(WIDTH - 1)
    }
}

/// Lines at round times, in UTC.
fn axis(out: &mut String, scale: &Scale, to: i64, bottom: usize) {
    let span = scale.span / SECOND;
    // What is longer than nine months has a mark each so many weeks.
    let step = STEPS.into_iter().find(|step| span / step <= MARKS);
    let step = step.unwrap_or_else(|| (span / MARKS / DAY + 1) * DAY);
    let first = (scale.from + step * SECOND - 1).div_euclid(step * SECOND) * step * SECOND;
    let marks = (0..=MARKS + 1).map(|n| first + n * step * SECOND).take_while(|at| *at <= to);
    for at in marks {
        let (x, stamp) = (scale.x(at), date(at));
        let words = match step {
            step if step >= DAY => stamp.get(..10),
            step if step >= 60 && at % (DAY * SECOND) == 0 => stamp.get(5..10),
            step if step >= 60 => stamp.get(11..16),
            _ => stamp.get(11..19),
        };
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {}V{bottom}\" stroke=\"#dde1e3\" fill=\"none\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#566573\" font-size=\"12\">{}</text>",
            TOP - 14,
            TOP - 20,
            words.unwrap_or_default()
        );
    }
}

fn check(out: &mut String, series: &Series, scale: &Scale, y: usize) {
    let mut columns = vec![Column::default(); WIDTH];
    for row in series.iter() {
        let Some(column) = columns.get_mut(scale.column(row.at)) else { continue };
        column.probes += 1;
        column.errors += u32::from(row.seen == Seen::Error);
        column.rtt_us = column.rtt_us.max(row.rtt.map_or(0, crate::status::micros));
    }
    let longest = columns.iter().map(|c| c.rtt_us).max().unwrap_or(0);
    text(out, LEFT - 10, y + 18, "end", &short(&series.check));
    if longest > 0 {
        let words = format!("RTT up to {}", milliseconds(longest));
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#566573\" font-size=\"12\">{words}</text>",
            LEFT - 10,
            y + 35
        );
    }
    let base = y + CURVE;
    let high = |c: &Column| (c.rtt_us * CURVE as u64).checked_div(longest).unwrap_or(0) as usize;
    curve(out, RTT, base, columns.iter().map(|c| base - high(c)), base);
    let lost = |c: &Column| (c.errors as usize * CURVE).div_ceil(c.probes.max(1) as usize);
    curve(out, BAD, y, columns.iter().map(|c| y + lost(c)), y);
    let _ = writeln!(out, "<path d=\"M{LEFT} {base}h{WIDTH}\" stroke=\"#aeb6bf\" fill=\"none\"/>");
}

/// The area between `base` and a step for each column.
fn curve(out: &mut String, colour: &str, base: usize, tops: impl Iterator<Item = usize>, flat: usize) {
    let mut path = format!("M{LEFT} {base}");
    let (mut at, mut run) = (flat, 0);
    for top in tops {
        if top != at {
            if run > 0 {
                let _ = write!(path, "h{run}");
            }
            let _ = write!(path, "V{top}");
            (at, run) = (top, 0);
        }
        run += 1;
    }
    let _ = writeln!(out, "<path d=\"{path}h{run}V{base}z\" fill=\"{colour}\" fill-opacity=\"0.85\"/>");
}

fn states(out: &mut String, story: &Story, instance: &str, scale: &Scale, y: usize) {
    let changes: Vec<_> = story.changes.iter().filter(|c| &*c.instance == instance).collect();
    for (n, change) in changes.iter().enumerate() {
        let to = changes.get(n + 1).map_or(story.span.1, |next| next.at);
        let colour = match change.to {
            State::Master => "#27ae60",
            State::Backup => "#d5dbdb",
            State::Fault => "#e67e22",
            State::Init | State::Stop => "#f7f9f9",
        };
        let title = format!("{}: {}", change.to.word(), change.reason);
        bar(out, scale, Span { from: change.at, to }, y, colour, &title);
    }
}

/// A moment is a pixel wide, so that none is lost.
fn bar(out: &mut String, scale: &Scale, span: Span, y: usize, colour: &str, title: &str) {
    let (x, end) = (scale.x(span.from), scale.x(span.to));
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"><title>{} to {}: {}</title></rect>",
        (end - x).max(1.0),
        date(span.from),
        date(span.to),
        escape(title)
    );
}

fn legend(out: &mut String, y: usize) {
    let words = [
        (RTT, "longest answer"),
        (BAD, "share of errors; primary down"),
        ("#27ae60", "MASTER"),
        ("#d5dbdb", "BACKUP"),
        ("#e67e22", "FAULT"),
    ];
    let mut x = LEFT;
    for (colour, word) in words {
        let _ =
            writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>", y - 11);
        text(out, x + 18, y, "start", word);
        x += 60 + word.len() * 7;
    }
}

fn milliseconds(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..10_000_000 => format!("{} ms", us.div_ceil(1000)),
        _ => format!("{} s", us.div_ceil(1_000_000)),
    }
}

fn text(out: &mut String, x: usize, y: usize, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn short(name: &str) -> String {
    match name.chars().count() > NAME {
        true => name.chars().take(NAME - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

fn escape(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control());
    kept.map(|c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => c.to_string(),
    })
    .collect()
}

fn date(ns: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::trace::read;

    fn picture(trace: &str) -> String {
        let trace = read(trace.as_bytes()).unwrap();
        let story = Story { changes: Vec::new(), span: trace.span().unwrap() };
        let outages = vec![Span { from: 2 * SECOND, to: 3 * SECOND }];
        svg(&trace, &story, &[("main".into(), outages)])
    }

    #[test]
    fn a_picture_shows_checks_and_instances() {
        let svg = picture("1,a&b,ok,5\n2,a&b,error,\n3,a&b,ok,7\n");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(
            svg.contains(">a&amp;b</text>")
                && svg.contains("RTT up to 7.0 ms")
                && svg.contains(">main</text>")
        );
        // The error in the middle, from the top to the bottom; the answers at both ends.
        assert!(svg.contains("<path d=\"M190 66h600V112h1V66h599V66z\" fill=\"#c0392b\""), "{svg}");
        assert!(svg.contains("<path d=\"M190 112V80h1V112h1198V66h1V112z\" fill=\"#7fb3d5\""), "{svg}");
        assert!(svg.contains("<rect x=\"790.0\" y=\"128\" width=\"600.0\""), "{svg}");
    }

    /// Whatever its length, it has a few marks at round times.
    #[test]
    fn an_axis_has_a_few_marks() {
        for (seconds, mark) in [(3, "00:00:01"), (3_000, "00:10"), (90_000, "03:00"), (31_000_000, "1970-")] {
            let svg = picture(&format!("0,a,ok,5\n{seconds},a,ok,5\n"));
            let marks = svg.matches("text-anchor=\"middle\"").count();
            assert!((3..=11).contains(&marks) && svg.contains(mark), "{seconds}: {marks} marks\n{svg}");
        }
        assert_eq!(short(&"x".repeat(64)).chars().count(), NAME);
    }
}
