//! What is from none of our neighbours, or from too far away, never enters a receiving socket's queue: a flood of it takes
//! no room there from the neighbours' packets, and no time from the thread that must be on time (RFC 5881 section 9).
//!
//! Linux knows IP_MINTTL for TCP only, and what a filter of a UDP socket drops is counted as if there had been no room,
//! which is what a silence is forgiven for. So each port has two sockets, and a program of the kernel's packet filter says
//! which of them a packet is for: the one that is read, or one that keeps nothing. The kernel's counter of the first one then
//! tells of real losses alone. What the program lets pass is judged by the protocol all the same.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use libc::{c_int, c_void, socklen_t};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::bfd::Path;

/// The network header begins here, for a program that sees the payload (linux/filter.h, SKF_NET_OFF).
const NETWORK: u32 = -0x0010_0000_i32 as u32;
/// BPF_LD | BPF_B | BPF_ABS, BPF_LD | BPF_W | BPF_ABS: an octet, a word at an offset.
const LOAD_OCTET: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
/// BPF_ST, and BPF_LD | BPF_W | BPF_MEM: a word put aside, and taken again.
const PUT: u16 = 0x02;
const TAKE_UP: u16 = 0x60;
/// BPF_JMP | BPF_JGE | BPF_K, BPF_JMP | BPF_JEQ | BPF_K.
const IF_AT_LEAST: u16 = 0x35;
const IF_EQUAL: u16 = 0x15;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;
/// The sockets, in the order in which they were bound.
const TAKE: u32 = 0;
const DISCARD: u32 = 1;
/// A longer list of neighbours costs each packet more than it saves.
const MOST: usize = 128;
/// Everything is let in.
const ALL: [SockFilter; 1] = [step(RETURN, 0, 0, TAKE)];

/// What may come in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Admission {
    sources: BTreeSet<IpAddr>,
    /// The lowest TTL (hop limit) that any of them may have here.
    least_ttl: u8,
}

impl Admission {
    /// What sessions on these paths may hear.
    pub fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let mut all = Admission { sources: BTreeSet::new(), least_ttl: u8::MAX };
        for path in paths {
            all.sources.insert(path.remote);
            all.least_ttl = all.least_ttl.min(path.hops.least_ttl());
        }
        all
    }
}

/// The second socket of a port, and what decides between the two.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// Absent where the kernel knows no such programs: then everything is taken.
    waste: Option<Socket>,
    current: Option<Admission>,
    /// The kernel takes no program any more, and that was said.
    refused: bool,
}

impl Sieve {
    /// Binds the socket of a port; everything is let in at first.
    ///
    /// # Errors
    ///
    /// The kernel's; `AddrInUse` also if another program of the same user would share the port.
    pub fn bind(socket: &Socket, address: SocketAddr) -> io::Result<Self> {
        Self::bind_beside(socket, address, waste)
    }

    fn bind_beside(
        socket: &Socket,
        address: SocketAddr,
        waste: impl FnOnce(SocketAddr) -> io::Result<Socket>,
    ) -> io::Result<Self> {
        // Two sockets that both allow it share a port, and we could not be told that somebody has it.
        drop(open(address).and_then(|alone| alone.bind(&address.into()).map(|()| alone))?);
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        // Before there is a second one: without a program the kernel would share the packets out.
        match attach(socket, &ALL).and_then(|()| waste(address)) {
            Ok(waste) => Ok(Sieve { waste: Some(waste), ..Sieve::default() }),
            // Without the second socket, everything is taken all the same.
            Err(e) => {
                tracing::warn!("BFD: the kernel does not keep floods out of {address}: {e}");
                Ok(Sieve::default())
            }
        }
    }

