//! What an instance wants of the kernel, worked out once from its configuration.

use super::hops::Choices;
use super::normal;
use super::object::{Key, Object};
use crate::announcer::instance::Level;
use crate::config::model::{self, Address, Scope, When};
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

/// The objects of an instance, in the order in which they come; of several next hops the first.
pub fn planned(instance: &model::Instance) -> Vec<Planned> {
    planned_with(instance, &Choices::new())
}

/// The objects of an instance with the next hops that are in use, in the order in which they come: tunnels, addresses,
/// routes, rules. A route that has none in use is left out; one that nothing is said of uses its first.
pub fn planned_with(instance: &model::Instance, choices: &Choices) -> Vec<Planned> {
    let exported: Vec<Prefix> = instance.routes.iter().filter(|r| r.export).map(|r| r.to).collect();
    let tunnels =
        instance.tunnels.iter().map(|t| (Object::Tunnel(normal::tunnel_object(t)), stage(t.when, false)));
    let on_tunnels = instance.tunnels.iter().flat_map(addresses_of);
    let addresses = instance.addresses.iter().cloned().chain(on_tunnels).map(|a| {
        let stage = stage(a.when, brings_route(&a, &exported));
        (Object::Address(normal::address_object(&a)), stage)
    });
    let routes = instance.routes.iter().enumerate().filter_map(|(n, r)| {
        let chosen = choices.get(&n).map_or(&[0][..], Vec::as_slice);
        normal::routed(r, chosen).map(|o| (Object::Route(o), stage(r.when, r.export)))
    });
    let rules = instance.rules.iter().map(|r| (Object::Rule(normal::rule_object(r)), stage(r.when, false)));
    let all = tunnels.chain(addresses).chain(routes).chain(rules);
    let mut all: Vec<Planned> =
        all.map(|(object, stage)| Planned { key: object.key(), object, stage }).collect();
    // Stable: what hangs on something stays after it, and each kind in the order of the file.
    all.sort_by_key(|p| p.stage);
    all
}

/// True if the instance wants something in every state.
pub fn has_base(instance: &model::Instance) -> bool {
    planned(instance).iter().any(|p| p.stage == Stage::Base)
}

fn stage(when: When, export: bool) -> Stage {
    match when {
        When::Always => Stage::Base,
        When::Master if export => Stage::Export,
        When::Master => Stage::Support,
    }
}

/// The addresses of a tunnel, as if they stood on their own.
fn addresses_of(tunnel: &model::Tunnel) -> impl Iterator<Item = Address> {
    tunnel.addresses.iter().map(|(address, len)| Address {
        address: *address,
        len: *len,
        dev: tunnel.name.clone(),
        scope: Scope::Global,
        when: tunnel.when,
    })
}

/// The kernel makes a route of its own for an address that is not a host's. If that is a prefix that we announce, a
/// routing daemon would learn it from there: such an address is part of the announcement.
fn brings_route(address: &model::Address, exported: &[Prefix]) -> bool {
    let network = Prefix::containing(address.address, address.len);
    network.is_some_and(|n| !n.is_host() && exported.contains(&n))
}
