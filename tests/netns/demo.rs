//! `announcerd demo` as a person runs it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use announcerd::demo::lab::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::program;

/// A demonstration that runs, with a folder for temporary files of its own.
struct Demo {
    child: Child,
    temporary: tempfile::TempDir,
    networks: BTreeSet<PathBuf>,
}

/// The network namespace of a process; none if it is gone.
fn network(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/net")).ok()
}

impl Demo {
    fn start(program: &Path, uid: Option<u32>, options: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new(program);
        command.arg("demo").args(options).env("TMPDIR", temporary.path()).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Demo { child: command.spawn().unwrap(), temporary, networks: BTreeSet::new() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Notes the networks of its hosts: of its children, which hold them.
    fn note_networks(&mut self) {
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        let own = network(Path::new("/proc/self"));
        let networks = children.split_whitespace().filter_map(|pid| network(&Path::new("/proc").join(pid)));
        self.networks.extend(networks.filter(|n| Some(n) != own.as_ref()));
    }

    /// Reads its story until a line contains `mark`; what was read.
    fn read_until(&mut self, mark: &str) -> String {
        let mut told = String::new();
        let mut reader = BufReader::new(self.child.stdout.as_mut().unwrap());
        while !told.contains(mark) {
            if reader.read_line(&mut told).unwrap() == 0 {
                let mut error = String::new();
                self.child.stderr.as_mut().unwrap().read_to_string(&mut error).unwrap();
                panic!("it ended before `{mark}`:\n{told}{error}");
            }
        }
        told
    }

    /// Waits for its end; nothing of it may be left.
    fn leaves_nothing(mut self) -> std::process::ExitStatus {
        assert_eq!(self.networks.len(), 4, "four hosts");
        let status = self.child.wait().unwrap();
        wait_for("its processes to be gone", Duration::from_secs(10), || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut networks = processes.filter_map(|p| network(&p.path()));
            (!networks.any(|n| self.networks.contains(&n))).then_some(())
        })
        .unwrap();
        assert_eq!(fs::read_dir(self.temporary.path()).unwrap().count(), 0, "temporary files");
        status
    }
}

/// What only announcerd's own BGP can tell.
const BUILTIN: [&str; 4] = [
    "UPDATE is written to the ISP's session",
    "UPDATE is acknowledged by the ISP's TCP",
    "withdraw is written to the ISP's session",
    "withdraw is acknowledged by the ISP's TCP",
];

/// The whole story is told; the lines of [`BUILTIN`] are in it, or none of them.
fn plays_to_the_end(mut demo: Demo, builtin: bool) {
    let mut told = demo.read_until("== The primary serves");
    demo.note_networks();
    told += &demo.read_until("failback  decision");
    for step in [
        "standby  misses the primary: first bad probe",
        "standby  decides: MASTER",
        "standby  kernel says",
        "ISP      routes 198.51.100.0/24 to the standby",
        "client   is answered by the standby",
        "standby  decides: BACKUP",
        "ISP      routes 198.51.100.0/24 to the primary",
        "client   is answered by the primary",
    ] {
        assert!(told.contains(step), "no `{step}` in\n{told}");
    }
    for step in BUILTIN {
        assert_eq!(told.contains(step), builtin, "`{step}` in\n{told}");
    }
    let status = demo.leaves_nothing();
    assert!(status.success(), "{status}\n{told}");
}

#[test]
fn the_demonstration_plays_to_the_end() {
    plays_to_the_end(Demo::start(program(), None, &[]), true);
}

#[test]
fn the_demonstration_plays_with_bird_as_the_exporter() {
    plays_to_the_end(Demo::start(program(), None, &["--exporter", "bird", "--isp", "bird"]), false);
}

/// The program where anybody can read it (the build folder may be private), and the folder that holds it.
fn program_for_all() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("announcerd");
    fs::copy(program(), &copy).unwrap();
    (folder, copy)
}

/// Without root, in a user namespace.
#[test]
fn the_demonstration_needs_no_root() {
    let (_folder, copy) = program_for_all();
    plays_to_the_end(Demo::start(&copy, Some(65534), &[]), true);
}

/// Nor does it with BIRD.
#[test]
fn the_demonstration_with_bird_needs_no_root() {
    let (_folder, copy) = program_for_all();
    plays_to_the_end(Demo::start(&copy, Some(65534), &["--exporter", "bird"]), false);
}

/// Ctrl-C, SIGTERM and kill -9 midway.
#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    for (signal, mark, options) in [
        (Signal::SIGINT, "decides: MASTER", &[][..]),
        (Signal::SIGINT, "falls silent", &["--exporter", "bird"]),
        (Signal::SIGTERM, "== The primary serves", &[]),
        (Signal::SIGKILL, "== The primary serves", &[]),
    ] {
        let mut demo = Demo::start(program(), None, options);
        demo.read_until(mark);
        demo.note_networks();
        // As the terminal does it: to the whole group.
        kill(Pid::from_raw(-demo.pid().as_raw()), signal).unwrap();
        assert!(!demo.leaves_nothing().success());
    }
}
