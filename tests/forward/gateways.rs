//! conf/dual-gateway.toml, end to end: two gateways, and somebody behind both.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use announcerd::demo::lab::echo::{Client, Server};
use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);
/// Behind both gateways.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const FIRST: &str = "via 192.0.2.1 dev ens3";
const SECOND: &str = "via 198.51.100.1 dev ens4";

struct Lab {
    // Dropped in this order: daemons first, the hosts under them last.
    node: Node,
    monitor: Daemon,
    _echo: Server,
    server: Host,
    gateways: [Host; 2],
    _far: Host,
}

fn sh(host: &Host, line: &str) -> String {
    host.run(&["sh", "-c", line]).unwrap()
}

impl Lab {
    /// With the example, changed by `edit`.
    fn start(edit: impl Fn(String) -> String) -> Self {
        let [server, gw1, gw2, far] = ["server", "gw1", "gw2", "far"].map(|n| Host::new(n, &[]).unwrap());
        for (gateway, dev, net, n) in [(&gw1, "ens3", [192, 0, 2], 1), (&gw2, "ens4", [198, 51, 100], 2)] {
            let [a, b, c] = net;
            let ours = End { host: &server, interface: dev, address: Ipv4Addr::new(a, b, c, 10) };
            wire::connect(
                ours,
                End { host: gateway, interface: "lan", address: Ipv4Addr::new(a, b, c, 1) },
                24,
            )
            .unwrap();
            let behind = End { host: gateway, interface: "wan", address: Ipv4Addr::new(10, 0, n, 1) };
            let name = format!("gw{n}");
            wire::connect(
                behind,
                End { host: &far, interface: &name, address: Ipv4Addr::new(10, 0, n, 2) },
                30,
            )
            .unwrap();
            sh(&server, &format!("ip -6 address add 2001:db8:{n}::10/64 dev {dev} nodad"));
            sh(gateway, &format!("ip -6 address add 2001:db8:{n}::1/64 dev lan nodad"));
            sh(gateway, &format!("ip route add 203.0.113.9 via 10.0.{n}.2"));
            sh(&far, &format!("ip route add {a}.{b}.{c}.0/24 via 10.0.{n}.1"));
            gateway.sysctl("net/ipv4/ip_forward", "1").unwrap();
            for host in [&server, gateway, &far] {
                sh(host, "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done");
            }
            wire::cuttable(gateway).unwrap();
        }
        sh(&far, "ip address add 203.0.113.9/32 dev lo");
        let echo = Server::start(&far, FAR).unwrap();
        let mut news = Command::new("ip");
        news.args(["monitor", "route"]).stdout(std::fs::File::create(server.path("/run/news")).unwrap());
        let monitor = server.spawn(&mut news).unwrap();
        let text = edit(include_str!("../../conf/dual-gateway.toml").to_owned());
        let node = Node::start(&server, Path::new(env!("CARGO_BIN_EXE_announcerd")), &text).unwrap();
        Lab { node, monitor, _echo: echo, server, gateways: [gw1, gw2], _far: far }
    }

    fn default_route(&self, family: &str) -> String {
        sh(&self.server, &format!("ip {family} route show default proto 187"))
    }

    /// Waits until the default route names all of `parts` and none of `others`.
    fn wait(&self, family: &str, parts: &[&str], others: &[&str]) {
        let met = || {
            let route = self.default_route(family);
            let right = parts.iter().all(|p| route.contains(p)) && !others.iter().any(|p| route.contains(p));
            right.then_some(())
        };
        wait_for(&format!("a default route with {parts:?} and without {others:?}"), LIMIT, met)
            .unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.default_route(family), self.node.log()));
    }

    fn wait_checks(&self, verdicts: [&str; 2]) {
        let met = || {
            let checks = self.node.status().ok()?.checks;
            checks.iter().zip(verdicts).all(|(check, is)| is == "any" || check.verdict == is).then_some(())
        };
        wait_for(&format!("checks {verdicts:?}"), LIMIT, met)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node.log()));
    }

    fn cut(&self, gateway: usize) {
        wire::cut(&self.gateways[gateway], "lan").unwrap();
    }

    fn mend(&self, gateway: usize) {
        wire::mend(&self.gateways[gateway], "lan").unwrap();
    }

    /// What the kernel told of default routes that went.
    fn deletions(&self) -> Vec<String> {
        let news = self.server.read("/run/news");
        news.lines().filter(|l| l.starts_with("Deleted default")).map(str::to_owned).collect()
    }
}

