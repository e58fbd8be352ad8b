//! Labs for the daemon and one peer, and the words that all tests share.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use announcerd::demo::lab::topology::{PRIMARY, Topology};
use announcerd::demo::lab::web::{Web, answer_ok, http};
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Bird, Host, Node, wait_for};
use announcerd::status::BgpStatus;
use toml::{Table, Value};

/// Nothing that the tests wait for takes longer, unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(40);
pub const PREFIX: &str = "198.51.100.0/24";
pub const PREFIX6: &str = "2001:db8:100::/48";

/// Private to our host: what an example calls by name can lie here.
pub const SCRIPTS: &str = "/usr/local/bin";

/// The daemon under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

/// The examples of conf/, with the waiting cut short. THE ONE PLACE where tests change what the files say: probes
/// every 300 ms (commands every second), the first success counts, two seconds until failback, no drain.
pub fn hurried(example: &str) -> Table {
    let mut config: Table = example.parse().unwrap();
    for check in tables(&mut config, "check").filter(|c| c["type"].as_str() != Some("bgp")) {
        // A command takes its time on a busy machine.
        let (interval, timeout) =
            if check["type"].as_str() == Some("exec") { ("1s", "990ms") } else { ("300ms", "290ms") };
        check.insert("interval".into(), interval.into());
        check.insert("timeout".into(), timeout.into());
        check.remove("rise");
    }
    for instance in tables(&mut config, "instance") {
        if instance.contains_key("primary") {
            instance.insert("failback_delay".into(), "2s".into());
        }
        instance.insert("drain".into(), "0s".into());
    }
    config
}

/// The tables of an array of tables.
pub fn tables<'a>(config: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Table> {
    let list = config.get_mut(key).and_then(Value::as_array_mut).expect("an array of tables");
    list.iter_mut().filter_map(Value::as_table_mut)
}

/// Waits until it is so; says what was awaited and what the daemon logged, if it never is.
pub fn until(what: &str, node: &Node, mut so: impl FnMut() -> bool) {
    wait_for(what, LIMIT, || so().then_some(())).unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
}

/// `announcerctl` on that host.
pub fn ctl(host: &Host, words: &[&str]) -> String {
    host.run(&[&[env!("CARGO_BIN_EXE_announcerctl")], words].concat()).unwrap()
}

/// What `announcerctl status -j` says of the peer; nothing while the kernel's state is still being read.
pub fn peer_status(host: &Host, peer: &str) -> Option<BgpStatus> {
    let status: announcerd::status::Status = serde_json::from_str(&ctl(host, &["status", "-j"])).unwrap();
    status.bgp.into_iter().find(|b| b.name == peer)
}

/// A second family for a cable.
pub fn ipv6(a: (&Host, &str, &str), b: (&Host, &str, &str)) {
    for (host, interface, address) in [a, b] {
        host.run(&["ip", "-6", "address", "add", address, "dev", interface, "nodad"]).unwrap();
    }
}

/// conf/standby-bgp.toml as it is, but for [`hurried`]: the lab's four hosts, the ISP's BIRD, the daemon in BACKUP.
pub struct Site {
    // Dropped in this order: daemons first, the hosts under them last.
    pub node: Node,
    pub isp: Bird,
    _web: Web,
    pub config: Table,
    pub lab: Topology,
}

/// The ISP's BIRD, both families, and its kernel follows it.
const ISP: &str = r#"
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol kernel k4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel k6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol bgp standby {
    local 203.0.113.1 as 64500;
    neighbor 203.0.113.2 as 64501;
    connect delay time 1;
    connect retry time 2;
    error wait time 1, 2;
    ipv4 { import all; export none; };
    ipv6 { import all; export none; };
    GRACEFUL
}
"#;

impl Site {
    pub fn start() -> Self {
        Self::with("", |_| {})
    }

    /// With something more for the peer in BIRD's configuration and in ours.
    pub fn with(bird: &str, edit: impl FnOnce(&mut Table)) -> Self {
        let lab = Topology::build(&[]).unwrap();
        ipv6((&lab.isp, "standby", "2001:db8::1/64"), (&lab.standby, "uplink", "2001:db8::2/64"));
        let web = Web::start(&lab.primary, http(PRIMARY), answer_ok).unwrap();
        let isp = Bird::start(&lab.isp, &ISP.replace("GRACEFUL", bird)).unwrap();
        let mut config = hurried(include_str!("../../conf/standby-bgp.toml"));
        edit(&mut config);
        let node = Node::start(&lab.standby, program(), &config.to_string()).unwrap();
        let site = Site { node, isp, _web: web, config, lab };
        until("BACKUP and a session", &site.node, || {
            site.state() == "BACKUP" && site.isp.established("standby")
        });
        site
    }

