//! One TCP connection: written by the driver itself, watched by a task.

use std::convert::Infallible;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::{BgpNews, lock, sockopt, words};
use crate::announcer::event::PeerId;
use crate::bgp::{ConnId, PeerEvent};

/// Octets fetched at once, and the most that is kept of what TCP did not take.
const CHUNK: usize = 256 * 1024;
/// Octets written before others get their turn.
const BUDGET: usize = 4 * 1024 * 1024;
/// Octets read at once.
const READ: usize = 64 * 1024;
/// Between two looks at what is acknowledged: tokio's shortest wait at first, longer while nothing comes. A peer whose
/// kernel delays its acknowledgement (Linux: 40 ms, RFC 1122 section 4.2.3.2 allows 500) is looked at often for so long.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
const DELAYED: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));

/// A connection that TCP has.
pub(super) struct Live {
    pub stream: TcpStream,
    /// How long octets may stay unacknowledged, the peer's TCP being silent.
    patience: Duration,
    output: Mutex<Output>,
    /// The driver stopped writing before it had nothing more to write.
    blocked: Notify,
    /// The driver wrote.
    progress: Notify,
}

/// What was fetched, and how much of that TCP took.
#[derive(Default)]
struct Output {
    chunk: Vec<u8>,
    sent: usize,
    /// All so far.
    written: u64,
    /// Writing failed; the reader hears of it, and says so with these words.
    failure: Option<String>,
}

impl Output {
    fn rest(&self) -> &[u8] {
        self.chunk.get(self.sent..).unwrap_or(&[])
    }

    fn took(&mut self, count: usize) {
        self.sent += count;
        self.written += count as u64;
    }
}

impl Live {
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        let (blocked, progress) = (Notify::new(), Notify::new());
        Live { stream, patience, output: Mutex::default(), blocked, progress }
    }

    /// Writes what `fetch` gives, until it gives none, TCP takes no more, or it is the others' turn; in the last two
    /// cases one `Writable` follows. `spare` is a buffer to use. All that was written so far, if that grew.
    pub fn pump(
        &self,
        spare: &mut Vec<u8>,
        fetch: &mut dyn FnMut(usize, &mut Vec<u8>) -> usize,
    ) -> Option<u64> {
        let mut output = lock(&self.output);
        let before = output.written;
        if let Err(error) = self.flow(&mut output, spare, fetch) {
            if error.kind() == io::ErrorKind::WouldBlock {
                self.blocked.notify_one();
            } else {
                output.failure = Some(words::lost(&error, self.patience));
                // The reader wakes up, whatever became of the error.
                let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
            }
        }
        if output.written == before {
            return None;
        }
        self.progress.notify_one();
        Some(output.written)
    }

    fn flow(
        &self,
        output: &mut Output,
        spare: &mut Vec<u8>,
        fetch: &mut dyn FnMut(usize, &mut Vec<u8>) -> usize,
    ) -> io::Result<()> {
        if output.failure.is_some() {
            return Ok(());
        }
        let stop = output.written.saturating_add(BUDGET as u64);
        loop {
            while !output.rest().is_empty() {
                let count = self.stream.try_write(output.rest())?;
                output.took(count);
            }
            if output.sent > 0 {
                // An idle connection keeps no buffer.
                *spare = std::mem::take(&mut output.chunk);
                output.sent = 0;
            }
            if output.written >= stop {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            spare.clear();
            fetch(CHUNK, spare);
            if spare.is_empty() {
                return Ok(());
            }
            output.chunk = std::mem::take(spare);
        }
    }

    /// Tells what happens, until the connection is lost; then why, in words. `None`: nobody listens any more.
    pub async fn watch(&self, peer: PeerId, conn: ConnId, news: &Sender<BgpNews>) -> Option<String> {
        let reason = tokio::select! {
            reason = self.read(peer, conn, news) => reason,
            reason = self.look_at_acknowledgements(peer, conn, news) => reason,
            reason = self.look_for_room(peer, conn, news) => reason.map(|never| match never {}),
        };
        reason.map(|words| lock(&self.output).failure.take().unwrap_or(words))
    }

    async fn read(&self, peer: PeerId, conn: ConnId, news: &Sender<BgpNews>) -> Option<String> {
        let mut buffer = vec![0; READ];
        loop {
            if let Err(error) = self.stream.readable().await {
                return Some(words::lost(&error, self.patience));
            }
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Some("the peer closed the connection".to_owned()),
                Ok(count) => {
                    let octets = buffer.get(..count).unwrap_or(&[]).to_vec();
                    let event = PeerEvent::Received { conn, octets };
                    news.send(BgpNews::Event(peer, event)).await.ok()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(words::lost(&error, self.patience)),
            }
        }
    }

    /// Linux has no news of acknowledgements: while some are missing, it is looked for them.
    async fn look_at_acknowledgements(
        &self,
        peer: PeerId,
        conn: ConnId,
        news: &Sender<BgpNews>,
    ) -> Option<String> {
        let mut acked = 0;
        loop {
            self.progress.notified().await;
            let (mut wait, mut since) = (LOOK.0, Instant::now());
            loop {
                // In this order: what is written in between makes the sum too small, never too great.
                let written = lock(&self.output).written;
                let Ok(missing) = sockopt::unacknowledged(&self.stream) else { break };
                let total = written.saturating_sub(missing);
                if total > acked {
                    (acked, wait, since) = (total, LOOK.0, Instant::now());
                    let event = PeerEvent::Acked { conn, total };
                    news.send(BgpNews::Event(peer, event)).await.ok()?;
                }
                if missing == 0 {
                    break;
                }
                if since.elapsed() >= self.patience && self.is_silent() {
                    return Some(words::silent(self.patience));
                }
                tokio::select! {
                    () = sleep(wait) => {
                        let longest = if since.elapsed() < DELAYED.1 { DELAYED.0 } else { LOOK.1 };
                        wait = (wait * 2).min(longest);
                    }
                    () = self.progress.notified() => wait = LOOK.0,
                }
            }
        }
    }

    /// A peer that lives but keeps its window shut sends KEEPALIVEs, and confirms that window now and then.
    fn is_silent(&self) -> bool {
        sockopt::silence(&self.stream).is_ok_and(|ago| ago >= self.patience)
    }

    async fn look_for_room(&self, peer: PeerId, conn: ConnId, news: &Sender<BgpNews>) -> Option<Infallible> {
        loop {
            self.blocked.notified().await;
            if self.stream.writable().await.is_err() {
                // The reader knows.
                std::future::pending::<()>().await;
            }
            news.send(BgpNews::Writable(peer, conn)).await.ok()?;
        }
    }

    /// Writes what is left and `last_words`, unless writing failed before.
    pub async fn say(&self, last_words: &[u8]) -> io::Result<()> {
        let rest = {
            let mut output = lock(&self.output);
            if output.failure.is_some() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let mut rest = output.rest().to_vec();
            output.chunk = Vec::new();
            rest.extend_from_slice(last_words);
            rest
        };
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads and forgets, until the peer closes.
    pub async fn drain(&self) {
        let mut buffer = vec![0; READ];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}
