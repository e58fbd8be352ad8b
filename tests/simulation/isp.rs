//! Model ISPs, and a primary that speaks BGP with us: each a BGP speaker of our own on the far side, a line to it with every kind of trouble, and what the ISP
//! learns from our octets.
//!
//! A line delays, hands octets over in odd pieces, and holds them while it is cut; one end may forget a connection
//! without the other's knowledge (half-open), or be reset; the far side reboots, reads slowly, connects while we do
//! (collision), and asks for everything again, twenty times at once. News of different kinds overtake one another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use announcerd::announcer::Announcer;
use announcerd::announcer::event::{Event, PeerId};
use announcerd::bgp::{ConnId, Origin, Peer, PeerConfig, PeerEffect, PeerEvent, PeerState};
use announcerd::net::Prefix;
use announcerd::time::Time;

use crate::line::{Link, THEM, Troubles, US};
use crate::rng::Rng;
use crate::view::{Heard, View};

/// Why nothing gets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// The line is cut.
    Line,
    /// Our own way out is.
    Ours,
    /// The far side is dead.
    Theirs,
}

/// So long BIRD closes every connection, and makes none, after an error (its `error wait time`).
const SULK: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// Something on its way.
#[derive(Debug)]
enum Parcel {
    Core(PeerId, PeerEvent),
    Far(PeerEvent),
    /// Octets from that end.
    Flow {
        link: u64,
        from: usize,
    },
    /// That end connects.
    Connect {
        from: usize,
        peer: Option<PeerId>,
        conn: ConnId,
        /// SYNs before this one.
        tries: u32,
    },
}

#[derive(Debug)]
pub struct Isp {
    pub name: &'static str,
    config: PeerConfig,
    far: Peer,
    /// The core's numbers for it, the one in use last; none before it is configured.
    ids: Vec<PeerId>,
    links: Vec<Link>,
    serial: u64,
    agenda: BTreeMap<(Time, u64), Parcel>,
    rng: Rng,
    /// Nothing gets through, for one of these reasons.
    silences: [bool; 3],
    /// Nobody listens at the far side.
    refuses: bool,
    /// No attempt to connect is lost on the way.
    reliable: bool,
    /// It does as BIRD does after an error, until then.
    sulks: Option<Time>,
    slow_until: Time,
    pub troubles: Troubles,
}

impl Isp {
    /// `config`: the far side's.
    pub fn new(name: &'static str, config: PeerConfig, seed: u64, now: Time) -> Self {
        let far = Peer::new(config.clone(), seed, false, now);
        Isp {
            name,
            config,
            far,
            ids: Vec::new(),
            links: Vec::new(),
            serial: 0,
            agenda: BTreeMap::new(),
            rng: Rng::new(seed),
            silences: [false; 3],
            refuses: false,
            reliable: false,
            sulks: None,
            slow_until: now,
            troubles: Troubles::default(),
        }
    }

    /// The core's numbers for this ISP are these.
    pub fn configured(&mut self, ids: Vec<PeerId>) {
        self.ids = ids;
        let gone = self.links.iter().filter(|l| !self.ids.contains(&l.peer));
        let gone: Vec<u64> = gone.map(|l| l.id).collect();
        gone.into_iter().for_each(|id| self.forget(id, US));
    }

    pub fn is(&self, id: PeerId) -> bool {
        self.ids.contains(&id)
    }

    pub fn next(&self) -> Option<Time> {
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let far = self.far.poll_timeout().filter(|_| !self.refuses);
        agenda.into_iter().chain(far).min()
    }

    /// What the ISP would route to us now, if that is all that we have told it and nothing is on its way or in trouble.
    pub fn settled(&self) -> Option<&View> {
        let [link] = self.links.as_slice() else { return None };
        let quiet = link.ways.iter().all(|way| way.octets.is_empty() && !way.finished);
        let well = link.open == [true; 2] && !link.dead && !link.wants && !self.is_silent();
        // An end that has not yet heard that its session is over has that one up, and not the one on this link.
        let is_end = |event: &PeerEvent| matches!(event, PeerEvent::Closed { .. });
        let over = self.agenda.values().any(|parcel| match parcel {
            Parcel::Core(_, event) | Parcel::Far(event) => is_end(event),
            Parcel::Flow { .. } | Parcel::Connect { .. } => false,
        });
        (quiet && well && !over && self.far.state() == PeerState::Established).then_some(&link.view)
    }

