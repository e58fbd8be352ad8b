//! What can be judged at load of tunnels, and of what depends on them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use super::bgp::ReadBgp;
use super::check::ReadCheck;
use super::guards::{Own, target};
use super::instance::ReadInstance;
use super::model::{self, Check, Probe, Route, Rule, Tunnel, When};
use super::reader::join;
use super::report::{Report, Span};
use super::resolve::effective_metric;
use super::rule::ReadRule;
use super::tunnel::ReadTunnel;
use crate::net::{Family, Prefix, family_of};

/// The main routing table: what no rule says otherwise of is looked up there.
const MAIN: u32 = 254;

/// Runs all of it.
pub(super) fn guard(
    report: &Report<'_>,
    checks: &[ReadCheck],
    peers: &[ReadBgp],
    instances: &[ReadInstance],
) {
    let tunnels: Vec<&ReadTunnel> = instances.iter().flat_map(|i| &i.tunnels).collect();
    if tunnels.is_empty() {
        return;
    }
    remotes_are_elsewhere(report, instances, &tunnels);
    ends_are_unique(report, &tunnels);
    ways_do_not_lead_back(report, instances, &tunnels);
    nothing_outlives_its_tunnel(report, instances, &tunnels);
    peers_are_there_before(report, peers, instances);
    let by_name: HashMap<&str, &ReadCheck> =
        checks.iter().rev().filter_map(|c| Some((c.name.as_deref()?, c))).collect();
    let all = All { instances, tunnels: &tunnels };
    for instance in instances {
        required_tunnels_are_there(report, instance, &all, &by_name, peers);
    }
}

/// After a takeover packets for such a remote would end here.
fn remotes_are_elsewhere(report: &Report<'_>, instances: &[ReadInstance], tunnels: &[&ReadTunnel]) {
    let own = Own::new(instances);
    for read in tunnels {
        let remote = read.tunnel.remote;
        let Some((prefix, span)) = own.covering(Prefix::host(remote)) else { continue };
        let line = report.line_of(&span);
        let words = format!(
            "{remote} lies in our own {prefix} (line {line}): as MASTER this machine would draw the tunnel's packets to itself; the other end needs an address outside of what is announced"
        );
        report.error(read.remote.clone(), join(&read.path, "remote"), words);
    }
}

/// The kernel tells arriving packets of tunnels apart by mode, ends and key.
fn ends_are_unique(report: &Report<'_>, tunnels: &[&ReadTunnel]) {
    let mut names: HashMap<&str, &Span> = HashMap::new();
    let mut ends: HashMap<_, (&str, &Span)> = HashMap::new();
    for read in tunnels {
        let t = &read.tunnel;
        if let Some(before) = names.insert(&t.name, &read.name) {
            let line = report.line_of(before);
            let words = format!(
                "there is a tunnel `{}` already, in line {line}; every device needs its own name",
                t.name
            );
            report.error(read.name.clone(), join(&read.path, "name"), words);
            continue;
        }
        let key = (t.mode, t.local, t.remote, t.ikey, &t.device);
        if let Some((other, before)) = ends.insert(key, (&t.name, &read.remote)) {
            let line = report.line_of(before);
            let mend =
                if t.mode.has_keys() { "give each another key" } else { "use mode gre with a key for each" };
            let words = format!(
                "`{other}` in line {line} has the same ends: what arrives could not be told apart; {mend}"
            );
            report.error(read.remote.clone(), join(&read.path, "remote"), words);
        }
    }
}

/// What is there: as MASTER all of it, as BACKUP what is there always.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Master,
    Backup,
}

impl As {
    fn has(self, when: When) -> bool {
        self == As::Master || when == When::Always
    }
}

/// The longest prefix wins, and of equal ones the lower metric.
type Rank = (u8, Reverse<u32>);

fn rank(route: &Route) -> Rank {
    (route.to.len(), Reverse(effective_metric(route.to, route.metric)))
}

/// Of the route that the kernel makes of an address (IP6_RT_PRIO_ADDRCONF).
fn rank_of_net(net: Prefix) -> Rank {
    (net.len(), Reverse(if net.family() == Family::V6 { 256 } else { 0 }))
}

/// What leads packets for an address into a tunnel.
struct Way {
    tunnel: usize,
    /// In words, with its line.
    by: String,
}

