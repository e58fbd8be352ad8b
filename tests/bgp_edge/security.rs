//! TCP MD5 (RFC 2385) and GTSM (RFC 5082).

use announcerd::announcer::event::PeerId;
use announcerd::config::model::Bgp;

use crate::netns::Netns;
use crate::node::{Node, TRY, bgp, keyed, pair};

fn secured(peer: &str) -> Bgp {
    let mut peer = bgp(peer);
    peer.session.ttl_security = true;
    peer
}

#[test]
fn equal_keys_make_a_session_and_changed_keys_the_next_one() {
    for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (mut a, mut b) = pair();
        b.set_peer(keyed(one, "first"));
        a.set_peer(keyed(other, "first"));
        a.connect();
        a.connected();
        let first = b.accepted();
        // The listener stays, its key changes; the old connection lives on.
        b.set_peer(keyed(one, "second"));
        a.set_peer(keyed(other, "second"));
        let again = announcerd::bgp::ConnId { serial: 1, ..TRY };
        a.with(move |edge| edge.connect(crate::node::PEER, again));
        // The other side may hear of it first.
        a.connected_as(again);
        let second = b.accepted();
        assert_ne!(first, second);
        a.write(again, b"new");
        assert_eq!(b.read(3), b"new");
        a.write(TRY, b"old");
        assert_eq!(b.read(3), b"old");
        // And without a key.
        b.set_peer(bgp(one));
        a.set_peer(bgp(other));
        let third = announcerd::bgp::ConnId { serial: 2, ..TRY };
        a.with(move |edge| edge.connect(crate::node::PEER, third));
        b.accepted();
    }
}

/// A wrong, a missing and an unexpected key look like silence; only the counters tell more, and only of what reached us.
#[test]
fn different_keys_make_no_session() {
    let keys = [(Some("right"), Some("wrong")), (Some("right"), None), (None, Some("right"))];
    let peer = |address, key: Option<&str>| key.map_or_else(|| bgp(address), |key| keyed(address, key));
    let mut pairs = Vec::new();
    for (ours, theirs) in keys {
        let (a, b) = pair();
        a.set_peer(peer("192.0.2.2", ours));
        b.set_peer(peer("192.0.2.1", theirs));
        a.connect();
        b.connect();
        pairs.push((a, b));
    }
    for (a, b) in &mut pairs {
        for node in [a, b] {
            let words = node.failed();
            assert!(words.contains("no answer within 10 s: the peer is away, filters us, or "), "{words}");
            assert!(words.ends_with("with a wrong or missing MD5 signature arrived"), "{words}");
        }
    }
}

/// A dialler with GTSM takes a SYN-ACK of 255 only: so the listener sends it with that.
#[test]
fn neighbours_pass_gtsm() {
    for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (mut a, mut b) = pair();
        b.set_peer(secured(one));
        a.set_peer(secured(other));
        a.connect();
        a.connected();
        let conn = b.accepted();
        a.write(TRY, b"there");
        assert_eq!(b.read(5), b"there");
        b.write(conn, b"back");
        assert_eq!(a.read(4), b"back");
    }
}

/// 192.0.2.1 and 198.51.100.1, a router between them.
fn routed() -> (Node, Node, Netns) {
    let (a, r, b) = (Netns::new(), Netns::new(), Netns::new());
    r.sysctl("net/ipv4/ip_forward", "1");
    a.cable("r0", &r, "a0");
    b.cable("r0", &r, "b0");
    r.address("192.0.2.254/24", "a0");
    r.address("198.51.100.254/24", "b0");
    a.address("192.0.2.1/24", "r0");
    b.address("198.51.100.1/24", "r0");
    a.ip("route add default via 192.0.2.254");
    b.ip("route add default via 198.51.100.254");
    (Node::start(a), Node::start(b), r)
}

fn distant(peer: &str, hops: u8) -> Bgp {
    let mut peer = bgp(peer);
    peer.session.multihop = Some(hops);
    peer
}

#[test]
fn multihop_is_needed_behind_a_router_and_suffices() {
    let (mut a, mut b, _router) = routed();
    b.set_peer(distant("192.0.2.1", 2));
    a.set_peer(bgp("198.51.100.1"));
    a.connect();
    let words = a.failed();
    assert!(words.contains("no route to host") || words.contains("no answer"), "{words}");
    a.set_peer(distant("198.51.100.1", 2));
    a.connect();
    a.connected();
    b.accepted();
    // Two hops and GTSM: at least 254.
    let (mut near, mut far) = (distant("198.51.100.1", 2), distant("192.0.2.1", 2));
    near.session.ttl_security = true;
    far.session.ttl_security = true;
    b.set_peers(vec![(PeerId(2), far)]);
    a.set_peer(near);
    a.connect();
    a.connected();
    b.accepted();
}

#[test]
fn gtsm_refuses_who_is_behind_a_router() {
    let (mut a, mut b, _router) = routed();
    a.set_peer(distant("198.51.100.1", 255));
    // The kernel drops it where all peers are to be near.
    b.set_peer(secured("192.0.2.1"));
    a.connect();
    let words = a.failed();
    assert!(words.contains("no answer"), "{words}");
    // Where not all are, the SYN's TTL tells.
    b.set_peers(vec![(PeerId(1), secured("192.0.2.1")), (PeerId(2), bgp("203.0.113.9"))]);
    a.connect();
    a.connected();
    let words = a.closed();
    assert!(words.contains("reset") || words.contains("the peer closed"), "{words}");
    assert!(!b.has_seen(|_| true));
}
