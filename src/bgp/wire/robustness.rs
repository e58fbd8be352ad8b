//! Whatever octets come: no panic, an answer in time linear in the message, and what is written reads back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::attribute::{NextHop, PathParameters, code};
use super::header::{Frame, MessageType, frame};
use super::notification::Notification;
use super::open::Open;
use super::pack::{EncodedAttributes, FamilyEncoding, Packer};
use super::refresh::RouteRefresh;
use super::update::{Update, UpdateContext};
use crate::bgp::attributes::Attributes;
use crate::bgp::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::bgp::prefix_set::PrefixSet;
use crate::net::{Asn, Family, Prefix};

/// Everything that a connection may do with octets from outside.
fn digest(octets: &[u8]) {
    for extended in [false, true] {
        let mut rest = octets;
        while let Ok(Frame::Message(kind, length)) = frame(rest, extended) {
            let (message, after) = rest.split_at(length);
            let body = &message[19..];
            match kind {
                MessageType::Open => drop(Open::parse(body)),
                MessageType::Update => digest_update(body),
                MessageType::Notification => drop(Notification::parse(body).to_string()),
                MessageType::RouteRefresh => drop(RouteRefresh::parse(message, extended)),
                MessageType::Keepalive => {}
            }
            rest = after;
        }
    }
}

fn digest_update(body: &[u8]) {
    for context in [(true, true), (true, false), (false, true)] {
        let context = UpdateContext { four_octet: context.0, external: context.1 };
        if let Ok(update) = Update::parse(body, context) {
            let listed = update.announced().count() + update.withdrawals().count();
            let counted = [Some(update.nlri), Some(update.withdrawn), update.mp_reach, update.mp_unreach];
            assert_eq!(listed as u32, counted.into_iter().flatten().map(|nlri| nlri.count()).sum::<u32>());
            let _ = (update.end_of_rib(), update.attributes.count());
        }
    }
}

