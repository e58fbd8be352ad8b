//! The guards that can be judged at load (SPEC 4): what would be asked of ourselves after a takeover, what would
//! leave the allowed prefixes, what hangs on DNS or on one packet alone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use reqwest::Url;

use super::announce::ReadAnnounce;
use super::bgp::ReadBgp;
use super::check::ReadCheck;
use super::instance::ReadInstance;
use super::model::{Check, Host, Node, Probe};
use super::probe_http::literal_host;
use super::reader::join;
use super::report::{Report, Span};
use crate::net::Prefix;

/// Runs all of them.
pub(super) fn guard(
    report: &Report<'_>,
    node: &Node,
    checks: &[ReadCheck],
    peers: &[ReadBgp],
    instances: &[ReadInstance],
) {
    if let Some(allowed) = &node.allowed_prefixes {
        exports_are_allowed(report, &PrefixMap::new(allowed.iter().map(|p| (*p, ()))), instances);
    }
    default_exports(report, instances);
    let by_name: HashMap<&str, &ReadCheck> =
        checks.iter().rev().filter_map(|c| Some((c.name.as_deref()?, c))).collect();
    let own = Own::new(instances);
    primaries_are_elsewhere(report, &own, &by_name, instances);
    peers_are_elsewhere(report, &own, peers);
    let mut hasty = BTreeSet::new();
    for instance in instances {
        depends_on_dns(report, &by_name, instance);
        needs_no_second_failure(report, &by_name, instance, &mut hasty);
    }
}

fn exports_are_allowed(report: &Report<'_>, allowed: &PrefixMap<()>, instances: &[ReadInstance]) {
    for instance in instances {
        for read in instance.routes.iter().filter(|r| r.route.export) {
            if allowed.covering(read.route.to).is_none() {
                let words = format!(
                    "{} is outside of node.allowed_prefixes, so it must never be announced; add it there, or write export = false",
                    read.route.to
                );
                report.error(read.to.clone(), format!("{}.route[{}].to", instance.path, read.index), words);
            }
        }
    }
}

fn default_exports(report: &Report<'_>, instances: &[ReadInstance]) {
    for instance in instances {
        for read in instance.routes.iter().filter(|r| r.route.export && r.route.to.is_default()) {
            let words = "announces the default route: the whole Internet would be sent here; write export = false if that is not meant";
            report.warning(read.to.clone(), format!("{}.route[{}].to", instance.path, read.index), words);
        }
    }
}

/// Refuses primary checks whose target will be this machine once it is MASTER.
fn primaries_are_elsewhere(
    report: &Report<'_>,
    own: &Own<'_>,
    checks: &HashMap<&str, &ReadCheck>,
    instances: &[ReadInstance],
) {
    let mut told: HashMap<&str, ()> = HashMap::new();
    for gate in instances.iter().filter_map(|i| i.primary.as_ref()) {
        for (name, _) in &gate.checks {
            let Some(read) = checks.get(&**name) else { continue };
            let Some(target) = read.check.as_ref().and_then(target) else { continue };
            let Some((prefix, span)) = own.covering(Prefix::host(target)) else { continue };
            if told.insert(name, ()).is_none() {
                let (key, at) = &read.target;
                let line = report.line_of(&span);
                let words = format!(
                    "{target} lies in our own {prefix} (line {line}): after a takeover we would be asking ourselves, and hand back at once; probe an address that only the primary has"
                );
                report.error(at.clone(), join(&read.path, key), words);
            }
        }
    }
}

/// Refuses BGP peers whose address will be this machine's once it is MASTER.
fn peers_are_elsewhere(report: &Report<'_>, own: &Own<'_>, peers: &[ReadBgp]) {
    for peer in peers {
        let Some(address) = peer.bgp.as_ref().map(|bgp| bgp.session.peer) else { continue };
        let Some((prefix, span)) = own.covering(Prefix::host(address)) else { continue };
        let line = report.line_of(&span);
        let words = format!(
            "{address} lies in our own {prefix} (line {line}): as MASTER this machine would draw the peer's address to itself; a peer must be outside of what is announced"
        );
        report.error(peer.peer_span.clone(), join(&peer.path, "peer"), words);
    }
}

/// Everything that draws traffic to this machine while it is MASTER, with its place.
pub(super) struct Own<'i> {
    kernel: PrefixMap<Span>,
    announces: Vec<&'i ReadAnnounce>,
}

impl<'i> Own<'i> {
    /// Of all instances.
    pub fn new(instances: &'i [ReadInstance]) -> Self {
        let routes = instances.iter().flat_map(|i| &i.routes).filter(|read| read.route.draws_to_us());
        let routes = routes.map(|read| (read.route.to, read.to.clone()));
        let addresses = instances.iter().flat_map(|i| &i.addresses);
        let addresses = addresses.map(|read| (Prefix::host(read.address.address), read.span.clone()));
        // The inner end of a tunnel is this machine, whatever its state.
        let inner = instances.iter().flat_map(|i| &i.tunnels).flat_map(|read| {
            let hosts = read.tunnel.addresses.iter().map(|(address, _)| Prefix::host(*address));
            hosts.map(|host| (host, read.addresses.clone()))
        });
        Own {
            kernel: PrefixMap::new(routes.chain(addresses).chain(inner)),
            announces: instances.iter().flat_map(|i| &i.announces).collect(),
        }
    }

