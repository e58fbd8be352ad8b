//! Reads `[[instance.announce]]`.

use std::collections::HashSet;
use std::hash::Hash;
use std::str::FromStr;
use std::sync::Arc;

use super::Env;
use super::instance::misplaced;
use super::model::{Announce, Name};
use super::prefixes::{self, ReadPrefixes};
use super::reader::Item;
use super::report::Span;
use crate::bgp::Attributes;

/// More copies than this are a slip of the pen, and many routers refuse paths much longer.
const MOST_PREPENDS: u64 = 50;

/// An announcement as it was read.
pub(super) struct ReadAnnounce {
    /// Dotted path.
    pub path: String,
    /// Its header.
    pub span: Span,
    /// Its prefixes; `None` if they could not be read.
    pub prefixes: Option<ReadPrefixes>,
    /// `peers` with their places; `None` if the key is absent: every peer.
    pub peers: Option<Vec<(Name, Span)>>,
    /// `master`.
    pub master: Arc<Attributes>,
    /// `backup`; `None` for "withdraw".
    pub backup: Option<Arc<Attributes>>,
}

impl ReadAnnounce {
    /// True if it goes to the peer of that name.
    pub fn goes_to(&self, peer: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|(name, _)| &**name == peer))
    }

    /// True if it and another can reach the same peer.
    pub fn shares_a_peer(&self, other: &ReadAnnounce) -> bool {
        match &self.peers {
            None => true,
            Some(peers) => peers.iter().any(|(name, _)| other.goes_to(name)),
        }
    }

    /// The announcement, once everything about it is known to be right; `all` are the names of every peer.
    pub fn into_announce(self, all: &[Name]) -> Option<Announce> {
        let peers = match self.peers {
            Some(peers) => peers.into_iter().map(|(name, _)| name).collect(),
            None => all.to_vec(),
        };
        Some(Announce { prefixes: self.prefixes?.set, peers, master: self.master, backup: self.backup })
    }
}

/// Reads the announcements of an instance.
pub(super) fn read_all(item: &Item<'_, '_>, env: &Env<'_>) -> Option<Vec<ReadAnnounce>> {
    let items = item.tables("instance.announce")?;
    Some(items.iter().filter_map(|item| read(item, env)).collect())
}

fn read(item: &Item<'_, '_>, env: &Env<'_>) -> Option<ReadAnnounce> {
    let mut table = item.table("instance.announce")?;
    let prefixes = prefixes::read(&mut table, env);
    let peers = table.get("peers", |i| peers(&i));
    let master = table.or("master", Attributes::default(), |i| attributes(&i));
    let backup = table.or("backup", None, |i| match i.is_string() {
        true => i.one_of(&[("withdraw", ())]).map(|()| None),
        false => attributes(&i).map(Some),
    });
    let better = |backup: &Attributes| {
        let alike = Attributes { med: None, prepend: 0, ..backup.clone() }
            == Attributes { med: None, prepend: 0, ..master.clone() };
        // No MED counts as the lowest (RFC 4271 section 9.1.2.2).
        alike && backup.prepend <= master.prepend && backup.med.unwrap_or(0) <= master.med.unwrap_or(0)
    };
    if !table.is_wrong("master") && backup.as_ref().is_some_and(better) {
        table.warning(
            "backup",
            "is no worse than `master`: BACKUP would draw the traffic as MASTER does; raise its med or prepend",
        );
    }
    let (path, span) = (table.path.clone(), table.span.clone());
    table.finish_with(misplaced);
    Some(ReadAnnounce { path, span, prefixes, peers, master: Arc::new(master), backup: backup.map(Arc::new) })
}

fn peers(item: &Item<'_, '_>) -> Option<Vec<(Name, Span)>> {
    let names = item.list(|i| i.word().map(|name| (Name::from(name), *i)))?;
    if names.is_empty() {
        return item.fail("is empty; name at least one [[bgp]], or leave the key out for every one");
    }
    let mut known = HashSet::new();
    for (name, element) in &names {
        if !known.insert(name) {
            return element.fail(format!("`{name}` is in the list already"));
        }
    }
    Some(names.into_iter().map(|(name, element)| (name, element.span())).collect())
}

fn attributes(item: &Item<'_, '_>) -> Option<Attributes> {
    if !item.is_table() {
        return item
            .fail("must be a table such as { med = 100, communities = [\"64501:100\"], prepend = 2 }");
    }
    let before = item.report.errors();
    let mut table = item.table("instance.announce.attributes")?;
    let attributes = Attributes {
        med: table.get("med", |i| i.integer(0..=u64::from(u32::MAX))),
        prepend: table.or("prepend", 0, |i| i.integer(0..=MOST_PREPENDS)),
        communities: table.or("communities", Vec::new(), |i| communities(&i)),
        extended_communities: table.or("extended_communities", Vec::new(), |i| communities(&i)),
        large_communities: table.or("large_communities", Vec::new(), |i| communities(&i)),
    };
    if let Err(error) = attributes.check() {
        item.fail::<()>(error.to_string());
    }
    table.finish();
    (item.report.errors() == before).then_some(attributes)
}

/// Communities of one kind.
fn communities<T>(item: &Item<'_, '_>) -> Option<Vec<T>>
where
    T: FromStr<Err = crate::bgp::community::CommunityError> + Eq + Hash + Copy,
{
    let values = item.list(|i| {
        let value: Result<T, _> = i.word()?.parse();
        value.map_or_else(|error| i.fail(error.to_string()), |value| Some((value, *i)))
    })?;
    let mut known = HashSet::new();
    for (value, element) in &values {
        if !known.insert(*value) {
            return element.fail("is in the list already");
        }
    }
    Some(values.into_iter().map(|(value, _)| value).collect())
}
