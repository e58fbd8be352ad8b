//! The composition with BGP: what each peer is to be told, and what its session tells us.
//!
//! Nobody edits what a peer is told by hand: the claims of all instances are worked out whole, and a peer hears of
//! them only when they differ from what it heard last. Which of two instances that want the same prefix is heard is
//! decided by [`table::choose`](crate::bgp::table::choose): the first MASTER in the order of the configuration, else
//! the first with `backup` attributes.

mod leaving;
mod reload;
mod report;
mod sessions;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::conduct::Member;
use super::effect::Level;
use super::event::PeerId;
use super::instance;
use super::journal::State;
use super::operate::kept_for;
use super::timers::{InstanceId, Timer};
use super::{Announcer, Effect, Legacy};
use crate::bgp::{Claim, ConnId, Families, Peer, PeerEffect, PeerEvent, PeerState, Table, Wanted};
use crate::config::model::{Announce, Bgp, Config, Name};
use crate::time::Time;

/// From GRACEFUL_SHUTDOWN (RFC 8326) to the withdraw: time for the peers to find another way.
pub(super) const GSHUT: Duration = Duration::from_secs(3);
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
