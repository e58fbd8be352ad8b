//! The edges: sockets, processes, files. They decide nothing.

pub mod child;
pub mod clock;
pub mod control;
pub mod log;
pub mod netlink;
pub mod probe;
pub mod resolve;
pub mod script;
pub mod script_guard;
pub mod state;
pub mod systemd;
