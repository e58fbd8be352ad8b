//! `exec` checks and notify scripts: bounded, killed with all that they started, and in nobody's way.

#[path = "common/netns.rs"]
mod netns;
#[path = "common/probing.rs"]
mod probing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use announcerd::announcer::Event;
use announcerd::announcer::effect::ScriptRun;
use announcerd::announcer::event::{Outcome, ScriptEnd, ScriptId};
use announcerd::config::model::{Check, Exec, File, Probe};
use announcerd::io::probe::Probes;
use announcerd::io::script::Scripts;
use probing::*;
use tokio::sync::mpsc;

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn exec_check(name: &str, command: Vec<String>) -> Arc<Check> {
    let check = check(Probe::Exec(Exec { command, invert: false }), Duration::from_secs(10));
    Arc::new(Check { name: name.into(), ..(*check).clone() })
}

/// Waits for a condition, with a deadline that only a failure reaches.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The process ids that a script wrote into that file, once all are there.
async fn pids(file: &Path, number: usize) -> Vec<u32> {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    until("the script wrote its process ids", || read().lines().count() == number).await;
    read().lines().map(|pid| pid.parse().unwrap()).collect()
}

/// Neither alive nor a zombie.
fn gone(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

/// Dead; who reaps a grandchild is not up to us.
fn dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
}

#[tokio::test]
async fn the_exit_status_decides_and_the_last_words_are_kept() {
    let mut prober = Prober::new();
    assert_success(prober.ask(&exec_check("ok", shell("exit 0"))).await);
    let bad = exec_check("bad", shell("echo one; echo 'no route to the mainland' >&2; exit 2"));
    assert_eq!(
        prober.ask(&bad).await,
        Outcome::Failure("exit status 2: one no route to the mainland".into())
    );
    let killed = exec_check("killed", shell("kill -TERM $$"));
    assert_failure(prober.ask(&killed).await, "killed by signal 15");
}

#[tokio::test]
async fn what_cannot_be_started_is_blind() {
    let mut prober = Prober::new();
    let missing = exec_check("missing", vec!["/nonexistent/check.sh".into()]);
    let why = "cannot start /nonexistent/check.sh: No such file or directory";
    assert_blind(prober.ask(&missing).await, why);
    let denied = exec_check("denied", vec!["/etc/passwd".into()]);
    assert_blind(prober.ask(&denied).await, "Permission denied");
    assert_blind(prober.ask(&exec_check("empty", vec![])).await, "empty");
}

/// Threads belong to the namespace of the thread that made them: what is started off the driver's thread is where it is.
#[test]
fn a_program_runs_in_the_network_namespace_of_the_daemon() {
    let ns = netns::Netns::new();
    ns.ip("link add only-here type veth peer name only-there");
    ns.block_on(async || {
        let command = ["ip", "link", "show", "only-here"].map(str::to_owned).to_vec();
        assert_success(Prober::new().ask(&exec_check("namespace", command.clone())).await);
        let (mut scripts, mut events) = scripts();
        scripts.start(script(1, command));
        assert_eq!(end(&mut events).await, (1, ScriptEnd::Exited(0)));
    });
}

/// SPEC 4: a script that others than root can write to is refused; an `exec` check alike.
#[tokio::test]
async fn an_insecure_program_is_refused() {
    let (sender, mut events) = mpsc::channel(8);
    let refuse = |command: &[String]| Err(format!("{} is writable by others", command[0]));
    let mut probes = Probes::new(sender.clone(), refuse);
    probes.start(
        announcerd::announcer::event::ProbeId(1),
        exec_check("x", shell("exit 0")),
        Default::default(),
    );
    let Some(Event::Probe { outcome, .. }) = events.recv().await else { panic!("no outcome") };
    assert_eq!(outcome, Outcome::Blind("/bin/sh is writable by others".into()));
    let mut scripts = Scripts::new(sender, refuse);
    scripts.start(script(1, shell("exit 0")));
    assert_eq!(end(&mut events).await, (1, ScriptEnd::NotStarted("/bin/sh is writable by others".into())));
}

