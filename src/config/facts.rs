//! The model in words, key by key, for [`super::diff`]. Structs are taken apart without a rest: a field that is
//! added to the model must be added here.

use std::fmt::Display;
use std::net::IpAddr;

use super::duration::show;
use super::model::{
    Address, Announce, Bgp, BgpSession, Check, Dns, Exec, Failback, Fall, File, HopMode, Host, Http,
    Instance, Link, NextHop, NextHops, Node, Notify, OnStop, Origin, Ping, Primary, Probe, Quorum, Require,
    Route, RouteKind, Rule, Scope, Secret, Tcp, Tunnel, When, WhenNone,
};
use crate::bfd::{Hops, Path, SessionConfig};
use crate::bgp::{Attributes, GracefulRestartConfig, PeerConfig};
use crate::dns::Expect;
use crate::fib::normal;
use crate::fib::object::RuleObject;
use crate::net::Prefix;

/// What is said of one key.
pub(super) struct Fact {
    pub key: &'static str,
    pub value: String,
    /// True if the value may hold what not everybody should read.
    pub secret: bool,
}

fn fact(key: &'static str, value: impl ToString) -> Fact {
    Fact { key, value: value.to_string(), secret: false }
}

fn maybe<T: Display>(key: &'static str, value: Option<T>) -> Fact {
    fact(key, value.map_or("none".to_owned(), |v| v.to_string()))
}

fn words(key: &'static str, command: &[String]) -> Fact {
    fact(key, if command.is_empty() { "none".to_owned() } else { format!("{command:?}") })
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", items.join(", "))
}

pub(super) fn node(node: &Node) -> Vec<Fact> {
    let Node {
        name,
        router_id,
        control,
        control_group,
        state_dir,
        route_protocol,
        allowed_prefixes,
        init_timeout,
        metrics,
    } = node;
    vec![
        fact("name", name),
        maybe("router_id", *router_id),
        fact("control", control.display()),
        maybe("control_group", control_group.as_ref()),
        fact("state_dir", state_dir.display()),
        fact("route_protocol", route_protocol),
        maybe("allowed_prefixes", allowed_prefixes.as_deref().map(list)),
        fact("init_timeout", show(*init_timeout)),
        maybe("metrics", *metrics),
    ]
}

/// Of two checks of one type the lists have the same keys.
pub(super) fn check(check: &Check) -> Vec<Fact> {
    let Check { name: _, probe, interval, timeout, fall, rise } = check;
    let fall = match fall {
        Fall::Consecutive(n) => n.to_string(),
        Fall::Window { failures, of } => format!("{failures} of {of}"),
    };
    let mut facts = vec![
        fact("interval", show(*interval)),
        fact("timeout", show(*timeout)),
        fact("fall", fall),
        fact("rise", rise),
    ];
    facts.extend(match probe {
        Probe::Ping(ping) => self::ping(ping),
        Probe::Http(http) => self::http(http),
        Probe::Tcp(tcp) => self::tcp(tcp),
        Probe::Dns(dns) => self::dns(dns),
        Probe::Exec(Exec { command, invert }) => vec![words("command", command), fact("invert", invert)],
        Probe::Link(Link { device }) => vec![fact("device", device)],
        Probe::Bgp(BgpSession { peer }) => vec![fact("peer", peer)],
        Probe::Bfd(session) => bfd(session),
        Probe::File(File { path, max_age }) => {
            vec![fact("path", path.display()), maybe("max_age", max_age.map(show))]
        }
    });
    facts
}

fn bfd(session: &SessionConfig) -> Vec<Fact> {
    let SessionConfig { path, interval: _, multiplier, passive, auth } = session;
    let Path { remote, local, device, hops } = path;
    let hops = match hops {
        Hops::Single => "no".to_owned(),
        Hops::Multi { least_ttl } => format!("yes, TTL at least {least_ttl}"),
    };
    let mut facts = vec![
        fact("host", remote),
        maybe("local_address", *local),
        maybe("device", device.as_ref()),
        fact("multihop", hops),
        fact("multiplier", multiplier),
        fact("passive", passive),
    ];
    facts.push(Fact {
        secret: true,
        ..fact("authentication", format!("{:?}", auth.as_ref().map(|a| (a.kind, a.key_id, &a.key))))
    });
    facts
}

