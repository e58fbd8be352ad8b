//! `announcerctl sweep`: removes what carries our mark from the kernel, for `ExecStopPost` and for hands.

use std::io::{self, Write};
use std::path::Path;

use super::style::clean;
use super::{Failure, Out};
use crate::config::{ROUTE_PROTOCOL, mark_in};
use crate::io::control::protocol::ErrorKind;
use crate::io::control::somebody_listens;
use crate::io::netlink::sweep;

/// Sweeps, unless a daemon runs that would put everything back.
pub(super) fn run(control: &Path, protocol: u8, force: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    // A socket that cannot be looked at belongs to no daemon that we could disturb: sweep.
    if !force && somebody_listens(control).unwrap_or(false) {
        return Err(Failure::failed(format!(
            "announcerd is running (it answers at {}) and would put back what it wants; stop it first, or use --force",
            control.display()
        )));
    }
    let removed = sweep(protocol).map_err(|e| Failure::failed(format!("protocol {protocol}: {e}")))?;
    for object in &removed {
        writeln!(out, "removed {}", clean(object))?;
    }
    if removed.is_empty() {
        writeln!(out, "nothing with protocol {protocol} was there")?;
    }
    Ok(())
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
