//! What a BGP peer is configured with, every cross-check done.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::family::Families;
use super::wire::capability::Role;
use crate::net::{Asn, RouterId};

/// One `[[bgp]]` of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    /// For people.
    pub name: String,
    /// The peer's address.
    pub peer: IpAddr,
    /// The peer's TCP port.
    pub port: u16,
    /// The peer's AS number; another one in its OPEN is refused.
    pub peer_as: Asn,
    /// Ours, towards this peer.
    pub local_as: Asn,
    /// The source address of connections that we make; absent: the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Our BGP Identifier.
    pub router_id: RouterId,
    /// Wait for the peer to connect, never connect.
    pub passive: bool,
    /// Our proposal (RFC 4271 section 4.2): zero, or 3 s to 65,535 s, whole seconds.
    pub hold_time: Duration,
    /// The first wait between two tries to connect; it doubles up to a minute.
    pub connect_retry: Duration,
    /// The longest a peer may take nothing (RFC 9687); absent: the greater of 8 minutes and twice the hold time.
    pub send_hold_time: Option<Duration>,
    /// GTSM (RFC 5082); for the socket.
    pub ttl_security: bool,
    /// Hops to a peer that is not on our link; for the socket.
    pub multihop: Option<u8>,
    /// Graceful restart (RFC 4724, 8538); absent: not announced.
    pub graceful_restart: Option<GracefulRestartConfig>,
    /// Our role towards the peer (RFC 9234).
    pub role: Option<Role>,
    /// Refuse a peer that announces no role (RFC 9234 section 4.2, strict mode).
    pub role_strict: bool,
    /// Next hop of IPv4 prefixes; absent: our own address of the session.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop of IPv6 prefixes; absent: our own address of the session.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Families to negotiate.
    pub families: Families,
    /// No session before BFD is Up; a peer that is not reached by BFD within this time of its OPEN is refused.
    pub bfd_strict: Option<Duration>,
}

/// `graceful_restart` of a `[[bgp]]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GracefulRestartConfig {
    /// How long the peer may keep our routes while we are away: up to 4,095 s, whole seconds.
    pub restart_time: Duration,
}

impl PeerConfig {
    /// With the defaults of everything that may be left out.
    pub fn new(name: &str, peer: IpAddr, peer_as: Asn, local_as: Asn, router_id: RouterId) -> Self {
        PeerConfig {
            name: name.to_owned(),
            peer,
            port: 179,
            peer_as,
            local_as,
            local_address: None,
            router_id,
            passive: false,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(5),
            send_hold_time: None,
            ttl_security: false,
            multihop: None,
            graceful_restart: None,
            role: None,
            role_strict: false,
            next_hop_v4: None,
            next_hop_v6: None,
            families: Families::BOTH,
            bfd_strict: None,
        }
    }

    /// The peer is in another AS.
    pub fn external(&self) -> bool {
        self.peer_as != self.local_as
    }
}
