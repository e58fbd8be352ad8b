//! FIELD 20: a peer that stops reading blocks the speaker (RFC 9687). Not ours: others hear of every change, and the
//! one that is stuck is given up, and told all again when it is back.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use announcerd::bgp::Families;
use announcerd::bgp::wire::capability::Capabilities;
use announcerd::bgp::wire::header::put_keepalive;
use announcerd::bgp::wire::open::Open;
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Bird, Doing, Host, Node};
use announcerd::net::{Asn, RouterId};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Pair, peer_status, program, until};

/// More than one write takes at once.
const COUNT: u32 = 200_000;

/// Many prefixes to all peers while the file is there.
fn many(pair: &Pair, peers: &str) -> Node {
    let mut prefixes = String::new();
    let prefix = |n: u32| Ipv4Addr::from(0x0a00_0000 | (n << 4));
    (0..COUNT).for_each(|n| writeln!(prefixes, "{}/28", prefix(n)).unwrap());
    pair.us.write("/run/prefixes", prefixes).unwrap();
    let config = format!(
        r#"
        [node]
        router_id = "203.0.113.2"
        {peers}
        [[check]]
        name = "healthy"
        type = "file"
        path = "/run/healthy"
        interval = "100ms"
        timeout = "90ms"
        fall = 1
        rise = 1
        [[instance]]
        name = "service"
        require = {{ checks = ["healthy"] }}
        drain = "0s"
        [[instance.announce]]
        prefixes_file = "/run/prefixes"
        "#
    );
    pair.healthy(false);
    Node::start(&pair.us, program(), &config).unwrap_or_else(|e| panic!("{e}"))
}

fn peer(name: &str, address: &str, more: &str) -> String {
    format!(
        "[[bgp]]\nname = \"{name}\"\npeer = \"{address}\"\npeer_as = 64500\nlocal_as = 64501\nconnect_retry = \"1s\"\n{more}\n"
    )
}

fn bird(host: &Host, local: &str, neighbor: &str) -> Bird {
    let config = format!(
        "log stderr all;\nrouter id {local};\nprotocol device {{}}\nprotocol bgp node {{\n local {local} as 64500;\n \
         neighbor {neighbor} as 64501;\n connect delay time 1;\n connect retry time 1;\n error wait time 1, 2;\n \
         ipv4 {{ import all; export none; }};\n}}\n"
    );
    Bird::start(host, &config).unwrap()
}

/// Two hosts whose buffers are small: what nobody reads soon fills them.
fn pair() -> Pair {
    let pair = Pair::new(&[]);
    for host in [&pair.us, &pair.them] {
        host.sysctl("net/ipv4/tcp_wmem", "4096 16384 16384").unwrap();
        host.sysctl("net/ipv4/tcp_rmem", "4096 16384 16384").unwrap();
    }
    pair
}

/// A BIRD has so many routes.
fn has(bird: &Bird, count: u32) -> bool {
    bird.ask("show route count").is_ok_and(|said| said.contains(&format!("{count} of {count} routes")))
}

#[test]
fn a_peer_that_is_stopped_disturbs_nobody_and_is_told_all_again() {
    let pair = pair();
    let other = Host::new("other", &[]).unwrap();
    let end = |host, interface, last| End { host, interface, address: Ipv4Addr::new(192, 0, 2, last) };
    wire::connect(end(&pair.us, "second", 2), end(&other, "customer", 1), 24).unwrap();
    let mut stuck = bird(&pair.them, "203.0.113.1", "203.0.113.2");
    let lively = bird(&other, "192.0.2.1", "192.0.2.2");
    let hold = "hold_time = \"9s\"";
    let node = many(&pair, &(peer("stuck", "203.0.113.1", hold) + &peer("lively", "192.0.2.1", hold)));
    until("both sessions", &node, || stuck.established("node") && lively.established("node"));

    stuck.daemon().signal(Signal::SIGSTOP).unwrap();
    pair.healthy(true);
    until("all at the lively one", &node, || has(&lively, COUNT));
    // The other has not even a part: its receive window is full, and the session still up.
    let status = peer_status(&pair.us, "stuck").unwrap();
    assert!(status.advertised < u64::from(COUNT), "{status:?}");
    pair.healthy(false);
    until("nothing at the lively one", &node, || has(&lively, 0));
    pair.healthy(true);
    until("all again at the lively one", &node, || has(&lively, COUNT));

    until("the stuck one is given up", &node, || {
        peer_status(&pair.us, "stuck").unwrap().state != "Established"
    });
    assert!(lively.established("node"));
    stuck.daemon().signal(Signal::SIGCONT).unwrap();
    until("all at the one that is back", &node, || has(&stuck, COUNT));
    pair.healthy(false);
    until("nothing anywhere", &node, || has(&stuck, 0) && has(&lively, 0));
}

