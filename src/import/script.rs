//! What a track script asks: a script around one `ping` is a native check.

use std::fs;
use std::path::Path;

use crate::config::words;

/// A script's `ping`, as far as it matters.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ping {
    /// Whom.
    pub host: String,
    /// `-c`.
    pub count: Option<u32>,
    /// `-W` in seconds.
    pub wait: Option<f64>,
    /// `-w` in seconds: with a count, every reply must be there by then.
    pub deadline: Option<f64>,
    /// Options that have no equivalent.
    pub dropped: Vec<String>,
    /// `-I`: a device or a source address.
    pub origin: Option<String>,
    /// `-s`.
    pub size: Option<u32>,
    /// The script exits with 0 when the ping does not work, and with 1 when it does.
    pub inverted: bool,
}

/// A script is read up to here.
const MAX_SCRIPT: u64 = 64 * 1024;

/// What a track script comes down to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Asked {
    /// The program, without a `!` in front.
    pub command: String,
    /// The script succeeds when the program fails: a `!` in front, for programs that no ping was seen in.
    pub negated: bool,
    /// The ping, if it is one.
    pub ping: Option<Ping>,
}

impl Asked {
    /// The script succeeds exactly when what is asked natively, or the program, does not.
    pub fn inverted(&self) -> bool {
        self.ping.as_ref().map_or(self.negated, |ping| ping.inverted)
    }
}

/// Reads a track script.
pub fn asked(script: &str) -> Asked {
    let bare = script.trim_start().strip_prefix('!').filter(|rest| rest.starts_with(char::is_whitespace));
    let command = bare.unwrap_or(script).trim_start().to_owned();
    let mut ping = recognise(&command);
    if let Some(ping) = &mut ping {
        ping.inverted ^= bare.is_some();
    }
    Asked { command, negated: bare.is_some(), ping }
}

/// The ping that `command` comes down to; None if it does anything else, or cannot be read.
fn recognise(command: &str) -> Option<Ping> {
    if let Some(ping) = ping_command(command) {
        return Some(ping);
    }
    let words = words::split(command).ok()?.words;
    let program = Path::new(words.first()?);
    if let [_, flag, script] = &words[..]
        && flag == "-c"
        && matches!(program.file_name()?.to_str()?, "sh" | "bash" | "dash" | "ash")
    {
        return in_script(script);
    }
    let file = fs::File::open(program).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_SCRIPT), &mut bytes).ok()?;
    // With arguments, what it asks may be among them; a script that is cut may go on to do anything.
    let whole = words.len() == 1 && (bytes.len() as u64) < MAX_SCRIPT;
    String::from_utf8(bytes).ok().filter(|_| whole).and_then(|text| in_script(&text))
}

/// The same of a script's text: exactly one ping, whose outcome alone decides how the script exits. The script is run in the
/// mind, once for a ping that works and once for one that does not.
fn in_script(text: &str) -> Option<Ping> {
    let mut reader = Reader::default();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let statements: Vec<&str> =
        lines.flat_map(|l| l.split(';')).map(str::trim).filter(|s| !s.is_empty()).collect();
    for statement in statements {
        reader.statement(&statement.split_whitespace().collect::<Vec<&str>>())?;
    }
    let (script, ping) = reader.finish()?;
    let exits = |works: bool| {
        let mut run = Run { works, status: true };
        run.steps(&script).unwrap_or(run.status)
    };
    let inverted = match (exits(true), exits(false)) {
        (true, false) => false,
        (false, true) => true,
        // However the ping goes, the script ends the same way.
        _ => return None,
    };
    Some(Ping { inverted, ..ping })
}

/// A command as far as its status matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Ping,
    /// `[ $? -eq 0 ]`, or with `-ne`: whether the last status was success, or was not.
    Was(bool),
    /// `exit`; None: with the last status.
    Exit(Option<bool>),
}

/// Commands joined by `&&` (true) and `||`: each after the first with what must have been, and with its `!`.
type List = Vec<(Option<bool>, bool, What)>;

#[derive(Debug)]
enum Step {
    Do(List),
    If(List, Vec<Step>, Vec<Step>),
    Assign,
}

/// Puts statements into steps.
#[derive(Debug, Default)]
struct Reader {
    steps: Vec<Step>,
    /// The `if` that is open: its condition, what stands behind `then`, and behind `else`, once that came.
    open: Option<(List, Vec<Step>, Option<Vec<Step>>)>,
    assigned: Vec<(String, String)>,
    ping: Option<Ping>,
}

