use super::*;
use crate::config::{Env, ScriptVerdict, parse};
use proptest::prelude::*;

fn converted(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keepalived.conf");
    std::fs::write(&path, text).unwrap();
    let output = convert(&path, "main", check).unwrap();
    check(&output).unwrap_or_else(|e| panic!("{e}\nin\n{output}"));
    output
}

fn check(text: &str) -> Result<(), Diagnostics> {
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    parse("announcer.toml", text, &env).map(|_| ())
}

/// Only what counts: no comments, no empty lines.
fn living(text: &str) -> Vec<String> {
    converted(text).lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
}

/// Two nodes that elect one of them must not both become MASTER because a file was translated.
#[test]
fn an_election_alone_announces_nothing() {
    let text = "vrrp_script web { script \"/bin/true\" }\nvrrp_instance a { interface eth0\nvirtual_router_id 1\npriority 100\nvirtual_ipaddress { 192.0.2.1/24 }\ntrack_script { web } }";
    let living = living(text);
    assert!(!living.iter().any(|l| l.contains("instance")), "{living:#?}");
    assert!(converted(text).contains("#   address = \"192.0.2.1/24\""));
}

/// A reversed script must fail for MASTER: it asks whether the primary lives.
#[test]
fn a_reversed_script_is_the_primary() {
    let text = "vrrp_script alive { script \"/usr/local/bin/alive\"\ninterval 2\nfall 3\nrise 4\nweight 0 reverse }\nvrrp_instance a { interface eth0\ntrack_script { alive }\nvirtual_routes { 198.51.100.0/24 dev lo } }";
    let living = living(text);
    for line in [
        "primary = { checks = [\"alive\"] }",
        "fall = 3",
        "rise = 4",
        "to = \"198.51.100.0/24\"",
        "dev = \"lo\"",
    ] {
        assert!(living.iter().any(|l| l == line), "{line} in {living:#?}");
    }
}

/// A track script in a file of its own, as the recipe has it; `body` is its text.
fn with_script_file(body: &str, more: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chk_mainland.sh");
    std::fs::write(&path, body).unwrap();
    let path = path.display();
    converted(&format!(
        "vrrp_script chk {{ script \"{path}\"\ninterval 2\nfall 3\nrise 5\n{more} }}\nvrrp_instance a {{ interface eth0\ntrack_script {{ chk }}\nvirtual_routes {{ 198.51.100.0/24 dev lo }} }}"
    ))
}

fn counts(output: &str, line: &str) -> bool {
    output.lines().any(|l| l == line)
}

/// The script fails while the mainland answers: the check asks the mainland, so that its failures are the script's
/// successes, and what it needs to be down is what the script needed to be well.
#[test]
fn a_script_file_around_a_ping_is_read() {
    let output =
        with_script_file("#!/bin/sh\nif ping -c 1 -W 1 198.18.0.1 >/dev/null; then\n exit 1\nfi\nexit 0", "");
    for line in ["type = \"ping\"", "host = \"198.18.0.1\"", "fall = 5", "rise = 3", "#   invert = true"] {
        assert!(counts(&output, line), "{line} in {output}");
    }
    assert!(counts(&output, "primary = { checks = [\"chk\"] }"), "{output}");
    // Not turned around, but reversed by the configuration: the same primary, counted as the script is.
    let output = with_script_file("#!/bin/sh\nping -c 1 -W 1 198.18.0.1", "weight 0 reverse");
    for line in ["fall = 3", "rise = 5", "#   invert = false", "primary = { checks = [\"chk\"] }"] {
        assert!(counts(&output, line), "{line} in {output}");
    }
}

/// An uplink script must never become the primary of an instance: it would take over while the uplink is dead.
#[test]
fn a_negated_ping_that_ends_the_script_is_an_uplink() {
    let output = with_script_file("#!/bin/sh\n! ping -c1 203.0.113.1 && exit 1\nexit 0", "");
    assert!(output.contains("#   require = { checks = [\"chk\"] }"), "{output}");
    assert!(!output.contains("primary = {"), "{output}");
}

