//! What the system said, in words that tell an operator what to look at.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::model::Bgp;

/// Counters of segments that failed RFC 2385 section 2, in the namespace of the calling thread.
const COUNTERS: &str = "/proc/thread-self/net/netstat";

/// Why a connection ended.
pub(super) fn lost(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::BrokenPipe => "the peer closed the connection".to_owned(),
        io::ErrorKind::TimedOut => silent(patience),
        _ => plain(error),
    }
}

/// The peer's TCP does not answer any more.
pub(super) fn silent(patience: Duration) -> String {
    format!("timed out: nothing was acknowledged for {} s", patience.as_secs())
}

/// Why no connection could be made.
pub(super) fn refused(error: &io::Error, peer: &Bgp) -> String {
    let to = SocketAddr::new(peer.session.peer, peer.session.port);
    let from = peer.session.local_address.map_or_else(String::new, |local| format!(" from {local}"));
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => format!("connecting to {to}: refused: nothing listens there for us"),
        Some(libc::EADDRNOTAVAIL) => {
            format!("connecting to {to}{from}: this machine does not have that address")
        }
        Some(libc::EINVAL) if is_link_local(peer) => {
            format!(
                "connecting to {to}: a link-local address says nothing without an interface; use a global one"
            )
        }
        Some(libc::ENOPROTOOPT) => {
            format!("connecting to {to}: this kernel lacks TCP MD5 or GTSM: {}", plain(error))
        }
        _ => format!("connecting to {to}{from}: {}", plain(error)),
    }
}

fn is_link_local(peer: &Bgp) -> bool {
    matches!(peer.session.peer, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Nothing came back. `suspicious`: segments with bad signatures did.
pub(super) fn no_answer(peer: &Bgp, waited: Duration, suspicious: bool) -> String {
    let to = SocketAddr::new(peer.session.peer, peer.session.port);
    let key = if peer.password.is_some() { "has another MD5 key or none" } else { "wants an MD5 key" };
    let mut words = format!(
        "connecting to {to}: no answer within {} s: the peer is away, filters us, or {key}",
        waited.as_secs()
    );
    if peer.session.ttl_security {
        words += ", or is more hops away than GTSM allows";
    }
    if suspicious {
        words += "; meanwhile segments with a wrong or missing MD5 signature arrived";
    }
    words
}

/// Why nobody can connect to us.
pub(super) fn deaf(error: &io::Error, at: SocketAddr) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "another program listens there (a routing daemon?)",
        Some(libc::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE: run as root or by the unit",
        Some(libc::EADDRNOTAVAIL) => "this machine does not have that address",
        Some(libc::ENOPROTOOPT) => "this kernel lacks TCP MD5 or GTSM",
        _ => return format!("cannot listen at {at}: {}", plain(error)),
    };
    format!("cannot listen at {at}: {hint}")
}

/// Without Rust's "(os error 111)".
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// How many segments with a wrong, missing or unexpected signature have come to this machine. Zero if unknown.
pub(super) fn bad_signatures() -> u64 {
    std::fs::read_to_string(COUNTERS).map_or(0, |text| count_bad_signatures(&text))
}

fn count_bad_signatures(text: &str) -> u64 {
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let [names, values] = rows.as_slice() else { return 0 };
    let columns = names.split_whitespace().zip(values.split_whitespace());
    columns
        .filter(|(name, _)| name.starts_with("TCPMD5"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_signatures_are_counted_whatever_stands_around_them() {
        let text = "TcpExt: A TCPMD5NotFound TCPMD5Unexpected B TCPMD5Failure\nTcpExt: 9 1 20 9 300\nIpExt: X\nIpExt: 1\n";
        assert_eq!(count_bad_signatures(text), 321);
        assert_eq!(count_bad_signatures("TcpExt: TCPMD5NotFound\n"), 0);
        assert_eq!(count_bad_signatures(""), 0);
    }
}
