//! What the kernel says of routes and addresses.

use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, Parseable, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RoutePreference, RouteScope, RouteType, RouteVia,
};

use super::links::Links;
use super::rules::SeenRule;
use crate::config::model::{RouteKind, Scope};
use crate::fib::object::{AddressObject, Hop, Object, RouteObject};
use crate::net::{Family, Prefix};

/// Where a route's protocol stands in the payload: enough to drop foreign routes before decoding them.
pub(super) const PROTOCOL_OFFSET: usize = 5;
/// The next hop object that a route points to.
const RTA_NH_ID: u16 = 30;
/// Octets of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// Octets of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

/// A route as the kernel has it, anybody's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenRoute {
    /// What of it we can express.
    pub route: RouteObject,
    /// Whose it is.
    pub protocol: u8,
    /// Its type as the kernel counts; [`RouteObject::kind`] knows only ours.
    pub kind: RouteType,
    /// `route` says all there is to say.
    pub exact: bool,
    /// It has a TOS or a source prefix, and so never stands in the way of ours.
    pub special: bool,
}

impl SeenRoute {
    /// As the core shall see it. What we cannot express loses its next hop, so that it satisfies no wish (a wanted
    /// unicast route always has a gateway or a device) and the core removes it.
    pub fn object(self) -> RouteObject {
        if self.exact {
            self.route
        } else {
            RouteObject { kind: RouteKind::Unicast, via: None, dev: None, hops: Vec::new(), ..self.route }
        }
    }
}

/// An address as the kernel has it, anybody's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenAddress {
    /// What of it we can express.
    pub address: AddressObject,
    /// Whose it is; 0 if nobody said.
    pub protocol: u8,
    /// What it can reach on a link that is known.
    pub net: Option<Prefix>,
}

/// The protocol of a route message, without decoding it.
pub(super) fn protocol_of(payload: &[u8]) -> Option<u8> {
    payload.get(PROTOCOL_OFFSET).copied()
}

/// A route from the payload of RTM_NEWROUTE or RTM_DELROUTE; `None` for cached clones, other families and nonsense.
pub(super) fn route(payload: &[u8], links: &Links) -> Option<SeenRoute> {
    let header = RouteHeader::parse(payload).ok()?;
    let unspecified = match header.address_family {
        AddressFamily::Inet => Prefix::default_route(Family::V4).address(),
        AddressFamily::Inet6 => Prefix::default_route(Family::V6).address(),
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let kind = known_kind(header.kind);
    let scope = known_scope(header.scope);
    let mut seen = SeenRoute {
        route: RouteObject {
            table: u32::from(header.table),
            to: Prefix::containing(unspecified, header.destination_prefix_length)?,
            metric: 0,
            kind: kind.unwrap_or(RouteKind::Unicast),
            dev: None,
            via: None,
            hops: Vec::new(),
            src: None,
            scope: scope.unwrap_or(Scope::Global),
            onlink: header.flags.contains(RouteFlags::Onlink),
            mtu: None,
            advmss: None,
        },
        protocol: header.protocol.into(),
        kind: header.kind,
        exact: kind.is_some() && scope.is_some(),
        special: header.tos != 0 || header.source_prefix_length != 0,
    };
    let context = (header.address_family, header.kind, RouteLwEnCapType::None);
    for nla in NlasIterator::new(payload.get(ROUTE_HEADER..)?).flatten() {
        match RouteAttribute::parse_with_param(&nla, context) {
            Ok(attribute) => seen.take(attribute, header.destination_prefix_length, links),
            Err(_) => seen.exact = false,
        }
    }
    Some(seen)
}

impl SeenRoute {
    fn take(&mut self, attribute: RouteAttribute, len: u8, links: &Links) {
        let route = &mut self.route;
        match attribute {
            RouteAttribute::Destination(a) => {
                if let Some(to) = ip(&a).and_then(|a| Prefix::containing(a, len)) {
                    route.to = to;
                }
            }
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Priority(metric) => route.metric = metric,
            RouteAttribute::Oif(index) => route.dev = Some(name(links, index)),
            RouteAttribute::Gateway(a) => route.via = ip(&a),
            RouteAttribute::Via(via) => route.via = via_ip(&via),
            RouteAttribute::PrefSource(a) => route.src = ip(&a),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(value) => route.mtu = Some(value),
                        RouteMetric::Advmss(value) => route.advmss = Some(value),
                        _ => self.exact = false,
                    }
                }
            }
            RouteAttribute::MultiPath(hops) => {
                route.onlink = hops.iter().all(|h| h.flags.contains(RouteNextHopFlags::Onlink));
                self.exact &= hops.iter().all(is_plain);
                route.hops = hops.iter().map(|h| hop(h, links)).collect();
            }
            RouteAttribute::CacheInfo(info) => self.exact &= info.expires == 0,
            RouteAttribute::Preference(pref) => self.exact &= pref == RoutePreference::Medium,
            RouteAttribute::TtlPropagate(_) => {}
            // Encapsulation, realms, next hop objects, and what later kernels bring.
            _ => self.exact = false,
        }
    }
}

/// A gateway and a device, and no more.
fn is_plain(hop: &RouteNextHop) -> bool {
    hop.attributes.iter().all(|a| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)))
}

fn hop(hop: &RouteNextHop, links: &Links) -> Hop {
    let via = hop.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(a) => ip(a),
        RouteAttribute::Via(via) => via_ip(via),
        _ => None,
    });
    Hop { via, dev: Some(name(links, hop.interface_index)), weight: u16::from(hop.hops) + 1 }
}

