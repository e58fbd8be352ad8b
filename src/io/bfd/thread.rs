//! The thread's loop. In each turn, in this order: what the driver wants; every packet that is in the sockets; due timers
//! (so that no silence is judged before everything was heard); packets out; news out; sleep until the next timer.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::link::Link;
use super::own_link::OwnLinks;
use super::port::{Arrival, Kind, Port};
use super::sieve::Admission;
use super::{Shared, lock, priority};
use crate::announcer::Event;
use crate::bfd::wire::{MAX_LEN, State};
use crate::bfd::{Datagram, News, Path, SessionConfig, SessionId, Speaker};
use crate::io::clock;
use crate::time::Time;

/// Before what could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The same of a way out that was there: a link that comes back within a detection time is nobody's failure.
const RETRY_SEND: Duration = Duration::from_millis(50);
/// Times that the last word is said: nobody repeats it.
const FAREWELLS: usize = 3;
/// Before news that found no room are offered again.
const OFFER: Duration = Duration::from_millis(5);
/// How old the board may get.
const BOARD: Duration = Duration::from_millis(500);
/// Packets taken from one socket in a turn: more than it can hold, so that only a flood is cut short.
const BUDGET: usize = 20_000;
/// Packets taken from one socket before those of ours that are due may leave.
const GULP: usize = 128;
/// What no wake-up of ours should be late by.
const LATE: Duration = Duration::from_millis(5);
/// The longest rest between two turns where the next event is here already.
const REST: Duration = Duration::from_millis(2);
/// The part of the shortest interval that such a rest may be.
const REST_SHARE: u32 = 50;

/// Starts the thread; the stream wakes it.
pub(super) fn spawn(shared: Arc<Shared>, events: Sender<Event>) -> io::Result<(JoinHandle<()>, UnixStream)> {
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let run = move || {
        if let Err(why) = priority::raise() {
            tracing::warn!("{why}");
        }
        let worker = Worker::new(shared, events, ear, timer, Box::new(clock::now));
        // Its verdicts would stay as they are for ever, and nobody would know: better a start anew, which adopts what is there.
        if std::panic::catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
            tracing::error!(
                "the BFD thread died of a fault of its own (please report it): announcerd ends, to be started again"
            );
            std::process::abort();
        }
    };
    Ok((std::thread::Builder::new().name("bfd".to_owned()).spawn(run)?, bell))
}

/// What tells the time.
type Clock = Box<dyn FnMut() -> Time>;

