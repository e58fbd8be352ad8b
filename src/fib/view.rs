//! What a person is shown of it: the objects as they are, and what would be done next.
//!
//! Both are taken in the loop and may be 100,000 long, so they are copies without order or words: whoever shows them
//! gives them both, elsewhere.

use super::Fib;
use super::object::{Action, Key, Object, OpError};
use crate::announcer::instance::Level;
use crate::announcer::timers::InstanceId;

/// For the status: an object, wanted or not, there or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// What the kernel knows it by; gives the rows their order.
    pub key: Key,
    /// The object: as wanted, else as found.
    pub object: Object,
    /// It is wanted now.
    pub desired: bool,
    /// The kernel has it, as wanted.
    pub observed: bool,
    /// Why not.
    pub error: Option<OpError>,
}

/// Objects, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Wanted now.
    pub wanted: usize,
    /// Of these, those that are not there.
    pub missing: usize,
    /// Of these, those that the kernel refused and nothing may be announced without.
    pub refused: usize,
    /// There, and to go.
    pub leaving: usize,
}

impl Fib {
    /// How many objects there are, without looking at each.
    pub fn census(&self) -> Census {
        let progress = || self.owners.values().map(|o| o.progress);
        Census {
            wanted: self.wanted.len(),
            missing: progress().map(|p| p.support_missing + p.export_missing).sum(),
            refused: progress().map(|p| p.support_refused).sum(),
            leaving: progress().map(|p| p.leaving).sum(),
        }
    }

    /// Every object of an instance, wanted now or not, and every one of ours that is there and is not wanted; in no order.
    pub fn rows(&self) -> Vec<Row> {
        let planned = self.owners.values().flat_map(|o| &o.planned);
        let idle =
            planned.filter(|p| !self.wanted.contains_key(&p.key) && !self.observed.contains_key(&p.key));
        let idle = idle.map(|p| self.row(&p.key, &p.object, false, false));
        let wanted = self.wanted.iter().map(|(key, w)| self.row(key, &w.object, true, w.there));
        let others = self.observed.iter().filter(|(key, _)| !self.wanted.contains_key(*key));
        let others = others.map(|(key, object)| self.row(key, object, false, true));
        idle.chain(wanted).chain(others).collect()
    }

    fn row(&self, key: &Key, object: &Object, desired: bool, observed: bool) -> Row {
        let error = self.slots.get(key).and_then(|s| s.error.clone());
        Row { key: key.clone(), object: object.clone(), desired, observed, error }
    }

    /// What the kernel would be told if the instance went to `level` and everything were granted, in order.
    pub fn preview(&self, id: InstanceId, level: Level) -> Vec<Action> {
        let Some(owner) = self.owners.get(&id) else { return Vec::new() };
        let removals = owner.planned.iter().rev().filter(|p| !p.stage.is_wanted(level, true));
        let removals = removals.filter(|p| self.observed.contains_key(&p.key));
        let adds = owner.planned.iter().filter(|p| p.stage.is_wanted(level, true));
        let adds = adds.filter(|p| self.observed.get(&p.key).is_none_or(|o| !o.satisfies(&p.object)));
        let removals = removals.map(|p| Action::Delete(p.object.clone()));
        removals.chain(adds.map(|p| Action::Add(p.object.clone()))).collect()
    }
}
