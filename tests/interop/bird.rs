//! BIRD 2: every attribute as it sees it; active, passive, IPv6 transport; MD5, GTSM, roles.

use announcerd::demo::lab::Bird;
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, PREFIX, PREFIX6, Pair, ctl, peer_status, until};

const BIRD: &str = r#"
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol bgp announcerd {
    local LOCAL as 64500;
    neighbor NEIGHBOR as 64501;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    MORE
    ipv4 { import all; export none; EXTENDED };
    ipv6 { import all; export none; };
}
"#;

pub fn bird(pair: &Pair, more: &str) -> Bird {
    let config = BIRD.replace("LOCAL", "203.0.113.1").replace("NEIGHBOR", "203.0.113.2");
    Bird::start(&pair.them, &config.replace("MORE", more).replace("EXTENDED", "")).unwrap()
}

/// Over IPv6, IPv4 prefixes with IPv6 next hops (RFC 8950).
pub fn over_ipv6(pair: &Pair, more: &str) -> Bird {
    let config = BIRD.replace("LOCAL", "2001:db8::1").replace("NEIGHBOR", "2001:db8::2");
    let config = config.replace("MORE", more).replace("EXTENDED", "extended next hop on;");
    Bird::start(&pair.them, &config).unwrap()
}

/// Both prefixes with all attributes arrive, and go.
fn all_arrives_and_goes(pair: &Pair, bird: &Bird, node: &announcerd::demo::lab::Node) {
    pair.wait_advertised(node);
    for (prefix, next_hop) in [(PREFIX, "203.0.113.2"), (PREFIX6, "2001:db8::2")] {
        until(prefix, node, || bird.route(prefix, "announcerd").is_some());
        let route = bird.route(prefix, "announcerd").unwrap();
        for attribute in [
            "BGP.origin: IGP",
            "BGP.as_path: 64501 64501 64501\n",
            &format!("BGP.next_hop: {next_hop}"),
            "BGP.med: 77",
            "BGP.community: (64501,100) (65535,65281)",
            "BGP.ext_community: (rt, 64501, 9)",
            "BGP.large_community: (64501, 7, 8)",
        ] {
            assert!(route.contains(attribute), "no {attribute} in {route}");
        }
    }
    pair.healthy(false);
    until("the withdraw", node, || [PREFIX, PREFIX6].iter().all(|p| bird.route(p, "announcerd").is_none()));
    assert!(bird.established("announcerd"));
    pair.healthy(true);
    until("the return", node, || [PREFIX, PREFIX6].iter().all(|p| bird.route(p, "announcerd").is_some()));
}

#[test]
fn bird_sees_every_attribute() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "");
    let node = pair.node("");
    all_arrives_and_goes(&pair, &bird, &node);
}

#[test]
fn we_connect_to_a_passive_bird() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "passive on;");
    let node = pair.node("");
    all_arrives_and_goes(&pair, &bird, &node);
}

#[test]
fn bird_connects_to_us_when_we_are_passive() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "");
    let node = pair.node("passive = true");
    all_arrives_and_goes(&pair, &bird, &node);
}

#[test]
fn a_session_over_ipv6_carries_both_families() {
    let pair = Pair::new(&[]);
    let config = BIRD.replace("LOCAL", "2001:db8::1").replace("NEIGHBOR", "2001:db8::2");
    let bird = Bird::start(&pair.them, &config.replace("MORE", "").replace("EXTENDED", "")).unwrap();
    let node = pair.node_to("2001:db8::1", "");
    all_arrives_and_goes(&pair, &bird, &node);
}

/// RFC 8950: IPv4 prefixes with an IPv6 next hop, where BIRD agrees to it.
#[test]
fn ipv4_by_way_of_ipv6() {
    let pair = Pair::new(&[]);
    let bird = over_ipv6(&pair, "");
    let node = pair.node_to("2001:db8::1", "next_hop = \"2001:db8::2\"");
    pair.wait_advertised(&node);
    for prefix in [PREFIX, PREFIX6] {
        until(prefix, &node, || {
            bird.route(prefix, "announcerd").is_some_and(|r| r.contains("BGP.next_hop: 2001:db8::2"))
        });
    }
}

/// RFC 4271 section 6.5: a peer that falls silent is noticed after the hold time, and is told all again later.
#[test]
fn a_silent_peer_is_noticed() {
    let pair = Pair::new(&[]);
    let mut bird = bird(&pair, "");
    let node = pair.node("hold_time = \"3s\"");
    pair.wait_advertised(&node);
    bird.daemon().signal(Signal::SIGSTOP).unwrap();
    until("the hold timer", &node, || pair.error().is_some_and(|e| e.to_lowercase().contains("hold")));
    assert_ne!(peer_status(&pair.us, "peer").unwrap().state, "Established");
    bird.daemon().signal(Signal::SIGCONT).unwrap();
    all_arrives_and_goes(&pair, &bird, &node);
}

