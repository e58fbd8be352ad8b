//! The command line.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand, ValueEnum};

use crate::announcer::event::Forced;
use crate::backtest::sweep::Grid;
use crate::config::control_in;
use crate::io::control::protocol::{DEFAULT_SOCKET, hold_of, lasting_of};

/// `announcerctl [--control SOCKET] [--config FILE] COMMAND`.
#[derive(Parser, Debug)]
#[command(name = "announcerctl", version, about = "Shows and steers a running announcerd")]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 no daemon, 78 configuration.")]
pub struct Args {
    /// The daemon's control socket; without it: what the configuration says
    #[arg(long, global = true, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// The configuration that the daemon runs on
    #[arg(short, long, global = true, value_name = "FILE", default_value = "/etc/announcer.toml")]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Where the daemon listens: as given, else `[node] control` of the configuration, however much else is wrong with
    /// that; where it cannot be told, the default.
    pub fn socket(&self) -> PathBuf {
        let configured = || control_in(&std::fs::read_to_string(&self.config).ok()?);
        self.control.clone().or_else(configured).unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
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
    /// The same, live, with the last results of each check; q ends it
    Watch {
        /// Without colour
        #[arg(long)]
        no_color: bool,
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
        /// Only what was decided after that: an age as in 30m or 2d, or a date as in 2026-11-22T04:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<SystemTime>,
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
    /// A failover exercise: pretends that the primary is down, verifies each step, hands back, and reports
    Drill {
        /// The instance's name
        instance: String,
        /// How long to stay MASTER once everything is verified
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = hold)]
        hold: String,
        /// Only say what would be done, or why it would be refused
        #[arg(long)]
        dry_run: bool,
    },
    /// Replays recorded probe results against thresholds: takeovers, false ones, detection times. Needs no daemon
    Backtest(Backtest),
    /// Writes probe results from the running daemon, for `backtest`, until it is interrupted
    Record {
        /// Only these checks
        #[arg(long = "check", value_name = "NAME")]
        checks: Vec<String>,
    },
    /// Makes a trace for `backtest` of a log of `fping -D -l` or `ping -D -O`. Needs no daemon
    Convert(Convert),
    /// Removes every kernel object that carries our mark; needs no daemon
    Sweep {
        /// The mark: `[node] route_protocol`. Without it: what the configuration says
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        protocol: Option<u8>,
        /// Also while a daemon runs (it will put back what it wants)
        #[arg(long)]
        force: bool,
    },
}

/// `backtest`.
#[derive(clap::Args, Debug)]
pub struct Backtest {
    /// The trace: TIME,CHECK,ok|error|blind,RTT[,up|down] a line; - is stdin
    #[arg(short, long, value_name = "CSV")]
    pub trace: PathBuf,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Without a truth in the trace: the primary was down where its checks had no success for this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span)]
    pub outage: Duration,
    /// Try many thresholds, as in fall=2..8,rise=1..5,interval=500ms/1s
    #[arg(long, value_name = "GRID", value_parser = Grid::parse)]
    pub sweep: Option<Grid>,
    /// Draw the trace and the states
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    pub svg: Option<PathBuf>,
    /// List every transition
    #[arg(short, long)]
    pub verbose: bool,
}

/// `convert`.
#[derive(clap::Args, Debug)]
pub struct Convert {
    /// The log; - is stdin
    pub log: PathBuf,
    /// What a host's check is called; otherwise as the host
    #[arg(long = "name", value_name = "HOST=CHECK", value_parser = pair)]
    pub names: Vec<(String, String)>,
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

fn hold(text: &str) -> Result<String, String> {
    hold_of(text).map(|_| text.to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 500ms, 30s or 5m"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (host, check) = text.split_once('=').ok_or("write it as 198.18.0.1=mainland-ping")?;
    Ok((host.to_owned(), check.to_owned()))
}

fn duration(text: &str) -> Result<String, String> {
    lasting_of(text).map(|_| text.to_owned())
}

/// A point in time: so long ago, or a date.
fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(date) = humantime::parse_rfc3339_weak(text) {
        return Ok(date);
    }
    let age = humantime::parse_duration(text)
        .map_err(|e| format!("{e}; write an age as 30m or 2d, or a date as 2026-11-22T04:00:00Z"))?;
    SystemTime::now().checked_sub(age).ok_or_else(|| "that is before all time".to_owned())
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
        for since in ["30m", "2d", "2026-11-22T04:00:00Z", "2026-11-22 04:00:00"] {
            assert!(Args::try_parse_from(["announcerctl", "events", "--since", since]).is_ok(), "{since}");
        }
        assert!(Args::try_parse_from(["announcerctl", "events", "--since", "yesterday"]).is_err());
    }

    #[test]
    fn the_socket_is_the_one_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("announcer.toml");
        let socket = |words: &[&str]| {
            let words = [&["announcerctl", "-c", file.to_str().unwrap()], words, &["status"]].concat();
            Args::try_parse_from(words).unwrap().socket()
        };
        assert_eq!(socket(&[]), PathBuf::from(DEFAULT_SOCKET), "no file");
        for (text, expected) in [
            ("[node]\ncontrol = '/run/a/b.sock' # \"/run/c\"\nsurprise = 1\n[[check]]", "/run/a/b.sock"),
            ("node = { control = \"/run/d.sock\" }", "/run/d.sock"),
            ("# control = \"/run/e.sock\"\n[node]\n", DEFAULT_SOCKET),
            ("[other]\ncontrol = \"/run/f.sock\"", DEFAULT_SOCKET),
            ("[node]\ncontrol = 7", DEFAULT_SOCKET),
            ("[node\ncontrol = \"/run/g.sock\"", DEFAULT_SOCKET),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(socket(&[]), PathBuf::from(expected), "{text}");
            assert_eq!(socket(&["--control", "/run/h.sock"]), PathBuf::from("/run/h.sock"), "{text}");
        }
    }
}
