//! Configurations for the simulated daemon, drawn from a seed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use announcerd::bfd::{Hops, Path, SessionConfig};
use announcerd::bgp::{Attributes, PeerConfig, PrefixSet};
use announcerd::config::model::*;
use announcerd::net::{Asn, Prefix, RouterId};

use crate::neighbour::LATEST;
use crate::rng::Rng;

pub const INSTANCE: &str = "mainland";
/// Both ISPs hear this one (the exported route is another).
const ANNOUNCED: &str = "192.0.2.0/24";
/// The second ISP alone hears so many IPv6 prefixes: more than a small send buffer holds.
const MORE: u32 = 60;
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

/// A check that a neighbour's BFD session tells.
fn bfd(name: &str, host: &str, hops: Hops, rng: &mut Rng) -> Arc<Check> {
    let path = Path { remote: host.parse().expect("an address"), local: None, device: None, hops };
    let (interval, multiplier) = *rng.pick(&[(50, 3), (300, 3), (300, 3), (1000, 3), (1000, 5)]);
    let interval = Duration::from_millis(interval);
    let session = SessionConfig { path, interval, multiplier, passive: false, auth: None };
    let timeout = session.detection_time();
    let (probe, fall) = (Probe::Bfd(session), Fall::Consecutive(1));
    Arc::new(Check { name: name.into(), probe, interval, timeout, fall, rise: 1 })
}

