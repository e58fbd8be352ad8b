//! UPDATE messages, filled by copying: attributes are encoded once for each announcement, prefixes once for all.

use super::attribute::{EXTENDED_LENGTH, NextHop, OPTIONAL, PathParameters, code, put_attributes};
use super::header::{MessageType, begin, finish};
use super::{HEADER_LEN, SAFI_UNICAST, afi};
use crate::bgp::attributes::Attributes;
use crate::net::Family;

/// How a family is written on a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FamilyEncoding {
    /// Which family.
    pub family: Family,
    /// Its next hop.
    pub next_hop: NextHop,
}

/// The octets that all messages of an announcement share: the path attributes but for MP_REACH_NLRI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedAttributes(Box<[u8]>);

impl EncodedAttributes {
    /// Encodes for one family of one session; `graceful_shutdown` adds RFC 8326's community.
    pub fn new(
        attributes: &Attributes,
        graceful_shutdown: bool,
        path: &PathParameters,
        encoding: FamilyEncoding,
    ) -> Self {
        let mut out = Vec::with_capacity(64);
        let next_hop = match encoding.next_hop {
            NextHop::Classic(address) => Some(address),
            NextHop::Multiprotocol(_) => None,
        };
        put_attributes(&mut out, attributes, graceful_shutdown, path, next_hop);
        EncodedAttributes(out.into())
    }

    /// How many octets of NLRI fit beside these attributes into a message.
    pub fn room(&self, encoding: FamilyEncoding, max_message: usize) -> usize {
        let multiprotocol = match encoding.next_hop {
            NextHop::Classic(_) => 0,
            NextHop::Multiprotocol(_) => MP_REACH_HEAD,
        };
        max_message.saturating_sub(HEADER_LEN + 4 + multiprotocol + self.0.len())
    }
}

/// Attribute header, AFI, SAFI, next hop length, next hop, reserved (RFC 4760 section 3).
const MP_REACH_HEAD: usize = 4 + 2 + 1 + 1 + 16 + 1;
/// Attribute header, AFI, SAFI (RFC 4760 section 4).
const MP_UNREACH_HEAD: usize = 4 + 2 + 1;

/// A message under construction: NLRI is appended to the buffer between `begin` and `finish`.
pub struct Packer {
    start: usize,
    kind: Kind,
}

enum Kind {
    Announce,
    AnnounceMultiprotocol { length_at: usize },
    Withdraw,
    WithdrawMultiprotocol { length_at: usize },
}

impl Packer {
    /// Begins an UPDATE that announces.
    pub fn announce(out: &mut Vec<u8>, attributes: &EncodedAttributes, encoding: FamilyEncoding) -> Self {
        let start = begin(out, MessageType::Update);
        out.extend_from_slice(&[0, 0]);
        let kind = match encoding.next_hop {
            NextHop::Classic(_) => {
                out.extend_from_slice(&(attributes.0.len() as u16).to_be_bytes());
                out.extend_from_slice(&attributes.0);
                Kind::Announce
            }
            NextHop::Multiprotocol(address) => {
                // RFC 7606 section 5.1: MP_REACH_NLRI comes first.
                let length_at = out.len();
                out.extend_from_slice(&[0, 0, OPTIONAL | EXTENDED_LENGTH, code::MP_REACH_NLRI, 0, 0]);
                out.extend_from_slice(&afi(encoding.family).to_be_bytes());
                out.extend_from_slice(&[SAFI_UNICAST, 16]);
                out.extend_from_slice(&address.octets());
                out.push(0);
                Kind::AnnounceMultiprotocol { length_at }
            }
        };
        Packer { start, kind }
    }

    /// Begins an UPDATE that withdraws.
    pub fn withdraw(out: &mut Vec<u8>, encoding: FamilyEncoding) -> Self {
        let start = begin(out, MessageType::Update);
        let kind = match encoding.next_hop {
            NextHop::Classic(_) => {
                out.extend_from_slice(&[0, 0]);
                Kind::Withdraw
            }
            NextHop::Multiprotocol(_) => {
                out.extend_from_slice(&[0, 0]);
                let length_at = out.len();
                put_unreach_head(out, encoding.family);
                Kind::WithdrawMultiprotocol { length_at }
            }
        };
        Packer { start, kind }
    }

    /// How many octets of NLRI fit into a message that withdraws.
    pub fn withdraw_room(encoding: FamilyEncoding, max_message: usize) -> usize {
        let multiprotocol = match encoding.next_hop {
            NextHop::Classic(_) => 0,
            NextHop::Multiprotocol(_) => MP_UNREACH_HEAD,
        };
        max_message.saturating_sub(HEADER_LEN + 4 + multiprotocol)
    }

    /// Ends the message that `announce` or `withdraw` began.
    pub fn finish(self, out: &mut Vec<u8>, attributes: Option<&EncodedAttributes>) {
        match self.kind {
            Kind::Announce => {}
            Kind::AnnounceMultiprotocol { length_at } => {
                patch(out, length_at + 4);
                if let Some(attributes) = attributes {
                    out.extend_from_slice(&attributes.0);
                }
                patch(out, length_at);
            }
            Kind::Withdraw => {
                patch(out, self.start + HEADER_LEN);
                out.extend_from_slice(&[0, 0]);
            }
            Kind::WithdrawMultiprotocol { length_at } => {
                patch(out, length_at);
                patch(out, length_at + 4);
            }
        }
        finish(out, self.start);
    }
}

fn put_unreach_head(out: &mut Vec<u8>, family: Family) {
    out.extend_from_slice(&[0, 0, OPTIONAL | EXTENDED_LENGTH, code::MP_UNREACH_NLRI, 0, 0]);
    out.extend_from_slice(&afi(family).to_be_bytes());
    out.push(SAFI_UNICAST);
}

/// Sets the two octets at `at` to the length of what follows them.
fn patch(out: &mut [u8], at: usize) {
    let length = out.len().saturating_sub(at + 2);
    if let Some(field) = out.get_mut(at..at + 2) {
        // Messages are at most 65,535 octets long, so every length inside fits.
        field.copy_from_slice(&(length as u16).to_be_bytes());
    }
}

/// Appends End-of-RIB (RFC 4724 section 2): an empty UPDATE for IPv4, an empty MP_UNREACH_NLRI otherwise.
pub fn put_end_of_rib(out: &mut Vec<u8>, family: Family) {
    let start = begin(out, MessageType::Update);
    out.extend_from_slice(&[0, 0]);
    match family {
        Family::V4 => out.extend_from_slice(&[0, 0]),
        Family::V6 => out.extend_from_slice(&[0, 6, OPTIONAL, code::MP_UNREACH_NLRI, 3, 0, 2, SAFI_UNICAST]),
    }
    finish(out, start);
}
