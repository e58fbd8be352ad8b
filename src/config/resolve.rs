//! What can only be judged when everything has been read: names, references, quorums, objects of one key.

use std::collections::{HashMap, HashSet};

use super::check::ReadCheck;
use super::diagnostic::counted;
use super::instance::{ReadGate, ReadInstance};
use super::model::{Name, Quorum};
use super::reader::join;
use super::report::{Report, Span};
use super::rule::ReadRule;
use crate::fib::normal;
use crate::fib::object::{Key, RuleObject};
use crate::net::{Family, Prefix};

/// Runs all of it. Unless all tables were read, what seems to be missing may just not have been: then only the
/// duplicates are looked for.
pub(super) fn resolve(report: &Report<'_>, checks: &[ReadCheck], instances: &[ReadInstance], all_read: bool) {
    let check_names = checks.iter().map(|c| (c.name.as_ref(), &c.path, &c.name_span));
    duplicate_names(report, check_names);
    duplicate_names(report, instances.iter().map(|i| (i.name.as_ref(), &i.path, &i.name_span)));
    nested_rules(report, instances);
    duplicate_objects(report, instances);
    if !all_read {
        return;
    }
    let known: HashSet<&str> = checks.iter().filter_map(|c| c.name.as_deref()).collect();
    let mut used: HashSet<&str> = HashSet::new();
    for instance in instances {
        for read in &instance.routes {
            let (named, path) = &read.hop_checks;
            used.extend(named.iter().map(|(name, _)| &**name));
            for (name, span) in named {
                reference(report, name, span, path, &known, checks);
            }
        }
        for gate in [&instance.primary, &instance.require].into_iter().flatten() {
            used.extend(gate.checks.iter().map(|(name, _)| &**name));
            references(report, gate, &known, checks);
            quorums(report, gate);
        }
        if let (Some(primary), Some(require)) = (&instance.primary, &instance.require) {
            shared(report, primary, require);
        }
        effects(report, instance);
    }
    if !instances.is_empty() && instances.iter().all(|i| i.gates_read) {
        unused(report, checks, &used);
    }
}

fn unused(report: &Report<'_>, checks: &[ReadCheck], used: &HashSet<&str>) {
    for check in checks {
        let Some(name) = check.name.as_deref().filter(|name| !used.contains(name)) else { continue };
        let words =
            format!("no instance uses the check `{name}`; it is probed and shown, and decides nothing");
        report.warning(check.name_span.clone(), join(&check.path, "name"), words);
    }
}

/// Refuses a name that is taken already among its kind.
pub(super) fn duplicate_names<'a>(
    report: &Report<'_>,
    names: impl Iterator<Item = (Option<&'a Name>, &'a String, &'a Span)>,
) {
    let mut first: HashMap<&str, &Span> = HashMap::new();
    for (name, path, span) in names {
        let Some(name) = name else { continue };
        if let Some(before) = first.get(&**name) {
            let line = report.line_of(before);
            let words = format!("`{name}` is taken already, in line {line}; every name must be its own");
            report.error(span.clone(), join(path, "name"), words);
        } else {
            first.insert(name, span);
        }
    }
}

fn references(report: &Report<'_>, gate: &ReadGate, known: &HashSet<&str>, checks: &[ReadCheck]) {
    for (name, span) in &gate.checks {
        reference(report, name, span, &join(&gate.path, "checks"), known, checks);
    }
}

fn reference(
    report: &Report<'_>,
    name: &Name,
    span: &Span,
    path: &str,
    known: &HashSet<&str>,
    checks: &[ReadCheck],
) {
    if known.contains(&**name) {
        return;
    }
    let near = report.did_you_mean(name, checks.iter().filter_map(|c| c.name.as_deref()));
    let near = if near.is_empty() { "; add a [[check]] of that name".to_owned() } else { near };
    report.error(span.clone(), path, format!("there is no check `{name}`{near}"));
}

fn quorums(report: &Report<'_>, gate: &ReadGate) {
    if !gate.whole {
        return;
    }
    let total = gate.checks.len();
    let mut possible = true;
    for (key, (quorum, span)) in [("down_when", &gate.down_when), ("up_when", &gate.up_when)] {
        if let Quorum::AtLeast(n) = quorum {
            if *n as usize > total {
                let checks = counted(total, "check");
                let words = format!(
                    "is more than can ever be: there {} {checks}",
                    if total == 1 { "is" } else { "are" }
                );
                report.error(span.clone(), join(&gate.path, key), words);
                possible = false;
            }
        }
    }
    let (down, up) = (gate.down_when.0.needed(total), gate.up_when.0.needed(total));
    if possible && down + up <= total {
        let words = format!(
            "{down} down and {up} up of {total} can be at the same time: the primary would be down and well at once; raise down_when or up_when"
        );
        report.error(gate.down_when.1.clone(), join(&gate.path, "down_when"), words);
    }
}

/// A check that must be down for a takeover and up for an announcement.
fn shared(report: &Report<'_>, primary: &ReadGate, require: &ReadGate) {
    if !primary.whole || !require.whole {
        return;
    }
    let in_primary: HashSet<&str> = primary.checks.iter().map(|(name, _)| &**name).collect();
    let both: Vec<_> = require.checks.iter().filter(|(name, _)| in_primary.contains(&**name)).collect();
    let Some((name, span)) = both.first() else { return };
    let down = primary.down_when.0.needed(primary.checks.len());
    let shared_and_down = down.saturating_sub(primary.checks.len().saturating_sub(both.len()));
    let up_at_most = require.checks.len().saturating_sub(shared_and_down);
    let (key, line) = (join(&require.path, "checks"), report.line_of(&primary.span));
    if up_at_most < require.up_when.0.needed(require.checks.len()) {
        let words = format!(
            "`{name}` is a check of `primary` too (line {line}): a primary that is down would leave `require` unmet, so that no takeover could ever happen; require what is near, such as the own uplink"
        );
        report.error(span.clone(), key, words);
    } else {
        let words = format!(
            "`{name}` is a check of `primary` too (line {line}): when the primary dies, less is left to meet `require`"
        );
        report.warning(span.clone(), key, words);
    }
}

