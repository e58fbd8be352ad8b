//! Socket options that have no safe wrapper: TCP MD5 (RFC 2385), GTSM (RFC 5082), and what TCP knows of our octets.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

/// The longest key that the kernel takes, in octets.
pub const MAX_KEY: usize = libc::TCP_MD5SIG_MAXKEYLEN;
/// Room for the headers of a SYN: IP at most 60 octets (or 40 and extension headers), TCP at most 60.
const SYN_ROOM: usize = 256;

/// `struct tcp_md5sig` of linux/tcp.h.
#[derive(Clone, Copy)]
#[repr(C)]
struct Md5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; MAX_KEY],
}

fn set<T: Copy>(socket: &impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let size = socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is a live T and `size` its size; the kernel only reads it. The descriptor is borrowed, so open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option into `value`; how many octets of it the kernel filled.
fn get<T: Copy>(socket: &impl AsFd, level: c_int, name: c_int, value: &mut T) -> io::Result<usize> {
    let mut size = socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is a live T of plain integers and the kernel writes at most `size` octets, its size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast::<c_void>(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(size as usize) } else { Err(io::Error::last_os_error()) }
}

/// Signs segments to `peer`, and takes only signed ones from it (RFC 2385). An empty key ends that; it is no error if
/// there was none. On a listener it holds for connections to come.
///
/// # Errors
///
/// The kernel's: ENOPROTOOPT if it was built without TCP MD5, EINVAL for a key longer than [`MAX_KEY`].
pub fn set_md5_key(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    // SAFETY: integers and arrays of them, for which all zeroes is a value.
    let mut option: Md5Sig = unsafe { std::mem::zeroed() };
    let address = socket2::SockAddr::from(SocketAddr::new(peer, 0));
    let length = (address.len() as usize).min(size_of_val(&option.address));
    // SAFETY: both are live and at least `length` octets long; they do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut option.address).cast::<u8>(),
            length,
        );
    }
    let room = option.key.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).unwrap_or(0);
    match set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option) {
        Err(e) if key.is_empty() && e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Drops what comes with a TTL (hop limit) below `least` (RFC 5082 section 3); zero drops nothing.
///
/// # Errors
///
/// The kernel's.
pub fn set_min_ttl(socket: &impl AsFd, v6: bool, least: u8) -> io::Result<()> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(socket, level, name, &c_int::from(least))
}

/// Has a listener keep the headers of each SYN, for [`syn_ttl`].
///
/// # Errors
///
/// The kernel's.
pub fn save_syn(listener: &impl AsFd) -> io::Result<()> {
    set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &1 as &c_int)
}

/// The TTL (hop limit) of the SYN that opened an accepted connection, if it was kept.
///
/// # Errors
///
/// The kernel's.
pub fn syn_ttl(socket: &impl AsFd) -> io::Result<Option<u8>> {
    let mut headers = [0_u8; SYN_ROOM];
    let length = get(socket, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, &mut headers)?;
    let headers = headers.get(..length).unwrap_or(&[]);
    // RFC 791 section 3.1: octet 8; RFC 8200 section 3: octet 7.
    let at = match headers.first().map(|first| first >> 4) {
        Some(4) => 8,
        Some(6) => 7,
        _ => return Ok(None),
    };
    Ok(headers.get(at).copied())
}

/// Octets written that the peer's TCP has not acknowledged (SIOCOUTQ).
///
/// # Errors
///
/// The kernel's.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut octets: c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int, to a live one.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut octets)) };
    if result == 0 { Ok(u64::try_from(octets).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// How long the peer's TCP has been silent: neither octets of its own nor acknowledgements, those of a shut window included.
///
/// # Errors
///
/// The kernel's.
pub fn silence(socket: &impl AsFd) -> io::Result<Duration> {
    // SAFETY: integers only, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(Duration::from_millis(info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv).into()))
}
