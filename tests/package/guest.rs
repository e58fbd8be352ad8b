//! One machine: a root of that release, booted with its own systemd by `tests/vm/run-in-vm`, in which `guest.sh` runs.

use std::path::Path;
use std::process::{Command, Output};

use crate::{HERE, debian, folder, packages};

/// For boot and script, on a busy machine: alone it takes a quarter of that.
const SECONDS: &str = "600";

/// What must be shown, in this order.
const PARTS: [&str; 15] = [
    "installed",
    "judged",
    "started",
    "privileged enough",
    "taken over",
    "reloaded",
    "upgraded",
    "not upgraded",
    "upgraded though disabled",
    "restarted after a crash",
    "restarted by the watchdog",
    "swept after the last crash",
    "swept after keep_max",
    "removed",
    "purged",
];

/// Installs, uses, upgrades, crashes, removes and purges the package on a fresh machine of that release.
///
/// # Panics
/// With all that the guest said, if any part of that is not as it should be.
pub fn live(release: &str) {
    let (old, new) = packages();
    let root = debian::root(release);
    let share = folder(&format!("share-{release}"));
    for file in [old.as_path(), new.as_path()] {
        std::fs::copy(file, share.join(file.file_name().unwrap())).unwrap();
    }
    for file in ["guest.sh", "isp.conf", "more.toml"] {
        std::fs::copy(Path::new(HERE).join("tests/package").join(file), share.join(file)).unwrap();
    }
    let inside = |file: &Path| share.join(file.file_name().unwrap());
    let said = run(Command::new(format!("{HERE}/tests/vm/run-in-vm"))
        .args(["--timeout", SECONDS, "--root"])
        .arg(root)
        .arg("--rw")
        .arg(&share)
        .args(["--", "bash"])
        .arg(share.join("guest.sh"))
        .args([inside(old), inside(new)]));
    println!("{release}:\n{said}");
    let parts = said.lines().filter_map(|line| line.strip_prefix("ok: ")?.split(" [").next());
    assert_eq!(parts.collect::<Vec<_>>(), PARTS, "{said}");
    let exposure = said.lines().find_map(|line| line.split("announcerd.service: ").nth(1)?.split(' ').next());
    let exposure: f64 = exposure.expect("systemd's judgement").parse().unwrap();
    assert!(exposure <= 2.5, "systemd-analyze security on {release}: {exposure}");
}

/// Runs a command to its end; what it said.
///
/// # Panics
/// If it fails, with its words; if it is not there, with what brings it.
pub fn run(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|e| {
        panic!("{}: {e}; `tests/run prepare` installs what the tests need", program.to_string_lossy())
    });
    let said = words(&output);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}
