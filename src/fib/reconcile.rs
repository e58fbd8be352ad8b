//! Wanted against observed: which operations make the kernel what it should be.
//!
//! The observed side is fed by dumps and acknowledgements only. News that something changed are no more than a reason
//! for a dump: they arrive on another socket than the acknowledgements, in an order of their own.

mod operations;
mod order;
mod progress;
mod tunnels;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::desired::{Planned, Stage};
use super::hash::{Map, Set};
use super::object::{Key, Object, Op, OpError, OpId};
use crate::announcer::instance::Level;
use crate::announcer::timers::InstanceId;
use crate::time::Time;

/// The pause after a first refusal; doubles up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How soon we look again whether somebody else's object that serves us is still there.
const FOREIGN: Duration = Duration::from_secs(1);

/// How far an instance's objects are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Wanted objects that are not there, the announcing ones left out.
    pub support_missing: usize,
    /// Of these, those that the kernel refused.
    pub support_refused: usize,
    /// Announcing objects that are not there though wanted.
    pub export_missing: usize,
    /// Objects that are there and no longer wanted.
    pub leaving: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) object: Object,
    owner: InstanceId,
    stage: Stage,
    /// Its place among what the owner plans: the order in which they come.
    place: usize,
    /// As last counted in the owner's progress.
    pub(super) there: bool,
    refused: bool,
}

/// What is going on about one key; absent when nothing is.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// Operations under way, oldest first, and what each leaves behind.
    in_flight: Vec<(OpId, Option<Object>)>,
    /// Not known to be there: its operation was not answered. A dump will tell; until then it may be.
    unsure: Option<Object>,
    pub(super) error: Option<OpError>,
    retry_at: Option<Time>,
    refusals: u32,
}

/// Whether it has been looked, once all the rest was there, that no tunnel leads into itself.
#[derive(Clone, Debug, Default)]
enum Ways {
    #[default]
    Unknown,
    /// To be looked at with the next operations.
    Wanted,
    /// Being looked at.
    Asked(Set<OpId>),
    Known,
}

#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) planned: Vec<Planned>,
    /// One of them at least is a tunnel.
    has_tunnels: bool,
    ways: Ways,
    level: Level,
    released: bool,
    /// On its way out: takes nothing from others.
    yields: bool,
    /// What announces, is permitted and not there: it waits for all the rest.
    held: Set<Key>,
    pub(super) progress: Progress,
}

/// The whole of it.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    pub(super) owners: BTreeMap<InstanceId, Owner>,
    pub(super) wanted: Map<Key, Wanted>,
    pub(super) observed: Map<Key, Object>,
    /// Who asked for an object that is to go, so that its progress counts, and what it was to that one.
    leaving: Map<Key, (InstanceId, Stage)>,
    /// Tunnels that must be made anew though the kernel has nothing to say against them.
    anew: Set<Key>,
    /// Looks at a tunnel's way that are under way.
    looks: Map<OpId, (InstanceId, Key)>,
    pub(super) slots: Map<Key, Slot>,
    ops: Map<OpId, Key>,
    last_op: u64,
    /// Keys to look at, in the order in which they came.
    dirty: Vec<Key>,
    is_dirty: Set<Key>,
    /// Nothing is done before the first dump: we do not know what is there.
    known: bool,
    /// Keys that changed while a dump was under way: what it says of them may be old.
    touched: Option<Set<Key>>,
    next_retry: Option<Time>,
    notes: Vec<String>,
}

impl Fib {
    /// Adds an instance, or gives it new objects. It keeps its level.
    pub fn set_objects(&mut self, id: InstanceId, planned: Vec<Planned>) {
        let (level, released, yields, held, old) = match self.owners.remove(&id) {
            Some(o) => (o.level, o.released, o.yields, o.held, o.planned),
            None => (Level::Nothing, false, false, Set::default(), Vec::new()),
        };
        let kept: Set<&Key> = planned.iter().map(|p| &p.key).collect();
        for gone in old.iter().rev().filter(|p| !kept.contains(&p.key)) {
            self.unwant(id, &gone.key);
        }
        drop(kept);
        self.note_lost_mtus(&old, &planned);
        let has_tunnels = planned.iter().any(|p| matches!(p.object, Object::Tunnel(_)));
        let (ways, progress) = (Ways::default(), Progress::default());
        self.owners.insert(id, Owner { planned, has_tunnels, ways, level, released, yields, held, progress });
        self.apply(id);
        self.recount(id);
    }

