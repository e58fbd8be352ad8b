//! What an instance tracks: which checks stand for the primary, which are required.

use std::collections::BTreeMap;

use super::document::{Document, text};
use super::script::{self, Asked, Ping};
use super::source::Place;
use super::tree::Node;

/// What the rest of the file says of a script: `vrrp_script`.
pub type Scripts<'n> = BTreeMap<&'n str, &'n Node>;

/// The gates of an instance, by the names of their checks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gates {
    /// Each must be down.
    pub primary: Vec<String>,
    /// Each must be up.
    pub require: Vec<String>,
    /// What was left out, for the instance's comment.
    pub notes: Vec<String>,
}

/// Checks that are in the document already.
#[derive(Default, Debug)]
pub struct Checks {
    written: Vec<String>,
}

impl Checks {
    /// The gates that `instance` tracks; their checks are written where they are not yet.
    pub fn gates(&mut self, instance: &Node, scripts: &Scripts<'_>, document: &mut Document) -> Gates {
        let mut gates = Gates::default();
        for block in instance.block.iter().filter(|n| n.keyword() == "track_script") {
            for track in &block.block {
                self.script(track, scripts, &mut gates, document);
            }
        }
        for block in instance.block.iter().filter(|n| n.keyword() == "track_interface") {
            for track in &block.block {
                self.interface(track, &mut gates, document);
            }
        }
        gates
    }

    fn script(&mut self, track: &Node, scripts: &Scripts<'_>, gates: &mut Gates, document: &mut Document) {
        let name = track.keyword();
        let Some(script) = scripts.get(name) else {
            gates.notes.push(format!("track_script {name}: there is no vrrp_script of that name"));
            return;
        };
        let own = script.get("weight").map_or(&[][..], |n| &n.words[1..]);
        let (weight, reverse) = Weight::read(own).or(Weight::read(track.words.get(1..).unwrap_or_default()));
        if weight != 0 {
            gates.notes.push(format!(
                "track_script {name} weight {weight}: moves a priority in an election of nodes; a check is met or not here, so it is left out"
            ));
            return;
        }
        let asked = script::asked(script.get("script").and_then(|n| n.arg(0)).unwrap_or_default());
        // keepalived wants the script to succeed, or to fail if reversed; a script may itself turn a ping around.
        let wants_failure = reverse ^ asked.inverted();
        let check = clean_name(name);
        if wants_failure && number(script, "fall", 1).min(number(script, "rise", 1)) == 1 {
            gates.notes.push(format!(
                "vrrp_script {name}: a single lost answer would be a takeover, or its end; fall = 3 and rise = 2 are usual"
            ));
        }
        let gate = if wants_failure { &mut gates.primary } else { &mut gates.require };
        if !gate.contains(&check) {
            gate.push(check.clone());
        }
        if !self.written.contains(&check) {
            write_check(script, &check, &asked, document);
            self.written.push(check);
        }
    }

    fn interface(&mut self, track: &Node, gates: &mut Gates, document: &mut Document) {
        let device = track.keyword();
        let (weight, reverse) = Weight::read(track.words.get(1..).unwrap_or_default()).or(Weight::default());
        if weight != 0 || reverse {
            gates
                .notes
                .push(format!("track_interface {}: weights have no equivalent", track.words.join(" ")));
            return;
        }
        let check = clean_name(&format!("link-{device}"));
        if !gates.require.contains(&check) {
            gates.require.push(check.clone());
        }
        if !self.written.contains(&check) {
            let lines =
                vec!["[[check]]".into(), text("name", &check), text("type", "link"), text("device", device)];
            document.add(&track.place, lines, None);
            self.written.push(check);
        }
    }
}

/// `weight N [reverse]`, as far as it is said.
#[derive(Clone, Copy, Default)]
struct Weight {
    weight: Option<i64>,
    reverse: Option<bool>,
}

impl Weight {
    fn read(words: &[String]) -> Self {
        let mut found = Weight::default();
        for word in words {
            match word.as_str() {
                "reverse" => found.reverse = Some(true),
                "noreverse" | "no_reverse" => found.reverse = Some(false),
                number => found.weight = number.parse().ok().or(found.weight),
            }
        }
        found
    }

    /// What the instance says counts before what the script says.
    fn or(self, instance: Weight) -> (i64, bool) {
        let weight = instance.weight.or(self.weight).unwrap_or(0);
        (weight, instance.reverse.or(self.reverse).unwrap_or(false))
    }
}

/// Why an option of ping is left out.
const PING_OPTION: &str = "has no equivalent; a check has its own pace, the kernel's TTL, and the family of the address that the host's name gives";

/// What is read of a `vrrp_script`.
const READ: &[&str] = &["script", "interval", "timeout", "fall", "rise", "weight"];

