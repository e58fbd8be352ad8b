//! How far each instance's objects are, and whether it may announce.

use super::{Fib, Progress, Ways};
use crate::announcer::instance::Level;
use crate::announcer::timers::InstanceId;
use crate::fib::desired::Stage;
use crate::fib::hash::Set;
use crate::fib::object::{Key, OpError};

impl Fib {
    /// Counts a key anew in its owner's progress.
    pub(super) fn refresh(&mut self, key: &Key) {
        let is_gone = !self.may_be_there(key);
        if is_gone && self.leaving.contains_key(key) {
            self.stop_leaving(key);
        }
        if is_gone && !self.wanted.contains_key(key) {
            // Whatever kept us from removing it, somebody else has.
            self.forget_error(key);
        }
        let Some(wanted) = self.wanted.get(key) else { return };
        if self.observed.get(key).is_some_and(|o| o.serves(&wanted.object)) {
            // Whatever was refused on the way, it is there now.
            self.forget_error(key);
        }
        let Some(wanted) = self.wanted.get(key) else { return };
        let error = self.slots.get(key).and_then(|s| s.error.as_ref());
        let there = self.observed.get(key).is_some_and(|o| o.serves(&wanted.object))
            || error == Some(&OpError::ForeignSame);
        let is_open = |e: &OpError| matches!(e, OpError::OursExists | OpError::NoAnswer);
        let refused = !there && error.is_some_and(|e| !is_open(e));
        self.uncount(key);
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        wanted.there = there;
        wanted.refused = refused;
        let (id, stage) = (wanted.owner, wanted.stage);
        self.with_progress(id, |p| count(p, stage, there, refused, 1));
    }

    pub(super) fn uncount(&mut self, key: &Key) {
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        let (id, stage, there, refused) = (wanted.owner, wanted.stage, wanted.there, wanted.refused);
        wanted.there = true;
        wanted.refused = false;
        self.with_progress(id, |p| count(p, stage, there, refused, -1));
    }

    pub(super) fn recount(&mut self, id: InstanceId) {
        self.with_progress(id, |p| *p = Progress::default());
        let keys: Vec<Key> = self
            .wanted
            .iter_mut()
            .filter(|(_, w)| w.owner == id)
            .map(|(k, w)| {
                (w.there, w.refused) = (true, false);
                k.clone()
            })
            .collect();
        for key in keys {
            self.refresh(&key);
        }
        let leaving = self.leaving.values().filter(|(owner, _)| *owner == id).count();
        self.with_progress(id, |p| p.leaving = leaving);
    }

    pub(super) fn with_progress(&mut self, id: InstanceId, change: impl FnOnce(&mut Progress)) {
        if let Some(owner) = self.owners.get_mut(&id) {
            change(&mut owner.progress);
        }
    }

    /// Permits the announcement once all the rest is there; takes it back when the kernel refuses any of it.
    pub(super) fn release(&mut self, id: InstanceId) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        let was = owner.released;
        owner.released = owner.level == Level::Full
            && if was {
                owner.progress.support_refused == 0
            } else {
                self.known && owner.progress.support_missing == 0 && owner.knows_ways()
            };
        if owner.released || owner.level != Level::Full || owner.progress.support_missing > 0 {
            owner.ways = Ways::Unknown;
        }
        let complete = owner.progress.support_missing == 0;
        let held = if complete { std::mem::take(&mut owner.held) } else { Set::default() };
        if owner.released != was {
            self.apply(id);
        }
        let mut held: Vec<Key> = held.into_iter().collect();
        self.in_order(&mut held);
        held.iter().for_each(|key| self.mark(key));
    }
}

fn count(p: &mut Progress, stage: Stage, there: bool, refused: bool, by: isize) {
    let add = |n: &mut usize| *n = n.saturating_add_signed(by);
    match (stage, there) {
        (_, true) => {}
        (Stage::Export, false) => add(&mut p.export_missing),
        (_, false) => {
            add(&mut p.support_missing);
            if refused {
                add(&mut p.support_refused);
            }
        }
    }
}
