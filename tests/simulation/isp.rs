//! A model ISP: a BGP speaker of our own on the far side, and what it learns from our octets. It reboots, goes silent,
//! and cuts connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use announcerd::announcer::Announcer;
use announcerd::announcer::event::{Event, PeerId};
use announcerd::bgp::wire::header::{Frame, MessageType, frame};
use announcerd::bgp::wire::update::{Update, UpdateContext};
use announcerd::bgp::{ConnId, Origin, Peer, PeerConfig, PeerEffect, PeerEvent};
use announcerd::net::{Asn, Prefix, RouterId};
use announcerd::time::Time;

const LATENCY: Duration = Duration::from_millis(2);

/// A TCP connection, seen from both ends.
#[derive(Debug)]
struct Link {
    ours: ConnId,
    theirs: ConnId,
    written: u64,
    /// Announced on it and not withdrawn.
    view: BTreeSet<Prefix>,
}

/// Something on its way.
#[derive(Debug)]
pub enum Parcel {
    /// For the core.
    Ours(PeerEvent),
    /// For the far speaker.
    Theirs(PeerEvent),
}

#[derive(Debug)]
pub struct Isp {
    far: Peer,
    /// The core's number for it; None before it is configured.
    id: Option<PeerId>,
    link: Option<Link>,
    serial: u64,
    /// Neither connects nor answers: a cut line.
    pub silent: bool,
    pub sessions: u64,
    post: Vec<(Time, Parcel)>,
    reboots: u64,
}

/// The ISP's side of the session that `scenario` configures.
fn far_config() -> PeerConfig {
    let id = RouterId("203.0.113.1".parse().expect("an address"));
    let mut config =
        PeerConfig::new("standby", "203.0.113.2".parse().expect("an address"), Asn(64501), Asn(64500), id);
    config.passive = true;
    config.hold_time = Duration::from_secs(9);
    config
}

impl Isp {
    pub fn new(now: Time) -> Self {
        let far = Peer::new(far_config(), 1, false, now);
        Isp { far, id: None, link: None, serial: 0, silent: false, sessions: 0, post: Vec::new(), reboots: 0 }
    }

    /// What the ISP would route to us now.
    pub fn view(&self) -> BTreeSet<Prefix> {
        self.link.as_ref().map(|l| l.view.clone()).unwrap_or_default()
    }

    /// The core's peers are these.
    pub fn configured(&mut self, id: Option<PeerId>) {
        self.id = id;
    }

    pub fn next(&self) -> Option<Time> {
        let post = self.post.iter().map(|(t, _)| *t).min();
        post.into_iter().chain(self.far.poll_timeout()).min()
    }

    /// Our process died: the kernel resets its connections, unless nothing gets through.
    pub fn our_crash(&mut self, now: Time) {
        self.post.retain(|(_, p)| matches!(p, Parcel::Theirs(_)));
        self.hang_up(now);
    }

    /// The connection breaks; each side notices, unless the line is cut.
    pub fn reset(&mut self, now: Time) {
        if let Some(link) = &self.link {
            let event = PeerEvent::Closed { conn: link.ours, reason: "connection reset".into() };
            self.post.push((now + LATENCY, Parcel::Ours(event)));
        }
        self.hang_up(now);
    }

    /// The far speaker restarts from nothing.
    pub fn reboot(&mut self, now: Time) {
        self.reset(now);
        self.reboots += 1;
        self.post.retain(|(_, p)| matches!(p, Parcel::Ours(_)));
        self.far = Peer::new(far_config(), self.reboots, false, now);
    }

    fn hang_up(&mut self, now: Time) {
        if let Some(link) = self.link.take() {
            let event = PeerEvent::Closed { conn: link.theirs, reason: "connection reset".into() };
            self.post.push((now + LATENCY, Parcel::Theirs(event)));
        }
    }

    /// The core wants something done with its connection. Returns the prefixes that its octets announced.
    pub fn effect(&mut self, effect: PeerEffect, core: &mut Announcer, now: Time) -> Vec<Prefix> {
        match effect {
            PeerEffect::Connect { conn } if !self.silent => {
                self.reset(now);
                self.serial += 1;
                let theirs = ConnId { origin: Origin::Incoming, serial: self.serial };
                let local: SocketAddr = "203.0.113.2:1790".parse().expect("an address");
                let far: SocketAddr = "203.0.113.1:179".parse().expect("an address");
                self.post.push((
                    now + LATENCY,
                    Parcel::Theirs(PeerEvent::TransportAccepted { conn: theirs, local: far }),
                ));
                self.post.push((now + LATENCY, Parcel::Ours(PeerEvent::TransportConnected { conn, local })));
                self.link = Some(Link { ours: conn, theirs, written: 0, view: BTreeSet::new() });
                Vec::new()
            }
            PeerEffect::Close { conn, last_words } if self.link.as_ref().is_some_and(|l| l.ours == conn) => {
                self.deliver(last_words, now);
                self.hang_up(now);
                Vec::new()
            }
            PeerEffect::Transmit { conn } => self.fetch(conn, core, now),
            _ => Vec::new(),
        }
    }

