//! Peers that are slow, refuse, reset or vanish.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use announcerd::bgp::PeerEvent;
use announcerd::io::bgp::BgpNews;

use crate::node::{Node, PEER, TRY, bgp, cabled, pair};

/// A node that has connected to a plain socket.
fn to_plain_socket(hold: u64) -> (Node, Node, TcpStream) {
    let (a, b) = cabled();
    let listener = b.run(|| TcpListener::bind("192.0.2.2:179").unwrap());
    let (mut a, b) = (Node::start(a), Node::start(b));
    let mut peer = bgp("192.0.2.2");
    peer.session.hold_time = Duration::from_secs(hold);
    a.set_peer(peer);
    a.connect();
    let (stream, _) = listener.accept().unwrap();
    a.connected();
    (a, b, stream)
}

/// Writes zeroes until TCP takes no more, or it is the others' turn.
fn fill(node: &Node) -> u64 {
    let zeroes = |limit: usize, out: &mut Vec<u8>| {
        out.resize(out.len() + limit, 0);
        limit
    };
    node.with(move |edge| edge.pump(PEER, TRY, &mut { zeroes })).unwrap_or(0)
}

fn is_writable(news: &BgpNews) -> Option<()> {
    matches!(news, BgpNews::Writable(..)).then_some(())
}

/// Writes until the socket is full.
fn stuff(node: &mut Node) -> u64 {
    let mut total = fill(node);
    loop {
        let more = fill(node);
        if more <= total {
            return total;
        }
        total = more;
    }
}

#[test]
fn a_slow_reader_stops_us_and_lets_us_go_on() {
    let (mut a, _b, mut stream) = to_plain_socket(90);
    let total = stuff(&mut a);
    assert!(total > 0);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    let reader = std::thread::spawn(move || {
        while read <= total {
            read += stream.read(&mut buffer).unwrap() as u64;
        }
        stream
    });
    let mut now = total;
    while now <= total {
        a.wait("room", is_writable);
        now = fill(&a).max(now);
    }
    reader.join().unwrap();
    a.acked(total);
}

#[test]
fn who_does_not_listen_refuses() {
    let (mut a, _b) = pair();
    a.set_peer(bgp("192.0.2.2"));
    a.connect();
    assert_eq!(a.failed(), "connecting to 192.0.2.2:179: refused: nothing listens there for us");
}

#[test]
fn a_reset_is_told_and_acknowledges_nothing() {
    let (mut a, b, stream) = to_plain_socket(90);
    // No acknowledgement comes back, only the reset.
    b.with(|_| nft("add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o tcp flags & rst != rst drop"));
    assert_eq!(a.write(TRY, b"lost"), Some(4));
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(a.closed(), "connection reset by peer");
    assert!(!a.has_seen(|news| matches!(news, BgpNews::Event(_, PeerEvent::Acked { .. }))));
    a.close(TRY, b"nobody hears this");
    assert_eq!(a.write(TRY, b"nor this"), None);
}

/// Nothing comes in any more.
const DEAF: &str = "add table ip t; add chain ip t i { type filter hook input priority 0; policy drop; }";

fn nft(rules: &str) {
    let out = Command::new("nft").arg(rules).output().expect("nftables is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// FIELD 20: half-open TCP is noticed within the hold time, without a word from the peer.
#[test]
fn a_peer_that_vanished_is_noticed() {
    let (mut a, b, _stream) = to_plain_socket(3);
    b.with(|_| nft(DEAF));
    a.write(TRY, b"anybody there?");
    assert_eq!(a.closed(), "timed out: nothing was acknowledged for 3 s");
    assert!(!a.has_seen(|news| matches!(news, BgpNews::Event(_, PeerEvent::Acked { .. }))));
}

/// FIELD 20: a peer that has acknowledged our OPEN and vanishes before it says a word is noticed, without the four minutes
/// that RFC 4271 section 8.2.2 gives an OPEN.
#[test]
fn a_peer_that_vanished_before_its_first_word_is_noticed() {
    let (mut a, b, _stream) = to_plain_socket(3);
    assert_eq!(a.write(TRY, b"open"), Some(4));
    a.acked(4);
    b.with(|_| nft(DEAF));
    assert!(a.closes_within(Duration::from_secs(30)), "still thought to be there");
    assert_eq!(a.closed(), "timed out: nothing was acknowledged for 3 s");
}

/// RFC 9687 judges a peer that lives but takes nothing, with a NOTIFICATION; TCP must not be quicker.
#[test]
fn a_shut_window_is_no_silence() {
    let (mut a, _b, mut stream) = to_plain_socket(3);
    stuff(&mut a);
    // That something does not happen takes time to see: as long as it takes where the peer has vanished.
    let (mut other, gone, _silent) = to_plain_socket(3);
    gone.with(|_| nft(DEAF));
    other.write(TRY, b"anybody there?");
    while !other.closes_within(Duration::from_millis(500)) {
        stream.write_all(b"!").unwrap();
        assert_eq!(a.read(1), b"!");
    }
    assert!(!a.has_seen(|news| matches!(news, BgpNews::Event(_, PeerEvent::Closed { .. }))));
}

/// The last words go behind what waits in the socket, and arrive although the peer has written what we never read.
#[test]
fn last_words_arrive_behind_what_waits() {
    let (mut a, _b, mut stream) = to_plain_socket(90);
    stream.write_all(&[1; 100_000]).unwrap();
    let total = stuff(&mut a);
    a.close(TRY, b"the last words");
    let mut all = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.len() as u64 > total);
    assert!(all.ends_with(b"the last words"));
}

/// A peer that takes nothing gets a reset in the end, and holds nobody up.
#[test]
fn who_does_not_listen_to_last_words_is_cut_off() {
    let (mut a, _b, mut stream) = to_plain_socket(90);
    stuff(&mut a);
    a.close(TRY, b"unheard");
    let mut buffer = vec![0; 1 << 16];
    // Only what the reset leaves in our queue; it must come within the deadline of a read.
    crate::node::wait_for("the reset", || stream.write_all(b"?").is_err().then_some(()));
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    assert!(!a.has_seen(|news| matches!(news, BgpNews::Event(_, PeerEvent::Closed { .. }))));
}
