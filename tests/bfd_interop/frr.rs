//! FRR's bfdd.

use announcerd::demo::lab::{Daemon, Host};

use crate::rig::{Pair, THEM, bfd, check, detail, start, until, until_agreed, until_up};

pub struct Frr {
    host: Host,
    _daemons: Vec<Daemon>,
}

impl Frr {
    pub fn start(host: &Host, config: &str) -> Self {
        host.write("/etc/frr/frr.conf", config).unwrap();
        host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
        host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
        let run = |name: &&str| {
            let program = format!("/usr/lib/frr/{name}");
            start(host, &[&program], || host.run(&["vtysh", "-d", name, "-c", "show version"]).is_ok())
        };
        let daemons = ["zebra", "bfdd"].iter().map(run).collect();
        let frr = Frr { host: host.clone(), _daemons: daemons };
        frr.host.run(&["vtysh", "-b"]).unwrap();
        frr
    }

    pub fn set(&self, lines: &[&str]) {
        let mut words = vec!["vtysh", "-d", "bfdd", "-c", "configure", "-c", "bfd"];
        words.extend(lines.iter().flat_map(|l| ["-c", l]));
        self.host.run(&words).unwrap();
    }

    /// Its one peer.
    pub fn peer(&self) -> serde_json::Value {
        let answer = self.host.run(&["vtysh", "-d", "bfdd", "-c", "show bfd peers json"]).unwrap_or_default();
        let all: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        all[0].clone()
    }

    fn is(&self, state: &str) -> bool {
        self.peer()["status"] == state
    }
}

const PEER: &str = "peer 203.0.113.2 local-address 203.0.113.1 interface customer";

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
