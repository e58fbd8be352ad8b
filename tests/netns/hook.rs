//! `notify_url`: what a receiver is told, whatever it does, and that it is in nobody's way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::web::Web;
use announcerd::demo::lab::{Host, Node, wait_for};
use announcerd::status::Notice;
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, program};
use crate::tls;

const CTL: &str = env!("CARGO_BIN_EXE_announcerctl");
const URL: &str = "http://ops:s3cret@127.0.0.1:8080/t0ken?key=k3y";

/// A host and its daemon, with one instance that is MASTER while a file is there.
struct Lone {
    node: Node,
    host: Host,
}

impl Lone {
    fn start(host: Host, url: &str) -> Self {
        host.write("/run/healthy", "").unwrap();
        let node = Node::start(&host, program(), &config(url)).unwrap();
        let lone = Lone { node, host };
        lone.wait(State::Master);
        lone
    }

    fn healthy(&self, yes: bool) {
        match yes {
            true => self.host.write("/run/healthy", "").unwrap(),
            false => std::fs::remove_file(self.host.path("/run/healthy")).unwrap(),
        }
        self.wait(if yes { State::Master } else { State::Fault });
    }

    fn wait(&self, state: State) {
        self.node.wait_state("service", state, LIMIT).unwrap();
    }

    fn ctl(&self, words: &[&str]) -> String {
        self.host.run(&[&[CTL], words].concat()).unwrap()
    }

    /// Ends the daemon and returns its log.
    fn stop(mut self) -> String {
        self.node.daemon().signal(Signal::SIGTERM).unwrap();
        assert!(self.node.daemon().wait(LIMIT).unwrap().success(), "{}", self.node.log());
        self.node.log()
    }
}

fn config(url: &str) -> String {
    format!(
        r#"
        [node]
        name = "hk-1"
        metrics = "127.0.0.1:9179"
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
        notify_url = "{url}"
        [[instance.route]]
        to = "198.51.100.0/24"
        dev = "lo"
        "#
    )
}

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Does {
    Says(u16),
    /// Reads it and closes.
    Closes,
    /// Reads it and says nothing.
    Hangs,
    /// Says 204 after a while.
    Dawdles,
}

/// What arrived, and what was done with it.
type Arrived = Arc<Mutex<Vec<(String, Notice, Does)>>>;

/// The n-th request, from 0, meets `does(n)`.
fn receiver(host: &Host, port: u16, does: impl Fn(usize) -> Does + Send + Sync + 'static) -> (Web, Arrived) {
    let arrived = Arrived::default();
    let told = arrived.clone();
    let web = Web::start(host, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), move |mut stream| {
        let Some((head, body)) = request(&mut stream) else { return };
        let what = {
            let mut told = told.lock().unwrap();
            let what = does(told.len());
            told.push((head, serde_json::from_slice(&body).unwrap(), what));
            what
        };
        let answer = |code| format!("HTTP/1.1 {code} Word\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        match what {
            Does::Says(code) => drop(stream.write_all(answer(code).as_bytes())),
            Does::Closes => {}
            Does::Hangs => {
                // Until the client goes; the server's own patience does not count.
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                drop(stream.read(&mut [0]));
            }
            Does::Dawdles => {
                std::thread::sleep(Duration::from_millis(200));
                drop(stream.write_all(answer(204).as_bytes()));
            }
        }
    });
    (web.unwrap(), arrived)
}

fn request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let (mut octets, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let end = octets.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&octets[..end]).to_lowercase();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
            if octets.len() >= end + length {
                return Some((head, octets[end..].to_vec()));
            }
        }
        let count = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        octets.extend(&buffer[..count]);
    }
}

/// Those that the receiver took.
fn taken(arrived: &Arrived) -> Vec<Notice> {
    let arrived = arrived.lock().unwrap();
    let took = |d: &Does| matches!(d, Does::Says(200..=299) | Does::Dawdles);
    arrived.iter().filter(|(_, _, does)| took(does)).map(|(_, notice, _)| notice.clone()).collect()
}

