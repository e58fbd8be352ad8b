//! What peers and announcements mean, what a reload says of them, and prefixes by the million.

use std::path::Path;
use std::time::{Duration, Instant};

use announcerd::bgp::attributes::Attributes;
use announcerd::bgp::community::{Community, LargeCommunity};
use announcerd::bgp::wire::capability::Role;
use announcerd::bgp::{Families, GracefulRestartConfig, PeerConfig};
use announcerd::config::diff::diff;
use announcerd::config::model::{Bgp, Config, Fall, Probe, Secret};
use announcerd::config::{self, Env, ScriptVerdict};
use announcerd::io::reload;
use announcerd::net::{Asn, RouterId};

/// The password is the file's name; the prefixes are always these.
fn good(source: &str) -> Config {
    let env = Env {
        hostname: "standby.example".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|path| Ok(format!("{}\n", path.display()).into_bytes()),
        read_prefixes: &|_| Ok(b"198.51.100.0/24\n2001:db8:100::/48 # both\n".to_vec()),
    };
    config::parse("a.toml", source, &env).unwrap_or_else(|diagnostics| panic!("{diagnostics}")).0
}

const EVERYTHING: &str = r#"
[node]
router_id = "203.0.113.2"

[[check]]
name = "session"
type = "bgp"
peer = "isp-a"

[[instance]]
name = "site"
require = { checks = ["session"] }

[[instance.announce]]
prefixes = ["198.51.100.0/24", "192.0.2.0/24"]
peers = ["isp-b"]
master = { med = 5, communities = ["64501:100", "no-export"], large_communities = ["64501:1:2"], prepend = 2 }
backup = { med = 100 }

[[instance.announce]]
prefixes_file = "prefixes"

[[bgp]]
name = "isp-a"
peer = "203.0.113.1"
peer_as = 64500
local_as = 64501
local_address = "203.0.113.2"
port = 1179
hold_time = "9s"
connect_retry = "2s"
send_hold_time = "1m"
password_file = "first-secret"
ttl_security = true
graceful_restart = { restart_time = "90s" }
role = "customer"
role_strict = true
next_hop = ["2001:db8::2", "203.0.113.3"]
families = ["ipv4"]

[[bgp]]
name = "isp-b"
peer = "2001:db8::1"
peer_as = 4200000000
local_as = 64501
passive = true
multihop = 3
"#;

#[test]
fn every_key_of_a_peer_arrives_in_the_model() {
    let config = good(EVERYTHING);
    let id = RouterId("203.0.113.2".parse().unwrap());
    let peer = PeerConfig::new("isp-a", "203.0.113.1".parse().unwrap(), Asn(64500), Asn(64501), id);
    let session = PeerConfig {
        local_address: Some("203.0.113.2".parse().unwrap()),
        port: 1179,
        hold_time: Duration::from_secs(9),
        connect_retry: Duration::from_secs(2),
        send_hold_time: Some(Duration::from_secs(60)),
        ttl_security: true,
        graceful_restart: Some(GracefulRestartConfig { restart_time: Duration::from_secs(90) }),
        role: Some(Role::Customer),
        role_strict: true,
        next_hop_v4: Some("203.0.113.3".parse().unwrap()),
        next_hop_v6: Some("2001:db8::2".parse().unwrap()),
        families: Families::V4,
        ..peer
    };
    let password = Some(Secret(b"first-secret".to_vec()));
    assert_eq!(**config.bgp("isp-a").unwrap(), Bgp { session, password, bfd: None });

    let peer = PeerConfig::new("isp-b", "2001:db8::1".parse().unwrap(), Asn(4_200_000_000), Asn(64501), id);
    let session = PeerConfig { passive: true, multihop: Some(3), ..peer };
    assert_eq!(**config.bgp("isp-b").unwrap(), Bgp { session, password: None, bfd: None });

    let check = config.check("session").unwrap();
    assert!(matches!(&check.probe, Probe::Bgp(session) if &*session.peer == "isp-a"));
    assert_eq!((check.fall, check.rise), (Fall::Consecutive(1), 1), "a session tells each change at once");
}

