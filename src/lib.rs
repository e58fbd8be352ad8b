//! announcerd: a health-gated route announcer.

pub mod bgp;
pub mod net;
pub mod time;
