//! The edges: sockets, processes, files. They decide nothing.

pub mod afterwards;
pub mod bfd;
pub mod bgp;
pub mod child;
pub mod clock;
pub mod control;
pub mod driver;
pub mod files;
pub mod hook;
pub mod log;
pub mod netlink;
pub mod probe;
pub mod reload;
pub mod resolve;
pub mod script;
pub mod script_guard;
pub mod state;
pub mod sysctl;
pub mod systemd;
pub mod web;
