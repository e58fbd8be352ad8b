//! What malformed messages are answered with: one line for each sentence of the RFCs.

use super::capability::{Capabilities, GracefulRestart, ReceivedRole, Role};
use super::header::{Frame, MessageType, frame};
use super::notification::{Cause, Notification};
use super::open::Open;
use super::refresh::{RefreshKind, RouteRefresh};
use super::update::{Treatment, Update, UpdateContext};
use crate::bgp::family::{Families, PerFamily};
use crate::net::{Asn, Family, RouterId};

fn header(length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend_from_slice(&length.to_be_bytes());
    octets.push(kind);
    octets
}

fn error(cause: Cause, data: &[u8]) -> Notification {
    Notification::with_data(cause, data.to_vec())
}

/// RFC 4271 section 6.1, RFC 8654 section 5.
#[test]
fn header_errors() {
    let length = |length: u16| error(Cause::BAD_MESSAGE_LENGTH, &length.to_be_bytes());
    let cases: [(Vec<u8>, bool, Notification); 15] = [
        (
            [vec![0xff; 15], vec![0xfe, 0, 19, 4]].concat(),
            false,
            error(Cause::CONNECTION_NOT_SYNCHRONIZED, &[]),
        ),
        (vec![0], false, error(Cause::CONNECTION_NOT_SYNCHRONIZED, &[])),
        (header(18, 4), false, length(18)),
        (header(0, 4), false, length(0)),
        (header(4097, 2), false, length(4097)),
        (header(28, 1), false, length(28)),
        (header(4097, 1), true, length(4097)),
        (header(22, 2), false, length(22)),
        (header(20, 4), false, length(20)),
        (header(20, 4), true, length(20)),
        (header(20, 3), false, length(20)),
        (header(22, 5), false, length(22)),
        (header(19, 0), false, error(Cause::BAD_MESSAGE_TYPE, &[0])),
        (header(19, 6), false, error(Cause::BAD_MESSAGE_TYPE, &[6])),
        (header(30, 255), true, error(Cause::BAD_MESSAGE_TYPE, &[255])),
    ];
    for (octets, extended, expected) in cases {
        assert_eq!(frame(&octets, extended), Err(expected), "{octets:?}");
    }
    // Judged as soon as it is whole, and not before.
    assert_eq!(frame(&header(4097, 2)[..18], false), Ok(Frame::Incomplete));
    assert_eq!(frame(&header(4097, 2), true), Ok(Frame::Incomplete));
    assert_eq!(frame(&header(19, 4), false), Ok(Frame::Message(MessageType::Keepalive, 19)));
    assert_eq!(frame(&[], false), Ok(Frame::Incomplete));
}

/// version, AS, hold time, identifier, parameters.
fn open(version: u8, asn: u16, hold: u16, id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend_from_slice(&asn.to_be_bytes());
    body.extend_from_slice(&hold.to_be_bytes());
    body.extend_from_slice(&id);
    body.extend_from_slice(parameters);
    body
}

