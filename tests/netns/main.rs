//! End-to-end tests in network namespaces: the real daemon, the real BIRD 2, the real FRR.
//!
//! [`rig`] builds the lab and runs the very files of conf/ in it.

mod crash;
mod demo;
mod eyes;
mod frr;
mod hook;
mod lab;
mod operator;
mod rig;
mod screens;
mod scripts;
mod standby;
mod tls;
