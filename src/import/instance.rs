//! `vrrp_instance`: what it does as MASTER, and what of it has no equivalent.

use super::document::{Document, PieceId, list, text};
use super::track::{Gates, clean_name};
use super::tree::Node;

/// Of an election among nodes.
const ELECTION: &[&str] = &[
    "state",
    "virtual_router_id",
    "priority",
    "advert_int",
    "authentication",
    "unicast_peer",
    "unicast_src_ip",
    "mcast_src_ip",
    "nopreempt",
    "preempt_delay",
    "version",
    "strict_mode",
    "accept",
    "use_vmac",
    "track_src_ip",
    "dont_track_primary",
];
const NOTIFY: &[&str] = &["notify_master", "notify_backup", "notify_fault", "notify_stop", "notify"];
/// Said elsewhere in the output, or of no meaning without VRRP's packets.
const SILENT: &[&str] = &[
    "interface",
    "track_script",
    "track_interface",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "virtual_routes",
    "virtual_rules",
    "debug",
];

/// Writes an instance, and all that hangs on it.
pub fn write(node: &Node, gates: &Gates, document: &mut Document) {
    let name = node.arg(0).unwrap_or("unnamed");
    let mut lines = vec!["[[instance]]".to_owned(), text("name", &clean_name(name))];
    if !gates.primary.is_empty() {
        // Any script that succeeds ends it: the instance is in FAULT then, and another node takes over.
        let several = if gates.primary.len() > 1 { ", down_when = \"all\", up_when = \"any\"" } else { "" };
        lines.push(format!("primary = {{ {}{several} }}", list("checks", &gates.primary)));
    }
    if !gates.require.is_empty() {
        lines.push(format!("require = {{ {} }}", list("checks", &gates.require)));
    }
    lines.extend(notify(node, document));
    let owner = if gates.primary.is_empty() {
        let why = "is decided by an election of VRRP alone, or by checks that must be well; here it would be MASTER on every node at once, so it is a comment. If one of its scripts succeeds only while another site is dead, ask that site by a check, name it in `primary`, and uncomment the rest";
        document.add_comment(&node.place, lines, why, None)
    } else {
        document.add(&node.place, lines, None)
    };
    let is_comment = gates.primary.is_empty();
    let hang = |place: &Node, lines: Vec<String>, document: &mut Document| match is_comment {
        true => document.add_comment(&place.place, lines, "belongs to the instance above", Some(owner)),
        false => document.add(&place.place, lines, Some(owner)),
    };
    let default_dev = node.get("interface").and_then(|n| n.arg(0)).unwrap_or("lo");
    for block in &node.block {
        for entry in &block.block {
            let mut left = Vec::new();
            let lines = match block.keyword() {
                "virtual_ipaddress" | "virtual_ipaddress_excluded" => address(entry, default_dev, &mut left),
                "virtual_routes" => route(entry, &mut left),
                "virtual_rules" => rule(entry),
                _ => continue,
            };
            match lines {
                Ok(lines) => {
                    let _: PieceId = hang(entry, lines, document);
                }
                Err(why) => document.note(&entry.place, &format!("`{}`: {why}", entry.words.join(" "))),
            }
            left.iter().for_each(|words| document.note(&entry.place, words));
        }
    }
    left_out(node, gates, document);
}

fn left_out(node: &Node, gates: &Gates, document: &mut Document) {
    for note in &gates.notes {
        document.note(&node.place, note);
    }
    for entry in &node.block {
        let keyword = entry.keyword();
        if SILENT.contains(&keyword) || NOTIFY.contains(&keyword) {
            continue;
        }
        let why = match keyword {
            k if ELECTION.contains(&k) => {
                "belongs to VRRP's election among nodes, which has no equivalent here"
            }
            "track_bfd" => "a BFD session is a check of type bfd; write it with the peer's address",
            "track_file" | "track_process" => "has no equivalent; a check of type file or exec may do",
            "smtp_alert" => "mail is sent by whatever watches the log or the metrics",
            _ => "has no equivalent",
        };
        document.note(&entry.place, &format!("{}: {why}", entry.words.join(" ")));
    }
}

fn notify(node: &Node, document: &mut Document) -> Vec<String> {
    let mut lines = Vec::new();
    for key in NOTIFY {
        let Some(entry) = node.get(key) else { continue };
        let Some(command) = entry.arg(0) else { continue };
        lines.push(text(key, command));
        if let Some(user) = entry.arg(1) {
            document.note(
                &entry.place,
                &format!("{key} … {user}: scripts run as the user that announcerd runs as"),
            );
        }
    }
    lines
}

