//! The receiving sockets: one for each family and port, with what the kernel knows of each packet.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::sieve::{Admission, Sieve};
use crate::bfd::Hops;
use crate::bfd::wire::MAX_LEN;

/// Room in the socket for what comes while we do not run.
const ROOM: usize = 1 << 20;

/// Which of the four sockets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Kind {
    pub v6: bool,
    pub multihop: bool,
}

/// A receiving socket.
#[derive(Debug)]
pub(super) struct Port {
    kind: Kind,
    socket: Socket,
    sieve: Sieve,
    /// SO_RXQ_OVFL as of the last packet.
    drops: u32,
    /// Room for what the kernel says of a packet.
    control: Vec<u8>,
}

/// A packet and what the kernel says of it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub interface: u32,
    pub ttl: Option<u8>,
    pub len: usize,
    /// How long ago the kernel had it, by the wall clock; None: not known.
    pub age: Option<Duration>,
    /// Packets before it were dropped for want of room.
    pub dropped: bool,
}

impl Port {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// What was wrong, in words.
    pub fn open(kind: Kind) -> Result<Self, String> {
        let number = if kind.multihop { Hops::Multi { least_ttl: 0 }.port() } else { Hops::Single.port() };
        Self::try_open(kind, number).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => {
                format!("UDP port {number} is in use: does another BFD daemon run on this machine?")
            }
            _ => format!("UDP port {number}: {e}"),
        })
    }

    fn try_open(kind: Kind, number: u16) -> io::Result<Self> {
        let domain = if kind.v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        let any: IpAddr = if kind.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        if kind.v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
            socket.set_recv_buffer_size(ROOM)?;
        }
        let sieve = Sieve::bind(&socket, SocketAddr::new(any, number))?;
        let control = nix::cmsg_space!(libc::timespec, libc::in6_pktinfo, libc::c_int, u32);
        Ok(Port { kind, socket, sieve, drops: 0, control })
    }

    /// Only such packets are let into the queue from now on. False: the kernel refused, and not all of them may be.
    #[must_use]
    pub fn admit(&mut self, admission: &Admission) -> bool {
        self.sieve.set(&self.socket, self.kind.v6, admission)
    }

    /// Which it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For waiting.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes the next packet that is there into `buffer`; None: there is none.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn receive(&mut self, buffer: &mut [u8; MAX_LEN + 1]) -> io::Result<Option<Arrival>> {
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags) {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut arrival = Arrival {
            source: message.address.as_ref().and_then(ip_of).unwrap_or(any),
            destination: any,
            interface: 0,
            ttl: None,
            len: message.bytes,
            age: None,
            dropped: false,
        };
        for item in message.cmsgs()? {
            match item {
                ControlMessageOwned::ScmTimestampns(at) => arrival.age = age(at),
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    arrival.destination = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into();
                    arrival.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    arrival.destination = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                    arrival.interface = info.ipi6_ifindex;
                }
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                    arrival.ttl = u8::try_from(ttl).ok();
                }
                ControlMessageOwned::RxqOvfl(drops) => {
                    arrival.dropped = drops != self.drops;
                    self.drops = drops;
                }
                _ => {}
            }
        }
        Ok(Some(arrival))
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// The stamp is of the wall clock, which may have been set meanwhile: the caller bounds it by what it knows.
fn age(at: nix::sys::time::TimeSpec) -> Option<Duration> {
    let stamp = Duration::new(u64::try_from(at.tv_sec()).ok()?, u32::try_from(at.tv_nsec()).ok()?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(stamp))
}
