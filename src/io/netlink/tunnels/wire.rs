//! Tunnels as link messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, Nla, NlasIterator, Parseable, ParseableParametrized, parse_string};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    GreEncapType, GreIOFlags, InfoData, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, Ip6TunnelFlags,
    LinkAttribute, LinkFlags, LinkHeader, LinkInfo, TunnelEncapType,
};

use crate::config::model::TunnelMode;
use crate::fib::object::TunnelObject;
use crate::net::IfIndex;

/// Octets of `struct ifinfomsg`.
const HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// The builders do not know it of ip6gre: the flags of [`Ip6TunnelFlags`].
const IFLA_GRE_FLAGS: u16 = 13;
/// The kernel's tos of "as the inner packet".
const INHERIT: u8 = 1;

/// A link as the kernel has it, anybody's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::io::netlink) struct SeenLink {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Its group.
    pub group: u32,
    mtu: Option<u32>,
    up: bool,
    kind: String,
    data: Vec<u8>,
}

/// A link from the payload of RTM_NEWLINK.
pub(in crate::io::netlink) fn decode(payload: &[u8]) -> Option<SeenLink> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let up = header.flags.contains(LinkFlags::Up);
    let mut link = SeenLink { index: IfIndex(header.index), up, ..SeenLink::default() };
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    for nla in NlasIterator::new(payload.get(HEADER..)?).flatten() {
        let value = nla.value();
        match nla.kind() {
            IFLA_IFNAME => link.name = parse_string(value).ok()?,
            IFLA_IFALIAS => link.alias = parse_string(value).ok(),
            IFLA_GROUP => link.group = number(value)?,
            IFLA_MTU => link.mtu = number(value),
            IFLA_LINKINFO => {
                for info in NlasIterator::new(value).flatten() {
                    match info.kind() {
                        IFLA_INFO_KIND => link.kind = parse_string(info.value()).ok()?,
                        IFLA_INFO_DATA => link.data = info.value().to_vec(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

impl SeenLink {
    /// The tunnel that it is; None for other links.
    pub fn tunnel(&self, name_of: impl Fn(u32) -> String) -> Option<TunnelObject> {
        let mode = TunnelMode::ALL.iter().find(|(word, _)| *word == self.kind).map(|(_, mode)| *mode)?;
        let nowhere: IpAddr = match mode.outer() {
            crate::net::Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            crate::net::Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut tunnel = TunnelObject {
            name: self.name.clone(),
            mode,
            local: nowhere,
            remote: nowhere,
            ttl: 0,
            tos: 0,
            ikey: None,
            okey: None,
            pmtudisc: true,
            device: None,
            fwmark: 0,
            mtu: self.mtu,
            up: self.up,
            plain: true,
            recursive: false,
        };
        let nlas = NlasIterator::new(&self.data[..]).flatten();
        match mode {
            TunnelMode::Gre | TunnelMode::Gretap => {
                take_gre(&mut tunnel, nlas.filter_map(|nla| InfoGre::parse(&nla).ok()), name_of);
            }
            TunnelMode::Ip6gre => {
                take_gre6(&mut tunnel, nlas.filter_map(|nla| InfoGre6::parse(&nla).ok()), name_of);
            }
            TunnelMode::Ipip | TunnelMode::Sit | TunnelMode::Ip6tnl => {
                let kind = kind(mode);
                let parse = |nla| InfoIpTunnel::parse_with_param(&nla, kind.clone()).ok();
                take_iptunnel(&mut tunnel, nlas.filter_map(parse), name_of);
            }
        }
        Some(tunnel)
    }

    /// As a person would name it.
    pub fn describe(&self) -> String {
        match self.tunnel(|index| format!("if{index}")) {
            Some(tunnel) => format!("tunnel {tunnel}"),
            None if self.kind.is_empty() => format!("device {}", self.name),
            None => format!("device {} of kind {}", self.name, self.kind),
        }
    }
}

fn take_gre(t: &mut TunnelObject, nlas: impl Iterator<Item = InfoGre>, name_of: impl Fn(u32) -> String) {
    let (mut ikey, mut okey) = (0, 0);
    let (mut in_flags, mut out_flags) = (GreIOFlags::empty(), GreIOFlags::empty());
    for nla in nlas {
        match nla {
            InfoGre::Link(index) => t.device = (index != 0).then(|| name_of(index)),
            InfoGre::IFlags(flags) => in_flags = flags,
            InfoGre::OFlags(flags) => out_flags = flags,
            InfoGre::IKey(key) => ikey = key,
            InfoGre::OKey(key) => okey = key,
            InfoGre::Local(a) => t.local = a.into(),
            InfoGre::Remote(a) => t.remote = a.into(),
            InfoGre::Ttl(ttl) => t.ttl = ttl,
            InfoGre::Tos(tos) => t.tos = tos,
            InfoGre::PathMTUDiscovery(is) => t.pmtudisc = is,
            InfoGre::FwMask(mark) => t.fwmark = mark,
            InfoGre::EncapType(kind) => t.plain &= kind == GreEncapType::None,
            InfoGre::CollectMetadata => t.plain = false,
            _ => {}
        }
    }
    t.plain &= (in_flags | out_flags).difference(GreIOFlags::Key).is_empty();
    (t.ikey, t.okey) = keys((in_flags, ikey), (out_flags, okey));
}

fn take_gre6(t: &mut TunnelObject, nlas: impl Iterator<Item = InfoGre6>, name_of: impl Fn(u32) -> String) {
    let (mut ikey, mut okey) = (0, 0);
    let (mut in_flags, mut out_flags) = (GreIOFlags::empty(), GreIOFlags::empty());
    let (mut flags, mut flow) = (Ip6TunnelFlags::empty(), 0);
    for nla in nlas {
        match nla {
            InfoGre6::Link(index) => t.device = (index != 0).then(|| name_of(index)),
            InfoGre6::IFlags(flags) => in_flags = flags,
            InfoGre6::OFlags(flags) => out_flags = flags,
            InfoGre6::IKey(key) => ikey = key,
            InfoGre6::OKey(key) => okey = key,
            InfoGre6::Local(a) => t.local = a.into(),
            InfoGre6::Remote(a) => t.remote = a.into(),
            InfoGre6::Ttl(ttl) => t.ttl = ttl,
            InfoGre6::FlowLabel(word) => flow = word,
            InfoGre6::FwMask(mark) => t.fwmark = mark,
            InfoGre6::EncapType(kind) => t.plain &= kind == GreEncapType::None,
            InfoGre6::CollectMetadata => t.plain = false,
            InfoGre6::Other(nla) if nla.kind() == IFLA_GRE_FLAGS => {
                let mut value = [0; 4];
                if nla.value_len() == value.len() {
                    nla.emit_value(&mut value);
                }
                flags = Ip6TunnelFlags::from_bits_retain(u32::from_ne_bytes(value));
            }
            _ => {}
        }
    }
    t.plain &= (in_flags | out_flags).difference(GreIOFlags::Key).is_empty() && is_plain6(flags);
    (t.ikey, t.okey) = keys((in_flags, ikey), (out_flags, okey));
    t.tos = traffic_class(flags, flow);
}

fn take_iptunnel(
    t: &mut TunnelObject,
    nlas: impl Iterator<Item = InfoIpTunnel>,
    name_of: impl Fn(u32) -> String,
) {
    let (mut flags, mut flow) = (Ip6TunnelFlags::empty(), 0);
    for nla in nlas {
        match nla {
            InfoIpTunnel::Link(index) => t.device = (index != 0).then(|| name_of(index)),
            InfoIpTunnel::Local(a) => t.local = a,
            InfoIpTunnel::Remote(a) => t.remote = a,
            InfoIpTunnel::Ttl(ttl) => t.ttl = ttl,
            InfoIpTunnel::Tos(tos) => t.tos = tos,
            InfoIpTunnel::PMtuDisc(is) => t.pmtudisc = is,
            InfoIpTunnel::FwMark(mark) => t.fwmark = mark,
            InfoIpTunnel::FlowInfo(word) => flow = word,
            InfoIpTunnel::Ipv6Flags(found) => flags = found,
            InfoIpTunnel::EncapType(kind) => t.plain &= kind == TunnelEncapType::None,
            InfoIpTunnel::CollectMetadata => t.plain = false,
            _ => {}
        }
    }
    if t.mode == TunnelMode::Ip6tnl {
        t.plain &= is_plain6(flags);
        t.tos = traffic_class(flags, flow);
    }
}

fn keys(i: (GreIOFlags, u32), o: (GreIOFlags, u32)) -> (Option<u32>, Option<u32>) {
    let key = |(flags, key): (GreIOFlags, u32)| flags.contains(GreIOFlags::Key).then_some(key);
    (key(i), key(o))
}

/// RFC 8200 section 3: version, traffic class, flow label.
fn traffic_class(flags: Ip6TunnelFlags, flow: u32) -> u8 {
    if flags.contains(Ip6TunnelFlags::UseOrigTclass) { INHERIT } else { ((flow >> 20) & 0xff) as u8 }
}

fn flow(tos: u8) -> u32 {
    if tos == INHERIT { 0 } else { u32::from(tos) << 20 }
}

/// Without the tunnel encapsulation limit (RFC 2473 section 4.1.1): many routers drop what has a destination option.
fn flags6(tos: u8) -> Ip6TunnelFlags {
    let mut flags = Ip6TunnelFlags::IgnEncapLimit;
    flags.set(Ip6TunnelFlags::UseOrigTclass, tos == INHERIT);
    flags
}

/// The flags that [`flags6`] sets or not; what the kernel adds for itself does not count.
fn is_plain6(flags: Ip6TunnelFlags) -> bool {
    let others = Ip6TunnelFlags::UseOrigFlowlabel
        | Ip6TunnelFlags::Mip6Dev
        | Ip6TunnelFlags::RcvDscpCopy
        | Ip6TunnelFlags::UseOrigFwMark
        | Ip6TunnelFlags::AllowLocalRemote;
    flags.contains(Ip6TunnelFlags::IgnEncapLimit) && !flags.intersects(others)
}

fn kind(mode: TunnelMode) -> InfoKind {
    match mode {
        TunnelMode::Gre => InfoKind::GreTun,
        TunnelMode::Gretap => InfoKind::GreTap,
        TunnelMode::Ip6gre => InfoKind::GreTun6,
        TunnelMode::Ipip => InfoKind::IpIp,
        TunnelMode::Sit => InfoKind::SitTun,
        TunnelMode::Ip6tnl => InfoKind::Ip6Tnl,
    }
}

/// Kind and every attribute of it.
pub(super) fn info(t: &TunnelObject, device: Option<IfIndex>) -> LinkAttribute {
    let device = device.map_or(0, |d| d.0);
    let data = match t.mode {
        TunnelMode::Gre => InfoData::GreTun(gre(t, device)),
        TunnelMode::Gretap => InfoData::GreTap(gre(t, device)),
        TunnelMode::Ip6gre => InfoData::GreTun6(gre6(t, device)),
        TunnelMode::Ipip | TunnelMode::Sit | TunnelMode::Ip6tnl => InfoData::IpTunnel(iptunnel(t, device)),
    };
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind(t.mode)), LinkInfo::Data(data)])
}

/// A key needs both the flag and the value.
fn key_flag(key: Option<u32>) -> GreIOFlags {
    if key.is_some() { GreIOFlags::Key } else { GreIOFlags::empty() }
}

fn gre(t: &TunnelObject, device: u32) -> Vec<InfoGre> {
    let mut all = vec![
        InfoGre::Link(device),
        InfoGre::IFlags(key_flag(t.ikey)),
        InfoGre::OFlags(key_flag(t.okey)),
        InfoGre::IKey(t.ikey.unwrap_or(0)),
        InfoGre::OKey(t.okey.unwrap_or(0)),
        InfoGre::Ttl(t.ttl),
        InfoGre::Tos(t.tos),
        InfoGre::PathMTUDiscovery(t.pmtudisc),
        InfoGre::FwMask(t.fwmark),
    ];
    if let (IpAddr::V4(local), IpAddr::V4(remote)) = (t.local, t.remote) {
        all.extend([InfoGre::Local(local), InfoGre::Remote(remote)]);
    }
    all
}

fn gre6(t: &TunnelObject, device: u32) -> Vec<InfoGre6> {
    let mut all = vec![
        InfoGre6::Link(device),
        InfoGre6::IFlags(key_flag(t.ikey)),
        InfoGre6::OFlags(key_flag(t.okey)),
        InfoGre6::IKey(t.ikey.unwrap_or(0)),
        InfoGre6::OKey(t.okey.unwrap_or(0)),
        InfoGre6::Ttl(t.ttl),
        InfoGre6::FlowLabel(flow(t.tos)),
        InfoGre6::FwMask(t.fwmark),
        InfoGre6::Other(DefaultNla::new(IFLA_GRE_FLAGS, flags6(t.tos).bits().to_ne_bytes().to_vec())),
    ];
    if let (IpAddr::V6(local), IpAddr::V6(remote)) = (t.local, t.remote) {
        all.extend([InfoGre6::Local(local), InfoGre6::Remote(remote)]);
    }
    all
}

fn iptunnel(t: &TunnelObject, device: u32) -> Vec<InfoIpTunnel> {
    let mut all = vec![
        InfoIpTunnel::Link(device),
        InfoIpTunnel::Local(t.local),
        InfoIpTunnel::Remote(t.remote),
        InfoIpTunnel::Ttl(t.ttl),
        InfoIpTunnel::FwMark(t.fwmark),
    ];
    if t.mode == TunnelMode::Ip6tnl {
        all.extend([InfoIpTunnel::FlowInfo(flow(t.tos)), InfoIpTunnel::Ipv6Flags(flags6(t.tos))]);
    } else {
        all.extend([InfoIpTunnel::Tos(t.tos), InfoIpTunnel::PMtuDisc(t.pmtudisc)]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::LinkMessage;
    use proptest::prelude::*;

    fn tunnel() -> impl Strategy<Value = TunnelObject> {
        let key = || proptest::option::of(any::<u32>());
        let numbers = (any::<u8>(), any::<u8>(), any::<u32>(), proptest::option::of(1280..9000u32));
        (0..6usize, numbers, key(), key(), any::<[u8; 4]>(), any::<[bool; 3]>()).prop_map(
            |(n, (ttl, tos, fwmark, mtu), ikey, okey, [a, b, c, d], [pmtudisc, up, device])| {
                let mode = TunnelMode::ALL[n].1;
                let v6 = mode.outer() == crate::net::Family::V6;
                let address = |last: u8| match v6 {
                    true => {
                        IpAddr::from([0x2001, 0xdb8, u16::from(a), 0, 0, u16::from(b), 0, u16::from(last)])
                    }
                    false => IpAddr::from([a, b, c, last]),
                };
                TunnelObject {
                    name: "gre1".into(),
                    mode,
                    local: address(d),
                    remote: address(d.wrapping_add(1)),
                    ttl,
                    tos,
                    ikey: ikey.filter(|_| mode.has_keys()),
                    okey: okey.filter(|_| mode.has_keys()),
                    pmtudisc: pmtudisc || v6,
                    device: device.then(|| "if7".into()),
                    fwmark,
                    mtu,
                    up,
                    plain: true,
                    recursive: false,
                }
            },
        )
    }

    fn bytes_of(tunnel: &TunnelObject) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.flags.set(LinkFlags::Up, tunnel.up);
        message.attributes = vec![LinkAttribute::IfName(tunnel.name.clone())];
        message.attributes.extend(tunnel.mtu.map(LinkAttribute::Mtu));
        message.attributes.push(info(tunnel, tunnel.device.as_ref().map(|_| IfIndex(7))));
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// "Compared field by field": an option that we have no words for is one that is not ours.
    #[test]
    fn options_that_are_not_ours_show() {
        let plain = |kind: InfoKind, data: InfoData| {
            let mut message = LinkMessage::default();
            message.attributes =
                vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])];
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            decode(&bytes).unwrap().tunnel(|_| "x".into()).unwrap().plain
        };
        let gre = |all: Vec<InfoGre>| plain(InfoKind::GreTun, InfoData::GreTun(all));
        let flags6 = |flags: Ip6TunnelFlags| {
            InfoGre6::Other(DefaultNla::new(IFLA_GRE_FLAGS, flags.bits().to_ne_bytes().to_vec()))
        };
        let gre6 = |all: Vec<InfoGre6>| plain(InfoKind::GreTun6, InfoData::GreTun6(all));
        let tnl = |flags| plain(InfoKind::Ip6Tnl, InfoData::IpTunnel(vec![InfoIpTunnel::Ipv6Flags(flags)]));
        let limit = Ip6TunnelFlags::IgnEncapLimit;
        assert!(gre(vec![InfoGre::IFlags(GreIOFlags::Key), InfoGre::EncapType(GreEncapType::None)]));
        assert!(!gre(vec![InfoGre::OFlags(GreIOFlags::Key | GreIOFlags::Checksum)]));
        assert!(!gre(vec![InfoGre::IFlags(GreIOFlags::Seq)]));
        assert!(!gre(vec![InfoGre::EncapType(GreEncapType::Gue)]));
        assert!(!gre(vec![InfoGre::CollectMetadata]));
        assert!(gre6(vec![flags6(limit | Ip6TunnelFlags::CapXmit)]));
        assert!(!gre6(vec![flags6(Ip6TunnelFlags::CapXmit)]), "an encapsulation limit");
        assert!(!gre6(vec![flags6(limit), InfoGre6::IFlags(GreIOFlags::Checksum)]));
        assert!(tnl(limit | Ip6TunnelFlags::UseOrigTclass) && !tnl(Ip6TunnelFlags::UseOrigTclass));
        assert!(!tnl(limit | Ip6TunnelFlags::RcvDscpCopy));
        let ipip = vec![InfoIpTunnel::EncapType(TunnelEncapType::Fou)];
        assert!(!plain(InfoKind::IpIp, InfoData::IpTunnel(ipip)));
    }

    proptest! {
        /// What is sent is what is read, of every mode: no difference remains for ever.
        #[test]
        fn every_attribute_survives_the_wire(tunnel in tunnel()) {
            let seen = decode(&bytes_of(&tunnel)).unwrap();
            prop_assert_eq!(seen.tunnel(|index| format!("if{index}")), Some(tunnel));
            prop_assert_eq!(seen.index, IfIndex(9));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            tunnel in tunnel(), at in 0usize..200, value in any::<u8>(), cut in 0usize..300,
        ) {
            let mut bytes = bytes_of(&tunnel);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            if let Some(link) = decode(&bytes) {
                link.describe();
            }
        }
    }
}