/// Whoever listens on the peer's address says OPEN and KEEPALIVE.
fn greet(stream: &mut TcpStream, hold_time: u16) {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(64500)),
        ..Capabilities::default()
    };
    let router_id = RouterId("203.0.113.1".parse().unwrap());
    let mut octets = Vec::new();
    Open { asn: Asn(64500), hold_time, router_id, capabilities }.put(&mut octets);
    put_keepalive(&mut octets);
    stream.write_all(&octets).unwrap();
}

/// An ISP that sends us the whole Internet again and again: parsed, counted and dropped. Meanwhile everything else goes on.
#[test]
fn a_peer_that_floods_us_disturbs_nobody() {
    let pair = pair();
    let other = Host::new("other", &[]).unwrap();
    let end = |host, interface, last| End { host, interface, address: Ipv4Addr::new(192, 0, 2, last) };
    wire::connect(end(&pair.us, "second", 2), end(&other, "customer", 1), 24).unwrap();
    let listener = pair.them.in_network(|| TcpListener::bind("203.0.113.1:179").doing("listening")).unwrap();
    let lively = bird(&other, "192.0.2.1", "192.0.2.2");
    let mut node = many(&pair, &(peer("flood", "203.0.113.1", "") + &peer("lively", "192.0.2.1", "")));
    let (mut stream, _) = listener.accept().unwrap();
    greet(&mut stream, 90);
    until("both sessions", &node, || {
        lively.established("node") && peer_status(&pair.us, "flood").unwrap().state == "Established"
    });
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    // What we say is read, too: this is no test of a stuck reader.
    let mut ours = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let updates = flood();
            while !stop.load(Relaxed) && stream.write_all(&updates).is_ok() {
                sent.fetch_add(updates.len() as u64, Relaxed);
            }
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        scope.spawn(|| std::io::copy(&mut ours, &mut std::io::sink()));
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the flood", &node, || sent.load(Relaxed) > 1_000_000);
            for round in 0..3 {
                let before = sent.load(Relaxed);
                pair.healthy(true);
                until(&format!("all, round {round}"), &node, || has(&lively, COUNT));
                pair.healthy(false);
                until(&format!("nothing, round {round}"), &node, || has(&lively, 0));
                until("more of the flood", &node, || sent.load(Relaxed) > before + 1_000_000);
            }
            assert_eq!(peer_status(&pair.us, "flood").unwrap().state, "Established");
        }));
        stop.store(true, Relaxed);
        if let Err(panic) = judged {
            std::panic::resume_unwind(panic);
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(most < 100_000, "{most} kB");
}

/// UPDATEs of many prefixes each, as one would see them of a full table.
fn flood() -> Vec<u8> {
    let mut octets = Vec::new();
    for n in 0..200_u8 {
        let mut body =
            vec![0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4, 0x40, 3, 4, 203, 0, 113, 1];
        (0..250_u8).for_each(|m| body.extend([24, 100, n, m]));
        octets.extend([0xff; 16]);
        octets.extend((19 + body.len() as u16).to_be_bytes());
        octets.push(2);
        octets.extend(body);
    }
    octets
}

/// RFC 9687: a peer that lives (its KEEPALIVEs come) but reads nothing: the hold timer never expires, SendHoldTimer does.
#[test]
fn a_peer_that_lives_but_does_not_read_is_given_up() {
    let pair = pair();
    let listener = pair.them.in_network(|| TcpListener::bind("203.0.113.1:179").doing("listening")).unwrap();
    let node = many(&pair, &peer("peer", "203.0.113.1", "hold_time = \"3s\"\nsend_hold_time = \"6s\""));
    let (mut stream, _) = listener.accept().unwrap();
    greet(&mut stream, 3);
    until("the session", &node, || peer_status(&pair.us, "peer").unwrap().state == "Established");
    pair.healthy(true);
    let mut keepalive = Vec::new();
    put_keepalive(&mut keepalive);
    let (mut said, begun) = (Instant::now(), Instant::now());
    until("SendHoldTimer", &node, || {
        if said.elapsed() >= Duration::from_millis(500) {
            said = Instant::now();
            // Refused once it is over.
            let _ = stream.write_all(&keepalive);
        }
        peer_status(&pair.us, "peer").unwrap().last_error.is_some()
    });
    assert!(begun.elapsed() >= Duration::from_secs(6));
    let error = peer_status(&pair.us, "peer").unwrap().last_error.unwrap().to_lowercase();
    assert!(error.contains("send hold"), "{error}");
    // What it can still read ends; whole or not, it is over.
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}
