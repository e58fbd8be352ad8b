//! Another implementation as oracle: it must read what we write, and think of broken input what we think.
//!
//! The oracle is the `rustbgpd-wire` crate. Where the two differ and the RFC is on our side, the difference is named
//! below with its section; everything else must agree.

use std::net::IpAddr;
use std::sync::Arc;

use announcerd::bgp::community::Community;
use announcerd::bgp::wire::attribute::RawAttributes;
use announcerd::bgp::wire::capability::Capabilities;
use announcerd::bgp::wire::header::{Frame, MessageType, frame, put_keepalive};
use announcerd::bgp::wire::open::Open;
use announcerd::bgp::wire::update::{Treatment, Update, UpdateContext};
use announcerd::bgp::{
    Attributes, Claim, ConnId, Families, Origin, Peer, PeerConfig, PeerEvent, PrefixSet, Table, Wanted,
};
use announcerd::net::{Asn, Family, Prefix, RouterId};
use announcerd::time::Time;
use rustbgpd_wire::{
    Afi, AsPathSegment, ErrorDisposition, OpenMessage, PathAttribute, UpdateMessage,
    validate::validate_update_attributes,
};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn open(capabilities: Capabilities) -> Open {
    let router_id = RouterId("203.0.113.1".parse().unwrap());
    Open { asn: Asn(64500), hold_time: 90, router_id, capabilities }
}

/// What a peer of ours sends for `wanted`, and then for nothing.
fn updates(wanted: Wanted, four_octet: bool, extended_message: bool, local_as: u32) -> Vec<u8> {
    let id = RouterId("203.0.113.2".parse().unwrap());
    let address = "203.0.113.1".parse().unwrap();
    let mut cfg = PeerConfig::new("oracle", address, Asn(64500), Asn(local_as), id);
    cfg.passive = true;
    cfg.next_hop_v6 = Some("2001:db8::2".parse().unwrap());
    let mut peer = Peer::new(cfg, 1, false, Time::ZERO);
    let conn = ConnId { origin: Origin::Incoming, serial: 0 };
    let local = "203.0.113.2:179".parse().unwrap();
    peer.handle_event(PeerEvent::TransportAccepted { conn, local }, Time::ZERO);
    let mut octets = Vec::new();
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: four_octet.then_some(Asn(64500)),
        extended_message,
        ..Capabilities::default()
    };
    open(capabilities).put(&mut octets);
    put_keepalive(&mut octets);
    peer.handle_event(PeerEvent::Received { conn, octets }, Time::ZERO);
    peer.handle_event(PeerEvent::InitOver, Time::ZERO);
    let mut out = Vec::new();
    for wanted in [wanted, Wanted::default()] {
        peer.handle_event(PeerEvent::SetWanted { wanted, token: 0 }, Time::ZERO);
        while peer.poll_transmit(conn, 1 << 16, &mut out) > 0 {}
    }
    out
}

fn messages(mut octets: &[u8]) -> impl Iterator<Item = (MessageType, &[u8])> {
    std::iter::from_fn(move || match frame(octets, true) {
        Ok(Frame::Message(kind, length)) => {
            let (message, rest) = octets.split_at(length);
            octets = rest;
            Some((kind, message))
        }
        _ => None,
    })
}

fn oracle_prefix(prefix: &rustbgpd_wire::Prefix) -> Prefix {
    let (address, len) = match prefix {
        rustbgpd_wire::Prefix::V4(prefix) => (IpAddr::V4(prefix.addr), prefix.len),
        rustbgpd_wire::Prefix::V6(prefix) => (IpAddr::V6(prefix.addr), prefix.len),
    };
    Prefix::containing(address, len).unwrap()
}

fn random_prefixes(rng: &mut Rng, count: u64) -> Vec<Prefix> {
    (0..count)
        .map(|_| {
            let address: IpAddr = if rng.below(2) == 0 {
                IpAddr::from((rng.below(1 << 32) as u32).to_be_bytes())
            } else {
                IpAddr::from(
                    ((u128::from(rng.below(u64::MAX)) << 64) | u128::from(rng.below(u64::MAX))).to_be_bytes(),
                )
            };
            let bits = if address.is_ipv4() { 33 } else { 129 };
            Prefix::containing(address, rng.below(bits) as u8).unwrap()
        })
        .collect()
}

