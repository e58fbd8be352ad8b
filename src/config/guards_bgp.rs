//! The guards over what peers are told (SPEC 4): what may never leave, what will not be heard, what is probably a slip.

use std::collections::{HashMap, HashSet};

use super::announce::ReadAnnounce;
use super::bgp::ReadBgp;
use super::guards::PrefixMap;
use super::instance::ReadInstance;
use super::model::{Bgp, Node};
use super::prefixes::ReadPrefixes;
use super::probe::family_words;
use super::report::Report;
use crate::bgp::Attributes;
use crate::bgp::community::Community;
use crate::bgp::family::{FAMILIES, Families, PerFamily};
use crate::net::{Asn, Family, Prefix, family_of};

/// The longest prefixes that the Internet carries, by custom.
const LONGEST: PerFamily<u8> = PerFamily { v4: 24, v6: 48 };
/// RFC 1997, NO_ADVERTISE.
const NO_ADVERTISE: Community = Community(0xffff_ff02);

/// Runs all of them.
pub(super) fn guard(report: &Report<'_>, node: &Node, peers: &[ReadBgp], instances: &[ReadInstance]) {
    let allowed = node.allowed_prefixes.as_ref().map(|all| PrefixMap::new(all.iter().map(|p| (*p, ()))));
    for instance in instances {
        for announce in &instance.announces {
            let Some(prefixes) = &announce.prefixes else { continue };
            if let Some(allowed) = &allowed {
                are_allowed(report, allowed, prefixes);
            }
            default_routes(report, prefixes);
            too_long(report, announce, prefixes, peers);
            families(report, announce, prefixes, peers);
            repeated_within(report, prefixes);
        }
        repeated_across(report, instance);
    }
}

fn are_allowed(report: &Report<'_>, allowed: &PrefixMap<()>, prefixes: &ReadPrefixes) {
    let outside = prefixes.entries.iter().filter(|(prefix, _)| allowed.covering(*prefix).is_none());
    let words = |prefix: &Prefix| {
        format!(
            "{prefix} is outside of node.allowed_prefixes, so it must never be announced; add it there, or take it out here"
        )
    };
    prefixes.errors(report, outside.map(|(prefix, at)| (*at, words(prefix))));
}

fn default_routes(report: &Report<'_>, prefixes: &ReadPrefixes) {
    let words = "announces the default route: the whole Internet would be sent here; take it out if that is not meant";
    let found = prefixes.entries.iter().filter(|(prefix, _)| prefix.is_default());
    prefixes.warning(report, found.map(|(_, at)| (*at, words.to_owned())));
}

/// Warns of what an ISP would filter. A peer with a private AS number (RFC 6996) is no ISP, such as a cloud's route
/// server; and what carries no-export, no-advertise or blackhole (RFC 1997, 7999) is not meant for the Internet.
fn too_long(report: &Report<'_>, announce: &ReadAnnounce, prefixes: &ReadPrefixes, peers: &[ReadBgp]) {
    let local = |attributes: &Attributes| {
        [Community::NO_EXPORT, NO_ADVERTISE, Community::BLACKHOLE]
            .iter()
            .any(|community| attributes.communities.contains(community))
    };
    let stays_near = local(&announce.master) && announce.backup.as_deref().is_none_or(local);
    let public = hearers(announce, peers).find(|bgp| !is_private(bgp.session.peer_as));
    let Some(public) = public.filter(|_| !stays_near) else { return };
    let long = |prefix: &Prefix| prefix.len() > *LONGEST.get(prefix.family());
    let words = |prefix: &Prefix| {
        format!(
            "{prefix} is longer than /{}: most networks behind `{}` will not take it; announce the prefix around it, or mark it no-export if it is for that peer alone",
            LONGEST.get(prefix.family()),
            public.session.name
        )
    };
    let found = prefixes.entries.iter().filter(|(prefix, _)| long(prefix));
    prefixes.warning(report, found.map(|(prefix, at)| (*at, words(prefix))));
}