    fn fetch(&mut self, conn: ConnId, core: &mut Announcer, now: Time) -> Vec<Prefix> {
        let mut announced = Vec::new();
        let is_there = |isp: &Isp| isp.id.filter(|_| isp.link.as_ref().is_some_and(|l| l.ours == conn));
        while let Some(id) = is_there(self) {
            let mut octets = Vec::new();
            if core.transmit(id, conn, 4096, &mut octets, now) == 0 {
                break;
            }
            let Some(link) = &mut self.link else { break };
            announced.extend(learn(&mut link.view, &octets));
            link.written += octets.len() as u64;
            let total = link.written;
            self.post.push((now, Parcel::Ours(PeerEvent::Written { conn, total })));
            if !self.silent {
                self.post.push((now + LATENCY, Parcel::Ours(PeerEvent::Acked { conn, total })));
            }
            self.deliver(octets, now);
        }
        announced
    }

    fn deliver(&mut self, octets: Vec<u8>, now: Time) {
        let Some(link) = &self.link else { return };
        if !self.silent && !octets.is_empty() {
            let event = PeerEvent::Received { conn: link.theirs, octets };
            self.post.push((now + LATENCY, Parcel::Theirs(event)));
        }
    }

    /// Lets time pass; what reaches the core.
    pub fn step(&mut self, now: Time) -> Vec<Event> {
        if self.far.poll_timeout().is_some_and(|t| t <= now) {
            self.far.handle_timeout(now);
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.post).into_iter().partition(|(t, _)| *t <= now);
        self.post = later;
        let mut news = Vec::new();
        for (_, parcel) in due {
            match parcel {
                Parcel::Theirs(event) => self.far.handle_event(event, now),
                Parcel::Ours(event) => news.extend(self.id.map(|peer| Event::Bgp { peer, event })),
            }
        }
        self.obey_far(now);
        news
    }

    fn obey_far(&mut self, now: Time) {
        while let Some(effect) = self.far.poll_effect() {
            match effect {
                PeerEffect::Transmit { conn } => {
                    let (mut octets, mut total) = (Vec::new(), 0);
                    while self.far.poll_transmit(conn, 4096, &mut octets) > 0 {}
                    total += octets.len() as u64;
                    let ours = self.link.as_ref().filter(|l| l.theirs == conn).map(|l| l.ours);
                    if let Some(conn) = ours.filter(|_| !self.silent && !octets.is_empty()) {
                        self.post.push((now + LATENCY, Parcel::Ours(PeerEvent::Received { conn, octets })));
                    }
                    // The far side's socket takes everything.
                    self.far.handle_event(PeerEvent::Written { conn, total: u64::MAX / 2 + total }, now);
                }
                PeerEffect::Close { conn, .. } if self.link.as_ref().is_some_and(|l| l.theirs == conn) => {
                    self.reset(now)
                }
                PeerEffect::SessionUp => self.sessions += 1,
                _ => {}
            }
        }
    }
}

/// What a receiver learns from whole messages; the prefixes that they announced. A withdraw of what was never
/// announced resets sessions elsewhere (exabgp #954): it fails the run.
fn learn(view: &mut BTreeSet<Prefix>, mut octets: &[u8]) -> Vec<Prefix> {
    let mut announced = Vec::new();
    while !octets.is_empty() {
        let Ok(Frame::Message(kind, length)) = frame(octets, true) else { panic!("not whole messages") };
        let (message, rest) = octets.split_at(length);
        octets = rest;
        if kind != MessageType::Update {
            continue;
        }
        let context = UpdateContext { four_octet: true, external: true };
        let update = Update::parse(&message[19..], context).expect("our UPDATE is well formed");
        for prefix in update.withdrawals() {
            assert!(view.remove(&prefix), "{prefix} withdrawn, never announced");
        }
        announced.extend(update.announced());
        view.extend(update.announced());
    }
    announced
}