fn host(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn origin(origin: &Origin) -> [Fact; 3] {
    let Origin { source, device, fwmark } = origin;
    [maybe("source", *source), maybe("device", device.as_ref()), maybe("fwmark", *fwmark)]
}

fn ping(ping: &Ping) -> Vec<Fact> {
    let Ping { host: target, count, max_loss, max_rtt, size, origin: from } = ping;
    let mut facts = vec![
        fact("host", host(target)),
        fact("count", count),
        fact("max_loss", format!("{max_loss}%")),
        maybe("max_rtt", max_rtt.map(show)),
        fact("size", size),
    ];
    facts.extend(origin(from));
    facts
}

fn tcp(tcp: &Tcp) -> Vec<Fact> {
    let Tcp { host: target, port, origin: from } = tcp;
    let mut facts = vec![fact("host", host(target)), fact("port", port)];
    facts.extend(origin(from));
    facts
}

fn dns(dns: &Dns) -> Vec<Fact> {
    let Dns { server, port, question, expect, tcp, origin: from } = dns;
    let expect = match expect {
        Expect::Records => "any record".to_owned(),
        Expect::Rcode(rcode) => rcode.to_string(),
        Expect::Answers(answers) => list(answers),
    };
    let mut facts = vec![
        fact("server", host(server)),
        fact("port", port),
        fact("query", &question.name),
        fact("record", question.record),
        fact("expect", expect),
        fact("transport", if *tcp { "tcp" } else { "udp" }),
    ];
    facts.extend(origin(from));
    facts
}

fn http(http: &Http) -> Vec<Fact> {
    let Http {
        url,
        method,
        headers,
        connect_to,
        expect_status,
        expect_body,
        ca_file,
        insecure,
        origin: from,
    } = http;
    let statuses: Vec<String> = expect_status.iter().map(|(low, high)| format!("{low}-{high}")).collect();
    let mut facts = vec![
        fact("url", url),
        fact("method", method),
        Fact { secret: true, ..fact("headers", format!("{headers:?}")) },
        maybe("connect_to", connect_to.as_ref().map(host)),
        fact("expect_status", list(&statuses)),
        maybe("expect_body", expect_body.as_ref()),
        maybe("ca_file", ca_file.as_ref().map(|path| path.display())),
        fact("insecure", insecure),
    ];
    facts.extend(origin(from));
    facts
}

/// Everything but routes, addresses and announcements.
pub(super) fn instance(instance: &Instance) -> Vec<Fact> {
    let Instance {
        name: _,
        primary,
        require,
        takeover_delay,
        failback,
        failback_delay,
        failback_delay_max,
        drain,
        on_stop,
        notify: scripts,
        routes: _,
        addresses: _,
        tunnels: _,
        rules: _,
        announces: _,
    } = instance;
    let failback = match failback {
        Failback::Auto => "auto",
        Failback::Manual => "manual",
    };
    let on_stop = match on_stop {
        OnStop::Withdraw => "withdraw".to_owned(),
        OnStop::Keep { max } => format!("keep for {}", show(*max)),
    };
    let mut facts = vec![
        maybe("primary", primary.as_ref().map(self::primary)),
        maybe("require", require.as_ref().map(self::require)),
        fact("takeover_delay", show(*takeover_delay)),
        fact("failback", failback),
        fact("failback_delay", show(*failback_delay)),
        fact("failback_delay_max", show(*failback_delay_max)),
        fact("drain", show(*drain)),
        fact("on_stop", on_stop),
    ];
    facts.extend(notify(scripts));
    facts
}

fn primary(primary: &Primary) -> String {
    let Primary { checks, down_when, up_when } = primary;
    format!("{} down_when {} up_when {}", list(checks), quorum(*down_when), quorum(*up_when))
}

fn require(require: &Require) -> String {
    let Require { checks, up_when } = require;
    format!("{} up_when {}", list(checks), quorum(*up_when))
}

fn quorum(quorum: Quorum) -> String {
    match quorum {
        Quorum::All => "all".to_owned(),
        Quorum::Any => "any".to_owned(),
        Quorum::AtLeast(n) => n.to_string(),
    }
}

fn notify(notify: &Notify) -> Vec<Fact> {
    let Notify { master, backup, fault, stop, any, timeout, retry, url } = notify;
    vec![
        words("notify_master", master),
        words("notify_backup", backup),
        words("notify_fault", fault),
        words("notify_stop", stop),
        words("notify", any),
        fact("notify_timeout", show(*timeout)),
        fact("notify_retry", retry),
        Fact { secret: true, ..maybe("notify_url", url.as_ref().map(|url| &url.0)) },
    ]
}

pub(super) fn bgp(bgp: &Bgp) -> Vec<Fact> {
    let Bgp { session, password, bfd: guard } = bgp;
    let PeerConfig {
        name: _,
        peer,
        port,
        peer_as,
        local_as,
        local_address,
        router_id,
        passive,
        hold_time,
        connect_retry,
        send_hold_time,
        ttl_security,
        multihop,
        graceful_restart,
        role,
        role_strict,
        next_hop_v4,
        next_hop_v6,
        families,
        bfd_strict,
    } = session;
    let restart_time = graceful_restart.map(|GracefulRestartConfig { restart_time }| show(restart_time));
    let families: Vec<&str> = families.iter().map(super::probe::family_words).collect();
    let password = password.as_ref().map(|Secret(key)| format!("{key:?}"));
    let mut facts = vec![
        fact("peer", peer),
        fact("port", port),
        fact("peer_as", peer_as),
        fact("local_as", local_as),
        maybe("local_address", *local_address),
        fact("router_id", router_id),
        fact("passive", passive),
        fact("hold_time", show(*hold_time)),
        fact("connect_retry", show(*connect_retry)),
        maybe("send_hold_time", send_hold_time.map(show)),
        fact("ttl_security", ttl_security),
        maybe("multihop", *multihop),
        maybe("graceful_restart", restart_time),
        maybe("role", *role),
        fact("role_strict", role_strict),
        maybe("next_hop (IPv4)", *next_hop_v4),
        maybe("next_hop (IPv6)", *next_hop_v6),
        fact("families", list(&families)),
        Fact { secret: true, ..maybe("password", password) },
        maybe("bfd strict", bfd_strict.map(show)),
    ];
    let guard = guard.as_ref();
    facts.push(maybe("bfd interval", guard.map(|s| show(s.interval))));
    facts.push(maybe("bfd multiplier", guard.map(|s| s.multiplier)));
    let rest = guard.map(|s| {
        format!("{:?} {} {:?}", s.path, s.passive, s.auth.as_ref().map(|a| (a.kind, a.key_id, &a.key)))
    });
    facts.push(Fact { secret: true, ..maybe("bfd", rest) });
    facts
}

/// Everything but the prefixes.
pub(super) fn announce(announce: &Announce) -> Vec<Fact> {
    let Announce { prefixes: _, peers, master, backup } = announce;
    vec![
        fact("peers", list(peers)),
        fact("master", attributes(master)),
        fact("backup", backup.as_deref().map_or("withdraw".to_owned(), attributes)),
    ]
}

fn attributes(attributes: &Attributes) -> String {
    let Attributes { med, prepend, communities, extended_communities, large_communities } = attributes;
    let mut parts = Vec::new();
    parts.extend(med.map(|med| format!("med {med}")));
    parts.extend((*prepend > 0).then(|| format!("prepend {prepend}")));
    parts.extend(communities.iter().map(ToString::to_string));
    parts.extend(extended_communities.iter().map(ToString::to_string));
    parts.extend(large_communities.iter().map(ToString::to_string));
    format!("{{{}}}", parts.join(" "))
}

/// The routes by what the kernel tells them apart by, each in words.
pub(super) fn routes(instance: &Instance) -> Vec<((Prefix, u32, u32), String)> {
    instance.routes.iter().map(|r| ((r.to, r.table, r.metric), route(r))).collect()
}

fn route(route: &Route) -> String {
    let Route { to, kind, dev, via, nexthops, src, table, metric, scope, onlink, mtu, advmss, export, when } =
        route;
    let kind = match kind {
        RouteKind::Unicast => "",
        RouteKind::Local => "local ",
        RouteKind::Blackhole => "blackhole ",
        RouteKind::Unreachable => "unreachable ",
        RouteKind::Prohibit => "prohibit ",
    };
    let mut text = format!("{kind}{to}");
    let mut say = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {key} {value}"));
        }
    };
    say("via", via.map(|v| v.to_string()));
    say("dev", dev.clone());
    say("nexthops", nexthops.as_ref().map(self::nexthops));
    say("src", src.map(|s| s.to_string()));
    say("table", (*table != 254).then(|| table.to_string()));
    say("metric", (*metric != 0).then(|| metric.to_string()));
    say("scope", scope.map(|s| self::scope(s).to_owned()));
    say("onlink", onlink.then(|| "true".to_owned()));
    say("mtu", mtu.map(|m| m.to_string()));
    say("advmss", advmss.map(|a| a.to_string()));
    say("export", Some(export.to_string()));
    say("when", Some(self::when(*when).to_owned()));
    text
}

