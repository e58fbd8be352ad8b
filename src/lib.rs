//! announcerd: a health-gated route announcer.

pub mod net;
pub mod time;
