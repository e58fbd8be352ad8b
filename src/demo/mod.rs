//! `announcerd demo`: kills a primary before your eyes.
//!
//! Four hosts in network namespaces ([`lab`] says how): a client sends a datagram every 20 ms to an address that a
//! primary far away serves; the primary falls silent; the standby, with this very program on it, takes
//! over and later hands back; it tells the ISP by its own BGP, or has BIRD beside it do so (`--exporter`). [`story`] plays it; [`steps`] is what must be seen; [`narrator`] tells it, each line with its distance in time from
//! the cause. It exits with 0 only if every step was seen.

use std::process::ExitCode;

pub mod lab;
mod narrator;
mod steps;
mod story;

/// The standby's configuration, without what depends on the exporter.
const STANDBY: &str = include_str!("standby.toml");
/// What announcerd announces by itself.
const WITH_BUILTIN: &str = include_str!("standby-builtin.toml");
/// What it puts into the kernel for BIRD to announce.
const WITH_BIRD: &str = include_str!("standby-bird.toml");
/// The standby's BIRD: the very example that we ship.
const BIRD: &str = include_str!("../../conf/bird.conf");

/// The options of `announcerd demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// What tells the ISP of the standby's route
    #[arg(long, value_enum, default_value = "builtin")]
    exporter: Exporter,
    /// What the ISP's router runs
    #[arg(long, value_enum, default_value = "bird")]
    isp: Isp,
}

/// What tells the ISP of the standby's route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Exporter {
    /// announcerd itself, by BGP
    Builtin,
    /// BIRD 2 beside it
    Bird,
}

impl Exporter {
    fn standby_config(self) -> String {
        let own = match self {
            Exporter::Builtin => WITH_BUILTIN,
            Exporter::Bird => WITH_BIRD,
        };
        format!("{STANDBY}\n{own}")
    }
}

/// A routing daemon of the ISP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Isp {
    /// BIRD 2
    Bird,
}

/// Runs the demonstration. To be called before any thread is started: without root, the process moves into a user
/// namespace of its own, which a process with threads may not do.
pub fn main(args: &DemoArgs) -> ExitCode {
    let DemoArgs { exporter, isp: Isp::Bird } = args;
    match story::play(*exporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("announcerd demo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, ScriptVerdict, parse};

    #[test]
    fn the_standbys_configurations_are_sound() {
        let no_file = |_: &std::path::Path| Err("there is none".to_owned());
        let env = Env {
            hostname: "standby".into(),
            inspect_script: &|_| ScriptVerdict::Ok,
            read_secret: &no_file,
            read_prefixes: &no_file,
        };
        for exporter in [Exporter::Builtin, Exporter::Bird] {
            let (config, warnings) = parse("standby.toml", &exporter.standby_config(), &env).unwrap();
            assert!(warnings.is_empty(), "{exporter:?}: {warnings:?}");
            let instance = config.instance("service").unwrap();
            assert_eq!(instance.announces.is_empty(), exporter == Exporter::Bird);
        }
    }
}
