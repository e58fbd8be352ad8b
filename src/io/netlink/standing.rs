//! What stands where an operation wants to go: read only where the kernel's own checks do not protect others.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use netlink_packet_route::route::RouteType;
use nix::errno::Errno;

use super::decode::{self, Seen, SeenRoute};
use super::links::Links;
use super::socket::Channel;
use super::{encode, names, rules};
use crate::config::model::Scope;
use crate::fib::object::{Object, OpError, RuleObject};
use crate::net::{Family, Prefix};

/// Where an object stands, as the kernel tells objects apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Place {
    Route(u32, Prefix, u32),
    /// Without the length: IPv6 has an address only once on a device.
    Address(String, IpAddr),
    Rule(RuleObject),
    /// Looked after where tunnels are made.
    Tunnel,
}

fn place(object: &Object) -> Place {
    match object {
        Object::Route(r) => Place::Route(r.table, r.to, r.metric),
        Object::Address(a) => Place::Address(a.dev.clone(), a.address),
        Object::Rule(r) => Place::Rule(r.clone()),
        Object::Tunnel(_) => Place::Tunnel,
    }
}

/// An object that stands there, and the kernel's message about it.
#[derive(Debug)]
pub(super) struct Found {
    /// Decoded.
    pub seen: Seen,
    /// As the kernel said it: what it takes back as a request to remove exactly this.
    pub raw: Vec<u8>,
}

/// What stands at the places of some objects.
#[derive(Debug, Default)]
pub(super) struct Standing {
    at: HashMap<Place, Vec<Found>>,
}

impl Standing {
    /// Looks. One dump for each table and device concerned, filtered in the kernel.
    pub fn look<'a>(
        channel: &mut Channel,
        links: &RwLock<Links>,
        objects: impl IntoIterator<Item = &'a Object>,
    ) -> io::Result<Self> {
        let links = links.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut tables, mut devices, mut families) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut standing = Standing::default();
        for object in objects {
            match object {
                Object::Route(r) => drop(tables.insert((r.to.family() == Family::V6, r.table))),
                Object::Address(a) => drop(devices.insert((a.address.is_ipv6(), a.dev.as_str()))),
                Object::Rule(r) => drop(families.insert(r.family)),
                Object::Tunnel(_) => {}
            }
            standing.at.entry(place(object)).or_default();
        }
        for (v6, table) in tables {
            let request = encode::get_routes(family_if(v6), 0, table);
            let read =
                |payload: &[u8]| decode::route(payload, &links).filter(|r| !r.special).map(Seen::Route);
            standing.read(channel, &request, read)?;
        }
        for (v6, dev) in devices {
            let Some(index) = links.index(dev) else { continue };
            let request = encode::get_addresses(family_if(v6), Some(index));
            standing
                .read(channel, &request, |payload| decode::address(payload, &links).map(Seen::Address))?;
        }
        for family in families {
            standing.read(channel, &rules::get(family), |payload| rules::decode(payload).map(Seen::Rule))?;
        }
        Ok(standing)
    }

    fn read(
        &mut self,
        channel: &mut Channel,
        request: &netlink_packet_route::RouteNetlinkMessage,
        decode: impl Fn(&[u8]) -> Option<Seen>,
    ) -> io::Result<()> {
        let mut found = Vec::new();
        let wanted = &self.at;
        let found_cell = std::cell::RefCell::new(&mut found);
        let done = channel.dump(
            request,
            || found_cell.borrow_mut().clear(),
            |payload| {
                let Some(seen) = decode(payload) else { return };
                let at = match &seen {
                    Seen::Route(r) => Place::Route(r.route.table, r.route.to, r.route.metric),
                    Seen::Address(a) => Place::Address(a.address.dev.clone(), a.address.address),
                    Seen::Rule(r) => Place::Rule(r.rule.clone()),
                };
                if wanted.contains_key(&at) {
                    found_cell.borrow_mut().push((at, Found { seen, raw: payload.to_vec() }));
                }
            },
        );
        match done {
            // A table that nobody has used yet, a device that has just gone: nothing stands there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)) => {}
            done => done?,
        }
        for (at, one) in found {
            self.at.entry(at).or_default().push(one);
        }
        Ok(())
    }

    /// Everything in the object's place: ours, and others'.
    pub fn there(&self, object: &Object, protocol: u8) -> (Vec<&Found>, Vec<&Found>) {
        let all = self.at.get(&place(object)).into_iter().flatten();
        all.filter(|f| in_the_way(&f.seen, object)).partition(|f| f.seen.protocol() == protocol)
    }
}

