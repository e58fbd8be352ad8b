//! Types of records, and what a record says in words: as zone files write it, in one form only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::name::Name;
use super::wire::{Malformed, Reader};

/// A type of record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record(u16);

/// Those that have names here; the others are TYPE65 and the like (RFC 3597).
const NAMES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("CAA", 257),
];

impl Record {
    /// Addresses of IPv4.
    pub const A: Record = Record(1);

    /// The number.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The type of that name; none if there is none, or it cannot be asked for by a check (OPT, ANY, transfers).
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let known = NAMES.iter().find(|(known, _)| *known == upper).map(|(_, code)| *code);
        let code = known.or_else(|| upper.strip_prefix("TYPE")?.parse().ok())?;
        // RFC 6895 section 3.1: 0 and 41 (OPT) are none, 128 to 255 are for questions only.
        (code != 0 && code != 41 && !(128..=255).contains(&code)).then_some(Record(code))
    }

    /// The names, for people.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// What an answer of this type looks like: brings what a person wrote into the form of [`words`].
    ///
    /// # Errors
    /// How it should have been written.
    pub fn normal(self, text: &str) -> Result<String, &'static str> {
        let text = text.trim();
        let fields: Vec<&str> = text.split_whitespace().collect();
        let name = |text: &str| text.parse::<Name>().ok().map(|name| name.to_string());
        let made = match (self.0, fields.as_slice()) {
            (1, [one]) => one.parse::<Ipv4Addr>().ok().map(|a| a.to_string()),
            (28, [one]) => one.parse::<Ipv6Addr>().ok().map(|a| a.to_string()),
            (2 | 5 | 12, [one]) => name(one),
            (15, [n @ .., host]) if n.len() == 1 => numbers::<u16>(n).zip(name(host)).map(joined),
            (33, [n @ .., host]) if n.len() == 3 => numbers::<u16>(n).zip(name(host)).map(joined),
            (6, [m, r, n @ ..]) if n.len() == 5 => {
                name(m).zip(name(r)).map(joined).zip(numbers::<u32>(n)).map(joined)
            }
            (1 | 28 | 2 | 5 | 12 | 15 | 33 | 6, _) => None,
            (16, _) => strings(text),
            (257, [flags, tag, _, ..]) => numbers::<u8>(&[*flags]).and_then(|number| {
                let value = text.strip_prefix(flags)?.trim_start().strip_prefix(tag)?.trim_start();
                Some(format!("{number} {} {}", tag.to_ascii_lowercase(), strings(value)?))
            }),
            (257, _) => None,
            (_, ["\\#", length, hex @ ..]) => octets(length, &hex.concat()),
            _ => None,
        };
        made.ok_or(self.shape())
    }

    fn shape(self) -> &'static str {
        match self.0 {
            1 => "an IPv4 address such as 192.0.2.1",
            28 => "an IPv6 address such as 2001:db8::1",
            15 => "a preference and a name such as \"10 mail.example.com\"",
            33 => "priority, weight, port and name such as \"0 5 5060 sip.example.com\"",
            6 => {
                "two names and five numbers such as \"ns.example.com admin.example.com 1 3600 600 86400 300\""
            }
            2 | 5 | 12 => "a name such as ns1.example.com",
            16 => {
                "the text, or its strings in quotes such as \"v=spf1 \" \"-all\", with \\\" for a quote within"
            }
            257 => "flags, tag and value such as 0 issue \"ca.example.net\"",
            _ => "\\#, the number of octets, and these in hex, such as \\# 2 ABCD (RFC 3597)",
        }
    }
}

fn joined((first, second): (String, String)) -> String {
    format!("{first} {second}")
}

/// Without leading zeros and the like; None unless all of them are numbers of that size.
fn numbers<N: FromStr + ToString>(fields: &[&str]) -> Option<String> {
    let numbers: Option<Vec<String>> =
        fields.iter().map(|f| f.parse::<N>().ok().map(|n| n.to_string())).collect();
    numbers.map(|n| n.join(" "))
}

/// `\# LENGTH HEX`, in the form of [`words`].
fn octets(length: &str, hex: &str) -> Option<String> {
    let length: usize = length.parse().ok()?;
    let is_hex = hex.len() % 2 == 0 && hex.len() / 2 == length && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| format!("\\# {length} {}", hex.to_ascii_uppercase()).trim_end().to_owned())
}

/// What strings in quotes say together (RFC 1035 section 5.1); without a quote in front, the text as it is.
fn strings(written: &str) -> Option<String> {
    if !written.starts_with('"') {
        return Some(written.to_owned());
    }
    let mut said = Vec::new();
    let mut rest = written.bytes();
    // Each round reads a string up to its closing quote, then the way to the next.
    while let Some(b) = rest.next() {
        match b {
            b'"' => loop {
                match rest.next()? {
                    b'"' => break,
                    b'\\' => said.push(escaped(&mut rest)?),
                    octet => said.push(octet),
                }
            },
            b if b.is_ascii_whitespace() => {}
            _ => return None,
        }
    }
    Some(text(&said))
}

/// What follows a backslash: three decimal digits, or a character that stands for itself.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

impl From<u16> for Record {
    fn from(code: u16) -> Self {
        Record(code)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, code)| *code == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// What a record of that type says. The strings of a TXT record are joined, as those who read them do (RFC 7208 section
/// 3.3); what has no form of its own is written as `\# 2 ABCD` (RFC 3597 section 5).
pub(super) fn words(record: Record, mut data: Reader<'_>) -> Result<String, Malformed> {
    let r = &mut data;
    let said = match record.0 {
        1 => {
            let octets: [u8; 4] = r.take(4)?.try_into().map_err(|_| Malformed)?;
            IpAddr::from(octets).to_string()
        }
        28 => {
            let octets: [u8; 16] = r.take(16)?.try_into().map_err(|_| Malformed)?;
            IpAddr::from(octets).to_string()
        }
        2 | 5 | 12 => Name::read(r)?.to_string(),
        6 => {
            let mut said = format!("{} {}", Name::read(r)?, Name::read(r)?);
            for _ in 0..5 {
                said.push_str(&format!(" {}", r.long()?));
            }
            said
        }
        15 => format!("{} {}", r.word()?, Name::read(r)?),
        33 => format!("{} {} {} {}", r.word()?, r.word()?, r.word()?, Name::read(r)?),
        16 => {
            let mut said = Vec::new();
            while !r.is_at_end() {
                let length = usize::from(r.octet()?);
                said.extend_from_slice(r.take(length)?);
            }
            text(&said)
        }
        257 => {
            let (flags, length) = (r.octet()?, usize::from(r.octet()?));
            // RFC 8659 section 4.1: without regard to case.
            let tag = text(r.take(length)?).to_ascii_lowercase();
            format!("{flags} {tag} {}", text(r.rest()))
        }
        _ => {
            let octets = r.rest();
            let hex: String = octets.iter().map(|o| format!("{o:02X}")).collect();
            format!("\\# {} {hex}", octets.len()).trim_end().to_owned()
        }
    };
    if r.is_at_end() { Ok(said) } else { Err(Malformed) }
}

/// Text as it is; octets that are none as `\123`.
fn text(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => text.extend(c.to_string().bytes().map(|o| format!("\\{o:03}"))),
                false => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|o| format!("\\{o:03}")));
    }
    text
}
