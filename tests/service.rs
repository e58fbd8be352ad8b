//! The real program as a service: what the manager hears, what the journal gets, what a stop leaves behind, what reloads
//! cost. Each on a host of its own (needs root).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::routes::{Watch, routes_to};
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use announcerd::net::Prefix;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);
const NOTIFY: &str = "/run/notify";
const JOURNAL: &str = "/run/systemd/journal/socket";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

fn prefix() -> Prefix {
    "198.51.100.0/24".parse().unwrap()
}

/// One check that is up, one instance with one route.
fn config(instance: &str) -> String {
    format!(
        "[[check]]\nname = \"self\"\ntype = \"ping\"\nhost = \"127.0.0.1\"\ninterval = \"100ms\"\ntimeout = \"90ms\"\n\
         [[instance]]\nname = \"mainland\"\ndrain = \"0s\"\n{instance}\n\
         [[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"lo\"\n"
    )
}

const STANDBY: &str = "primary = { checks = [\"self\"] }";

fn host() -> Host {
    Host::new("service", &[]).expect("tests that make namespaces need root")
}

/// The service manager: everything that it is told, one message after the other.
struct Manager(UnixDatagram);

impl Manager {
    fn new(host: &Host) -> Self {
        let socket = UnixDatagram::bind(host.path(NOTIFY)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Manager(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let n = self.0.recv(&mut buffer).expect("a message to the manager");
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    /// The next message with these words; those before it are passed over.
    fn hear(&self, words: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let message = self.next();
            if message.contains(words) {
                return message;
            }
            assert!(Instant::now() < deadline, "never heard `{words}`");
        }
    }

    /// Forgets what has come in so far; how many messages those were.
    fn drain(&self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let count = std::iter::from_fn(|| self.0.recv(&mut buffer).ok()).count();
        self.0.set_nonblocking(false).unwrap();
        count
    }
}

/// Starts it as systemd would.
fn start(host: &Host, config: &str, environment: &[(&str, &str)], stderr: Stdio) -> Daemon {
    host.write(CONFIG, config).unwrap();
    host.write("/run/announcerd/.keep", "").unwrap();
    let mut command = Command::new(program());
    command.args(["-c", CONFIG]).stdout(Stdio::null()).stderr(stderr);
    command.env_remove("JOURNAL_STREAM").env_remove("WATCHDOG_USEC");
    command.env("NOTIFY_SOCKET", NOTIFY).envs(environment.iter().copied());
    host.spawn(&mut command).unwrap()
}

#[test]
fn the_manager_hears_of_start_reload_transitions_and_stop() {
    let host = host();
    let manager = Manager::new(&host);
    let mut daemon = start(&host, &config(STANDBY), &[], Stdio::null());
    // A first probe may be decided before the kernel has been read, or after.
    let mut expected = vec!["READY=1\nSTATUS=running\n", "STATUS=mainland: BACKUP (the primary is well)\n"];
    while !expected.is_empty() {
        let message = manager.next();
        expected.retain(|e| *e != message);
    }
    let reload = || {
        daemon.signal(Signal::SIGHUP).unwrap();
        let reloading = manager.hear("RELOADING=1");
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0);
        manager.hear("READY=1")
    };
    assert_eq!(reload(), "READY=1\nSTATUS=reloaded\n");
    host.write(CONFIG, "[[instance]]\nname = 3\n").unwrap();
    assert_eq!(reload(), "READY=1\nSTATUS=reload refused; running as before\n");
    daemon.signal(Signal::SIGTERM).unwrap();
    // Drain, scripts and more: longer than what the unit may say.
    let stopping = manager.hear("STOPPING=1\nEXTEND_TIMEOUT_USEC=");
    assert!(stopping.contains("\nSTATUS=withdrawing"), "{stopping}");
    assert!(daemon.wait(LIMIT).unwrap().success());
}

/// The signs of life come from the loop: a process that is stopped gives none, nor does one whose loop hangs while all its
/// other threads run.
#[test]
fn the_watchdog_starves_when_the_loop_does_not_turn() {
    let host = host();
    let manager = Manager::new(&host);
    let daemon = start(&host, &config(STANDBY), &[("WATCHDOG_USEC", "200000")], Stdio::null());
    for _ in 0..5 {
        assert_eq!(manager.hear("WATCHDOG"), "WATCHDOG=1\n");
    }
    let silent_while_held = || {
        manager.drain();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(manager.drain(), 0, "a sign of life from a loop that does not turn");
    };
    daemon.signal(Signal::SIGSTOP).unwrap();
    wait_for("it to stop", LIMIT, || states(&daemon).iter().all(|s| *s == 'T').then_some(())).unwrap();
    silent_while_held();
    daemon.signal(Signal::SIGCONT).unwrap();
    manager.hear("WATCHDOG=1");
    {
        let _hung = HungLoop::new(&daemon);
        assert!(states(&daemon).iter().any(|s| *s != 't'), "only the loop's thread hangs");
        silent_while_held();
    }
    manager.hear("WATCHDOG=1");
}

/// The letters of proc(5), one for each thread.
fn states(daemon: &Daemon) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
    let stats = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
    stats.filter_map(|s| s.rsplit_once(") ")?.1.chars().next()).collect()
}

