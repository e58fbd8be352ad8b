//! A piece of the table within one session, and its way from one table to the next.

use std::sync::Arc;

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
pub(crate) fn migrate(old: Vec<Piece>, table: &Table) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = table
        .pieces
        .iter()
        .map(|piece| Piece {
            family: piece.family,
            block: Arc::clone(&piece.block),
            wanted: None,
            told: Told::nothing(piece.block.len()),
        })
        .collect();
    let mut leftovers = Vec::new();
    for before in old.into_iter().filter(|piece| !piece.told.is_nothing()) {
        let same = |piece: &&mut Piece| {
            piece.family == before.family
                && (Arc::ptr_eq(&piece.block, &before.block) || piece.block == before.block)
        };
        match pieces.iter_mut().find(same) {
            Some(piece) => piece.told = before.told,
            None => leftovers.extend(scatter(&before, &mut pieces)),
        }
    }
    pieces.append(&mut leftovers);
    pieces
}

/// Hands what was told of an old piece to the new pieces that hold its prefixes; gives back what none holds.
fn scatter(before: &Piece, pieces: &mut [Piece]) -> Option<Piece> {
    let mut orphans = Vec::new();
    let family = before.family;
    for (from, to, route, repeat) in before.told.runs() {
        for entry in (from..to).map(|index| before.block.entry(index)) {
            let home = pieces
                .iter_mut()
                .filter(|piece| piece.family == family)
                .find_map(|piece| piece.block.find(entry).map(|index| (piece, index)));
            match home {
                Some((piece, index)) => piece.told.adopt(index, route, repeat),
                None => orphans.push((entry, route.clone())),
            }
        }
    }
    let route = orphans.first().map(|(_, route)| route.clone())?;
    let block = NlriBlock::from_entries(orphans.iter().map(|(entry, _)| *entry));
    let mut told = Told::nothing(block.len());
    told.set(0, block.len(), Some(route));
    Some(Piece { family, block: Arc::new(block), wanted: None, told })
}