    fn post(&mut self, after: Duration, now: Time, parcel: Parcel) {
        self.serial += 1;
        self.agenda.insert((now + after, self.serial), parcel);
    }

    fn is_silent(&self) -> bool {
        self.silences.contains(&true)
    }

    /// From now on no attempt to connect is lost on the way, and some are BIRD.
    pub fn make_reliable(&mut self, now: Time) {
        self.reliable = true;
        self.sulks = self.rng.chance(0.5).then_some(now);
    }

    fn is_sulking(&self, now: Time) -> bool {
        self.sulks.is_some_and(|until| until > now)
    }

    /// What is slow, or was, is over.
    pub fn is_slow(&self, now: Time) -> bool {
        self.slow_until > now
    }

    fn latency(&mut self) -> Duration {
        self.rng.between(MILLI, 20 * MILLI)
    }

    /// The line is cut, or mended: then what TCP kept goes on its way.
    pub fn cut(&mut self, why: Silence, silent: bool, now: Time) {
        let before = self.is_silent();
        self.silences[why as usize] = silent;
        if before && !self.is_silent() {
            let waiting: Vec<(u64, usize)> =
                self.links.iter().flat_map(|l| [US, THEM].map(|from| (l.id, from))).collect();
            for (link, from) in waiting {
                self.flow(link, from, now);
            }
        }
    }

    /// Our process died: the kernel resets its connections, unless nothing gets through.
    pub fn our_crash(&mut self, now: Time) {
        self.agenda.retain(|_, p| !matches!(p, Parcel::Core(..) | Parcel::Connect { from: US, .. }));
        self.ids.clear();
        self.abandon(US, now);
    }

    /// The far speaker restarts from nothing.
    pub fn reboot(&mut self, now: Time) {
        self.agenda.retain(|_, p| !matches!(p, Parcel::Far(_) | Parcel::Connect { from: THEM, .. }));
        self.far = Peer::new(self.config.clone(), self.rng.next(), false, now);
        self.sulks = self.sulks.map(|_| now);
        self.abandon(THEM, now);
    }

    /// The far speaker ends, or is there again.
    pub fn refuse(&mut self, on: bool, now: Time) {
        if self.refuses != on {
            self.refuses = on;
            self.reboot(now);
        }
    }

    /// That end forgets all connections; the other is told at once, if it can be.
    fn abandon(&mut self, end: usize, now: Time) {
        let all: Vec<u64> = self.links.iter().map(|l| l.id).collect();
        for id in all {
            self.forget(id, end);
            if !self.is_silent() {
                self.hang_up(id, 1 - end, now);
            }
        }
    }

    /// The connections break; each side notices, unless the line is cut.
    pub fn reset(&mut self, now: Time) {
        let all: Vec<u64> = self.links.iter().map(|l| l.id).collect();
        for (id, end) in all.into_iter().flat_map(|id| [(id, US), (id, THEM)]) {
            self.hang_up(id, end, now);
        }
    }

    /// From now on the network drops what belongs to the connections, and tells nobody.
    pub fn blackhole(&mut self) {
        self.links.iter_mut().for_each(|link| link.dead = true);
    }

    /// The far side does not read for a while.
    pub fn stall(&mut self, span: Duration, now: Time) {
        self.slow_until = now + span;
    }

    /// The ISP asks for everything again, and again.
    pub fn storm(&mut self, now: Time) {
        if self.far.state() != PeerState::Established || self.links.len() != 1 {
            return;
        }
        let count = 1 + self.rng.below(20);
        self.troubles.refreshes += count;
        for _ in 0..count {
            let mut message = vec![0xff; 16];
            message.extend([0, 23, 5, 0, if self.rng.chance(0.5) { 1 } else { 2 }, 0, 1]);
            self.links[0].ways[THEM].octets.extend(message);
        }
        let link = self.links[0].id;
        self.flow(link, THEM, now);
    }