/// RFC 4271 section 4.3, RFC 4760, RFC 6793, RFC 8654: every route comes out at the other end as it was meant.
#[test]
fn the_oracle_reads_our_updates() {
    let mut rng = Rng(1);
    for round in 0..200 {
        let count = 1 + rng.below(2000);
        let set = PrefixSet::new(random_prefixes(&mut rng, count));
        let attributes = Attributes {
            med: (rng.below(2) == 0).then(|| rng.below(1 << 32) as u32),
            prepend: rng.below(256) as u8,
            communities: (0..rng.below(300)).map(|n| Community(n as u32 * 7919)).collect(),
            ..Attributes::default()
        };
        let (four_octet, extended) = (rng.below(2) == 0, rng.below(2) == 0);
        let local_as = if rng.below(2) == 0 { 64501 } else { 4_200_000_001 };
        let wanted = Wanted {
            table: Arc::new(Table::new(std::slice::from_ref(&set))),
            claims: vec![Claim::Master(Arc::new(attributes.clone()))],
        };
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for (kind, message) in messages(&updates(wanted, four_octet, extended, local_as)) {
            if kind != MessageType::Update {
                continue;
            }
            assert!(extended || message.len() <= 4096);
            let raw = UpdateMessage::decode(&mut &message[19..], message.len() - 19).unwrap();
            let parsed = raw.parse(four_octet, false, &[]).unwrap();
            let body = !parsed.announced.is_empty();
            let mut reach = body;
            announced
                .extend(parsed.announced.iter().map(|e| oracle_prefix(&rustbgpd_wire::Prefix::V4(e.prefix))));
            withdrawn
                .extend(parsed.withdrawn.iter().map(|e| oracle_prefix(&rustbgpd_wire::Prefix::V4(e.prefix))));
            for attribute in &parsed.attributes {
                match attribute {
                    PathAttribute::MpReachNlri(mp) => {
                        reach = true;
                        assert_eq!(
                            (mp.afi, mp.next_hop),
                            (Afi::Ipv6, "2001:db8::2".parse::<IpAddr>().unwrap())
                        );
                        announced.extend(mp.announced.iter().map(|entry| oracle_prefix(&entry.prefix)));
                    }
                    PathAttribute::MpUnreachNlri(mp) => {
                        withdrawn.extend(mp.withdrawn.iter().map(|entry| oracle_prefix(&entry.prefix)));
                    }
                    PathAttribute::NextHop(hop) => assert_eq!(hop.to_string(), "203.0.113.2"),
                    PathAttribute::Med(med) => assert_eq!(Some(*med), attributes.med),
                    PathAttribute::Communities(all) => {
                        assert!(
                            attributes
                                .communities
                                .iter()
                                .map(|community| community.0)
                                .eq(all.iter().copied())
                        );
                    }
                    PathAttribute::AsPath(path) => {
                        // Towards two-octet peers the oracle puts AS4_PATH's numbers in again (RFC 6793 section 4.2.3).
                        let all: Vec<u32> = path
                            .segments
                            .iter()
                            .flat_map(|segment| match segment {
                                AsPathSegment::AsSequence(all) | AsPathSegment::AsSet(all) => all.clone(),
                            })
                            .collect();
                        assert_eq!(all, vec![local_as; usize::from(attributes.prepend) + 1], "round {round}");
                    }
                    _ => {}
                }
            }
            validate_update_attributes(&parsed.attributes, reach, body, true).unwrap();
        }
        let key = |prefix: &Prefix| (prefix.family() == Family::V6, prefix.len(), prefix.address());
        announced.sort_by_key(key);
        withdrawn.sort_by_key(key);
        let expected: Vec<Prefix> = set.iter().collect();
        assert!(announced == expected, "round {round}");
        assert!(withdrawn == expected, "round {round}");
    }
}

