//! A typed way to walk a parsed TOML document that records every error and goes on.
//!
//! A [`Table`] hands out its keys as [`Item`]s and remembers which were asked for: at the end, what was not asked
//! for is unknown. An [`Item`] turns itself into a value of the wanted type and range, or records what is wrong
//! and gives `None`. What a reader then does with `None` does not matter for the outcome, since a report with an
//! error in it never becomes a configuration; it matters only that no false further error follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, Span, brief};
use super::{duration, later};

/// A table of the file.
pub(super) struct Table<'a, 's> {
    pub report: &'a Report<'s>,
    /// Dotted path; empty for the root.
    pub path: String,
    /// The header, or the braces: where a missing key is reported.
    pub span: Span,
    /// What the table is, as in [`later`].
    kind: &'static str,
    entries: &'a DeTable<'s>,
    known: Vec<&'static str>,
    wrong: Vec<&'static str>,
}

/// A value of the file.
#[derive(Clone, Copy)]
pub(super) struct Item<'a, 's> {
    pub report: &'a Report<'s>,
    parent: &'a str,
    key: &'a str,
    index: Option<usize>,
    value: &'a Spanned<DeValue<'s>>,
}

/// `path.key`, or the key alone at the root.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'a, 's> Table<'a, 's> {
    pub fn new(
        report: &'a Report<'s>,
        kind: &'static str,
        path: String,
        span: Span,
        entries: &'a DeTable<'s>,
    ) -> Self {
        Table { report, path, span, kind, entries, known: Vec::new(), wrong: Vec::new() }
    }

    /// The value of `key`; `None` if it is absent, or wrong (then that is recorded).
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl for<'i> FnOnce(Item<'i, 's>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        self.report.asks(|| join(&self.path, key));
        let value = self.entries.get(key)?;
        let item = Item { report: self.report, parent: &self.path, key, index: None, value };
        let read = if item.is_placeholder() { None } else { read(item) };
        if read.is_none() {
            self.wrong.push(key);
        }
        read
    }

    /// The value of `key`, or the default.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl for<'i> FnOnce(Item<'i, 's>) -> Option<T>,
    ) -> T {
        self.get(key, read).unwrap_or(default)
    }

    /// The value of `key`, which must be there; `example` is shown if it is not.
    pub fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl for<'i> FnOnce(Item<'i, 's>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, &format!("is missing; write for example `{key} = {example}`"));
        }
        self.get(key, read)
    }

    /// Records that a key is missing, at the header. In a file with syntax errors the key may well be there,
    /// unread.
    pub fn missing(&self, key: &str, message: &str) {
        if !self.report.is_broken() {
            self.report.error(self.span.clone(), join(&self.path, key), message);
        }
    }

    /// True if the file has that key.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// True if the key was asked for and its value is wrong: what depends on it cannot be judged.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.wrong.contains(&key)
    }

    /// Where the value of `key` stands; the header if the key is absent.
    pub fn span_of(&self, key: &str) -> Span {
        self.entries.get(key).map(|value| value.span()).filter(|s| !s.is_empty()).unwrap_or(self.span.clone())
    }

    /// Where the key itself stands; the header if it is absent.
    pub fn key_span(&self, key: &str) -> Span {
        self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Records an error about the value of `key`.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        self.report.error(self.span_of(key), join(&self.path, key), message);
    }

    /// Records a warning about the value of `key`.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        self.report.warning(self.span_of(key), join(&self.path, key), message);
    }

    /// Records an error for each of `keys` that is there, though it means nothing here.
    pub fn refuse(&mut self, keys: &[&'static str], message: &str) {
        for key in keys {
            self.known.push(key);
            if self.has(key) {
                self.report.error(self.key_span(key), join(&self.path, key), message);
            }
        }
    }

    /// Reports every key that nobody asked for. `elsewhere` may know better words for one.
    pub fn finish_with(self, elsewhere: impl Fn(&str) -> Option<String>) {
        // With syntax errors the root may hold what has lost its header.
        if self.path.is_empty() && self.report.is_broken() {
            return;
        }
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let message = if later::key(self.kind, name) {
                later::message(name)
            } else {
                elsewhere(name).unwrap_or_else(|| {
                    let near = self.report.did_you_mean(name, self.known.iter().copied());
                    format!("unknown key{near}")
                })
            };
            self.report.error(key.span(), join(&self.path, &path_step(name)), message);
        }
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        self.finish_with(|_| None);
    }

    /// The entries in the order of the file, for tables whose keys are the operator's.
    pub fn in_order(&self) -> Vec<(&'a str, Item<'_, 's>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let item = |(key, value): (&'a Spanned<toml::de::DeString<'s>>, &'a Spanned<DeValue<'s>>)| {
            let key: &'a str = key.get_ref();
            (key, Item { report: self.report, parent: &self.path, key, index: None, value })
        };
        entries.into_iter().map(item).collect()
    }
}

/// A key or a name as a step of a path: quoted if it would be misread, and not endless.
pub(super) fn path_step(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_:".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return name.to_owned();
    }
    brief(name).replace('`', "\"")
}

impl<'a, 's> Item<'a, 's> {
    /// What the parser puts where it found no value; it has reported that already.
    fn is_placeholder(&self) -> bool {
        self.value.span().is_empty()
    }

    pub fn span(&self) -> Span {
        self.value.span()
    }

    /// Its dotted path.
    pub fn path(&self) -> String {
        let path = join(self.parent, &path_step(self.key));
        self.index.map_or(path.clone(), |index| format!("{path}[{index}]"))
    }

    /// Records an error here.
    pub fn fail<T>(&self, message: impl Into<String>) -> Option<T> {
        self.report.error(self.span(), self.path(), message);
        None
    }

