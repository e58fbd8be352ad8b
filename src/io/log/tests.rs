use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, UNIX_EPOCH};

use tracing_subscriber::registry;

use super::*;
use crate::announcer::journal::State;

const LONG: Duration = Duration::from_secs(20);

/// A pipe whose reader decides when a line goes through.
struct Gate {
    lines: Sender<String>,
    pass: Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.send(String::from_utf8_lossy(text).into_owned()).unwrap();
        self.pass.recv().map_err(io::Error::other)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Sink, Receiver<String>, Sender<()>) {
    let (lines, read) = mpsc::channel();
    let (open, pass) = mpsc::channel();
    (Sink::Text { out: Box::new(Gate { lines, pass }), colour: false }, read, open)
}

fn event() -> EventStatus {
    EventStatus {
        seq: 7,
        time: "2026-11-22T14:36:00.000000Z".into(),
        instance: "mainland".into(),
        from: State::Backup,
        to: State::Master,
        reason: "the primary is down".into(),
        timeline_us: Default::default(),
    }
}

/// FIELD 16, for the log: a pipe that nobody reads.
#[test]
fn a_blocked_stderr_delays_nobody_and_the_loss_is_said() {
    let (sink, read, open) = gate();
    let (queue, guard) = Queue::start(sink, 10).unwrap();
    tracing::subscriber::with_default(registry().with(Lines { queue }), || {
        tracing::info!("first");
        assert!(read.recv_timeout(LONG).unwrap().ends_with("INFO  first\n"));
        for n in 0..100 {
            tracing::info!("line {n}"); // the writer hangs in "first": ten fit
        }
    });
    for _ in 0..12 {
        open.send(()).unwrap();
    }
    for n in 0..10 {
        assert!(read.recv_timeout(LONG).unwrap().ends_with(&format!("line {n}\n")));
    }
    let said = read.recv_timeout(LONG).unwrap();
    assert!(said.contains("WARN  90 log lines were dropped"), "{said}");
    drop(guard);
}

#[test]
fn the_exit_waits_for_the_last_lines_but_not_for_ever() {
    let (sink, read, open) = gate();
    let (queue, guard) = Queue::start(sink, 10).unwrap();
    tracing::subscriber::with_default(registry().with(Lines { queue }), || tracing::info!("the end"));
    open.send(()).unwrap();
    drop(guard);
    assert!(read.try_recv().unwrap().ends_with("the end\n"), "written before the guard was gone");
    let (sink, _read, _open) = gate();
    let (queue, guard) = Queue::start(sink, 10).unwrap();
    tracing::subscriber::with_default(registry().with(Lines { queue }), || tracing::info!("never read"));
    drop(guard); // returns
}

#[test]
fn the_journal_gets_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(LONG)).unwrap();
    let to_journal = UnixDatagram::unbound().unwrap();
    to_journal.connect(&path).unwrap();
    let sink = Sink::Journal { journal: to_journal, stderr: Box::new(io::sink()) };
    let (queue, _guard) = Queue::start(sink, 10).unwrap();
    tracing::subscriber::with_default(registry().with(Lines { queue }), || transition(&event()));
    let mut buffer = vec![0; 65536];
    let n = journal.recv(&mut buffer).unwrap();
    let fields = parse(&buffer[..n]);
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(field("MESSAGE"), Some("mainland: BACKUP -> MASTER: the primary is down"));
    assert_eq!((field("PRIORITY"), field("SYSLOG_IDENTIFIER")), (Some("6"), Some("announcerd")));
    assert_eq!((field("ANNOUNCERD_INSTANCE"), field("ANNOUNCERD_STATE")), (Some("mainland"), Some("MASTER")));
    assert_eq!(
        (field("ANNOUNCERD_SEQ"), field("ANNOUNCERD_REASON")),
        (Some("7"), Some("the primary is down"))
    );
    assert!(field("CODE_FILE").is_some());
}

/// The journal's native protocol, the form with lengths.
fn parse(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let len = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap()) as usize;
        fields.push((name, String::from_utf8(bytes[end + 9..end + 9 + len].to_vec()).unwrap()));
        bytes = &bytes[end + 10 + len..];
    }
    fields
}

#[test]
fn how_lines_look() {
    let mut line = Line::own(tracing::Level::WARN, "no answer".into());
    line.time = UNIX_EPOCH + Duration::from_millis(1_795_358_160_123);
    line.fields.push(("about", "uplink".into()));
    assert_eq!(line.text(false), "2026-11-22T14:36:00.123Z WARN  uplink: no answer\n");
    assert_eq!(line.text(true), "2026-11-22T14:36:00.123Z \x1b[33mWARN \x1b[0m uplink: no answer\n");
    assert_eq!(line.prefixed(), "<4>uplink: no answer\n");
    line.target = "hyper::client";
    assert_eq!(line.prefixed(), "<4>[hyper::client] uplink: no answer about=uplink\n");
}

#[test]
fn text_from_afar_cannot_fake_a_line_or_paint() {
    let (sink, read, open) = gate();
    let (queue, guard) = Queue::start(sink, 10).unwrap();
    let evil = "bad\n2026 ERROR all is lost\x1b[2J";
    tracing::subscriber::with_default(registry().with(Lines { queue }), || tracing::info!("{evil}"));
    open.send(()).unwrap();
    let text = read.recv_timeout(LONG).unwrap();
    assert!(text.ends_with("bad 2026 ERROR all is lost\\u{1b}[2J\n"), "{text:?}");
    drop(guard);
}

#[test]
fn a_wrong_rust_log_is_named_and_the_default_taken() {
    assert!(filter(None, 0).1.is_none() && filter(Some("announcerd=debug"), 0).1.is_none());
    let complaint = filter(Some("announcerd=loud"), 0).1.unwrap();
    assert!(complaint.contains("RUST_LOG=announcerd=loud"), "{complaint}");
    assert_eq!(filter(None, 1).0.to_string(), EnvFilter::new("info,announcerd=debug").to_string());
}
