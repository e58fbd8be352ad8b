//! The lab itself, without announcerd: what the other tests take for granted.

use std::time::{Duration, Instant};

use crate::{frr, rig, tls};
use announcerd::demo::lab::topology::{ISP_TO_STANDBY, PRIMARY, SERVICE, STANDBY, prefix};
use announcerd::demo::lab::{Bird, Topology, echo, routes, wait_for, wire};

const LIMIT: Duration = Duration::from_secs(15);

/// FIELD 14: BIRD sees a route that others put into the kernel because conf/bird.conf says `learn`.
#[test]
fn bird_learns_a_kernel_route_and_the_isp_follows() {
    let lab = Topology::build(&[]).unwrap();
    let isp = lab.start_isp().unwrap();
    let exporter = Bird::start(&lab.standby, include_str!("../../conf/bird.conf")).unwrap();
    isp.wait_established("from_standby").unwrap();
    assert_eq!(routes::routes_to(&lab.isp, prefix()).unwrap(), []);

    wire::add_device_route(&lab.standby, prefix(), "lo", 187).unwrap();
    let route = wait_for("the route at the ISP", LIMIT, || {
        routes::routes_to(&lab.isp, prefix()).unwrap().first().copied()
    });
    assert_eq!(route.unwrap().via, Some(STANDBY.into()));
    assert_eq!(isp.received("from_standby").unwrap().updates, 1);
    assert!(isp.route("198.51.100.0/24", "from_standby").unwrap().contains("64501"));
    drop(exporter);
}

/// Without `learn` BIRD ignores the same route: the line in conf/bird.conf is needed.
#[test]
fn bird_without_learn_announces_nothing() {
    let lab = Topology::build(&[]).unwrap();
    let isp = lab.start_isp().unwrap();
    let config = include_str!("../../conf/bird.conf");
    let without = config.replace("learn;", "");
    assert_ne!(config, without);
    let exporter = Bird::start(&lab.standby, &without).unwrap();
    isp.wait_established("from_standby").unwrap();
    wire::add_device_route(&lab.standby, prefix(), "lo", 187).unwrap();
    let seen = || exporter.ask("show route").unwrap().contains("198.51.100.0");
    rig::let_pass(Duration::from_secs(1));
    assert!(!seen());
    lab.standby.write("/run/bird/bird.conf", config).unwrap();
    exporter.ask("configure").unwrap();
    wait_for("the route at the exporter", LIMIT, || seen().then_some(())).unwrap();
}

/// The silent death: no carrier goes, no error comes; the client loses datagrams until the primary is back.
#[test]
fn a_dead_primary_is_silent() {
    let lab = Topology::build(&[]).unwrap();
    let isp = lab.start_isp().unwrap();
    let _primary = lab.start_primary().unwrap();
    let _echo = echo::Server::start(&lab.primary, SERVICE).unwrap();
    isp.wait_established("from_primary").unwrap();
    let client = echo::Client::start(&lab.client, SERVICE, Duration::from_millis(10)).unwrap();
    let answered = |since| {
        wait_for("an answer", LIMIT, || client.first_answer("primary", since)).map(|answer| answer.at)
    };
    let begun = Instant::now();
    answered(begun).unwrap();
    let ping = |host: &announcerd::demo::lab::Host, to: String| host.run(&["ping", "-c1", "-W1", &to]);
    ping(&lab.standby, PRIMARY.to_string()).unwrap();

    lab.primary_dies().unwrap();
    let dead = Instant::now();
    wait_for("lost datagrams", LIMIT, || (client.loss(dead, Instant::now()).sent > 20).then_some(()))
        .unwrap();
    assert!(client.first_answer("primary", dead + Duration::from_millis(5)).is_none());
    assert!(ping(&lab.standby, PRIMARY.to_string()).is_err());
    ping(&lab.standby, ISP_TO_STANDBY.to_string()).unwrap();
    assert!(lab.isp.run(&["ip", "link", "show", "primary"]).unwrap().contains("LOWER_UP"));

    lab.primary_returns().unwrap();
    let back = Instant::now();
    answered(back).unwrap();
    assert!(client.loss(dead, back).lost > 0);
}

/// A host's processes go with it, and so do its namespaces.
#[test]
fn a_host_leaves_nothing_behind() {
    let lab = Topology::build(&[]).unwrap();
    let mut shell = std::process::Command::new("sh");
    // An orphan in a session of its own: only the process id namespace can still catch it.
    shell.args(["-c", "setsid sleep 1000 & echo $! > /run/orphan; exec sleep 1000"]);
    let daemon = lab.client.spawn(&mut shell).unwrap();
    wait_for("the orphan", LIMIT, || (!lab.client.read("/run/orphan").is_empty()).then_some(())).unwrap();
    let init = lab.client.init();
    let network = std::fs::read_link(format!("/proc/{init}/ns/net")).unwrap();
    drop((daemon, lab));
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let theirs = std::fs::read_link(process.path().join("ns/net"));
        assert!(theirs.is_err() || theirs.unwrap() != network, "{:?} is left", process.path());
    }
}

/// FRR with conf/frr.conf does the same, but not for routes that are marked 187: that is IS-IS to FRR, its own
/// route, which it ignores (and sweeps at its next start). So conf/standby-frr.toml sets another `route_protocol`.
#[test]
fn frr_redistributes_a_kernel_route_and_the_isp_follows() {
    let lab = Topology::build(&frr::PRIVATE).unwrap();
    let isp = lab.start_isp().unwrap();
    let exporter = frr::Frr::start(&lab.standby, include_str!("../../conf/frr.conf")).unwrap();
    isp.wait_established("from_standby").unwrap();
    let other = "198.51.100.0/25".parse().unwrap();
    wire::add_device_route(&lab.standby, other, "lo", 187).unwrap();
    wire::add_device_route(&lab.standby, prefix(), "lo", 200).unwrap();
    wait_for("the route at the ISP", LIMIT, || isp.route("198.51.100.0/24", "from_standby")).unwrap();
    assert!(!exporter.ask("zebra", "show ip route").unwrap().contains("198.51.100.0/25"));
    assert!(exporter.advertised().unwrap().contains("198.51.100.0/24"));
    lab.standby.run(&["ip", "route", "del", "198.51.100.0/24"]).unwrap();
    wait_for("the withdraw", LIMIT, || isp.route("198.51.100.0/24", "from_standby").is_none().then_some(()))
        .unwrap();
}

/// The HTTPS of the primary is one that curl would accept at the standby.
#[test]
fn the_primary_speaks_https() {
    let lab = Topology::build(&[tls::AUTHORITIES]).unwrap();
    let _web = tls::serve(&lab.primary, PRIMARY, &lab.standby);
    let words = ["curl", "-sS", "--connect-to", "::198.18.0.1:", "https://www.example.com/healthz"];
    assert_eq!(lab.standby.run(&words).unwrap(), "ok\n");
}