/// The gateway goes silent, the gateway's cable goes, both go; and each returns. What a client loses is told.
#[test]
fn the_default_route_follows_the_healthy_gateway() {
    let lab = Lab::start(|text| text);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    let client = Client::start(&lab.server, FAR, Duration::from_millis(2)).unwrap();
    let told = |what: &str, since: Instant| {
        let loss = client.loss(since, Instant::now() - Duration::from_millis(100));
        println!(
            "{what}: {} of {} datagrams lost, no service for {:?}",
            loss.lost, loss.sent, loss.longest_gap
        );
    };

    let since = Instant::now();
    lab.cut(0);
    lab.wait("-4", &[SECOND], &[FIRST]);
    wait_for("answers through the second", LIMIT, || {
        client.first_answer("far", since + Duration::from_secs(1))
    })
    .unwrap();
    told("silent gateway", since);
    let explained = lab.node.ask(&json!({"command": "explain", "instance": "uplinks"})).unwrap().to_string();
    assert!(explained.contains("via 192.0.2.1 dev ens3 is down"), "{explained}");
    let since = Instant::now();
    lab.mend(0);
    lab.wait("-4", &[FIRST], &[SECOND]);
    told("the first is back", since);
    // One replace each time: at no moment was there no default route.
    assert_eq!(lab.deletions(), [""; 0]);

    // A dead link needs no check.
    let since = Instant::now();
    sh(&lab.gateways[0], "ip link set lan down");
    lab.wait("-4", &[SECOND], &[FIRST]);
    let took = since.elapsed();
    told("dead link", since);
    println!("dead link: other gateway after {took:?}");
    lab.cut(1);
    // Of the first nothing is known by its check: it could not be asked.
    lab.wait_checks(["any", "down"]);
    // The last one standing.
    lab.wait("-4", &[SECOND], &[FIRST]);
    sh(&lab.gateways[0], "ip link set lan up");
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.mend(1);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    let status = lab.node.status().unwrap();
    let row = status.kernel.iter().find(|row| row.kind == "route").unwrap();
    assert!(row.desired && row.observed && row.object.contains(FIRST), "{row:?}");
}

/// Killed while the second gateway serves: it goes on serving, though at the start nothing is known of the first.
#[test]
fn after_a_crash_the_gateway_in_use_stays_in_use() {
    let mut lab = Lab::start(|text| text);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.cut(0);
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.node.daemon().kill();
    let news = lab.server.read("/run/news").len();
    lab.node.restart().unwrap();
    lab.wait_checks(["down", "up"]);
    let since = lab.server.read("/run/news").split_off(news);
    assert!(!since.contains("default"), "{since}");
    lab.mend(0);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.monitor.kill();
}

/// Shared by weight, less the dead ones; none left: the route goes, if it is to. A reload changes the mode.
#[test]
fn several_gateways_share_until_one_dies() {
    let lab = Lab::start(|text| text);
    lab.wait("-4", &[FIRST], &[SECOND]);
    let text = lab.server.read(CONFIG).replace("mode = \"failover\"", "mode = \"ecmp\"");
    let text = text.replace("when_none = \"keep\"", "when_none = \"remove\"").replacen(
        "weight = 1",
        "weight = 3",
        1,
    );
    lab.server.write(CONFIG, text).unwrap();
    let said = lab.node.ask(&json!({"command": "reload"})).unwrap().to_string();
    assert!(said.contains("mode ecmp"), "{said}");
    lab.wait("-4", &["via 192.0.2.1 dev ens3 weight 3", "via 198.51.100.1 dev ens4 weight 1"], &[]);
    lab.cut(1);
    lab.wait("-4", &[FIRST], &[SECOND, "weight"]);
    lab.mend(1);
    lab.wait("-4", &[FIRST, SECOND], &[]);
    sh(&lab.gateways[0], "ip link set lan down");
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.cut(1);
    lab.wait("-4", &[], &["default"]);
    lab.mend(1);
    lab.wait("-4", &[SECOND], &[FIRST]);
}

#[test]
fn ipv6_is_the_same() {
    let lab = Lab::start(|text| {
        let text =
            text.replace("192.0.2.1\"", "2001:db8:1::1\"").replace("198.51.100.1\"", "2001:db8:2::1\"");
        text.replace("mode = \"failover\"", "mode = \"ecmp\"")
    });
    lab.wait("-6", &["via 2001:db8:1::1 dev ens3", "via 2001:db8:2::1 dev ens4"], &[]);
    sh(&lab.gateways[0], "ip link set lan down");
    lab.wait("-6", &["via 2001:db8:2::1 dev ens4"], &["ens3"]);
    sh(&lab.gateways[0], "ip link set lan up; ip -6 address add 2001:db8:1::1/64 dev lan nodad || true");
    lab.wait("-6", &["via 2001:db8:1::1 dev ens3", "via 2001:db8:2::1 dev ens4"], &[]);
}
