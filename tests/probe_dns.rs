//! `dns` checks against a real server (NSD), and against one that answers what it should not.

#[path = "common/netns.rs"]
mod netns;
#[path = "common/nsd.rs"]
mod nsd;
#[path = "common/probing.rs"]
mod probing;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use announcerd::announcer::event::Outcome;
use announcerd::config::model::{Check, Dns, Origin, Probe};
use announcerd::dns::{Expect, Question, Rcode, Record};
use netns::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probing::*;

/// We (192.0.2.2, 2001:db8::2) and the server's host (.1, and 198.18.0.1 behind it).
fn us_and_them() -> (Netns, Netns) {
    let (us, them) = (Netns::new(), Netns::new());
    us.cable("up0", &them, "down0");
    for (ours, theirs) in [("192.0.2.2/24", "192.0.2.1/24"), ("2001:db8::2/64", "2001:db8::1/64")] {
        us.address(ours, "up0");
        them.address(theirs, "down0");
    }
    us.ip("route add 198.18.0.0/15 via 192.0.2.1");
    us.ip("route add 2001:db8:f::/48 via 2001:db8::1");
    (us, them)
}

/// NSD in a namespace, which ends with it.
struct Nsd {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Nsd {
    fn start(host: &Netns, addresses: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("nsd.conf"), nsd::config(path.to_str().unwrap(), addresses)).unwrap();
        std::fs::write(path.join("example.com.zone"), nsd::zone()).unwrap();
        let child = host.run(move || {
            let mut command = Command::new("nsd");
            command
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .arg("-d")
                .arg("-c")
                .arg(path.join("nsd.conf"));
            let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            started.unwrap_or_else(|e| panic!("nsd: {e} (apt install nsd)"))
        });
        Nsd { child, _folder: folder }
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // SIGTERM: it ends its own children then.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn dns(server: &str, query: &str, record: &str) -> Dns {
    Dns {
        server: host(server),
        port: 53,
        question: Question { name: query.parse().unwrap(), record: Record::named(record).unwrap() },
        expect: Expect::Records,
        tcp: false,
        origin: Origin::default(),
    }
}

fn ask(dns: Dns) -> Arc<Check> {
    check(Probe::Dns(dns), Duration::from_secs(10))
}

fn quick(dns: Dns) -> Arc<Check> {
    check(Probe::Dns(dns), Duration::from_millis(400))
}

fn answers(record: &str, expected: &[&str]) -> Expect {
    let record = Record::named(record).unwrap();
    Expect::Answers(expected.iter().map(|text| record.normal(text).unwrap()).collect())
}

fn code(name: &str) -> Expect {
    Expect::Rcode(Rcode::named(name).unwrap())
}

async fn until_it_answers(prober: &mut Prober, server: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(prober.ask(&quick(dns(server, "www.example.com", "A"))).await, Outcome::Success { .. }) {
        assert!(Instant::now() < deadline, "nsd does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_a_real_server_answers() {
    let (us, them) = us_and_them();
    let _nsd = Nsd::start(&them, &["192.0.2.1", "2001:db8::1"]);
    us.block_on(async || {
        let mut prober = Prober::new();
        for server in ["192.0.2.1", "2001:db8::1"] {
            until_it_answers(&mut prober, server).await;
            for tcp in [false, true] {
                for (query, record, expected) in [
                    ("www.example.com", "A", &["192.0.2.2", "192.0.2.1"][..]),
                    ("WWW.example.com.", "AAAA", &["2001:0db8::80"]),
                    ("alias.example.com", "A", &["192.0.2.1"]),
                    ("alias.example.com", "CNAME", &["WWW.example.com."]),
                    ("example.com", "NS", &["ns1.example.com"]),
                    ("example.com", "MX", &["10 mail.example.com"]),
                    ("example.com", "TXT", &["v=spf1 -all"]),
                    ("example.com", "CAA", &["0 issue ca.example.net"]),
                    ("example.com", "SOA", &["ns1.example.com admin.example.com 7 3600 600 86400 300"]),
                    ("_sip._udp.example.com", "SRV", &["0 5 5060 mail.example.com"]),
                    ("1.in.example.com", "PTR", &["www.example.com"]),
                    ("odd.example.com", "TYPE65", &["\\# 3 000100"]),
                ] {
                    let dns = Dns { tcp, expect: answers(record, expected), ..dns(server, query, record) };
                    assert_success(prober.ask(&ask(dns)).await);
                }
                for (query, rcode) in [
                    ("absent.example.com", "NXDOMAIN"),
                    ("www.broken.example", "SERVFAIL"),
                    ("www.example.net", "REFUSED"),
                ] {
                    let plain = Dns { tcp, ..dns(server, query, "A") };
                    let expecting = Dns { expect: code(rcode), ..plain.clone() };
                    assert_failure(prober.ask(&ask(plain)).await, &format!("{rcode}, expected a record"));
                    assert_success(prober.ask(&ask(expecting)).await);
                }
                let www = || Dns { tcp, ..dns(server, "www.example.com", "A") };
                let wrong = Dns { expect: answers("A", &["192.0.2.9"]), ..www() };
                assert_failure(prober.ask(&ask(wrong)).await, ", expected 192.0.2.9");
                let none = Dns { tcp, ..dns(server, "www.example.com", "MX") };
                assert_failure(prober.ask(&ask(none)).await, "no MX record, expected");
                let gone = Dns { expect: code("NXDOMAIN"), ..www() };
                assert_failure(prober.ask(&ask(gone)).await, "NOERROR, expected NXDOMAIN");
            }
        }
    });
}

/// RFC 7766 section 5: what UDP cannot hold is asked for over TCP, and a dead TCP shows.
#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let (us, them) = us_and_them();
    let _nsd = Nsd::start(&them, &["192.0.2.1"]);
    let big = || Dns {
        expect: answers("TXT", &["number 39 of many that are too much"]),
        ..dns("192.0.2.1", "big.example.com", "TXT")
    };
    us.block_on(async move || {
        let mut prober = Prober::new();
        until_it_answers(&mut prober, "192.0.2.1").await;
        assert_success(prober.ask(&ask(big())).await);
    });
    them.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i tcp dport 53 drop");
    us.block_on(async move || {
        let mut prober = Prober::new();
        assert_failure(prober.ask(&quick(big())).await, "no answer in 390 ms");
        assert_success(prober.ask(&ask(dns("192.0.2.1", "www.example.com", "A"))).await);
    });
}

#[test]
fn silence_refusals_and_blindness() {
    let (us, them) = us_and_them();
    them.sysctl("net/ipv4/ip_forward", "1");
    them.sysctl("net/ipv6/conf/all/forwarding", "1");
    them.sysctl("net/ipv4/icmp_ratelimit", "0");
    them.sysctl("net/ipv6/icmp/ratelimit", "0");
    them.ip("route add unreachable 198.18.0.2");
    them.ip("route add prohibit 198.18.0.3");
    them.ip("route add unreachable 2001:db8:f::2");
    them.ip("route add prohibit 2001:db8:f::3");
    them.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i udp dport 99 drop");
    us.ip("route add unreachable 198.18.0.9");
    us.block_on(async || {
        let mut prober = Prober::new();
        for tcp in [false, true] {
            let to = |server: &str| Dns { tcp, ..dns(server, "www.example.com", "A") };
            assert_failure(prober.ask(&ask(to("192.0.2.1"))).await, "connection refused by 192.0.2.1:53");
            assert_failure(
                prober.ask(&ask(to("2001:db8::1"))).await,
                "connection refused by [2001:db8::1]:53",
            );
            for afar in ["198.18.0.2", "198.18.0.3", "2001:db8:f::2", "2001:db8:f::3"] {
                // A router may say so to one packet a second only; the others meet silence.
                let deadline = Instant::now() + Duration::from_secs(30);
                loop {
                    // Within connect(2) TCP only notes it, and believes it at the second SYN, after a second.
                    let timeout = Duration::from_millis(if tcp { 3000 } else { 400 });
                    match prober.ask(&check(Probe::Dns(to(afar)), timeout)).await {
                        Outcome::Failure(why) if !why.contains("no answer in") => break,
                        outcome => assert!(Instant::now() < deadline, "{afar}, tcp {tcp}: {outcome:?}"),
                    }
                }
            }
            assert_blind(prober.ask(&ask(to("198.18.0.9"))).await, "198.18.0.9");
            let source = Some("192.0.2.200".parse().unwrap());
            let absent = Dns { origin: Origin { source, ..Origin::default() }, ..to("192.0.2.1") };
            assert_blind(prober.ask(&ask(absent)).await, "cannot send from 192.0.2.200");
        }
        let silent = Dns { port: 99, ..dns("192.0.2.1", "www.example.com", "A") };
        assert_failure(prober.ask(&quick(silent)).await, "no answer in 390 ms");
        let own = ["192.0.2.0/24".parse().unwrap()];
        let id = prober.start_beside(&ask(dns("192.0.2.1", "www.example.com", "A")), &own);
        let (of, outcome) = prober.next().await;
        assert_eq!(of, id);
        assert_blind(outcome, "inside our own announced prefix 192.0.2.0/24");
    });
    them.ip("link set down0 down");
    us.block_on(async || {
        let outcome = Prober::new().ask(&quick(dns("192.0.2.1", "www.example.com", "A"))).await;
        assert_blind(outcome, "our own link up0 has no carrier");
    });
}

/// What a server sends instead of, or before, the answer.
fn strange(query: &[u8]) -> Vec<Vec<u8>> {
    let good = simple_dns::Packet::parse(query).unwrap().into_reply().build_bytes_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut message = good.clone();
        message[at] = to;
        message
    };
    vec![
        vec![],
        b"garbage".to_vec(),
        vec![0xff; 600],
        query.to_vec(),
        changed(0, good[0] ^ 1),
        changed(13, b'x'),
        changed(good.len() - 3, 28),
    ]
}

fn addressed(query: &[u8]) -> Vec<u8> {
    use simple_dns::rdata::{A, RData};
    let mut reply = simple_dns::Packet::parse(query).unwrap().into_reply();
    let owner = reply.questions[0].qname.clone();
    let address = RData::A(A { address: 0xc000_0263 });
    reply.answers.push(simple_dns::ResourceRecord::new(owner, simple_dns::CLASS::IN, 1, address));
    reply.build_bytes_vec().unwrap()
}

/// Serves on that port until the process ends; `good`: the answer comes after all.
fn liar(host: &Netns, at: &'static str, good: bool) {
    host.run(move || {
        let (udp, other) = (UdpSocket::bind(at).unwrap(), UdpSocket::bind("192.0.2.1:0").unwrap());
        let tcp = TcpListener::bind(at).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 600];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let query = &buffer[..length];
                // From another port the very answer is none.
                let _ = other.send_to(&addressed(query), from);
                for message in strange(query) {
                    let _ = udp.send_to(&message, from);
                }
                if good {
                    let _ = udp.send_to(&addressed(query), from);
                }
            }
        });
        std::thread::spawn(move || {
            let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
            for stream in tcp.incoming() {
                let (mut stream, mut length) = (stream.unwrap(), [0; 2]);
                let mut serve = || -> std::io::Result<()> {
                    stream.read_exact(&mut length)?;
                    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut query)?;
                    for message in strange(&query) {
                        stream.write_all(&framed(&message))?;
                    }
                    if good { stream.write_all(&framed(&addressed(&query))) } else { Ok(()) }
                };
                let _ = serve();
            }
        });
    });
}