#[test]
fn a_script_that_is_not_understood_stays_one() {
    let output = with_script_file("#!/bin/sh\ncurl http://198.18.0.1/ && exit 1\nexit 0", "weight 0 reverse");
    for line in ["type = \"exec\"", "fall = 3", "rise = 5", "primary = { checks = [\"chk\"] }"] {
        assert!(counts(&output, line), "{line} in {output}");
    }
}

/// keepalived leaves MASTER as soon as one of the scripts succeeds, and comes to it only when all fail.
#[test]
fn of_several_reversed_scripts_any_ends_the_takeover() {
    let script = |name: &str| {
        format!(
            "vrrp_script {name} {{ script \"ping -c 1 198.18.0.1\"\nfall 3\nrise 2\nweight 0 reverse }}\n"
        )
    };
    let text = format!(
        "{}{}vrrp_instance i {{ interface eth0\ntrack_script {{ a\nb\na }} }}",
        script("a"),
        script("b")
    );
    let line = "primary = { checks = [\"a\", \"b\"], down_when = \"all\", up_when = \"any\" }";
    assert!(living(&text).iter().any(|l| l == line), "{}", converted(&text));
}

/// `-c 3`: one answer is enough, unless `-w` sets a time for all of them.
#[test]
fn one_answer_of_several_is_enough_as_for_ping() {
    let max_loss = |ping: &str| {
        let text = format!(
            "vrrp_script p {{ script \"{ping}\"\nweight 0 reverse }}\nvrrp_instance a {{ track_script {{ p }} }}"
        );
        living(&text).into_iter().find(|l| l.starts_with("max_loss"))
    };
    for (count, percent) in [(2, 50), (3, 67), (4, 75), (7, 86)] {
        let got = max_loss(&format!("ping -c {count} 198.18.0.1"));
        assert_eq!(got, Some(format!("max_loss = {percent}")));
        // The check lets `count - 1` be lost, and not all.
        assert!((count - 1) * 100 <= percent * count && percent < 100);
    }
    assert_eq!(max_loss("ping -c 3 -w 2 198.18.0.1"), None);
}

/// Two scripts of keepalived never run at the same time: a timeout beyond the interval stretches that.
#[test]
fn a_timeout_beyond_the_interval_raises_that() {
    let output = with_script_file("#!/bin/sh\ntrue", "timeout 10");
    for line in ["interval = \"10s\"", "timeout = \"10s\""] {
        assert!(counts(&output, line), "{line} in {output}");
    }
    assert!(output.contains("interval 2s is raised to the timeout, 10s"), "{output}");
    // The ping itself says how long it waits.
    let output = with_script_file("#!/bin/sh\nping -c1 -W1 198.18.0.1", "timeout 10");
    assert!(counts(&output, "interval = \"2s\"") && counts(&output, "timeout = \"1s\""), "{output}");
    let output = with_script_file("#!/bin/sh\nping -c1 -W 9 198.18.0.1", "timeout 2");
    assert!(output.contains("the ping waits 9s, but the script has only 2s"), "{output}");
}

/// What is not taken over stands there with its line and why.
#[test]
fn nothing_vanishes() {
    let text = "vrrp_script s {\n script \"ping -4 -i 0.2 -t 9 -c 2 198.18.0.1\"\n user nobody\n init_fail\n interval 0.5\n weight 0 reverse\n}\nvrrp_script g {\n script /bin/true\n}\nvrrp_instance a {\n interface eth0\n track_script {\n s\n }\n virtual_ipaddress {\n 192.0.2.1/24 brd 192.0.2.255 label eth0:1\n 192.0.2.2 peer 192.0.2.3 no_track\n }\n virtual_routes {\n 198.51.100.0/24 dev lo no_track\n }\n}\nvrrp_sync_group G {\n group {\n a\n }\n notify_master /bin/m\n track_script {\n g\n }\n}";
    let output = converted(text);
    for words in [
        "conf:3: vrrp_script s: user nobody: it runs as",
        "conf:4: vrrp_script s: init_fail: has no equivalent",
        "conf:5: vrrp_script s: interval 0.5: taken as 1",
        "conf:2: vrrp_script s: ping -4: has no equivalent",
        "conf:2: vrrp_script s: ping -i 0.2: has no equivalent",
        "conf:2: vrrp_script s: ping -t 9: has no equivalent",
        "conf:17: 192.0.2.1/24 brd 192.0.2.255: the kernel",
        "conf:17: 192.0.2.1/24 label eth0:1: is a name",
        "conf:18: 192.0.2.2/32 peer 192.0.2.3: has no equivalent",
        "conf:18: 192.0.2.2/32 no_track: ",
        "conf:21: 198.51.100.0/24 dev lo no_track: ",
        "conf:24: vrrp_sync_group G: instances that move together",
        "conf:26: group: a",
        "conf:28: notify_master /bin/m: the script of a group",
        "conf:30: track_script: g",
        "conf:8: vrrp_script g: only a sync group tracks it",
    ] {
        assert!(output.contains(words), "{words} in\n{output}");
    }
}

