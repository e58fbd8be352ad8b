//! The prefixes of an announcement, from the configuration or from a file of up to a million lines, each with its
//! place for as long as something may be wrong with it.

use std::path::Path;

use super::diagnostic::Severity;
use super::reader::{Item, Table};
use super::report::{Report, Span, brief};
use super::{Env, values};
use crate::bgp::PrefixSet;
use crate::net::Prefix;

/// More prefixes than this are refused: nobody stands in for the whole Internet.
const MOST: usize = 1_000_000;
/// More findings of one kind than this are counted, not listed.
const LISTED: usize = 20;

/// Prefixes as they were read.
pub(super) struct ReadPrefixes {
    /// In the order of the operator, each with its element or its line (both from 0).
    pub entries: Vec<(Prefix, u32)>,
    /// The same, each once.
    pub set: PrefixSet,
    /// Dotted path of the key.
    path: String,
    source: Source,
}

enum Source {
    /// `prefixes`: where each element stands.
    Listed(Vec<Span>),
    /// `prefixes_file`: its name, and where that stands.
    File(String, Span),
}

impl ReadPrefixes {
    /// Where entry `at` stands in the configuration.
    pub fn span(&self, at: u32) -> Span {
        match &self.source {
            Source::Listed(spans) => spans.get(at as usize).cloned().unwrap_or_default(),
            Source::File(_, span) => span.clone(),
        }
    }

    /// Where a prefix stands in the configuration.
    pub fn span_of(&self, prefix: Prefix) -> Span {
        let at = self.entries.iter().find(|(known, _)| *known == prefix).map_or(0, |(_, at)| *at);
        self.span(at)
    }

    /// Records what was found at entries: the first ones at their places, and how many more there are.
    pub fn tell(
        &self,
        report: &Report<'_>,
        severity: Severity,
        listed: usize,
        found: impl Iterator<Item = (u32, String)>,
    ) {
        let mut last = None;
        let mut more = 0;
        for (n, (at, words)) in found.enumerate() {
            if n >= listed {
                more += 1;
                continue;
            }
            last = Some(at);
            self.tell_one(report, severity, at, &words);
        }
        if let Some(at) = last.filter(|_| more > 0) {
            let words = format!("and {more} more after this one");
            self.tell_one(report, severity, at, &words);
        }
    }

    fn tell_one(&self, report: &Report<'_>, severity: Severity, at: u32, words: &str) {
        let (path, words) = match &self.source {
            Source::Listed(_) => (format!("{}[{at}]", self.path), words.to_owned()),
            Source::File(name, _) => (self.path.clone(), format!("{name}:{}: {words}", at + 1)),
        };
        match severity {
            Severity::Error => report.error(self.span(at), path, words),
            Severity::Warning => report.warning(self.span(at), path, words),
        }
    }

    /// Records errors at entries, as many as anybody reads.
    pub fn errors(&self, report: &Report<'_>, found: impl Iterator<Item = (u32, String)>) {
        self.tell(report, Severity::Error, LISTED, found);
    }

    /// Records a warning at the first entry, and how many more there are.
    pub fn warning(&self, report: &Report<'_>, found: impl Iterator<Item = (u32, String)>) {
        self.tell(report, Severity::Warning, 1, found);
    }
}

/// Reads `prefixes` or `prefixes_file`, whichever is there.
pub(super) fn read(table: &mut Table<'_, '_>, env: &Env<'_>) -> Option<ReadPrefixes> {
    let listed = table.get("prefixes", |i| listed(&i));
    let file = table.get("prefixes_file", |i| from_file(&i, env));
    match (table.has("prefixes"), table.has("prefixes_file")) {
        (true, true) => {
            table.error("prefixes_file", "and `prefixes` are both there: choose one");
            None
        }
        (false, false) => {
            table.missing(
                "prefixes",
                "is missing; write for example `prefixes = [\"198.51.100.0/24\"]`, or name a prefixes_file",
            );
            None
        }
        _ => listed.or(file),
    }
}

fn listed(item: &Item<'_, '_>) -> Option<ReadPrefixes> {
    let elements = item.elements()?;
    if elements.is_empty() {
        return item.fail("is empty; list at least one prefix");
    }
    let prefixes: Vec<Option<Prefix>> = elements.iter().map(values::prefix).collect();
    let prefixes: Vec<Prefix> = prefixes.into_iter().collect::<Option<_>>()?;
    let spans = elements.iter().map(Item::span).collect();
    Some(ReadPrefixes {
        set: PrefixSet::new(prefixes.iter().copied()),
        entries: prefixes.into_iter().zip(0..).collect(),
        path: item.path(),
        source: Source::Listed(spans),
    })
}

fn from_file(item: &Item<'_, '_>, env: &Env<'_>) -> Option<ReadPrefixes> {
    let path = values::near_path(item)?;
    let shown = path.display().to_string();
    let bytes = match (env.read_prefixes)(&path) {
        Ok(bytes) => bytes,
        Err(why) => return item.fail(why),
    };
    let entries = lines(item, &path, &bytes)?;
    if entries.is_empty() {
        return item.fail(format!("`{shown}` holds no prefix; write one on each line"));
    }
    if entries.len() > MOST {
        return item.fail(format!("`{shown}` holds {} prefixes; the most is {MOST}", entries.len()));
    }
    Some(ReadPrefixes {
        set: PrefixSet::new(entries.iter().map(|(prefix, _)| *prefix)),
        entries,
        path: item.path(),
        source: Source::File(shown, item.span()),
    })
}

/// One prefix a line; what follows a `#` is a comment. Every wrong line is recorded, up to a bound.
fn lines(item: &Item<'_, '_>, path: &Path, bytes: &[u8]) -> Option<Vec<(Prefix, u32)>> {
    let mut entries = Vec::with_capacity(bytes.len() / 18);
    let mut wrong = 0;
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(0..) {
        match entry(line) {
            Ok(prefix) => entries.extend(prefix.map(|prefix| (prefix, number))),
            Err(_) if wrong >= LISTED => wrong += 1,
            Err(why) => {
                wrong += 1;
                item.fail::<()>(format!("{}:{}: {why}", path.display(), number + 1));
            }
        }
    }
    if wrong > LISTED {
        item.fail::<()>(format!("{}: {} more lines are wrong", path.display(), wrong - LISTED));
    }
    (wrong == 0).then_some(entries)
}

/// The prefix in a line, none in an empty one.
fn entry(line: &[u8]) -> Result<Option<Prefix>, String> {
    let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    let prefix: Result<Prefix, crate::net::PrefixError> = text.parse();
    prefix.map(Some).map_err(|error| match error {
        crate::net::PrefixError::Syntax(text) => {
            format!("{} is not a prefix; write one on each line, such as 198.51.100.0/24", brief(&text))
        }
        other => other.to_string(),
    })
}
