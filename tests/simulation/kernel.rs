//! A model kernel: executes operations in order, refuses some, loses acknowledgements, forgets objects, and has things
//! that belong to others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use announcerd::announcer::event::Dump;
use announcerd::fib::object::{Action, Key, LinkState, Object, Op, OpError, OpId};
use announcerd::time::Time;

use crate::rng::Rng;

/// Who an object belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Ours,
    Foreign,
}

#[derive(Debug)]
pub struct Kernel {
    pub objects: BTreeMap<Key, (Owner, Object)>,
    queue: VecDeque<(Time, Op)>,
    busy_until: Time,
    pub refuse: f64,
    pub lose_ack: f64,
    pub refused: u64,
}

pub type Answer = (OpId, Result<(), OpError>);

impl Kernel {
    pub fn new() -> Self {
        Kernel {
            objects: BTreeMap::new(),
            queue: VecDeque::new(),
            busy_until: Time::ZERO,
            refuse: 0.0,
            lose_ack: 0.0,
            refused: 0,
        }
    }

    /// Operations are executed one by one, each a little later.
    pub fn submit(&mut self, ops: Vec<Op>, now: Time, rng: &mut Rng) {
        for op in ops {
            let takes = rng.between(Duration::from_micros(5), Duration::from_millis(2));
            self.busy_until = self.busy_until.max(now) + takes;
            self.queue.push_back((self.busy_until, op));
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// What was asked for is done even if the one who asked has died; nobody hears the answer then.
    pub fn step(&mut self, now: Time, rng: &mut Rng) -> Vec<Answer> {
        let mut answers = Vec::new();
        while self.queue.front().is_some_and(|(at, _)| *at <= now) {
            let (_, op) = self.queue.pop_front().expect("looked at");
            let id = op.id;
            let result = if rng.chance(self.refuse) {
                self.refused += 1;
                Err(OpError::Refused("No buffer space available".into()))
            } else {
                self.execute(op.action)
            };
            let lost = rng.chance(self.lose_ack);
            answers.push((id, if lost { Err(OpError::NoAnswer) } else { result }));
        }
        answers
    }

    fn execute(&mut self, action: Action) -> Result<(), OpError> {
        let key = action.object().key();
        let there = self.objects.get(&key).cloned();
        match (action, there) {
            (Action::Add(o), None) => {
                self.objects.insert(key, (Owner::Ours, o));
                Ok(())
            }
            (Action::Add(o), Some((Owner::Foreign, f))) if f == o => Err(OpError::ForeignSame),
            (Action::Add(_) | Action::Replace(_), Some((Owner::Foreign, f))) => {
                Err(OpError::ForeignOther(f.to_string()))
            }
            (Action::Add(_), Some((Owner::Ours, _))) => Err(OpError::OursExists),
            (Action::Replace(o), _) => {
                self.objects.insert(key, (Owner::Ours, o));
                Ok(())
            }
            (Action::Delete(_), Some((Owner::Ours, _))) => {
                self.objects.remove(&key);
                Ok(())
            }
            (Action::Delete(_) | Action::Examine(_), _) => Ok(()),
        }
    }

    pub fn dump(&self) -> Dump {
        let ours = self.objects.values().filter(|(owner, _)| *owner == Owner::Ours);
        Dump { links: vec![lo()], nets: Vec::new(), objects: ours.map(|(_, o)| o.clone()).collect() }
    }

    pub fn ours(&self) -> Vec<Key> {
        self.objects.iter().filter(|(_, (owner, _))| *owner == Owner::Ours).map(|(k, _)| k.clone()).collect()
    }
}

pub fn lo() -> LinkState {
    LinkState { name: "lo".into(), admin_up: true, carrier: true }
}
