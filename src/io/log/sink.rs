//! Where lines end: the journal, a terminal, or whatever stderr is.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::stat::fstat;

use super::line::Line;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// Used by the writer's thread alone, so it may block.
pub(super) enum Sink {
    /// journald, by its native protocol.
    Journal(UnixDatagram),
    /// stderr as systemd reads it: no date, but a priority.
    Prefixed(Box<dyn Write + Send>),
    /// stderr as people read it.
    Text { out: Box<dyn Write + Send>, colour: bool },
}

/// What stderr is.
pub(super) fn choose() -> Sink {
    let out = Box::new(io::stderr());
    if !stderr_is_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
        let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        return Sink::Text { out, colour };
    }
    Sink::journal(Path::new(JOURNAL)).unwrap_or(Sink::Prefixed(out))
}

/// True if JOURNAL_STREAM ("device:inode", systemd.exec(5)) names our stderr.
fn stderr_is_journal(stream: Option<&str>) -> bool {
    let named = stream.and_then(|s| s.split_once(':')).map(|(dev, ino)| (dev.parse().ok(), ino.parse().ok()));
    let ours = fstat(io::stderr()).map(|s| (Some(s.st_dev), Some(s.st_ino)));
    named.is_some() && named == ours.ok()
}

impl Sink {
    pub(super) fn journal(socket: &Path) -> io::Result<Self> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        Ok(Sink::Journal(journal))
    }

    /// Writes a line; where that fails there is nobody left to tell.
    pub(super) fn write(&mut self, line: &Line) {
        match self {
            Sink::Journal(journal) => {
                if journal.send(&line.journal()).is_err() {
                    // journald was restarted, or the line is too long for a datagram: stderr leads to it as well.
                    let _ = io::stderr().write_all(line.prefixed().as_bytes());
                    if let Ok(again) = Sink::journal(Path::new(JOURNAL)) {
                        *self = again;
                    }
                }
            }
            Sink::Prefixed(out) => {
                let _ = out.write_all(line.prefixed().as_bytes());
            }
            Sink::Text { out, colour } => {
                let _ = out.write_all(line.text(*colour).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_the_journal_only_if_it_is_the_very_stream() {
        let stat = fstat(io::stderr()).unwrap();
        assert!(stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(
            !stderr_is_journal(Some("nonsense"))
                && !stderr_is_journal(Some("x:y"))
                && !stderr_is_journal(None)
        );
    }
}
