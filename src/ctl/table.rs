//! Aligned columns that fit the width.

use super::style::{Style, Tone, clean, cut, width, wrap};

/// Between columns.
const GAP: usize = 2;
/// No column but the last takes more.
const WIDEST: usize = 36;
/// With less room than this the last column goes below its row.
const NARROWEST: usize = 24;
/// The last column takes at most so many lines.
const LINES: usize = 3;

/// A cell.
pub type Cell = (Tone, String);

/// Rows under a heading. The last column is wrapped; the others are cut.
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(heading: &[&'static str]) -> Self {
        Table { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells.into_iter().map(|(tone, text)| (tone, clean(&text))).collect());
    }

    /// The lines of each row, each ending with a newline; the first entry is the heading.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let widths = self.widths();
        let heading: Vec<Cell> = self.heading.iter().map(|h| (Tone::Head, (*h).to_owned())).collect();
        std::iter::once(&heading).chain(&self.rows).map(|row| line(row, &widths, style)).collect()
    }

    /// Of every column but the last.
    fn widths(&self) -> Vec<usize> {
        let column = |(at, heading): (usize, &&str)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|(_, text)| width(text));
            cells.chain([width(heading)]).max().unwrap_or(0).min(WIDEST)
        };
        let all: Vec<usize> = self.heading.iter().enumerate().map(column).collect();
        all.split_last().map(|(_, others)| others.to_vec()).unwrap_or_default()
    }
}

fn line(row: &[Cell], widths: &[usize], style: Style) -> String {
    let mut out = String::new();
    for ((tone, text), width) in row.iter().zip(widths) {
        out.push_str(&pad(*tone, text, *width + GAP, style));
    }
    let used: usize = widths.iter().map(|w| w + GAP).sum();
    let Some((tone, text)) = row.get(widths.len()).filter(|(_, text)| !text.is_empty()) else {
        return format!("{}\n", out.trim_end());
    };
    let room = style.width.saturating_sub(used);
    if room < NARROWEST && width(text) > room {
        return format!("{}\n{}", out.trim_end(), style.paragraph(*tone, 4, LINES, text));
    }
    for (n, part) in wrap(text, room, LINES).iter().enumerate() {
        let indent = if n == 0 { 0 } else { used };
        out.push_str(&format!("{:indent$}{}\n", "", style.paint(*tone, part)));
    }
    out
}

fn pad(tone: Tone, text: &str, columns: usize, style: Style) -> String {
    let text = cut(text, columns.saturating_sub(GAP));
    let fill = columns.saturating_sub(width(&text));
    format!("{}{:fill$}", style.paint(tone, &text), "")
}