/// A piece that the reader refuses is a comment with its words, and the rest stands.
#[test]
fn what_is_refused_becomes_a_comment() {
    let text = "vrrp_script p { script \"ping -c 1 198.18.0.1\"\nweight 0 reverse }\nvrrp_instance a { interface eth0\ntrack_script { p }\nvirtual_ipaddress { 192.0.2.1/99\n192.0.2.2 } }";
    let output = converted(text);
    assert!(output.contains("#   address = \"192.0.2.1/99\""), "{output}");
    assert!(living(text).iter().any(|l| l == "address = \"192.0.2.2/32\""), "{output}");
}

#[test]
fn virtual_servers_are_out_of_scope() {
    let output =
        converted("virtual_server 192.0.2.1 80 {\n lb_algo rr\n real_server 192.0.2.2 80 { weight 1 }\n}");
    assert!(output.contains("keepalived.conf:1: virtual_server 192.0.2.1 80: LVS"), "{output}");
}

/// Statements as they come in real files, in any order and nesting.
fn statement() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "vrrp_script a {",
        "vrrp_script b {",
        "vrrp_instance a {",
        "vrrp_instance \"x y\" {",
        "}",
        "}",
        "}",
        "script \"ping -c 1 -W 1 198.18.0.1\"",
        "script /bin/true",
        "script \"! ping -c 9999999 -w 1e300 -W -3 -t x 198.18.0.1\"",
        "script \"/bin/sh -c '! ping -c 3 -W 0.0004 -6 198.18.0.1 && exit 1; exit 0'\"",
        "script \"! /bin/false\"",
        "user a b",
        "init_fail",
        "vrrp_sync_group g {",
        "group {",
        "script \"a \\\" b\"",
        "interval 0.5",
        "interval 99999",
        "timeout 9",
        "fall 0",
        "rise 3",
        "weight 0 reverse",
        "weight -5",
        "track_script {",
        "a",
        "b weight 0 reverse",
        "track_interface {",
        "eth0",
        "eth0 weight 5",
        "virtual_ipaddress {",
        "192.0.2.1/24",
        "192.0.2.1/99 dev eth1 label eth1:1",
        "192.0.2.3 peer 192.0.2.4 brd + no_track",
        "2001:db8::1",
        "virtual_routes {",
        "198.51.100.0/24 dev lo",
        "default via 192.0.2.1",
        "blackhole 10.0.0.0/8",
        "src 1.2.3.4 to 10.0.0.0/8 via 192.0.2.1 table 9999999999",
        "virtual_rules {",
        "from 10.0.0.0/8 table 5",
        "notify_master \"/a b\" root",
        "notify \"'\"",
        "nopreempt",
        "global_defs {",
        "router_id \"a b\u{7f}c\"",
        "interface lo",
        "$A=${A}x",
        "${A}",
        "@main x",
        "include *",
        "~SEQ(X, 1, 5) a",
        "\"",
        "'",
        "!",
        "#",
        "{",
        "unicast_peer {",
        "virtual_server 1 2 {",
    ]);
    words.prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// "What it prints always passes `--check`."
    #[test]
    fn whatever_goes_in_is_valid_when_it_comes_out(lines in prop::collection::vec(statement(), 0..40)) {
        converted(&lines.join("\n"));
    }

    /// Bytes of any kind, comments and quotes among them.
    #[test]
    fn no_bytes_panic(text in any::<Vec<u8>>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        std::fs::write(&path, text).unwrap();
        prop_assert!(check(&convert(&path, "", check).unwrap()).is_ok());
    }
}
