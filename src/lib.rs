//! announcerd: a health-gated route announcer. This page is the tour: where to begin, and how data flows.
//!
//! A deterministic core decides; dumb edges do. The core is one value, [`announcer::Announcer`]: events go in, effects
//! come out, and it says when it wants to be called again. It has no socket, clock, file or randomness, so a whole
//! daemon with its kernel, scripts and peers runs in a test thread (`tests/simulation`), and a decision is a function
//! call.
//!
//! ```text
//!   io::probe ── results ──┐                                      ┌── probes, cancels ──► io::probe
//!   io::netlink ─ answers, │      announcer                       ├── operations, dumps ─► io::netlink
//!        news, dumps ──────┼──►  health ─► gate ─► instance ──────┼── octets of UPDATEs ─► io::bgp
//!   io::bfd ── changes ────┤                  │       │           ├── BFD sessions ──────► io::bfd
//!   io::bgp ── octets ─────┤                  │       │           ├── script runs ───────► io::script
//!   io::script ── ends ────┤                 fib     bgp          ├── journal, replies ──► io::control, io::log
//!   io::control ─ commands ┘           (wanted ⇄ observed)        └── memory, journal ───► io::state
//! ```
//!
//! # The rooms
//!
//! - [`config`]: from `/etc/announcer.toml` to a checked [`config::model::Config`]; every error with its place. What a
//!   reload changes is [`config::diff`].
//! - [`health`]: a check at run time: its schedule, its rise and fall, its verdict.
//! - [`announcer`]: the composition. [`announcer::gate`] turns verdicts into "the primary is down" and "`require` is
//!   met"; [`announcer::instance`] is the state machine of keepalived's words; [`announcer::witness`] keeps our own
//!   isolation from being taken for the primary's death; [`announcer::scripts`] runs notify scripts in order.
//! - [`hook`]: which notice of a transition is posted to `notify_url` when; [`io::hook`] posts it.
//! - [`fib`]: kernel objects (tunnels, addresses, routes, rules) wanted and observed, and the operations between the
//!   two; [`fib::hops`] chooses among a route's next hops.
//! - [`bgp`]: the export-only speaker, a pure state machine as well.
//! - [`dns`]: one question and what an answer says to it, for dns checks.
//! - [`bfd`]: sessions that know in milliseconds whether a neighbour is there. Pure too; they run in a thread of their own
//!   ([`io::bfd`]), and the core hears of changes only.
//! - [`io`]: the edges, and [`io::driver`], the one loop that owns the only clock. `unsafe` lives here, in small corners.
//! - [`status`]: the read-only picture for `status -j`; [`announcer::measure`] counts, [`metrics`] puts that in words for
//!   Prometheus, [`io::web`] serves it. [`ctl`]: `announcerctl`; [`demo`]: `announcerd demo`;
//!   [`args`]: the daemon's command line. `packaging/man` is compared with both command lines and with [`config`]'s readers.
//! - [`announcer::drill`]: the failover exercise. [`backtest`]: recorded probe results through the very same core.
//! - [`net`] and [`time`]: the types where a mix-up would hurt.
//!
//! # Following one failover
//!
//! A probe's time is up: `announcer/probes.rs` counts a failure and at once asks the required checks for a witness.
//! When the fall is complete, `announcer/conduct.rs` lets the instance decide. Its transition raises its level in
//! [`fib`], which plans the operations; when the kernel has acknowledged what must be there first, the exported routes
//! and the claims towards BGP peers follow in the same turn, then the scripts. [`announcer::journal`] notes when each
//! step was done.

pub mod announcer;
pub mod args;
pub mod backtest;
pub mod bfd;
pub mod bgp;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod dns;
pub mod fib;
pub mod health;
pub mod hook;
pub mod import;
pub mod io;
pub mod metrics;
pub mod net;
pub mod status;
pub mod time;