/// The interface's name; one that we have not heard of yet by its number.
fn name(links: &Links, index: u32) -> String {
    links.name(index).map_or_else(|| format!("if{index}"), str::to_owned)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(a) => Some(IpAddr::V4(*a)),
        RouteVia::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}

fn known_kind(kind: RouteType) -> Option<RouteKind> {
    Some(match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    })
}

fn known_scope(scope: RouteScope) -> Option<Scope> {
    Some(match scope {
        RouteScope::Universe => Scope::Global,
        RouteScope::Link => Scope::Link,
        RouteScope::Host => Scope::Host,
        _ => return None,
    })
}

/// A route that the kernel told us of, as the payload of a request to remove exactly that one: header, key and next
/// hops. What else it tells must not be repeated (state flags), or not together (next hops beside a next hop object).
pub(super) fn removal(payload: &[u8]) -> Vec<u8> {
    const KEY: [u16; 4] = [libc::RTA_DST, libc::RTA_SRC, libc::RTA_PRIORITY, libc::RTA_TABLE];
    const HOPS: [u16; 4] = [libc::RTA_OIF, libc::RTA_GATEWAY, libc::RTA_VIA, libc::RTA_MULTIPATH];
    let (header, attributes) = payload.split_at(ROUTE_HEADER.min(payload.len()));
    let attributes: Vec<_> = NlasIterator::new(attributes).flatten().collect();
    let by_object = attributes.iter().any(|nla| nla.kind() == RTA_NH_ID);
    let mut out = header.to_vec();
    if let Some(flags) = out.get_mut(8..ROUTE_HEADER) {
        flags.fill(0);
    }
    for nla in attributes {
        let kind = nla.kind();
        if KEY.contains(&kind) || (kind == RTA_NH_ID && by_object) || (HOPS.contains(&kind) && !by_object) {
            out.extend_from_slice(&nla.length().to_ne_bytes());
            out.extend_from_slice(&kind.to_ne_bytes());
            out.extend_from_slice(nla.value());
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out
}

/// An address from the payload of RTM_NEWADDR or RTM_DELADDR.
pub(super) fn address(payload: &[u8], links: &Links) -> Option<SeenAddress> {
    let header = AddressHeader::parse(payload).ok()?;
    let (mut local, mut peer, mut protocol) = (None, None, 0);
    for nla in NlasIterator::new(payload.get(ADDRESS_HEADER..)?).flatten() {
        match AddressAttribute::parse(&nla) {
            Ok(AddressAttribute::Local(a)) => local = Some(a),
            Ok(AddressAttribute::Address(a)) => peer = Some(a),
            Ok(AddressAttribute::Protocol(p)) => protocol = p.into(),
            _ => {}
        }
    }
    let scope = match header.scope {
        AddressScope::Link => Scope::Link,
        AddressScope::Host => Scope::Host,
        _ => Scope::Global,
    };
    // IFA_LOCAL is the address where there is a peer; IPv6 has IFA_ADDRESS alone where there is none.
    let address = local.or(peer)?;
    Some(SeenAddress {
        address: AddressObject { dev: name(links, header.index), address, len: header.prefix_len, scope },
        // With a peer the prefix is the peer's.
        net: links
            .name(header.index)
            .and_then(|_| Prefix::containing(peer.unwrap_or(address), header.prefix_len)),
        protocol,
    })
}

/// What an object of the kernel is to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// A route.
    Route(SeenRoute),
    /// An address.
    Address(SeenAddress),
    /// A rule.
    Rule(SeenRule),
}

impl Seen {
    /// Whose it is.
    pub fn protocol(&self) -> u8 {
        match self {
            Seen::Route(r) => r.protocol,
            Seen::Address(a) => a.protocol,
            Seen::Rule(r) => r.protocol,
        }
    }

    /// It is just what is wanted.
    pub fn satisfies(&self, wanted: &Object) -> bool {
        match self {
            Seen::Route(r) => r.exact && Object::Route(r.route.clone()).satisfies(wanted),
            Seen::Address(a) => Object::Address(a.address.clone()).satisfies(wanted),
            Seen::Rule(r) => r.exact && Object::Rule(r.rule.clone()).satisfies(wanted),
        }
    }

    /// It is that address, whatever else is to be said of it.
    pub fn is_address(&self, wanted: &AddressObject) -> bool {
        match self {
            Seen::Route(_) | Seen::Rule(_) => false,
            Seen::Address(a) => (a.address.address, a.address.len) == (wanted.address, wanted.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use netlink_packet_route::route::RouteMessage;
    use proptest::prelude::*;

    fn multipath() -> Vec<u8> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.header.kind = RouteType::Unicast;
        message.header.protocol = 187.into();
        let mut hop = RouteNextHop::default();
        hop.interface_index = 4;
        hop.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into())));
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet([198, 51, 100, 0].into())),
            RouteAttribute::Table(1000),
            RouteAttribute::Priority(7),
            RouteAttribute::MultiPath(vec![hop.clone(), hop]),
            RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(3)]),
        ];
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_we_cannot_express_keeps_its_key_and_satisfies_no_wish() {
        let seen = route(&multipath(), &Links::default()).unwrap();
        assert_eq!(seen.route.hops.len(), 2);
        let object = seen.object();
        assert_eq!(object.to_string(), "198.51.100.0/24 table 1000 metric 7");
        let wanted = RouteObject { dev: Some("if4".into()), ..object.clone() };
        assert!(!Object::Route(object).satisfies(&Object::Route(wanted)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..80, value in any::<u8>(),
        ) {
            route(&bytes, &Links::default());
            address(&bytes, &Links::default());
            removal(&bytes);
            super::super::links::decode(&bytes);
            bytes = multipath();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            route(&bytes, &Links::default());
        }
    }
}