    /// Records an error at a byte of the string that this is, if its place in the file can be told.
    pub fn fail_at<T>(&self, at: usize, length: usize, message: impl Into<String>) -> Option<T> {
        let span = self.span();
        let decoded = self.value.get_ref().as_str().map_or(0, str::len);
        // One quote at each end and no escapes: the bytes are in the file as they are in the string.
        let plain = span.len() == decoded + 2;
        let place = if plain { span.start + 1 + at..span.start + 1 + at + length } else { span };
        self.report.error(place, self.path(), message);
        None
    }

    /// Records a warning here.
    pub fn warn(&self, message: impl Into<String>) {
        self.report.warning(self.span(), self.path(), message);
    }

    /// What it is, with its article.
    fn what(&self) -> &'static str {
        match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        self.fail(format!("must be {wanted}, not {}", self.what()))
    }

    pub fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub fn is_boolean(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    pub fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Any string, the empty one too, but for NUL, which no system call can take.
    pub fn text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(s) if s.contains('\0') => self.fail("must not hold a NUL character"),
            DeValue::String(s) => Some(s.as_ref()),
            _ => self.mismatch("a string"),
        }
    }

    /// A string that says something, without control characters.
    pub fn word(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return self.fail("must not be empty");
        }
        if text.chars().any(char::is_control) {
            return self.fail("must not hold control characters");
        }
        if text.trim() != text { self.fail("must not begin or end with a space") } else { Some(text) }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            DeValue::String(s) if matches!(s.as_ref(), "true" | "false") => {
                self.fail(format!("must be a boolean: write {s} without the quotes"))
            }
            _ => self.mismatch("true or false"),
        }
    }

    /// An integer in a range.
    pub fn integer<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            return self.mismatch("an integer");
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = value.and_then(|v| u64::try_from(v).ok()).filter(|v| range.contains(v));
        match value.and_then(|v| T::try_from(v).ok()) {
            Some(value) => Some(value),
            None => self.fail(format!("must be from {} to {}", range.start(), range.end())),
        }
    }

    /// An integer or a float.
    pub fn number(&self) -> Option<f64> {
        match self.value.get_ref() {
            DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix())
                .ok()
                .map(|v| v as f64)
                .or_else(|| self.fail("is too large")),
            DeValue::Float(f) => f.as_str().parse().ok().or_else(|| self.fail("is no number")),
            _ => self.mismatch("a number"),
        }
    }

    /// A duration in a range.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (duration::show(*range.start()), duration::show(*range.end()));
        let bounds = format!("(from \"{least}\" to \"{most}\")");
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Integer(i) if i.radix() == 10 => {
                return self.fail(format!(
                    "must be a string with a unit: write \"{0}s\" if seconds are meant {bounds}",
                    i.as_str().trim_start_matches(['-', '+'])
                ));
            }
            _ => {
                return self.fail(format!("must be a duration such as \"1s\" {bounds}, not {}", self.what()));
            }
        };
        match duration::parse(text) {
            Ok(value) if range.contains(&value) => Some(value),
            Ok(_) => self.fail(format!("must be from \"{least}\" to \"{most}\"")),
            Err(words) => self.fail(format!("{words} {bounds}")),
        }
    }

    /// One of some words.
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let DeValue::String(text) = self.value.get_ref() else {
            return self.fail(format!("must be one of {}, not {}", names(), self.what()));
        };
        let found = choices.iter().find(|(name, _)| *name == text.as_ref());
        found.map(|(_, value)| *value).or_else(|| {
            let near = self.report.did_you_mean(text, choices.iter().map(|(name, _)| *name));
            self.fail(format!("must be one of {}{near}", names()))
        })
    }

    /// The elements of an array, or none if it is no array.
    pub fn elements(&self) -> Option<Vec<Item<'a, 's>>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            return self.mismatch("an array");
        };
        let item = |(index, value)| Item { index: Some(index), value, ..*self };
        Some(array.iter().enumerate().map(item).filter(|item| !item.is_placeholder()).collect())
    }

    /// An array whose elements are all right; every wrong one is recorded.
    pub fn list<T>(&self, read: impl Fn(&Item<'a, 's>) -> Option<T>) -> Option<Vec<T>> {
        let elements = self.elements()?;
        let values: Vec<Option<T>> = elements.iter().map(read).collect();
        values.into_iter().collect()
    }

    /// A table.
    pub fn table(&self, kind: &'static str) -> Option<Table<'a, 's>> {
        self.table_named(kind, self.path())
    }

    /// A table that goes by another path than its place in the document.
    pub fn table_named(&self, kind: &'static str, path: String) -> Option<Table<'a, 's>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.report, kind, path, self.span(), entries)),
            _ => self.mismatch("a table"),
        }
    }

    /// The tables of `[[x]]`. A single `[x]` is refused with the mend.
    pub fn tables(&self, header: &str) -> Option<Vec<Item<'a, 's>>> {
        if self.is_table() && !self.report.text(self.span()).starts_with(['[', '{']) {
            // Made by the header of something inside of it.
            return self.fail(format!("there is no [[{header}]] header above this"));
        }
        if self.is_table() {
            return self.fail(format!("there can be several: write the header as [[{header}]]"));
        }
        if !self.is_array() {
            return self.mismatch(&format!("tables under [[{header}]] headers"));
        }
        self.elements()
    }

    /// A string in this table, looked at without asking for it: for the path of everything else.
    pub fn peek(&self, key: &str) -> Option<&'a str> {
        self.value.get_ref().as_table()?.get(key)?.get_ref().as_str()
    }
}
