//! What carries traffic on: tunnels, policy rules, next hops.

use std::net::IpAddr;

use super::{Name, When};
use crate::net::{Family, Prefix};

/// `[[instance.tunnel]]`: a virtual link to somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// `name` of the device.
    pub name: String,
    /// `mode`.
    pub mode: TunnelMode,
    /// `local`: our end, of the mode's outer family.
    pub local: IpAddr,
    /// `remote`: the other end.
    pub remote: IpAddr,
    /// `ttl` of the outer packets; 0: the inner packet's. Default 64.
    pub ttl: u8,
    /// `tos` (traffic class) of the outer packets; 1: the inner packet's, as the kernel has it. Default 0.
    pub tos: u8,
    /// `ikey`, or `key`: what packets must carry to be ours.
    pub ikey: Option<u32>,
    /// `okey`, or `key`: what our packets carry.
    pub okey: Option<u32>,
    /// `pmtudisc`: outer IPv4 packets are not to be fragmented on their way. Default true.
    pub pmtudisc: bool,
    /// `device`: outer packets leave through this one.
    pub device: Option<String>,
    /// `fwmark` of outer packets; 0: none.
    pub fwmark: u32,
    /// `mtu` of the device. Default: the kernel's choice.
    pub mtu: Option<u32>,
    /// `addresses` on it, with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// `when`. Default always.
    pub when: When,
}

/// `mode` of a tunnel, named as `ip link` does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TunnelMode {
    /// GRE over IPv4 (RFC 2784, keys RFC 2890).
    Gre,
    /// IPv4 in IPv4 (RFC 2003).
    Ipip,
    /// IPv6 in IPv4 (RFC 4213).
    Sit,
    /// GRE over IPv6 (RFC 7676).
    Ip6gre,
    /// IPv4 and IPv6 in IPv6 (RFC 2473).
    Ip6tnl,
    /// Ethernet in GRE over IPv4.
    Gretap,
}

impl TunnelMode {
    /// All of them, by the words of the file.
    pub const ALL: [(&'static str, TunnelMode); 6] = [
        ("gre", TunnelMode::Gre),
        ("ipip", TunnelMode::Ipip),
        ("sit", TunnelMode::Sit),
        ("ip6gre", TunnelMode::Ip6gre),
        ("ip6tnl", TunnelMode::Ip6tnl),
        ("gretap", TunnelMode::Gretap),
    ];

    /// The word of the file, which is also the kernel's kind of device.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }

    /// The family of the packets that carry.
    pub fn outer(self) -> Family {
        match self {
            TunnelMode::Ip6gre | TunnelMode::Ip6tnl => Family::V6,
            _ => Family::V4,
        }
    }

    /// True if packets of that family can be carried.
    pub fn carries(self, family: Family) -> bool {
        match self {
            TunnelMode::Ipip => family == Family::V4,
            TunnelMode::Sit => family == Family::V6,
            _ => true,
        }
    }

    /// GRE has keys.
    pub fn has_keys(self) -> bool {
        matches!(self, TunnelMode::Gre | TunnelMode::Ip6gre | TunnelMode::Gretap)
    }

    /// The kernel module that brings it.
    pub fn module(self) -> &'static str {
        match self {
            TunnelMode::Gre | TunnelMode::Gretap => "ip_gre",
            TunnelMode::Ipip => "ipip",
            TunnelMode::Sit => "sit",
            TunnelMode::Ip6gre => "ip6_gre",
            TunnelMode::Ip6tnl => "ip6_tunnel",
        }
    }
}

/// `[[instance.rule]]`: which routing table a packet is looked up in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// IPv4 or IPv6: what `from` and `to` are, else `family`.
    pub family: Family,
    /// `from`: source addresses.
    pub from: Option<Prefix>,
    /// `to`: destination addresses.
    pub to: Option<Prefix>,
    /// `fwmark`: value and mask.
    pub fwmark: Option<(u32, u32)>,
    /// `iif`: the device that it came in through.
    pub iif: Option<String>,
    /// `table`.
    pub table: u32,
    /// `priority`: lower is looked at first. Default 10000.
    pub priority: u32,
    /// `when`. Default master.
    pub when: When,
}

/// One of a route's `nexthops`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// `via`.
    pub via: Option<IpAddr>,
    /// `dev`.
    pub dev: Option<String>,
    /// `check`: used only while this one does not fail.
    pub check: Option<Name>,
    /// `weight` among several, 1 to 256. Default 1.
    pub weight: u16,
}

/// `nexthops`, `mode` and `when_none` of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextHops {
    /// In the order of the file: the first is the best. At least one.
    pub hops: Vec<NextHop>,
    /// `mode`. Default failover.
    pub mode: HopMode,
    /// `when_none`. Default keep.
    pub when_none: WhenNone,
}

/// `mode` of a route with `nexthops`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopMode {
    /// The first healthy one.
    Failover,
    /// All healthy ones, by weight.
    Ecmp,
}

/// `when_none`: what becomes of a route without a healthy next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenNone {
    /// It stays as it last was.
    Keep,
    /// It goes.
    Remove,
}
