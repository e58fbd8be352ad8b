//! How a process ends, what it leaves, and what the next one finds of it.

use std::time::Duration;

use announcerd::announcer::Announcer;
use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State;
use announcerd::config::model::OnStop;
use announcerd::fib::desired::Stage;

use super::{SECOND, World};
use crate::kernel::Owner;

/// How long a daemon may be away, and its MASTER still go on; where nothing was kept on purpose.
const RECENT: Duration = Duration::from_secs(60);
/// The sweeper gives a restart that follows a crash, whenever that was, so much longer.
const RESTART: Duration = Duration::from_secs(5);

impl World {
    /// True if a stop leaves what there is.
    pub(super) fn is_keeping(&self) -> bool {
        matches!(self.config.instances[0].on_stop, OnStop::Keep { .. })
    }

    /// Until the core has ended, or is killed. True if it came to its end.
    pub(super) fn leave(&mut self, what: &str, within: Duration, killed: Option<Duration>) -> bool {
        let (bound, killed) = (self.now + within, killed.map(|after| self.now + after));
        while self.exited.is_none() {
            assert!(self.now < bound, "seed {}: the {what} does not end: {:#?}", self.seed, self.status());
            self.next_chaos = self.now + 600 * SECOND;
            self.step();
            if self.exited.is_none() && killed.is_some_and(|at| at <= self.now) {
                break;
            }
        }
        self.next_chaos = self.now + 2 * SECOND;
        self.exited.is_some()
    }

    /// SIGTERM, the wait for the end (or a kill -9 before it), and a new start. A stop in order leaves nothing of ours,
    /// or what it was told to keep.
    pub(super) fn stop(&mut self) {
        self.summary.stops += 1;
        let refuse = std::mem::replace(&mut self.kernel.refuse, 0.0);
        let lose = std::mem::replace(&mut self.kernel.lose_ack, 0.0);
        let i = &self.status().instances[0];
        // A MASTER that a drill made is nobody's to keep.
        let is_real = !i.drill || i.primary.as_deref() == Some("down");
        let was_master =
            is_real && (self.state == State::Master || (self.state == State::Init && self.resumed));
        let killed = self.rng.chance(0.1).then(|| self.rng.between(Duration::ZERO, 10 * SECOND));
        self.stopping = true;
        let terminated = self.now;
        self.tell(Event::Terminate);
        let ended = self.leave("stop", 120 * SECOND, killed);
        (self.kernel.refuse, self.kernel.lose_ack) = (refuse, lose);
        if !ended {
            self.summary.crashes += 1;
            self.await_sweep(None);
            let down = self.rng.between(Duration::from_millis(10), 100 * SECOND);
            return self.start_anew(down);
        }
        self.check_left(was_master);
        let kept = self.exited.flatten();
        let down = match (kept, self.config.instances[0].on_stop) {
            (Some(after), OnStop::Keep { max }) => {
                assert!(after <= max, "seed {}: kept for {after:?}", self.seed);
                let until = self.legacy.memory.kept_until;
                let bound = terminated + max;
                assert!(until.is_some_and(|until| until <= bound), "seed {}: {until:?}", self.seed);
                self.await_sweep(Some(after));
                self.rng.between(Duration::from_millis(10), 2 * max)
            }
            (Some(_), OnStop::Withdraw) => panic!("seed {}: nothing is to be kept", self.seed),
            (None, _) => SECOND,
        };
        self.start_anew(down);
    }

    /// What a stop has left: all of a MASTER's, what is wanted always, or nothing.
    fn check_left(&mut self, was_master: bool) {
        let ours = self.kernel.ours();
        let kept = self.exited.flatten().is_some();
        let full = was_master && kept;
        let wrong: Vec<_> = ours
            .iter()
            .filter(|key| match self.keys.get(key) {
                Some((_, Stage::Base)) => !kept,
                Some(_) => !full,
                None => true,
            })
            .collect();
        assert!(wrong.is_empty(), "seed {}: left behind after a stop: {wrong:?}", self.seed);
        self.summary.kept += u64::from(full);
    }

    /// Somebody will sweep: after so long, or (after a crash) when nobody can go on with it any more.
    pub(super) fn await_sweep(&mut self, after: Option<Duration>) {
        let left = self.legacy.memory.kept_until.map_or(RECENT, |until| until.since(self.now));
        self.sweepers.push(self.now + after.unwrap_or(left));
    }

    /// Nobody runs for so long.
    fn be_away(&mut self, span: Duration) {
        let back = self.now + span;
        let mut due: Vec<_> = self.sweepers.iter().copied().filter(|at| *at <= back).collect();
        due.sort_unstable();
        self.sweepers.retain(|at| *at > back);
        // Those that found a daemon have left it to that. Who died keeps nothing.
        let died = self.legacy.memory.kept_until.is_none();
        let found_nobody = due.into_iter().filter(|at| *at >= self.now);
        for at in found_nobody.map(|at| if died { at + RESTART } else { at }).filter(|at| *at <= back) {
            self.kernel.step(at, &mut self.rng);
            // Kept anew meanwhile: another one's business.
            if self.legacy.memory.kept_until.is_none_or(|until| until <= at) {
                let before = self.kernel.objects.len();
                self.kernel.objects.retain(|_, (owner, _)| *owner != Owner::Ours);
                self.summary.swept += u64::from(self.kernel.objects.len() < before);
            }
        }
        self.now = back;
    }

    /// A new process after so long.
    pub(super) fn start_anew(&mut self, down: Duration) {
        let left = self.now;
        self.scripts.clear();
        self.events.clear();
        self.isps.iter_mut().for_each(|isp| isp.our_crash(left));
        self.neighbours.iter_mut().for_each(|n| n.our_crash());
        self.unproved.fill(true);
        self.stopping = false;
        self.be_away(down);
        self.kernel.step(self.now, &mut self.rng);
        self.next_chaos = self.next_chaos.max(self.now + SECOND);
        let until = self.legacy.memory.kept_until;
        self.legacy.resumable = until.map_or(down < RECENT, |until| self.now < until);
        let was_master = self.legacy.memory.instances.values().any(|r| r.state == State::Master);
        self.resumed = self.legacy.resumable && was_master;
        self.summary.resumed += u64::from(self.resumed);
        self.whole = self.kernel.ours().len() == self.keys.len();
        self.last_seq = 0;
        self.exited = None;
        self.state = State::Init;
        self.unknown_since = None;
        self.core = Announcer::new(self.config.clone(), &self.legacy, self.now);
        self.drain();
        // Who runs keeps nothing: a crash of it is judged by its own time.
        assert_eq!(self.legacy.memory.kept_until, None, "seed {}", self.seed);
    }

    /// Whatever was kept is gone in the end, though nobody comes back.
    pub(super) fn end_for_good(&mut self) {
        self.stopping = true;
        (self.kernel.refuse, self.kernel.lose_ack) = (0.0, 0.0);
        self.tell(Event::Terminate);
        self.leave("last stop", 120 * SECOND, None);
        if let (Some(after), OnStop::Keep { max }) = (self.exited.flatten(), self.config.instances[0].on_stop)
        {
            self.await_sweep(Some(after));
            self.be_away(max);
        }
        assert_eq!(self.kernel.ours(), [], "seed {}: left behind for ever", self.seed);
    }
}
