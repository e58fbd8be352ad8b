//! What a reload changes: two configurations compared by name.
//!
//! Whether something changed is decided by the equality of the model's types. The words about it come from lists of
//! facts, made by taking the structs apart without a rest, so that a new field cannot be forgotten here.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::facts;
use super::model::{Announce, Bgp, Check, Config, Instance, Name, Node};
use crate::bgp::PrefixSet;
use crate::bgp::family::FAMILIES;
use crate::net::Prefix;

/// What became of a check, a peer or an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is as it was: it must not be disturbed.
    Keep,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It differs; one piece of words for each difference, such as `interval 1s -> 2s`.
    Changed(Vec<String>),
}

/// A changed key of `[node]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeChange {
    /// The key.
    pub key: &'static str,
    /// From what to what, such as `name hk-1 -> hk-2`.
    pub words: String,
    /// True if a running daemon cannot take it: the reload must be refused.
    pub restart: bool,
}

/// The difference between two configurations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff {
    /// Changed keys of `[node]`.
    pub node: Vec<NodeChange>,
    /// Every check of both: those of the new configuration in its order, then the removed.
    pub checks: Vec<(Name, Change)>,
    /// Every BGP peer of both, in the same order.
    pub bgp: Vec<(Name, Change)>,
    /// Every instance of both, in the same order.
    pub instances: Vec<(Name, Change)>,
}

/// Keys of `[node]` that are taken at start only: where the socket and the state lie, and whose objects are ours.
const AT_START_ONLY: [&str; 3] = ["control", "state_dir", "route_protocol"];

/// Compares two configurations.
pub fn diff(old: &Config, new: &Config) -> Diff {
    Diff {
        node: node(&old.node, &new.node),
        checks: named(&old.checks, &new.checks, |c: &Check| &*c.name, check),
        bgp: named(&old.bgp, &new.bgp, |b: &Bgp| &*b.session.name, bgp),
        instances: named(&old.instances, &new.instances, |i: &Instance| &*i.name, instance),
    }
}

impl Diff {
    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        let kept = |list: &[(Name, Change)]| list.iter().all(|(_, change)| *change == Change::Keep);
        self.node.is_empty() && kept(&self.checks) && kept(&self.bgp) && kept(&self.instances)
    }

    /// Why this difference cannot be applied without a restart; `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        let keys: Vec<&str> = self.node.iter().filter(|c| c.restart).map(|c| c.words.as_str()).collect();
        if keys.is_empty() {
            return None;
        }
        Some(format!("needs a restart of the daemon, so nothing was applied: {}", keys.join("; ")))
    }

    /// One line for each thing that changed; none if nothing did.
    pub fn lines(&self) -> Vec<String> {
        let node = self.node.iter().map(|change| format!("node: {}", change.words));
        let checks = self.checks.iter().filter_map(|(name, change)| line("check", name, change));
        let bgp = self.bgp.iter().filter_map(|(name, change)| line("bgp", name, change));
        let instances = self.instances.iter().filter_map(|(name, change)| line("instance", name, change));
        node.chain(checks).chain(bgp).chain(instances).collect()
    }
}

impl fmt::Display for Diff {
    /// The lines of [`Diff::lines`], or `nothing changed`. No newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        if lines.is_empty() { f.write_str("nothing changed") } else { f.write_str(&lines.join("\n")) }
    }
}

fn line(kind: &str, name: &str, change: &Change) -> Option<String> {
    match change {
        Change::Keep => None,
        Change::Added => Some(format!("{kind} {name}: added")),
        Change::Removed => Some(format!("{kind} {name}: removed")),
        Change::Changed(words) if words.is_empty() => Some(format!("{kind} {name}: changed")),
        Change::Changed(words) => Some(format!("{kind} {name}: changed ({})", words.join(", "))),
    }
}

fn named<T: PartialEq>(
    old: &[Arc<T>],
    new: &[Arc<T>],
    name: impl Fn(&T) -> &str,
    words: impl Fn(&T, &T) -> Vec<String>,
) -> Vec<(Name, Change)> {
    let before: HashMap<&str, &Arc<T>> = old.iter().map(|o| (name(o), o)).collect();
    let after: HashMap<&str, ()> = new.iter().map(|n| (name(n), ())).collect();
    let change = |n: &Arc<T>| match before.get(name(n)) {
        None => Change::Added,
        Some(o) if *o == n => Change::Keep,
        Some(o) => Change::Changed(words(o, n)),
    };
    let present = new.iter().map(|n| (Name::from(name(n)), change(n)));
    let gone = old.iter().filter(|o| !after.contains_key(name(o)));
    present.chain(gone.map(|o| (Name::from(name(o)), Change::Removed))).collect()
}

fn node(old: &Node, new: &Node) -> Vec<NodeChange> {
    let changes = facts_that_differ(facts::node(old), facts::node(new));
    let change = |(key, words)| NodeChange { key, words, restart: AT_START_ONLY.contains(&key) };
    changes.into_iter().map(change).collect()
}

