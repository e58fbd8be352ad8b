//! One timer of the runtime for the deadlines of all pings.
//!
//! Nearly every ping is answered long before its deadline. A timer of the runtime for each would be put in and taken out
//! again, and putting in one that is earlier than all others costs a system call to wake the runtime's own wait. Here a
//! deadline is an entry in a table; one task sleeps until the first of them, and an entry that went away meanwhile costs
//! it nothing but a look.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// All deadlines. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// An entry came that is earlier than what the task sleeps for.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    waiting: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    /// The task runs, and will look again at that time.
    looks_at: Option<Instant>,
}

impl Patience {
    /// Ends at `deadline`. Must be polled inside a tokio runtime with time enabled.
    pub fn until(&self, deadline: Instant) -> Until {
        Until { shared: self.0.clone(), deadline, entry: None }
    }
}

/// See [`Patience::until`].
#[derive(Debug)]
pub struct Until {
    shared: Arc<Shared>,
    deadline: Instant,
    /// Its number in the table.
    entry: Option<u64>,
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= Instant::now() {
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        let entry = self.shared.enter(deadline, self.entry, context.waker());
        self.entry = Some(entry);
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.shared.lock().waiting.remove(&(self.deadline, entry));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to wake at `deadline`; anew, or in the place of an earlier entry.
    fn enter(self: &Arc<Self>, deadline: Instant, entry: Option<u64>, waker: &Waker) -> u64 {
        let mut table = self.lock();
        let entry = entry.unwrap_or_else(|| {
            table.next += 1;
            table.next
        });
        table.waiting.insert((deadline, entry), waker.clone());
        match table.looks_at {
            Some(at) if at <= deadline => {}
            Some(_) => self.earlier.notify_one(),
            None => {
                table.looks_at = Some(deadline);
                tokio::spawn(self.clone().serve());
            }
        }
        entry
    }

    /// Runs for as long as somebody waits.
    async fn serve(self: Arc<Self>) {
        while let Some(at) = self.wake_due() {
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Wakes those whose time has come; when the next one's does. None, and the task ends, if nobody waits.
    fn wake_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut table = self.lock();
        let later = table.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut table.waiting, later);
        table.looks_at = table.waiting.first_key_value().map(|((at, _), _)| *at);
        let next = table.looks_at;
        drop(table);
        // Without the lock: whoever is woken may give up another wait.
        due.into_values().for_each(Waker::wake);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use futures::FutureExt;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn is_empty(patience: &Patience) -> bool {
        patience.0.lock().waiting.is_empty()
    }

    #[tokio::test]
    async fn each_ends_at_its_own_time_and_leaves_nothing() {
        let (patience, start) = (Patience::default(), Instant::now());
        // The second is earlier than what the task sleeps for by then, the third later.
        let wait = async |n| {
            patience.until(start + ms(n)).await;
            assert!(start.elapsed() >= ms(n));
            n
        };
        let ended = std::sync::Mutex::new(Vec::new());
        let note = async |n| {
            let n = wait(n).await;
            ended.lock().unwrap().push(n);
        };
        tokio::join!(note(40), note(10), note(70));
        assert_eq!(*ended.lock().unwrap(), [10, 40, 70]);
        assert!(is_empty(&patience));
        // The task has ended, or will: a later one gets another.
        wait(90).await;
        wait(100).await;
    }

    #[tokio::test]
    async fn what_is_given_up_is_forgotten() {
        let (patience, start) = (Patience::default(), Instant::now());
        for _ in 0..100 {
            let mut until = std::pin::pin!(patience.until(start + ms(20)));
            assert!(until.as_mut().now_or_never().is_none());
            assert!(until.as_mut().now_or_never().is_none());
            assert_eq!(patience.0.lock().waiting.len(), 1);
        }
        assert!(is_empty(&patience));
        patience.until(start + ms(30)).await;
        assert!(start.elapsed() >= ms(30));
    }
}
