//! One rtnetlink socket: opened with what we need, framing, and dumps with a deadline.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The kernel builds dumps in pieces of at most 32 KiB; link news with many virtual functions are larger.
const RECEIVE_BYTES: usize = 128 * 1024;
/// Room for acknowledgements and news; a full BGP table's worth of news is filtered out before it gets here.
const RECEIVE_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Room for the largest batch of operations.
const SEND_QUEUE_BYTES: usize = 1024 * 1024;
/// The kernel answers while we send; silence this long means that the answer was lost.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A dump longer than this is given up.
const DUMP_TIMEOUT: Duration = Duration::from_secs(20);
/// A dump that changes happen to (NLM_F_DUMP_INTR) is tried so often.
const DUMP_TRIES: u32 = 8;

/// A socket and its receive buffer.
pub(super) struct Channel {
    socket: Socket,
    buf: Vec<u8>,
    port: u32,
    seq: u32,
}

impl Channel {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        // Without the privilege the default must do: an overrun is noticed and answered anyway.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_QUEUE_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_QUEUE_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_QUEUE_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_QUEUE_BYTES)?;
        }
        let timeout = TimeVal::milliseconds(i64::try_from(ANSWER_TIMEOUT.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Channel { socket, buf: Vec::new(), port, seq: 0 })
    }

    /// The kernel's name for this socket: news that we caused carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The socket itself, for options and polling.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// The socket, to poll.
    pub fn as_socket(&self) -> &Socket {
        &self.socket
    }

    /// A sequence number that no other request of this socket has.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Sends whole messages. The kernel carries them out before this returns.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Receives one datagram. A datagram larger than the buffer counts as an overrun (ENOBUFS).
    ///
    /// Errors: `WouldBlock` if nothing came within [`ANSWER_TIMEOUT`] (at once with `MSG_DONTWAIT`), ENOBUFS if
    /// answers or news were lost.
    pub fn receive(&mut self, flags: i32) -> io::Result<Frames<'_>> {
        self.buf.clear();
        self.buf.reserve(RECEIVE_BYTES);
        let len = loop {
            match self.socket.recv(&mut self.buf, flags | libc::MSG_TRUNC) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                received => break received?,
            }
        };
        if len > self.buf.len() {
            return Err(Errno::ENOBUFS.into());
        }
        Ok(Frames { rest: &self.buf })
    }

    /// Asks for everything that `request` describes and calls `each` with every message's payload.
    ///
    /// `begin` is called before each try: a dump during which the kernel's tables changed is done again.
    /// Errors: the kernel's, `TimedOut`, or that it changed during every try.
    pub fn dump(
        &mut self,
        request: &RouteNetlinkMessage,
        mut begin: impl FnMut(),
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let deadline = Instant::now() + DUMP_TIMEOUT;
        for _ in 0..DUMP_TRIES {
            begin();
            let seq = self.next_seq();
            let mut bytes = Vec::new();
            frame(&mut bytes, request.clone(), NLM_F_REQUEST | NLM_F_DUMP, seq);
            self.send(&bytes)?;
            if self.collect(seq, deadline, &mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::other(format!("the kernel's tables changed during each of {DUMP_TRIES} dumps")))
    }

    /// Reads one dump to its end. False if the kernel says that it is inconsistent.
    fn collect(&mut self, seq: u32, deadline: Instant, each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the dump did not end in time"));
            }
            for (header, payload) in self.receive(0).map_err(no_answer)? {
                if header.sequence_number != seq {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match status(payload) {
                            0 => Ok(consistent),
                            code if code == -(Errno::EINTR as i32) => Ok(false),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Ok(false),
                    _ => each(payload),
                }
            }
        }
    }
}

fn no_answer(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"),
        _ => e,
    }
}

/// The status at the head of NLMSG_ERROR and NLMSG_DONE: 0 or a negative errno.
pub(super) fn status(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// The messages of one datagram, as header and payload. Ends at the first that does not fit.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Frames in these bytes.
    #[cfg(test)]
    pub fn of(bytes: &'a [u8]) -> Self {
        Frames { rest: bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (NetlinkHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        use netlink_packet_core::Parseable;
        let rest = self.rest;
        let buffer = NetlinkBuffer::new_checked(&rest).ok()?;
        let header = <NetlinkHeader as Parseable<NetlinkBuffer<&&[u8]>>>::parse(&buffer).ok()?;
        let len = header.length as usize;
        let payload = rest.get(16..len)?;
        // Messages are aligned to four octets; the last may end without its padding.
        self.rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((header, payload))
    }
}

/// Appends one message.
pub(super) fn frame(out: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, seq: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = seq;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = out.len();
    out.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut out[start..]);
}

/// Appends a message that the kernel gave us, as a request of another type: what `ip route flush` does.
pub(super) fn frame_raw(out: &mut Vec<u8>, kind: u16, payload: &[u8], flags: u16, seq: u32) {
    let len = u32::try_from(payload.len() + 16).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_at_the_first_that_lies_about_its_length() {
        let mut bytes = Vec::new();
        frame_raw(&mut bytes, 24, &[1, 2, 3], 0, 7);
        frame_raw(&mut bytes, 25, &[4, 5, 6, 7], 0, 8);
        let seen: Vec<_> =
            Frames::of(&bytes).map(|(h, p)| (h.message_type, h.sequence_number, p.to_vec())).collect();
        assert_eq!(seen, [(24, 7, vec![1, 2, 3]), (25, 8, vec![4, 5, 6, 7])]);
        for cut in 0..bytes.len() {
            assert!(Frames::of(&bytes[..cut]).count() <= 1);
        }
        bytes[0] = 3;
        assert_eq!(Frames::of(&bytes).count(), 0);
        bytes[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Frames::of(&bytes).count(), 0);
    }
}
