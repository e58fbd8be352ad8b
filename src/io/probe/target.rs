//! Whom a probe asks: names resolved, and never ourselves.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Fault, Kit};
use crate::announcer::own::OwnPrefixes;
use crate::config::model::{Host, Origin};
use crate::io::child::words;
use crate::net::family_of;

/// The address to probe.
///
/// # Errors
/// [`Fault::Ours`]: no address is known; it is of another family than the source; it lies in one of `own`, so that after
/// a takeover we would be asking ourselves.
pub fn address(kit: &Kit, host: &Host, origin: &Origin, own: &OwnPrefixes) -> Result<IpAddr, Fault> {
    let family = origin.source.map(family_of);
    let address = match host {
        Host::Address(address) => *address,
        Host::Name(name) => kit.resolver.address(name, family).map_err(Fault::Ours)?,
    };
    if let (Some(source), true) = (origin.source, family.is_some_and(|f| f != family_of(address))) {
        return Err(Fault::Ours(format!("source {source} and target {address} are of different families")));
    }
    match own.covering(address) {
        None => Ok(address),
        Some(prefix) => {
            let what = match host {
                Host::Address(_) => format!("{address} is"),
                Host::Name(name) => format!("{name} resolves to {address},"),
            };
            let why =
                format!("{what} inside our own announced prefix {prefix}: we would be asking ourselves");
            Err(Fault::Ours(why))
        }
    }
}

/// A non-blocking socket that leaves from `origin`.
///
/// # Errors
/// [`Fault::Ours`], with the option that was refused.
pub fn socket(to: IpAddr, kind: Type, protocol: Protocol, origin: &Origin) -> Result<Socket, Fault> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind, Some(protocol))
        .map_err(|e| cannot("open a socket", &e))?;
    socket.set_nonblocking(true).map_err(|e| cannot("open a socket", &e))?;
    if let Some(mark) = origin.fwmark {
        socket.set_mark(mark).map_err(|e| cannot(&format!("set fwmark {mark}"), &e))?;
    }
    if let Some(device) = &origin.device {
        socket
            .bind_device(Some(device.as_bytes()))
            .map_err(|e| cannot(&format!("use device {device}"), &e))?;
    }
    if let Some(source) = origin.source {
        let from = SocketAddr::new(source, 0);
        socket.bind(&from.into()).map_err(|e| cannot(&format!("send from {source}"), &e))?;
    }
    Ok(socket)
}

/// Asks the kernel for the way to `to` without sending anything (a connected datagram socket).
///
/// # Errors
/// [`Fault::Ours`]: there is none.
pub fn route(to: SocketAddr, origin: &Origin) -> Result<(), Fault> {
    let socket = socket(to.ip(), Type::DGRAM, Protocol::UDP, origin)?;
    socket.connect(&to.into()).map_err(|e| cannot(&format!("send to {}", to.ip()), &e))
}

/// Our own inability, in words.
pub fn cannot(what: &str, error: &io::Error) -> Fault {
    Fault::Ours(format!("cannot {what}: {}", words(error)))
}

/// True for errors that only this machine can make: no privilege, no memory, no such address or device. What is not here
/// can have come from the other end.
pub fn is_local(error: &io::Error) -> bool {
    use Errno::*;
    let local = [
        EACCES,
        EADDRINUSE,
        EADDRNOTAVAIL,
        EAFNOSUPPORT,
        EAGAIN,
        EINVAL,
        EMFILE,
        ENETDOWN,
        ENFILE,
        ENOBUFS,
        ENODEV,
        ENOMEM,
        ENXIO,
        EPERM,
    ];
    error.raw_os_error().is_some_and(|code| local.contains(&Errno::from_raw(code)))
}

/// True for errors that our own kernel makes when nobody answers it, be it a neighbour or the peer.
pub fn unanswered(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ETIMEDOUT))
}

/// True if `address` is one of this machine's own.
pub fn is_own(address: IpAddr) -> bool {
    let domain = Domain::for_address(SocketAddr::new(address, 0));
    Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .is_ok_and(|socket| socket.bind(&SocketAddr::new(address, 0).into()).is_ok())
}
