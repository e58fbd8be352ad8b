//! Pings in network namespaces: what is a failure, what is neither, and that no reply is lost.

#[path = "common/netns.rs"]
mod netns;
#[path = "common/probing.rs"]
mod probing;

use std::time::{Duration, Instant};

use announcerd::announcer::event::Outcome;
use announcerd::config::model::{Host, Origin, Ping, Probe};
use netns::Netns;
use probing::*;

/// We (192.0.2.2, 2001:db8::2) and a router (.1) that forwards, at the two ends of a cable.
fn standby_and_router() -> (Netns, Netns) {
    let (standby, router) = (Netns::new(), Netns::new());
    standby.cable("up0", &router, "down0");
    for (address, peer) in [("192.0.2.2/24", "192.0.2.1/24"), ("2001:db8::2/64", "2001:db8::1/64")] {
        standby.address(address, "up0");
        router.address(peer, "down0");
    }
    standby.ip("route add default via 192.0.2.1");
    standby.ip("route add default via 2001:db8::1");
    router.sysctl("net/ipv4/ip_forward", "1");
    router.sysctl("net/ipv6/conf/all/forwarding", "1");
    (standby, router)
}

#[test]
fn a_reply_is_a_success() {
    let (standby, _router) = standby_and_router();
    standby.block_on(async || {
        let mut prober = Prober::new();
        for to in ["192.0.2.1", "2001:db8::1"] {
            assert_success(prober.ask(&ping_check(ping(to))).await);
            let mut several = ping(to);
            (several.count, several.size) = (5, 1200);
            assert_success(prober.ask(&check(Probe::Ping(several), Duration::from_secs(2))).await);
        }
    });
}

/// LAB: surge-ping answers Ok for ICMP errors.
#[test]
fn unreachable_from_afar_is_a_failure() {
    let (standby, router) = standby_and_router();
    router.sysctl("net/ipv4/icmp_ratelimit", "0");
    router.sysctl("net/ipv6/icmp/ratelimit", "0");
    router.ip("route add unreachable 198.18.0.1");
    router.ip("route add prohibit 198.18.0.2");
    router.ip("route add unreachable 2001:db8:1::1");
    router.ip("route add prohibit 2001:db8:1::2");
    standby.block_on(async || {
        let mut prober = Prober::new();
        for (to, says) in [
            ("198.18.0.1", "192.0.2.1 says: host unreachable"),
            ("198.18.0.2", "192.0.2.1 says: administratively prohibited"),
            ("198.18.0.3", "192.0.2.1 says: network unreachable"),
            ("2001:db8:1::1", "2001:db8::1 says: no route to destination"),
            ("2001:db8:1::2", "2001:db8::1 says: administratively prohibited"),
            ("2001:db8:1::3", "2001:db8::1 says: no route to destination"),
        ] {
            let outcome = prober.ask(&ping_check(ping(to))).await;
            assert_eq!(outcome, Outcome::Failure(says.to_owned()), "{to}");
        }
    });
}

/// RFC 792: TTL exceeded in transit, here in a loop between two routers.
#[test]
fn a_routing_loop_is_a_failure() {
    let (standby, router) = standby_and_router();
    let other = Netns::new();
    router.cable("loop0", &other, "loop1");
    router.address("203.0.113.1/30", "loop0");
    other.address("203.0.113.2/30", "loop1");
    router.ip("route add 198.18.0.0/24 via 203.0.113.2");
    other.ip("route add default via 203.0.113.1");
    other.sysctl("net/ipv4/ip_forward", "1");
    standby.block_on(async || {
        let outcome = Prober::new().ask(&ping_check(ping("198.18.0.1"))).await;
        assert_failure(outcome, "says: TTL exceeded");
    });
}