/// A check that the session with a peer tells.
fn session_check(name: &str, peer: &str) -> Arc<Check> {
    let probe = Probe::Bgp(BgpSession { peer: peer.into() });
    let (timeout, fall) = (SECOND.mul_f64(0.8), Fall::Consecutive(1));
    Arc::new(Check { name: name.into(), probe, interval: SECOND, timeout, fall, rise: 1 })
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

fn attributes(med: u32) -> Arc<Attributes> {
    Arc::new(Attributes { med: Some(med), ..Attributes::default() })
}

/// What the ISPs are told; with `always` also in BACKUP, but worse.
fn announces(always: [bool; 2]) -> Vec<Announce> {
    let more = (0..MORE).map(|n| format!("2001:db8:{:x}::/48", n + 0x100).parse().expect("a prefix"));
    let both = Announce {
        prefixes: PrefixSet::new([ANNOUNCED.parse().expect("a prefix")]),
        peers: vec!["isp-a".into(), "isp-b".into()],
        master: attributes(0),
        backup: always[0].then(|| attributes(100)),
    };
    let second = Announce {
        prefixes: PrefixSet::new(more),
        peers: vec!["isp-b".into()],
        master: attributes(5),
        backup: always[1].then(|| attributes(200)),
    };
    vec![both, second]
}

/// By IPv4 with the first, by IPv6 with the second; both carry both families.
fn session(name: &str, peer: &str, peer_as: u32, rng: &mut Rng) -> Arc<Bgp> {
    let id = RouterId("203.0.113.2".parse().expect("an address"));
    let mut config = PeerConfig::new(name, peer.parse().expect("an address"), Asn(peer_as), Asn(64501), id);
    config.hold_time = SECOND * *rng.pick(&[9, 30, 90, 90]);
    config.next_hop_v4 = Some("203.0.113.2".parse().expect("an address"));
    config.next_hop_v6 = Some("2001:db8::2".parse().expect("an address"));
    config.send_hold_time = rng.chance(0.3).then_some(SECOND * 60);
    config.passive = rng.chance(0.15);
    Arc::new(Bgp { session: config, password: None, bfd: None })
}

/// The ISPs, and the primary's own router, if it is asked by BGP; what they reach us by.
const FAR: [(&str, &str); 3] = [("isp-a", "203.0.113.2"), ("isp-b", "2001:db8::2"), (PRIMARY, "203.0.113.2")];
/// The name of the session with the primary's router: it hears nothing of us.
pub const PRIMARY: &str = "primary";

/// The other side of each session. Where it connects too, connections collide; its identifier is smaller or greater
/// than ours (RFC 4271 section 6.8).
pub fn far_sides(config: &Config, rng: &mut Rng) -> Vec<(&'static str, PeerConfig)> {
    let configured = FAR.iter().filter_map(|(name, address)| Some((*name, *address, config.bgp(name)?)));
    let far_side = |(name, address, ours): (&'static str, &str, &Arc<Bgp>)| {
        let ours = &ours.session;
        let id = if rng.chance(0.5) { "203.0.113.1" } else { "203.0.113.3" };
        let id = RouterId(id.parse().expect("an address"));
        let mut far =
            PeerConfig::new(name, address.parse().expect("an address"), Asn(64501), ours.peer_as, id);
        far.passive = !ours.passive && rng.chance(0.5);
        (name, far)
    };
    configured.map(far_side).collect()
}

/// What each ISP is to hear of a MASTER, and of a BACKUP.
pub fn wanted(config: &Config) -> Vec<[BTreeMap<Prefix, Option<u32>>; 2]> {
    let of_peer = |bgp: &Arc<Bgp>| {
        let name = bgp.session.name.as_str();
        [true, false].map(|master| {
            let mut all = BTreeMap::new();
            for announce in &config.instances[0].announces {
                let attributes = if master { Some(&announce.master) } else { announce.backup.as_ref() };
                let heard = attributes.filter(|_| announce.peers.iter().any(|p| **p == *name));
                let meds = heard.map(|a| announce.prefixes.iter().map(move |p| (p, a.med)));
                all.extend(meds.into_iter().flatten());
            }
            all
        })
    };
    config.bgp.iter().map(of_peer).collect()
}

/// What tells of the primary.
const PRIMARIES: &[&[&str]] = &[
    &["mainland-ping", "mainland-http"],
    &["mainland-ping", "mainland-http"],
    &["mainland-ping", "mainland-http"],
    &["mainland-bfd"],
    &["mainland-bgp"],
    &["mainland-ping", "mainland-bfd"],
    &["mainland-ping", "mainland-bgp"],
    &["mainland-http", "mainland-bfd", "mainland-bgp"],
];

/// What is required.
const REQUIRES: &[&[&str]] = &[
    &["uplink"],
    &["uplink"],
    &["uplink"],
    &["uplink-bfd"],
    &["uplink", "uplink-bfd"],
    &["uplink", "uplink-bgp"],
    &["uplink-bfd", "uplink-bgp"],
];

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
    let all = [
        ping("mainland-ping", "198.18.0.1", interval, fall, rise),
        ping("mainland-http", "198.18.0.2", 2 * interval, Fall::Consecutive(2), rise),
        bfd("mainland-bfd", "198.18.0.3", Hops::Multi { least_ttl: 200 }, rng),
        session_check("mainland-bgp", PRIMARY),
        ping("uplink", "203.0.113.1", interval, Fall::Consecutive(3), 2),
        bfd("uplink-bfd", "203.0.113.1", Hops::Single, rng),
        session_check("uplink-bgp", "isp-a"),
    ];
    let (primary, require) = (rng.pick(PRIMARIES), rng.pick(REQUIRES));
    let names = |of: &[&str]| -> Vec<Name> { of.iter().map(|name| (*name).into()).collect() };
    let is_used = |check: &Arc<Check>| primary.contains(&&*check.name) || require.contains(&&*check.name);
    let checks: Vec<Arc<Check>> = all.into_iter().filter(is_used).collect();
    let down_when = match primary.len() {
        1 => Quorum::All,
        _ => *rng.pick(&[Quorum::All, Quorum::All, Quorum::AtLeast(2), Quorum::Any]),
    };
    let required = if require.len() > 1 && rng.chance(0.3) { Quorum::Any } else { Quorum::All };
    let keep_max = SECOND * *rng.pick(&[5, 20, 60, 300]);
    let scripts = rng.chance(0.7);
    let or_none = |word: &str| if scripts { command(word) } else { Vec::new() };
    let instance = Instance {
        tunnels: Vec::new(),
        rules: Vec::new(),
        name: INSTANCE.into(),
        primary: Some(Primary { checks: names(primary), down_when, up_when: Quorum::All }),
        require: Some(Require { checks: names(require), up_when: required }),
        takeover_delay: *rng.pick(&[Duration::ZERO, Duration::ZERO, 5 * SECOND]),
        failback: if rng.chance(0.85) { Failback::Auto } else { Failback::Manual },
        failback_delay: *rng.pick(&[10 * SECOND, 30 * SECOND]),
        failback_delay_max: 600 * SECOND,
        drain: *rng.pick(&[Duration::ZERO, 10 * SECOND]),
        on_stop: if rng.chance(0.4) { OnStop::Keep { max: keep_max } } else { OnStop::Withdraw },
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
        announces: announces([rng.chance(0.3), rng.chance(0.3)]),
    };
    let mut bgp =
        vec![session("isp-a", "203.0.113.1", 64500, rng), session("isp-b", "2001:db8::1", 64502, rng)];
    if primary.contains(&"mainland-bgp") {
        let mut router = (*session(PRIMARY, "198.18.0.4", 64503, rng)).clone();
        // Whether one comes back that connects to us is in its own hands, and no business of this world.
        router.session.passive = false;
        bgp.push(Arc::new(router));
    }
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
        bgp,
    }
}

