//! What a valid configuration says: every value typed, every reference checked, every default filled in.
//!
//! Made by [`super::load`] only. The core and the edges read nothing else.

mod forward;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use reqwest::Url;

use crate::bfd::SessionConfig;
pub use forward::{HopMode, NextHop, NextHops, Rule, Tunnel, TunnelMode, WhenNone};

use crate::bgp::Attributes;
use crate::bgp::config::PeerConfig;
use crate::bgp::prefix_set::PrefixSet;
use crate::dns::{Expect, Question};
use crate::net::{Prefix, RouterId};

/// The name of a `[[check]]` or an `[[instance]]`: unique among its kind.
pub type Name = Arc<str>;

/// A whole configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[[check]]`, in the order of the file.
    pub checks: Vec<Arc<Check>>,
    /// `[[instance]]`, in the order of the file.
    pub instances: Vec<Arc<Instance>>,
    /// `[[bgp]]`, in the order of the file.
    pub bgp: Vec<Arc<Bgp>>,
}

impl Config {
    /// The check of that name.
    pub fn check(&self, name: &str) -> Option<&Arc<Check>> {
        self.checks.iter().find(|c| &*c.name == name)
    }

    /// The BGP peer of that name.
    pub fn bgp(&self, name: &str) -> Option<&Arc<Bgp>> {
        self.bgp.iter().find(|b| b.session.name == name)
    }

    /// The instance of that name.
    pub fn instance(&self, name: &str) -> Option<&Arc<Instance>> {
        self.instances.iter().find(|i| &*i.name == name)
    }
}

/// `[node]`: what holds for the whole daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Shown in status and passed to scripts. Default: the host's name.
    pub name: String,
    /// Default: none; needed by `[[bgp]]`.
    pub router_id: Option<RouterId>,
    /// The control socket's path.
    pub control: PathBuf,
    /// The group whose members may change state over the control socket.
    pub control_group: Option<String>,
    /// Where overrides, flap history and the last state are kept.
    pub state_dir: PathBuf,
    /// Owner mark on every kernel route and address.
    pub route_protocol: u8,
    /// If set, nothing outside these is ever announced or exported.
    pub allowed_prefixes: Option<Vec<Prefix>>,
    /// How long INIT may wait for the checks to decide.
    pub init_timeout: Duration,
    /// Where `/metrics` and `/healthz` are served; None: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// `[[check]]`: something probed again and again, with a verdict.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    /// Its name.
    pub name: Name,
    /// What is probed, and how.
    pub probe: Probe,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// After this a probe without an answer is a failure.
    pub timeout: Duration,
    /// When failures make it down.
    pub fall: Fall,
    /// Consecutive successes that make it up again.
    pub rise: u32,
}

impl Check {
    /// The longest that a dead target can go unseen: a whole fall of intervals and the last timeout.
    pub fn fall_time(&self) -> Duration {
        self.interval.saturating_mul(self.fall.failures()).saturating_add(self.timeout)
    }
}

/// `fall`: consecutive failures, or failures among the last results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fall {
    /// `fall = 3`: so many in a row.
    Consecutive(u32),
    /// `fall = { failures = 8, of = 10 }`: so many among the last `of` counted results.
    Window {
        /// Failures that make it down; at least 1 and at most `of`.
        failures: u32,
        /// Length of the window in results.
        of: u32,
    },
}

impl Fall {
    /// How many results it looks back at.
    pub fn length(self) -> u32 {
        match self {
            Fall::Consecutive(n) | Fall::Window { of: n, .. } => n,
        }
    }

    /// How many failures it takes at least.
    pub fn failures(self) -> u32 {
        match self {
            Fall::Consecutive(n) | Fall::Window { failures: n, .. } => n,
        }
    }
}

/// What a check probes; one variant for each `type`.
#[derive(Clone, PartialEq, Debug)]
pub enum Probe {
    /// `type = "ping"`.
    Ping(Ping),
    /// `type = "http"`.
    Http(Http),
    /// `type = "tcp"`.
    Tcp(Tcp),
    /// `type = "dns"`.
    Dns(Dns),
    /// `type = "exec"`.
    Exec(Exec),
    /// `type = "link"`.
    Link(Link),
    /// `type = "file"`.
    File(File),
    /// `type = "bgp"`.
    Bgp(BgpSession),
    /// `type = "bfd"`.
    Bfd(SessionConfig),
}

impl Probe {
    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Probe::Ping(_) => "ping",
            Probe::Http(_) => "http",
            Probe::Tcp(_) => "tcp",
            Probe::Dns(_) => "dns",
            Probe::Exec(_) => "exec",
            Probe::Link(_) => "link",
            Probe::File(_) => "file",
            Probe::Bgp(_) => "bgp",
            Probe::Bfd(_) => "bfd",
        }
    }
}

/// A host to probe: an address, or a name that is looked up (the last address is used while it does not resolve).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

