//! BGP communities as an operator writes them: standard (RFC 1997), large (RFC 8092) and extended (RFC 4360).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A standard community (RFC 1997): four octets, by convention AS number and value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Community(pub u32);

/// A large community (RFC 8092): three numbers of four octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LargeCommunity {
    /// Global Administrator: the AS that gives the rest its meaning.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
}

/// An extended community (RFC 4360): eight octets as they go on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// Why a text is no community; the message says what would be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommunityError {
    /// Neither `AS:VALUE` nor a name.
    #[error("`{0}` is not a community; write it as 64501:100 (both 0 to 65535) or by name: {names}", names = names())]
    Standard(String),
    /// Looks like a name with a slip of the pen.
    #[error("`{given}` is not a well-known community; did you mean `{meant}`?")]
    Name {
        /// What stood there.
        given: String,
        /// The nearest well-known name.
        meant: &'static str,
    },
    /// One of the two numbers needs more than 16 bits.
    #[error(
        "`{0}`: each half of a standard community is 0 to 65535; use a large community such as 4200000001:1:100"
    )]
    TooBig(String),
    /// Three parts: it belongs into the other list.
    #[error("`{0}` has three parts: that is a large community, it belongs into large_communities")]
    IsLarge(String),
    /// Not three numbers.
    #[error("`{0}` is not a large community; write three numbers, each 0 to 4294967295, as 64501:1:100")]
    Large(String),
    /// Not `rt:`, `soo:` or sixteen hex digits.
    #[error(
        "`{0}` is not an extended community; write rt:64501:100 or soo:192.0.2.1:100 (an AS number above 65535 or an \
         address leaves 0 to 65535 for the last number), or all eight octets as 0x0002fbf500000064"
    )]
    Extended(String),
}

/// IANA's registry of well-known communities, and their usual names.
const WELL_KNOWN: [(&str, u32); 15] = [
    ("graceful-shutdown", 0xffff_0000),          // RFC 8326
    ("accept-own", 0xffff_0001),                 // RFC 7611
    ("route-filter-translated-v4", 0xffff_0002), // draft-l3vpn-legacy-rtc
    ("route-filter-v4", 0xffff_0003),            // draft-l3vpn-legacy-rtc
    ("route-filter-translated-v6", 0xffff_0004), // draft-l3vpn-legacy-rtc
    ("route-filter-v6", 0xffff_0005),            // draft-l3vpn-legacy-rtc
    ("llgr-stale", 0xffff_0006),                 // RFC 9494
    ("no-llgr", 0xffff_0007),                    // RFC 9494
    ("accept-own-nexthop", 0xffff_0008),         // draft-agrewal-idr-accept-own-nexthop
    ("standby-pe", 0xffff_0009),                 // RFC 9026
    ("blackhole", 0xffff_029a),                  // RFC 7999
    ("no-export", 0xffff_ff01),                  // RFC 1997
    ("no-advertise", 0xffff_ff02),               // RFC 1997
    ("no-export-subconfed", 0xffff_ff03),        // RFC 1997
    ("no-peer", 0xffff_ff04),                    // RFC 3765
];

fn names() -> String {
    WELL_KNOWN.map(|(name, _)| name).join(", ")
}

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Community = Community(0xffff_ff01);
    /// BLACKHOLE (RFC 7999).
    pub const BLACKHOLE: Community = Community(0xffff_029a);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let name = text.trim().to_ascii_lowercase().replace('_', "-");
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(known, _)| *known == name) {
            return Ok(Community(*value));
        }
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let nearest = WELL_KNOWN
                .iter()
                .map(|(known, _)| (strsim::normalized_levenshtein(known, &name), *known))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            return Err(match nearest {
                Some((score, meant)) if score > 0.6 => CommunityError::Name { given: text.to_owned(), meant },
                _ => CommunityError::Standard(text.to_owned()),
            });
        }
        let parts: Option<Vec<u64>> = name.split(':').map(number).collect();
        match parts.as_deref() {
            Some([asn, value]) if *asn <= 0xffff && *value <= 0xffff => {
                Ok(Community((*asn as u32) << 16 | *value as u32))
            }
            Some([_, _]) => Err(CommunityError::TooBig(text.to_owned())),
            Some([_, _, _]) => Err(CommunityError::IsLarge(text.to_owned())),
            _ => Err(CommunityError::Standard(text.to_owned())),
        }
    }
}

impl fmt::Display for LargeCommunity {
    /// The canonical form of RFC 8092 section 5.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let parts: Option<Vec<u32>> =
            text.trim().split(':').map(|part| number(part).and_then(|n| u32::try_from(n).ok())).collect();
        match parts.as_deref() {
            Some(&[global, local1, local2]) => Ok(LargeCommunity { global, local1, local2 }),
            _ => Err(CommunityError::Large(text.to_owned())),
        }
    }
}

