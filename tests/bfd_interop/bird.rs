//! BIRD 2.

use announcerd::demo::lab::Bird;
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Pair, THEM, US, bfd, check, detail, in_real_time, until, until_agreed, until_up};

/// A BIRD whose BFD has these lines for its interface, and this neighbour.
pub fn config(interface: &str, neighbour: &str) -> String {
    format!(
        "log stderr all;
        router id 203.0.113.1;
        protocol device {{}}
        protocol bfd b {{
            interface \"*\" {{ {interface} }};
            multihop {{ {interface} }};
            neighbor {neighbour};
        }}"
    )
}

/// Its line of `show bfd sessions`: address, interface, state, since, interval, timeout.
fn session(bird: &Bird) -> Vec<String> {
    let answer = bird.ask("show bfd sessions").unwrap();
    let line = answer.lines().find(|l| l.contains(':') && l.contains('.') && !l.starts_with("b:"));
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

pub fn is_up(bird: &Bird) -> bool {
    session(bird).get(2).is_some_and(|state| state == "Up")
}

const ON_LINK: &str = "203.0.113.2 dev \"customer\" local 203.0.113.1";

/// Up each way; intervals change on either side by a Poll Sequence, and nothing goes down for it (FIELD 22: Final bits
/// that are missing, replies that wait for the transmitter); we leave by AdminDown.
#[test]
fn up_polls_and_admin_down() {
    let pair = Pair::new();
    let slow = "min rx interval 200 ms; min tx interval 200 ms; multiplier 4;";
    let mut bird = Bird::start(&pair.them, &config(slow, ON_LINK)).unwrap();
    in_real_time(bird.daemon());
    let host = format!("host = \"{THEM}\"\nlocal_address = \"{US}\"\n");
    let mut node = pair.node(&format!("{host}interval = \"100ms\"\nmultiplier = 5"));
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird));
    until_agreed(&node, 200_000, 200_000);
    let d = detail(&node);
    assert_eq!((d.multiplier, d.remote_multiplier, d.detection_time_us), (5, 4, 800_000), "{d:?}");
    let since = session(&bird)[3].clone();

    pair.reload(&format!("{host}interval = \"500ms\"\nmultiplier = 5"));
    until_agreed(&node, 500_000, 500_000);
    until("BIRD's interval", &node, || session(&bird).get(4).is_some_and(|i| i == "0.500"));
    pair.reload(&format!("{host}interval = \"50ms\"\nmultiplier = 6"));
    until_agreed(&node, 200_000, 200_000);

    let fast = config("min rx interval 50 ms; min tx interval 50 ms; multiplier 6;", ON_LINK);
    pair.them.write("/run/bird/bird.conf", fast).unwrap();
    bird.ask("configure").unwrap();
    until_agreed(&node, 50_000, 50_000);
    until("BIRD's timeout", &node, || session(&bird).get(5).is_some_and(|t| t == "0.300"));
    assert_eq!(detail(&node).down, 0, "{:?}", bfd(&node));
    assert_eq!(session(&bird)[3], since, "BIRD's session never went down");

    node.daemon().signal(Signal::SIGTERM).unwrap();
    assert!(node.daemon().wait(LIMIT).unwrap().success());
    until("BIRD to hear of it", &node, || !is_up(&bird));
}

/// To BIRD another path to it is the same session: who leaves by the old one is silent, and the new one comes up once.
#[test]
fn a_reload_that_names_our_address_costs_one_handshake() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 5;";
    let bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    let node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"100ms\"\nmultiplier = 5"));
    until_up(&node);
    until_agreed(&node, 100_000, 100_000);
    let before = bfd(&node).id;
    pair.reload(&format!(
        "host = \"{THEM}\"\nlocal_address = \"{US}\"\ninterval = \"100ms\"\nmultiplier = 5"
    ));
    until("another session", &node, || bfd(&node).id != before);
    // Longer than the old one would have spoken.
    until("the new one", &node, || detail(&node).received >= 30);
    until_up(&node);
    assert_eq!((detail(&node).up, detail(&node).down), (1, 0), "{}", node.log());
    assert!(is_up(&bird));
}

/// BIRD dies and comes back: down by silence, up again.
#[test]
fn a_neighbour_that_dies_and_returns() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
    let mut bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    let node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"100ms\""));
    until_up(&node);
    bird.daemon().kill();
    until("down", &node, || check(&node).verdict == "down");
    let row = bfd(&node);
    assert_eq!(row.diagnostic, "Control Detection Time Expired", "{row:?}");
    assert_eq!(row.checks, ["neighbour"]);
    drop(bird);
    let _bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    until_up(&node);
}

/// IPv6, from and to global addresses.
#[test]
fn ipv6() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
    let neighbour = "2001:db8::2 dev \"customer\" local 2001:db8::1";
    let bird = Bird::start(&pair.them, &config(lines, neighbour)).unwrap();
    let node = pair.node("host = \"2001:db8::1\"\ninterval = \"100ms\"");
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird) && session(&bird)[0] == "2001:db8::2");
    until_agreed(&node, 100_000, 100_000);
}

/// The same between link-local addresses, which say nothing without a device.
#[test]
fn ipv6_link_local() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
    let neighbour = "fe80::2 dev \"customer\" local fe80::1";
    let bird = Bird::start(&pair.them, &config(lines, neighbour)).unwrap();
    let node = pair.node("host = \"fe80::1\"\ndevice = \"uplink\"\ninterval = \"100ms\"");
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird) && session(&bird)[0] == "fe80::2");
    until_agreed(&node, 100_000, 100_000);
    pair.silence();
    until("down", &node, || check(&node).verdict == "down" && !is_up(&bird));
    pair.unsilence();
    until_up(&node);
}