/// IPv4 allows an address once for each prefix length.
fn in_the_way(seen: &Seen, object: &Object) -> bool {
    match (seen, object) {
        (Seen::Address(have), Object::Address(want)) => {
            want.address.is_ipv6() || have.address.len == want.len
        }
        _ => true,
    }
}

fn family_if(v6: bool) -> Family {
    if v6 { Family::V6 } else { Family::V4 }
}

/// Why others' objects keep ours out.
pub(super) fn foreign(others: &[&Found], wanted: &Object) -> Option<OpError> {
    let first = others.first()?;
    if others.iter().any(|f| f.seen.satisfies(wanted)) {
        return Some(OpError::ForeignSame);
    }
    Some(OpError::ForeignOther(describe(&first.seen)))
}

/// After the kernel said EEXIST: what it is that exists.
pub(super) fn exists(standing: &io::Result<Standing>, wanted: &Object, protocol: u8) -> OpError {
    let standing = match standing {
        Ok(standing) => standing,
        Err(e) => return OpError::Refused(format!("File exists (EEXIST); cannot see what: {e}")),
    };
    let (ours, others) = standing.there(wanted, protocol);
    if !ours.is_empty() {
        return OpError::OursExists;
    }
    foreign(&others, wanted)
        .unwrap_or_else(|| OpError::Refused("File exists (EEXIST), but it is gone already".into()))
}

/// The kernel's words for a refusal.
pub(super) fn refusal(errno: i32, words: Option<String>) -> String {
    let name = Errno::from_raw(errno);
    match words {
        Some(words) => format!("{words} ({name:?})"),
        None => format!("{} ({name:?})", name.desc()),
    }
}

/// As `ip route` and `ip address` would print it.
pub(super) fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Route(r) => describe_route(r),
        Seen::Rule(r) => format!("{} proto {}", r.rule, names::protocol(r.protocol)),
        Seen::Address(a) => {
            let mut text = format!("{}/{} dev {}", a.address.address, a.address.len, a.address.dev);
            if a.protocol != 0 {
                let _ = write!(text, " proto {}", names::protocol(a.protocol));
            }
            text
        }
    }
}

fn describe_route(seen: &SeenRoute) -> String {
    let r = &seen.route;
    let kind = match seen.kind {
        RouteType::Unicast => "",
        RouteType::Local => "local ",
        RouteType::BlackHole => "blackhole ",
        RouteType::Unreachable => "unreachable ",
        RouteType::Prohibit => "prohibit ",
        RouteType::Throw => "throw ",
        RouteType::Broadcast => "broadcast ",
        RouteType::Anycast => "anycast ",
        RouteType::Multicast => "multicast ",
        _ => "unknown ",
    };
    let mut text = format!("{kind}{}", r.to);
    let mut word = |name: &str, value: Option<&dyn std::fmt::Display>| {
        if let Some(value) = value {
            let _ = write!(text, " {name} {value}");
        }
    };
    word("via", r.via.as_ref().map(|v| v as _));
    word("dev", r.dev.as_ref().map(|d| d as _));
    for hop in &r.hops {
        word("nexthop via", hop.via.as_ref().map(|v| v as _));
        word("dev", hop.dev.as_ref().map(|d| d as _));
        word("weight", Some(&hop.weight));
    }
    word("table", (r.table != 254).then_some(&r.table as _));
    word("proto", Some(&names::protocol(seen.protocol)));
    let scope = match r.scope {
        Scope::Global => None,
        Scope::Link => Some(&"link" as _),
        Scope::Host => Some(&"host" as _),
    };
    word("scope", scope);
    word("src", r.src.as_ref().map(|s| s as _));
    word("metric", (r.metric != 0).then_some(&r.metric as _));
    word("mtu", r.mtu.as_ref().map(|m| m as _));
    word("advmss", r.advmss.as_ref().map(|m| m as _));
    if r.onlink {
        text.push_str(" onlink");
    }
    text
}
