//! Adj-RIB-Out (RFC 4271 section 3.2) of one session: what the peer was told, what it should know, and the messages from
//! the one to the other.
//!
//! Nothing is queued: a message is written when the socket can take it, from the newest wanted state. So a peer
//! that reads slowly costs no memory, a withdraw overtakes all announcements not yet written, and what was never
//! written is never withdrawn. What the peer was told is kept as runs of prefixes within the pieces of the
//! [`Table`], a handful in all, and not for each prefix.

use std::sync::Arc;

use super::attributes::Attributes;
use super::family::{FAMILIES, PerFamily};
use super::piece::{Piece, migrate};
use super::prefix_set::NlriBlock;
use super::table::{Table, Wanted};
use super::told::Route;
use super::wire::attribute::{NextHop, PathParameters};
use super::wire::pack::{EncodedAttributes, FamilyEncoding, Packer, put_end_of_rib};
use super::wire::refresh::{RefreshKind, RouteRefresh};
use crate::net::Family;

/// What the session negotiated that shapes the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encoding {
    /// The longest message in octets.
    pub max_message: usize,
    /// For AS_PATH and its like.
    pub path: PathParameters,
    /// The families that can be sent, with their next hops.
    pub next_hops: PerFamily<Option<NextHop>>,
    /// BoRR and EoRR around refreshes (RFC 7313).
    pub enhanced_refresh: bool,
}

/// How the wanted state is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Manner {
    /// As it is.
    #[default]
    Plain,
    /// With GRACEFUL_SHUTDOWN on every route (RFC 8326).
    GracefulShutdown,
    /// Everything withdrawn.
    Withdrawn,
}

/// Where a family is on its way through the initial table and refreshes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Progress {
    end_of_rib_sent: bool,
    /// A refresh was asked for and has not begun.
    refresh_wanted: bool,
    /// BoRR went out (or would have, with RFC 7313) and EoRR did not.
    refreshing: bool,
}

/// What one session was told; see the module's description.
#[derive(Debug)]
pub struct AdjRibOut {
    encoding: Encoding,
    table: Arc<Table>,
    base: Vec<Option<Arc<Attributes>>>,
    /// What is told plainly, whatever the manner: it stays with the peer.
    kept: Vec<Option<Arc<Attributes>>>,
    pieces: Vec<Piece>,
    manner: Manner,
    progress: PerFamily<Progress>,
    end_of_rib_deferred: bool,
    /// No piece before it needs a withdraw.
    withdraw_from: usize,
    /// No piece before it needs an announcement.
    announce_from: usize,
    encoded: Option<(Route, Family, EncodedAttributes)>,
}

impl AdjRibOut {
    /// Of a session that has just been established: nothing told, nothing wanted.
    ///
    /// `end_of_rib_deferred`: see [`AdjRibOut::release_end_of_rib`].
    pub fn new(encoding: Encoding, end_of_rib_deferred: bool) -> Self {
        AdjRibOut {
            encoding,
            table: Arc::default(),
            base: Vec::new(),
            kept: Vec::new(),
            pieces: Vec::new(),
            manner: Manner::Plain,
            progress: PerFamily::default(),
            end_of_rib_deferred,
            withdraw_from: 0,
            announce_from: 0,
            encoded: None,
        }
    }

    /// Sets what the peer should know. Families that the session lacks are left out.
    pub fn set_wanted(&mut self, wanted: &Wanted) {
        if !Arc::ptr_eq(&self.table, &wanted.table) {
            self.table = Arc::clone(&wanted.table);
            let told = std::mem::take(&mut self.pieces);
            self.pieces = migrate(told, &wanted.table);
        }
        self.base = attributes(wanted);
        self.kept.clear();
        self.aim();
    }

    /// Sets what no manner touches: of the wanted state and its table.
    pub fn set_kept(&mut self, kept: &Wanted) {
        self.kept = attributes(kept);
        self.aim();
    }

    /// True if something stays with the peer when the rest is withdrawn.
    pub fn keeps_something(&self) -> bool {
        self.kept_pieces().any(|(_, kept)| kept.is_some())
    }

    /// True if nothing is left to be withdrawn, or to be said.
    pub fn keeps_everything(&mut self) -> bool {
        self.is_settled() && self.kept_pieces().all(|(base, kept)| base == kept)
    }

    /// What is wanted and what is kept of the pieces that the session can carry.
    fn kept_pieces(&self) -> impl Iterator<Item = (Option<&Arc<Attributes>>, Option<&Arc<Attributes>>)> {
        let speakable = self.pieces.iter().enumerate();
        let speakable = speakable.filter(|(_, piece)| self.encoding.next_hops.get(piece.family).is_some());
        speakable.map(|(index, _)| {
            (self.base.get(index).and_then(Option::as_ref), self.kept.get(index).and_then(Option::as_ref))
        })
    }