/// Pairs of words as `ip` takes them, and what stands alone.
struct Words<'n> {
    words: std::slice::Iter<'n, String>,
}

impl<'n> Words<'n> {
    fn value(&mut self, key: &str) -> Result<&'n str, String> {
        self.words.next().map(String::as_str).ok_or_else(|| format!("{key} has no value"))
    }
}

/// What stands alone, and concerns keepalived's own tracking or the kernel's IPv6 details.
const FLAGS: &[&str] = &["no_track", "track_group", "home", "-nodad", "nodad", "mngtmpaddr", "noprefixroute"];

/// Why a word about an address is left out.
fn why_left(word: &str) -> &'static str {
    match word {
        "label" => "is a name for old tools; addresses are told apart without",
        "brd" | "broadcast" => "the kernel does without a broadcast address",
        "peer" => {
            "has no equivalent: the address stands without its peer; write a route to that, if it is needed"
        }
        "no_track" | "track_group" => "what is not there is put back; nothing is tracked by it",
        _ => "has no equivalent",
    }
}

/// `left`: what is left out, with why.
fn address(entry: &Node, default_dev: &str, left: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut words = Words { words: entry.words.iter() };
    let mut address = words.value("the address")?.to_owned();
    if !address.contains('/') {
        address.push_str(if address.contains(':') { "/128" } else { "/32" });
    }
    let (mut dev, mut more) = (default_dev, Vec::new());
    while let Some(word) = words.words.next() {
        match word.as_str() {
            "dev" => dev = words.value("dev")?,
            "scope" => more.push(text("scope", words.value("scope")?)),
            "brd" | "broadcast" | "label" | "peer" | "preferred_lft" => {
                let value = words.value(word)?;
                left.push(format!("{address} {word} {value}: {}", why_left(word)));
            }
            flag if FLAGS.contains(&flag) => left.push(format!("{address} {flag}: {}", why_left(flag))),
            other => return Err(format!("{other} has no equivalent")),
        }
    }
    let head = ["[[instance.address]]".to_owned(), text("address", &address), text("dev", dev)];
    Ok(head.into_iter().chain(more).collect())
}

fn route(entry: &Node, left: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut words = Words { words: entry.words.iter() };
    let (mut to, mut more) = (None, Vec::new());
    while let Some(word) = words.words.next() {
        match word.as_str() {
            "blackhole" | "unreachable" | "prohibit" | "local" | "unicast" => more.push(text("type", word)),
            "to" => to = Some(words.value("to")?),
            "via" | "gw" => more.push(text("via", words.value("via")?)),
            "dev" | "src" | "scope" | "table" => {
                let value = words.value(word)?;
                more.push(
                    value.parse::<u64>().map_or_else(|_| text(word, value), |n| format!("{word} = {n}")),
                );
            }
            "metric" | "preference" | "priority" => more.push(integer("metric", words.value(word)?)?),
            "mtu" | "advmss" => more.push(integer(word, words.value(word)?)?),
            "onlink" => more.push("onlink = true".to_owned()),
            "no_track" | "track_group" => {
                left.push(format!("{}: {}", entry.words.join(" "), why_left(word)));
            }
            prefix if to.is_none() && (prefix == "default" || prefix.contains(['.', ':'])) => {
                to = Some(prefix)
            }
            other => return Err(format!("{other} has no equivalent")),
        }
    }
    let mut to = to.ok_or("it says not where to")?.to_owned();
    if to != "default" && !to.contains('/') {
        to.push_str(if to.contains(':') { "/128" } else { "/32" });
    }
    Ok(["[[instance.route]]".to_owned(), text("to", &to)].into_iter().chain(more).collect())
}

fn rule(entry: &Node) -> Result<Vec<String>, String> {
    let mut words = Words { words: entry.words.iter() };
    let mut lines = vec!["[[instance.rule]]".to_owned()];
    while let Some(word) = words.words.next() {
        lines.push(match word.as_str() {
            "from" | "to" | "iif" => text(word, words.value(word)?),
            "table" | "lookup" => integer("table", words.value(word)?)?,
            "priority" | "preference" | "pref" => integer("priority", words.value(word)?)?,
            "fwmark" => integer("fwmark", words.value(word)?)?,
            other => return Err(format!("{other} has no equivalent")),
        });
    }
    Ok(lines)
}

fn integer(key: &str, value: &str) -> Result<String, String> {
    value.parse::<u64>().map(|n| format!("{key} = {n}")).map_err(|_| format!("{key} {value} is no number"))
}
