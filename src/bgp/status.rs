//! What is shown of a peer.

use std::fmt;

use super::connection::{Connection, State};
use super::counters::Counters;
use super::peer::{Dial, Peer};
use super::wire::capability::Capabilities;
use crate::net::{Family, RouterId};
use crate::time::Time;

/// The states of RFC 4271 section 8.2.2; of two connections the one that is further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerState {
    /// Stopped, or waiting long because the peer refused.
    Idle,
    /// TCP is connecting.
    Connect,
    /// Waiting for the peer to connect, or for the next try.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are good.
    OpenConfirm,
    /// The session is up.
    Established,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A peer as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStatus {
    /// Its configured name.
    pub name: String,
    /// The state.
    pub state: PeerState,
    /// Since when the session is up.
    pub established_since: Option<Time>,
    /// IPv4 prefixes that the peer was told.
    pub advertised_v4: usize,
    /// IPv6 prefixes that the peer was told.
    pub advertised_v6: usize,
    /// All that was counted.
    pub counters: Counters,
    /// The peer's BGP Identifier.
    pub peer_router_id: Option<RouterId>,
    /// What the peer announced of itself.
    pub capabilities: Option<Capabilities>,
    /// Hold time agreed on, in seconds; 0: none.
    pub hold_time_s: Option<u64>,
    /// Families that were configured and cannot be used, and why.
    pub missing: Vec<String>,
    /// Why there is no session, or why the last one ended while there is none.
    pub last_error: Option<String>,
    /// When the next try is due.
    pub next_try: Option<Time>,
}

impl Peer {
    /// The state in RFC words.
    pub fn state(&self) -> PeerState {
        let dial = match self.dial {
            _ if self.duty.ends() => PeerState::Idle,
            Dial::Waiting { refused: true, .. } => PeerState::Idle,
            Dial::Connecting { .. } => PeerState::Connect,
            Dial::Off | Dial::Waiting { .. } => PeerState::Active,
        };
        let of = |connection: &Connection| match connection.state {
            State::OpenSent { .. } => PeerState::OpenSent,
            State::OpenConfirm(_) => PeerState::OpenConfirm,
            State::Established(_) => PeerState::Established,
        };
        self.connections.iter().map(of).max().unwrap_or(dial)
    }

    /// All that was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Everything that is shown.
    pub fn status(&self) -> PeerStatus {
        let furthest =
            self.connections.iter().find(|connection| matches!(connection.state, State::Established(_)));
        let furthest = furthest.or(self.connections.first());
        let up = furthest.and_then(|connection| match &connection.state {
            State::Established(up) => Some(up),
            _ => None,
        });
        let negotiated = furthest.and_then(Connection::negotiated);
        PeerStatus {
            name: self.cfg.name.clone(),
            state: self.state(),
            established_since: up.map(|up| up.since),
            advertised_v4: up.map_or(0, |up| up.rib.advertised(Family::V4)),
            advertised_v6: up.map_or(0, |up| up.rib.advertised(Family::V6)),
            counters: self.counters,
            peer_router_id: negotiated.map(|negotiated| negotiated.peer.router_id),
            capabilities: negotiated.map(|negotiated| negotiated.peer.capabilities.clone()),
            hold_time_s: negotiated.map(|negotiated| negotiated.hold_time.map_or(0, |time| time.as_secs())),
            missing: negotiated.map_or_else(Vec::new, |negotiated| negotiated.missing.clone()),
            last_error: self.last_error.clone(),
            next_try: match self.dial {
                Dial::Waiting { at, .. } => Some(at),
                Dial::Off | Dial::Connecting { .. } => None,
            },
        }
    }
}
