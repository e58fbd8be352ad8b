//! FRR in the place of a cloud's route server: conf/route-server-primary.toml and conf/route-server-standby.toml.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::routes::Watch;
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, PREFIX, PREFIX6, Pair, ctl, hurried, peer_status, program, tables, until};

const SERVICE: &str = "198.51.100.10/32";
const PRIMARY: &str = "203.0.113.11";
const STANDBY: &str = "203.0.113.12";

/// Each of the route server's two instances; each machine has a session with each.
const ROUTE_SERVER: &str = "
frr defaults traditional
router bgp 65515
 bgp router-id ADDRESS
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 203.0.113.11 remote-as 64513
 neighbor 203.0.113.12 remote-as 64513
 neighbor 203.0.113.11 timers connect 1
 neighbor 203.0.113.12 timers connect 1
exit
";

/// The same with BFD, 300 ms x 3 by default. Its bfdd has to run before the neighbours are named.
const WITH_BFD: &str = "
router bgp 65515
 neighbor 203.0.113.11 bfd
 neighbor 203.0.113.12 bfd
exit
";

/// The machines in one subnet: the gateway (which has a bridge for it), the route server's two, and ours.
struct Cloud {
    nodes: [Node; 2],
    machines: [Host; 2],
    _daemons: Vec<Daemon>,
    _services: Vec<announcerd::demo::lab::web::Web>,
    rs: [Host; 2],
    _gateway: Host,
}

/// FRR 8's private folders.
pub const PRIVATE: [&str; 2] = ["/etc/frr", "/var/log"];

/// zebra, bfdd and bgpd on that host, with that configuration.
pub fn start_frr(host: &Host, config: &str) -> Vec<Daemon> {
    host.write("/etc/frr/frr.conf", config).unwrap();
    host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
    host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
    let start = |name: &&str| {
        let mut command = Command::new(format!("/usr/lib/frr/{name}"));
        let daemon = host.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        let asked = || host.run(&["vtysh", "-d", name, "-c", "show version"]).ok();
        wait_for(name, LIMIT, asked).unwrap();
        daemon
    };
    let daemons = ["zebra", "bfdd", "bgpd"].iter().map(start).collect();
    host.run(&["vtysh", "-b"]).unwrap();
    daemons
}

impl Cloud {
    /// As the examples have it: with BFD.
    fn start() -> Self {
        Self::with_bfd(true)
    }

