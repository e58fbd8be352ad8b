//! What the driver and the tasks both know: the peers and their connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::connection::Live;
use super::{BgpNews, dial, lock, transport};
use crate::announcer::event::PeerId;
use crate::bgp::{ConnId, Origin, PeerEvent};
use crate::config::model::Bgp;

/// Connections that one peer may have opened to us at a time: two meet in a collision, one more replaces a dead one.
const MAX_INCOMING: usize = 4;

/// A connection, or a try at one. Dropped, its task ends.
struct Entry {
    live: Option<Arc<Live>>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct State {
    peers: Vec<(PeerId, Arc<Bgp>)>,
    connections: HashMap<(PeerId, ConnId), Entry>,
    next_incoming: u64,
    strangers: u64,
}

/// Shared by the edge and its tasks; nobody holds the lock across an await.
pub(super) struct Shared {
    news: Sender<BgpNews>,
    state: Mutex<State>,
}

impl Shared {
    pub fn new(news: Sender<BgpNews>) -> Self {
        Shared { news, state: Mutex::default() }
    }

    /// These are the peers from now on; connections of others are dropped.
    pub fn set_peers(&self, peers: Vec<(PeerId, Arc<Bgp>)>) {
        let mut state = lock(&self.state);
        state.connections.retain(|(of, _), _| peers.iter().any(|(id, _)| id == of));
        state.peers = peers;
    }

    pub fn live(&self, peer: PeerId, conn: ConnId) -> Option<Arc<Live>> {
        lock(&self.state).connections.get(&(peer, conn)).and_then(|entry| entry.live.clone())
    }

    /// Its task ends; what there was of it.
    pub fn remove(&self, peer: PeerId, conn: ConnId) -> Option<Arc<Live>> {
        lock(&self.state).connections.remove(&(peer, conn)).and_then(|mut entry| entry.live.take())
    }

    /// Connections from addresses of no peer, all so far.
    pub fn strangers(&self) -> u64 {
        lock(&self.state).strangers
    }

    async fn tell(&self, peer: PeerId, event: PeerEvent) {
        // The receiver goes when the daemon does.
        let _ = self.news.send(BgpNews::Event(peer, event)).await;
    }

