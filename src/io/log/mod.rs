//! The log: text on stderr, or fields in the journal where systemd connects stderr to it.
//!
//! A line is made in the thread that logs and written by another one, through a bounded queue: a blocked pipe or a hung
//! journal never delays a decision. Lines that do not fit are counted, and the count is said as soon as there is room.
//!
//! Fields of an event become journal fields: `instance` is `ANNOUNCERD_INSTANCE`, and so on. RUST_LOG is honoured.

mod line;
mod queue;
mod sink;

use std::env;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::announcer::effect::{Level, Note};
use crate::status::EventStatus;
use line::Line;
pub use queue::LogGuard;
use queue::Queue;
use sink::Sink;

/// Lines that wait for the writer.
const QUEUE: usize = 4096;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread that writes cannot be started.
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Somebody has set up a log already.
    #[error("the log is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets the log up for the process. `verbosity` counts `-v`; RUST_LOG overrides it. Keep the guard until the exit: dropped,
/// it waits a moment for the last lines.
pub fn init(verbosity: u8) -> Result<LogGuard, LogError> {
    let (filter, complaint) = filter(env::var("RUST_LOG").ok().as_deref(), verbosity);
    let (queue, guard) = Queue::start(sink::choose(), QUEUE)?;
    tracing_subscriber::registry().with(Lines { queue }.with_filter(filter)).try_init()?;
    // A panic's message, too, must neither block on stderr nor be missing in the journal.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}; please report this")));
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(guard)
}

/// What is logged, and what is wrong with RUST_LOG.
fn filter(rust_log: Option<&str>, verbosity: u8) -> (EnvFilter, Option<String>) {
    let default = || {
        EnvFilter::new(match verbosity {
            0 => "warn,announcerd=info",
            1 => "info,announcerd=debug",
            _ => "debug,announcerd=trace",
        })
    };
    match rust_log.filter(|text| !text.trim().is_empty()).map(|text| (text, EnvFilter::try_new(text))) {
        None => (default(), None),
        Some((_, Ok(filter))) => (filter, None),
        Some((text, Err(e))) => {
            let complaint =
                format!("RUST_LOG={text} is not understood ({e}); write it as warn,announcerd=debug");
            (default(), Some(complaint))
        }
    }
}

/// Logs a line of the core.
pub fn note(note: &Note) {
    let (about, text) = (note.about.as_deref(), note.text.as_str());
    match note.level {
        Level::Error => tracing::error!(about, "{text}"),
        Level::Warn => tracing::warn!(about, "{text}"),
        Level::Info => tracing::info!(about, "{text}"),
        Level::Debug => tracing::debug!(about, "{text}"),
    }
}

/// Logs a transition, with the fields that `journalctl ANNOUNCERD_INSTANCE=…` finds.
pub fn transition(event: &EventStatus) {
    let EventStatus { seq, instance, from, to, reason, .. } = event;
    let (seq, instance, from, state) = (*seq, instance.as_str(), from.word(), to.word());
    tracing::info!(seq, instance, from, state, reason, "{from} -> {state}: {reason}");
}

/// Passes every event to the writer.
struct Lines {
    queue: Queue,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.queue.push(Line::new(event));
    }
}

#[cfg(test)]
mod tests;
