//! FRR's bfdd.

use announcerd::demo::lab::{Daemon, Host};

use crate::rig::{Pair, THEM, bfd, check, detail, in_real_time, start, until, until_agreed, until_up};

pub struct Frr {
    host: Host,
    daemons: Vec<Daemon>,
}

impl Frr {
    /// zebra and bfdd.
    pub fn start(host: &Host, config: &str) -> Self {
        Self::start_all(host, config, &["zebra", "bfdd"])
    }

    pub fn start_all(host: &Host, config: &str, daemons: &[&str]) -> Self {
        host.write("/etc/frr/frr.conf", config).unwrap();
        host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
        host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
        let run = |name: &&str| {
            let program = format!("/usr/lib/frr/{name}");
            start(host, &[&program], || host.run(&["vtysh", "-d", name, "-c", "show version"]).is_ok())
        };
        let daemons = daemons.iter().map(run).collect();
        let frr = Frr { host: host.clone(), daemons };
        frr.host.run(&["vtysh", "-b"]).unwrap();
        frr
    }

    pub fn in_real_time(&self) {
        self.daemons.iter().for_each(in_real_time);
    }

    /// What bfdd is told.
    pub fn set(&self, lines: &[&str]) {
        self.set_in("bfdd", &[&["bfd"][..], lines].concat());
    }

    pub fn set_in(&self, daemon: &str, lines: &[&str]) {
        let mut words = vec!["vtysh", "-d", daemon, "-c", "configure"];
        words.extend(lines.iter().flat_map(|l| ["-c", l]));
        self.host.run(&words).unwrap();
    }

    /// Its one peer.
    pub fn peer(&self) -> serde_json::Value {
        self.show("bfdd", "show bfd peers json")[0].clone()
    }

    /// The peer with that address.
    fn peer_of(&self, address: &str) -> serde_json::Value {
        let all = self.show("bfdd", "show bfd peers json");
        let mut all = all.as_array().into_iter().flatten();
        all.find(|p| p["peer"] == address).cloned().unwrap_or_default()
    }

    /// What one of its daemons shows; null if it does not.
    pub fn show(&self, daemon: &str, command: &str) -> serde_json::Value {
        let answer = self.host.run(&["vtysh", "-d", daemon, "-c", command]).unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_default()
    }

    fn is(&self, state: &str) -> bool {
        self.peer()["status"] == state
    }
}

pub const PEER: &str = "peer 203.0.113.2 local-address 203.0.113.1 interface customer";

/// Up each way; intervals change on either side by a Poll Sequence; AdminDown in both directions is no failure.
#[test]
fn up_polls_and_admin_down() {
    let pair = Pair::new();
    let config = format!(
        "bfd\n {PEER}\n  detect-multiplier 4\n  receive-interval 200\n  transmit-interval 200\n exit\nexit\n"
    );
    let frr = Frr::start(&pair.them, &config);
    let host = format!("host = \"{THEM}\"\n");
    let node = pair.node(&format!("{host}interval = \"100ms\"\nmultiplier = 5"));
    until_up(&node);
    until("FRR to be up", &node, || frr.is("up"));
    until_agreed(&node, 200_000, 200_000);
    assert_eq!(detail(&node).detection_time_us, 800_000);

    pair.reload(&format!("{host}interval = \"400ms\"\nmultiplier = 5"));
    until_agreed(&node, 400_000, 400_000);
    until("FRR to know", &node, || frr.peer()["remote-receive-interval"] == 400);
    frr.set(&[PEER, "receive-interval 50", "transmit-interval 600"]);
    until_agreed(&node, 400_000, 600_000);
    frr.set(&[PEER, "receive-interval 50", "transmit-interval 50"]);
    pair.reload(&format!("{host}interval = \"50ms\"\nmultiplier = 3"));
    until_agreed(&node, 50_000, 50_000);
    assert_eq!(detail(&node).down, 0, "{:?}", bfd(&node));

    // RFC 5882 section 3.2.
    frr.set(&[PEER, "shutdown"]);
    until("AdminDown to be heard", &node, || bfd(&node).remote_state == "AdminDown");
    until("unknown", &node, || check(&node).verdict == "unknown");
    frr.set(&[PEER, "no shutdown"]);
    until_up(&node);
    until("FRR to be up again", &node, || frr.is("up"));

    // Ours: the check goes, and its session with it.
    let other = "host = \"203.0.113.99\"\n";
    pair.reload(other);
    until("FRR to hear AdminDown", &node, || {
        let peer = frr.peer();
        frr.is("down")
            && peer["remote-diagnostic"].as_str().is_some_and(|d| d.contains("administratively down"))
    });
}

