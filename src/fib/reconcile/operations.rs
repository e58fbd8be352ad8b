//! Operations: which one makes a key right, what is under way, what the kernel's answer means.

use std::time::Duration;

use super::{FOREIGN, Fib, RETRY};
use crate::fib::object::{Action, Key, Object, Op, OpError, OpId};
use crate::time::Time;

impl Fib {
    pub(super) fn actions(&self, key: &Key) -> Vec<Action> {
        let foreign = self.slots.get(key).is_some_and(|s| s.error == Some(OpError::OursExists));
        match (self.wanted.get(key).map(|w| &w.object), self.expected(key)) {
            (Some(want), Some(have)) if self.anew.contains(key) => {
                vec![Action::Delete(have.clone()), Action::Add(want.clone())]
            }
            (Some(want), Some(have)) if have.satisfies(want) => Vec::new(),
            (Some(Object::Tunnel(want)), Some(Object::Tunnel(have))) if have.can_become(want) => {
                vec![Action::Replace(Object::Tunnel(want.clone()))]
            }
            (Some(want @ (Object::Address(_) | Object::Tunnel(_))), Some(have)) => {
                vec![Action::Delete(have.clone()), Action::Add(want.clone())]
            }
            (Some(want), Some(_)) => vec![Action::Replace(want.clone())],
            (Some(want @ Object::Route(_)), None) if foreign => vec![Action::Replace(want.clone())],
            (Some(want), None) => vec![Action::Add(want.clone())],
            (None, Some(have)) => vec![Action::Delete(have.clone())],
            (None, None) => {
                // A withdraw does not wait until we know: it may be there, so it is to go.
                let unsure =
                    self.slots.get(key).filter(|s| s.in_flight.is_empty()).and_then(|s| s.unsure.clone());
                unsure.map(Action::Delete).into_iter().collect()
            }
        }
    }

    pub(super) fn start(&mut self, key: &Key, action: Action) -> Op {
        self.last_op += 1;
        let id = OpId(self.last_op);
        let leaves = match &action {
            Action::Add(o) | Action::Replace(o) => Some(o.clone()),
            Action::Delete(_) | Action::Examine(_) => None,
        };
        self.slots.entry(key.clone()).or_default().in_flight.push((id, leaves));
        self.ops.insert(id, key.clone());
        if let Some(touched) = &mut self.touched {
            touched.insert(key.clone());
        }
        Op { id, action }
    }

    pub(super) fn finish(&mut self, key: &Key, id: OpId, result: Result<(), OpError>, now: Time) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(place) = slot.in_flight.iter().position(|(op, _)| *op == id) else { return };
        let (_, leaves) = slot.in_flight.remove(place);
        if result == Err(OpError::NoAnswer) && leaves.is_some() {
            slot.unsure.clone_from(&leaves);
        }
        let mut went = None;
        match result {
            Ok(()) => {
                if let (None, Key::Tunnel { name }) = (&leaves, key) {
                    went = Some(name.clone());
                }
                slot.unsure = None;
                slot.error = None;
                slot.refusals = 0;
                slot.retry_at = None;
                match leaves {
                    Some(object) => self.observed.insert(key.clone(), object),
                    None => self.observed.remove(key),
                };
            }
            // A newer operation is under way: its answer counts, not this one.
            Err(_) if !slot.in_flight.is_empty() => {}
            Err(error) => self.refused(key, error, now),
        }
        self.refresh(key);
        self.mark(key);
        self.drop_slot(key);
        if let Some(name) = went {
            self.device_went(&name);
        }
    }

    fn refused(&mut self, key: &Key, error: OpError, now: Time) {
        let text = match self.wanted.get(key).map(|w| &w.object).or_else(|| self.observed.get(key)) {
            Some(object) => format!("{} {object}: {error}", object.kind()),
            None => format!("{key:?}: {error}"),
        };
        let slot = self.slots.entry(key.clone()).or_default();
        let pause = match error {
            OpError::OursExists if slot.refusals == 0 => Duration::ZERO,
            OpError::ForeignSame => FOREIGN,
            _ => RETRY.0.saturating_mul(2u32.saturating_pow(slot.refusals)).min(RETRY.1),
        };
        slot.refusals = slot.refusals.saturating_add(1);
        slot.retry_at = (!pause.is_zero()).then(|| now + pause);
        self.next_retry = [self.next_retry, slot.retry_at].into_iter().flatten().min();
        let is_news = slot.error.as_ref() != Some(&error) && error != OpError::OursExists;
        slot.error = Some(error);
        if is_news {
            self.notes.push(text);
        }
    }
}
