//! The daemon's command line; that of `announcerctl` is [`crate::ctl::args`].

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::demo::DemoArgs;
use crate::io::afterwards::AfterwardsArgs;

/// A health-gated route announcer for standby servers.
#[derive(Parser, Debug)]
#[command(name = "announcerd", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "/etc/announcer.toml")]
    pub config: PathBuf,
    /// Check the configuration, print every error in it, and exit
    #[arg(long)]
    pub check: bool,
    /// More in the log; twice: still more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Something else than to run the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does in the place of running the daemon.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Build a small lab in network namespaces, kill its primary, and watch
    Demo(DemoArgs),
    /// Sweep what a stopped daemon left in the kernel, unless another has taken it over
    #[command(hide = true)]
    Afterwards(AfterwardsArgs),
}
