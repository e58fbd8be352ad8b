//! Tests of the whole: conformance cases, authentication, two ends over a bad network, hostile input.

mod auth;
mod conformance;
mod script;
mod simulation;
mod speaker;
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::config::{Hops, Path, SessionConfig};
use super::speaker::Datagram;
use crate::time::Time;

const US: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const THEM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn config(remote: IpAddr, interval_ms: u64, multiplier: u8) -> SessionConfig {
    SessionConfig {
        path: Path { remote, local: None, device: None, hops: Hops::Single },
        interval: Duration::from_millis(interval_ms),
        multiplier,
        passive: false,
        auth: None,
    }
}

fn from_them(payload: &[u8], at: Time) -> Datagram<'_> {
    Datagram { source: THEM, destination: US, interface: 1, ttl: Some(255), multihop: false, payload, at }
}
