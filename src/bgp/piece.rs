//! A piece of the table within one session, and its way from one table to the next.

use std::collections::HashMap;
use std::sync::Arc;

use super::family::FAMILIES;
use super::prefix_set::NlriBlock;
use super::table::Table;
use super::told::{Route, Told};
use crate::net::Family;

/// A piece of the table, what is wanted of it and what the peer was told.
#[derive(Debug)]
pub(crate) struct Piece {
    pub family: Family,
    pub block: Arc<NlriBlock>,
    pub wanted: Option<Route>,
    pub told: Told,
}

impl Piece {
    pub fn to_withdraw(&self) -> Option<(usize, usize)> {
        if self.wanted.is_some() { None } else { self.told.last_told() }
    }

    pub fn to_announce(&self) -> Option<(usize, usize)> {
        self.wanted.as_ref().and_then(|route| self.told.last_other_than(route))
    }
}

/// Carries what the peer was told over to a new table. What the new one lacks is kept behind its pieces, to be
/// withdrawn.
///
/// The work grows hardly faster than the number of prefixes whose pieces changed, however many pieces there are.
pub(crate) fn migrate(old: Vec<Piece>, table: &Table) -> Vec<Piece> {
    let new = table.pieces.iter().map(|piece| Piece {
        family: piece.family,
        block: Arc::clone(&piece.block),
        wanted: None,
        told: Told::nothing(piece.block.len()),
    });
    let mut pieces: Vec<Piece> = new.collect();
    let told: Vec<Piece> = old.into_iter().filter(|piece| !piece.told.is_nothing()).collect();
    if told.is_empty() {
        return pieces;
    }
    let changed = keep(told, table, &mut pieces);
    for family in FAMILIES {
        let leftover = scatter(family, &changed, &mut pieces);
        pieces.extend(leftover);
    }
    pieces
}

/// Hands on what was told of pieces that the new table has too; gives back those that it does not have.
fn keep(told: Vec<Piece>, table: &Table, pieces: &mut [Piece]) -> Vec<Piece> {
    // No prefix is in two pieces of a table: the first one says which piece it can be.
    let all = table.pieces.iter().enumerate();
    let homes: HashMap<(Family, &[u8]), usize> =
        all.map(|(index, piece)| ((piece.family, piece.block.entry(0)), index)).collect();
    let mut changed = Vec::new();
    for before in told {
        let home = homes.get(&(before.family, before.block.entry(0)));
        let home = home.and_then(|index| pieces.get_mut(*index));
        match home.filter(|p| Arc::ptr_eq(&p.block, &before.block) || p.block == before.block) {
            Some(piece) => piece.told = before.told,
            None => changed.push(before),
        }
    }
    changed
}

/// A prefix that the peer was told.
struct Heard<'a> {
    entry: &'a [u8],
    route: &'a Route,
    repeat: bool,
    /// A piece of the new table has it.
    housed: bool,
}

/// Hands what was told of old pieces to the new pieces that hold their prefixes; gives back what none holds.
fn scatter(family: Family, changed: &[Piece], pieces: &mut [Piece]) -> Option<Piece> {
    let mut heard: Vec<Heard<'_>> = Vec::new();
    for before in changed.iter().filter(|piece| piece.family == family) {
        for (from, to, route, repeat) in before.told.runs() {
            let entries = (from..to).map(|index| before.block.entry(index));
            heard.extend(entries.map(|entry| Heard { entry, route, repeat, housed: false }));
        }
    }
    if heard.is_empty() {
        return None;
    }
    // Each piece is sorted already: that is a merge.
    heard.sort_by_key(|heard| heard.entry);
    for piece in pieces.iter_mut().filter(|piece| piece.family == family && piece.told.is_nothing()) {
        piece.told = adopt(&piece.block, &mut heard);
    }
    heard.retain(|heard| !heard.housed);
    if heard.is_empty() {
        return None;
    }
    let block = NlriBlock::from_entries(heard.iter().map(|heard| heard.entry));
    let all = heard.iter().enumerate();
    let told = Told::of(block.len(), all.map(|(index, heard)| (index, heard.route, heard.repeat)));
    Some(Piece { family, block: Arc::new(block), wanted: None, told })
}