/// Holds the main thread, in which the loop turns, and no other.
struct HungLoop(i32);

impl HungLoop {
    fn new(daemon: &Daemon) -> Self {
        let tid = daemon.pid().as_raw();
        trace(libc::PTRACE_SEIZE, tid);
        trace(libc::PTRACE_INTERRUPT, tid);
        let hung = HungLoop(tid);
        wait_for("the loop to hang", LIMIT, || states(daemon).contains(&'t').then_some(())).unwrap();
        hung
    }
}

impl Drop for HungLoop {
    fn drop(&mut self) {
        // SAFETY: waits for a child of this process; the kernel writes no status.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) };
        trace(libc::PTRACE_DETACH, self.0);
    }
}

fn trace(request: libc::c_uint, tid: i32) {
    // SAFETY: these requests take no pointers.
    let done = unsafe { libc::ptrace(request, tid, 0, 0) };
    assert_eq!(done, 0, "ptrace: {}", std::io::Error::last_os_error());
}

#[test]
fn the_journal_gets_fields() {
    let host = host();
    let _manager = Manager::new(&host);
    host.write("/run/systemd/journal/.keep", "").unwrap();
    let journal = UnixDatagram::bind(host.path(JOURNAL)).unwrap();
    journal.set_read_timeout(Some(LIMIT)).unwrap();
    let stderr = File::create(host.path("/run/stderr")).unwrap();
    let stat = stderr.metadata().unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    let _daemon = start(&host, &config(STANDBY), &[("JOURNAL_STREAM", &stream)], stderr.into());
    let mut buffer = [0; 65536];
    let entry = loop {
        let n = journal.recv(&mut buffer).expect("an entry of the journal");
        let entry = fields(&buffer[..n]);
        if entry.get("ANNOUNCERD_STATE").is_some_and(|to| to == "BACKUP") {
            break entry;
        }
    };
    for (field, value) in
        [("SYSLOG_IDENTIFIER", "announcerd"), ("ANNOUNCERD_INSTANCE", "mainland"), ("PRIORITY", "6")]
    {
        assert_eq!(entry[field], value, "{entry:?}");
    }
    assert!(entry["MESSAGE"].starts_with("mainland: "), "{entry:?}");
    assert_eq!(host.read("/run/stderr"), "");
}

/// An entry in the form with lengths (systemd.io/JOURNAL_NATIVE_PROTOCOL).
fn fields(mut entry: &[u8]) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    while !entry.is_empty() {
        let name = entry.iter().position(|b| *b == b'\n').expect("a name");
        let (length, rest) = entry[name + 1..].split_first_chunk().expect("a length");
        let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.insert(text(&entry[..name]), text(value));
        entry = rest.strip_prefix(b"\n").expect("an end of the value");
    }
    fields
}

fn kernel_has(host: &Host) -> bool {
    !routes_to(host, prefix()).unwrap().is_empty()
}

fn kept(max: &str) -> String {
    config(&format!("on_stop = \"keep\"\nkeep_max = \"{max}\"\nrequire = {{ checks = [\"self\"] }}"))
}

/// `on_stop = "keep"`: the route outlives the daemon, but not `keep_max`.
#[test]
fn what_is_kept_is_swept_in_the_end() {
    let host = host();
    let mut node = Node::start(&host, program(), &kept("2s")).unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    wait_for("the route", LIMIT, || kernel_has(&host).then_some(())).unwrap();
    let watch = Watch::start(&host).unwrap();
    let told = Instant::now();
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
    let gone = wait_for("the sweep", LIMIT, || {
        watch.news().into_iter().find(|c| !c.added && c.route.to == prefix()).map(|c| c.at)
    });
    assert!(gone.unwrap() >= told + Duration::from_secs(2), "swept too early");
}

/// A restart in time takes over what was kept, and whoever was to sweep it leaves it alone.
#[test]
fn what_is_kept_is_adopted_without_a_flap() {
    let host = host();
    let mut node = Node::start(&host, program(), &kept("5s")).unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    wait_for("the route", LIMIT, || kernel_has(&host).then_some(())).unwrap();
    let watch = Watch::start(&host).unwrap();
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
    let waits = || std::fs::read_dir("/proc").unwrap().flatten().any(|p| is_sweeper(&p.path(), &host));
    assert!(waits(), "nobody waits to sweep");
    node.restart().unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    wait_for("the end of whoever was to sweep", LIMIT, || (!waits()).then_some(())).unwrap();
    assert!(kernel_has(&host));
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    let news: Vec<_> = watch.news().into_iter().filter(|c| c.route.to == prefix()).collect();
    assert_eq!(news, [], "the route flapped");
}

