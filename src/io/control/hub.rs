//! What the driver and the connections share: questions without an answer yet, and followers.
//!
//! Nothing here waits: the driver answers and publishes without ever depending on a client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::protocol::{ErrorKind, Line, Refusal, Topic};
use super::{ControlGroup, ControlRequest};
use crate::announcer::event::RequestId;

/// Lines that wait for a follower; one that lags further behind is dropped. Above the journal's length, so that
/// even all instances changing state at once fit.
pub(super) const FOLLOWER_QUEUE: usize = 4096;

/// Makes the answer's line. Called where it may take its time: a picture of thousands of checks is large.
pub(super) type Render = Box<dyn FnOnce() -> Vec<u8> + Send>;

pub(super) struct Hub {
    inner: Mutex<Inner>,
    next: AtomicU64,
    stopping: watch::Sender<bool>,
    pub(super) requests: mpsc::Sender<ControlRequest>,
}

struct Inner {
    group: ControlGroup,
    pending: HashMap<RequestId, Pending>,
    followers: Vec<Follower>,
}

struct Pending {
    answer: oneshot::Sender<Render>,
    follower: Option<Follower>,
}

struct Follower {
    topic: Topic,
    lines: mpsc::Sender<Arc<[u8]>>,
    last: oneshot::Sender<Line>,
}

/// The client's end of a question. Dropped: nobody waits for the answer any more.
pub(super) struct Waiting {
    hub: Arc<Hub>,
    pub(super) id: RequestId,
    pub(super) answer: oneshot::Receiver<Render>,
    /// For a follower.
    pub(super) stream: Option<Stream>,
}

/// What a follower gets after the answer.
pub(super) struct Stream {
    pub(super) lines: mpsc::Receiver<Arc<[u8]>>,
    /// Why it ended, once `lines` has.
    pub(super) last: oneshot::Receiver<Line>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.hub.lock().pending.remove(&self.id);
    }
}

impl Hub {
    pub(super) fn new(group: ControlGroup, requests: mpsc::Sender<ControlRequest>) -> Self {
        let inner = Inner { group, pending: HashMap::new(), followers: Vec::new() };
        Hub {
            inner: Mutex::new(inner),
            next: AtomicU64::new(1),
            stopping: watch::Sender::new(false),
            requests,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves these maps whole: go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn group(&self) -> ControlGroup {
        self.lock().group.clone()
    }

    pub(super) fn set_group(&self, group: ControlGroup) {
        self.lock().group = group;
    }

    /// Ends when [`Hub::stop`] has been called.
    pub(super) async fn stopped(&self) {
        // Cannot fail: the sender lives in self.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Registers a question; None once the daemon is stopping.
    pub(super) fn ask(self: &Arc<Self>, follow: Option<Topic>) -> Option<Waiting> {
        let id = RequestId(self.next.fetch_add(1, Relaxed));
        let (answer, answered) = oneshot::channel();
        let (follower, stream) = follow.map_or((None, None), Follower::new);
        let mut inner = self.lock();
        if *self.stopping.borrow() {
            return None;
        }
        inner.pending.insert(id, Pending { answer, follower });
        Some(Waiting { hub: Arc::clone(self), id, answer: answered, stream })
    }

    /// Answers a question. A follower is a follower from here on: it gets what is published next, no more, no less.
    pub(super) fn reply(&self, id: RequestId, refused: bool, render: Render) {
        let mut inner = self.lock();
        let Some(Pending { answer, follower }) = inner.pending.remove(&id) else {
            return; // the client did not wait
        };
        if answer.send(render).is_ok() && !refused {
            inner.followers.retain(|f| !f.lines.is_closed());
            inner.followers.extend(follower);
        }
    }

    /// Tells every follower of that topic; one that does not keep up is dropped. False if there is none (left).
    pub(super) fn publish(&self, topic: Topic, line: impl FnOnce() -> Line) -> bool {
        let mut inner = self.lock();
        if !inner.followers.iter().any(|f| f.topic == topic) {
            return false;
        }
        let line: Arc<[u8]> = render(&line()).into();
        let followers = std::mem::take(&mut inner.followers);
        let told = |f: Follower| if f.topic == topic { f.send(&line) } else { Some(f) };
        inner.followers = followers.into_iter().filter_map(told).collect();
        inner.followers.iter().any(|f| f.topic == topic)
    }

    /// Ends every stream and leaves every question without an answer.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        self.stopping.send_replace(true);
        inner.pending.clear();
        for follower in inner.followers.drain(..) {
            // A client that has gone needs no last word.
            let _ = follower.last.send(Line::End("announcerd is stopping".to_owned()));
        }
    }
}

impl Follower {
    fn new(topic: Topic) -> (Option<Follower>, Option<Stream>) {
        let (lines, their_lines) = mpsc::channel(FOLLOWER_QUEUE);
        let (last, their_last) = oneshot::channel();
        (Some(Follower { topic, lines, last }), Some(Stream { lines: their_lines, last: their_last }))
    }

    fn send(self, line: &Arc<[u8]>) -> Option<Self> {
        match self.lines.try_send(Arc::clone(line)) {
            Ok(()) => Some(self),
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let behind = match self.topic {
                    Topic::Events => "events behind; ask again with a higher `after`",
                    Topic::Probes | Topic::Drill => "results behind",
                };
                let error = format!("dropped: this client fell more than {FOLLOWER_QUEUE} {behind}");
                let _ = self.last.send(Line::Error { error, kind: ErrorKind::Failed });
                None
            }
        }
    }
}

/// A line with its newline.
pub(super) fn render(line: &Line) -> Vec<u8> {
    // These types hold nothing that JSON cannot: no map with other keys than texts.
    let mut text = serde_json::to_vec(line).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}").into_bytes());
    text.push(b'\n');
    text
}

/// The line of an error.
pub(super) fn render_refusal(refusal: &Refusal) -> Vec<u8> {
    render(&Line::Error { error: refusal.error.clone(), kind: refusal.kind })
}
