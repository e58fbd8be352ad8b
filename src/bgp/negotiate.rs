//! Our OPEN, and what two OPENs agree on (RFC 4271 section 6.2 as far as it needs the configuration).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::adj_rib_out::Encoding;
use super::config::PeerConfig;
use super::family::{FAMILIES, Families, PerFamily};
use super::wire::attribute::{NextHop, PathParameters};
use super::wire::capability::{Capabilities, GracefulRestart, ReceivedRole, Role};
use super::wire::notification::{Cause, Notification};
use super::wire::open::Open;
use super::wire::{MAX_EXTENDED_MESSAGE, MAX_MESSAGE};
use crate::net::Family;

/// What graceful restart says of us (RFC 4724 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Restart {
    /// R: we have restarted and our routes are not all back yet.
    pub restarting: bool,
    /// F: families whose forwarding state outlived the restart.
    pub preserved: Families,
}

/// What both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Negotiated {
    pub peer: Open,
    /// `None`: no keepalives, no hold timers.
    pub hold_time: Option<Duration>,
    pub encoding: Encoding,
    /// Both announced graceful restart.
    pub graceful_restart: bool,
    /// Both announced RFC 8538's N bit.
    pub hard_reset: bool,
    /// Families that were configured and cannot be used, and why.
    pub missing: Vec<String>,
}

/// The OPEN that we send from the local address `local`.
///
/// `plain`: without capabilities, for a peer that refused optional parameters (RFC 5492 section 3).
pub(crate) fn our_open(cfg: &PeerConfig, restart: Restart, local: IpAddr, plain: bool) -> Open {
    let capabilities = if plain { Capabilities::default() } else { our_capabilities(cfg, restart, local) };
    let hold_time = u16::try_from(cfg.hold_time.as_secs()).unwrap_or(u16::MAX);
    Open { asn: cfg.local_as, hold_time, router_id: cfg.router_id, capabilities }
}

fn our_capabilities(cfg: &PeerConfig, restart: Restart, local: IpAddr) -> Capabilities {
    let graceful_restart = cfg.graceful_restart.map(|config| GracefulRestart {
        restarting: restart.restarting,
        notification: true,
        restart_time: u16::try_from(config.restart_time.as_secs()).unwrap_or(0x0fff).min(0x0fff),
        families: PerFamily::from_fn(|family| {
            cfg.families.contains(family).then(|| restart.preserved.contains(family))
        }),
    });
    Capabilities {
        multiprotocol: Some(cfg.families),
        four_octet_as: Some(cfg.local_as),
        route_refresh: true,
        enhanced_refresh: true,
        extended_message: true,
        v4_over_v6: cfg.families.v4 && v4_next_hop(cfg, local).is_none(),
        graceful_restart,
        role: cfg.role.map_or(ReceivedRole::Absent, ReceivedRole::One),
    }
}

/// Judges the peer's OPEN, or gives the NOTIFICATION that answers it.
pub(crate) fn negotiate(
    cfg: &PeerConfig,
    ours: &Open,
    peer: Open,
    local: IpAddr,
) -> Result<Negotiated, Notification> {
    if peer.asn != cfg.peer_as {
        return Err(Notification::new(Cause::BAD_PEER_AS));
    }
    // RFC 6286 section 2.2: within one AS identifiers differ; between two they need not.
    if !cfg.external() && peer.router_id == cfg.router_id {
        return Err(Notification::new(Cause::BAD_BGP_IDENTIFIER));
    }
    check_role(cfg, peer.capabilities.role)?;
    let (us, them) = (&ours.capabilities, &peer.capabilities);
    let families = us.families().and(them.families());
    let families = cfg.families.and(families);
    if families.is_empty() {
        // RFC 5492 section 4: Data lists the capabilities whose lack ends the session.
        let mut data = Vec::new();
        Capabilities { multiprotocol: Some(cfg.families), ..Capabilities::default() }.put(&mut data);
        return Err(Notification::with_data(Cause::UNSUPPORTED_CAPABILITY, data));
    }
    let next_hops = next_hops(cfg, local, families, us.v4_over_v6 && them.v4_over_v6);
    let restarts = (us.graceful_restart, them.graceful_restart);
    // RFC 4271 section 4.2: the smaller of the two.
    let hold_time = Duration::from_secs(u64::from(ours.hold_time.min(peer.hold_time)));
    Ok(Negotiated {
        hold_time: (!hold_time.is_zero()).then_some(hold_time),
        encoding: Encoding {
            // RFC 8654 section 4: only towards a peer that announced it.
            max_message: if them.extended_message { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE },
            path: PathParameters {
                local_as: cfg.local_as,
                external: cfg.external(),
                four_octet: us.four_octet_as.is_some() && them.four_octet_as.is_some(),
                only_to_customer: matches!(cfg.role, Some(Role::Provider | Role::Peer | Role::RouteServer)),
            },
            next_hops,
            enhanced_refresh: us.enhanced_refresh && them.enhanced_refresh,
        },
        graceful_restart: matches!(restarts, (Some(_), Some(_))),
        hard_reset: matches!(restarts, (Some(us), Some(them)) if us.notification && them.notification),
        missing: missing(cfg, families, &next_hops),
        peer,
    })
}

/// RFC 9234 section 4.2.
fn check_role(cfg: &PeerConfig, theirs: ReceivedRole) -> Result<(), Notification> {
    let good = match (cfg.role, theirs) {
        (None, _) => true,
        (Some(_), ReceivedRole::Absent) => !cfg.role_strict,
        (Some(ours), ReceivedRole::One(theirs)) => ours.matches(theirs),
        (Some(_), ReceivedRole::Contradictory) => false,
    };
    if good { Ok(()) } else { Err(Notification::new(Cause::ROLE_MISMATCH)) }
}

fn v4_next_hop(cfg: &PeerConfig, local: IpAddr) -> Option<Ipv4Addr> {
    cfg.next_hop_v4.or(match local.to_canonical() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        _ => None,
    })
}

fn next_hops(
    cfg: &PeerConfig,
    local: IpAddr,
    families: Families,
    v4_over_v6: bool,
) -> PerFamily<Option<NextHop>> {
    let v6 = cfg.next_hop_v6.or(match local.to_canonical() {
        // RFC 2545 section 3: a global address; a link-local one alone names no next hop.
        IpAddr::V6(address) if !address.is_unspecified() && !address.is_unicast_link_local() => Some(address),
        _ => None,
    });
    let v6 = v6.map(NextHop::Multiprotocol);
    let v4 = v4_next_hop(cfg, local).map(NextHop::Classic).or(v6.filter(|_| v4_over_v6));
    PerFamily { v4: v4.filter(|_| families.v4), v6: v6.filter(|_| families.v6) }
}

fn missing(cfg: &PeerConfig, families: Families, next_hops: &PerFamily<Option<NextHop>>) -> Vec<String> {
    let name = |family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let why = |family| match (families.contains(family), next_hops.get(family)) {
        (false, _) => {
            Some(format!("{} prefixes cannot be announced: the peer does not offer the family", name(family)))
        }
        (true, None) => Some(format!(
            "{} prefixes cannot be announced: the session has no {} address of ours; set next_hop",
            name(family),
            name(family)
        )),
        (true, Some(_)) => None,
    };
    FAMILIES.into_iter().filter(|family| cfg.families.contains(*family)).filter_map(why).collect()
}
