//! Two of our peers over a network with every kind of trouble, in virtual time. Each sees what the other really gets.
//!
//! Always: nothing is announced that is not wanted at that moment, nothing withdrawn that was not announced. After
//! the trouble: one session, and each side's view is what the other wants. A failure names its seed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::network::{Link, Rng};
use super::rig::message;
use super::view::{Change, Heard};
use crate::bgp::connection::State;
use crate::bgp::wire::header::MessageType;
use crate::bgp::{
    Attributes, Claim, ConnId, Families, GracefulRestartConfig, Origin, Peer, PeerConfig, PeerEffect,
    PeerEvent, PeerState, PrefixSet, Table, Wanted,
};
use crate::net::{Asn, Prefix, RouterId};
use crate::time::Time;

const SECOND: Duration = Duration::from_secs(1);

struct Node {
    cfg: PeerConfig,
    peer: Peer,
    sockets: HashMap<ConnId, usize>,
    dialing: HashSet<ConnId>,
    accepted: u64,
    sets: Vec<PrefixSet>,
    wanted: Wanted,
    /// What `wanted` comes to, worked out prefix by prefix.
    expected: HashMap<Prefix, Option<u32>>,
    token: u64,
    maintenance: bool,
}

/// Something that will happen.
enum Action {
    Deliver { link: usize, from: usize },
    Connect { node: usize, conn: ConnId, outcome: u64 },
}

struct Sim {
    rng: Rng,
    now: Time,
    nodes: [Node; 2],
    links: Vec<Link>,
    agenda: BTreeMap<(Time, u64), Action>,
    next: u64,
    trouble: bool,
    ups: usize,
}

fn pool(rng: &mut Rng) -> PrefixSet {
    let count = if rng.below(12) == 0 { 500 } else { 1 + rng.below(30) };
    let spread = if count > 100 { 1500 } else { 60 };
    (0..count)
        .map(|_| {
            let n = rng.below(spread);
            let text = if rng.below(2) == 0 {
                format!("10.{}.{}.0/24", n / 250, n % 250)
            } else {
                format!("2001:db8:{n:x}::/48")
            };
            text.parse::<Prefix>().unwrap()
        })
        .collect()
}

fn node_config(rng: &mut Rng, index: usize) -> PeerConfig {
    let address = |n: usize| format!("203.0.113.{}", n + 1);
    let id = RouterId(format!("192.0.2.{}", 1 + rng.below(200)).parse().unwrap());
    let (ours, theirs) = (Asn(64500 + index as u32), Asn(64501 - index as u32));
    let mut cfg = PeerConfig::new("sim", address(1 - index).parse().unwrap(), theirs, ours, id);
    cfg.hold_time = SECOND * [3, 9, 30, 90, 90, 90][rng.below(6) as usize];
    cfg.next_hop_v6 = Some("2001:db8::1".parse().unwrap());
    cfg.send_hold_time = (rng.below(2) == 0).then_some(SECOND * 60);
    cfg.families = [Families::BOTH, Families::BOTH, Families::V4][rng.below(3) as usize];
    cfg.graceful_restart =
        (rng.below(2) == 0).then_some(GracefulRestartConfig { restart_time: SECOND * 120 });
    cfg
}

impl Node {
    fn new(rng: &mut Rng, index: usize, passive: bool, now: Time) -> Self {
        let cfg = PeerConfig { passive, ..node_config(rng, index) };
        let mut peer = Peer::new(cfg.clone(), rng.next(), false, now);
        peer.handle_event(PeerEvent::InitOver, now);
        Node {
            cfg,
            peer,
            sockets: HashMap::new(),
            dialing: HashSet::new(),
            accepted: 0,
            sets: Vec::new(),
            wanted: Wanted::default(),
            expected: HashMap::new(),
            token: 0,
            maintenance: false,
        }
    }

    /// New claims, sometimes on new sets.
    fn change_mind(&mut self, rng: &mut Rng) -> PeerEvent {
        if self.sets.is_empty() || rng.below(6) == 0 {
            self.sets = (0..1 + rng.below(4)).map(|_| pool(rng)).collect();
            self.wanted.table = Arc::new(Table::new(&self.sets));
        }
        let attributes =
            |rng: &mut Rng| Arc::new(Attributes { med: Some(rng.below(3) as u32), ..Attributes::default() });
        self.wanted.claims = (0..self.sets.len())
            .map(|_| match rng.below(3) {
                0 => Claim::None,
                1 => Claim::Master(attributes(rng)),
                _ => Claim::Backup(attributes(rng)),
            })
            .collect();
        self.expected.clear();
        for master in [true, false] {
            for (set, claim) in self.sets.iter().zip(&self.wanted.claims) {
                let med = match claim {
                    Claim::Master(attributes) if master => attributes.med,
                    Claim::Backup(attributes) if !master => attributes.med,
                    _ => continue,
                };
                for prefix in set.iter() {
                    self.expected.entry(prefix).or_insert(med);
                }
            }
        }
        self.token += 1;
        PeerEvent::SetWanted { wanted: self.wanted.clone(), token: self.token }
    }

