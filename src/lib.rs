//! announcerd: a health-gated route announcer.

pub mod announcer;
pub mod bgp;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod fib;
pub mod health;
pub mod io;
pub mod net;
pub mod status;
pub mod time;
