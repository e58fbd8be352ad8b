//! The HTTP edge: `/metrics`, `/healthz` and `/status` on `[node] metrics`.
//!
//! Plain HTTP/1.1, GET and HEAD, one request a connection. Nobody out there can make the daemon wait: at most
//! 32 connections, 8 KiB and 5 seconds for a request, 10 seconds to take an answer; beyond that they are closed. Where all
//! places are taken, whoever has waited longest with the request gives way: a scrape waits for nobody who is silent. An
//! answer is made once for all who ask within a quarter of a second (longer, if making it took long), of a copy that the
//! driver hands over, away from the driver.
//!
//! An address that cannot be listened on (not there yet at boot, taken) is tried again and again: a standby without
//! metrics is better than none.

mod connection;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::status::Status;

/// Connections at once.
const CONNECTIONS: usize = 32;
/// Between tries to listen.
const RETRY: Duration = Duration::from_secs(5);
/// An answer this old is given again…
const FRESH: Duration = Duration::from_millis(250);
/// …or, of a page that is large, so many times as old as it took to make: 100,000 routes must not be copied again and again.
const SHARE: u32 = 10;
/// A driver that does not answer within this does not turn.
const DRIVER: Duration = Duration::from_secs(2);

/// What there is to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Health,
    /// `/status`.
    Status,
}

/// A page as it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

