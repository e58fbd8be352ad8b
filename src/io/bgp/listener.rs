//! One listening socket: opened, tried again, kept up with the configuration.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::shared::Shared;
use super::{lock, sockopt, transport, words};
use crate::bgp::PeerConfig;
use crate::config::model::{Bgp, Secret};

/// Connections that wait for us.
const BACKLOG: i32 = 64;
/// Between two tries to open the socket: at first, at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Connections taken in one period, so that a flood does not take the processor from the sessions.
const ACCEPTS: (u32, Duration) = (200, Duration::from_secs(1));
/// One line in the log for all connections that were turned away in this time.
const QUIET: Duration = Duration::from_secs(10);
/// After an error of accept(2), no descriptor left among them.
const PAUSE: Duration = Duration::from_millis(200);

/// What the peers of a listener need of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Spec {
    keys: HashMap<IpAddr, Secret>,
    /// The greatest of the peers': one SYN-ACK's TTL for all.
    ttl: u8,
    /// The least of the peers': what fits them all can be left to the kernel.
    min_ttl: Option<u8>,
}

impl Spec {
    pub fn add(&mut self, peer: &Bgp) {
        let cfg: &PeerConfig = &peer.session;
        if let Some(key) = &peer.password {
            // Of two with one address the earlier one is closing: a reload gave the peer another key.
            self.keys.insert(cfg.peer, key.clone());
        }
        self.ttl = self.ttl.max(transport::ttl(cfg));
        let least = transport::min_ttl(cfg);
        self.min_ttl = Some(self.min_ttl.map_or(least, |other| other.min(least)));
    }

    /// Makes a socket that fits `old` fit this.
    fn apply(&self, old: &Spec, socket: &Socket, v6: bool) -> io::Result<()> {
        for peer in old.keys.keys().filter(|peer| !self.keys.contains_key(peer)) {
            sockopt::set_md5_key(socket, *peer, &[])?;
        }
        for (peer, key) in self.keys.iter().filter(|(peer, key)| old.keys.get(peer) != Some(key)) {
            sockopt::set_md5_key(socket, *peer, &key.0)?;
        }
        transport::mark(socket, v6, self.ttl)?;
        sockopt::set_min_ttl(socket, v6, self.min_ttl.unwrap_or(0))
    }
}

/// Where the listener stands.
#[derive(Default)]
struct State {
    spec: Spec,
    /// A second descriptor of the socket, for its options.
    socket: Option<Socket>,
    error: Option<String>,
}

/// Dropped, nobody listens any more.
pub(super) struct Listener {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Listener {
    /// Listens at once, or as soon as it can.
    pub fn start(address: SocketAddr, spec: Spec, shared: &Arc<Shared>) -> Self {
        let state = Arc::new(Mutex::new(State { spec, ..State::default() }));
        let first = open(address, &state);
        let task = tokio::spawn(keep_listening(address, Arc::clone(&state), first, Arc::clone(shared)));
        Listener { address, state, task, shared: Arc::clone(shared) }
    }

    /// Its peers changed.
    pub fn set_spec(&mut self, spec: Spec) {
        let mut state = lock(&self.state);
        let old = std::mem::replace(&mut state.spec, spec);
        let Some(socket) = &state.socket else { return };
        if let Err(error) = state.spec.apply(&old, socket, self.address.is_ipv6()) {
            tracing::warn!("{}", words::deaf(&error, self.address));
            // Better deaf than without the key that was asked for.
            let spec = std::mem::take(&mut state.spec);
            drop(state);
            self.stop();
            *self = Listener::start(self.address, spec, &self.shared);
        }
    }

    /// Why nobody can connect, if so.
    pub fn error(&self) -> Option<String> {
        lock(&self.state).error.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn stop(&self) {
        self.task.abort();
        // The task's end closes it, but somebody may want the port before.
        if let Some(socket) = lock(&self.state).socket.take() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Opens the socket; the state has it too, or the reason why not.
fn open(address: SocketAddr, state: &Mutex<State>) -> Option<TcpListener> {
    let mut state = lock(state);
    match bind(address, &state.spec).and_then(|socket| {
        let listener = TcpListener::from_std(socket.try_clone()?.into())?;
        Ok((socket, listener))
    }) {
        Ok((socket, listener)) => {
            if state.error.take().is_some() {
                tracing::info!("listening at {address}");
            }
            state.socket = Some(socket);
            Some(listener)
        }
        Err(error) => {
            let words = words::deaf(&error, address);
            if state.error.as_ref() != Some(&words) {
                tracing::warn!("{words}; sessions that we open work all the same; it is tried again");
            }
            state.error = Some(words);
            None
        }
    }
}

fn bind(address: SocketAddr, spec: &Spec) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // Before it listens: no SYN must find it without its keys.
    spec.apply(&Spec::default(), &socket, address.is_ipv6())?;
    sockopt::save_syn(&socket)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

async fn keep_listening(
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    first: Option<TcpListener>,
    shared: Arc<Shared>,
) {
    let (mut listener, mut wait) = (first, RETRY.0);
    let listener = loop {
        if let Some(listener) = listener {
            break listener;
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
        listener = open(address, &state);
    };
    accept(&listener, &shared).await;
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut turned_away = TurnedAway::default();
    let (mut period, mut taken) = (Instant::now(), 0);
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let ttl = sockopt::syn_ttl(&stream).unwrap_or(None);
                if let Err(reason) = shared.accepted(stream, remote, ttl) {
                    turned_away.note(&reason);
                }
            }
            Err(error) => {
                turned_away.note(&format!("accepting: {error}"));
                sleep(PAUSE).await;
            }
        }
        taken += 1;
        if period.elapsed() >= ACCEPTS.1 {
            (period, taken) = (Instant::now(), 0);
        } else if taken >= ACCEPTS.0 {
            sleep_until(period + ACCEPTS.1).await;
        }
    }
}

/// Connections that were turned away since the last line about them.
#[derive(Default)]
struct TurnedAway {
    said: Option<Instant>,
    unsaid: u64,
}

impl TurnedAway {
    fn note(&mut self, reason: &str) {
        if self.said.is_some_and(|at| at.elapsed() < QUIET) {
            self.unsaid += 1;
            return;
        }
        let others = std::mem::take(&mut self.unsaid);
        tracing::warn!(
            "a BGP connection was turned away: {reason} (and {others} others since the last such line)"
        );
        self.said = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Asn, RouterId};

    #[test]
    fn a_reload_with_another_key_does_not_wait_for_the_old_session() {
        let address: IpAddr = [203, 0, 113, 1].into();
        let router_id = RouterId([203, 0, 113, 2].into());
        let session = PeerConfig::new("isp", address, Asn(64500), Asn(64501), router_id);
        let mut spec = Spec::default();
        for key in ["old", "new"] {
            let password = Some(Secret(key.into()));
            spec.add(&Bgp { session: session.clone(), password, bfd: None });
        }
        assert!(spec.keys.get(&address).is_some_and(|key| key.0 == *b"new"));
    }
}
