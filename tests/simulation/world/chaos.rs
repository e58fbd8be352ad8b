//! All that goes wrong, and all that operators do.

use std::time::Duration;

use announcerd::announcer::event::{Command, Event, Forced, RequestId};
use announcerd::announcer::journal::State;
use announcerd::fib::object::{Key, Object};

use super::{SECOND, World};
use crate::kernel::Owner;
use crate::scenario;

impl World {
    pub(super) fn chaos(&mut self) {
        let gap = *self.rng.pick(&[SECOND, 20 * SECOND, 60 * SECOND, 300 * SECOND]);
        self.next_chaos = self.now + self.rng.between(Duration::from_millis(1), gap);
        self.clean_death = None;
        self.check_sessions();
        let kinds = if self.neighbours.is_empty() { 31 } else { 37 };
        match self.rng.below(kinds) {
            22..=29 => self.trouble(),
            30 => self.maintain(!self.maintenance),
            31.. => self.bother_neighbours(),
            0 | 1 => self.kill_primary(),
            2..=4 => {
                (self.net.primary_dead, self.net.http_dead, self.net.bfd_dead) = (false, false, false);
            }
            5 => self.net.http_dead = true,
            6 => {
                self.net.uplink_dead = true;
                self.net.uplink_says_so = self.rng.chance(0.5);
            }
            7..=9 => self.net.uplink_dead = false,
            10 => self.net.loss = *self.rng.pick(&[0.0, 0.01, 0.2, 0.5]),
            11 => self.steal(),
            12 => self.squat(),
            13 => self.kernel.refuse = *self.rng.pick(&[0.0, 0.3, 1.0]),
            14 => self.kernel.lose_ack = *self.rng.pick(&[0.0, 0.1]),
            15 => self.drop_hints = !self.drop_hints,
            16 => self.pause(),
            17 if self.rng.chance(0.3) => self.hand_over(),
            17 => self.crash(),
            18 => self.stop(),
            19 => self.command(),
            20 => self.reload(),
            _ => self.calm(),
        }
        self.set_lines();
    }

    fn kill_primary(&mut self) {
        let status = self.status();
        let all_up = status.checks.iter().all(|c| c.verdict == "up" && c.failures == 0);
        let i = &status.instances[0];
        let quiet = i.state == State::Backup && i.forced.is_none() && !i.drill && all_up;
        let clean = quiet
            && !self.maintenance
            && self.isps.iter().all(|isp| isp.settled().is_some() && !isp.is_slow(self.now))
            && self.neighbours.iter().all(|n| n.is_up() && !n.is_admin_down())
            && !self.net.primary_dead
            && !self.net.http_dead
            && !self.net.gateway_bfd_dead
            && !self.net.uplink_dead;
        self.net.primary_dead = true;
        self.clean_death = (clean && self.net.loss == 0.0).then_some(self.now);
    }

    /// Somebody deletes an object of ours.
    fn steal(&mut self) {
        let ours = self.kernel.ours();
        if let Some(key) = (!ours.is_empty()).then(|| self.rng.pick(&ours).clone()) {
            self.kernel.objects.remove(&key);
            self.whole = false;
            self.summary.stolen_objects += 1;
            self.hint();
        }
    }

    /// Somebody else puts an object where ours would stand: the same, or another.
    fn squat(&mut self) {
        let keys: Vec<Key> = self.keys.keys().cloned().collect();
        let key = self.rng.pick(&keys).clone();
        if self.kernel.objects.contains_key(&key) {
            return;
        }
        let mut object = self.keys[&key].0.clone();
        if let (Object::Route(route), true) = (&mut object, self.rng.chance(0.5)) {
            route.mtu = Some(1400);
        }
        self.kernel.objects.insert(key, (Owner::Foreign, object));
    }

    pub(super) fn hint(&mut self) {
        if !self.drop_hints {
            self.later(Duration::from_millis(1), Event::KernelChanged);
        }
    }

