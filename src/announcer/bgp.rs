//! The composition with BGP: what each peer is to be told, and what its session tells us.
//!
//! Nobody edits what a peer is told by hand: the claims of all instances are worked out whole, and a peer hears of
//! them only when they differ from what it heard last. Which of two instances that want the same prefix is heard is
//! decided by [`table::choose`](crate::bgp::table::choose): the first MASTER in the order of the configuration, else
//! the first with `backup` attributes.

mod leaving;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::conduct::Member;
use super::effect::Level;
use super::event::PeerId;
use super::instance;
use super::journal::State;
use super::operate::kept_for;
use super::timers::{CheckId, InstanceId, Timer};
use super::{Announcer, Effect, Legacy};
use crate::bgp::counters::Counters;
use crate::bgp::{Claim, ConnId, Families, Peer, PeerEffect, PeerEvent, PeerState, StopCause, Table, Wanted};
use crate::config::model::{Announce, Bgp, Config, Name, Probe};
use crate::health::Verdict;
use crate::status::BgpStatus;
use crate::time::Time;

/// From GRACEFUL_SHUTDOWN (RFC 8326) to the withdraw: time for the peers to find another way.
pub(super) const GSHUT: Duration = Duration::from_secs(3);
/// The acknowledgement of a KEEPALIVE that takes longer was sent again by TCP: the line may have been cut meanwhile.
const PROMPT: Duration = Duration::from_millis(500);
/// An announcement that has had no session to go out on for this long is an alarm before it is needed.
const NO_SESSION: Duration = Duration::from_secs(60);

/// A peer and what it is told.
#[derive(Debug)]
pub(super) struct Peering {
    config: Arc<Bgp>,
    peer: Peer,
    /// What this peer may hear, cut into pieces when the configuration was read.
    table: Arc<Table>,
    /// What it heard last.
    claims: Vec<Claim>,
    /// It has not heard of this table yet.
    table_is_new: bool,
    /// The last transition that it heard the consequence of.
    heard: u64,
    /// The forwarding state of what the last process told it was found as it was.
    preserved: bool,
    /// A reload reset its session, and there was none since.
    anew: bool,
    /// No longer configured: forgotten when its session is closed.
    retired: bool,
    stopped: bool,
}

/// All peers.
#[derive(Debug, Default)]
pub(super) struct Peerings {
    all: BTreeMap<PeerId, Peering>,
    /// They exist since the kernel is known: what they are told first is then complete.
    started: bool,
    init_over: bool,
    alarmed: bool,
    maintenance: Maintenance,
    /// Instances that the last process left as BACKUP with whatever they announce so.
    left: BTreeMap<Name, Left>,
}

/// How sure it is that what a BACKUP announced was still announced at the end of the last process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// The process died.
    Surely,
    /// It left in order: handed over, or stopped, and then what was not to be kept is gone.
    Perhaps,
}

/// What a peer begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Begin {
    /// After a restart of ours.
    restarted: bool,
    preserved: bool,
    anew: bool,
}

/// How far the drain of everything is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Maintenance {
    #[default]
    Off,
    /// GRACEFUL_SHUTDOWN is out; at that time instances go to BACKUP.
    Draining { until: Time },
    /// Everything is drained.
    On,
}

impl Peerings {
    /// None yet; a maintenance that the last process was in goes on.
    pub(super) fn new(legacy: &Legacy) -> Self {
        let maintenance = if legacy.memory.maintenance { Maintenance::On } else { Maintenance::Off };
        let stayed = legacy.memory.kept_until.is_some();
        let remembered = legacy.memory.instances.iter().filter(|_| legacy.resumable);
        let left = remembered.filter_map(|(name, was)| match was.state {
            State::Backup => Some((name.clone(), Left::Surely)),
            State::Stop if stayed => Some((name.clone(), Left::Perhaps)),
            _ => None,
        });
        Peerings { maintenance, left: left.collect(), ..Peerings::default() }
    }
}

