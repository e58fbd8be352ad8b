//! One log line, and how it looks on a terminal, in a file and in the journal.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Bytes of a message or a field; what is longer is cut.
const MAX_TEXT: usize = 8 * 1024;

/// What an event says.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) place: Option<(&'static str, u32)>,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn new(event: &Event<'_>) -> Self {
        let meta = event.metadata();
        let mut line = Line::own(*meta.level(), String::new());
        line.target = meta.target();
        line.place = meta.file().zip(meta.line());
        event.record(&mut line);
        line
    }

    /// A line of the log about itself.
    pub(super) fn own(level: Level, message: String) -> Self {
        let target = module_path!();
        Line { time: SystemTime::now(), level, target, place: None, message, fields: Vec::new() }
    }

    /// For a person: date, level, whom it is about, text.
    pub(super) fn text(&self, colour: bool) -> String {
        let date = humantime::format_rfc3339_millis(self.time);
        let (on, off) = if colour { (self.colour(), "\x1b[0m") } else { ("", "") };
        format!("{date} {on}{:<5}{off} {}\n", self.level.as_str(), self.body())
    }

    /// For a service manager that reads stderr: `<4>text`, see sd-daemon(3).
    pub(super) fn prefixed(&self) -> String {
        format!("<{}>{}\n", self.priority(), self.body())
    }

    /// For journald: fields, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
    pub(super) fn journal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut put = |name: &str, value: &str| {
            // The form with a length: values may hold anything, newlines too.
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        };
        put("MESSAGE", &self.body());
        put("PRIORITY", &self.priority().to_string());
        put("SYSLOG_IDENTIFIER", "announcerd");
        put("TARGET", self.target);
        if let Some((file, line)) = self.place {
            put("CODE_FILE", file);
            put("CODE_LINE", &line.to_string());
        }
        for (name, value) in &self.fields {
            put(&journal_name(name), value);
        }
        out
    }

    /// Whom it is about, and the text; strangers' lines with where they come from.
    fn body(&self) -> String {
        let about = self.fields.iter().find(|(name, _)| matches!(*name, "instance" | "about"));
        let about = about.map(|(_, name)| format!("{name}: ")).unwrap_or_default();
        let ours = self.target == "announcerd" || self.target.starts_with("announcerd::");
        if ours {
            format!("{about}{}", self.message)
        } else {
            format!("[{}] {about}{}{}", self.target, self.message, self.strange_fields())
        }
    }

    fn strange_fields(&self) -> String {
        self.fields.iter().fold(String::new(), |mut out, (name, value)| {
            // Writing to a String cannot fail.
            let _ = write!(out, " {name}={value}");
            out
        })
    }

    /// syslog(3)'s numbers.
    fn priority(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        }
    }

    fn colour(&self) -> &'static str {
        match self.level {
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            Level::DEBUG | Level::TRACE => "\x1b[2m",
        }
    }
}

fn journal_name(field: &str) -> String {
    let plain = field.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("ANNOUNCERD_{}", plain.take(50).collect::<String>())
}

/// Control characters spelled out: text from a peer must not paint on a terminal or fake a line.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if out.len() >= MAX_TEXT {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = clean(value),
            name => self.fields.push((name, clean(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
