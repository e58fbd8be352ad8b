//! The core, sentence by sentence: each test quotes the sentence of the contract that it proves, or names the report
//! from the field (keepalived's and others' trackers) that must not be ours. Events and virtual time in; effects,
//! state, journal and status out. No socket, no clock, no sleep.

mod backtest;
mod bfd;
mod bfd_guard;
mod bfd_refused;
mod bgp;
mod bgp_reload;
mod bgp_restart;
mod bgp_stop;
mod checks;
mod drill;
mod fake;
mod far;
mod forward;
mod kernel;
mod operator;
mod order;
mod own_line;
mod primary;
mod reload;
mod require;
mod rig;
mod scripts;
mod sessions;
mod states;
mod stop_restart;