    fn check(&self, change: &Change) {
        match change {
            Change::Announced(prefix, Heard { med, graceful_shutdown, .. }) => {
                assert_eq!(self.expected.get(prefix), Some(med), "{prefix} announced, not wanted so");
                assert!(!graceful_shutdown || self.maintenance);
            }
            Change::Withdrawn(prefix) => {
                assert!(
                    self.maintenance || !self.expected.contains_key(prefix),
                    "{prefix} withdrawn, wanted"
                );
            }
        }
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let now = Time::from_nanos(1);
        let passive = rng.below(4);
        let nodes = [0, 1].map(|index| Node::new(&mut rng, index, passive == index as u64, now));
        Sim { rng, now, nodes, links: Vec::new(), agenda: BTreeMap::new(), next: 0, trouble: true, ups: 0 }
    }

    fn plan(&mut self, after: Duration, action: Action) {
        self.next += 1;
        self.agenda.insert((self.now + after, self.next), action);
    }

    fn event(&mut self, node: usize, event: PeerEvent) {
        self.nodes[node].peer.handle_event(event, self.now);
        self.act(node);
    }

    /// Does what a peer wants.
    fn act(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].peer.poll_effect() {
            match effect {
                PeerEffect::Connect { conn } => {
                    self.nodes[node].dialing.insert(conn);
                    let outcome = if self.trouble { self.rng.below(8) } else { 9 };
                    let delay = self.rng.millis(200);
                    self.plan(delay, Action::Connect { node, conn, outcome });
                }
                PeerEffect::Close { conn, last_words } => self.close(node, conn, &last_words),
                PeerEffect::Transmit { conn } => {
                    if let Some(link) = self.nodes[node].sockets.get(&conn).copied() {
                        let side = self.links[link].side_of(node);
                        self.links[link].ways[side].wants = true;
                        self.pump(link, side);
                    }
                }
                PeerEffect::UpdateWritten { token } | PeerEffect::UpdateAcked { token } => {
                    assert!(token <= self.nodes[node].token);
                }
                PeerEffect::SessionUp => self.ups += 1,
                PeerEffect::Stopped => panic!("nobody said stop"),
                PeerEffect::SessionDown { .. } | PeerEffect::AttemptFailed { .. } | PeerEffect::Note(_) => {}
            }
        }
    }

    fn close(&mut self, node: usize, conn: ConnId, last_words: &[u8]) {
        self.nodes[node].dialing.remove(&conn);
        if let Some(link) = self.nodes[node].sockets.remove(&conn) {
            let way = &mut self.links[link].ways[node];
            way.buffer.extend(last_words);
            way.finished = true;
            self.plan(Duration::from_millis(1), Action::Deliver { link, from: node });
        }
    }

    /// Fetches octets while the send buffer has room; checks each message as it is made.
    fn pump(&mut self, link: usize, node: usize) {
        let way = &mut self.links[link].ways[node];
        while way.wants && !way.finished && way.buffer.len() < way.capacity {
            let mut octets = Vec::new();
            let room = way.capacity - way.buffer.len();
            if self.nodes[node].peer.poll_transmit(way.conn, room, &mut octets) == 0 {
                way.wants = false;
            }
            for change in way.view.read(&octets) {
                self.nodes[node].check(&change);
            }
            way.buffer.extend(&octets);
            way.written += octets.len() as u64;
        }
        let (conn, total) = (way.conn, way.written);
        let pending = !way.buffer.is_empty() && !std::mem::replace(&mut way.moving, true);
        if pending {
            let delay = self.rng.millis(50);
            self.plan(delay, Action::Deliver { link, from: node });
        }
        self.event_quietly(node, PeerEvent::Written { conn, total });
    }

    /// An event that cannot make the peer ask for the same again.
    fn event_quietly(&mut self, node: usize, event: PeerEvent) {
        self.nodes[node].peer.handle_event(event, self.now);
    }

    fn deliver(&mut self, link: usize, from: usize) {
        let to = 1 - from;
        let (now, dead) = (self.now, self.links[link].dead);
        let open = self.nodes[to].sockets.get(&self.links[link].ways[to].conn) == Some(&link);
        let way = &mut self.links[link].ways[from];
        way.moving = false;
        if dead {
            return;
        }
        if way.slow_until > now && open {
            way.moving = true;
            let delay = way.slow_until.since(now);
            return self.plan(delay, Action::Deliver { link, from });
        }
        let (conn, there) = (way.conn, self.links[link].ways[to].conn);
        let way = &mut self.links[link].ways[from];
        if !open {
            // Octets for a socket that is gone are answered by a reset.
            way.buffer.clear();
            if self.nodes[from].sockets.remove(&conn).is_some() {
                self.event(from, PeerEvent::Closed { conn, reason: "connection reset".into() });
            }
            return;
        }
        let count = (1 + self.rng.below(way.buffer.len().max(1) as u64) as usize).min(way.buffer.len());
        let octets: Vec<u8> = way.buffer.drain(..count).collect();
        way.acked += count as u64;
        let (total, more, finished) = (way.acked, !way.buffer.is_empty(), way.finished);
        if !octets.is_empty() {
            self.event(to, PeerEvent::Received { conn: there, octets });
        }
        if finished && !more {
            if self.nodes[to].sockets.remove(&there).is_some() {
                self.event(to, PeerEvent::Closed { conn: there, reason: "closed by the peer".into() });
            }
        } else if more {
            self.links[link].ways[from].moving = true;
            let delay = self.rng.millis(20);
            self.plan(delay, Action::Deliver { link, from });
        }
        if self.nodes[from].sockets.contains_key(&conn) {
            self.event(from, PeerEvent::Acked { conn, total });
            self.pump(link, from);
            self.act(from);
        }
    }

    fn connect(&mut self, node: usize, conn: ConnId, outcome: u64) {
        let other = 1 - node;
        match outcome {
            _ if !self.nodes[node].dialing.contains(&conn) => {}
            // No answer at all.
            0 => {}
            1 => {
                self.nodes[node].dialing.remove(&conn);
                self.event(node, PeerEvent::TransportFailed { conn, reason: "connection refused".into() });
            }
            _ => {
                self.nodes[node].dialing.remove(&conn);
                let there = ConnId { origin: Origin::Incoming, serial: self.nodes[other].accepted };
                self.nodes[other].accepted += 1;
                let link = self.links.len();
                self.links.push(Link::new(&mut self.rng, node, conn, there));
                self.nodes[node].sockets.insert(conn, link);
                self.nodes[other].sockets.insert(there, link);
                let local = |index: usize| format!("203.0.113.{}:179", index + 1).parse().unwrap();
                self.event(other, PeerEvent::TransportAccepted { conn: there, local: local(other) });
                self.event(node, PeerEvent::TransportConnected { conn, local: local(node) });
            }
        }
    }

    /// Runs to `end`.
    fn run(&mut self, end: Time) {
        loop {
            let timers = self.nodes.iter().filter_map(|node| node.peer.poll_timeout());
            let next = timers.chain(self.agenda.keys().next().map(|(at, _)| *at)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.now) {
                match entry.remove() {
                    Action::Deliver { link, from } => self.deliver(link, from),
                    Action::Connect { node, conn, outcome } => self.connect(node, conn, outcome),
                }
            }
            for node in 0..2 {
                if self.nodes[node].peer.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.nodes[node].peer.handle_timeout(self.now);
                    self.act(node);
                }
            }
        }
        self.now = end;
    }

    fn mischief(&mut self) {
        let node = self.rng.below(2) as usize;
        let links: Vec<usize> = self.nodes[node].sockets.values().copied().collect();
        let link = links.get(self.rng.below(links.len().max(1) as u64) as usize).copied();
        match (self.rng.below(16), link) {
            (0, Some(link)) => self.reset(link),
            // Half-open: the network drops everything, nobody is told.
            (1, Some(link)) => self.links[link].dead = true,
            (2 | 3, Some(link)) => {
                let until = self.now + self.rng.millis(100_000);
                self.links[link].ways[node].slow_until = until;
            }
            (4, Some(link)) => self.refresh_storm(link, node),
            (5, _) => self.event(node, PeerEvent::BfdDown),
            (6, _) => {
                self.nodes[node].maintenance = true;
                let moment = self.rng.millis(5000);
                self.event(node, PeerEvent::MaintenanceOn { moment });
            }
            (7, _) => self.end_maintenance(node),
            (8, _) => self.reboot(node),
            (9, _) => self.event(node, PeerEvent::AskForLife),
            _ => {
                let event = self.nodes[node].change_mind(&mut self.rng);
                self.event(node, event);
            }
        }
    }

    fn end_maintenance(&mut self, node: usize) {
        self.event(node, PeerEvent::MaintenanceOff);
        self.nodes[node].maintenance = false;
    }

    fn reset(&mut self, link: usize) {
        self.links[link].dead = true;
        for node in 0..2 {
            let conn = self.links[link].ways[node].conn;
            if self.nodes[node].sockets.remove(&conn).is_some() {
                self.event(node, PeerEvent::Closed { conn, reason: "connection reset".into() });
            }
        }
    }

    /// The process dies without a word and starts again.
    fn reboot(&mut self, index: usize) {
        let seed = self.rng.next();
        let node = &mut self.nodes[index];
        node.peer = Peer::new(node.cfg.clone(), seed, true, self.now);
        node.sockets.clear();
        node.dialing.clear();
        node.maintenance = false;
        let wanted = PeerEvent::SetWanted { wanted: node.wanted.clone(), token: node.token };
        // Numbers of connections start anew: what belonged to the old process is gone.
        node.accepted = 0;
        self.agenda.retain(|_, action| !matches!(action, Action::Connect { node, .. } if *node == index));
        self.links.iter_mut().for_each(|link| link.forget(index));
        self.event(index, wanted);
        self.event(index, PeerEvent::InitOver);
    }

    /// Requests of `node`, if its session is up on this link, put into its octets between two messages.
    fn refresh_storm(&mut self, link: usize, node: usize) {
        let conn = self.links[link].ways[node].conn;
        let up =
            self.nodes[node].peer.connection(conn).is_some_and(|c| matches!(c.state, State::Established(_)));
        if up {
            for _ in 0..1 + self.rng.below(20) {
                let family = 1 + self.rng.below(2) as u8;
                let request = message(MessageType::RouteRefresh, &[0, family, 0, 1]);
                self.links[link].ways[node].buffer.extend(request);
            }
        }
    }

    /// After the trouble: one session, and both views are right.
    fn settle(&mut self) {
        self.trouble = false;
        for node in 0..2 {
            self.end_maintenance(node);
            let event = self.nodes[node].change_mind(&mut self.rng);
            self.event(node, event);
        }
        self.run(self.now + SECOND * 700);
        // A KEEPALIVE may be on its way.
        for _ in 0..100 {
            self.run(self.now + Duration::from_millis(37));
            if self.links.iter().all(|link| link.dead || link.ways.iter().all(|way| way.buffer.is_empty())) {
                break;
            }
        }
        let families = self.nodes[0].cfg.families.and(self.nodes[1].cfg.families);
        for node in 0..2 {
            let Node { peer, sockets, expected, .. } = &self.nodes[node];
            assert_eq!(peer.state(), PeerState::Established, "{:?}", peer.status());
            assert_eq!(sockets.len(), 1);
            let way = &self.links[*sockets.values().next().unwrap()].ways[node];
            assert!(way.buffer.is_empty());
            let seen: HashMap<Prefix, Option<u32>> =
                way.view.routes.iter().map(|(prefix, heard)| (*prefix, heard.med)).collect();
            let offered: HashMap<Prefix, Option<u32>> = expected
                .iter()
                .filter(|(prefix, _)| families.contains(prefix.family()))
                .map(|(prefix, med)| (*prefix, *med))
                .collect();
            assert_eq!(seen.len(), offered.len());
            assert!(seen == offered);
            assert_eq!(way.view.ended.len(), families.iter().count());
            let status = peer.status();
            assert_eq!(status.advertised_v4 + status.advertised_v6, seen.len());
        }
    }
}

fn simulate(seed: u64) -> usize {
    let mut sim = Sim::new(seed);
    let troubles = 20 + sim.rng.below(60);
    for _ in 0..troubles {
        let pause = sim.rng.millis(if seed % 3 == 0 { 2000 } else { 60_000 });
        sim.run(sim.now + pause);
        sim.mischief();
    }
    sim.settle();
    sim.ups
}

#[test]
fn two_peers_and_every_kind_of_trouble() {
    let mut ups = 0;
    for seed in 0..100 {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        ups += outcome.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(ups > 500, "the trouble is too great, hardly a session came up: {ups}");
}