impl Announcer {
    /// The kernel is known: what was adopted counts as preserved forwarding state (RFC 4724 section 4.1), and the
    /// peers may connect.
    pub(super) fn start_peers(&mut self, now: Time) {
        self.peers.started = true;
        for bgp in self.config.bgp.clone() {
            let begin = Begin { restarted: self.resumable, preserved: self.is_preserved(&bgp), anew: false };
            self.add_peer(bgp, begin, now);
        }
        self.announce_peers();
        let bound = self
            .config
            .bgp
            .iter()
            .filter_map(|b| b.session.graceful_restart)
            .map(|g| g.restart_time / 2)
            .min();
        self.timers.set(Timer::InitOver, bound.map(|d| now + d));
        self.timers.set(Timer::NoSession, Some(now + NO_SESSION));
    }

    fn add_peer(&mut self, config: Arc<Bgp>, begin: Begin, now: Time) {
        self.next_id += 1;
        let id = PeerId(u32::try_from(self.next_id).unwrap_or(u32::MAX));
        let seed = seed(&config.session.name, now);
        let mut peer = Peer::new(config.session.clone(), seed, begin.restarted, now);
        if begin.preserved {
            peer.handle_event(PeerEvent::ForwardingPreserved(Families::BOTH), now);
        }
        if self.peers.init_over {
            peer.handle_event(PeerEvent::InitOver, now);
        }
        if self.peers.maintenance != Maintenance::Off {
            peer.handle_event(PeerEvent::MaintenanceOn { moment: Duration::ZERO }, now);
        }
        if config.bfd.as_ref().is_some_and(|b| self.is_bfd_settled(&b.path)) {
            peer.handle_event(PeerEvent::BfdUp, now);
        }
        let table = Arc::new(table(&self.config, &config));
        let peering = Peering {
            config,
            peer,
            table,
            claims: Vec::new(),
            table_is_new: true,
            heard: 0,
            preserved: begin.preserved,
            anew: begin.anew,
            retired: false,
            stopped: false,
        };
        self.peers.all.insert(id, peering);
        self.timers.set(Timer::Peer(id), Some(now));
    }

    /// RFC 4724 section 4.1: the F bit "can be set only if the forwarding state has indeed been preserved … during the
    /// restart". True if the last process left this peer with something, by a MASTER that is resumed or by a BACKUP
    /// that announces, and the kernel has all that belongs to it.
    fn is_preserved(&self, bgp: &Bgp) -> bool {
        let mut found_some = false;
        for (name, announce) in announcements(&self.config, bgp) {
            let Some((id, member)) = self.member(name) else { continue };
            let left = self.peers.left.get(name).filter(|_| announce.backup.is_some());
            let left = match (member.instance.level(), left) {
                (instance::Level::Full, _) => Left::Surely,
                (_, Some(Left::Perhaps)) if kept_for(member).is_none() => Left::Perhaps,
                (_, Some(_)) => Left::Surely,
                (_, None) => continue,
            };
            let progress = self.fib.progress(id);
            match (progress.support_missing == 0 && progress.export_missing == 0, left) {
                (true, _) => found_some = true,
                (false, Left::Surely) => return false,
                // It was withdrawn.
                (false, Left::Perhaps) => {}
            }
        }
        found_some
    }

    fn announce_peers(&mut self) {
        let live = self.peers.all.iter().filter(|(_, p)| !p.stopped);
        let peers = live.map(|(id, p)| (*id, p.config.clone())).collect();
        self.emit(Effect::Peers(peers));
    }

    pub(super) fn on_bgp(&mut self, id: PeerId, event: PeerEvent, now: Time) {
        let is_sign = matches!(event, PeerEvent::Received { .. } | PeerEvent::Acked { .. });
        self.with_peer(id, now, |peer| peer.handle_event(event, now));
        // Octets, or their acknowledgement, are a sign of life, unless they were the last words; that a session is Established is
        // none: it stays so for a whole hold time after the line was cut.
        if is_sign {
            self.note_sign_of_life(id, now);
        }
    }

    pub(super) fn on_peer_timer(&mut self, id: PeerId, now: Time) {
        self.with_peer(id, now, |peer| peer.handle_timeout(now));
    }

