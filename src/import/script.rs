//! What a track script asks: a script around one `ping` is a native check.

use std::fs;
use std::path::Path;

/// A script's `ping`, as far as it matters.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ping {
    /// Whom.
    pub host: String,
    /// `-c`.
    pub count: Option<u32>,
    /// `-W` in seconds.
    pub wait: Option<f64>,
    /// `-I`: a device or a source address.
    pub origin: Option<String>,
    /// `-s`.
    pub size: Option<u32>,
    /// The script exits with 0 when the ping does not work, and with 1 when it does.
    pub inverted: bool,
}

/// A script is read up to here.
const MAX_SCRIPT: u64 = 64 * 1024;

/// The ping that `command` comes down to; None if it does anything else, or cannot be read.
pub fn recognise(command: &str) -> Option<Ping> {
    if let Some(ping) = ping_command(command) {
        return Some(ping);
    }
    let program = Path::new(command.split_whitespace().next()?);
    let file = fs::File::open(program).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_SCRIPT), &mut bytes).ok()?;
    // With arguments, what it asks may be among them.
    let alone = command.split_whitespace().count() == 1;
    String::from_utf8(bytes).ok().filter(|_| alone).and_then(|text| in_script(&text))
}

/// The same of a script's text: exactly one ping, whose outcome alone decides how the script exits.
fn in_script(text: &str) -> Option<Ping> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let statements: Vec<&str> =
        lines.iter().flat_map(|l| l.split(';')).map(str::trim).filter(|s| !s.is_empty()).collect();
    let mut assigned: Vec<(&str, &str)> = Vec::new();
    let mut ping: Option<(Ping, bool)> = None;
    let mut exits: Vec<(Branch, u8)> = Vec::new();
    let mut branch = Branch::Always;
    for statement in statements {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let words = strip(&words, &["then", "do"]);
        if words.is_empty() {
            continue;
        }
        if let [only] = words
            && let Some((name, value)) = only.split_once('=')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            assigned.push((name, value.trim_matches(['"', '\''])));
            continue;
        }
        match words {
            ["else"] => branch = branch.other()?,
            ["fi"] => branch = Branch::Always,
            ["else", "exit", code] => exits.push((branch.other()?, code.parse().ok()?)),
            ["exit", "$?"] if branch == Branch::Always => {
                exits.extend([(Branch::Works, 0), (Branch::Fails, 1)]);
            }
            ["exit", code] => exits.push((branch, code.parse().ok()?)),
            ["if", "[", "$?", rest @ ..] | ["if", "[[", "$?", rest @ ..] => {
                branch = match rest.first()? {
                    &"-eq" | &"=" | &"==" if rest.get(1) == Some(&"0") => Branch::Works,
                    &"-ne" | &"!=" if rest.get(1) == Some(&"0") => Branch::Fails,
                    _ => return None,
                };
                ping.as_ref()?;
            }
            _ => {
                let is_if = words.first() == Some(&"if");
                let (asked, then) = command_of(strip(words, &["if"]), &assigned)?;
                if ping.replace((asked, is_if)).is_some() {
                    return None;
                }
                let negated = strip(words, &["if"]).first() == Some(&"!");
                if is_if {
                    branch = if negated { Branch::Fails } else { Branch::Works };
                } else if let Some((on, code)) = then {
                    exits.push((on, code));
                } else if negated {
                    // `! ping` as the last word of the script.
                    exits.push((Branch::Works, 1));
                    exits.push((Branch::Fails, 0));
                }
            }
        }
    }
    let (ping, _) = ping?;
    Some(Ping { inverted: polarity(&exits)?, ..ping })
}

/// Under which outcome of the ping a statement runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Branch {
    Always,
    Works,
    Fails,
}

impl Branch {
    fn other(self) -> Option<Branch> {
        match self {
            Branch::Works => Some(Branch::Fails),
            Branch::Fails => Some(Branch::Works),
            Branch::Always => None,
        }
    }
}

/// True if the script succeeds exactly when the ping fails; None if its exits do not tell.
fn polarity(exits: &[(Branch, u8)]) -> Option<bool> {
    let code = |on: Branch| {
        let first = exits.iter().find(|(branch, _)| *branch == on || *branch == Branch::Always);
        first.map(|(_, code)| *code)
    };
    match (code(Branch::Works), code(Branch::Fails)) {
        // Without an exit of its own a script ends with what its last command says: a ping's success or failure.
        (None, None) => Some(false),
        (Some(0), Some(1..)) | (None, Some(1..)) => Some(false),
        (Some(1..), Some(0)) | (Some(1..), None) => Some(true),
        _ => None,
    }
}

/// A ping with what may stand behind it: `&& exit 1`, `|| exit 0`, redirections.
fn command_of(words: &[&str], assigned: &[(&str, &str)]) -> Option<(Ping, Option<(Branch, u8)>)> {
    let words = strip(words, &["!"]);
    let end = words.iter().position(|w| matches!(*w, "&&" | "||")).unwrap_or(words.len());
    let then = match words.get(end..)? {
        [] => None,
        ["&&", "exit", code] => Some((Branch::Works, code.parse().ok()?)),
        ["||", "exit", code] => Some((Branch::Fails, code.parse().ok()?)),
        _ => return None,
    };
    let replaced: Vec<String> = words[..end].iter().map(|w| substituted(w, assigned)).collect();
    let mut quiet: Vec<&str> = Vec::new();
    let mut words = replaced.iter();
    while let Some(word) = words.next() {
        if word.ends_with(['>', '<']) {
            words.next();
        } else if !word.contains(['>', '<']) {
            quiet.push(word);
        }
    }
    Some((ping_command(&quiet.join(" "))?, then))
}

