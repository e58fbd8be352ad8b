//! The edges: sockets, processes, files. They decide nothing.

pub mod child;
pub mod probe;
pub mod resolve;
pub mod script;
