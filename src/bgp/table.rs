//! What a peer may be told, worked out when the configuration is read: the announcements' prefix sets, cut where they
//! overlap, so that at run time one decision covers each piece whole and no prefix is ever looked at alone.

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
    /// Cuts the sets of the announcements, given in configuration order, where they overlap.
    ///
    /// Sets that overlap with none, or are equal, keep their memory.
    pub fn new(sets: &[PrefixSet]) -> Self {
        let mut pieces = Vec::new();
        for family in FAMILIES {
            let first = pieces.len();
            for (announcement, set) in sets.iter().enumerate() {
                insert(&mut pieces, first, family, announcement, Arc::clone(set.block(family)));
            }
        }
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

fn insert(
    pieces: &mut Vec<Piece>,
    first: usize,
    family: Family,
    announcement: usize,
    mut rest: Arc<NlriBlock>,
) {
    for index in first..pieces.len() {
        if rest.is_empty() {
            return;
        }
        let block = Arc::clone(&pieces[index].block);
        if Arc::ptr_eq(&block, &rest) || block == rest {
            pieces[index].members.push(announcement);
            return;
        }
        if block.is_apart_from(&rest) {
            continue;
        }
        let common = block.intersection(&rest);
        if common.is_empty() {
            continue;
        }
        rest = Arc::new(rest.difference(&common));
        let mut members = pieces[index].members.clone();
        members.push(announcement);
        if common.len() == block.len() {
            pieces[index].members = members;
        } else {
            pieces[index].block = Arc::new(block.difference(&common));
            pieces.push(Piece { family, block: Arc::new(common), members });
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece { family, block: rest, members: vec![announcement] });
    }
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
}
