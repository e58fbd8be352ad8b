//! Programs that we start: no shell, a process group of their own, output through one bounded pipe.

use std::any::Any;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;

/// Looks at a command just before it runs, and says why it must not: others than root can write to it, or to a
/// folder above it. It reads the file system, so it is called off the driver's thread.
pub type Inspect = fn(&[String]) -> Result<(), String>;

/// What a program gets where the daemon itself has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between systemd and us; a child that found them would speak in our name.
const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "JOURNAL_STREAM",
];

/// A program that runs. Dropped before its end, it is killed with its whole process group, and reaped.
///
/// Not tokio's `Child`: that one loses a program that started but could not be registered, and we own what we start.
pub struct Running {
    /// None once it has been reaped.
    process: Option<Process>,
    group: Pid,
    held: Option<Box<dyn Any + Send>>,
}

struct Process {
    child: Child,
    /// Its pidfd (Linux 5.3), readable when it has ended.
    end: Option<AsyncFd<OwnedFd>>,
}

/// Starts a program. Can block (fork, a slow file system): call it off the driver's thread, inside the runtime.
///
/// Standard input is /dev/null; both outputs go into the one pipe that is returned. Signal mask and dispositions are
/// the default ones (the standard library sees to it), and every descriptor of ours is closed on exec.
///
/// # Errors
/// In words: refused by `inspect`, or the kernel's reason.
pub fn spawn(
    command: &[String],
    env: &[(&'static str, String)],
    inspect: Inspect,
) -> Result<(Running, pipe::Receiver), String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    inspect(command)?;
    let cannot = |e: io::Error| format!("cannot start {program}: {}", words(&e));
    let (output, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| cannot(e.into()))?;
    let output = pipe::Receiver::from_owned_fd(output).map_err(cannot)?;
    let second = end.try_clone().map_err(cannot)?;
    // The very file that was inspected: PATH might lead to another.
    let path = super::script_guard::find(program).ok_or_else(|| format!("there is no program {program}"))?;
    let mut builder = Command::new(path);
    builder.arg0(program).args(arguments).stdin(Stdio::null()).stdout(end).stderr(second).process_group(0);
    for name in OURS {
        builder.env_remove(name);
    }
    if std::env::var_os("PATH").is_none_or(|path| path.is_empty()) {
        builder.env("PATH", PATH);
    }
    builder.envs(env.iter().map(|(name, value)| (name, value)));
    let child = builder.spawn().map_err(cannot)?;
    // A process id is a pid_t in all but std's type.
    let id = child.id() as i32;
    // From here on an error drops it, and thereby kills it.
    let mut running =
        Running { process: Some(Process { child, end: None }), group: Pid::from_raw(id), held: None };
    let end = pidfd(id)
        .and_then(|fd| Ok(AsyncFd::register_with_interest(fd, Interest::READABLE)?))
        .map_err(cannot)?;
    if let Some(process) = &mut running.process {
        process.end = Some(end);
    }
    Ok((running, output))
}

/// pidfd_open(2); close-on-exec by itself.
fn pidfd(id: i32) -> io::Result<OwnedFd> {
    // SAFETY: it takes two integers, and what it returns is a new descriptor or -1.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, id, 0);
        match i32::try_from(fd) {
            Ok(fd @ 0..) => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Process {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            let Some(end) = &self.end else { return Err(io::ErrorKind::NotFound.into()) };
            end.readable().await?.clear_ready();
        }
    }
}

impl Running {
    /// Keeps `held` until the program is reaped, also after a kill.
    #[must_use]
    pub fn holding(mut self, held: impl Send + 'static) -> Self {
        self.held = Some(Box::new(held));
        self
    }

    /// Waits for the end of the program itself, whatever its children do, and reaps it. Cancel-safe; to be called again only
    /// if it was cancelled.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let Some(process) = &mut self.process else { return Err(io::ErrorKind::NotFound.into()) };
        let status = process.wait().await?;
        self.process = None;
        Ok(status)
    }

    /// SIGKILL to every process of its group; right after the program's own end it reaches what it left behind.
    pub fn kill_group(&self) {
        // ESRCH: nobody is left, which is what we want.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        self.kill_group();
        if process.end.is_none() {
            // It could not be watched, and we are still on the thread that started it.
            let _ = process.child.wait();
            return;
        }
        let held = self.held.take();
        // Without a runtime the process ends, and init reaps.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // An error: somebody else has reaped it.
                let _ = process.wait().await;
                drop(held);
            });
        }
    }
}

/// An I/O error without the "(os error N)" that helps nobody.
pub fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}
