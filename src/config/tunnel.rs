//! Reads `[[instance.tunnel]]`.

use std::net::IpAddr;

use super::instance::misplaced;
use super::model::When;
use super::model::{Tunnel, TunnelMode};
use super::probe::{family_words, words};
use super::reader::{Item, Table};
use super::report::{Span, brief};
use super::route::{WHENS, interface_address};
use super::values;
use crate::net::{Family, family_of};

/// What the kernel's modules make by themselves in every network namespace, for packets without a tunnel.
const FALLBACKS: [&str; 9] =
    ["gre0", "gretap0", "erspan0", "tunl0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"];
/// RFC 791: every network carries 68 bytes.
const LEAST_MTU: u64 = 68;
/// Where nobody says anything, outer packets do not inherit: what a routing protocol sends with a TTL of 1 would not
/// get far.
const DEFAULT_TTL: u8 = 64;
/// The kernel's word for "as the inner packet", of ttl and of tos.
const INHERIT: (u8, u8) = (0, 1);

/// A tunnel as it was read.
pub(super) struct ReadTunnel {
    /// Dotted path.
    pub path: String,
    /// Where `name` stands.
    pub name: Span,
    /// Where `remote` stands.
    pub remote: Span,
    /// Where `addresses` stand.
    pub addresses: Span,
    /// The tunnel.
    pub tunnel: Tunnel,
}

/// Reads the tunnels of an instance; the wrong ones are left out (and recorded).
pub(super) fn read_all(item: &Item<'_, '_>) -> Option<Vec<ReadTunnel>> {
    let items = item.tables("instance.tunnel")?;
    Some(items.iter().filter_map(read).collect())
}

fn read(item: &Item<'_, '_>) -> Option<ReadTunnel> {
    let before = item.report.errors();
    let mut table = item.table("instance.tunnel")?;
    let name = table.need("name", "\"gre1\"", |i| own_name(&i));
    let mode = table.need("mode", "\"gre\"", |i| i.one_of(&TunnelMode::ALL));
    let local = table.need("local", "\"203.0.113.2\"", |i| values::address(&i));
    let remote = table.need("remote", "\"198.18.0.1\"", |i| values::address(&i));
    let addresses = table.or("addresses", Vec::new(), |i| i.list(interface_address));
    let pmtudisc = table.or("pmtudisc", true, |i| i.boolean());
    let ttl = table.get("ttl", |i| number_or_inherit(&i, 1, INHERIT.0));
    let keys = keys(&mut table);
    let (name_span, remote_span, addresses_span) =
        (table.span_of("name"), table.span_of("remote"), table.span_of("addresses"));
    let tunnel = Tunnel {
        name: name.unwrap_or_default(),
        mode: mode.unwrap_or(TunnelMode::Gre),
        local: local.unwrap_or(IpAddr::from([0; 4])),
        remote: remote.unwrap_or(IpAddr::from([0; 4])),
        // Fragmentation is for those who have it: see `agree`.
        ttl: ttl.unwrap_or(if pmtudisc { DEFAULT_TTL } else { INHERIT.0 }),
        tos: table.or("tos", 0, |i| number_or_inherit(&i, 0, INHERIT.1)),
        ikey: keys.0,
        okey: keys.1,
        pmtudisc,
        device: table.get("device", |i| values::device(&i)),
        fwmark: table.or("fwmark", 0, |i| i.integer(1..=u64::from(u32::MAX))),
        mtu: table.get("mtu", |i| i.integer(LEAST_MTU..=65_535)),
        addresses,
        when: table.or("when", When::Always, |i| i.one_of(&WHENS)),
    };
    if mode.is_some() {
        agree(&mut table, &tunnel, (local, remote));
    }
    let path = table.path.clone();
    table.finish_with(misplaced);
    let read = ReadTunnel { path, name: name_span, remote: remote_span, addresses: addresses_span, tunnel };
    (item.report.errors() == before).then_some(read)
}

fn own_name(item: &Item<'_, '_>) -> Option<String> {
    let name = values::device(item)?;
    if FALLBACKS.contains(&name.as_str()) || name == "lo" {
        return item
            .fail(format!("`{name}` is a device of the kernel's own; choose another name, such as gre1"));
    }
    Some(name)
}

/// `key` is both; `ikey` and `okey` one each.
fn keys(table: &mut Table<'_, '_>) -> (Option<u32>, Option<u32>) {
    let any = 0..=u64::from(u32::MAX);
    let key = table.get("key", |i| i.integer(any.clone()));
    let ikey = table.get("ikey", |i| i.integer(any.clone()));
    let okey = table.get("okey", |i| i.integer(any.clone()));
    for other in ["ikey", "okey"] {
        if table.has("key") && table.has(other) {
            table.error(other, "is said by `key` already; write `ikey` and `okey`, or `key` alone");
        }
    }
    (ikey.or(key), okey.or(key))
}

fn number_or_inherit(item: &Item<'_, '_>, least: u64, inherit: u8) -> Option<u8> {
    match item.is_string() {
        false => item.integer(least..=255),
        true if item.text() == Some("inherit") => Some(inherit),
        true => item.fail(format!("{} is neither a number nor \"inherit\"", brief(item.text()?))),
    }
}

/// What the mode allows, and what contradicts itself.
fn agree(table: &mut Table<'_, '_>, tunnel: &Tunnel, ends: (Option<IpAddr>, Option<IpAddr>)) {
    let (mode, outer) = (tunnel.mode.word(), tunnel.mode.outer());
    for (key, address) in [("local", ends.0), ("remote", ends.1)] {
        let Some(address) = address.filter(|a| family_of(*a) != outer) else { continue };
        let (is, want) = (words(address), family_words(outer));
        table.error(
            key,
            format!("`{address}` is an {is} address, but a tunnel of mode {mode} goes over {want}"),
        );
    }
    if ends.0.is_some() && ends.0 == ends.1 {
        table.error("remote", "is `local`: a tunnel has two ends");
    }
    if !tunnel.mode.has_keys() {
        for key in ["key", "ikey", "okey"].into_iter().filter(|key| table.has(key)) {
            table.error(key, format!("means nothing in mode {mode}: only gre, ip6gre and gretap have keys"));
        }
    }
    if outer == Family::V6 && table.has("pmtudisc") {
        table.error("pmtudisc", "means nothing over IPv6, whose routers never fragment");
    } else if !tunnel.pmtudisc && tunnel.ttl != INHERIT.0 {
        // A loop would multiply fragments as long as a fixed TTL is renewed by each encapsulation.
        table.error(
            "ttl",
            "a fixed ttl needs pmtudisc = true; write ttl = \"inherit\", or leave pmtudisc out",
        );
    }
    if tunnel.mtu.is_some_and(|mtu| mtu < 1280) && tunnel.addresses.iter().any(|(a, _)| a.is_ipv6()) {
        table.error("mtu", "must be at least 1280 for the IPv6 addresses on it (RFC 8200 section 5)");
    }
    if tunnel.device.as_deref() == Some(tunnel.name.as_str()) {
        table.error("device", "is the tunnel itself; name the device that its packets leave through");
    }
    for (address, _) in &tunnel.addresses {
        let family = family_of(*address);
        if !tunnel.mode.carries(family) {
            let words = format!("`{address}`: a tunnel of mode {mode} carries no {}", family_words(family));
            table.error("addresses", words);
        }
        if *address == tunnel.remote || *address == tunnel.local {
            table.error(
                "addresses",
                format!("`{address}` is an end of the tunnel; on it belongs an address of the net inside, such as 10.10.10.2/30"),
            );
        }
    }
}