/// Where probes leave from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin {
    /// `source`: the source address.
    pub source: Option<IpAddr>,
    /// `device`: SO_BINDTODEVICE.
    pub device: Option<String>,
    /// `fwmark`: SO_MARK.
    pub fwmark: Option<u32>,
}

/// ICMP echo.
#[derive(Clone, PartialEq, Debug)]
pub struct Ping {
    /// `host`.
    pub host: Host,
    /// `count`: echo requests in one probe, spread over its timeout. Default 1.
    pub count: u16,
    /// `max_loss`: the share of lost replies that is still a success, 0 to 100 percent. Default 0.
    pub max_loss: f64,
    /// `max_rtt`: a mean round-trip time above this is a failure.
    pub max_rtt: Option<Duration>,
    /// `size`: payload bytes. Default 56.
    pub size: u16,
    /// Source address, device, mark.
    pub origin: Origin,
}

/// An HTTP or HTTPS request. Redirects are not followed.
#[derive(Clone, Debug)]
pub struct Http {
    /// `url`: http or https.
    pub url: String,
    /// `method`. Default GET.
    pub method: String,
    /// `headers`, in order.
    pub headers: Vec<(String, String)>,
    /// `connect_to`: connect there instead; the TLS name and Host header stay the URL's.
    pub connect_to: Option<Host>,
    /// `expect_status`: inclusive ranges. Default 200-299.
    pub expect_status: Vec<(u16, u16)>,
    /// `expect_body`: must match somewhere in the first mebibyte of the body.
    pub expect_body: Option<Regex>,
    /// `ca_file`: trust these PEM certificates instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `insecure`: do not verify the certificate. Default false.
    pub insecure: bool,
    /// Source address and device (no mark).
    pub origin: Origin,
}

impl PartialEq for Http {
    fn eq(&self, o: &Self) -> bool {
        let pattern = |h: &Http| h.expect_body.as_ref().map(|r| r.as_str().to_owned());
        self.url == o.url
            && self.method == o.method
            && self.headers == o.headers
            && self.connect_to == o.connect_to
            && self.expect_status == o.expect_status
            && pattern(self) == pattern(o)
            && self.ca_file == o.ca_file
            && self.insecure == o.insecure
            && self.origin == o.origin
    }
}

/// A TCP connection that is opened and closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// `host`.
    pub host: Host,
    /// `port`.
    pub port: u16,
    /// Source address, device, mark.
    pub origin: Origin,
}

/// A question to a DNS server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// `server`.
    pub server: Host,
    /// `port`.
    pub port: u16,
    /// `query` and `record`.
    pub question: Question,
    /// `expect`.
    pub expect: Expect,
    /// `transport = "tcp"`; else UDP first, and TCP only for an answer that was truncated.
    pub tcp: bool,
    /// Source address, device, mark.
    pub origin: Origin,
}

/// A program: exit status 0 is a success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exec {
    /// The program and its arguments; never a shell.
    pub command: Vec<String>,
    /// `invert`: success and failure swap places.
    pub invert: bool,
}

/// A network interface: up when it is administratively up and has carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// `device`.
    pub device: String,
}

/// A file: present, and fresh if `max_age` is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// `path`.
    pub path: PathBuf,
    /// `max_age`: the longest time since its last modification.
    pub max_age: Option<Duration>,
}

/// A BGP session of ours: up while it is Established.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BgpSession {
    /// `peer`: the name of a `[[bgp]]`.
    pub peer: Name,
}

/// `[[bgp]]`: a peer that we announce to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bgp {
    /// The session.
    pub session: PeerConfig,
    /// `password_file`: the key of TCP MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// `bfd`: the session that guards it.
    pub bfd: Option<SessionConfig>,
}

/// A key that no log and no status shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[[instance.announce]]`: what BGP peers are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    /// `prefixes`, or what is in `prefixes_file`.
    pub prefixes: PrefixSet,
    /// `peers`: names of `[[bgp]]`. Default: every one, in the order of the file.
    pub peers: Vec<Name>,
    /// `master`: attributes in MASTER.
    pub master: Arc<Attributes>,
    /// `backup`: worse attributes in BACKUP; None: nothing is announced then.
    pub backup: Option<Arc<Attributes>>,
}

/// `[[instance]]`: one thing that is announced or not, and the reasons.
#[derive(Clone, PartialEq, Debug)]
pub struct Instance {
    /// Its name.
    pub name: Name,
    /// The primary that it stands in for. None: MASTER while `require` is met.
    pub primary: Option<Primary>,
    /// What must hold for any announcement.
    pub require: Option<Require>,
    /// From the decision to the takeover.
    pub takeover_delay: Duration,
    /// Who hands back.
    pub failback: Failback,
    /// The primary must be well this long before it gets the traffic back.
    pub failback_delay: Duration,
    /// Bound of the delay that doubles with each flap.
    pub failback_delay_max: Duration,
    /// From the withdraw to the removal of the rest.
    pub drain: Duration,
    /// What a stop of the daemon does to the announcement.
    pub on_stop: OnStop,
    /// Scripts.
    pub notify: Notify,
    /// `[[instance.route]]`.
    pub routes: Vec<Route>,
    /// `[[instance.address]]`.
    pub addresses: Vec<Address>,
    /// `[[instance.tunnel]]`.
    pub tunnels: Vec<Tunnel>,
    /// `[[instance.rule]]`.
    pub rules: Vec<Rule>,
    /// `[[instance.announce]]`.
    pub announces: Vec<Announce>,
}

