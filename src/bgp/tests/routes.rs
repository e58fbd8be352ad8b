//! What the peer is told: only what changed, never what was not wanted, the newest first.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::rig::{Rig, config, isp_open, med, message, set, wanted};
use super::view::{Change, View};
use crate::bgp::wire::capability::{Capabilities, Role};
use crate::bgp::wire::header::MessageType;
use crate::bgp::wire::open::Open;
use crate::bgp::wire::refresh::RefreshKind;
use crate::bgp::{Claim, ConnId, PeerConfig, PeerEffect, PeerEvent, PrefixSet, Table, Wanted};
use crate::net::{Asn, Family, Prefix};

fn prefixes(changes: &[Change]) -> (usize, usize) {
    let announced = changes.iter().filter(|change| matches!(change, Change::Announced(..))).count();
    (announced, changes.len() - announced)
}

fn read(rig: &mut Rig, conn: ConnId, view: &mut View) -> Vec<Change> {
    let octets = rig.fetch(conn);
    view.read(&octets)
}

/// FIELD 15: a standby's first act is to withdraw what it never announced: nothing may be sent.
#[test]
fn field_15_what_was_never_announced_is_never_withdrawn() {
    let (mut rig, conn) = Rig::up(config());
    assert_eq!(rig.want(wanted(&["198.51.100.0/24"], Claim::None), 1), []);
    assert!(rig.fetch(conn).is_empty());
    // Wanted and no longer wanted before the socket took anything.
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(0))), 2);
    rig.want(wanted(&["198.51.100.0/24"], Claim::None), 3);
    assert!(rig.fetch(conn).is_empty());
    // A new session was told nothing.
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(0))), 4);
    assert!(!rig.fetch(conn).is_empty());
    rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
    rig.want(wanted(&["198.51.100.0/24"], Claim::None), 5);
    let conn = rig.connect();
    rig.establish(conn, &isp_open());
    assert_eq!(read(&mut rig, conn, &mut View::new()), []);
}

/// RFC 4724 section 2: after the initial table, once, for each family; not before INIT is over.
#[test]
fn end_of_rib_follows_the_initial_table() {
    let (mut rig, conn) = Rig::up(config());
    let mut view = View::new();
    rig.want(wanted(&["198.51.100.0/24", "2001:db8:100::/48"], Claim::Master(med(0))), 1);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (2, 0));
    assert_eq!(view.ended, []);
    assert_eq!(rig.event(PeerEvent::InitOver), [PeerEffect::Transmit { conn }]);
    read(&mut rig, conn, &mut view);
    assert_eq!(view.ended, [Family::V4, Family::V6]);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(1))), 2);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (1, 1));
}

/// Only what changed is sent; withdraws go first; a new table keeps what stays.
#[test]
fn differences() {
    let (mut rig, conn) = Rig::up(config());
    let mut view = View::new();
    let table = Arc::new(Table::new(&[set(&["192.0.2.0/24"]), set(&["198.51.100.0/24", "2001:db8::/48"])]));
    let want =
        |table: &Arc<Table>, claims: [Claim; 2]| Wanted { table: Arc::clone(table), claims: claims.into() };
    let steps = [
        ([Claim::Master(med(0)), Claim::Backup(med(100))], (3, 0)),
        ([Claim::Master(med(0)), Claim::Backup(med(100))], (0, 0)),
        ([Claim::Master(med(0)), Claim::Master(med(0))], (2, 0)),
        ([Claim::None, Claim::Master(med(5))], (2, 1)),
        ([Claim::Backup(med(5)), Claim::None], (1, 2)),
    ];
    for (token, (claims, expected)) in steps.into_iter().enumerate() {
        rig.want(want(&table, claims), token as u64);
        let changes = read(&mut rig, conn, &mut view);
        assert_eq!(prefixes(&changes), expected, "step {token}");
        let first_announced = changes.iter().position(|change| matches!(change, Change::Announced(..)));
        let last_withdrawn = changes.iter().rposition(|change| matches!(change, Change::Withdrawn(_)));
        assert!(first_announced.is_none() || last_withdrawn.is_none() || last_withdrawn < first_announced);
    }
    // A reload: other sets, cut otherwise; 192.0.2.0/24 stays as it is, nobody hears of it.
    let reloaded = Arc::new(Table::new(&[set(&["203.0.113.0/24", "192.0.2.0/24"]), set(&["192.0.2.0/24"])]));
    rig.want(want(&reloaded, [Claim::None, Claim::Master(med(5))]), 9);
    assert_eq!(read(&mut rig, conn, &mut view), []);
    rig.want(want(&reloaded, [Claim::Master(med(5)), Claim::None]), 10);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (1, 0));
    // A reload without it: withdrawn.
    let gone = Arc::new(Table::new(&[set(&["203.0.113.0/24"])]));
    rig.want(want(&gone, [Claim::Master(med(5)), Claim::None]), 11);
    assert_eq!(read(&mut rig, conn, &mut view), [Change::Withdrawn("192.0.2.0/24".parse().unwrap())]);
    rig.want(Wanted::default(), 12);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (0, 1));
    assert_eq!(rig.peer.status().advertised_v4, 0);
}