    /// Lets in only that, to the socket that was bound. False: the kernel refused, and who is new may not be let in: try again.
    #[must_use]
    pub fn set(&mut self, socket: &Socket, v6: bool, admission: &Admission) -> bool {
        if self.waste.is_none() || self.current.as_ref() == Some(admission) {
            return true;
        }
        let by_ttl = Admission { sources: BTreeSet::new(), ..*admission };
        // A long program may be too long for the kernel; a flood is better than a neighbour that is not heard.
        let set = attach(socket, &program(v6, admission))
            .or_else(|_| attach(socket, &program(v6, &by_ttl)))
            .or_else(|_| attach(socket, &ALL));
        match &set {
            Ok(()) => self.current = Some(admission.clone()),
            Err(e) if !self.refused => tracing::warn!("BFD: the kernel lets in what it let in before: {e}"),
            Err(_) => {}
        }
        self.refused = set.is_err();
        set.is_ok()
    }
}

/// The socket that keeps nothing.
fn waste(address: SocketAddr) -> io::Result<Socket> {
    let waste = open(address)?;
    waste.attach_filter(&[step(RETURN, 0, 0, 0)])?;
    waste.set_reuse_port(true)?;
    waste.bind(&address.into())?;
    Ok(waste)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

const fn step(code: u16, if_true: u8, if_false: u8, value: u32) -> SockFilter {
    SockFilter::new(code, if_true, if_false, value)
}

/// RFC 791 section 3.1 and RFC 8200 section 3: the TTL, and then the source, in words.
fn program(v6: bool, admission: &Admission) -> Vec<SockFilter> {
    let (ttl, source) = if v6 { (7, 8) } else { (8, 12) };
    let mut steps = vec![
        step(LOAD_OCTET, 0, 0, NETWORK + ttl),
        step(IF_AT_LEAST, 1, 0, admission.least_ttl.into()),
        step(RETURN, 0, 0, DISCARD),
    ];
    if !(1..=MOST).contains(&admission.sources.len()) {
        steps.push(step(RETURN, 0, 0, TAKE));
        return steps;
    }
    for n in 0..if v6 { 4 } else { 1 } {
        steps.extend([step(LOAD_WORD, 0, 0, NETWORK + source + 4 * n), step(PUT, 0, 0, n)]);
    }
    for address in &admission.sources {
        let words = words(*address);
        // Neighbours differ in the last word, if in any.
        for (n, word) in words.iter().enumerate().rev() {
            // Two steps for each word that is left, and the return.
            let other = 2 * n as u8 + 1;
            steps.extend([step(TAKE_UP, 0, 0, n as u32), step(IF_EQUAL, 0, other, *word)]);
        }
        steps.push(step(RETURN, 0, 0, TAKE));
    }
    steps.push(step(RETURN, 0, 0, DISCARD));
    steps
}

fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(v4) => vec![v4.into()],
        IpAddr::V6(v6) => {
            let all = u128::from(v6);
            [96, 64, 32, 0].iter().map(|shift| (all >> shift) as u32).collect()
        }
    }
}

