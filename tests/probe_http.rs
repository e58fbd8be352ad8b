//! TCP and HTTP checks in network namespaces, against small servers of the test's own.

#[path = "common/netns.rs"]
mod netns;
#[path = "common/probing.rs"]
mod probing;
#[path = "common/web.rs"]
mod web;

use std::time::{Duration, Instant};

use announcerd::announcer::event::Outcome;
use announcerd::config::model::{Origin, Probe, Tcp};
use announcerd::io::resolve::Resolver;
use netns::Netns;
use probing::*;
use regex::Regex;
use web::{Authority, Server};

const REDIRECT: &str = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// We and a primary (198.18.0.1) behind a router.
fn standby_and_primary() -> (Netns, Netns) {
    let (standby, primary) = (Netns::new(), Netns::new());
    standby.cable("up0", &primary, "down0");
    standby.address("192.0.2.2/24", "up0");
    primary.address("192.0.2.1/24", "down0");
    primary.address("198.18.0.1/32", "lo");
    standby.ip("route add default via 192.0.2.1");
    primary.sysctl("net/ipv4/ip_forward", "1");
    (standby, primary)
}

#[test]
fn tcp_outcomes() {
    let (standby, primary) = standby_and_primary();
    let _server = primary.run(|| Server::plain("198.18.0.1:80", ok("")));
    primary.ip("route add unreachable 198.18.0.2");
    primary.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i tcp dport 99 drop");
    standby.ip("route add unreachable 198.18.0.9");
    standby.block_on(async || {
        let mut prober = Prober::new();
        let ask = |to, port| tcp_check(to, port, Origin::default());
        assert_success(prober.ask(&ask("198.18.0.1", 80)).await);
        assert_failure(prober.ask(&ask("198.18.0.1", 81)).await, "connection refused by 198.18.0.1:81");
        assert_failure(prober.ask(&ask("198.18.0.2", 80)).await, "198.18.0.2:80: No route to host");
        assert_blind(prober.ask(&ask("198.18.0.9", 80)).await, "cannot connect to 198.18.0.9:80");
        assert_failure(prober.ask(&ask("127.0.0.1", 1)).await, "connection refused by 127.0.0.1:1");
        let absent = Origin { source: Some("192.0.2.200".parse().unwrap()), ..Origin::default() };
        assert_blind(prober.ask(&tcp_check("198.18.0.1", 80, absent)).await, "cannot send from 192.0.2.200");
        let silent = prober.start(&ask("198.18.0.1", 99));
        assert_success(prober.ask(&ask("198.18.0.1", 80)).await);
        prober.probes.cancel(silent);
        assert_success(prober.ask(&ask("198.18.0.1", 80)).await);
        assert!(!prober.has_news());
    });
}

/// Whoever says nothing is judged here and not by the core: SPEC 4, our own link down counts as neither.
#[test]
fn silence_is_a_failure_unless_our_own_link_is_down() {
    let (standby, primary) = standby_and_primary();
    let checks = || {
        ["192.0.2.1", "198.18.0.1"].into_iter().flat_map(|to| {
            let tcp = Tcp { host: host(to), port: 80, origin: Origin::default() };
            let http = http(format!("http://{to}/"));
            [Probe::Tcp(tcp), Probe::Http(http)].map(|probe| check(probe, Duration::from_millis(400)))
        })
    };
    let outcomes = || {
        let checks: Vec<_> = checks().collect();
        standby.block_on(async move || {
            let mut prober = Prober::new();
            let mut outcomes = Vec::new();
            for check in checks {
                outcomes.push(prober.ask(&check).await);
            }
            outcomes
        })
    };
    primary.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i tcp dport 80 drop");
    outcomes().into_iter().for_each(|o| assert_failure(o, "no answer in 390 ms"));
    primary.ip("link set down0 down");
    outcomes().into_iter().for_each(|o| assert_blind(o, "our own link up0 has no carrier"));
    primary.ip("link set down0 up");
    primary.nft("flush ruleset");
    let _server = primary.run(|| Server::plain("0.0.0.0:80", ok("")));
    let deadline = Instant::now() + Duration::from_secs(20);
    // The carrier's return takes the kernel a moment to act on.
    while !outcomes().iter().all(|o| matches!(o, Outcome::Success { .. })) {
        assert!(Instant::now() < deadline, "{:?}", outcomes());
    }
}

/// An HTTP server that accepts and says nothing, or stops in the middle of its body.
#[test]
fn an_answer_that_stalls_is_a_failure() {
    let ns = Netns::new();
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let _half = ns.run(move || Server::stalling("127.0.0.1:80", half.to_owned()));
    let _mute = ns.run(|| Server::stalling("127.0.0.1:81", String::new()));
    ns.block_on(async || {
        let mut prober = Prober::new();
        let half = Regex::new("half").unwrap();
        for port in [80, 81] {
            let mut request = http(format!("http://127.0.0.1:{port}/"));
            request.expect_body = Some(half.clone());
            let stalled = check(Probe::Http(request), Duration::from_millis(200));
            assert_failure(prober.ask(&stalled).await, "no answer in 190 ms");
        }
    });
}

