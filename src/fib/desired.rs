//! What an instance wants of the kernel, worked out once from its configuration.

use super::normal;
use super::object::{Key, Object};
use crate::announcer::instance::Level;
use crate::config::model::{self, When};
use crate::net::Prefix;

/// When an object comes and goes; the order is the order in which they come, the reverse that in which they go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// `when = "always"`.
    Base,
    /// With MASTER, and kept while it drains.
    Support,
    /// The announcement itself: after all the rest is there, and gone before it.
    Export,
}

impl Stage {
    /// True if an instance at `level` wants objects of this stage; `released` is the permission to announce.
    pub fn is_wanted(self, level: Level, released: bool) -> bool {
        match self {
            Stage::Base => level >= Level::Base,
            Stage::Support => level >= Level::Drain,
            Stage::Export => level == Level::Full && released,
        }
    }
}

/// One object of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// What the kernel knows it by.
    pub key: Key,
    /// All of it.
    pub object: Object,
    /// When it comes and goes.
    pub stage: Stage,
}

/// The objects of an instance, in the order in which they come.
pub fn planned(instance: &model::Instance) -> Vec<Planned> {
    let exported: Vec<Prefix> = instance.routes.iter().filter(|r| r.export).map(|r| r.to).collect();
    let addresses = instance.addresses.iter().map(|a| {
        let stage = match a.when {
            When::Always => Stage::Base,
            When::Master if brings_route(a, &exported) => Stage::Export,
            When::Master => Stage::Support,
        };
        (normal::address_object(a), stage)
    });
    let routes = instance.routes.iter().map(|r| {
        let stage = match r.when {
            When::Always => Stage::Base,
            When::Master if r.export => Stage::Export,
            When::Master => Stage::Support,
        };
        (normal::route_object(r), stage)
    });
    let mut all: Vec<Planned> = addresses
        .map(|(o, s)| (Object::Address(o), s))
        .chain(routes.map(|(o, s)| (Object::Route(o), s)))
        .map(|(object, stage)| Planned { key: object.key(), object, stage })
        .collect();
    // Stable: addresses stay before routes, and each kind in the order of the file.
    all.sort_by_key(|p| p.stage);
    all
}

/// The kernel makes a route of its own for an address that is not a host's. If that is a prefix that we announce, a
/// routing daemon would learn it from there: such an address is part of the announcement.
fn brings_route(address: &model::Address, exported: &[Prefix]) -> bool {
    let network = Prefix::containing(address.address, address.len);
    network.is_some_and(|n| !n.is_host() && exported.contains(&n))
}
