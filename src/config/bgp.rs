//! Reads `[[bgp]]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::check::path_of;
use super::model::{Bgp, Name, Secret};
use super::probe::words;
use super::reader::{Item, Table};
use super::report::Span;
use super::{Env, bfd, values};
use crate::bgp::family::PerFamily;
use crate::bgp::wire::capability::Role;
use crate::bgp::{Families, GracefulRestartConfig, PeerConfig};
use crate::net::{Asn, Family, RouterId, family_of};

/// The first wait; it doubles up to a minute.
const CONNECT_RETRY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// RFC 4271 section 4.2: two octets.
const HOLD_TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(65_535);
/// RFC 4271 section 4.2: "MUST be either zero or at least three seconds".
const HOLD_TIME_LEAST: Duration = Duration::from_secs(3);
const SEND_HOLD_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// RFC 4724 section 3: twelve bits.
const RESTART_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(4095);
const DEFAULT_RESTART_TIME: Duration = Duration::from_secs(120);
/// TCP_MD5SIG_MAXKEYLEN of linux/tcp.h.
const PASSWORD_LONGEST: usize = 80;

const ROLES: [(&str, Role); 5] = [
    ("provider", Role::Provider),
    ("customer", Role::Customer),
    ("peer", Role::Peer),
    ("rs", Role::RouteServer),
    ("rs-client", Role::RouteServerClient),
];
const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::V4), ("ipv6", Family::V6)];

/// A peer as it was read.
pub(super) struct ReadBgp {
    /// Its name; `None` if it has no usable one.
    pub name: Option<Name>,
    /// Dotted path.
    pub path: String,
    /// Where the name stands.
    pub name_span: Span,
    /// Where `peer` stands.
    pub peer_span: Span,
    /// The peer; `None` if something about it is wrong.
    pub bgp: Option<Bgp>,
}

/// Reads all of them. Without a router identifier, which is an error of its own, they are read all the same.
pub(super) fn read_all(
    item: &Item<'_, '_>,
    router_id: Option<RouterId>,
    env: &Env<'_>,
) -> Option<Vec<ReadBgp>> {
    let items = item.tables("bgp")?;
    let router_id = router_id.unwrap_or(RouterId(std::net::Ipv4Addr::UNSPECIFIED));
    Some(items.iter().enumerate().filter_map(|(index, item)| read(item, index, router_id, env)).collect())
}

fn read(item: &Item<'_, '_>, index: usize, router_id: RouterId, env: &Env<'_>) -> Option<ReadBgp> {
    let before = item.report.errors();
    let mut table = item.table_named("bgp", path_of("bgp", index, item))?;
    let name: Option<Name> = table.need("name", "\"isp-a\"", |i| values::name(&i)).map(Arc::from);
    let peer = table.need("peer", "\"203.0.113.1\"", |i| address(&i));
    let peer_as = table.need("peer_as", "64500", |i| asn(&i));
    let local_as = table.need("local_as", "64501", |i| asn(&i));
    if let (Some(peer_as), Some(local_as)) = (peer_as, local_as) {
        if peer_as == local_as {
            table.error("peer_as", "is our own AS: announcerd speaks to peers of other ASes only (eBGP)");
        }
    }
    let mut read = ReadBgp {
        name: name.clone(),
        path: table.path.clone(),
        name_span: table.span_of("name"),
        peer_span: table.span_of("peer"),
        bgp: None,
    };
    // What is missing has been recorded; its place is taken so that the rest is looked at as well.
    let place = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let text = name.as_deref().unwrap_or_default();
    let numbers = (peer_as.unwrap_or(Asn(0)), local_as.unwrap_or(Asn(0)));
    let mut session = PeerConfig::new(text, peer.unwrap_or(place), numbers.0, numbers.1, router_id);
    transport(&mut table, &mut session, peer);
    timers(&mut table, &mut session);
    capabilities(&mut table, &mut session);
    next_hops(&mut table, &mut session, peer);
    let password = table.get("password_file", |i| password(&i, PASSWORD_LONGEST, env));
    let path = (peer.unwrap_or(place), session.local_address, session.multihop.is_some());
    let guard = table.get("bfd", |i| bfd::of_peer(&i, path, env));
    session.bfd_strict = guard.as_ref().and_then(|(_, strict)| *strict);
    table.finish();
    let sound = name.is_some() && peer.is_some() && item.report.errors() == before;
    read.bgp = sound.then_some(Bgp { session, password, bfd: guard.map(|(config, _)| config) });
    Some(read)
}

/// An address that a session can run from or to.
fn address(item: &Item<'_, '_>) -> Option<IpAddr> {
    let address = values::address(item)?;
    if values::is_link_local(address) {
        return item.fail(format!("`{address}` is a link-local address; use a global one for the session"));
    }
    Some(address)
}

fn asn(item: &Item<'_, '_>) -> Option<Asn> {
    let number: u32 = item.integer(1..=u64::from(u32::MAX))?;
    match number {
        23_456 => item.fail("23456 is AS_TRANS, the stand-in of RFC 6793; write the AS number itself"),
        65_535 | u32::MAX => item.fail(format!("{number} is reserved (RFC 7300); nobody has it")),
        _ => Some(Asn(number)),
    }
}

