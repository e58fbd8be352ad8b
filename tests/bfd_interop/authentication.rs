//! Authentication with BIRD, which knows all five types. (FRR 8 and keepalived 2.2 know none.)

use announcerd::demo::lab::{Bird, Node};
use std::os::unix::fs::PermissionsExt;

use crate::bird::{config, is_up};
use crate::rig::{Pair, THEM, bfd, check, detail, until, until_up};

const ON_LINK: &str = "203.0.113.2 dev \"customer\" local 203.0.113.1";

const ON_LINK6: &str = "2001:db8::2 dev \"customer\" local 2001:db8::1";

fn run(kind: &str, bird_kind: &str) {
    run_with(kind, bird_kind, ON_LINK, THEM);
}

fn run_with(kind: &str, bird_kind: &str, neighbour: &str, host: &str) {
    let pair = Pair::new();
    let key = |text: &str| {
        pair.us.write("/run/bfd.key", text).unwrap();
        let path = pair.us.path("/run/bfd.key");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let lines = format!(
        "min rx interval 100 ms; min tx interval 100 ms; multiplier 3; authentication {bird_kind}; password \"secret\" {{ id 9; }};"
    );
    let bird = Bird::start(&pair.them, &config(&lines, neighbour)).unwrap();
    key("wrong\n");
    let authentication = format!("{{ type = \"{kind}\", key_id = 9, password_file = \"/run/bfd.key\" }}");
    let lines = format!("host = \"{host}\"\ninterval = \"100ms\"\nauthentication = {authentication}");
    let node = pair.node(&lines);
    until("discards", &node, || bfd(&node).detail.is_some_and(|d| d.discarded > 0));
    let why = detail(&node).last_discard.unwrap();
    assert!(why.contains("wrong password or digest") && check(&node).verdict != "up", "{why}");
    is_told(&pair, &node, &why);
    assert!(!is_up(&bird));
    key("secret\n");
    pair.reload(&lines);
    until_up(&node);
    until("BIRD to be up", &node, || is_up(&bird));
    // Twice the window of sequence numbers, and nothing went down.
    until("some packets", &node, || detail(&node).received > 40);
    assert_eq!(detail(&node).down, 0);
}

/// What people read says what is wrong, and not that nothing was heard; one line of the log, however many packets come.
fn is_told(pair: &Pair, node: &Node, why: &str) {
    let words = format!("packets come, and are refused: {why}");
    until("the verdict", node, || check(node).verdict == "down");
    assert_eq!(check(node).last_error, Some(format!("no session: {words}")));
    let screen = pair.us.run(&[env!("CARGO_BIN_EXE_announcerctl"), "status"]).unwrap();
    let flat = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&words), "{screen}");
    let discarded = detail(node).discarded;
    until("more of them", node, || detail(node).discarded > discarded + 2);
    let line = format!("BFD with {}: {words}", bfd(node).name);
    assert_eq!(node.log().matches(&line).count(), 1, "{}", node.log());
}

/// Authentication at one end only: the one that wants none says so, too.
#[test]
fn authentication_at_one_end() {
    let pair = Pair::new();
    let lines = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3; authentication simple; password \"secret\";";
    let _bird = Bird::start(&pair.them, &config(lines, ON_LINK)).unwrap();
    let node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"100ms\""));
    is_told(&pair, &node, "authenticated, but no authentication is configured");
}

#[test]
fn simple_password() {
    run("simple", "simple");
}

#[test]
fn keyed_md5() {
    run("keyed-md5", "keyed md5");
}

#[test]
fn meticulous_keyed_md5() {
    run("meticulous-keyed-md5", "meticulous keyed md5");
}

#[test]
fn keyed_sha1() {
    run("keyed-sha1", "keyed sha1");
}

#[test]
fn meticulous_keyed_sha1() {
    run("meticulous-keyed-sha1", "meticulous keyed sha1");
}

/// The digest covers the packet alone, so IPv6 changes nothing.
#[test]
fn meticulous_keyed_sha1_over_ipv6() {
    run_with("meticulous-keyed-sha1", "meticulous keyed sha1", ON_LINK6, "2001:db8::1");
}
