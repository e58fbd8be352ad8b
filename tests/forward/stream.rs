//! What clients see: a steady stream of numbered datagrams in many flows, and through which gateway each was answered.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use announcerd::demo::lab::{Host, wait_for};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::LIMIT;

/// RFC 862.
const PORT: u16 = 7;
/// The flows' own ports, one after the other.
const FIRST_PORT: u16 = 20_000;
/// A stall of the machine is no loss.
const BUFFER: usize = 8 << 20;
/// No answer is under way for longer.
const LATE: Duration = Duration::from_secs(5);
/// How long a thread may take to see that it is to end.
const TURN: Duration = Duration::from_millis(50);

/// Which gateway's network an address is of: 0 or 1, as in the lab.
fn gateway_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(a) => u8::from(a.octets()[0] == 198),
        IpAddr::V6(a) => u8::from(a.segments()[2] == 2),
    }
}

fn open(host: &Host, address: SocketAddr) -> UdpSocket {
    let socket = host.in_network(|| Ok(UdpSocket::bind(address))).unwrap().unwrap();
    setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER)
        .unwrap_or_else(|e| panic!("SO_RCVBUFFORCE on {}: {e}", socket.as_raw_fd()));
    socket.set_read_timeout(Some(TURN)).unwrap();
    socket
}

/// Threads that end when this is dropped.
#[derive(Default)]
struct Threads {
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Calls `turn` again and again; it must return within a moment.
    fn add(&mut self, mut turn: impl FnMut() + Send + 'static) {
        let stop = self.stop.clone();
        self.running.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                turn();
            }
        }));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

/// When the last UDP packet of a gateway's own came in, which are BFD's.
pub struct Heard {
    last: Arc<Mutex<Option<Instant>>>,
    _threads: Threads,
}

impl Heard {
    /// Returns when the first has come.
    pub fn listen(host: &Host, gateway: IpAddr) -> Self {
        let address = SocketAddr::from((gateway, 0));
        let domain = Domain::for_address(address);
        let open = || Ok(Socket::new(domain, Type::RAW, Some(Protocol::UDP)));
        let socket: UdpSocket = host.in_network(open).unwrap().unwrap().into();
        socket.set_read_timeout(Some(TURN)).unwrap();
        socket.connect(address).unwrap();
        let last = Arc::new(Mutex::new(None));
        let (shared, mut threads) = (last.clone(), Threads::default());
        threads.add(move || {
            if socket.recv(&mut [0; 1]).is_ok() {
                *shared.lock().unwrap() = Some(Instant::now());
            }
        });
        let heard = Heard { last, _threads: threads };
        wait_for("a BFD packet", LIMIT, || *heard.last.lock().unwrap()).unwrap_or_else(|e| panic!("{e}"));
        heard
    }

    /// The last time.
    pub fn last(&self) -> Instant {
        self.last.lock().unwrap().expect("a BFD packet")
    }
}

/// Answers each datagram with itself and the number of the gateway by which it came.
pub struct Responder {
    _threads: Threads,
}

impl Responder {
    pub fn start(host: &Host, addresses: &[IpAddr]) -> Self {
        let mut threads = Threads::default();
        for address in addresses {
            let socket = open(host, (*address, PORT).into());
            threads.add(move || {
                let mut buffer = [0; 9];
                let Ok((8, client)) = socket.recv_from(&mut buffer) else { return };
                buffer[8] = gateway_of(client.ip());
                let _ = socket.send_to(&buffer, client);
            });
        }
        Responder { _threads: threads }
    }
}

/// A datagram: when it was sent, and the gateway it was answered through.
#[derive(Clone, Copy)]
struct Datagram {
    sent: Instant,
    by: Option<u8>,
}

type Flow = Arc<Mutex<Vec<Datagram>>>;

/// What became of some datagrams.
#[derive(Clone, Copy, Default, Debug)]
pub struct Loss {
    pub sent: usize,
    pub lost: usize,
    /// The longest time in a flow from one answered datagram to the next.
    pub gap: Duration,
    /// When the datagram at its end was sent.
    pub resumed: Option<Instant>,
    /// How many datagrams each gateway carried.
    pub by: [usize; 2],
}

/// One datagram each `interval`, by the flows in turn.
pub struct Stream {
    flows: Vec<Flow>,
    _threads: Threads,
}

impl Stream {
    pub fn start(host: &Host, to: IpAddr, flows: u16, interval: Duration) -> Self {
        let any = match to {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let mut threads = Threads::default();
        let mut ends = Vec::new();
        for n in 0..flows {
            let socket = open(host, (any, FIRST_PORT + n).into());
            let flow = Flow::default();
            ends.push((socket.try_clone().unwrap(), flow.clone()));
            threads.add(move || {
                let mut buffer = [0; 9];
                let Ok(9) = socket.recv(&mut buffer) else { return };
                let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
                flow.lock().unwrap()[number as usize].by = Some(buffer[8]);
            });
        }
        let flows = ends.iter().map(|(_, flow)| flow.clone()).collect();
        let (mut next, mut turns) = (Instant::now(), (0..ends.len()).cycle());
        threads.add(move || {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += interval;
            let (socket, flow) = &ends[turns.next().unwrap()];
            let mut log = flow.lock().unwrap();
            let number = log.len() as u64;
            log.push(Datagram { sent: Instant::now(), by: None });
            drop(log);
            // "No route" and the like are lost datagrams, and shown as such.
            let _ = socket.send_to(&number.to_be_bytes(), (to, PORT));
        });
        Stream { flows, _threads: threads }
    }

    /// Returns when every flow has had an answer to a datagram sent after now, which is returned: none sent before it
    /// is still under way.
    pub fn settle(&self) -> Instant {
        let now = Instant::now();
        let answered = |flow: &Flow| {
            flow.lock().unwrap().iter().rev().take_while(|d| d.sent > now).any(|d| d.by.is_some())
        };
        let met = || self.flows.iter().all(answered).then_some(());
        wait_for("an answer in every flow", LIMIT, met).unwrap_or_else(|e| panic!("{e}"));
        now
    }

    /// As `loss`, of datagrams of which none may be lost: one that is only late, on a busy machine, is waited for.
    pub fn late(&self, since: Instant, until: Instant, which: impl Fn(usize) -> bool) -> Loss {
        let none = || (self.loss(since, until, &which).lost == 0).then_some(());
        // If some are lost it is the caller's to say so.
        let _ = wait_for("every answer", LATE, none);
        self.loss(since, until, which)
    }

    /// The gateway of each flow's last answer.
    pub fn gateways(&self) -> Vec<u8> {
        let last = |flow: &Flow| flow.lock().unwrap().iter().rev().find_map(|d| d.by).expect("an answer");
        self.flows.iter().map(last).collect()
    }

    /// What became of what the flows, those that `which` picks by number, sent in this span.
    pub fn loss(&self, since: Instant, until: Instant, which: impl Fn(usize) -> bool) -> Loss {
        let mut loss = Loss::default();
        for (_, flow) in self.flows.iter().enumerate().filter(|(n, _)| which(*n)) {
            let mut last = since;
            for datagram in flow.lock().unwrap().iter().filter(|d| (since..until).contains(&d.sent)) {
                loss.sent += 1;
                match datagram.by {
                    None => loss.lost += 1,
                    Some(gateway) => {
                        if datagram.sent - last >= loss.gap {
                            (loss.gap, loss.resumed) = (datagram.sent - last, Some(datagram.sent));
                        }
                        loss.by[usize::from(gateway)] += 1;
                        last = datagram.sent;
                    }
                }
            }
        }
        loss
    }
}