    /// Sets how it is told.
    pub fn set_manner(&mut self, manner: Manner) {
        if self.manner != manner {
            self.manner = manner;
            self.aim();
        }
    }

    /// Works out what each piece should be told. Pieces beyond the table's are leftovers of an earlier table.
    fn aim(&mut self) {
        while self.pieces.len() > self.base.len()
            && self.pieces.last().is_some_and(|piece| piece.told.is_nothing())
        {
            self.pieces.pop();
        }
        for (index, piece) in self.pieces.iter_mut().enumerate() {
            let speakable = self.encoding.next_hops.get(piece.family).is_some();
            let base = self.base.get(index).and_then(Option::as_ref);
            let kept = self.kept.get(index).and_then(Option::as_ref);
            let (attributes, graceful_shutdown) = match (self.manner, kept) {
                (Manner::Plain, _) => (base, false),
                (_, Some(_)) => (kept, false),
                (Manner::GracefulShutdown, None) => (base, true),
                (Manner::Withdrawn, None) => (None, false),
            };
            let attributes = attributes.filter(|attributes| speakable && attributes.check().is_ok());
            piece.wanted = attributes.cloned().map(|attributes| Route { attributes, graceful_shutdown });
        }
        self.rewind();
    }

    fn rewind(&mut self) {
        self.withdraw_from = 0;
        self.announce_from = 0;
    }

    /// INIT is over: End-of-RIB may follow the initial table (RFC 4724 section 4.1).
    pub fn release_end_of_rib(&mut self) {
        self.end_of_rib_deferred = false;
    }

    /// The peer asks for a family again (RFC 2918). Requests during a refresh are answered by one more.
    pub fn refresh(&mut self, family: Family) {
        if self.encoding.next_hops.get(family).is_some() {
            self.progress.get_mut(family).refresh_wanted = true;
        }
    }

    /// How many prefixes of a family the peer was told.
    pub fn advertised(&self, family: Family) -> usize {
        self.pieces.iter().filter(|piece| piece.family == family).map(|piece| piece.told.count()).sum()
    }

    /// True once End-of-RIB has been written for every family.
    pub fn initial_table_told(&self) -> bool {
        self.families().all(|family| self.progress.get(family).end_of_rib_sent)
    }

    /// True if every prefix has been told as wanted (messages written; refreshes and End-of-RIB apart).
    pub fn is_settled(&mut self) -> bool {
        self.next_withdraw().is_none() && self.next_announcement().is_none()
    }

    /// True if `put_message` would write something.
    pub fn has_message(&mut self) -> bool {
        !self.is_settled() || self.families().any(|family| self.marker(family).is_some())
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let next_hops = self.encoding.next_hops;
        FAMILIES.into_iter().filter(move |family| next_hops.get(*family).is_some())
    }

    /// Appends the next message; false if there is none.
    ///
    /// In this order: withdraws; the beginning of refreshes; announcements; End-of-RIB; the end of refreshes.
    pub fn put_message(&mut self, out: &mut Vec<u8>) -> bool {
        self.put_withdraw(out)
            || self.begin_refresh(out)
            || self.put_announcement(out)
            || self.put_marker(out)
    }

    fn next_withdraw(&mut self) -> Option<usize> {
        let found =
            self.pieces.iter().skip(self.withdraw_from).position(|piece| piece.to_withdraw().is_some());
        self.withdraw_from = found.map_or(self.pieces.len(), |offset| self.withdraw_from + offset);
        found.map(|_| self.withdraw_from)
    }

    fn next_announcement(&mut self) -> Option<usize> {
        let found =
            self.pieces.iter().skip(self.announce_from).position(|piece| piece.to_announce().is_some());
        self.announce_from = found.map_or(self.pieces.len(), |offset| self.announce_from + offset);
        found.map(|_| self.announce_from)
    }

    fn encoding_of(&self, family: Family) -> Option<FamilyEncoding> {
        self.encoding.next_hops.get(family).map(|next_hop| FamilyEncoding { family, next_hop })
    }

    fn put_withdraw(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(first) = self.next_withdraw() else { return false };
        let family = self.pieces[first].family;
        let Some(encoding) = self.encoding_of(family) else { return false };
        let mut room = Packer::withdraw_room(encoding, self.encoding.max_message);
        let packer = Packer::withdraw(out, encoding);
        for piece in self.pieces[first..].iter_mut().filter(|piece| piece.family == family) {
            while let Some((from, to)) = piece.to_withdraw() {
                let Some(start) = copy(out, &piece.block, from, to, &mut room) else { break };
                piece.told.set(start, to, None);
                if start > from {
                    break;
                }
            }
            if piece.to_withdraw().is_some() {
                break;
            }
        }
        packer.finish(out, None);
        true
    }

