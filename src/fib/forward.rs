//! Objects that carry traffic on: tunnels, policy rules, the next hops of a route.

use std::fmt;
use std::net::IpAddr;

use crate::config::model::TunnelMode;
use crate::net::{Family, Prefix};

/// A tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelObject {
    /// The device's name.
    pub name: String,
    /// Mode.
    pub mode: TunnelMode,
    /// Our end.
    pub local: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// Of the outer packets; 0: the inner packet's.
    pub ttl: u8,
    /// Of the outer packets; 1: the inner packet's.
    pub tos: u8,
    /// What packets must carry.
    pub ikey: Option<u32>,
    /// What our packets carry.
    pub okey: Option<u32>,
    /// Outer IPv4 packets carry DF; IPv6 knows nothing else.
    pub pmtudisc: bool,
    /// Outer packets leave through this device.
    pub device: Option<String>,
    /// Of the outer packets; 0: none.
    pub fwmark: u32,
    /// Wanted: None accepts any.
    pub mtu: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// Seen only (ours always are): none of the options that we have no words for, as checksums, sequence numbers, an
    /// encapsulation in UDP, the encapsulation limit of IPv6.
    pub plain: bool,
    /// Seen only: the kernel's way to the other end leads into the tunnel itself.
    pub recursive: bool,
}

impl TunnelObject {
    /// True if what the kernel has (`self`) is what is wanted. That it is recursive is nothing that making it anew
    /// would change.
    pub fn satisfies(&self, wanted: &TunnelObject) -> bool {
        let mtu_ok = wanted.mtu.is_none() || wanted.mtu == self.mtu;
        let rest = |t: &TunnelObject| TunnelObject { mtu: None, recursive: false, ..t.clone() };
        mtu_ok && rest(self) == rest(wanted)
    }

    /// True if the kernel can make `wanted` of this one without making it anew: all but the kind of device, and options of
    /// others' making, some of which a change leaves as they are.
    pub fn can_become(&self, wanted: &TunnelObject) -> bool {
        self.mode == wanted.mode && self.plain
    }

    /// True if the kernel could not tell the packets of the two apart, and so has only one of them.
    pub fn has_ends_of(&self, other: &TunnelObject) -> bool {
        let ends = |t: &TunnelObject| (t.mode, t.local, t.remote, t.ikey, t.device.clone());
        ends(self) == ends(other)
    }
}

impl fmt::Display for TunnelObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mode {} local {} remote {}", self.name, self.mode.word(), self.local, self.remote)?;
        match self.ttl {
            0 => write!(f, " ttl inherit")?,
            ttl => write!(f, " ttl {ttl}")?,
        }
        match self.tos {
            0 => {}
            1 => write!(f, " tos inherit")?,
            tos => write!(f, " tos {tos:#04x}")?,
        }
        match (self.ikey, self.okey) {
            (Some(ikey), Some(okey)) if ikey == okey => write!(f, " key {ikey}")?,
            (ikey, okey) => {
                ikey.map_or(Ok(()), |key| write!(f, " ikey {key}"))?;
                okey.map_or(Ok(()), |key| write!(f, " okey {key}"))?;
            }
        }
        if !self.pmtudisc {
            write!(f, " nopmtudisc")?;
        }
        self.device.as_ref().map_or(Ok(()), |dev| write!(f, " dev {dev}"))?;
        if self.fwmark != 0 {
            write!(f, " fwmark {:#x}", self.fwmark)?;
        }
        self.mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))?;
        if !self.plain {
            write!(f, " with options that are not ours")?;
        }
        if self.up { Ok(()) } else { write!(f, " down") }
    }
}

/// A policy rule that leads to a table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleObject {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Lower is looked at first.
    pub priority: u32,
    /// Sources.
    pub from: Option<Prefix>,
    /// Destinations.
    pub to: Option<Prefix>,
    /// Mark and mask.
    pub fwmark: Option<(u32, u32)>,
    /// The device that it came in through.
    pub iif: Option<String>,
    /// Where to look it up.
    pub table: u32,
}

impl fmt::Display for RuleObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => write!(f, "from all")?,
        }
        self.to.map_or(Ok(()), |to| write!(f, " to {to}"))?;
        match self.fwmark {
            None => {}
            Some((mark, u32::MAX)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
        }
        self.iif.as_ref().map_or(Ok(()), |dev| write!(f, " iif {dev}"))?;
        write!(f, " lookup {} priority {}", self.table, self.priority)?;
        if self.family == Family::V6 && self.from.or(self.to).is_none() {
            write!(f, " (IPv6)")
        } else {
            Ok(())
        }
    }
}

/// One of a route's several next hops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Device; wanted: None accepts any.
    pub dev: Option<String>,
    /// Share of the traffic, 1 to 256.
    pub weight: u16,
}

impl Hop {
    /// True if each of `have` is one of `want` and the other way round: the kernel keeps an order of its own.
    pub fn same_set(have: &[Hop], want: &[Hop]) -> bool {
        let mut left: Vec<&Hop> = have.iter().collect();
        let mut take = |wanted: &Hop| {
            let fits = |h: &&Hop| {
                let dev_ok = wanted.dev.is_none() || wanted.dev == h.dev;
                dev_ok && (h.via, h.weight) == (wanted.via, wanted.weight)
            };
            left.iter().position(fits).map(|at| left.swap_remove(at)).is_some()
        };
        have.len() == want.len() && want.iter().all(&mut take)
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nexthop")?;
        self.via.map_or(Ok(()), |via| write!(f, " via {via}"))?;
        self.dev.as_ref().map_or(Ok(()), |dev| write!(f, " dev {dev}"))?;
        write!(f, " weight {}", self.weight)
    }
}
