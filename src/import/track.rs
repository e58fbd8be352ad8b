//! What an instance tracks: which checks stand for the primary, which are required.

use std::collections::BTreeMap;

use super::document::{Document, text};
use super::script::{self, Ping};
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
        let command = script.get("script").and_then(|n| n.arg(0)).unwrap_or_default();
        let ping = script::recognise(command);
        // keepalived wants the script to succeed, or to fail if reversed; a script may itself turn a ping around.
        let wants_failure = reverse ^ ping.as_ref().is_some_and(|p| p.inverted);
        let check = clean_name(name);
        if wants_failure && number(script, "fall", 1).min(number(script, "rise", 1)) == 1 {
            gates.notes.push(format!(
                "vrrp_script {name}: a single lost answer would be a takeover, or its end; fall = 3 and rise = 2 are usual"
            ));
        }
        (if wants_failure { &mut gates.primary } else { &mut gates.require }).push(check.clone());
        if !self.written.contains(&check) {
            write_check(script, &check, command, ping.as_ref(), document);
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
        gates.require.push(check.clone());
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

fn write_check(script: &Node, name: &str, command: &str, ping: Option<&Ping>, document: &mut Document) {
    let mut lines = vec!["[[check]]".to_owned(), text("name", name)];
    let (fall, rise) = (number(script, "fall", 1), number(script, "rise", 1));
    let interval = number(script, "interval", 1);
    let timeout = number(script, "timeout", interval).min(interval);
    match ping {
        Some(ping) => lines.extend(ping_lines(ping, interval, timeout)),
        None => {
            lines.extend([text("type", "exec"), text("command", command)]);
            lines.extend([format!("interval = \"{interval}s\""), format!("timeout = \"{timeout}s\"")]);
        }
    }
    // A script that succeeds when the ping fails counts the other way round.
    let turned = ping.is_some_and(|p| p.inverted);
    let (fall, rise) = if turned { (rise, fall) } else { (fall, rise) };
    lines.extend([format!("fall = {fall}"), format!("rise = {rise}")]);
    document.add(&script.place, lines, None);
    if ping.is_some() {
        let same = vec![text("type", "exec"), text("command", command), format!("invert = {turned}")];
        document.add_comment(
            &script.place,
            same,
            "asked natively above, without a process for each probe; the script would be",
            None,
        );
    }
}

fn ping_lines(ping: &Ping, interval: u64, timeout: u64) -> Vec<String> {
    let mut lines = vec![text("type", "ping"), text("host", &ping.host)];
    lines.push(format!("interval = \"{interval}s\""));
    // The script's own bound if it is shorter; a probe ends before the next begins.
    let wait = ping.wait.map(|s| (s * 1000.0) as u64).filter(|ms| (1..timeout * 1000).contains(ms));
    lines.push(format!("timeout = \"{}ms\"", wait.unwrap_or((timeout * 1000).min(interval * 800))));
    if let Some(count) = ping.count.filter(|n| *n > 1) {
        lines.push(format!("count = {count}"));
        // ping(8) succeeds with a single answer.
        lines.push(format!("max_loss = {}", 100 * (count - 1) / count));
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
