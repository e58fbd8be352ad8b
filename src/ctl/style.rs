//! Colour, width and words for the terminal.

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime};

/// How to write for whoever reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// With escape sequences for colour.
    pub colour: bool,
    /// Columns.
    pub width: usize,
}

/// What a colour means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// To be watched.
    Warn,
    /// Wrong.
    Bad,
    /// Beside the point.
    Dim,
    /// A heading.
    Head,
}

impl Style {
    /// Without colour, 80 columns.
    pub const PLAIN: Style = Style { colour: false, width: 80 };

    /// For stdout: colour only on a terminal and never with NO_COLOR (no-color.org); 80 columns unless COLUMNS says more.
    pub fn of_stdout() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let able = env::var_os("TERM").is_none_or(|v| v != "dumb");
        let columns = env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        Style {
            colour: wanted && able && io::stdout().is_terminal(),
            width: columns.unwrap_or(Self::PLAIN.width).clamp(60, 250),
        }
    }

    /// `text` in the colour of `tone`.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Head => "1",
        };
        if !self.colour || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `text` in lines that fit, each indented by `indent`, painted; ends with a newline. At most `max` lines.
    pub fn paragraph(self, tone: Tone, indent: usize, max: usize, text: &str) -> String {
        let lines = wrap(text, self.width.saturating_sub(indent).max(20), max);
        lines.iter().map(|l| format!("{:indent$}{}\n", "", self.paint(tone, l))).collect()
    }
}

/// Control characters spelled out: text from afar (an HTTP body, a peer's message) must not steer the terminal.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Characters of a text: close enough to columns for names and messages.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text`, cut to `max` columns with an ellipsis if it is longer.
pub fn cut(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// Lines of at most `columns`, broken between words where possible; what does not fit in `max` lines is cut.
pub fn wrap(text: &str, columns: usize, max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace().flat_map(|word| chunks(word, columns)) {
        if !line.is_empty() && width(&line) + 1 + width(&word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > max {
        lines.truncate(max);
        if let Some(last) = lines.last_mut() {
            *last = cut(&format!("{last} …"), columns);
        }
    }
    lines
}

/// A word longer than a line, in pieces.
fn chunks(word: &str, columns: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(columns.max(1)).map(|piece| piece.iter().collect()).collect()
}

/// From an RFC 3339 date until `now`: "3d 4h", "12m 3s"; "?" if it is no date.
pub fn age(date: &str, now: SystemTime) -> String {
    match humantime::parse_rfc3339(date) {
        Ok(then) => short(now.duration_since(then).unwrap_or_default()),
        Err(_) => "?".to_owned(),
    }
}

/// From `now` until an RFC 3339 date: "in 27s", "now".
pub fn until(date: &str, now: SystemTime) -> String {
    match humantime::parse_rfc3339(date).map(|then| then.duration_since(now).unwrap_or_default()) {
        Ok(left) if left.as_millis() < 500 => "now".to_owned(),
        Ok(left) => format!("in {}", short(left + Duration::from_millis(500))),
        Err(_) => "?".to_owned(),
    }
}

/// An RFC 3339 date without fractions and with a space, as people read it: "2026-11-22 14:36:02Z".
pub fn date(text: &str) -> String {
    match text.split_once('T') {
        Some((day, time)) => {
            let seconds = time.split(['.', 'Z']).next().unwrap_or(time);
            format!("{} {}Z", clean(day), clean(seconds))
        }
        None => clean(text),
    }
}

/// The two largest units.
pub fn short(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        assert_eq!(short(Duration::from_secs(3 * 86_400 + 4 * 3600 + 7)), "3d 4h");
        assert_eq!(cut("mainland-ping", 8), "mainlan…");
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb c");
        assert_eq!(date("2026-11-22T14:36:02.123456Z"), "2026-11-22 14:36:02Z");
        assert_eq!(wrap("one two three four", 9, 9), ["one two", "three", "four"]);
        assert_eq!(wrap("one two three four", 9, 1), ["one two …"]);
        assert!(wrap("", 9, 3).is_empty());
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_lose_nothing(text in "\\PC{0,200}", columns in 1usize..90) {
            let lines = wrap(&text, columns, usize::MAX);
            prop_assert!(lines.iter().all(|l| width(l) <= columns));
            let letters = |t: &str| t.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.join(" ")), letters(&text));
        }

        #[test]
        fn no_date_panics(text in "\\PC{0,40}") {
            let _ = (age(&text, SystemTime::UNIX_EPOCH), until(&text, SystemTime::UNIX_EPOCH), date(&text));
        }
    }
}
