//! The composition: events in, effects out, every decision in between.
//!
//! [`Announcer`] is the whole daemon without its edges: no socket, clock, file or randomness. Whoever drives it calls
//!
//! - [`Announcer::handle_event`] when something happened,
//! - [`Announcer::handle_timeout`] when the time of [`Announcer::poll_timeout`] has come,
//! - [`Announcer::poll_effect`] after either, until there is no more to do.
//!
//! Checks, instances, scripts and kernel objects never call each other: they return what happened to them, and the
//! code here carries it on: `probes.rs` from probes to verdicts, `conduct.rs` from verdicts to transitions and from
//! transitions to kernel and scripts, `kernel.rs` the operations and dumps, `hops.rs` which next hops are used, `bgp.rs`
//! what the peers are told, `bfd.rs` whom sessions are for, `operate.rs` what operators ask, `reload.rs` a new
//! configuration, `report.rs` the picture for status and explain, `measure.rs` what is counted.

mod bfd;
mod bgp;
mod calm;
mod conduct;
pub mod drill;
pub mod effect;
pub mod event;
pub mod gate;
mod hops;
pub mod instance;
pub mod journal;
mod kernel;
pub mod measure;
pub mod memory;
mod operate;
pub mod own;
mod probes;
mod reload;
pub mod report;
pub mod scripts;
pub mod timers;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use effect::Effect;
pub use event::Event;

use crate::config::model::{Config, Name};
use crate::fib::Fib;
use crate::fib::object::LinkState;
use crate::health::Check;
use crate::net::Prefix;
use crate::time::Time;
use conduct::Member;
use effect::{Level, Note};
use event::ProbeId;
use journal::Journal;
use memory::Memory;
use own::OwnPrefixes;
use probes::Outstanding;
use timers::{CheckId, InstanceId, Timer, Timers};

/// A timer that ends this late means that we did not run: a suspended machine, a stopped process, a starved one.
pub const LATE: Duration = Duration::from_millis(250);

/// What the last process left behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Legacy {
    /// Its memory.
    pub memory: Memory,
    /// It died on this boot and not long ago: a MASTER may go on.
    pub resumable: bool,
}

/// The deterministic core.
#[derive(Debug)]
pub struct Announcer {
    config: Config,
    started: Time,
    checks: BTreeMap<CheckId, Check>,
    check_ids: HashMap<Name, CheckId>,
    members: BTreeMap<InstanceId, Member>,
    users: HashMap<CheckId, Vec<InstanceId>>,
    /// The checks by which a primary is judged.
    of_primaries: HashSet<CheckId>,
    /// We did not run for a while, and what was due meanwhile has not had its turn: the checks whose verdict that changed.
    doubted: Option<Vec<CheckId>>,
    links: BTreeMap<String, LinkState>,
    /// The networks of the links, as the last dump had them.
    nets: Vec<(Prefix, String)>,
    /// The links on which gateways without a `dev` were last found, several where several are as near.
    gateways: BTreeMap<IpAddr, Vec<String>>,
    fib: Fib,
    dump: kernel::DumpState,
    bfd: bfd::Sessions,
    peers: bgp::Peerings,
    /// The last process died not long ago and MASTER may go on.
    resumable: bool,
    journal: Journal,
    tally: measure::Tally,
    timers: Timers,
    outstanding: BTreeMap<ProbeId, Outstanding>,
    /// Checks with a witness probe under way.
    asked: HashMap<CheckId, Vec<Time>>,
    effects: VecDeque<Effect>,
    own: Arc<OwnPrefixes>,
    next_id: u64,
    next_probe: u64,
    next_script: u64,
    stopping: Option<Stopping>,
    saved: Memory,
    /// Something that is kept may have changed: all of it, or that of these instances.
    memory_stale: bool,
    stale: BTreeSet<InstanceId>,
    /// Instances whose last transition the kernel has not seen through.
    open: BTreeSet<InstanceId>,
    /// Instances that have routes with several next hops.
    hopped: Vec<InstanceId>,
    /// Instances that are no longer configured, and are leaving.
    retired: BTreeSet<InstanceId>,
    kept_until: Option<Time>,
    /// When we were last called: the time up to which nothing was missed.
    present: Time,
    /// Somebody wants to hear of every result: [`Effect::Sample`].
    sampling: bool,
    drill: Option<drill::Drill>,
}

/// How far a stop is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopping {
    /// Draining, removing, waiting for scripts.
    Leaving,
    /// Everything stays in the kernel for the next process.
    HandingOver,
    /// [`Effect::Exit`] is out.
    Gone,
}

