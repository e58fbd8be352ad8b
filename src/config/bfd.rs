//! Reads what a BFD session is configured with: the keys of a check of type `bfd`, and `bfd = {…}` of a `[[bgp]]`.
//!
//! The defaults depend on the link. On one segment 300 ms x 3: a death is seen within a second, and three packets in a
//! row are not lost there by chance. Over several hops 1 s x 5: across regions a burst of loss, or a route that is found
//! anew, lasts longer than that, and takes no session down.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::{Bgp, Probe};
use super::probe::words;
use super::reader::{Item, Table, join};
use super::report::{Report, Span};
use super::{Env, values};
use crate::bfd::{AuthType, Authentication, Hops, Path, SessionConfig};
use crate::net::family_of;

/// The fastest that a machine keeps up with, and the slowest that makes sense.
pub(super) const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const NEAR: (Duration, u8) = (Duration::from_millis(300), 3);
const FAR: (Duration, u8) = (Duration::from_secs(1), 5);
/// The draft on strict mode calls it BFD Hold Time, and this its default.
const STRICT_HOLD_TIME: Duration = Duration::from_secs(30);
const STRICT_HOLD_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

const TYPES: [(&str, AuthType); 5] = [
    ("simple", AuthType::Simple),
    ("keyed-md5", AuthType::Md5),
    ("meticulous-keyed-md5", AuthType::MeticulousMd5),
    ("keyed-sha1", AuthType::Sha1),
    ("meticulous-keyed-sha1", AuthType::MeticulousSha1),
];

/// The keys of a check of type `bfd`.
pub(super) fn check(table: &mut Table<'_, '_>, env: &Env<'_>) -> Option<SessionConfig> {
    let remote = table.need("host", "\"203.0.113.1\"", |i| {
        i.word()?.parse::<IpAddr>().ok().map_or_else(
            || i.fail("must be an address: a BFD session is between two addresses"),
            |_| values::address(&i),
        )
    });
    let local = table.get("local_address", |i| values::address(&i));
    let device = table.get("device", |i| values::device(&i));
    let hops = table.get("multihop", |i| multihop(&i)).unwrap_or(Hops::Single);
    if let (Some(remote), Some(local)) = (remote, local) {
        if family_of(remote) != family_of(local) {
            let (l, r) = (words(local), words(remote));
            table
                .error("local_address", format!("`{local}` is an {l} address, but the host {remote} is {r}"));
        } else if remote == local {
            table.error("local_address", "is the address of the host: we would be talking to ourselves");
        }
    }
    if remote.is_some_and(values::is_link_local) && device.is_none() && !table.is_wrong("device") {
        let words = "is a link-local address: say on which link with `device`";
        table.error("host", words);
    }
    let mend = "is not for bfd checks: a session is down after `multiplier` intervals of silence, and up when both ends hear each other";
    table.refuse(&["timeout", "fall", "rise"], mend);
    let path = Path { remote: remote?, local, device, hops };
    session(table, path, env)
}

/// `bfd = {…}` of a peer, and the hold time of strict mode.
pub(super) fn of_peer(
    item: &Item<'_, '_>,
    peer: (IpAddr, Option<IpAddr>, bool),
    env: &Env<'_>,
) -> Option<(SessionConfig, Option<Duration>)> {
    if !item.is_table() {
        return item.fail(
            "must be a table such as { interval = \"300ms\", multiplier = 3 }, or { } for the defaults; leave it out to do without",
        );
    }
    let mut table = item.table("bgp.bfd")?;
    let (remote, local, is_far) = peer;
    let default = if is_far { Hops::Multi { least_ttl: 0 } } else { Hops::Single };
    let hops = table.get("multihop", |i| multihop(&i)).unwrap_or(default);
    let config = session(&mut table, Path { remote, local, device: None, hops }, env);
    let strict = table.or("strict", false, |i| i.boolean());
    let hold_time = table.or("hold_time", STRICT_HOLD_TIME, |i| i.duration(STRICT_HOLD_TIMES));
    if !strict && table.has("hold_time") {
        table.warning("hold_time", "has no effect without `strict = true`");
    }
    table.finish();
    Some((config?, strict.then_some(hold_time)))
}

