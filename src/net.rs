//! Types where a mix-up would hurt: numbers and addresses of the field, each with its own name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An autonomous system number, four octets (RFC 6793).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A router's identifier: four octets, written as an IPv4 address, never zero (RFC 6286).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RouterId(pub Ipv4Addr);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kernel's number of a network interface, in the network namespace of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct IfIndex(pub u32);

/// The two address families that can be routed here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A network prefix with no host bits set: what is routed and announced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prefix(IpNet);

/// Why a text is no [`Prefix`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("`{0}` is not a prefix; write it as 198.51.100.0/24 or 2001:db8:100::/48")]
    Syntax(String),
    /// Bits after the prefix length are set.
    #[error("`{given}` has host bits set; the prefix is {meant}")]
    HostBits {
        /// What stood there.
        given: String,
        /// The prefix that contains it.
        meant: Prefix,
    },
}

impl Prefix {
    /// The prefix of length `len` that contains `address`; `None` if `len` is too long for it.
    pub fn containing(address: IpAddr, len: u8) -> Option<Self> {
        IpNet::new(address, len).ok().map(|net| Prefix(net.trunc()))
    }

    /// The prefix that holds `address` alone.
    pub fn host(address: IpAddr) -> Self {
        Prefix(IpNet::from(address))
    }

    /// 0.0.0.0/0 or ::/0.
    pub fn default_route(family: Family) -> Self {
        let net = match family {
            Family::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Family::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        Prefix(net)
    }

    /// The network address.
    pub fn address(self) -> IpAddr {
        self.0.network()
    }

    /// The prefix length in bits.
    #[allow(clippy::len_without_is_empty)] // a length in bits: no prefix is empty
    pub fn len(self) -> u8 {
        self.0.prefix_len()
    }

    /// True for a default route.
    pub fn is_default(self) -> bool {
        self.len() == 0
    }

    /// True if it holds one address only.
    pub fn is_host(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Its address family.
    pub fn family(self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// True if `address` lies in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// True if `other` is this prefix or a more specific one.
    pub fn covers(self, other: Prefix) -> bool {
        self.0.contains(&other.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net: IpNet = text.parse().map_err(|_| PrefixError::Syntax(text.to_owned()))?;
        let meant = Prefix(net.trunc());
        if meant.0 == net { Ok(meant) } else { Err(PrefixError::HostBits { given: text.to_owned(), meant }) }
    }
}

/// The family of an address.
pub fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_host_bits_is_refused_with_the_mend() {
        let err = "198.51.100.7/24".parse::<Prefix>().unwrap_err();
        assert_eq!(err.to_string(), "`198.51.100.7/24` has host bits set; the prefix is 198.51.100.0/24");
        assert!(matches!("nonsense".parse::<Prefix>(), Err(PrefixError::Syntax(_))));
    }

    #[test]
    fn covering() {
        let wide: Prefix = "198.51.100.0/24".parse().unwrap();
        assert!(wide.covers("198.51.100.128/25".parse().unwrap()));
        assert!(!wide.covers("2001:db8::/32".parse().unwrap()));
        assert!(wide.contains("198.51.100.9".parse().unwrap()));
        assert!(Prefix::default_route(Family::V6).is_default());
    }
}
