//! A server with two gateways, on each of them FRR with BFD, and somebody behind both.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use announcerd::status::BfdDetail;

use crate::stream::Responder;

pub const LIMIT: Duration = Duration::from_secs(40);
/// Behind both gateways.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub const FAR6: &str = "2001:db8:f::9";
pub const FIRST: &str = "via 192.0.2.1 dev ens3";
pub const SECOND: &str = "via 198.51.100.1 dev ens4";
pub const FIRST6: &str = "via 2001:db8:1::1 dev ens3";
pub const SECOND6: &str = "via 2001:db8:2::1 dev ens4";
/// What BFD takes to notice, by the example's intervals.
pub const DETECTION: Duration = Duration::from_millis(900);

/// conf/dual-gateway.toml.
pub const EXAMPLE: &str = include_str!("../../conf/dual-gateway.toml");

/// The example with what it has as comments for gateways without BFD.
pub fn with_pings(text: &str) -> String {
    let (before, rest) = text.split_once("[[check]]").unwrap();
    let (_, rest) = rest.split_once("# Gateways that do not speak BFD").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (pings, rest) = rest.split_once("\n\n").unwrap();
    let pings: Vec<&str> = pings.lines().map(|line| line.strip_prefix("# ").unwrap()).collect();
    let text = format!("{before}{}\n\n{rest}", pings.join("\n"));
    assert!(text.contains("\"ping\"") && !text.contains("\"bfd\""), "{text}");
    text
}

/// The example with IPv6 gateways.
pub fn with_ipv6(text: &str) -> String {
    text.replace("192.0.2.1\"", "2001:db8:1::1\"").replace("198.51.100.1\"", "2001:db8:2::1\"")
}

/// The example with its other mode.
pub fn with_ecmp(text: &str) -> String {
    let text = text.replace("\nmode = \"failover\"", "\nmode = \"ecmp\"");
    assert!(text.contains("\nmode = \"ecmp\""));
    text
}

/// How a gateway fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No packet comes out of it any more, nor into it; its link stays up.
    DeadGateway,
    /// The cable is out.
    DeadLink,
    /// BFD's packets are dropped, the others not.
    BfdDropped,
}

pub struct Lab {
    // Dropped in this order: daemons first, the hosts under them last.
    pub node: Node,
    pub monitor: Daemon,
    _responder: Responder,
    _frr: Vec<Daemon>,
    pub server: Host,
    pub gateways: [Host; 2],
    _far: Host,
}

pub fn sh(host: &Host, line: &str) -> String {
    host.run(&["sh", "-c", line]).unwrap_or_else(|e| panic!("{e}"))
}

/// The gateway's cables to the server and to the far end; routes and forwarding.
fn wire_up(server: &Host, gateway: &Host, far: &Host, n: u8) {
    let (dev, [a, b, c]) = if n == 1 { ("ens3", [192, 0, 2]) } else { ("ens4", [198, 51, 100]) };
    let name = format!("gw{n}");
    let end = |host, interface, address: [u8; 4]| End { host, interface, address: address.into() };
    wire::connect(end(server, dev, [a, b, c, 10]), end(gateway, "lan", [a, b, c, 1]), 24).unwrap();
    wire::connect(end(gateway, "wan", [10, 0, n, 1]), end(far, &name, [10, 0, n, 2]), 30).unwrap();
    sh(server, &format!("ip -6 address add 2001:db8:{n}::10/64 dev {dev} nodad"));
    sh(gateway, &format!("ip -6 address add 2001:db8:{n}::1/64 dev lan nodad"));
    sh(gateway, &format!("ip -6 address add 2001:db8:f{n}::1/64 dev wan nodad"));
    sh(far, &format!("ip -6 address add 2001:db8:f{n}::2/64 dev {name} nodad"));
    sh(gateway, &format!("ip route add {FAR} via 10.0.{n}.2; ip route add {FAR6} via 2001:db8:f{n}::2"));
    sh(far, &format!("ip route add {a}.{b}.{c}.0/24 via 10.0.{n}.1"));
    sh(far, &format!("ip route add 2001:db8:{n}::/64 via 2001:db8:f{n}::1"));
    gateway.sysctl("net/ipv4/ip_forward", "1").unwrap();
    gateway.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    // As FRR wants it: addresses stay when a link goes down.
    gateway.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1").unwrap();
    for host in [server, gateway, far] {
        sh(host, "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done");
    }
}

/// FRR's zebra and bfdd, with a session to the server in either protocol.
fn frr(gateway: &Host, n: u8) -> Vec<Daemon> {
    let v4 = if n == 1 { "192.0.2" } else { "198.51.100" };
    let peer = |address: String| {
        format!(
            " peer {address} interface lan\n  detect-multiplier 3\n  receive-interval 300\n  transmit-interval 300\n exit\n"
        )
    };
    let v6 = format!("2001:db8:{n}::10 local-address 2001:db8:{n}::1");
    let config = format!("bfd\n{}{}exit\n", peer(format!("{v4}.10 local-address {v4}.1")), peer(v6));
    gateway.write("/etc/frr/frr.conf", config).unwrap();
    gateway.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
    gateway.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
    let run = |name: &&str| {
        // In real time, as announcerd's own BFD: on a crowded machine FRR would miss packets that are there.
        let mut command = Command::new("chrt");
        command.args(["-f", "10", &format!("/usr/lib/frr/{name}")]);
        let daemon = gateway.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let daemon = daemon.unwrap_or_else(|e| panic!("is chrt missing, of the package util-linux? {e}"));
        let answers = || gateway.run(&["vtysh", "-d", name, "-c", "show version"]).ok();
        wait_for(name, LIMIT, answers).unwrap_or_else(|e| panic!("{e}"));
        daemon
    };
    let daemons = ["zebra", "bfdd"].iter().map(run).collect();
    gateway.run(&["vtysh", "-b"]).unwrap();
    daemons
}

