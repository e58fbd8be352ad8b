//! The thread that writes: the latest state wins, and a slow or full disk delays nobody but itself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::StateFile;
use super::folder::{Folder, FolderError};
use super::journal::JournalFile;
use crate::status::EventStatus;
use crate::time::Time;

/// Between tries after a failure: the first wait, doubled up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Journal entries that wait for a slow disk; the oldest go first.
const JOURNAL_QUEUE: usize = 4096;

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
    journal: VecDeque<EventStatus>,
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
    pub(super) fn start(folder: Folder, journal: JournalFile, boot_id: String) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || Work::new(folder, journal, boot_id).run(&theirs))?;
        Ok(Writer(shared))
    }

    pub(super) fn save(&self, state: StateFile) {
        self.0.change(|slot| slot.state = Some(state));
    }

    pub(super) fn journal(&self, event: EventStatus) {
        self.0.change(|slot| {
            if slot.journal.len() == JOURNAL_QUEUE {
                slot.journal.pop_front();
            }
            slot.journal.push_back(event);
        });
    }

    pub(super) fn beat(&self, now: Time) {
        self.0.change(|slot| slot.beat = Some(now));
    }

    pub(super) fn flush(&self, bound: Duration) -> bool {
        let busy = |slot: &Slot| slot.state.is_some() || !slot.journal.is_empty() || slot.writing;
        !busy(&self.0.wait_while(bound, |slot| busy(slot)))
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
    journal: JournalFile,
    boot_id: String,
    /// How long to wait after the failure that stands; None: all is well.
    failing: Option<Duration>,
}

impl Work {
    fn new(folder: Folder, journal: JournalFile, boot_id: String) -> Self {
        Work { folder, journal, boot_id, failing: None }
    }

    fn run(mut self, shared: &Shared) {
        loop {
            let idle = |slot: &mut Slot| {
                slot.state.is_none() && slot.beat.is_none() && slot.journal.is_empty() && !slot.closed
            };
            let mut slot =
                shared.changed.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let (state, beat, closed) = (slot.state.take(), slot.beat.take(), slot.closed);
            let events = Vec::from(std::mem::take(&mut slot.journal));
            slot.writing = state.is_some() || !events.is_empty();
            drop(slot);
            let done = self.write(state.as_ref(), beat, events);
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

    fn write(&mut self, state: Option<&StateFile>, beat: Option<Time>, events: Vec<EventStatus>) -> bool {
        let stated = state.map_or(Ok(()), |s| self.folder.write(&s.render()));
        let result = stated.and_then(|()| beat.map_or(Ok(()), |now| self.folder.beat(&self.boot_id, now)));
        // The journal last: what the others tell must not wait for it.
        let journalled = self.write_journal(events);
        let result = result.and(journalled);
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

    fn write_journal(&mut self, events: Vec<EventStatus>) -> Result<(), FolderError> {
        if events.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.folder.claim() {
            self.journal.keep_for_later(events);
            return Err(e);
        }
        Ok(self.journal.append(events)?)
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
