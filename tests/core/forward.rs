//! Tunnels in the order of things, and next hops by what checks and links say.

use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, link, with};

const TUNNEL: &str = r#"
[[instance.tunnel]]
name = "gre1"
mode = "gre"
local = "203.0.113.2"
remote = "198.18.1.1"
addresses = ["10.10.10.2/30"]
when = "master"
[[instance.route]]
to = "10.30.0.0/16"
dev = "gre1"
[[instance.rule]]
from = "10.10.10.0/30"
table = 100
"#;

/// "Into MASTER: tunnels, addresses, routes; when the kernel has acknowledged them, `export` routes ...; then scripts.
/// Out of MASTER: ... `export` routes at once, together with notify_backup; then `drain`; then other routes, addresses,
/// tunnels."
#[test]
fn tunnels_come_first_and_go_last() {
    let mut rig = Rig::settled(&format!("{STANDBY}{TUNNEL}"));
    rig.set("ping", Target::Silent);
    rig.until("MASTER's script", 60 * SECOND, |r| r.has_told("run /master"));
    let gre = "add tunnel gre1 mode gre local 203.0.113.2 remote 198.18.1.1 ttl 64";
    let into = [
        "a MASTER",
        gre,
        "add address 172.16.1.1/24 dev lo",
        "add address 10.10.10.2/30 dev gre1",
        "add route 10.10.0.0/16 via 172.16.1.9",
        "add route 10.30.0.0/16 dev gre1",
        "add rule from 10.10.10.0/30 lookup 100 priority 10000",
        // With all of it in place: does the tunnel lead into itself?
        "examine tunnel gre1 mode gre local 203.0.113.2 remote 198.18.1.1 ttl 64",
        "add route 198.51.100.0/24 dev lo",
        "run /master",
    ];
    assert_eq!(rig.told(), into);
    assert!(rig.when(EXPORT) > rig.when("add rule"), "after the acknowledgement");

    rig.run(SECOND);
    rig.forget();
    rig.set("ping", Target::Answers(MS));
    rig.until("the tunnel to go", 90 * SECOND, |r| r.has_told("delete tunnel"));
    let out = [
        "a BACKUP",
        "run /backup",
        "delete route 198.51.100.0/24 dev lo",
        "delete rule from 10.10.10.0/30 lookup 100 priority 10000",
        "delete route 10.30.0.0/16 dev gre1",
        "delete route 10.10.0.0/16 via 172.16.1.9",
        "delete address 10.10.10.2/30 dev gre1",
        "delete address 172.16.1.1/24 dev lo",
    ];
    let told = rig.told();
    let mut sorted = told[..3].to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, ["a BACKUP", "delete route 198.51.100.0/24 dev lo", "run /backup"]);
    assert_eq!(told[3..8], out[3..]);
    assert!(rig.when("delete rule").since(rig.when("a BACKUP")) >= 10 * SECOND, "the drain");
}

/// "A refused operation ... holds back the announcement that depends on it."
#[test]
fn a_tunnel_that_cannot_be_made_holds_the_announcement_back() {
    let mut rig = Rig::settled(&format!("{STANDBY}{TUNNEL}"));
    let why = "this kernel knows no tunnels of mode gre: module ip_gre is missing";
    rig.kernel.refuses = vec![("gre1", announcerd::fib::object::OpError::Refused(why.into()))];
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 60 * SECOND);
    rig.run(20 * SECOND);
    assert!(!rig.kernel.has(EXPORT));
    assert!(rig.logs.iter().any(|l| l.contains("module ip_gre is missing")), "{:?}", rig.logs);
    rig.kernel.refuses.clear();
    rig.until("the announcement", 40 * SECOND, |r| r.kernel.has(EXPORT));
}

/// A route of ours that draws the tunnel's own packets in shows when it is there: before anything is announced, not after.
#[test]
fn a_tunnel_that_leads_into_itself_is_seen_before_the_announcement() {
    let mut rig = Rig::settled(&format!("{STANDBY}{TUNNEL}"));
    let lost = announcerd::fib::object::OpError::Recursive("198.18.1.1".into());
    rig.kernel.refuses = vec![("tunnel gre1", lost)];
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 60 * SECOND);
    rig.run(20 * SECOND);
    assert!(!rig.has_told(EXPORT) && !rig.has_told("run /master"), "{:?}", rig.told());
    assert!(rig.logs.iter().any(|l| l.contains("leads into the tunnel itself")), "{:?}", rig.logs);
    // Somebody gives the tunnel's packets a way of their own.
    rig.kernel.refuses.clear();
    rig.until("the announcement", 30 * SECOND, |r| r.kernel.has(EXPORT));
}

