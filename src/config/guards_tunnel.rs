//! What can be judged at load of tunnels, and of what depends on them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::bgp::ReadBgp;
use super::check::ReadCheck;
use super::guards::{Own, target};
use super::instance::ReadInstance;
use super::model::{Check, Origin, Probe, Route, Tunnel, When};
use super::reader::join;
use super::report::{Report, Span};
use super::tunnel::ReadTunnel;
use crate::net::Prefix;

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
    for instance in instances {
        required_tunnels_are_there(report, instance, instances, &by_name);
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

/// What leads packets for an address into a tunnel.
struct Way {
    tunnel: usize,
    /// In words, with its line.
    by: String,
}

/// Recursive routing: the packets that carry must not be carried by what they carry, nor in a ring of tunnels.
fn ways_do_not_lead_back(report: &Report<'_>, instances: &[ReadInstance], tunnels: &[&ReadTunnel]) {
    for (start, read) in tunnels.iter().enumerate() {
        let mut through = vec![start];
        let mut first = None;
        while let Some(way) = way(report, instances, tunnels, tunnels[through[through.len() - 1]]) {
            first.get_or_insert(way.by.clone());
            if way.tunnel == start {
                let remote = read.tunnel.remote;
                let words = format!(
                    "{remote} would be reached through `{}` itself, by {}: no packet would ever leave; add a route to {} past the tunnel, or name the tunnel's `device`",
                    read.tunnel.name,
                    first.unwrap_or_default(),
                    Prefix::host(remote)
                );
                report.error(read.remote.clone(), join(&read.path, "remote"), words);
                break;
            }
            if through.contains(&way.tunnel) {
                break;
            }
            through.push(way.tunnel);
        }
    }
}

/// Which tunnel carries the packets of `of`, by the longest prefix among what the file says; the kernel has more to
/// say, which is looked at at run time.
fn way(
    report: &Report<'_>,
    instances: &[ReadInstance],
    tunnels: &[&ReadTunnel],
    of: &ReadTunnel,
) -> Option<Way> {
    let index = |dev: &str| tunnels.iter().position(|t| t.tunnel.name == dev);
    if let Some(device) = &of.tunnel.device {
        return index(device).map(|tunnel| Way { tunnel, by: format!("its device `{device}`") });
    }
    let remote = of.tunnel.remote;
    // A marked packet goes by rules that lead where we do not look.
    let routes = instances.iter().flat_map(|i| &i.routes).filter(|_| of.tunnel.fwmark == 0);
    let routes = routes.filter(|r| r.route.table == MAIN && r.route.to.contains(remote));
    let by_route = routes.map(|read| {
        let by = || format!("the route to {} in line {}", read.route.to, report.line_of(&read.to));
        let tunnel = devices(&read.route, tunnels).iter().find_map(|dev| index(dev));
        (read.route.to.len(), tunnel.map(|tunnel| Way { tunnel, by: by() }))
    });
    let by_address = tunnels.iter().enumerate().flat_map(|(tunnel, read)| {
        let nets = read.tunnel.addresses.iter().filter_map(|(a, len)| Prefix::containing(*a, *len));
        nets.filter(|net| net.contains(remote) && !net.is_host()).map(move |net| {
            let by = format!("the address in {net} in line {}", report.line_of(&read.addresses));
            (net.len(), Some(Way { tunnel, by }))
        })
    });
    by_route.chain(by_address).max_by_key(|(len, _)| *len).and_then(|(_, way)| way)
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

/// `require` is asked before a takeover: through a tunnel that only a takeover makes, the answer would always be no.
fn required_tunnels_are_there(
    report: &Report<'_>,
    instance: &ReadInstance,
    instances: &[ReadInstance],
    checks: &HashMap<&str, &ReadCheck>,
) {
    let Some(require) = &instance.require else { return };
    let passing: Vec<&ReadTunnel> =
        instances.iter().flat_map(|i| &i.tunnels).filter(|t| t.tunnel.when == When::Master).collect();
    for (name, span) in &require.checks {
        let Some(check) = checks.get(&**name).and_then(|read| read.check.as_ref()) else { continue };
        let Some(tunnel) = passing.iter().find(|t| goes_through(check, &t.tunnel, instances)) else {
            continue;
        };
        let words = format!(
            "`{name}` goes through the tunnel `{}` (line {}), which exists as MASTER only: it could never be met, so that no takeover would ever happen; write when = \"always\" at the tunnel and what leads into it",
            tunnel.tunnel.name,
            report.line_of(&tunnel.name)
        );
        report.error(span.clone(), join(&require.path, "checks"), words);
    }
}

fn goes_through(check: &Check, tunnel: &Tunnel, instances: &[ReadInstance]) -> bool {
    let by_device = origin(check).is_some_and(|o| {
        let by_source = |s: IpAddr| tunnel.addresses.iter().any(|(address, _)| *address == s);
        o.device.as_deref() == Some(tunnel.name.as_str()) || o.source.is_some_and(by_source)
    });
    let is_it = matches!(&check.probe, Probe::Link(link) if link.device == tunnel.name);
    let by_address = target(check).is_some_and(|address| {
        let routes = instances.iter().flat_map(|i| &i.routes).map(|read| &read.route);
        let longest = routes.filter(|r| r.table == MAIN && r.to.contains(address)).max_by_key(|r| r.to.len());
        is_inside(tunnel, address)
            || longest.is_some_and(|r| !r.to.is_default() && r.dev.as_deref() == Some(tunnel.name.as_str()))
    });
    by_device || is_it || by_address
}

fn origin(check: &Check) -> Option<&Origin> {
    match &check.probe {
        Probe::Ping(ping) => Some(&ping.origin),
        Probe::Http(http) => Some(&http.origin),
        Probe::Tcp(tcp) => Some(&tcp.origin),
        Probe::Dns(dns) => Some(&dns.origin),
        _ => None,
    }
}
