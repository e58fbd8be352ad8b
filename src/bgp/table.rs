//! What a peer may be told, worked out when the configuration is read: the announcements' prefix sets, cut where they
//! overlap, so that at run time one decision covers each piece whole and no prefix is ever looked at alone.

use std::collections::HashMap;
use std::sync::Arc;

use super::attributes::Attributes;
use super::family::FAMILIES;
use super::prefix_set::{NlriBlock, PrefixSet};
use crate::net::Family;

/// What one announcement wants at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Nothing: `backup = "withdraw"`, or an instance in INIT, FAULT or STOP.
    None,
    /// Its instance is MASTER.
    Master(Arc<Attributes>),
    /// Its instance is not, and announces all the same, with worse attributes.
    Backup(Arc<Attributes>),
}

/// Which attributes a prefix gets when several announcements want it: the first MASTER in configuration order, else
/// the first with backup attributes. `claims` come in configuration order.
pub fn choose<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Option<&'a Arc<Attributes>> {
    let mut backup = None;
    for claim in claims {
        match claim {
            Claim::Master(attributes) => return Some(attributes),
            Claim::Backup(attributes) => backup = backup.or(Some(attributes)),
            Claim::None => {}
        }
    }
    backup
}

/// A piece of the table: prefixes that all belong to the same announcements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub family: Family,
    pub block: Arc<NlriBlock>,
    /// The announcements that hold it, in configuration order.
    pub members: Vec<usize>,
}

/// The announcements towards one peer, in configuration order; built once, shared by sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub(crate) pieces: Vec<Piece>,
    announcements: usize,
}

impl Table {
    /// Cuts the sets of the announcements, given in configuration order, where they overlap: in time that grows with
    /// their number and size hardly faster than linearly, however they overlap.
    ///
    /// Sets that overlap with none, or are equal, keep their memory.
    pub fn new(sets: &[PrefixSet]) -> Self {
        let pieces = FAMILIES.into_iter().flat_map(|family| pieces_of(family, sets)).collect();
        Table { pieces, announcements: sets.len() }
    }

    /// How many announcements it was made of.
    pub fn announcements(&self) -> usize {
        self.announcements
    }

    /// How many prefixes, each counted once.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.block.len()).sum()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn pieces_of(family: Family, sets: &[PrefixSet]) -> Vec<Piece> {
    let mut distinct = merge_equal(family, sets);
    // By where they begin: those that can overlap are neighbours then.
    distinct.sort_by(|(one, _), (other, _)| one.entry(0).cmp(other.entry(0)));
    let mut pieces = Vec::new();
    let mut rest = distinct.as_slice();
    while let Some((first, _)) = rest.first() {
        let (mut end, mut count) = (last(first), 1);
        while let Some((block, _)) = rest.get(count).filter(|(block, _)| block.entry(0) <= end) {
            end = end.max(last(block));
            count += 1;
        }
        let (together, after) = rest.split_at(count);
        match together {
            [(block, members)] => {
                pieces.push(Piece { family, block: Arc::clone(block), members: members.clone() });
            }
            _ => pieces.extend(cut(family, together)),
        }
        rest = after;
    }
    pieces.sort_by(|one, other| one.members.cmp(&other.members));
    pieces
}
/// A set and the announcements that consist of it, in configuration order.
type Group = (Arc<NlriBlock>, Vec<usize>);

/// How many entries a set has, its first and its last.
type Looks<'a> = (usize, &'a [u8], &'a [u8]);

/// Every set once; empty ones not at all.
fn merge_equal(family: Family, sets: &[PrefixSet]) -> Vec<Group> {
    let mut distinct: Vec<Group> = Vec::new();
    // Only sets that look alike are compared whole.
    let mut alike: HashMap<Looks<'_>, Vec<usize>> = HashMap::new();
    for (announcement, set) in sets.iter().enumerate() {
        let block = set.block(family);
        if block.is_empty() {
            continue;
        }
        let candidates = alike.entry((block.len(), block.entry(0), last(block))).or_default();
        let same = |index: &usize| {
            let known = &distinct[*index].0;
            Arc::ptr_eq(known, block) || known == block
        };
        match candidates.iter().copied().find(same) {
            Some(index) => distinct[index].1.push(announcement),
            None => {
                candidates.push(distinct.len());
                distinct.push((Arc::clone(block), vec![announcement]));
            }
        }
    }
    distinct
}

/// The last entry, which is the greatest.
fn last(block: &NlriBlock) -> &[u8] {
    block.entry(block.len().saturating_sub(1))
}

/// Sets that overlap: prefixes with the same members become a piece.
fn cut(family: Family, groups: &[Group]) -> Vec<Piece> {
    let number = |group: usize| u32::try_from(group).unwrap_or(u32::MAX);
    let all = groups.iter().enumerate();
    let mut entries: Vec<(&[u8], u32)> = all
        .flat_map(|(group, (block, _))| block.entries().map(move |entry| (entry, number(group))))
        .collect();
    // Each set is sorted already: that is a merge.
    entries.sort();
    let mut found: HashMap<Vec<u32>, Vec<&[u8]>> = HashMap::new();
    let mut holders = Vec::new();
    for same in entries.chunk_by(|(one, _), (other, _)| one == other) {
        holders.clear();
        holders.extend(same.iter().map(|(_, group)| *group));
        match found.get_mut(&holders) {
            Some(list) => list.extend(same.first().map(|(entry, _)| *entry)),
            None => {
                drop(found.insert(holders.clone(), same.iter().take(1).map(|(entry, _)| *entry).collect()))
            }
        }
    }
    let piece = |(holders, entries): (Vec<u32>, Vec<&[u8]>)| {
        let held = || holders.iter().filter_map(|group| groups.get(*group as usize));
        let mut members: Vec<usize> = held().flat_map(|(_, members)| members).copied().collect();
        members.sort_unstable();
        let whole =
            held().find(|(block, _)| block.len() == entries.len()).map(|(block, _)| Arc::clone(block));
        let block = whole.unwrap_or_else(|| Arc::new(NlriBlock::from_entries(entries)));
        Piece { family, block, members }
    };
    found.into_iter().map(piece).collect()
}

