//! One guest for one test: outside, boots it and runs the same test of the same program inside; inside, runs its body.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What the machine is given for all of a test, booting included. Guests are slow where a host is busy.
const SECONDS: u32 = 280;

/// Runs `body` in a guest. `test` is the name of the test that calls, with its modules.
///
/// # Panics
/// If the body does, if the guest cannot be run (its words say what is missing), or if it takes too long.
pub fn inside(test: &str, body: impl FnOnce()) {
    if std::env::var_os("RUN_IN_VM").is_some() {
        body();
        println!("{}", proof(test));
        return;
    }
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/run-in-vm")])
        .args(["--timeout", &SECONDS.to_string(), "--"])
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let ran = relay(test, lines);
    let status = child.wait().expect("the guest's end");
    match status.code() {
        Some(0) => assert!(ran, "no test of the name {test} ran in the guest: is that what it is called?"),
        Some(124) => panic!("{test} did not end within {SECONDS} s in the guest"),
        Some(125) => panic!(
            "the guest cannot be run: see above; `tests/run prepare` installs user-mode-linux, kmod, busybox and gcc"
        ),
        _ => panic!("{test} failed in the guest ({status}): see above"),
    }
}

/// What the guest says once the body has ended well.
fn proof(test: &str) -> String {
    format!("the body of {test} has run")
}

/// Prints what the guest says; true if the proof is among it. (A harness that finds no test of a name is content.)
fn relay(test: &str, lines: impl Iterator<Item = String>) -> bool {
    let proof = proof(test);
    lines.fold(false, |ran, line| {
        println!("guest: {line}");
        ran || line.contains(&proof)
    })
}

/// A renamed test runs no test in the guest, which the harness there calls "ok".
#[test]
fn a_guest_in_which_nothing_ran_proves_nothing() {
    let said = |lines: &[&str]| relay("a::b", lines.iter().map(|l| (*l).to_owned()));
    assert!(!said(&["running 0 tests", "test result: ok. 0 passed; 0 failed"]));
    assert!(said(&["running 1 test", "test a::b ... the body of a::b has run", "ok"]));
}

/// Runs a line of shell and returns what it says.
///
/// # Panics
/// If it fails, with its words.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{out}{err}", output.status);
    out.into_owned()
}
