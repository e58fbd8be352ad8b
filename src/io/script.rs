//! Notify scripts: each in a process group of its own, its output in the log, its end an event.
//!
//! The order of scripts and their timeouts are the core's; this edge starts, kills and reports.

use std::collections::{HashMap, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::child::{self, Inspect, Running};
use crate::announcer::Event;
use crate::announcer::effect::ScriptRun;
use crate::announcer::event::{ScriptEnd, ScriptId};

/// Lines of one run that reach the log; the rest is read and dropped.
const MAX_LINES: usize = 200;
/// Bytes of a line that reach the log.
const MAX_LINE: usize = 512;
/// Pipes kept open for background children of scripts that have ended; then the oldest is closed.
const MAX_LINGERING: usize = 16;
/// A killed program that is not gone by then hangs in the kernel, and nobody waits for it any longer.
const DEATH: Duration = Duration::from_secs(2);

/// All scripts that run. Must live inside a tokio runtime with everything enabled.
#[derive(Debug)]
pub struct Scripts {
    events: mpsc::Sender<Event>,
    inspect: Inspect,
    running: HashMap<ScriptId, Handle>,
    lingering: Lingering,
}

#[derive(Debug)]
struct Handle {
    kill: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

type Lingering = Arc<Mutex<VecDeque<AbortHandle>>>;

impl Scripts {
    /// Answers go to `events`; `inspect` may refuse a script before each run.
    pub fn new(events: mpsc::Sender<Event>, inspect: Inspect) -> Self {
        Scripts { events, inspect, running: HashMap::new(), lingering: Lingering::default() }
    }

    /// Starts a script and returns at once; [`Event::Script`] follows, always exactly one.
    pub fn start(&mut self, run: ScriptRun) {
        self.running.retain(|_, handle| !handle.task.is_finished());
        let (kill, killed) = oneshot::channel();
        let (id, events) = (run.id, self.events.clone());
        let work = run_script(run, self.inspect, killed, self.lingering.clone());
        let task = tokio::spawn(async move {
            let end = work.await;
            // The receiver is gone only when the daemon ends.
            let _ = events.send(Event::Script { id, end }).await;
        });
        self.running.insert(id, Handle { kill: Some(kill), task });
    }

    /// Kills a script's whole process group. Its event follows as after any other end.
    pub fn kill(&mut self, id: ScriptId) {
        if let Some(kill) = self.running.get_mut(&id).and_then(|handle| handle.kill.take()) {
            // An error: it has just ended by itself.
            let _ = kill.send(());
        }
    }
}

async fn run_script(
    run: ScriptRun,
    inspect: Inspect,
    mut killed: oneshot::Receiver<()>,
    lingering: Lingering,
) -> ScriptEnd {
    let name: Arc<str> = run.command.first().cloned().unwrap_or_default().into();
    let instance = run.instance.clone();
    let start = tokio::task::spawn_blocking(move || child::spawn(&run.command, &run.env, inspect));
    let started = tokio::select! {
        started = start => started,
        // What starts after all is dropped with the result, and thereby killed.
        Ok(()) = &mut killed => return ScriptEnd::NotStarted(format!("{name}: killed before it had started")),
    };
    let (mut script, output) = match started {
        Ok(Ok(started)) => started,
        Ok(Err(why)) => return ScriptEnd::NotStarted(why),
        Err(panic) => return ScriptEnd::NotStarted(format!("cannot start {name}: {panic}")),
    };
    let log = tokio::spawn(log_output(output, name.clone(), instance));
    let end = wait(&mut script, killed, &name).await;
    linger(&lingering, &log);
    end
}

async fn wait(script: &mut Running, killed: oneshot::Receiver<()>, name: &str) -> ScriptEnd {
    tokio::select! {
        status = script.wait() => return end_of(status),
        // An error: the daemon no longer holds the handle, and thus wants nothing.
        Ok(()) = killed => script.kill_group(),
    }
    match tokio::time::timeout(DEATH, script.wait()).await {
        Ok(status) => end_of(status),
        Err(_) => {
            tracing::error!(script = name, "killed, but it hangs in the kernel; going on without it");
            ScriptEnd::Killed(libc::SIGKILL)
        }
    }
}

fn end_of(status: std::io::Result<ExitStatus>) -> ScriptEnd {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ScriptEnd::Exited(code),
            (None, signal) => ScriptEnd::Killed(signal.unwrap_or(libc::SIGKILL)),
        },
        Err(e) => ScriptEnd::NotStarted(format!("cannot wait for it: {}", child::words(&e))),
    }
}

/// A background child may hold the pipe for ever; closing it would kill that child when it writes (SIGPIPE).
fn linger(lingering: &Lingering, log: &JoinHandle<()>) {
    if log.is_finished() {
        return;
    }
    let mut lingering = lingering.lock().unwrap_or_else(PoisonError::into_inner);
    lingering.retain(|log| !log.is_finished());
    lingering.push_back(log.abort_handle());
    if lingering.len() > MAX_LINGERING
        && let Some(oldest) = lingering.pop_front()
    {
        tracing::warn!(
            "{MAX_LINGERING} background children of scripts hold their output; closing the oldest"
        );
        oldest.abort();
    }
}

async fn log_output(mut output: pipe::Receiver, name: Arc<str>, instance: Arc<str>) {
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = output.read(&mut buffer).await {
        lines.push(buffer.get(..n).unwrap_or_default(), |line| {
            tracing::info!(script = &*name, instance = &*instance, "{line}");
        });
    }
    lines.finish(|line| tracing::info!(script = &*name, instance = &*instance, "{line}"));
}

/// Cuts a stream of bytes into lines, with a bound on their number and length.
#[derive(Default)]
struct Lines {
    part: Vec<u8>,
    count: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut log: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if self.count >= MAX_LINES {
                return;
            }
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = MAX_LINE.saturating_sub(self.part.len());
            self.part.extend_from_slice(text.get(..room).unwrap_or(text));
            if piece.ends_with(b"\n") {
                self.end_line(&mut log);
            }
        }
    }

    fn finish(mut self, mut log: impl FnMut(&str)) {
        if !self.part.is_empty() && self.count < MAX_LINES {
            self.end_line(&mut log);
        }
    }

    fn end_line(&mut self, log: &mut impl FnMut(&str)) {
        self.count += 1;
        log(String::from_utf8_lossy(&self.part).trim_end());
        self.part.clear();
        if self.count == MAX_LINES {
            log("(more output of this run is dropped)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_in_lines_and_length() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.push(b"one\ntw", |l| seen.push(l.to_owned()));
        lines.push(b"o\n", |l| seen.push(l.to_owned()));
        lines.push(&[b'x'; 10_000], |l| seen.push(l.to_owned()));
        lines.push(b"\n", |l| seen.push(l.to_owned()));
        assert_eq!(seen[..2], ["one", "two"]);
        assert_eq!(seen[2].len(), MAX_LINE);
        for _ in 0..10_000 {
            lines.push(b"again\n", |l| seen.push(l.to_owned()));
        }
        assert_eq!(seen.len(), MAX_LINES + 1);
        lines.push(b"unfinished", |_| panic!("logged after the bound"));
        lines.finish(|_| panic!("logged after the bound"));
    }

    #[test]
    fn a_last_line_without_its_end_is_logged() {
        let mut lines = Lines::default();
        lines.push(b"bye", |_| panic!("no line yet"));
        let mut seen = Vec::new();
        lines.finish(|l| seen.push(l.to_owned()));
        assert_eq!(seen, ["bye"]);
    }
}
