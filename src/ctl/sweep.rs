//! `announcerctl sweep`: removes what carries our mark from the kernel, for `ExecStopPost` and for hands.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::style::clean;
use super::{Failure, Out};
use crate::config::{ROUTE_PROTOCOL, STATE_DIR, mark_in, state_dir_in};
use crate::io::control::protocol::ErrorKind;
use crate::io::control::somebody_listens;
use crate::io::netlink::sweep;
use crate::io::state::{Lock, LockError};

/// Sweeps, unless a daemon runs that would put everything back: one that answers, or that holds the state folder, which is
/// ours meanwhile, so that none starts in between.
pub(super) fn run(
    control: &Path,
    config: &Path,
    protocol: u8,
    force: bool,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let _held = if force { None } else { alone(control, &state_dir(config))? };
    let removed = sweep(protocol).map_err(|e| Failure::failed(format!("protocol {protocol}: {e}")))?;
    for object in &removed {
        writeln!(out, "removed {}", clean(object))?;
    }
    if removed.is_empty() {
        writeln!(out, "nothing with protocol {protocol} was there")?;
    }
    Ok(())
}

fn alone(control: &Path, state_dir: &Path) -> Result<Option<Lock>, Failure> {
    let refuse = |who: String| {
        Err(Failure::failed(format!(
            "announcerd is running ({who}) and would put back what it wants; stop it first, or use --force"
        )))
    };
    // A socket that cannot be looked at belongs to no daemon that we could disturb.
    if somebody_listens(control).unwrap_or(false) {
        return refuse(format!("it answers at {}", control.display()));
    }
    match Lock::take(state_dir) {
        Ok(lock) => Ok(lock),
        Err(LockError::Held(Some(pid))) => refuse(format!("process {pid} holds {}", state_dir.display())),
        Err(LockError::Held(None)) => refuse(format!("a process holds {}", state_dir.display())),
        // As with the socket: who may sweep and may not look (a service with few capabilities) sweeps.
        Err(LockError::Os(_)) => Ok(None),
    }
}

fn state_dir(config: &Path) -> PathBuf {
    let configured = std::fs::read_to_string(config).ok().and_then(|text| state_dir_in(&text));
    configured.unwrap_or_else(|| PathBuf::from(STATE_DIR))
}

/// The mark to sweep: as given, else of the configuration. Only where there is no configuration at all it is the default:
/// a file that cannot be read may name another, and sweeping the wrong one would look like success.
pub(super) fn mark(given: Option<u8>, config: &Path) -> Result<u8, Failure> {
    if let Some(protocol) = given {
        return Ok(protocol);
    }
    let refuse = |why: &str| {
        let shown = config.display();
        Failure::refused(format!("{shown}: {why}; name the mark with --protocol N"), ErrorKind::Config)
    };
    match std::fs::read_to_string(config) {
        Ok(text) => mark_in(&text).ok_or_else(|| refuse("its [node] route_protocol cannot be told")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(ROUTE_PROTOCOL),
        Err(e) => Err(refuse(&e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark_of(text: &str) -> Option<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        mark(None, file.path()).ok()
    }

    /// The socket may be gone, or another than the configuration says by now: the lock is not.
    #[test]
    fn a_daemon_that_holds_its_state_is_not_swept_under() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(alone(&at("none.sock"), &at("none")).unwrap().is_none(), "no folder: nobody");
        std::fs::write(at("lock"), "4242").unwrap();
        let held = alone(&at("none.sock"), folder.path()).unwrap();
        assert!(held.is_some());
        let Err(Failure::Said(1, words)) = alone(&at("none.sock"), folder.path()) else { panic!("swept") };
        assert!(words.contains(&format!("process 4242 holds {}", folder.path().display())), "{words}");
        drop(held);
        assert!(alone(&at("none.sock"), folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_broken_configuration_still_names_its_mark() {
        for (text, expected) in [
            ("", Some(187)),
            ("[node]\nname = \"a\"", Some(187)),
            ("[node]\nroute_protocol = 200\nsurprise = true\n[[instance]]", Some(200)),
        ] {
            assert_eq!(mark_of(text), expected, "{text}");
        }
    }

    /// What the kernel or a routing daemon marks must never be swept because of a slip.
    #[test]
    fn a_mark_that_cannot_be_told_is_not_guessed() {
        for text in [
            "[node\nroute_protocol = 200",
            "[node]\nroute_protocol = \"200\"",
            "[node]\nroute_protocol = 2",
            "[node]\nroute_protocol = 443",
            "node = 7",
        ] {
            assert_eq!(mark_of(text), None, "{text}");
        }
        assert!(mark(None, Path::new("/")).is_err(), "a folder");
        assert_eq!(mark(None, Path::new("/nonexistent/announcer.toml")).ok(), Some(187));
        assert_eq!(mark(Some(9), Path::new("/")).ok(), Some(9));
    }
}
