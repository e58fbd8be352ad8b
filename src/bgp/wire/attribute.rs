//! Path attributes as octets: type codes, flags, and the block that every message of an announcement shares.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{AS_TRANS, Reader};
use crate::bgp::attributes::Attributes;
use crate::bgp::community::Community;
use crate::net::Asn;

/// Attribute type codes (IANA's registry).
#[allow(missing_docs)]
pub mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const AIGP: u8 = 26;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Attribute flag: optional.
pub const OPTIONAL: u8 = 0x80;
/// Attribute flag: transitive.
pub const TRANSITIVE: u8 = 0x40;
/// Attribute flag: the length has two octets.
pub const EXTENDED_LENGTH: u8 = 0x10;

/// The one type of AS_PATH segment that is still in use (RFC 9774).
pub(crate) const AS_SEQUENCE: u8 = 2;

/// What a session makes of every announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathParameters {
    /// Our AS number, first in every AS_PATH.
    pub local_as: Asn,
    /// The peer is in another AS.
    pub external: bool,
    /// Both sides have RFC 6793.
    pub four_octet: bool,
    /// Add ONLY_TO_CUSTOMER (RFC 9234 section 5, egress): our role is provider, peer or route server.
    pub only_to_customer: bool,
}

/// Appends all attributes but MP_REACH_NLRI, ascending by type code; NEXT_HOP if given.
pub fn put_attributes(
    out: &mut Vec<u8>,
    attributes: &Attributes,
    graceful_shutdown: bool,
    path: &PathParameters,
    next_hop: Option<Ipv4Addr>,
) {
    put(out, TRANSITIVE, code::ORIGIN, &[0]);
    let copies = if path.external { usize::from(attributes.prepend) + 1 } else { 0 };
    put_as_path(out, path, copies);
    if let Some(next_hop) = next_hop {
        put(out, TRANSITIVE, code::NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        put(out, OPTIONAL, code::MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    if !path.external {
        // RFC 4271 section 5.1.5: mandatory towards internal peers.
        put(out, TRANSITIVE, code::LOCAL_PREF, &100_u32.to_be_bytes());
    }
    put_communities(out, attributes, graceful_shutdown);
    if !attributes.extended_communities.is_empty() {
        let value: Vec<u8> =
            attributes.extended_communities.iter().flat_map(|community| community.0).collect();
        put(out, OPTIONAL | TRANSITIVE, code::EXTENDED_COMMUNITIES, &value);
    }
    if !path.four_octet && copies > 0 && path.local_as.0 > u32::from(u16::MAX) {
        // RFC 6793 section 4.2.2.
        put(out, OPTIONAL | TRANSITIVE, code::AS4_PATH, &segments(copies, &path.local_as.0.to_be_bytes()));
    }
    if !attributes.large_communities.is_empty() {
        let parts = attributes.large_communities.iter().flat_map(|c| [c.global, c.local1, c.local2]);
        let value: Vec<u8> = parts.flat_map(u32::to_be_bytes).collect();
        put(out, OPTIONAL | TRANSITIVE, code::LARGE_COMMUNITIES, &value);
    }
    if path.only_to_customer {
        put(out, OPTIONAL | TRANSITIVE, code::ONLY_TO_CUSTOMER, &path.local_as.0.to_be_bytes());
    }
}

fn put_as_path(out: &mut Vec<u8>, path: &PathParameters, copies: usize) {
    let value = if path.four_octet {
        segments(copies, &path.local_as.0.to_be_bytes())
    } else {
        segments(copies, &u16::try_from(path.local_as.0).unwrap_or(AS_TRANS).to_be_bytes())
    };
    put(out, TRANSITIVE, code::AS_PATH, &value);
}

/// AS_SEQUENCE segments of at most 255 copies each (RFC 4271 section 4.3).
fn segments(mut copies: usize, asn: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    while copies > 0 {
        let count = copies.min(255);
        value.extend_from_slice(&[AS_SEQUENCE, count as u8]);
        (0..count).for_each(|_| value.extend_from_slice(asn));
        copies -= count;
    }
    value
}

fn put_communities(out: &mut Vec<u8>, attributes: &Attributes, graceful_shutdown: bool) {
    let extra = graceful_shutdown && !attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN);
    let all = attributes.communities.iter().copied().chain(extra.then_some(Community::GRACEFUL_SHUTDOWN));
    let value: Vec<u8> = all.flat_map(|community| community.0.to_be_bytes()).collect();
    if !value.is_empty() {
        put(out, OPTIONAL | TRANSITIVE, code::COMMUNITIES, &value);
    }
}

fn put(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, code, length]),
        Err(_) => {
            // Nothing here comes near 65,535 octets: `Attributes::check` bounds the lists.
            let [high, low] = (value.len() as u16).to_be_bytes();
            out.extend_from_slice(&[flags | EXTENDED_LENGTH, code, high, low]);
        }
    }
    out.extend_from_slice(value);
}

/// One path attribute as it stands in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawAttribute<'a> {
    /// Attribute Flags.
    pub flags: u8,
    /// Attribute Type Code.
    pub code: u8,
    /// Attribute Value.
    pub value: &'a [u8],
    /// The whole attribute, header included.
    pub octets: &'a [u8],
}

/// Walks over path attributes; an `Err` (once, at the end) says that one overran them (RFC 7606 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawAttributes<'a>(pub &'a [u8]);

/// A path attribute is longer than what is left of the attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun {
    /// Its type code, if that much is there.
    pub code: Option<u8>,
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = Result<RawAttribute<'a>, Overrun>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut self.0);
        let mut reader = Reader(all);
        let Some(attribute) = read_attribute(&mut reader) else {
            return Some(Err(Overrun { code: all.get(1).copied() }));
        };
        self.0 = reader.0;
        let octets = all.get(..all.len() - reader.0.len()).unwrap_or(all);
        Some(Ok(RawAttribute { octets, ..attribute }))
    }
}

fn read_attribute<'a>(reader: &mut Reader<'a>) -> Option<RawAttribute<'a>> {
    let (flags, code) = (reader.u8()?, reader.u8()?);
    let length = if flags & EXTENDED_LENGTH == 0 { reader.u8()?.into() } else { reader.u16()? };
    let value = reader.take(usize::from(length))?;
    Some(RawAttribute { flags, code, value, octets: &[] })
}

/// How a family's prefixes name their next hop on a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// NEXT_HOP beside the classic NLRI field (IPv4 only).
    Classic(Ipv4Addr),
    /// In MP_REACH_NLRI (RFC 4760; for IPv4 prefixes RFC 8950).
    Multiprotocol(Ipv6Addr),
}