impl Lab {
    /// With this configuration, the example in one of its forms.
    pub fn start(config: &str) -> Self {
        let server = Host::new("server", &[]).unwrap();
        let gateways = ["gw1", "gw2"].map(|n| Host::new(n, &["/etc/frr", "/var/log"]).unwrap());
        let far = Host::new("far", &[]).unwrap();
        for (gateway, n) in gateways.iter().zip(1..) {
            wire_up(&server, gateway, &far, n);
        }
        sh(&far, &format!("ip address add {FAR}/32 dev lo; ip address add {FAR6}/128 dev lo nodad"));
        // Flows are told apart by their ports.
        server.sysctl("net/ipv4/fib_multipath_hash_policy", "1").unwrap();
        server.sysctl("net/ipv6/fib_multipath_hash_policy", "1").unwrap();
        let frr = gateways.iter().zip(1..).flat_map(|(gateway, n)| frr(gateway, n)).collect();
        let responder = Responder::start(&far, &[IpAddr::from(FAR), FAR6.parse().unwrap()]);
        let mut news = Command::new("ip");
        news.args(["monitor", "route"]).stdout(std::fs::File::create(server.path("/run/news")).unwrap());
        let monitor = server.spawn(&mut news).unwrap();
        let node = Node::start(&server, Path::new(env!("CARGO_BIN_EXE_announcerd")), config).unwrap();
        Lab { node, monitor, _responder: responder, _frr: frr, server, gateways, _far: far }
    }

    pub fn default_route(&self, family: &str) -> String {
        sh(&self.server, &format!("ip {family} route show default proto 187"))
    }

    /// Waits until the default route names all of `parts` and none of `others`.
    pub fn wait(&self, family: &str, parts: &[&str], others: &[&str]) {
        let met = || {
            let route = self.default_route(family);
            let right = parts.iter().all(|p| route.contains(p)) && !others.iter().any(|p| route.contains(p));
            right.then_some(())
        };
        wait_for(&format!("a default route with {parts:?} and without {others:?}"), LIMIT, met)
            .unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.default_route(family), self.node.log()));
    }

    pub fn wait_checks(&self, verdicts: [&str; 2]) {
        let met = || {
            let checks = self.node.status().ok()?.checks;
            checks.iter().zip(verdicts).all(|(check, is)| is == "any" || check.verdict == is).then_some(())
        };
        wait_for(&format!("checks {verdicts:?}"), LIMIT, met)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node.log()));
    }

    /// Both sessions up, and as fast as the example says: each end has taken up what the other wants.
    pub fn ready(&self) {
        self.wait_checks(["up", "up"]);
        let bound = u64::try_from(DETECTION.as_micros()).unwrap();
        let fast =
            |d: &BfdDetail| !d.polling && (d.tx_interval_us, d.detection_time_us) == (Some(bound / 3), bound);
        let agreed = || {
            let sessions = self.node.status().ok()?.bfd;
            sessions.iter().all(|s| s.detail.as_ref().is_some_and(fast)).then_some(())
        };
        wait_for("BFD at its full speed", LIMIT, agreed).unwrap_or_else(|e| {
            panic!(
                "{e}
{:?}",
                self.node.status().map(|s| s.bfd)
            )
        });
    }

    /// How often the route moved. A machine that starves FRR for 900 ms makes a gateway fail as well.
    pub fn moves(&self) -> usize {
        self.node.log().matches(" goes via ").count()
    }

    pub fn fail(&self, gateway: usize, how: Failure) {
        let host = &self.gateways[gateway];
        let what = match how {
            Failure::DeadLink => return wire::set_link_down(host, "lan").unwrap(),
            Failure::DeadGateway => "drop",
            Failure::BfdDropped => "udp dport 3784 drop",
        };
        let chain =
            |hook| format!("chain {hook} {{\n type filter hook {hook} device lan priority 0\n {what}\n }}\n");
        let table = format!("table netdev failure {{\n{}{}}}\n", chain("ingress"), chain("egress"));
        host.write("/run/failure.nft", table).unwrap();
        sh(host, "nft -f /run/failure.nft");
    }

    pub fn heal(&self, gateway: usize, how: Failure) {
        match how {
            Failure::DeadLink => wire::set_link_up(&self.gateways[gateway], "lan").unwrap(),
            _ => drop(sh(&self.gateways[gateway], "nft delete table netdev failure")),
        }
    }

    /// What the kernel told of default routes that went.
    pub fn deletions(&self) -> Vec<String> {
        let news = self.server.read("/run/news");
        news.lines().filter(|l| l.starts_with("Deleted default")).map(str::to_owned).collect()
    }
}