/// Recursive routing: the packets that carry must not be carried by what they carry, nor in a ring of tunnels.
fn ways_do_not_lead_back(report: &Report<'_>, instances: &[ReadInstance], tunnels: &[&ReadTunnel]) {
    for (start, read) in tunnels.iter().enumerate() {
        let there = [As::Master, As::Backup].into_iter().filter(|is| is.has(read.tunnel.when));
        let Some(by) = there.filter_map(|is| leads_back(report, instances, tunnels, start, is)).next() else {
            continue;
        };
        let remote = read.tunnel.remote;
        let words = format!(
            "{remote} would be reached through `{}` itself, by {by}: no packet would ever leave; add a route to {} past the tunnel, or name the tunnel's `device`",
            read.tunnel.name,
            Prefix::host(remote)
        );
        report.error(read.remote.clone(), join(&read.path, "remote"), words);
    }
}

/// What leads the packets of that tunnel back into it, if something does.
fn leads_back(
    report: &Report<'_>,
    instances: &[ReadInstance],
    tunnels: &[&ReadTunnel],
    start: usize,
    is: As,
) -> Option<String> {
    let (mut through, mut first) = (vec![start], None);
    while let Some(way) = way(report, instances, tunnels, tunnels[through[through.len() - 1]], is) {
        first.get_or_insert(way.by);
        if way.tunnel == start {
            return first;
        }
        if through.contains(&way.tunnel) {
            break;
        }
        through.push(way.tunnel);
    }
    None
}

/// Which tunnel carries the packets of `of`, by the longest prefix among what the file says; the kernel has more to
/// say, which is looked at at run time.
fn way(
    report: &Report<'_>,
    instances: &[ReadInstance],
    tunnels: &[&ReadTunnel],
    of: &ReadTunnel,
    is: As,
) -> Option<Way> {
    let index = |dev: &str| tunnels.iter().position(|t| t.tunnel.name == dev && is.has(t.tunnel.when));
    if let Some(device) = &of.tunnel.device {
        return index(device).map(|tunnel| Way { tunnel, by: format!("its device `{device}`") });
    }
    let remote = of.tunnel.remote;
    // A marked packet goes by rules that lead where we do not look.
    let routes = instances.iter().flat_map(|i| &i.routes).filter(|_| of.tunnel.fwmark == 0);
    let routes =
        routes.filter(|r| r.route.table == MAIN && r.route.to.contains(remote) && is.has(r.route.when));
    let by_route = routes.map(|read| {
        let by = || format!("the route to {} in line {}", read.route.to, report.line_of(&read.to));
        let tunnel = devices(&read.route, tunnels).iter().find_map(|dev| index(dev));
        (rank(&read.route), tunnel.map(|tunnel| Way { tunnel, by: by() }))
    });
    let there = tunnels.iter().enumerate().filter(|(_, read)| is.has(read.tunnel.when));
    let by_address = there.flat_map(|(tunnel, read)| {
        let nets = read.tunnel.addresses.iter().filter_map(|(a, len)| Prefix::containing(*a, *len));
        nets.filter(|net| net.contains(remote) && !net.is_host()).map(move |net| {
            let by = format!("the address in {net} in line {}", report.line_of(&read.addresses));
            (rank_of_net(net), Some(Way { tunnel, by }))
        })
    });
    by_route.chain(by_address).max_by_key(|(rank, _)| *rank).and_then(|(_, way)| way)
}

/// The devices that a route uses, as far as the file says: a gateway can lie in the net of a tunnel.
fn devices(route: &Route, tunnels: &[&ReadTunnel]) -> Vec<String> {
    let hops = route.nexthops.iter().flat_map(|n| &n.hops).map(|hop| (hop.dev.as_ref(), hop.via));
    let all = hops.chain([(route.dev.as_ref(), route.via)]);
    all.filter_map(|(dev, via)| match (dev, via) {
        (Some(dev), _) => Some(dev.clone()),
        (None, Some(via)) => Some(tunnels.iter().find(|t| is_inside(&t.tunnel, via))?.tunnel.name.clone()),
        (None, None) => None,
    })
    .collect()
}

fn is_inside(tunnel: &Tunnel, address: IpAddr) -> bool {
    let nets = tunnel.addresses.iter().filter_map(|(a, len)| Prefix::containing(*a, *len));
    nets.into_iter().any(|net| net.contains(address))
}

