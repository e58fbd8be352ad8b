//! `announcerctl sweep`: removes what carries our mark from the kernel, for `ExecStopPost` and for hands.

use std::io::Write;
use std::path::Path;

use super::style::clean;
use super::{Failure, Out};
use crate::io::control::protocol::ErrorKind;
use crate::io::control::somebody_listens;
use crate::io::netlink::sweep;
use crate::io::reload;

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
    const DEFAULT: u8 = 187;
    match given {
        Some(protocol) => Ok(protocol),
        None if !config.exists() => Ok(DEFAULT),
        None => reload::read(config).map(|(c, _)| c.node.route_protocol).map_err(|errors| {
            let words = format!("{errors}the mark is not known; name it with --protocol N");
            Failure::refused(words, ErrorKind::Config)
        }),
    }
}