/// RFC 4271 section 6.2; RFC 5492; RFC 6286 section 2.2; RFC 7607; RFC 9072.
#[test]
fn open_errors() {
    const ID: [u8; 4] = [192, 0, 2, 1];
    let unspecific = || error(Cause::OPEN_UNSPECIFIC, &[]);
    let cases = [
        (open(3, 64500, 90, ID, &[0]), error(Cause::UNSUPPORTED_VERSION, &[0, 4])),
        (open(5, 64500, 90, ID, &[0]), error(Cause::UNSUPPORTED_VERSION, &[0, 4])),
        (open(4, 0, 90, ID, &[0]), error(Cause::BAD_PEER_AS, &[])),
        (open(4, 23456, 90, ID, &[8, 2, 6, 65, 4, 0, 0, 0, 0]), error(Cause::BAD_PEER_AS, &[])),
        (open(4, 64500, 1, ID, &[0]), error(Cause::UNACCEPTABLE_HOLD_TIME, &[])),
        (open(4, 64500, 2, ID, &[0]), error(Cause::UNACCEPTABLE_HOLD_TIME, &[])),
        (open(4, 64500, 90, [0; 4], &[0]), error(Cause::BAD_BGP_IDENTIFIER, &[])),
        (open(4, 64500, 90, ID, &[4, 9, 2, 0, 0]), error(Cause::UNSUPPORTED_OPTIONAL_PARAMETER, &[])),
        // Authentication Information is deprecated (RFC 5492 appendix A): a parameter like any other.
        (open(4, 64500, 90, ID, &[3, 1, 1, 0]), error(Cause::UNSUPPORTED_OPTIONAL_PARAMETER, &[])),
        // Parameters that do not fill their length, or overrun it.
        (open(4, 64500, 90, ID, &[1]), unspecific()),
        (open(4, 64500, 90, ID, &[0, 0]), unspecific()),
        (open(4, 64500, 90, ID, &[3, 2, 2, 2]), unspecific()),
        (open(4, 64500, 90, ID, &[4, 2, 2, 65, 4]), unspecific()),
        (open(4, 64500, 90, ID, &[5, 2, 3, 1, 1, 0]), unspecific()),
        (open(4, 64500, 90, ID, &[255, 255, 0]), unspecific()),
        (open(4, 64500, 90, ID, &[255, 255, 0, 9, 2]), unspecific()),
        (vec![4, 1], unspecific()),
        (vec![], unspecific()),
    ];
    for (body, expected) in cases {
        assert_eq!(Open::parse(&body), Err(expected), "{body:?}");
    }
}

/// RFC 9072 section 2: told by the type 255, two octets for every length; RFC 5492 section 3: unknown ones skipped.
#[test]
fn open_with_extended_parameters_and_unknown_capabilities() {
    let extended = [255, 255, 0, 13, 2, 0, 10, 65, 4, 0, 0, 0xfb, 0xf4, 200, 2, 1, 2];
    let parsed = Open::parse(&open(4, 23456, 0, [192, 0, 2, 1], &extended)).unwrap();
    assert_eq!(parsed.asn, Asn(64500));
    let none = Open::parse(&open(4, 64500, 3, [192, 0, 2, 1], &[0])).unwrap();
    assert_eq!(
        (none.capabilities.clone(), none.capabilities.families()),
        (Capabilities::default(), Families::V4)
    );
}

#[test]
fn open_round_trip() {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(4_200_000_001)),
        route_refresh: true,
        enhanced_refresh: true,
        extended_message: true,
        v4_over_v6: true,
        graceful_restart: Some(GracefulRestart {
            restarting: true,
            notification: true,
            restart_time: 120,
            families: PerFamily { v4: Some(true), v6: Some(false) },
        }),
        role: ReceivedRole::One(Role::Customer),
    };
    let open = Open {
        asn: Asn(4_200_000_001),
        hold_time: 90,
        router_id: RouterId("203.0.113.2".parse().unwrap()),
        capabilities,
    };
    let mut octets = Vec::new();
    open.put(&mut octets);
    assert_eq!(frame(&octets, false), Ok(Frame::Message(MessageType::Open, octets.len())));
    // RFC 6793 section 4.2.3: AS_TRANS in the old field.
    assert_eq!(octets[20..22], [0x5b, 0xa0]);
    assert_eq!(Open::parse(&octets[19..]), Ok(open));
}

/// RFC 9234 section 4.2, table 2.
#[test]
fn roles_that_match() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let all = [Provider, RouteServer, RouteServerClient, Customer, Peer];
    let good: Vec<(Role, Role)> =
        all.iter().flat_map(|a| all.map(|b| (*a, b))).filter(|(a, b)| a.matches(*b)).collect();
    let expected = [
        (Provider, Customer),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Customer, Provider),
        (Peer, Peer),
    ];
    assert_eq!(good, expected);
}

