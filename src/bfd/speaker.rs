//! All sessions of a node: which of them a packet is for, and which has something to do.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::config::{Path, SessionConfig};
use super::news::News;
use super::random::Random;
use super::session::Session;
use super::status::SessionStatus;
use super::wire::{Discard, Packet};
use crate::time::Time;

/// The number of a session at run time; never used twice, so that news of one that is no more are dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u32);

/// A UDP datagram that came to one of the two ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// From.
    pub source: IpAddr,
    /// To: an address of ours.
    pub destination: IpAddr,
    /// The index of the interface that it came by; 0: not known.
    pub interface: u32,
    /// TTL or hop limit; None: not known, which is too far.
    pub ttl: Option<u8>,
    /// It came to the port of RFC 5883, and not to that of RFC 5881.
    pub multihop: bool,
    /// Its payload.
    pub payload: &'a [u8],
    /// When the kernel had it.
    pub at: Time,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    /// The interface that its packets have to come by, once that is known; None: any.
    interface: Option<u32>,
    due: Option<Time>,
}

/// All sessions.
#[derive(Debug)]
pub struct Speaker {
    sessions: BTreeMap<SessionId, Entry>,
    by_discriminator: HashMap<u32, SessionId>,
    by_remote: HashMap<(IpAddr, bool), Vec<SessionId>>,
    timers: BTreeSet<(Time, SessionId)>,
    /// Sessions that may have packets or news.
    awake: BTreeSet<SessionId>,
    news: VecDeque<(SessionId, News)>,
    random: Random,
}

impl Speaker {
    /// None yet. Equal seeds give equal discriminators and jitter.
    pub fn new(seed: u64) -> Self {
        Speaker {
            sessions: BTreeMap::new(),
            by_discriminator: HashMap::new(),
            by_remote: HashMap::new(),
            timers: BTreeSet::new(),
            awake: BTreeSet::new(),
            news: VecDeque::new(),
            random: Random::new(seed),
        }
    }

    /// Begins a session. Those that are leaving and that the neighbour would take for it make room, without a word: their
    /// AdminDown would be this one's.
    pub fn start(&mut self, id: SessionId, config: SessionConfig, now: Time) {
        let same = |e: &Entry| e.session.is_leaving() && !e.session.config().path.is_apart(&config.path);
        let old: Vec<SessionId> = self.sessions.iter().filter(|(_, e)| same(e)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.forget(id));
        // RFC 5880 section 6.8.1: "MUST be unique across all BFD sessions on this system, and nonzero. It SHOULD be set to a
        // random (but still unique) value".
        let mut discriminator = self.random.word();
        while discriminator == 0 || self.by_discriminator.contains_key(&discriminator) {
            discriminator = self.random.word();
        }
        let remote = (config.path.remote, config.path.hops.is_multi());
        let session = Session::new(config, discriminator, Random::new(self.random.draw()), now);
        self.by_discriminator.insert(discriminator, id);
        self.by_remote.entry(remote).or_default().push(id);
        self.sessions.insert(id, Entry { session, interface: None, due: None });
        self.wake(id);
    }

    /// Takes a session down by an operator's wish; it goes on telling so for a while, and is forgotten then.
    pub fn leave(&mut self, id: SessionId, now: Time) {
        self.act(id, |s| s.leave(now));
    }

    /// Other intervals, multiplier or role on the same path.
    pub fn reconfigure(&mut self, id: SessionId, config: SessionConfig, now: Time) {
        self.act(id, |s| s.reconfigure(config, now));
    }

    /// Asks the neighbour for a sign of life; see [`News::Verified`].
    pub fn verify(&mut self, id: SessionId, now: Time) {
        self.act(id, |s| s.verify(now));
    }

