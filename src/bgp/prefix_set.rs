//! Sets of prefixes, kept as the octets that go on the wire: a million of them cost 4 to 9 MB once, however
//! many peers and announcements share them, and a message is filled from them by one copy.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use super::family::PerFamily;
use crate::net::{Family, Prefix};

/// A set of prefixes of both families.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PrefixSet(PerFamily<Arc<NlriBlock>>);

impl PrefixSet {
    /// The set of these prefixes; repeated ones count once.
    pub fn new(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let (v4, v6): (Vec<Prefix>, Vec<Prefix>) =
            prefixes.into_iter().partition(|prefix| prefix.family() == Family::V4);
        PrefixSet(PerFamily { v4: Arc::new(NlriBlock::new(v4)), v6: Arc::new(NlriBlock::new(v6)) })
    }

    /// Its members of one family.
    pub fn block(&self, family: Family) -> &Arc<NlriBlock> {
        self.0.get(family)
    }

    /// How many prefixes.
    pub fn len(&self) -> usize {
        self.0.v4.len() + self.0.v6.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The longest member that is `prefix` or covers it: one binary search a prefix length.
    pub fn covering(&self, prefix: Prefix) -> Option<Prefix> {
        let block = self.block(prefix.family());
        (0..=prefix.len()).rev().find_map(|len| {
            let wider = Prefix::containing(prefix.address(), len)?;
            block.find(&octets_of(wider)[..entry_size(len)]).map(|_| wider)
        })
    }

    /// The prefixes, IPv4 first, short ones before long ones.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> {
        let of = |family| {
            let block = self.block(family);
            (0..block.len()).filter_map(move |index| block.prefix(family, index))
        };
        of(Family::V4).chain(of(Family::V6))
    }
}

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self::new(prefixes)
    }
}

/// NLRI of one family, encoded (RFC 4271 section 4.3: a length in bits, then as many octets as it needs),
/// sorted and without repetition. Entries with equally many octets lie together, so that the n-th is found
/// by arithmetic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NlriBlock {
    octets: Box<[u8]>,
    runs: Box<[Stride]>,
    len: usize,
}

/// Entries of equal size within a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stride {
    /// Octets of one entry.
    size: usize,
    /// Index of the first entry.
    first: usize,
    /// Where it begins in the octets.
    offset: usize,
}

impl NlriBlock {
    /// From prefixes of one family.
    fn new(mut prefixes: Vec<Prefix>) -> Self {
        prefixes.sort_unstable_by_key(|prefix| (prefix.len(), prefix.address()));
        prefixes.dedup();
        let size: usize = prefixes.iter().map(|prefix| entry_size(prefix.len())).sum();
        let mut builder = Builder { octets: Vec::with_capacity(size), ..Builder::default() };
        for prefix in prefixes {
            builder.push(&octets_of(prefix)[..entry_size(prefix.len())]);
        }
        builder.build()
    }

    /// From entries in ascending order.
    pub(crate) fn from_entries<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut builder = Builder::default();
        entries.into_iter().for_each(|entry| builder.push(entry));
        builder.build()
    }

    /// How many prefixes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn stride_of(&self, index: usize) -> Option<&Stride> {
        self.runs.iter().rev().find(|run| run.first <= index)
    }

    /// Where entry `index` begins; the end of the octets for the index behind the last.
    fn offset(&self, index: usize) -> usize {
        match self.stride_of(index) {
            Some(run) if index < self.len => run.offset + (index - run.first) * run.size,
            _ => self.octets.len(),
        }
    }

    /// Entry `index` as on the wire.
    pub(crate) fn entry(&self, index: usize) -> &[u8] {
        self.octets.get(self.offset(index)..self.offset(index + 1)).unwrap_or(&[])
    }

    /// The octets of entries `from..to`.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &[u8] {
        self.octets.get(self.offset(from)..self.offset(to)).unwrap_or(&[])
    }

    /// Where to begin so that the last entries of `from..to` fit into `room` octets.
    pub(crate) fn fit(&self, from: usize, to: usize, mut room: usize) -> usize {
        let mut at = to.min(self.len);
        for run in self.runs.iter().rev() {
            let start = run.first.max(from);
            if start >= at {
                continue;
            }
            let count = (at - start).min(room / run.size);
            at -= count;
            room -= count * run.size;
            if at > start {
                break;
            }
        }
        at
    }

    /// The index of an entry.
    pub(crate) fn find(&self, entry: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).cmp(entry) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Entries in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).map(|index| self.entry(index))
    }

    /// Prefix `index`.
    pub fn prefix(&self, family: Family, index: usize) -> Option<Prefix> {
        prefix_of(family, self.entry(index))
    }

    /// Those of this block that are not in the other.
    pub(crate) fn difference(&self, other: &NlriBlock) -> NlriBlock {
        Self::from_entries(self.entries().filter(|entry| other.find(entry).is_none()))
    }
}

