//! What a peer's configuration means for its sockets: key, TTL, marks.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::sockopt;
use crate::bgp::PeerConfig;
use crate::config::model::Bgp;

/// CS6, internetwork control (RFC 4594 section 3.1): what routers send BGP with.
const TOS: u32 = 0xC0;
/// For peers within our AS: what the system takes, written down.
const TTL: u8 = 64;
/// How often TCP asks before it gives up a peer that says nothing at all.
const QUESTIONS: u32 = 3;
/// Without a hold time, what TCP's questions are spread over in its place: the hold time that RFC 4271 section 10 suggests.
const QUIET_HOLD: Duration = Duration::from_secs(90);

/// Without a hold time: twice the longest time that TCP leaves between two looks at a window that is shut.
const QUIET_PATIENCE: Duration = Duration::from_secs(240);

/// The TTL (hop limit) that segments to the peer leave with.
pub(super) fn ttl(cfg: &PeerConfig) -> u8 {
    match cfg.multihop {
        // RFC 5082 section 3.
        _ if cfg.ttl_security => u8::MAX,
        Some(hops) => hops.max(1),
        // RFC 4271 section 5.1.3 takes for granted that such a peer is on our link.
        None if cfg.external() => 1,
        None => TTL,
    }
}

/// The TTL (hop limit) below which segments from the peer are dropped (RFC 5082 section 3); zero: none are.
pub(super) fn min_ttl(cfg: &PeerConfig) -> u8 {
    if cfg.ttl_security { u8::MAX - (cfg.multihop.unwrap_or(1).max(1) - 1) } else { 0 }
}

/// How long octets may stay without any acknowledgement before the connection is taken for dead: the hold time.
///
/// This is watched here and not left to TCP_USER_TIMEOUT: that one ends connections of a peer that acknowledges but
/// keeps its window shut (tcp(7)), which is for SendHoldTimer to judge (RFC 9687), with a NOTIFICATION.
pub(super) fn patience(cfg: &PeerConfig) -> Duration {
    if cfg.hold_time.is_zero() { QUIET_PATIENCE } else { cfg.hold_time }
}

/// TTL and traffic class, of a listener too: the SYN-ACK is sent by it.
pub(super) fn mark(socket: &impl AsFd, v6: bool, ttl: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if v6 {
        socket.set_tclass_v6(TOS)?;
        socket.set_unicast_hops_v6(ttl.into())
    } else {
        socket.set_tos_v4(TOS)?;
        socket.set_ttl_v4(ttl.into())
    }
}

/// Everything that a connection needs, but the key: an accepted one has it from its listener.
pub(super) fn prepare(socket: &impl AsFd, peer: &Bgp) -> io::Result<()> {
    let cfg = &peer.session;
    let v6 = cfg.peer.is_ipv6();
    mark(socket, v6, ttl(cfg))?;
    sockopt::set_min_ttl(socket, v6, min_ttl(cfg))?;
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&questions(cfg.hold_time))
}

/// TCP's own keepalive, for when BGP has none: with a hold time of zero, and in OpenSent, where a peer that has
/// acknowledged our OPEN and is gone would keep us for the four minutes of RFC 4271 section 8.2.2. It gives up after
/// one and a half hold times, so that a session's own HoldTimer always comes first, and asks only after half of one:
/// BGP's KEEPALIVEs come more often.
fn questions(hold_time: Duration) -> TcpKeepalive {
    let hold = if hold_time.is_zero() { QUIET_HOLD } else { hold_time };
    // In whole seconds, at least one (tcp(7)).
    let seconds = |span: Duration| Duration::from_secs(span.as_secs().max(1));
    TcpKeepalive::new()
        .with_time(seconds(hold / 2))
        .with_interval(seconds(hold / QUESTIONS))
        .with_retries(QUESTIONS)
}