#[test]
fn the_oracle_reads_our_open() {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(64500)),
        route_refresh: true,
        enhanced_refresh: true,
        extended_message: true,
        v4_over_v6: true,
        ..Capabilities::default()
    };
    let mut octets = Vec::new();
    open(capabilities).put(&mut octets);
    let read = OpenMessage::decode(&mut &octets[19..], octets.len() - 19).unwrap();
    assert_eq!(
        (read.my_as, read.hold_time, read.bgp_identifier.to_string()),
        (64500, 90, "203.0.113.1".into())
    );
    assert_eq!(read.capabilities.len(), 7);
}

/// How bad a message is, as far as both can say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    Clean,
    Discard,
    Withdraw,
    /// Session reset, or its milder stand-in for multiprotocol attributes (RFC 7606 section 5.3: either).
    Reset,
}

fn ours(body: &[u8]) -> Verdict {
    match Update::parse(body, UpdateContext { four_octet: true, external: true }) {
        Err(_) => Verdict::Reset,
        Ok(update) => match update.fault.map(|fault| fault.treatment) {
            None => Verdict::Clean,
            Some(Treatment::AttributeDiscard) => Verdict::Discard,
            Some(Treatment::TreatAsWithdraw) => Verdict::Withdraw,
            Some(Treatment::DisableFamily(_)) => Verdict::Reset,
        },
    }
}

fn theirs(body: &[u8]) -> Verdict {
    let Ok(raw) = UpdateMessage::decode(&mut &body[..], body.len()) else { return Verdict::Reset };
    let Ok(parsed) = raw.parse_revised(true, false, false, &[]) else { return Verdict::Reset };
    let of = |disposition| match disposition {
        ErrorDisposition::AttributeDiscard => Verdict::Discard,
        ErrorDisposition::TreatAsWithdraw => Verdict::Withdraw,
        ErrorDisposition::SessionReset => Verdict::Reset,
    };
    let malformed = parsed.malformed.iter().map(|malformed| of(malformed.disposition)).max();
    let attributes = &parsed.update.attributes;
    let body_nlri = !parsed.update.announced.is_empty();
    let reach = attributes.iter().any(|attribute| matches!(attribute, PathAttribute::MpReachNlri(_)));
    let semantic = validate_update_attributes(attributes, body_nlri || reach, body_nlri, true);
    let semantic = semantic.err().map(|error| of(error.disposition));
    let verdict = malformed.max(semantic).unwrap_or(Verdict::Clean);
    // RFC 7606 section 5.2, which the oracle leaves to its caller: no prefix that could be treated as withdrawn.
    let mut raw = RawAttributes(&raw.path_attributes);
    let more_than_unreach =
        raw.any(|attribute| attribute.is_ok_and(|attribute| attribute.code != 15) || attribute.is_err());
    let reach = reach || raw_reach(body);
    if verdict == Verdict::Withdraw && !reach && !body_nlri && more_than_unreach {
        Verdict::Reset
    } else {
        verdict
    }
}

/// There is an MP_REACH_NLRI, decoded by the oracle or not.
fn raw_reach(body: &[u8]) -> bool {
    let Ok(raw) = UpdateMessage::decode(&mut &body[..], body.len()) else { return false };
    RawAttributes(&raw.path_attributes).flatten().any(|attribute| attribute.code == 14)
}

/// False where the two may differ.
fn comparable(body: &[u8]) -> bool {
    let Ok(raw) = UpdateMessage::decode(&mut &body[..], body.len()) else { return true };
    RawAttributes(&raw.path_attributes).flatten().all(|attribute| match attribute.code {
        // The Partial bit where it must be zero: RFC 7606 section 3.c speaks of the other two alone.
        _ if attribute.flags & 0x20 != 0 => false,
        // RFC 7606 section 3.c names no exception for the two, the oracle resets. Families that we do not speak are
        // passed over by us and decoded by the oracle.
        14 | 15 => {
            attribute.flags & 0xc0 == 0x80 && matches!(attribute.value, [0, 1 | 2, 1, ..] | [] | [_] | [_, _])
        }
        // From an external peer these are discarded even if they are well formed: RFC 7606 sections 7.5, 7.9, 7.10,
        // RFC 6793 section 6.
        5 | 9 | 10 | 17 | 18 => false,
        1..=4 | 6..=8 | 16 | 32 | 35 => true,
        // Attributes that one side does not know. RFC 4271 section 6.3 resets for an unrecognized well-known one and
        // RFC 7606 leaves that in place; the oracle treats it as a withdraw.
        _ => false,
    })
}