/// Where the session runs, and what guards it there.
fn transport(table: &mut Table<'_, '_>, session: &mut PeerConfig, peer: Option<IpAddr>) {
    session.local_address = table.get("local_address", |i| address(&i));
    session.port = table.or("port", session.port, |i| i.integer(1..=65_535));
    session.passive = table.or("passive", false, |i| i.boolean());
    session.ttl_security = table.or("ttl_security", false, |i| i.boolean());
    session.multihop = table.get("multihop", |i| match i.is_boolean() {
        true => i.fail(
            "must be the number of hops to the peer, from 1 to 255; leave it out for a peer on our link",
        ),
        false => i.integer(1..=255),
    });
    if let (Some(peer), Some(local)) = (peer, session.local_address) {
        if family_of(peer) != family_of(local) {
            let (l, p) = (words(local), words(peer));
            table.error("local_address", format!("`{local}` is an {l} address, but the peer {peer} is {p}"));
        } else if peer == local {
            table.error("local_address", "is the address of the peer: we would be talking to ourselves");
        }
    }
    if session.ttl_security && session.multihop.is_some() {
        let words = "contradicts ttl_security, which wants the peer on our link (RFC 5082): choose one";
        table.error("multihop", words);
    }
    if session.passive && table.has("port") {
        table.warning("port", "has no effect on a passive session: the peer connects, and we never do");
    }
}

fn timers(table: &mut Table<'_, '_>, session: &mut PeerConfig) {
    session.hold_time = table.or("hold_time", session.hold_time, |i| {
        let time = whole_seconds(&i, HOLD_TIME)?;
        match time {
            Duration::ZERO => i.warn("turns keepalives off: a peer that dies in silence is never noticed"),
            time if time < HOLD_TIME_LEAST => {
                return i.fail("must be \"0s\" (off) or at least \"3s\" (RFC 4271 section 4.2)");
            }
            _ => {}
        }
        Some(time)
    });
    session.connect_retry = table.or("connect_retry", session.connect_retry, |i| i.duration(CONNECT_RETRY));
    session.send_hold_time = table.get("send_hold_time", |i| i.duration(SEND_HOLD_TIME));
    let too_short = session.send_hold_time.is_some_and(|time| time <= session.hold_time);
    if too_short && !table.is_wrong("hold_time") {
        let hold = super::duration::show(session.hold_time);
        table.error("send_hold_time", format!("must be longer than hold_time ({hold}) (RFC 9687)"));
    }
}

fn whole_seconds(item: &Item<'_, '_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let time = item.duration(range)?;
    match time.subsec_nanos() {
        0 => Some(time),
        _ => item.fail("must be in whole seconds: that is all that the protocol can carry"),
    }
}

fn capabilities(table: &mut Table<'_, '_>, session: &mut PeerConfig) {
    session.graceful_restart = table.get("graceful_restart", |i| {
        if !i.is_table() {
            return i.fail("must be a table such as { restart_time = \"120s\" }; leave it out to do without");
        }
        let mut inner = i.table("bgp.graceful_restart")?;
        let restart_time =
            inner.or("restart_time", DEFAULT_RESTART_TIME, |i| whole_seconds(&i, RESTART_TIME));
        inner.finish();
        Some(GracefulRestartConfig { restart_time })
    });
    session.role = table.get("role", |i| i.one_of(&ROLES));
    session.role_strict = table.or("role_strict", false, |i| i.boolean());
    if session.role_strict && !table.has("role") {
        table.error("role_strict", "has no effect without `role`");
    }
    session.families = table.or("families", session.families, |i| families(&i));
}

fn families(item: &Item<'_, '_>) -> Option<Families> {
    let elements = item.elements()?;
    if elements.is_empty() {
        return item
            .fail("is empty, so that nothing could be announced; write [\"ipv4\"], [\"ipv6\"] or both");
    }
    let mut families = Families::NONE;
    for element in &elements {
        let family = element.one_of(&FAMILIES)?;
        if std::mem::replace(families.get_mut(family), true) {
            return element.fail("is in the list already");
        }
    }
    Some(families)
}

/// One address, or an array of at most one for each family.
fn next_hops(table: &mut Table<'_, '_>, session: &mut PeerConfig, peer: Option<IpAddr>) {
    let read = |item: &Item<'_, '_>, so_far: &mut PerFamily<Option<IpAddr>>| {
        let address = address(item)?;
        let family = family_of(address);
        if Some(address) == peer {
            // RFC 4271 section 5.1.3.
            return item.fail("is the peer's own address, which it must refuse as a next hop of ours");
        }
        if so_far.get_mut(family).replace(address).is_some() {
            return item.fail(format!(
                "is the second {} next hop; there can be one for each family",
                words(address)
            ));
        }
        Some(())
    };
    let given = table.get("next_hop", |item| {
        let mut hops = PerFamily::default();
        if !item.is_array() {
            return read(&item, &mut hops).map(|()| hops);
        }
        let elements = item.elements()?;
        let sound = elements.iter().map(|element| read(element, &mut hops)).filter(Option::is_some).count();
        (sound == elements.len()).then_some(hops)
    });
    let hops = given.unwrap_or_default();
    session.next_hop_v4 = hops.v4.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None });
    session.next_hop_v6 = hops.v6.and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None });
}

/// The key in the file, without the newline that editors put at its end.
pub(super) fn password(item: &Item<'_, '_>, longest: usize, env: &Env<'_>) -> Option<Secret> {
    let path = values::near_path(item)?;
    let mut key = match (env.read_secret)(&path) {
        Ok(key) => key,
        Err(why) => return item.fail(why),
    };
    if key.last() == Some(&b'\n') {
        key.pop();
    }
    if key.last() == Some(&b'\r') {
        key.pop();
    }
    let shown = path.display();
    if key.is_empty() {
        return item.fail(format!("`{shown}` is empty; put the password into it, on one line"));
    }
    if key.contains(&b'\n') {
        return item.fail(format!("`{shown}` has more than one line; it must hold the password alone"));
    }
    if key.len() > longest {
        return item
            .fail(format!("the password in `{shown}` is longer than the {longest} bytes that can be used"));
    }
    Some(Secret(key))
}