    /// The instance is on its way out, or no longer: what another one wants as well is the other's meanwhile.
    pub fn set_yielding(&mut self, id: InstanceId, yields: bool) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.yields = yields;
        }
    }

    /// The instance is gone: it wants nothing any more.
    pub fn remove(&mut self, id: InstanceId) {
        self.set_level(id, Level::Nothing, false);
        self.owners.remove(&id);
    }

    /// Sets what an instance wants. `resumed`, before the first dump, permits its announcement at once: it should be there
    /// already.
    pub fn set_level(&mut self, id: InstanceId, level: Level, resumed: bool) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        let released = level == Level::Full && (owner.released || (resumed && !self.known));
        let changed = (owner.level, owner.released) != (level, released);
        (owner.level, owner.released) = (level, released);
        if changed {
            self.apply(id);
        }
        self.release(id);
    }

    /// How far an instance's objects are.
    pub fn progress(&self, id: InstanceId) -> Progress {
        let Some(owner) = self.owners.get(&id) else { return Progress::default() };
        let mut progress = owner.progress;
        // That the kernel has a tunnel is not all: it has to lead somewhere.
        progress.support_missing += usize::from(progress.support_missing == 0 && owner.waits_for_ways());
        progress
    }

    /// True if the instance may announce: everything else that it wants is there.
    pub fn is_released(&self, id: InstanceId) -> bool {
        self.owners.get(&id).is_some_and(|o| o.released)
    }

    /// True once a dump has told what is there.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// True if operations are under way or nothing more can be done now.
    pub fn is_quiet(&self) -> bool {
        self.ops.is_empty() && self.looks.is_empty() && self.dirty.is_empty()
    }

    /// True if something of ours is (or may be) there that nobody wants, an earlier process's leavings included.
    pub fn has_leftovers(&self) -> bool {
        let unsure = self.slots.iter().filter(|(_, s)| s.unsure.is_some()).map(|(k, _)| k);
        self.observed.keys().chain(unsure).any(|k| !self.wanted.contains_key(k))
    }

    /// Lines for the log since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The operations that are due, in order. `now` decides which refused ones are.
    pub fn plan(&mut self, now: Time) -> Vec<Op> {
        if !self.known {
            return Vec::new();
        }
        let keys = std::mem::take(&mut self.dirty);
        self.is_dirty.clear();
        let mut turn = Vec::new();
        for key in keys {
            if self.slots.get(&key).and_then(|s| s.retry_at).is_some_and(|at| at > now) || self.hold(&key) {
                continue;
            }
            turn.extend(self.actions(&key).into_iter().map(|action| (key.clone(), action)));
            self.anew.remove(&key);
        }
        self.part_tunnels(&mut turn);
        let turn = self.make_before_break(turn);
        let mut ops: Vec<Op> = turn.into_iter().map(|(key, action)| self.start(&key, action)).collect();
        self.look_at_ways(&mut ops);
        ops
    }

    /// When the next refused operation is due.
    pub fn retry_at(&self) -> Option<Time> {
        self.next_retry
    }

    /// Marks what is due again by `now`; with `all`, every refused one, because the world has changed.
    pub fn retry(&mut self, now: Time, all: bool) {
        let mut due: Vec<Key> = self
            .slots
            .iter_mut()
            .filter(|(_, s)| s.retry_at.is_some_and(|at| all || at <= now))
            .map(|(key, s)| {
                s.retry_at = None;
                key.clone()
            })
            .collect();
        self.in_order(&mut due);
        for key in due {
            self.mark(&key);
        }
        self.next_retry = self.slots.values().filter_map(|s| s.retry_at).min();
    }

    /// The kernel's answers. Returns true if a dump is needed to know what is there.
    pub fn done(&mut self, results: Vec<(OpId, Result<(), OpError>)>, now: Time) -> bool {
        let mut unsure = false;
        for (id, result) in results {
            if let Some((owner, key)) = self.looks.remove(&id) {
                // Perhaps of a moment in which somebody else changed routes: it is looked at again after a dump.
                unsure |= matches!(result, Err(OpError::Recursive(_)));
                self.looked(id, owner, &key, result);
                continue;
            }
            let Some(key) = self.ops.remove(&id) else { continue };
            unsure |= matches!(result, Err(OpError::NoAnswer | OpError::OursExists));
            self.finish(&key, id, result, now);
        }
        let owners: Vec<InstanceId> = self.owners.keys().copied().collect();
        for id in owners {
            self.release(id);
        }
        unsure
    }

    /// A dump begins: what changes from now on is not judged by it.
    pub fn dump_started(&mut self) {
        self.touched = Some(self.ops.values().cloned().collect());
    }

    /// What the kernel has.
    pub fn dumped(&mut self, objects: Vec<Object>) {
        let touched = self.touched.take().unwrap_or_default();
        let first = !self.known;
        self.known = true;
        let mut found: Map<Key, Object> = objects.into_iter().map(|o| (o.key(), o)).collect();
        let mut changed: Vec<Key> =
            self.observed.iter().filter(|(k, o)| found.get(*k) != Some(*o)).map(|(k, _)| k.clone()).collect();
        changed.extend(found.keys().filter(|k| !self.observed.contains_key(*k)).cloned());
        changed.retain(|k| !touched.contains(k));
        let unsure = self.slots.iter_mut().filter(|(k, s)| s.unsure.is_some() && !touched.contains(*k));
        let mut resolved: Vec<Key> = unsure
            .map(|(key, slot)| {
                slot.unsure = None;
                key.clone()
            })
            .collect();
        self.in_order(&mut changed);
        self.in_order(&mut resolved);
        for key in changed {
            let now_there = found.remove(&key);
            self.note_change(&key, now_there.as_ref(), first);
            match now_there {
                Some(object) => self.observed.insert(key.clone(), object),
                None => self.observed.remove(&key),
            };
            self.refresh(&key);
            self.mark(&key);
        }
        for key in resolved {
            self.refresh(&key);
            self.mark(&key);
        }
        if first {
            let all: Vec<Key> = self.wanted.keys().cloned().collect();
            for key in all {
                self.refresh(&key);
            }
            let owners: Vec<InstanceId> = self.owners.keys().copied().collect();
            for id in owners {
                self.doubt(id);
                self.apply(id);
                self.remark(id);
            }
        }
        self.judge_tunnels();
        let owners: Vec<InstanceId> = self.owners.keys().copied().collect();
        for id in owners {
            self.release(id);
        }
    }

    /// Makes the wanted set what the owner's level says.
    fn apply(&mut self, id: InstanceId) {
        let Some(owner) = self.owners.get(&id) else { return };
        let (level, released) = (owner.level, owner.released);
        // Out of the owner for the walk, so that the rest of `self` can change.
        let planned = std::mem::take(&mut self.owners.get_mut(&id).expect("looked up above").planned);
        for p in planned.iter().rev().filter(|p| !p.stage.is_wanted(level, released)) {
            self.unwant(id, &p.key);
        }
        for (place, p) in planned.iter().enumerate().filter(|(_, p)| p.stage.is_wanted(level, released)) {
            self.want(id, place, p);
        }
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.planned = planned;
        }
    }

    /// A resumed MASTER that has nothing of its announcement in the kernel, and not all that this stands on, resumes no more
    /// than its state: it announces when the kernel has the rest.
    fn doubt(&mut self, id: InstanceId) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        let exported = owner.planned.iter().filter(|p| p.stage == Stage::Export);
        let none_is_there = exported.into_iter().all(|p| !self.observed.contains_key(&p.key));
        owner.released &= !none_is_there || owner.progress.support_missing == 0;
    }

    /// True for what announces and has to be added while something is missing that it stands on, though it was all there
    /// once: it waits, and is looked at again when that is there.
    fn hold(&mut self, key: &Key) -> bool {
        let Some(wanted) = self.wanted.get(key).filter(|w| w.stage == Stage::Export) else { return false };
        if self.may_be_there(key) {
            return false;
        }
        let Some(owner) = self.owners.get_mut(&wanted.owner) else { return false };
        let waits = owner.progress.support_missing > 0;
        if waits {
            owner.held.insert(key.clone());
        }
        waits
    }

    /// After a first dump everything wanted is looked at, in its proper order.
    fn remark(&mut self, id: InstanceId) {
        let Some(owner) = self.owners.get(&id) else { return };
        let keys: Vec<Key> = owner.planned.iter().map(|p| p.key.clone()).collect();
        for key in keys {
            self.mark(&key);
        }
    }

    /// Sorts keys so that what is to go comes first, routes before the addresses they hang on, and then what is to
    /// come, in the order of its plan.
    fn in_order(&self, keys: &mut [Key]) {
        let place = |k: &Key| self.wanted.get(k).map(|w| (w.owner, w.place));
        keys.sort_by_cached_key(|k| (place(k), Reverse(k.clone())));
    }

    fn want(&mut self, id: InstanceId, place: usize, p: &Planned) {
        if let Some(wanted) = self.wanted.get_mut(&p.key) {
            if wanted.object == p.object && wanted.owner == id && wanted.stage == p.stage {
                wanted.place = place;
                return;
            }
            if wanted.owner != id && self.owners.get(&id).is_some_and(|o| o.yields) {
                return;
            }
        }
        self.uncount(&p.key);
        self.stop_leaving(&p.key);
        let wanted = Wanted {
            object: p.object.clone(),
            owner: id,
            stage: p.stage,
            place,
            there: true,
            refused: false,
        };
        self.wanted.insert(p.key.clone(), wanted);
        self.forget_error(&p.key);
        self.refresh(&p.key);
        self.mark(&p.key);
    }

    fn unwant(&mut self, id: InstanceId, key: &Key) {
        if self.wanted.get(key).is_none_or(|w| w.owner != id) {
            return;
        }
        self.uncount(key);
        let stage = self.wanted.remove(key).map_or(Stage::Support, |w| w.stage);
        self.forget_error(key);
        if self.may_be_there(key) {
            self.leaving.insert(key.clone(), (id, stage));
            self.with_progress(id, |p| p.leaving += 1);
        }
        self.mark(key);
    }

    fn stop_leaving(&mut self, key: &Key) {
        if let Some((id, _)) = self.leaving.remove(key) {
            self.with_progress(id, |p| p.leaving = p.leaving.saturating_sub(1));
        }
    }

    fn forget_error(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.error = None;
            slot.retry_at = None;
            slot.refusals = 0;
            self.drop_slot(key);
        }
    }

    /// Nothing goes on about that key any more?
    fn drop_slot(&mut self, key: &Key) {
        let is_over = |s: &Slot| s.in_flight.is_empty() && s.error.is_none() && s.unsure.is_none();
        if self.slots.get(key).is_some_and(is_over) {
            self.slots.remove(key);
        }
    }

    fn mark(&mut self, key: &Key) {
        if self.is_dirty.insert(key.clone()) {
            self.dirty.push(key.clone());
        }
    }

    /// What will be there once everything under way is done.
    fn expected(&self, key: &Key) -> Option<&Object> {
        match self.slots.get(key).and_then(|s| s.in_flight.last()) {
            Some((_, result)) => result.as_ref(),
            None => self.observed.get(key),
        }
    }

    /// True unless we know that it is not there and will not be.
    fn may_be_there(&self, key: &Key) -> bool {
        let unsure = self.slots.get(key).is_some_and(|s| s.unsure.is_some());
        unsure || self.observed.contains_key(key) || self.expected(key).is_some()
    }

    fn note_change(&mut self, key: &Key, found: Option<&Object>, first: bool) {
        if first {
            return;
        }
        match (self.observed.get(key), found, self.wanted.get(key)) {
            (Some(old), None, Some(_)) => {
                self.notes.push(format!("{} {old} was removed, not by us; putting it back", old.kind()));
            }
            (Some(old), Some(new), Some(wanted)) if !new.satisfies(&wanted.object) => {
                self.notes.push(format!("{} {old} was changed, not by us; setting it right", old.kind()));
            }
            _ => {}
        }
    }
}