/// A next hop that is no unicast address: RFC 4271 section 6.3 ignores such a route, which we do with all of them.
fn odd_next_hop(body: &[u8]) -> bool {
    let Ok(raw) = UpdateMessage::decode(&mut &body[..], body.len()) else { return false };
    RawAttributes(&raw.path_attributes).flatten().any(|attribute| match (attribute.code, attribute.value) {
        (3, [first, ..]) => !(1..224).contains(first) || *first == 127,
        (14, [_, _, _, _, hop @ ..]) => !matches!(hop, [0x20..=0x3f, ..]),
        _ => false,
    })
}

#[test]
fn both_judge_broken_updates_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bgp");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let streams: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let updates = streams.iter().flat_map(|octets| messages(octets));
    let bodies: Vec<&[u8]> =
        updates.filter(|(kind, _)| *kind == MessageType::Update).map(|(_, message)| &message[19..]).collect();
    assert!(bodies.len() >= 6);
    let mut rng = Rng(7);
    let mut compared = 0;
    for _ in 0..200_000 {
        let mut body = bodies[rng.below(bodies.len() as u64) as usize].to_vec();
        for _ in 0..1 + rng.below(2) {
            let at = rng.below(body.len() as u64) as usize;
            let old = body[at];
            body[at] =
                [0, 0xff, old ^ 0x80, old.wrapping_add(1), rng.below(256) as u8][rng.below(5) as usize];
        }
        if comparable(&body) && !odd_next_hop(&body) {
            assert_eq!(ours(&body), theirs(&body), "{body:02x?}");
            compared += 1;
        }
    }
    assert!(compared > 100_000, "{compared}");
}

/// RFC 4271 section 6.2 as far as it is syntax; the oracle checks AS number, hold time and identifier elsewhere.
#[test]
fn both_judge_broken_opens_alike() {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(64500)),
        route_refresh: true,
        enhanced_refresh: true,
        extended_message: true,
        v4_over_v6: true,
        ..Capabilities::default()
    };
    let mut octets = Vec::new();
    open(capabilities).put(&mut octets);
    let mut rng = Rng(9);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..100_000 {
        let mut body = octets[19..].to_vec();
        for _ in 0..1 + rng.below(2) {
            let at = rng.below(body.len() as u64) as usize;
            let old = body[at];
            body[at] =
                [0, 0xff, old ^ 0x80, old.wrapping_add(1), rng.below(256) as u8][rng.below(5) as usize];
        }
        let theirs = OpenMessage::decode(&mut &body[..], body.len());
        match Open::parse(&body) {
            Ok(_) => {
                theirs.unwrap_or_else(|error| panic!("{error}: {body:02x?}"));
                good += 1;
            }
            Err(ours) if matches!(ours.cause.subcode, 0 | 1 | 4) => {
                let Err(theirs) = theirs else {
                    // A capability that we know with a length it cannot have: the oracle passes over it, RFC 4271
                    // section 6.2 (last paragraph) makes it an error.
                    assert_eq!(ours.cause.subcode, 0, "{body:02x?}");
                    continue;
                };
                let (code, subcode, data) = theirs.to_notification();
                let theirs = (code.as_u8(), subcode, data.to_vec());
                assert_eq!((ours.cause.code, ours.cause.subcode, ours.data), theirs, "{body:02x?}");
                bad += 1;
            }
            Err(_) => {}
        }
    }
    assert!(good > 10_000 && bad > 10_000, "{good} {bad}");
}
