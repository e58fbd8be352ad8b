//! Two hosts and a cable, or a router between them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use announcerd::status::{BfdDetail, BfdStatus, CheckStatus};

/// Nothing that the tests wait for takes longer, unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(40);
pub const US: &str = "203.0.113.2";
pub const THEM: &str = "203.0.113.1";

/// 203.0.113.2, 2001:db8::2 and fe80::2 are ours, .1 and ::1 the neighbour's.
pub struct Pair {
    pub us: Host,
    pub them: Host,
    _router: Option<Host>,
}

impl Pair {
    /// On one cable.
    pub fn new() -> Self {
        let (us, them) = (Host::new("us", &[]).unwrap(), host_of_them());
        connect((&us, "uplink", [203, 0, 113, 2]), (&them, "customer", [203, 0, 113, 1]));
        for (host, interface, last) in [(&us, "uplink", "2"), (&them, "customer", "1")] {
            // Instead of the one that the kernel made.
            host.run(&["ip", "-6", "address", "flush", "dev", interface, "scope", "link"]).unwrap();
            add_ipv6(host, interface, &format!("fe80::{last}"));
            add_ipv6(host, interface, &format!("2001:db8::{last}"));
        }
        Pair { us, them, _router: None }
    }

    /// With a router between them: they are at 198.18.0.1 and 2001:db8:1::1.
    pub fn routed() -> Self {
        let (us, them) = (Host::new("us", &[]).unwrap(), host_of_them());
        let router = Host::new("router", &[]).unwrap();
        router.sysctl("net/ipv4/ip_forward", "1").unwrap();
        connect((&us, "uplink", [203, 0, 113, 2]), (&router, "customer", [203, 0, 113, 1]));
        connect((&router, "far", [198, 18, 0, 2]), (&them, "customer", [198, 18, 0, 1]));
        us.run(&["ip", "route", "add", "default", "via", "203.0.113.1"]).unwrap();
        them.run(&["ip", "route", "add", "default", "via", "198.18.0.2"]).unwrap();
        router.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
        add_ipv6(&router, "customer", "2001:db8::1");
        add_ipv6(&router, "far", "2001:db8:1::2");
        for (host, interface, address, via) in [
            (&us, "uplink", "2001:db8::2", "2001:db8::1"),
            (&them, "customer", "2001:db8:1::1", "2001:db8:1::2"),
        ] {
            add_ipv6(host, interface, address);
            host.run(&["ip", "-6", "route", "add", "default", "via", via]).unwrap();
        }
        Pair { us, them, _router: Some(router) }
    }

    /// announcerd with one check of type `bfd`, named `neighbour`, and an instance of which that is the primary.
    pub fn node(&self, check: &str) -> Node {
        Node::start(&self.us, program(), &config(check)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Another check, taken by a reload.
    pub fn reload(&self, check: &str) {
        self.us.write(CONFIG, config(check)).unwrap();
        self.us.run(&[env!("CARGO_BIN_EXE_announcerctl"), "reload"]).unwrap();
    }

    /// What comes to us by BFD is dropped from now on, without a word.
    pub fn silence(&self) {
        let rules = "add table inet cut
            add chain inet cut in { type filter hook input priority 0; }
            add rule inet cut in udp dport { 3784, 4784 } drop";
        self.us.write("/run/cut.nft", rules).unwrap();
        self.us.run(&["nft", "-f", "/run/cut.nft"]).unwrap();
    }

    pub fn unsilence(&self) {
        self.us.run(&["nft", "delete", "table", "inet", "cut"]).unwrap();
    }
}

/// At once: nobody asks whether somebody has it already.
fn add_ipv6(host: &Host, interface: &str, address: &str) {
    let address = format!("{address}/64");
    host.run(&["ip", "-6", "address", "add", &address, "dev", interface, "nodad"]).unwrap();
}

fn host_of_them() -> Host {
    Host::new("them", &["/etc/frr", "/var/log", "/etc/keepalived"]).unwrap()
}

fn connect(a: (&Host, &str, [u8; 4]), b: (&Host, &str, [u8; 4])) {
    fn end<'a>((host, interface, address): (&'a Host, &'a str, [u8; 4])) -> End<'a> {
        End { host, interface, address: Ipv4Addr::from(address) }
    }
    wire::connect(end(a), end(b), 24).unwrap();
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

fn config(check: &str) -> String {
    format!(
        r#"
        [node]
        name = "us"
        [[check]]
        name = "neighbour"
        type = "bfd"
        {check}
        [[instance]]
        name = "main"
        primary = {{ checks = ["neighbour"] }}
        failback_delay = "1s"
        [[instance.address]]
        address = "192.0.2.77/32"
        dev = "lo"
        "#
    )
}

pub fn bfd(node: &Node) -> BfdStatus {
    node.status().unwrap().bfd.into_iter().next().expect("a BFD session")
}

pub fn detail(node: &Node) -> BfdDetail {
    wait_for("a report of the BFD thread", LIMIT, || bfd(node).detail).unwrap()
}

pub fn check(node: &Node) -> CheckStatus {
    node.status().unwrap().checks.into_iter().next().expect("a check")
}

/// Waits until it is so; says what was awaited and what the daemon logged, if it never is.
pub fn until(what: &str, node: &Node, mut so: impl FnMut() -> bool) {
    wait_for(what, LIMIT, || so().then_some(()))
        .unwrap_or_else(|e| panic!("{e}\n{:?}\n{}", node.status(), node.log()));
}

pub fn until_up(node: &Node) {
    until("BFD to be Up", node, || bfd(node).state == "Up" && check(node).verdict == "up");
}

/// The session has these intervals, and no Poll is under way: the neighbour has agreed. In microseconds, ours and theirs.
pub fn until_agreed(node: &Node, tx: u64, rx: u64) {
    until(&format!("{tx} and {rx} us"), node, || {
        bfd(node)
            .detail
            .is_some_and(|d| (d.tx_interval_us, d.rx_interval_us, d.polling) == (Some(tx), rx, false))
    });
}

/// In real time, as announcerd's own BFD: on a crowded machine a peer would take its own absence for our silence.
pub fn in_real_time(daemon: &Daemon) {
    let pid = daemon.pid().to_string();
    // All its threads: BIRD's BFD is not the first. From here, for the host has no /proc of its own.
    let raised = Command::new("chrt").args(["-f", "-a", "-p", "10", &pid]).status();
    let raised = raised.unwrap_or_else(|e| panic!("chrt cannot be run, of the package util-linux: {e}"));
    assert!(raised.success(), "chrt needs root (CAP_SYS_NICE)");
}

/// Starts one of FRR's daemons, or another program that is asked by `asked` whether it is there.
pub fn start(host: &Host, words: &[&str], asked: impl Fn() -> bool) -> Daemon {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    let daemon = host.spawn(&mut command).unwrap_or_else(|e| panic!("{e}"));
    wait_for(words[0], LIMIT, || asked().then_some(())).unwrap_or_else(|e| panic!("{e}"));
    daemon
}
