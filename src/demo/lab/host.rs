//! One host of the lab: its namespaces, its files, its processes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Doing, LabError, Result, sys};

/// Folders that are private to each host, so that daemons with fixed paths can run side by side and leave nothing.
pub const PRIVATE: [&str; 2] = ["/run", "/var/lib"];

/// A host. Clones mean the same host; it goes, with all its processes, when the last clone and the last
/// [`Daemon`] on it are dropped, or the thread that made it ends.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    init: Pid,
    pidfd: OwnedFd,
}

impl Host {
    /// Makes a host with nothing but a loopback interface, up. `name` is its host name; the folders of [`PRIVATE`]
    /// and of `more_private` are empty and its own.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or where the kernel lacks namespaces.
    pub fn new(name: &str, more_private: &[&str]) -> Result<Self> {
        let private: Vec<&str> = PRIVATE.iter().chain(more_private).copied().collect();
        let doing = || format!("making the namespaces of {name}");
        let init = sys::fork_init(name, &private).doing(doing())?;
        let pidfd = sys::pidfd(init).doing(doing())?;
        let host = Host(Arc::new(Inner { name: name.to_owned(), init, pidfd }));
        super::wire::set_link_up(&host, "lo")?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The process that holds it.
    pub fn init(&self) -> Pid {
        self.0.init
    }

    /// Where a file of this host is seen from outside: `/run/x` there is `path("/run/x")` here.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new(&format!("/proc/{}/root", self.0.init)).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Writes a file in one of the private folders, with the folders above it.
    pub fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(&inside);
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, content)
        };
        write().doing(format!("writing {} on {}", inside.as_ref().display(), self.name()))
    }

    /// Reads a file; empty if there is none yet.
    pub fn read(&self, inside: impl AsRef<Path>) -> String {
        fs::read(self.path(inside)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Runs `f` in a thread that stands in this host's network: sockets that it opens stay there.
    pub fn in_network<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_run = || {
            setns(&self.0.pidfd, CloneFlags::CLONE_NEWNET)
                .doing(format!("entering the network of {}", self.name()))?;
            f()
        };
        std::thread::scope(|scope| match scope.spawn(enter_and_run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Sets a network sysctl, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.in_network(|| fs::write(&path, value).doing(format!("setting {key} on {}", self.name())))
    }

    /// Starts `command` on this host, in a session of its own, with no standard input.
    pub fn spawn(&self, command: &mut Command) -> Result<Daemon> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        let child =
            sys::spawn_in(command, &self.0.pidfd).doing(format!("starting {program} on {}", self.name()))?;
        Ok(Daemon { child, program, _host: self.clone() })
    }

    /// Runs a command with its words to the end and returns its standard output.
    ///
    /// # Errors
    /// With its standard error if it fails.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut daemon = self.spawn(&mut command)?;
        let doing = || format!("`{}` on {}", words.join(" "), self.name());
        let (stdout, stderr) = (daemon.child.stdout.take(), daemon.child.stderr.take());
        let stderr = std::thread::spawn(move || stderr.map(io::read_to_string).unwrap_or(Ok(String::new())));
        let stdout = stdout.map(io::read_to_string).unwrap_or(Ok(String::new())).doing(doing())?;
        let status = daemon.child.wait().doing(doing())?;
        if status.success() {
            return Ok(stdout);
        }
        let stderr = stderr.join().ok().and_then(io::Result::ok).unwrap_or_default();
        Err(LabError::new(doing(), format!("{status}: {}", stderr.trim())))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = kill(self.init, Signal::SIGKILL);
        // Returns when the last process of the host is gone. Ours there are reaped already: each Daemon holds the
        // host, so this runs after the last of them. (A zombie of ours would keep the init from ending.)
        let _ = nix::sys::wait::waitpid(self.init, None);
    }
}

/// A process on a host, killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    program: String,
    _host: Host,
}

impl Daemon {
    /// Its process id, as seen from outside of the host.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).doing(format!("sending {signal} to {}", self.program))
    }

    /// Its end, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        super::wait_for(&format!("the end of {}", self.program), limit, || self.ended())
    }

    /// Kills it at once (SIGKILL) and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM); kills it after `limit`. True if it ended by itself.
    pub fn stop(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let asked = self.signal(Signal::SIGTERM).is_ok();
        let ended = asked && self.wait(deadline.saturating_duration_since(Instant::now())).is_ok();
        self.kill();
        ended
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program's path: from PATH, or where Debian puts daemons.
///
/// # Errors
/// Says which package to install.
pub fn find_program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|f| f.join(name)).find(|p| p.is_file()).ok_or_else(|| {
        LabError::new(
            format!("looking for {name}"),
            format!("not installed; `apt install {package}` brings it"),
        )
    })
}

/// Where we are not root: makes the whole process root of a new user namespace, which may then make hosts. Call it
/// before any thread is started.
///
/// # Errors
/// Where user namespaces are forbidden; the mend is in the text.
pub fn become_root_of_a_user_namespace() -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() {
        return Ok(());
    }
    let mend = |e: &dyn std::fmt::Display| {
        LabError::new(
            "making a user namespace",
            format!(
                "{e}; run it as root, or allow it (sysctl kernel.unprivileged_userns_clone=1, \
                     kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces=10000)"
            ),
        )
    };
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| mend(&e))?;
    let map = || {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
    };
    map().map_err(|e: io::Error| mend(&e))
}