/// The addresses by device and address, each in words.
pub(super) fn addresses(instance: &Instance) -> Vec<((String, IpAddr, u8), String)> {
    instance.addresses.iter().map(|a| ((a.dev.clone(), a.address, a.len), address(a))).collect()
}

fn address(address: &Address) -> String {
    let Address { address, len, dev, scope, when } = address;
    format!("{address}/{len} dev {dev} scope {} when {}", self::scope(*scope), self::when(*when))
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "global",
        Scope::Link => "link",
        Scope::Host => "host",
    }
}

fn when(when: When) -> &'static str {
    match when {
        When::Always => "always",
        When::Master => "master",
    }
}

fn nexthops(nexthops: &NextHops) -> String {
    let NextHops { hops, mode, when_none } = nexthops;
    let hop = |hop: &NextHop| {
        let NextHop { via, dev, check, weight } = hop;
        let words = [
            via.map(|via| format!("via {via}")),
            dev.as_ref().map(|dev| format!("dev {dev}")),
            check.as_ref().map(|check| format!("check {check}")),
            (*weight != 1).then(|| format!("weight {weight}")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let mode = match mode {
        HopMode::Failover => "failover",
        HopMode::Ecmp => "ecmp",
    };
    let when_none = match when_none {
        WhenNone::Keep => "keep",
        WhenNone::Remove => "remove",
    };
    format!("{} mode {mode} when_none {when_none}", list(&hops.iter().map(hop).collect::<Vec<_>>()))
}

/// The tunnels by their names, each in words.
pub(super) fn tunnels(instance: &Instance) -> Vec<(String, String)> {
    let words = |t: &Tunnel| {
        // The object's words have every attribute; what it has not is said here.
        let addresses: Vec<String> = t.addresses.iter().map(|(a, len)| format!("{a}/{len}")).collect();
        format!("{} addresses {} when {}", normal::tunnel_object(t), list(&addresses), when(t.when))
    };
    instance.tunnels.iter().map(|t| (t.name.clone(), words(t))).collect()
}

/// The rules, each in words.
pub(super) fn rules(instance: &Instance) -> Vec<(RuleObject, String)> {
    let words = |r: &Rule| format!("{} when {}", normal::rule_object(r), when(r.when));
    instance.rules.iter().map(|r| (normal::rule_object(r), words(r))).collect()
}