impl Announcer {
    /// A daemon that starts at `now`. Its first effects follow at once.
    pub fn new(config: Config, legacy: &Legacy, now: Time) -> Self {
        let mut announcer = Announcer {
            own: Arc::default(),
            started: now,
            checks: BTreeMap::new(),
            check_ids: HashMap::new(),
            members: BTreeMap::new(),
            users: HashMap::new(),
            of_primaries: HashSet::new(),
            doubted: None,
            links: BTreeMap::new(),
            nets: Vec::new(),
            gateways: BTreeMap::new(),
            fib: Fib::default(),
            dump: kernel::DumpState::default(),
            bfd: bfd::Sessions::default(),
            peers: bgp::Peerings::new(legacy),
            resumable: legacy.resumable,
            journal: Journal::default(),
            tally: measure::Tally::default(),
            timers: Timers::default(),
            outstanding: BTreeMap::new(),
            asked: HashMap::new(),
            effects: VecDeque::new(),
            next_id: 0,
            next_probe: 0,
            next_script: 0,
            stopping: None,
            saved: legacy.memory.clone(),
            memory_stale: true,
            stale: BTreeSet::new(),
            open: BTreeSet::new(),
            hopped: Vec::new(),
            retired: BTreeSet::new(),
            kept_until: None,
            present: now,
            sampling: false,
            drill: None,
            config: Config { checks: Vec::new(), instances: Vec::new(), ..config.clone() },
        };
        announcer.own = Arc::new(OwnPrefixes::of(&config));
        for check in &config.checks {
            announcer.add_check(check.clone(), now);
        }
        for instance in &config.instances {
            announcer.add_instance(instance.clone(), legacy, now);
        }
        announcer.index_users();
        announcer.config = config;
        announcer.set_bfd_sessions(now);
        announcer.want_dump(now);
        announcer.settle(now);
        announcer
    }

    /// Transitions are numbered from after `seq` on, the last number of an earlier run. To be called before the first
    /// event.
    pub fn number_events_after(&mut self, seq: u64) {
        self.journal.number_after(seq);
    }

    /// Something happened.
    pub fn handle_event(&mut self, event: Event, now: Time) {
        self.notice_absence(now);
        match event {
            Event::Probe { id, outcome } => self.on_probe(id, outcome, now),
            Event::LinkIs(link) => self.on_link(link, now),
            Event::LinkGone(name) => self.on_link_gone(&name, now),
            Event::Dump { id, result } => self.on_dump(id, result, now),
            Event::KernelChanged => self.want_dump(now),
            Event::Ops(results) => self.on_ops(results, now),
            Event::Bgp { peer, event } => self.on_bgp(peer, event, now),
            Event::Bfd { id, news } => self.on_bfd(id, news, now),
            Event::Script { id, end } => self.on_script(id, &end, now),
            Event::Command { id, command } => self.on_command(id, command, now),
            Event::Reload(config) => self.on_reload(*config, now),
            Event::Terminate => self.on_terminate(now),
        }
        self.settle(now);
    }

    /// The time of [`Announcer::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.notice_absence(now);
        let mut decide_last = BTreeSet::new();
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                // Nobody decides before all is known that came to its end while we did not run: a required session's hold time.
                Timer::Instance(id) if self.doubted.is_some() => {
                    decide_last.insert(id);
                }
                Timer::Probe(id) => self.on_probe_due(id, now),
                Timer::ProbeTimeout(id) => self.on_probe_timeout(id, now),
                Timer::Instance(id) => self.evaluate(id, now),
                Timer::Script(id) => self.on_script_timer(id, now),
                Timer::Retry => self.fib.retry(now, false),
                Timer::Scan => self.on_scan(now),
                Timer::Peer(id) => self.on_peer_timer(id, now),
                Timer::Bfd(id) => self.on_bfd_timer(id, now),
                Timer::InitOver => self.on_init_over(now),
                Timer::NoSession => self.on_no_session(),
                Timer::Maintenance => self.on_maintenance(now),
                Timer::Drill | Timer::Lapse => {} // looked at after every event
                Timer::Handover => self.hand_over(now),
                Timer::StopBound => self.give_up_stopping(),
            }
        }
        let doubted = self.doubted.take();
        doubted.into_iter().flatten().for_each(|check| self.reconsider(check, true, now));
        decide_last.into_iter().for_each(|id| self.evaluate(id, now));
        self.settle(now);
    }

    /// From now on every result of a probe comes out as an [`Effect::Sample`], or no longer.
    pub fn sample_probes(&mut self, on: bool) {
        self.sampling = on;
    }

    /// The next thing that the world must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Announcer::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    /// True once it is known what the kernel has: from then on everything runs.
    pub fn is_ready(&self) -> bool {
        self.fib.is_known()
    }

    /// True from the wish to stop on.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// After every event: operations that are due go out, and what must survive is kept.
    fn settle(&mut self, now: Time) {
        self.end_drill_in_time(now);
        self.choose_hops(now);
        self.plan_kernel(now);
        self.tell_peers(now);
        self.conclude(now);
        if self.watch_drill(now) {
            self.plan_kernel(now);
            self.tell_peers(now);
            self.conclude(now);
        }
        self.save_if_changed();
        self.leave_if_done();
    }

    fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    fn log(&mut self, level: Level, about: Option<&Name>, text: impl Into<String>) {
        self.emit(Effect::Log(Note { level, about: about.cloned(), text: text.into() }));
    }

    fn save_if_changed(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        let saved = &self.saved.instances;
        let differs = |m: &Member| saved.get(m.name()) != Some(&m.remember());
        let is_news = stale.iter().filter_map(|id| self.members.get(id)).any(|m| !m.retired && differs(m));
        if !(std::mem::take(&mut self.memory_stale) || is_news) {
            return;
        }
        let here = self.members.values().filter(|m| !m.retired);
        let instances = here.map(|m| (m.name().clone(), m.remember())).collect();
        let memory = Memory { instances, kept_until: self.kept_until, maintenance: self.in_maintenance() };
        if memory != self.saved {
            self.saved = memory.clone();
            self.emit(Effect::Save(memory));
        }
    }
}
