//! Capabilities (RFC 5492) that we know: what each side says of itself in its OPEN.

use std::fmt;

use super::notification::{Cause, Notification};
use super::{Reader, SAFI_UNICAST, afi, unicast_family};
use crate::bgp::family::{FAMILIES, Families, PerFamily};
use crate::net::{Asn, Family};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ENHANCED_REFRESH: u8 = 70;

/// What a speaker is to its peer on this session (RFC 9234 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Sells transit to the peer.
    Provider,
    /// A route server.
    RouteServer,
    /// A client of a route server.
    RouteServerClient,
    /// Buys transit from the peer.
    Customer,
    /// Peers laterally.
    Peer,
}

impl Role {
    fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            0 => Role::Provider,
            1 => Role::RouteServer,
            2 => Role::RouteServerClient,
            3 => Role::Customer,
            4 => Role::Peer,
            _ => return None,
        })
    }

    fn octet(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }

    /// The pairs that RFC 9234 section 4.2 (table 2) allows.
    pub fn matches(self, peer: Role) -> bool {
        matches!(
            (self, peer),
            (Role::Provider, Role::Customer)
                | (Role::Customer, Role::Provider)
                | (Role::RouteServer, Role::RouteServerClient)
                | (Role::RouteServerClient, Role::RouteServer)
                | (Role::Peer, Role::Peer)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Provider => "provider",
            Role::RouteServer => "rs",
            Role::RouteServerClient => "rs-client",
            Role::Customer => "customer",
            Role::Peer => "peer",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Ok(match text {
            "provider" => Role::Provider,
            "rs" => Role::RouteServer,
            "rs-client" => Role::RouteServerClient,
            "customer" => Role::Customer,
            "peer" => Role::Peer,
            _ => return Err(RoleError(text.to_owned())),
        })
    }
}

/// No role of RFC 9234.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is not a BGP role; ours towards an ISP is \"customer\", others are provider, peer, rs, rs-client"
)]
pub struct RoleError(pub String);

/// A role as received: RFC 9234 section 4.2 makes a second, different one a mismatch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReceivedRole {
    /// No role capability.
    #[default]
    Absent,
    /// One role, perhaps repeated.
    One(Role),
    /// Several that differ, or a value that RFC 9234 does not assign.
    Contradictory,
}

/// The graceful restart capability (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GracefulRestart {
    /// R: the speaker has restarted.
    pub restarting: bool,
    /// N: NOTIFICATION too leaves the routes in place, a Hard Reset apart.
    pub notification: bool,
    /// Restart Time in seconds; twelve bits.
    pub restart_time: u16,
    /// Families listed, with the F bit: forwarding state was preserved.
    pub families: PerFamily<Option<bool>>,
}

/// Everything one side announced. Capabilities that we do not know are skipped (RFC 5492 section 3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// MP capabilities; `None` if there was none at all, which means IPv4 unicast.
    pub multiprotocol: Option<Families>,
    /// The real AS number (RFC 6793).
    pub four_octet_as: Option<Asn>,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_refresh: bool,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 8950: IPv4 unicast over IPv6 next hops.
    pub v4_over_v6: bool,
    /// RFC 4724.
    pub graceful_restart: Option<GracefulRestart>,
    /// RFC 9234.
    pub role: ReceivedRole,
}

impl Capabilities {
    /// The families announced (RFC 4760 section 8: none announced is IPv4 unicast).
    pub fn families(&self) -> Families {
        self.multiprotocol.unwrap_or(Families::V4)
    }

    /// Adds the capabilities in one optional parameter.
    ///
    /// A capability that overruns the parameter, or has an impossible length, is an unspecific OPEN error: RFC
    /// 4271 section 6.2, last paragraph. RFC 5492 section 4: repeated ones are no error.
    pub fn parse(&mut self, parameter: &[u8]) -> Result<(), Notification> {
        let malformed = || Notification::new(Cause::OPEN_UNSPECIFIC);
        let mut reader = Reader(parameter);
        while !reader.is_empty() {
            let code = reader.u8().ok_or_else(malformed)?;
            let length = reader.u8().ok_or_else(malformed)?;
            let value = reader.take(usize::from(length)).ok_or_else(malformed)?;
            self.parse_one(code, value).ok_or_else(malformed)?;
        }
        Ok(())
    }