const ROUTE_TARGET: u8 = 0x02;
const ROUTE_ORIGIN: u8 = 0x03;

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub, a, b, c, d, e, g] = self.0;
        let name = match sub {
            ROUTE_TARGET => "rt",
            ROUTE_ORIGIN => "soo",
            _ => "",
        };
        let short = u16::from_be_bytes([e, g]);
        match (kind, name) {
            (0x00, "rt" | "soo") => {
                write!(f, "{name}:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]))
            }
            (0x01, "rt" | "soo") => write!(f, "{name}:{}:{short}", Ipv4Addr::new(a, b, c, d)),
            (0x02, "rt" | "soo") => write!(f, "{name}:{}:{short}", u32::from_be_bytes([a, b, c, d])),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl FromStr for ExtendedCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let error = || CommunityError::Extended(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if let Some(hex) = lower.strip_prefix("0x") {
            let value = u64::from_str_radix(hex, 16).map_err(|_| error())?;
            return if hex.len() == 16 { Ok(ExtendedCommunity(value.to_be_bytes())) } else { Err(error()) };
        }
        let parts: Vec<&str> = lower.split(':').collect();
        let &[name, administrator, value] = parts.as_slice() else { return Err(error()) };
        let sub = match name {
            "rt" => ROUTE_TARGET,
            "soo" | "ro" => ROUTE_ORIGIN,
            _ => return Err(error()),
        };
        let value = number(value).and_then(|n| u32::try_from(n).ok()).ok_or_else(error)?;
        let short = || u16::try_from(value).map(u16::to_be_bytes).map_err(|_| error());
        let (kind, body) = if let Ok(address) = administrator.parse::<Ipv4Addr>() {
            (0x01, join4(address.octets(), short()?))
        } else {
            let asn = number(administrator).and_then(|n| u32::try_from(n).ok()).ok_or_else(error)?;
            match u16::try_from(asn) {
                Ok(asn) => (0x00, join2(asn.to_be_bytes(), value.to_be_bytes())),
                Err(_) => (0x02, join4(asn.to_be_bytes(), short()?)),
            }
        };
        let [a, b, c, d, e, g] = body;
        Ok(ExtendedCommunity([kind, sub, a, b, c, d, e, g]))
    }
}

fn join4([a, b, c, d]: [u8; 4], [e, g]: [u8; 2]) -> [u8; 6] {
    [a, b, c, d, e, g]
}

fn join2([a, b]: [u8; 2], [c, d, e, g]: [u8; 4]) -> [u8; 6] {
    [a, b, c, d, e, g]
}

/// A plain decimal number: `u64::from_str` would also take a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_communities_parse_and_display() {
        for text in
            ["64501:100", "0:0", "65535:65535", "no-export", "blackhole", "graceful-shutdown", "llgr-stale"]
        {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        assert_eq!("65535:666".parse::<Community>().unwrap(), Community::BLACKHOLE);
        assert_eq!("NO_EXPORT".parse::<Community>().unwrap(), Community::NO_EXPORT);
        for (name, value) in WELL_KNOWN {
            assert_eq!(name.parse(), Ok(Community(value)));
        }
    }

    #[test]
    fn errors_name_the_mend() {
        let error = |text: &str| text.parse::<Community>().unwrap_err().to_string();
        assert!(error("no-exprot").ends_with("did you mean `no-export`?"));
        assert!(error("4200000001:1").contains("large community"));
        assert!(error("1:2:3").contains("large_communities"));
        assert!(error("+1:2").contains("is not a community"));
        assert!(error("").contains("is not a community"));
        assert!("1:2".parse::<LargeCommunity>().unwrap_err().to_string().contains("three numbers"));
        assert!("1:2:4294967296".parse::<LargeCommunity>().is_err());
        for text in ["rt:1", "xx:1:2", "rt:192.0.2.1:70000", "rt:70000:70000", "0x12", "soo::"] {
            assert!(text.parse::<ExtendedCommunity>().is_err(), "{text}");
        }
    }

    #[test]
    fn large_and_extended_communities_round_trip() {
        let large: LargeCommunity = "4200000001:1:100".parse().unwrap();
        assert_eq!(large.to_string(), "4200000001:1:100");
        // RFC 4360 sections 3.1, 3.2 and RFC 5668: which form depends on the administrator.
        let cases = [
            ("rt:64501:100", [0, 2, 0xfb, 0xf5, 0, 0, 0, 100]),
            ("soo:192.0.2.1:7", [1, 3, 192, 0, 2, 1, 0, 7]),
            ("rt:4200000001:9", [2, 2, 0xfa, 0x56, 0xea, 0x01, 0, 9]),
            ("0x4300000000000001", [0x43, 0, 0, 0, 0, 0, 0, 1]),
        ];
        for (text, octets) in cases {
            assert_eq!(text.parse(), Ok(ExtendedCommunity(octets)));
            assert_eq!(ExtendedCommunity(octets).to_string(), text);
        }
    }
}
