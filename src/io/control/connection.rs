//! One client: reads a request, has it answered, reads the next. Every wait is bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::access::{Peer, may_change};
use super::hub::{Hub, Stream, Waiting, render, render_refusal};
use super::protocol::{Ask, Line, MAX_REQUEST, Refusal, Request};
use super::{ControlRequest, RELOAD_TIMEOUT, REPLY_TIMEOUT};
use crate::announcer::event::Command;

/// A client that asks nothing this long is let go.
const IDLE: Duration = Duration::from_secs(60);
/// A client that takes nothing this long is let go.
const WRITE: Duration = Duration::from_secs(10);

/// Serves one client until it leaves, errs or idles.
pub(super) async fn serve(stream: UnixStream, peer: Peer, hub: Arc<Hub>) {
    let (read, write) = stream.into_split();
    let mut client = Client { read: BufReader::new(read), write, peer, hub };
    if let Err(e) = client.run().await {
        tracing::debug!("control client uid {}: {e}", peer.uid);
    }
}

struct Client {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    peer: Peer,
    hub: Arc<Hub>,
}

impl Client {
    async fn run(&mut self) -> io::Result<()> {
        while let Some(line) = self.request().await? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match self.understand(&line).await {
                Ok((ask, said)) => self.answer(ask, said).await?,
                Err(refusal) => self.send(&render_refusal(&refusal)).await?,
            }
        }
        Ok(())
    }

    /// The next line; None at the end of the stream or of the daemon, after silence, or after a line beyond all bounds.
    async fn request(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.read).take(MAX_REQUEST as u64);
        tokio::select! {
            read = timeout(IDLE, bounded.read_until(b'\n', &mut line)) => match read {
                Ok(read) => read?,
                Err(_) => return Ok(None),
            },
            () = self.hub.stopped() => return Ok(None),
        };
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() == MAX_REQUEST && line.last() != Some(&b'\n') {
            let error = format!("a request is one line of at most {MAX_REQUEST} bytes");
            self.send(&render_refusal(&Refusal::from(error))).await?;
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// What the line asks for, if this client may ask for it; and words for the log, if it changes anything.
    async fn understand(&self, line: &[u8]) -> Result<(Ask, Option<String>), Refusal> {
        let request: Request = serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))?;
        let ask = request.ask()?;
        if !ask.changes() {
            return Ok((ask, None));
        }
        self.allow().await?;
        let said = format!("uid {}{} asks: {}", self.peer.uid, process(&self.peer), words(&ask));
        Ok((ask, Some(said)))
    }

    async fn allow(&self) -> Result<(), Refusal> {
        if self.peer.is_ours() {
            return Ok(());
        }
        let (peer, group) = (self.peer, self.hub.group());
        let looked_up = tokio::task::spawn_blocking(move || may_change(&peer, &group));
        match timeout(REPLY_TIMEOUT, looked_up).await {
            Ok(Ok(verdict)) => verdict,
            _ => Err(Refusal::from("the look-up of your groups did not end in time; try as root".to_owned())),
        }
    }

    async fn answer(&mut self, ask: Ask, said: Option<String>) -> io::Result<()> {
        let bound = if ask == Ask::Reload { RELOAD_TIMEOUT } else { REPLY_TIMEOUT };
        let Some(waiting) = self.hub.ask(ask.follows()) else {
            return self.fail("announcerd is stopping").await;
        };
        let id = waiting.id;
        let is_drill = matches!(ask, Ask::Drill { .. });
        let question = ControlRequest { id, ask, said };
        let served = self.await_answer(waiting, question, bound).await;
        if is_drill {
            // However this ended. A daemon that no longer listens has ended the drill by itself.
            let _ = self.hub.requests.send(ControlRequest { id, ask: Ask::LeaveDrill, said: None }).await;
        }
        served
    }

    async fn await_answer(
        &mut self,
        mut waiting: Waiting,
        question: ControlRequest,
        bound: Duration,
    ) -> io::Result<()> {
        let answered = timeout(bound, async {
            if self.hub.requests.send(question).await.is_err() {
                return None;
            }
            (&mut waiting.answer).await.ok()
        });
        match answered.await {
            Err(_) => self.fail(&format!("announcerd is up, but did not answer within {bound:?}")).await,
            Ok(None) => self.fail("announcerd is stopping").await,
            Ok(Some(render)) => {
                let line = tokio::task::spawn_blocking(render).await.map_err(io::Error::other)?;
                self.send(&line).await?;
                match waiting.stream.take() {
                    Some(stream) => self.follow(stream).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Passes events on until either side has enough.
    async fn follow(&mut self, mut stream: Stream) -> io::Result<()> {
        let mut heard = [0; 64];
        loop {
            tokio::select! {
                biased;
                line = stream.lines.recv() => match line {
                    Some(line) => self.send(&line).await?,
                    None => break,
                },
                said = self.read.read(&mut heard) => {
                    let count = said?;
                    if count == 0 {
                        return Ok(()); // it hung up
                    }
                    if !heard.get(..count).is_some_and(|text| text.trim_ascii().is_empty()) {
                        return self.end("a connection that follows takes no further requests").await;
                    }
                }
            }
        }
        match stream.last.await {
            Ok(last) => self.send(&render(&last)).await?,
            Err(_) => return Ok(()), // the request itself was refused
        }
        self.write.shutdown().await
    }

    async fn end(&mut self, why: &str) -> io::Result<()> {
        self.fail(why).await?;
        Err(io::Error::other(why.to_owned()))
    }

    async fn fail(&mut self, error: &str) -> io::Result<()> {
        self.send(&render_refusal(&Refusal::from(error.to_owned()))).await
    }

    async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        timeout(WRITE, self.write.write_all(line)).await?
    }
}

fn process(peer: &Peer) -> String {
    peer.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// A change in words, for the log.
fn words(ask: &Ask) -> String {
    match ask {
        Ask::Change(Command::Force { instance, state, lasting }) => {
            let lasting =
                lasting.map(|d| format!(" for {}", humantime::format_duration(d))).unwrap_or_default();
            format!("force {instance} {state:?}{lasting}")
        }
        Ask::Change(Command::Auto { instance }) => format!("auto {instance}"),
        Ask::Change(Command::Failback { instance, reset_flaps }) => {
            format!("failback {instance}{}", if *reset_flaps { " --reset-flaps" } else { "" })
        }
        Ask::Change(Command::Maintenance { on }) => format!("maintenance {}", if *on { "on" } else { "off" }),
        Ask::Change(Command::Handover) => "handover".to_owned(),
        Ask::Reload => "reload".to_owned(),
        Ask::Drill { instance, hold } => {
            format!("drill {instance} --hold {}", humantime::format_duration(*hold))
        }
        Ask::Change(Command::Drill { .. } | Command::LeaveDrill)
        | Ask::Status
        | Ask::Explain(_)
        | Ask::Events { .. }
        | Ask::Probes
        | Ask::PlanDrill(_)
        | Ask::LeaveDrill => "nothing but to read".to_owned(),
    }
}

/// Tells a client why it is not served at all; it may not even read this.
pub(super) fn turn_away(stream: &UnixStream, why: &str) {
    let _ = stream.try_write(&render(&Line::Error { error: why.to_owned(), kind: Default::default() }));
}
