//! What holds for a whole process: its environment, its stderr. Without the test harness, which starts threads first.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::announcer::memory::Remembered;
use announcerd::io::state::{Loaded, StateDir};
use announcerd::io::systemd::{PRIVATE_ENV, Systemd};
use announcerd::io::{clock, log};

const LONG: Duration = Duration::from_secs(30);

fn main() {
    match env::args().nth(1).as_deref() {
        Some("logs-a-lot") => logs_a_lot(),
        Some("panics") => panics(),
        Some("is-a-service") => is_a_service(),
        Some("saves") => saves(&env::args().nth(2).unwrap()),
        _ => {
            notify_socket_is_not_passed_on();
            a_blocked_stderr_does_not_block_the_process();
            a_panic_is_logged();
            kill_9_while_saving_leaves_a_whole_state();
            println!("test result: ok. 4 passed");
        }
    }
}

fn own(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(role).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
    command
}

fn notify_socket_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let status =
        own("is-a-service").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "30000000").status().unwrap();
    assert!(status.success());
    let mut buffer = [0; 256];
    let n = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"READY=1\nSTATUS=up\n");
}

fn is_a_service() {
    let (systemd, complaint) = Systemd::from_env();
    assert_eq!(complaint, None);
    assert!(systemd.is_present());
    systemd.ready("up");
    let child = Command::new("env").output().unwrap();
    let inherited = String::from_utf8(child.stdout).unwrap();
    for name in PRIVATE_ENV {
        assert!(!inherited.contains(name) && env::var_os(OsStr::new(name)).is_none(), "{inherited}");
    }
}

/// FIELD 16, for the log: nobody reads the pipe on stderr.
fn a_blocked_stderr_does_not_block_the_process() {
    let mut child = own("logs-a-lot").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "done\n");
    assert!(child.wait().unwrap().success(), "it ended, with its stderr still full");
    let mut log = String::new();
    BufReader::new(stderr).read_to_string(&mut log).unwrap();
    assert!(log.lines().next().unwrap().ends_with("INFO  [process] line 0"), "{log}");
}

fn logs_a_lot() {
    let guard = log::init(1).unwrap();
    for n in 0..100_000 {
        tracing::info!("line {n}");
    }
    println!("done");
    drop(guard);
}

fn a_panic_is_logged() {
    let output = own("panics").output().unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("ERROR panicked at tests/process.rs") && log.contains("for a test"), "{log}");
}

fn panics() {
    let _guard = log::init(0).unwrap();
    panic!("for a test");
}

/// FIELD 3, for the state: whatever the moment of the death, the last state that was flushed or a later one is there.
fn kill_9_while_saving_leaves_a_whole_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut flushed = 0;
    for round in 0..20 {
        let mut child = own("saves").arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.take(1 + round % 5) {
            flushed = line.unwrap().parse().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (state, loaded) = open(dir.path());
        assert_eq!(loaded.note, None);
        assert!(loaded.resumable, "the same boot, a moment ago");
        assert!(loaded.memory.instances["mainland"].flaps >= flushed);
        drop(state);
    }
}

/// Opens as soon as the thread of the one before has let go of the lock.
fn open(path: &Path) -> (StateDir, Loaded) {
    let deadline = Instant::now() + LONG;
    loop {
        match StateDir::open(path, &clock::wall()) {
            Ok(opened) => return opened,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
    }
}

fn saves(path: &str) {
    let (state, loaded) = open(Path::new(path));
    let mut memory = loaded.memory;
    let mainland = memory.instances.entry("mainland".into()).or_insert(Remembered {
        state: State::Master,
        since: clock::now(),
        told: true,
        forced: None,
        flaps: 0,
        last_failback: None,
        recoveries: 0,
        last_recovery: None,
    });
    let mut remembered = mainland.clone();
    loop {
        remembered.flaps += 1;
        memory.instances.insert("mainland".into(), remembered.clone());
        state.save(&memory, &clock::wall());
        assert!(state.flush(LONG));
        println!("{}", remembered.flaps);
    }
}
