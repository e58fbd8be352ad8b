//! The client's end of the control socket (the protocol: [`crate::io::control`]).

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::Failure;
use crate::io::control::protocol::{Line, Request};
use crate::io::control::{RELOAD_TIMEOUT, REPLY_TIMEOUT};

/// A daemon whose queue of connections stays full this long hangs.
const CONNECT: Duration = Duration::from_secs(5);
/// Beyond the daemon's own bound for an answer.
const GRACE: Duration = Duration::from_secs(5);

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects; [`Failure::no_daemon`] if nobody listens.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = connect(path).map_err(|e| {
            let shown = path.display();
            match e.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::no_daemon(format!(
                    "no announcerd answers at {shown}; is it running, and is this its [node] control?"
                )),
                ErrorKind::TimedOut => Failure::failed(format!(
                    "announcerd at {shown} accepts nobody: it is overloaded or hangs"
                )),
                _ => Failure::failed(format!("cannot connect to {shown}: {e}")),
            }
        })?;
        Ok(Client { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Asks one thing and waits for the answer, within bounds.
    pub fn ask(&mut self, request: &Request) -> Result<Value, Failure> {
        let bound = if *request == (Request::Reload {}) { RELOAD_TIMEOUT } else { REPLY_TIMEOUT };
        self.stream.get_ref().set_read_timeout(Some(bound + GRACE)).map_err(|e| self.lost(&e))?;
        let mut text = serde_json::to_vec(request).map_err(|e| Failure::failed(e.to_string()))?;
        text.push(b'\n');
        // A daemon that turns us away closes before it reads; its reason is there to be read all the same.
        let written = self.stream.get_mut().write_all(&text);
        match (self.read()?, written) {
            (Some(Line::Ok(answer)), _) => {
                self.stream.get_ref().set_read_timeout(None).map_err(|e| self.lost(&e))?;
                Ok(answer)
            }
            (Some(Line::Error { error, kind }), _) => Err(Failure::refused(error, kind)),
            (None, Err(e)) => Err(self.lost(&e)),
            (Some(_) | None, _) => Err(Failure::failed("announcerd closed the connection without an answer")),
        }
    }

    /// The next line of a stream; None at its end. Waits as long as it takes, or until nobody reads `out` any more: a
    /// `head` that has seen enough must not wait for a transition that may never come.
    pub fn next_line(&mut self, out: &impl AsFd) -> Result<Option<Line>, Failure> {
        if self.stream.buffer().is_empty() {
            self.wait(out)?;
        }
        self.read()
    }

    fn wait(&self, out: &impl AsFd) -> Result<(), Failure> {
        // Of a pipe that nobody reads, poll(2) tells POLLERR unasked.
        let mut both = [
            PollFd::new(self.stream.get_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(out.as_fd(), PollFlags::empty()),
        ];
        loop {
            match poll(&mut both, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(e) => return Err(self.lost(&e.into())),
                Ok(_) if both[1].any().unwrap_or_default() => return Err(Failure::OutputClosed),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn read(&mut self) -> Result<Option<Line>, Failure> {
        let mut text = String::new();
        match self.stream.read_line(&mut text) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&text).map(Some).map_err(|e| {
                Failure::failed(format!("{} speaks another protocol: {e}", self.path.display()))
            }),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(self.lost(&e)),
        }
    }

    fn lost(&self, error: &io::Error) -> Failure {
        let shown = self.path.display();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::failed(format!(
                "announcerd at {shown} does not answer: it hangs, or is stopped (SIGSTOP)"
            )),
            _ => Failure::failed(format!("the connection to {shown} broke: {error}")),
        }
    }
}

/// Connects without waiting for ever in the queue of a daemon that hangs.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + CONNECT;
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    loop {
        match socket.connect(&address) {
            // unix(7): EAGAIN, the queue of the listener is full.
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(ErrorKind::TimedOut.into());
                }
                thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    }
    socket.set_nonblocking(false)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}