fn check(old: &Check, new: &Check) -> Vec<String> {
    if old.probe.kind() != new.probe.kind() {
        return vec![format!("type {} -> {}", old.probe.kind(), new.probe.kind())];
    }
    words_of(facts_that_differ(facts::check(old), facts::check(new)))
}

fn bgp(old: &Bgp, new: &Bgp) -> Vec<String> {
    words_of(facts_that_differ(facts::bgp(old), facts::bgp(new)))
}

fn instance(old: &Instance, new: &Instance) -> Vec<String> {
    let mut words = words_of(facts_that_differ(facts::instance(old), facts::instance(new)));
    words.extend(objects("tunnel", &facts::tunnels(old), &facts::tunnels(new)));
    words.extend(objects("rule", &facts::rules(old), &facts::rules(new)));
    words.extend(objects("route", &facts::routes(old), &facts::routes(new)));
    words.extend(objects("address", &facts::addresses(old), &facts::addresses(new)));
    words.extend(announces(&old.announces, &new.announces));
    words
}

/// Announcements have no names: the n-th is compared with the n-th.
fn announces(old: &[Announce], new: &[Announce]) -> Vec<String> {
    let pairs = (0..old.len().max(new.len())).map(|n| (n, old.get(n), new.get(n)));
    let differ = pairs.filter(|(_, old, new)| old != new);
    let words = differ.flat_map(|(n, old, new)| {
        let words = match (old, new) {
            (Some(old), Some(new)) => announce(old, new),
            (None, _) => vec!["added".to_owned()],
            (_, None) => vec!["removed".to_owned()],
        };
        words.into_iter().map(move |words| format!("announce[{n}] {words}"))
    });
    words.collect()
}

fn announce(old: &Announce, new: &Announce) -> Vec<String> {
    let mut words = words_of(facts_that_differ(facts::announce(old), facts::announce(new)));
    words.extend(prefixes("added", &new.prefixes, &old.prefixes));
    words.extend(prefixes("removed", &old.prefixes, &new.prefixes));
    words
}

/// The members of one set that are not in the other: by name if they are few.
fn prefixes(verb: &str, set: &PrefixSet, other: &PrefixSet) -> Option<String> {
    let block = |family| set.block(family).difference(other.block(family));
    let rest = FAMILIES.map(|family| (family, block(family)));
    let count: usize = rest.iter().map(|(_, block)| block.len()).sum();
    if count == 0 {
        return None;
    }
    if count > LISTED {
        return Some(format!("{count} prefixes {verb}"));
    }
    let members = |(family, block): &(_, crate::bgp::prefix_set::NlriBlock)| -> Vec<Prefix> {
        (0..block.len()).filter_map(|n| block.prefix(*family, n)).collect()
    };
    let names: Vec<String> = rest.iter().flat_map(members).map(|prefix| prefix.to_string()).collect();
    Some(format!("{} {verb}", names.join(" ")))
}

fn words_of(changes: Vec<(&'static str, String)>) -> Vec<String> {
    changes.into_iter().map(|(_, words)| words).collect()
}

/// Facts of one thing before and after: `key old -> new` for each that differs. Both lists have the same keys.
fn facts_that_differ(old: Vec<facts::Fact>, new: Vec<facts::Fact>) -> Vec<(&'static str, String)> {
    let differ = old.into_iter().zip(new).filter(|(old, new)| old.value != new.value);
    let words = |(old, new): (facts::Fact, facts::Fact)| match old.secret {
        true => (old.key, format!("{} changed", old.key)),
        false => (old.key, format!("{} {} -> {}", old.key, old.value, new.value)),
    };
    differ.map(words).collect()
}

/// More changed routes, addresses or prefixes than this are counted, not listed.
const LISTED: usize = 5;

/// Objects by their key: which are added, removed, and changed.
fn objects<K: Eq + Hash>(kind: &str, old: &[(K, String)], new: &[(K, String)]) -> Vec<String> {
    let before: HashMap<&K, &String> = old.iter().map(|(key, words)| (key, words)).collect();
    let after: HashMap<&K, &String> = new.iter().map(|(key, words)| (key, words)).collect();
    let added: Vec<_> = new.iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, w)| w).collect();
    let removed: Vec<_> = old.iter().filter(|(key, _)| !after.contains_key(key)).map(|(_, w)| w).collect();
    let differs = |(key, words): &&(K, String)| before.get(key).is_some_and(|b| *b != words);
    let changed: Vec<_> = new.iter().filter(differs).map(|(_, w)| w).collect();
    let groups = [("added", added), ("removed", removed), ("changed", changed)];
    groups.into_iter().flat_map(|(verb, list)| group(kind, verb, &list)).collect()
}

fn group(kind: &str, verb: &str, list: &[&String]) -> Vec<String> {
    if list.len() > LISTED {
        let ending = if kind == "address" { "es" } else { "s" };
        return vec![format!("{} {kind}{ending} {verb}", list.len())];
    }
    list.iter().map(|words| format!("{kind} {words} {verb}")).collect()
}