    fn with_bfd(bfd: bool) -> Self {
        let machines = ["fw-1", "fw-2"].map(|name| Host::new(name, &[]).unwrap());
        let gateway = Host::new("gateway", &[]).unwrap();
        let rs = ["rs-1", "rs-2"].map(|name| Host::new(name, &PRIVATE).unwrap());
        let net = |last| Ipv4Addr::new(203, 0, 113, last);
        gateway.run(&["ip", "link", "add", "lan", "type", "bridge"]).unwrap();
        gateway.run(&["ip", "link", "set", "lan", "up"]).unwrap();
        let ports =
            [(&rs[0], "p4", 4), (&rs[1], "p5", 5), (&machines[0], "p11", 11), (&machines[1], "p12", 12)];
        for (host, port, last) in ports {
            let end = |host, interface, address| End { host, interface, address };
            // The bridge's port needs no address; one from elsewhere is in nobody's way.
            wire::connect(
                end(&gateway, port, Ipv4Addr::new(192, 0, 2, last)),
                end(host, "uplink", net(last)),
                24,
            )
            .unwrap();
            gateway.run(&["ip", "address", "flush", "dev", port]).unwrap();
            gateway.run(&["ip", "link", "set", port, "master", "lan"]).unwrap();
        }
        wire::add_address(&gateway, "lan", net(1), 24).unwrap();
        let daemons = rs.iter().zip([4, 5]).flat_map(|(host, last)| {
            let config = ROUTE_SERVER.replace("ADDRESS", &net(last).to_string());
            start_frr(host, &format!("{config}{}", if bfd { WITH_BFD } else { "" }))
        });
        let daemons = daemons.collect();
        let service = |host: &Host| {
            host.sysctl("net/ipv4/ping_group_range", "0 0").unwrap();
            let at = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 443);
            announcerd::demo::lab::web::Web::start(host, at, announcerd::demo::lab::web::answer_ok).unwrap()
        };
        let services = machines.iter().map(service).collect();
        let files = [
            include_str!("../../conf/route-server-primary.toml"),
            include_str!("../../conf/route-server-standby.toml"),
        ];
        let node = |i: usize| {
            let mut config = hurried(files[i]);
            tables(&mut config, "bgp").filter(|_| !bfd).for_each(|peer| drop(peer.remove("bfd")));
            Node::start(&machines[i], program(), &config.to_string()).unwrap()
        };
        let nodes = [node(0), node(1)];
        Cloud { nodes, machines, _daemons: daemons, _services: services, rs, _gateway: gateway }
    }

    /// What that one of the route server's two has.
    fn routes(&self, rs: usize) -> serde_json::Value {
        let command = format!("show bgp ipv4 unicast {SERVICE} json");
        let answer = self.rs[rs].run(&["vtysh", "-d", "bgpd", "-c", &command]).unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// Waits until both see so many paths, and call that neighbour's best.
    fn wait(&self, paths: usize, best: Option<&str>) {
        for rs in 0..2 {
            until(&format!("{paths} paths at {rs}, the best {best:?}"), &self.nodes[0], || {
                let routes = self.routes(rs);
                let all = routes["paths"].as_array().cloned().unwrap_or_default();
                let is_best = |p: &&serde_json::Value| p["bestpath"]["overall"] == true;
                let found = all.iter().find(is_best).map(|p| p["peer"]["peerId"].clone());
                all.len() == paths && found.as_ref().and_then(|f| f.as_str()) == best
            });
        }
    }

    /// The MEDs that the route server has, the lower one first.
    fn meds(&self, rs: usize) -> Vec<i64> {
        let routes = self.routes(rs);
        let paths = routes["paths"].as_array().cloned().unwrap_or_default();
        let mut meds: Vec<i64> = paths.iter().filter_map(|p| p["metric"].as_i64()).collect();
        meds.sort_unstable();
        meds
    }
}

/// Both announce all the time; the better one's death is the other one's turn, by FRR's own decision.
#[test]
fn the_route_server_follows_the_living() {
    let mut cloud = Cloud::start();
    cloud.wait(2, Some(PRIMARY));
    assert_eq!([cloud.meds(0), cloud.meds(1)], [[0, 100], [0, 100]]);
    for (machine, peer) in cloud.machines.iter().flat_map(|m| ["rs-1", "rs-2"].map(|p| (m, p))) {
        // On a machine that is busy FRR's BFD may be late, and the session begins anew.
        until("the session", &cloud.nodes[0], || {
            peer_status(machine, peer).is_some_and(|s| s.state == "Established" && s.advertised == 1)
        });
    }

    cloud.nodes[0].daemon().signal(Signal::SIGKILL).unwrap();
    cloud.wait(1, Some(STANDBY));
    cloud.nodes[0].restart().unwrap();
    cloud.wait(2, Some(PRIMARY));

    // A longer path weighs more than a MED, and takes a reload only.
    let longer = include_str!("../../conf/route-server-primary.toml").replace("med = 0", "prepend = 3");
    for (config, best) in
        [(&*longer, STANDBY), (include_str!("../../conf/route-server-primary.toml"), PRIMARY)]
    {
        cloud.machines[0].write(CONFIG, hurried(config).to_string()).unwrap();
        ctl(&cloud.machines[0], &["reload"]);
        cloud.wait(2, Some(best));
    }

    // Both die in order, both return.
    for node in &mut cloud.nodes {
        node.daemon().signal(Signal::SIGTERM).unwrap();
        assert!(node.daemon().wait(LIMIT).unwrap().success());
    }
    cloud.wait(0, None);
    for node in &mut cloud.nodes {
        node.restart().unwrap();
    }
    cloud.wait(2, Some(PRIMARY));
}

/// FRR at the other end of a cable; its kernel follows it.
const NEIGHBOUR: &str = "
frr defaults traditional
router bgp 64500
 bgp router-id 203.0.113.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 MORE
 neighbor 203.0.113.2 remote-as 64501
 neighbor 203.0.113.2 timers connect 1
 SESSION
 address-family ipv6 unicast
  neighbor 203.0.113.2 activate
 exit-address-family
exit
";

