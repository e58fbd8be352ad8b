//! What is wrong with a file, where, and what to do: shown with the line and a caret.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, and somebody should look at it.
    Warning,
}

/// A place in a file; both numbers begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Where; `None` if it is about the file as a whole (it cannot be read).
    pub place: Option<Place>,
    /// Dotted path of the key, such as `check.mainland-ping.interval`; empty if there is none.
    pub key: String,
    /// What is wrong, and the mend.
    pub message: String,
    /// The source line and the line with the caret, ready to print; empty without a place.
    pub excerpt: String,
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: KEY: what is wrong`, then the line and the caret. No newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

/// Why a file is refused: every error found, and the warnings between them, sorted by place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostics {
    /// The findings; at least one is an error.
    pub items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// One error about a file as a whole.
    pub fn of_file(file: &str, message: String) -> Self {
        let item = Diagnostic {
            severity: Severity::Error,
            file: Arc::from(file),
            place: None,
            key: String::new(),
            message,
            excerpt: String::new(),
        };
        Diagnostics { items: vec![item] }
    }

    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.items.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

impl fmt::Display for Diagnostics {
    /// All findings, one after the other, and a last line with their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(f, "{item}")?;
        }
        let (errors, warnings) = (self.errors(), self.items.len() - self.errors());
        write!(f, "{}", counted(errors, "error"))?;
        if warnings > 0 { write!(f, ", {}", counted(warnings, "warning")) } else { Ok(()) }
    }
}

impl std::error::Error for Diagnostics {}

/// "1 error", "2 errors".
pub(super) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The key whose value may be a secret as a whole: what is shown of a line of the file ends before it.
pub(super) const SECRET_KEY: &str = "notify_url";

/// A text with its line starts, to turn byte offsets into places.
pub(super) struct LineIndex<'s> {
    source: &'s str,
    starts: Vec<usize>,
}

/// The longest piece of a source line that is shown, in characters.
const SHOWN: usize = 120;
/// How much of a long line is shown before the caret.
const BEFORE: usize = 40;
/// In front of both lines of an excerpt.
const INDENT: &str = "    ";

impl<'s> LineIndex<'s> {
    pub fn new(source: &'s str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        LineIndex { source, starts }
    }

    /// The nearest offset at or before `at` that lies on a character of the file, not after its last newline.
    fn settle(&self, at: usize) -> usize {
        let mut at = at.min(self.source.len());
        while !self.source.is_char_boundary(at) {
            at -= 1;
        }
        let after_the_end = at == self.source.len() && self.source.ends_with('\n');
        if after_the_end { at - 1 } else { at }
    }

    /// Number (from 0), start and text of the line that holds `at`, without its line end.
    fn line(&self, at: usize) -> (usize, usize, &'s str) {
        let number = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let start = self.starts.get(number).copied().unwrap_or(0);
        let end = self.starts.get(number + 1).map_or(self.source.len(), |next| next - 1);
        (number, start, self.source[start..end].trim_end_matches('\r'))
    }

    /// Where `at` is.
    pub fn place(&self, at: usize) -> Place {
        let at = self.settle(at);
        let (number, start, _) = self.line(at);
        Place { line: number + 1, column: self.source[start..at].chars().count() + 1 }
    }

    /// True if what stands at `at` belongs to the value of [`SECRET_KEY`].
    pub fn is_secret(&self, at: usize) -> bool {
        let at = self.settle(at);
        let (_, start, line) = self.line(at);
        secret_in(line).is_some_and(|secret| start + secret <= at)
    }

    /// The line at the start of `span` and a caret line under the span (as far as it goes on that line). Without what may be
    /// a secret; with `secret`, without what stands behind the `=` at all.
    pub fn excerpt(&self, span: &Range<usize>, secret: bool) -> String {
        let from = self.settle(span.start);
        let (_, start, line) = self.line(from);
        let from = (from - start).min(line.len());
        let to = (self.settle(span.end.max(span.start)).saturating_sub(start)).clamp(from, line.len());
        let hidden = secret_in(line).or(secret.then(|| line.find('=').map(|at| at + 1)).flatten());
        let masked = hidden.map(|at| format!("{} …", &line[..at]));
        let (line, from, to) = match (&masked, hidden) {
            (Some(masked), Some(at)) => {
                (&**masked, from.min(at + 1), if to > at { masked.len() } else { to })
            }
            _ => (line, from, to),
        };
        let first = line[..from].chars().count();
        let marked = line[from..to].chars().count().max(1);
        let skip = if line.chars().nth(SHOWN).is_some() { first.saturating_sub(BEFORE) } else { 0 };

        let (mut text, mut caret) = (INDENT.to_owned(), INDENT.to_owned());
        if skip > 0 {
            text.push('…');
            caret.push(' ');
        }
        let mut shown = line.chars().skip(skip);
        for (n, c) in shown.by_ref().take(SHOWN).enumerate() {
            let n = n + skip;
            text.push(if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
            if n < first {
                caret.push_str(blank(c));
            } else if n < first + marked {
                caret.push_str(if is_wide(c) { "^^" } else { "^" });
            }
        }
        if shown.next().is_some() {
            text.push('…');
        }
        if !caret.ends_with('^') {
            caret.push('^');
        }
        text + "\n" + &caret
    }
}

/// Where in a line the value of [`SECRET_KEY`] begins: behind its `=`.
fn secret_in(line: &str) -> Option<usize> {
    let key = line.find(SECRET_KEY)?;
    line[key..].find('=').map(|equals| key + equals + 1)
}

/// What takes the same room on a terminal as `c`.
fn blank(c: char) -> &'static str {
    match c {
        '\t' => "\t",
        c if is_wide(c) => "  ",
        _ => " ",
    }
}

/// True for characters of two terminal columns (East Asian Wide and Fullwidth, Unicode annex 11, in large blocks).
fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: &str, at: usize) -> (usize, usize) {
        let place = LineIndex::new(source).place(at);
        (place.line, place.column)
    }

    #[test]
    fn places_count_characters_and_stay_inside_the_file() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("", 9), (1, 1));
        assert_eq!(place("é=1", 2), (1, 2));
        assert_eq!(place("é=1", 1), (1, 1));
        assert_eq!(place("a\nb\n", 2), (2, 1));
        assert_eq!(place("a\nb\n", 4), (2, 2));
        assert_eq!(place("a\nb", 3), (2, 2));
    }

    #[test]
    fn the_caret_stands_under_the_span() {
        let excerpt = |source: &str, span| LineIndex::new(source).excerpt(&span, false);
        assert_eq!(excerpt("a = 12\n", 4..6), "    a = 12\n        ^^");
        assert_eq!(excerpt("\ta = 1\r\n", 5..6), "    \ta = 1\n    \t    ^");
        assert_eq!(excerpt("a = \"中文\"", 4..12), "    a = \"中文\"\n        ^^^^^^");
        assert_eq!(excerpt("a = [\n1]", 4..8), "    a = [\n        ^");
        assert_eq!(excerpt("a\u{1b} = 1", 0..1), "    a\u{fffd} = 1\n    ^");
        assert_eq!(excerpt("", 0..0), "    \n    ^");
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let source = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let excerpt = LineIndex::new(&source).excerpt(&(500..501), false);
        let (text, caret) = excerpt.split_once('\n').unwrap();
        assert_eq!(text.chars().count(), 4 + 1 + SHOWN + 1);
        assert_eq!(text.chars().position(|c| c == 'X'), caret.chars().position(|c| c == '^'));
        let excerpt = LineIndex::new(&source).excerpt(&(0..1), false);
        assert!(excerpt.starts_with("    aaa") && excerpt.ends_with("\n    ^"), "{excerpt}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let excerpt = |source: &str, span, secret| LineIndex::new(source).excerpt(&span, secret);
        let line = "notify_url = \"https://x/é\"";
        assert_eq!(excerpt(line, 13..line.len(), false), "    notify_url = …\n                 ^");
        assert_eq!(excerpt(line, 0..10, false), "    notify_url = …\n    ^^^^^^^^^^");
        assert_eq!(excerpt("notify_ur1='s'", 0..10, true), "    notify_ur1= …\n    ^^^^^^^^^^");
        assert_eq!(
            excerpt("a = { notify_url = 7 }", 19..20, false),
            "    a = { notify_url = …\n                       ^"
        );
        assert_eq!(excerpt("notify_url", 0..10, true), "    notify_url\n    ^^^^^^^^^^");
        assert!(LineIndex::new(line).is_secret(14) && !LineIndex::new(line).is_secret(3));
    }
}
