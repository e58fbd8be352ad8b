//! BFD on sockets: one thread of its own that owns the clock and the two ports, and runs the pure
//! [`Speaker`](crate::bfd::Speaker).
//!
//! A timer of the async runtime has a floor of a millisecond and slips by tens of them on a busy machine; that is more
//! than a detection time. So the thread waits in `poll` on a timerfd, under SCHED_FIFO where it is allowed to, and does
//! nothing but this. It shares three things with the rest: a mailbox with the sessions that are wanted (the newest list
//! replaces one that was not taken yet, so it is bounded by nature), the bounded queue of the core's events (what does not
//! fit is kept here, per session only the newest, and tried again), and a board for the status, which it never waits for.
//!
//! - [`thread`](self): what the loop does, in which order;
//! - `link`: a session's own socket (RFC 5881 section 4: a source port of its own, TTL 255);
//! - `port`: the receiving sockets, with the kernel's time of arrival, TTL and drop counter of each packet;
//! - `sieve`: what is from none of our neighbours, and from too far away, finds no room in them;
//! - `own_link`: whether a silence can be our own link's;
//! - `priority`: SCHED_FIFO, or the next best thing.

mod link;
mod own_link;
mod port;
mod priority;
mod sieve;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::announcer::Event;
use crate::bfd::{SessionConfig, SessionId, SessionStatus};
use crate::status::{BfdDetail, Status};

/// What is wanted of the thread; it takes all of it at once.
#[derive(Debug, Default)]
struct Mail {
    /// These are the sessions from now on.
    sessions: Option<Vec<(SessionId, SessionConfig)>>,
    /// These neighbours are to be asked for a sign of life.
    verify: BTreeSet<SessionId>,
    /// Tell the neighbours, and end.
    stop: bool,
}

/// What the thread shows.
type Board = BTreeMap<SessionId, SessionStatus>;

/// What both sides hold.
#[derive(Debug, Default)]
struct Shared {
    mail: Mutex<Mail>,
    board: Mutex<Board>,
}

/// The driver's end of the thread, which begins with the first session.
#[derive(Debug)]
pub struct BfdEdge {
    shared: Arc<Shared>,
    events: Sender<Event>,
    thread: Option<(JoinHandle<()>, UnixStream)>,
}

impl BfdEdge {
    /// No session yet. News go to `events`.
    pub fn new(events: Sender<Event>) -> Self {
        BfdEdge { shared: Arc::default(), events, thread: None }
    }

    /// These are the sessions from now on: new ones begin, changed ones change by a Poll Sequence, others say AdminDown.
    pub fn set_sessions(&mut self, sessions: Vec<(SessionId, SessionConfig)>) {
        if self.thread.is_none() && sessions.is_empty() {
            return;
        }
        lock(&self.shared.mail).sessions = Some(sessions);
        self.wake();
    }

    /// Asks the neighbour for a sign of life; see [`News::Verified`](crate::bfd::News::Verified).
    pub fn verify(&mut self, id: SessionId) {
        lock(&self.shared.mail).verify.insert(id);
        self.wake();
    }

    /// What the sessions are like, to be read elsewhere.
    pub fn board(&self) -> BfdBoard {
        BfdBoard(self.shared.clone())
    }

    /// Tells every neighbour AdminDown (RFC 5882 section 3.2: so that ours is no failure of theirs), and ends the thread.
    pub fn finish(self) {
        let Some((thread, mut bell)) = self.thread else { return };
        lock(&self.shared.mail).stop = true;
        let _ = bell.write(&[1]);
        let deadline = std::time::Instant::now() + Duration::from_millis(500);
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wake(&mut self) {
        if self.thread.is_none() {
            match thread::spawn(self.shared.clone(), self.events.clone()) {
                Ok(started) => self.thread = Some(started),
                Err(e) => {
                    tracing::error!("the BFD thread cannot be started: {e}");
                    return;
                }
            }
        }
        if let Some((_, bell)) = &mut self.thread {
            // A full pipe has woken it already.
            let _ = bell.write(&[1]);
        }
    }
}

/// What the sessions are like, or were within the last second.
#[derive(Clone, Debug)]
pub struct BfdBoard(Arc<Shared>);

impl BfdBoard {
    /// Adds it.
    pub fn fill(&self, status: &mut Status) {
        let board = lock(&self.0.board);
        for row in &mut status.bfd {
            row.detail = board.get(&SessionId(row.id)).map(BfdDetail::new);
        }
    }
}

/// Nobody panics with one of these locks held; if somebody did, what is in it is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