    fn put_announcement(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(first) = self.next_announcement() else { return false };
        let family = self.pieces[first].family;
        let (Some(encoding), Some(route)) = (self.encoding_of(family), self.pieces[first].wanted.clone())
        else {
            return false;
        };
        self.encode(&route, encoding);
        let Some((_, _, attributes)) = &self.encoded else { return false };
        let mut room = attributes.room(encoding, self.encoding.max_message);
        let packer = Packer::announce(out, attributes, encoding);
        // Neighbours in the table with the same attributes share the message.
        for piece in &mut self.pieces[first..] {
            if piece.to_announce().is_none() {
                continue;
            }
            if piece.family != family || piece.wanted.as_ref() != Some(&route) {
                break;
            }
            while let Some((from, to)) = piece.to_announce() {
                let Some(start) = copy(out, &piece.block, from, to, &mut room) else { break };
                piece.told.set(start, to, Some(route.clone()));
                if start > from {
                    break;
                }
            }
            if piece.to_announce().is_some() {
                break;
            }
        }
        packer.finish(out, Some(attributes));
        true
    }

    /// Has the attributes' octets ready; those of the last announcement are kept.
    fn encode(&mut self, route: &Route, encoding: FamilyEncoding) {
        let known = self.encoded.as_ref();
        if known.is_some_and(|(before, family, _)| *family == encoding.family && before == route) {
            return;
        }
        let octets =
            EncodedAttributes::new(&route.attributes, route.graceful_shutdown, &self.encoding.path, encoding);
        self.encoded = Some((route.clone(), encoding.family, octets));
    }

    /// RFC 7313 section 4: BoRR, then everything again. Without it, everything again.
    fn begin_refresh(&mut self, out: &mut Vec<u8>) -> bool {
        let deferred = self.end_of_rib_deferred;
        let ready = |progress: &Progress| {
            progress.refresh_wanted && !progress.refreshing && (progress.end_of_rib_sent || deferred)
        };
        let Some(family) = self.families().find(|family| ready(self.progress.get(*family))) else {
            return false;
        };
        let progress = self.progress.get_mut(family);
        progress.refresh_wanted = false;
        progress.refreshing = true;
        self.pieces.iter_mut().filter(|piece| piece.family == family).for_each(|piece| piece.told.repeat());
        self.rewind();
        if !self.encoding.enhanced_refresh {
            return self.begin_refresh(out) || self.put_announcement(out) || self.put_marker(out);
        }
        RouteRefresh { kind: RefreshKind::Begin, family }.put(out);
        true
    }

    /// What a settled family has still to say.
    fn marker(&self, family: Family) -> Option<Marker> {
        let progress = self.progress.get(family);
        if !progress.end_of_rib_sent && !self.end_of_rib_deferred {
            Some(Marker::EndOfRib)
        } else if progress.refreshing && self.encoding.enhanced_refresh {
            Some(Marker::EndOfRefresh)
        } else if progress.refresh_wanted && (progress.end_of_rib_sent || self.end_of_rib_deferred) {
            Some(Marker::BeginRefresh)
        } else {
            None
        }
    }

    fn put_marker(&mut self, out: &mut Vec<u8>) -> bool {
        // Reached only when no prefix is left to be told.
        if !self.encoding.enhanced_refresh {
            FAMILIES.into_iter().for_each(|family| self.progress.get_mut(family).refreshing = false);
        }
        let found = self.families().find_map(|family| self.marker(family).map(|marker| (family, marker)));
        let Some((family, marker)) = found else { return false };
        let progress = self.progress.get_mut(family);
        match marker {
            Marker::EndOfRib => {
                progress.end_of_rib_sent = true;
                put_end_of_rib(out, family);
            }
            Marker::EndOfRefresh => {
                progress.refreshing = false;
                RouteRefresh { kind: RefreshKind::End, family }.put(out);
            }
            Marker::BeginRefresh => return self.begin_refresh(out),
        }
        true
    }
}

/// For each piece of its table.
fn attributes(wanted: &Wanted) -> Vec<Option<Arc<Attributes>>> {
    wanted.table.pieces.iter().map(|piece| wanted.attributes(piece).cloned()).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    EndOfRib,
    EndOfRefresh,
    BeginRefresh,
}

/// Copies as many of the last entries of `from..to` as fit; the index of the first copied, `None` if not one fits.
fn copy(out: &mut Vec<u8>, block: &NlriBlock, from: usize, to: usize, room: &mut usize) -> Option<usize> {
    let start = block.fit(from, to, *room);
    let octets = block.slice(start, to);
    *room -= octets.len();
    out.extend_from_slice(octets);
    (start < to).then_some(start)
}
