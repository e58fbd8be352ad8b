//! The client's view: numbered UDP datagrams every few milliseconds to a server that answers with its name.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{Doing, Host, Result};

/// The service's port (RFC 862).
pub const PORT: u16 = 7;

/// A thread that runs until dropped.
#[derive(Debug)]
struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Calls `turn` again and again; it must return within a moment.
    fn start(mut turn: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                turn();
            }
        });
        Worker { stop, thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers each datagram with itself and its name.
#[derive(Debug)]
pub struct Server {
    _worker: Worker,
}

impl Server {
    /// Serves `address` on `host`, also while the host does not have that address (IP_FREEBIND).
    pub fn start(host: &Host, address: Ipv4Addr) -> Result<Self> {
        let name = host.name().as_bytes().to_vec();
        let socket =
            host.in_network(|| open(address).doing(format!("opening the echo service of {}", host.name())))?;
        let mut buffer = [0; 64];
        let worker = Worker::start(move || {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else { return };
            let answer = [&buffer[..length.min(8)], &name].concat();
            let _ = socket.send_to(&answer, client);
        });
        Ok(Server { _worker: worker })
    }
}

fn open(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_freebind_v4(true)?;
    socket.bind(&SocketAddrV4::new(address, PORT).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket.into())
}

/// One answered datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// When it came.
    pub at: Instant,
    /// The name of the host that answered.
    pub from: String,
}

/// What happened to the datagrams of a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Sent.
    pub sent: usize,
    /// Never answered.
    pub lost: usize,
    /// The longest time in which no answered datagram was sent.
    pub longest_gap: Duration,
}

#[derive(Debug, Default)]
struct Log {
    sent: BTreeMap<u64, (Instant, Option<Answer>)>,
}

impl Log {
    fn loss(&self, from: Instant, to: Instant) -> Loss {
        let mut loss = Loss::default();
        let mut last_good = from;
        for (sent, answer) in self.sent.values().filter(|(sent, _)| (from..to).contains(sent)) {
            loss.sent += 1;
            if answer.is_some() {
                loss.longest_gap = loss.longest_gap.max(*sent - last_good);
                last_good = *sent;
            } else {
                loss.lost += 1;
            }
        }
        loss.longest_gap = loss.longest_gap.max(to.saturating_duration_since(last_good));
        loss
    }
}

/// Sends, and remembers what came back.
#[derive(Debug)]
pub struct Client {
    log: Arc<Mutex<Log>>,
    _worker: Worker,
}

impl Client {
    /// Starts to send from `host` to `server`, one datagram each `interval`.
    pub fn start(host: &Host, server: Ipv4Addr, interval: Duration) -> Result<Self> {
        let socket = host.in_network(|| {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).doing("opening the client's socket")
        })?;
        let server = SocketAddr::from((server, PORT));
        let log = Arc::new(Mutex::new(Log::default()));
        let (shared, mut number, mut next) = (log.clone(), 0u64, Instant::now());
        let worker = Worker::start(move || {
            let now = Instant::now();
            if now >= next {
                number += 1;
                next = (next + interval).max(now);
                lock(&shared).sent.insert(number, (now, None));
                // "No route" and the like are lost datagrams, and shown as such.
                let _ = socket.send_to(&number.to_be_bytes(), server);
            }
            receive(&socket, next, &shared);
        });
        Ok(Client { log, _worker: worker })
    }

    /// The first answer to a datagram that was sent after `since` by the host of that name.
    pub fn first_answer(&self, from: &str, since: Instant) -> Option<Answer> {
        let log = lock(&self.log);
        let answers = log.sent.values().filter(|(sent, _)| *sent >= since).filter_map(|(_, a)| a.as_ref());
        answers.filter(|a| a.from == from).min_by_key(|a| a.at).cloned()
    }

    /// The last answer of all.
    pub fn last_answer(&self) -> Option<Answer> {
        lock(&self.log).sent.values().rev().find_map(|(_, answer)| answer.clone())
    }

    /// What happened to the datagrams that were sent in this span.
    pub fn loss(&self, from: Instant, to: Instant) -> Loss {
        lock(&self.log).loss(from, to)
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes one answer, if it comes before `deadline`.
fn receive(socket: &UdpSocket, deadline: Instant, log: &Mutex<Log>) {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut buffer = [0; 64];
    let _ = socket.set_read_timeout(Some(left));
    let Ok(length) = socket.recv(&mut buffer) else { return };
    let Some((number, name)) = buffer[..length].split_first_chunk::<8>() else { return };
    let answer = Answer { at: Instant::now(), from: String::from_utf8_lossy(name).into_owned() };
    if let Some((_, slot)) = lock(log).sent.get_mut(&u64::from_be_bytes(*number)) {
        slot.get_or_insert(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_between_answered_datagrams() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let answer = |ms| Some(Answer { at: at(ms), from: "primary".into() });
        let sent = [(0, answer(1)), (20, None), (40, None), (60, answer(61)), (80, None), (100, answer(101))];
        let sent = sent.into_iter().map(|(ms, answer)| (ms, (at(ms), answer))).collect();
        let log = Log { sent };
        let gap = |ms| Duration::from_millis(ms);
        assert_eq!(log.loss(at(0), at(110)), Loss { sent: 6, lost: 3, longest_gap: gap(60) });
        assert_eq!(log.loss(at(70), at(90)), Loss { sent: 1, lost: 1, longest_gap: gap(20) });
    }
}
