//! The world around the core, and what must hold in it.

mod chaos;
mod lines;
mod sessions;
mod stops;

use std::collections::BTreeMap;
use std::time::Duration;

use announcerd::announcer::effect::Effect;
use announcerd::announcer::event::{Event, Outcome, ProbeId};
use announcerd::announcer::journal::{Record, State};
use announcerd::announcer::{Announcer, Legacy};
use announcerd::config::model::{Check, Config};
use announcerd::fib::desired::{self, Stage};
use announcerd::fib::object::{Action, Key, Object, Op};
use announcerd::net::Prefix;
use announcerd::status::{Status, WallClock};
use announcerd::time::Time;

use crate::isp::{Isp, Silence};
use crate::kernel::{Kernel, Owner};
use crate::line::Troubles;
use crate::neighbour::{self, Neighbour, Tally};
use crate::rng::Rng;
use crate::scenario;
use crate::scripts::Scripts;

const SECOND: Duration = Duration::from_secs(1);
/// How long nothing bad happens before everything must be as it should: longer than any back-off.
const CALM: Duration = Duration::from_secs(150);
/// The same where a session has to be found dead, and its hold time is not ours alone.
const CALM_OF_SESSIONS: Duration = Duration::from_secs(240);
/// How much longer a session may take that its peer refused several times, and one whose connection died unseen.
const REUNION: Duration = Duration::from_secs(500);

/// What happened in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub takeovers: u64,
    pub timely_takeovers: u64,
    pub failbacks: u64,
    pub faults: u64,
    pub crashes: u64,
    pub resumed: u64,
    pub handovers: u64,
    pub drills: u64,
    pub pauses: u64,
    pub reloads: u64,
    pub troubles: Troubles,
    pub stops: u64,
    pub stolen_objects: u64,
    pub refused_ops: u64,
    pub killed_scripts: u64,
    /// News of BFD.
    pub bfd: Tally,
    /// Takeovers from a primary that only sessions tell of.
    pub by_sessions: u64,
    /// Stops that left a MASTER's objects, starts that went on with them, and sweeps in the place of one.
    pub kept: u64,
    pub taken_up: u64,
    pub swept: u64,
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
        self.handovers += o.handovers;
        self.drills += o.drills;
        self.pauses += o.pauses;
        self.reloads += o.reloads;
        self.stops += o.stops;
        self.troubles.add(&o.troubles);
        self.stolen_objects += o.stolen_objects;
        self.refused_ops += o.refused_ops;
        self.killed_scripts += o.killed_scripts;
        self.bfd.add(&o.bfd);
        self.by_sessions += o.by_sessions;
        self.kept += o.kept;
        self.taken_up += o.taken_up;
        self.swept += o.swept;
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
    /// Nobody speaks BFD there any more…
    bfd_dead: bool,
    gateway_bfd_dead: bool,
    /// …or its operator does not want it.
    bfd_off: bool,
    gateway_bfd_off: bool,
    loss: f64,
    /// When the uplink last worked.
    uplink_alive_at: Time,
    /// When anything was last wrong with the primary or the way to it, our own isolation left aside.
    trouble_at: Time,
}

/// Prefixes and their MED.
type Meds = BTreeMap<Prefix, Option<u32>>;