#[test]
fn no_way_out_is_blind() {
    let standby = Netns::new();
    standby.ip("link add up0 type veth peer name nowhere");
    standby.ip("link set up0 up");
    standby.ip("link set nowhere up");
    standby.address("192.0.2.2/24", "up0");
    standby.ip("route add unreachable 198.18.0.1");
    standby.ip("route add prohibit 198.18.0.2");
    standby.ip("route add blackhole 198.18.0.3");
    standby.ip("route add unreachable 2001:db8:1::1");
    standby.nft("add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o ip daddr 192.0.2.66 drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        for to in [
            "203.0.113.9",
            "198.18.0.1",
            "198.18.0.2",
            "198.18.0.3",
            "192.0.2.66",
            "2001:db8:1::1",
            "2001:db8:9::1",
        ] {
            let cannot = format!("cannot send to {to}: ");
            assert_blind(prober.ask(&ping_check(ping(to))).await, &cannot);
        }
    });
}

fn on_device(timeout: Duration) -> std::sync::Arc<announcerd::config::model::Check> {
    let mut ping = ping("192.0.2.1");
    ping.origin.device = Some("up0".into());
    check(Probe::Ping(ping), timeout)
}

#[test]
fn our_own_link_down_is_blind() {
    let (standby, _router) = standby_and_router();
    standby.ip("link set up0 down");
    standby.block_on(async || {
        let mut prober = Prober::new();
        assert_blind(prober.ask(&on_device(Duration::from_secs(10))).await, "cannot send");
        ip("link set up0 up").await;
        assert_success(prober.ask(&on_device(Duration::from_secs(10))).await);
    });
}

/// SPEC 4: our own link down counts as neither. Without a carrier the route stays, and what is sent is dropped in silence.
#[test]
fn a_cable_pulled_out_of_our_own_link_is_blind() {
    let (standby, router) = standby_and_router();
    let origins = [(None, None), (Some("192.0.2.2"), None), (None, Some("up0"))];
    let checks = || {
        let ways = origins.map(|(source, device)| {
            let source = source.map(|s| s.parse().unwrap());
            Origin { source, device: device.map(str::to_owned), fwmark: Some(7) }
        });
        let v4 = ways.into_iter().flat_map(|o| [("192.0.2.1", o.clone()), ("198.18.0.1", o)]);
        let all = v4.chain(["2001:db8::1", "2001:db8:1::1"].map(|to| (to, Origin::default())));
        all.flat_map(|(to, origin)| {
            let one = Ping { origin, ..ping(to) };
            [one.clone(), Ping { count: 3, ..one }]
        })
        .map(|ping| check(Probe::Ping(ping), Duration::from_millis(300)))
        .collect::<Vec<_>>()
    };
    router.ip("link set down0 down");
    let pulled = checks();
    standby.block_on(async move || {
        let mut prober = Prober::new();
        for check in pulled {
            assert_blind(prober.ask(&check).await, "our own link up0 has no carrier");
        }
    });
    router.ip("link set down0 up");
    router.address("2001:db8::1/64", "down0");
    router.ip("route add blackhole 198.18.0.0/24");
    router.ip("route add blackhole 2001:db8:1::/64");
    let plugged = checks();
    standby.block_on(async move || {
        let mut prober = Prober::new();
        for check in plugged {
            let Probe::Ping(Ping { host: Host::Address(to), .. }) = &check.probe else { panic!("{check:?}") };
            if to.to_string().ends_with(":1::1") || to.to_string().starts_with("198.18") {
                assert_failure(prober.ask(&check).await, "");
            } else {
                // The carrier's return takes the kernel a moment to act on.
                let deadline = Instant::now() + Duration::from_secs(20);
                let mut last = prober.ask(&check).await;
                while !matches!(last, Outcome::Success { .. }) && Instant::now() < deadline {
                    last = prober.ask(&check).await;
                }
                assert_success(last);
            }
        }
    });
}

