//! From files to lines: includes, comments, conditionals, parameters. keepalived.conf(5).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Includes within includes.
const MAX_DEPTH: usize = 16;
/// Lines in all, includes and repeated definitions counted each time: a file that doubles itself must end somewhere.
const MAX_LINES: usize = 20_000;
/// Files in all: one that includes itself twice must end, too.
const MAX_FILES: usize = 1_000;
/// Replacements in one line: a parameter may name itself.
const MAX_REPLACEMENTS: usize = 500;
/// What a line may grow to by them.
const MAX_LINE: usize = 4096;

/// Where a line stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// As it was named.
    pub file: Rc<str>,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line that counts, without its comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Where it stands.
    pub place: Place,
    /// Its text, trimmed, parameters replaced.
    pub text: String,
}

/// Everything that was read, and what could not be.
#[derive(Default, Debug)]
pub struct Source {
    /// In the order in which keepalived would see them.
    pub lines: Vec<Line>,
    /// What was left out, and why.
    pub notes: Vec<(Place, String)>,
}

/// Reads `path` and what it includes, as keepalived with `--config-id id` would.
///
/// # Errors
///
/// The file cannot be read. That of an included file is a note.
pub fn read(path: &Path, id: &str) -> std::io::Result<Source> {
    let text = fs::read(path)?;
    let mut reader =
        Reader { id, parameters: BTreeMap::new(), files: 0, cut: false, source: Source::default() };
    reader.file(path, &String::from_utf8_lossy(&text), 0);
    Ok(reader.source)
}

struct Reader<'i> {
    id: &'i str,
    parameters: BTreeMap<String, String>,
    files: usize,
    /// There was more than is read.
    cut: bool,
    source: Source,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &str, depth: usize) {
        let file: Rc<str> = path.display().to_string().into();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut lines = text.lines().enumerate();
        while let Some((index, raw)) = lines.next() {
            let place = Place { file: file.clone(), line: index + 1 };
            let raw = without_comment(raw);
            if let Some((name, first)) = definition(raw) {
                let mut value = vec![first];
                // A definition of several lines: each but the last ends with a backslash.
                while value.last().is_some_and(|line| line.ends_with('\\')) {
                    let Some((_, more)) = lines.next() else { break };
                    value.push(without_comment(more));
                }
                let value: Vec<&str> = value.iter().map(|l| l.trim_end_matches('\\').trim()).collect();
                self.parameters.insert(name.to_owned(), value.join("\n").trim().to_owned());
            } else if let Some(pattern) = include(raw) {
                self.include(&place, &folder, pattern, depth);
            } else {
                self.line(&place, &folder, raw.to_owned());
            }
        }
    }

    fn include(&mut self, place: &Place, folder: &Path, pattern: &str, depth: usize) {
        let full = folder.join(pattern);
        if depth >= MAX_DEPTH {
            return self.note(place, format!("include {pattern}: too many includes within includes"));
        }
        let found = match glob::glob(&full.to_string_lossy()) {
            Ok(paths) => paths.flatten().collect::<Vec<PathBuf>>(),
            Err(e) => return self.note(place, format!("include {pattern}: {e}")),
        };
        if found.is_empty() {
            self.note(place, format!("include {pattern}: there is no such file"));
        }
        for path in found {
            self.files += 1;
            if self.files > MAX_FILES {
                return self.note(place, format!("include {pattern}: too many files"));
            }
            match fs::read(&path) {
                Ok(text) => self.file(&path, &String::from_utf8_lossy(&text), depth + 1),
                Err(e) => self.note(place, format!("include {}: {e}", path.display())),
            }
        }
    }

    /// A line after its parameters are replaced, which may make several of it, with definitions and conditions of their own.
    fn line(&mut self, place: &Place, folder: &Path, text: String) {
        let mut todo = vec![text];
        let mut replacements = 0;
        while let Some(text) = todo.pop() {
            if self.source.lines.len() >= MAX_LINES {
                if !std::mem::replace(&mut self.cut, true) {
                    self.note(place, format!("more than {MAX_LINES} lines: from here on nothing is read"));
                }
                return;
            }
            let Some(text) = self.condition(text.trim()).map(str::trim).filter(|t| !t.is_empty()) else {
                continue;
            };
            if let Some((name, value)) = definition(text) {
                self.parameters.insert(name.to_owned(), value.trim().to_owned());
            } else if text.starts_with('~') {
                self.note(place, format!("`{text}`: sequence blocks are not supported; write the lines out"));
            } else if let Some(replaced) = self.replace(text, folder) {
                replacements += 1;
                if replacements > MAX_REPLACEMENTS || replaced.len() > MAX_LINE {
                    return self.note(place, "its parameters never come to an end".to_owned());
                }
                todo.extend(replaced.lines().rev().map(str::to_owned));
            } else {
                let text = text.replace("${_HASH}", "#").replace("${_BANG}", "!");
                self.source.lines.push(Line { place: place.clone(), text });
            }
        }
    }

    /// The line with its first known parameter replaced; None if it has none.
    fn replace(&self, text: &str, folder: &Path) -> Option<String> {
        for (at, _) in text.match_indices('$') {
            let rest = &text[at + 1..];
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => {
                    let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                    let followed = rest[end..].chars().next();
                    if followed.is_some_and(|c| !c.is_whitespace()) {
                        continue;
                    }
                    rest.split_at(end)
                }
            };
            let value = match name {
                "_PWD" => folder.display().to_string(),
                "_INSTANCE" => self.id.to_owned(),
                _ => match self.parameters.get(name) {
                    Some(value) => value.clone(),
                    None => continue,
                },
            };
            return Some(format!("{}{value}{after}", &text[..at]));
        }
        None
    }

    /// The line without its condition, if that holds.
    fn condition<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Some(rest) = text.strip_prefix('@') else { return Some(text) };
        let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let holds = match word.strip_prefix('^') {
            Some(not) => not != self.id,
            None => word == self.id,
        };
        holds.then_some(line)
    }

    fn note(&mut self, place: &Place, words: String) {
        self.source.notes.push((place.clone(), words));
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `$NAME=VALUE`.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.trim_start().strip_prefix('$')?.split_once('=')?;
    let is_one = name.chars().all(is_name) && name.starts_with(|c: char| !c.is_ascii_digit());
    is_one.then_some((name, value))
}