/// Octets that once were interesting; each file is one stream. New ones are added when something breaks.
#[test]
fn corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bgp");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        digest(&octets);
        // Every mutation of one octet, to both ends of its range and by one bit.
        let mut mutated = octets.clone();
        for at in 0..octets.len() {
            for value in [0, 0xff, octets[at] ^ 1, octets[at] ^ 0x80, octets[at].wrapping_add(1)] {
                mutated[at] = value;
                digest(&mutated);
            }
            mutated[at] = octets[at];
            digest(&octets[..at]);
        }
        files += 1;
    }
    assert!(files >= 16, "the corpus is gone: {files} files in {folder}");
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 =
        (any::<u32>(), 0..=32_u8).prop_map(|(a, len)| Prefix::containing(IpAddr::V4(Ipv4Addr::from(a)), len));
    let v6 = (any::<u128>(), 0..=128_u8)
        .prop_map(|(a, len)| Prefix::containing(IpAddr::V6(Ipv6Addr::from(a)), len));
    prop_oneof![v4, v6].prop_map(|prefix| prefix.expect("length in range"))
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let communities = proptest::collection::vec(any::<u32>().prop_map(Community), 0..80);
    let extended = proptest::collection::vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..40);
    let large = proptest::collection::vec(any::<[u32; 3]>(), 0..30).prop_map(|all| {
        let large = |[global, local1, local2]: [u32; 3]| LargeCommunity { global, local1, local2 };
        all.into_iter().map(large).collect()
    });
    (any::<Option<u32>>(), any::<u8>(), communities, extended, large).prop_map(
        |(med, prepend, communities, extended_communities, large_communities)| Attributes {
            med,
            prepend,
            communities,
            extended_communities,
            large_communities,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_octets(kind in 0_u8..7, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut octets = vec![0xff; 16];
        octets.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
        octets.push(kind);
        octets.extend_from_slice(&body);
        digest(&octets);
        digest(&body);
        digest_update(&body);
        drop(Open::parse(&body));
    }

    /// The corpus cut, stretched and bent; the header's length is right, so that it gets past the frame.
    #[test]
    fn bent_corpus(
        file: proptest::sample::Index,
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3_u8), 1..12),
    ) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bgp");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut octets = std::fs::read(file.get(&files)).unwrap();
        for (at, value, how) in edits {
            // Behind the marker and the length.
            let Some(room) = octets.len().checked_sub(18).filter(|room| *room > 0) else { break };
            let at = 18 + at.index(room);
            match how {
                0 => octets[at] = value,
                1 => octets.insert(at, value),
                _ => drop(octets.remove(at)),
            }
        }
        digest(&octets);
        if octets.len() >= 19 {
            let length = u16::try_from(octets.len()).unwrap();
            octets[..16].fill(0xff);
            octets[16..18].copy_from_slice(&length.to_be_bytes());
            digest(&octets);
            match octets[18] {
                1 => drop(Open::parse(&octets[19..])),
                2 => digest_update(&octets[19..]),
                3 => drop(Notification::parse(&octets[19..]).to_string()),
                _ => drop(RouteRefresh::parse(&octets, true)),
            }
        }
    }

    /// RFC 4271 section 4.3, RFC 4760, RFC 8950, RFC 6793: what we write is what another reads.
    #[test]
    fn announcements_read_back(
        prefixes in proptest::collection::vec(prefix(), 1..600),
        attributes in attributes(),
        asn in prop_oneof![Just(64501_u32), 1..=u32::MAX],
        four_octet: bool,
        external: bool,
        shutdown: bool,
        v6_hop: bool,
        large in proptest::bool::weighted(0.2),
    ) {
        let max_message = if large { 65535 } else { 4096 };
        let set = PrefixSet::new(prefixes);
        let path = PathParameters { local_as: Asn(asn), external, four_octet, only_to_customer: false };
        for family in [Family::V4, Family::V6] {
            let next_hop = if family == Family::V6 || v6_hop {
                NextHop::Multiprotocol("2001:db8::1".parse().unwrap())
            } else {
                NextHop::Classic("192.0.2.1".parse().unwrap())
            };
            let encoding = FamilyEncoding { family, next_hop };
            let encoded = EncodedAttributes::new(&attributes, shutdown, &path, encoding);
            let block = set.block(family);
            let (mut end, mut seen) = (block.len(), Vec::new());
            while end > 0 {
                let mut out = Vec::new();
                let start = block.fit(0, end, encoded.room(encoding, max_message));
                prop_assert!(start < end);
                let packer = Packer::announce(&mut out, &encoded, encoding);
                out.extend_from_slice(block.slice(start, end));
                packer.finish(&mut out, Some(&encoded));
                prop_assert_eq!(frame(&out, large), Ok(Frame::Message(MessageType::Update, out.len())));
                let update = Update::parse(&out[19..], UpdateContext { four_octet, external }).unwrap();
                prop_assert_eq!(update.fault, None);
                seen.extend(update.announced());
                end = start;
            }
            seen.sort_by_key(|prefix| (prefix.len(), prefix.address()));
            let expected: Vec<Prefix> = set.iter().filter(|prefix| prefix.family() == family).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}

/// RFC 6793 section 4.2.2; RFC 4271 section 5.1.2; RFC 8326; RFC 9234 section 5.
#[test]
fn attributes_as_they_are_written() {
    let attributes = Attributes { prepend: 2, med: Some(7), ..Attributes::default() };
    let path =
        PathParameters { local_as: Asn(70000), external: true, four_octet: false, only_to_customer: true };
    let encoding =
        FamilyEncoding { family: Family::V4, next_hop: NextHop::Classic("192.0.2.1".parse().unwrap()) };
    let encoded = EncodedAttributes::new(&attributes, true, &path, encoding);
    let mut out = Vec::new();
    Packer::announce(&mut out, &encoded, encoding).finish(&mut out, Some(&encoded));
    let update = Update::parse(&out[19..], UpdateContext { four_octet: false, external: true }).unwrap();
    let all: Vec<(u8, u8, Vec<u8>)> =
        update.attributes.map(|a| a.unwrap()).map(|a| (a.flags, a.code, a.value.to_vec())).collect();
    let expected = [
        (0x40, code::ORIGIN, vec![0]),
        (0x40, code::AS_PATH, vec![2, 3, 0x5b, 0xa0, 0x5b, 0xa0, 0x5b, 0xa0]),
        (0x40, code::NEXT_HOP, vec![192, 0, 2, 1]),
        (0x80, code::MULTI_EXIT_DISC, vec![0, 0, 0, 7]),
        (0xc0, code::COMMUNITIES, vec![0xff, 0xff, 0, 0]),
        (0xc0, code::AS4_PATH, vec![2, 3, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70]),
        (0xc0, code::ONLY_TO_CUSTOMER, vec![0, 1, 0x11, 0x70]),
    ];
    assert_eq!(all, expected);
}