fn effects(report: &Report<'_>, instance: &ReadInstance) {
    let Some(name) = &instance.name else { return };
    if !instance.does_something {
        let words = format!(
            "`{name}` has no route, no address, no tunnel, no rule, no announcement and no script: its state changes nothing"
        );
        report.warning(instance.name_span.clone(), instance.path.clone(), words);
    }
    if !instance.gates_read {
        return;
    }
    if instance.primary.is_some() && instance.require.is_none() {
        let words = format!(
            "`{name}` has a primary and no `require`: if this machine itself is cut off, the primary looks dead and is taken over from; require a check of the own uplink"
        );
        report.warning(instance.name_span.clone(), instance.path.clone(), words);
    }
    if instance.primary.is_none() && instance.require.is_none() && instance.hangs_on_its_state() {
        let words = format!("`{name}` has neither `primary` nor `require`: it is MASTER always");
        report.warning(instance.name_span.clone(), instance.path.clone(), words);
    }
}

/// Two routes, addresses or rules that the kernel would take for one.
fn duplicate_objects(report: &Report<'_>, instances: &[ReadInstance]) {
    let mut first: HashMap<Key, &Span> = HashMap::new();
    for instance in instances {
        for read in &instance.routes {
            let route = &read.route;
            let metric = effective_metric(route.to, route.metric);
            let key = Key::Route { table: route.table, to: route.to, metric };
            if let Some(before) = first.get(&key) {
                let line = report.line_of(before);
                let words = format!(
                    "the route to {} with this table and metric is there already, in line {line}; the kernel can hold one: set another `metric` or `table`",
                    route.to
                );
                report.error(read.to.clone(), format!("{}.route[{}].to", instance.path, read.index), words);
            } else {
                first.insert(key, &read.to);
            }
        }
        let addresses = instance.addresses.iter().map(|read| {
            let path = format!("{}.address[{}].address", instance.path, read.index);
            (&read.address.dev, read.address.address, &read.span, path)
        });
        let on_tunnels = instance.tunnels.iter().flat_map(|read| {
            let path = join(&read.path, "addresses");
            let addresses = read.tunnel.addresses.iter();
            addresses.map(move |(address, _)| (&read.tunnel.name, *address, &read.addresses, path.clone()))
        });
        for (dev, address, span, path) in addresses.chain(on_tunnels) {
            // An address is there once on a device, whatever its prefix length.
            let key = Key::Address { dev: dev.clone(), address, len: 0 };
            if let Some(before) = first.get(&key) {
                let line = report.line_of(before);
                let words = format!("{address} on {dev} is there already, in line {line}; list it once");
                report.error(span.clone(), path, words);
            } else {
                first.insert(key, span);
            }
        }
        for read in &instance.rules {
            let key = Key::Rule(Box::new(normal::rule_object(&read.rule)));
            if let Some(before) = first.get(&key) {
                let line = report.line_of(before);
                let words = format!("the same rule is there already, in line {line}; list it once");
                report.error(read.span.clone(), read.path.clone(), words);
            } else {
                first.insert(key, &read.span);
            }
        }
    }
}

/// Rules of which removing the one would remove the other: the kernel takes for the rule to remove the first of that priority
/// and table that has what the request names, and a rule with fewer selectors names less.
fn nested_rules(report: &Report<'_>, instances: &[ReadInstance]) {
    let rules: Vec<(&ReadRule, RuleObject)> =
        instances.iter().flat_map(|i| &i.rules).map(|read| (read, normal::rule_object(&read.rule))).collect();
    for (n, (read, rule)) in rules.iter().enumerate() {
        let clashes = |(_, other): &&(&ReadRule, RuleObject)| {
            other != rule && (removes_as_well(rule, other) || removes_as_well(other, rule))
        };
        let Some((before, _)) = rules.iter().take(n).find(clashes) else { continue };
        let line = report.line_of(&before.span);
        let words = format!(
            "differs from the rule of line {line} only in that one of them has more of `from`, `to`, `fwmark`, `iif`: at one priority the kernel would remove the one for the other; give them different values of `priority`"
        );
        report.error(read.span.clone(), read.path.clone(), words);
    }
}

/// True if a request to remove `rule` fits `other`.
fn removes_as_well(rule: &RuleObject, other: &RuleObject) -> bool {
    fn fits<T: PartialEq>(named: Option<&T>, has: Option<&T>) -> bool {
        named.is_none() || named == has
    }
    (rule.family, rule.priority, rule.table) == (other.family, other.priority, other.table)
        && fits(rule.from.as_ref(), other.from.as_ref())
        && fits(rule.to.as_ref(), other.to.as_ref())
        && fits(rule.fwmark.as_ref(), other.fwmark.as_ref())
        && fits(rule.iif.as_ref(), other.iif.as_ref())
}

/// The metric that the kernel gives the route: for IPv6 none means 1024 (IP6_RT_PRIO_USER).
pub(super) fn effective_metric(to: Prefix, metric: u32) -> u32 {
    if metric == 0 && to.family() == Family::V6 { 1024 } else { metric }
}
