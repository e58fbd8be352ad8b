//! BFD against other people's: the real daemon, configured by a file alone, and BIRD, FRR's bfdd and keepalived, each in a
//! network namespace of its own. What counts is what the *peer* says of the session as well as what we say.

mod authentication;
mod bgp;
mod bird;
mod detection;
mod frr;
mod keepalived;
mod rig;
mod sleep;