    /// Begins to connect.
    pub fn connect(self: &Arc<Self>, peer: PeerId, conn: ConnId) {
        let mut state = lock(&self.state);
        let Some(cfg) = state.peers.iter().find(|(id, _)| *id == peer).map(|(_, cfg)| Arc::clone(cfg)) else {
            return;
        };
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            match dial::dial(&cfg).await {
                Ok(stream) => shared.connected(peer, conn, stream, &cfg).await,
                Err(reason) => shared.failed(peer, conn, reason).await,
            }
        });
        state.connections.insert((peer, conn), Entry { live: None, task: task.abort_handle() });
    }

    async fn failed(&self, peer: PeerId, conn: ConnId, reason: String) {
        // Not `remove`: that would end this task.
        if let Some(entry) = lock(&self.state).connections.get_mut(&(peer, conn)) {
            entry.live = None;
        }
        self.tell(peer, PeerEvent::TransportFailed { conn, reason }).await;
        self.remove(peer, conn);
    }

    async fn connected(&self, peer: PeerId, conn: ConnId, stream: TcpStream, cfg: &Bgp) {
        let local = match stream.local_addr() {
            Ok(local) => local,
            Err(error) => return self.failed(peer, conn, error.to_string()).await,
        };
        let live = Arc::new(Live::new(stream, transport::patience(&cfg.session)));
        match lock(&self.state).connections.get_mut(&(peer, conn)) {
            Some(entry) => entry.live = Some(Arc::clone(&live)),
            None => return,
        }
        self.tell(peer, PeerEvent::TransportConnected { conn, local }).await;
        self.watch(peer, conn, &live).await;
    }

    async fn watch(&self, peer: PeerId, conn: ConnId, live: &Live) {
        if let Some(reason) = live.watch(peer, conn, &self.news).await {
            self.tell(peer, PeerEvent::Closed { conn, reason }).await;
        }
    }

    /// A connection came in; it is closed if it is no peer's.
    ///
    /// # Errors
    ///
    /// Why it is closed, in words.
    pub fn accepted(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        syn_ttl: Option<u8>,
    ) -> Result<(), String> {
        let local = stream.local_addr().map_err(|error| error.to_string())?;
        let mut state = lock(&self.state);
        let Some((peer, cfg)) = find(&state.peers, remote.ip(), local.ip()) else {
            state.strangers += 1;
            return Err(format!("{} is no configured peer", remote.ip()));
        };
        // RFC 5082 section 3. A listener for peers with and without GTSM cannot leave this to the kernel.
        let least = transport::min_ttl(&cfg.session);
        if let Some(ttl) = syn_ttl.filter(|ttl| *ttl < least) {
            return Err(format!("{}: came with TTL {ttl}, ttl_security needs {least}", cfg.session.name));
        }
        let of_peer = |(id, conn): &&(PeerId, ConnId)| *id == peer && conn.origin == Origin::Incoming;
        if state.connections.keys().filter(of_peer).count() >= MAX_INCOMING {
            return Err(format!("{}: {MAX_INCOMING} connections from it are open already", cfg.session.name));
        }
        transport::prepare(&stream, &cfg).map_err(|error| format!("{}: {error}", cfg.session.name))?;
        let conn = ConnId { origin: Origin::Incoming, serial: state.next_incoming };
        state.next_incoming += 1;
        let live = Arc::new(Live::new(stream, transport::patience(&cfg.session)));
        let (shared, own) = (Arc::clone(self), Arc::clone(&live));
        let task = tokio::spawn(async move {
            // So that the driver's first write need not wait for the reactor.
            let _ = own.stream.writable().await;
            shared.tell(peer, PeerEvent::TransportAccepted { conn, local }).await;
            shared.watch(peer, conn, &own).await;
        });
        state.connections.insert((peer, conn), Entry { live: Some(live), task: task.abort_handle() });
        Ok(())
    }
}

/// The peer at `remote` that may be spoken to from `local`. Of two, a reload replaced the earlier one, which is about to
/// close: it would turn the connection away with Administrative Shutdown, and the other side would stay away for long.
fn find(peers: &[(PeerId, Arc<Bgp>)], remote: IpAddr, local: IpAddr) -> Option<(PeerId, Arc<Bgp>)> {
    let matches = |cfg: &Bgp| {
        cfg.session.peer == remote && cfg.session.local_address.is_none_or(|address| address == local)
    };
    peers.iter().rfind(|(_, cfg)| matches(cfg)).map(|(id, cfg)| (*id, Arc::clone(cfg)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::PeerConfig;
    use crate::net::{Asn, RouterId};

    #[test]
    fn who_connects_meets_the_peer_that_stays() {
        let address = |last: u8| IpAddr::from([203, 0, 113, last]);
        let peer = |id: u32, last: u8, local: Option<u8>| {
            let router_id = RouterId([203, 0, 113, 2].into());
            let mut session = PeerConfig::new("isp", address(last), Asn(64500), Asn(64501), router_id);
            session.local_address = local.map(address);
            (PeerId(id), Arc::new(Bgp { session, password: None, bfd: None }))
        };
        let peers = [peer(1, 1, None), peer(2, 9, None), peer(3, 1, Some(2))];
        let found = |remote, local| find(&peers, address(remote), address(local)).map(|(id, _)| id.0);
        assert_eq!(found(1, 2), Some(3), "replaced by a reload");
        assert_eq!(found(1, 3), Some(1), "the new one is not spoken to from there");
        assert_eq!((found(9, 2), found(8, 2)), (Some(2), None));
    }
}
