//! The one loop: it owns the only clock, feeds the core, and does what the core says.
//!
//! In each turn, in this order: effects out; what has arrived from BFD, the kernel, probes and scripts, BGP, operators and
//! signals, each up to a budget, so that none starves the others; due timers, after everything that could have kept
//! them from mattering. Every queue is bounded: an edge whose queue is full waits (a probe's task, a peer's reader, the
//! netlink threads), a follower that does not read is dropped.

mod operators;
mod reloading;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::bfd::BfdEdge;
use super::bgp::{BgpEdge, BgpNews};
use super::control::{Control, ControlGroup};
use super::hook::Hooks;
use super::netlink::{Netlink, shortcoming};
use super::probe::Probes;
use super::reload::Reloads;
use super::script::Scripts;
use super::state::{Loaded, StateDir, StateError};
use super::systemd::{Systemd, Watchdog};
use super::web::Web;
use super::{clock, log, script_guard};
use crate::announcer::effect::Effect;
use crate::announcer::event::PeerId;
use crate::announcer::journal::Record;
use crate::announcer::measure::Histogram;
use crate::announcer::{Announcer, Event, Legacy};
use crate::bgp::{ConnId, PeerEffect, PeerEvent};
use crate::config::ScriptVerdict;
use crate::config::model::Config;
use crate::status::{DrillStatus, EventStatus, ProbeStatus};
use crate::time::Time;

/// Events that wait for the core, of each kind; the edge behind a full queue waits.
const QUEUE: usize = 4096;
/// The same of BGP: each may hold a full read of a socket.
const SESSION_QUEUE: usize = 64;
/// The same of BFD: changes of state, a few for each session.
const BFD_QUEUE: usize = 4096;
/// Events taken from one source before the others get their turn.
const BUDGET: usize = 256;
/// The same of BGP, a read of up to 64 KiB each, and of operators, whose questions may be for 100,000 routes.
const SESSION_BUDGET: usize = 8;
const OPERATOR_BUDGET: usize = 1;
/// A timer this late is not acted on before everything that has arrived meanwhile has been read: a late wake-up of
/// ours must not look like somebody's silence.
const SLIP: Duration = Duration::from_millis(20);
/// How often the core is told how far our own work reaches; well below what it takes for an absence.
const ACCOUNT: Duration = Duration::from_millis(50);
/// How long somebody else may hold the state folder at our start: a sweep takes that at most.
const SWEEPER: Duration = Duration::from_secs(2);
/// How long the end may take: followers told, state on the disk.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the daemon could not run, in words.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control socket.
    #[error(transparent)]
    Control(#[from] super::control::ControlError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel.
    #[error("netlink: {0} (announcerd needs CAP_NET_ADMIN and CAP_NET_RAW: run it as root or by its unit)")]
    Netlink(std::io::Error),
    /// Signals.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// How the daemon ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// `on_stop = "keep"`: what stays in the kernel is to be swept after this.
    pub sweep_after: Option<Duration>,
}

/// Where everything arrives.
struct Inbox {
    bfd: mpsc::Receiver<Event>,
    kernel: mpsc::Receiver<Event>,
    sessions: mpsc::Receiver<BgpNews>,
    edges: mpsc::Receiver<Event>,
    signals: Signals,
}

/// Everything that the loop holds.
struct Driver {
    core: Announcer,
    netlink: Netlink,
    bfd: BfdEdge,
    bgp: BgpEdge,
    probes: Probes,
    scripts: Scripts,
    hooks: Hooks,
    control: Control,
    web: Web,
    /// How late timers were acted on.
    lateness: Histogram,
    state: StateDir,
    manager: Systemd,
    watchdog: Watchdog,
    reloads: Reloads,
    path: PathBuf,
    /// Transitions of earlier runs.
    past: Arc<[EventStatus]>,
    /// The last transition that the log has.
    logged: u64,
    /// What operators asked for, which the log does not have yet.
    asked: Vec<String>,
    ready: bool,
    ending: Option<Ending>,
    /// When this thread's processor time was last told to the core, and what it was.
    accounted: (Time, Duration),
}