fn many(count: u32) -> PrefixSet {
    (0..count)
        .map(|n| {
            let address = (0x2001_0db8_u128 << 96) | (u128::from(n) << 64);
            Prefix::containing(IpAddr::V6(Ipv6Addr::from(address)), 64).unwrap()
        })
        .collect()
}

/// FIELD 16 and 20: a peer that reads slowly. The withdraw overtakes what was not written, and covers what was.
#[test]
fn the_newest_state_wins_over_a_backlog() {
    let (mut rig, conn) = Rig::up(config());
    let table = Arc::new(Table::new(&[many(200_000), set(&["192.0.2.0/24"])]));
    let want = |first, second| Wanted { table: Arc::clone(&table), claims: vec![first, second] };
    rig.want(want(Claim::Master(med(1)), Claim::Master(med(1))), 1);
    let mut view = View::new();
    let mut octets = Vec::new();
    // One chunk of the table, in bounded memory: the classic family comes first, then 65,535 octets a message.
    rig.peer.poll_transmit(conn, 100_000, &mut octets);
    assert!(octets.len() < 100_000 + 65_535);
    view.read(&octets);
    let told = view.routes.len();
    assert!((10_000..30_000).contains(&told), "{told}");
    assert_eq!(rig.peer.status().advertised_v6, told - 1);
    rig.want(want(Claim::None, Claim::Master(med(2))), 2);
    octets.clear();
    rig.peer.poll_transmit(conn, 1, &mut octets);
    let changes = view.read(&octets);
    assert!(matches!(changes[0], Change::Withdrawn(_)));
    let rest = read(&mut rig, conn, &mut view);
    assert_eq!(changes.len() + rest.len(), told);
    assert_eq!(view.routes.len(), 1);
    // Changed half-way, and half-way again: runs of three kinds, and all comes right.
    for value in [3, 4, 5] {
        rig.want(want(Claim::Master(med(value)), Claim::Master(med(value))), u64::from(value));
        octets.clear();
        rig.peer.poll_transmit(conn, 50_000, &mut octets);
        view.read(&octets);
    }
    read(&mut rig, conn, &mut view);
    assert_eq!(view.routes.len(), 200_001);
    assert!(view.routes.values().all(|heard| heard.med == Some(5)));
}

/// RFC 2918, RFC 7313 section 4: BoRR, everything, EoRR; a storm of requests is answered once more.
#[test]
fn route_refresh() {
    let (mut rig, conn) = Rig::up(config());
    let mut view = View::new();
    rig.want(wanted(&["198.51.100.0/24", "192.0.2.0/24", "2001:db8::/48"], Claim::Master(med(0))), 1);
    rig.event(PeerEvent::InitOver);
    read(&mut rig, conn, &mut view);
    let request = message(MessageType::RouteRefresh, &[0, 1, 0, 1]);
    assert_eq!(rig.send(conn, request.repeat(100)), [PeerEffect::Transmit { conn }]);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (2, 0));
    assert_eq!(view.refreshes, [(RefreshKind::Begin, Family::V4), (RefreshKind::End, Family::V4)]);
    // During a refresh: one more round.
    rig.send(conn, request.clone());
    let mut octets = Vec::new();
    rig.peer.poll_transmit(conn, 1, &mut octets);
    view.read(&octets);
    rig.send(conn, request.repeat(100));
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (4, 0));
    assert_eq!(view.refreshes.len(), 6);
    // A family that was not negotiated, an AFI that nobody knows: nothing.
    assert_eq!(rig.send(conn, message(MessageType::RouteRefresh, &[0, 1, 0, 128])), []);
}

/// RFC 2918 alone: everything again, no marks.
#[test]
fn plain_route_refresh() {
    let mut rig = Rig::new(config());
    rig.want(wanted(&["198.51.100.0/24", "2001:db8::/48"], Claim::Master(med(0))), 1);
    let conn = rig.connect();
    let mut open = isp_open();
    open.capabilities.enhanced_refresh = false;
    rig.establish(conn, &open);
    let mut view = View::new();
    read(&mut rig, conn, &mut view);
    for family in [2, 1, 1] {
        rig.send(conn, message(MessageType::RouteRefresh, &[0, family, 0, 1]));
        assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (1, 0));
    }
    assert_eq!(view.refreshes, []);
    rig.event(PeerEvent::InitOver);
    read(&mut rig, conn, &mut view);
    assert_eq!(view.ended.len(), 2);
}

