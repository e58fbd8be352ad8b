//! BFD beside a BGP session, with BIRD.

use announcerd::demo::lab::{Bird, Node};

use crate::frr::{Frr, PEER};
use crate::rig::{Pair, bfd, detail, program, until};

fn bird(with_bfd: bool) -> String {
    let (protocol, guard) = match with_bfd {
        true => (
            "protocol bfd b { interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }",
            "bfd on;",
        ),
        false => ("", ""),
    };
    format!(
        "log stderr all;
        router id 203.0.113.1;
        protocol device {{}}
        {protocol}
        protocol bgp announcerd {{
            local 203.0.113.1 as 64500;
            neighbor 203.0.113.2 as 64501;
            connect delay time 1;
            connect retry time 1;
            error wait time 1, 2;
            {guard}
            ipv4 {{ import all; export none; }};
        }}"
    )
}

fn node(pair: &Pair, guard: &str) -> Node {
    let config = format!(
        r#"
        [node]
        router_id = "203.0.113.2"
        [[bgp]]
        name = "peer"
        peer = "203.0.113.1"
        peer_as = 64500
        local_as = 64501
        hold_time = "90s"
        connect_retry = "1s"
        families = ["ipv4"]
        bfd = {guard}
        [[instance]]
        name = "service"
        [[instance.announce]]
        prefixes = ["198.51.100.0/24"]
        master = {{ med = 0 }}
        "#
    );
    Node::start(&pair.us, program(), &config).unwrap_or_else(|e| panic!("{e}"))
}

fn session(node: &Node) -> String {
    node.status().unwrap().bgp.first().map(|b| b.state.clone()).unwrap_or_default()
}

/// RFC 9384: Cease, subcode 10, at once; the hold timer of 90 s is not awaited. FIELD 20: half-open TCP goes unseen.
#[test]
fn bfd_down_closes_the_session() {
    let pair = Pair::new();
    let bird = Bird::start(&pair.them, &bird(true)).unwrap();
    let node = node(&pair, "{ interval = \"100ms\", multiplier = 3 }");
    until("both", &node, || session(&node) == "Established" && bfd(&node).state == "Up");
    assert_eq!(bfd(&node).peers, ["peer"]);
    // BFD alone is silent: it is BFD that closes the session.
    pair.silence();
    until("Cease / BFD Down", &node, || node.log().contains("closed by us: Cease/BFD Down"));
    pair.unsilence();
    until("both again", &node, || session(&node) == "Established" && bfd(&node).state == "Up");
    assert!(bird.established("announcerd"));
}

/// RFC 5882 section 3.2: "AdminDown … does not imply any connectivity loss": who shuts BFD down in bfdd keeps the session, and
/// so does who wants it again.
#[test]
fn admin_down_in_frr_leaves_the_session() {
    let pair = Pair::new();
    let config = format!(
        "bfd\n {PEER}\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n\
         router bgp 64500\n bgp router-id 203.0.113.1\n no bgp ebgp-requires-policy\n \
         neighbor 203.0.113.2 remote-as 64501\n neighbor 203.0.113.2 timers connect 1\nexit\n"
    );
    let frr = Frr::start_all(&pair.them, &config, &["zebra", "bfdd", "bgpd"]);
    let peer = || frr.show("bgpd", "show bgp neighbors 203.0.113.2 json")["203.0.113.2"].clone();
    let node = node(&pair, "{ interval = \"100ms\", multiplier = 3 }");
    let both = || session(&node) == "Established" && bfd(&node).state == "Up";
    until("both", &node, both);
    until("FRR's session", &node, || peer()["bgpState"] == "Established");
    for _ in 0..2 {
        frr.set(&[PEER, "shutdown"]);
        until("AdminDown to be heard", &node, || {
            let row = bfd(&node);
            (row.state.as_str(), row.remote_state.as_str()) == ("Down", "AdminDown")
        });
        // Ours says that it is Down: FRR has heard that, and we have stayed.
        let detection = detail(&node).received + 5;
        until("some more of it", &node, || detail(&node).received >= detection);
        assert_eq!(session(&node), "Established");
        frr.set(&[PEER, "no shutdown"]);
        until("BFD again", &node, both);
    }
    assert_eq!(peer()["connectionsEstablished"], 1, "{}", peer());
    assert!(!node.log().contains("BFD Down"), "{}", node.log());
    // It guards the session all the same.
    pair.silence();
    until("Cease / BFD Down", &node, || node.log().contains("closed by us: Cease/BFD Down"));
}

/// Strict: no session before BFD is Up; then it is there.
#[test]
fn a_strict_session_waits() {
    let pair = Pair::new();
    let first = Bird::start(&pair.them, &bird(false)).unwrap();
    let node = node(&pair, "{ interval = \"100ms\", strict = true, hold_time = \"4s\" }");
    until("OpenConfirm", &node, || session(&node) == "OpenConfirm");
    until("the end of the wait", &node, || node.log().contains("Cease/BFD Down"));
    assert!(!node.log().contains("BGP session established") && !first.established("announcerd"));
    drop(first);
    let bird = Bird::start(&pair.them, &bird(true)).unwrap();
    until("both", &node, || session(&node) == "Established" && bfd(&node).state == "Up");
    until("BIRD to have the route", &node, || bird.route("198.51.100.0/24", "announcerd").is_some());
}

/// The same with FRR as a cloud's route server: at first its operator forgot BFD. When BFD goes down later, nobody is
/// Established again before it is back.
#[test]
fn a_strict_session_waits_for_frr() {
    let pair = Pair::new();
    let config = "
router bgp 64500
 bgp router-id 203.0.113.1
 no bgp ebgp-requires-policy
 neighbor 203.0.113.2 remote-as 64501
 neighbor 203.0.113.2 timers connect 1
exit
";
    let frr = Frr::start_all(&pair.them, config, &["zebra", "bfdd", "bgpd"]);
    let established = || {
        let peer = frr.show("bgpd", "show bgp neighbors 203.0.113.2 json")["203.0.113.2"].clone();
        peer["connectionsEstablished"].as_u64().unwrap_or_default()
    };
    let node = node(&pair, "{ interval = \"100ms\", strict = true, hold_time = \"3s\" }");
    until("OpenConfirm", &node, || session(&node) == "OpenConfirm");
    until("the end of the wait", &node, || node.log().contains("Cease/BFD Down"));
    assert!(!node.log().contains("BGP session established") && established() == 0);

    frr.set_in("bgpd", &["router bgp 64500", "neighbor 203.0.113.2 bfd"]);
    until("both", &node, || session(&node) == "Established" && bfd(&node).state == "Up");
    let has_route = || {
        let route = frr.show("bgpd", "show bgp ipv4 unicast 198.51.100.0/24 json");
        route["paths"][0]["valid"] == true
    };
    until("FRR to have the route", &node, has_route);
    let (times, closed) = (established(), || node.log().matches("Cease/BFD Down").count());
    let before = closed();
    pair.silence();
    until("the end of the session and of a wait", &node, || closed() >= before + 2 && !has_route());
    assert_eq!(established(), times, "{}", node.log());
    pair.unsilence();
    until("both again", &node, || session(&node) == "Established" && bfd(&node).state == "Up");
    until("FRR to have the route", &node, has_route);
}
