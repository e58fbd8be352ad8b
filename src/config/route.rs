//! Reads `[[instance.route]]` and `[[instance.address]]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::instance::misplaced;
use super::model::{Address, Name, Route, RouteKind, Scope, When};
use super::nexthops::{self, ReadHops};
use super::probe::{family_words, words};
use super::reader::{Item, Table};
use super::report::{Span, brief};
use super::values;
use crate::net::{Family, Prefix, family_of};

const KINDS: [(&str, RouteKind); 5] = [
    ("unicast", RouteKind::Unicast),
    ("local", RouteKind::Local),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
];
const SCOPES: [(&str, Scope); 3] = [("global", Scope::Global), ("link", Scope::Link), ("host", Scope::Host)];
/// `when` of every object.
pub(super) const WHENS: [(&str, When); 2] = [("master", When::Master), ("always", When::Always)];
/// rtnetlink(7), RT_TABLE_*.
const TABLES: [(&str, u32); 3] = [("main", 254), ("local", 255), ("default", 253)];
const MAIN: u32 = 254;
/// RFC 791: every network carries 68 bytes. RFC 8200 section 5: IPv6 wants 1280.
const LEAST_MTU: [(Family, u32); 2] = [(Family::V4, 68), (Family::V6, 1280)];

/// A route as it was read.
pub(super) struct ReadRoute {
    /// Which of the instance's it is, from 0.
    pub index: usize,
    /// Where `to` stands.
    pub to: Span,
    /// The checks of its next hops, with their places, and the path of `nexthops`.
    pub hop_checks: (Vec<(Name, Span)>, String),
    /// The route.
    pub route: Route,
}

/// An address as it was read.
pub(super) struct ReadAddress {
    /// Which of the instance's it is, from 0.
    pub index: usize,
    /// Where `address` stands.
    pub span: Span,
    /// The address.
    pub address: Address,
}

/// Reads the routes of an instance; the wrong ones are left out (and recorded).
pub(super) fn read_routes(item: &Item<'_, '_>) -> Option<Vec<ReadRoute>> {
    let items = item.tables("instance.route")?;
    Some(items.iter().enumerate().filter_map(|(index, item)| read_route(item, index)).collect())
}

/// Where a route goes: the default route gets its family from what else is said of it.
#[derive(Clone, Copy)]
enum To {
    Default,
    Prefix(Prefix),
}

fn read_route(item: &Item<'_, '_>, index: usize) -> Option<ReadRoute> {
    let before = item.report.errors();
    let mut table = item.table("instance.route")?;
    let to = table.need("to", "\"198.51.100.0/24\"", |i| match i.text()? {
        "default" => Some(To::Default),
        _ => values::prefix(&i).map(To::Prefix),
    });
    let kind = table.or("type", RouteKind::Unicast, |i| i.one_of(&KINDS));
    let dev = table.get("dev", |i| values::device(&i));
    let via = table.get("via", |i| values::address(&i));
    let src = table.get("src", |i| values::address(&i));
    let when = table.or("when", When::Master, |i| i.one_of(&WHENS));
    let nexthops = nexthops::read(&mut table);
    let first_hop = nexthops.as_ref().and_then(|n| n.hops.hops.iter().find_map(|hop| hop.via));
    let on_lo = dev.as_deref() == Some("lo");
    let mut route = Route {
        to: Prefix::default_route(via.or(first_hop).or(src).map_or(Family::V4, family_of)),
        kind,
        dev,
        via,
        nexthops: nexthops.as_ref().map(|n| n.hops.clone()),
        src,
        table: table.or("table", MAIN, |i| routing_table(&i)),
        metric: table.or("metric", 0, |i| i.integer(0..=u64::from(u32::MAX))),
        scope: table.get("scope", |i| i.one_of(&SCOPES)),
        onlink: table.or("onlink", false, |i| i.boolean()),
        mtu: table.get("mtu", |i| i.integer(68..=65_535)),
        advmss: table.get("advmss", |i| i.integer(1..=65_495)),
        export: table.or("export", on_lo, |i| i.boolean()),
        when,
    };
    if let Some(To::Prefix(prefix)) = to {
        route.to = prefix;
    }
    if !table.is_wrong("type") {
        next_hop(&table, &route);
    }
    if to.is_some() {
        families(&table, &route);
        nexthops::agree(&table, &route);
    }
    if route.export && route.when == When::Always {
        table.error(
            "when",
            "contradicts `export`: an exported route is the announcement, which is there as MASTER only; write export = false if nothing else picks the route up",
        );
    }
    let to_span = table.span_of("to");
    let hop_checks = nexthops.map(|ReadHops { checks, path, .. }| (checks, path)).unwrap_or_default();
    table.finish_with(misplaced);
    (to.is_some() && item.report.errors() == before).then_some(ReadRoute {
        index,
        to: to_span,
        hop_checks,
        route,
    })
}

