//! `announcerd demo`: kills a primary before your eyes.
//!
//! Four hosts in network namespaces ([`lab`] says how): a client sends a datagram every 20 ms to an address that a
//! primary far away serves; the primary falls silent; the standby, with this very program and BIRD on it, takes
//! over and later hands back. [`story`] plays it; [`narrator`] tells it, each line with its distance in time from
//! the cause. It exits with 0 only if every step was seen.

use std::process::ExitCode;

pub mod lab;
mod narrator;
mod story;

/// The options of `announcerd demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// What tells the ISP of the standby's route
    #[arg(long, value_enum, default_value = "bird")]
    exporter: Daemon,
    /// What the ISP's router runs
    #[arg(long, value_enum, default_value = "bird")]
    isp: Daemon,
}

/// A routing daemon of the demonstration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Daemon {
    /// BIRD 2
    Bird,
}

/// Runs the demonstration. To be called before any thread is started: without root, the process moves into a user
/// namespace of its own, which a process with threads may not do.
pub fn main(args: &DemoArgs) -> ExitCode {
    let DemoArgs { exporter: Daemon::Bird, isp: Daemon::Bird } = args;
    match story::play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("announcerd demo: {error}");
            ExitCode::FAILURE
        }
    }
}
