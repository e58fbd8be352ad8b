//! A session's own socket, for sending.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

use super::own_link;
use crate::bfd::Path;

/// RFC 5881 section 4: "The source port MUST be in the range 49152 through 65535", and should be the session's own.
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// CS6, as routing protocols have it.
const TRAFFIC_CLASS: u32 = 0xc0;

/// A socket towards one neighbour, and where its packets have to come from.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    /// The index of the configured device.
    pub interface: Option<u32>,
}

impl Link {
    /// Opens it. `first` is the port that is tried first.
    ///
    /// # Errors
    ///
    /// What was wrong, in words.
    pub fn open(path: &Path, first: u16) -> Result<Self, String> {
        let at = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {e}")
        };
        let domain = if path.remote.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket =
            Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map_err(at("socket"))?;
        let interface = path.device.as_deref().map(|device| on(&socket, device)).transpose()?;
        // RFC 5881 section 5: TTL 255. RFC 5883 leaves it open; who checks, checks for nearly that.
        if path.remote.is_ipv4() {
            socket.set_ttl_v4(255).map_err(at("TTL"))?;
            socket.set_tos_v4(TRAFFIC_CLASS).map_err(at("TOS"))?;
        } else {
            socket.set_only_v6(true).map_err(at("IPV6_V6ONLY"))?;
            socket.set_unicast_hops_v6(255).map_err(at("hop limit"))?;
            socket.set_tclass_v6(TRAFFIC_CLASS).map_err(at("traffic class"))?;
        }
        bind(&socket, path, interface, first)?;
        let to = address(path.remote, path.hops.port(), interface);
        socket.connect(&to.into()).map_err(|e| format!("no way to {}: {e}", path.remote))?;
        Ok(Link { socket, interface })
    }

    /// Sends one packet.
    ///
    /// # Errors
    ///
    /// The kernel's. What a router or the other end answered to an earlier packet (nobody listens, prohibited) is none.
    pub fn send(&self, octets: &[u8]) -> io::Result<()> {
        match self.socket.send(octets) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
            // An ICMP answer waited in the socket and failed this packet, which has not been sent then. Whatever it was, the
            // earlier one had left here: that it did not arrive is for the detection time to tell. An error of our own comes
            // again.
            Err(_) => {}
        }
        match self.socket.send(octets) {
            Err(e) if e.kind() != io::ErrorKind::ConnectionRefused => Err(e),
            _ => Ok(()),
        }
    }
}

/// The device's index.
fn on(socket: &Socket, device: &str) -> Result<u32, String> {
    own_link::bind(socket, device).map_err(|e| match e.raw_os_error() {
        Some(libc::ENODEV) => format!("there is no device {device}"),
        _ => format!("{device}: {e}"),
    })
}

fn address(ip: IpAddr, port: u16, interface: Option<u32>) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, interface.unwrap_or(0)))
        }
        ip => SocketAddr::new(ip, port),
    }
}

fn bind(socket: &Socket, path: &Path, interface: Option<u32>, first: u16) -> Result<(), String> {
    let any = match path.remote {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = path.local.unwrap_or(any);
    let count = PORTS.end() - PORTS.start() + 1;
    let mut last = None;
    for n in 0..count {
        let port = PORTS.start() + (first.wrapping_add(n)) % count;
        match socket.bind(&address(local, port, interface).into()) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = Some(e),
            Err(e) => return Err(format!("{local} cannot be used: {e}")),
        }
    }
    Err(format!("no source port is free: {}", last.map_or(String::new(), |e| e.to_string())))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::bfd::Hops;

    /// RFC 792: destination unreachable with this code, about a UDP datagram between these ports of 127.0.0.1.
    fn unreachable(code: u8, from: u16, to: u16) -> Vec<u8> {
        let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
        message.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 255, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        message.extend([from.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat());
        let words = message.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    /// SPEC: an ICMP unreachable from afar is no trouble of ours: host prohibited, communication prohibited, port.
    #[test]
    fn bfd_packets_leave_whatever_icmp_said_of_earlier_ones() {
        let lo = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let hops = Hops::Multi { least_ttl: 0 };
        let path = Path { remote: lo, local: Some(lo), device: None, hops };
        let link = Link::open(&path, 4711).unwrap();
        let port = link.socket.local_addr().unwrap().as_socket().unwrap().port();
        let raw =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("needs root (CAP_NET_RAW)");
        for code in [10, 13, 3] {
            raw.send_to(&unreachable(code, port, hops.port()), &SocketAddr::new(lo, 0).into()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let mut fds = [PollFd::new(link.socket.as_fd(), PollFlags::empty())];
                poll(&mut fds, PollTimeout::from(100_u8)).unwrap();
                if fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR)) {
                    break;
                }
                assert!(Instant::now() < deadline, "code {code} did not arrive");
            }
            link.send(&[0; 24]).unwrap();
        }
    }
}
