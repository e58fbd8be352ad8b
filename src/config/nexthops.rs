//! Reads `nexthops`, `mode` and `when_none` of a route.

use super::model::{HopMode, Name, NextHop, NextHops, Route, RouteKind, WhenNone};
use super::probe::{family_words, words};
use super::reader::{Item, Table};
use super::report::Span;
use super::values;
use crate::net::family_of;

/// The kernel takes 256 of a route, and nobody has so many gateways.
const MOST: usize = 32;

/// The next hops, and where each names its check.
pub(super) struct ReadHops {
    /// The next hops.
    pub hops: NextHops,
    /// Checks with their places.
    pub checks: Vec<(Name, Span)>,
    /// Dotted path.
    pub path: String,
}

/// Reads them; the keys of a route without any are refused.
pub(super) fn read(table: &mut Table<'_, '_>) -> Option<ReadHops> {
    let mode = table.or("mode", HopMode::Failover, |i| {
        i.one_of(&[("failover", HopMode::Failover), ("ecmp", HopMode::Ecmp)])
    });
    let when_none = table.or("when_none", WhenNone::Keep, |i| {
        i.one_of(&[("keep", WhenNone::Keep), ("remove", WhenNone::Remove)])
    });
    if !table.has("nexthops") {
        for key in ["mode", "when_none"].into_iter().filter(|key| table.has(key)) {
            table.error(key, "says how to choose among `nexthops`, and there are none");
        }
        return None;
    }
    for key in ["via", "dev"].into_iter().filter(|key| table.has(key)) {
        table.error(key, format!("is said for each next hop: write nexthops = [ {{ {key} = … }}, … ]"));
    }
    let path = super::reader::join(&table.path, "nexthops");
    let read = table.get("nexthops", |i| {
        let items = i.elements()?;
        if items.is_empty() || items.len() > MOST {
            return i.fail(format!("must be from 1 to {MOST} next hops"));
        }
        let read: Vec<Option<(NextHop, Span)>> = items.iter().map(hop).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    })?;
    let checks = read.iter().filter_map(|(hop, span)| Some((hop.check.clone()?, span.clone()))).collect();
    let hops: Vec<NextHop> = read.into_iter().map(|(hop, _)| hop).collect();
    for (n, hop) in hops.iter().enumerate() {
        if hops[..n].iter().any(|other| (other.via, &other.dev) == (hop.via, &hop.dev)) {
            table.error("nexthops", format!("names the next hop {} twice", n + 1));
        }
    }
    if hops.len() > 1 && hops.iter().all(|hop| hop.check.is_none() && hop.dev.is_none()) {
        table.warning("nexthops", "have neither a `check` nor a `dev`, so that none is ever found dead");
    }
    if mode == HopMode::Failover && hops.iter().any(|hop| hop.weight != 1) {
        table.warning("nexthops", "have weights, which mean nothing in mode failover: one is used at a time");
    }
    Some(ReadHops { hops: NextHops { hops, mode, when_none }, checks, path })
}

fn hop(item: &Item<'_, '_>) -> Option<(NextHop, Span)> {
    let before = item.report.errors();
    let mut table = item.table("instance.route.nexthop")?;
    let via = table.get("via", |i| values::address(&i));
    let dev = table.get("dev", |i| values::device(&i));
    let check = table.get("check", |i| values::name(&i)).map(Name::from);
    let weight = table.or("weight", 1, |i| i.integer(1..=256));
    if !table.has("via") && !table.has("dev") {
        table.missing("via", "is missing: say where packets go, with a gateway (`via`) or a device (`dev`)");
    }
    if via.is_some_and(values::is_link_local) && !table.has("dev") {
        table.error("via", "is a link-local address: say on which link with `dev`");
    }
    if dev.as_deref() == Some("lo") {
        table.error("dev", "is `lo`, behind which there is no gateway");
    }
    let span = table.span_of("check");
    table.finish();
    (item.report.errors() == before).then_some((NextHop { via, dev, check, weight }, span))
}

/// What contradicts the route.
pub(super) fn agree(table: &Table<'_, '_>, route: &Route) {
    let Some(nexthops) = &route.nexthops else { return };
    if route.kind != RouteKind::Unicast && !table.is_wrong("type") {
        table.error("nexthops", "mean something for a route of type unicast only");
    }
    let family = route.to.family();
    for via in nexthops.hops.iter().filter_map(|hop| hop.via).filter(|via| family_of(*via) != family) {
        let (is, want) = (words(via), family_words(family));
        table.error(
            "nexthops",
            format!("`{via}` is an {is} address, but the route to {} is {want}", route.to),
        );
    }
    if route.onlink && nexthops.hops.iter().any(|hop| hop.dev.is_none() || hop.via.is_none()) {
        table.error("onlink", "needs `via` and `dev` of every next hop");
    }
}
