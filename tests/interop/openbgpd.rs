//! OpenBGPD: active and passive, what `bgpctl` shows.

use std::process::{Command, Stdio};

use announcerd::demo::lab::{Daemon, Node, host::find_program};
use std::os::unix::fs::PermissionsExt;

use crate::rig::{PREFIX, PREFIX6, Pair, until};

const CONFIG: &str = "/run/bgpd.conf";

pub fn bgpd(pair: &Pair, passive: bool) -> Daemon {
    bgpd_with(pair, if passive { "passive" } else { "" })
}

/// With these lines about the session.
fn bgpd_with(pair: &Pair, more: &str) -> Daemon {
    let config = format!(
        r#"
AS 64500
router-id 203.0.113.1
fib-update no
socket "/run/bgpd.sock"
neighbor 203.0.113.2 {{
    remote-as 64501
    local-address 203.0.113.1
    announce IPv4 unicast
    announce IPv6 unicast
    {}
}}
allow from any
deny to any
"#,
        more,
    );
    pair.them.write(CONFIG, config).unwrap();
    std::fs::set_permissions(pair.them.path(CONFIG), std::fs::Permissions::from_mode(0o600)).unwrap();
    pair.them.run(&["install", "-d", "/run/openbgpd"]).unwrap();
    let log = std::fs::File::create(pair.them.path("/run/bgpd.log")).unwrap();
    let mut command = Command::new(find_program("bgpd", "openbgpd").unwrap());
    command.args(["-d", "-v", "-f", CONFIG]).stdin(Stdio::null());
    pair.them.spawn(command.stdout(log.try_clone().unwrap()).stderr(log)).unwrap()
}

/// What OpenBGPD has of the prefix from us.
fn rib(pair: &Pair, prefix: &str) -> String {
    let words = ["bgpctl", "-s", "/run/bgpd.sock", "show", "rib", "detail", prefix];
    let answer = pair.them.run(&words).unwrap_or_default();
    if answer.contains(prefix) { answer } else { String::new() }
}

/// `bgpctl neighbor … refresh` (RFC 2918): we answer with everything.
pub fn asks_again(pair: &Pair, node: &Node) {
    let control = |words: &[&str]| {
        pair.them.run(&[&["bgpctl", "-s", "/run/bgpd.sock"], words].concat()).unwrap_or_default()
    };
    // "  Updates   SENT   RECEIVED" of the message statistics.
    let received = || -> Option<u64> {
        let said = control(&["show", "neighbor", "203.0.113.2"]);
        let line = said.lines().find_map(|line| line.trim().strip_prefix("Updates "))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let before = received().expect("OpenBGPD's counters");
    control(&["neighbor", "203.0.113.2", "refresh"]);
    until("what OpenBGPD asked for", node, || received() >= Some(before + 2));
}

/// RFC 2918, by its own request.
#[test]
fn openbgpd_asks_again() {
    let pair = Pair::new(&[]);
    let node = pair.node("");
    let _bgpd = bgpd(&pair, true);
    pair.wait_advertised(&node);
    asks_again(&pair, &node);
    assert!(!rib(&pair, PREFIX).is_empty() && !rib(&pair, PREFIX6).is_empty());
}

fn story(passive: bool, session: &str) {
    let pair = Pair::new(&[]);
    // Ours first: refused once, OpenBGPD waits for two minutes.
    let node = pair.node(session);
    let _bgpd = bgpd(&pair, passive);
    until(&pair.them.read("/run/bgpd.log"), &node, || {
        !rib(&pair, PREFIX).is_empty() && !rib(&pair, PREFIX6).is_empty()
    });
    pair.wait_advertised(&node);
    for (prefix, next_hop) in [(PREFIX, "203.0.113.2"), (PREFIX6, "2001:db8::2")] {
        let seen = rib(&pair, prefix);
        for attribute in [
            "64501 64501 64501",
            next_hop,
            "Origin IGP",
            "metric 77",
            "64501:100 NO_EXPORT",
            "rt 64501:9",
            "64501:7:8",
        ] {
            assert!(seen.contains(attribute), "no {attribute} in {seen}");
        }
    }
    pair.healthy(false);
    until("the withdraw", &node, || rib(&pair, PREFIX).is_empty() && rib(&pair, PREFIX6).is_empty());
}

#[test]
fn openbgpd_sees_every_attribute() {
    story(true, "");
}

#[test]
fn openbgpd_connects_to_us() {
    story(false, "passive = true");
}

/// RFC 2385, RFC 5082, and no hold time (RFC 4271 section 4.2), where OpenBGPD connects. (The other way 7.7 on Linux does
/// not get so far: with `tcp md5sig` its listener answers no SYN that is signed.)
#[test]
fn openbgpd_connects_with_md5_gtsm_and_no_hold_time() {
    let pair = Pair::new(&[]);
    let node = pair.node(&pair.keyed_and_called());
    let _bgpd = bgpd_with(&pair, "tcp md5sig password s3cret\n    ttl-security yes");
    pair.wait_advertised(&node);
    let has = |wanted: bool| [PREFIX, PREFIX6].iter().all(|p| rib(&pair, p).is_empty() != wanted);
    until("both prefixes", &node, || has(true));
    pair.healthy(false);
    until("the withdraw", &node, || has(false));
}

/// RFC 9234 section 4.2: two customers have no session; a provider and its customer have.
#[test]
fn openbgpd_and_roles() {
    for (theirs, right) in [("customer", false), ("provider", true)] {
        let pair = Pair::new(&[]);
        let node = pair.node("role = \"customer\"");
        let _bgpd = bgpd_with(&pair, &format!("passive\n    announce policy {theirs}"));
        if right {
            pair.wait_advertised(&node);
        } else {
            until("the reason", &node, || pair.error().is_some_and(|e| e.to_lowercase().contains("role")));
        }
    }
}
