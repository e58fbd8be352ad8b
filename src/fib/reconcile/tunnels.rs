//! What tunnels add to the reconciliation: what goes with them, ends that change hands, ways that lead into themselves.

use super::{Fib, Owner, Ways};
use crate::announcer::instance::Level;
use crate::announcer::timers::InstanceId;
use crate::fib::desired::Planned;
use crate::fib::object::{Action, Key, Object, Op, OpError, OpId, TunnelObject};

impl Owner {
    /// True if all is there but what nobody has looked at: whether the tunnels lead somewhere.
    pub(super) fn waits_for_ways(&self) -> bool {
        self.has_tunnels && self.level == Level::Full && !self.released
    }

    /// True if no tunnel leads into itself; asks for a look if that is not known.
    pub(super) fn knows_ways(&mut self) -> bool {
        if matches!(self.ways, Ways::Unknown) {
            self.ways = Ways::Wanted;
        }
        !self.has_tunnels || matches!(self.ways, Ways::Known)
    }
}

impl Fib {
    /// The kernel has this under that key, as far as we know.
    pub fn observed(&self, key: &Key) -> Option<&Object> {
        self.observed.get(key)
    }

    /// We removed that device: what hung on it went along, without a word of the kernel's.
    pub(super) fn device_went(&mut self, dev: &str) {
        let mut gone: Vec<Key> =
            self.observed.iter().filter(|(_, o)| o.hangs_on(dev)).map(|(k, _)| k.clone()).collect();
        self.in_order(&mut gone);
        for key in gone {
            self.observed.remove(&key);
            self.refresh(&key);
            self.mark(&key);
        }
    }

    /// A tunnel whose `mtu` is no longer said is to have the kernel's own, which the kernel works out only when it makes one.
    pub(super) fn note_lost_mtus(&mut self, old: &[Planned], new: &[Planned]) {
        let mtu = |p: &Planned| match &p.object {
            Object::Tunnel(t) => Some(t.mtu),
            _ => None,
        };
        for p in new.iter().filter(|p| mtu(p) == Some(None)) {
            let before = old.iter().find(|o| o.key == p.key).and_then(mtu).flatten();
            let have = self.expected(&p.key);
            if before.is_some() && matches!(have, Some(Object::Tunnel(t)) if t.mtu == before) {
                self.anew.insert(p.key.clone());
            }
        }
    }

    /// Where tunnels of ours exchange their ends (a swap of keys), none of them can be changed in place: the kernel refuses the
    /// first for the sake of the second. All of them go, and come again.
    pub(super) fn part_tunnels(&self, turn: &mut Vec<(Key, Action)>) {
        let comers: Vec<TunnelObject> =
            turn.iter().filter_map(|(_, action)| comer(action).cloned()).collect();
        if comers.len() < 2 {
            return;
        }
        let now = |name: &str| match self.expected(&Key::Tunnel { name: name.to_owned() }) {
            Some(Object::Tunnel(t)) => Some(t),
            _ => None,
        };
        let parts = |want: &TunnelObject, have: &TunnelObject| {
            let others = comers.iter().filter(|c| c.name != want.name);
            let mut others = others.map(|c| (c, now(&c.name)));
            others.any(|(c, has)| c.has_ends_of(have) || has.is_some_and(|has| has.has_ends_of(want)))
        };
        for (key, action) in std::mem::take(turn) {
            match (&action, self.expected(&key)) {
                (Action::Replace(Object::Tunnel(want)), Some(Object::Tunnel(have))) if parts(want, have) => {
                    turn.push((key.clone(), Action::Delete(Object::Tunnel(have.clone()))));
                    turn.push((key, Action::Add(Object::Tunnel(want.clone()))));
                }
                _ => turn.push((key, action)),
            }
        }
    }

    /// Adds looks at the ways of tunnels of which all the rest is there.
    pub(super) fn look_at_ways(&mut self, ops: &mut Vec<Op>) {
        let wanting = self.owners.iter().filter(|(_, o)| matches!(o.ways, Ways::Wanted));
        let ids: Vec<InstanceId> = wanting.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(owner) = self.owners.get_mut(&id) else { continue };
            let mut asked = crate::fib::hash::Set::default();
            for p in owner.planned.iter().filter(|p| matches!(p.object, Object::Tunnel(_))) {
                self.last_op += 1;
                let op = OpId(self.last_op);
                self.looks.insert(op, (id, p.key.clone()));
                asked.insert(op);
                ops.push(Op { id: op, action: Action::Examine(p.object.clone()) });
            }
            owner.ways = if asked.is_empty() { Ways::Known } else { Ways::Asked(asked) };
        }
    }

    /// What a look at a tunnel's way found. What cannot be found out is no reason to announce nothing.
    pub(super) fn looked(&mut self, id: OpId, owner: InstanceId, key: &Key, result: Result<(), OpError>) {
        let remote = match result {
            Err(OpError::Recursive(remote)) => Some(remote),
            _ => None,
        };
        if let Some(Object::Tunnel(tunnel)) = self.observed.get_mut(key) {
            tunnel.recursive = remote.is_some();
            self.judge(key, remote);
        }
        if let Some(Owner { ways, .. }) = self.owners.get_mut(&owner) {
            if let Ways::Asked(asked) = ways {
                asked.remove(&id);
                if asked.is_empty() {
                    *ways = Ways::Known;
                }
            }
        }
    }

    /// A dump has told of every tunnel whether its way leads into itself: such a one carries nothing, and counts as
    /// refused until it does no more.
    pub(super) fn judge_tunnels(&mut self) {
        let tunnel = |(key, object): (&Key, &Object)| match object {
            Object::Tunnel(t) => Some((key.clone(), t.recursive.then(|| t.remote.to_string()))),
            _ => None,
        };
        let wanted = |(key, _): &(Key, Option<String>)| self.wanted.contains_key(key);
        let tunnels: Vec<_> = self.observed.iter().filter_map(tunnel).filter(wanted).collect();
        for (key, remote) in tunnels {
            self.judge(&key, remote);
        }
    }

    /// The way to the other end leads into the tunnel itself, or (None) does not.
    fn judge(&mut self, key: &Key, remote: Option<String>) {
        if !self.wanted.contains_key(key) {
            return;
        }
        let slot = self.slots.entry(key.clone()).or_default();
        let was = matches!(slot.error, Some(OpError::Recursive(_)));
        match remote.map(OpError::Recursive) {
            Some(error) if !was => {
                let text = self.observed.get(key).map_or(String::new(), ToString::to_string);
                self.notes.push(format!("tunnel {text}: {error}"));
                slot.error = Some(error);
            }
            None if was => slot.error = None,
            _ => {}
        }
        self.refresh(key);
        self.drop_slot(key);
    }
}

fn comer(action: &Action) -> Option<&TunnelObject> {
    match action {
        Action::Add(Object::Tunnel(t)) | Action::Replace(Object::Tunnel(t)) => Some(t),
        _ => None,
    }
}
