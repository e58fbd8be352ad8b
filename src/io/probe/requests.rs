//! The echo requests of one socket that wait for their answers, and the task that reads those.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Type;
use surge_ping::{AsyncSocket, IcmpPacket, Icmpv4Packet, Icmpv6Packet};
use tokio::time::Instant;

use super::deadline::not_running;
use super::echo::Asked;
use super::icmp::{self, Answer, Queue};
use super::target::is_own;
use crate::announcer::event::ProbeId;

/// Room for the header of an answer and of what it quotes; the rest of a packet says nothing.
const ROOM: usize = 2048;

/// What is called with the round trip time, or with why there is none.
pub type Hear = Box<dyn FnOnce(Result<Duration, Lost>) + Send>;

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

/// A request under way.
pub struct Request {
    pub asked: Asked,
    pub sent: Instant,
    /// The socket's queue before it left.
    pub before: Queue,
    pub hear: Hear,
}

/// Those of one socket, by the number that their answers carry.
#[derive(Default)]
pub struct Requests(Mutex<BTreeMap<u32, Request>>);

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Requests({})", self.lock().len())
    }
}

impl Requests {
    /// Enters one.
    ///
    /// # Errors
    /// The request, if another of that key is under way.
    pub fn insert(&self, key: u32, request: Request) -> Result<(), Request> {
        let mut requests = self.lock();
        if requests.contains_key(&key) {
            return Err(request);
        }
        requests.insert(key, request);
        Ok(())
    }

    /// True while that one waits.
    pub fn has(&self, key: u32) -> bool {
        self.lock().contains_key(&key)
    }

    /// It left only now.
    pub fn sent_now(&self, key: u32) {
        if let Some(request) = self.lock().get_mut(&key) {
            request.sent = Instant::now();
        }
    }

    /// Ends one, if it still waits.
    pub fn end(&self, key: u32, result: impl FnOnce(&Request) -> Result<Duration, Lost>) {
        // Who hears of it may send the next.
        let ended = self.lock().remove(&key);
        if let Some(request) = ended {
            let result = result(&request);
            (request.hear)(result);
        }
    }

    /// Takes that one out, if it is of that probe.
    pub fn cancel(&self, key: u32, probe: ProbeId) -> Option<Request> {
        let mut requests = self.lock();
        let is_its = requests.get(&key).is_some_and(|request| request.asked.probe == Some(probe));
        if is_its { requests.remove(&key) } else { None }
    }

    /// Forgets all.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    /// Reads the socket for ever.
    pub async fn read(self: Arc<Self>, socket: AsyncSocket) {
        let mut buffer = [0; ROOM];
        loop {
            // Errors are of packets sent before, and are told where those are judged.
            let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
            let kind = socket.get_type();
            if let Some(packet) = decode(buffer.get(..len).unwrap_or_default(), kind, from.ip()) {
                self.answer(kind, &packet);
            }
        }
    }

    fn answer(&self, kind: Type, packet: &IcmpPacket) {
        let key = key(kind, packet.get_identifier().into_u16(), packet.get_sequence().into_u16());
        if self.lock().get(&key).is_some_and(|r| r.asked.to == packet.real_destination()) {
            let now = Instant::now();
            self.end(key, |r| judge(packet, now.saturating_duration_since(r.sent), r.asked.limit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer to a request of that identifier and sequence number is known by: a socket that is not raw has an
/// identifier of the kernel's.
pub fn key(kind: Type, ident: u16, sequence: u16) -> u32 {
    if kind == Type::RAW { u32::from(ident) << 16 | u32::from(sequence) } else { sequence.into() }
}

fn decode(octets: &[u8], kind: Type, from: IpAddr) -> Option<IcmpPacket> {
    match from {
        IpAddr::V4(from) => {
            let to = Ipv4Addr::UNSPECIFIED;
            Icmpv4Packet::decode(octets, kind, from, to).ok().map(IcmpPacket::V4)
        }
        IpAddr::V6(from) => Icmpv6Packet::decode(octets, from).ok().map(IcmpPacket::V6),
    }
}

/// What an answer means that came after `rtt`.
fn judge(packet: &IcmpPacket, rtt: Duration, limit: Duration) -> Result<Duration, Lost> {
    match icmp::answer(packet) {
        Answer::Reply if rtt > limit => Err(Lost::Blind(not_running(rtt.saturating_sub(limit)))),
        Answer::Reply => Ok(rtt),
        Answer::Error { from, says, no_neighbour } if is_own(from) => Err(if no_neighbour {
            Lost::Silence("no neighbour answers ARP or ND".to_owned())
        } else {
            Lost::Blind(format!("this machine itself says: {says}"))
        }),
        Answer::Error { from, says, .. } => Err(Lost::Error(format!("{from} says: {says}"))),
    }
}
