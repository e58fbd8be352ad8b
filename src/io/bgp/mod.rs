//! TCP for the BGP speaker: connects, listens, carries octets, tells what the peer's TCP has acknowledged.
//!
//! - [`BgpEdge::pump`] is the fast path: the driver itself writes to the socket, without a task in between, so that the
//!   octets of a decision leave within microseconds. It takes octets from the speaker only while TCP takes them, so
//!   that what is written is always the newest state.
//! - A task for each connection reads, looks for acknowledgements while some are missing, and says when there is room
//!   again. The bounded queue of [`BgpNews`] holds it back, and through TCP the peer.
//! - A listener for each address and port that peers need. A port that is taken (BIRD may hold 179) is tried again and
//!   keeps nothing else from working. The port is the peer's `port`: a laboratory with other ports uses them both ways.
//! - [`sockopt`]: TCP MD5 (RFC 2385) and GTSM (RFC 5082), the only unsafe code.

mod connection;
mod dial;
mod farewell;
mod listener;
mod shared;
pub mod sockopt;
mod transport;
mod words;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::listener::{Listener, Spec};
use self::shared::Shared;
use crate::announcer::event::PeerId;
use crate::bgp::{ConnId, PeerConfig, PeerEvent};
use crate::config::model::Bgp;

/// What the edge tells the driver.
#[derive(Clone, PartialEq, Debug)]
pub enum BgpNews {
    /// For the core.
    Event(PeerId, PeerEvent),
    /// [`BgpEdge::pump`] stopped early and may go on.
    Writable(PeerId, ConnId),
}

/// The sockets of all BGP peers. Lives in a tokio runtime; dropped, all its sockets close.
pub struct BgpEdge {
    shared: Arc<Shared>,
    listeners: HashMap<SocketAddr, Listener>,
    /// Between two calls of `pump`: so that no call allocates.
    spare: Vec<u8>,
    farewells: JoinSet<()>,
}

impl BgpEdge {
    /// Without peers. `news` is bounded: while it is full, nothing is read.
    pub fn new(news: Sender<BgpNews>) -> Self {
        BgpEdge {
            shared: Arc::new(Shared::new(news)),
            listeners: HashMap::new(),
            spare: Vec::new(),
            farewells: JoinSet::new(),
        }
    }

    /// These are the peers from now on. Listeners are opened, closed or kept, with their keys; connections of peers that
    /// are no more are dropped, those of others stay as they are, even if their key changed.
    pub fn set_peers(&mut self, peers: Vec<(PeerId, Arc<Bgp>)>) {
        let mut wanted = listeners_for(&peers);
        self.shared.set_peers(peers);
        self.listeners.retain(|address, _| wanted.contains_key(address));
        for listener in self.listeners.values_mut() {
            if let Some(spec) = wanted.remove(&listener.address()) {
                listener.set_spec(spec);
            }
        }
        for (address, spec) in wanted {
            self.listeners.insert(address, Listener::start(address, spec, &self.shared));
        }
    }

    /// Begins to connect: `TransportConnected` or `TransportFailed` follows.
    pub fn connect(&mut self, peer: PeerId, conn: ConnId) {
        self.shared.connect(peer, conn);
    }

    /// Closes a connection, or gives up connecting; nothing more is told of it but what is in the queue already.
    ///
    /// In the background `last_words` go out behind what is not yet written, if TCP takes them within 1.5 s, and the end
    /// waits up to a second for the peer to close too; see [`BgpEdge::finish`].
    pub fn close(&mut self, peer: PeerId, conn: ConnId, last_words: Vec<u8>) {
        while self.farewells.try_join_next().is_some() {}
        if let Some(live) = self.shared.remove(peer, conn) {
            self.farewells.spawn(farewell::farewell(live, last_words));
        }
    }

    /// Writes octets that `fetch(limit, buffer)` appends, until it gives none or TCP takes no more, but at most about
    /// 4 MiB; if it stopped early, one [`BgpNews::Writable`] follows when it can go on.
    ///
    /// All that was written on the connection so far, if that grew: tell it as [`PeerEvent::Written`].
    pub fn pump(
        &mut self,
        peer: PeerId,
        conn: ConnId,
        fetch: &mut dyn FnMut(usize, &mut Vec<u8>) -> usize,
    ) -> Option<u64> {
        self.shared.live(peer, conn)?.pump(&mut self.spare, fetch)
    }

    /// Waits until every connection that was closed has said its last words, or for `limit`: before the process ends.
    pub async fn finish(&mut self, limit: Duration) {
        let all = async { while self.farewells.join_next().await.is_some() {} };
        // Those that are not done are cut off; the limit is the caller's wish.
        let _ = timeout(limit, all).await;
    }

    /// Where it listens, or why it cannot.
    pub fn listeners(&self) -> Vec<(SocketAddr, Option<String>)> {
        let mut all: Vec<_> =
            self.listeners.values().map(|listener| (listener.address(), listener.error())).collect();
        all.sort();
        all
    }

    /// Connections from addresses of no peer, all so far; they were closed at once.
    pub fn strangers(&self) -> u64 {
        self.shared.strangers()
    }
}

/// One listener for each local address and port; but where any peer of a port has no local address, one for all of its
/// family: Linux lets nobody listen at an address beside the wildcard.
fn listeners_for(peers: &[(PeerId, Arc<Bgp>)]) -> HashMap<SocketAddr, Spec> {
    let same = |one: &PeerConfig, other: &PeerConfig| {
        one.port == other.port && one.peer.is_ipv4() == other.peer.is_ipv4()
    };
    let mut wanted: HashMap<SocketAddr, Spec> = HashMap::new();
    for (_, peer) in peers {
        let cfg = &peer.session;
        let any = peers.iter().any(|(_, o)| o.session.local_address.is_none() && same(cfg, &o.session));
        let address = cfg.local_address.filter(|_| !any).unwrap_or(match cfg.peer {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        wanted.entry(SocketAddr::new(address, cfg.port)).or_default().add(peer);
    }
    wanted
}

/// A lock that a panic elsewhere does not make useless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