    pub fn state(&self) -> &'static str {
        self.node.state("mainland").map_or("", |s| s.word())
    }

    /// The primary dies and the ISP has both prefixes from us.
    pub fn take_over(&self) {
        self.lab.primary_dies().unwrap();
        self.wait_isp_has(true);
    }

    /// Waits until BIRD and its kernel have both prefixes, or neither.
    pub fn wait_isp_has(&self, wanted: bool) {
        for prefix in [PREFIX, PREFIX6] {
            until(&format!("{prefix} at the ISP: {wanted}"), &self.node, || {
                self.isp.route(prefix, "standby").is_some() == wanted && self.forwards(prefix) == wanted
            });
        }
    }

    /// The ISP's kernel sends the prefix to us.
    pub fn forwards(&self, prefix: &str) -> bool {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let via = if prefix.contains(':') { "via 2001:db8::2 " } else { "via 203.0.113.2 " };
        self.lab.isp.run(&["ip", family, "route", "show", prefix]).is_ok_and(|r| r.contains(via))
    }

    /// Another configuration, taken by `announcerctl reload`.
    pub fn reload(&self, config: &Table) {
        self.lab.standby.write(announcerd::demo::lab::node::CONFIG, config.to_string()).unwrap();
        ctl(&self.lab.standby, &["reload"]);
    }
}

/// Two hosts and a cable: 203.0.113.2 and 2001:db8::2 are ours, .1 the peer's.
pub struct Pair {
    pub us: Host,
    pub them: Host,
}

impl Pair {
    /// The folders of `private` are private to the peer's host.
    pub fn new(private: &[&str]) -> Self {
        let pair =
            Pair { us: Host::new("us", &[SCRIPTS]).unwrap(), them: Host::new("them", private).unwrap() };
        let end = |host, interface, last| End { host, interface, address: Ipv4Addr::new(203, 0, 113, last) };
        wire::connect(end(&pair.us, "uplink", 2), end(&pair.them, "customer", 1), 24).unwrap();
        ipv6((&pair.us, "uplink", "2001:db8::2/64"), (&pair.them, "customer", "2001:db8::1/64"));
        pair.healthy(true);
        pair
    }

    /// The one check's file is there, or not: MASTER or FAULT.
    pub fn healthy(&self, yes: bool) {
        match yes {
            true => self.us.write("/run/healthy", "").unwrap(),
            false => std::fs::remove_file(self.us.path("/run/healthy")).unwrap(),
        }
    }

    /// Our daemon, with every attribute; `session` has more lines for the peer. The peer is 203.0.113.1.
    pub fn node(&self, session: &str) -> Node {
        self.node_to("203.0.113.1", session)
    }

    /// The same to another address of the peer.
    pub fn node_to(&self, peer: &str, session: &str) -> Node {
        let next_hop = match session.contains("next_hop") {
            true => "",
            false => r#"next_hop = ["203.0.113.2", "2001:db8::2"]"#,
        };
        let config = format!(
            r#"
            [node]
            router_id = "203.0.113.2"
            [[bgp]]
            name = "peer"
            peer = "{peer}"
            peer_as = 64500
            local_as = 64501
            {next_hop}
            connect_retry = "1s"
            {session}
            [[check]]
            name = "healthy"
            type = "file"
            path = "/run/healthy"
            interval = "100ms"
            timeout = "90ms"
            fall = 1
            rise = 1
            [[instance]]
            name = "service"
            require = {{ checks = ["healthy"] }}
            drain = "0s"
            [[instance.announce]]
            prefixes = ["{PREFIX}", "{PREFIX6}"]
            master = {{ med = 77, prepend = 2, communities = ["64501:100", "no-export"], large_communities = ["64501:7:8"], extended_communities = ["rt:64501:9"] }}
            "#
        );
        Node::start(&self.us, program(), &config).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The key that the peers have, and GTSM (RFC 5082): lines for [`Pair::node`].
    pub fn keyed(&self) -> String {
        self.keyed_by("s3cret")
    }

    /// With that key of TCP MD5 (RFC 2385), where only we can read it.
    pub fn keyed_by(&self, key: &str) -> String {
        self.us.write("/run/key", key).unwrap();
        let secret = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.us.path("/run/key"), secret).unwrap();
        "password_file = \"/run/key\"\nttl_security = true".to_owned()
    }

    /// The peer connects, with that key and TTL 255, and there is no hold time: lines for [`Pair::node`].
    pub fn keyed_and_called(&self) -> String {
        self.keyed() + "\npassive = true\nhold_time = \"0s\""
    }

    /// What went wrong last, as `announcerctl status -j` has it.
    pub fn error(&self) -> Option<String> {
        peer_status(&self.us, "peer")?.last_error
    }

    /// Waits until `announcerctl status -j` says the session is up and both prefixes are out.
    pub fn wait_advertised(&self, node: &Node) {
        until("an established session with both prefixes", node, || {
            peer_status(&self.us, "peer").is_some_and(|s| s.state == "Established" && s.advertised == 2)
        });
    }
}