/// The NLRI entry of a prefix, and zeros behind it.
fn octets_of(prefix: Prefix) -> [u8; 17] {
    let mut entry = [0; 17];
    entry[0] = prefix.len();
    match prefix.address() {
        IpAddr::V4(address) => entry[1..5].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => entry[1..17].copy_from_slice(&address.octets()),
    }
    entry
}

/// The octets that an NLRI entry of this prefix length takes.
fn entry_size(len: u8) -> usize {
    1 + usize::from(len.div_ceil(8))
}

/// The prefix that a whole entry names; `None` if it is none of that family.
pub(crate) fn prefix_of(family: Family, entry: &[u8]) -> Option<Prefix> {
    let (len, octets) = entry.split_first()?;
    let address = match family {
        Family::V4 => {
            let mut address = [0; 4];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            IpAddr::from(address)
        }
        Family::V6 => {
            let mut address = [0; 16];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            IpAddr::from(address)
        }
    };
    Prefix::containing(address, *len)
}

#[derive(Default)]
struct Builder {
    octets: Vec<u8>,
    runs: Vec<Stride>,
    len: usize,
}

impl Builder {
    fn push(&mut self, entry: &[u8]) {
        if self.runs.last().is_none_or(|run| run.size != entry.len()) {
            self.runs.push(Stride { size: entry.len(), first: self.len, offset: self.octets.len() });
        }
        self.octets.extend_from_slice(entry);
        self.len += 1;
    }

    fn build(self) -> NlriBlock {
        NlriBlock { octets: self.octets.into(), runs: self.runs.into(), len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> PrefixSet {
        prefixes.iter().map(|text| text.parse::<Prefix>().unwrap()).collect()
    }

    #[test]
    fn a_set_keeps_each_prefix_once_in_wire_order() {
        let set = set(&[
            "198.51.100.0/24",
            "0.0.0.0/0",
            "192.0.2.0/24",
            "2001:db8::/32",
            "192.0.2.0/24",
            "10.0.0.0/8",
        ]);
        let shown: Vec<String> = set.iter().map(|prefix| prefix.to_string()).collect();
        assert_eq!(shown, ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]);
        assert_eq!(set.block(Family::V4).slice(0, 2), [0, 8, 10]);
        assert_eq!(set.block(Family::V4).entry(2), [24, 192, 0, 2]);
        assert_eq!(set.block(Family::V4).entry(9), [0_u8; 0]);
    }

    #[test]
    fn as_many_entries_as_the_room_allows_and_never_a_part() {
        let set = set(&["0.0.0.0/0", "10.0.0.0/8", "11.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"]);
        let block = set.block(Family::V4);
        let fits: Vec<usize> = (0..15).map(|room| block.fit(0, 5, room)).collect();
        assert_eq!(fits, [5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 2, 2, 1, 0, 0]);
        assert_eq!(block.fit(2, 3, 100), 2);
        assert_eq!(block.fit(3, 5, 3), 5);
    }

    #[test]
    fn the_longest_member_that_covers() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "2001:db8::/32"]);
        let covering = |text: &str| set.covering(text.parse().unwrap()).map(|prefix| prefix.to_string());
        assert_eq!(covering("10.1.2.3/32").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(covering("10.2.0.0/16").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(covering("192.0.2.0/25").as_deref(), Some("192.0.2.0/25"));
        assert_eq!(covering("192.0.2.0/24"), None);
        assert_eq!(covering("2001:db8:1::1/128").as_deref(), Some("2001:db8::/32"));
        assert_eq!(covering("::/0"), None);
    }

    #[test]
    fn set_operations() {
        let (a, b) =
            (set(&["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"]), set(&["192.0.2.0/24", "11.0.0.0/8"]));
        let (a, b) = (a.block(Family::V4), b.block(Family::V4));
        assert_eq!(a.difference(b).entries().collect::<Vec<_>>(), [&[8, 10][..], &[24, 198, 51, 100]]);
        assert_eq!(a.find(&[8, 11]), None);
        assert_eq!(b.find(&[8, 11]), Some(0));
    }
}