/// RFC 6996.
fn is_private(asn: Asn) -> bool {
    matches!(asn.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
}

/// The peers that hear of it, those that are right.
fn hearers<'p>(announce: &'p ReadAnnounce, peers: &'p [ReadBgp]) -> impl Iterator<Item = &'p Bgp> {
    peers.iter().filter_map(|p| p.bgp.as_ref()).filter(|bgp| announce.goes_to(&bgp.session.name))
}

/// Refuses prefixes of a family that no peer of theirs can be told of.
fn families(report: &Report<'_>, announce: &ReadAnnounce, prefixes: &ReadPrefixes, peers: &[ReadBgp]) {
    // A peer that could not be read may be the one.
    let all_right = peers.iter().all(|p| p.bgp.is_some());
    let heard: Vec<&Bgp> = hearers(announce, peers).collect();
    if !all_right || heard.is_empty() {
        return;
    }
    for family in FAMILIES {
        let mine = || prefixes.entries.iter().filter(|(prefix, _)| prefix.family() == family);
        if mine().next().is_none() || heard.iter().any(|bgp| speaks(bgp).contains(family)) {
            continue;
        }
        let name = family_words(family);
        let mend = match heard.iter().any(|bgp| bgp.session.families.contains(family)) {
            true => format!("give next_hop an {name} address: that of the session is of the other family"),
            false => "add the family to `families` of a peer".to_owned(),
        };
        let found = mine().take(1).map(|(prefix, at)| {
            (*at, format!("{prefix} can be told to no peer: none of them takes {name} prefixes; {mend}"))
        });
        prefixes.errors(report, found);
    }
}

/// The families that a session can carry. IPv4 prefixes go over an IPv6 session by RFC 8950; IPv6 prefixes need an
/// IPv6 next hop, which an IPv4 session does not have by itself.
fn speaks(bgp: &Bgp) -> Families {
    let session = &bgp.session;
    let v6_next_hop = session.next_hop_v6.is_some() || family_of(session.peer) == Family::V6;
    Families { v4: session.families.v4, v6: session.families.v6 && v6_next_hop }
}

fn repeated_within(report: &Report<'_>, prefixes: &ReadPrefixes) {
    if prefixes.set.len() == prefixes.entries.len() {
        return;
    }
    let mut known = HashSet::new();
    let again = prefixes.entries.iter().filter(|(prefix, _)| !known.insert(*prefix));
    prefixes.warning(report, again.map(|(prefix, at)| (*at, format!("{prefix} is in the list already"))));
}

/// Warns of a prefix in two announcements of one instance to the same peer: only the first counts. In announcements
/// of two instances it is no mistake: the first of them that is MASTER is heard.
fn repeated_across(report: &Report<'_>, instance: &ReadInstance) {
    if instance.announces.len() < 2 {
        return;
    }
    let mut first: HashMap<Prefix, usize> = HashMap::new();
    let mut later: HashMap<Prefix, Vec<usize>> = HashMap::new();
    for (index, announce) in instance.announces.iter().enumerate() {
        let Some(prefixes) = &announce.prefixes else { continue };
        let mut again: Vec<(u32, String)> = Vec::new();
        for (prefix, at) in &prefixes.entries {
            let holder = *first.entry(*prefix).or_insert(index);
            if holder == index {
                continue;
            }
            let others = later.entry(*prefix).or_default();
            let shared = std::iter::once(&holder)
                .chain(others.iter().filter(|other| **other != index))
                .filter_map(|other| instance.announces.get(*other))
                .find(|other| other.shares_a_peer(announce));
            if let Some(other) = shared {
                let line = report.line_of(&other.span);
                again.push((*at, format!("{prefix} is announced to the same peer already, in line {line}; only the first counts")));
            }
            others.push(index);
        }
        prefixes.warning(report, again.into_iter());
    }
}
