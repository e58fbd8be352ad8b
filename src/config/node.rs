//! Reads `[node]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::Env;
use super::model::Node;
use super::reader::{Item, Table};
use super::values;
use crate::net::RouterId;

const INIT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// `sun_path` of unix(7) without its NUL.
const SOCKET_PATH_LONGEST: usize = 107;
/// Ours unless the file says otherwise.
pub const ROUTE_PROTOCOL: u8 = 187;
/// Where the state is kept unless the file says otherwise.
pub const STATE_DIR: &str = "/var/lib/announcerd";

/// Protocols below this are the kernel's own and those of hand-made routes (RTPROT_STATIC and less, rtnetlink(7)).
const KERNEL_PROTOCOLS: u8 = 4;
/// Numbers that other programs mark their routes with, from linux/rtnetlink.h and FRR's zebra. 187 is IS-IS there
/// and the default here, so it is not in the list.
const WELL_KNOWN_PROTOCOLS: &[(u8, &str)] = &[
    (8, "gated"),
    (9, "the kernel's router discovery"),
    (10, "mrtd"),
    (11, "zebra"),
    (12, "BIRD"),
    (13, "dnrouted"),
    (14, "XORP"),
    (15, "netsukuku"),
    (16, "DHCP clients"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (84, "OVN"),
    (99, "Open/R"),
    (186, "FRR's BGP"),
    (188, "FRR's OSPF"),
    (189, "FRR's RIP"),
    (190, "FRR's RIPng"),
    (191, "FRR's NHRP"),
    (192, "FRR's EIGRP"),
    (193, "FRR's LDP"),
    (194, "FRR's sharpd"),
    (195, "FRR's PBR"),
    (196, "FRR's static routes"),
    (197, "FRR's OpenFabric"),
    (198, "FRR's segment routing"),
];

/// What a file without `[node]` means.
pub(super) fn default(env: &Env<'_>) -> Node {
    Node {
        name: env.hostname.clone(),
        router_id: None,
        control: PathBuf::from("/run/announcerd/control.sock"),
        control_group: Some("announcerd".to_owned()),
        state_dir: PathBuf::from(STATE_DIR),
        route_protocol: ROUTE_PROTOCOL,
        allowed_prefixes: None,
        init_timeout: Duration::from_secs(30),
        metrics: None,
    }
}

/// What a file with a `[[bgp]]` and no router identifier is told.
pub(super) const NO_ROUTER_ID: &str =
    "is missing, and [[bgp]] needs it: an IPv4 address of this machine, such as router_id = \"203.0.113.2\"";

/// The mark that a file names, however much else is wrong with it; None if that cannot be told. For a sweep, which may be
/// needed most when the file is broken.
pub fn mark_in(text: &str) -> Option<u8> {
    let file: toml::Table = text.parse().ok()?;
    let node = match file.get("node") {
        Some(node) => node.as_table()?,
        None => return Some(ROUTE_PROTOCOL),
    };
    match node.get("route_protocol") {
        Some(number) => u8::try_from(number.as_integer()?).ok().filter(|n| *n > KERNEL_PROTOCOLS),
        None => Some(ROUTE_PROTOCOL),
    }
}

/// The control socket that a file names, however much else is wrong with it; None if it names none.
pub fn control_in(text: &str) -> Option<PathBuf> {
    path_in(text, "control")
}

/// The state folder, in the same way.
pub fn state_dir_in(text: &str) -> Option<PathBuf> {
    path_in(text, "state_dir")
}

fn path_in(text: &str, key: &str) -> Option<PathBuf> {
    let file: toml::Table = text.parse().ok()?;
    let path = file.get("node")?.as_table()?.get(key)?.as_str()?;
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

/// Reads the table; wrong and absent keys have their defaults.
pub(super) fn read(mut table: Table<'_, '_>, speaks_bgp: bool, env: &Env<'_>) -> Node {
    let default = default(env);
    if speaks_bgp && !table.has("router_id") {
        table.missing("router_id", NO_ROUTER_ID);
    }
    let node = Node {
        name: table.or("name", default.name, |i| i.word().map(str::to_owned)),
        router_id: table.get("router_id", |i| router_id(&i)),
        control: table.or("control", default.control, |i| control(&i)),
        control_group: table.or("control_group", default.control_group, |i| control_group(&i)),
        state_dir: table.or("state_dir", default.state_dir, |i| values::path(&i)),
        route_protocol: table.or("route_protocol", default.route_protocol, |i| route_protocol(&i)),
        allowed_prefixes: table.get("allowed_prefixes", |i| {
            let prefixes = i.list(values::prefix)?;
            let none =
                "is empty, so that nothing could be announced; list the prefixes, or leave the key out";
            if prefixes.is_empty() { i.fail(none) } else { Some(prefixes) }
        }),
        init_timeout: table.or("init_timeout", default.init_timeout, |i| i.duration(INIT_TIMEOUT)),
        metrics: table.get("metrics", |i| metrics(&i)),
    };
    table.finish();
    node
}

fn router_id(item: &Item<'_, '_>) -> Option<RouterId> {
    let text = item.word()?;
    match text.parse::<Ipv4Addr>() {
        Ok(id) if id.is_unspecified() => item.fail("must not be 0.0.0.0 (RFC 6286)"),
        Ok(id) => Some(RouterId(id)),
        Err(_) => item.fail("must be written as an IPv4 address, such as \"203.0.113.2\""),
    }
}

fn control(item: &Item<'_, '_>) -> Option<PathBuf> {
    let path = values::path(item)?;
    if path.as_os_str().as_bytes().len() > SOCKET_PATH_LONGEST {
        return item.fail(format!("is longer than the {SOCKET_PATH_LONGEST} bytes of a socket's path"));
    }
    Some(path)
}

fn metrics(item: &Item<'_, '_>) -> Option<SocketAddr> {
    match item.word()?.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        _ => item.fail(
            "must be an address and a port, such as \"127.0.0.1:9179\", \"[::1]:9179\" or \"0.0.0.0:9179\"",
        ),
    }
}

fn control_group(item: &Item<'_, '_>) -> Option<Option<String>> {
    if item.text()?.is_empty() {
        return Some(None);
    }
    let name = item.word()?;
    let bad = |c: char| c.is_whitespace() || c == ':' || c == '/' || c == ',';
    if name.contains(bad) { item.fail("is no name of a group") } else { Some(Some(name.to_owned())) }
}

fn route_protocol(item: &Item<'_, '_>) -> Option<u8> {
    let number: u8 = item.integer(1..=255)?;
    if number <= KERNEL_PROTOCOLS {
        return item.fail(format!(
            "{number} marks routes of the kernel and of hands, which would then be taken for ours; choose one from 5 to 255, such as {ROUTE_PROTOCOL}"
        ));
    }
    if let Some((_, owner)) = WELL_KNOWN_PROTOCOLS.iter().find(|(known, _)| *known == number) {
        item.warn(format!(
            "{number} is the mark of {owner}: if that runs here too, each would take the other's routes for its own"
        ));
    }
    Some(number)
}
