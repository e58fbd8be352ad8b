//! conf/dual-gateway.toml, end to end: which gateway the default route takes.

use announcerd::demo::lab::node::CONFIG;
use serde_json::json;

use crate::lab::Failure::{BfdDropped, DeadGateway, DeadLink};
use crate::lab::{EXAMPLE, FIRST, FIRST6, Lab, SECOND, SECOND6, sh, with_ecmp, with_ipv6, with_pings};

/// The gateway goes silent, the gateway's cable goes, both go; and each returns.
fn follows_the_healthy_gateway(config: &str) {
    let lab = Lab::start(config);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.fail(0, DeadGateway);
    lab.wait("-4", &[SECOND], &[FIRST]);
    let explained = lab.node.ask(&json!({"command": "explain", "instance": "uplinks"})).unwrap().to_string();
    assert!(explained.contains("via 192.0.2.1 dev ens3 is down"), "{explained}");
    lab.heal(0, DeadGateway);
    lab.wait("-4", &[FIRST], &[SECOND]);
    // One replace each time: at no moment was there no default route.
    assert_eq!(lab.deletions(), [""; 0]);

    // A dead link needs no check.
    lab.fail(0, DeadLink);
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.fail(1, DeadGateway);
    // Of the first nothing may be known by its check: a ping could not be sent.
    lab.wait_checks(["any", "down"]);
    // The last one standing.
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.heal(0, DeadLink);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.heal(1, DeadGateway);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    // Our own device set down: the kernel itself removes the routes by it.
    sh(&lab.server, "ip link set ens3 down");
    lab.wait("-4", &[SECOND], &[FIRST]);
    sh(&lab.server, "ip link set ens3 up");
    lab.wait("-4", &[FIRST], &[SECOND]);
    let status = lab.node.status().unwrap();
    let row = status.kernel.iter().find(|row| row.kind == "route").unwrap();
    assert!(row.desired && row.observed && row.object.contains(FIRST), "{row:?}");
}

#[test]
fn the_default_route_follows_the_healthy_gateway() {
    follows_the_healthy_gateway(EXAMPLE);
}

#[test]
fn gateways_without_bfd_are_pinged() {
    follows_the_healthy_gateway(&with_pings(EXAMPLE));
}

/// The file names neither devices nor a quick check: the link on which a gateway is counts all the same, at once.
#[test]
fn a_dead_link_counts_where_the_file_names_none() {
    let text = with_pings(EXAMPLE).replace(", dev = \"ens3\"", "").replace(", dev = \"ens4\"", "");
    // The first probe at once, and then none for longer than this test waits.
    let text = text.replace("interval = \"300ms\"", "interval = \"10m\"");
    assert!(!text.contains(", dev") && text.contains("10m"), "{text}");
    let lab = Lab::start(&text);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.fail(0, DeadLink);
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.heal(0, DeadLink);
    lab.wait("-4", &[FIRST], &[SECOND]);
}

/// Killed while the second gateway serves: it goes on serving, though at the start nothing is known of the first.
#[test]
fn after_a_crash_the_gateway_in_use_stays_in_use() {
    let mut lab = Lab::start(EXAMPLE);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.wait_checks(["up", "up"]);
    lab.fail(0, DeadGateway);
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.node.daemon().kill();
    let news = lab.server.read("/run/news").len();
    lab.node.restart().unwrap();
    lab.wait_checks(["down", "up"]);
    let since = lab.server.read("/run/news").split_off(news);
    assert!(!since.contains("default"), "{since}");
    lab.heal(0, DeadGateway);
    lab.wait("-4", &[FIRST], &[SECOND]);
    lab.monitor.kill();
}

/// Shared by weight, less the dead ones; none left: the route goes, if it is to. A reload changes the mode.
#[test]
fn several_gateways_share_until_one_dies() {
    let lab = Lab::start(EXAMPLE);
    lab.wait_checks(["up", "up"]);
    lab.wait("-4", &[FIRST], &[SECOND]);
    let text = with_ecmp(&lab.server.read(CONFIG));
    let text = text.replace("when_none = \"keep\"", "when_none = \"remove\"").replacen(
        "weight = 1",
        "weight = 3",
        1,
    );
    lab.server.write(CONFIG, text).unwrap();
    let said = lab.node.ask(&json!({"command": "reload"})).unwrap().to_string();
    assert!(said.contains("mode ecmp"), "{said}");
    lab.wait("-4", &["via 192.0.2.1 dev ens3 weight 3", "via 198.51.100.1 dev ens4 weight 1"], &[]);
    lab.fail(1, BfdDropped);
    lab.wait("-4", &[FIRST], &[SECOND, "weight"]);
    lab.heal(1, BfdDropped);
    lab.wait("-4", &[FIRST, SECOND], &[]);
    lab.fail(0, DeadLink);
    lab.wait("-4", &[SECOND], &[FIRST]);
    lab.fail(1, DeadGateway);
    lab.wait("-4", &[], &["default"]);
    lab.heal(1, DeadGateway);
    lab.wait("-4", &[SECOND], &[FIRST]);
}

/// By ping; by BFD see what IPv6 loses.
#[test]
fn ipv6_gateways_without_bfd_are_pinged() {
    let (first, second) = (FIRST6, SECOND6);
    let lab = Lab::start(&with_ecmp(&with_ipv6(&with_pings(EXAMPLE))));
    lab.wait("-6", &[first, second], &[]);
    for how in [DeadLink, DeadGateway] {
        lab.fail(0, how);
        lab.wait("-6", &[second], &[first]);
        lab.heal(0, how);
        lab.wait("-6", &[first, second], &[]);
    }
}