fn write_check(script: &Node, name: &str, asked: &Asked, document: &mut Document) {
    let mut lines = vec!["[[check]]".to_owned(), text("name", name)];
    let mut notes = unread(script);
    let place = &script.get("script").unwrap_or(script).place;
    let dropped = asked.ping.iter().flat_map(|ping| &ping.dropped);
    notes.extend(dropped.map(|option| (place.clone(), format!("ping {option}: {PING_OPTION}"))));
    let (fall, rise) = (number(script, "fall", 1), number(script, "rise", 1));
    let rhythm = rhythm(script, asked.ping.as_ref(), &mut notes);
    match &asked.ping {
        Some(ping) => lines.extend(ping_lines(ping, &rhythm)),
        None => {
            lines.extend([text("type", "exec"), text("command", &asked.command)]);
            lines.extend(rhythm.lines());
        }
    }
    // A script that succeeds when the ping fails counts the other way round.
    let turned = asked.inverted();
    let (fall, rise) = if turned { (rise, fall) } else { (fall, rise) };
    lines.extend([format!("fall = {fall}"), format!("rise = {rise}")]);
    document.add(&script.place, lines, None);
    if asked.ping.is_some() {
        let same = vec![
            text("type", "exec"),
            text("command", &asked.command),
            format!("invert = {}", turned ^ asked.negated),
        ];
        document.add_comment(
            &script.place,
            same,
            "asked natively above, without a process for each probe; the script would be",
            None,
        );
    }
    notes.iter().for_each(|(place, words)| document.note(place, &format!("vrrp_script {name}: {words}")));
}

/// What a script has that is not taken over, or not as it is.
fn unread(script: &Node) -> Vec<(Place, String)> {
    let mut notes = Vec::new();
    for entry in &script.block {
        let words = entry.words.join(" ");
        let why = match entry.keyword() {
            "user" => "it runs as the user that announcerd runs as",
            "init_fail" => "has no equivalent; until its first result a check is neither up nor down",
            key if READ.contains(&key) => continue,
            _ => "has no equivalent",
        };
        notes.push((entry.place.clone(), format!("{words}: {why}")));
    }
    for key in ["interval", "timeout", "fall", "rise"] {
        let Some(entry) = script.get(key) else { continue };
        let said = entry.arg(0).unwrap_or_default();
        let taken = number(script, key, 1);
        if said.parse::<f64>().ok() != Some(taken as f64) {
            notes.push((entry.place.clone(), format!("{key} {said}: taken as {taken}")));
        }
    }
    notes
}

/// How often, and how long; milliseconds.
struct Rhythm {
    interval: u64,
    timeout: u64,
}

impl Rhythm {
    fn lines(&self) -> [String; 2] {
        [format!("interval = \"{}\"", span(self.interval)), format!("timeout = \"{}\"", span(self.timeout))]
    }
}

fn span(ms: u64) -> String {
    if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// keepalived lets a script run beyond its interval, and begins no other meanwhile; here a probe ends before the next begins, so
/// that the interval is what a bad probe takes. Who waits for a ping waits as long as the script has it wait, if that is less.
fn rhythm(script: &Node, ping: Option<&Ping>, notes: &mut Vec<(Place, String)>) -> Rhythm {
    let interval = number(script, "interval", 1) * 1000;
    let said = script.get("timeout").map(|_| number(script, "timeout", 1) * 1000);
    let most = said.unwrap_or(interval);
    let waits = ping.and_then(|p| p.deadline.or(p.wait)).map(|s| (s * 1000.0) as u64);
    let timeout = match (ping, waits) {
        (Some(_), Some(ms)) if (1..most).contains(&ms) => ms,
        (Some(_), None) if said.is_none() => interval * 4 / 5,
        _ => most,
    };
    if let Some(ms) = waits.filter(|ms| *ms > most) {
        let words =
            format!("the ping waits {}, but the script has only {}, which is taken", span(ms), span(most));
        notes.push((script.get("script").unwrap_or(script).place.clone(), words));
    }
    if timeout > interval {
        let place = script.get("timeout").unwrap_or(script).place.clone();
        let (from, to) = (span(interval), span(timeout));
        notes.push((
            place,
            format!("interval {from} is raised to the timeout, {to}: a probe ends before the next begins"),
        ));
    }
    Rhythm { interval: interval.max(timeout), timeout }
}

fn ping_lines(ping: &Ping, rhythm: &Rhythm) -> Vec<String> {
    let mut lines = vec![text("type", "ping"), text("host", &ping.host)];
    lines.extend(rhythm.lines());
    if let Some(count) = ping.count.filter(|n| *n > 1) {
        lines.push(format!("count = {count}"));
        // ping(8) succeeds with a single answer, unless it has a deadline for all of them.
        if ping.deadline.is_none() {
            lines.push(format!("max_loss = {}", (100 * (u64::from(count) - 1)).div_ceil(u64::from(count))));
        }
    }
    lines.extend(ping.size.map(|size| format!("size = {size}")));
    if let Some(origin) = &ping.origin {
        let key = if origin.parse::<std::net::IpAddr>().is_ok() { "source" } else { "device" };
        lines.push(text(key, origin));
    }
    lines
}

/// Whole seconds or counts; fractions are rounded up.
fn number(script: &Node, key: &str, default: u64) -> u64 {
    let said = script.get(key).and_then(|n| n.arg(0)).and_then(|w| w.parse::<f64>().ok());
    said.filter(|n| n.is_finite() && *n >= 1.0).map_or(default, |n| n.ceil().min(3600.0) as u64)
}

/// A name as announcer.toml takes it.
pub fn clean_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let clean: String = name.chars().map(keep).take(60).collect();
    if clean.is_empty() { "unnamed".to_owned() } else { clean }
}
