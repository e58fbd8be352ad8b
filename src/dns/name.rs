//! Domain names, in octets and in words.

use std::fmt;

use super::wire::{Malformed, Reader};

/// RFC 1035 section 2.3.4: the whole name with its length octets.
const LONGEST: usize = 255;
/// Pointers in one name: it has no more labels than that, and a message built of nothing else would cost a while.
const MOST_JUMPS: usize = 127;
/// RFC 1035 section 2.3.4.
const LONGEST_LABEL: usize = 63;
/// A pointer, not a length: RFC 1035 section 4.1.4.
const POINTER: u8 = 0xc0;

/// A domain name in lower case, since names are compared without regard to it (RFC 4343).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(Vec<u8>);

/// Why a text is no domain name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("is empty; write \".\" for the root")]
    Empty,
    /// Two dots in a row, or one in front.
    #[error("has an empty part between dots")]
    EmptyLabel,
    /// A label of more than 63 octets, or more than 255 in all.
    #[error("is too long: each part has at most 63 characters, the whole at most 253")]
    TooLong,
    /// Something that is not sent as it is written.
    #[error(
        "may hold visible ASCII characters only, without quotes and `\\`; write other alphabets as punycode (xn--…)"
    )]
    Character,
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\' || b == b'"') {
            return Err(NameError::Character);
        }
        let mut octets = Vec::with_capacity(text.len() + 2);
        let bare = text.strip_suffix('.').unwrap_or(text);
        if !bare.is_empty() {
            for label in bare.split('.') {
                if label.is_empty() {
                    return Err(NameError::EmptyLabel);
                }
                let length = u8::try_from(label.len()).ok().filter(|l| usize::from(*l) <= LONGEST_LABEL);
                octets.push(length.ok_or(NameError::TooLong)?);
                octets.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
            }
        }
        octets.push(0);
        if octets.len() > LONGEST { Err(NameError::TooLong) } else { Ok(Name(octets)) }
    }
}

impl Name {
    /// As it is sent, uncompressed.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads a name where the reader stands, which then stands behind it. Pointers must lead backwards, each further
    /// than the last, so that no loop can be built of them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut octets = Vec::with_capacity(32);
        let mut here = reader.clone();
        let mut jumps = 0;
        let mut least = reader.at();
        loop {
            let length = here.octet()?;
            match length {
                0 => break,
                l if l & POINTER == POINTER => {
                    let target = usize::from(l & !POINTER) << 8 | usize::from(here.octet()?);
                    if jumps == 0 {
                        *reader = here.clone();
                    }
                    jumps += 1;
                    if target >= least || jumps > MOST_JUMPS {
                        return Err(Malformed);
                    }
                    least = target;
                    here = here.moved_to(target);
                }
                l if l & POINTER == 0 => {
                    octets.push(l);
                    octets.extend(here.take(usize::from(l))?.iter().map(u8::to_ascii_lowercase));
                    if octets.len() >= LONGEST {
                        return Err(Malformed);
                    }
                }
                // RFC 6891 section 5: the other two kinds of label are unassigned or were given up.
                _ => return Err(Malformed),
            }
        }
        octets.push(0);
        if jumps == 0 {
            *reader = here;
        }
        Ok(Name(octets))
    }
}

impl fmt::Display for Name {
    /// As one writes it, without the last dot; octets that are no plain characters as `\123` (RFC 1035 section 5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut first = true;
        while let Some((length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
            if !first {
                f.write_str(".")?;
            }
            first = false;
            let (label, tail) = tail.split_at_checked(usize::from(*length)).unwrap_or((tail, &[]));
            for octet in label {
                match octet {
                    b'.' | b'\\' | b'"' => write!(f, "\\{}", char::from(*octet))?,
                    o if o.is_ascii_graphic() => write!(f, "{}", char::from(*o))?,
                    o => write!(f, "\\{o:03}")?,
                }
            }
            rest = tail;
        }
        if first { f.write_str(".") } else { Ok(()) }
    }
}