/// FIELD 4: a hung check blocks all others (exabgp healthcheck), and cannot be killed for days (keepalived #535, #1364).
#[tokio::test]
async fn a_hung_program_delays_nothing_and_dies_with_its_grandchildren() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let command = format!("echo $$ >>{0}; (sh -c 'echo $$ >>{0}; exec sleep 1000') & wait", file.display());
    let mut prober = Prober::new();
    let hung = prober.start(&exec_check("hung", shell(&command)));
    let processes = pids(&file, 2).await;
    for _ in 0..20 {
        assert_success(prober.ask(&exec_check("quick", shell("exit 0"))).await);
    }
    assert!(processes.iter().all(|pid| !dead(*pid)));
    prober.probes.cancel(hung);
    until("the program and its grandchild are dead", || processes.iter().all(|pid| dead(*pid))).await;
    until("the program is reaped", || gone(processes[0])).await;
    assert!(!prober.has_news());
}

/// A cancel while the program is being started leaves none behind either.
#[tokio::test]
async fn a_program_cancelled_at_its_start_is_dead() {
    let mark = format!("1000.{}", std::process::id());
    let runs = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&mark)).count()
    };
    let mut prober = Prober::new();
    for turns in 0..40 {
        let id = prober.start(&exec_check("same", vec!["/bin/sleep".into(), mark.clone()]));
        for _ in 0..turns * 5 {
            tokio::task::yield_now().await;
        }
        prober.probes.cancel(id);
    }
    // Its turn comes when all that was started before is dead and reaped.
    assert_success(prober.ask(&exec_check("same", shell("exit 0"))).await);
    assert_eq!(runs(), 0);
    assert!(!prober.has_news());
}

