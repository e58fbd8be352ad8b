//! `state_dir`: what survives a restart of the daemon, and how recently it was alive.
//!
//! Four files: `state.json` (the core's [`Memory`], replaced atomically), `journal` (the decision journal), `alive` (a sign of life each 5 s, so that a crash can be
//! told from a long absence), and `lock` (one daemon at a time). Nothing that is wrong with them stops a start,
//! except another daemon that holds the lock.

mod file;
mod folder;
mod journal;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::announcer::memory::Memory;
use crate::status::{EventStatus, WallClock};
use crate::time::Time;
use file::StateFile;
use folder::{Folder, FolderError};
pub use folder::{Lock, LockError};
use journal::JournalFile;
use writer::Writer;

/// Between signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// A daemon that was alive this recently may take up where it left off.
const RECENT: Duration = Duration::from_secs(60);

/// What the last daemon left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Empty if there was nothing, or nothing readable. Times are on the current boot's clock.
    pub memory: Memory,
    /// MASTER may be resumed: the same boot, and alive within the last 60 s, or stopped with `on_stop = "keep"` and still
    /// within its bound.
    pub resumable: bool,
    /// What the operator should know: a file set aside, a folder that cannot be written.
    pub note: Option<String>,
    /// The last transitions of earlier runs, oldest first.
    pub events: Vec<EventStatus>,
}

/// Why the daemon must not start.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two daemons would undo each other's work.
    #[error("another announcerd{} uses {}; stop it, or give this one its own [node] state_dir", pid.as_ref().map(|p| format!(" (pid {p})")).unwrap_or_default(), path.display())]
    InUse {
        /// `state_dir`.
        path: PathBuf,
        /// The other one's process, if it says so.
        pid: Option<String>,
    },
    /// No thread could be started.
    #[error("the thread that saves the state cannot be started: {0}")]
    Thread(std::io::Error),
}

/// `state_dir`, held for this daemon.
#[derive(Debug)]
pub struct StateDir {
    writer: Writer,
    boot_id: String,
    next_beat: Option<Time>,
}

impl StateDir {
    /// Takes `state_dir` (made if it is missing) and reads what the last daemon left. Blocks on the disk: for the start only.
    pub fn open(path: &Path, clock: &WallClock) -> Result<(Self, Loaded), StateError> {
        // Unreadable: the boot is unknown, and nothing is resumed.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::open_in_boot(path, clock, boot_id.trim())
    }

    fn open_in_boot(path: &Path, clock: &WallClock, boot_id: &str) -> Result<(Self, Loaded), StateError> {
        let mut folder = Folder::new(path);
        let mut notes = Vec::new();
        match folder.claim() {
            Ok(()) => {}
            Err(FolderError::Locked(pid)) => return Err(StateError::InUse { path: path.to_owned(), pid }),
            Err(FolderError::Os(e)) => {
                notes.push(format!("{}: {e}; state is not saved until that is mended", path.display()));
            }
        }
        let mut loaded = load(&folder, clock, boot_id, &mut notes);
        let (journal, note) = JournalFile::load(folder.journal());
        notes.extend(note);
        loaded.events = journal.events();
        loaded.note = (!notes.is_empty()).then(|| notes.join("; "));
        let writer = Writer::start(folder, journal, boot_id.to_owned()).map_err(StateError::Thread)?;
        Ok((StateDir { writer, boot_id: boot_id.to_owned(), next_beat: None }, loaded))
    }

    /// Saves soon, in the background; what was asked for before and not yet written is skipped.
    pub fn save(&self, memory: &Memory, clock: &WallClock) {
        self.writer.save(StateFile::new(memory, clock, &self.boot_id));
    }

    /// Keeps a transition, or more of its timeline, in the background. Never blocks.
    pub fn journal(&self, event: EventStatus) {
        self.writer.journal(event);
    }

    /// A sign of life if one is due; returns when the next is. For the driver to call in each turn: a hung loop must not look alive.
    pub fn tick(&mut self, now: Time) -> Time {
        match self.next_beat {
            Some(next) if now < next => next,
            _ => {
                self.writer.beat(now);
                let next = now + BEAT;
                self.next_beat = Some(next);
                next
            }
        }
    }

    /// Waits until everything is on the disk, at most `bound`; false if it is not. For the exit.
    pub fn flush(&self, bound: Duration) -> bool {
        self.writer.flush(bound)
    }
}

/// Until when the last daemon's objects were to stay in the kernel, as far as its state can be read; a file that is broken
/// stays where it is, for the next daemon to tell of.
pub fn kept_until(path: &Path, clock: &WallClock) -> Option<Time> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let bytes = Folder::new(path).read().ok()??;
    StateFile::parse(&bytes).ok()?.restore(clock, boot_id.trim()).kept_until
}

fn load(folder: &Folder, clock: &WallClock, boot_id: &str, notes: &mut Vec<String>) -> Loaded {
    let read = folder.read().map_err(|e| e.to_string());
    let parsed = read.and_then(|bytes| bytes.map(|b| StateFile::parse(&b)).transpose());
    match parsed {
        Ok(None) => Loaded::default(),
        Ok(Some(file)) => {
            let same_boot = file.same_boot(clock, boot_id);
            let recent = is_recent(&file, folder, clock, boot_id);
            let memory = file.restore(clock, boot_id);
            let resumable = memory.kept_until.map_or(recent, |until| same_boot && clock.at < until);
            Loaded { memory, resumable, ..Loaded::default() }
        }
        Err(wrong) => {
            let fate = match folder.set_aside(clock.wall) {
                Ok(target) => format!("set aside as {}", target.display()),
                Err(e) => format!("and it cannot be set aside: {e}"),
            };
            notes.push(format!(
                "state.json is broken ({wrong}), {fate}; starting without overrides and flap history"
            ));
            Loaded::default()
        }
    }
}

fn is_recent(file: &StateFile, folder: &Folder, clock: &WallClock, boot_id: &str) -> bool {
    let saved = Time::from_nanos(file.saved_boot_ns);
    let alive =
        folder.last_beat(boot_id).filter(|beat| *beat <= clock.at).map_or(saved, |beat| beat.max(saved));
    file.same_boot(clock, boot_id) && clock.at.since(alive) <= RECENT
}

#[cfg(test)]
mod tests;
