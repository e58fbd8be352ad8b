//! The message header and the messages that are nothing else (RFC 4271 sections 4.1, 4.4, 6.1).

use super::notification::{Cause, Notification};
use super::{HEADER_LEN, MAX_EXTENDED_MESSAGE, MAX_MESSAGE};

/// The Type field of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageType {
    /// OPEN (RFC 4271 section 4.2).
    Open,
    /// UPDATE (RFC 4271 section 4.3).
    Update,
    /// NOTIFICATION (RFC 4271 section 4.5).
    Notification,
    /// KEEPALIVE (RFC 4271 section 4.4).
    Keepalive,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
}

impl MessageType {
    fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => MessageType::Open,
            2 => MessageType::Update,
            3 => MessageType::Notification,
            4 => MessageType::Keepalive,
            5 => MessageType::RouteRefresh,
            _ => return None,
        })
    }

    /// The octet on the wire.
    pub fn octet(self) -> u8 {
        match self {
            MessageType::Open => 1,
            MessageType::Update => 2,
            MessageType::Notification => 3,
            MessageType::Keepalive => 4,
            MessageType::RouteRefresh => 5,
        }
    }

    fn length_is_possible(self, length: usize, extended: bool) -> bool {
        // RFC 8654 section 3: OPEN and KEEPALIVE stay within 4,096 octets.
        let max = if extended { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE };
        match self {
            MessageType::Open => (29..=MAX_MESSAGE).contains(&length),
            MessageType::Update => (23..=max).contains(&length),
            MessageType::Notification => (21..=max).contains(&length),
            MessageType::Keepalive => length == HEADER_LEN,
            MessageType::RouteRefresh => (23..=max).contains(&length),
        }
    }
}

/// What the front of the received octets holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole message of this type and length in octets, header included.
    Message(MessageType, usize),
    /// So far correct, but not whole.
    Incomplete,
}

/// Finds the first message in `received`, or the NOTIFICATION that RFC 4271 section 6.1 answers it with.
///
/// `extended`: we announced RFC 8654's capability, so that the peer may send up to 65,535 octets. The header is
/// judged as soon as it is whole, so that a bad one never makes us wait for its body.
pub fn frame(received: &[u8], extended: bool) -> Result<Frame, Notification> {
    let marker = &received[..received.len().min(16)];
    if marker.iter().any(|octet| *octet != 0xff) {
        return Err(Notification::new(Cause::CONNECTION_NOT_SYNCHRONIZED));
    }
    let Some((header, _)) = received.split_first_chunk::<HEADER_LEN>() else { return Ok(Frame::Incomplete) };
    let [high, low, kind] = [header[16], header[17], header[18]];
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bad_length = || Notification::with_data(Cause::BAD_MESSAGE_LENGTH, vec![high, low]);
    if length < HEADER_LEN {
        return Err(bad_length());
    }
    let Some(kind) = MessageType::from_octet(kind) else {
        return Err(Notification::with_data(Cause::BAD_MESSAGE_TYPE, vec![kind]));
    };
    if !kind.length_is_possible(length, extended) {
        return Err(bad_length());
    }
    Ok(if received.len() < length { Frame::Incomplete } else { Frame::Message(kind, length) })
}

/// Appends a header whose length is not known yet; `finish` with the returned position sets it.
pub fn begin(out: &mut Vec<u8>, kind: MessageType) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, kind.octet()]);
    start
}

/// Sets the length of the message that began at `start`.
pub fn finish(out: &mut [u8], start: usize) {
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + 16..start + 18) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a KEEPALIVE.
pub fn put_keepalive(out: &mut Vec<u8>) {
    let start = begin(out, MessageType::Keepalive);
    finish(out, start);
}