/// Make before break: a reload of a MASTER leaves no moment in which packets take another way.
#[test]
fn a_reload_makes_before_it_breaks() {
    let text = format!("{STANDBY}{TUNNEL}");
    let mut rig = Rig::master(&text);
    let renumbered = with(&text, "table = 100", "table = 101");
    let moved = with(&renumbered, "dev = \"gre1\"", "dev = \"gre1\"\nmetric = 50");
    rig.reload(&moved);
    rig.run(SECOND);
    assert_eq!(
        rig.told(),
        [
            "add route 10.30.0.0/16 dev gre1 metric 50",
            "add rule from 10.10.10.0/30 lookup 101 priority 10000",
            "delete rule from 10.10.10.0/30 lookup 100 priority 10000",
            "delete route 10.30.0.0/16 dev gre1",
        ]
    );
}

const GATEWAYS: &str = r#"
[[check]]
name = "gw1"
type = "ping"
host = "192.0.2.1"
interval = "300ms"
timeout = "250ms"
[[check]]
name = "gw2"
type = "ping"
host = "192.0.2.129"
interval = "300ms"
timeout = "250ms"
[[instance]]
name = "a"
[[instance.route]]
to = "default"
nexthops = [ { via = "192.0.2.1", dev = "eth0", check = "gw1" }, { via = "192.0.2.129", dev = "eth1", check = "gw2" } ]
when = "always"
"#;
const FIRST: &str = "via 192.0.2.1 dev eth0";
const SECOND_HOP: &str = "via 192.0.2.129 dev eth1";

fn gateways(text: &str) -> Rig {
    let mut rig = Rig::new(text);
    rig.set_link("eth1", true);
    rig.run(5 * SECOND);
    rig.forget();
    rig
}

#[test]
fn a_dead_gateway_is_replaced_by_one_operation_and_takes_over_again() {
    let mut rig = gateways(GATEWAYS);
    assert_eq!(rig.kernel.all(), ["route 0.0.0.0/0 via 192.0.2.1 dev eth0"]);
    rig.set("gw1", Target::Silent);
    let took = rig.until("the second", 2 * SECOND, |r| r.kernel.has(SECOND_HOP));
    assert!(took <= 1200 * MS, "{took:?}");
    rig.set("gw1", Target::Answers(MS));
    rig.until("the first", 2 * SECOND, |r| r.kernel.has(FIRST));
    assert_eq!(
        rig.told(),
        [format!("replace route 0.0.0.0/0 {SECOND_HOP}"), format!("replace route 0.0.0.0/0 {FIRST}")]
    );
    assert!(rig.logs.iter().any(|l| l.contains(&format!("{FIRST} is down"))), "{:?}", rig.logs);
}

/// "A link going down takes effect by netlink at once, not at the next probe."
#[test]
fn a_dead_link_needs_no_probe() {
    let mut rig = gateways(GATEWAYS);
    rig.tell(Event::LinkIs(link("eth0", false)));
    assert_eq!(rig.told(), [format!("replace route 0.0.0.0/0 {SECOND_HOP}")], "in the same turn");
}

/// No `dev`: the gateway is on the link whose network it is in, also when the network has gone with the link.
#[test]
fn a_dead_link_needs_no_probe_where_the_file_names_none() {
    let text = GATEWAYS.replace(", dev = \"eth0\"", "").replace(", dev = \"eth1\"", "");
    let mut rig = Rig::new(&text);
    let net = |text: &str, dev: &str| (text.parse().unwrap(), dev.to_owned());
    rig.kernel.nets =
        vec![net("192.0.2.0/24", "eth9"), net("192.0.2.0/25", "eth0"), net("192.0.2.128/25", "eth1")];
    for dev in ["eth1", "eth9"] {
        rig.set_link(dev, true);
    }
    rig.run(5 * SECOND);
    rig.forget();
    rig.tell(Event::LinkIs(link("eth9", false)));
    assert_eq!(rig.told(), [""; 0], "the nearest network counts");
    rig.kernel.nets.retain(|(_, dev)| dev == "eth1");
    rig.set_link("eth0", false);
    assert_eq!(rig.told(), ["replace route 0.0.0.0/0 via 192.0.2.129"], "in the same turn");
    rig.run(5 * SECOND);
    assert!(rig.kernel.has("via 192.0.2.129"), "{:?}", rig.kernel.all());
}