    fn parse_one(&mut self, code: u8, value: &[u8]) -> Option<()> {
        match (code, value) {
            (MULTIPROTOCOL, &[high, low, _, safi]) => {
                let families = self.multiprotocol.get_or_insert(Families::NONE);
                if let Some(family) = unicast_family(u16::from_be_bytes([high, low]), safi) {
                    *families.get_mut(family) = true;
                }
            }
            (ROUTE_REFRESH, []) => self.route_refresh = true,
            (ENHANCED_REFRESH, []) => self.enhanced_refresh = true,
            // RFC 8654 section 3: the length is zero.
            (EXTENDED_MESSAGE, []) => self.extended_message = true,
            (FOUR_OCTET_AS, value) => {
                self.four_octet_as = Some(Asn(Reader(value).u32().filter(|_| value.len() == 4)?))
            }
            (ROLE, &[octet]) => {
                self.role = match (self.role, Role::from_octet(octet)) {
                    (ReceivedRole::Absent, Some(role)) => ReceivedRole::One(role),
                    (ReceivedRole::One(before), Some(role)) if before == role => ReceivedRole::One(role),
                    _ => ReceivedRole::Contradictory,
                }
            }
            (GRACEFUL_RESTART, value) => self.graceful_restart = Some(parse_graceful_restart(value)?),
            (EXTENDED_NEXT_HOP, value) => self.v4_over_v6 |= parse_extended_next_hop(value)?,
            (MULTIPROTOCOL | ROUTE_REFRESH | ENHANCED_REFRESH | EXTENDED_MESSAGE | ROLE, _) => return None,
            _ => {}
        }
        Some(())
    }

    /// Appends all of them as one optional parameter's value.
    pub fn put(&self, out: &mut Vec<u8>) {
        for family in self.multiprotocol.unwrap_or(Families::NONE).iter() {
            let [high, low] = afi(family).to_be_bytes();
            out.extend_from_slice(&[MULTIPROTOCOL, 4, high, low, 0, SAFI_UNICAST]);
        }
        if self.route_refresh {
            out.extend_from_slice(&[ROUTE_REFRESH, 0]);
        }
        if self.v4_over_v6 {
            // RFC 8950 section 4: AFI 1, SAFI 1 in two octets, next hop AFI 2.
            out.extend_from_slice(&[EXTENDED_NEXT_HOP, 6, 0, 1, 0, SAFI_UNICAST, 0, 2]);
        }
        if self.extended_message {
            out.extend_from_slice(&[EXTENDED_MESSAGE, 0]);
        }
        if let ReceivedRole::One(role) = self.role {
            out.extend_from_slice(&[ROLE, 1, role.octet()]);
        }
        if let Some(restart) = &self.graceful_restart {
            put_graceful_restart(restart, out);
        }
        if let Some(asn) = self.four_octet_as {
            out.extend_from_slice(&[FOUR_OCTET_AS, 4]);
            out.extend_from_slice(&asn.0.to_be_bytes());
        }
        if self.enhanced_refresh {
            out.extend_from_slice(&[ENHANCED_REFRESH, 0]);
        }
    }
}

fn parse_graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut reader = Reader(value);
    let head = reader.u16()?;
    let mut families = PerFamily::default();
    while !reader.is_empty() {
        let (number, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
        if let Some(family) = unicast_family(number, safi) {
            *families.get_mut(family) = Some(flags & 0x80 != 0);
        }
    }
    Some(GracefulRestart {
        restarting: head & 0x8000 != 0,
        notification: head & 0x4000 != 0,
        restart_time: head & 0x0fff,
        families,
    })
}

fn put_graceful_restart(restart: &GracefulRestart, out: &mut Vec<u8>) {
    let listed =
        FAMILIES.iter().filter_map(|family| restart.families.get(*family).map(|kept| (*family, kept)));
    let head = (u16::from(restart.restarting) << 15)
        | (u16::from(restart.notification) << 14)
        | (restart.restart_time & 0x0fff);
    out.extend_from_slice(&[GRACEFUL_RESTART, 2 + 4 * listed.clone().count() as u8]);
    out.extend_from_slice(&head.to_be_bytes());
    for (family, kept) in listed {
        out.extend_from_slice(&afi(family).to_be_bytes());
        out.extend_from_slice(&[SAFI_UNICAST, if kept { 0x80 } else { 0 }]);
    }
}

fn parse_extended_next_hop(value: &[u8]) -> Option<bool> {
    let mut reader = Reader(value);
    let mut found = false;
    while !reader.is_empty() {
        let (number, safi, next_hop) = (reader.u16()?, reader.u16()?, reader.u16()?);
        found |= (number, safi, next_hop) == (afi(Family::V4), u16::from(SAFI_UNICAST), afi(Family::V6));
    }
    Some(found)
}

impl fmt::Display for Capabilities {
    /// The names of those present, for status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mp = |family| self.multiprotocol.is_some_and(|families| families.contains(family));
        let restart = self.graceful_restart.as_ref();
        let names = [
            (mp(Family::V4), "ipv4"),
            (mp(Family::V6), "ipv6"),
            (self.four_octet_as.is_some(), "four-octet-as"),
            (self.route_refresh, "route-refresh"),
            (self.enhanced_refresh, "enhanced-refresh"),
            (self.extended_message, "extended-message"),
            (self.v4_over_v6, "ipv4-over-ipv6"),
            (restart.is_some(), "graceful-restart"),
            (restart.is_some_and(|restart| restart.notification), "graceful-notification"),
            (self.role != ReceivedRole::Absent, "role"),
        ];
        let mut separator = "";
        for (_, name) in names.into_iter().filter(|(present, _)| *present) {
            write!(f, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}