/// RFC 5452 section 9: what does not answer the question is passed over, and so is an answer from elsewhere.
#[test]
fn what_is_no_answer_is_passed_over() {
    let (us, them) = us_and_them();
    liar(&them, "192.0.2.1:53", true);
    liar(&them, "192.0.2.1:54", false);
    us.block_on(async || {
        let mut prober = Prober::new();
        for tcp in [false, true] {
            let at = |port| Dns { port, tcp, ..dns("192.0.2.1", "www.example.com", "A") };
            let expect = answers("A", &["192.0.2.99"]);
            assert_success(prober.ask(&ask(Dns { expect, ..at(53) })).await);
            let words = match tcp {
                false => "no answer in 390 ms (a message came, but it answered another question)",
                true => "192.0.2.1:54 closed the connection without an answer",
            };
            assert_failure(prober.ask(&quick(at(54))).await, words);
        }
    });
}

/// RFC 5452 section 9.2: neither id nor port can be guessed from those before.
#[test]
fn ids_and_ports_differ() {
    let (us, them) = us_and_them();
    let seen = Arc::new(std::sync::Mutex::new(Vec::<(u16, SocketAddr)>::new()));
    let told = seen.clone();
    them.run(move || {
        let udp = UdpSocket::bind("192.0.2.1:53").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 600];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                told.lock().unwrap().push((u16::from_be_bytes([buffer[0], buffer[1]]), from));
                let _ = udp.send_to(&addressed(&buffer[..length]), from);
            }
        });
    });
    us.block_on(async || {
        let mut prober = Prober::new();
        let check = ask(dns("192.0.2.1", "www.example.com", "A"));
        for _ in 0..20 {
            assert_success(prober.ask(&check).await);
        }
    });
    let seen = seen.lock().unwrap();
    let ids: std::collections::HashSet<u16> = seen.iter().map(|(id, _)| *id).collect();
    let ports: std::collections::HashSet<u16> = seen.iter().map(|(_, from)| from.port()).collect();
    assert!(ids.len() > 15 && ports.len() > 15, "{seen:?}");
    let steps: std::collections::HashSet<u16> =
        seen.windows(2).map(|w| w[1].0.wrapping_sub(w[0].0)).collect();
    assert!(steps.len() > 10, "{seen:?}");
}
