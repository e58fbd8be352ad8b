//! What the daemon tells, gathered by threads: the screen never waits for the daemon, nor the daemon for the screen.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::history::History;
use crate::ctl::client::Client;
use crate::ctl::{Failure, strange};
use crate::io::control::protocol::{Line, Request};
use crate::status::{EventStatus, Status};

/// Between two questions for the status…
const POLL: Duration = Duration::from_secs(1);
/// …and at least so many times as long as an answer takes.
const SHARE: u32 = 20;
/// Transitions that are kept.
const EVENTS: usize = 200;

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) status: Option<Status>,
    pub(super) history: History,
    pub(super) events: BTreeMap<u64, EventStatus>,
    /// Why nothing new comes.
    pub(super) trouble: Option<String>,
}

pub(super) struct Feed {
    data: Arc<Mutex<Data>>,
    paused: Arc<AtomicBool>,
}

impl Feed {
    /// Connects; an error if nobody answers the first time.
    pub(super) fn start(control: &Path) -> Result<Self, Failure> {
        let mut client = Client::connect(control)?;
        let data = Data { status: Some(status(&mut client)?), ..Data::default() };
        let feed = Feed { data: Arc::new(Mutex::new(data)), paused: Arc::default() };
        feed.keep("status", control, ask);
        feed.keep("probes", control, |path, data| follow(path, data, &Request::Probes {}));
        let events = Request::Events { after: 0, follow: true };
        feed.keep("events", control, move |path, data| follow(path, data, &events));
        Ok(feed)
    }

    /// While paused, nothing is asked and nothing that is told is kept.
    pub(super) fn pause(&self, on: bool) {
        self.paused.store(on, Relaxed);
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Data) -> T) -> T {
        look(&lock(&self.data))
    }

    /// A thread that does this again and again, whatever becomes of the daemon.
    fn keep(
        &self,
        name: &str,
        control: &Path,
        work: impl Fn(&Path, &Shared) -> Result<(), Failure> + Send + 'static,
    ) {
        let shared = Shared { data: Arc::clone(&self.data), paused: Arc::clone(&self.paused) };
        let path: PathBuf = control.to_owned();
        let run = move || {
            loop {
                if let Err(Failure::Said(_, text)) = work(&path, &shared) {
                    lock(&shared.data).trouble = Some(text);
                }
                thread::sleep(POLL);
            }
        };
        // Without a thread there is less to see; the status says what it can.
        let _ = thread::Builder::new().name(name.to_owned()).spawn(run);
    }
}

struct Shared {
    data: Arc<Mutex<Data>>,
    paused: Arc<AtomicBool>,
}

fn lock(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status(client: &mut Client) -> Result<Status, Failure> {
    serde_json::from_value(client.ask(&Request::Status {})?).map_err(|e| strange(&e))
}

fn ask(path: &Path, shared: &Shared) -> Result<(), Failure> {
    let mut client = Client::connect(path)?;
    loop {
        let began = Instant::now();
        if !shared.paused.load(Relaxed) {
            let status = status(&mut client)?;
            let mut data = lock(&shared.data);
            data.history.retain(|name| status.checks.iter().any(|c| c.name == name));
            data.status = Some(status);
            data.trouble = None;
        } else {
            // So that the daemon does not take us for gone: it lets silent clients go after a minute.
            client = Client::connect(path)?;
        }
        thread::sleep(POLL.max(began.elapsed().saturating_mul(SHARE)));
    }
}

fn follow(path: &Path, shared: &Shared, request: &Request) -> Result<(), Failure> {
    let mut client = Client::connect(path)?;
    let answer = client.ask(request)?;
    let past: Vec<EventStatus> = serde_json::from_value(answer).unwrap_or_default();
    past.into_iter().for_each(|event| keep_event(&mut lock(&shared.data), event));
    loop {
        match client.next_line(&io::stdout())? {
            Some(_) if shared.paused.load(Relaxed) => {}
            Some(Line::Probe(probe)) => lock(&shared.data).history.add(*probe),
            Some(Line::Event(event)) => keep_event(&mut lock(&shared.data), *event),
            Some(Line::End(why)) => return Err(Failure::no_daemon(why)),
            Some(Line::Error { error, kind }) => return Err(Failure::refused(error, kind)),
            Some(Line::Ok(_) | Line::Drill(_)) => {}
            None => return Err(Failure::no_daemon("announcerd has gone; trying again")),
        }
    }
}

fn keep_event(data: &mut Data, event: EventStatus) {
    data.events.insert(event.seq, event);
    while data.events.len() > EVENTS {
        data.events.pop_first();
    }
}
