//! The limit: a process that has the octets ready, and does nothing but write them.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use announcerd::bgp::{
    Attributes, Claim, ConnId, Origin, Peer, PeerConfig, PeerEvent, PrefixSet, Table, Wanted,
};
use announcerd::net::{Asn, Prefix, RouterId};
use announcerd::time::Time;

use crate::sink;
use crate::speakers::prefix;

/// What a session says to announce all, and to withdraw all.
fn octets(count: u32, distinct: bool) -> [Vec<u8>; 2] {
    let prefixes = (0..count).filter_map(|n| Prefix::containing(IpAddr::V6(prefix(n)), 64));
    let sets: Vec<PrefixSet> = match distinct {
        true => prefixes.map(|prefix| PrefixSet::new([prefix])).collect(),
        false => vec![PrefixSet::new(prefixes)],
    };
    let table = Arc::new(Table::new(&sets));
    let claim = |n: usize| {
        let med = distinct.then_some(n as u32);
        Claim::Master(Arc::new(Attributes { med, ..Attributes::default() }))
    };
    let id = RouterId("203.0.113.2".parse().unwrap());
    let mut cfg = PeerConfig::new("limit", "2001:db8:ffff::1".parse().unwrap(), Asn(64500), Asn(64501), id);
    cfg.passive = true;
    let mut peer = Peer::new(cfg, 1, false, Time::ZERO);
    let conn = ConnId { origin: Origin::Incoming, serial: 0 };
    let local = "[2001:db8:ffff::2]:179".parse().unwrap();
    peer.handle_event(PeerEvent::TransportAccepted { conn, local }, Time::ZERO);
    let octets = sink::open(64500, "203.0.113.1");
    peer.handle_event(PeerEvent::Received { conn, octets }, Time::ZERO);
    peer.handle_event(PeerEvent::InitOver, Time::ZERO);
    let mut drain = |claims: Vec<Claim>| {
        let wanted = Wanted { table: Arc::clone(&table), claims };
        peer.handle_event(PeerEvent::SetWanted { wanted, token: 1 }, Time::ZERO);
        let mut all = Vec::new();
        while peer.poll_transmit(conn, 1 << 20, &mut all) > 0 {}
        all
    };
    // Its OPEN and End-of-RIB are not asked for.
    drain(Vec::new());
    let announce = drain((0..sets.len()).map(claim).collect());
    [drain(Vec::new()), announce]
}

/// Holds a session, and writes on command: 1 to announce, 0 to withdraw.
pub fn run(count: u32, distinct: bool) {
    let octets = octets(count, distinct);
    let commands = UnixListener::bind("/run/limit.sock").unwrap();
    let mut stream = TcpStream::connect("[2001:db8:ffff::1]:179").unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&sink::open(64501, "203.0.113.2")).unwrap();
    let (mut commands, _) = commands.accept().unwrap();
    let mut command = [0];
    while commands.read_exact(&mut command).is_ok() {
        stream.write_all(&octets[usize::from(command[0])]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(10));
}