/// The same with other delays, and sometimes with other announcements or another session: a reload that must not
/// disturb the rest.
pub fn changed(config: &Config, rng: &mut Rng) -> Config {
    let mut instance = (*config.instances[0]).clone();
    instance.failback_delay = *rng.pick(&[10 * SECOND, 20 * SECOND, 40 * SECOND]);
    instance.takeover_delay = *rng.pick(&[Duration::ZERO, 3 * SECOND]);
    if let OnStop::Keep { max } = &mut instance.on_stop {
        *max = SECOND * *rng.pick(&[5, 20, 60, 300]);
    }
    let mut bgp = config.bgp.clone();
    match rng.below(4) {
        0 => instance.announces = announces([rng.chance(0.3), rng.chance(0.3)]),
        1 => {
            instance.announces[1].master = attributes(*rng.pick(&[5, 6, 7]));
            let all = [&["isp-b"][..], &["isp-a", "isp-b"], &[]];
            instance.announces[1].peers = rng.pick(&all).iter().map(|p| (*p).into()).collect();
        }
        2 if rng.chance(0.3) => {
            let session =
                PeerConfig { hold_time: SECOND * *rng.pick(&[9, 30, 90]), ..bgp[1].session.clone() };
            bgp[1] = Arc::new(Bgp { session, password: None, bfd: None });
        }
        _ => {}
    }
    Config { instances: vec![Arc::new(instance)], bgp, ..config.clone() }
}

/// From the primary's death to the decision, at the most: a probe may just have succeeded, then a whole fall of
/// intervals, the last timeout, and the witness.
pub fn takeover_bound(config: &Config) -> Duration {
    let instance = &config.instances[0];
    let primary = &instance.primary.as_ref().expect("there is one").checks;
    let require = &instance.require.as_ref().expect("there is one").checks;
    let checks = |names: &[Name]| -> Vec<Arc<Check>> {
        names.iter().filter_map(|name| config.check(name)).cloned().collect()
    };
    let noticed = |check: &Arc<Check>| match &check.probe {
        // What is required may have had trouble while the session was silent: then it has a handshake's time, and anew with
        // each answer of a gateway that comes late (as news do here), four times at the most.
        Probe::Bfd(session) => session.detection_time() + 4 * session.patience(),
        Probe::Bgp(_) => {
            let session = &config.bgp(PRIMARY).expect("configured").session;
            session.hold_time + 2 * session.connect_retry
        }
        _ => check.fall_time() + 2 * check.interval,
    };
    let slowest = checks(primary).iter().map(noticed).max().expect("some");
    // A probe of what is required may be lost in the very second; then the next one is the witness.
    let witness = checks(require).iter().map(|check| 2 * check.interval).max().expect("some");
    slowest + instance.takeover_delay + witness + SECOND + LATEST
}

/// How long `require` may be unknown.
pub fn longest_excuse(config: &Config) -> Duration {
    let excuse = |check: &Arc<Check>| match &check.probe {
        Probe::Bfd(session) => session.patience().max(check.fall_time()),
        _ => check.fall_time(),
    };
    config.checks.iter().map(excuse).sum()
}
