//! A picture of a replay: for each check when it failed and how long answers took, for each instance when it was MASTER,
//! and when the primary really was down.

use std::fmt::Write;

use super::outage::Span;
use super::replay::Story;
use super::trace::{Seen, Series, Trace};
use crate::announcer::journal::State;

/// Columns of pixels that show the time.
const WIDTH: usize = 1200;
/// Left of it, for names.
const LEFT: usize = 180;
const ROW: usize = 60;
const BAND: usize = 26;
const TOP: usize = 40;

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
    let height = TOP + trace.series.len() * ROW + instances.len() * 2 * BAND + 40;
    let mut out = String::new();
    let total = LEFT + WIDTH + 20;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"{height}\" \
         viewBox=\"0 0 {total} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{total}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(&mut out, LEFT, 24, &format!("{} to {}", date(from), date(to)));
    let mut y = TOP;
    for series in &trace.series {
        check(&mut out, series, &scale, y);
        y += ROW;
    }
    for (name, outages) in instances {
        text(&mut out, 8, y + 17, "primary down");
        for span in outages {
            bar(&mut out, &scale, *span, y, "#c0392b", "down");
        }
        y += BAND;
        text(&mut out, 8, y + 17, name);
        states(&mut out, story, name, &scale, y);
        y += BAND;
    }
    legend(&mut out, y + 24);
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

fn check(out: &mut String, series: &Series, scale: &Scale, y: usize) {
    text(out, 8, y + 20, &series.check);
    let mut columns = vec![Column::default(); WIDTH];
    for row in series.iter() {
        let Some(column) = columns.get_mut(scale.column(row.at)) else { continue };
        column.probes += 1;
        column.errors += u32::from(row.seen == Seen::Error);
        column.rtt_us = column.rtt_us.max(row.rtt.map_or(0, crate::status::micros));
    }
    let longest = columns.iter().map(|c| c.rtt_us).max().unwrap_or(0).max(1);
    text(out, 8, y + 36, &format!("RTT to {:.1} ms", longest as f64 / 1e3));
    let room = ROW - 12;
    for (n, column) in columns.iter().enumerate().filter(|(_, c)| c.probes > 0) {
        let x = LEFT + n;
        let high = usize::try_from(column.rtt_us * room as u64 / longest).unwrap_or(room);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"1\" height=\"{high}\" fill=\"#7fb3d5\"/>",
            y + room - high
        );
        if column.errors > 0 {
            let lost = (column.errors as usize * room).div_ceil(column.probes as usize);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"1\" height=\"{lost}\" fill=\"#c0392b\" opacity=\"0.8\"/>"
            );
        }
    }
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
        bar(
            out,
            scale,
            Span { from: change.at, to },
            y,
            colour,
            &format!("{}: {}", change.to.word(), change.reason),
        );
    }
}

fn bar(out: &mut String, scale: &Scale, span: Span, y: usize, colour: &str, title: &str) {
    let (x, end) = (scale.x(span.from), scale.x(span.to));
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"><title>{} to {}: {}</title></rect>",
        (end - x).max(1.0),
        BAND - 6,
        date(span.from),
        date(span.to),
        escape(title)
    );
}

fn legend(out: &mut String, y: usize) {
    let words = [
        ("#7fb3d5", "longest answer"),
        ("#c0392b", "share of errors; primary down"),
        ("#27ae60", "MASTER"),
        ("#d5dbdb", "BACKUP"),
        ("#e67e22", "FAULT"),
    ];
    for (n, (colour, word)) in words.into_iter().enumerate() {
        let x = LEFT + n * 220;
        let _ =
            writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>", y - 11);
        text(out, x + 18, y, word);
    }
}

fn text(out: &mut String, x: usize, y: usize, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\">{}</text>", escape(words));
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
    let since = std::time::Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::trace::read;

    #[test]
    fn a_picture_shows_checks_and_instances() {
        let trace = read("1,a&b,ok,5\n2,a&b,error,\n3,a&b,ok,7\n".as_bytes()).unwrap();
        let story = Story { changes: Vec::new(), span: trace.span().unwrap() };
        let svg =
            svg(&trace, &story, &[("main".into(), vec![Span { from: 2_000_000_000, to: 3_000_000_000 }])]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(
            svg.contains(">a&amp;b</text>") && svg.contains("RTT to 7.0 ms") && svg.contains(">main</text>")
        );
    }
}
