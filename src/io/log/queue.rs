//! Between those who log and the one thread that writes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Level;

use super::Sink;
use super::line::Line;

/// How long the exit waits for the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where lines go in. Never blocks for longer than it takes to move a line.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    bound: usize,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<Line>,
    dropped: u64,
    writing: bool,
    closed: bool,
}

/// Waits, when dropped, for the last lines: at most a second.
pub struct LogGuard(Queue);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut inner = shared.lock();
        inner.closed = true;
        shared.changed.notify_all();
        let busy = |i: &mut Inner| i.writing || !i.lines.is_empty();
        // Written or not: the exit goes on.
        drop(shared.changed.wait_timeout_while(inner, LAST_WORDS, busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the queue whole: go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    pub(super) fn start(sink: Sink, bound: usize) -> std::io::Result<(Self, LogGuard)> {
        let shared = Arc::new(Shared { inner: Mutex::default(), changed: Condvar::new(), bound });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&theirs, sink))?;
        let queue = Queue(shared);
        Ok((queue.clone(), LogGuard(queue)))
    }

    pub(super) fn push(&self, line: Line) {
        let mut inner = self.0.lock();
        if inner.lines.len() >= self.0.bound {
            inner.dropped += 1;
            return;
        }
        inner.lines.push_back(line);
        drop(inner);
        self.0.changed.notify_all();
    }
}

fn write(shared: &Shared, mut sink: Sink) {
    loop {
        let mut inner = shared.lock();
        if inner.writing {
            inner.writing = false;
            shared.changed.notify_all();
        }
        let idle = |i: &mut Inner| i.lines.is_empty() && !i.closed;
        let mut inner = shared.changed.wait_while(inner, idle).unwrap_or_else(PoisonError::into_inner);
        let Some(line) = inner.lines.pop_front() else { return };
        // Those that were dropped came after all that still wait.
        let dropped = if inner.lines.is_empty() { std::mem::take(&mut inner.dropped) } else { 0 };
        inner.writing = true;
        drop(inner);
        sink.write(&line);
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped: nobody read the log fast enough");
            sink.write(&Line::own(Level::WARN, text));
        }
    }
}
