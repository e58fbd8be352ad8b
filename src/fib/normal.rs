//! From what the operator wrote to what the kernel will report back.
//!
//! The kernel fills in, clamps and forgets attributes. Whatever it would change is changed here first, so that
//! what it dumps [`satisfies`](super::object::Object::satisfies) what is wanted and no difference remains for ever.

use std::net::{IpAddr, Ipv6Addr};

use super::object::{AddressObject, Hop, RouteObject, RuleObject, TunnelObject};
use crate::config::model::{Address, NextHop, Route, RouteKind, Rule, Scope, Tunnel};
use crate::net::Family;

/// The main routing table (RT_TABLE_MAIN), also meant by 0.
const TABLE_MAIN: u32 = 254;
/// What IPv6 makes of metric 0 (IP6_RT_PRIO_USER).
const METRIC_V6: u32 = 1024;
/// The kernel clamps the path MTU of a route to this (ip_metrics_convert).
const MTU_MAX: u32 = 65_535 - 15;
/// The kernel clamps the advertised MSS of a route to this (ip_metrics_convert).
const ADVMSS_MAX: u32 = 65_535 - 40;

/// The route as the kernel will report it.
///
/// - blackhole, unreachable, prohibit: no device and no gateway (IPv4 refuses them, IPv6 says `lo` whatever was asked);
/// - local without a device: `lo`, the only one that makes sense;
/// - IPv6: metric 0 is 1024, and there is no scope;
/// - IPv4 scope: what `ip route` takes (host for local, link for unicast without a gateway, else global);
/// - `onlink` speaks of a gateway, so without one it is dropped; MTU and MSS are clamped, 0 means unset.
pub fn route_object(cfg: &Route) -> RouteObject {
    let v6 = cfg.to.family() == Family::V6;
    let error = matches!(cfg.kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit);
    let via = if error { None } else { cfg.via };
    let dev = match &cfg.dev {
        _ if error => None,
        None if cfg.kind == RouteKind::Local => Some("lo".to_owned()),
        dev => dev.clone(),
    };
    let usual_scope = match cfg.kind {
        RouteKind::Local => Scope::Host,
        RouteKind::Unicast if via.is_none() => Scope::Link,
        _ => Scope::Global,
    };
    RouteObject {
        hops: Vec::new(),
        table: if cfg.table == 0 { TABLE_MAIN } else { cfg.table },
        to: cfg.to,
        metric: if v6 && cfg.metric == 0 { METRIC_V6 } else { cfg.metric },
        kind: cfg.kind,
        dev,
        via,
        src: cfg.src,
        scope: if v6 { Scope::Global } else { cfg.scope.unwrap_or(usual_scope) },
        onlink: cfg.onlink && via.is_some(),
        mtu: cfg.mtu.filter(|m| *m != 0).map(|m| m.min(MTU_MAX)),
        advmss: cfg.advmss.filter(|m| *m != 0).map(|m| m.min(ADVMSS_MAX)),
    }
}

/// The route with the chosen ones of its `nexthops`; None if none is chosen. A single one is an ordinary gateway.
pub fn routed(cfg: &Route, chosen: &[usize]) -> Option<RouteObject> {
    let Some(nexthops) = &cfg.nexthops else { return Some(route_object(cfg)) };
    let hops: Vec<&NextHop> = chosen.iter().filter_map(|n| nexthops.hops.get(*n)).collect();
    let first = hops.first()?;
    let single = route_object(&Route { via: first.via, dev: first.dev.clone(), ..cfg.clone() });
    if hops.len() == 1 {
        return Some(single);
    }
    // IPv4: a scope that suits the nearest would hide the gateways.
    let scope = if hops.iter().any(|h| h.via.is_some()) { Scope::Global } else { single.scope };
    let hop = |h: &&NextHop| Hop { via: h.via, dev: h.dev.clone(), weight: h.weight };
    Some(RouteObject { dev: None, via: None, scope, hops: hops.iter().map(hop).collect(), ..single })
}

