//! Configurations for the simulated daemon, drawn from a seed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use announcerd::bgp::{Attributes, PeerConfig, PrefixSet};
use announcerd::config::model::*;
use announcerd::net::{Asn, RouterId};

use crate::rng::Rng;

pub const INSTANCE: &str = "mainland";
/// The prefix that BGP announces (the exported route is another).
pub const ANNOUNCED: &str = "192.0.2.0/24";
const SECOND: Duration = Duration::from_secs(1);

fn ping(name: &str, host: &str, interval: Duration, fall: Fall, rise: u32) -> Arc<Check> {
    let host = Host::Address(host.parse::<IpAddr>().expect("an address"));
    let probe = Probe::Ping(Ping {
        host,
        count: 1,
        max_loss: 0.0,
        max_rtt: None,
        size: 56,
        origin: Origin::default(),
    });
    Arc::new(Check { name: name.into(), probe, interval, timeout: interval.mul_f64(0.8), fall, rise })
}

fn route(to: &str, metric: u32, export: bool, when: When) -> Route {
    Route {
        to: to.parse().expect("a prefix"),
        kind: RouteKind::Unicast,
        dev: Some("lo".into()),
        via: None,
        nexthops: None,
        src: None,
        table: 254,
        metric,
        scope: None,
        onlink: false,
        mtu: None,
        advmss: None,
        export,
        when,
    }
}

/// What the ISP is told; with `always` also in BACKUP, but worse.
fn announce(always: bool) -> Announce {
    let attributes = |med| Arc::new(Attributes { med: Some(med), ..Attributes::default() });
    Announce {
        prefixes: PrefixSet::new([ANNOUNCED.parse().expect("a prefix")]),
        peers: vec!["isp-a".into()],
        master: attributes(0),
        backup: always.then(|| attributes(100)),
    }
}

fn session() -> PeerConfig {
    let id = RouterId("203.0.113.2".parse().expect("an address"));
    let mut config =
        PeerConfig::new("isp-a", "203.0.113.1".parse().expect("an address"), Asn(64500), Asn(64501), id);
    config.hold_time = Duration::from_secs(9);
    config
}

fn command(word: &str) -> Vec<String> {
    vec![word.to_owned()]
}

/// A standby as in the recipe, with everything that may vary drawn from `rng`.
pub fn config(rng: &mut Rng) -> Config {
    let interval = *rng.pick(&[SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND]);
    let fall = match rng.below(4) {
        0 => Fall::Window { failures: 4, of: 6 },
        _ => Fall::Consecutive(u32::try_from(2 + rng.below(3)).expect("small")),
    };
    let rise = u32::try_from(1 + rng.below(3)).expect("small");
    let checks = vec![
        ping("mainland-ping", "198.18.0.1", interval, fall, rise),
        ping("mainland-http", "198.18.0.2", 2 * interval, Fall::Consecutive(2), rise),
        ping("uplink", "203.0.113.1", interval, Fall::Consecutive(3), 2),
    ];
    let down_when = *rng.pick(&[Quorum::All, Quorum::All, Quorum::AtLeast(2), Quorum::Any]);
    let scripts = rng.chance(0.7);
    let or_none = |word: &str| if scripts { command(word) } else { Vec::new() };
    let instance = Instance {
        tunnels: Vec::new(),
        rules: Vec::new(),
        name: INSTANCE.into(),
        primary: Some(Primary {
            checks: vec!["mainland-ping".into(), "mainland-http".into()],
            down_when,
            up_when: Quorum::All,
        }),
        require: Some(Require { checks: vec!["uplink".into()], up_when: Quorum::All }),
        takeover_delay: *rng.pick(&[Duration::ZERO, Duration::ZERO, 5 * SECOND]),
        failback: if rng.chance(0.85) { Failback::Auto } else { Failback::Manual },
        failback_delay: *rng.pick(&[10 * SECOND, 30 * SECOND]),
        failback_delay_max: 600 * SECOND,
        drain: *rng.pick(&[Duration::ZERO, 10 * SECOND]),
        on_stop: OnStop::Withdraw,
        notify: Notify {
            master: or_none("/master"),
            backup: or_none("/backup"),
            fault: or_none("/fault"),
            stop: or_none("/stop"),
            any: if rng.chance(0.3) { command("/any") } else { Vec::new() },
            timeout: 10 * SECOND,
            retry: u32::try_from(rng.below(3)).expect("small"),
            url: None,
        },
        routes: vec![
            route("198.51.100.0/24", 0, true, When::Master),
            route("10.10.0.0/16", 7, false, When::Master),
            route("10.20.0.0/16", 7, false, When::Always),
        ],
        addresses: vec![Address {
            address: "172.16.1.1".parse().expect("an address"),
            len: 32,
            dev: "lo".into(),
            scope: Scope::Global,
            when: When::Master,
        }],
        announces: vec![announce(rng.chance(0.3))],
    };
    Config {
        node: Node {
            metrics: None,
            name: "sim".into(),
            router_id: None,
            control: "/nowhere/control".into(),
            control_group: None,
            state_dir: "/nowhere/state".into(),
            route_protocol: 187,
            allowed_prefixes: None,
            init_timeout: 30 * SECOND,
        },
        checks,
        instances: vec![Arc::new(instance)],
        bgp: vec![Arc::new(Bgp { session: session(), password: None, bfd: None })],
    }
}

/// The same with other delays: a reload that must not disturb.
pub fn changed(config: &Config, rng: &mut Rng) -> Config {
    let mut instance = (*config.instances[0]).clone();
    instance.failback_delay = *rng.pick(&[10 * SECOND, 20 * SECOND, 40 * SECOND]);
    instance.takeover_delay = *rng.pick(&[Duration::ZERO, 3 * SECOND]);
    Config { instances: vec![Arc::new(instance)], ..config.clone() }
}

/// From the primary's death to the decision, at the most: a probe may just have succeeded, then a whole fall of
/// intervals, the last timeout, and the witness.
pub fn takeover_bound(config: &Config) -> Duration {
    let slowest = config.checks[..2].iter().map(|c| c.fall_time() + 2 * c.interval).max().expect("two");
    // A probe of the uplink may be lost in the very second; then the next one is the witness.
    slowest + config.instances[0].takeover_delay + 2 * config.checks[2].interval + SECOND
}
