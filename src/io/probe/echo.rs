//! ICMP sockets, and the echo requests that leave through them.
//!
//! One socket of surge-ping's for each (family, source, device, mark), shared by all checks that agree in them, with one
//! task that reads it. surge-ping makes the socket and reads the packets; which request an answer is for, and what it
//! means, is judged here: surge-ping's own client reports ICMP errors as if they were replies, and costs a timer, a channel
//! and a future for each of a thousand requests a second.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockRef, Type};
use surge_ping::{AsyncSocket, Config, ICMP};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Fault;
use super::deadline::late;
use super::icmp::{self, Queue};
use super::patience::{Patience, Waiting};
use super::requests::{Hear, Lost, Request, Requests, key};
use super::target::cannot;
use crate::announcer::event::ProbeId;
use crate::config::model::Origin;
use crate::io::child::words;
use crate::net::{Family, family_of};

/// Holds the replies of tens of thousands of targets; the default loses some of a thousand that answer at once.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Turns of the runtime that a reply which is already in the receive queue gets after the deadline. The receiving task
/// reads some hundred packets in each.
const EXTRA_TURNS: usize = 256;
/// How old the count of lost packets may be that a request goes by. What was lost in that time before it was sent counts
/// against it too: its silence then says nothing.
const COUNTED: Duration = Duration::from_millis(100);

/// Open sockets.
#[derive(Debug)]
pub struct Sockets {
    open: Mutex<HashMap<(Family, Origin), Arc<Echo>>>,
    /// Identifiers and sequence numbers are 32 bits for all sockets together, because a raw socket sees the answers to all of
    /// them. They begin anywhere, so that two daemons, or two runs, do not meet.
    first: u32,
    /// Requests of probes with several of them.
    next: AtomicU32,
    warned: AtomicBool,
    patience: Patience<Pending>,
}

impl Default for Sockets {
    fn default() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Sockets {
            open: Mutex::default(),
            first: random as u32,
            next: AtomicU32::new(0),
            warned: AtomicBool::new(false),
            patience: Patience::default(),
        }
    }
}

impl Sockets {
    /// The socket for that target and origin; opened if it is not yet.
    ///
    /// # Errors
    /// [`Fault::Ours`], with what the kernel refused.
    pub fn get(&self, to: IpAddr, origin: &Origin) -> Result<Arc<Echo>, Fault> {
        let key = (family_of(to), origin.clone());
        let mut open = self.lock();
        if let Some(echo) = open.get(&key) {
            return Ok(echo.clone());
        }
        let echo = Arc::new(self.open(key.0, origin)?);
        open.insert(key, echo.clone());
        Ok(echo)
    }

    /// Closes every socket but those of these origins.
    pub fn retain(&self, live: &HashSet<&Origin>) {
        self.lock().retain(|(_, origin), _| live.contains(origin));
    }

    /// Sends one echo request and waits for what comes back; it never ends before `asked.deadline` if nothing does.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn ask(&self, echo: &Arc<Echo>, asked: Asked) -> Result<Duration, Lost> {
        let (sender, answer) = oneshot::channel();
        self.send(echo, asked, Box::new(move |result| drop(sender.send(result))));
        answer.await.unwrap_or_else(|_| Err(Lost::Blind("the socket was closed".to_owned())))
    }

    /// Sends one echo request; `hear` is called once with what comes back, perhaps at once, unless it is cancelled.
    pub fn send(&self, echo: &Arc<Echo>, asked: Asked, hear: Hear) {
        let (ident, sequence) = self.number(asked.probe);
        let mut packet = icmp::echo_request(family_of(asked.to), ident, sequence, asked.size);
        let key = key(echo.socket.get_type(), ident, sequence);
        let before = echo.recent_queue();
        let request = Request { asked, sent: Instant::now(), before, hear };
        if let Err(request) = echo.requests.insert(key, request) {
            return (request.hear)(Err(Lost::Blind("too many pings are under way".to_owned())));
        }
        let to = SocketAddr::new(asked.to, 0);
        match echo.with(|socket| SockRef::from(&socket).send_to(&packet, &to.into())) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let echo = echo.clone();
                tokio::spawn(async move {
                    match echo.socket.send_to(&mut packet, &to).await {
                        Ok(_) => echo.requests.sent_now(key),
                        Err(e) => echo.requests.end(key, |_| Err(unsent(to.ip(), &e))),
                    }
                });
            }
            Err(e) => {
                self.forget_dead(echo, &e);
                return echo.requests.end(key, |_| Err(unsent(asked.to, &e)));
            }
        }
        self.patience.add(asked.deadline, Pending { echo: echo.clone(), key });
    }

    /// Nobody hears of the answer to that probe's request any more.
    pub fn cancel(&self, probe: ProbeId) {
        let (ident, sequence) = self.number(Some(probe));
        let open = self.lock();
        let of = |echo: &Arc<Echo>| echo.requests.cancel(key(echo.socket.get_type(), ident, sequence), probe);
        let cancelled: Vec<Request> = open.values().filter_map(of).collect();
        drop(open);
        drop(cancelled);
    }

    /// Identifier and sequence number: a probe of one request is found by its own, the others go between those.
    fn number(&self, probe: Option<ProbeId>) -> (u16, u16) {
        let number = match probe {
            Some(ProbeId(id)) => (id as u32) << 1,
            None => self.next.fetch_add(1, Ordering::Relaxed) << 1 | 1,
        };
        let number = number.wrapping_add(self.first);
        ((number >> 16) as u16, number as u16)
    }

    /// Closes everything; nobody hears of anything any more.
    pub fn close(&self) {
        let open = std::mem::take(&mut *self.lock());
        drop((open, self.patience.clear()));
    }

    /// A socket bound to a device or address that went away stays dead when it comes back: the next probe opens a new one.
    fn forget_dead(&self, echo: &Arc<Echo>, error: &io::Error) {
        let code = error.raw_os_error().map(Errno::from_raw);
        if matches!(code, Some(Errno::ENODEV | Errno::ENXIO | Errno::EADDRNOTAVAIL)) {
            self.lock().retain(|_, open| !Arc::ptr_eq(open, echo));
        }
    }

    fn open(&self, family: Family, origin: &Origin) -> Result<Echo, Fault> {
        let mut config = Config::builder().sock_type_hint(Type::RAW);
        if family == Family::V6 {
            config = config.kind(ICMP::V6);
        }
        if let Some(device) = &origin.device {
            config = config.interface(device);
        }
        let socket = AsyncSocket::new(&config.build()).map_err(|e| cannot(&from(origin), &e))?;
        let requests = Arc::new(Requests::default());
        let reader = tokio::spawn(requests.clone().read(socket.clone())).abort_handle();
        let echo = Echo { socket, requests, reader, counted: Mutex::default() };
        echo.with(|socket| {
            if echo.socket.get_type() == Type::RAW {
                icmp::answers_only(socket, family == Family::V6).map_err(|e| cannot("filter ICMP", &e))?;
            }
            // After the device: a link-local source, or one in a VRF, means nothing without it.
            if let Some(source) = origin.source {
                let bound = SockRef::from(&socket).bind(&SocketAddr::new(source, 0).into());
                bound.map_err(|e| cannot(&from(origin), &e))?;
            }
            if let Some(mark) = origin.fwmark {
                let set = SockRef::from(&socket).set_mark(mark);
                set.map_err(|e| cannot(&format!("set fwmark {mark}"), &e))?;
            }
            self.enlarge(socket).map_err(|e| cannot("enlarge a receive buffer", &e))
        })?;
        Ok(echo)
    }

    fn enlarge(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_ok() {
            return Ok(());
        }
        let socket = SockRef::from(&socket);
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let got = socket.recv_buffer_size()?;
        if got < RECEIVE_BUFFER && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "without CAP_NET_ADMIN the ping receive buffer is {got} bytes: with many targets replies can get lost; \
                 grant the capability or raise net.core.rmem_max to {RECEIVE_BUFFER}"
            );
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Family, Origin), Arc<Echo>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What opening a socket is for.
fn from(origin: &Origin) -> String {
    match (&origin.source, &origin.device) {
        (Some(source), Some(device)) => format!("ping from {source} on {device}"),
        (Some(source), None) => format!("ping from {source}"),
        (None, Some(device)) => format!("ping on {device}"),
        (None, None) => "open an ICMP socket (it needs CAP_NET_RAW)".to_owned(),
    }
}

