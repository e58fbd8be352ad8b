//! The DNS as far as a check needs it: one question, and what an answer says to it (RFC 1035). Bytes and words only;
//! the sockets are [`crate::io::probe`]'s.
//!
//! The codec is our own. A check sends one fixed question and reads the records of one answer section, which takes fewer
//! lines than the adapter to a resolver's library would, and none of the forty crates that the complete ones bring
//! (DNSSEC, runtimes, TLS). What it must do well is to survive any datagram: the tests feed it noise, and compare
//! what it reads with an independent parser and with a real server.

mod expect;
mod name;
mod rdata;
mod wire;

pub use expect::{Expect, Rcode};
pub use name::{Name, NameError};
pub use rdata::Record;
pub use wire::{Foreign, Reply};

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type of record.
    pub record: Record,
}

#[cfg(test)]
mod tests;
