//! Roots of Debian releases, made by mmdebstrap once and kept in `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::guest::run;

/// Debian's own releases, as apt's sources call them; so that no other vendor's archive is taken for a mirror.
const RELEASES: [&str; 7] = ["bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing"];
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,kmod,bird2";

/// The folder of a fresh `release`, which nobody may write to.
///
/// # Panics
/// If it cannot be made: without mmdebstrap, or where the mirror cannot be reached or does not have that release.
pub fn root(release: &str) -> PathBuf {
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/package-roots");
    fs::create_dir_all(&roots).expect("a folder in target/");
    let lock = File::create(roots.join(format!("{release}.lock"))).expect("a file in target/");
    let _one_at_a_time = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock in target/");
    let root = roots.join(release);
    if !root.exists() {
        let new = roots.join(format!("{release}.new"));
        let _ = fs::remove_dir_all(&new);
        run(Command::new("timeout")
            .args(["300", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(release)
            .arg(&new)
            .arg(mirror()));
        fs::rename(&new, &root).expect("a name in target/");
    }
    root
}

/// Where this machine gets Debian itself from.
fn mirror() -> String {
    let format = "$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)";
    let targets = run(Command::new("apt-get").args(["indextargets", "--format", format]));
    let sites = targets.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"main") && RELEASES.contains(words.get(1)?)).then(|| words.first().copied())?
    });
    sites.into_iter().next().expect("a source of Debian's own packages among apt's sources").to_owned()
}