/// Runs the daemon on the configuration at `path` (read already: `config`) until it is told to stop. Needs a tokio runtime.
///
/// # Errors
///
/// What kept it from starting.
pub async fn run(path: &Path, config: Config, manager: Systemd) -> Result<Ending, StartError> {
    let (state, loaded) = take_state(&config.node.state_dir).await?;
    loaded.note.iter().cloned().chain(shortcoming()).for_each(|note| tracing::warn!("{note}"));
    let control = Control::bind(&config.node.control, ControlGroup(config.node.control_group.clone()))?;
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(StartError::Signals)?;
    let (kernel_events, kernel) = mpsc::channel(QUEUE);
    let (bfd_news, bfd) = mpsc::channel(BFD_QUEUE);
    let (bgp_news, sessions) = mpsc::channel(SESSION_QUEUE);
    let (edge_events, edges) = mpsc::channel(QUEUE);
    let netlink = Netlink::new(kernel_events, config.node.route_protocol).map_err(StartError::Netlink)?;
    let legacy = Legacy { memory: loaded.memory, resumable: loaded.resumable };
    let web = Web::start(config.node.metrics);
    let mut core = Announcer::new(config, &legacy, clock::now());
    let last = loaded.events.last().map_or(0, |e| e.seq);
    core.number_events_after(last);
    let driver = Driver {
        core,
        netlink,
        bfd: BfdEdge::new(bfd_news),
        bgp: BgpEdge::new(bgp_news),
        probes: Probes::new(edge_events.clone(), inspect),
        scripts: Scripts::new(edge_events, inspect),
        hooks: Hooks::default(),
        control,
        web,
        lateness: Histogram::default(),
        state,
        watchdog: manager.watchdog(),
        manager,
        reloads: Reloads::default(),
        path: path.to_owned(),
        past: loaded.events.into(),
        logged: last,
        asked: Vec::new(),
        ready: false,
        ending: None,
        accounted: (clock::now(), clock::worked()),
    };
    Ok(driver.turn_until_the_end(Inbox { bfd, kernel, sessions, edges, signals }).await)
}

impl Driver {
    async fn turn_until_the_end(mut self, mut inbox: Inbox) -> Ending {
        self.probes.retain_checks(&self.core.config().checks);
        self.hooks.configure(self.core.config());
        loop {
            // 1. Effects.
            self.perform();
            if let Some(ending) = self.ending {
                self.farewell().await;
                return ending;
            }
            // 2. What has arrived.
            let busy = self.take_in(&mut inbox);
            // 3. Due timers.
            self.turn_timers(&mut inbox).await;
            self.perform();
            let now = clock::now();
            let housekeeping = self.housekeeping(now);
            if busy || self.ending.is_some() {
                // More may wait; the tasks that read sockets get their turn first.
                tokio::task::yield_now().await;
                continue;
            }
            // 4. Nothing to do: wait for anything.
            let wake = self.core.poll_timeout().map_or(housekeeping, |(at, _)| at.min(housekeeping));
            tokio::select! {
                Some(event) = inbox.bfd.recv() => self.core.handle_event(event, clock::now()),
                Some(event) = inbox.kernel.recv() => self.core.handle_event(event, clock::now()),
                Some(news) = inbox.sessions.recv() => self.heard(news),
                Some(event) = inbox.edges.recv() => self.core.handle_event(event, clock::now()),
                request = self.control.next() => self.answer(request),
                visit = self.web.next() => self.show(visit),
                Some(loaded) = self.reloads.next() => self.finish_reload(loaded),
                Some(signal) = inbox.signals.next() => self.signal(signal),
                () = sleep_until(instant(wake, now)) => {}
            }
        }
    }

