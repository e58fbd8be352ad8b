//! `notify_url`: which notice is posted when, and which never. The posting itself is [`crate::io::hook`]'s.
//!
//! One notice of an instance is on its way at a time, in the order of the transitions. What fails is tried again after 1, 2,
//! 4, … 60 s, at once if a further transition comes; what the receiver refuses (a status that another try will not
//! change) is dropped. At most [`CAPACITY`] wait: then the oldest goes, so that the newest state is told whatever happens. A
//! notice of more than an hour ago is of no use to anybody. Nothing is kept across a restart: the first state after it is
//! posted, and a gap in `seq` says that there is more in `announcerctl events`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Notices of one instance that wait.
pub const CAPACITY: usize = 64;
/// The first pause before another try, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Older notices are dropped.
const STALE: Duration = Duration::from_secs(3600);
/// Between two lines in the log about one streak of failures.
const SAY_AGAIN: Duration = Duration::from_secs(300);

/// How a post ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Another try would end the same way.
    Refused(String),
    /// Another try may do.
    Failed(String),
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next<P> {
    /// Post this; [`Queue::ended`] follows.
    Post(P),
    /// Ask again then, or after something has changed.
    At(Time),
    /// Nothing, until something has changed.
    Idle,
    /// Nothing any more.
    Over,
}

/// A line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Say {
    /// It does not work.
    Trouble(String),
    /// It works again.
    Better(String),
}

/// What became of notices so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// The receiver has them.
    pub delivered: u64,
    /// Tries that failed, refusals among them.
    pub failed: u64,
    /// Notices that were given up: refused, too old, too many, or the daemon's end.
    pub dropped: u64,
    /// Those that wait or are on their way.
    pub waiting: u64,
}

#[derive(Clone, Debug)]
struct Entry<P> {
    seq: u64,
    since: Time,
    notice: P,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The front one, if any, may go.
    Ready,
    /// The front one is on its way.
    Posting,
    /// The front one has another try at that time.
    Pausing { until: Time },
}

/// The notices of one instance.
#[derive(Clone, Debug)]
pub struct Queue<P> {
    waiting: VecDeque<Entry<P>>,
    stage: Stage,
    /// Tries that failed since the last that did not.
    streak: u32,
    said: Option<Time>,
    closing: bool,
    tally: Tally,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Queue {
            waiting: VecDeque::new(),
            stage: Stage::Ready,
            streak: 0,
            said: None,
            closing: false,
            tally: Tally::default(),
        }
    }
}

impl<P: Clone> Queue<P> {
    /// A transition happened.
    pub fn push(&mut self, seq: u64, notice: P, now: Time) {
        if self.waiting.len() >= CAPACITY {
            // What is on its way may have arrived already.
            let oldest = usize::from(self.stage == Stage::Posting);
            self.tally.dropped += u64::from(self.waiting.remove(oldest).is_some());
        }
        self.waiting.push_back(Entry { seq, since: now, notice });
        if matches!(self.stage, Stage::Pausing { .. }) {
            self.stage = Stage::Ready;
        }
    }

    /// More is known of a transition that may not have been told yet.
    pub fn update(&mut self, seq: u64, notice: P) {
        if let Some(entry) = self.waiting.iter_mut().find(|e| e.seq == seq) {
            entry.notice = notice;
        }
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Time) -> Next<P> {
        match self.stage {
            Stage::Posting => return Next::Idle,
            Stage::Pausing { until } if until > now && !self.closing => return Next::At(until),
            _ => self.stage = Stage::Ready,
        }
        while let Some(front) = self.waiting.front() {
            if now.since(front.since) <= STALE {
                self.stage = Stage::Posting;
                return Next::Post(front.notice.clone());
            }
            self.drop_front();
        }
        if self.closing { Next::Over } else { Next::Idle }
    }

    /// The post ended; what the log should say of it.
    pub fn ended(&mut self, outcome: Outcome, now: Time) -> Option<Say> {
        if self.stage != Stage::Posting {
            return None;
        }
        self.stage = Stage::Ready;
        let why = match outcome {
            Outcome::Delivered => {
                self.waiting.pop_front();
                self.tally.delivered += 1;
                self.said = None;
                let tries = std::mem::take(&mut self.streak);
                return (tries > 0)
                    .then(|| Say::Better(format!("delivered after {tries} tries that failed")));
            }
            Outcome::Refused(why) => {
                self.drop_front();
                format!("{why}; it is not tried again")
            }
            Outcome::Failed(why) if self.closing => {
                while !self.waiting.is_empty() {
                    self.drop_front();
                }
                format!("{why}; there is no time for another try")
            }
            Outcome::Failed(why) => {
                let pause = RETRY.0.saturating_mul(2u32.saturating_pow(self.streak)).min(RETRY.1);
                self.stage = Stage::Pausing { until: now + pause };
                format!("{why}; it is tried again")
            }
        };
        self.tally.failed += 1;
        self.streak = self.streak.saturating_add(1);
        let due = self.said.is_none_or(|said| now.since(said) >= SAY_AGAIN);
        due.then(|| {
            self.said = Some(now);
            Say::Trouble(why)
        })
    }

    /// The daemon ends, or nobody is to be told any more: what waits is tried once, without pauses.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// What became of all.
    pub fn tally(&self) -> Tally {
        Tally { waiting: self.waiting.len() as u64, ..self.tally }
    }

