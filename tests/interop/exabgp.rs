//! ExaBGP: what it tells its helper process in JSON.

use std::process::{Command, Stdio};

use announcerd::demo::lab::{Daemon, host::find_program};
use serde_json::Value;

use crate::rig::{PREFIX, PREFIX6, Pair, until};

const SEEN: &str = "/run/seen";

pub fn exabgp(pair: &Pair, passive: bool) -> Daemon {
    exabgp_with(pair, passive, "")
}

/// With these lines about the session.
fn exabgp_with(pair: &Pair, passive: bool, more: &str) -> Daemon {
    let config = format!(
        r#"
process log {{
    run /bin/sh -c "cat > {SEEN}";
    encoder json;
}}
neighbor 203.0.113.2 {{
    router-id 203.0.113.1;
    local-address 203.0.113.1;
    local-as 64500;
    peer-as 64501;
    passive {passive};
    {listen}
    {more}
    family {{ ipv4 unicast; ipv6 unicast; }}
    api {{ processes [ log ]; neighbor-changes; receive {{ parsed; update; notification; }} }}
}}
"#,
        listen = if passive { "listen 179;" } else { "" },
    );
    pair.them.write("/run/exabgp.conf", config).unwrap();
    let log = std::fs::File::create(pair.them.path("/run/exabgp.log")).unwrap();
    let mut command = Command::new(find_program("exabgp", "exabgp").unwrap());
    command.arg("/run/exabgp.conf");
    command
        .env("exabgp.daemon.user", "root")
        .env("exabgp.daemon.drop", "false")
        .env("exabgp.api.cli", "false");
    command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
    pair.them.spawn(&mut command).unwrap()
}

/// The UPDATEs so far, as ExaBGP reads them.
fn updates(pair: &Pair) -> Vec<Value> {
    let lines = pair.them.read(SEEN);
    let message = |line: &str| serde_json::from_str::<Value>(line).ok();
    let update = |mut m: Value| m["neighbor"]["message"]["update"].take();
    lines.lines().filter_map(message).map(update).filter(|u| u.is_object()).collect()
}

fn story(passive: bool, session: &str) {
    let pair = Pair::new(&[]);
    let _exabgp = exabgp(&pair, passive);
    let node = pair.node(session);
    pair.wait_advertised(&node);
    let families = [(PREFIX, "ipv4 unicast", "203.0.113.2"), (PREFIX6, "ipv6 unicast", "2001:db8::2")];
    let told = |prefix: &str, what: &str| {
        let has = |u: &&Value| u[what].to_string().contains(prefix);
        updates(&pair).iter().find(has).cloned()
    };
    for (prefix, family, next_hop) in families {
        until(&format!("{prefix}: {}", pair.them.read("/run/exabgp.log")), &node, || {
            told(prefix, "announce").is_some()
        });
        let update = told(prefix, "announce").unwrap();
        assert!(update["announce"][family][next_hop].is_array(), "{update}");
        let attributes = &update["attribute"];
        assert_eq!(attributes["origin"], "igp", "{update}");
        assert_eq!(attributes["as-path"], serde_json::json!([64501, 64501, 64501]), "{update}");
        assert_eq!(attributes["med"], 77, "{update}");
        assert_eq!(attributes["community"], serde_json::json!([[64501, 100], [65535, 65281]]), "{update}");
        assert_eq!(attributes["large-community"], serde_json::json!([[64501, 7, 8]]), "{update}");
        assert!(attributes["extended-community"].to_string().contains("target:64501:9"), "{update}");
    }
    pair.healthy(false);
    for (prefix, ..) in families {
        until("the withdraw", &node, || told(prefix, "withdraw").is_some());
    }
    assert!(!pair.them.read(SEEN).contains("notification"));
}

#[test]
fn exabgp_sees_every_attribute() {
    story(true, "");
}

#[test]
fn exabgp_connects_to_us() {
    story(false, "passive = true");
}

/// RFC 2385 and RFC 5082, whoever connects; and no hold time (RFC 4271 section 4.2) where ExaBGP does.
#[test]
fn md5_and_gtsm_with_exabgp() {
    secured(true, Pair::keyed);
}

#[test]
fn exabgp_connects_with_md5_gtsm_and_no_hold_time() {
    secured(false, Pair::keyed_and_called);
}

fn secured(passive: bool, session: fn(&Pair) -> String) {
    let pair = Pair::new(&[]);
    let _exabgp = exabgp_with(&pair, passive, "md5-password s3cret; outgoing-ttl 255; incoming-ttl 255;");
    let node = pair.node(&session(&pair));
    pair.wait_advertised(&node);
    let told = |what: &str| {
        [PREFIX, PREFIX6].iter().all(|p| updates(&pair).iter().any(|u| u[what].to_string().contains(p)))
    };
    until("both prefixes", &node, || told("announce"));
    pair.healthy(false);
    until("the withdraw", &node, || told("withdraw"));
}
