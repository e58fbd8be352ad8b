//! Kernel objects: what the core wants, what the kernel has, and the operations between the two.
//!
//! An object is a [`Key`] (what the kernel tells it apart by) and the attributes that go with it. Devices are
//! named, not numbered: an index changes when a device is made anew, a name is what the operator wrote.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::forward::{Hop, RuleObject, TunnelObject};
use crate::config::model::{RouteKind, Scope};
use crate::net::Prefix;

/// What the kernel tells one object from another by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A tunnel.
    Tunnel {
        /// The device's name.
        name: String,
    },
    /// An address on a device.
    Address {
        /// The device's name.
        dev: String,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        len: u8,
    },
    /// A route. The metric is the effective one: IPv6 has 1024 where IPv4 has 0.
    Route {
        /// Routing table number.
        table: u32,
        /// Destination.
        to: Prefix,
        /// Priority; lower wins.
        metric: u32,
    },
    /// A policy rule: it has nothing but its key. (Boxed: of the others there can be hundreds of thousands.)
    Rule(Box<RuleObject>),
}

/// An object with all that we say about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// A tunnel.
    Tunnel(TunnelObject),
    /// An address.
    Address(AddressObject),
    /// A route.
    Route(RouteObject),
    /// A policy rule.
    Rule(RuleObject),
}

/// An address on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressObject {
    /// The device's name.
    pub dev: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub len: u8,
    /// Its scope.
    pub scope: Scope,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteObject {
    /// Routing table number.
    pub table: u32,
    /// Destination.
    pub to: Prefix,
    /// Effective priority (see [`Key::Route`]).
    pub metric: u32,
    /// Type.
    pub kind: RouteKind,
    /// Device; the kernel may fill in one for a gateway, then an unset one here matches any.
    pub dev: Option<String>,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Several next hops, in place of `dev` and `via`; else none.
    pub hops: Vec<Hop>,
    /// Preferred source.
    pub src: Option<IpAddr>,
    /// Effective scope (IPv6 has only global).
    pub scope: Scope,
    /// The gateway is on the link though no prefix says so.
    pub onlink: bool,
    /// Path MTU.
    pub mtu: Option<u32>,
    /// Advertised MSS.
    pub advmss: Option<u32>,
}

impl Object {
    /// What the kernel knows it by.
    pub fn key(&self) -> Key {
        match self {
            Object::Tunnel(t) => Key::Tunnel { name: t.name.clone() },
            Object::Rule(r) => Key::Rule(Box::new(r.clone())),
            Object::Address(a) => Key::Address { dev: a.dev.clone(), address: a.address, len: a.len },
            Object::Route(r) => Key::Route { table: r.table, to: r.to, metric: r.metric },
        }
    }

    /// True if what the kernel has (`self`) is what is wanted. A wanted value that leaves the device open accepts any.
    pub fn satisfies(&self, wanted: &Object) -> bool {
        match (self, wanted) {
            (Object::Tunnel(have), Object::Tunnel(want)) => have.satisfies(want),
            (Object::Rule(have), Object::Rule(want)) => have == want,
            (Object::Address(have), Object::Address(want)) => have == want,
            (Object::Route(have), Object::Route(want)) => {
                let dev_ok = want.dev.is_none() || want.dev == have.dev;
                let rest = |r: &RouteObject| RouteObject { dev: None, hops: Vec::new(), ..r.clone() };
                dev_ok && Hop::same_set(&have.hops, &want.hops) && rest(have) == rest(want)
            }
            _ => false,
        }
    }

    /// True if what the kernel has (`self`) is what is wanted, and works.
    pub fn serves(&self, wanted: &Object) -> bool {
        self.satisfies(wanted) && !matches!(self, Object::Tunnel(t) if t.recursive)
    }

    /// The device it hangs on, if it names one.
    pub fn dev(&self) -> Option<&str> {
        match self {
            Object::Address(a) => Some(&a.dev),
            Object::Route(r) => r.dev.as_deref(),
            Object::Tunnel(_) | Object::Rule(_) => None,
        }
    }

    /// True if it goes with that device.
    pub fn hangs_on(&self, dev: &str) -> bool {
        let by_hop = matches!(self, Object::Route(r) if r.hops.iter().any(|h| h.dev.as_deref() == Some(dev)));
        self.dev() == Some(dev) || by_hop
    }
}