pub fn neighbour(pair: &Pair, more: &str) -> Vec<Daemon> {
    start_frr(&pair.them, &NEIGHBOUR.replace("MORE", more).replace("SESSION", "!"))
}

/// With these words about the session, one setting each.
fn neighbour_with(pair: &Pair, settings: &[&str]) -> Vec<Daemon> {
    let lines: Vec<String> = settings.iter().map(|s| format!("neighbor 203.0.113.2 {s}")).collect();
    start_frr(&pair.them, &NEIGHBOUR.replace("MORE", "!").replace("SESSION", &lines.join("\n ")))
}

/// Both prefixes arrive; then nothing wrong is left to be shown.
fn both_arrive(pair: &Pair, node: &Node) {
    pair.wait_advertised(node);
    for (family, prefix) in [("ipv4", PREFIX), ("ipv6", PREFIX6)] {
        until(prefix, node, || vtysh(pair, &format!("show bgp {family} unicast {prefix}")).contains("best"));
    }
    assert_eq!(pair.error(), None);
}

const KEY: &str = "password s3cret";
const GTSM: &str = "ttl-security hops 1";

/// RFC 2385 and RFC 5082, towards an FRR that waits for us.
#[test]
fn frr_md5_and_gtsm() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour_with(&pair, &[KEY, GTSM, "passive"]);
    let node = pair.node(&pair.keyed());
    both_arrive(&pair, &node);
}

/// The same where FRR connects; and with no hold time (RFC 4271 section 4.2) there are no keepalives, and the session stays.
#[test]
fn frr_connects_to_us_with_md5_gtsm_and_no_hold_time() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour_with(&pair, &[KEY, GTSM]);
    let node = pair.node(&pair.keyed_and_called());
    both_arrive(&pair, &node);
    let said: serde_json::Value =
        serde_json::from_str(&vtysh(&pair, "show bgp neighbors 203.0.113.2 json")).unwrap();
    assert_eq!(said["203.0.113.2"]["bgpTimerHoldTimeMsecs"], 0, "{said}");
    pair.healthy(false);
    until("the withdraw", &node, || {
        vtysh(&pair, &format!("show bgp ipv4 unicast {PREFIX}")).contains("not in table")
    });
}

#[test]
fn another_md5_key_is_no_session_with_frr() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour_with(&pair, &[KEY, "passive"]);
    let node = pair.node(&pair.keyed_by("another").replace("ttl_security = true", ""));
    until("the reason", &node, || pair.error().is_some_and(|e| e.contains("MD5")));
    assert_ne!(peer_status(&pair.us, "peer").unwrap().state, "Established");
}

/// RFC 9234: customer to provider is right…
#[test]
fn frr_takes_the_right_role() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour_with(&pair, &["local-role provider"]);
    let node = pair.node("role = \"customer\"\nrole_strict = true");
    both_arrive(&pair, &node);
}

/// …and two customers have no session (section 4.2).
#[test]
fn frr_and_we_refuse_the_wrong_role() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour_with(&pair, &["local-role customer"]);
    let node = pair.node("role = \"customer\"");
    until("the reason", &node, || pair.error().is_some_and(|e| e.to_lowercase().contains("role")));
    assert!(!vtysh(&pair, "show bgp ipv4 unicast").contains(PREFIX));
}

fn vtysh(pair: &Pair, command: &str) -> String {
    pair.them.run(&["vtysh", "-d", "bgpd", "-c", command]).unwrap_or_default()
}

/// `clear bgp … soft in` (RFC 2918): we answer with everything.
pub fn asks_again(pair: &Pair, node: &Node) {
    let received = || -> Option<u64> {
        let said: serde_json::Value =
            serde_json::from_str(&vtysh(pair, "show bgp neighbors 203.0.113.2 json")).ok()?;
        said["203.0.113.2"]["messageStats"]["updatesRecv"].as_u64()
    };
    let before = received().expect("FRR's counters");
    for family in ["ipv4", "ipv6"] {
        vtysh(pair, &format!("clear bgp {family} unicast 203.0.113.2 soft in"));
    }
    until("what FRR asked for", node, || received() >= Some(before + 2));
}

