//! A daemon that only answers: the control socket with a fake driver behind it, in a thread of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use announcerd::announcer::event::RequestId;
use announcerd::announcer::journal::State;
use announcerd::io::control::{Ask, Control, ControlGroup, Refusal};
use announcerd::status::{EventStatus, NodeStatus, Status, TimelineStatus};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any of this takes on a slow machine.
pub const LONG: Duration = Duration::from_secs(30);

enum Order {
    Publish(EventStatus),
    Close,
}

pub struct Daemon {
    dir: TempDir,
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
    /// What it was asked, in order.
    pub asked: Receiver<Ask>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts; "mute" is an instance about which it never answers.
    pub fn start(group: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The folder of a test is private; that of a daemon is not.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (orders, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (ask, asked) = mpsc::channel();
        let (up, ready) = mpsc::channel();
        let (path, group) = (dir.path().join("control.sock"), ControlGroup(group.map(str::to_owned)));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let control = Control::bind(&path, group).unwrap();
                up.send(()).unwrap();
                drive(control, inbox, ask).await;
            });
        };
        let thread = Some(thread::spawn(run));
        ready.recv_timeout(LONG).unwrap();
        Daemon { dir, orders, asked, thread }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub fn publish(&self, event: EventStatus) {
        self.orders.send(Order::Publish(event)).ok().unwrap();
    }

    pub fn connect(&self) -> Connection {
        Connection::to(&self.socket())
    }

    /// Stops in order, and waits for it.
    pub fn close(&mut self) {
        self.orders.send(Order::Close).ok().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }

    /// Runs announcerctl to its end.
    pub fn ctl(&self, args: &[&str]) -> Output {
        self.ctl_command(args).output().unwrap()
    }

    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_announcerctl"));
        command.arg("--control").arg(self.socket()).args(args);
        command
    }

    /// announcerctl where every user can run it.
    pub fn public_ctl(&self) -> PathBuf {
        let copy = self.dir.path().join("announcerctl");
        if !copy.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_announcerctl"), &copy).unwrap();
            std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
        }
        copy
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn drive(
    mut control: Control,
    mut inbox: tokio::sync::mpsc::UnboundedReceiver<Order>,
    asked: mpsc::Sender<Ask>,
) {
    loop {
        tokio::select! {
            biased;
            request = control.next() => {
                let _ = asked.send(request.ask.clone());
                answer(&control, request.id, request.ask);
            }
            order = inbox.recv() => match order {
                Some(Order::Publish(event)) => control.publish(&event),
                Some(Order::Close) | None => return control.close(Duration::from_secs(2)).await,
            }
        }
    }
}

fn refuse(control: &Control, id: RequestId, why: impl Into<Refusal>) {
    control.reply(id, Err::<fn(), _>(why));
}

fn answer(control: &Control, id: RequestId, ask: Ask) {
    match ask {
        Ask::Status => control.reply::<_, Refusal>(id, Ok(status)),
        Ask::Explain(name) if &*name == "mute" => {}
        Ask::Explain(name) if &*name == "mainland" => {
            control.reply::<_, Refusal>(
                id,
                Ok(|| json!({"text": ["mainland is BACKUP", "  the primary is well"]})),
            );
        }
        Ask::Explain(name) => {
            refuse(control, id, format!("there is no instance `{name}`; there is: mainland"));
        }
        Ask::Events { after, .. } => {
            let past: Vec<EventStatus> = (after + 1..=3).map(event).collect();
            control.reply::<_, Refusal>(id, Ok(move || past));
        }
        Ask::Change(command) => control.reply::<_, Refusal>(id, Ok(move || format!("done: {command:?}"))),
        Ask::Probes | Ask::Drill { .. } => control.reply::<_, Refusal>(id, Ok(|| "it follows")),
        Ask::PlanDrill(name) => refuse(control, id, format!("no drill of {name}")),
        Ask::LeaveDrill => {}
        Ask::Reload => {
            let error = "/etc/announcer.toml:3:1: nod: unknown key".to_owned();
            refuse(control, id, Refusal::config(error));
        }
    }
}

pub fn status() -> Status {
    let started = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    Status {
        node: NodeStatus { name: "hk-1".into(), version: "0.1.0".into(), started },
        instances: vec![],
        checks: vec![],
        bgp: vec![],
        bfd: vec![],
        kernel: vec![],
    }
}

pub fn event(seq: u64) -> EventStatus {
    EventStatus {
        seq,
        time: "2026-11-22T04:00:00.000000Z".into(),
        instance: "mainland".into(),
        from: State::Backup,
        to: State::Master,
        reason: "the primary is down".into(),
        timeline_us: TimelineStatus { decision: Some(0), ..TimelineStatus::default() },
    }
}

/// A client of the bare protocol.
pub struct Connection {
    pub stream: BufReader<UnixStream>,
}

impl Connection {
    pub fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Connection { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next line; None at the end.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("{e}"),
        }
    }

    pub fn ask(&mut self, request: Value) -> Value {
        self.send(format!("{request}\n").as_bytes()).unwrap();
        self.line().expect("an answer")
    }
}
