//! Collects what is wrong while a file is read.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, LineIndex, SECRET_KEY, Severity};
use super::suggest;

/// Where in the file something stands: byte offsets.
pub(super) type Span = Range<usize>;

/// How many suggestions are looked for in one run: each costs time in proportion to the number of candidates.
const SUGGESTIONS: u32 = 200;

/// The findings so far. Shared by every reader of one file, hence the cells.
pub(super) struct Report<'s> {
    source: &'s str,
    lines: OnceCell<LineIndex<'s>>,
    entries: RefCell<Vec<Entry>>,
    errors: Cell<usize>,
    /// Spans of syntax errors: what is missing around them is their consequence.
    broken: Vec<Span>,
    suggestions: Cell<u32>,
    /// Paths of all keys that the readers asked for, there or not; only where somebody wants to know.
    asked: Option<RefCell<BTreeSet<String>>>,
}

struct Entry {
    severity: Severity,
    span: Span,
    key: String,
    message: String,
}

impl<'s> Report<'s> {
    pub fn new(source: &'s str) -> Self {
        Report {
            source,
            lines: OnceCell::new(),
            entries: RefCell::default(),
            errors: Cell::new(0),
            broken: Vec::new(),
            suggestions: Cell::new(SUGGESTIONS),
            asked: None,
        }
    }

    /// One that also notes what the readers ask for.
    pub fn curious(source: &'s str) -> Self {
        Report { asked: Some(RefCell::default()), ..Report::new(source) }
    }

    /// A reader asks for this key.
    pub fn asks(&self, path: impl FnOnce() -> String) {
        if let Some(asked) = &self.asked {
            asked.borrow_mut().insert(path());
        }
    }

    /// What was asked for.
    pub fn into_asked(self) -> BTreeSet<String> {
        self.asked.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Takes over what the TOML parser found.
    pub fn syntax(&mut self, errors: Vec<toml::de::Error>) {
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let text = if self.lines().is_secret(span.start) { "…" } else { self.text(span.clone()) };
            self.error(span.clone(), "syntax", mend(error.message(), text));
            self.broken.push(span);
        }
    }

    /// True if the file is no TOML, so that parts of it were not read.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// A piece of the text that is read.
    pub fn text(&self, span: Span) -> &'s str {
        self.source.get(span).unwrap_or_default()
    }

    pub fn error(&self, span: Span, key: impl Into<String>, message: impl Into<String>) {
        self.errors.set(self.errors.get() + 1);
        self.push(Severity::Error, span, key.into(), message.into());
    }

    pub fn warning(&self, span: Span, key: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Warning, span, key.into(), message.into());
    }

    fn push(&self, severity: Severity, span: Span, key: String, message: String) {
        self.entries.borrow_mut().push(Entry { severity, span, key, message });
    }

    /// How many errors there are; taken before and after a step it says whether the step went well.
    pub fn errors(&self) -> usize {
        self.errors.get()
    }

    /// The number of the line that holds the start of `span`.
    pub fn line_of(&self, span: &Span) -> usize {
        self.lines().place(span.start).line
    }

    fn lines(&self) -> &LineIndex<'s> {
        self.lines.get_or_init(|| LineIndex::new(self.source))
    }

    /// "; did you mean `x`?" if one of the candidates is near, else nothing.
    pub fn did_you_mean<'c>(&self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
        let left = self.suggestions.get();
        if left == 0 {
            return String::new();
        }
        self.suggestions.set(left - 1);
        suggest::nearest(word, candidates).map_or(String::new(), |c| format!("; did you mean `{c}`?"))
    }

    /// Everything, sorted by place; true if there is an error among it.
    pub fn finish(self, file: &str) -> (Vec<Diagnostic>, bool) {
        let file: Arc<str> = Arc::from(file);
        let mut entries = self.entries.take();
        entries.sort_by(|a, b| {
            (a.span.start, a.severity, &a.key, &a.message).cmp(&(
                b.span.start,
                b.severity,
                &b.key,
                &b.message,
            ))
        });
        entries.dedup_by(|a, b| a.span == b.span && a.key == b.key && a.message == b.message);
        let lines = self.lines();
        let items = entries.into_iter().map(|e| {
            // Also where the key is misspelt, so that only the suggestion names it.
            let meant = e.message.contains(&format!("did you mean `{SECRET_KEY}`?"));
            let secret = meant || e.key.ends_with(SECRET_KEY);
            Diagnostic {
                severity: e.severity,
                file: file.clone(),
                place: Some(lines.place(e.span.start)),
                excerpt: lines.excerpt(&e.span, secret),
                key: e.key,
                message: e.message,
            }
        });
        (items.collect(), self.errors.get() > 0)
    }
}

/// The parser's words, or better ones where they would lead astray. `text` is what they are about.
fn mend(message: &str, text: &str) -> String {
    match message {
        m if m.starts_with("string values must be quoted") && text.is_empty() => {
            "there is no value after the `=`".to_owned()
        }
        m if m.starts_with("string values must be quoted") => {
            format!("{} must be in quotes, if a string is meant", brief(text))
        }
        "duplicate key" => format!("{} is there already; a key can be given once", brief(text)),
        m => m.to_owned(),
    }
}

/// A piece of the file for a message: quoted, and not longer than a line.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() { format!("`{shown}…`") } else { format!("`{shown}`") }
}
