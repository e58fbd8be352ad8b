//! Where lines end: the journal, a terminal, or whatever stderr is.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::stat::fstat;

use super::line::Line;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// Used by the writer's thread alone, so it may block.
pub(super) enum Sink {
    /// journald, by its native protocol; where that fails, stderr leads to it as well.
    Journal { journal: UnixDatagram, stderr: Out },
    /// stderr as systemd reads it: no date, but a priority.
    Prefixed(Out),
    /// stderr as people read it.
    Text { out: Out, colour: bool },
}

pub(super) type Out = Box<dyn Write + Send>;

/// What stderr is.
pub(super) fn choose() -> Sink {
    let out = stderr();
    if !stderr_is_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
        let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        return Sink::Text { out, colour };
    }
    match connect(Path::new(JOURNAL)) {
        Ok(journal) => Sink::Journal { journal, stderr: out },
        Err(_) => Sink::Prefixed(out),
    }
}

/// stderr without the standard library's lock on it, which a blocked writer would hold against all other threads.
fn stderr() -> Out {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stderr()),
    }
}

fn connect(socket: &Path) -> io::Result<UnixDatagram> {
    let journal = UnixDatagram::unbound()?;
    journal.connect(socket)?;
    Ok(journal)
}

/// True if JOURNAL_STREAM ("device:inode", systemd.exec(5)) names our stderr.
fn stderr_is_journal(stream: Option<&str>) -> bool {
    let named = stream.and_then(|s| s.split_once(':')).map(|(dev, ino)| (dev.parse().ok(), ino.parse().ok()));
    let ours = fstat(io::stderr()).map(|s| (Some(s.st_dev), Some(s.st_ino)));
    named.is_some() && named == ours.ok()
}

impl Sink {
    /// Writes a line; where that fails there is nobody left to tell.
    pub(super) fn write(&mut self, line: &Line) {
        match self {
            Sink::Journal { journal, stderr } => {
                if journal.send(&line.journal()).is_err() {
                    // journald was restarted, or the line is too long for a datagram.
                    let _ = stderr.write_all(line.prefixed().as_bytes());
                    if let Ok(again) = connect(Path::new(JOURNAL)) {
                        *journal = again;
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
