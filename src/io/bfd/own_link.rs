//! Whether our own link towards a neighbour is there at all: without it a silence says nothing of the neighbour.
//!
//! Asked in the thread that must not be kept waiting, so nothing here takes the kernel's big lock (RTNL), which a bulk of
//! changes holds for long: an ioctl for a link's flags, and a look-up of a route, which needs none. Nor does anything here
//! load a module: an ioctl with the name of a device that is not there has who may (CAP_NET_ADMIN, CAP_SYS_MODULE) wait for
//! modprobe. A socket that is bound to that name has not.

#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use libc::{c_int, c_void, socklen_t};
use socket2::{Domain, Socket, Type};

use crate::io::netlink::Egress;

/// linux/sockios.h.
const SIOCGIFFLAGS: u64 = 0x8913;

/// Asks the kernel, in the network namespace of the thread that first asks.
#[derive(Debug, Default)]
pub(super) struct OwnLinks {
    egress: Egress,
}

/// Binds a socket to the device of that name, and returns the device's index.
///
/// # Errors
///
/// The kernel's: ENODEV if there is none.
pub(super) fn bind(socket: &Socket, name: &str) -> io::Result<u32> {
    socket.bind_device(Some(name.as_bytes()))?;
    let mut index: c_int = 0;
    let mut size = size_of_val(&index) as socklen_t;
    let value = (&raw mut index).cast::<c_void>();
    // SAFETY: an option of one integer, to a live one; the socket is open.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, value, &raw mut size)
    };
    if result == 0 { Ok(index.unsigned_abs()) } else { Err(io::Error::last_os_error()) }
}

impl OwnLinks {
    /// What is wrong with the link of that name: "our own link eth0 has no carrier"; None if nothing is, or if it cannot be
    /// found out.
    pub fn trouble(&self, name: &str) -> Option<String> {
        let flags = match flags(name) {
            Ok(flags) => flags,
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
                return Some(format!("our own link {name} is not there"));
            }
            Err(_) => return None,
        };
        let has = |flag: c_int| flags & flag != 0;
        match (has(libc::IFF_UP), has(libc::IFF_RUNNING)) {
            (false, _) => Some(format!("our own link {name} is administratively down")),
            (true, false) => Some(format!("our own link {name} has no carrier")),
            (true, true) => None,
        }
    }

    /// The same of the link with this index.
    pub fn trouble_of(&self, index: u32) -> Option<String> {
        match nix::net::if_::if_indextoname(index) {
            Ok(name) if !name.as_bytes().is_empty() => self.trouble(&name.to_string_lossy()),
            // Of a link that has gone there is no name.
            Ok(_) | Err(nix::errno::Errno::ENXIO | nix::errno::Errno::ENODEV) => {
                Some("our own link to it is not there any more".to_owned())
            }
            Err(_) => None,
        }
    }

    /// The same of the link by which packets to `to` leave.
    pub fn trouble_towards(&self, to: IpAddr, from: Option<IpAddr>) -> Option<String> {
        let index = self.egress.way(to, from)?;
        self.trouble_of(index)
    }

    /// The index of the link by which packets to `to` leave, if our address is on it.
    pub fn home_towards(&self, to: IpAddr, our: IpAddr) -> Option<u32> {
        self.egress.way(to, Some(our)).filter(|way| self.egress.home(our) == Some(*way))
    }
}

fn flags(name: &str) -> io::Result<c_int> {
    // Who is bound once may need a privilege to be bound again: a new one each time.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // Only of a device that is there is the ioctl asked.
    bind(&socket, name)?;
    // SAFETY: a plain structure of integers and a union of such, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the socket is open, and the structure lives while the kernel reads and fills it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFFLAGS as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: of this request the kernel has filled in the flags.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn ip(words: &str) {
        assert!(Command::new("ip").args(words.split(' ')).status().expect("ip").success(), "ip {words}");
    }

    /// The kernel tells of a carrier a moment after it went.
    fn until(words: Option<&str>, mut asked: impl FnMut() -> Option<String>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let said = asked();
            if said.as_deref() == words {
                return;
            }
            assert!(Instant::now() < deadline, "{said:?} and not {words:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_link_is_there_or_not_by_name_by_number_and_by_route() {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root: unshare(CLONE_NEWNET)");
            ip("link add near type veth peer name far");
            ip("address add 192.0.2.1/24 dev near");
            ip("link set near up");
            ip("link set far up");
            let links = OwnLinks::default();
            let index = nix::net::if_::if_nametoindex("near").unwrap();
            let to = "192.0.2.9".parse().unwrap();
            until(None, || links.trouble("near"));
            until(None, || links.trouble_of(index));
            until(None, || links.trouble_towards(to, None));
            ip("link set far down");
            let dead = Some("our own link near has no carrier");
            until(dead, || links.trouble("near"));
            until(dead, || links.trouble_of(index));
            until(dead, || links.trouble_towards(to, None));
            ip("link set near down");
            until(Some("our own link near is administratively down"), || links.trouble_of(index));
            ip("link delete near");
            until(Some("our own link near is not there"), || links.trouble("near"));
            until(Some("our own link to it is not there any more"), || links.trouble_of(index));
        };
        std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
