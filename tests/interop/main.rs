//! Interoperation: the real daemon, configured by a file alone, against other people's BGP speakers, each in network
//! namespaces of its own. What counts is what the *peer* says of us in its own output.

mod bird;
mod capture;
mod exabgp;
mod examples;
mod frr;
mod gobgp;
#[path = "../common/nsd.rs"]
mod nsd;
mod openbgpd;
mod restart;
mod rig;
mod site;
mod stuck;