/// RFC 9234 section 4.2: several roles are one if they are equal, and else a mismatch; so is an unassigned value.
#[test]
fn several_roles() {
    let role = |octets: &[u8]| {
        let mut capabilities = Capabilities::default();
        capabilities.parse(octets).unwrap();
        capabilities.role
    };
    assert_eq!(role(&[9, 1, 0, 9, 1, 0]), ReceivedRole::One(Role::Provider));
    assert_eq!(role(&[9, 1, 0, 9, 1, 3]), ReceivedRole::Contradictory);
    assert_eq!(role(&[9, 1, 5]), ReceivedRole::Contradictory);
}

const EXTERNAL: UpdateContext = UpdateContext { four_octet: true, external: true };
const INTERNAL: UpdateContext = UpdateContext { four_octet: true, external: false };

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(withdrawn);
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(attributes);
    body.extend_from_slice(nlri);
    body
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const NET: &[u8] = &[24, 198, 51, 100];
const V6_HOP: &[u8] = &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The mandatory attributes and one more.
fn with(attribute: &[u8]) -> Vec<u8> {
    update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute].concat(), NET)
}

/// RFC 4271 section 6.3 as RFC 7606 left it: what still resets the session.
#[test]
fn update_errors_that_reset_the_session() {
    let unreach = [0x80, 15, 3, 0, 2, 1];
    let reach = [&[0x80, 14, 21, 0, 2, 1, 16][..], V6_HOP, &[0]].concat();
    let cases = [
        ("withdrawn routes overrun the message", vec![0, 9, 0, 0], Cause::MALFORMED_ATTRIBUTE_LIST, vec![]),
        ("attributes overrun the message", vec![0, 0, 0, 9, 0], Cause::MALFORMED_ATTRIBUTE_LIST, vec![]),
        (
            "NLRI length above 32",
            update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), &[33, 1, 2, 3, 4, 5]),
            Cause::INVALID_NETWORK_FIELD,
            vec![],
        ),
        (
            "NLRI overruns",
            update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), &[24, 1, 2]),
            Cause::INVALID_NETWORK_FIELD,
            vec![],
        ),
        ("withdrawn route overruns", update(&[24, 1, 2], &[], &[]), Cause::INVALID_NETWORK_FIELD, vec![]),
        (
            "unrecognized well-known",
            with(&[0x40, 99, 1, 7]),
            Cause::UNRECOGNIZED_WELL_KNOWN,
            vec![0x40, 99, 1, 7],
        ),
        (
            "MP_REACH twice",
            update(&[], &[&reach[..], &reach].concat(), &[]),
            Cause::MALFORMED_ATTRIBUTE_LIST,
            vec![],
        ),
        (
            "MP_UNREACH twice",
            update(&[], &[unreach, unreach].concat(), &[]),
            Cause::MALFORMED_ATTRIBUTE_LIST,
            vec![],
        ),
        ("MP_REACH too short", with(&[0x80, 14, 2, 0, 2]), Cause::OPTIONAL_ATTRIBUTE, vec![]),
        ("MP_UNREACH too short", with(&[0x80, 15, 2, 0, 2]), Cause::OPTIONAL_ATTRIBUTE, vec![]),
        ("3.j MP_REACH overruns", with(&[0x80, 14, 99, 0, 2]), Cause::OPTIONAL_ATTRIBUTE, vec![]),
        ("3.j MP_UNREACH overruns", with(&[0x80, 15, 9, 0, 2, 1]), Cause::OPTIONAL_ATTRIBUTE, vec![]),
        // RFC 7606 section 5.2: no prefix that could be treated as withdrawn.
        ("error and no prefix", update(&[], &[0x40, 1, 1, 9], &[]), Cause::MALFORMED_ATTRIBUTE_LIST, vec![]),
    ];
    for (what, body, cause, data) in cases {
        assert_eq!(Update::parse(&body, EXTERNAL), Err(Notification::with_data(cause, data)), "{what}");
    }
}