/// What is there always cannot hang on what is there as MASTER only.
fn nothing_outlives_its_tunnel(report: &Report<'_>, instances: &[ReadInstance], tunnels: &[&ReadTunnel]) {
    let passing = |dev: &str| tunnels.iter().find(|t| t.tunnel.when == When::Master && t.tunnel.name == dev);
    for instance in instances {
        for read in instance.routes.iter().filter(|r| r.route.when == When::Always) {
            let Some(on) = devices(&read.route, tunnels).iter().find_map(|dev| passing(dev)) else {
                continue;
            };
            let words = format!(
                "is to be there always, but its tunnel `{}` (line {}) as MASTER only; give both the same `when`",
                on.tunnel.name,
                report.line_of(&on.name)
            );
            report.error(read.to.clone(), format!("{}.route[{}]", instance.path, read.index), words);
        }
        for read in instance.addresses.iter().filter(|a| a.address.when == When::Always) {
            let Some(on) = passing(&read.address.dev) else { continue };
            let words = format!(
                "is to be there always, but its tunnel `{}` (line {}) as MASTER only; give both the same `when`",
                on.tunnel.name,
                report.line_of(&on.name)
            );
            report.error(read.span.clone(), format!("{}.address[{}]", instance.path, read.index), words);
        }
    }
}

/// A session that begins with the takeover comes seconds after it.
fn peers_are_there_before(report: &Report<'_>, peers: &[ReadBgp], instances: &[ReadInstance]) {
    let passing = instances.iter().flat_map(|i| &i.tunnels).filter(|t| t.tunnel.when == When::Master);
    for tunnel in passing {
        let inside =
            |peer: &&ReadBgp| peer.bgp.as_ref().is_some_and(|b| is_inside(&tunnel.tunnel, b.session.peer));
        for peer in peers.iter().filter(inside) {
            let words = format!(
                "is at the other end of the tunnel `{}` (line {}), which exists as MASTER only: no session can be there before a takeover, and the announcement comes seconds after it; write when = \"always\" at the tunnel",
                tunnel.tunnel.name,
                report.line_of(&tunnel.name)
            );
            report.warning(peer.peer_span.clone(), join(&peer.path, "peer"), words);
        }
    }
}

/// `require` is asked before a takeover: through what only a takeover makes, the answer would always be no.
fn required_tunnels_are_there(
    report: &Report<'_>,
    instance: &ReadInstance,
    all: &All<'_>,
    checks: &HashMap<&str, &ReadCheck>,
    peers: &[ReadBgp],
) {
    let Some(require) = &instance.require else { return };
    for (name, span) in &require.checks {
        let Some(check) = checks.get(&**name).and_then(|read| read.check.as_ref()) else { continue };
        let ask = Ask::of(check, peers);
        let never = "it could never be met, so that no takeover would ever happen";
        let (path, span) = (join(&require.path, "checks"), span.clone());
        if let Some(tunnel) = all.hangs_on(&ask).filter(|t| t.tunnel.when == When::Master) {
            let words = format!(
                "`{name}` goes through the tunnel `{}` (line {}), which exists as MASTER only: {never}; write when = \"always\" at the tunnel and what leads into it",
                tunnel.tunnel.name,
                report.line_of(&tunnel.name)
            );
            report.error(span, path, words);
        } else if let Some((tunnel, by)) = all.found_as_master_only(report, &ask) {
            // The machine may have a way of its own that the file does not know.
            let words = format!(
                "`{name}` goes through the tunnel `{}` by {by}, which exists as MASTER only: unless the machine's own routes lead there, {never}; write when = \"always\" there",
                tunnel.tunnel.name
            );
            report.warning(span, path, words);
        }
    }
}

/// What is known at load of the packets of a check.
#[derive(Default)]
struct Ask<'c> {
    device: Option<&'c str>,
    source: Option<IpAddr>,
    fwmark: Option<u32>,
    to: Option<IpAddr>,
}

impl<'c> Ask<'c> {
    fn of(check: &'c Check, peers: &'c [ReadBgp]) -> Self {
        let to = target(check);
        match &check.probe {
            Probe::Ping(model::Ping { origin, .. })
            | Probe::Http(model::Http { origin, .. })
            | Probe::Tcp(model::Tcp { origin, .. })
            | Probe::Dns(model::Dns { origin, .. }) => {
                Ask { device: origin.device.as_deref(), source: origin.source, fwmark: origin.fwmark, to }
            }
            Probe::Bfd(session) => {
                Ask { device: session.path.device.as_deref(), source: session.path.local, fwmark: None, to }
            }
            Probe::Link(link) => Ask { device: Some(&link.device), ..Ask::default() },
            Probe::Bgp(of) => {
                let session = peers.iter().filter_map(|p| p.bgp.as_ref()).map(|b| &b.session);
                let session = session.into_iter().find(|s| *s.name == *of.peer);
                let source = session.and_then(|s| s.local_address);
                Ask { source, to: session.map(|s| s.peer), ..Ask::default() }
            }
            Probe::Exec(_) | Probe::File(_) => Ask::default(),
        }
    }
}

