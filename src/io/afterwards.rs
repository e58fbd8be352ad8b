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
            // Kept anew by a daemon that came and went meanwhile: its own process waits for that.
            sweep_in_time(protocol, &state_dir, Anew::IsOthers)
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
    sweep_in_time(protocol, state_dir, Anew::IsOurs)
}

/// Whose business it is to sweep what a daemon that came meanwhile has kept anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Anew {
    /// It has started a process for that.
    IsOthers,
    /// There is no other process.
    IsOurs,
}

fn sweep_in_time(protocol: u8, state_dir: &Path, anew: Anew) -> io::Result<Vec<String>> {
    match take_over(state_dir, anew, std::thread::sleep)? {
        Some(_held) => sweep(protocol),
        None => Ok(Vec::new()),
    }
}

/// Takes the folder when what was left is to be swept; None: that is somebody else's business. `rest` lets time pass.
fn take_over(
    state_dir: &Path,
    anew: Anew,
    mut rest: impl FnMut(Duration),
) -> io::Result<Option<Option<Lock>>> {
    let mut restart = Some(RESTART);
    loop {
        let span = match claim(state_dir)? {
            None => return Ok(None),
            Some((_, Some(longer))) if !longer.is_zero() => match anew {
                Anew::IsOthers => return Ok(None),
                Anew::IsOurs => {
                    restart = Some(RESTART);
                    longer
                }
            },
            // Nobody has come since: who runs keeps nothing.
            Some((held, Some(_))) => return Ok(Some(held)),
            // Who came may have died this moment: the restart that follows must find everything as it was. (Its end has a
            // service manager start this anew.)
            Some((held, None)) => match restart.take() {
                Some(span) => span,
                None => return Ok(Some(held)),
            },
        };
        // The lock is not held while this rests.
        rest(span);
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
    use std::time::Instant;

    use super::*;
    use crate::announcer::memory::Memory;
    use crate::io::state::StateDir;

    /// What happens in the folder while nobody looks, rest by rest; how long each was, and whether it is swept then.
    fn rests(folder: &Path, anew: Anew, mut happens: Vec<Box<dyn FnMut()>>) -> (Vec<Duration>, bool) {
        let mut rests = Vec::new();
        let taken = take_over(folder, anew, |span| {
            rests.push(span);
            if !happens.is_empty() {
                happens.remove(0)();
            }
        });
        (rests, taken.unwrap().is_some())
    }

    fn kept(folder: &Path, span: Duration) {
        let wall = clock::wall();
        let (state, _) = StateDir::open(folder, &wall).unwrap();
        state.save(&Memory { kept_until: Some(wall.at + span), ..Memory::default() }, &wall);
        assert!(state.flush(Duration::from_secs(60)));
        drop(state);
        // The thread that writes lets go of the lock a moment later.
        let deadline = Instant::now() + Duration::from_secs(60);
        while Lock::take(folder).is_err() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    /// Who went on with what was kept may die in the very moment in which its time is over: a service manager starts it
    /// again within seconds, and that one must find everything as it was.
    #[test]
    fn a_daemon_that_came_and_died_has_time_to_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for anew in [Anew::IsOthers, Anew::IsOurs] {
            std::fs::write(path.join("state.json"), "{}").unwrap();
            std::fs::write(path.join("lock"), "1").unwrap();
            assert_eq!(rests(path, anew, Vec::new()), (vec![RESTART], true), "nobody came back");
            let held = std::rc::Rc::new(std::cell::RefCell::new(None));
            let (lock, at) = (held.clone(), path.to_owned());
            let starts: Box<dyn FnMut()> = Box::new(move || *lock.borrow_mut() = Lock::take(&at).unwrap());
            assert_eq!(rests(path, anew, vec![starts]), (vec![RESTART], false), "it runs");
        }
    }

    /// `keep_max` bounds what is kept.
    #[test]
    fn what_was_kept_goes_in_time_where_nobody_came() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path(), Duration::ZERO);
        for anew in [Anew::IsOthers, Anew::IsOurs] {
            assert_eq!(rests(folder.path(), anew, Vec::new()), (vec![], true));
        }
        // Kept anew meanwhile.
        kept(folder.path(), 90 * RESTART);
        assert_eq!(rests(folder.path(), Anew::IsOthers, Vec::new()), (vec![], false));
        let path = folder.path().to_owned();
        let passes: Box<dyn FnMut()> = Box::new(move || kept(&path, Duration::ZERO));
        let (spans, swept) = rests(folder.path(), Anew::IsOurs, vec![passes]);
        assert!(swept && matches!(spans[..], [span] if span > 89 * RESTART), "{spans:?}");
        // Who came died; the next one kept it anew; and another died.
        let path = folder.path().to_owned();
        let dies = move || std::fs::write(path.join("state.json"), "{}").unwrap();
        dies();
        let path = folder.path().to_owned();
        let keeps: Box<dyn FnMut()> = Box::new(move || kept(&path, 90 * RESTART));
        let (spans, swept) = rests(folder.path(), Anew::IsOurs, vec![keeps, Box::new(dies)]);
        let each = matches!(spans[..], [first, _, last] if (first, last) == (RESTART, RESTART));
        assert!(swept && each, "{spans:?}");
    }

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