/// Changes are reported when TCP, and when the peer's TCP, has their last octet.
#[test]
fn written_and_acknowledged() {
    let (mut rig, conn) = Rig::up(config());
    let before = rig.event(PeerEvent::Written { conn, total: 0 });
    assert_eq!(before, []);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(0))), 7);
    assert_eq!(rig.event(PeerEvent::Acked { conn, total: u64::MAX }), []);
    let length = rig.fetch(conn).len();
    let (written, acked) = (PeerEffect::UpdateWritten { token: 7 }, PeerEffect::UpdateAcked { token: 7 });
    assert_eq!(rig.event(PeerEvent::Acked { conn, total: u64::MAX }), []);
    assert_eq!(rig.event(PeerEvent::Written { conn, total: length as u64 }), []);
    assert_eq!(rig.event(PeerEvent::Written { conn, total: u64::MAX }), [written]);
    assert_eq!(rig.event(PeerEvent::Acked { conn, total: u64::MAX }), [acked]);
    // No change, no report.
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(0))), 8);
    assert!(rig.fetch(conn).is_empty());
    assert_eq!(rig.event(PeerEvent::Written { conn, total: u64::MAX }), []);
}

/// A change of no name (a reload, the kernel) that comes before a transition's octets are written is written with them: the
/// transition is reported all the same.
#[test]
fn a_change_without_a_name_does_not_hide_one_that_waits() {
    let (mut rig, conn) = Rig::up(config());
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(0))), 7);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(1))), 0);
    rig.fetch(conn);
    let reports = rig.event(PeerEvent::Written { conn, total: u64::MAX });
    assert_eq!(reports, [PeerEffect::UpdateWritten { token: 7 }]);
    let reports = rig.event(PeerEvent::Acked { conn, total: u64::MAX });
    assert_eq!(reports, [PeerEffect::UpdateAcked { token: 7 }]);
    // A newer transition does take its place, and what was taken back before it was written was never written.
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(2))), 8);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(3))), 9);
    rig.fetch(conn);
    let reports = rig.event(PeerEvent::Written { conn, total: u64::MAX });
    assert_eq!(reports, [PeerEffect::UpdateWritten { token: 9 }]);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(4))), 10);
    rig.want(wanted(&["198.51.100.0/24"], Claim::Master(med(3))), 0);
    rig.fetch(conn);
    assert_eq!(rig.event(PeerEvent::Written { conn, total: u64::MAX }), []);
}

fn session(cfg: PeerConfig, local: &str, open: &Open) -> (Rig, ConnId, View) {
    let mut rig = Rig::new(cfg);
    rig.local = local.parse().unwrap();
    rig.want(wanted(&["198.51.100.0/24", "2001:db8:100::/48"], Claim::Master(med(3))), 1);
    let conn = rig.connect();
    rig.establish(conn, open);
    let mut view = View::new();
    view.four_octet = open.capabilities.four_octet_as.is_some();
    read(&mut rig, conn, &mut view);
    (rig, conn, view)
}

/// RFC 6793 section 4.2.2: AS_TRANS towards a peer that has no capabilities at all; IPv4 alone (RFC 4760 section 8).
#[test]
fn a_peer_without_capabilities() {
    let plain = Open { capabilities: Capabilities::default(), ..isp_open() };
    let cfg = PeerConfig { local_as: Asn(4_200_000_001), ..config() };
    let (rig, _, view) = session(cfg, "203.0.113.2:40000", &plain);
    let heard = &view.routes[&"198.51.100.0/24".parse::<Prefix>().unwrap()];
    assert_eq!((view.routes.len(), heard.as_path.as_slice()), (1, &[2, 1, 0x5b, 0xa0][..]));
    assert_eq!(heard.next_hop, [203, 0, 113, 2]);
    assert_eq!(
        rig.peer.status().missing,
        ["IPv6 prefixes cannot be announced: the peer does not offer the family"]
    );
}

