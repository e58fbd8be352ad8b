//! What valid files mean: the shipped examples, and a file that uses every key there is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use announcerd::config::diff::{Change, diff};
use announcerd::config::model::*;
use announcerd::config::{self, Diagnostics, Env, ScriptVerdict};
use announcerd::net::RouterId;

fn parse(source: &str) -> Result<(Config, Vec<config::Diagnostic>), Diagnostics> {
    config::parse("a.toml", source, &env())
}

fn env() -> Env<'static> {
    Env {
        hostname: "standby.example".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|path| Ok(path.to_string_lossy().into_owned().into_bytes()),
        read_prefixes: &|path| Err(format!("there is no {}", path.display())),
    }
}

fn good(source: &str) -> Config {
    match parse(source) {
        Ok((config, _)) => config,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

const EVERYTHING: &str = r#"
[node]
name = "hk-1"
router_id = "203.0.113.2"
control = "/run/a.sock"
control_group = ""
state_dir = "/var/lib/a"
route_protocol = 200
allowed_prefixes = ["198.51.100.0/24", "2001:db8:100::/48"]
init_timeout = "10s"

[[check]]
name = "ping"
type = "ping"
host = "198.18.0.1"
interval = "2s"
timeout = "1s"
fall = { failures = 8, of = 10 }
rise = 4
count = 5
max_loss = "20%"
max_rtt = "300ms"
size = 1000
source = "203.0.113.2"
device = "ens3"
fwmark = 0x2a

[[check]]
name = "http"
type = "http"
url = "https://www.example.com/healthz"
method = "HEAD"
headers = { Z-First = "1", A-Second = "2" }
connect_to = "mainland.example.com"
expect_status = ["200-299", 301]
expect_body = "o+k"
ca_file = "/etc/ca.pem"

[[check]]
name = "tcp"
type = "tcp"
host = "2001:db8::1"
port = 443

[[check]]
name = "exec"
type = "exec"
command = "/bin/check 'two words' three"
invert = true

[[check]]
name = "link"
type = "link"
device = "ens3"

[[check]]
name = "file"
type = "file"
path = "/run/ok"
max_age = "1m30s"

[[instance]]
name = "mainland"
primary = { checks = ["ping", "http", "tcp"], down_when = 2, up_when = "all" }
require = { checks = ["link", "file", "exec"], up_when = "any" }
takeover_delay = "5s"
failback = "manual"
failback_delay = "1m"
failback_delay_max = "1h"
drain = "0s"
on_stop = "keep"
keep_max = "10m"
notify_master = "/bin/master a"
notify_backup = ["/bin/backup", "b c"]
notify_fault = ""
notify_stop = []
notify = "/bin/any"
notify_timeout = "5s"
notify_retry = 3

[[instance.route]]
to = "198.51.100.0/24"
dev = "lo"

[[instance.route]]
to = "default"
via = "2001:db8::1"
dev = "ens3"
src = "2001:db8::2"
table = 100
metric = 7
onlink = true
mtu = 1400
advmss = 1340
when = "always"

[[instance.route]]
to = "203.0.113.0/25"
type = "prohibit"
table = "main"
scope = "global"

[[instance.address]]
address = "172.16.1.1/24"
dev = "ens3"
scope = "link"
when = "always"
"#;

#[test]
fn every_key_arrives_in_the_model() {
    let config = good(EVERYTHING);
    let node = &config.node;
    assert_eq!(node.name, "hk-1");
    assert_eq!(node.router_id, Some(RouterId("203.0.113.2".parse().unwrap())));
    assert_eq!(node.control, Path::new("/run/a.sock"));
    assert_eq!(node.control_group, None);
    assert_eq!(node.state_dir, Path::new("/var/lib/a"));
    assert_eq!((node.route_protocol, node.init_timeout), (200, Duration::from_secs(10)));
    assert_eq!(node.allowed_prefixes.as_ref().map(Vec::len), Some(2));

    let ping = config.check("ping").unwrap();
    assert_eq!((ping.interval, ping.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((ping.fall, ping.rise), (Fall::Window { failures: 8, of: 10 }, 4));
    let origin = Origin {
        source: Some("203.0.113.2".parse().unwrap()),
        device: Some("ens3".into()),
        fwmark: Some(42),
    };
    let wanted = Ping {
        host: Host::Address("198.18.0.1".parse().unwrap()),
        count: 5,
        max_loss: 20.0,
        max_rtt: Some(Duration::from_millis(300)),
        size: 1000,
        origin,
    };
    assert_eq!(ping.probe, Probe::Ping(wanted));

    let Probe::Http(http) = &config.check("http").unwrap().probe else { panic!() };
    assert_eq!((http.url.as_str(), http.method.as_str()), ("https://www.example.com/healthz", "HEAD"));
    let headers = [("Z-First", "1"), ("A-Second", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(http.headers, headers, "in the order of the file");
    assert_eq!(http.connect_to, Some(Host::Name("mainland.example.com".into())));
    assert_eq!(http.expect_status, [(200, 299), (301, 301)]);
    assert_eq!(http.expect_body.as_ref().map(|r| r.as_str()), Some("o+k"));
    assert_eq!((http.ca_file.as_deref(), http.insecure), (Some(Path::new("/etc/ca.pem")), false));

    let Probe::Tcp(tcp) = &config.check("tcp").unwrap().probe else { panic!() };
    assert_eq!((&tcp.host, tcp.port), (&Host::Address("2001:db8::1".parse().unwrap()), 443));
    let Probe::Exec(exec) = &config.check("exec").unwrap().probe else { panic!() };
    assert_eq!(exec.command, ["/bin/check", "two words", "three"]);
    assert!(exec.invert);
    let link = config.check("link").unwrap();
    assert_eq!(link.probe, Probe::Link(Link { device: "ens3".into() }));
    assert_eq!((link.fall, link.rise), (Fall::Consecutive(1), 1), "a link tells each change at once");
    let file = File { path: PathBuf::from("/run/ok"), max_age: Some(Duration::from_secs(90)) };
    assert_eq!(config.check("file").unwrap().probe, Probe::File(file));
}

#[test]
fn every_key_of_an_instance_arrives_in_the_model() {
    let config = good(EVERYTHING);
    let instance = config.instance("mainland").unwrap();
    let primary = instance.primary.as_ref().unwrap();
    assert_eq!(primary.checks.iter().map(|n| &**n).collect::<Vec<_>>(), ["ping", "http", "tcp"]);
    assert_eq!((primary.down_when, primary.up_when), (Quorum::AtLeast(2), Quorum::All));
    let require = instance.require.as_ref().unwrap();
    assert_eq!((require.checks.len(), require.up_when), (3, Quorum::Any));
    assert_eq!((instance.takeover_delay, instance.failback), (Duration::from_secs(5), Failback::Manual));
    assert_eq!(instance.failback_delay, Duration::from_secs(60));
    assert_eq!(instance.failback_delay_max, Duration::from_secs(3600));
    assert_eq!(instance.drain, Duration::ZERO);
    assert_eq!(instance.on_stop, OnStop::Keep { max: Duration::from_secs(600) });
    let notify = Notify {
        master: words("/bin/master a"),
        backup: vec!["/bin/backup".into(), "b c".into()],
        fault: vec![],
        stop: vec![],
        any: words("/bin/any"),
        timeout: Duration::from_secs(5),
        retry: 3,
        url: None,
    };
    assert_eq!(instance.notify, notify);
    let plain = Route {
        to: "198.51.100.0/24".parse().unwrap(),
        kind: RouteKind::Unicast,
        dev: Some("lo".into()),
        via: None,
        nexthops: None,
        src: None,
        table: 254,
        metric: 0,
        scope: None,
        onlink: false,
        mtu: None,
        advmss: None,
        export: true,
        when: When::Master,
    };
    let default = Route {
        to: "::/0".parse().unwrap(),
        dev: Some("ens3".into()),
        via: Some("2001:db8::1".parse().unwrap()),
        src: Some("2001:db8::2".parse().unwrap()),
        table: 100,
        metric: 7,
        onlink: true,
        mtu: Some(1400),
        advmss: Some(1340),
        export: false,
        when: When::Always,
        ..plain.clone()
    };
    let prohibit = Route {
        to: "203.0.113.0/25".parse().unwrap(),
        kind: RouteKind::Prohibit,
        dev: None,
        scope: Some(Scope::Global),
        export: false,
        ..plain.clone()
    };
    assert_eq!(instance.routes, [plain, default, prohibit]);
    let address = Address {
        address: "172.16.1.1".parse().unwrap(),
        len: 24,
        dev: "ens3".into(),
        scope: Scope::Link,
        when: When::Always,
    };
    assert_eq!(instance.addresses, [address]);
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_specification() {
    let config =
        good("[[check]]\nname = 'a'\ntype = 'ping'\nhost = 'www.example.com'\n[[instance]]\nname = 'i'\n");
    let node = &config.node;
    assert_eq!((node.name.as_str(), node.router_id, node.route_protocol), ("standby.example", None, 187));
    assert_eq!(node.control, Path::new("/run/announcerd/control.sock"));
    assert_eq!(node.state_dir, Path::new("/var/lib/announcerd"));
    assert_eq!(node.control_group.as_deref(), Some("announcerd"));
    assert_eq!((node.init_timeout, &node.allowed_prefixes), (Duration::from_secs(30), &None));
    let check = config.check("a").unwrap();
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(1), Duration::from_millis(800)));
    assert_eq!((check.fall, check.rise), (Fall::Consecutive(3), 2));
    let instance = config.instance("i").unwrap();
    assert_eq!((instance.takeover_delay, instance.failback), (Duration::ZERO, Failback::Auto));
    assert_eq!(instance.failback_delay, Duration::from_secs(30));
    assert_eq!(instance.failback_delay_max, Duration::from_secs(1800));
    assert_eq!((instance.drain, instance.on_stop), (Duration::from_secs(10), OnStop::Withdraw));
    assert_eq!((instance.notify.timeout, instance.notify.retry), (Duration::from_secs(30), 0));
}

#[test]
fn the_shipped_examples_are_right_and_give_no_warning() {
    for name in [
        "standby-bird.toml",
        "standby-frr.toml",
        "standby-bgp.toml",
        "route-server-primary.toml",
        "route-server-standby.toml",
        "primary-site.toml",
        "anycast.toml",
        "dual-gateway.toml",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        match config::load(&path, &env()) {
            Ok((config, warnings)) => {
                assert!(warnings.is_empty(), "{name}: {warnings:?}");
                let instance = &config.instances[0];
                let announces = instance.routes.iter().any(|r| r.export) || !instance.announces.is_empty();
                assert!(announces || instance.routes.iter().any(|r| r.nexthops.is_some()));
            }
            Err(diagnostics) => panic!("{diagnostics}"),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let lab = tempfile::tempdir().unwrap();
    let absent = lab.path().join("absent.toml");
    let text = config::load(&absent, &env()).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: cannot be read: No such file", absent.display())), "{text}");
    assert!(config::load(lab.path(), &env()).is_err(), "a directory");
    assert!(
        config::load(Path::new("/dev/zero"), &env()).unwrap_err().to_string().contains("larger than 64 MiB")
    );

    let latin1 = lab.path().join("latin1.toml");
    std::fs::write(&latin1, b"# fine\n[node]\nname = \"caf\xe9\"\n").unwrap();
    let text = config::load(&latin1, &env()).unwrap_err().to_string();
    let wanted = format!("{}:3:12: encoding: this is not UTF-8", latin1.display());
    assert!(text.starts_with(&wanted), "{text}");
}

fn many_routes(number: u32) -> String {
    let mut source = String::from("[[instance]]\nname = 'i'\nnotify = '/bin/true'\n");
    for n in 0..number {
        let [_, b, c, d] = (n << 4).to_be_bytes();
        source.push_str(&format!("[[instance.route]]\nto = \"10.{b}.{c}.{d}/28\"\ndev = \"lo\"\n"));
    }
    source
}

#[test]
fn a_hundred_thousand_routes_are_read() {
    let config = good(&many_routes(100_000));
    assert_eq!(config.instances[0].routes.len(), 100_000);
}

#[test]
fn every_one_of_many_errors_is_reported_at_its_line() {
    let wrong = many_routes(5_000).replace("dev = \"lo\"", "dve = \"lo\"");
    let diagnostics = parse(&wrong).unwrap_err();
    assert_eq!(diagnostics.errors(), 10_000, "an unknown key and a missing one each");
    let last = diagnostics.items.last().unwrap();
    assert_eq!((last.place.unwrap().line, last.key.as_str()), (15_003, "instance.i.route[4999].dve"));
}

#[test]
fn a_reload_tells_what_changed_and_leaves_the_rest() {
    let old = good(EVERYTHING);
    let same = diff(&old, &good(&EVERYTHING.replace("\n\n", "\n# a comment\n\n")));
    assert!(same.is_empty());
    assert_eq!(same.to_string(), "nothing changed");

    let new = EVERYTHING
        .replace("interval = \"2s\"", "interval = \"3s\"")
        .replace("A-Second = \"2\"", "A-Second = \"secret\"")
        .replace("[[check]]\nname = \"tcp\"", "[[check]]\nname = \"tcp2\"")
        .replace("\"http\", \"tcp\"]", "\"http\", \"tcp2\"]")
        .replace("to = \"198.51.100.0/24\"\n", "to = \"198.51.100.0/25\"\n")
        .replace("mtu = 1400", "mtu = 1300")
        .replace("init_timeout = \"10s\"", "init_timeout = \"20s\"");
    let changes = diff(&old, &good(&new));
    assert_eq!(
        changes.to_string(),
        "node: init_timeout 10s -> 20s\n\
         check ping: changed (interval 2s -> 3s)\n\
         check http: changed (headers changed)\n\
         check tcp2: added\n\
         check tcp: removed\n\
         instance mainland: changed (primary [ping, http, tcp] down_when 2 up_when all -> [ping, http, tcp2] \
         down_when 2 up_when all, route 198.51.100.0/25 dev lo export true when master added, \
         route 198.51.100.0/24 dev lo export true when master removed, \
         route ::/0 via 2001:db8::1 dev ens3 src 2001:db8::2 table 100 metric 7 onlink true mtu 1300 \
         advmss 1340 export false when always changed)"
    );
    assert_eq!(changes.refusal(), None);
    let kept = changes.checks.iter().filter(|(_, change)| *change == Change::Keep).count();
    assert_eq!(kept, 3);
}

#[test]
fn a_reload_that_needs_a_restart_says_so() {
    let old = good(EVERYTHING);
    let new = good(&EVERYTHING.replace("/run/a.sock", "/run/b.sock").replace("= 200", "= 201"));
    assert_eq!(
        diff(&old, &new).refusal().unwrap(),
        "needs a restart of the daemon, so nothing was applied: control /run/a.sock -> /run/b.sock; \
         route_protocol 200 -> 201"
    );
}