/// RFC 7606 sections 3, 4 and 7: errors that the session survives.
#[test]
fn update_errors_that_the_session_survives() {
    use Treatment::{AttributeDiscard as Discard, DisableFamily, TreatAsWithdraw as Withdraw};
    let bad_v6 = [&[0x80, 14, 22, 0, 2, 1, 16][..], V6_HOP, &[0, 129]].concat();
    let short_hop = [0x80, 14, 9, 0, 2, 1, 4, 192, 0, 2, 1, 0];
    let cases: [(&str, Vec<u8>, u8, Treatment); 29] = [
        ("3.c flags", with(&[0xc0, 4, 4, 0, 0, 0, 1]), 4, Withdraw),
        ("3.d no ORIGIN", update(&[], &[AS_PATH, NEXT_HOP].concat(), NET), 1, Withdraw),
        ("3.d no AS_PATH", update(&[], &[ORIGIN, NEXT_HOP].concat(), NET), 2, Withdraw),
        ("3.d no NEXT_HOP", update(&[], &[ORIGIN, AS_PATH].concat(), NET), 3, Withdraw),
        ("3.g twice", with(ORIGIN), 1, Discard),
        ("4 overrun", with(&[0x80, 4, 9, 0]), 0, Withdraw),
        ("4 no length", with(&[0x80]), 0, Withdraw),
        ("7.1 ORIGIN", update(&[], &[&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP].concat(), NET), 1, Withdraw),
        (
            "7.1 ORIGIN length",
            update(&[], &[&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP].concat(), NET),
            1,
            Withdraw,
        ),
        (
            "7.2 AS_PATH type",
            update(&[], &[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0, 1], NEXT_HOP].concat(), NET),
            2,
            Withdraw,
        ),
        (
            "7.2 AS_PATH overrun",
            update(&[], &[ORIGIN, &[0x40, 2, 4, 2, 1, 0, 1], NEXT_HOP].concat(), NET),
            2,
            Withdraw,
        ),
        (
            "7.2 AS_PATH empty segment",
            update(&[], &[ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP].concat(), NET),
            2,
            Withdraw,
        ),
        (
            "RFC 7607",
            update(&[], &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP].concat(), NET),
            2,
            Withdraw,
        ),
        ("RFC 7607", with(&[0xc0, 7, 8, 0, 0, 0, 0, 192, 0, 2, 1]), 7, Discard),
        ("7.3 NEXT_HOP", update(&[], &[ORIGIN, AS_PATH, &[0x40, 3, 3, 1, 2, 3]].concat(), NET), 3, Withdraw),
        ("7.4 MED", with(&[0x80, 4, 3, 0, 0, 0]), 4, Withdraw),
        ("7.5 LOCAL_PREF from outside", with(&[0x40, 5, 4, 0, 0, 0, 1]), 5, Discard),
        ("7.6 ATOMIC_AGGREGATE", with(&[0x40, 6, 1, 0]), 6, Discard),
        ("7.7 AGGREGATOR", with(&[0xc0, 7, 6, 0, 0, 0, 0, 0, 0]), 7, Discard),
        ("7.8 COMMUNITIES", with(&[0xc0, 8, 3, 0, 0, 0]), 8, Withdraw),
        ("7.8 COMMUNITIES empty", with(&[0xc0, 8, 0]), 8, Withdraw),
        ("7.9 ORIGINATOR_ID", with(&[0x80, 9, 4, 0, 0, 0, 1]), 9, Discard),
        ("7.10 CLUSTER_LIST", with(&[0x80, 10, 4, 0, 0, 0, 1]), 10, Discard),
        ("7.11 MP_REACH NLRI", with(&bad_v6), 14, DisableFamily(Family::V6)),
        ("7.11 MP_REACH next hop", with(&short_hop), 14, DisableFamily(Family::V6)),
        ("7.12 MP_UNREACH NLRI", with(&[0x80, 15, 4, 0, 1, 1, 40]), 15, DisableFamily(Family::V4)),
        ("7.14 EXTENDED COMMUNITIES", with(&[0xc0, 16, 4, 0, 0, 0, 0]), 16, Withdraw),
        ("RFC 8092 section 6", with(&[0xc0, 32, 4, 0, 0, 0, 0]), 32, Withdraw),
        ("RFC 9234 section 5", with(&[0xc0, 35, 3, 0, 0, 0]), 35, Withdraw),
    ];
    for (what, body, attribute, treatment) in cases {
        let fault = Update::parse(&body, EXTERNAL).unwrap().fault.unwrap();
        assert_eq!((fault.attribute, fault.treatment), (attribute, treatment), "{what}");
    }
    // Section 3.h: the strongest wins, whichever comes first.
    let both = update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0], &[0x80, 4, 1, 0]].concat(), NET);
    assert_eq!(Update::parse(&both, EXTERNAL).unwrap().fault.unwrap().treatment, Withdraw);
}