/// Neither `dev` nor a network: that our own link has died shows as probes that see nothing, which never is `down`.
#[test]
fn a_gateway_that_cannot_be_seen_is_replaced_after_its_fall_time() {
    let text = GATEWAYS.replace(", dev = \"eth0\"", "").replace(", dev = \"eth1\"", "");
    let mut rig = gateways(&text);
    rig.set("gw1", Target::Blind);
    rig.until("the second", 5 * SECOND, |r| r.kernel.has("via 192.0.2.129"));
    assert!(rig.logs.iter().any(|l| l.contains("nothing is known any more")), "{:?}", rig.logs);
    // Nobody is seen: nothing moves.
    rig.set("gw2", Target::Blind);
    rig.run(5 * SECOND);
    assert!(rig.kernel.has("via 192.0.2.129"));
    rig.set("gw1", Target::Answers(MS));
    rig.until("the first", 2 * SECOND, |r| !r.kernel.has("via 192.0.2.129"));
}

/// The time of a lapse is exact: nobody has to come by for other reasons.
#[test]
fn a_gateway_that_cannot_be_seen_gives_way_on_time() {
    let text = GATEWAYS.replace(", dev = \"eth0\"", "").replace(", dev = \"eth1\"", "");
    let text = text.replace(
        "interval = \"300ms\"\ntimeout = \"250ms\"",
        "interval = \"10s\"\ntimeout = \"3s\"\nfall = 1",
    );
    let mut rig = gateways(&text);
    rig.run(20 * SECOND);
    rig.set("gw1", Target::Blind);
    rig.until("unknown", 11 * SECOND, |r| r.verdict("gw1") == "unknown");
    let took = rig.until("the second", 30 * SECOND, |r| r.kernel.has("via 192.0.2.129"));
    assert_eq!(took, 13 * SECOND, "one interval and a timeout");
}

/// The last one standing stays; or the route goes, if it is to.
#[test]
fn when_none_is_well_the_last_stays_or_the_route_goes() {
    let mut rig = gateways(GATEWAYS);
    rig.set("gw1", Target::Silent);
    rig.until("the second", 2 * SECOND, |r| r.kernel.has(SECOND_HOP));
    rig.set("gw2", Target::Silent);
    rig.run(5 * SECOND);
    assert!(rig.kernel.has(SECOND_HOP));
    let removing = GATEWAYS.replace("when = \"always\"", "when = \"always\"\nwhen_none = \"remove\"");
    rig.reload(&removing);
    rig.run(SECOND);
    assert!(rig.kernel.all().is_empty(), "{:?}", rig.kernel.all());
    rig.set("gw2", Target::Answers(MS));
    rig.until("the second", 2 * SECOND, |r| r.kernel.has(SECOND_HOP));
}

#[test]
fn ecmp_drops_the_dead_one_and_a_reload_changes_nothing_else() {
    let text = GATEWAYS.replace("when = \"always\"", "when = \"always\"\nmode = \"ecmp\"");
    let mut rig = gateways(&text);
    let both = "nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 192.0.2.129 dev eth1 weight 1";
    assert_eq!(rig.kernel.all(), [format!("route 0.0.0.0/0 {both}")]);
    rig.set("gw2", Target::Silent);
    rig.until("the first alone", 2 * SECOND, |r| !r.kernel.has("nexthop"));
    assert!(rig.kernel.has(FIRST));
    rig.forget();
    // Something else changes: the choice stays.
    rig.reload(&text.replace("name = \"a\"", "name = \"a\"\ndrain = \"1s\""));
    rig.run(2 * SECOND);
    assert_eq!(rig.told(), Vec::<&str>::new());
}

/// After kill -9 nothing is known of any gateway; the one in use is in use for a reason.
#[test]
fn a_new_process_goes_on_with_the_gateway_in_use() {
    let mut rig = gateways(GATEWAYS);
    rig.set("gw1", Target::Silent);
    rig.until("the second", 2 * SECOND, |r| r.kernel.has(SECOND_HOP));
    let mut rig = rig.crash(GATEWAYS, SECOND, true);
    rig.run(5 * SECOND);
    assert!(!rig.has_told("route"), "{:?}", rig.told());
    assert!(rig.kernel.has(SECOND_HOP));
    rig.set("gw1", Target::Answers(MS));
    rig.until("the first", 2 * SECOND, |r| r.kernel.has(FIRST));
}
