//! The TCP edge of the BGP speaker, against itself, plain sockets and BIRD, in network namespaces.

mod bird;
mod ends;
mod listening;
#[path = "../common/netns.rs"]
mod netns;
mod node;
mod security;
mod sessions;