/// FIELD 9: a process that was stopped wakes up; that it looks for the answer too late is no failure.
#[test]
fn a_probe_that_slept_over_its_timeout_is_no_failure() {
    let (standby, primary) = standby_and_primary();
    primary.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i tcp dport 80 drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        let tcp = Tcp { host: host("198.18.0.1"), port: 80, origin: Origin::default() };
        for probe in [Probe::Tcp(tcp), Probe::Http(http("http://198.18.0.1/".into()))] {
            prober.start(&check(probe, Duration::from_millis(100)));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            // As SIGSTOP would.
            std::thread::sleep(Duration::from_millis(600));
            assert_blind(prober.next().await.1, "this process was not running");
        }
    });
}

#[test]
fn http_status_body_and_headers() {
    let (standby, primary) = standby_and_primary();
    let server = primary.run(|| Server::plain("198.18.0.1:80", ok("all is OK here")));
    standby.block_on(async || {
        let mut prober = Prober::new();
        let mut request = http("http://198.18.0.1/healthz?full".into());
        request.method = "POST".into();
        request.headers =
            vec![("X-Check".into(), "announcerd".into()), ("Host".into(), "www.example.com".into())];
        request.expect_body = Some(Regex::new("(?i)is ok").unwrap());
        assert_success(prober.ask(&http_check(request.clone())).await);
        request.expect_body = Some(Regex::new("^ok$").unwrap());
        assert_failure(prober.ask(&http_check(request.clone())).await, "the body does not match `^ok$`");
        request.expect_body = None;
        request.expect_status = vec![(301, 301), (500, 599)];
        let why = "status 200, expected 301, 500-599";
        assert_failure(prober.ask(&http_check(request)).await, why);
    });
    let seen = server.requests();
    assert_eq!(seen.len(), 3);
    assert!(seen[0].starts_with("POST /healthz?full HTTP/1.1\r\n"), "{}", seen[0]);
    let lower = seen[0].to_lowercase();
    assert!(lower.contains("\r\nx-check: announcerd\r\n") && lower.contains("\r\nhost: www.example.com\r\n"));
    assert_eq!(lower.matches("\r\nhost:").count(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let ns = Netns::new();
    let _server = ns.run(|| Server::plain("127.0.0.1:80", REDIRECT.into()));
    ns.block_on(async || {
        let mut prober = Prober::new();
        let mut request = http("http://127.0.0.1/".into());
        assert_failure(prober.ask(&http_check(request.clone())).await, "status 302, expected 200-299");
        request.expect_status = vec![(302, 302)];
        assert_success(prober.ask(&http_check(request)).await);
    });
}

#[test]
fn an_endless_body_is_read_up_to_its_bound() {
    let ns = Netns::new();
    let _server = ns.run(|| Server::endless("127.0.0.1:80"));
    ns.block_on(async || {
        let mut prober = Prober::new();
        let mut request = http("http://127.0.0.1/".into());
        assert_success(prober.ask(&http_check(request.clone())).await);
        request.expect_body = Some(Regex::new("never there").unwrap());
        assert_failure(prober.ask(&http_check(request)).await, "the body does not match");
    });
}

#[test]
fn http_failures_and_blindness() {
    let (standby, primary) = standby_and_primary();
    primary.ip("route add unreachable 198.18.0.2");
    let _garbage = primary.run(|| Server::plain("198.18.0.1:82", "hello\r\n\r\n".into()));
    standby.ip("route add unreachable 198.18.0.9");
    standby.block_on(async || {
        let mut prober = Prober::new();
        let ask = |url: &str| http_check(http(url.into()));
        assert_failure(prober.ask(&ask("http://198.18.0.1/")).await, "connection refused by 198.18.0.1:80");
        assert_failure(prober.ask(&ask("http://198.18.0.2/")).await, "198.18.0.2:80: No route to host");
        assert_failure(prober.ask(&ask("http://198.18.0.1:82/")).await, "198.18.0.1:82: ");
        assert_blind(prober.ask(&ask("http://198.18.0.9/")).await, "cannot send to 198.18.0.9");
        let mut from = http("http://198.18.0.1/".into());
        from.origin.source = Some("192.0.2.200".parse().unwrap());
        assert_blind(prober.ask(&http_check(from.clone())).await, "cannot send from 192.0.2.200");
        from.origin = Origin { device: Some("up9".into()), ..Origin::default() };
        assert_blind(prober.ask(&http_check(from)).await, "cannot use device up9");
        let own = ["198.18.0.0/24".parse().unwrap()];
        prober.start_beside(&ask("http://198.18.0.1/"), &own);
        assert_blind(prober.next().await.1, "inside our own announced prefix 198.18.0.0/24");
        let mut tls = http("https://198.18.0.1/".into());
        tls.ca_file = Some("/nonexistent/ca.pem".into());
        assert_blind(prober.ask(&http_check(tls)).await, "cannot read ca_file /nonexistent/ca.pem");
    });
}

#[test]
fn source_and_device_of_a_request_are_used() {
    let (standby, primary) = standby_and_primary();
    standby.address("192.0.2.3/24", "up0");
    primary.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i ip saddr 192.0.2.2 tcp dport 80 reject with tcp reset");
    let _server = primary.run(|| Server::plain("198.18.0.1:80", ok("")));
    standby.block_on(async || {
        let mut prober = Prober::new();
        let mut request = http("http://198.18.0.1/".into());
        assert_failure(prober.ask(&http_check(request.clone())).await, "refused");
        request.origin.source = Some("192.0.2.3".parse().unwrap());
        assert_success(prober.ask(&http_check(request.clone())).await);
        request.origin.device = Some("up0".into());
        assert_success(prober.ask(&http_check(request)).await);
    });
}

#[test]
fn https_with_a_ca_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let other = dir.path().join("other.pem");
    std::fs::write(&other, Authority::new().pem()).unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing here").unwrap();

    let (standby, primary) = standby_and_primary();
    let tls = authority.server("www.example.com");
    let server = primary.run(move || Server::tls("198.18.0.1:443", ok("fine"), tls));
    standby.block_on(async move || {
        let mut prober = Prober::new();
        // The TLS name and Host stay the URL's.
        let mut request = http("https://www.example.com/healthz".into());
        request.connect_to = Some(host("198.18.0.1"));
        request.expect_body = Some(Regex::new("^fine$").unwrap());
        request.ca_file = Some(ca_file);
        assert_success(prober.ask(&http_check(request.clone())).await);
        // An address as the URL's host is no other case.
        let mut address = request.clone();
        address.url = "https://203.0.113.80/healthz".into();
        assert_success(prober.ask(&http_check(address.clone())).await);
        address.url = "https://203.0.113.81/healthz".into();
        assert_failure(prober.ask(&http_check(address)).await, "certificate: ");
        let mut wrong = request.clone();
        wrong.url = "https://www.example.net/healthz".into();
        assert_failure(prober.ask(&http_check(wrong)).await, "certificate: ");
        let mut foreign = request.clone();
        foreign.ca_file = Some(other);
        assert_failure(prober.ask(&http_check(foreign.clone())).await, "certificate: ");
        foreign.insecure = true;
        assert_success(prober.ask(&http_check(foreign)).await);
        request.ca_file = Some(empty);
        assert_blind(prober.ask(&http_check(request)).await, "holds no PEM certificate");
    });
    let seen = server.requests();
    assert!(seen[0].to_lowercase().contains("\r\nhost: www.example.com\r\n"), "{}", seen[0]);
    assert!(seen[1].to_lowercase().contains("\r\nhost: 203.0.113.80\r\n"), "{}", seen[1]);
}

/// FIELD: DNS is one more thing that dies with the primary.
#[test]
fn names_are_looked_up_beside_the_probes() {
    let (standby, primary) = standby_and_primary();
    let _server = primary.run(|| Server::plain("198.18.0.1:80", ok("")));
    standby.block_on(async || {
        let resolver = Resolver::new(|name| {
            Box::pin(async move {
                match name.as_str() {
                    "www.example.com" => Ok(vec!["198.18.0.1".parse().unwrap()]),
                    "own.example.com" => Ok(vec!["198.51.100.7".parse().unwrap()]),
                    "silent.example.com" => std::future::pending().await,
                    _ => Err(std::io::Error::other("Name or service not known")),
                }
            })
        });
        let mut prober = Prober::with_resolver(resolver);
        let checks = ["www", "own", "silent", "absent"].map(|name| {
            let url = format!("http://{name}.example.com/");
            http_check(http(url))
        });
        prober.probes.retain_checks(&checks);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let own = ["198.51.100.0/24".parse().unwrap()];
        let mut outcomes = vec![];
        for check in &checks {
            prober.start_beside(check, &own);
            outcomes.push(prober.next().await.1);
        }
        assert_success(outcomes.remove(0));
        let why = "own.example.com resolves to 198.51.100.7, inside our own announced prefix 198.51.100.0/24: \
                   we would be asking ourselves";
        assert_eq!(outcomes.remove(0), Outcome::Blind(why.into()));
        assert_blind(outcomes.remove(0), "silent.example.com is still being looked up");
        assert_blind(outcomes.remove(0), "absent.example.com does not resolve: Name or service not known");
        let tcp = tcp_check("www.example.com", 80, Origin::default());
        assert_success(prober.ask(&tcp).await);
        let pinged = check(Probe::Ping(ping("www.example.com")), Duration::from_secs(10));
        assert_success(prober.ask(&pinged).await);
    });
}