    /// Octets for a peer's connection, appended to `out`; how many. See [`Effect::Bgp`].
    pub fn transmit(
        &mut self,
        id: PeerId,
        conn: ConnId,
        limit: usize,
        out: &mut Vec<u8>,
        now: Time,
    ) -> usize {
        let mut count = 0;
        self.with_peer(id, now, |peer| count = peer.poll_transmit(conn, limit, out));
        count
    }

    /// Lets a peer do something, and carries on what follows from it.
    fn with_peer(&mut self, id: PeerId, now: Time, act: impl FnOnce(&mut Peer)) {
        let Some(peering) = self.peers.all.get_mut(&id) else { return };
        act(&mut peering.peer);
        while let Some(effect) = self.peers.all.get_mut(&id).and_then(|p| p.peer.poll_effect()) {
            self.on_peer_effect(id, effect, now);
        }
        let due = self.peers.all.get(&id).filter(|p| !p.stopped).and_then(|p| p.peer.poll_timeout());
        self.timers.set(Timer::Peer(id), due);
    }

    fn on_peer_effect(&mut self, id: PeerId, effect: PeerEffect, now: Time) {
        let Some(peering) = self.peers.all.get_mut(&id) else { return };
        let name: Name = peering.config.session.name.as_str().into();
        // What is no longer configured says nothing of the peer's session as it is configured now.
        let (retired, anew) = (peering.retired, peering.anew);
        match effect {
            PeerEffect::Connect { .. } | PeerEffect::Close { .. } | PeerEffect::Transmit { .. } => {
                self.emit(Effect::Bgp { peer: id, effect });
            }
            PeerEffect::SessionUp => {
                peering.anew = false;
                self.log(Level::Info, Some(&name), "BGP session established");
                self.peers.alarmed = false;
                self.timers.set(Timer::NoSession, None);
                self.session_news(&name, None, now);
            }
            PeerEffect::SessionDown { reason } => {
                self.log(Level::Warn, Some(&name), format!("BGP session down: {reason}"));
                self.timers.set(Timer::NoSession, Some(now + NO_SESSION));
                if !retired {
                    self.session_news(&name, Some(&reason), now);
                }
            }
            PeerEffect::AttemptFailed { reason } => {
                self.log(Level::Warn, Some(&name), format!("no BGP session: {reason}"));
                let pardoned = anew && self.is_awaited(&name, now);
                if !retired && !pardoned {
                    self.session_news(&name, Some(&reason), now);
                }
            }
            PeerEffect::UpdateWritten { token } => self.note_step(token, |t| t.update_written = Some(now)),
            PeerEffect::UpdateAcked { token } => {
                self.drill_acked(&name, token);
                self.note_step(token, |t| t.update_acked = Some(now));
            }
            PeerEffect::Note(text) => self.log(Level::Info, Some(&name), text),
            PeerEffect::Stopped => {
                peering.stopped = true;
                if peering.retired {
                    self.peers.all.remove(&id);
                    self.timers.set(Timer::Peer(id), None);
                }
                self.announce_peers();
            }
        }
    }

    /// Those whose session BFD guards on that path.
    pub(super) fn peers_on(&self, path: &crate::bfd::Path) -> Vec<PeerId> {
        let on_it = |p: &Peering| p.config.bfd.as_ref().is_some_and(|b| b.path == *path);
        self.peers.all.iter().filter(|(_, p)| !p.stopped && on_it(p)).map(|(id, _)| *id).collect()
    }

    /// It is a witness as a probe's success is: a takeover may have waited for it.
    fn note_sign_of_life(&mut self, id: PeerId, now: Time) {
        let Some(name) = self.peers.all.get(&id).map(|p| p.config.session.name.clone()) else { return };
        for check in self.checks_of_session(&name) {
            if let Some(seen) = self.checks.get_mut(&check) {
                seen.answered(PROMPT, now);
                seen.seen_well(now);
                seen.testify_alive(now);
                self.note_success(check, false, now);
                self.reconsider(check, false, now);
            }
        }
    }

    fn checks_of_session(&self, name: &str) -> Vec<CheckId> {
        let watches = |p: &Probe| matches!(p, Probe::Bgp(b) if &*b.peer == name);
        self.checks.iter().filter(|(_, c)| watches(&c.config.probe)).map(|(id, _)| *id).collect()
    }

