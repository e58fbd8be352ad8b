//! One timer of the runtime for the deadlines of all pings.
//!
//! Nearly every ping is answered long before its deadline. A timer of the runtime for each would be put in and taken out
//! again, and putting in one that is earlier than all others costs a system call to wake the runtime's own wait. Here a
//! deadline is an entry in a table that nobody takes out: one task sleeps until the first of them that still waits then, and
//! throws away what does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What has a deadline.
pub trait Waiting: Send + 'static {
    /// False once it does not matter any more.
    fn waits(&self) -> bool;

    /// The deadline has passed.
    fn expire(self);
}

/// All deadlines.
#[derive(Debug)]
pub struct Patience<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    table: Mutex<Table<T>>,
    /// An entry came that is earlier than what the task sleeps for.
    earlier: Notify,
}

#[derive(Debug)]
struct Table<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    next: u64,
    /// The task runs, and will look again at that time.
    looks_at: Option<Instant>,
}

impl<T> Default for Patience<T> {
    fn default() -> Self {
        let table = Table { waiting: BTreeMap::new(), next: 0, looks_at: None };
        Patience(Arc::new(Shared { table: Mutex::new(table), earlier: Notify::new() }))
    }
}

impl<T: Waiting> Patience<T> {
    /// It expires at `deadline`, unless it does not wait any more then. Must be called inside a tokio runtime with time
    /// enabled.
    pub fn add(&self, deadline: Instant, what: T) {
        let mut table = self.0.lock();
        table.next += 1;
        let key = (deadline, table.next);
        table.waiting.insert(key, what);
        match table.looks_at {
            Some(at) if at <= deadline => {}
            Some(_) => self.0.earlier.notify_one(),
            None => {
                table.looks_at = Some(deadline);
                tokio::spawn(self.0.clone().serve());
            }
        }
    }

    /// Takes everything out.
    pub fn clear(&self) -> Vec<T> {
        let all = std::mem::take(&mut self.0.lock().waiting);
        all.into_values().collect()
    }
}

impl<T: Waiting> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs for as long as something waits.
    async fn serve(self: Arc<Self>) {
        while let Some(at) = self.look() {
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Expires what is due; when the next is. None, and the task ends, if nothing waits.
    fn look(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut table = self.lock();
        while let Some(entry) = table.waiting.first_entry() {
            let waits = entry.get().waits();
            if waits && entry.key().0 > now {
                break;
            }
            let what = entry.remove();
            if waits {
                due.push(what);
            }
        }
        table.looks_at = table.waiting.first_key_value().map(|((at, _), _)| *at);
        let next = table.looks_at;
        drop(table);
        // Without the lock: what expires may be followed by something new.
        due.into_iter().for_each(Waiting::expire);
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    struct Entry {
        after: Duration,
        waits: Arc<AtomicBool>,
        expired: mpsc::UnboundedSender<Duration>,
    }

    impl Waiting for Entry {
        fn waits(&self) -> bool {
            self.waits.load(Ordering::Relaxed)
        }

        fn expire(self) {
            self.expired.send(self.after).unwrap();
        }
    }

    struct Rig {
        patience: Patience<Entry>,
        start: Instant,
        sender: mpsc::UnboundedSender<Duration>,
        expired: mpsc::UnboundedReceiver<Duration>,
    }

    impl Rig {
        fn new() -> Self {
            let (sender, expired) = mpsc::unbounded_channel();
            Rig { patience: Patience::default(), start: Instant::now(), sender, expired }
        }

        fn add(&self, after: Duration) -> Arc<AtomicBool> {
            let waits = Arc::new(AtomicBool::new(true));
            let entry = Entry { after, waits: waits.clone(), expired: self.sender.clone() };
            self.patience.add(self.start + after, entry);
            waits
        }

        /// Which expires next; not before its time.
        async fn next(&mut self) -> Duration {
            let after = self.expired.recv().await.unwrap();
            assert!(self.start.elapsed() >= after);
            after
        }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[tokio::test]
    async fn each_expires_at_its_own_time_and_leaves_nothing() {
        let mut rig = Rig::new();
        // The second is earlier than what the task sleeps for by then, the third later.
        for after in [40, 10, 70] {
            rig.add(ms(after));
        }
        for after in [10, 40, 70] {
            assert_eq!(rig.next().await, ms(after));
        }
        // The task has ended, or will: a later one gets another.
        rig.add(ms(90));
        assert_eq!(rig.next().await, ms(90));
        rig.add(ms(100));
        assert_eq!(rig.next().await, ms(100));
        assert!(rig.patience.clear().is_empty());
    }

    #[tokio::test]
    async fn what_waits_no_longer_is_thrown_away_and_woken_for_once() {
        let mut rig = Rig::new();
        for after in 1..=100 {
            let waits = rig.add(ms(after));
            waits.store(after == 50, Ordering::Relaxed);
        }
        // The first look may be at any time: nothing of it but the one that waits may be seen.
        assert_eq!(rig.next().await, ms(50));
        rig.add(ms(110));
        assert_eq!(rig.next().await, ms(110));
        assert!(rig.patience.clear().is_empty());
    }
}