/// RFC 4760, RFC 8950, RFC 2545: next hops by transport, configuration and capability.
#[test]
fn next_hops() {
    let hop = |view: &View, prefix: &str| {
        view.routes.get(&prefix.parse::<Prefix>().unwrap()).map(|heard| heard.next_hop.clone())
    };
    let v6 = |text: &str| Some(text.parse::<Ipv6Addr>().unwrap().octets().to_vec());
    let over_v6 = "[2001:db8::9]:179";
    let bare = PeerConfig { next_hop_v6: None, ..config() };
    let mut extended = isp_open();
    extended.capabilities.v4_over_v6 = true;

    let (_, _, view) = session(config(), over_v6, &extended);
    assert_eq!(hop(&view, "198.51.100.0/24"), v6("2001:db8::2"));
    assert_eq!(hop(&view, "2001:db8:100::/48"), v6("2001:db8::2"));
    let (mut rig, conn, mut view) = session(bare.clone(), over_v6, &extended);
    assert_eq!(hop(&view, "198.51.100.0/24"), v6("2001:db8::9"));
    rig.want(Wanted::default(), 2);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (0, 2));
    let (rig, _, view) = session(bare.clone(), over_v6, &isp_open());
    assert_eq!((hop(&view, "198.51.100.0/24"), hop(&view, "2001:db8:100::/48")), (None, v6("2001:db8::9")));
    assert!(rig.peer.status().missing[0].ends_with("set next_hop"));
    let given = PeerConfig { next_hop_v4: Some("192.0.2.77".parse().unwrap()), ..bare.clone() };
    let (_, _, view) = session(given, over_v6, &extended);
    assert_eq!(hop(&view, "198.51.100.0/24"), Some(vec![192, 0, 2, 77]));
    let (rig, _, view) = session(bare.clone(), "203.0.113.2:179", &isp_open());
    assert_eq!((hop(&view, "2001:db8:100::/48"), rig.peer.status().missing.len()), (None, 1));
    let (_, _, view) = session(bare, "[fe80::1]:179", &isp_open());
    assert!(view.routes.is_empty());
}

/// RFC 4271 section 5.1.2, RFC 9234 section 5: what the configuration makes of attributes.
#[test]
fn a_provider_marks_its_routes() {
    let cfg = PeerConfig { role: Some(Role::Provider), ..config() };
    let (_, _, view) = session(cfg, "203.0.113.2:179", &isp_open());
    assert!(view.routes.values().all(|heard| heard.as_path == [2, 1, 0, 0, 0xfb, 0xf5]));
}

/// What the peer announces is counted and dropped; RFC 7606's faults are mended, noted, and noted ever more rarely.
#[test]
fn what_the_peer_sends() {
    let (mut rig, conn) = Rig::up(config());
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4, 0x40, 3, 4, 203, 0, 113, 1];
    let body = |extra: &[u8]| {
        let attributes = [&attributes[..], extra].concat();
        [&[0, 2, 8, 10, 0, attributes.len() as u8][..], &attributes, &[8, 11, 8, 12]].concat()
    };
    assert_eq!(rig.send(conn, message(MessageType::Update, &body(&[])).repeat(1000)), []);
    let counters = rig.peer.status().counters;
    assert_eq!(
        (counters.prefixes_announced, counters.prefixes_withdrawn, counters.received.update),
        (2000, 1000, 1000)
    );
    let broken = message(MessageType::Update, &body(&[0x80, 4, 1, 0]));
    let notes = rig.send(conn, broken.repeat(1000));
    assert_eq!(notes.len(), 10);
    let PeerEffect::Note(words) = &notes[0] else { panic!("{notes:?}") };
    assert!(words.contains("attribute 4") && words.contains("count as withdrawn"), "{words}");
    let counters = rig.peer.status().counters;
    assert_eq!(
        (counters.prefixes_announced, counters.prefixes_withdrawn, counters.faults),
        (2000, 4000, 1000)
    );
}

/// A reload that puts a new prefix between each two old ones makes the worst of runs: still only what changed is
/// sent, and in time.
#[test]
fn a_reload_that_interleaves() {
    let (mut rig, conn) = Rig::up(config());
    let mut view = View::new();
    let all = many(100_000);
    let even: PrefixSet = all.iter().step_by(2).collect();
    let want = |set: &PrefixSet, value| Wanted {
        table: Arc::new(Table::new(std::slice::from_ref(set))),
        claims: vec![Claim::Master(med(value))],
    };
    rig.want(want(&even, 1), 1);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (50_000, 0));
    rig.want(want(&all, 1), 2);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (50_000, 0));
    rig.want(want(&even, 1), 3);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (0, 50_000));
    rig.want(want(&many(10), 1), 4);
    assert_eq!(prefixes(&read(&mut rig, conn, &mut view)), (5, 49_995));
    assert_eq!(view.routes.len(), 10);
}