/// How many of a list of checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quorum {
    /// `"all"`.
    All,
    /// `"any"`.
    Any,
    /// A number, at least 1 and at most the number of checks.
    AtLeast(u32),
}

impl Quorum {
    /// The number of checks it takes out of `total`.
    pub fn needed(self, total: usize) -> usize {
        match self {
            Quorum::All => total,
            Quorum::Any => 1,
            Quorum::AtLeast(n) => n as usize,
        }
    }
}

/// `primary`: when it is down, and when it is well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Primary {
    /// Names of checks, at least one.
    pub checks: Vec<Name>,
    /// Down when so many are down. Default all.
    pub down_when: Quorum,
    /// Well when so many are up. Default all.
    pub up_when: Quorum,
}

/// `require`: what must hold for any announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Require {
    /// Names of checks, at least one.
    pub checks: Vec<Name>,
    /// Met when so many are up. Default all.
    pub up_when: Quorum,
}

/// `failback`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failback {
    /// By itself, after `failback_delay`.
    Auto,
    /// By `announcerctl failback`.
    Manual,
}

/// `on_stop`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnStop {
    /// Withdraw and clean up.
    Withdraw,
    /// Leave routes and addresses in the kernel, at most `max` long: the next start sweeps what is older.
    Keep {
        /// `keep_max`.
        max: Duration,
    },
}

/// Whom an instance tells of its transitions: scripts (an empty command is none) and a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notify {
    /// `notify_master`.
    pub master: Vec<String>,
    /// `notify_backup`.
    pub backup: Vec<String>,
    /// `notify_fault`.
    pub fault: Vec<String>,
    /// `notify_stop`.
    pub stop: Vec<String>,
    /// `notify`: gets INSTANCE, the name, the state and the priority as further arguments.
    pub any: Vec<String>,
    /// `notify_timeout`: then the whole process group is killed.
    pub timeout: Duration,
    /// `notify_retry`: further tries of a failed script, with back-off, while the state lasts.
    pub retry: u32,
    /// `notify_url`: gets each transition as JSON.
    pub url: Option<HookUrl>,
}

/// An http or https URL that is shown without its user, password, path and query: any of them may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(pub Url);

impl HookUrl {
    /// Its host, where that is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.host_str()?.trim_matches(['[', ']']).parse().ok()
    }

    /// Its host, where that is a name.
    pub fn name(&self) -> Option<&str> {
        self.0.host_str().filter(|_| self.address().is_none())
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str("/…")
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When a kernel object is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// In every state but STOP.
    Always,
    /// In MASTER only.
    Master,
}

/// `[[instance.route]]`: a kernel route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// `to`.
    pub to: Prefix,
    /// `type`. Default unicast.
    pub kind: RouteKind,
    /// `dev`.
    pub dev: Option<String>,
    /// `via`.
    pub via: Option<IpAddr>,
    /// `nexthops`: in place of `dev` and `via`.
    pub nexthops: Option<NextHops>,
    /// `src`.
    pub src: Option<IpAddr>,
    /// `table`. Default 254, main.
    pub table: u32,
    /// `metric`. Default 0, which IPv6 reads as 1024.
    pub metric: u32,
    /// `scope`. Default: what `ip route` would take.
    pub scope: Option<Scope>,
    /// `onlink`.
    pub onlink: bool,
    /// `mtu`.
    pub mtu: Option<u32>,
    /// `advmss`.
    pub advmss: Option<u32>,
    /// `export`: this route is itself the announcement.
    pub export: bool,
    /// `when`. Default master.
    pub when: When,
}

impl Route {
    /// True if what is sent there comes to this machine, or is to: an announcement, or an end of the way.
    pub fn draws_to_us(&self) -> bool {
        self.export || self.kind == RouteKind::Local || self.dev.as_deref() == Some("lo")
    }
}

/// `type` of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteKind {
    /// Through a gateway or a device.
    Unicast,
    /// To this machine.
    Local,
    /// Dropped in silence.
    Blackhole,
    /// Dropped with "host unreachable".
    Unreachable,
    /// Dropped with "administratively prohibited".
    Prohibit,
}

/// `scope` of a route or an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On this link.
    Link,
    /// On this machine.
    Host,
}

/// `[[instance.address]]`: an address on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// `address`, host bits included.
    pub address: IpAddr,
    /// Its prefix length.
    pub len: u8,
    /// `dev`.
    pub dev: String,
    /// `scope`. Default global (host on `lo` for host addresses stays global, as `ip address` does).
    pub scope: Scope,
    /// `when`. Default master.
    pub when: When,
}