impl Reader {
    /// None: it is not understood.
    fn statement(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] => Some(()),
            ["then", rest @ ..] => {
                self.open.as_ref()?;
                self.statement(rest)
            }
            ["else", rest @ ..] => {
                let (_, _, no) = self.open.as_mut().filter(|(_, _, no)| no.is_none())?;
                *no = Some(Vec::new());
                self.statement(rest)
            }
            ["fi"] => {
                let (condition, yes, no) = self.open.take()?;
                self.steps.push(Step::If(condition, yes, no.unwrap_or_default()));
                Some(())
            }
            ["if", rest @ ..] if self.open.is_none() => {
                self.open = Some((self.list(rest)?, Vec::new(), None));
                Some(())
            }
            [only] if assignment(only).is_some() => {
                let (name, value) = assignment(only)?;
                self.assigned.push((name.to_owned(), value.to_owned()));
                self.push(Step::Assign)
            }
            _ => {
                let list = self.list(words)?;
                self.push(Step::Do(list))
            }
        }
    }

    fn push(&mut self, step: Step) -> Option<()> {
        match &mut self.open {
            Some((_, _, Some(no))) => no.push(step),
            Some((_, yes, None)) => yes.push(step),
            None => self.steps.push(step),
        }
        Some(())
    }

    fn list(&mut self, words: &[&str]) -> Option<List> {
        let mut list = List::new();
        let (mut joined, mut rest) = (None, words);
        loop {
            let end = rest.iter().position(|w| matches!(*w, "&&" | "||"));
            let one = rest.get(..end.unwrap_or(rest.len()))?;
            let (negated, one) = match one {
                ["!", one @ ..] => (true, one),
                _ => (false, one),
            };
            list.push((joined, negated, self.command(one)?));
            let Some(end) = end else { return Some(list) };
            joined = Some(rest.get(end) == Some(&"&&"));
            rest = rest.get(end + 1..)?;
        }
    }

    fn command(&mut self, words: &[&str]) -> Option<What> {
        let is_status = |w: &str| w.trim_matches('"') == "$?";
        Some(match words {
            ["exit"] => What::Exit(None),
            ["exit", code] if is_status(code) => What::Exit(None),
            ["exit", code] => What::Exit(Some(code.parse::<u8>().ok()? == 0)),
            ["[", status, how, "0", "]"] | ["[[", status, how, "0", "]]"] | ["test", status, how, "0"]
                if is_status(status) =>
            {
                match *how {
                    "-eq" | "=" | "==" => What::Was(true),
                    "-ne" | "!=" | "-gt" => What::Was(false),
                    _ => return None,
                }
            }
            _ => {
                let ping = ping_among(words, &self.assigned)?;
                // Two outcomes would be four runs.
                if self.ping.replace(ping).is_some() {
                    return None;
                }
                What::Ping
            }
        })
    }

    fn finish(self) -> Option<(Vec<Step>, Ping)> {
        self.open.is_none().then_some((self.steps, self.ping?))
    }
}

/// `NAME=VALUE`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name, value.trim_matches(['"', '\''])))
}

/// A script that runs, with a ping of that outcome. Statuses: true is success.
struct Run {
    works: bool,
    status: bool,
}

impl Run {
    /// How it exits; None if it goes on.
    fn steps(&mut self, steps: &[Step]) -> Option<bool> {
        steps.iter().find_map(|step| match step {
            Step::Do(list) => self.list(list),
            Step::Assign => {
                self.status = true;
                None
            }
            Step::If(condition, yes, no) => {
                if let Some(exit) = self.list(condition) {
                    return Some(exit);
                }
                let branch = if self.status { yes } else { no };
                // POSIX: without a command that runs, the status of an `if` is success.
                self.status |= branch.is_empty();
                self.steps(branch)
            }
        })
    }

    fn list(&mut self, list: &List) -> Option<bool> {
        for (joined, negated, what) in list {
            if joined.is_some_and(|wanted| wanted != self.status) {
                continue;
            }
            let status = match what {
                What::Ping => self.works,
                What::Was(success) => *success == self.status,
                What::Exit(code) => return Some(code.unwrap_or(self.status)),
            };
            self.status = status ^ negated;
        }
        None
    }
}

/// A ping among redirections.
fn ping_among(words: &[&str], assigned: &[(String, String)]) -> Option<Ping> {
    let replaced: Vec<String> = words.iter().map(|w| substituted(w, assigned)).collect();
    let mut quiet: Vec<&str> = Vec::new();
    let mut words = replaced.iter();
    while let Some(word) = words.next() {
        // In the background: its outcome is nobody's.
        if word.ends_with('&') {
            return None;
        }
        if word.ends_with(['>', '<']) {
            words.next();
        } else if !word.contains(['>', '<']) {
            quiet.push(word);
        }
    }
    ping_command(&quiet.join(" "))
}