fn attach(socket: &Socket, steps: &[SockFilter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // socket2's is the kernel's structure under another name; the kernel only reads it.
        filter: steps.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the structure is live and points to `len` live instructions, which the kernel copies; the socket is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast::<c_void>(),
            size_of_val(&program) as socklen_t,
        )
    };
    if result == 0 as c_int { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// A sender at an address, with a TTL.
    fn send(from: IpAddr, ttl: u32, what: &[u8], to: SocketAddr) {
        let socket = open(to).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        if to.is_ipv4() {
            socket.set_ttl_v4(ttl).unwrap()
        } else {
            socket.set_unicast_hops_v6(ttl).unwrap()
        }
        socket.send_to(what, &to.into()).unwrap();
    }

    /// So many octets; a busy kernel delivers a moment later. What is too much is found by the next one.
    fn heard(mut socket: &Socket, length: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        let (mut all, mut buffer) = (String::new(), [0; 64]);
        while all.len() < length && Instant::now() < deadline {
            while let Ok(n) = socket.read(&mut buffer) {
                all += std::str::from_utf8(&buffer[..n]).unwrap();
            }
            std::thread::yield_now();
        }
        all
    }

    fn admission(least_ttl: u8, sources: &[&str]) -> Admission {
        Admission { sources: sources.iter().map(|s| s.parse().unwrap()).collect(), least_ttl }
    }

    /// RFC 5881 section 5, before the queue: by TTL and by source, in both families; nobody else gets the port.
    #[test]
    fn only_neighbours_get_into_the_queue() {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root: unshare(CLONE_NEWNET)");
            let sh = "ip link set lo up; for n in 1 2 3; do ip a add 2001:db8::$n/128 dev lo nodad; done";
            assert!(std::process::Command::new("sh").args(["-c", sh]).status().expect("ip").success());
            for (us, them, other, any) in [
                ("127.0.0.1", "127.0.0.2", "127.0.0.3", "0.0.0.0:3784"),
                ("2001:db8::1", "2001:db8::2", "2001:db8::3", "[::]:3784"),
            ] {
                let any: SocketAddr = any.parse().unwrap();
                let v6 = any.is_ipv6();
                let to = SocketAddr::new(us.parse().unwrap(), any.port());
                let socket = open(any).unwrap();
                let mut sieve = Sieve::bind(&socket, any).unwrap();
                let check = |expected: &str| {
                    for (from, ttl, what) in [(them, 255, "a"), (them, 254, "b"), (other, 255, "c")] {
                        send(from.parse().unwrap(), ttl, what.as_bytes(), to);
                    }
                    let mut heard: Vec<char> = heard(&socket, expected.len()).chars().collect();
                    heard.sort_unstable();
                    assert_eq!(heard, expected.chars().collect::<Vec<_>>(), "{any}");
                };
                check("abc");
                assert!(sieve.set(&socket, v6, &admission(255, &[them])));
                check("a");
                assert!(sieve.set(&socket, v6, &admission(0, &[us, them])));
                check("ab");
                assert!(sieve.set(&socket, v6, &admission(254, &[us, other])));
                check("c");
                // Too many to be listed: by TTL alone.
                let many = (0..=MOST as u32).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).into());
                let many = Admission { sources: many.collect(), least_ttl: 255 };
                assert!(sieve.set(&socket, v6, &many));
                check("ac");
                let taken = Sieve::bind(&open(any).unwrap(), any).unwrap_err();
                assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            }
        };
        std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }

    /// The longest list that is one, of the longest addresses.
    #[test]
    fn a_full_list_is_short_enough_for_the_kernel() {
        let any: SocketAddr = "[::]:0".parse().unwrap();
        let socket = open(any).unwrap();
        let mut sieve = Sieve::bind(&socket, any).unwrap();
        let all = (0..MOST as u128).map(|n| std::net::Ipv6Addr::from((0x2001_0db8 << 96) + n).into());
        let full = Admission { sources: all.collect(), least_ttl: 255 };
        attach(&socket, &program(true, &full)).unwrap();
        assert!(sieve.set(&socket, true, &full));
        assert_eq!(sieve.current, Some(full));
    }

    /// Too few descriptors, say: the port works without its second socket.
    #[test]
    fn a_port_works_without_a_sieve() {
        let socket = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let fails = |_| Err(io::ErrorKind::OutOfMemory.into());
        let mut sieve = Sieve::bind_beside(&socket, "127.0.0.1:0".parse().unwrap(), fails).unwrap();
        let to = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(sieve.set(&socket, false, &admission(255, &["192.0.2.1"])));
        send("127.0.0.1".parse().unwrap(), 1, b"a", to);
        assert_eq!(heard(&socket, 1), "a");
    }

    /// Who was not let in is tried again.
    #[test]
    fn what_the_kernel_refuses_is_not_taken_for_done() {
        // It belongs to no group of sockets, so the kernel takes no program for it.
        let alone = open("127.0.0.1:0".parse().unwrap()).unwrap();
        alone.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = open(any).unwrap();
        let mut sieve = Sieve::bind(&socket, any).unwrap();
        let neighbour = admission(255, &["192.0.2.1"]);
        assert!(!sieve.set(&alone, false, &neighbour));
        assert!(!sieve.set(&alone, false, &neighbour));
        assert!(sieve.set(&socket, false, &neighbour));
    }
}