/// What the peer was told of a new piece, by `heard`, which is sorted.
fn adopt(block: &NlriBlock, heard: &mut [Heard<'_>]) -> Told {
    let mut at = 0;
    let found = block.entries().enumerate().filter_map(|(index, entry)| {
        // Neighbours mostly stay neighbours; what lies between is skipped by halves.
        if heard.get(at).is_some_and(|next| next.entry < entry) {
            at += heard.get(at..).map_or(0, |rest| rest.partition_point(|next| next.entry < entry));
        }
        let next = heard.get_mut(at).filter(|next| next.entry == entry)?;
        next.housed = true;
        at += 1;
        Some((index, next.route, next.repeat))
    });
    Told::of(block.len(), found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::attributes::Attributes;
    use super::super::prefix_set::PrefixSet;
    use super::*;
    use crate::net::Prefix;

    fn route(med: u32) -> Route {
        let attributes = Arc::new(Attributes { med: Some(med), ..Attributes::default() });
        Route { attributes, graceful_shutdown: false }
    }

    fn prefix(n: u32) -> Prefix {
        Prefix::containing(std::net::Ipv4Addr::from(0x0a00_0000 | (n << 4)).into(), 28).unwrap()
    }

    fn table(sets: &[&[u32]]) -> Table {
        let sets: Vec<PrefixSet> =
            sets.iter().map(|numbers| numbers.iter().map(|n| prefix(*n)).collect()).collect();
        Table::new(&sets)
    }

    /// What the peer knows: MED, and whether it is to hear it again.
    fn known(pieces: &[Piece]) -> BTreeMap<Prefix, (Option<u32>, bool)> {
        let mut known = BTreeMap::new();
        for piece in pieces {
            for (from, to, route, repeat) in piece.told.runs() {
                for prefix in (from..to).filter_map(|index| piece.block.prefix(piece.family, index)) {
                    assert_eq!(known.insert(prefix, (route.attributes.med, repeat)), None, "{prefix} twice");
                }
            }
        }
        known
    }

    /// Tables that follow one another, told in parts: what the peer knows is never forgotten nor changed, and it stands
    /// where the new table has it.
    #[test]
    fn what_was_told_outlives_every_table() {
        for seed in 1..300_u32 {
            let mut number = seed;
            let mut next = |below: u32| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (number >> 16) % below
            };
            let mut pieces = Vec::new();
            for _ in 0..6 {
                let sets: Vec<Vec<u32>> =
                    (0..1 + next(5)).map(|_| (0..next(14)).map(|_| next(20)).collect()).collect();
                let sets: Vec<&[u32]> = sets.iter().map(Vec::as_slice).collect();
                let table = table(&sets);
                let before = known(&pieces);
                pieces = migrate(pieces, &table);
                assert_eq!(known(&pieces), before, "seed {seed}");
                let leftovers = pieces.split_off(table.pieces.len());
                let wanted =
                    |prefix: &Prefix| sets.iter().any(|set| set.iter().any(|n| self::prefix(*n) == *prefix));
                assert!(known(&leftovers).keys().all(|prefix| !wanted(prefix)), "seed {seed}");
                pieces.extend(leftovers);
                for piece in &mut pieces {
                    for index in 0..piece.block.len() {
                        match next(4) {
                            0 => piece.told.set(index, index + 1, Some(route(next(3)))),
                            1 if next(3) == 0 => piece.told.set(index, index + 1, None),
                            2 if next(9) == 0 => piece.told.repeat(),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    /// A piece that was told in two ways goes, and comes back before it was withdrawn: each prefix is remembered as it
    /// was told, or the peer would keep the wrong attributes for one of them.
    #[test]
    fn leftovers_remember_what_each_prefix_was_told() {
        let (with, without) = (table(&[&[1, 2]]), table(&[]));
        let mut pieces = migrate(Vec::new(), &with);
        pieces[0].told.set(0, 1, Some(route(1)));
        pieces[0].told.set(1, 2, Some(route(2)));
        pieces = migrate(migrate(pieces, &without), &with);
        let meds: Vec<Option<u32>> = known(&pieces).into_values().map(|(med, _)| med).collect();
        assert_eq!(meds, [Some(1), Some(2)]);
    }

    /// Fifty thousand announcements, those of one half in one piece before, and prefixes of two pieces that come to
    /// lie in turns: quadratic work would take minutes.
    #[test]
    fn many_announcements_are_no_trouble() {
        const COUNT: u32 = 50_000;
        let one: Vec<[u32; 1]> = (0..COUNT).map(|n| [n]).collect();
        let singles: Vec<&[u32]> = one.iter().map(<[u32; 1]>::as_slice).collect();
        let half: Vec<u32> = (0..COUNT / 2).collect();
        let joined: Vec<&[u32]> =
            std::iter::once(half.as_slice()).chain(singles[half.len()..].iter().copied()).collect();
        let (even, odd): (Vec<u32>, Vec<u32>) = (0..COUNT).partition(|n| n % 2 == 0);
        let turns = [even.as_slice(), odd.as_slice()];
        let whole: Vec<u32> = (0..COUNT).collect();
        let tables = [&singles, &joined, &singles[1..].to_vec(), &turns.to_vec(), &vec![whole.as_slice()]];
        let mut pieces: Vec<Piece> = Vec::new();
        for sets in tables.map(|sets| table(sets)) {
            pieces = migrate(pieces, &sets);
            for piece in pieces.iter_mut().filter(|piece| piece.told.is_nothing()) {
                piece.told.set(0, piece.block.len(), Some(route(7)));
            }
        }
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].told.last_told(), Some((0, COUNT as usize)));
    }
}
