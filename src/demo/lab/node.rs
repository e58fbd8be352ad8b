//! announcerd itself on a host, and what it says over its control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Daemon, Doing, Host, LabError, Result, wait_for};
use crate::announcer::journal::State;
use crate::status::{EventStatus, Status};

/// Where its configuration lies on the host.
pub const CONFIG: &str = "/run/announcer.toml";
const LOG: &str = "/run/announcerd.log";
const SOCKET: &str = "/run/announcerd/control.sock";

/// A running announcerd.
#[derive(Debug)]
pub struct Node {
    host: Host,
    program: PathBuf,
    daemon: Daemon,
}

impl Node {
    /// Starts `program -c FILE` with this configuration and waits until it answers.
    pub fn start(host: &Host, program: &Path, config: &str) -> Result<Self> {
        host.write(CONFIG, config)?;
        host.write("/run/announcerd/.keep", "")?;
        let daemon = launch(host, program)?;
        let mut node = Node { host: host.clone(), program: program.to_owned(), daemon };
        node.wait_ready()?;
        Ok(node)
    }

    /// Starts it again with the configuration as it is now; the one before must have ended.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.kill();
        self.daemon = launch(&self.host, &self.program)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = wait_for("announcerd's control socket", Duration::from_secs(10), || {
            if self.daemon.ended().is_some() {
                return Some(false);
            }
            self.status().is_ok().then_some(true)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(LabError::new("starting announcerd", self.log().trim())),
            Err(e) => Err(LabError::new(e.to_string(), self.log().trim())),
        }
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// What it has logged, in all its lives.
    pub fn log(&self) -> String {
        self.host.read(LOG)
    }

    /// Asks over the control socket.
    ///
    /// # Errors
    /// Also when the daemon refuses; its words are in the text.
    pub fn ask(&self, request: &Value) -> Result<Value> {
        let doing = || format!("asking announcerd {request}");
        let mut lines = self.connect(request, Some(Duration::from_secs(5))).doing(doing())?.lines();
        let line = lines.next().unwrap_or(Ok(String::new())).doing(doing())?;
        let mut answer: Value = serde_json::from_str(&line).doing(doing())?;
        match answer.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => Err(LabError::new(doing(), line)),
        }
    }

    /// Its status.
    pub fn status(&self) -> Result<Status> {
        let answer = self.ask(&json!({"command": "status"}))?;
        serde_json::from_value(answer).doing("reading announcerd's status")
    }

    /// The state of an instance.
    pub fn state(&self, instance: &str) -> Result<State> {
        let status = self.status()?;
        let found = status.instances.iter().find(|i| i.name == instance);
        found.map(|i| i.state).ok_or_else(|| LabError::new("reading announcerd's status", "no such instance"))
    }

    /// Waits until an instance is in a state; the log is in the error.
    pub fn wait_state(&self, instance: &str, state: State, limit: Duration) -> Result<()> {
        let what = format!("{instance} to be {}", state.word());
        wait_for(&what, limit, || (self.state(instance).ok()? == state).then_some(()))
            .map_err(|e| LabError::new(e.to_string(), format!("the log says\n{}", self.log())))
    }

    /// The transitions from now on, and news of their timelines, until the daemon ends.
    pub fn follow(&self) -> Result<Receiver<EventStatus>> {
        let request = json!({"command": "events", "after": self.last_event()?, "follow": true});
        let stream = self.connect(&request, None).doing("following announcerd's events")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in stream.lines().map_while(|l| l.ok()) {
                let Ok(mut line @ Value::Object(_)) = serde_json::from_str::<Value>(&line) else { continue };
                // The answer is a list of what already was; then one event a line.
                let (was, is) = (line["ok"].take(), line["event"].take());
                let events = match was {
                    Value::Array(events) => events,
                    _ => vec![is],
                };
                for event in events.into_iter().filter_map(|e| serde_json::from_value(e).ok()) {
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }

    /// All transitions so far.
    pub fn events(&self) -> Result<Vec<EventStatus>> {
        let answer = self.ask(&json!({"command": "events"}))?;
        serde_json::from_value(answer).doing("reading announcerd's events")
    }

    fn last_event(&self) -> Result<u64> {
        Ok(self.events()?.last().map_or(0, |e| e.seq))
    }

    fn connect(&self, request: &Value, limit: Option<Duration>) -> std::io::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(self.host.path(SOCKET))?;
        stream.set_read_timeout(limit)?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(BufReader::new(stream))
    }
}

fn launch(host: &Host, program: &Path) -> Result<Daemon> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(host.path(LOG));
    let log = log.doing("making announcerd's log")?;
    let mut command = Command::new(program);
    command.args(["-c", CONFIG]).stdout(Stdio::null()).stderr(log);
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    host.spawn(&mut command)
}