/// `$NAME`, `${NAME}` and quotes around either.
fn substituted(word: &str, assigned: &[(String, String)]) -> String {
    let bare = word.trim_matches(['"', '\'']);
    let name = bare.strip_prefix("${").and_then(|w| w.strip_suffix('}')).or_else(|| bare.strip_prefix('$'));
    let value = name.and_then(|n| assigned.iter().rev().find(|(known, _)| known == n));
    value.map_or(bare, |(_, value)| value).to_owned()
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
    // Without an end it is killed at the script's timeout, whatever is answered.
    if ping.count.is_none() && ping.deadline.is_none() {
        return None;
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".:-_%".contains(c);
    (!ping.host.is_empty() && ping.host.chars().all(is_host)).then_some(ping)
}

/// One word of options; None if one of them is not understood.
fn option<'w>(ping: &mut Ping, flags: &str, words: &mut impl Iterator<Item = &'w str>) -> Option<()> {
    let mut flags = flags.chars();
    while let Some(flag) = flags.next() {
        match flag {
            'n' | 'q' | 'O' | 'U' | 'D' => continue,
            '4' | '6' | 'A' => {
                ping.dropped.push(format!("-{flag}"));
                continue;
            }
            _ => {}
        }
        // The value is the rest of the word, or the next one.
        let rest: String = flags.by_ref().collect();
        let value = if rest.is_empty() { words.next()?.to_owned() } else { rest };
        match flag {
            'c' => ping.count = Some(value.parse().ok()?),
            'W' => ping.wait = Some(value.parse().ok()?),
            'w' => ping.deadline = Some(value.parse().ok()?),
            'I' => ping.origin = Some(value),
            's' => ping.size = Some(value.parse().ok()?),
            'i' | 't' => ping.dropped.push(format!("-{flag} {value}")),
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
        let ping = recognise("ping -4 -c 1 -i 0.2 -w 3 198.18.0.1").unwrap();
        assert_eq!((ping.deadline, ping.dropped), (Some(3.0), vec!["-4".to_owned(), "-i 0.2".to_owned()]));
        for other in [
            "ping -c1 -f 198.18.0.1",
            "ping",
            "pingu -c1 198.18.0.1",
            "ping -c1 a b",
            "ping -c",
            "ping -c1 $HOST",
            // It never ends.
            "ping 198.18.0.1",
        ] {
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
            // `!` turns the status of the ping, before anybody looks at it.
            ("! ping -c1 198.18.0.1 && exit 1\nexit 0", false),
            ("! ping -c1 198.18.0.1 || exit 1\nexit 0", true),
            ("! ping -c1 198.18.0.1\nif [ $? -eq 0 ]; then exit 0; fi\nexit 1", true),
            ("! ping -c1 198.18.0.1\nif [ $? -ne 0 ]; then exit 0; else exit 1; fi", false),
            ("ping -c1 198.18.0.1 &>/dev/null\n[ \"$?\" -eq 0 ] && exit 1\nexit 0", true),
            ("ping -c1 198.18.0.1\ntest $? -ne 0", true),
            ("ping -c1 198.18.0.1 && exit 1 || exit 0", true),
            ("if ping -c1 198.18.0.1; then\n exit 1\nfi", true),
            ("if ! ping -c1 198.18.0.1; then\n exit 1\nfi\nexit $?", false),
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
            // Always the same, or not to be told.
            "ping -c 1 198.18.0.1\nX=1\nexit $?",
            "ping -c 1 198.18.0.1 >/dev/null&",
            "ping -c 1 198.18.0.1 &",
            "ping -c 1 198.18.0.1\n[ $? -eq 1 ] && exit 0",
            "exit 0\nping -c 1 198.18.0.1",
            "if ping -c 1 198.18.0.1; then exit 1",
            "if ping -c 1 198.18.0.1; then :; elif false; then exit 1; fi",
            "ping -c 1 198.18.0.1 | grep ttl",
            "set -e\nping -c 1 198.18.0.1",
        ] {
            assert_eq!(in_script(text), None, "{text}");
        }
    }

    #[test]
    fn a_shell_or_a_bang_in_the_configuration() {
        for (script, inverted) in [
            ("/bin/sh -c 'ping -c 1 198.18.0.1'", false),
            ("/bin/sh -c '! ping -c 1 198.18.0.1'", true),
            ("/bin/bash -c \"if ping -c 1 198.18.0.1; then exit 1; fi\"", true),
            ("! ping -c 1 198.18.0.1", true),
            ("! /bin/sh -c '! ping -c 1 198.18.0.1'", false),
        ] {
            let asked = asked(script);
            assert_eq!(
                asked.ping.as_ref().map(|p| (&*p.host, p.inverted)),
                Some(("198.18.0.1", inverted)),
                "{script}"
            );
        }
        let other = asked("! /usr/bin/curl x");
        assert_eq!((other.command.as_str(), other.inverted(), other.ping), ("/usr/bin/curl x", true, None));
        assert_eq!(recognise("/bin/sh -c 'ping -c 1 198.18.0.1' 198.18.0.2"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_script_panics(text in "(ping|exit|if|then|else|fi|[ \\n;!&|$?=0-9a-z\"-]){0,60}") {
            let _ = in_script(&text);
        }
    }
}
