//! What `on_stop = "keep"` leaves in the kernel does not stay for ever: a small process waits out `keep_max` and sweeps,
//! unless another daemon has taken the state folder by then.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::netlink::{left, sweep};
use super::state::{Lock, LockError, kept_until};
use super::{clock, reload};
use crate::config::model::Node;
use crate::config::{ROUTE_PROTOCOL, STATE_DIR, mark_in};

/// How long a successor may take to come, where nobody says: after that it would not resume anyway.
const GRACE: Duration = Duration::from_secs(60);
/// How long the service manager may take to start the daemon again after a crash.
const RESTART: Duration = Duration::from_secs(5);

/// The hidden subcommand's arguments. A service manager, which ends what the daemon has started together with it, runs it
/// without any, after each end of the daemon: then the configuration says the mark and the folder, and the state
/// that was left, how long to wait.
#[derive(Clone, Debug, clap::Args)]
pub struct AfterwardsArgs {
    /// Milliseconds to wait
    #[arg(long, requires = "protocol", requires = "state_dir")]
    wait_ms: Option<u64>,
    /// Our mark in the kernel
    #[arg(long)]
    protocol: Option<u8>,
    /// The state folder, whose lock a running daemon holds
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// The configuration that the daemon ran on
    #[arg(short, long, value_name = "FILE", default_value = "/etc/announcer.toml")]
    config: PathBuf,
}

/// Starts that process; it outlives us. A failure is logged: the next start or `announcerctl sweep` must clean up then.
pub fn start(node: &Node, after: Duration) {
    // The very program that runs, though an upgrade may have replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command.arg("afterwards").arg("--wait-ms").arg(after.as_millis().to_string());
    command.arg("--protocol").arg(node.route_protocol.to_string()).arg("--state-dir").arg(&node.state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    if let Err(e) = command.spawn() {
        tracing::error!(
            "nothing will sweep what was kept after keep_max ({e}); do it with `announcerctl sweep`"
        );
    }
}

/// Waits and sweeps.
pub fn main(args: &AfterwardsArgs) -> ExitCode {
    let Some((protocol, state_dir)) = whose(args) else {
        eprintln!("announcerd: {}: its [node] route_protocol cannot be told", args.config.display());
        return ExitCode::FAILURE;
    };
    let swept = match args.wait_ms {
        Some(wait) => {
            std::thread::sleep(Duration::from_millis(wait));
            match claim(&state_dir) {
                Ok(Some((_held, kept))) if kept.is_none_or(|longer| longer.is_zero()) => sweep(protocol),
                // Kept anew by a daemon that came and went meanwhile: its own process waits for that.
                Ok(_) => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        }
        None => attend(protocol, &state_dir),
    };
    match swept {
        Ok(removed) => {
            removed.iter().for_each(|object| println!("removed {object}"));
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("announcerd: protocol {protocol}: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The mark, and the folder. None: the configuration is so broken that the mark would be a guess.
fn whose(args: &AfterwardsArgs) -> Option<(u8, PathBuf)> {
    if let (Some(protocol), Some(folder)) = (args.protocol, &args.state_dir) {
        return Some((protocol, folder.clone()));
    }
    if let Ok((config, _)) = reload::read(&args.config) {
        return Some((config.node.route_protocol, config.node.state_dir));
    }
    let protocol =
        std::fs::read_to_string(&args.config).map_or(Some(ROUTE_PROTOCOL), |text| mark_in(&text))?;
    Some((protocol, PathBuf::from(STATE_DIR)))
}

/// Sweeps once nothing is kept any more, or leaves it to a daemon that runs by then.
fn attend(protocol: u8, state_dir: &Path) -> io::Result<Vec<String>> {
    if left(protocol)?.is_empty() {
        return Ok(Vec::new());
    }
    let Some((_, kept)) = claim(state_dir)? else { return Ok(Vec::new()) };
    std::thread::sleep(kept.unwrap_or(GRACE));
    loop {
        // Another daemon may have died this moment: the restart that follows must find everything as it was. (Its end has
        // the service manager start this anew.)
        std::thread::sleep(RESTART);
        // The lock is not held while this sleeps.
        let longer = match claim(state_dir)? {
            None => return Ok(Vec::new()),
            Some((_, Some(longer))) if !longer.is_zero() => longer,
            Some((_held, _)) => return sweep(protocol),
        };
        std::thread::sleep(longer);
    }
}

/// Takes the folder, so that no daemon starts meanwhile, and says how much longer what was kept on purpose may stay, if
/// anything was. None: a running daemon holds it, and everything is its business. Nothing in the folder is changed.
///
/// # Errors
///
/// It cannot be told whether one runs: nothing may be swept then.
fn claim(state_dir: &Path) -> io::Result<Option<(Option<Lock>, Option<Duration>)>> {
    let held = match Lock::take(state_dir) {
        // Without a lock nobody holds it; and the folder must not be made again after it was removed for good.
        Ok(held) => held,
        Err(LockError::Held(_)) => return Ok(None),
        Err(LockError::Os(e)) => {
            let words = format!(
                "the lock in {} cannot be taken ({e}), so nobody knows whether announcerd runs, and nothing is swept: `announcerctl sweep` does",
                state_dir.display()
            );
            return Err(io::Error::other(words));
        }
    };
    let wall = clock::wall();
    let left = kept_until(state_dir, &wall).map(|until| until.since(wall.at));
    Ok(Some((held, left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A person is to see what broke, told by the next daemon that starts.
    #[test]
    fn a_claim_changes_nothing_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(claim(&folder.path().join("none")), Ok(Some((None, None)))));
        assert!(!folder.path().join("none").exists());
        for name in ["state.json", "journal"] {
            std::fs::write(folder.path().join(name), "broken").unwrap();
        }
        assert!(matches!(claim(folder.path()), Ok(Some((None, None)))));
        std::fs::write(folder.path().join("lock"), "1").unwrap();
        let (held, kept) = claim(folder.path()).unwrap().unwrap();
        assert_eq!((held.is_some(), kept), (true, None));
        assert!(matches!(claim(folder.path()), Ok(None)), "held");
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["journal", "lock", "state.json"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("lock")).unwrap(), "1");
    }
}