    /// The session's packets have to come by this interface.
    pub fn set_interface(&mut self, id: SessionId, interface: Option<u32>) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.interface = interface;
        }
    }

    /// We did not run for so long: see [`Session::forgive`].
    pub fn forgive(&mut self, away: Duration, why: &str, now: Time) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.act(id, |s| s.forgive(away, why, now));
        }
    }

    /// The kernel had no room for packets of that family and port: see [`Session::overflowed`].
    pub fn overflowed(&mut self, v6: bool, multihop: bool, now: Time) {
        let hit = |e: &Entry| {
            let path = &e.session.config().path;
            (path.remote.is_ipv6(), path.hops.is_multi()) == (v6, multihop)
        };
        let ids: Vec<SessionId> = self.sessions.iter().filter(|(_, e)| hit(e)).map(|(id, _)| *id).collect();
        for id in ids {
            self.act(id, |s| s.overflowed(now));
        }
    }

    /// A packet of this session did not leave: see [`Session::excuse`].
    pub fn excuse(&mut self, id: SessionId, why: &str, now: Time) {
        self.act(id, |s| s.excuse(why, now));
    }

    /// A datagram came.
    ///
    /// # Errors
    ///
    /// Why it was discarded.
    pub fn receive(&mut self, datagram: &Datagram<'_>, now: Time) -> Result<SessionId, Discard> {
        let received = Packet::parse(datagram.payload)?;
        let id = self.find(datagram, &received.packet)?;
        let entry = self.sessions.get_mut(&id).ok_or(Discard::NoSession)?;
        // RFC 5881 section 5 (GTSM): "all received BFD Control packets that are demultiplexed to the session MUST be
        // discarded if the received TTL or Hop Limit is not equal to 255".
        let least = entry.session.config().path.hops.least_ttl();
        if datagram.ttl.unwrap_or(0) < least {
            return Err(Discard::Ttl);
        }
        let result = entry.session.receive(&received, datagram.at, now);
        // Of hundreds of sessions nearly every packet says nothing new.
        if entry.session.has_news() || entry.session.poll_timeout() != entry.due {
            self.wake(id);
        }
        result.map(|()| id)
    }

    /// RFC 5880 section 6.8.6: by Your Discriminator, or, while that is 0, by the addresses (RFC 5881 section 3, RFC
    /// 5883 section 4).
    fn find(&self, datagram: &Datagram<'_>, packet: &Packet) -> Result<SessionId, Discard> {
        if packet.your_discriminator != 0 {
            let id = *self.by_discriminator.get(&packet.your_discriminator).ok_or(Discard::NoSession)?;
            let entry = self.sessions.get(&id).ok_or(Discard::NoSession)?;
            return if is_for(entry, datagram) { Ok(id) } else { Err(Discard::Address) };
        }
        let near = self.by_remote.get(&(datagram.source, datagram.multihop)).ok_or(Discard::NoSession)?;
        let fits = |id: &&SessionId| self.sessions.get(id).is_some_and(|e| is_for(e, datagram));
        near.iter().find(fits).copied().ok_or(Discard::NoSession)
    }

    /// Time passed, and every packet that had come by `now` has been received.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if let Some(entry) = self.sessions.get_mut(&id) {
                entry.due = None;
                entry.session.handle_timeout(now);
            }
            self.awake.insert(id);
        }
    }

    /// Lets packets that are due by `now` go out, without judging any silence: for the midst of a crowd of arrivals.
    pub fn rouse(&mut self, now: Time) {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        self.awake.extend(due);
    }

    /// True if a session would judge a silence at `now`.
    pub fn judges_at(&self, now: Time) -> bool {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        due.filter_map(|(_, id)| self.sessions.get(id)).any(|e| e.session.judges_at(now))
    }

    /// Those sessions.
    pub fn judged(&self, now: Time) -> Vec<SessionId> {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        due.filter(|id| self.sessions.get(id).is_some_and(|e| e.session.judges_at(now))).collect()
    }

    /// When [`Speaker::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.awake.is_empty() {
            return Some(Time::ZERO);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next packet that is due: appended to `out`, with the session that it is of. Call until None, after each of the
    /// other methods.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> Option<SessionId> {
        while let Some(id) = self.awake.first().copied() {
            let Some(entry) = self.sessions.get_mut(&id) else {
                self.awake.remove(&id);
                continue;
            };
            while let Some(news) = entry.session.poll_news() {
                self.news.push_back((id, news));
            }
            if entry.session.poll_transmit(now, out) {
                return Some(id);
            }
            self.awake.remove(&id);
            if entry.session.has_left(now) {
                self.forget(id);
            } else {
                self.schedule(id);
            }
        }
        None
    }

    /// The next news. Call until None, after [`Speaker::poll_transmit`].
    pub fn poll_news(&mut self) -> Option<(SessionId, News)> {
        self.news.pop_front()
    }

    /// Every session that is not leaving, as it is now.
    pub fn status(&self) -> impl Iterator<Item = (SessionId, SessionStatus)> {
        let staying = self.sessions.iter().filter(|(_, e)| !e.session.is_leaving());
        staying.map(|(id, e)| (*id, e.session.status()))
    }

    /// Between whom the sessions are, those that are leaving included.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sessions.values().map(|e| &e.session.config().path)
    }

    /// The session of that number.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|e| &e.session)
    }

    fn act(&mut self, id: SessionId, act: impl FnOnce(&mut Session)) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            act(&mut entry.session);
            self.wake(id);
        }
    }

    fn wake(&mut self, id: SessionId) {
        self.awake.insert(id);
    }

    fn schedule(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        let due = entry.session.poll_timeout();
        if due == entry.due {
            return;
        }
        if let Some(old) = std::mem::replace(&mut entry.due, due) {
            self.timers.remove(&(old, id));
        }
        if let Some(at) = due {
            self.timers.insert((at, id));
        }
    }

    fn forget(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.remove(&id) else { return };
        self.by_discriminator.remove(&entry.session.discriminator());
        let path = &entry.session.config().path;
        let remote = (path.remote, path.hops.is_multi());
        if let Some(list) = self.by_remote.get_mut(&remote) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.by_remote.remove(&remote);
            }
        }
        if let Some(due) = entry.due {
            self.timers.remove(&(due, id));
        }
        self.awake.remove(&id);
    }
}

fn is_for(entry: &Entry, datagram: &Datagram<'_>) -> bool {
    let path = &entry.session.config().path;
    path.remote == datagram.source
        && path.hops.is_multi() == datagram.multihop
        && path.local.is_none_or(|local| local == datagram.destination)
        && entry.interface.is_none_or(|index| index == datagram.interface)
}
