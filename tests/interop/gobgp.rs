//! GoBGP: active and passive, what `gobgp` shows.

use std::process::{Command, Stdio};

use announcerd::demo::lab::{Daemon, host::find_program};

use crate::rig::{PREFIX, PREFIX6, Pair, until};

pub fn gobgpd(pair: &Pair, passive: bool) -> Daemon {
    gobgpd_with(pair, passive, "")
}

/// With the key and GTSM, where `keyed` has the key's line.
fn gobgpd_with(pair: &Pair, passive: bool, keyed: &str) -> Daemon {
    let gtsm =
        if keyed.is_empty() { "" } else { "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255" };
    let config = format!(
        r#"
        [global.config]
        as = 64500
        router-id = "203.0.113.1"
        [[neighbors]]
        [neighbors.config]
        neighbor-address = "203.0.113.2"
        peer-as = 64501
        {keyed}
        {gtsm}
        [neighbors.transport.config]
        passive-mode = {passive}
        [neighbors.timers.config]
        connect-retry = 1
        idle-hold-time-after-reset = 1
        [[neighbors.afi-safis]]
        [neighbors.afi-safis.config]
        afi-safi-name = "ipv4-unicast"
        [[neighbors.afi-safis]]
        [neighbors.afi-safis.config]
        afi-safi-name = "ipv6-unicast"
        "#
    );
    pair.them.write("/run/gobgpd.toml", config).unwrap();
    let mut command = Command::new(find_program("gobgpd", "gobgpd").unwrap());
    command.args(["-f", "/run/gobgpd.toml", "--pprof-disable", "--api-hosts=127.0.0.1:50051"]);
    pair.them.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

/// What GoBGP has of the prefix from us.
fn rib(pair: &Pair, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let answer = pair.them.run(&["gobgp", "neighbor", "203.0.113.2", "adj-in", "-a", family]);
    answer.ok().filter(|a| a.contains(prefix)).unwrap_or_default()
}

/// How many messages GoBGP has counted; it leaves zeros out.
fn count(pair: &Pair, way: &str, kind: &str) -> u64 {
    let answer = pair.them.run(&["gobgp", "neighbor", "203.0.113.2", "-j"]).unwrap();
    let said: serde_json::Value = serde_json::from_str(&answer).unwrap();
    said["state"]["messages"][way][kind].as_u64().unwrap_or(0)
}

/// GoBGP keeps what it was told and looks at that again: `softresetin` of 3.10 sends no ROUTE-REFRESH though RFC 2918 was
/// negotiated. Should another version ask, it is answered with everything. It loses nothing, in the same session.
#[test]
fn gobgp_looks_again() {
    let pair = Pair::new(&[]);
    let _gobgpd = gobgpd(&pair, true);
    let node = pair.node("");
    pair.wait_advertised(&node);
    let has = |wanted: bool| {
        until("both prefixes, or neither", &node, || {
            [PREFIX, PREFIX6].iter().all(|p| rib(&pair, p).is_empty() != wanted)
        });
    };
    has(true);
    let before = count(&pair, "received", "update");
    assert!(before >= 2);
    pair.them.run(&["gobgp", "neighbor", "203.0.113.2", "softresetin"]).unwrap();
    has(true);
    // Later words on the same connection: what the reset led to came before.
    pair.healthy(false);
    has(false);
    pair.healthy(true);
    has(true);
    let asked = count(&pair, "sent", "refresh");
    let updates = count(&pair, "received", "update");
    assert!(updates >= before + 4 + asked, "asked {asked} times; {before} and then {updates} UPDATEs");
    assert_eq!(count(&pair, "received", "open"), 1);
}

fn story(passive: bool, session: &str) {
    let pair = Pair::new(&[]);
    let _gobgpd = gobgpd(&pair, passive);
    let node = pair.node(session);
    pair.wait_advertised(&node);
    for (prefix, next_hop) in [(PREFIX, "203.0.113.2"), (PREFIX6, "2001:db8::2")] {
        until(prefix, &node, || !rib(&pair, prefix).is_empty());
        let seen = rib(&pair, prefix);
        for attribute in [
            next_hop,
            "64501 64501 64501",
            "{Origin: i}",
            "{Med: 77}",
            "64501:100",
            "no-export",
            "[64501:9]",
            "64501:7:8",
        ] {
            assert!(seen.contains(attribute), "no {attribute} in {seen}");
        }
    }
    pair.healthy(false);
    until("the withdraw", &node, || rib(&pair, PREFIX).is_empty() && rib(&pair, PREFIX6).is_empty());
}

#[test]
fn gobgp_sees_every_attribute() {
    story(true, "");
}

#[test]
fn gobgp_connects_to_us() {
    story(false, "passive = true");
}

/// RFC 2385 and RFC 5082, whoever connects; and no hold time (RFC 4271 section 4.2) where GoBGP does.
#[test]
fn md5_and_gtsm_with_gobgp() {
    secured(true, Pair::keyed);
}

#[test]
fn gobgp_connects_with_md5_gtsm_and_no_hold_time() {
    secured(false, Pair::keyed_and_called);
}

fn secured(passive: bool, session: fn(&Pair) -> String) {
    let pair = Pair::new(&[]);
    let _gobgpd = gobgpd_with(&pair, passive, "auth-password = \"s3cret\"");
    let node = pair.node(&session(&pair));
    pair.wait_advertised(&node);
    let has = |wanted: bool| [PREFIX, PREFIX6].iter().all(|p| rib(&pair, p).is_empty() != wanted);
    until("both prefixes", &node, || has(true));
    pair.healthy(false);
    until("the withdraw", &node, || has(false));
}
