//! The authentication section (RFC 5880 sections 4.2 to 4.4 and 6.7).

use md5::{Digest, Md5};
use sha1::Sha1;

use super::config::{AuthType, Authentication};
use super::wire::{Discard, MANDATORY_LEN, Received};

/// bfd.XmitAuthSeq, bfd.RcvAuthSeq and bfd.AuthSeqKnown of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    transmitted: u32,
    /// None: bfd.AuthSeqKnown is 0.
    received: Option<u32>,
}

impl Sequence {
    /// Section 6.8.1: bfd.XmitAuthSeq "MUST be initialized to a random 32-bit value".
    pub fn new(random: u32) -> Self {
        Sequence { transmitted: random, received: None }
    }

    /// Section 6.8.1: bfd.AuthSeqKnown "MUST be set to zero after no packets have been received on this session for at
    /// least twice the Detection Time".
    pub fn forget(&mut self) {
        self.received = None;
    }
}

/// Octets of the section.
pub fn len(auth: &Authentication) -> u8 {
    match auth.kind {
        AuthType::Simple => 3 + auth.key.len().min(16) as u8,
        AuthType::Md5 | AuthType::MeticulousMd5 => 24,
        AuthType::Sha1 | AuthType::MeticulousSha1 => 28,
    }
}

/// Appends the section to the mandatory one at `start` of `out`. `changed`: the packet says something new, which a
/// sequence number that is not meticulous marks (section 6.7.3).
pub fn sign(auth: &Authentication, sequence: &mut Sequence, changed: bool, start: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[auth.kind.number(), len(auth), auth.key_id]);
    if auth.kind == AuthType::Simple {
        out.extend_from_slice(auth.key.get(..auth.key.len().min(16)).unwrap_or(&[]));
        return;
    }
    if changed || auth.kind.is_meticulous() {
        sequence.transmitted = sequence.transmitted.wrapping_add(1);
    }
    out.push(0);
    out.extend_from_slice(&sequence.transmitted.to_be_bytes());
    let packet = out.get(start..).unwrap_or(&[]);
    let digest = digest(auth, packet);
    out.extend_from_slice(&digest);
}

/// Judges the section of a packet. The sequence number is remembered only of a packet whose digest is right: nobody
/// else may move the window.
///
/// # Errors
///
/// [`Discard::Auth`] or [`Discard::Sequence`].
pub fn verify(
    auth: &Authentication,
    sequence: &mut Sequence,
    received: &Received<'_>,
) -> Result<(), Discard> {
    let section = received.octets.get(MANDATORY_LEN..).unwrap_or(&[]);
    let [kind, length, key_id, rest @ ..] = section else { return Err(Discard::Auth) };
    // Sections 6.7.2 to 6.7.4: type, key and length have to be those that are configured.
    let agrees = *kind == auth.kind.number()
        && *key_id == auth.key_id
        && *length == len(auth)
        && usize::from(*length) == section.len();
    if !agrees {
        return Err(Discard::Auth);
    }
    if auth.kind == AuthType::Simple {
        return if is_equal(rest, &auth.key) { Ok(()) } else { Err(Discard::Auth) };
    }
    let [_, a, b, c, d, theirs @ ..] = rest else { return Err(Discard::Auth) };
    let number = u32::from_be_bytes([*a, *b, *c, *d]);
    if let Some(last) = sequence.received {
        // Section 6.7.3: from bfd.RcvAuthSeq (plus one, if meticulous) to that plus 3 * Detect Mult, circular.
        let ahead = number.wrapping_sub(last);
        let least = u32::from(auth.kind.is_meticulous());
        if ahead < least || ahead > 3 * u32::from(received.packet.multiplier) {
            return Err(Discard::Sequence);
        }
    }
    let covered = received.octets.len().saturating_sub(theirs.len());
    let ours = digest(auth, received.octets.get(..covered).unwrap_or(&[]));
    if !is_equal(theirs, &ours) {
        return Err(Discard::Auth);
    }
    sequence.received = Some(number);
    Ok(())
}

/// The digest over the packet with the key, padded by zeros, in the place of the digest.
fn digest(auth: &Authentication, before: &[u8]) -> Vec<u8> {
    let mut key = [0_u8; 20];
    key.iter_mut().zip(&auth.key).for_each(|(to, from)| *to = *from);
    match auth.kind {
        AuthType::Sha1 | AuthType::MeticulousSha1 => {
            Sha1::new().chain_update(before).chain_update(key).finalize().to_vec()
        }
        _ => {
            let key = key.first_chunk::<16>().copied().unwrap_or_default();
            Md5::new().chain_update(before).chain_update(key).finalize().to_vec()
        }
    }
}

/// In the same time, wherever they differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