/// A routing table by number or name.
pub(super) fn routing_table(item: &Item<'_, '_>) -> Option<u32> {
    if !item.is_string() {
        return item.integer(1..=u64::from(u32::MAX));
    }
    let text = item.word()?;
    let known = TABLES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    known.or_else(|| {
        item.fail(format!("{} is no table; write its number, or main, local or default", brief(text)))
    })
}

/// What leads a packet on, and what may be said of it, by the type of the route.
fn next_hop(table: &Table<'_, '_>, route: &Route) {
    match route.kind {
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
            for key in ["dev", "via", "src", "onlink", "mtu", "advmss"] {
                if table.has(key) {
                    let name =
                        KINDS.iter().find(|(_, kind)| *kind == route.kind).map_or("", |(name, _)| name);
                    table.error(
                        key,
                        format!("means nothing for a route of type {name}, which sends nothing anywhere"),
                    );
                }
            }
        }
        RouteKind::Local => {
            if table.has("via") {
                table.error("via", "means nothing for a route of type local, which ends on this machine");
            }
            if !table.has("dev") {
                table.missing(
                    "dev",
                    "is missing: a route of type local needs a device, most often dev = \"lo\"",
                );
            }
        }
        RouteKind::Unicast => {
            if !table.has("dev") && !table.has("via") && !table.has("nexthops") {
                table.missing(
                    "dev",
                    "is missing: say where packets go, with a device (`dev`) or a gateway (`via`)",
                );
            }
            if let Some(via) = route.via {
                gateway(table, route, via);
            } else if route.onlink && !table.has("via") && !table.has("nexthops") {
                table
                    .error("onlink", "says that the gateway is on the link, and there is no gateway (`via`)");
            }
        }
    }
}

fn gateway(table: &Table<'_, '_>, route: &Route, via: IpAddr) {
    let no_device = route.dev.is_none() && !table.has("dev");
    if values::is_link_local(via) && no_device {
        table.error("via", format!("`{via}` is a link-local address: say on which link with `dev`"));
    } else if route.onlink && no_device {
        table.error("onlink", "needs the device of that link (`dev`)");
    }
    if route.dev.as_deref() == Some("lo") {
        table.error("via", "is a gateway, which cannot be behind `lo`");
    }
    if matches!(route.scope, Some(Scope::Link | Scope::Host)) && via.is_ipv4() {
        table.error("scope", "must be global for a route through a gateway (`via`)");
    }
}

/// Everything about a route is of one family.
fn families(table: &Table<'_, '_>, route: &Route) {
    let family = route.to.family();
    for (key, address) in [("via", route.via), ("src", route.src)] {
        let Some(address) = address.filter(|a| family_of(*a) != family) else { continue };
        let (is, want) = (words(address), family_words(family));
        table.error(key, format!("`{address}` is an {is} address, but the route to {} is {want}", route.to));
    }
    if family == Family::V6 && matches!(route.scope, Some(Scope::Link | Scope::Host)) {
        table.error("scope", "IPv6 routes have no scope but global; leave it out");
    }
    let least = LEAST_MTU.iter().find(|(f, _)| *f == family).map_or(0, |(_, mtu)| *mtu);
    if route.mtu.is_some_and(|mtu| mtu < least) {
        table.error("mtu", format!("must be at least {least} for {}", family_words(family)));
    }
}

/// Reads the addresses of an instance; the wrong ones are left out (and recorded).
pub(super) fn read_addresses(item: &Item<'_, '_>) -> Option<Vec<ReadAddress>> {
    let items = item.tables("instance.address")?;
    Some(items.iter().enumerate().filter_map(|(index, item)| read_address(item, index)).collect())
}

fn read_address(item: &Item<'_, '_>, index: usize) -> Option<ReadAddress> {
    let before = item.report.errors();
    let mut table = item.table("instance.address")?;
    let address = table.need("address", "\"172.16.1.1/32\"", |i| interface_address(&i));
    let dev = table.need("dev", "\"lo\"", |i| values::device(&i));
    let scope = table.or("scope", Scope::Global, |i| i.one_of(&SCOPES));
    let when = table.or("when", When::Master, |i| i.one_of(&WHENS));
    if address.is_some_and(|(a, _)| a.is_ipv6()) && scope != Scope::Global {
        table.error("scope", "the kernel gives IPv6 addresses their scope itself; leave it out");
    }
    let span = table.span_of("address");
    table.finish_with(misplaced);
    let (Some((address, len)), Some(dev)) = (address, dev) else { return None };
    let address = Address { address, len, dev, scope, when };
    (item.report.errors() == before).then_some(ReadAddress { index, span, address })
}

/// An address of an interface with its prefix length.
pub(super) fn interface_address(item: &Item<'_, '_>) -> Option<(IpAddr, u8)> {
    let text = item.word()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return item.fail(format!("has no prefix length; write {}", Prefix::host(address)));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        let want = "is no address with a prefix length; write it as 172.16.1.1/32";
        return item.fail(format!("{} {want}", brief(text)));
    };
    if net.prefix_len() == 0 {
        return item.fail("must have a prefix length of at least 1");
    }
    values::unicast(item, net.addr()).map(|address| (address, net.prefix_len()))
}
