//! `tcp`: a connection that is opened and closed.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::{Protocol, SockRef, Type};
use tokio::net::TcpStream;

use super::deadline::Deadline;
use super::target::{self, cannot, unanswered};
use super::{Fault, Kit, Verdict};
use crate::announcer::own::OwnPrefixes;
use crate::config::model::{Origin, Tcp};
use crate::io::child::words;

/// Connects, and closes with a reset, so that no TIME_WAIT piles up on either side.
pub async fn probe(kit: &Kit, tcp: &Tcp, timeout: Duration, own: &OwnPrefixes) -> Verdict {
    let deadline = Deadline::new(timeout);
    let address = target::address(kit, &tcp.host, &tcp.origin, own)?;
    let start = Instant::now();
    connect(SocketAddr::new(address, tcp.port), &tcp.origin, deadline).await?;
    Ok(Some(start.elapsed()))
}

/// A connection that closes with a reset.
///
/// # Errors
/// There is none, and who is to blame.
pub async fn connect(to: SocketAddr, origin: &Origin, deadline: Deadline) -> Result<TcpStream, Fault> {
    let socket = target::socket(to.ip(), Type::STREAM, Protocol::TCP, origin)?;
    socket.set_linger(Some(Duration::ZERO)).map_err(|e| cannot("open a socket", &e))?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) if answered(&e) => return Err(failure(to, &e)),
        Err(e) => return Err(cannot(&format!("connect to {to}"), &e)),
    }
    let stream = TcpStream::from_std(socket.into()).map_err(|e| cannot("open a socket", &e))?;
    deadline.wait(to.ip(), stream.writable()).await?.map_err(|e| cannot("wait for a socket", &e))?;
    match SockRef::from(&stream).take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(e)) | Err(e) => Err(failure(to, &e)),
    }
}

/// On loopback even the peer's answer arrives within connect(2).
fn answered(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ETIMEDOUT))
}

/// What the other end, or the way to it, did to a connection.
pub fn failure(to: SocketAddr, error: &io::Error) -> Fault {
    if error.raw_os_error() == Some(libc::ECONNREFUSED) {
        return Fault::Theirs(format!("connection refused by {to}"));
    }
    let why = format!("connection to {to}: {}", words(error));
    if unanswered(error) { Fault::Silence { to: to.ip(), why } } else { Fault::Theirs(why) }
}
