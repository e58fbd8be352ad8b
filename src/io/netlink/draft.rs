//! A batch of messages being written, and its journey to the kernel and back.

use std::io;
use std::time::Instant;

use netlink_packet_core::{NLM_F_ACK, NLM_F_ECHO, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;

use super::batch::{Batch, Fate, words};
use super::socket::{ANSWER_TIMEOUT, Channel, frame, frame_raw, status};

/// RTM_NEWROUTE.
pub(super) const NEW_ROUTE: u16 = 24;
/// RTM_DELROUTE.
pub(super) const DELETE_ROUTE: u16 = 25;
/// RTM_DELRULE.
pub(super) const DELETE_RULE: u16 = 33;
/// RTM_DELLINK.
pub(super) const DELETE_LINK: u16 = 17;
/// RTM_DELADDR.
pub(super) const DELETE_ADDRESS: u16 = 21;

/// Messages in one buffer. Each stands for something of the caller's (`T`): an operation, or nothing.
#[derive(Debug)]
pub(super) struct Draft<T> {
    bytes: Vec<u8>,
    last: usize,
    first_seq: Option<u32>,
    stands_for: Vec<T>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Returned<T> {
    /// Every message's fate, in order.
    pub fates: Vec<(T, Fate)>,
    /// Position and payload of echoed messages (NLM_F_ECHO).
    pub echoes: Vec<(usize, Vec<u8>)>,
}

impl<T> Default for Draft<T> {
    fn default() -> Self {
        Draft { bytes: Vec::new(), last: 0, first_seq: None, stands_for: Vec::new() }
    }
}

impl<T> Draft<T> {
    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.stands_for.is_empty()
    }

    /// Messages so far.
    pub fn len(&self) -> usize {
        self.stands_for.len()
    }

    /// Adds a message.
    pub fn push(&mut self, channel: &mut Channel, message: RouteNetlinkMessage, flags: u16, stands_for: T) {
        let seq = self.begin(channel, stands_for);
        frame(&mut self.bytes, message, NLM_F_REQUEST | flags, seq);
    }

    /// Adds what the kernel once told us, as a request.
    pub fn push_raw(&mut self, channel: &mut Channel, kind: u16, payload: &[u8], flags: u16, stands_for: T) {
        let seq = self.begin(channel, stands_for);
        frame_raw(&mut self.bytes, kind, payload, NLM_F_REQUEST | flags, seq);
    }

    fn begin(&mut self, channel: &mut Channel, stands_for: T) -> u32 {
        let seq = channel.next_seq();
        self.first_seq.get_or_insert(seq);
        self.last = self.bytes.len();
        self.stands_for.push(stands_for);
        seq
    }

    /// Has the kernel carry it out and waits for the answers, [`ANSWER_TIMEOUT`] at most.
    ///
    /// Only the last message asks for an acknowledgement; see [`Batch`] for why that is enough. One datagram comes
    /// back for each refusal, each echo, and the end: at most two for each message, which the receive queue holds.
    pub fn send(mut self, channel: &mut Channel) -> io::Result<Returned<T>> {
        let mut echoes = Vec::new();
        let Some(first) = self.first_seq else { return Ok(Returned { fates: Vec::new(), echoes }) };
        // nlmsg_flags stand six octets into the header.
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let asked = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&asked.to_ne_bytes());
        }
        channel.send(&self.bytes)?;
        let mut batch = Batch::new(first, self.stands_for.len());
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while !batch.complete() && Instant::now() < deadline {
            // What was lost does not come any more: read what there is and no further.
            let flags = if batch.lost() { libc::MSG_DONTWAIT } else { 0 };
            match channel.receive(flags) {
                Ok(frames) => {
                    for (header, payload) in frames {
                        let Some(at) = batch.position(header.sequence_number) else { continue };
                        match header.message_type {
                            NLMSG_ERROR => {
                                let status = status(payload);
                                let words = if status == 0 { None } else { words(header.flags, payload) };
                                batch.answer(header.sequence_number, status, words);
                            }
                            DELETE_ROUTE => echoes.push((at, payload.to_vec())),
                            _ => {}
                        }
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => batch.overrun(),
                Err(_) => break,
            }
        }
        Ok(Returned { fates: self.stands_for.into_iter().zip(batch.finish()).collect(), echoes })
    }
}

/// The flag that has the kernel repeat to us what it removed.
pub(super) const ECHO: u16 = NLM_F_ECHO;

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;
    use crate::config::model::{RouteKind, Scope};
    use crate::fib::object::RouteObject;
    use crate::net::{Family, IfIndex};
    use socket2::SockRef;

    /// Answers that found no room are not taken for successes, and nobody waits for them.
    #[test]
    fn lost_answers_are_unknown_and_do_not_hang() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("a network namespace needs root");
            let mut channel = Channel::open().unwrap();
            SockRef::from(channel.as_socket()).set_recv_buffer_size(4096).unwrap();
            let mut draft = Draft::default();
            let removal = RouteObject {
                table: 254,
                to: "198.51.100.0/24".parse().unwrap(),
                metric: 1,
                kind: RouteKind::Unicast,
                dev: None,
                via: None,
                hops: Vec::new(),
                src: None,
                scope: Scope::Link,
                onlink: false,
                mtu: None,
                advmss: None,
            };
            for i in 0..1000 {
                let message = encode::delete_route(&removal, &Some(IfIndex(1)).into(), 187);
                draft.push(&mut channel, message, 0, i);
            }
            let started = Instant::now();
            let fates = draft.send(&mut channel).unwrap().fates;
            assert!(started.elapsed() < ANSWER_TIMEOUT, "what is lost is not waited for");
            assert_eq!(fates.len(), 1000);
            assert!(matches!(fates[0], (0, Fate::Refused(libc::ESRCH, _))), "{:?}", fates[0]);
            assert!(!fates.iter().any(|(_, fate)| *fate == Fate::Done));
            assert!(fates.iter().any(|(_, fate)| *fate == Fate::Unknown));
            // The socket is as good as before.
            let mut draft = Draft::default();
            draft.push(&mut channel, encode::delete_route(&removal, &encode::Exit::default(), 187), 0, ());
            let fates = draft.send(&mut channel).unwrap().fates;
            assert!(matches!(fates[..], [((), Fate::Refused(libc::ESRCH, _))]), "{fates:?}");
            channel.dump(&encode::get_routes(Family::V4, 0, 0), || (), |_| ()).unwrap();
        });
        thread.join().unwrap();
    }
}