struct Worker {
    shared: Arc<Shared>,
    events: Sender<Event>,
    ear: UnixStream,
    timer: TimerFd,
    clock: Clock,
    speaker: Speaker,
    /// As the driver wants them.
    configs: BTreeMap<SessionId, SessionConfig>,
    links: BTreeMap<SessionId, Link>,
    own_links: OwnLinks,
    /// The index of the interface by which each session was last heard, and our address there.
    arrived: BTreeMap<SessionId, (u32, IpAddr)>,
    ports: Vec<Port>,
    /// Ports that could not be opened, and why.
    closed: BTreeMap<Kind, String>,
    /// What each session was last told of its sockets.
    troubles: BTreeMap<SessionId, String>,
    /// News that found no room.
    unheard: VecDeque<(SessionId, News)>,
    retry_at: Option<Time>,
    /// When all sockets were last found empty: what is in them now came later.
    drained: Time,
    board_at: Time,
    /// When we meant to wake: the timer is set to it.
    wake: Option<Time>,
    /// This is the last turn.
    stops: bool,
    /// The driver wants something.
    called: bool,
    /// Packets may be in the sockets.
    rung: bool,
    /// Packets taken from a socket before another turn; it follows what comes.
    batch: usize,
    /// When this turn began.
    turned: Time,
    /// Turns begin at least so long apart.
    rest: Duration,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        events: Sender<Event>,
        ear: UnixStream,
        timer: TimerFd,
        mut clock: Clock,
    ) -> Self {
        let now = clock();
        let seed = now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        Worker {
            shared,
            events,
            ear,
            timer,
            clock,
            speaker: Speaker::new(seed),
            configs: BTreeMap::new(),
            links: BTreeMap::new(),
            own_links: OwnLinks::default(),
            arrived: BTreeMap::new(),
            ports: Vec::new(),
            closed: BTreeMap::new(),
            troubles: BTreeMap::new(),
            unheard: VecDeque::new(),
            retry_at: None,
            drained: now,
            board_at: now,
            wake: None,
            stops: false,
            called: true,
            rung: true,
            batch: 1,
            turned: now,
            rest: Duration::ZERO,
        }
    }

    fn run(mut self) {
        while self.turn() {
            if let Err(e) = self.sleep() {
                tracing::error!("BFD: waiting failed: {e}");
                std::thread::sleep(OFFER);
            }
        }
    }

    /// Everything but the sleep; false if this was the last turn.
    fn turn(&mut self) -> bool {
        let now = self.now();
        self.turned = now;
        let away = self.wake.map_or(Duration::ZERO, |at| now.since(at));
        let why = || format!("announcerd did not run for {:.1} ms", away.as_secs_f64() * 1e3);
        if away > LATE {
            // Before anything is heard: what the neighbours say now may be about our absence.
            self.speaker.forgive(away, &why(), now);
        }
        self.stops |= std::mem::take(&mut self.called) && self.take_mail(now);
        if self.rung {
            self.hear(self.batch);
        }
        // Silence is judged as of this moment: whatever had come by then is heard before it is. What comes while we read, or
        // are kept from reading on, may wait unread.
        let judged = self.now();
        if away > LATE || self.speaker.judges_at(judged) {
            self.hear(BUDGET);
        }
        if away > LATE {
            let now = self.now();
            self.speaker.forgive(away, &why(), now);
        }
        self.suspect_own_links(judged);
        self.speaker.handle_timeout(judged);
        let now = self.now();
        self.retry(now);
        self.speak(now);
        if self.stops || !self.tell() {
            return false;
        }
        self.show(now, false);
        true
    }

    fn now(&mut self) -> Time {
        (self.clock)()
    }

    /// Returns true if this is the last turn.
    fn take_mail(&mut self, now: Time) -> bool {
        let mail = std::mem::take(&mut *lock(&self.shared.mail));
        if let Some(sessions) = mail.sessions {
            self.set_sessions(sessions, now);
        }
        for id in mail.verify {
            self.speaker.verify(id, now);
        }
        if mail.stop {
            let ids: Vec<SessionId> = self.configs.keys().copied().collect();
            ids.into_iter().for_each(|id| self.speaker.leave(id, now));
        }
        mail.stop
    }

    fn set_sessions(&mut self, sessions: Vec<(SessionId, SessionConfig)>, now: Time) {
        let wanted: BTreeMap<SessionId, SessionConfig> = sessions.into_iter().collect();
        let before = std::mem::replace(&mut self.configs, wanted.clone());
        let shortest = wanted.values().map(|config| config.interval).min().unwrap_or_default();
        self.rest = (shortest / REST_SHARE).min(REST);
        for id in before.keys().filter(|id| !wanted.contains_key(id)) {
            self.speaker.leave(*id, now);
            self.troubles.remove(id);
        }
        for (id, config) in wanted {
            match before.get(&id) {
                Some(old) if *old == config => {}
                Some(_) => self.speaker.reconfigure(id, config, now),
                None => {
                    // One that is leaving and not apart would speak for a session that is no more.
                    self.speaker.start(id, config, now);
                }
            }
        }
        self.open(now);
        self.show(now, true);
    }

    /// Opens what is not open, tells what cannot be, and closes what nobody needs any more.
    fn open(&mut self, now: Time) {
        let speaker = &self.speaker;
        self.links.retain(|id, _| speaker.session(*id).is_some());
        self.arrived.retain(|id, _| speaker.session(*id).is_some());
        let mut kinds: Vec<Kind> = self.configs.values().map(kind_of).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.closed.clear();
        for kind in &kinds {
            if self.ports.iter().any(|p| p.kind() == *kind) {
                continue;
            }
            match Port::open(*kind) {
                Ok(port) => self.ports.push(port),
                Err(why) => {
                    self.closed.insert(*kind, why);
                }
            }
        }
        for port in &mut self.ports {
            let kind = port.kind();
            port.admit(&Admission::of(self.speaker.paths().filter(|path| kind_on(path) == kind)));
        }
        let leaving = self.links.keys().any(|id| !self.configs.contains_key(id));
        self.ports.retain(|p| leaving || kinds.contains(&p.kind()));
        let (mut missing, mut urgent) = (false, false);
        for (id, config) in self.configs.clone() {
            let is_new = !self.links.contains_key(&id);
            let linked = if is_new { self.link(id, &config) } else { Ok(()) };
            let closed = self.closed.get(&kind_of(&config)).cloned();
            missing |= closed.is_some() || linked.is_err();
            urgent |= linked.is_err() && self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
            // That a way is there is proved by the first packet on it; who speaks only when spoken to waits for none.
            if closed.is_none() && linked.is_ok() && is_new && !config.passive {
                continue;
            }
            let own = if self.troubles.contains_key(&id) { self.own_trouble(id, &config) } else { None };
            missing |= own.is_some();
            self.note_trouble(id, closed.or(linked.err()).or(own), now);
        }
        // Those that leave hold their sockets for a while.
        self.retry_at = (missing || leaving).then(|| now + if urgent { RETRY_SEND } else { RETRY });
    }

    fn link(&mut self, id: SessionId, config: &SessionConfig) -> Result<(), String> {
        let link = Link::open(&config.path, first_port(id))?;
        self.speaker.set_interface(id, link.interface);
        self.links.insert(id, link);
        Ok(())
    }

    fn retry(&mut self, now: Time) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.open(now);
        }
    }

    fn note_trouble(&mut self, id: SessionId, trouble: Option<String>, now: Time) {
        if let Some(why) = &trouble {
            self.speaker.excuse(id, why, now);
        }
        if self.troubles.get(&id) != trouble.as_ref() {
            match &trouble {
                Some(why) => self.troubles.insert(id, why.clone()),
                None => self.troubles.remove(&id),
            };
            self.unheard.push_back((id, News::Trouble(trouble)));
        }
    }

    /// What is in the sockets, at most so many packets of each. Meanwhile what is due leaves.
    fn hear(&mut self, budget: usize) {
        let (mut empty, mut most) = (true, 0);
        for index in 0..self.ports.len() {
            let (mut count, mut dropped) = (0, false);
            while count < budget {
                let gulp = self.gulp(index, GULP.min(budget - count), &mut dropped);
                count += gulp.0;
                if gulp.1 {
                    break;
                }
                let now = self.now();
                self.speaker.rouse(now);
                self.speak(now);
            }
            empty &= count < budget;
            most = most.max(count);
            if dropped {
                self.overflowed(index);
            }
        }
        let now = self.now();
        if empty {
            self.drained = now;
        }
        // A packet at a time costs no second look at an empty socket; a crowd is taken as one.
        self.batch = if empty { most.max(1) } else { budget.saturating_mul(2).min(BUDGET) };
    }

    /// What there was no room for would have been heard.
    fn overflowed(&mut self, index: usize) {
        let Some(kind) = self.ports.get(index).map(Port::kind) else { return };
        let now = self.now();
        self.speaker.overflowed(kind.v6, kind.multihop, now);
    }

    /// Up to `limit` packets of one socket: how many there were, and whether that was all.
    fn gulp(&mut self, index: usize, limit: usize, dropped: &mut bool) -> (usize, bool) {
        let Some(port) = self.ports.get_mut(index) else { return (0, true) };
        let mut buffer = [0_u8; MAX_LEN + 1];
        for count in 0..limit {
            match port.receive(&mut buffer) {
                Ok(None) => return (count, true),
                Ok(Some(arrival)) => {
                    *dropped |= arrival.dropped;
                    let payload = buffer.get(..arrival.len).unwrap_or(&[]);
                    let now = (self.clock)();
                    if let Some(id) =
                        take(&mut self.speaker, &arrival, payload, port.kind(), self.drained, now)
                    {
                        self.arrived.insert(id, (arrival.interface, arrival.destination));
                    }
                }
                Err(_) => {}
            }
        }
        (limit, false)
    }

    /// What is due; last words several times.
    fn speak(&mut self, now: Time) {
        let times = if self.stops { FAREWELLS } else { 1 };
        let mut octets = Vec::with_capacity(MAX_LEN);
        while let Some(id) = self.speaker.poll_transmit(now, &mut octets) {
            for _ in 0..times {
                self.send(id, &octets, now);
            }
            octets.clear();
        }
    }

    fn send(&mut self, id: SessionId, octets: &[u8], now: Time) {
        let Some(link) = self.links.get(&id) else { return };
        let mut sent = delivered(link.send(octets));
        if sent.is_err() {
            // A new socket finds the new way, if there is one, and this packet need not be missed.
            self.links.remove(&id);
            let Some(config) = self.configs.get(&id).cloned() else { return };
            sent = match self.link(id, &config) {
                Ok(()) => self.links.get(&id).map_or(Ok(()), |link| delivered(link.send(octets))),
                Err(why) => Err(why),
            };
        }
        match sent {
            Ok(()) => self.sent(id, now),
            Err(why) => {
                self.links.remove(&id);
                self.note_trouble(id, Some(format!("cannot send: {why}")), now);
                let soon = now + RETRY_SEND;
                self.retry_at = Some(self.retry_at.map_or(soon, |at| at.min(soon)));
            }
        }
    }

    /// A packet was taken; but a dead link takes them as well.
    fn sent(&mut self, id: SessionId, now: Time) {
        let is_up = self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
        if is_up && !self.troubles.contains_key(&id) {
            return;
        }
        let Some(config) = self.configs.get(&id).cloned() else { return };
        if !self.closed.contains_key(&kind_of(&config)) {
            let trouble = self.own_trouble(id, &config);
            self.note_trouble(id, trouble, now);
        }
    }

    /// Sessions of which a silence is about to be judged: SPEC 4, "our own link down … counts as neither".
    fn suspect_own_links(&mut self, judged: Time) {
        for id in self.speaker.judged(judged) {
            let Some(config) = self.configs.get(&id).cloned() else { continue };
            if let Some(why) = self.own_trouble(id, &config) {
                self.note_trouble(id, Some(why), judged);
                let again = judged + RETRY;
                self.retry_at = Some(self.retry_at.map_or(again, |at| at.min(again)));
            }
        }
    }

    /// What is wrong with our own link to a neighbour: the configured one; else that by which it was heard, if it is on our
    /// link or was heard just now; else that by which packets to it leave.
    fn own_trouble(&self, id: SessionId, config: &SessionConfig) -> Option<String> {
        let path = &config.path;
        if let Some(device) = &path.device {
            return self.own_links.trouble(device);
        }
        let is_up = self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
        match self.arrived.get(&id) {
            Some((index, _)) if *index != 0 && is_up => self.own_links.trouble_of(*index),
            Some((index, our)) if *index != 0 && !path.hops.is_multi() => {
                self.own_trouble_near(*index, *our, path)
            }
            _ => self.own_links.trouble_towards(path.remote, path.local),
        }
    }

    /// The same of who is Down and on our link: that may be another by now.
    fn own_trouble_near(&self, index: u32, our: IpAddr, path: &Path) -> Option<String> {
        // A default route by another link is not enough.
        if let Some(other) = self.own_links.home_towards(path.remote, path.local.unwrap_or(our)) {
            return self.own_links.trouble_of(other);
        }
        // One that was made anew has another number.
        if nix::net::if_::if_indextoname(index).is_ok_and(|name| !name.is_empty()) {
            self.own_links.trouble_of(index)
        } else {
            self.own_links.trouble_towards(path.remote, path.local)
        }
    }

    /// News to the core; false if there is no core any more.
    fn tell(&mut self) -> bool {
        while let Some(news) = self.speaker.poll_news() {
            self.unheard.push_back(news);
        }
        let configs = &self.configs;
        self.unheard.retain(|(id, _)| configs.contains_key(id));
        while let Some((id, news)) = self.unheard.pop_front() {
            match self.events.try_send(Event::Bfd { id, news }) {
                Ok(()) => {}
                Err(TrySendError::Full(Event::Bfd { id, news })) => {
                    self.unheard.push_front((id, news));
                    self.condense();
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Of each kind of news only the newest of a session is kept; a Down between two Ups is not lost: it is in the counters.
    fn condense(&mut self) {
        if self.unheard.len() <= 4 * self.configs.len() {
            return;
        }
        let mut newest: BTreeMap<(SessionId, u8), News> = BTreeMap::new();
        for (id, news) in self.unheard.drain(..) {
            let kind = match news {
                News::Changed(_) => 0,
                News::Verified { .. } => 1,
                News::Trouble(_) => 2,
            };
            newest.insert((id, kind), news);
        }
        self.unheard = newest.into_iter().map(|((id, _), news)| (id, news)).collect();
    }

    /// Never waits: who reads the board has an ordinary thread's priority.
    fn show(&mut self, now: Time, at_once: bool) {
        if now.since(self.board_at) < BOARD && !at_once {
            return;
        }
        if let Ok(mut board) = self.shared.board.try_lock() {
            *board = self.speaker.status().collect();
            self.board_at = now;
        }
    }

    fn sleep(&mut self) -> io::Result<()> {
        let now = self.now();
        let offer = (!self.unheard.is_empty()).then(|| now + OFFER);
        let due = [self.speaker.poll_timeout(), self.retry_at, offer].into_iter().flatten().min();
        let now = self.now();
        let due = due.map(|at| at.max(now));
        match due {
            // It is set already, and has not gone off.
            Some(at) if self.wake == due && at > now => {}
            Some(at) => {
                // Zero would disarm it.
                let at = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0).max(1));
                self.timer.set(
                    Expiration::OneShot(TimeSpec::from_duration(at)),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?;
            }
            None => self.timer.unset()?,
        }
        self.wake = due;
        let mut fds = vec![
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ear.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.ports.iter().map(|p| PollFd::new(p.fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        self.called |= fds.get(1).is_some_and(is_ready);
        self.rung = fds.iter().skip(2).any(is_ready);
        let mut rung = [0; 64];
        while self.called && self.ear.read(&mut rung).is_ok_and(|n| n == rung.len()) {}
        self.rest();
        Ok(())
    }

    /// With hundreds of sessions a turn for each packet costs more than the packets. So a turn waits until it may find more
    /// than one; after a quiet time nothing waits, and the kernel's stamp tells when a packet came.
    fn rest(&mut self) {
        let rested = self.now().since(self.turned);
        if rested < self.rest && !self.called {
            std::thread::sleep(self.rest.saturating_sub(rested));
            self.rung = true;
        }
    }
}

/// Hands a packet to its session, with the time at which the kernel had it: not before the sockets were last empty, and not
/// in the future.
fn take(
    speaker: &mut Speaker,
    arrival: &Arrival,
    payload: &[u8],
    kind: Kind,
    drained: Time,
    now: Time,
) -> Option<SessionId> {
    let at = arrival.age.map_or(now, |age| now - age).max(drained).min(now);
    let datagram = Datagram {
        source: arrival.source,
        destination: arrival.destination,
        interface: arrival.interface,
        ttl: arrival.ttl,
        multihop: kind.multihop,
        payload,
        at,
    };
    // Discards are counted where they happen.
    speaker.receive(&datagram, now).ok()
}

fn kind_of(config: &SessionConfig) -> Kind {
    kind_on(&config.path)
}

fn kind_on(path: &Path) -> Kind {
    Kind { v6: path.remote.is_ipv6(), multihop: path.hops.is_multi() }
}

/// What the kernel said of a packet; that the queue had no room loses it like any other.
fn delivered(result: io::Result<()>) -> Result<(), String> {
    match result {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) => Err(e.to_string()),
        _ => Ok(()),
    }
}

/// Sessions begin their search for a free port at different places.
fn first_port(id: SessionId) -> u16 {
    (std::process::id().wrapping_mul(31).wrapping_add(id.0.wrapping_mul(7)) & 0x3fff) as u16
}

#[cfg(test)]
mod tests;
