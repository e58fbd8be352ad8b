//! In which order the operations of a turn go: make before break.

use std::collections::{BTreeMap, BTreeSet};

use super::Fib;
use crate::fib::desired::Stage;
use crate::fib::hash::Set;
use crate::fib::object::{Action, AddressObject, Key, Object, TunnelObject};
use crate::net::{Family, Prefix, family_of};

/// Of one turn: what is to come, looked up by what it cannot stand beside.
struct Comers<'a> {
    keys: Set<&'a Key>,
    tunnels: Vec<&'a TunnelObject>,
    addresses: BTreeMap<&'a str, Vec<&'a AddressObject>>,
    destinations: Set<Prefix>,
}

impl<'a> Comers<'a> {
    fn of(turn: &'a [(Key, Action)]) -> Self {
        let mut comers = Comers {
            keys: Set::default(),
            tunnels: Vec::new(),
            addresses: BTreeMap::new(),
            destinations: Set::default(),
        };
        for (key, action) in turn.iter().filter(|(_, action)| !is_removal(action)) {
            comers.keys.insert(key);
            match action.object() {
                Object::Tunnel(t) => comers.tunnels.push(t),
                Object::Address(a) => comers.addresses.entry(&a.dev).or_default().push(a),
                Object::Route(r) => {
                    comers.destinations.insert(r.to);
                }
                Object::Rule(_) => {}
            }
        }
        comers
    }

    /// True if the kernel would not have both, or would take the new along with the old.
    fn exclude(&self, key: &Key, old: &Object) -> bool {
        let net = |a: &AddressObject| (a.len, Prefix::containing(a.address, a.len));
        let clashes = |new: &AddressObject, old: &AddressObject| match family_of(old.address) {
            // The second of a network is the first one's secondary, and goes with it.
            Family::V4 => net(new) == net(old),
            Family::V6 => new.address == old.address,
        };
        // On another device: with two ways into one network, routes that come would find their gateway by the old one.
        let moves = |new: &AddressObject, old: &AddressObject| {
            net(new) == net(old) && Prefix::host(new.address).len() != new.len
        };
        self.keys.contains(key)
            || match old {
                Object::Tunnel(old) => self.tunnels.iter().any(|new| new.has_ends_of(old)),
                Object::Address(old) => self.addresses.iter().any(|(dev, on)| {
                    let is_in_the_way = |new: &AddressObject| match *dev == &*old.dev {
                        true => clashes(new, old),
                        false => moves(new, old),
                    };
                    on.iter().any(|new| is_in_the_way(new))
                }),
                Object::Route(_) | Object::Rule(_) => false,
            }
    }
}

fn is_removal(action: &Action) -> bool {
    matches!(action, Action::Delete(_))
}

impl Fib {
    /// What comes goes before what leaves, so that packets always have a way: only what the new cannot stand beside, with what
    /// hangs on it, leaves first. And a withdraw never waits: what was announced and is not in another way goes at once.
    pub(super) fn make_before_break(&self, turn: Vec<(Key, Action)>) -> Vec<(Key, Action)> {
        let leaving = turn.iter().filter(|(_, action)| is_removal(action)).count();
        if leaving == 0 || leaving == turn.len() {
            return turn;
        }
        let comers = Comers::of(&turn);
        let is_first = |key: &Key, object: &Object| {
            let announced = self.leaving.get(key).is_some_and(|(_, stage)| *stage == Stage::Export);
            let withdrawn =
                matches!(object, Object::Route(r) if announced && !comers.destinations.contains(&r.to));
            withdrawn || comers.exclude(key, object)
        };
        let removals = turn.iter().filter(|(_, action)| is_removal(action));
        let first: BTreeSet<Key> =
            removals.filter(|(k, a)| is_first(k, a.object())).map(|(k, _)| k.clone()).collect();
        let parting: Vec<&str> = first
            .iter()
            .filter_map(|key| match key {
                Key::Tunnel { name } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let place = |(key, action): &(Key, Action)| match is_removal(action) {
            true if first.contains(key) => 0,
            true if parting.iter().any(|dev| action.object().hangs_on(dev)) => 0,
            false => 1,
            true => 2,
        };
        let mut places = [Vec::new(), Vec::new(), Vec::new()];
        let at: Vec<usize> = turn.iter().map(place).collect();
        for (step, at) in turn.into_iter().zip(at) {
            if let Some(place) = places.get_mut(at) {
                place.push(step);
            }
        }
        places.into_iter().flatten().collect()
    }
}