/// What all announcements towards one peer want at the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The announcements.
    pub table: Arc<Table>,
    /// One for each announcement of the table, in its order; missing ones want nothing.
    pub claims: Vec<Claim>,
}

impl Wanted {
    /// The attributes that a piece is to be announced with.
    pub(crate) fn attributes(&self, piece: &Piece) -> Option<&Arc<Attributes>> {
        choose(piece.members.iter().filter_map(|member| self.claims.get(*member)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Prefix;

    fn attributes(med: u32) -> Arc<Attributes> {
        Arc::new(Attributes { med: Some(med), ..Attributes::default() })
    }

    #[test]
    fn the_first_master_wins_then_the_first_backup() {
        let (m, b) = (|med| Claim::Master(attributes(med)), |med| Claim::Backup(attributes(med)));
        let cases: [(&[Claim], Option<u32>); 6] = [
            (&[], None),
            (&[Claim::None, Claim::None], None),
            (&[Claim::None, b(1), b(2)], Some(1)),
            (&[b(1), m(2)], Some(2)),
            (&[b(1), m(2), m(3)], Some(2)),
            (&[m(1), b(2), Claim::None], Some(1)),
        ];
        for (claims, expected) in cases {
            assert_eq!(choose(claims).map(|attributes| attributes.med), expected.map(Some), "{claims:?}");
        }
    }

    #[test]
    fn overlapping_sets_are_cut_and_others_share_their_memory() {
        let set =
            |texts: &[&str]| -> PrefixSet { texts.iter().map(|t| t.parse::<Prefix>().unwrap()).collect() };
        let a = set(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        let b = set(&["192.0.2.0/24", "198.51.100.0/24"]);
        let c = set(&["203.0.113.0/24"]);
        let table = Table::new(&[a.clone(), b, c.clone(), c.clone(), PrefixSet::default()]);
        let shown: Vec<(usize, &[usize])> =
            table.pieces.iter().map(|piece| (piece.block.len(), piece.members.as_slice())).collect();
        assert_eq!(shown, [(1, &[0][..]), (1, &[0, 1]), (1, &[1]), (1, &[2, 3]), (1, &[0])]);
        assert!(Arc::ptr_eq(&table.pieces[3].block, c.block(Family::V4)));
        assert!(Arc::ptr_eq(&table.pieces[4].block, a.block(Family::V6)));
        assert_eq!((table.len(), table.announcements()), (5, 5));
    }

    /// By a rule that looks at each prefix alone, whatever the overlaps.
    #[test]
    fn pieces_hold_each_prefix_once_with_all_its_announcements() {
        for seed in 1..200_u32 {
            let mut number = seed;
            let mut next = |below: u32| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (number >> 16) % below
            };
            let mut sets: Vec<PrefixSet> = Vec::new();
            for _ in 0..1 + next(6) {
                let copied = next(4) == 0 && !sets.is_empty();
                let set = match sets.first().filter(|_| copied) {
                    Some(first) => first.clone(),
                    None => {
                        let prefix = |n: u32, len: u32| format!("10.{n}.0.0/{}", 16 + len).parse::<Prefix>();
                        (0..next(12)).map(|_| prefix(next(9), next(2)).unwrap()).collect()
                    }
                };
                sets.push(set);
            }
            let table = Table::new(&sets);
            let mut seen = std::collections::HashMap::new();
            for piece in &table.pieces {
                assert!(!piece.block.is_empty());
                for index in 0..piece.block.len() {
                    let prefix = piece.block.prefix(piece.family, index).unwrap();
                    assert_eq!(
                        seen.insert(prefix, piece.members.clone()),
                        None,
                        "seed {seed}: {prefix} twice"
                    );
                }
            }
            let mut expected: std::collections::HashMap<Prefix, Vec<usize>> = Default::default();
            for (announcement, set) in sets.iter().enumerate() {
                set.iter().for_each(|prefix| expected.entry(prefix).or_default().push(announcement));
            }
            assert_eq!(seen, expected, "seed {seed}");
        }
    }

    /// A hundred thousand announcements, apart or within a large one: quadratic work would take minutes.
    #[test]
    fn many_announcements_are_no_trouble() {
        let one = |n: u32| -> PrefixSet {
            [Prefix::containing(std::net::Ipv4Addr::from(0x0a00_0000 | (n << 4)).into(), 28).unwrap()]
                .into_iter()
                .collect()
        };
        let mut sets: Vec<PrefixSet> = (0..100_000).map(one).collect();
        assert_eq!(Table::new(&sets).pieces.len(), 100_000);
        sets.push(sets.iter().flat_map(PrefixSet::iter).collect());
        let table = Table::new(&sets);
        assert_eq!((table.pieces.len(), table.len()), (100_000, 100_000));
        assert!(table.pieces.iter().enumerate().all(|(n, piece)| piece.members == [n, 100_000]));
    }
}