/// What the file says of ways.
struct All<'i> {
    instances: &'i [ReadInstance],
    tunnels: &'i [&'i ReadTunnel],
}

impl<'i> All<'i> {
    /// The tunnel that such packets go through by their device or source, or as MASTER by their destination.
    fn hangs_on(&self, ask: &Ask<'_>) -> Option<&'i ReadTunnel> {
        let by_source = |t: &ReadTunnel| t.tunnel.addresses.iter().any(|(a, _)| Some(*a) == ask.source);
        let named = |t: &&&ReadTunnel| ask.device == Some(&*t.tunnel.name) || by_source(t);
        let named = self.tunnels.iter().find(named).copied();
        named.filter(|t| t.tunnel.when == When::Master).or_else(|| {
            let (tunnel, _) = self.way(ask, As::Master)?;
            tunnel
        })
    }

    /// The tunnel that such packets go through as MASTER but not as BACKUP, and what leads them there.
    fn found_as_master_only(&self, report: &Report<'_>, ask: &Ask<'_>) -> Option<(&'i ReadTunnel, String)> {
        let (tunnel, by) = self.way(ask, As::Master)?;
        let tunnel = tunnel?;
        let before = self.way(ask, As::Backup).and_then(|(tunnel, _)| tunnel);
        let stays = before.is_some_and(|before| before.tunnel.name == tunnel.tunnel.name);
        (!stays).then(|| (tunnel, format!("what line {} says", report.line_of(by))))
    }

    /// Where packets go: the tunnel (None: past all of them) and the place of what says so. None if the file says nothing.
    fn way(&self, ask: &Ask<'_>, is: As) -> Option<(Option<&'i ReadTunnel>, &'i Span)> {
        let to = ask.to.filter(|_| ask.device.is_none())?;
        let mut rules: Vec<&ReadRule> = self.instances.iter().flat_map(|i| &i.rules).collect();
        rules.retain(|read| is.has(read.rule.when) && applies(&read.rule, to, ask));
        rules.sort_by_key(|read| read.rule.priority);
        for read in rules {
            if let Some((tunnel, by)) = self.look_up(to, read.rule.table, is) {
                // Of the two the one that is not there always.
                let by = if read.rule.when == When::Master { &read.span } else { by };
                return Some((tunnel, by));
            }
        }
        self.look_up(to, MAIN, is)
    }

    fn look_up(&self, to: IpAddr, table: u32, is: As) -> Option<(Option<&'i ReadTunnel>, &'i Span)> {
        let there =
            |dev: &str| self.tunnels.iter().find(|t| t.tunnel.name == dev && is.has(t.tunnel.when)).copied();
        let routes = self.instances.iter().flat_map(|i| &i.routes);
        let fits = |r: &Route| r.table == table && r.to.contains(to) && is.has(r.when);
        // Beside our default route in the main table there is the machine's own.
        let counts = |r: &Route| !(r.table == MAIN && r.to.is_default());
        let by_route = routes.filter(|read| fits(&read.route) && counts(&read.route)).map(|read| {
            let tunnel = devices(&read.route, self.tunnels).iter().find_map(|dev| there(dev));
            (rank(&read.route), (tunnel, &read.to))
        });
        let inside = self.tunnels.iter().filter(|t| table == MAIN && is.has(t.tunnel.when));
        let by_address = inside.flat_map(|read| {
            let nets = read.tunnel.addresses.iter().filter_map(|(a, len)| Prefix::containing(*a, *len));
            let nets = nets.filter(|net| net.contains(to));
            nets.map(|net| (rank_of_net(net), (Some(*read), &read.addresses)))
        });
        by_route.chain(by_address).max_by_key(|(rank, _)| *rank).map(|(_, way)| way)
    }
}

/// True if the kernel looks at the rule for packets of ours to that address. (What arrives through a device is none.)
fn applies(rule: &Rule, to: IpAddr, ask: &Ask<'_>) -> bool {
    let from_ok = rule.from.is_none_or(|from| ask.source.is_some_and(|source| from.contains(source)));
    let mark_ok = rule.fwmark.is_none_or(|(mark, mask)| ask.fwmark.unwrap_or(0) & mask == mark);
    let to_ok = rule.to.is_none_or(|prefix| prefix.contains(to));
    rule.family == family_of(to) && rule.iif.is_none() && from_ok && mark_ok && to_ok
}