/// The tunnel as the kernel will report it.
pub fn tunnel_object(cfg: &Tunnel) -> TunnelObject {
    TunnelObject {
        name: cfg.name.clone(),
        mode: cfg.mode,
        local: cfg.local,
        remote: cfg.remote,
        ttl: cfg.ttl,
        tos: cfg.tos,
        ikey: cfg.ikey,
        okey: cfg.okey,
        pmtudisc: cfg.pmtudisc || cfg.mode.outer() == Family::V6,
        device: cfg.device.clone(),
        fwmark: cfg.fwmark,
        mtu: cfg.mtu,
        up: true,
        plain: true,
        recursive: false,
    }
}

/// The rule as the kernel will report it: a mask leaves nothing of the mark beside it.
pub fn rule_object(cfg: &Rule) -> RuleObject {
    RuleObject {
        family: cfg.family,
        priority: cfg.priority,
        from: cfg.from.filter(|p| !p.is_default()),
        to: cfg.to.filter(|p| !p.is_default()),
        fwmark: cfg.fwmark.map(|(mark, mask)| (mark & mask, mask)),
        iif: cfg.iif.clone(),
        table: cfg.table,
    }
}

/// The address as the kernel will report it: the scope of an IPv6 address follows from the address alone.
pub fn address_object(cfg: &Address) -> AddressObject {
    let scope = match cfg.address {
        IpAddr::V4(_) => cfg.scope,
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Scope::Host,
        IpAddr::V6(a) if a.is_unicast_link_local() => Scope::Link,
        IpAddr::V6(_) => Scope::Global,
    };
    AddressObject { dev: cfg.dev.clone(), address: cfg.address, len: cfg.len, scope }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::When;

    fn route(to: &str, kind: RouteKind) -> Route {
        Route {
            to: to.parse().unwrap(),
            kind,
            dev: None,
            via: None,
            nexthops: None,
            src: None,
            table: 254,
            metric: 0,
            scope: None,
            onlink: false,
            mtu: None,
            advmss: None,
            export: false,
            when: When::Master,
        }
    }

    #[test]
    fn an_ipv6_route_has_metric_1024_and_no_scope() {
        let r = route_object(&Route {
            dev: Some("lo".into()),
            scope: Some(Scope::Host),
            ..route("2001:db8::/48", RouteKind::Unicast)
        });
        assert_eq!((r.metric, r.scope, r.dev.as_deref()), (1024, Scope::Global, Some("lo")));
    }

    #[test]
    fn the_scope_is_the_one_that_ip_route_takes() {
        let scope = |r: Route| route_object(&r).scope;
        let dev = Some("lo".to_owned());
        let via = Some("192.0.2.1".parse().unwrap());
        assert_eq!(scope(Route { dev, ..route("198.51.100.0/24", RouteKind::Unicast) }), Scope::Link);
        assert_eq!(scope(Route { via, ..route("198.51.100.0/24", RouteKind::Unicast) }), Scope::Global);
        assert_eq!(scope(route("198.51.100.0/24", RouteKind::Local)), Scope::Host);
        assert_eq!(scope(route("198.51.100.0/24", RouteKind::Blackhole)), Scope::Global);
    }

    #[test]
    fn what_the_kernel_would_change_is_changed_first() {
        let odd = Route {
            dev: Some("eth0".into()),
            onlink: true,
            mtu: Some(70_000),
            advmss: Some(0),
            table: 0,
            ..route("198.51.100.0/24", RouteKind::Unreachable)
        };
        let r = route_object(&odd);
        assert_eq!((r.dev, r.onlink, r.mtu, r.advmss, r.table), (None, false, Some(65_520), None, 254));
        assert_eq!(route_object(&route("198.51.100.0/24", RouteKind::Local)).dev.as_deref(), Some("lo"));
    }
}
