//! Connections as they should be.

use announcerd::announcer::event::PeerId;

use crate::node::{Node, TRY, bgp, cabled, pair};

fn talk(to: &str, from: &str) {
    let (mut a, mut b) = pair();
    b.set_peer(bgp(from));
    a.set_peer(bgp(to));
    a.connect();
    assert_eq!(a.connected().ip().to_string(), from);
    let conn = b.accepted();
    assert_eq!(a.write(TRY, b"open"), Some(4));
    assert_eq!(b.read(4), b"open");
    assert_eq!(b.write(conn, b"OPEN too"), Some(8));
    assert_eq!(a.read(8), b"OPEN too");
    a.acked(4);
    b.acked(8);
    assert_eq!(a.write(TRY, b"update"), Some(10));
    a.acked(10);
    assert_eq!(a.write(TRY, b""), None);
    // The last words come before the end, and after what was written.
    a.close(TRY, b"cease");
    assert_eq!(b.read(11), b"updatecease");
    assert_eq!(b.closed(), "the peer closed the connection");
    assert_eq!(a.write(TRY, b"too late"), None);
}

#[test]
fn octets_go_both_ways_over_ipv4() {
    talk("192.0.2.2", "192.0.2.1");
}

#[test]
fn octets_go_both_ways_over_ipv6() {
    talk("2001:db8::2", "2001:db8::1");
}

#[test]
fn connections_come_from_the_local_address() {
    let (a, b) = cabled();
    a.address("192.0.2.7/24", "b0");
    let (mut a, mut b) = (Node::start(a), Node::start(b));
    b.set_peer(bgp("192.0.2.7"));
    let mut peer = bgp("192.0.2.2");
    peer.session.local_address = Some("192.0.2.7".parse().unwrap());
    a.set_peer(peer.clone());
    a.connect();
    assert_eq!(a.connected().ip().to_string(), "192.0.2.7");
    b.accepted();
    // And it listens there alone.
    let at =
        |node: &Node| node.with(|edge| edge.listeners().iter().map(|l| l.0.to_string()).collect::<Vec<_>>());
    assert_eq!(at(&a), ["192.0.2.7:179"]);
    // Beside a peer without a local address it cannot: Linux has no address beside the wildcard.
    let mut other = bgp("192.0.2.3");
    a.set_peers(vec![(PeerId(1), peer.clone()), (PeerId(2), other.clone())]);
    assert_eq!(at(&a), ["0.0.0.0:179"]);
    a.wait_listening();
    other.session.local_address = Some("192.0.2.1".parse().unwrap());
    peer.session.peer = "192.0.2.9".parse().unwrap();
    a.set_peers(vec![(PeerId(1), peer), (PeerId(2), other)]);
    assert_eq!(at(&a), ["192.0.2.1:179", "192.0.2.7:179"]);
    a.wait_listening();
}

#[test]
fn an_address_that_is_not_here_is_told() {
    let (mut a, _b) = pair();
    let mut peer = bgp("192.0.2.2");
    peer.session.local_address = Some("198.51.100.9".parse().unwrap());
    a.set_peer(peer);
    a.connect();
    let words = a.failed();
    assert!(words.contains("from 198.51.100.9: this machine does not have that address"), "{words}");
    let error = a.with(|edge| edge.listeners().remove(0).1.unwrap());
    assert!(error.contains("this machine does not have that address"), "{error}");
}

#[test]
fn a_link_local_peer_is_told_to_be_impossible() {
    let (mut a, _b) = pair();
    a.set_peer(bgp("fe80::1"));
    a.connect();
    let words = a.failed();
    assert!(words.contains("link-local"), "{words}");
}

/// What is written in pieces of every size arrives whole and in order, and all of it is acknowledged.
#[test]
fn a_large_table_arrives_in_order() {
    let (mut a, mut b) = pair();
    b.set_peer(bgp("192.0.2.1"));
    a.set_peer(bgp("192.0.2.2"));
    a.connect();
    a.connected();
    b.accepted();
    const TOTAL: usize = 20_000_000;
    let pattern: Vec<u8> = (0..TOTAL).map(|at| (at % 251) as u8).collect();
    let (mut fetched, all) = (0, std::sync::Arc::new(pattern));
    let mut written = 0;
    while written < TOTAL as u64 {
        let all = all.clone();
        let (total, now) = a.with(move |edge| {
            let mut at = fetched;
            let total = edge.pump(crate::node::PEER, TRY, &mut |limit, out| {
                let piece = &all[at..(at + limit - at % 7).min(TOTAL)];
                out.extend_from_slice(piece);
                at += piece.len();
                piece.len()
            });
            (total, at)
        });
        fetched = now;
        written = total.unwrap_or(written);
        if written < TOTAL as u64 {
            a.wait("room", |news| matches!(news, announcerd::io::bgp::BgpNews::Writable(..)).then_some(()));
        }
    }
    let mut received = Vec::new();
    while received.len() < TOTAL {
        received.extend(b.read(1));
    }
    assert!(received == *all);
    a.acked(TOTAL as u64);
}
