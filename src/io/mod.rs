//! The edges: sockets, processes, files. They decide nothing.

pub mod clock;
pub mod control;
pub mod log;
pub mod state;
pub mod systemd;
pub mod script_guard;
pub mod child;
pub mod probe;
pub mod resolve;
pub mod script;
pub mod netlink;