    fn drop_front(&mut self) {
        self.tally.dropped += u64::from(self.waiting.pop_front().is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn failed() -> Outcome {
        Outcome::Failed("status 500".into())
    }

    #[test]
    fn one_at_a_time_in_order() {
        let mut q = Queue::default();
        assert_eq!(q.next(at(0)), Next::Idle);
        q.push(1, "one", at(0));
        q.push(2, "two", at(1));
        q.update(2, "two, with more of its timeline");
        q.update(9, "unknown");
        assert_eq!(q.next(at(1)), Next::Post("one"));
        assert_eq!(q.next(at(1)), Next::Idle, "one is on its way");
        assert_eq!(q.ended(Outcome::Delivered, at(2)), None);
        assert_eq!(q.next(at(2)), Next::Post("two, with more of its timeline"));
        assert_eq!(q.ended(Outcome::Delivered, at(3)), None);
        assert_eq!(q.next(at(3)), Next::Idle);
        assert_eq!(q.tally(), Tally { delivered: 2, ..Tally::default() });
    }

    #[test]
    fn tries_pause_for_1_2_4_and_at_most_60_seconds_and_a_transition_ends_the_pause() {
        let (mut q, mut now) = (Queue::default(), at(0));
        q.push(1, "one", now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(q.next(now), Next::Post("one"));
            q.ended(failed(), now);
            let Next::At(then) = q.next(now) else { panic!() };
            pauses.push(then.since(now).as_secs());
            now = then;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(q.next(now), Next::Post("one"));
        q.ended(failed(), now);
        q.push(2, "two", now);
        assert_eq!(q.next(now), Next::Post("one"), "at once, and in order");
        let better = Say::Better("delivered after 10 tries that failed".into());
        assert_eq!(q.ended(Outcome::Delivered, now), Some(better));
        assert_eq!(q.next(now), Next::Post("two"));
        q.ended(failed(), now);
        assert_eq!(q.next(now), Next::At(now + Duration::from_secs(1)), "the pauses begin anew");
    }

    #[test]
    fn what_is_refused_or_stale_makes_way() {
        let mut q = Queue::default();
        q.push(1, "one", at(0));
        q.push(2, "two", at(0));
        assert_eq!(q.next(at(0)), Next::Post("one"));
        let said = q.ended(Outcome::Refused("status 404".into()), at(0));
        assert_eq!(said, Some(Say::Trouble("status 404; it is not tried again".into())));
        assert_eq!(q.next(at(0)), Next::Post("two"));
        q.ended(failed(), at(0));
        q.push(3, "three", at(3_600_000));
        assert_eq!(q.next(at(3_600_001)), Next::Post("three"));
        assert_eq!(q.tally(), Tally { failed: 2, dropped: 2, waiting: 1, ..Tally::default() });
    }

    #[test]
    fn trouble_is_said_at_once_and_then_every_five_minutes() {
        let (mut q, mut now, mut lines) = (Queue::default(), at(0), 0);
        q.push(1, (), now);
        while now < at(3_600_000) {
            match q.next(now) {
                Next::Post(()) => lines += usize::from(q.ended(failed(), now).is_some()),
                Next::At(then) => now = then,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(lines, 12);
    }

    #[test]
    fn at_the_end_everything_has_one_try() {
        let mut q = Queue::default();
        q.push(1, "one", at(0));
        q.push(2, "STOP", at(0));
        q.next(at(0));
        q.ended(failed(), at(0));
        q.close();
        assert_eq!(q.next(at(1)), Next::Post("one"));
        q.ended(Outcome::Delivered, at(1));
        assert_eq!(q.next(at(1)), Next::Post("STOP"));
        q.ended(failed(), at(1));
        assert_eq!(q.next(at(1)), Next::Over);
        assert_eq!(q.tally().dropped, 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Next,
        Ended(Outcome),
        Pass(u64),
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Push),
            4 => Just(Step::Next),
            2 => Just(Step::Ended(Outcome::Delivered)),
            2 => Just(Step::Ended(failed())),
            1 => Just(Step::Ended(Outcome::Refused("no".into()))),
            3 => (0u64..90_000).prop_map(Step::Pass),
            1 => (0u64..9_000_000).prop_map(Step::Pass),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        /// Bounded, in order, never one twice after it was delivered, the newest never lost for want of room, and every notice
        /// accounted for.
        #[test]
        fn order_and_bound(steps in proptest::collection::vec(step(), 0..400)) {
            let (mut q, mut now, mut pushed) = (Queue::default(), at(0), 0u64);
            let (mut last, mut on_its_way) = (0u64, None);
            for step in steps {
                match step {
                    Step::Push => {
                        pushed += 1;
                        q.push(pushed, pushed, now);
                        prop_assert_eq!(q.waiting.back().map(|e| e.seq), Some(pushed));
                    }
                    Step::Next => match q.next(now) {
                        Next::Post(seq) => {
                            prop_assert!(on_its_way.is_none() && seq >= last);
                            (last, on_its_way) = (seq, Some(seq));
                        }
                        Next::At(then) => prop_assert!(then > now),
                        Next::Idle | Next::Over => {}
                    },
                    Step::Ended(outcome) => {
                        let over = outcome != failed();
                        q.ended(outcome, now);
                        if let Some(seq) = on_its_way.take()
                            && over
                        {
                            last = seq + 1;
                        }
                    }
                    Step::Pass(ms) => now = now + Duration::from_millis(ms),
                    Step::Close => q.close(),
                }
                let t = q.tally();
                prop_assert!(t.waiting <= CAPACITY as u64);
                prop_assert_eq!(t.delivered + t.dropped + t.waiting, pushed);
            }
        }
    }
}
