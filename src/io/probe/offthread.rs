//! Calls that can hang in the kernel (a dead NFS server): on threads, at most one for a check and a bounded number in all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Fault;
use crate::config::model::Name;

/// Calls at the same time, for all checks.
const AT_ONCE: usize = 64;

/// Who is off on a thread. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<Mutex<HashSet<Name>>>);

/// Gives the check's place back, also after a panic.
struct Place {
    threads: Threads,
    check: Name,
}

impl Threads {
    /// Runs `call` on a thread, for that check. If the caller goes away, so does the result.
    ///
    /// # Errors
    /// [`Fault::Ours`]: the check's previous call, or too many others, have not come back.
    pub async fn run<T: Send + 'static>(
        &self,
        check: &Name,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let place = self.enter(check)?;
        let work = move || {
            let _place = place;
            call()
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Fault::Ours(format!("the call was lost: {e}")))
    }

    fn enter(&self, check: &Name) -> Result<Place, Fault> {
        let mut busy = self.lock();
        if busy.contains(check) {
            return Err(Fault::Ours("the call of an earlier probe still hangs in the kernel".to_owned()));
        }
        if busy.len() >= AT_ONCE {
            return Err(Fault::Ours(format!("{AT_ONCE} calls of other checks hang in the kernel")));
        }
        busy.insert(check.clone());
        Ok(Place { threads: self.clone(), check: check.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.threads.lock().remove(&self.check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_hung_call_holds_one_thread_and_delays_no_other_check() {
        let threads = Threads::default();
        let (release, hang) = mpsc::channel::<()>();
        let (slow, quick): (Name, Name) = ("slow".into(), "quick".into());
        let hung = {
            let (threads, slow) = (threads.clone(), slow.clone());
            tokio::spawn(async move { threads.run(&slow, move || hang.recv()).await })
        };
        while threads.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(threads.run(&slow, || 1).await, Err(Fault::Ours(_))));
        assert_eq!(threads.run(&quick, || 2).await, Ok(2));
        hung.abort();
        assert!(
            matches!(threads.run(&slow, || 3).await, Err(Fault::Ours(_))),
            "it still hangs after a cancel"
        );
        drop(release);
        while !threads.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.run(&slow, || 4).await, Ok(4));
    }
}