    /// A session that lives says so when it is asked: its TCP acknowledges a KEEPALIVE. False if none may be sent now.
    pub(super) fn ask_session(&mut self, name: &str, now: Time) -> bool {
        let live = |p: &Peering| !p.retired && p.config.session.name == name;
        let found = self.peers.all.iter().find(|(_, p)| live(p));
        let Some((id, asks)) = found.map(|(id, p)| (*id, p.peer.may_ask_for_life(now))) else { return false };
        self.on_bgp(id, PeerEvent::AskForLife, now);
        asks
    }

    /// A session that has its time to come back, after what may have been our own isolation, does not spend it in the
    /// back-off that grew meanwhile.
    pub(super) fn try_session(&mut self, check: CheckId, now: Time) {
        let Some(Probe::Bgp(watched)) = self.checks.get(&check).map(|c| c.config.probe.clone()) else {
            return;
        };
        let live = |p: &Peering| !p.retired && *p.config.session.name == *watched.peer;
        let found = self.peers.all.iter().find(|(_, p)| live(p)).map(|(id, _)| *id);
        if let Some(id) = found {
            self.on_bgp(id, PeerEvent::TryNow, now);
        }
    }

    /// When we try next, or tried, after that peer turned us away; None if it did not, or the last try found nobody there.
    pub(super) fn turned_away(&self, name: &str) -> Option<Time> {
        let live = |p: &&Peering| !p.retired && p.config.session.name == name;
        self.peers.all.values().find(live)?.peer.turned_away()
    }

    /// The checks of type `bgp` on that peer. Who leaves closes the sessions itself: that is nothing wrong, and
    /// must not make FAULT of a MASTER that hands over or keeps its routes.
    fn session_news(&mut self, name: &str, wrong: Option<&str>, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        for id in self.checks_of_session(name) {
            self.tell_check(id, wrong, now);
        }
    }

    /// A reload resets the session, which says nothing of the peer: until there is a new one nothing is known.
    fn forget_session(&mut self, name: &str, now: Time) {
        for id in self.checks_of_session(name) {
            let up = self.checks.get(&id).is_some_and(|c| c.verdict() == Verdict::Up);
            if up && self.forget_check(id, "its session begins anew with another configuration", now) {
                self.reconsider(id, true, now);
            }
        }
    }

    /// True while its checks have time to learn of the session that follows on a reset one: a peer may refuse until it has
    /// closed the old one.
    fn is_awaited(&self, name: &str, now: Time) -> bool {
        let checks = self.checks_of_session(name).into_iter().filter_map(|id| self.checks.get(&id));
        checks.filter_map(|c| c.lapses_at()).any(|at| now < at)
    }

    /// Whether the session that a check of type `bgp` watches is up; None if there was none yet and no try failed.
    pub(super) fn session_state(&self, name: &str) -> Option<Result<(), String>> {
        let peering = self.peers.all.values().find(|p| p.config.session.name == name && !p.retired)?;
        let status = peering.peer.status();
        match status.state {
            PeerState::Established => Some(Ok(())),
            _ => status.last_error.map(Err),
        }
    }