/// An upgrade replaces the program's file under the running daemon: what it keeps is swept all the same.
#[test]
fn a_replaced_program_still_sweeps_what_it_kept() {
    let host = host();
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("announcerd");
    std::fs::copy(program(), &old).unwrap();
    let mut node = Node::start(&host, &old, &kept("1s")).unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    wait_for("the route", LIMIT, || kernel_has(&host).then_some(())).unwrap();
    std::fs::remove_file(&old).unwrap();
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
    wait_for("the sweep", LIMIT, || (!kernel_has(&host)).then_some(())).unwrap();
}

/// A daemon that stops takes no new configuration: its instances would come back from STOP.
#[test]
fn a_daemon_that_stops_refuses_a_reload() {
    let host = host();
    let slow = config("require = { checks = [\"self\"] }").replace("drain = \"0s\"", "drain = \"20s\"");
    let support = "[[instance.route]]\nto = \"203.0.113.0/24\"\ndev = \"lo\"\nexport = false\n";
    let mut node = Node::start(&host, program(), &format!("{slow}{support}")).unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    node.daemon().signal(Signal::SIGTERM).unwrap();
    node.wait_state("mainland", State::Stop, LIMIT).unwrap();
    let refusal = node.ask(&serde_json::json!({"command": "reload"})).unwrap_err().to_string();
    assert!(refusal.contains("announcerd is stopping"), "{refusal}");
    assert_eq!(node.state("mainland").unwrap(), State::Stop);
    // A second signal cuts the drain short.
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
}

/// Whoever was to sweep what an earlier daemon kept does not cut short what a later one keeps.
#[test]
fn what_is_kept_anew_is_kept_for_its_own_time() {
    let host = host();
    let mut node = Node::start(&host, program(), &kept("4s")).unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
    host.write(CONFIG, kept("10m")).unwrap();
    node.restart().unwrap();
    node.wait_state("mainland", State::Master, LIMIT).unwrap();
    assert!(node.daemon().stop(LIMIT), "it did not end by itself");
    let sweepers = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter(|p| is_sweeper(&p.path(), &host)).count()
    };
    wait_for("the end of the first sweeper", LIMIT, || (sweepers() == 1).then_some(())).unwrap();
    assert!(kernel_has(&host), "swept at the time of the first");
}

fn is_sweeper(process: &Path, host: &Host) -> bool {
    let network = |path: &Path| std::fs::read_link(path.join("ns/net")).ok();
    let theirs = network(Path::new(&format!("/proc/{}", host.init())));
    let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
    words.split(|b| *b == 0).nth(1) == Some(b"afterwards") && network(process) == theirs
}

/// FIELD 7: memory and descriptors leak with each reload.
#[test]
fn reloads_leave_nothing_behind() {
    let host = host();
    let manager = Manager::new(&host);
    let daemon = start(&host, &config(STANDBY), &[("MALLOC_ARENA_MAX", "1")], Stdio::null());
    manager.hear("READY=1");
    let measure = || {
        let process = format!("/proc/{}", daemon.pid());
        let descriptors = std::fs::read_dir(format!("{process}/fd")).unwrap().count();
        let rollup = std::fs::read_to_string(format!("{process}/smaps_rollup")).unwrap();
        let rss = rollup.lines().find_map(|l| l.strip_prefix("Rss:")).unwrap();
        (descriptors, rss.split_whitespace().next().unwrap().parse::<u64>().unwrap())
    };
    let mut before = (0, 0);
    for n in 0..750 {
        // Each differs from the last: other checks with other sockets, names and certificates, another route.
        let more = format!(
            "[[check]]\nname = \"ping-{n}\"\ntype = \"ping\"\nhost = \"127.0.0.2\"\nfwmark = {}\n\
             [[check]]\nname = \"web-{n}\"\ntype = \"http\"\nurl = \"https://name-{n}.example.com:1/\"\n\
             connect_to = \"127.0.0.1\"\n\
             [[instance]]\nname = \"second\"\nrequire = {{ checks = [\"ping-{n}\", \"web-{n}\"] }}\n\
             [[instance.route]]\nto = \"203.0.113.{}/32\"\ndev = \"lo\"\n",
            n + 1,
            n % 250
        );
        host.write(CONFIG, format!("{}{more}", config(STANDBY))).unwrap();
        daemon.signal(Signal::SIGHUP).unwrap();
        let ready = manager.hear("READY=1");
        assert!(ready.contains("STATUS=reloaded"), "{ready}");
        // Until then the pools of allocator and runtime fill, and half of the journal.
        if n == 250 {
            before = measure();
        }
    }
    wait_for("the descriptors of five hundred reloads", LIMIT, || {
        (measure().0 <= before.0 + 2).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}: {before:?} became {:?}", measure()));
    let grown = measure().1.saturating_sub(before.1);
    assert!(grown < 4096, "500 reloads took {grown} kB: {before:?} became {:?}", measure());
}