/// `include FILE` and its variants, which only complain louder.
fn include(text: &str) -> Option<&str> {
    let (word, file) = text.trim().split_once(char::is_whitespace)?;
    let known = ["include", "includer", "includem", "includew", "includeb", "includea"];
    known.contains(&word).then(|| file.trim().trim_matches('"'))
}

/// Comments begin with `#` or `!` anywhere but within quotes.
fn without_comment(text: &str) -> &str {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (_, '\\') => {
                chars.next();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#' | '!') => return &text[..at],
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, id: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepalived.conf");
        fs::write(&path, text).unwrap();
        read(&path, id).unwrap().lines.into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn comments_end_lines_but_not_within_quotes() {
        let text = "a b # c\n! d\nscript \"x # y ! z\"\nnotify 'it''s #1'\n\ne ${_HASH}1 ${_BANG}\n";
        assert_eq!(lines(text, ""), ["a b", "script \"x # y ! z\"", "notify 'it''s #1'", "e #1 !"]);
    }

    #[test]
    fn conditions_go_by_the_id() {
        let text =
            "@main priority 240\n@backup priority 200\n@^main 1.2.3.4\n@main $D=3\n@backup $D=9\nplain ${D}";
        assert_eq!(lines(text, "main"), ["priority 240", "plain 3"]);
        assert_eq!(lines(text, "backup"), ["priority 200", "1.2.3.4", "plain 9"]);
    }

    /// The examples of keepalived.conf(5).
    #[test]
    fn parameters_are_replaced_where_they_are_used() {
        let text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n${UNDEF} $UNDEF";
        assert_eq!(lines(text, ""), ["10.2.0.100/32", "10.2.10.100/32", "${UNDEF} $UNDEF"]);
        let text = "$IF=@main\n$IF priority 240\n$VI= \\\nvrrp_instance VI_${NUM} { \\\n @high priority 9 \\\n}\n$NUM=1\n$VI\n$NUM=2\n$VI";
        assert_eq!(lines(text, "x"), ["vrrp_instance VI_1 {", "}", "vrrp_instance VI_2 {", "}"]);
    }

    #[test]
    fn parameters_that_name_themselves_come_to_an_end() {
        assert_eq!(lines("$A=${A} ${A}\nx ${A}\ny", ""), ["y"]);
        assert_eq!(lines("$A= \\\n${B} \\\n${B}\n$B= \\\n${A} \\\n${A}\n$A\ny", ""), ["y"]);
    }

    #[test]
    fn what_is_beyond_the_bound_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        fs::write(&path, "line\n".repeat(MAX_LINES + 5)).unwrap();
        let source = read(&path, "").unwrap();
        let [(place, words)] = &source.notes[..] else { panic!("{:?}", source.notes) };
        assert_eq!((source.lines.len(), place.line), (MAX_LINES, MAX_LINES + 1));
        assert!(words.contains("from here on nothing is read"), "{words}");
    }

    #[test]
    fn includes_are_relative_to_the_file_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("a"), "one\ninclude d/*.conf\nincluder nothing\ntwo").unwrap();
        fs::write(at("d/1.conf"), "inner\ninclude ../b").unwrap();
        fs::write(at("b"), "deep\ninclude b").unwrap();
        let source = read(&at("a"), "").unwrap();
        let texts: Vec<&str> = source.lines.iter().map(|l| &*l.text).collect();
        assert_eq!((texts[..3].to_vec(), texts.last()), (vec!["one", "inner", "deep"], Some(&"two")));
        let notes: Vec<&str> = source.notes.iter().map(|(_, words)| &**words).collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("too many includes") && notes[1].contains("there is no such file"));
    }
}