    /// Hears each source up to its budget, so that a flood on one delays the others by no more than that. True if there
    /// was anything.
    fn take_in(&mut self, inbox: &mut Inbox) -> bool {
        let mut heard = 0;
        for queue in [&mut inbox.bfd, &mut inbox.kernel, &mut inbox.edges] {
            for _ in 0..BUDGET {
                let Ok(event) = queue.try_recv() else { break };
                self.core.handle_event(event, clock::now());
                self.perform();
                heard += 1;
            }
        }
        for _ in 0..SESSION_BUDGET {
            let Ok(news) = inbox.sessions.try_recv() else { break };
            self.heard(news);
            self.perform();
            heard += 1;
        }
        for _ in 0..OPERATOR_BUDGET {
            let Some(request) = self.control.try_next() else { break };
            self.answer(request);
            heard += 1;
        }
        if let Some(visit) = self.web.try_next() {
            self.show(visit);
            heard += 1;
        }
        while let Some(signal) = inbox.signals.next().now_or_never().flatten() {
            self.signal(signal);
            heard += 1;
        }
        heard > 0
    }

    /// Timers that are due. If we woke late, the tasks that read sockets get their turn, and what they read is heard,
    /// before any timer is.
    async fn turn_timers(&mut self, inbox: &mut Inbox) {
        let now = clock::now();
        let Some((due, _)) = self.core.poll_timeout().filter(|(at, _)| *at <= now) else { return };
        self.lateness.observe(now.since(due));
        if now.since(due) > SLIP {
            for _ in 0..2 {
                tokio::task::yield_now().await;
                self.take_in(inbox);
            }
        }
        self.core.handle_timeout(clock::now());
    }

    /// Signs of life; returns when the next are due. They come from the loop itself: a hung loop gives none.
    fn housekeeping(&mut self, now: Time) -> Time {
        let beat = self.state.tick(now);
        let watchdog = self.watchdog.tick(&self.manager, now);
        watchdog.into_iter().chain([beat]).min().unwrap_or(beat)
    }

