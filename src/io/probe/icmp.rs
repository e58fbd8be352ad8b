//! What ICMP says, in words, and the socket options for it that have no safe wrapper.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};
use surge_ping::IcmpPacket;

use crate::net::Family;

/// An echo request (RFC 792; RFC 4443 section 4.1, whose checksum is the kernel's work).
pub fn echo_request(family: Family, ident: u16, sequence: u16, payload: u16) -> Vec<u8> {
    let kind = if family == Family::V6 { ECHO_REQUEST_6 } else { ECHO_REQUEST };
    let mut packet = vec![PAYLOAD; 8 + usize::from(payload)];
    let ([i0, i1], [s0, s1]) = (ident.to_be_bytes(), sequence.to_be_bytes());
    packet[..8].copy_from_slice(&[kind, 0, 0, 0, i0, i1, s0, s1]);
    if family == Family::V4 {
        let [c0, c1] = checksum(&packet).to_be_bytes();
        (packet[2], packet[3]) = (c0, c1);
    }
    packet
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|w| match *w {
        [a, b] => u32::from(u16::from_be_bytes([a, b])),
        [a] => u32::from(a) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// What came back to an echo request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Its echo reply.
    Reply,
    /// An error message: who sent it, what it says, and whether that is how the kernel reports to ourselves that no
    /// neighbour answers (if the sender is this machine).
    Error {
        /// Its source.
        from: std::net::IpAddr,
        /// Its meaning.
        says: String,
        /// "Host unreachable" (RFC 792) or "address unreachable" (RFC 4443 section 3.1).
        no_neighbour: bool,
    },
}

/// Reads a packet that surge-ping took for an answer: it takes errors too.
pub fn answer(packet: &IcmpPacket) -> Answer {
    let (from, kind, code) = match packet {
        IcmpPacket::V4(p) => (p.get_source().into(), p.get_icmp_type().0, p.get_icmp_code().0),
        IcmpPacket::V6(p) => (p.get_source().into(), p.get_icmpv6_type().0, p.get_icmpv6_code().0),
    };
    let (says, no_neighbour) = match packet {
        IcmpPacket::V4(_) if kind == ECHO_REPLY => return Answer::Reply,
        IcmpPacket::V6(_) if kind == ECHO_REPLY_6 => return Answer::Reply,
        IcmpPacket::V4(_) => (words_v4(kind, code), (kind, code) == (UNREACHABLE, 1)),
        IcmpPacket::V6(_) => (words_v6(kind, code), (kind, code) == (UNREACHABLE_6, 3)),
    };
    Answer::Error { from, says, no_neighbour }
}

/// Of which a request is full.
const PAYLOAD: u8 = 0xa5;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_6: u8 = 128;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

const UNREACHABLE_6: u8 = 1;
const TIME_EXCEEDED_6: u8 = 3;
const PARAMETER_PROBLEM_6: u8 = 4;
const ECHO_REPLY_6: u8 = 129;

/// RFC 792, RFC 1812 section 5.2.7.1.
fn words_v4(kind: u8, code: u8) -> String {
    let words = match (kind, code) {
        (UNREACHABLE, 0 | 6) => "network unreachable",
        (UNREACHABLE, 1 | 7) => "host unreachable",
        (UNREACHABLE, 2) => "protocol unreachable",
        (UNREACHABLE, 3) => "port unreachable",
        (UNREACHABLE, 4) => "fragmentation needed",
        (UNREACHABLE, 9 | 10 | 13) => "administratively prohibited",
        (UNREACHABLE, _) => return format!("unreachable (code {code})"),
        (TIME_EXCEEDED, _) => "TTL exceeded",
        (PARAMETER_PROBLEM, _) => "parameter problem",
        _ => return format!("ICMP type {kind} code {code}"),
    };
    words.to_owned()
}

/// RFC 4443 section 3.
fn words_v6(kind: u8, code: u8) -> String {
    let words = match (kind, code) {
        (UNREACHABLE_6, 0) => "no route to destination",
        (UNREACHABLE_6, 1) => "administratively prohibited",
        (UNREACHABLE_6, 2) => "beyond the scope of the source address",
        (UNREACHABLE_6, 3) => "address unreachable",
        (UNREACHABLE_6, 4) => "port unreachable",
        (UNREACHABLE_6, 5) => "source address failed its policy",
        (UNREACHABLE_6, 6) => "route rejected",
        (UNREACHABLE_6, _) => return format!("unreachable (code {code})"),
        (TIME_EXCEEDED_6, _) => "hop limit exceeded",
        (PARAMETER_PROBLEM_6, _) => "parameter problem",
        _ => return format!("ICMPv6 type {kind} code {code}"),
    };
    words.to_owned()
}

/// linux/icmp.h; a bit that is set blocks that type.
const ICMP_FILTER: c_int = 1;
/// linux/icmpv6.h; 256 bits, likewise.
const ICMP6_FILTER: c_int = 1;

/// Lets a raw ICMP socket receive answers only: neither everybody's echo requests, nor redirects, nor neighbour
/// discovery. Without it each would cost a wake-up, and surge-ping would take a redirect for an answer.
///
/// # Errors
/// Those of setsockopt(2).
pub fn answers_only(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        let mut blocked = [u32::MAX; 8];
        for kind in [UNREACHABLE_6, TIME_EXCEEDED_6, PARAMETER_PROBLEM_6, ECHO_REPLY_6] {
            blocked[usize::from(kind / 32)] &= !(1 << (kind % 32));
        }
        set(socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &blocked)
    } else {
        let passed = [ECHO_REPLY, UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM];
        let blocked = passed.iter().fold(u32::MAX, |bits, kind| bits & !(1 << kind));
        set(socket, libc::SOL_RAW, ICMP_FILTER, &blocked)
    }
}