fn unsent(to: IpAddr, error: &io::Error) -> Lost {
    Lost::Blind(format!("cannot send to {to}: {}", words(error)))
}

/// An echo request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The probe that has no other request, and can be cancelled by this.
    pub probe: Option<ProbeId>,
    /// Whom.
    pub to: IpAddr,
    /// Octets of payload.
    pub size: u16,
    /// How long the answer may take.
    pub limit: Duration,
    /// When silence is judged.
    pub deadline: Instant,
}

/// Nothing came back; was it there to be seen?
fn silence(before: Queue, after: Queue, deadline: Instant) -> Lost {
    let drops = after.drops.wrapping_sub(before.drops);
    if drops > 0 {
        Lost::Blind(format!("the receive queue overflowed and lost {drops} packets, perhaps the reply"))
    } else if let Some(why) = late(deadline) {
        Lost::Blind(why)
    } else {
        Lost::Silence("no reply".to_owned())
    }
}

/// One open socket.
pub struct Echo {
    socket: AsyncSocket,
    requests: Arc<Requests>,
    /// The task that reads it.
    reader: AbortHandle,
    /// What its queue was, and when.
    counted: Mutex<Option<(Instant, Queue)>>,
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Echo({})", self.socket.get_native_sock())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.reader.abort();
        self.requests.clear();
    }
}

impl Echo {
    fn with<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        // SAFETY: `self.socket` keeps the descriptor open for as long as `self` is borrowed.
        call(unsafe { BorrowedFd::borrow_raw(self.socket.get_native_sock()) })
    }

    /// A kernel that does not know SO_MEMINFO (before 4.12) reports no drops.
    fn queue(&self) -> Queue {
        self.with(icmp::queue).unwrap_or_default()
    }

    /// The same, a moment old at most: a system call for each of a thousand pings a second is a part of what they cost.
    fn recent_queue(&self) -> Queue {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match *counted {
            Some((at, queue)) if at.elapsed() < COUNTED => queue,
            _ => counted.insert((Instant::now(), self.queue())).1,
        }
    }

    /// The deadline has passed, but if this thread was busy the reply may lie unread in the queue: lets the receiving task
    /// read that first.
    async fn read_backlog(&self, key: u32) {
        for _ in 0..EXTRA_TURNS {
            let waiting = self.queue().waiting > 0;
            tokio::task::yield_now().await;
            // Whatever was read has been handed over by now.
            if !waiting || !self.requests.has(key) {
                return;
            }
        }
    }
}

/// A request that may find no answer.
#[derive(Debug)]
struct Pending {
    echo: Arc<Echo>,
    key: u32,
}

impl Waiting for Pending {
    fn waits(&self) -> bool {
        self.echo.requests.has(self.key)
    }

    fn expire(self) {
        tokio::spawn(async move {
            self.echo.read_backlog(self.key).await;
            self.echo.requests.end(self.key, |r| Err(silence(r.before, self.echo.queue(), r.asked.deadline)));
        });
    }
}
