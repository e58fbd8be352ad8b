//! Listeners: who may connect, and what the port's other users do to us.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use announcerd::announcer::event::PeerId;

use crate::node::{Node, TRY, bgp, cabled, keyed, pair, wait_for};

#[test]
fn strangers_are_closed_at_once() {
    let (a, b) = pair();
    a.set_peer(bgp("192.0.2.9"));
    let mut stream = b.with(|_| TcpStream::connect("192.0.2.1:179").unwrap());
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    wait_for("the count", || (a.with(|edge| edge.strangers()) == 1).then_some(()));
}

/// A peer that opens connection after connection holds a few of them at most.
#[test]
fn one_peer_cannot_fill_us() {
    let (mut a, b) = pair();
    a.set_peer(bgp("192.0.2.2"));
    let mut streams =
        b.with(|_| (0..20).map(|_| TcpStream::connect("192.0.2.1:179").unwrap()).collect::<Vec<_>>());
    for _ in 0..4 {
        a.accepted();
    }
    for stream in streams.split_off(4) {
        assert!(matches!((&stream).read(&mut [0]), Ok(0) | Err(_)));
    }
}

/// BIRD may hold the port: we connect all the same, and listen when it is free.
#[test]
fn a_port_that_is_taken_is_tried_again() {
    let (a, b) = cabled();
    let other = a.run(|| TcpListener::bind("0.0.0.0:179").unwrap());
    let (mut a, mut b) = (Node::start(a), Node::start(b));
    a.set_peer(bgp("192.0.2.2"));
    b.set_peer(bgp("192.0.2.1"));
    let error = a.with(|edge| edge.listeners().remove(0).1.unwrap());
    assert_eq!(error, "cannot listen at 0.0.0.0:179: another program listens there (a routing daemon?)");
    a.connect();
    a.connected();
    b.accepted();
    drop(other);
    a.wait_listening();
    b.connect();
    b.connected();
    a.accepted();
}

/// Peers come, go, change keys and addresses two hundred times: no socket is left over.
#[test]
fn no_descriptor_is_lost() {
    let (mut a, mut b) = pair();
    b.set_peer(bgp("192.0.2.1"));
    let sockets = |node: &Node| {
        let text = node.with(|_| std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap());
        let line = text.lines().find(|line| line.starts_with("sockets:")).unwrap();
        line.split_whitespace().last().unwrap().parse::<usize>().unwrap()
    };
    let before = sockets(&a);
    for round in 0..200_u32 {
        let mut local = keyed("192.0.2.3", &format!("key {round}"));
        local.session.local_address = (round % 3 == 0).then(|| "192.0.2.1".parse().unwrap());
        let mut peers = vec![(PeerId(round + 10), local), (PeerId(5), keyed("2001:db8::9", "same"))];
        peers.truncate(1 + round as usize % 2);
        if round % 10 == 0 {
            peers.push((crate::node::PEER, bgp("192.0.2.2")));
            a.set_peers(peers);
            a.connect();
            a.connected();
            let conn = b.accepted();
            a.write(TRY, b"x");
            b.read(1);
            // The peer's connection goes with it.
            a.set_peers(Vec::new());
            b.closed();
            b.close(conn, b"");
        } else {
            a.set_peers(peers);
        }
    }
    a.set_peers(Vec::new());
    assert_eq!(a.with(|edge| edge.listeners()), []);
    wait_for("sockets to go", || (sockets(&a) <= before).then_some(()));
}