/// RFC 2918, by its own request; and every attribute as FRR sees it.
#[test]
fn frr_sees_every_attribute_and_asks_again() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour(&pair, "");
    let node = pair.node("");
    pair.wait_advertised(&node);
    asks_again(&pair, &node);
    for (family, prefix, next_hop) in [("ipv4", PREFIX, "203.0.113.2"), ("ipv6", PREFIX6, "2001:db8::2")] {
        let seen = || vtysh(&pair, &format!("show bgp {family} unicast {prefix}"));
        until(prefix, &node, || seen().contains("best"));
        let seen = seen();
        for words in
            ["64501 64501 64501", "metric 77", next_hop, "64501:100 no-export", "RT:64501:9", "64501:7:8"]
        {
            assert!(seen.contains(words), "no {words} in {seen}");
        }
    }
    pair.healthy(false);
    let gone = |family, prefix| {
        vtysh(&pair, &format!("show bgp {family} unicast {prefix}")).contains("not in table")
    };
    until("the withdraw", &node, || gone("ipv4", PREFIX) && gone("ipv6", PREFIX6));
}

/// RFC 4724 with FRR as the helper: its kernel never loses the route while the next process of ours takes over.
#[test]
fn frr_helps_over_a_handover() {
    let pair = Pair::new(&PRIVATE);
    let _frr = neighbour(&pair, "bgp graceful-restart");
    let mut node = pair.node("graceful_restart = { restart_time = \"60s\" }");
    pair.wait_advertised(&node);
    let forwards =
        || pair.them.run(&["ip", "route", "show", PREFIX]).is_ok_and(|r| r.contains("via 203.0.113.2"));
    until("FRR's kernel", &node, forwards);
    let watch = Watch::start(&pair.them).unwrap();
    ctl(&pair.us, &["handover"]);
    node.daemon().wait(LIMIT).unwrap();
    until("stale routes", &node, || {
        vtysh(&pair, "show bgp ipv4 unicast").contains("S>")
            || vtysh(&pair, "show bgp ipv4 unicast").contains("S*>")
    });
    node.restart().unwrap();
    pair.wait_advertised(&node);
    until("fresh routes", &node, || {
        let table = vtysh(&pair, "show bgp ipv4 unicast");
        table.contains(PREFIX) && !table.contains("S>") && !table.contains("S*>")
    });
    let prefix = announcerd::demo::lab::topology::prefix();
    let lost: Vec<_> = watch.news().into_iter().filter(|c| c.route.to == prefix && !c.added).collect();
    assert!(lost.is_empty() && forwards(), "{lost:?}\n{}", node.log());
    // It is in charge, too.
    pair.healthy(false);
    until("the withdraw", &node, || !forwards());
}

/// The primary's machine falls silent: no link goes down, no session is closed. How long until the route server has gone over?
fn failover(bfd: bool) -> std::time::Duration {
    let cloud = Cloud::with_bfd(bfd);
    cloud.wait(2, Some(PRIMARY));
    if bfd {
        for machine in &cloud.machines {
            until("BFD with both", &cloud.nodes[0], || {
                let status: announcerd::status::Status =
                    serde_json::from_str(&ctl(machine, &["status", "-j"])).unwrap();
                status.bfd.iter().filter(|s| s.state == "Up" && s.peers.len() == 1).count() == 2
            });
        }
    }
    let began = std::time::Instant::now();
    let rules = "add table inet cut
        add chain inet cut in { type filter hook input priority 0; policy drop; }
        add chain inet cut out { type filter hook output priority 0; policy drop; }";
    cloud.machines[0].write("/run/cut.nft", rules).unwrap();
    cloud.machines[0].run(&["nft", "-f", "/run/cut.nft"]).unwrap();
    cloud.wait(1, Some(STANDBY));
    let took = began.elapsed();
    if bfd {
        // RFC 9384: at our end the sessions were closed by BFD, and not by the hold timer.
        until("Cease/BFD Down", &cloud.nodes[0], || cloud.nodes[0].log().contains("Cease/BFD Down"));
    }
    took
}

/// FRR in the route server's place: failover by the hold timer (9 s) against BFD (300 ms x 3), both measured.
#[test]
fn bfd_is_faster_than_the_hold_timer() {
    let (hold_timer, bfd) = (failover(false), failover(true));
    println!("failover of FRR as the route server: hold timer 9 s: {hold_timer:?}; BFD 300 ms x 3: {bfd:?}");
    assert!(bfd < hold_timer, "{bfd:?} and {hold_timer:?}");
}