    /// SIGSTOP, or a virtual machine that is paused: answers that arrive meanwhile wait, or are lost.
    fn pause(&mut self) {
        let span = self.rng.between(Duration::from_millis(300), 120 * SECOND);
        let (slept, wakes) = (self.now, self.now + span);
        if self.rng.chance(0.5) {
            self.events.retain(|(t, _), e| *t > wakes || !matches!(e, Event::Probe { .. }));
        }
        self.now = wakes;
        self.neighbours.iter_mut().for_each(|n| n.slept(slept, wakes));
        self.next_chaos = self.next_chaos.max(wakes + SECOND);
        self.summary.pauses += 1;
        let before = self.state;
        let seq = self.last_seq;
        if self.rng.chance(0.5) {
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.deliver();
        // What we slept through is no reason for a takeover (FIELD: a paused virtual machine fails over falsely).
        let took_over = self.last_seq > seq && before != State::Master && self.state == State::Master;
        // Its timers have not run yet.
        (self.verdicts_changed, self.unknown_since) = (false, None);
        assert!(
            !took_over
                || self.is_primary_in_trouble()
                || self.is_forced()
                || self.status().instances[0].drill,
            "seed {}",
            self.seed
        );
    }

    pub(super) fn is_forced(&self) -> bool {
        self.status().instances[0].forced.is_some()
    }

    /// kill -9 and a restart, soon or late. What the kernel was told is done; nobody hears the answers.
    fn crash(&mut self) {
        self.summary.crashes += 1;
        self.check_inheritance();
        let down = self.rng.between(Duration::from_millis(10), 100 * SECOND);
        self.await_sweep(None);
        self.start_anew(down);
    }

    /// An upgrade: what the next process finds, and is to go on with, is there; a drill is none of it.
    fn hand_over(&mut self) {
        self.summary.handovers += 1;
        self.stopping = true;
        self.tell(Event::Command { id: RequestId(1), command: Command::Handover });
        self.leave("handover", 60 * SECOND, None);
        self.check_inheritance();
        self.start_anew(SECOND);
    }

    /// Nobody is to go on with a MASTER that only a drill made.
    pub(super) fn check_inheritance(&self) {
        let i = &self.status().instances[0];
        let was_master = self.legacy.memory.instances.values().any(|r| r.state == State::Master);
        let exercise = i.drill && i.primary.as_deref() != Some("down");
        assert!(!(exercise && was_master), "seed {}: a drill is remembered: {i:#?}", self.seed);
    }

    fn command(&mut self) {
        let instance: announcerd::config::model::Name = scenario::INSTANCE.into();
        let command = match self.rng.below(8) {
            0 => {
                let state = *self.rng.pick(&[Forced::Master, Forced::Backup]);
                let lasting = self.rng.chance(0.8).then(|| self.rng.between(SECOND, 600 * SECOND));
                Command::Force { instance, state, lasting }
            }
            1 | 2 => Command::Auto { instance },
            5..=7 => Command::Drill { instance, hold: self.rng.between(SECOND, 20 * SECOND) },
            n => Command::Failback { instance, reset_flaps: n == 3 },
        };
        self.tell(Event::Command { id: RequestId(1), command });
    }

    pub(super) fn maintain(&mut self, on: bool) {
        self.maintenance = on;
        self.unproved.fill(true);
        self.tell(Event::Command { id: RequestId(1), command: Command::Maintenance { on } });
    }

    fn reload(&mut self) {
        self.summary.reloads += 1;
        let before = self.status();
        self.config = scenario::changed(&self.config, &mut self.rng);
        self.wanted = scenario::wanted(&self.config);
        self.unproved.fill(true);
        self.tell(Event::Reload(Box::new(self.config.clone())));
        // What did not change is not disturbed (keepalived #349).
        let after = self.status();
        assert_eq!(before.checks, after.checks, "seed {}", self.seed);
        // A shorter delay may just have passed: that is a transition, no disturbance.
        if before.instances[0].state == after.instances[0].state {
            assert_eq!(before.kernel, after.kernel, "seed {}", self.seed);
        }
    }
}