/// RFC 2385 and RFC 5082 together, by the configuration alone.
#[test]
fn md5_and_gtsm() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "password \"s3cret\"; ttl security on;");
    let node = pair.node(&pair.keyed());
    all_arrives_and_goes(&pair, &bird, &node);
}

/// The same where the peer connects: the listener has the key and the hop count, too.
#[test]
fn md5_and_gtsm_passive() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "password \"s3cret\"; ttl security on;");
    let node = pair.node(&(pair.keyed() + "\npassive = true"));
    all_arrives_and_goes(&pair, &bird, &node);
}

#[test]
fn another_md5_key_is_no_session() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "password \"s3cret\"; ttl security on; passive on;");
    let node = pair.node(&pair.keyed_by("another"));
    until("the reason", &node, || pair.error().is_some());
    let status = peer_status(&pair.us, "peer").unwrap();
    assert_ne!(status.state, "Established");
    assert!(status.last_error.as_ref().unwrap().contains("MD5"), "{status:?}");
    assert!(!bird.established("announcerd"));
}

/// RFC 5082: a peer that is too far away (its TTL is 1, as BGP's was before GTSM) is not heard, and does not hear us.
#[test]
fn another_hop_count_is_no_session() {
    for (theirs, ours) in [("ttl security on; passive on;", ""), ("passive on;", "ttl_security = true")] {
        let pair = Pair::new(&[]);
        let bird = bird(&pair, theirs);
        let node = pair.node(&format!("hold_time = \"9s\"\n{ours}"));
        // Its words depend on who drops what: BIRD lets a SYN pass and looks at what follows it.
        until("the reason", &node, || pair.error().is_some());
        assert_ne!(peer_status(&pair.us, "peer").unwrap().state, "Established");
        assert!(!bird.established("announcerd"));
    }
}

/// RFC 9234: customer to provider is right.
#[test]
fn the_right_role() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "local role provider;");
    let node = pair.node("role = \"customer\"");
    all_arrives_and_goes(&pair, &bird, &node);
}

/// RFC 9234 section 4.2: two customers have no session, and both say why.
#[test]
fn role_mismatch_is_refused() {
    let pair = Pair::new(&[]);
    let bird = bird(&pair, "local role customer;");
    let node = pair.node("role = \"customer\"");
    until("the reason", &node, || pair.error().is_some_and(|e| e.to_lowercase().contains("role")));
    assert!(!bird.established("announcerd") && bird.route(PREFIX, "announcerd").is_none());
    assert!(ctl(&pair.us, &["status"]).to_lowercase().contains("role"));
}

/// RFC 8326, as BIRD's own import filter sees it: SIGTERM says GRACEFUL_SHUTDOWN first, and withdraws later. BIRD's log
/// keeps the order however late we read it.
#[test]
fn a_stop_tells_bird_first() {
    let pair = Pair::new(&[]);
    let filter = "import filter { print \"heard \", net, bgp_community; accept; }";
    let config = BIRD.replace("LOCAL", "203.0.113.1").replace("NEIGHBOR", "203.0.113.2");
    let config =
        config.replace("MORE", "debug { routes };").replace("EXTENDED", "").replace("import all", filter);
    let bird = Bird::start(&pair.them, &config).unwrap();
    let mut node = pair.node("");
    pair.wait_advertised(&node);
    until("the routes", &node, || [PREFIX, PREFIX6].iter().all(|p| bird.route(p, "announcerd").is_some()));
    node.daemon().signal(Signal::SIGTERM).unwrap();
    assert!(node.daemon().wait(LIMIT).unwrap().success());
    until("the withdraw", &node, || [PREFIX, PREFIX6].iter().all(|p| bird.route(p, "announcerd").is_none()));
    let log = pair.them.read("/run/bird/log");
    for prefix in [PREFIX, PREFIX6] {
        let has =
            |line: &&str, words: &[&str]| words.iter().all(|w| line.contains(w)) && line.contains(prefix);
        let at = |words: &[&str]| log.lines().position(|line| has(&line, words));
        let heard = at(&["heard", "(64501,100)"]).expect("the announcement");
        let told = at(&["heard", "(64501,100)", "(65535,0)"]).unwrap_or_else(|| panic!("no GSHUT in {log}"));
        let gone = at(&["removed"]).unwrap_or_else(|| panic!("no withdraw in {log}"));
        assert!(heard < told && told < gone, "{log}");
    }
    assert!(log.to_lowercase().contains("shutdown"), "{log}");
}