    /// Tells every peer what the instances want now, if that is something else than before.
    pub(super) fn tell_peers(&mut self, now: Time) {
        if !self.peers.started {
            return;
        }
        self.end_init(now);
        // Leaving, the peers drain by themselves: GRACEFUL_SHUTDOWN first, and the withdraw a moment later.
        if self.stopping.is_some() {
            return;
        }
        let last = self.journal.last_seq();
        let ids: Vec<PeerId> = self.peers.all.iter().filter(|(_, p)| !p.retired).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(peering) = self.peers.all.get(&id) else { continue };
            let claims: Vec<Claim> = announcements(&self.config, &peering.config)
                .map(|(name, announce)| self.claim(name, announce))
                .collect();
            let Some(peering) = self.peers.all.get_mut(&id) else { continue };
            if peering.claims == claims && !peering.table_is_new {
                continue;
            }
            peering.table_is_new = false;
            // What a reload or the kernel changes later is no step of that transition.
            let token = if peering.heard < last { last } else { 0 };
            peering.heard = last;
            peering.claims.clone_from(&claims);
            let wanted = Wanted { table: peering.table.clone(), claims };
            self.on_bgp(id, PeerEvent::SetWanted { wanted, token }, now);
        }
    }

    /// What an instance wants of an announcement. MASTER announces once the kernel has what it needs; until then, and in
    /// BACKUP, the `backup` attributes hold. INIT (unless resumed), FAULT and STOP announce nothing.
    fn claim(&self, name: &str, announce: &Announce) -> Claim {
        let Some((id, member)) = self.member(name) else { return Claim::None };
        let backup = || announce.backup.clone().map_or(Claim::None, Claim::Backup);
        match member.instance.state() {
            State::Master | State::Init if self.may_announce(id, member) => {
                Claim::Master(announce.master.clone())
            }
            State::Master | State::Backup => backup(),
            State::Init | State::Fault | State::Stop => Claim::None,
        }
    }

    fn may_announce(&self, id: InstanceId, member: &Member) -> bool {
        member.instance.level() == instance::Level::Full && self.fib.is_released(id)
    }

    fn member(&self, name: &str) -> Option<(InstanceId, &Member)> {
        let id = self.id_of(name)?;
        self.members.get(&id).map(|m| (id, m))
    }

    /// Once no instance is in INIT any more, what the peers were told is complete (RFC 4724 section 4.1).
    fn end_init(&mut self, now: Time) {
        if !self.peers.init_over && self.members.values().all(|m| m.instance.state() != State::Init) {
            self.on_init_over(now);
        }
    }

    pub(super) fn on_init_over(&mut self, now: Time) {
        self.peers.init_over = true;
        self.timers.set(Timer::InitOver, None);
        let ids: Vec<PeerId> = self.peers.all.keys().copied().collect();
        for id in ids {
            self.on_bgp(id, PeerEvent::InitOver, now);
        }
    }

    /// No session at all for a while, though announcements wait for one.
    pub(super) fn on_no_session(&mut self) {
        let announces = self.config.instances.iter().any(|i| !i.announces.is_empty());
        let up = self.peers.all.values().any(|p| p.peer.state() == PeerState::Established);
        if announces && !up && !self.peers.alarmed && self.stopping.is_none() {
            self.peers.alarmed = true;
            self.log(
                Level::Error,
                None,
                "no BGP session is established: a takeover now would reach nobody; see `announcerctl status`",
            );
        }
    }

    /// New peers, changed ones, new announcements. A session whose own configuration did not change stays up.
    pub(super) fn reload_peers(&mut self, now: Time) {
        if !self.peers.started {
            return;
        }
        // Those whose session ends, with what is known of their routes.
        let mut reset: BTreeMap<String, (IpAddr, bool)> = BTreeMap::new();
        let ids: Vec<PeerId> = self.peers.all.iter().filter(|(_, p)| !p.retired).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(peering) = self.peers.all.get_mut(&id) else { continue };
            let new = self.config.bgp.iter().find(|b| b.session.name == peering.config.session.name);
            match new {
                Some(new)
                    if new.session == peering.config.session && new.password == peering.config.password =>
                {
                    // Its BFD goes its own way: what was known of it may have been about another path or key.
                    peering.config = new.clone();
                    let guard = new.bfd.as_ref().map(|b| b.path.clone());
                    let table = table(&self.config, new);
                    if table != *peering.table {
                        peering.table = Arc::new(table);
                        // Told anew, whatever the claims: they were about the old table.
                        peering.table_is_new = true;
                    }
                    if let Some(path) = guard {
                        let up = self.is_bfd_settled(&path);
                        self.on_bgp(id, if up { PeerEvent::BfdUp } else { PeerEvent::BfdAwaited }, now);
                    }
                }
                changed => {
                    let cause = match changed {
                        Some(_) => StopCause::ConfigurationChange,
                        None => StopCause::Deconfigured,
                    };
                    peering.retired = true;
                    let (name, address) = (peering.config.session.name.clone(), peering.config.session.peer);
                    reset.insert(name.clone(), (address, peering.preserved));
                    let moment = Duration::ZERO;
                    self.on_bgp(id, PeerEvent::Stop { moment, cause, message: String::new() }, now);
                    self.forget_session(&name, now);
                }
            }
        }
        let live = |name: &str, all: &BTreeMap<PeerId, Peering>| {
            all.values().any(|p| !p.retired && p.config.session.name == name)
        };
        let new: Vec<Arc<Bgp>> =
            self.config.bgp.iter().filter(|b| !live(&b.session.name, &self.peers.all)).cloned().collect();
        for bgp in new {
            let before = reset.get(&bgp.session.name);
            let preserved = before.is_some_and(|(peer, preserved)| *peer == bgp.session.peer && *preserved);
            // That is no restart of ours (RFC 4724 section 4.1): no R bit.
            let begin = Begin { restarted: false, preserved, anew: before.is_some() };
            self.add_peer(bgp, begin, now);
        }
        if !self.peers.all.values().any(|p| p.peer.state() == PeerState::Established) {
            self.timers.set(Timer::NoSession, Some(now + NO_SESSION));
        }
        self.announce_peers();
    }

    /// What each peer has counted, for the metrics.
    pub(super) fn bgp_counters(&self) -> Vec<(String, Counters)> {
        let shown = self.peers.all.values().filter(|p| !p.retired);
        shown.map(|p| (p.config.session.name.clone(), p.peer.counters())).collect()
    }

    pub(super) fn bgp_status(&self, now: Time) -> Vec<BgpStatus> {
        if !self.peers.started {
            return self.config.bgp.iter().map(|b| BgpStatus::idle(&b.session.name)).collect();
        }
        let shown = self.peers.all.values().filter(|p| !p.retired);
        shown
            .map(|p| {
                let s = p.peer.status();
                BgpStatus {
                    name: s.name,
                    state: s.state.to_string(),
                    uptime_s: s.established_since.map_or(0, |t| now.since(t).as_secs()),
                    advertised: (s.advertised_v4 + s.advertised_v6) as u64,
                    last_error: s.last_error,
                }
            })
            .collect()
    }

    /// What BGP would do if the instance went to that state: lines for `explain`.
    pub(super) fn preview_bgp(&self, config: &crate::config::model::Instance, to: State) -> Vec<String> {
        let mut lines = Vec::new();
        for announce in &config.announces {
            let count = announce.prefixes.len();
            let what = match announce.prefixes.iter().next() {
                Some(only) if count == 1 => only.to_string(),
                _ => format!("{count} prefixes"),
            };
            let attributes = match to {
                State::Master => Some(&announce.master),
                State::Backup => announce.backup.as_ref(),
                _ => None,
            };
            for peer in &announce.peers {
                let state = self.session_state(peer);
                let up = if matches!(state, Some(Ok(()))) { "" } else { " (no session now!)" };
                lines.push(match attributes {
                    Some(a) => format!("announce {what} to {peer}{}{up}", describe(a)),
                    None => format!("withdraw {what} from {peer}{up}"),
                });
            }
        }
        lines
    }
}

fn describe(a: &crate::bgp::Attributes) -> String {
    let med = a.med.map(|m| format!(", MED {m}")).unwrap_or_default();
    let prepend = if a.prepend > 0 { format!(", prepend {}", a.prepend) } else { String::new() };
    format!("{med}{prepend}")
}

/// The announcements that a peer may hear, in the order of the configuration, with their instances' names.
fn announcements<'a>(config: &'a Config, bgp: &'a Bgp) -> impl Iterator<Item = (&'a str, &'a Announce)> {
    let all = config.instances.iter().flat_map(|i| i.announces.iter().map(move |a| (&*i.name, a)));
    all.filter(|(_, a)| a.peers.iter().any(|p| **p == *bgp.session.name))
}

fn table(config: &Config, bgp: &Bgp) -> Table {
    let sets: Vec<_> = announcements(config, bgp).map(|(_, a)| a.prefixes.clone()).collect();
    Table::new(&sets)
}

/// Jitter that differs from peer to peer and from start to start, and is the same in a simulation.
fn seed(name: &str, now: Time) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, now).hash(&mut hasher);
    hasher.finish()
}
