//! ICMP sockets, and the echo requests that leave through them.
//!
//! One surge-ping client for each (family, source, device, mark), shared by all checks that agree in them. It is
//! surge-ping's table that matches answers to requests (address, identifier, sequence); what a packet means is judged
//! here, because it reports ICMP errors as if they were replies.

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
use surge_ping::{AsyncSocket, Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::Instant;

use super::Fault;
use super::deadline::{late, not_running};
use super::icmp::{self, Answer, Queue};
use super::patience::Patience;
use super::target::{cannot, is_own};
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
    /// Identifier and sequence of the next request: 32 bits for all sockets together, because a raw socket sees the answers
    /// to all of them. It begins anywhere, so that two daemons, or two runs, do not meet.
    next: AtomicU32,
    warned: AtomicBool,
    patience: Patience,
}

impl Default for Sockets {
    fn default() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Sockets {
            open: Mutex::default(),
            next: AtomicU32::new(random as u32),
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

    /// Sends one echo request and waits for what comes back.
    ///
    /// # Errors
    /// [`Lost`]; it never ends before `deadline` if nothing comes back.
    pub async fn ask(
        &self,
        echo: &Arc<Echo>,
        to: IpAddr,
        payload: &[u8],
        limit: Duration,
        deadline: Instant,
    ) -> Result<Duration, Lost> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (ident, sequence) = (PingIdentifier((number >> 16) as u16), PingSequence(number as u16));
        let before = echo.recent_queue();
        let mut pinger = echo.client.pinger(to, ident).await;
        // Ours is the deadline that counts; surge-ping's lies well behind it.
        pinger.timeout(limit.saturating_mul(4).max(Duration::from_secs(5)));
        let result = {
            let mut ping = std::pin::pin!(pinger.ping(sequence, payload));
            tokio::select! {
                biased;
                result = &mut ping => Some(result),
                () = self.patience.until(deadline) => echo.read_backlog(&mut ping).await,
            }
        };
        let (packet, rtt) = match result {
            Some(Ok(answer)) => answer,
            None | Some(Err(SurgeError::Timeout { .. })) => {
                return Err(silence(before, echo.queue(), deadline));
            }
            Some(Err(e)) => return Err(self.refused(echo, to, &e)),
        };
        match icmp::answer(&packet) {
            Answer::Reply if rtt > limit => Err(Lost::late(rtt.saturating_sub(limit))),
            Answer::Reply => Ok(rtt),
            Answer::Error { from, says, no_neighbour } if is_own(from) => Err(if no_neighbour {
                Lost::Silence("no neighbour answers ARP or ND".to_owned())
            } else {
                Lost::Blind(format!("this machine itself says: {says}"))
            }),
            Answer::Error { from, says, .. } => Err(Lost::Error(format!("{from} says: {says}"))),
        }
    }

    /// A socket bound to a device or address that went away stays dead when it comes back: the next probe opens a new one.
    fn refused(&self, echo: &Arc<Echo>, to: IpAddr, error: &SurgeError) -> Lost {
        let SurgeError::IOError(error) = error else {
            return Lost::Blind(format!("cannot send: {error}"));
        };
        let code = error.raw_os_error().map(Errno::from_raw);
        if matches!(code, Some(Errno::ENODEV | Errno::ENXIO | Errno::EADDRNOTAVAIL)) {
            self.lock().retain(|_, open| !Arc::ptr_eq(open, echo));
        }
        Lost::Blind(format!("cannot send to {to}: {}", words(error)))
    }

    fn open(&self, family: Family, origin: &Origin) -> Result<Echo, Fault> {
        let mut config = Config::builder().sock_type_hint(Type::RAW);
        if family == Family::V6 {
            config = config.kind(ICMP::V6);
        }
        if let Some(device) = &origin.device {
            config = config.interface(device);
        }
        let client = Client::new(&config.build()).map_err(|e| cannot(&from(origin), &e))?;
        let echo = Echo { socket: client.get_socket(), client, counted: Mutex::default() };
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

/// Why there is no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Nothing came back.
    Silence(String),
    /// Something on the way said that it cannot be delivered.
    Error(String),
    /// It could not be sent, or its reply could not have been seen.
    Blind(String),
}

impl Lost {
    fn late(by: Duration) -> Self {
        Lost::Blind(not_running(by))
    }
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
    client: Client,
    socket: AsyncSocket,
    /// What its queue was, and when.
    counted: Mutex<Option<(Instant, Queue)>>,
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Echo({})", self.socket.get_native_sock())
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
    async fn read_backlog<F: Future + Unpin>(&self, ping: &mut F) -> Option<F::Output> {
        for _ in 0..EXTRA_TURNS {
            let waiting = self.queue().waiting > 0;
            tokio::select! {
                biased;
                result = &mut *ping => return Some(result),
                () = tokio::task::yield_now() => {}
            }
            if !waiting {
                // Whatever was read has been handed over by now.
                return None;
            }
        }
        None
    }
}
