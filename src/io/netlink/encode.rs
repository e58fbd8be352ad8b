//! Operations as rtnetlink messages.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::config::model::{RouteKind, Scope};
use crate::fib::object::{AddressObject, Hop, RouteObject};
use crate::net::{Family, IfIndex, family_of};

/// Kernel constant of a family.
pub(super) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn kind(kind: RouteKind) -> RouteType {
    match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    }
}

/// Key, type, next hop and owner: what both making and removing need.
fn route(route: &RouteObject, exit: &Exit, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.to.family());
    message.header.destination_prefix_length = route.to.len();
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.header.protocol = protocol.into();
    message.header.kind = kind(route.kind);
    let attributes = &mut message.attributes;
    attributes.reserve(8);
    attributes.push(RouteAttribute::Destination(route.to.address().into()));
    if route.table > 255 {
        attributes.push(RouteAttribute::Table(route.table));
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(dev) = exit.dev {
        attributes.push(RouteAttribute::Oif(dev.0));
    }
    if !route.hops.is_empty() {
        let devices = exit.hops.iter().copied().chain(std::iter::repeat(None));
        let hop = |(h, dev)| hop(h, dev, route.onlink, route.to.family());
        attributes.push(RouteAttribute::MultiPath(route.hops.iter().zip(devices).map(hop).collect()));
    }
    if let Some(via) = route.via {
        attributes.push(gateway(via, route.to.family()));
    }
    message
}

/// The kernel counts a weight from 0.
fn hop(hop: &Hop, dev: Option<IfIndex>, onlink: bool, to: Family) -> RouteNextHop {
    let mut next = RouteNextHop::default();
    next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    next.interface_index = dev.map_or(0, |d| d.0);
    next.flags.set(RouteNextHopFlags::Onlink, onlink);
    next.attributes.extend(hop.via.map(|via| gateway(via, to)));
    next
}

/// The devices of a route, looked up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Exit {
    /// Of a route with one next hop, and of an address.
    pub dev: Option<IfIndex>,
    /// Of each of several.
    pub hops: Vec<Option<IfIndex>>,
}

impl From<Option<IfIndex>> for Exit {
    fn from(dev: Option<IfIndex>) -> Self {
        Exit { dev, hops: Vec::new() }
    }
}

/// RFC 8950 (5549): an IPv4 route may have an IPv6 gateway, in an attribute of its own.
fn gateway(via: IpAddr, to: Family) -> RouteAttribute {
    if family_of(via) == to {
        RouteAttribute::Gateway(via.into())
    } else {
        RouteAttribute::Via(RouteVia::from(via))
    }
}

/// The message that makes a route, ours by its protocol.
pub(super) fn add_route(object: &RouteObject, exit: &Exit, protocol: u8) -> RouteNetlinkMessage {
    let mut message = route(object, exit, protocol);
    message.header.scope = match object.scope {
        Scope::Global => RouteScope::Universe,
        Scope::Link => RouteScope::Link,
        Scope::Host => RouteScope::Host,
    };
    message.header.flags.set(RouteFlags::Onlink, object.onlink && object.hops.is_empty());
    if let Some(src) = object.src {
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(src)));
    }
    let mtu = object.mtu.map(RouteMetric::Mtu);
    let advmss = object.advmss.map(RouteMetric::Advmss);
    let metrics: Vec<_> = mtu.into_iter().chain(advmss).collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    RouteNetlinkMessage::NewRoute(message)
}

/// The message that removes a route: key, owner, type and next hop must match, the scope need not.
///
/// The gateway is not only for precision: without one IPv6 removes all the siblings of an ECMP route, foreign ones too.
pub(super) fn delete_route(object: &RouteObject, exit: &Exit, protocol: u8) -> RouteNetlinkMessage {
    let mut message = route(object, exit, protocol);
    message.header.scope = RouteScope::NoWhere;
    RouteNetlinkMessage::DelRoute(message)
}

fn address(object: &AddressObject, dev: IfIndex) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(family_of(object.address));
    message.header.prefix_len = object.len;
    message.header.index = dev.0;
    message.header.scope = match object.scope {
        Scope::Global => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    message.attributes =
        vec![AddressAttribute::Local(object.address), AddressAttribute::Address(object.address)];
    message
}

/// The message that makes an address, ours by IFA_PROTO (Linux 5.18; before that nothing says whose an address is).
///
/// IPv6: no duplicate address detection, an address that is announced must answer at once.
pub(super) fn add_address(object: &AddressObject, dev: IfIndex, protocol: u8) -> RouteNetlinkMessage {
    let mut message = address(object, dev);
    message.attributes.push(AddressAttribute::Protocol(protocol.into()));
    if object.address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    RouteNetlinkMessage::NewAddress(message)
}

/// The message that removes an address. The kernel does not look at the owner here: the caller must have.
pub(super) fn delete_address(object: &AddressObject, dev: IfIndex) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelAddress(address(object, dev))
}

/// The request for a family's routes: of one protocol (0: of all), in one table (0: in all).
pub(super) fn get_routes(of: Family, protocol: u8, table: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    message.header.protocol = protocol.into();
    if table != 0 {
        message.attributes.push(RouteAttribute::Table(table));
    }
    RouteNetlinkMessage::GetRoute(message)
}

/// The request for a family's addresses, on one device or on all.
pub(super) fn get_addresses(of: Family, dev: Option<IfIndex>) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(of);
    message.header.index = dev.map_or(0, |d| d.0);
    RouteNetlinkMessage::GetAddress(message)
}
