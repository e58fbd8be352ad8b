//! Calls that can hang in the kernel (a dead NFS server): on threads, at most one for a check and a bounded number in all.
//!
//! A check whose earlier call has not come back waits for it, and fails by its timeout like any check that hangs; it never
//! piles up threads or processes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::Fault;
use crate::config::model::Name;

/// Calls at the same time, for all checks.
const AT_ONCE: usize = 64;

/// Who is off on a thread.
#[derive(Debug)]
pub struct Threads {
    checks: Mutex<HashMap<Name, Arc<AsyncMutex<()>>>>,
    permits: Arc<Semaphore>,
}

/// The one place of a check. While it is held, no other call of that check begins.
#[derive(Debug)]
pub struct Place {
    _check: OwnedMutexGuard<()>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Threads {
    fn default() -> Self {
        Threads { checks: Mutex::default(), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Threads {
    /// Runs `call` on a thread, for that check; it may keep the place for longer. If the caller goes away, so does the
    /// result.
    ///
    /// # Errors
    /// [`Fault::Ours`]: too many calls of other checks have not come back.
    pub async fn run<T: Send + 'static>(
        &self,
        check: &Name,
        call: impl FnOnce(Place) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = {
            let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.entry(check.clone()).or_default().clone()
        };
        let turn = turn.lock_owned().await;
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Fault::Ours(format!("{AT_ONCE} calls of other checks hang")))?;
        let place = Place { _check: turn, _permit: permit };
        let result = tokio::task::spawn_blocking(move || call(place)).await;
        result.map_err(|e| Fault::Ours(format!("the call was lost: {e}")))
    }

    /// Forgets every check but these. A call under way keeps its thread until it comes back.
    pub fn retain(&self, live: &HashSet<&Name>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.retain(|name, turn| live.contains(name) || Arc::strong_count(turn) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_hung_call_holds_one_thread_and_delays_no_other_check() {
        let threads = Arc::new(Threads::default());
        let (release, hang) = mpsc::channel::<()>();
        let (slow, quick): (Name, Name) = ("slow".into(), "quick".into());
        let hung = {
            let (threads, slow) = (threads.clone(), slow.clone());
            tokio::spawn(async move { threads.run(&slow, move |_place| hang.recv()).await })
        };
        while threads.permits.available_permits() == AT_ONCE {
            tokio::task::yield_now().await;
        }
        hung.abort();
        for n in 0..100 {
            let second = threads.run(&slow, |_| panic!("a second call")).now_or_never();
            assert!(second.is_none(), "it still hangs after a cancel");
            assert_eq!(threads.run(&quick, move |_| n).await, Ok(n));
        }
        threads.retain(&HashSet::new());
        assert_eq!(threads.checks.lock().unwrap().len(), 1, "the hung one is still known");
        drop(release);
        assert_eq!(threads.run(&slow, |_| 4).await, Ok(4));
        // The hung call's thread lets the next one in a moment before it lets go of the check itself.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !threads.checks.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "never forgotten");
            threads.retain(&HashSet::new());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn too_many_hung_calls_are_our_own_fault() {
        let threads = Threads::default();
        let mut held = Vec::new();
        for n in 0..AT_ONCE {
            held.push(threads.run(&format!("check-{n}").into(), |place| place).await.unwrap());
        }
        assert!(matches!(threads.run(&"one more".into(), |_| ()).await, Err(Fault::Ours(_))));
        held.pop();
        assert_eq!(threads.run(&"one more".into(), |_| ()).await, Ok(()));
    }
}
