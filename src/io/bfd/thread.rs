//! The thread's loop. In each turn, in this order: what the driver wants; every packet that is in the sockets; due timers
//! (so that no silence is judged before everything was heard); packets out; news out; sleep until the next timer.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::link::Link;
use super::own_link::OwnLinks;
use super::port::{Arrival, Kind, Port};
use super::{Shared, lock, priority};
use crate::announcer::Event;
use crate::bfd::wire::MAX_LEN;
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

/// Starts the thread; the stream wakes it.
pub(super) fn spawn(shared: Arc<Shared>, events: Sender<Event>) -> io::Result<(JoinHandle<()>, UnixStream)> {
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    let alarm = wait::Alarm::new()?;
    let run = move || {
        if let Err(why) = priority::raise() {
            tracing::warn!("{why}");
        }
        let worker = Worker::new(shared, events, ear, alarm, Box::new(clock::now));
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
    alarm: wait::Alarm,
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
    /// When we meant to wake.
    wake: Option<Time>,
    /// This is the last turn.
    stops: bool,
    /// The driver wants something.
    called: bool,
    /// Packets may be in the sockets.
    rung: bool,
    /// Packets taken from a socket before another turn; it follows what comes.
    batch: usize,
    /// The packet that is being sent.
    octets: Vec<u8>,
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
        alarm: wait::Alarm,
        mut clock: Clock,
    ) -> Self {
        let now = clock();
        let seed = now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        Worker {
            shared,
            events,
            ear,
            alarm,
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
            octets: Vec::with_capacity(MAX_LEN),
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
        let judges = away > LATE || self.speaker.judges_at(judged);
        if judges {
            self.hear(BUDGET);
        }
        if away > LATE {
            let now = self.now();
            self.speaker.forgive(away, &why(), now);
        }
        if judges {
            self.suspect_own_links(judged);
        }
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
        self.rest = wait::rest(shortest);
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
        let mut octets = std::mem::take(&mut self.octets);
        while let Some(id) = self.speaker.poll_transmit(now, &mut octets) {
            for _ in 0..times {
                self.send(id, &octets, now);
            }
            octets.clear();
        }
        self.octets = octets;
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

    /// News to the core; false if there is no core any more.
    fn tell(&mut self) -> bool {
        while let Some(news) = self.speaker.poll_news() {
            self.unheard.push_back(news);
        }
        if self.unheard.is_empty() {
            return true;
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
                News::Refused(_) => 3,
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
    // Discards of a session are counted there; what is for none of them is nothing to us.
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

mod wait;
mod ways;

#[cfg(test)]
mod tests;
