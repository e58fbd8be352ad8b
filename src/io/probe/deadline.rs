//! When a probe takes silence for an answer: a moment before the core's timeout would, because only here it is known
//! whether an answer could have been seen at all.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Fault;

/// How long before the timeout the judgement falls: a twentieth of it within these bounds.
const MIN_MARGIN: Duration = Duration::from_millis(1);
const MAX_MARGIN: Duration = Duration::from_millis(10);
/// A process that wakes later than this was stopped, or paused with its machine.
const STOPPED: Duration = Duration::from_millis(250);

/// The end of one probe's patience.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// From the probe's start to it.
    pub limit: Duration,
}

impl Deadline {
    /// For a probe that starts now, with the core's `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let limit = timeout.saturating_sub((timeout / 20).clamp(MIN_MARGIN, MAX_MARGIN));
        Deadline { at: Instant::now() + limit, limit }
    }

    /// Waits for `answer`, which is to come from `to`.
    ///
    /// # Errors
    /// [`Fault::Silence`] at the deadline; [`Fault::Ours`] if we woke up long after it.
    pub async fn wait<F: Future>(&self, to: IpAddr, answer: F) -> Result<F::Output, Fault> {
        let waited = tokio::time::timeout_at(self.at, answer).await;
        waited.map_err(|_| match late(self.at) {
            Some(why) => Fault::Ours(why),
            None => Fault::Silence { to, why: format!("no answer in {} ms", self.limit.as_millis()) },
        })
    }
}

/// In words, if so much time has passed since the deadline that we cannot have been running.
pub fn late(deadline: Instant) -> Option<String> {
    let late = Instant::now().saturating_duration_since(deadline);
    (late > STOPPED).then(|| not_running(late))
}

/// What we could not see because of ourselves.
pub fn not_running(late: Duration) -> String {
    format!("this process was not running: it looked for the answer {} ms late", late.as_millis())
}