fn wait_taken(lone: &Lone, arrived: &Arrived, count: usize) -> Vec<Notice> {
    wait_for("the notices", LIMIT * 2, || Some(taken(arrived)).filter(|t| t.len() >= count))
        .unwrap_or_else(|e| panic!("{e}: {:?}\n{}", taken(arrived), lone.node.log()))
}

fn words(notices: &[Notice]) -> Vec<String> {
    notices.iter().map(|n| format!("{} {}-{}", n.event.seq, n.event.from.word(), n.event.to.word())).collect()
}

#[test]
fn every_transition_is_posted_in_order_whatever_the_receiver_says() {
    let host = Host::new("node", &[]).unwrap();
    let (_web, arrived) = receiver(&host, 8080, |n| match n {
        0 => Does::Says(500),
        1 => Does::Closes,
        3 => Does::Says(429),
        _ => Does::Says(204),
    });
    let lone = Lone::start(host, URL);
    wait_taken(&lone, &arrived, 1);
    lone.healthy(false);
    lone.healthy(true);
    lone.ctl(&["force", "service", "backup", "--for", "1h"]);
    lone.wait(State::Backup);
    let notices = wait_taken(&lone, &arrived, 4);
    let (events, status) = (lone.node.events().unwrap(), lone.node.status().unwrap());
    assert_eq!(words(&notices), ["1 INIT-MASTER", "2 MASTER-FAULT", "3 FAULT-MASTER", "4 MASTER-BACKUP"]);
    for (notice, event) in notices.iter().zip(&events) {
        let told = (&notice.event.time, &notice.event.reason, &notice.event.instance);
        assert_eq!(told, (&event.time, &event.reason, &event.instance));
        assert_eq!((notice.node.as_str(), notice.drill), ("hk-1", false));
        assert!(notice.event.timeline_us.decision.is_some(), "{notice:?}");
    }
    assert_eq!(notices[2].forced, None);
    assert_eq!(notices[3].forced, status.instances[0].forced);
    assert!(notices[3].forced.is_some());
    // More of a timeline is known when it is told later.
    assert!(notices[0].event.timeline_us.kernel_acked.is_some(), "{:?}", notices[0]);
    {
        let arrived = arrived.lock().unwrap();
        let (head, _, _) = &arrived[0];
        assert!(head.starts_with("post /t0ken?key=k3y http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        // ops:s3cret, as RFC 7617 has it; the head is in lower case here.
        assert!(head.contains("\r\nauthorization: basic b3bzonmzy3jlda==\r\n"), "{head}");
    }
    let metrics = lone.host.run(&["curl", "-s", "http://127.0.0.1:9179/metrics"]).unwrap();
    for line in [
        "announcerd_notify_url_posts_total{name=\"service\",result=\"delivered\"} 4",
        "announcerd_notify_url_posts_total{name=\"service\",result=\"failed\"} 3",
        "announcerd_notify_url_posts_total{name=\"service\",result=\"dropped\"} 0",
        "announcerd_notify_url_waiting{name=\"service\"} 0.0",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    let shown = format!("{}{}", lone.ctl(&["status", "-j"]), lone.ctl(&["explain", "service"]));
    let log = lone.stop();
    assert_eq!(words(&taken(&arrived)[4..]), ["5 BACKUP-STOP"]);
    assert!(log.contains("notify_url http://127.0.0.1:8080/…: status 500; it is tried again"), "{log}");
    for secret in ["s3cret", "t0ken", "k3y"] {
        assert!(!log.contains(secret) && !shown.contains(secret), "{secret} is shown:\n{log}\n{shown}");
    }
}

/// Nobody there at first, then a slow one; and the end waits for it.
#[test]
fn a_receiver_that_comes_late_and_is_slow_is_told_all() {
    let lone = Lone::start(Host::new("node", &[]).unwrap(), URL);
    lone.healthy(false);
    lone.healthy(true);
    let refused = || lone.node.log().contains("connection refused by 127.0.0.1:8080; it is tried again");
    wait_for("the log", LIMIT, || refused().then_some(())).unwrap();
    let (_web, arrived) = receiver(&lone.host, 8080, |_| Does::Dawdles);
    wait_taken(&lone, &arrived, 3);
    let log = lone.stop();
    let told = ["1 INIT-MASTER", "2 MASTER-FAULT", "3 FAULT-MASTER", "4 MASTER-STOP"];
    assert_eq!(words(&taken(&arrived)), told, "{log}");
    assert!(log.contains("tries that failed"), "{log}");
}

/// It hangs: no transition waits for it, and the end does not either.
#[test]
fn a_receiver_that_hangs_is_in_nobodys_way() {
    let host = Host::new("node", &[]).unwrap();
    let (_web, arrived) = receiver(&host, 8080, |_| Does::Hangs);
    let lone = Lone::start(host, URL);
    wait_for("the first post", LIMIT, || (!arrived.lock().unwrap().is_empty()).then_some(())).unwrap();
    for _ in 0..5 {
        lone.healthy(false);
        lone.healthy(true);
    }
    let events = lone.node.events().unwrap();
    let log = lone.stop();
    assert_eq!(events.len(), 11, "{log}");
    // One at a time: with a patience of 5 s each, twelve would have taken a minute.
    assert!(log.contains("no answer at the end; 12 transitions may not be told"), "{log}");
    assert!(arrived.lock().unwrap().len() < 12);
}

#[test]
fn a_reload_changes_the_receiver_and_keeps_what_waits() {
    let host = Host::new("node", &[]).unwrap();
    let (_old, first) = receiver(&host, 8080, |_| Does::Says(503));
    let (_new, second) = receiver(&host, 8081, |_| Does::Says(200));
    let lone = Lone::start(host, URL);
    wait_for("the first post", LIMIT, || (!first.lock().unwrap().is_empty()).then_some(())).unwrap();
    lone.host.write(CONFIG, config("http://127.0.0.1:8081/n3w")).unwrap();
    let answer = lone.ctl(&["reload"]);
    assert!(
        answer.contains("notify_url") && !answer.contains("n3w") && !answer.contains("s3cret"),
        "{answer}"
    );
    assert_eq!(words(&wait_taken(&lone, &second, 1)), ["1 INIT-MASTER"]);
    lone.host.write(CONFIG, config("")).unwrap();
    lone.ctl(&["reload"]);
    lone.healthy(false);
    let log = lone.stop();
    assert_eq!(taken(&second).len(), 1, "{log}");
}

/// Over TLS the certificate counts: it is www.example.com's.
#[test]
fn https_needs_the_right_certificate() {
    let host = Host::new("node", &[tls::AUTHORITIES]).unwrap();
    let _web = tls::serve(&host, Ipv4Addr::LOCALHOST, &host);
    let lone = Lone::start(host, "https://127.0.0.1/");
    let complaint = || lone.node.log().contains("certificate not valid for name");
    wait_for("the complaint about the name", LIMIT, || complaint().then_some(()))
        .unwrap_or_else(|e| panic!("{e}\n{}", lone.node.log()));
    lone.stop();
}

/// And with the right one, by an authority that the machine trusts, the transitions are told.
#[test]
fn https_with_the_right_certificate_is_told() {
    let host = Host::new("node", &[tls::AUTHORITIES]).unwrap();
    let arrived = Arc::new(Mutex::new(Vec::<(String, Notice)>::new()));
    let told = arrived.clone();
    let _web = tls::serve_as("127.0.0.1", &host, Ipv4Addr::LOCALHOST, &host, move |stream| {
        let Some((head, body)) = request(stream) else { return };
        told.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    });
    let lone = Lone::start(host, "https://127.0.0.1/t0ken");
    let delivered = || {
        let metrics = lone.host.run(&["curl", "-s", "http://127.0.0.1:9179/metrics"]).ok()?;
        metrics.contains("posts_total{name=\"service\",result=\"delivered\"} 1").then_some(())
    };
    wait_for("the delivery", LIMIT, delivered).unwrap_or_else(|e| panic!("{e}\n{}", lone.node.log()));
    let (head, notice) = arrived.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /t0ken http/1.1\r\n"), "{head}");
    assert_eq!(words(&[notice]), ["1 INIT-MASTER"]);
    let log = lone.stop();
    assert!(!log.contains("notify_url"), "{log}");
}
