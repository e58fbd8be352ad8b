//! OPEN (RFC 4271 sections 4.2 and 6.2).

use std::net::Ipv4Addr;

use super::capability::Capabilities;
use super::header::{MessageType, begin, finish};
use super::notification::{Cause, Notification};
use super::{AS_TRANS, Reader};
use crate::net::{Asn, RouterId};

const VERSION: u8 = 4;
/// Optional parameter type of RFC 5492.
const CAPABILITIES: u8 = 2;
/// RFC 9072: as first type it says that lengths have two octets.
const EXTENDED_LENGTH: u8 = 255;

/// An OPEN message, its syntax checked: what needs the configuration is checked by the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The AS number: the four-octet one where there is one.
    pub asn: Asn,
    /// Proposed hold time in seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// BGP Identifier, not zero (RFC 6286).
    pub router_id: RouterId,
    /// All capabilities of all optional parameters.
    pub capabilities: Capabilities,
}

impl Open {
    /// Parses the body, or gives the NOTIFICATION of RFC 4271 section 6.2.
    pub fn parse(body: &[u8]) -> Result<Self, Notification> {
        let unspecific = || Notification::new(Cause::OPEN_UNSPECIFIC);
        let mut reader = Reader(body);
        if reader.u8().ok_or_else(unspecific)? != VERSION {
            // Data: the largest version that we speak and is smaller than theirs, which can only be ours.
            return Err(Notification::with_data(Cause::UNSUPPORTED_VERSION, vec![0, VERSION]));
        }
        let my_as = reader.u16().ok_or_else(unspecific)?;
        let hold_time = reader.u16().ok_or_else(unspecific)?;
        let router_id = Ipv4Addr::from(reader.array::<4>().ok_or_else(unspecific)?);
        let capabilities = parse_parameters(reader)?;
        let asn = match capabilities.four_octet_as {
            // RFC 6793 section 4.1: the capability's number counts, whatever stands in the old field.
            Some(asn) => asn,
            None => Asn(u32::from(my_as)),
        };
        // RFC 7607 section 2: AS 0 is refused wherever it stands.
        if asn.0 == 0 || my_as == 0 {
            return Err(Notification::new(Cause::BAD_PEER_AS));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::new(Cause::UNACCEPTABLE_HOLD_TIME));
        }
        // RFC 6286 section 2.2: any value but zero.
        if router_id.is_unspecified() {
            return Err(Notification::new(Cause::BAD_BGP_IDENTIFIER));
        }
        Ok(Open { asn, hold_time, router_id: RouterId(router_id), capabilities })
    }

    /// Appends the message; with empty capabilities it has no optional parameter at all (RFC 5492 section 3).
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = begin(out, MessageType::Open);
        out.push(VERSION);
        // RFC 6793 section 4.2.3.
        out.extend_from_slice(&u16::try_from(self.asn.0).unwrap_or(AS_TRANS).to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.router_id.0.octets());
        let mut value = Vec::new();
        self.capabilities.put(&mut value);
        // All that we know takes fewer than 80 octets, so that RFC 9072 is never needed to send.
        match u8::try_from(value.len()) {
            Ok(length @ 1..=253) => {
                out.extend_from_slice(&[length + 2, CAPABILITIES, length]);
                out.extend_from_slice(&value);
            }
            _ => out.push(0),
        }
        finish(out, start);
    }
}

fn parse_parameters(mut reader: Reader<'_>) -> Result<Capabilities, Notification> {
    let unspecific = || Notification::new(Cause::OPEN_UNSPECIFIC);
    let mut length = usize::from(reader.u8().ok_or_else(unspecific)?);
    // RFC 9072 section 2: told by the first type, whatever the length octet says, unless that is zero.
    let extended = length != 0 && reader.0.first() == Some(&EXTENDED_LENGTH);
    if extended {
        reader.u8();
        length = usize::from(reader.u16().ok_or_else(unspecific)?);
    }
    if reader.0.len() != length {
        return Err(unspecific());
    }
    let mut capabilities = Capabilities::default();
    while !reader.is_empty() {
        let kind = reader.u8().ok_or_else(unspecific)?;
        let length = if extended { reader.u16() } else { reader.u8().map(u16::from) };
        let value = reader.take(usize::from(length.ok_or_else(unspecific)?)).ok_or_else(unspecific)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(Cause::UNSUPPORTED_OPTIONAL_PARAMETER));
        }
        capabilities.parse(value)?;
    }
    Ok(capabilities)
}
