//! The thread that writes: the latest state wins, and a slow or full disk delays nobody but itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::StateFile;
use super::folder::{Folder, FolderError};
use crate::time::Time;

/// Between tries after a failure: the first wait, doubled up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The driver's end.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    state: Option<StateFile>,
    beat: Option<Time>,
    writing: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // A panic elsewhere leaves the slot whole: go on.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits at most `bound` while `busy`; returns the slot, free or not.
    fn wait_while(&self, bound: Duration, busy: impl FnMut(&mut Slot) -> bool) -> MutexGuard<'_, Slot> {
        let waited = self.changed.wait_timeout_while(self.lock(), bound, busy);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Writer {
    pub(super) fn start(folder: Folder, boot_id: String) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || Work::new(folder, boot_id).run(&theirs))?;
        Ok(Writer(shared))
    }

    pub(super) fn save(&self, state: StateFile) {
        self.0.change(|slot| slot.state = Some(state));
    }

    pub(super) fn beat(&self, now: Time) {
        self.0.change(|slot| slot.beat = Some(now));
    }

    pub(super) fn flush(&self, bound: Duration) -> bool {
        let slot = self.0.wait_while(bound, |slot| slot.state.is_some() || slot.writing);
        slot.state.is_none() && !slot.writing
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.change(|slot| slot.closed = true);
    }
}

/// The thread's own.
struct Work {
    folder: Folder,
    boot_id: String,
    /// How long to wait after the failure that stands; None: all is well.
    failing: Option<Duration>,
}

impl Work {
    fn new(folder: Folder, boot_id: String) -> Self {
        Work { folder, boot_id, failing: None }
    }

    fn run(mut self, shared: &Shared) {
        loop {
            let idle = |slot: &mut Slot| slot.state.is_none() && slot.beat.is_none() && !slot.closed;
            let mut slot =
                shared.changed.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let (state, beat, closed) = (slot.state.take(), slot.beat.take(), slot.closed);
            slot.writing = state.is_some();
            drop(slot);
            let done = self.write(state.as_ref(), beat);
            shared.change(|slot| {
                slot.writing = false;
                if !done && slot.state.is_none() {
                    slot.state = state; // nothing newer came meanwhile: try this one again
                }
            });
            if closed {
                return;
            }
            if let Some(pause) = self.failing {
                self.rest(shared, pause);
            }
        }
    }

    /// Waits before the next try, so that a full disk is not hammered; a stop ends the wait.
    fn rest(&self, shared: &Shared, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            if shared.wait_while(left, |slot| !slot.closed).closed {
                return;
            }
        }
    }

    fn write(&mut self, state: Option<&StateFile>, beat: Option<Time>) -> bool {
        let stated = state.map_or(Ok(()), |s| self.folder.write(&s.render()));
        let result = stated.and_then(|()| beat.map_or(Ok(()), |now| self.folder.beat(&self.boot_id, now)));
        match result {
            Ok(()) => {
                if self.failing.take().is_some() {
                    tracing::info!("state is saved again");
                }
                true
            }
            Err(e) => {
                self.complain(&e);
                false
            }
        }
    }

    /// Says what is wrong, once until it is well again.
    fn complain(&mut self, error: &FolderError) {
        match self.failing {
            None => tracing::error!(
                "state is not saved, and overrides and flap history would not survive a restart: {}; trying again",
                error.words()
            ),
            Some(_) => tracing::debug!("state is still not saved: {}", error.words()),
        }
        self.failing = Some(self.failing.map_or(BACK_OFF.0, |d| (d * 2).min(BACK_OFF.1)));
    }
}

impl FolderError {
    pub(super) fn words(&self) -> String {
        match self {
            FolderError::Locked(Some(pid)) => format!("another announcerd (pid {pid}) uses it"),
            FolderError::Locked(None) => "another announcerd uses it".to_owned(),
            FolderError::Os(e) => e.to_string(),
        }
    }
}