/// RFC 5883 over IPv6, over a router. BIRD 2.0 sends these with hop limit 64, and not 255 as over IPv4: what is farther away
/// than a number of hops cannot be told.
#[test]
fn ipv6_multihop() {
    let pair = Pair::routed();
    let lines = "min rx interval 300 ms; min tx interval 300 ms; multiplier 3;";
    let neighbour = "2001:db8::2 local 2001:db8:1::1 multihop";
    let bird = Bird::start(&pair.them, &config(lines, neighbour)).unwrap();
    let host =
        "host = \"2001:db8:1::1\"\nlocal_address = \"2001:db8::2\"\ninterval = \"400ms\"\nmultiplier = 3\n";
    let node = pair.node(&format!("{host}multihop = true"));
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird) && session(&bird)[0] == "2001:db8::2");
    until_agreed(&node, 400_000, 400_000);
    pair.silence();
    until("down", &node, || check(&node).verdict == "down" && !is_up(&bird));
    pair.unsilence();
    until_up(&node);

    // RFC 5082: by the hop limit it is too far away now, whichever BIRD takes.
    pair.reload(&format!("{host}multihop = 1"));
    until("too far away", &node, || check(&node).verdict == "down" && bfd(&node).state == "Down");
}

/// FIELD 22: multihop on its own port; over a router, where the single-hop kind must not come up (RFC 5881 section 5).
#[test]
fn multihop() {
    let pair = Pair::routed();
    let lines = "min rx interval 300 ms; min tx interval 300 ms; multiplier 3;";
    let neighbour = "203.0.113.2 local 198.18.0.1 multihop";
    let bird = Bird::start(&pair.them, &config(lines, neighbour)).unwrap();
    let node = pair.node("host = \"198.18.0.1\"\nlocal_address = \"203.0.113.2\"\nmultihop = true");
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird));
    // FIELD 21: the default over several hops is slower, and has a larger multiplier.
    until_agreed(&node, 1_000_000, 1_000_000);
    assert_eq!(detail(&node).multiplier, 5);

    pair.reload("host = \"198.18.0.1\"");
    until("no session without multihop", &node, || check(&node).verdict == "down");
    assert!(detail(&node).received == 0 && !is_up(&bird));
}

/// We wait for the neighbour to speak, and it for us to be there.
#[test]
fn passive() {
    let pair = Pair::new();
    let node = pair.node(&format!("host = \"{THEM}\"\npassive = true\ninterval = \"100ms\""));
    until("nobody", &node, || check(&node).verdict == "down");
    assert_eq!(detail(&node).sent, 0);
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
    let bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird));
}

/// RFC 9384 and SPEC 4: another BFD daemon on our own machine is our trouble, and nobody's death.
#[test]
fn a_port_that_is_taken_is_no_evidence() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
    let ours = config(lines, "203.0.113.1 dev \"uplink\" local 203.0.113.2");
    let mut in_the_way = Bird::start(&pair.us, &ours).unwrap();
    let _bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    let node = pair.node(&format!("host = \"{THEM}\""));
    until("the trouble", &node, || bfd(&node).trouble.is_some_and(|t| t.contains("3784")));
    assert_eq!(check(&node).verdict, "unknown");
    in_the_way.daemon().kill();
    until_up(&node);
    assert_eq!(bfd(&node).trouble, None);
}

/// A packet that the kernel refuses is sent again by a new socket at once: BIRD, which misses us after 900 ms, does not.
#[test]
fn a_packet_that_is_refused_once_is_not_missed() {
    let pair = Pair::new();
    let bird = Bird::start(
        &pair.them,
        &config("min rx interval 300 ms; min tx interval 300 ms; multiplier 3;", ON_LINK),
    )
    .unwrap();
    let node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"300ms\"\nmultiplier = 3"));
    until_up(&node);
    until_agreed(&node, 300_000, 300_000);
    // Two packets of 52 octets: the first try, and the one that a waiting ICMP error would need.
    let rules = "add table inet refuse
        add chain inet refuse out { type filter hook output priority 0; }
        add rule inet refuse out udp dport 3784 quota until 110 bytes counter drop";
    pair.us.write("/run/refuse.nft", rules).unwrap();
    let before = detail(&node).sent;
    pair.us.run(&["nft", "-f", "/run/refuse.nft"]).unwrap();
    until("the refusals", &node, || {
        pair.us.run(&["nft", "list", "table", "inet", "refuse"]).unwrap().contains("packets 2 ")
    });
    until("more packets", &node, || detail(&node).sent >= before + 8);
    assert_eq!(detail(&node).down, 0, "{}", node.log());
    assert!(is_up(&bird) && bfd(&node).trouble.is_none());
}

/// The last session takes the ports with it: another BFD may have them.
#[test]
fn the_last_session_leaves_the_ports_free() {
    let pair = Pair::new();
    let node = pair.node(&format!("host = \"{THEM}\""));
    let held = || pair.us.run(&["ss", "-Hlun", "sport = :3784"]).unwrap();
    until("the port", &node, || !held().is_empty());
    let without = std::fs::read_to_string(pair.us.path(announcerd::demo::lab::node::CONFIG)).unwrap();
    let without = without.replace("type = \"bfd\"", "type = \"link\"\ndevice = \"uplink\"");
    let without = without.replace(&format!("host = \"{THEM}\""), "");
    pair.us.write(announcerd::demo::lab::node::CONFIG, without).unwrap();
    pair.us.run(&[env!("CARGO_BIN_EXE_announcerctl"), "reload"]).unwrap();
    until("the port to be free", &node, || held().is_empty());
}