/// A number that ties an acknowledgement to its operation; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// One change of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// Comes back in the acknowledgement.
    pub id: OpId,
    /// What to do.
    pub action: Action,
}

/// What an [`Op`] does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make it; refused if something with that key is there.
    Add(Object),
    /// Put it in the place of the object of ours with the same key.
    Replace(Object),
    /// Remove the object of ours; gone already is done.
    Delete(Object),
    /// Changes nothing: look whether the tunnel leads into itself now ([`OpError::Recursive`]).
    Examine(Object),
}

impl Action {
    /// The object it is about.
    pub fn object(&self) -> &Object {
        match self {
            Action::Add(o) | Action::Replace(o) | Action::Delete(o) | Action::Examine(o) => o,
        }
    }

    /// The verb in words.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Add(_) => "add",
            Action::Replace(_) => "replace",
            Action::Delete(_) => "delete",
            Action::Examine(_) => "examine",
        }
    }
}

/// Why the kernel did not do an [`Op`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OpError {
    /// Somebody else's object stands there, and it is just what we want: leave it, count it as there.
    ForeignSame,
    /// Somebody else's object stands there and differs; its description.
    ForeignOther(String),
    /// A tunnel that is not ours stands there; its description. It is never taken over, not even if it is the same.
    ForeignTunnel(String),
    /// A device of that name is there, but it is not the tunnel of ours that this is to hang on.
    ForeignDevice(String),
    /// The way to the tunnel's other end leads into the tunnel itself.
    Recursive(String),
    /// An object of ours stands there already (our picture was old).
    OursExists,
    /// The device is not there (or went away).
    NoDevice(String),
    /// Refused, with the kernel's own words (extended acknowledgement, else the error's name).
    Refused(String),
    /// No acknowledgement came in time; whether it was done is unknown.
    NoAnswer,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpError::ForeignSame => {
                f.write_str("the same object is there already and belongs to somebody else")
            }
            OpError::ForeignOther(what) => {
                write!(
                    f,
                    "{what} stands in its place and is not ours; remove it or choose another metric or table"
                )
            }
            OpError::ForeignTunnel(what) => {
                write!(f, "{what} is there already and is not ours; remove it or choose another name")
            }
            OpError::ForeignDevice(dev) => {
                write!(f, "it waits for our tunnel {dev}: the one that is there is not ours")
            }
            OpError::Recursive(remote) => write!(
                f,
                "the way to its other end {remote} leads into the tunnel itself; add a route to {remote}/32 or /128 that does not, or name the tunnel's `device`"
            ),
            OpError::OursExists => f.write_str("it is there already"),
            OpError::NoDevice(dev) => write!(f, "there is no device {dev}"),
            OpError::Refused(words) => write!(f, "the kernel refused: {words}"),
            OpError::NoAnswer => f.write_str("the kernel did not answer in time"),
        }
    }
}

/// What the kernel says of a network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// Administratively up (IFF_UP).
    pub admin_up: bool,
    /// It has carrier (IFF_LOWER_UP; for `lo` and tunnels: as the kernel says).
    pub carrier: bool,
}

impl fmt::Display for Object {
    /// As `ip` would be told, so that a person can paste it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Tunnel(t) => t.fmt(f),
            Object::Rule(r) => r.fmt(f),
            Object::Address(a) => write!(f, "{}/{} dev {}", a.address, a.len, a.dev),
            Object::Route(r) => r.fmt(f),
        }
    }
}

impl fmt::Display for RouteObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RouteKind::Unicast => "",
            RouteKind::Local => "local ",
            RouteKind::Blackhole => "blackhole ",
            RouteKind::Unreachable => "unreachable ",
            RouteKind::Prohibit => "prohibit ",
        };
        write!(f, "{kind}{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        for hop in &self.hops {
            write!(f, " {hop}")?;
        }
        if self.table != 254 {
            write!(f, " table {}", self.table)?;
        }
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

impl Object {
    /// `kind` of the status: "tunnel", "address", "route" or "rule".
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Tunnel(_) => "tunnel",
            Object::Rule(_) => "rule",
            Object::Address(_) => "address",
            Object::Route(_) => "route",
        }
    }
}
