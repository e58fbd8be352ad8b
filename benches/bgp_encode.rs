//! How fast a peer makes the octets of its table, without a socket: `cargo bench --bench bgp_encode`.
//!
//! The line of a plain copy of as many octets is the limit that the machine sets.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use announcerd::bgp::wire::capability::Capabilities;
use announcerd::bgp::wire::header::put_keepalive;
use announcerd::bgp::wire::open::Open;
use announcerd::bgp::{
    Attributes, Claim, ConnId, Families, Origin, Peer, PeerConfig, PeerEvent, PrefixSet, Table, Wanted,
};
use announcerd::net::{Asn, Prefix, RouterId};
use announcerd::time::Time;

const CHUNK: usize = 256 * 1024;

fn established(extended_message: bool) -> (Peer, ConnId) {
    let address = "203.0.113.1".parse().expect("address");
    let id = RouterId(Ipv4Addr::new(203, 0, 113, 2));
    let mut cfg = PeerConfig::new("bench", address, Asn(64500), Asn(64501), id);
    cfg.passive = true;
    cfg.next_hop_v6 = Some(Ipv6Addr::LOCALHOST);
    let mut peer = Peer::new(cfg, 1, false, Time::ZERO);
    let conn = ConnId { origin: Origin::Incoming, serial: 0 };
    let local = "203.0.113.2:179".parse().expect("address");
    peer.handle_event(PeerEvent::TransportAccepted { conn, local }, Time::ZERO);
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(64500)),
        extended_message,
        ..Capabilities::default()
    };
    let router_id = RouterId(Ipv4Addr::new(203, 0, 113, 1));
    let mut octets = Vec::new();
    Open { asn: Asn(64500), hold_time: 90, router_id, capabilities }.put(&mut octets);
    put_keepalive(&mut octets);
    peer.handle_event(PeerEvent::Received { conn, octets }, Time::ZERO);
    peer.handle_event(PeerEvent::InitOver, Time::ZERO);
    drain(&mut peer, conn, &mut Vec::new());
    (peer, conn)
}

/// Fetches all in chunks, as a socket would; how many octets.
fn drain(peer: &mut Peer, conn: ConnId, buffer: &mut Vec<u8>) -> usize {
    let mut total = 0;
    loop {
        buffer.clear();
        let count = peer.poll_transmit(conn, CHUNK, buffer);
        black_box(&buffer);
        if count == 0 {
            return total;
        }
        total += count;
    }
}

fn prefixes(family_v6: bool, count: u32) -> Vec<Prefix> {
    let prefix = |n: u32| {
        if family_v6 {
            let address = (0x2001_0db8_u128 << 96) | (u128::from(n) << 64);
            Prefix::containing(IpAddr::V6(Ipv6Addr::from(address)), 64)
        } else {
            Prefix::containing(IpAddr::V4(Ipv4Addr::from(n << 8)), 24)
        }
    };
    (0..count).filter_map(prefix).collect()
}

fn claim(med: u32) -> Claim {
    Claim::Master(Arc::new(Attributes { med: Some(med), ..Attributes::default() }))
}

fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The best of several, in seconds, and what the last one returned.
fn best<T>(mut run: impl FnMut() -> (f64, T)) -> (f64, T) {
    let (mut seconds, mut value) = run();
    for _ in 0..9 {
        let (again, last) = run();
        seconds = seconds.min(again);
        value = last;
    }
    (seconds, value)
}

fn line(what: &str, seconds: f64, prefixes: usize, octets: usize) {
    println!(
        "{what:<44} {:>10.3} ms {:>9.1} M prefixes/s {:>8.2} GB/s",
        seconds * 1e3,
        prefixes as f64 / seconds / 1e6,
        octets as f64 / seconds / 1e9
    );
}

fn shared(v6: bool, count: u32, extended: bool) {
    let name = if v6 { "IPv6 /64" } else { "IPv4 /24" };
    let size = if extended { "65,535" } else { "4,096" };
    let set = PrefixSet::new(prefixes(v6, count));
    let table = Arc::new(Table::new(&[set]));
    let (mut peer, conn) = established(extended);
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    let mut med = 0;
    let mut change = |claims: Vec<Claim>| {
        let wanted = Wanted { table: Arc::clone(&table), claims };
        let start = Instant::now();
        peer.handle_event(PeerEvent::SetWanted { wanted, token: 1 }, Time::ZERO);
        let octets = drain(&mut peer, conn, &mut buffer);
        (start.elapsed().as_secs_f64(), octets)
    };
    let (seconds, octets) = best(|| {
        med += 1;
        change(vec![claim(med)])
    });
    line(&format!("announce {count} {name}, {size}"), seconds, count as usize, octets);
    let (seconds, octets) = best(|| {
        change(vec![claim(0)]);
        change(vec![Claim::None])
    });
    line(&format!("withdraw {count} {name}, {size}"), seconds, count as usize, octets);
    let source = vec![1_u8; octets];
    let (seconds, ()) = best(|| {
        let start = Instant::now();
        for chunk in source.chunks(CHUNK) {
            buffer.clear();
            buffer.extend_from_slice(chunk);
            black_box(&buffer);
        }
        (start.elapsed().as_secs_f64(), ())
    });
    line("  limit: a plain copy of as many octets", seconds, count as usize, octets);
}

/// Each prefix an announcement of its own, with attributes of its own: the worst that a configuration can ask for.
fn distinct(count: u32) {
    let sets: Vec<PrefixSet> =
        prefixes(false, count).into_iter().map(|prefix| PrefixSet::new([prefix])).collect();
    let start = Instant::now();
    let table = Arc::new(Table::new(&sets));
    println!(
        "{:<44} {:>10.3} ms",
        format!("table of {count} announcements"),
        start.elapsed().as_secs_f64() * 1e3
    );
    let (mut peer, conn) = established(false);
    let mut buffer = Vec::new();
    let claims: Vec<Claim> = (0..count).map(claim).collect();
    let start = Instant::now();
    peer.handle_event(PeerEvent::SetWanted { wanted: Wanted { table, claims }, token: 1 }, Time::ZERO);
    let octets = drain(&mut peer, conn, &mut buffer);
    line(&format!("announce {count}, distinct MED"), start.elapsed().as_secs_f64(), count as usize, octets);
}

fn main() {
    for v6 in [false, true] {
        for extended in [false, true] {
            shared(v6, 1_000_000, extended);
        }
    }
    shared(false, 1_000, false);
    shared(false, 1, false);
    let start = Instant::now();
    let set = PrefixSet::new(prefixes(true, 1_000_000));
    println!("{:<44} {:>10.3} ms", "make a set of 1000000", start.elapsed().as_secs_f64() * 1e3);
    let other = PrefixSet::new(prefixes(true, 500_000));
    let start = Instant::now();
    let table = Table::new(&[set, other]);
    println!(
        "{:<44} {:>10.3} ms",
        "cut two overlapping sets of 1.5 million",
        start.elapsed().as_secs_f64() * 1e3
    );
    println!("{:<44} {:>10} KiB", "most memory so far", memory_kib());
    drop(table);
    distinct(1_000);
}
