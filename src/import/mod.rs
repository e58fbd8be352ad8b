//! `announcerctl import-keepalived`: the announcer.toml that does what a keepalived.conf did.
//!
//! [`source`] reads files into lines, [`tree`] lines into blocks; [`track`] and [`instance`] translate what has an
//! equivalent into the pieces of a [`document`], and what has none into comments with the line that it came from and why.
//! [`script`] sees a ping behind a script. The document is checked by the daemon's own reader before it is printed.
//!
//! A VRRP instance is MASTER by an election; ours is by the state of a primary. So an instance becomes one of ours only if it
//! tracks something that must be *down* (a reversed script, a script that fails while a ping works): all others would
//! be MASTER on each of their nodes at once, and are printed as comments.

mod document;
mod instance;
mod script;
mod source;
mod track;
mod tree;

use std::path::Path;

use crate::config::Diagnostics;
use document::{Document, text};
use source::Place;
use track::{Checks, Scripts, clean_name};
use tree::Node;

/// The announcer.toml for the keepalived.conf at `path`, as the node `id` would read it (keepalived's `--config-id`).
/// `check` is the reader that must accept it.
///
/// # Errors
///
/// The file cannot be read.
pub fn convert(
    path: &Path,
    id: &str,
    check: impl Fn(&str) -> Result<(), Diagnostics>,
) -> std::io::Result<String> {
    let source = source::read(path, id)?;
    let nodes = tree::parse(&source.lines);
    let mut document = Document::default();
    let start = Place { file: path.display().to_string().into(), line: 1 };
    document
        .note(&start, "what follows was made by `announcerctl import-keepalived`; read it before you use it");
    for (place, words) in &source.notes {
        document.note(place, words);
    }
    let scripts: Scripts<'_> =
        nodes.iter().filter(|n| n.keyword() == "vrrp_script").filter_map(|n| Some((n.arg(0)?, n))).collect();
    let mut checks = Checks::default();
    // [node] comes before all tables that follow; keepalived lets global_defs stand anywhere.
    for node in nodes.iter().filter(|n| n.keyword() == "global_defs") {
        global(node, &mut document);
    }
    for node in &nodes {
        match node.keyword() {
            "vrrp_instance" => {
                let gates = checks.gates(node, &scripts, &mut document);
                instance::write(node, &gates, &mut document);
            }
            "global_defs" | "vrrp_script" => {}
            "vrrp_sync_group" => {
                document
                    .note(&node.place, &format!("{}: {}", node.words.join(" "), why_not("vrrp_sync_group")));
                sync_group(node, &mut document);
            }
            other => document.note(&node.place, &format!("{}: {}", node.words.join(" "), why_not(other))),
        }
    }
    for (name, script) in scripts.iter().filter(|(name, _)| !is_tracked(&nodes, "vrrp_instance", name)) {
        let why = match is_tracked(&nodes, "vrrp_sync_group", name) {
            true => {
                "only a sync group tracks it: write it as a check, and name that in the instance's `require`"
            }
            false => "no instance tracks it",
        };
        document.note(&script.place, &format!("vrrp_script {name}: {why}"));
    }
    Ok(document.finish(check))
}

/// What a group has, each with its line.
fn sync_group(node: &Node, document: &mut Document) {
    for entry in &node.block {
        let words = entry.words.join(" ");
        let why = match entry.keyword() {
            "group" => "its instances; each stands for itself here",
            k if k.starts_with("notify") => "the script of a group; an instance has its own",
            k if k.starts_with("track_") => "what a group tracks is to be named in the instance's `require`",
            _ => "has no equivalent",
        };
        document.note(&entry.place, &format!("{words}: {why}"));
        for inner in &entry.block {
            document.note(&inner.place, &format!("{words}: {}", inner.words.join(" ")));
        }
    }
}

fn is_tracked(nodes: &[Node], by: &str, script: &str) -> bool {
    let by = nodes.iter().filter(|n| n.keyword() == by);
    let tracks = by.flat_map(|n| &n.block).filter(|n| n.keyword() == "track_script");
    tracks.flat_map(|n| &n.block).any(|n| n.keyword() == script)
}

fn global(node: &Node, document: &mut Document) {
    for entry in &node.block {
        match (entry.keyword(), entry.arg(0)) {
            ("router_id", Some(name)) => {
                document.add(&entry.place, vec!["[node]".into(), text("name", &clean_name(name))], None);
            }
            (keyword, _) if keyword.starts_with("notification_email") || keyword.starts_with("smtp") => {
                let why = "mail is sent by whatever watches the log or the metrics";
                document.note(&entry.place, &format!("{}: {why}", entry.words.join(" ")));
            }
            (keyword, _) if keyword.contains("notify_fifo") => {
                document.note(&entry.place, &format!("{}: {FIFO}", entry.words.join(" ")));
            }
            _ => document.note(&entry.place, &format!("{}: has no equivalent", entry.words.join(" "))),
        }
    }
}

/// Who listens to transitions.
const FIFO: &str =
    "has no equivalent; `announcerctl events -f -j` prints each transition, and `notify_url` posts it";

fn why_not(keyword: &str) -> &'static str {
    match keyword {
        k if k.starts_with("virtual_server") || k == "real_server" || k == "SSL" => {
            "LVS virtual servers are out of scope; leave them with keepalived"
        }
        "vrrp_sync_group" => {
            "instances that move together become one [[instance]] with all their addresses and routes"
        }
        "static_ipaddress" | "static_routes" | "static_rules" => {
            "what is there always belongs to the system's network configuration, or to an instance with when = \"always\""
        }
        "bfd_instance" => "a BFD session is a check of type bfd; write it with the neighbor's address",
        "vrrp_track_process" | "track_file" | "vrrp_track_file" => {
            "has no equivalent; a check of type file or exec may do"
        }
        _ => "has no equivalent",
    }
}

#[cfg(test)]
mod tests;