#[tokio::test]
async fn a_chatty_program_neither_blocks_nor_fills_memory() {
    let chatty = shell("head -c 50000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 1");
    let outcome = Prober::new().ask(&exec_check("chatty", chatty)).await;
    assert!(
        matches!(&outcome, Outcome::Failure(why) if why.len() < 300 && why.ends_with("x the end")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_a_check_leaves_behind_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let command =
        format!("sh -c 'echo $$ >>{}; exec sleep 1000' & while ! [ -s {0} ]; do :; done", file.display());
    assert_success(Prober::new().ask(&exec_check("left", shell(&command))).await);
    let left = pids(&file, 1).await;
    until("what was left behind is dead", || dead(left[0])).await;
}

#[tokio::test]
async fn files_are_present_and_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fresh");
    let mut prober = Prober::new();
    let file = |max_age| {
        let file = File { path: path.clone(), max_age };
        check(Probe::File(file), Duration::from_secs(10))
    };
    assert_failure(prober.ask(&file(None)).await, "does not exist");
    std::fs::write(&path, "").unwrap();
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(prober.ask(&file(hour)).await, Outcome::Success { rtt: None });
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
    assert_eq!(prober.ask(&file(None)).await, Outcome::Success { rtt: None });
    assert_failure(prober.ask(&file(hour)).await, "is 2h old, allowed are 1h");
}

fn script(id: u64, command: Vec<String>) -> ScriptRun {
    let env = vec![("ANNOUNCERD_STATE", "MASTER".to_owned())];
    ScriptRun { id: ScriptId(id), instance: "mainland".into(), command, env }
}

fn scripts() -> (Scripts, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(8);
    (Scripts::new(sender, |_| Ok(())), events)
}

async fn end(events: &mut mpsc::Receiver<Event>) -> (u64, ScriptEnd) {
    match tokio::time::timeout(Duration::from_secs(20), events.recv()).await {
        Ok(Some(Event::Script { id, end })) => (id.0, end),
        other => panic!("no end: {other:?}"),
    }
}

#[tokio::test]
async fn a_script_gets_its_environment_and_its_status_is_reported() {
    let (mut scripts, mut events) = scripts();
    scripts.start(script(
        1,
        shell("test \"$ANNOUNCERD_STATE\" = MASTER && test -n \"$PATH\" && ! read x; exit 7"),
    ));
    assert_eq!(end(&mut events).await, (1, ScriptEnd::Exited(7)));
    scripts.start(script(2, vec!["/nonexistent/notify.sh".into()]));
    let why = "cannot start /nonexistent/notify.sh: No such file or directory".to_owned();
    assert_eq!(end(&mut events).await, (2, ScriptEnd::NotStarted(why)));
}

#[tokio::test]
async fn a_script_is_a_process_group_of_its_own_with_nothing_of_ours_open() {
    let secret = tempfile::Builder::new().prefix("secret").tempfile().unwrap();
    let (mut scripts, mut events) = scripts();
    let check = "! ls -l /proc/$$/fd | grep -q secret || exit 1; test -z \"$NOTIFY_SOCKET\" || exit 2; \
                 test $(cut -d' ' -f5 /proc/$$/stat) = $$ || exit 3; \
                 test $(readlink /proc/$$/fd/0) = /dev/null || exit 4";
    scripts.start(script(1, shell(check)));
    assert_eq!(end(&mut events).await, (1, ScriptEnd::Exited(0)));
    // Directly, since a shell blocks signals of its own now and then.
    let no_blocked = ["grep", "-q", "SigBlk:[^1-9a-f]*$", "/proc/self/status"];
    scripts.start(script(2, no_blocked.map(str::to_owned).to_vec()));
    assert_eq!(end(&mut events).await, (2, ScriptEnd::Exited(0)));
    drop(secret);
}

/// FIELD 4: a script that hangs cannot be killed.
#[tokio::test]
async fn a_killed_script_dies_with_its_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let command = format!(
        "trap '' TERM HUP INT; echo $$ >>{0}; sh -c 'echo $$ >>{0}; sleep 1000' & wait",
        file.display()
    );
    let (mut scripts, mut events) = scripts();
    scripts.start(script(1, shell(&command)));
    let processes = pids(&file, 2).await;
    scripts.start(script(2, shell("exit 0")));
    assert_eq!(end(&mut events).await, (2, ScriptEnd::Exited(0)), "another script is not delayed");
    scripts.kill(ScriptId(1));
    assert_eq!(end(&mut events).await, (1, ScriptEnd::Killed(9)));
    until("its group is dead", || processes.iter().all(|pid| dead(*pid))).await;
    until("it is reaped", || gone(processes[0])).await;
    scripts.kill(ScriptId(1));
}

/// A notify script may start a daemon, which holds the script's output open and must live on.
#[tokio::test]
async fn a_background_child_does_not_hold_back_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (file, stop) = (dir.path().join("pids"), dir.path().join("stop"));
    let command = format!(
        "sh -c 'echo $$ >>{}; while ! [ -e {} ]; do echo still here; sleep 0.01; done' & exit 3",
        file.display(),
        stop.display()
    );
    let (mut scripts, mut events) = scripts();
    scripts.start(script(1, shell(&command)));
    assert_eq!(end(&mut events).await, (1, ScriptEnd::Exited(3)));
    let child = pids(&file, 1).await;
    // It goes on writing, and is not killed for it.
    for n in 2..6 {
        scripts.start(script(n, shell("sleep 0.02")));
        assert_eq!(end(&mut events).await, (n, ScriptEnd::Exited(0)));
    }
    assert!(!dead(child[0]));
    std::fs::write(&stop, "").unwrap();
    until("the child ends by itself", || dead(child[0])).await;
}

#[tokio::test]
async fn scripts_die_with_the_runtime_that_would_have_awaited_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let command = shell(&format!("echo $$ >>{}; exec sleep 1000", file.display()));
    let pid = {
        let file = file.clone();
        let daemon = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut scripts, _events) = scripts();
                scripts.start(script(1, command));
                pids(&file, 1).await[0]
            })
        });
        daemon.join().unwrap()
    };
    until("it is dead", || dead(pid)).await;
}
