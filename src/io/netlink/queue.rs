//! Operations on their way to the thread that carries them out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::fib::object::{Action, Object, Op};

/// A submission of at most so many removals may go ahead: so many comparisons with each queued operation are cheap.
const URGENT_MAX: usize = 64;

/// First in, first out — except that a small submission of nothing but route removals (a withdraw) goes ahead of
/// what earlier submissions left waiting, unless one of its keys waits there too.
///
/// Why that is safe: operations on one key keep their order; removals keep theirs; what came in one submission keeps
/// its order, so a "make the new one, then remove the old one" stays that; and no route or address that waits to be
/// made needs one of ours that is no longer wanted.
#[derive(Default, Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default, Debug)]
struct Waiting {
    urgent: VecDeque<Op>,
    ordinary: VecDeque<Op>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds operations; returns at once.
    pub fn put(&self, ops: Vec<Op>) {
        let mut waiting = self.lock();
        if goes_ahead(&ops, &waiting.ordinary) {
            waiting.urgent.extend(ops);
        } else {
            waiting.ordinary.extend(ops);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// No more will come; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Waits for operations and takes up to `max`. `None` once closed and empty.
    pub fn take(&self, max: usize) -> Option<Vec<Op>> {
        let mut waiting = self.lock();
        loop {
            let line = if waiting.urgent.is_empty() { &mut waiting.ordinary } else { &mut waiting.urgent };
            if !line.is_empty() {
                let count = line.len().min(max);
                return Some(line.drain(..count).collect());
            }
            if waiting.closed {
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn goes_ahead(ops: &[Op], ordinary: &VecDeque<Op>) -> bool {
    ops.len() <= URGENT_MAX
        && ops.iter().all(|op| matches!(op.action, Action::Delete(Object::Route(_))))
        && !ordinary.iter().any(|queued| ops.iter().any(|op| same_route(op, queued)))
}

/// The same key, compared without making one (a [`Key`](crate::fib::object::Key) owns its strings).
fn same_route(a: &Op, b: &Op) -> bool {
    match (a.action.object(), b.action.object()) {
        (Object::Route(a), Object::Route(b)) => (a.to, a.table, a.metric) == (b.to, b.table, b.metric),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{RouteKind, Scope};
    use crate::fib::object::{OpId, RouteObject};

    fn route(to: &str) -> Object {
        Object::Route(RouteObject {
            table: 254,
            to: to.parse().unwrap(),
            metric: 0,
            kind: RouteKind::Blackhole,
            dev: None,
            via: None,
            hops: Vec::new(),
            src: None,
            scope: Scope::Global,
            onlink: false,
            mtu: None,
            advmss: None,
        })
    }

    fn add(id: u64, to: &str) -> Op {
        Op { id: OpId(id), action: Action::Add(route(to)) }
    }

    fn delete(id: u64, to: &str) -> Op {
        Op { id: OpId(id), action: Action::Delete(route(to)) }
    }

    fn drain(queue: &Queue, max: usize) -> Vec<u64> {
        queue.close();
        std::iter::from_fn(|| queue.take(max)).flatten().map(|op| op.id.0).collect()
    }

    #[test]
    fn a_withdraw_goes_ahead_of_a_bulk_but_not_of_its_own_key() {
        let queue = Queue::default();
        queue.put(vec![add(1, "192.0.2.0/24"), add(2, "198.51.100.0/24")]);
        queue.put(vec![delete(3, "203.0.113.0/24")]);
        queue.put(vec![delete(4, "198.51.100.0/24")]);
        queue.put(vec![delete(5, "198.18.0.0/15")]);
        assert_eq!(drain(&queue, 10), [3, 5, 1, 2, 4]);
    }

    #[test]
    fn one_submission_keeps_its_order() {
        let queue = Queue::default();
        queue.put(vec![add(1, "192.0.2.0/24")]);
        queue.put(vec![add(2, "198.51.100.0/24"), delete(3, "203.0.113.0/24")]);
        assert_eq!(drain(&queue, 1), [1, 2, 3]);
    }
}