impl Answer {
    /// A few words of plain text.
    pub fn text(code: u16, body: impl Into<String>) -> Self {
        Answer { code, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// `/status`: as `announcerctl status -j`.
    pub fn json(status: &Status) -> Self {
        match serde_json::to_string(status) {
            Ok(body) => Answer { code: 200, content_type: "application/json", body },
            Err(e) => Answer::text(500, format!("the status cannot be told in JSON: {e}\n")),
        }
    }

    /// `/healthz`: what is wrong with a daemon that answers, a line each.
    pub fn health(status: &Status) -> Self {
        let down = |kind: &str, name: &str, state: &str| format!("{kind} {name} is {state}\n");
        let bgp = status.bgp.iter().filter(|p| p.state != "Established");
        let bgp = bgp.map(|p| down("BGP session", &p.name, &p.state));
        let bfd = status.bfd.iter().filter(|s| s.state != "Up");
        let bfd = bfd.map(|s| down("BFD session", &s.name, &s.state));
        let wrong: String = bgp.chain(bfd).collect();
        match wrong.is_empty() {
            true => Answer::text(200, "ok\n"),
            false => Answer::text(503, wrong),
        }
    }
}

/// Makes the page; called where it may take its time.
pub type Render = Box<dyn FnOnce() -> Answer + Send>;

/// Somebody wants a page.
pub struct Visit {
    /// Which.
    pub page: Page,
    answer: oneshot::Sender<Render>,
}

impl Visit {
    /// Hands over what the page is to be made of. Never blocks.
    pub fn answer(self, render: impl FnOnce() -> Answer + Send + 'static) {
        // Nobody waits for it any more: then nobody needs it.
        let _ = self.answer.send(Box::new(render));
    }
}

/// The server: the driver's end.
#[derive(Debug)]
pub struct Web {
    visits: mpsc::Receiver<Visit>,
    server: Option<(SocketAddr, JoinHandle<()>)>,
    ask: mpsc::Sender<Visit>,
}

impl Web {
    /// Serves at `address`, if any; needs a tokio runtime.
    pub fn start(address: Option<SocketAddr>) -> Self {
        let (ask, visits) = mpsc::channel(1);
        let mut web = Web { visits, server: None, ask };
        web.move_to(address);
        web
    }

    /// Serves there from now on: for a reload.
    pub fn move_to(&mut self, address: Option<SocketAddr>) {
        if self.server.as_ref().map(|(at, _)| *at) == address {
            return;
        }
        if let Some((_, old)) = self.server.take() {
            old.abort();
        }
        let ask = self.ask.clone();
        self.server = address.map(|at| (at, tokio::spawn(serve(at, ask))));
    }

    /// The next who wants a page. Cancel safe.
    pub async fn next(&mut self) -> Visit {
        match self.visits.recv().await {
            Some(visit) => visit,
            // Cannot be while we hold the other end; if it could, nobody would ever ask again.
            None => std::future::pending().await,
        }
    }

    /// One who has asked already.
    pub fn try_next(&mut self) -> Option<Visit> {
        self.visits.try_recv().ok()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some((_, server)) = &self.server {
            server.abort(); // and with it the connections
        }
    }
}

/// A page as last made, and until when it serves.
type Made = Mutex<Option<(Instant, Arc<Answer>)>>;

/// The pages.
struct Pages {
    ask: mpsc::Sender<Visit>,
    made: [Made; 3],
}

impl Pages {
    fn new(ask: mpsc::Sender<Visit>) -> Self {
        Pages { ask, made: [Mutex::new(None), Mutex::new(None), Mutex::new(None)] }
    }

    /// The page; whoever asks while it is being made gets the same.
    async fn get(&self, page: Page) -> Arc<Answer> {
        let slot = match page {
            Page::Metrics => &self.made[0],
            Page::Health => &self.made[1],
            Page::Status => &self.made[2],
        };
        let mut made = slot.lock().await;
        let began = Instant::now();
        if let Some((_, answer)) = made.as_ref().filter(|(until, _)| began < *until) {
            return Arc::clone(answer);
        }
        let answer = Arc::new(self.make(page).await);
        let serves = serves(page, answer.code, began.elapsed());
        *made = Some((Instant::now() + serves, Arc::clone(&answer)));
        answer
    }

    async fn make(&self, page: Page) -> Answer {
        let (answer, answered) = oneshot::channel();
        let asked = timeout(DRIVER, async {
            self.ask.send(Visit { page, answer }).await.ok()?;
            answered.await.ok()
        });
        match asked.await {
            Ok(Some(render)) => match tokio::task::spawn_blocking(render).await {
                Ok(answer) => answer,
                Err(e) => Answer::text(500, format!("the page cannot be made: {e}\n")),
            },
            Ok(None) => Answer::text(503, "announcerd is stopping\n"),
            Err(_) => Answer::text(503, format!("announcerd does not turn: no answer within {DRIVER:?}\n")),
        }
    }
}

/// For how long an answer that took so long is given again. What is wrong may be right in a moment, and health is cheap to
/// tell: neither is kept for having been slow.
fn serves(page: Page, code: u16, took: Duration) -> Duration {
    let costly = code == 200 && page != Page::Health;
    if costly { FRESH.max(took.saturating_mul(SHARE)) } else { FRESH }
}

/// Those who are served, in the order in which they came.
#[derive(Default)]
struct Clients {
    tasks: JoinSet<()>,
    silent: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Clients {
    fn welcome(&mut self, stream: TcpStream, pages: &Arc<Pages>) {
        let (asked, pages) = (Arc::new(AtomicBool::new(false)), Arc::clone(pages));
        let flag = Arc::clone(&asked);
        let task = self.tasks.spawn(async move {
            if let Err(e) = connection::serve(stream, &pages, &flag).await {
                tracing::debug!("metrics client: {e}");
            }
        });
        self.silent.push_back((task, asked));
    }

    /// Waits until there is room: the longest silent client goes, or, where each has asked, the first that is done.
    async fn make_room(&mut self) {
        self.silent.retain(|(task, asked)| !task.is_finished() && !asked.load(Relaxed));
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() < CONNECTIONS {
            return;
        }
        if let Some((oldest, _)) = self.silent.pop_front() {
            oldest.abort();
        }
        self.tasks.join_next().await;
    }
}

async fn serve(address: SocketAddr, ask: mpsc::Sender<Visit>) {
    let listener = listen(address).await;
    let pages = Arc::new(Pages::new(ask));
    let mut clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.make_room().await;
                clients.welcome(stream, &pages);
                // Whoever has sent a request with the connection is heard before the next can take the place.
                tokio::task::yield_now().await;
            }
            Err(e) => {
                tracing::warn!("metrics: cannot accept: {e}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut complained = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("metrics are served at http://{address}/metrics");
                return listener;
            }
            Err(e) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::error!("metrics: cannot listen at {address}: {e}; trying again");
                }
                sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that did not turn for two seconds is not called ill for twenty.
    #[test]
    fn only_large_pages_are_kept_for_as_long_as_they_cost() {
        let slow = Duration::from_secs(2);
        assert_eq!(serves(Page::Metrics, 200, slow), Duration::from_secs(20));
        assert_eq!(serves(Page::Status, 200, Duration::from_millis(1)), FRESH);
        for (page, code) in
            [(Page::Metrics, 503), (Page::Status, 500), (Page::Health, 503), (Page::Health, 200)]
        {
            assert_eq!(serves(page, code, slow), FRESH, "{page:?} {code}");
        }
    }
}