/// What both have.
fn session(table: &mut Table<'_, '_>, path: Path, env: &Env<'_>) -> Option<SessionConfig> {
    let (interval, multiplier) = if path.hops.is_multi() { FAR } else { NEAR };
    let interval = table.or("interval", interval, |i| i.duration(INTERVAL));
    let multiplier = table.or("multiplier", multiplier, |i| i.integer(1..=255));
    if path.hops.is_multi() && interval.saturating_mul(multiplier.into()) < Duration::from_secs(1) {
        let key = if table.has("interval") { "interval" } else { "multiplier" };
        table.warning(
            key,
            "makes for less than a second of silence over several hops: loss and rerouting there last longer, and the session will flap; 1s and a multiplier of 5 are the default",
        );
    }
    let passive = table.or("passive", false, |i| i.boolean());
    let auth = table.get("authentication", |i| authentication(&i, env));
    if table.is_wrong("authentication") {
        return None;
    }
    Some(SessionConfig { path, interval, multiplier, passive, auth })
}

/// `true`, or how many hops at most (RFC 5082 section 5: what comes from farther is not the neighbour's).
fn multihop(item: &Item<'_, '_>) -> Option<Hops> {
    if item.is_boolean() {
        let far = item.boolean()?;
        return Some(if far { Hops::Multi { least_ttl: 0 } } else { Hops::Single });
    }
    let hops: u8 = item.integer(1..=255)?;
    // Sent with 255; the first hop is the link itself.
    Some(Hops::Multi { least_ttl: 255 - (hops - 1) })
}

fn authentication(item: &Item<'_, '_>, env: &Env<'_>) -> Option<Authentication> {
    if !item.is_table() {
        return item.fail(
            "must be a table such as { type = \"meticulous-keyed-sha1\", key_id = 1, password_file = \"bfd.key\" }",
        );
    }
    let mut table = item.table("bfd.authentication")?;
    let kind = table.need("type", "\"meticulous-keyed-sha1\"", |i| i.one_of(&TYPES));
    let key_id = table.or("key_id", 1, |i| i.integer(0..=255));
    let longest = kind.map_or(20, AuthType::longest_key);
    let key = table.need("password_file", "\"bfd.key\"", |i| super::bgp::password(&i, longest, env));
    table.finish();
    Some(Authentication { kind: kind?, key_id, key: key?.0 })
}

/// Sessions to one address that could not be told apart, or that want one session in two ways.
pub(super) fn resolve<'a>(
    report: &Report<'_>,
    checks: impl Iterator<Item = (&'a super::check::ReadCheck, &'a super::model::Check)>,
    peers: impl Iterator<Item = (&'a super::bgp::ReadBgp, &'a Bgp)>,
) {
    let of_checks = checks.filter_map(|(read, check)| match &check.probe {
        Probe::Bfd(session) => Some((session, &read.target.1, join(&read.path, "host"))),
        _ => None,
    });
    let of_peers = peers.filter_map(|(read, bgp)| {
        bgp.bfd.as_ref().map(|session| (session, &read.peer_span, join(&read.path, "bfd")))
    });
    let mut seen: Vec<(&SessionConfig, &Span)> = Vec::new();
    for (session, span, key) in of_checks.chain(of_peers) {
        let clashes = |other: &&(&SessionConfig, &Span)| {
            let (a, b) = (&other.0.path, &session.path);
            !a.is_apart(b) && (a != b || other.0.auth != session.auth)
        };
        if let Some((_, before)) = seen.iter().find(clashes) {
            let line = report.line_of(before);
            let words = format!(
                "there can be one BFD session with {}; that of line {line} has another local address, device, multihop or authentication: make them alike",
                session.path.remote
            );
            report.error(span.clone(), key, words);
        }
        seen.push((session, span));
    }
}