/// `$NAME`, `${NAME}` and quotes around either.
fn substituted(word: &str, assigned: &[(&str, &str)]) -> String {
    let bare = word.trim_matches(['"', '\'']);
    let name = bare.strip_prefix("${").and_then(|w| w.strip_suffix('}')).or_else(|| bare.strip_prefix('$'));
    let value = name.and_then(|n| assigned.iter().rev().find(|(known, _)| *known == n));
    value.map_or(bare, |(_, value)| value).to_owned()
}

fn strip<'w, 'a>(words: &'a [&'w str], leading: &[&str]) -> &'a [&'w str] {
    match words {
        [first, rest @ ..] if leading.contains(first) => rest,
        _ => words,
    }
}

/// `ping` with options that are understood, and one host.
fn ping_command(command: &str) -> Option<Ping> {
    let mut words = command.split_whitespace();
    let program = words.next()?;
    if !matches!(program.rsplit('/').next()?, "ping" | "ping6" | "ping4") {
        return None;
    }
    let mut ping = Ping::default();
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            None if ping.host.is_empty() => word.clone_into(&mut ping.host),
            None => return None,
            Some(flags) => option(&mut ping, flags, &mut words)?,
        }
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".:-_%".contains(c);
    (!ping.host.is_empty() && ping.host.chars().all(is_host)).then_some(ping)
}

/// One word of options; None if one of them is not understood.
fn option<'w>(ping: &mut Ping, flags: &str, words: &mut impl Iterator<Item = &'w str>) -> Option<()> {
    let mut flags = flags.chars();
    while let Some(flag) = flags.next() {
        if "46nqOAU".contains(flag) {
            continue;
        }
        // The value is the rest of the word, or the next one.
        let rest: String = flags.by_ref().collect();
        let value = if rest.is_empty() { words.next()?.to_owned() } else { rest };
        match flag {
            'c' => ping.count = Some(value.parse().ok()?),
            'W' | 'w' => ping.wait = Some(value.parse().ok()?),
            'I' => ping.origin = Some(value),
            's' => ping.size = Some(value.parse().ok()?),
            'i' | 't' => {}
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_in_the_configuration() {
        let ping = recognise("/bin/ping -c 3 -W1 -q -I eth0 198.18.0.1").unwrap();
        assert_eq!((&*ping.host, ping.count, ping.wait), ("198.18.0.1", Some(3), Some(1.0)));
        assert_eq!((ping.origin.as_deref(), ping.inverted), (Some("eth0"), false));
        for other in ["ping -f 198.18.0.1", "ping", "pingu 198.18.0.1", "ping a b", "ping -c", "ping $HOST"] {
            assert_eq!(recognise(other), None, "{other}");
        }
    }

    /// The recipe's check: it fails while the mainland answers, so that keepalived stays BACKUP.
    #[test]
    fn scripts_around_a_ping() {
        for (text, inverted) in [
            ("#!/bin/sh\nping -c 1 198.18.0.1", false),
            ("#!/bin/sh\nping -c1 198.18.0.1 > /dev/null 2>&1\nexit $?", false),
            ("#!/bin/bash\nif ping -c 1 198.18.0.1 >/dev/null 2>&1; then\n exit 1\nelse\n exit 0\nfi", true),
            ("if ping -c 1 198.18.0.1\nthen exit 0; else exit 1; fi", false),
            ("if ! ping -c 1 198.18.0.1; then\nexit 0\nfi\nexit 1", true),
            (
                "HOST=198.18.0.1\nping -c 3 \"$HOST\" >/dev/null\nif [ $? -eq 0 ]; then\n exit 1\nfi\nexit 0",
                true,
            ),
            ("ping -c 3 198.18.0.1 && exit 1\nexit 0", true),
            ("ping -c 3 198.18.0.1 || exit 1\nexit 0", false),
            ("! ping -c 1 198.18.0.1", true),
        ] {
            let ping = in_script(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((&*ping.host, ping.inverted), ("198.18.0.1", inverted), "{text}");
        }
    }

    /// What is not understood to the last word stays a script.
    #[test]
    fn scripts_that_do_more_stay_scripts() {
        for text in [
            "",
            "exit 0",
            "ping -c 1 198.18.0.1\ncurl http://198.18.0.1/",
            "ping -c 1 198.18.0.1 && ping -c 1 198.18.0.2",
            "ping -c 1 198.18.0.1\nping -c 1 198.18.0.2",
            "while true; do ping -c 1 198.18.0.1; done",
            "ping -c 1 198.18.0.1 && exit 0\nexit 0",
            "if [ $? -eq 0 ]; then exit 1; fi",
        ] {
            assert_eq!(in_script(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_script_panics(text in "(ping|exit|if|then|else|fi|[ \\n;!&|$?=0-9a-z\"-]){0,60}") {
            let _ = in_script(&text);
        }
    }
}
