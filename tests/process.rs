//! What holds for a whole process: its environment, its stderr. Without the test harness, which starts threads first.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use announcerd::io::log;
use announcerd::io::systemd::{PRIVATE_ENV, Systemd};

const LONG: Duration = Duration::from_secs(30);

fn main() {
    match env::args().nth(1).as_deref() {
        Some("logs-a-lot") => logs_a_lot(),
        Some("panics") => panics(),
        Some("is-a-service") => is_a_service(),
        _ => {
            notify_socket_is_not_passed_on();
            a_blocked_stderr_does_not_block_the_process();
            a_panic_is_logged();
            println!("test result: ok. 3 passed");
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