/// `T` is an integer or an array of them.
fn set<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads size_of::<T>() bytes at `value`, which is borrowed and holds no padding.
    let result = unsafe {
        let value: *const c_void = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, size_of::<T>() as socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What waits in a socket's receive queue, and what did not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    /// Bytes received and not read yet, with the kernel's overhead.
    pub waiting: u32,
    /// Packets dropped since the socket was opened, because the queue was full.
    pub drops: u32,
}

/// SO_MEMINFO.
///
/// # Errors
/// Those of getsockopt(2).
pub fn queue(socket: BorrowedFd<'_>) -> io::Result<Queue> {
    let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&info) as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `info`; any bits are valid integers.
    let result = unsafe {
        let info: *mut c_void = info.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, info, &mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let waiting = info[libc::SK_MEMINFO_RMEM_ALLOC as usize];
    Ok(Queue { waiting, drops: info[libc::SK_MEMINFO_DROPS as usize] })
}

/// asm-generic/socket.h; missing in the libc crate.
const SO_MEMINFO: c_int = 55;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// RFC 792: the checksum over the whole message is all ones; a request of 65,535 octets is not too many.
    #[test]
    fn a_request_is_what_its_rfc_says() {
        for payload in [0, 1, 56, u16::MAX] {
            let packet = echo_request(Family::V4, 0x0102, 0xfffe, payload);
            assert_eq!(packet.len(), 8 + usize::from(payload));
            assert_eq!((packet[..2].to_vec(), packet[4..8].to_vec()), (vec![8, 0], vec![1, 2, 0xff, 0xfe]));
            assert_eq!(checksum(&packet), 0, "{payload}");
            let six = echo_request(Family::V6, 0x0102, 0xfffe, payload);
            assert_eq!((six[..4].to_vec(), six.len()), (vec![128, 0, 0, 0], packet.len()));
        }
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2, "RFC 1071 section 3");
    }

    #[test]
    fn words() {
        assert_eq!(words_v4(3, 1), "host unreachable");
        assert_eq!(words_v4(3, 13), "administratively prohibited");
        assert_eq!(words_v4(11, 0), "TTL exceeded");
        assert_eq!(words_v6(1, 0), "no route to destination");
        assert_eq!(words_v6(3, 0), "hop limit exceeded");
        assert_eq!(words_v6(200, 9), "ICMPv6 type 200 code 9");
    }

    #[test]
    fn a_full_queue_is_seen() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        assert_eq!(queue(receiver.as_fd()).unwrap(), Queue::default());
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..5_000 {
            sender.send_to(&[0; 1000], to).unwrap();
        }
        let queue = queue(receiver.as_fd()).unwrap();
        assert!(queue.waiting > 0 && queue.drops > 0, "{queue:?}");
    }
}