pub struct World {
    seed: u64,
    rng: Rng,
    now: Time,
    core: Announcer,
    config: Config,
    net: Network,
    kernel: Kernel,
    scripts: Scripts,
    /// The ISPs, and the primary's router, if it is asked.
    isps: Vec<Isp>,
    neighbours: Vec<Neighbour>,
    /// The first ISP is behind our uplink.
    isp_is_uplink: bool,
    /// Something happened to the primary's own session, or on its line, that it has not recovered from.
    session_hurt: bool,
    /// What each ISP is to hear of a MASTER, and else.
    wanted: Vec<[Meds; 2]>,
    /// Something happened that may change what that ISP knows; it was not yet seen to be right.
    unproved: Vec<bool>,
    /// The instance's, as the journal tells it.
    state: State,
    /// A verdict changed.
    verdicts_changed: bool,
    /// `require` is unknown for a MASTER since then.
    unknown_since: Option<Time>,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    next_chaos: Time,
    calm_until: Option<Time>,
    drop_hints: bool,
    legacy: Legacy,
    resumed: bool,
    /// It found everything in the kernel, and nobody has taken anything since.
    whole: bool,
    stopping: bool,
    maintenance: bool,
    last_seq: u64,
    /// The core wants to end; what stays is to be swept after that long.
    exited: Option<Option<Duration>>,
    /// When somebody looks whether what was left is to be swept.
    sweepers: Vec<Time>,
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
        let far_sides = scenario::far_sides(&config, &mut rng);
        let mut isps: Vec<Isp> =
            far_sides.into_iter().map(|(name, far)| Isp::new(name, far, rng.next(), now)).collect();
        isps.iter_mut().skip(2).for_each(|isp| isp.make_reliable(now));
        let hosts = [("mainland-bfd", "198.18.0.3"), ("uplink-bfd", "203.0.113.1")];
        let asked = hosts.into_iter().filter(|(check, _)| config.check(check).is_some());
        let neighbours = asked.map(|(check, host)| Neighbour::new(check, host, rng.next(), now)).collect();
        let isp_is_uplink = config.check("uplink-bgp").is_some() || rng.chance(0.5);
        let wanted = scenario::wanted(&config);
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
                bfd_dead: false,
                gateway_bfd_dead: false,
                bfd_off: false,
                gateway_bfd_off: false,
                loss: 0.0,
                uplink_alive_at: now,
                trouble_at: now,
            },
            kernel: Kernel::new(),
            scripts: Scripts::default(),
            unproved: vec![true; isps.len()],
            isps,
            neighbours,
            isp_is_uplink,
            session_hurt: false,
            wanted,
            state: State::Init,
            verdicts_changed: false,
            unknown_since: None,
            events: BTreeMap::new(),
            sequence: 0,
            next_chaos: now + 60 * SECOND,
            calm_until: None,
            drop_hints: false,
            legacy: Legacy::default(),
            resumed: false,
            whole: false,
            stopping: false,
            maintenance: false,
            last_seq: 0,
            exited: None,
            sweepers: Vec::new(),
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
        self.end_for_good();
        self.isps.iter().for_each(|isp| self.summary.troubles.add(&isp.troubles));
        self.neighbours.iter().for_each(|n| self.summary.bfd.add(&n.tally));
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
            Some(self.next_chaos),
        ];
        let far = self.isps.iter().map(Isp::next).chain(self.neighbours.iter().map(Neighbour::next));
        let wake = wakes.into_iter().chain(far).flatten().min().expect("chaos is always due some day");
        self.now = self.now.max(wake);
        if !self.net.uplink_dead {
            self.net.uplink_alive_at = self.now;
        }
        if self.is_primary_in_trouble() {
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
        for neighbour in 0..self.neighbours.len() {
            for event in self.neighbours[neighbour].step(self.now) {
                self.tell(event);
            }
        }
        for isp in 0..self.isps.len() {
            for event in self.isps[isp].step(self.now) {
                self.tell(event);
            }
            while let Some(link) = self.isps[isp].writable() {
                let announced = self.isps[isp].pump(link, &mut self.core, self.now);
                self.judge(isp, &announced);
                self.drain();
            }
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
        loop {
            // A socket takes what the core has last decided: the journal has to be read before it is judged.
            let mut of_peers = Vec::new();
            while let Some(effect) = self.core.poll_effect() {
                match effect {
                    Effect::Peers(_) | Effect::Bgp { .. } => of_peers.push(effect),
                    other => self.obey(other),
                }
            }
            if of_peers.is_empty() {
                return;
            }
            of_peers.into_iter().for_each(|effect| self.obey(effect));
        }
    }

    fn obey(&mut self, effect: Effect) {
        self.summary.effects += 1;
        if self.trace {
            println!("{:?} {effect:?}", self.now);
        }
        match effect {
            Effect::Probe { id, check, .. } => self.probe(id, &check),
            Effect::Peers(peers) => {
                for isp in &mut self.isps {
                    let of_it = peers.iter().filter(|(_, bgp)| bgp.session.name == isp.name);
                    isp.configured(of_it.map(|(id, _)| *id).collect());
                }
            }
            Effect::Bgp { peer, effect } => self.bgp(peer, effect),
            Effect::CancelProbe(_) | Effect::Reply { .. } => {}
            // Every change of a verdict is told.
            Effect::Log(_) => self.verdicts_changed = true,
            Effect::BfdSessions(sessions) => {
                let now = self.now;
                self.neighbours.iter_mut().for_each(|n| n.configured(&sessions, now));
            }
            Effect::BfdVerify(id) => {
                let now = self.now;
                self.neighbours.iter_mut().for_each(|n| n.verify(id, now));
            }
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
            Effect::Exit { sweep_after } => self.exited = Some(sweep_after),
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
        let state = self.state;
        for op in &ops {
            let deletes = matches!(op.action, Action::Delete(_));
            let kept = deletes && self.keys.contains_key(&op.action.object().key());
            // "what is still wanted is adopted without a flap".
            assert!(
                !(kept && state == State::Init && self.resumed && self.whole),
                "seed {}: undone while it is taken up: {op:?}",
                self.seed
            );
            let adds = matches!(op.action, Action::Add(_) | Action::Replace(_));
            if adds && self.is_export(&op.action.object().key()) {
                // Leaving, what was there comes back while the ISPs are being told.
                let allowed = state == State::Master
                    || (state == State::Init && self.resumed)
                    || (state == State::Stop && self.stopping);
                assert!(allowed, "seed {}: announced in {state:?}: {op:?}", self.seed);
            }
        }
        self.kernel.submit(ops, self.now, &mut self.rng);
    }

    fn is_export(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|(_, stage)| *stage == Stage::Export)
    }

    fn journal(&mut self, record: &Record) {
        if record.seq <= self.last_seq {
            return;
        }
        self.last_seq = record.seq;
        self.state = record.to;
        self.unproved.fill(true);
        if record.to == State::Master && !record.reason.starts_with("resumed") {
            self.check_takeover(record);
        }
        match (record.from, record.to) {
            (_, State::Master) if record.drill => self.summary.drills += 1,
            (_, State::Master) => {
                self.summary.takeovers += 1;
                self.summary.taken_up += u64::from(self.resumed && record.reason.starts_with("resumed"));
                self.summary.by_sessions += u64::from(self.is_told_only());
            }
            (State::Master, State::Backup) => self.summary.failbacks += 1,
            (_, State::Fault) => self.summary.faults += 1,
            _ => {}
        }
    }

    /// MASTER is taken only on a primary that is down (or by an operator), with `require` met, and never by a node
    /// that has been cut off since before the primary's first failure (keepalived #2555).
    fn check_takeover(&self, record: &Record) {
        let clock = WallClock { at: Time::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        let status = self.core.overview(self.now, &clock);
        let instance = &status.instances[0];
        assert_eq!(instance.require.as_deref(), Some("met"), "seed {}: {record:?}", self.seed);
        let forced = instance.forced.as_ref().is_some_and(|f| f.state == State::Master);
        let asked = forced || record.drill;
        assert!(asked || instance.primary.as_deref() == Some("down"), "seed {}: {record:?}", self.seed);
        if !asked {
            let first_bad = record.timeline.first_bad_probe.expect("failures led here");
            let alive = self.net.uplink_alive_at;
            assert!(alive >= first_bad, "seed {}: took over while isolated: {record:?}", self.seed);
            // Nor by one that was cut off for a while and believes what it saw then.
            let slowest = self.config.checks.iter().map(|c| c.timeout).max().expect("some");
            let trouble = self.net.trouble_at + slowest + neighbour::LATEST >= first_bad;
            assert!(trouble, "seed {}: took over from a primary that was well: {record:?}", self.seed);
            self.check_quorum(record, &status);
        }
    }

    fn status(&self) -> Status {
        let clock = WallClock { at: Time::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        self.core.status(self.now, &clock)
    }

    /// After every step.
    fn check(&mut self) {
        self.prove();
        if std::mem::take(&mut self.verdicts_changed) || self.unknown_since.is_some() {
            self.check_require();
        }
        let Some(since) = self.clean_death else { return };
        if self.now <= since + scenario::takeover_bound(&self.config) {
            return;
        }
        assert_eq!(
            self.state,
            State::Master,
            "seed {}: no takeover {since:?}..{:?}: {:#?}",
            self.seed,
            self.now,
            self.status()
        );
        self.summary.timely_takeovers += 1;
        self.clean_death = None;
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
            bfd_dead: false,
            gateway_bfd_dead: false,
            bfd_off: false,
            gateway_bfd_off: false,
            loss: 0.0,
            uplink_alive_at: self.now,
            trouble_at: self.net.trouble_at,
        };
        (self.kernel.refuse, self.kernel.lose_ack, self.drop_hints) = (0.0, 0.0, false);
        self.kernel.objects.retain(|_, (owner, _)| *owner == Owner::Ours);
        self.isps.iter_mut().for_each(|isp| isp.cut(Silence::Line, false, self.now));
        self.set_lines();
        self.maintain(false);
        let end = self.now + if self.config.bgp.len() > 2 { CALM_OF_SESSIONS } else { CALM };
        self.calm_until = Some(end);
        self.next_chaos = end + CALM_OF_SESSIONS + REUNION;
        while self.now < end {
            self.step();
        }
        // A failback may just have begun: what it asks for takes a moment. So may a session that was refused.
        let reunion = end + REUNION;
        let settled = |world: &World| {
            let living = world.isps.iter().filter(|isp| !(dead && isp.name == scenario::PRIMARY));
            let quiet = living.into_iter().all(|isp| isp.settled().is_some());
            // An override may just have expired: a takeover begins, or what a takeover left drains.
            let pending =
                || world.status().instances[0].pending.as_ref().is_some_and(|p| p.what != "failback");
            // A session that we lost with our own line has its time to come back, down or not.
            let taken = || !dead || world.is_forced() || world.state == State::Master;
            quiet && world.kernel.next().is_none() && world.is_decided(dead) && taken() && !pending()
        };
        while !settled(self) {
            assert!(self.now < reunion, "seed {}: never settled: {:#?}", self.seed, self.status());
            self.step();
        }
        self.next_chaos = self.now + SECOND;
        self.calm_until = None;
        self.check_converged(dead);
    }

    fn check_converged(&mut self, dead: bool) {
        let status = self.status();
        self.check_sessions();
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
        let wanted = usize::from(i.state != State::Master);
        for (isp, wanted) in self.isps[..2].iter().zip(self.wanted.iter().map(|meds| &meds[wanted])) {
            let routes = &isp.settled().expect("waited for").routes;
            let plain: Meds =
                routes.iter().filter(|(_, h)| !h.graceful_shutdown).map(|(p, h)| (*p, h.med)).collect();
            assert_eq!((routes.len(), &plain), (wanted.len(), wanted), "{} {context}", isp.name);
        }
        if let Some(running) = self.scripts.running_state(scenario::INSTANCE) {
            assert_eq!(running, i.state_word(), "a script of another state still runs: {context}");
        } else if !self.config.instances[0].notify.master.is_empty() {
            // Whatever crashes and handovers came in between: the scripts know the state.
            assert_eq!(self.scripts.last.as_deref(), Some(i.state_word()), "the scripts' state: {context}");
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