#[test]
fn every_key_of_an_announcement_arrives_in_the_model() {
    let config = good(EVERYTHING);
    let [first, second] = config.instances[0].announces.as_slice() else { panic!() };
    let shown = |announce: &config::model::Announce| -> Vec<String> {
        announce.prefixes.iter().map(|prefix| prefix.to_string()).collect()
    };
    assert_eq!(shown(first), ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(first.peers.iter().map(|name| &**name).collect::<Vec<_>>(), ["isp-b"]);
    let master = Attributes {
        med: Some(5),
        prepend: 2,
        communities: vec![Community(64501 << 16 | 100), Community::NO_EXPORT],
        extended_communities: vec![],
        large_communities: vec![LargeCommunity { global: 64501, local1: 1, local2: 2 }],
    };
    assert_eq!(*first.master, master);
    assert_eq!(first.backup.as_deref(), Some(&Attributes { med: Some(100), ..Attributes::default() }));

    assert_eq!(shown(second), ["198.51.100.0/24", "2001:db8:100::/48"]);
    assert_eq!(second.peers.iter().map(|name| &**name).collect::<Vec<_>>(), ["isp-a", "isp-b"]);
    assert_eq!((&*second.master, &second.backup), (&Attributes::default(), &None));
}

/// keepalived and metallb reset what did not change (metallb #2049): what is kept is known by equality.
#[test]
fn a_reload_tells_what_changed_of_peers_and_announcements_and_no_password() {
    let old = good(EVERYTHING);
    assert!(diff(&old, &good(&EVERYTHING.replace("\n\n", "\n# a comment\n\n"))).is_empty());
    let new = EVERYTHING
        .replace("first-secret", "second-secret")
        .replace("hold_time = \"9s\"", "hold_time = \"30s\"")
        .replace("isp-b", "isp-c")
        .replace("med = 5", "med = 6")
        .replace("\"192.0.2.0/24\"", "\"192.0.3.0/24\"")
        .replace("\n[[instance.announce]]\nprefixes_file = \"prefixes\"\n", "");
    let text = diff(&old, &good(&new)).to_string();
    assert_eq!(
        text,
        "bgp isp-a: changed (hold_time 9s -> 30s, password changed)\n\
         bgp isp-c: added\n\
         bgp isp-b: removed\n\
         instance site: changed (announce[0] peers [isp-b] -> [isp-c], \
         announce[0] master {med 6 prepend 2 64501:100 no-export 64501:1:2}, \
         announce[0] 192.0.3.0/24 added, announce[0] 192.0.2.0/24 removed, announce[1] removed)"
            .replace("master {", "master {med 5 prepend 2 64501:100 no-export 64501:1:2} -> {")
    );
    assert!(!text.contains("secret"));
    assert!(!format!("{old:?}").contains("first-secret"));
}

/// `prefixes_file` and `password_file` are looked for beside the configuration, whatever folder the daemon runs in.
fn in_a_folder(prefixes: &str, mode: u32) -> (tempfile::TempDir, reload::Read) {
    use std::os::unix::fs::PermissionsExt;
    let lab = tempfile::tempdir().unwrap();
    let at = |name: &str| lab.path().join(name);
    std::fs::write(at("prefixes.txt"), prefixes).unwrap();
    std::fs::write(at("key"), "secret\n").unwrap();
    std::fs::set_permissions(at("key"), PermissionsExt::from_mode(mode)).unwrap();
    let source = "[node]\nrouter_id = '203.0.113.2'\nallowed_prefixes = ['10.0.0.0/8', '2001:db8::/32']\n\
         [[check]]\nname = 'far'\ntype = 'ping'\nhost = '11.0.0.1'\n\
         [[check]]\nname = 'near'\ntype = 'bgp'\npeer = 'a'\n\
         [[instance]]\nname = 'i'\nprimary = { checks = ['far'] }\nrequire = { checks = ['near'] }\n\
         [[instance.announce]]\nprefixes_file = 'prefixes.txt'\n\
         [[bgp]]\nname = 'a'\npeer = '203.0.113.1'\npeer_as = 64512\nlocal_as = 64501\npassword_file = 'key'\n";
    std::fs::write(at("a.toml"), source).unwrap();
    let read = reload::read(&at("a.toml"));
    (lab, read)
}

#[test]
fn files_are_looked_for_beside_the_configuration_and_a_password_must_be_private() {
    let (_lab, read) = in_a_folder("10.1.0.0/24\n", 0o600);
    let (config, warnings) = read.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(config.bgp[0].password, Some(Secret(b"secret".to_vec())));
    assert_eq!(config.instances[0].announces[0].prefixes.len(), 1);
    assert!(warnings.is_empty(), "{warnings:?}");

    let (lab, read) = in_a_folder("10.1.0.0/24\n", 0o644);
    let key = lab.path().join("key").display().to_string();
    let text = read.unwrap_err().to_string();
    assert!(
        text.contains(&format!("`{key}` can be read or changed by everybody: chmod 600 {key}")),
        "{text}"
    );
}

#[test]
fn a_million_prefixes_are_read_from_a_file() {
    let mut lines = String::from("# a million\n");
    for n in 0..1_000_000_u32 {
        let [_, b, c, d] = (n << 4).to_be_bytes();
        lines.push_str(&format!("10.{b}.{c}.{d}/28\n"));
    }
    let start = Instant::now();
    let (_lab, read) = in_a_folder(&lines, 0o600);
    println!("a million prefixes: {:?}", start.elapsed());
    let (config, _) = read.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(config.instances[0].announces[0].prefixes.len(), 1_000_000);

    let mut one_more = lines.clone();
    one_more.push_str("10.255.255.255/32\n");
    let text = in_a_folder(&one_more, 0o600).1.unwrap_err().to_string();
    assert!(text.contains("holds 1000001 prefixes; the most is 1000000"), "{text}");

    let wrong = lines.replace("/28", "/27");
    let diagnostics = in_a_folder(&wrong, 0o600).1.unwrap_err();
    assert_eq!(diagnostics.errors(), 21, "twenty and their number");
}

#[test]
fn the_route_server_pair_differs_by_its_med_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let read = |name: &str| reload::read(&folder.join(name)).unwrap_or_else(|d| panic!("{d}")).0;
    let (primary, standby) = (read("route-server-primary.toml"), read("route-server-standby.toml"));
    let announce = |config: &Config| config.instances[0].announces[0].clone();
    assert_eq!((announce(&primary).master.med, announce(&standby).master.med), (Some(0), Some(100)));
    assert_eq!(announce(&primary).prefixes, announce(&standby).prefixes);
    assert_eq!(primary.checks, standby.checks);
}
