//! ROUTE-REFRESH (RFC 2918) with the subtypes of enhanced refresh (RFC 7313).

use super::header::{MessageType, begin, finish};
use super::notification::{Cause, Notification};
use super::{SAFI_UNICAST, afi, unicast_family};
use crate::net::Family;

/// The Message Subtype of RFC 7313 section 3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefreshKind {
    /// Please send everything again.
    Request,
    /// Beginning of route refresh.
    Begin,
    /// End of route refresh.
    End,
}

/// A ROUTE-REFRESH for a family that we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteRefresh {
    /// What it asks or marks.
    pub kind: RefreshKind,
    /// For which routes.
    pub family: Family,
}

impl RouteRefresh {
    /// Parses a whole message; `None` for families and subtypes that are not ours, which are ignored.
    ///
    /// `enhanced`: RFC 7313 was negotiated, which gives the reserved octet its meaning and a wrong length its
    /// error (section 5: the Data field is the whole message).
    pub fn parse(message: &[u8], enhanced: bool) -> Result<Option<Self>, Notification> {
        let body = message.get(super::HEADER_LEN..).unwrap_or(&[]);
        let Some((&[afi_high, afi_low, subtype, safi], rest)) = body.split_first_chunk::<4>() else {
            return Err(Notification::with_data(Cause::REFRESH_LENGTH, message.to_vec()));
        };
        let kind = match subtype {
            _ if !enhanced => RefreshKind::Request,
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            _ => return Ok(None),
        };
        if kind != RefreshKind::Request && !rest.is_empty() {
            return Err(Notification::with_data(Cause::REFRESH_LENGTH, message.to_vec()));
        }
        let family = unicast_family(u16::from_be_bytes([afi_high, afi_low]), safi);
        Ok(family.map(|family| RouteRefresh { kind, family }))
    }

    /// Appends the message.
    pub fn put(self, out: &mut Vec<u8>) {
        let start = begin(out, MessageType::RouteRefresh);
        let subtype = match self.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
        };
        let [high, low] = afi(self.family).to_be_bytes();
        out.extend_from_slice(&[high, low, subtype, SAFI_UNICAST]);
        finish(out, start);
    }
}