/// The route goes with the device while the answer is awaited: from then on nothing could have come back.
#[test]
fn a_device_set_down_under_a_probe_is_blind() {
    let (standby, router) = standby_and_router();
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i icmp type echo-request drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        for (check, why) in [
            (check(Probe::Ping(ping("192.0.2.1")), Duration::from_secs(2)), "no route to 192.0.2.1"),
            (on_device(Duration::from_secs(2)), "our own link up0 is administratively down"),
        ] {
            prober.start(&check);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            ip("link set up0 down").await;
            assert_blind(prober.next().await.1, why);
            ip("link set up0 up").await;
        }
    });
}

/// A device that went away and came back is another one: a socket bound to the first would be deaf for ever.
#[test]
fn a_device_that_comes_back_is_used_again() {
    let (standby, _router) = standby_and_router();
    standby.block_on(async || {
        let mut prober = Prober::new();
        assert_success(prober.ask(&on_device(Duration::from_secs(10))).await);
        ip("link del up0").await;
        assert_blind(prober.ask(&on_device(Duration::from_secs(10))).await, "cannot send");
        assert_blind(prober.ask(&on_device(Duration::from_secs(10))).await, "cannot ping on up0");
        ip("link add up0 type veth peer name down0").await;
        for device in ["up0", "down0"] {
            ip(&format!("link set {device} up")).await;
        }
        ip("address add 192.0.2.2/24 dev up0").await;
        // Nobody is there any more, but it is asked.
        let outcome = prober.ask(&on_device(Duration::from_millis(200))).await;
        assert!(matches!(outcome, Outcome::Failure(_)), "{outcome:?}");
    });
}

async fn ip(arguments: &str) {
    let status =
        tokio::process::Command::new("ip").args(arguments.split_whitespace()).status().await.unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn a_silent_drop_is_a_failure_at_the_timeout() {
    let (standby, router) = standby_and_router();
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i icmp type echo-request drop");
    standby.block_on(async || {
        let silent = check(Probe::Ping(ping("192.0.2.1")), Duration::from_millis(200));
        assert_failure(Prober::new().ask(&silent).await, "no reply in 190 ms");
    });
}

/// The kernel reports a neighbour that does not answer as "host unreachable" from ourselves.
#[test]
fn a_dead_neighbour_is_a_failure_although_we_say_it_ourselves() {
    let (standby, _router) = standby_and_router();
    standby.sysctl("net/ipv4/neigh/up0/retrans_time_ms", "20");
    standby.sysctl("net/ipv6/neigh/up0/retrans_time_ms", "20");
    standby.block_on(async || {
        let mut prober = Prober::new();
        for to in ["192.0.2.77", "2001:db8::77"] {
            assert_failure(prober.ask(&ping_check(ping(to))).await, "no neighbour answers");
        }
    });
}

#[test]
fn loss_within_its_bound_is_a_success() {
    let (standby, router) = standby_and_router();
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i icmp type echo-request numgen inc mod 5 0 drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        let mut ten = ping("192.0.2.1");
        ten.count = 10;
        ten.max_loss = 20.0;
        let lossy = check(Probe::Ping(ten.clone()), Duration::from_secs(1));
        assert_success(prober.ask(&lossy).await);
        ten.max_loss = 10.0;
        let strict = check(Probe::Ping(ten), Duration::from_secs(1));
        assert_failure(prober.ask(&strict).await, "of 10 lost");
    });
}

#[test]
fn source_device_and_mark_are_used() {
    let (standby, router) = standby_and_router();
    standby.address("192.0.2.3/24", "up0");
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i ip saddr 192.0.2.2 drop");
    standby.ip("rule add fwmark 7 unreachable priority 10");
    let from = |source: Option<&str>, device: Option<&str>, fwmark| {
        let mut ping = ping("192.0.2.1");
        let source = source.map(|s| s.parse().unwrap());
        ping.origin = Origin { source, device: device.map(str::to_owned), fwmark };
        check(Probe::Ping(ping), Duration::from_millis(500))
    };
    standby.block_on(async move || {
        let mut prober = Prober::new();
        assert_failure(prober.ask(&from(None, None, None)).await, "no reply");
        assert_success(prober.ask(&from(Some("192.0.2.3"), None, None)).await);
        assert_success(prober.ask(&from(Some("192.0.2.3"), Some("up0"), None)).await);
        assert_blind(prober.ask(&from(Some("192.0.2.3"), None, Some(7))).await, "cannot send");
        assert_blind(prober.ask(&from(Some("192.0.2.9"), None, None)).await, "cannot ping from 192.0.2.9");
        assert_blind(prober.ask(&from(None, Some("up9"), None)).await, "cannot ping on up9");
        assert_blind(prober.ask(&from(Some("2001:db8::2"), None, None)).await, "different families");
    });
}

