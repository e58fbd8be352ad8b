//! `announcerctl import-keepalived` on files as people have them. Each folder of tests/import holds a keepalived.conf, which
//! keepalived itself accepts, and the announcer.toml that is to come of it (as the node `main`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let mut cases: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn run(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    command.output().unwrap_or_else(|e| panic!("{program}: {e}; the test command installs it"))
}

#[test]
fn the_translations_are_as_expected() {
    for case in cases() {
        let ctl = env!("CARGO_BIN_EXE_announcerctl");
        let done = run(ctl, &case, &["import-keepalived", "--config-id", "main", "keepalived.conf"]);
        assert!(done.status.success(), "{done:?}");
        let got = String::from_utf8(done.stdout).unwrap();
        let expected = std::fs::read_to_string(case.join("announcer.toml")).unwrap_or_default();
        assert_eq!(got, expected, "{}", case.display());
    }
}

/// "What it prints always passes `--check`."
#[test]
fn the_translations_are_valid() {
    for case in cases() {
        let file = case.join("announcer.toml");
        let done = run(env!("CARGO_BIN_EXE_announcerd"), &case, &["--check", "-c", file.to_str().unwrap()]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What we translate is what keepalived reads.
#[test]
fn keepalived_accepts_the_inputs() {
    for case in cases() {
        // Its interface must be there: in a network of its own.
        let there = "ip link add eth0 type veth peer name eth1 && exec keepalived -t -i main -f \"$PWD/keepalived.conf\"";
        let done = run("unshare", &case, &["--net", "sh", "-c", there]);
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{}: {words}", case.display());
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let done =
        run(env!("CARGO_BIN_EXE_announcerctl"), Path::new("/"), &["import-keepalived", "/nonexistent"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("/nonexistent"));
}
