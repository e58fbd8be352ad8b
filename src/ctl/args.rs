//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::announcer::event::Forced;
use crate::io::control::protocol::{DEFAULT_SOCKET, lasting_of};

/// `announcerctl [--control SOCKET] COMMAND`.
#[derive(Parser, Debug)]
#[command(name = "announcerctl", version, about = "Shows and steers a running announcerd")]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 no daemon, 78 configuration.")]
pub struct Args {
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "SOCKET", default_value = DEFAULT_SOCKET)]
    pub control: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Instances, checks, peers and kernel objects on one screen
    Status {
        /// As JSON
        #[arg(short, long)]
        json: bool,
    },
    /// Why an instance is in its state, what would change it, and what it would do next
    Explain {
        /// The instance's name
        instance: String,
    },
    /// The decision journal: every transition with its cause and timeline
    Events {
        /// Go on with what happens from now
        #[arg(short, long)]
        follow: bool,
        /// One JSON object a line
        #[arg(short, long)]
        json: bool,
    },
    /// Prints the announcer.toml that does what a keepalived.conf did, with a comment for what has no equivalent
    ImportKeepalived {
        /// keepalived.conf
        file: PathBuf,
        /// The node, as of keepalived's --config-id; without it: the host's name up to its first dot
        #[arg(short = 'i', long, value_name = "ID")]
        config_id: Option<String>,
    },
    /// Overrides the primary's verdict, never `require`; survives a restart of the daemon
    Force {
        /// The instance's name
        instance: String,
        /// Into which state
        state: Target,
        /// For how long, as in 90s, 30m, 1h; without it: until `auto`
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        lasting: Option<String>,
    },
    /// Ends an override: back to the ordinary rules
    Auto {
        /// The instance's name
        instance: String,
    },
    /// Hands back to the primary now
    Failback {
        /// The instance's name
        instance: String,
        /// Forget the flaps that lengthen the failback delay
        #[arg(long)]
        reset_flaps: bool,
    },
    /// Drains everything gracefully, announcements of BACKUP too, until it is switched off; survives a restart
    Maintenance {
        /// On or off
        switch: Switch,
    },
    /// Ends the daemon for an upgrade: kernel objects stay, and BGP peers keep the routes where graceful restart was negotiated
    Handover,
    /// Reads the configuration again, and answers with the errors or with what changed
    Reload,
    /// Removes every kernel object that carries our mark; needs no daemon
    Sweep {
        /// The mark: `[node] route_protocol`. Without it: what the configuration says
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        protocol: Option<u8>,
        /// The configuration that knows the mark; one that cannot be read means 187
        #[arg(short, long, value_name = "FILE", default_value = "/etc/announcer.toml")]
        config: PathBuf,
        /// Also while a daemon runs (it will put back what it wants)
        #[arg(long)]
        force: bool,
    },
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Switch {
    /// Begin
    On,
    /// End
    Off,
}

/// The states that can be forced.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Target {
    /// As if the primary were down
    Master,
    /// As if the primary were well
    Backup,
}

impl From<Target> for Forced {
    fn from(target: Target) -> Self {
        match target {
            Target::Master => Forced::Master,
            Target::Backup => Forced::Backup,
        }
    }
}

fn duration(text: &str) -> Result<String, String> {
    lasting_of(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let args =
            Args::try_parse_from(["announcerctl", "force", "mainland", "master", "--for", "1h"]).unwrap();
        assert!(matches!(args.command, Command::Force { state: Target::Master, lasting: Some(_), .. }));
        assert!(Args::try_parse_from(["announcerctl", "force", "mainland", "fault"]).is_err());
        assert!(
            Args::try_parse_from(["announcerctl", "force", "mainland", "master", "--for", "0s"]).is_err()
        );
        assert!(Args::try_parse_from(["announcerctl", "sweep", "--protocol", "0"]).is_err());
    }
}
