//! What this machine answers for, or draws to itself, once it is MASTER: whoever answers from inside may be ourselves.

use std::net::IpAddr;

use crate::bgp::PrefixSet;
use crate::config::model::Config;
use crate::net::Prefix;

/// All of it, however much it is. What is announced is not copied: it shares the configuration's own tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnPrefixes {
    sets: Vec<PrefixSet>,
}

impl OwnPrefixes {
    /// What that configuration makes our own.
    pub fn of(config: &Config) -> Self {
        let addresses = config.instances.iter().flat_map(|i| &i.addresses).map(|a| Prefix::host(a.address));
        let inner = config.instances.iter().flat_map(|i| &i.tunnels).flat_map(|t| &t.addresses);
        let addresses = addresses.chain(inner.map(|(address, _)| Prefix::host(*address)));
        let routes = config.instances.iter().flat_map(|i| &i.routes).filter(|r| r.draws_to_us());
        let announced = config.instances.iter().flat_map(|i| &i.announces).map(|a| a.prefixes.clone());
        let kernel = addresses.chain(routes.map(|r| r.to)).collect();
        let sets = std::iter::once(kernel).chain(announced);
        OwnPrefixes { sets: sets.filter(|set| !set.is_empty()).collect() }
    }

    /// The prefix of ours that `address` lies in, if any: a few binary searches. A default route makes nothing our own.
    pub fn covering(&self, address: IpAddr) -> Option<Prefix> {
        let address = Prefix::host(address);
        self.sets.iter().filter_map(|set| set.covering(address)).find(|prefix| !prefix.is_default())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.sets.iter().flat_map(PrefixSet::iter).filter(|prefix| !prefix.is_default())
    }
}

impl FromIterator<Prefix> for OwnPrefixes {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        OwnPrefixes { sets: vec![prefixes.into_iter().collect()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many there are, none of them is asked; and asking is no search through all of them.
    #[test]
    fn the_last_of_many_is_our_own_too() {
        let many = (0..200_000u32).map(|n| format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255));
        let more = ["198.51.100.0/24", "198.51.100.128/25", "2001:db8:100::/48", "0.0.0.0/0", "::/0"];
        let all = many.chain(more.map(str::to_owned)).map(|p| p.parse().expect("a prefix"));
        let own: OwnPrefixes = all.collect();
        let covering = |address: &str| own.covering(address.parse().expect("an address"));
        for (address, expected) in [
            ("10.3.13.63", Some("10.3.13.63/32")),
            ("10.3.13.64", None),
            ("198.51.100.7", Some("198.51.100.0/24")),
            ("198.51.100.200", Some("198.51.100.128/25")),
            ("2001:db8:100::1", Some("2001:db8:100::/48")),
            ("2001:db8:200::1", None),
        ] {
            assert_eq!(covering(address).map(|p| p.to_string()).as_deref(), expected, "{address}");
        }
        for _ in 0..100_000 {
            assert!(covering("203.0.113.9").is_none());
        }
    }
}
