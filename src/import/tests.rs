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
