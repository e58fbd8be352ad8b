//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5883) in asynchronous mode, as a pure state machine: packets and
//! time in, packets and news out. It owns no socket, no clock and no randomness but what its seed gives.
//!
//! - [`wire`]: the control packet as octets; [`auth`]: its authentication section, made and judged;
//! - [`session`]: one session: the state machine of section 6.8.6; [`timing`]: how often, and how long until silence
//!   means death (sections 6.8.2 to 6.8.4, 6.8.7);
//! - [`speaker`]: all sessions of a node, and which of them a packet is for (section 6.3, RFC 5881, RFC 5883);
//! - [`histogram`]: how late our packets left and the neighbour's came.
//!
//! # Driving it
//!
//! [`Speaker::receive`] for each packet, with the time at which the *kernel* had it; [`Speaker::handle_timeout`] when
//! [`Speaker::poll_timeout`] says so, but only after every packet that is in the socket already: a late wake-up of ours
//! is not the neighbour's silence. After either [`Speaker::poll_transmit`] and [`Speaker::poll_news`] until they are
//! empty. Who has slept says so by [`Speaker::forgive`].
//!
//! # What is not here
//!
//! No Echo function (Required Min Echo RX Interval is 0, so that no neighbour sends any), no Demand mode of our own (a
//! neighbour's is obeyed). The C bit is never set: these sessions live and die with the process whose routes they guard.

pub mod auth;
pub mod config;
pub mod histogram;
pub mod news;
pub mod random;
pub mod session;
pub mod speaker;
pub mod status;
pub mod timing;
pub mod wire;

#[cfg(test)]
mod tests;

pub use config::{AuthType, Authentication, Hops, Path, SessionConfig};
pub use news::{Change, Fault, News};
pub use session::Session;
pub use speaker::{Datagram, SessionId, Speaker};
pub use status::SessionStatus;
pub use wire::{Diagnostic, State};
