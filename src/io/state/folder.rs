//! `state_dir` on the disk: the lock, the files, what is set aside.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::time::Time;

const STATE: &str = "state.json";
const TEMPORARY: &str = "state.json.new";
const ALIVE: &str = "alive";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const BROKEN: &str = "state.json.broken-";

/// Broken files that are kept for a person to look at.
const BROKEN_KEPT: usize = 5;
/// A state file beyond this is none of ours.
const MAX_STATE: u64 = 16 << 20;

/// `state_dir`, and the lock on it once we have it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: Option<Flock<File>>,
}

/// Why the folder cannot be used.
#[derive(Debug)]
pub(super) enum FolderError {
    /// Another daemon has it; its process, if it says so.
    Locked(Option<String>),
    /// The operating system refused.
    Os(io::Error),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        FolderError::Os(error)
    }
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Folder { path: path.to_owned(), lock: None }
    }

    /// Makes the folder if it is missing (0755) and takes the lock. What root makes in a folder of the daemon's user is that
    /// user's, who is to open it next.
    pub(super) fn claim(&mut self) -> Result<(), FolderError> {
        if self.lock.is_some() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o755).create(&self.path)?;
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).clone();
        let file = options.open(self.path.join(LOCK))?;
        let (folder, lock) = (fs::metadata(&self.path)?, file.metadata()?);
        if (folder.uid(), folder.gid()) != (lock.uid(), lock.gid()) {
            // Who may not do that is not root, and opens it again next time.
            let _ = fchown(&file, Some(folder.uid()), Some(folder.gid()));
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                // For people and for the message of a second daemon; the lock itself is what counts.
                let _ = lock.set_len(0).and_then(|()| write!(&*lock, "{}", std::process::id()));
                self.lock = Some(lock);
                Ok(())
            }
            Err((file, Errno::EWOULDBLOCK)) => Err(FolderError::Locked(holder(&file))),
            Err((_, errno)) => Err(FolderError::Os(errno.into())),
        }
    }

    /// Where the decision journal is kept.
    pub(super) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The state file's bytes; None if there is none.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(STATE)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_STATE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_STATE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_STATE} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the state file's place, whole or not at all, also if the power fails.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.claim()?;
        let temporary = self.path.join(TEMPORARY);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).clone();
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path.join(STATE))?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// A sign of life. Never synced: it says something only while the kernel that holds it lives.
    pub(super) fn beat(&mut self, boot_id: &str, now: Time) -> Result<(), FolderError> {
        self.claim()?;
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).clone();
        let line = format!("{boot_id} {:020}\n", now.as_nanos().max(0));
        options.open(self.path.join(ALIVE))?.write_all_at(line.as_bytes(), 0)?;
        Ok(())
    }

    /// The last sign of life in this boot.
    pub(super) fn last_beat(&self, boot_id: &str) -> Option<Time> {
        let mut text = String::new();
        File::open(self.path.join(ALIVE)).ok()?.take(256).read_to_string(&mut text).ok()?;
        let (boot, nanos) = text.lines().next()?.split_once(' ')?;
        (boot == boot_id).then(|| nanos.parse().ok()).flatten().map(Time::from_nanos)
    }

    /// Moves the state file out of the way; returns where to. Only the last few are kept.
    pub(super) fn set_aside(&self, wall: SystemTime) -> io::Result<PathBuf> {
        let unix = wall.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0);
        let numbered = |n: u32| {
            self.path.join(format!("{BROKEN}{unix}{}", if n == 0 { String::new() } else { format!("-{n}") }))
        };
        let free = (0..1000).map(numbered).find(|p| fs::symlink_metadata(p).is_err());
        let target = free.unwrap_or_else(|| numbered(0));
        fs::rename(self.path.join(STATE), &target)?;
        self.forget_old_broken(&target);
        Ok(target)
    }

    fn forget_old_broken(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let is_broken = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(BROKEN));
        let mut others: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| is_broken(p) && p != newest).collect();
        others.sort_by_key(|p| fs::symlink_metadata(p).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH));
        let surplus = others.len().saturating_sub(BROKEN_KEPT - 1);
        for old in others.into_iter().take(surplus) {
            if let Err(e) = remove(&old) {
                tracing::warn!("{} cannot be removed: {e}", old.display());
            }
        }
    }
}

/// A file, or a folder that somebody put in a file's place.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// The lock on a folder that is there already, taken without changing anything in it. It goes with this value.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the lock is not to be had.
#[derive(Debug)]
pub enum LockError {
    /// A daemon has it; its process, if it says so.
    Held(Option<String>),
    /// The operating system refused.
    Os(io::Error),
}

impl Lock {
    /// Takes it; None if there is none to take, so that no daemon can hold it.
    ///
    /// # Errors
    ///
    /// A daemon holds it, or nobody knows.
    pub fn take(state_dir: &Path) -> Result<Option<Self>, LockError> {
        let file = match File::open(state_dir.join(LOCK)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(LockError::Os)?,
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Lock { _file: file })),
            Err((file, Errno::EWOULDBLOCK)) => Err(LockError::Held(holder(&file))),
            Err((_, errno)) => Err(LockError::Os(errno.into())),
        }
    }
}

fn holder(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}