/// FIELD 22: over a router, on the other port. FRR wants a TTL of at least 254 there.
#[test]
fn multihop() {
    let pair = Pair::routed();
    let config = "bfd\n peer 203.0.113.2 multihop local-address 198.18.0.1\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n";
    let frr = Frr::start(&pair.them, config);
    let node = pair.node(
        "host = \"198.18.0.1\"\nlocal_address = \"203.0.113.2\"\nmultihop = 2\ninterval = \"400ms\"\nmultiplier = 3",
    );
    until_up(&node);
    until("FRR to be up", &node, || frr.is("up"));
    until_agreed(&node, 400_000, 400_000);
    pair.silence();
    until("down", &node, || check(&node).verdict == "down");
    pair.unsilence();
    until_up(&node);

    // One hop is not enough: RFC 5082's rule by the number of hops.
    pair.reload("host = \"198.18.0.1\"\nlocal_address = \"203.0.113.2\"\nmultihop = 1\ninterval = \"400ms\"\nmultiplier = 3");
    until("too far away", &node, || check(&node).verdict == "down" && bfd(&node).state == "Down");
}

/// The same over IPv6.
#[test]
fn ipv6_multihop() {
    let pair = Pair::routed();
    let config = "bfd\n peer 2001:db8::2 multihop local-address 2001:db8:1::1\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n";
    let frr = Frr::start(&pair.them, config);
    let node = pair.node(
        "host = \"2001:db8:1::1\"\nlocal_address = \"2001:db8::2\"\nmultihop = 2\ninterval = \"400ms\"\nmultiplier = 3",
    );
    until_up(&node);
    until("FRR to be up", &node, || frr.is("up"));
    until_agreed(&node, 400_000, 400_000);
    pair.silence();
    until("down", &node, || check(&node).verdict == "down" && frr.is("down"));
    pair.unsilence();
    until_up(&node);
}

/// Between link-local addresses, and between global ones on the same link.
#[test]
fn ipv6_on_a_link() {
    let pair = Pair::new();
    let peers = ["fe80::2 local-address fe80::1", "2001:db8::2 local-address 2001:db8::1"];
    let peers = peers.map(|peer| {
        format!(" peer {peer} interface customer\n  receive-interval 100\n  transmit-interval 100\n exit\n")
    });
    let frr = Frr::start(&pair.them, &format!("bfd\n{}exit\n", peers.concat()));
    let node = pair.node("host = \"fe80::1\"\ndevice = \"uplink\"\ninterval = \"100ms\"");
    until_up(&node);
    until("FRR to be up", &node, || frr.peer_of("fe80::2")["status"] == "up");
    until_agreed(&node, 100_000, 100_000);
    pair.silence();
    until("down", &node, || check(&node).verdict == "down" && frr.peer_of("fe80::2")["status"] == "down");
    pair.unsilence();
    until_up(&node);

    pair.reload("host = \"2001:db8::1\"\ninterval = \"100ms\"");
    until_up(&node);
    until("FRR to be up", &node, || frr.peer_of("2001:db8::2")["status"] == "up");
    until_agreed(&node, 100_000, 100_000);
}
