//! The world around the core, and what must hold in it.

use std::collections::BTreeMap;
use std::time::Duration;

use announcerd::announcer::effect::Effect;
use announcerd::announcer::event::{Command, Event, Forced, Outcome, ProbeId, RequestId};
use announcerd::announcer::journal::{Record, State};
use announcerd::announcer::{Announcer, Legacy};
use announcerd::config::model::{Check, Config};
use announcerd::fib::desired::{self, Stage};
use announcerd::fib::object::{Action, Key, Object, Op};
use announcerd::status::{Status, WallClock};
use announcerd::time::Time;

use crate::isp::Isp;
use crate::kernel::{Kernel, Owner};
use crate::rng::Rng;
use crate::scenario;
use crate::scripts::Scripts;

const SECOND: Duration = Duration::from_secs(1);
/// How long nothing bad happens before everything must be as it should: longer than any back-off.
const CALM: Duration = Duration::from_secs(150);

/// What happened in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub takeovers: u64,
    pub timely_takeovers: u64,
    pub failbacks: u64,
    pub faults: u64,
    pub crashes: u64,
    pub resumed: u64,
    pub pauses: u64,
    pub reloads: u64,
    pub sessions: u64,
    pub stops: u64,
    pub stolen_objects: u64,
    pub refused_ops: u64,
    pub killed_scripts: u64,
    pub effects: u64,
}

impl Summary {
    pub fn add(&mut self, o: &Summary) {
        self.takeovers += o.takeovers;
        self.timely_takeovers += o.timely_takeovers;
        self.failbacks += o.failbacks;
        self.faults += o.faults;
        self.crashes += o.crashes;
        self.resumed += o.resumed;
        self.pauses += o.pauses;
        self.reloads += o.reloads;
        self.stops += o.stops;
        self.sessions += o.sessions;
        self.stolen_objects += o.stolen_objects;
        self.refused_ops += o.refused_ops;
        self.killed_scripts += o.killed_scripts;
        self.effects += o.effects;
    }
}

/// The network as it is, whatever the core thinks.
#[derive(Clone, Debug)]
struct Network {
    primary_dead: bool,
    http_dead: bool,
    uplink_dead: bool,
    /// A dead uplink answers with local errors instead of silence.
    uplink_says_so: bool,
    loss: f64,
    /// When the uplink last worked.
    uplink_alive_at: Time,
    /// When anything was last wrong with the primary or the way to it, our own isolation left aside.
    trouble_at: Time,
}