#[test]
fn good_updates() {
    let unknown_optional = with(&[0xc0, 200, 1, 0]);
    let parsed = Update::parse(&unknown_optional, EXTERNAL).unwrap();
    assert_eq!((parsed.fault, parsed.nlri.count()), (None, 1));
    assert_eq!(parsed.announced().next(), Some("198.51.100.0/24".parse().unwrap()));
    // From inside, LOCAL_PREF is mandatory (RFC 4271 section 5.1.5).
    assert!(Update::parse(&with(&[]), INTERNAL).unwrap().fault.is_some());
    assert_eq!(Update::parse(&with(&[0x40, 5, 4, 0, 0, 0, 1]), INTERNAL).unwrap().fault, None);
    // A family that we do not speak is passed over.
    let other = update(&[], &[&[0x80, 15, 5, 0, 1, 128, 9, 9][..]].concat(), &[]);
    assert_eq!(Update::parse(&other, EXTERNAL).unwrap().mp_unreach, None);
}

/// RFC 4724 section 2.
#[test]
fn end_of_rib() {
    for family in [Family::V4, Family::V6] {
        let mut octets = Vec::new();
        super::pack::put_end_of_rib(&mut octets, family);
        assert_eq!(Update::parse(&octets[19..], EXTERNAL).unwrap().end_of_rib(), Some(family));
    }
    assert_eq!(Update::parse(&with(&[]), EXTERNAL).unwrap().end_of_rib(), None);
    assert_eq!(Update::parse(&update(NET, &[], &[]), EXTERNAL).unwrap().end_of_rib(), None);
}

/// RFC 2918 section 3; RFC 7313 sections 3.2 and 5.
#[test]
fn route_refresh() {
    let message = |body: &[u8]| [header(19 + body.len() as u16, 5), body.to_vec()].concat();
    let parsed = |kind| Ok(Some(RouteRefresh { kind, family: Family::V6 }));
    assert_eq!(RouteRefresh::parse(&message(&[0, 2, 0, 1]), true), parsed(RefreshKind::Request));
    assert_eq!(RouteRefresh::parse(&message(&[0, 2, 1, 1]), true), parsed(RefreshKind::Begin));
    assert_eq!(RouteRefresh::parse(&message(&[0, 2, 1, 1]), false), parsed(RefreshKind::Request));
    assert_eq!(RouteRefresh::parse(&message(&[0, 2, 3, 1]), true), Ok(None));
    assert_eq!(RouteRefresh::parse(&message(&[0, 1, 0, 128]), true), Ok(None));
    let long = message(&[0, 2, 2, 1, 0]);
    assert_eq!(RouteRefresh::parse(&long, true), Err(Notification::with_data(Cause::REFRESH_LENGTH, long)));
    let mut octets = Vec::new();
    RouteRefresh { kind: RefreshKind::End, family: Family::V4 }.put(&mut octets);
    assert_eq!(octets, message(&[0, 1, 2, 1]));
}
