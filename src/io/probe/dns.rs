//! `dns`: one question, over UDP or TCP.
//!
//! A truncated answer over UDP is asked for again over TCP within the same timeout, as every resolver does (RFC 7766
//! section 5): what the datagram holds counts for nothing, and a node whose TCP is dead does not serve its clients.
//! Each query has a random id and, from the kernel, a random port (RFC 5452 section 9.2). What comes from elsewhere never
//! reaches the connected socket; what does not answer the question is passed over, and named if nothing better comes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Protocol, SockRef, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};

use super::deadline::Deadline;
use super::target::{self, cannot, is_local, unanswered};
use super::{Fault, Kit, Verdict, tcp};
use crate::announcer::own::OwnPrefixes;
use crate::config::model::Dns;
use crate::dns::{Foreign, Reply};
use crate::io::child::words;

/// More than a server sends to a query without EDNS (512 octets, RFC 1035 section 4.2.1).
const DATAGRAM: usize = 4096;

/// One query under way.
struct Query<'c> {
    dns: &'c Dns,
    to: SocketAddr,
    deadline: Deadline,
    id: u16,
    /// Why the last message that came was no answer.
    passed_over: Option<Foreign>,
}

/// Asks once, and judges the answer.
pub async fn probe(kit: &Kit, dns: &Dns, timeout: Duration, own: &OwnPrefixes) -> Verdict {
    let (start, deadline) = (Instant::now(), Deadline::new(timeout));
    let address = target::address(kit, &dns.server, &dns.origin, own)?;
    let to = SocketAddr::new(address, dns.port);
    // Its keys are the system's randomness.
    let id = RandomState::new().build_hasher().finish() as u16;
    let mut query = Query { dns, to, deadline, id, passed_over: None };
    let reply = query.ask().await.map_err(|fault| query.explain(fault))?;
    let rtt = start.elapsed();
    dns.expect.judge(dns.question.record, &reply).map_err(Fault::Theirs)?;
    Ok(Some(rtt))
}

impl Query<'_> {
    async fn ask(&mut self) -> Result<Reply, Fault> {
        if !self.dns.tcp {
            let reply = self.over_udp().await?;
            if !reply.truncated {
                return Ok(reply);
            }
        }
        self.over_tcp().await
    }

    async fn over_udp(&mut self) -> Result<Reply, Fault> {
        let (to, deadline) = (self.to, self.deadline);
        let socket = target::socket(to.ip(), Type::DGRAM, Protocol::UDP, &self.dns.origin)?;
        // Without it a connected socket is told of a closed port only, and not of an unreachable host.
        let told = match to {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
        };
        told.map_err(|e| cannot("open a socket", &e.into()))?;
        socket.connect(&to.into()).map_err(|e| cannot(&format!("send to {}", to.ip()), &e))?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|e| cannot("open a socket", &e))?;
        let message = self.dns.question.query(self.id);
        let sent = deadline.wait(to.ip(), socket.send(&message)).await?;
        sent.map_err(|e| cannot(&format!("send to {}", to.ip()), &e))?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // Errors too: what ICMP says makes a socket anything but readable.
            let either = Interest::READABLE | Interest::ERROR;
            let received = socket.async_io(either, || (&*SockRef::from(&socket)).read(&mut buffer));
            let length = deadline.wait(to.ip(), received).await?.map_err(|e| refusal(to, &e))?;
            if let Some(reply) = self.read(buffer.get(..length).unwrap_or_default()) {
                return Ok(reply);
            }
        }
    }

    /// RFC 7766 section 8: each message behind its length.
    async fn over_tcp(&mut self) -> Result<Reply, Fault> {
        let (to, deadline) = (self.to, self.deadline);
        let mut stream = tcp::connect(to, &self.dns.origin, deadline).await?;
        let message = self.dns.question.query(self.id);
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        let message = [&length[..], &message].concat();
        let written = deadline.wait(to.ip(), stream.write_all(&message)).await?;
        written.map_err(|e| tcp::failure(to, &e))?;
        loop {
            let received = deadline.wait(to.ip(), message_of(&mut stream)).await?;
            let message = received.map_err(|e| ended(to, &e))?;
            if let Some(reply) = self.read(&message) {
                return Ok(Reply { truncated: false, ..reply });
            }
        }
    }

    fn read(&mut self, message: &[u8]) -> Option<Reply> {
        let reply = self.dns.question.reply(self.id, message);
        reply.map_err(|why| self.passed_over = Some(why)).ok()
    }

    /// Silence is told with what was heard instead of an answer.
    fn explain(&self, fault: Fault) -> Fault {
        match (fault, self.passed_over) {
            (Fault::Silence { to, why }, Some(heard)) => {
                Fault::Silence { to, why: format!("{why} (a message came, but {heard})") }
            }
            (fault, _) => fault,
        }
    }
}

async fn message_of(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// What the kernel says instead of a datagram: mostly what an ICMP message said, from afar or from this host.
fn refusal(to: SocketAddr, error: &io::Error) -> Fault {
    let prohibited = error.raw_os_error() == Some(libc::EACCES);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::Theirs(format!("connection refused by {to}")),
        _ if unanswered(error) => Fault::Silence { to: to.ip(), why: format!("{to}: {}", words(error)) },
        // ICMPv6's administratively prohibited; nothing that we do after sending is forbidden to us.
        _ if is_local(error) && !prohibited => cannot(&format!("receive from {to}"), error),
        _ => Fault::Theirs(format!("{to}: {}", words(error))),
    }
}

fn ended(to: SocketAddr, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Fault::Theirs(format!("{to} closed the connection without an answer"))
        }
        _ => tcp::failure(to, error),
    }
}