/// Addresses of a whole network that all answer, as `lo` does for 127.0.0.0/8.
fn many_targets() -> Netns {
    let ns = Netns::new();
    ns.ip("route add local 198.18.0.0/16 dev lo");
    ns
}

fn target(n: u32) -> String {
    std::net::Ipv4Addr::from(u32::from_be_bytes([198, 18, 0, 0]) + n).to_string()
}

/// LAB: the default receive buffer loses replies of 1,000 targets in a burst.
#[test]
fn thousands_of_targets_in_one_burst_lose_no_reply() {
    many_targets().block_on(async || {
        let mut prober = Prober::new();
        for _ in 0..3 {
            for n in 1..=5_000 {
                prober.start(&ping_check(ping(&target(n))));
            }
            for _ in 1..=5_000 {
                assert_success(prober.next().await.1);
            }
        }
    });
}

/// SPEC 4: receive-queue drops count as neither.
#[test]
fn an_overflowed_receive_queue_is_blind() {
    many_targets().block_on(async || {
        let mut prober = Prober::new();
        for n in 1..=3_000 {
            let mut large = ping(&target(n));
            large.size = 8_000;
            prober.start(&check(Probe::Ping(large), Duration::from_secs(3)));
        }
        let mut blind = 0;
        for _ in 1..=3_000 {
            match prober.next().await.1 {
                Outcome::Success { .. } => {}
                Outcome::Blind(why) => blind += u32::from(why.contains("queue overflowed")),
                failure => panic!("{failure:?}"),
            }
        }
        assert!(blind > 0, "the queue did not overflow");
    });
}

/// FIELD 9: a process that was stopped wakes up; its late look at the replies is no failure.
#[test]
fn a_probe_that_slept_over_its_timeout_is_no_failure() {
    let (standby, router) = standby_and_router();
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i icmp type echo-request drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        for to in ["2001:db8::1", "192.0.2.1"] {
            prober.start(&check(Probe::Ping(ping(to)), Duration::from_millis(100)));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            // As SIGSTOP would.
            std::thread::sleep(Duration::from_millis(600));
            let outcome = prober.next().await.1;
            assert!(!matches!(outcome, Outcome::Failure(_)), "{outcome:?}");
        }
    });
}

#[test]
fn a_cancelled_ping_says_nothing_more() {
    let (standby, router) = standby_and_router();
    router.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i icmp type echo-request drop");
    standby.block_on(async || {
        let mut prober = Prober::new();
        let silent = prober.start(&check(Probe::Ping(ping("192.0.2.1")), Duration::from_millis(100)));
        tokio::task::yield_now().await;
        prober.probes.cancel(silent);
        // This one's outcome comes later than that of the other would have.
        let slower = check(Probe::Ping(ping("192.0.2.1")), Duration::from_millis(300));
        assert_failure(prober.ask(&slower).await, "no reply");
        assert!(!prober.has_news());
    });
}

#[test]
fn an_address_inside_our_own_prefix_is_not_asked() {
    Netns::new().block_on(async || {
        let mut prober = Prober::new();
        prober.start_beside(&ping_check(ping("127.0.0.7")), &["127.0.0.0/8".parse().unwrap()]);
        let why = "127.0.0.7 is inside our own announced prefix 127.0.0.0/8: we would be asking ourselves";
        assert_blind(prober.next().await.1, why);
    });
}
