//! The control socket: how `announcerctl`, scripts and monitors talk to the daemon.
//!
//! # Protocol
//!
//! A Unix stream socket (default `/run/announcerd/control.sock`). The client sends one JSON object a line, at most
//! 64 KiB; the daemon answers each with one line, in order. Everyone may read; what changes state needs root, the daemon's
//! own user, or a member of `[node] control_group`.
//!
//! | request | answer |
//! | --- | --- |
//! | `{"command":"status"}` | [`Status`](crate::status::Status) |
//! | `{"command":"explain","instance":NAME}` | `{"text":[LINE, ...]}` |
//! | `{"command":"events","after":SEQ,"follow":BOOL}` (both may be left out) | list of [`EventStatus`] |
//! | `{"command":"force","instance":NAME,"state":"master"\|"backup","for":"1h"}` (`for` may be left out) | text |
//! | `{"command":"auto","instance":NAME}` | text |
//! | `{"command":"failback","instance":NAME,"reset_flaps":BOOL}` | text |
//! | `{"command":"reload"}` | text: what changed |
//! | `{"command":"probes"}` | text, then `{"probe":PROBE}` lines: every result from now on |
//! | `{"command":"drill","instance":NAME,"hold":"10s","dry_run":BOOL}` | text, then `{"drill":NEWS}` lines until one with `"done":true` |
//!
//! The answer is `{"ok":ANSWER}`, or `{"error":TEXT,"kind":KIND}` with KIND `failed`, `denied` or `config`.
//!
//! With `"follow":true` the answer is followed by `{"event":EVENT}` lines: nothing is lost or told twice between the two. The
//! same `seq` again means the same transition with more of its timeline. The stream ends with `{"end":TEXT}` when the daemon
//! stops, or with an `error` line when the client does not keep up. A connection that follows takes no further requests, and
//! ends when the client closes its sending side.
//!
//! A drill lives as long as the connection that asked for it: when that ends, for whatever reason, it hands back.
//!
//! # Bounds
//!
//! 64 connections, 16 of them for root alone, so that nobody locks the operator out; a minute of silence, ten seconds
//! of not reading, ten seconds for an answer (a minute for a reload), 4,096 events behind. The driver never waits for a client.

mod access;
mod connection;
mod hub;
pub mod protocol;
mod socket;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

pub use access::{ControlGroup, Peer};
pub use protocol::{Ask, Refusal};
pub use socket::{ControlError, somebody_listens};

use crate::announcer::event::RequestId;
use crate::status::{DrillStatus, EventStatus, ProbeStatus};
use hub::{Hub, render_refusal};
use protocol::{Line, Topic};
use socket::SocketFile;

/// The driver has this long to answer; then the client is told that it does not.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a reload, which reads and checks files.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections at once…
const CONNECTIONS: usize = 64;
/// …of which so many are kept free for root and the daemon's own user.
const RESERVED: usize = 16;
/// Questions that wait for the driver; further clients wait before they have asked.
const QUESTIONS: usize = 64;

/// A client's question, for the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlRequest {
    /// Goes with the answer.
    pub id: RequestId,
    /// What is asked.
    pub ask: Ask,
    /// What the log is to say of it, once it is done: waking the log's thread first would delay what is asked.
    pub said: Option<String>,
}

/// The server: the driver's end of the control socket.
pub struct Control {
    hub: Arc<Hub>,
    requests: mpsc::Receiver<ControlRequest>,
    server: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Control {
    /// Listens at `path` and serves; needs a tokio runtime. A dead daemon's socket is replaced, a living one's never.
    pub fn bind(path: &Path, group: ControlGroup) -> Result<Self, ControlError> {
        let (listener, file) = socket::listen(path)?;
        let (ask, requests) = mpsc::channel(QUESTIONS);
        let hub = Arc::new(Hub::new(group, ask));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, file, Arc::clone(&hub), stopped));
        Ok(Control { hub, requests, server, stop: Some(stop) })
    }

    /// The next question. Cancel safe.
    pub async fn next(&mut self) -> ControlRequest {
        match self.requests.recv().await {
            Some(request) => request,
            // Cannot be while the hub holds the other end; if it could, nobody would ever ask again.
            None => std::future::pending().await,
        }
    }

    /// A question that has arrived already.
    pub fn try_next(&mut self) -> Option<ControlRequest> {
        self.requests.try_recv().ok()
    }

    /// Answers a question; a second answer, or one that comes too late, goes nowhere. Never blocks: the answer is
    /// made by what is given here, and turned into JSON, elsewhere.
    pub fn reply<T, E>(&self, id: RequestId, answer: Result<impl FnOnce() -> T + Send + 'static, E>)
    where
        T: Serialize,
        E: Into<Refusal>,
    {
        match answer {
            Ok(answer) => self.hub.reply(id, false, Box::new(move || render_ok(&answer()))),
            Err(refusal) => {
                let line = render_refusal(&refusal.into());
                self.hub.reply(id, true, Box::new(move || line));
            }
        }
    }

    /// Tells all followers of a transition, or of more of its timeline. Never blocks.
    pub fn publish(&self, event: &EventStatus) {
        self.hub.publish(Topic::Events, || Line::Event(Box::new(event.clone())));
    }

    /// Tells those who follow probes of a result. False if nobody does. Never blocks.
    pub fn publish_probe(&self, probe: impl FnOnce() -> ProbeStatus) -> bool {
        self.hub.publish(Topic::Probes, || Line::Probe(Box::new(probe())))
    }

    /// Tells whoever asked for the drill how it goes on. Never blocks.
    pub fn publish_drill(&self, news: DrillStatus) {
        self.hub.publish(Topic::Drill, || Line::Drill(Box::new(news)));
    }

    /// A new `control_group`, after a reload.
    pub fn set_group(&self, group: ControlGroup) {
        self.hub.set_group(group);
    }

    /// Tells the clients that this is the end, removes the socket, and waits for them at most `bound`.
    pub async fn close(mut self, bound: Duration) {
        self.hub.stop();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // a server that is gone has stopped
        }
        let _ = tokio::time::timeout(bound, &mut self.server).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort(); // and with it the connections and the socket file
    }
}

fn render_ok<T: Serialize>(answer: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        ok: &'a T,
    }
    match serde_json::to_vec(&Answer { ok: answer }) {
        Ok(mut line) => {
            line.push(b'\n');
            line
        }
        Err(e) => render_refusal(&Refusal::from(format!("the answer cannot be told in JSON: {e}"))),
    }
}

/// Accepts until told to stop; then waits for the connections to end.
async fn serve(listener: UnixListener, file: SocketFile, hub: Arc<Hub>, mut stop: oneshot::Receiver<()>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &hub, &mut clients),
                Err(e) => {
                    // Out of descriptors, most likely: a pause lets some come back.
                    tracing::warn!("control socket: cannot accept: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
    drop(file);
    drop(listener);
    while clients.join_next().await.is_some() {}
}

fn admit(stream: UnixStream, hub: &Arc<Hub>, clients: &mut JoinSet<()>) {
    let Ok(cred) = stream.peer_cred() else {
        return connection::turn_away(&stream, "the kernel does not say who you are");
    };
    let peer = Peer { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() };
    let limit = if peer.is_ours() { CONNECTIONS } else { CONNECTIONS - RESERVED };
    if clients.len() >= limit {
        return connection::turn_away(&stream, "too many connections to the control socket; try again later");
    }
    clients.spawn(connection::serve(stream, peer, Arc::clone(hub)));
}
