//! BGP messages as octets: parsing that never panics and allocates no more than the message, and packing at
//! the speed of a copy. What the octets mean for a session is decided elsewhere.

pub mod attribute;
pub mod capability;
pub mod header;
pub mod notification;
pub mod open;
pub mod pack;
pub mod refresh;
pub mod update;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod robustness;

use crate::net::Family;

/// The octets of a message header (RFC 4271 section 4.1).
pub const HEADER_LEN: usize = 19;
/// The longest message without RFC 8654, in octets.
pub const MAX_MESSAGE: usize = 4096;
/// The longest message where both sides have RFC 8654, in octets.
pub const MAX_EXTENDED_MESSAGE: usize = 65535;
/// What stands for a four-octet AS number in a field of two octets (RFC 6793 section 9).
pub const AS_TRANS: u16 = 23456;
/// SAFI of unicast forwarding (RFC 4760 section 6).
pub const SAFI_UNICAST: u8 = 1;

/// The Address Family Identifier of RFC 4760.
pub fn afi(family: Family) -> u16 {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

/// The unicast family that (AFI, SAFI) names; `None` for all that we do not speak.
pub fn unicast_family(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, SAFI_UNICAST) => Some(Family::V4),
        (2, SAFI_UNICAST) => Some(Family::V6),
        _ => None,
    }
}

/// Reads big-endian fields off the front of a slice; `None` where it is too short.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}
