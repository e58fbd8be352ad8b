//! Reads what a check probes: the keys of one type each.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::model::{BgpSession, Exec, File, Host, Link, Origin, Ping, Probe, Tcp};
use super::reader::{Item, Table};
use super::{Env, duration, probe_dns, probe_http, values};
use crate::net::{Family, family_of};

const MAX_RTT: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(3600);
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);
/// What fits into an IPv4 packet beside its header and that of ICMP.
const PING_SIZE: RangeInclusive<u64> = 0..=65_507;

/// The key that says where the probe goes.
pub(super) fn target_key(kind: &str, table: &Table<'_, '_>) -> &'static str {
    match kind {
        "http" if table.has("connect_to") => "connect_to",
        "http" => "url",
        "bgp" => "peer",
        "dns" => "server",
        _ => "host",
    }
}

/// Reads the keys of this type; `None` if the probe could not be put together (and that is recorded).
pub(super) fn read(kind: &str, table: &mut Table<'_, '_>, timeout: Duration, env: &Env<'_>) -> Option<Probe> {
    match kind {
        "ping" => ping(table, timeout).map(Probe::Ping),
        "http" => probe_http::read(table).map(Probe::Http),
        "tcp" => tcp(table).map(Probe::Tcp),
        "dns" => probe_dns::read(table).map(Probe::Dns),
        "exec" => exec(table, env).map(Probe::Exec),
        "link" => link(table).map(Probe::Link),
        "bgp" => session(table).map(Probe::Bgp),
        _ => file(table).map(Probe::File),
    }
}

fn ping(table: &mut Table<'_, '_>, timeout: Duration) -> Option<Ping> {
    let host = table.need("host", "\"198.18.0.1\"", |i| values::host(&i));
    let count = table.or("count", 1, |i| i.integer(1..=100));
    let max_loss = table.or("max_loss", 0.0, |i| max_loss(&i));
    let max_rtt = table.get("max_rtt", |i| i.duration(MAX_RTT));
    if max_rtt.is_some_and(|rtt| rtt >= timeout) && !table.is_wrong("timeout") {
        table.warning(
            "max_rtt",
            format!(
                "has no effect: no reply is waited for longer than the timeout ({})",
                duration::show(timeout)
            ),
        );
    }
    let size = table.or("size", 56, |i| i.integer(PING_SIZE));
    let origin = origin(table, true);
    agree(table, host.as_ref(), &origin, "host");
    Some(Ping { host: host?, count, max_loss, max_rtt, size, origin })
}

fn max_loss(item: &Item<'_, '_>) -> Option<f64> {
    let value = if item.is_string() {
        let text = item.word()?;
        let number = text.strip_suffix('%').and_then(|n| n.trim_end().parse().ok());
        number.or_else(|| item.fail("must be a share in percent, such as 20 or \"20%\""))?
    } else {
        item.number()?
    };
    if (0.0..100.0).contains(&value) {
        Some(value)
    } else {
        item.fail("must be from 0 to less than 100 percent: with 100 the check could never fail")
    }
}

fn tcp(table: &mut Table<'_, '_>) -> Option<Tcp> {
    let host = table.need("host", "\"198.18.0.1\"", |i| values::host(&i));
    let port = table.need("port", "443", |i| i.integer(1..=65_535));
    let origin = origin(table, true);
    agree(table, host.as_ref(), &origin, "host");
    Some(Tcp { host: host?, port: port?, origin })
}

fn exec(table: &mut Table<'_, '_>, env: &Env<'_>) -> Option<Exec> {
    let command = table.need("command", "\"/usr/local/bin/check.sh\"", |i| {
        let words = values::command(&i, env.inspect_script)?;
        if words.is_empty() { i.fail("must not be empty") } else { Some(words) }
    });
    let invert = table.or("invert", false, |i| i.boolean());
    Some(Exec { command: command?, invert })
}

fn link(table: &mut Table<'_, '_>) -> Option<Link> {
    let device = table.need("device", "\"ens3\"", |i| values::device(&i));
    Some(Link { device: device? })
}

fn session(table: &mut Table<'_, '_>) -> Option<BgpSession> {
    let peer = table.need("peer", "\"isp-a\"", |i| i.word().map(Arc::from));
    Some(BgpSession { peer: peer? })
}

fn file(table: &mut Table<'_, '_>) -> Option<File> {
    let path = table.need("path", "\"/run/example.ok\"", |i| values::path(&i));
    let max_age = table.get("max_age", |i| i.duration(MAX_AGE));
    Some(File { path: path?, max_age })
}

/// `source`, `device` and, where it can be done, `fwmark`.
pub(super) fn origin(table: &mut Table<'_, '_>, with_mark: bool) -> Origin {
    let source = table.get("source", |i| values::address(&i));
    let device = table.get("device", |i| values::device(&i));
    let fwmark = if with_mark {
        table.get("fwmark", |i| i.integer(1..=u64::from(u32::MAX)))
    } else {
        let mend =
            "is not available for http checks: the HTTP client cannot set a mark; use `source` or `device`";
        table.refuse(&["fwmark"], mend);
        None
    };
    Origin { source, device, fwmark }
}

/// The address of the target and that of the source must be of one family, and a link-local target needs a device.
pub(super) fn agree(table: &Table<'_, '_>, host: Option<&Host>, origin: &Origin, key: &str) {
    let Some(Host::Address(target)) = host else { return };
    if let Some(source) = origin.source {
        if family_of(source) != family_of(*target) {
            let (s, t) = (words(source), words(*target));
            table.error("source", format!("`{source}` is an {s} address, but the target {target} is {t}"));
        }
    }
    if values::is_link_local(*target) && origin.device.is_none() && !table.is_wrong("device") {
        table.error(key, format!("`{target}` is a link-local address: say on which link with `device`"));
    }
}

/// The name of an address's family.
pub(super) fn words(address: IpAddr) -> &'static str {
    family_words(family_of(address))
}

/// The name of a family.
pub(super) fn family_words(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