pub struct World {
    seed: u64,
    rng: Rng,
    now: Time,
    core: Announcer,
    config: Config,
    net: Network,
    kernel: Kernel,
    scripts: Scripts,
    isp: Isp,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    next_chaos: Time,
    calm_until: Option<Time>,
    drop_hints: bool,
    legacy: Legacy,
    resumed: bool,
    stopping: bool,
    maintenance: bool,
    last_seq: u64,
    exited: bool,
    /// Since when the primary is dead while nothing else happened, seen from BACKUP with every check up.
    clean_death: Option<Time>,
    keys: BTreeMap<Key, (Object, Stage)>,
    /// `TRACE=1`: every effect is printed.
    trace: bool,
    pub summary: Summary,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = scenario::config(&mut rng);
        let now = Time::from_nanos(1_000_000_000);
        let keys = desired::planned(&config.instances[0])
            .into_iter()
            .map(|p| (p.key, (p.object, p.stage)))
            .collect();
        let core = Announcer::new(config.clone(), &Legacy::default(), now);
        let mut world = World {
            seed,
            rng,
            now,
            core,
            config,
            net: Network {
                primary_dead: false,
                http_dead: false,
                uplink_dead: false,
                uplink_says_so: false,
                loss: 0.0,
                uplink_alive_at: now,
                trouble_at: now,
            },
            kernel: Kernel::new(),
            scripts: Scripts::default(),
            isp: Isp::new(now),
            events: BTreeMap::new(),
            sequence: 0,
            next_chaos: now + 60 * SECOND,
            calm_until: None,
            drop_hints: false,
            legacy: Legacy::default(),
            resumed: false,
            stopping: false,
            maintenance: false,
            last_seq: 0,
            exited: false,
            clean_death: None,
            keys,
            trace: std::env::var_os("TRACE").is_some(),
            summary: Summary::default(),
        };
        world.drain();
        world
    }

    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    /// Ends the run in order: after a stop nothing of ours is left.
    pub fn finish(mut self) -> Summary {
        self.calm();
        self.stop();
        self.summary.sessions = self.isp.sessions;
        self.summary.refused_ops = self.kernel.refused;
        self.summary.killed_scripts = self.scripts.killed;
        self.summary
    }

    fn step(&mut self) {
        let wakes = [
            self.core.poll_timeout().map(|(t, _)| t),
            self.events.keys().next().map(|(t, _)| *t),
            self.kernel.next(),
            self.scripts.next(),
            self.isp.next(),
            Some(self.next_chaos),
        ];
        let wake = wakes.into_iter().flatten().min().expect("chaos is always due some day");
        self.now = self.now.max(wake);
        if !self.net.uplink_dead {
            self.net.uplink_alive_at = self.now;
        }
        if self.net.primary_dead || self.net.http_dead || self.net.loss > 0.0 {
            self.net.trouble_at = self.now;
        }
        self.deliver();
        if self.core.poll_timeout().is_some_and(|(t, _)| t <= self.now) {
            self.core.handle_timeout(self.now);
            self.drain();
        }
        if self.next_chaos <= self.now {
            self.chaos();
        }
        self.check();
    }

    fn deliver(&mut self) {
        let answers = self.kernel.step(self.now, &mut self.rng);
        if !answers.is_empty() {
            self.tell(Event::Ops(answers));
        }
        for event in self.isp.step(self.now) {
            self.tell(event);
        }
        for (id, end) in self.scripts.step(self.now) {
            self.tell(Event::Script { id, end });
        }
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= self.now) {
            let event = match entry.remove() {
                // A dump shows the kernel as it is when the answer is made.
                Event::Dump { id, result: Ok(_) } => Event::Dump { id, result: Ok(self.kernel.dump()) },
                other => other,
            };
            self.tell(event);
        }
    }

    fn tell(&mut self, event: Event) {
        self.core.handle_event(event, self.now);
        self.drain();
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.summary.effects += 1;
            if self.trace {
                println!("{:?} {effect:?}", self.now);
            }
            match effect {
                Effect::Probe { id, check, .. } => self.probe(id, &check),
                Effect::Peers(peers) => self.isp.configured(peers.first().map(|(id, _)| *id)),
                Effect::Bgp { effect, .. } => self.bgp(effect),
                Effect::CancelProbe(_) | Effect::Log(_) | Effect::Reply { .. } => {}
                // No BFD in this world.
                Effect::BfdSessions(_) | Effect::BfdVerify(_) => {}
                Effect::Kernel(ops) => self.operate(ops),
                Effect::Dump(id) => {
                    let takes = self.rng.between(Duration::from_millis(1), Duration::from_millis(50));
                    let fails = self.calm_until.is_none() && self.rng.chance(0.02);
                    let result = if fails { Err("interrupted".into()) } else { Ok(self.kernel.dump()) };
                    self.later(takes, Event::Dump { id, result });
                }
                Effect::RunScript(run) => self.scripts.start(&run, self.now, &mut self.rng),
                Effect::KillScript(id) => self.scripts.kill(id, self.now),
                Effect::Sample(_) | Effect::Drill(_) => {}
                Effect::Journal(record) => self.journal(&record),
                Effect::Save(memory) => self.legacy.memory = memory,
                Effect::Exit { .. } => self.exited = true,
            }
        }
    }

    fn probe(&mut self, id: ProbeId, check: &Check) {
        let uplink = &*check.name == "uplink";
        let dead = match &*check.name {
            "uplink" => false,
            "mainland-http" => self.net.primary_dead || self.net.http_dead,
            _ => self.net.primary_dead,
        };
        let rtt = if uplink { Duration::from_millis(1) } else { Duration::from_millis(40) };
        let rtt = self.rng.between(rtt, rtt * 3);
        if self.net.uplink_dead && self.net.uplink_says_so {
            self.later(
                Duration::from_micros(10),
                Event::Probe { id, outcome: Outcome::Blind("no route".into()) },
            );
        } else if !dead && !self.net.uplink_dead && !self.rng.chance(self.net.loss) {
            self.later(rtt, Event::Probe { id, outcome: Outcome::Success { rtt: Some(rtt) } });
        } else if dead && !self.net.uplink_dead && self.rng.chance(0.2) {
            let outcome = Outcome::Failure("host unreachable".into());
            self.later(rtt, Event::Probe { id, outcome });
        }
    }

    fn operate(&mut self, ops: Vec<Op>) {
        let state = self.status().instances[0].state;
        for op in &ops {
            let adds = matches!(op.action, Action::Add(_) | Action::Replace(_));
            if adds && self.is_export(&op.action.object().key()) {
                let allowed = state == State::Master || (state == State::Init && self.resumed);
                assert!(allowed, "seed {}: announced in {state:?}: {op:?}", self.seed);
            }
        }
        self.kernel.submit(ops, self.now, &mut self.rng);
    }

    fn bgp(&mut self, effect: announcerd::bgp::PeerEffect) {
        let announced = self.isp.effect(effect, &mut self.core, self.now);
        if announced.is_empty() {
            return;
        }
        // A stop and a maintenance say it once more, with GRACEFUL_SHUTDOWN, before they withdraw.
        let draining = self.stopping || self.maintenance;
        let i = &self.status().instances[0];
        let backup = self.config.instances[0].announces[0].backup.is_some();
        let allowed = match i.state {
            State::Master => true,
            State::Backup => backup,
            State::Init => self.resumed,
            State::Fault | State::Stop => false,
        };
        assert!(allowed || draining, "seed {}: told the ISP in {:?}", self.seed, i.state);
    }

    fn is_export(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|(_, stage)| *stage == Stage::Export)
    }

    fn journal(&mut self, record: &Record) {
        if record.seq <= self.last_seq {
            return;
        }
        self.last_seq = record.seq;
        if record.to == State::Master && !record.reason.starts_with("resumed") {
            self.check_takeover(record);
        }
        match (record.from, record.to) {
            (_, State::Master) => self.summary.takeovers += 1,
            (State::Master, State::Backup) => self.summary.failbacks += 1,
            (_, State::Fault) => self.summary.faults += 1,
            _ => {}
        }
    }

    /// MASTER is taken only on a primary that is down (or by an operator), with `require` met, and never by a node
    /// that has been cut off since before the primary's first failure (keepalived #2555).
    fn check_takeover(&self, record: &Record) {
        let status = self.status();
        let instance = &status.instances[0];
        assert_eq!(instance.require.as_deref(), Some("met"), "seed {}: {record:?}", self.seed);
        let forced = instance.forced.as_ref().is_some_and(|f| f.state == State::Master);
        assert!(forced || instance.primary.as_deref() == Some("down"), "seed {}: {record:?}", self.seed);
        if !forced {
            let first_bad = record.timeline.first_bad_probe.expect("failures led here");
            let alive = self.net.uplink_alive_at;
            assert!(alive >= first_bad, "seed {}: took over while isolated: {record:?}", self.seed);
            // Nor by one that was cut off for a while and believes what it saw then.
            let slowest = self.config.checks.iter().map(|c| c.timeout).max().expect("some");
            let trouble = self.net.trouble_at + slowest >= first_bad;
            assert!(trouble, "seed {}: took over from a primary that was well: {record:?}", self.seed);
        }
    }

    fn status(&self) -> Status {
        let clock = WallClock { at: Time::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        self.core.status(self.now, &clock)
    }

    /// After every step.
    fn check(&mut self) {
        let Some(since) = self.clean_death else { return };
        if self.now <= since + scenario::takeover_bound(&self.config) {
            return;
        }
        let status = self.status();
        let state = status.instances[0].state;
        assert_eq!(
            state,
            State::Master,
            "seed {}: no takeover {since:?}..{:?}: {status:#?}",
            self.seed,
            self.now
        );
        self.summary.timely_takeovers += 1;
        self.clean_death = None;
    }

    fn chaos(&mut self) {
        let gap = *self.rng.pick(&[SECOND, 20 * SECOND, 60 * SECOND, 300 * SECOND]);
        self.next_chaos = self.now + self.rng.between(Duration::from_millis(1), gap);
        self.clean_death = None;
        match self.rng.below(27) {
            22 => self.isp.reset(self.now),
            23 => self.isp.reboot(self.now),
            24 => self.isp.silent = true,
            25 => self.isp.silent = false,
            26 => self.maintain(!self.maintenance),
            0 | 1 => self.kill_primary(),
            2..=4 => (self.net.primary_dead, self.net.http_dead) = (false, false),
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
            17 => self.crash(),
            18 => self.stop(),
            19 => self.command(),
            20 => self.reload(),
            _ => self.calm(),
        }
    }

    fn kill_primary(&mut self) {
        let status = self.status();
        let all_up = status.checks.iter().all(|c| c.verdict == "up" && c.failures == 0);
        let i = &status.instances[0];
        let quiet = i.state == State::Backup && i.forced.is_none() && all_up;
        let clean = quiet
            && !self.maintenance
            && !self.net.primary_dead
            && !self.net.http_dead
            && !self.net.uplink_dead;
        self.net.primary_dead = true;
        self.clean_death = (clean && self.net.loss == 0.0).then_some(self.now);
    }

    /// Somebody deletes an object of ours.
    fn steal(&mut self) {
        let ours = self.kernel.ours();
        if let Some(key) = (!ours.is_empty()).then(|| self.rng.pick(&ours).clone()) {
            self.kernel.objects.remove(&key);
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

    fn hint(&mut self) {
        if !self.drop_hints {
            self.later(Duration::from_millis(1), Event::KernelChanged);
        }
    }

    /// SIGSTOP, or a virtual machine that is paused: answers that arrive meanwhile wait, or are lost.
    fn pause(&mut self) {
        let span = self.rng.between(Duration::from_millis(300), 120 * SECOND);
        let wakes = self.now + span;
        if self.rng.chance(0.5) {
            self.events.retain(|(t, _), e| *t > wakes || !matches!(e, Event::Probe { .. }));
        }
        self.now = wakes;
        self.next_chaos = self.next_chaos.max(wakes + SECOND);
        self.summary.pauses += 1;
        let before = self.status().instances[0].state;
        let seq = self.last_seq;
        if self.rng.chance(0.5) {
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.deliver();
        // What we slept through is no reason for a takeover (FIELD: a paused virtual machine fails over falsely).
        let after = self.status().instances[0].state;
        let took_over = self.last_seq > seq && before != State::Master && after == State::Master;
        assert!(
            !took_over
                || self.net.primary_dead
                || self.net.http_dead
                || self.net.loss > 0.0
                || self.is_forced(),
            "seed {}",
            self.seed
        );
    }

    fn is_forced(&self) -> bool {
        self.status().instances[0].forced.is_some()
    }

    /// kill -9 and a restart, soon or late. What the kernel was told is done; nobody hears the answers.
    fn crash(&mut self) {
        self.summary.crashes += 1;
        let down = self.rng.between(Duration::from_millis(10), 100 * SECOND);
        self.start_anew(down, down < 60 * SECOND);
    }

    fn start_anew(&mut self, down: Duration, resumable: bool) {
        self.scripts.clear();
        self.events.clear();
        self.isp.our_crash(self.now);
        self.isp.configured(None);
        self.stopping = false;
        self.now = self.now + down;
        self.kernel.step(self.now, &mut self.rng);
        self.next_chaos = self.next_chaos.max(self.now + SECOND);
        self.legacy.resumable = resumable;
        let was_master = self.legacy.memory.instances.values().any(|r| r.state == State::Master);
        self.resumed = resumable && was_master;
        self.summary.resumed += u64::from(self.resumed);
        self.last_seq = 0;
        self.exited = false;
        self.core = Announcer::new(self.config.clone(), &self.legacy, self.now);
        self.drain();
    }

    /// SIGTERM, the wait for the end, and a new start. A stop in order leaves nothing of ours.
    fn stop(&mut self) {
        self.summary.stops += 1;
        let refuse = std::mem::replace(&mut self.kernel.refuse, 0.0);
        let lose = std::mem::replace(&mut self.kernel.lose_ack, 0.0);
        self.stopping = true;
        self.tell(Event::Terminate);
        let bound = self.now + 120 * SECOND;
        while !self.exited {
            assert!(self.now < bound, "seed {}: the stop does not end: {:#?}", self.seed, self.status());
            self.next_chaos = self.now + 600 * SECOND;
            self.step();
        }
        self.next_chaos = self.now + 2 * SECOND;
        assert_eq!(self.kernel.ours(), [], "seed {}: left behind after a stop", self.seed);
        (self.kernel.refuse, self.kernel.lose_ack) = (refuse, lose);
        let resumable = self.rng.chance(0.5);
        self.start_anew(SECOND, resumable);
    }

    fn command(&mut self) {
        let instance: announcerd::config::model::Name = scenario::INSTANCE.into();
        let command = match self.rng.below(5) {
            0 => {
                let state = *self.rng.pick(&[Forced::Master, Forced::Backup]);
                let lasting = self.rng.chance(0.8).then(|| self.rng.between(SECOND, 600 * SECOND));
                Command::Force { instance, state, lasting }
            }
            1 | 2 => Command::Auto { instance },
            n => Command::Failback { instance, reset_flaps: n == 3 },
        };
        self.tell(Event::Command { id: RequestId(1), command });
    }

    fn maintain(&mut self, on: bool) {
        self.maintenance = on;
        self.tell(Event::Command { id: RequestId(1), command: Command::Maintenance { on } });
    }

    fn reload(&mut self) {
        self.summary.reloads += 1;
        let before = self.status();
        self.config = scenario::changed(&self.config, &mut self.rng);
        self.tell(Event::Reload(Box::new(self.config.clone())));
        // What did not change is not disturbed (keepalived #349).
        let after = self.status();
        assert_eq!(before.checks, after.checks, "seed {}", self.seed);
        // A shorter delay may just have passed: that is a transition, no disturbance.
        if before.instances[0].state == after.instances[0].state {
            assert_eq!(before.kernel, after.kernel, "seed {}", self.seed);
        }
    }

    /// All troubles end; after a while everything must be as the state says.
    fn calm(&mut self) {
        self.clean_death = None;
        let dead = self.rng.chance(0.3);
        self.net = Network {
            primary_dead: dead,
            http_dead: dead,
            uplink_dead: false,
            uplink_says_so: false,
            loss: 0.0,
            uplink_alive_at: self.now,
            trouble_at: self.net.trouble_at,
        };
        (self.kernel.refuse, self.kernel.lose_ack, self.drop_hints) = (0.0, 0.0, false);
        self.kernel.objects.retain(|_, (owner, _)| *owner == Owner::Ours);
        self.isp.silent = false;
        self.maintain(false);
        let end = self.now + CALM;
        self.calm_until = Some(end);
        self.next_chaos = end + CALM;
        while self.now < end || self.status().instances[0].pending.as_ref().is_some_and(|p| p.what == "drain")
        {
            self.step();
        }
        // A failback may just have begun: what it asks for takes a moment.
        let settled = self.now + 15 * SECOND;
        while self.now < settled
            && (self.kernel.next().is_some() || self.isp.next().is_some_and(|t| t <= self.now + SECOND))
        {
            self.step();
        }
        // The last step may just have been a transition: the kernel gets its milliseconds.
        while self.kernel.next().is_some() {
            assert!(self.now < end + CALM, "seed {}: the kernel is never idle", self.seed);
            self.step();
        }
        self.next_chaos = self.now + SECOND;
        self.calm_until = None;
        self.check_converged(dead);
    }

    fn check_converged(&mut self, dead: bool) {
        let status = self.status();
        let i = &status.instances[0];
        let context = format!("seed {}, at {:?}: {status:#?}", self.seed, self.now);
        assert!(matches!(i.state, State::Backup | State::Master), "{context}");
        if dead && i.forced.is_none() {
            assert_eq!(i.state, State::Master, "{context}");
        }
        for row in &status.kernel {
            assert!(row.desired == row.observed && row.error.is_none(), "{context}");
        }
        let wanted: Vec<Key> = self
            .keys
            .iter()
            .filter(|(_, (_, stage))| i.state == State::Master || *stage == Stage::Base)
            .map(|(k, _)| k.clone())
            .collect();
        let draining = i.pending.as_ref().is_some_and(|p| p.what == "drain");
        if !draining {
            assert_eq!(self.kernel.ours(), wanted, "{context}");
        }
        let told = i.state == State::Master || self.config.instances[0].announces[0].backup.is_some();
        assert_eq!(self.isp.view().is_empty(), !told, "{context}");
        if let Some(running) = self.scripts.running_state(scenario::INSTANCE) {
            assert_eq!(running, i.state_word(), "a script of another state still runs: {context}");
        }
    }
}

trait StateWord {
    fn state_word(&self) -> &'static str;
}

impl StateWord for announcerd::status::InstanceStatus {
    fn state_word(&self) -> &'static str {
        self.state.word()
    }
}