    /// What of it holds `prefix`. An announced default route holds everything and draws nothing of ours.
    pub fn covering(&self, prefix: Prefix) -> Option<(Prefix, Span)> {
        let announced = || {
            self.announces.iter().filter_map(|a| a.prefixes.as_ref()).find_map(|prefixes| {
                let found = prefixes.set.covering(prefix).filter(|p| !p.is_default())?;
                Some((found, prefixes.span_of(found)))
            })
        };
        self.kernel.covering(prefix).map(|(found, span)| (found, span.clone())).or_else(announced)
    }
}

/// The address that a check asks, if the file says which.
pub(super) fn target(check: &Check) -> Option<IpAddr> {
    let of_host = |host: &Host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    };
    match &check.probe {
        Probe::Ping(ping) => of_host(&ping.host),
        Probe::Tcp(tcp) => of_host(&tcp.host),
        Probe::Dns(dns) => of_host(&dns.server),
        Probe::Http(http) => match &http.connect_to {
            Some(host) => of_host(host),
            None => Url::parse(&http.url).ok().as_ref().and_then(literal_host),
        },
        Probe::Bfd(session) => Some(session.path.remote),
        Probe::Exec(_) | Probe::Link(_) | Probe::File(_) | Probe::Bgp(_) => None,
    }
}

/// True if the check asks a host that must be looked up first.
fn needs_dns(check: &Check) -> bool {
    let remote = matches!(check.probe, Probe::Ping(_) | Probe::Tcp(_) | Probe::Http(_) | Probe::Dns(_));
    remote && target(check).is_none()
}

fn depends_on_dns(report: &Report<'_>, checks: &HashMap<&str, &ReadCheck>, instance: &ReadInstance) {
    let Some(primary) = &instance.primary else { return };
    let all: Option<Vec<&Check>> =
        primary.checks.iter().map(|(name, _)| checks.get(&**name)?.check.as_ref()).collect();
    let Some(all) = all.filter(|all| !all.is_empty()) else { return };
    if all.iter().all(|check| needs_dns(check)) {
        let words = "every check of the primary depends on DNS: when names are not answered, nothing is known of the primary; let at least one ask an address";
        report.warning(primary.span.clone(), join(&primary.path, "checks"), words);
    }
}

/// A probe of its that fails once is down: where packets may be lost, or a server be slow for once, that says little. (A link
/// and a session tell of themselves, and a file is not asked over a network.)
fn falls_at_once(check: &Check) -> bool {
    let says_little = match &check.probe {
        Probe::Link(_) | Probe::Bgp(_) | Probe::Bfd(_) | Probe::File(_) => false,
        // Several packets are a row in themselves, if one of them may be lost.
        Probe::Ping(ping) => ping.max_loss * f64::from(ping.count) < 100.0,
        Probe::Http(_) | Probe::Tcp(_) | Probe::Dns(_) | Probe::Exec(_) => true,
    };
    says_little && check.fall.failures() == 1
}

/// As many of its primary's checks as make a takeover are down after one failure each, and whoever asks for that gets no
/// confirmation by a second. Each check is told of once (`told`).
fn needs_no_second_failure<'c>(
    report: &Report<'_>,
    checks: &HashMap<&str, &'c ReadCheck>,
    instance: &ReadInstance,
    told: &mut BTreeSet<&'c str>,
) {
    let (Some(primary), Some(name)) = (&instance.primary, &instance.name) else { return };
    let read = primary.checks.iter().filter_map(|(name, _)| checks.get(&**name).copied());
    let hasty: Vec<&ReadCheck> = read.filter(|read| read.check.as_ref().is_some_and(falls_at_once)).collect();
    let needed = primary.down_when.0.needed(primary.checks.len());
    if hasty.len() < needed {
        return;
    }
    let each = if needed > 1 { format!(" each of {needed} checks") } else { String::new() };
    for check in hasty {
        if check.name.as_deref().is_some_and(|name| told.insert(name)) {
            let words = format!(
                "with it a single failure{each}, be it one lost packet, is a takeover by `{name}` without confirmation; make it at least 2 (the default is 3), or a window such as {{ failures = 2, of = 3 }}"
            );
            report.warning(check.fall_span.clone(), join(&check.path, "fall"), words);
        }
    }
}

/// Prefixes with something to each, searched by what covers another prefix: one look-up for each prefix length
/// that there is.
pub(super) struct PrefixMap<T> {
    entries: HashMap<Prefix, T>,
    /// Longest first.
    lengths: Vec<u8>,
}

impl<T> PrefixMap<T> {
    /// Of equal prefixes the first stays.
    pub fn new(entries: impl Iterator<Item = (Prefix, T)>) -> Self {
        let mut map = HashMap::new();
        for (prefix, value) in entries {
            map.entry(prefix).or_insert(value);
        }
        let lengths: BTreeSet<u8> = map.keys().map(|prefix| prefix.len()).collect();
        PrefixMap { entries: map, lengths: lengths.into_iter().rev().collect() }
    }

    /// The longest prefix that is `prefix` or covers it.
    pub fn covering(&self, prefix: Prefix) -> Option<(Prefix, &T)> {
        self.lengths.iter().filter(|len| **len <= prefix.len()).find_map(|len| {
            let wider = Prefix::containing(prefix.address(), *len)?;
            self.entries.get(&wider).map(|value| (wider, value))
        })
    }
}
