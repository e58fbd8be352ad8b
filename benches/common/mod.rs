//! The real daemon on a host of its own, and what it costs.

#![allow(dead_code, reason = "every benchmark uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Daemon, Host, Node};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;

/// Nothing that is waited for takes longer, unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The daemon that is measured.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

/// A host with nothing but loopback, and room for programs.
pub fn host() -> Host {
    Host::new("bench", &[]).expect("benchmarks make namespaces: run them as root")
}

/// An override, as an operator gives it.
pub fn force(node: &Node, instance: &str, state: State) {
    let state = state.word().to_lowercase();
    node.ask(&json!({"command": "force", "instance": instance, "state": state})).unwrap();
}

/// Puts this very program on the host, to be run there with another role.
pub fn copy_self(host: &Host, to: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    std::fs::copy(std::env::current_exe().unwrap(), host.path(to)).unwrap();
    std::fs::set_permissions(host.path(to), PermissionsExt::from_mode(0o755)).unwrap();
    to.to_owned()
}

/// "p50 12.3 us   p99 45.6 us   max 78.9 us   (200)".
pub fn spread(mut times: Vec<Duration>) -> (Duration, String) {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    let text = format!(
        "p50 {:8.1} us   p99 {:8.1} us   max {:8.1} us   ({} times)",
        us(at(50)),
        us(at(99)),
        us(times[times.len() - 1]),
        times.len()
    );
    (at(50), text)
}

/// Processor time of a process and of its children that have ended; of the former to the nanosecond.
pub fn cpu(pid: Pid) -> Duration {
    let own = clock_gettime(clock_getcpuclockid(pid).unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // cutime, cstime: fields 16 and 17, in ticks of 10 ms.
    let ticks: u64 = fields[13..15].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from(own) + Duration::from_millis(ticks * 10)
}

/// Times that a thread of the process went to sleep.
pub fn sleeps(pid: Pid) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok());
    status.map(|s| number(&s, "voluntary_ctxt_switches:")).sum()
}

/// Resident and proportional memory in kilobytes.
pub fn memory(pid: Pid) -> (u64, u64) {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    (number(&rollup, "Rss:"), number(&rollup, "Pss:"))
}

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A process and all its descendants.
pub fn family(pid: Pid) -> Vec<Pid> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = processes.filter_map(|p| Some((p, parent(p)?))).collect();
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(one) = all.get(at).copied() {
        all.extend(parents.iter().filter(|(_, of)| *of == one.as_raw()).map(|(p, _)| Pid::from_raw(*p)));
        at += 1;
    }
    all
}

/// keepalived on a host, with that configuration.
pub fn keepalived(host: &Host, config: &str) -> Daemon {
    let program: PathBuf = announcerd::demo::lab::host::find_program("keepalived", "keepalived").unwrap();
    host.write("/run/keepalived.conf", config).unwrap();
    let log = std::fs::File::create(host.path("/run/keepalived.log")).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["-n", "-l", "-P", "-f", "/run/keepalived.conf"]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    host.spawn(&mut command).unwrap()
}