    fn link(&mut self, id: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|l| l.id == id)
    }

    fn forget(&mut self, id: u64, end: usize) {
        if let Some(link) = self.link(id) {
            link.open[end] = false;
        }
        self.links.retain(|l| l.open.contains(&true));
    }

    /// An end learns that its connection is gone.
    fn hang_up(&mut self, id: u64, end: usize, now: Time) {
        let Some(link) = self.link(id).filter(|l| l.open[end]) else { return };
        let (peer, ours, theirs) = (link.peer, link.ours, link.theirs);
        let closed = |conn| PeerEvent::Closed { conn, reason: "connection reset".into() };
        let parcel = if end == US { Parcel::Core(peer, closed(ours)) } else { Parcel::Far(closed(theirs)) };
        self.forget(id, end);
        let after = self.latency();
        self.post(after, now, parcel);
    }

    /// Sets a way going that has something to carry.
    fn flow(&mut self, id: u64, from: usize, now: Time) {
        let after = self.latency();
        let Some(link) = self.link(id).filter(|l| !l.dead) else { return };
        let way = &mut link.ways[from];
        if !way.moving && (!way.octets.is_empty() || way.finished) {
            way.moving = true;
            self.post(after, now, Parcel::Flow { link: id, from });
        }
    }

    /// The core wants something done with its connection. The routes that its octets announced.
    pub fn effect(
        &mut self,
        peer: PeerId,
        effect: PeerEffect,
        core: &mut Announcer,
        now: Time,
    ) -> Vec<(Prefix, Heard)> {
        match effect {
            PeerEffect::Connect { conn } => {
                let after = self.latency();
                self.post(after, now, Parcel::Connect { from: US, peer: Some(peer), conn, tries: 0 });
            }
            PeerEffect::Close { conn, last_words } => {
                self.give_up(US, conn);
                let known = |l: &&Link| l.open[US] && l.peer == peer && l.ours == conn;
                if let Some(id) = self.links.iter().find(known).map(|l| l.id) {
                    self.close(id, US, &last_words, now);
                }
            }
            PeerEffect::Transmit { conn } => {
                let known = |l: &&mut Link| l.open[US] && l.peer == peer && l.ours == conn;
                if let Some(link) = self.links.iter_mut().find(known) {
                    link.wants = true;
                    let id = link.id;
                    return self.pump(id, core, now);
                }
            }
            _ => {}
        }
        Vec::new()
    }

    /// That end no longer wants to connect.
    fn give_up(&mut self, end: usize, gone: ConnId) {
        let is_it =
            |p: &Parcel| matches!(p, Parcel::Connect { from, conn, .. } if *from == end && *conn == gone);
        self.agenda.retain(|_, parcel| !is_it(parcel));
    }

    fn close(&mut self, id: u64, end: usize, last_words: &[u8], now: Time) {
        // NOTIFICATION, Hold Timer Expired (RFC 4271 section 4.5).
        let is_expiry = last_words.get(18..20) == Some(&[3, 4]);
        self.troubles.expiries += u64::from(is_expiry);
        if end == THEM && is_expiry {
            self.sulks = self.sulks.map(|_| now + SULK);
        }
        // Connection Rejected.
        self.troubles.turned_away += u64::from(end == THEM && last_words.get(18..21) == Some(&[3, 6, 5]));
        if let Some(link) = self.link(id) {
            link.ways[end].octets.extend(last_words);
            link.ways[end].finished = true;
        }
        self.flow(id, end, now);
        self.forget(id, end);
    }

    /// Fetches while the send buffer has room.
    pub fn pump(&mut self, id: u64, core: &mut Announcer, now: Time) -> Vec<(Prefix, Heard)> {
        let mut announced = Vec::new();
        let Some(link) = self.links.iter_mut().find(|l| l.id == id && l.open[US]) else { return announced };
        let (peer, conn) = (link.peer, link.ours);
        while link.wants && link.ways[US].octets.len() < link.capacity {
            let mut octets = Vec::new();
            let room = link.capacity - link.ways[US].octets.len();
            if core.transmit(peer, conn, room, &mut octets, now) == 0 {
                link.wants = false;
            }
            announced.extend(link.told.read(&octets));
            link.ways[US].written += octets.len() as u64;
            link.ways[US].octets.extend(octets);
        }
        self.troubles.stalls += u64::from(link.wants);
        let total = link.ways[US].written;
        self.post(Duration::ZERO, now, Parcel::Core(peer, PeerEvent::Written { conn, total }));
        self.flow(id, US, now);
        announced
    }

    /// Connections whose socket has room again, though we have more to say.
    pub fn writable(&self) -> Option<u64> {
        let room = |l: &&Link| l.wants && l.open[US] && l.ways[US].octets.len() < l.capacity;
        self.links.iter().find(room).map(|l| l.id)
    }

    /// Lets time pass; what reaches the core.
    pub fn step(&mut self, now: Time) -> Vec<Event> {
        if !self.refuses && self.far.poll_timeout().is_some_and(|t| t <= now) {
            self.far.handle_timeout(now);
            self.obey_far(now);
        }
        let mut news = Vec::new();
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove() {
                Parcel::Core(peer, event) => news.push(Event::Bgp { peer, event }),
                Parcel::Far(event) => self.tell_far(event, now),
                Parcel::Flow { link, from } => news.extend(self.deliver(link, from, now)),
                Parcel::Connect { from, peer, conn, tries } if self.is_silent() => {
                    // As TCP does it: after 1, 3, 7 and 15 seconds.
                    let again = Parcel::Connect { from, peer, conn, tries: tries + 1 };
                    self.post(1000 * MILLI * 2u32.pow(tries.min(5)), now, again);
                }
                Parcel::Connect { from, peer, conn, .. } => {
                    news.extend(self.connect(from, peer, conn, now));
                }
            }
        }
        news
    }

    fn tell_far(&mut self, event: PeerEvent, now: Time) {
        self.far.handle_event(event, now);
        self.obey_far(now);
    }

    /// What is in a way, or a part of it, reaches its end.
    fn deliver(&mut self, id: u64, from: usize, now: Time) -> Option<Event> {
        let (silent, slow_until) = (self.is_silent(), self.slow_until);
        let piece = self.rng.next();
        let link = self.link(id).filter(|l| !l.dead)?;
        let to = 1 - from;
        link.ways[from].moving = false;
        if silent {
            return None;
        }
        if !link.open[to] {
            // Octets for a socket that is gone are answered by a reset.
            link.ways[from].octets.clear();
            self.troubles.half_open += 1;
            self.hang_up(id, from, now);
            return None;
        }
        if from == US && slow_until > now {
            link.ways[from].moving = true;
            self.post(slow_until.since(now), now, Parcel::Flow { link: id, from });
            return None;
        }
        let way = &mut link.ways[from];
        // All, or an odd part of it.
        let length = way.octets.len();
        let count =
            if piece % 4 == 0 { 1 + (piece >> 8) as usize % length.max(1) } else { length }.min(length);
        let octets: Vec<u8> = way.octets.drain(..count).collect();
        way.acked += octets.len() as u64;
        let (total, over) = (way.acked, way.finished && way.octets.is_empty());
        let (peer, ours, theirs) = (link.peer, link.ours, link.theirs);
        let mut news = None;
        if from == US {
            drop(link.view.read(&octets));
            let after = self.latency();
            self.post(after, now, Parcel::Core(peer, PeerEvent::Acked { conn: ours, total }));
            if !octets.is_empty() {
                self.tell_far(PeerEvent::Received { conn: theirs, octets }, now);
            }
        } else if !octets.is_empty() {
            news = Some(Event::Bgp { peer, event: PeerEvent::Received { conn: ours, octets } });
        }
        match over {
            true => self.hang_up(id, to, now),
            false => self.flow(id, from, now),
        }
        news
    }

    /// An end connects: the other listens, unless it is away or the line is cut.
    fn connect(&mut self, from: usize, peer: Option<PeerId>, conn: ConnId, now: Time) -> Option<Event> {
        let outcome = self.rng.below(16);
        let Some(peer) = peer.or(self.ids.last().copied()).filter(|p| self.ids.contains(p)) else {
            if from == THEM {
                let reason = "connection refused: nobody listens at our end".into();
                self.tell_far(PeerEvent::TransportFailed { conn, reason }, now);
            }
            return None;
        };
        if outcome == 0 && !self.reliable {
            return None;
        }
        if self.refuses {
            let event = PeerEvent::TransportFailed { conn, reason: "connection refused".into() };
            return Some(Event::Bgp { peer, event });
        }
        if self.is_sulking(now) {
            self.troubles.turned_away += u64::from(from == US);
            let after = self.latency();
            let reason = "connection closed".to_owned();
            if from == THEM {
                self.tell_far(PeerEvent::TransportFailed { conn, reason }, now);
                return None;
            }
            self.post(after, now, Parcel::Core(peer, PeerEvent::Closed { conn, reason }));
            let local = "203.0.113.2:1790".parse().expect("an address");
            return Some(Event::Bgp { peer, event: PeerEvent::TransportConnected { conn, local } });
        }
        self.serial += 1;
        let accepted = ConnId { origin: Origin::Incoming, serial: self.serial };
        let (ours, theirs) = if from == US { (conn, accepted) } else { (accepted, conn) };
        self.troubles.collisions += u64::from(self.links.iter().any(|l| l.open == [true; 2] && !l.dead));
        self.links.push(Link {
            id: self.serial,
            peer,
            ours,
            theirs,
            open: [true; 2],
            ways: Default::default(),
            dead: false,
            capacity: *self.rng.pick(&[200, 700, 65_536]),
            wants: false,
            told: View::default(),
            view: View::default(),
        });
        let [local, far]: [SocketAddr; 2] = match self.config.peer.is_ipv6() {
            true => ["[2001:db8::2]:1790", "[2001:db8::1]:179"],
            false => ["203.0.113.2:1790", "203.0.113.1:179"],
        }
        .map(|text| text.parse().expect("an address"));
        if from == US {
            self.tell_far(PeerEvent::TransportAccepted { conn: theirs, local: far }, now);
            Some(Event::Bgp { peer, event: PeerEvent::TransportConnected { conn: ours, local } })
        } else {
            self.tell_far(PeerEvent::TransportConnected { conn: theirs, local: far }, now);
            Some(Event::Bgp { peer, event: PeerEvent::TransportAccepted { conn: ours, local } })
        }
    }

    fn obey_far(&mut self, now: Time) {
        while let Some(effect) = self.far.poll_effect() {
            let id =
                |isp: &Isp, conn| isp.links.iter().find(|l| l.open[THEM] && l.theirs == conn).map(|l| l.id);
            match effect {
                PeerEffect::Connect { conn } => {
                    let after = self.latency();
                    self.post(after, now, Parcel::Connect { from: THEM, peer: None, conn, tries: 0 });
                }
                PeerEffect::Transmit { conn } => {
                    let mut octets = Vec::new();
                    while self.far.poll_transmit(conn, 4096, &mut octets) > 0 {}
                    // The far side's socket takes everything.
                    self.far.handle_event(PeerEvent::Written { conn, total: u64::MAX / 2 }, now);
                    if let Some(id) = id(self, conn) {
                        self.links.iter_mut().filter(|l| l.id == id).for_each(|l| {
                            l.ways[THEM].octets.extend(&octets);
                        });
                        self.flow(id, THEM, now);
                    }
                }
                PeerEffect::Close { conn, last_words } => {
                    self.give_up(THEM, conn);
                    if let Some(id) = id(self, conn) {
                        self.close(id, THEM, &last_words, now);
                    }
                }
                PeerEffect::SessionUp => self.troubles.sessions += 1,
                _ => {}
            }
        }
    }
}