    /// Journal and log come after that, in their order: what was decided leaves before words about it. Probes come last: they
    /// can be hundreds, and no reaction waits until they are sent.
    fn perform(&mut self) {
        let (mut words, mut probes) = (Vec::new(), Vec::new());
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Kernel(ops) => self.netlink.submit(ops),
                Effect::Probe { id, check, own } => probes.push((id, check, own)),
                Effect::CancelProbe(id) => {
                    probes.retain(|(begun, ..)| *begun != id);
                    self.probes.cancel(id);
                }
                Effect::RunScript(run) => self.scripts.start(run),
                Effect::KillScript(id) => self.scripts.kill(id),
                Effect::Peers(peers) => self.bgp.set_peers(peers),
                Effect::Bgp { peer, effect } => self.connection(peer, effect),
                Effect::BfdSessions(sessions) => self.bfd.set_sessions(sessions),
                Effect::BfdVerify(id) => self.bfd.verify(id),
                Effect::Dump(id) => self.netlink.dump(id),
                Effect::Reply { id, answer } => self.control.reply(id, answer.map(|text| move || text)),
                Effect::Sample(sample) => {
                    let clock = clock::wall();
                    if !self.control.publish_probe(|| ProbeStatus::new(&sample, &clock)) {
                        self.core.sample_probes(false); // nobody listens any more
                    }
                }
                Effect::Drill(news) => {
                    self.control.publish_drill(DrillStatus::new(&news, &clock::wall()));
                }
                Effect::Save(memory) => self.state.save(&memory, &clock::wall()),
                effect @ (Effect::Journal(_) | Effect::Log(_)) => words.push(effect),
                Effect::Exit { sweep_after } => self.ending = Some(Ending { sweep_after }),
            }
        }
        for said in self.asked.drain(..) {
            tracing::info!("{said}");
        }
        for effect in words {
            match effect {
                Effect::Journal(record) => self.journal(&record),
                Effect::Log(note) => log::note(&note),
                _ => {}
            }
        }
        for (id, check, own) in probes {
            self.probes.start(id, check, own);
        }
        if !self.ready && self.core.is_ready() {
            self.ready = true;
            self.manager.ready("running");
        }
        self.account();
    }

    /// A turn may take long by itself (a hundred thousand routes): the core is told how far this thread's own work reaches.
    /// Time in which it did not run, stopped or paused, is none of it.
    fn account(&mut self) {
        let (at, used) = self.accounted;
        let now = clock::now();
        if now.since(at) < ACCOUNT {
            return;
        }
        let worked = clock::worked();
        self.core.worked_until((at + worked.saturating_sub(used)).min(now));
        self.accounted = (now, worked);
    }

    fn connection(&mut self, peer: PeerId, effect: PeerEffect) {
        match effect {
            PeerEffect::Connect { conn } => self.bgp.connect(peer, conn),
            PeerEffect::Close { conn, last_words } => self.bgp.close(peer, conn, last_words),
            PeerEffect::Transmit { conn } => self.pump(peer, conn),
            // The rest is news for the core, which keeps it.
            _ => {}
        }
    }

    /// Writes what a peer is to be told straight into its socket, as far as that takes it.
    fn pump(&mut self, peer: PeerId, conn: ConnId) {
        let (core, now) = (&mut self.core, clock::now());
        let total = self.bgp.pump(peer, conn, &mut |limit, out| core.transmit(peer, conn, limit, out, now));
        if let Some(total) = total {
            let event = PeerEvent::Written { conn, total };
            self.core.handle_event(Event::Bgp { peer, event }, clock::now());
        }
    }

    fn heard(&mut self, news: BgpNews) {
        match news {
            BgpNews::Event(peer, event) => self.core.handle_event(Event::Bgp { peer, event }, clock::now()),
            BgpNews::Writable(peer, conn) => self.pump(peer, conn),
        }
    }

    fn journal(&mut self, record: &Record) {
        let wall = clock::wall();
        let event = EventStatus::new(record, &wall);
        let anew = record.seq > self.logged;
        self.hooks.tell(&event, anew, || self.core.notice(record, &wall));
        if anew {
            self.logged = record.seq;
            log::transition(&event);
            self.manager.status(&format!("{}: {} ({})", event.instance, event.to.word(), event.reason));
        }
        self.control.publish(&event);
        self.state.journal(event);
    }

    fn signal(&mut self, signal: i32) {
        match signal {
            SIGHUP => self.begin_reload(None),
            _ => {
                let bound = self.core.stop_bound() + FAREWELL * 4;
                self.manager.stopping("withdrawing and cleaning up", bound);
                self.core.handle_event(Event::Terminate, clock::now());
            }
        }
    }

    async fn farewell(mut self) {
        tokio::join!(self.bgp.finish(FAREWELL), self.hooks.finish(FAREWELL));
        self.bfd.finish();
        if !self.state.flush(FAREWELL) {
            tracing::error!("the state could not be saved in time");
        }
        self.control.close(FAREWELL).await;
    }
}

/// The state folder may be held for a moment by the process that sweeps what an earlier daemon kept.
async fn take_state(path: &Path) -> Result<(StateDir, Loaded), StateError> {
    let deadline = Instant::now() + SWEEPER;
    loop {
        match StateDir::open(path, &clock::wall()) {
            Err(StateError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(SWEEPER / 20).await;
            }
            other => return other,
        }
    }
}

/// Before each run of a program: may it be run?
fn inspect(command: &[String]) -> Result<(), String> {
    match script_guard::inspect(command, nix::unistd::geteuid().as_raw()) {
        ScriptVerdict::Ok => Ok(()),
        ScriptVerdict::Missing(why) | ScriptVerdict::Insecure(why) => Err(why),
    }
}

/// A point of the core's clock on the runtime's, `now` being now.
fn instant(at: Time, now: Time) -> Instant {
    Instant::now() + at.since(now)
}
