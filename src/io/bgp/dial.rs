//! Connecting to a peer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{sockopt, transport, words};
use crate::config::model::Bgp;

/// How long TCP may try: three SYNs. The speaker gives up later, so that the reason is ours to tell.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the peer, its options set.
///
/// # Errors
///
/// Why there is none, in words.
pub(super) async fn dial(peer: &Bgp) -> Result<TcpStream, String> {
    let before = words::bad_signatures();
    let socket = socket(peer).map_err(|error| words::refused(&error, peer))?;
    let to = SocketAddr::new(peer.session.peer, peer.session.port);
    match timeout(CONNECT_TIMEOUT, socket.connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Err(words::refused(&error, peer)),
        Ok(Err(_)) | Err(_) => {
            let suspicious = words::bad_signatures() > before;
            Err(words::no_answer(peer, CONNECT_TIMEOUT, suspicious))
        }
    }
}

fn socket(peer: &Bgp) -> io::Result<TcpSocket> {
    let cfg = &peer.session;
    let socket = Socket::new(Domain::for_address((cfg.peer, 0).into()), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    transport::prepare(&socket, peer)?;
    if let Some(key) = &peer.password {
        sockopt::set_md5_key(&socket, cfg.peer, &key.0)?;
    }
    if let Some(local) = cfg.local_address {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}
