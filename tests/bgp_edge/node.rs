//! An edge in a namespace of its own, and the news that come out of it.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use announcerd::announcer::event::PeerId;
use announcerd::bgp::{ConnId, Origin, PeerConfig, PeerEvent};
use announcerd::config::model::{Bgp, Secret};
use announcerd::io::bgp::{BgpEdge, BgpNews};
use announcerd::net::{Asn, RouterId};
use tokio::sync::mpsc::{UnboundedSender, channel, unbounded_channel};

use crate::netns::Netns;

/// Long enough for the slowest machine; reached only when something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The peer in most tests, and a try of ours.
pub const PEER: PeerId = PeerId(1);
pub const TRY: ConnId = ConnId { origin: Origin::Outgoing, serial: 0 };

type Job = Box<dyn FnOnce(&mut BgpEdge) + Send>;

/// The edge, driven by the test.
pub struct Node {
    jobs: Option<UnboundedSender<Job>>,
    news: mpsc::Receiver<BgpNews>,
    seen: Vec<BgpNews>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Takes the namespace over.
    pub fn start(ns: Netns) -> Self {
        let (jobs, mut queue) = unbounded_channel::<Job>();
        let (tell, news) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            ns.block_on(async move || {
                let (sender, mut receiver) = channel(64);
                let mut edge = BgpEdge::new(sender);
                loop {
                    tokio::select! {
                        job = queue.recv() => match job {
                            Some(job) => job(&mut edge),
                            None => break,
                        },
                        Some(one) = receiver.recv() => { let _ = tell.send(one); }
                    }
                }
            });
        });
        Node { jobs: Some(jobs), news, seen: Vec::new(), thread: Some(thread) }
    }

    /// Runs `job` where the edge lives; sockets and programs that it makes are in the namespace.
    pub fn with<T: Send + 'static>(&self, job: impl FnOnce(&mut BgpEdge) -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job: Job = Box::new(move |edge| {
            let _ = tell.send(job(edge));
        });
        assert!(self.jobs.as_ref().unwrap().send(job).is_ok(), "the edge's thread died");
        told.recv().expect("the edge's thread died")
    }

    /// One peer, number 1.
    pub fn set_peer(&self, peer: Bgp) {
        self.set_peers(vec![(PEER, peer)]);
    }

    pub fn set_peers(&self, peers: Vec<(PeerId, Bgp)>) {
        let peers = peers.into_iter().map(|(id, peer)| (id, Arc::new(peer))).collect();
        self.with(|edge| edge.set_peers(peers));
    }

    pub fn connect(&self) {
        self.with(|edge| edge.connect(PEER, TRY));
    }

    /// Gives these octets to the socket.
    pub fn write(&self, conn: ConnId, octets: &[u8]) -> Option<u64> {
        let mut octets = Some(octets.to_vec());
        self.with(move |edge| {
            edge.pump(PEER, conn, &mut |_, out| {
                let octets = octets.take().unwrap_or_default();
                out.extend_from_slice(&octets);
                octets.len()
            })
        })
    }

    pub fn close(&self, conn: ConnId, last_words: &[u8]) {
        let words = last_words.to_vec();
        self.with(move |edge| edge.close(PEER, conn, words));
    }

    /// Waits until news pass that `pick` takes; they are taken out, the others stay.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&BgpNews) -> Option<T>) -> T {
        let (end, mut at) = (Instant::now() + DEADLINE, 0);
        loop {
            while let Some(news) = self.seen.get(at) {
                if let Some(value) = pick(news) {
                    self.seen.remove(at);
                    return value;
                }
                at += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            let news =
                self.news.recv_timeout(left).unwrap_or_else(|_| panic!("no {what}; seen: {:?}", self.seen));
            self.seen.push(news);
        }
    }

    fn wait_event<T>(&mut self, what: &str, mut pick: impl FnMut(&PeerEvent) -> Option<T>) -> T {
        self.wait(what, |news| match news {
            BgpNews::Event(_, event) => pick(event),
            BgpNews::Writable(..) => None,
        })
    }

    /// Our end's address, of a connection that we made.
    pub fn connected(&mut self) -> std::net::SocketAddr {
        self.connected_as(TRY)
    }

    pub fn connected_as(&mut self, wanted: ConnId) -> std::net::SocketAddr {
        self.wait_event("connection", move |event| match event {
            PeerEvent::TransportConnected { conn, local } if *conn == wanted => Some(*local),
            PeerEvent::TransportFailed { reason, .. } => panic!("{reason}"),
            _ => None,
        })
    }

    pub fn failed(&mut self) -> String {
        self.wait_event("failure", |event| match event {
            PeerEvent::TransportFailed { reason, .. } => Some(reason.clone()),
            PeerEvent::TransportConnected { .. } => panic!("connected"),
            _ => None,
        })
    }

    pub fn accepted(&mut self) -> ConnId {
        self.wait_event("connection of the peer's", |event| match event {
            PeerEvent::TransportAccepted { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.wait_event("octets", |event| match event {
                PeerEvent::Received { octets, .. } => Some(octets.clone()),
                PeerEvent::Closed { reason, .. } => panic!("{reason}; so far {all:?}"),
                _ => None,
            });
            all.extend(more);
        }
        all
    }

    pub fn closed(&mut self) -> String {
        self.wait_event("end", |event| match event {
            PeerEvent::Closed { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    /// True once the connection is lost; waits for that, but not longer than `span`.
    pub fn closes_within(&mut self, span: Duration) -> bool {
        let is_end = |news: &BgpNews| matches!(news, BgpNews::Event(_, PeerEvent::Closed { .. }));
        let end = Instant::now() + span;
        while !self.seen.iter().any(is_end) {
            match self.news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(news) => self.seen.push(news),
                Err(_) => return false,
            }
        }
        true
    }

    pub fn acked(&mut self, wanted: u64) {
        self.wait_event("acknowledgement", |event| match event {
            PeerEvent::Acked { total, .. } => (*total >= wanted).then_some(()),
            _ => None,
        });
    }

    /// No news of that kind have come so far.
    pub fn has_seen(&mut self, pick: impl FnMut(&BgpNews) -> bool) -> bool {
        self.with(|_| ());
        self.seen.extend(self.news.try_iter());
        self.seen.iter().any(pick)
    }

    /// Is a listener there, and for how many addresses.
    pub fn wait_listening(&self) {
        wait_for("a listener", || {
            self.with(|edge| edge.listeners().iter().all(|(_, error)| error.is_none())).then_some(())
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks again and again.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Two namespaces with a cable: 192.0.2.1 and .2, 2001:db8::1 and ::2.
pub fn cabled() -> (Netns, Netns) {
    let (a, b) = (Netns::new(), Netns::new());
    a.cable("b0", &b, "a0");
    a.address("192.0.2.1/24", "b0");
    a.address("2001:db8::1/64", "b0");
    b.address("192.0.2.2/24", "a0");
    b.address("2001:db8::2/64", "a0");
    (a, b)
}

/// Edges at both ends of a cable.
pub fn pair() -> (Node, Node) {
    let (a, b) = cabled();
    (Node::start(a), Node::start(b))
}

/// A peer in another AS, on the link.
pub fn bgp(peer: &str) -> Bgp {
    let router_id = RouterId("192.0.2.1".parse().unwrap());
    let session = PeerConfig::new("isp-a", peer.parse().unwrap(), Asn(64500), Asn(64501), router_id);
    Bgp { session, password: None, bfd: None }
}

/// With an MD5 key.
pub fn keyed(peer: &str, key: &str) -> Bgp {
    Bgp { password: Some(Secret(key.into())), ..bgp(peer) }
}
