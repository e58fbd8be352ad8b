//! The edges: sockets, processes, files. They decide nothing.

pub mod script_guard;
