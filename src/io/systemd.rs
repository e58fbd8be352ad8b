//! The service manager: readiness, reloads, status and the watchdog (sd_notify(3)).
//!
//! Datagrams leave without ever blocking; one that the manager cannot take is lost, and the next one says more.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::time::Time;

/// What the manager tells us alone: nothing that we start may inherit these.
pub const PRIVATE_ENV: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Finds the manager by the environment and removes what is private from it, so that scripts do not inherit it. To be
    /// called first thing: with other threads running, the environment is left as it is. A manager that cannot be reached
    /// is an error in words, and the same as none.
    pub fn from_env() -> (Self, Option<String>) {
        let [socket, usec, pid] = PRIVATE_ENV.map(env::var_os);
        unset_private_env();
        let watchdog = watchdog(usec.as_deref(), pid.as_deref(), std::process::id());
        match socket.filter(|s| !s.is_empty()).map(|s| (connect(&s), s)) {
            None => (Systemd::default(), None),
            Some((Ok(socket), _)) => (Systemd { socket: Some(socket), watchdog }, None),
            Some((Err(e), path)) => {
                let error = format!("NOTIFY_SOCKET={}: {e}; going on without", path.to_string_lossy());
                (Systemd::default(), Some(error))
            }
        }
    }

    /// A manager that listens at `socket` ("@name": an abstract socket) and wants a sign of life each `watchdog`.
    pub fn at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Systemd { socket: Some(connect(socket)?), watchdog })
    }

    /// True if somebody listens.
    pub fn is_present(&self) -> bool {
        self.socket.is_some()
    }

    /// The start, or a reload, is done.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`Systemd::ready`] ends it, also when it failed.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            // Without the time systemd 253 takes the message for a failure: say nothing.
            Err(e) => tracing::debug!("RELOADING not sent: {e}"),
        }
    }

    /// The end begins, and may take `bound`: a unit whose TimeoutStopSec is shorter waits that long.
    pub fn stopping(&self, status: &str, bound: Duration) {
        let bound = u32::try_from(bound.as_micros()).unwrap_or(u32::MAX);
        let bound = NotifyState::ExtendTimeoutUsec(bound);
        self.send(&[NotifyState::Stopping, bound, NotifyState::Status(&one_line(status))]);
    }

    /// A line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// The watchdog, for the driver to call in each turn.
    pub fn watchdog(&self) -> Watchdog {
        let every = self.socket.as_ref().and(self.watchdog).map(|d| (d / 2).max(Duration::from_millis(1)));
        Watchdog { every, due: None }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            // Writing to a String cannot fail.
            let _ = writeln!(message, "{state}");
        }
        if let Err(e) = socket.send(message.as_bytes()) {
            tracing::debug!("service manager not told {:?}: {e}", message.trim_end());
        }
    }
}

/// Signs of life at half the watchdog's time. They come from the driver's own turns: a hung loop sends none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    due: Option<Time>,
}

impl Watchdog {
    /// Sends a sign of life if one is due; returns when the next is. None: nobody wants any.
    pub fn tick(&mut self, manager: &Systemd, now: Time) -> Option<Time> {
        let every = self.every?;
        if self.due.is_none_or(|due| now >= due) {
            manager.send(&[NotifyState::Watchdog]);
            self.due = Some(now + every);
        }
        self.due
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().split_first() {
        // sd_notify(3): "@" stands for the zero byte of the abstract namespace.
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// sd_watchdog_enabled(3): only if it is meant for this process.
fn watchdog(usec: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> Option<Duration> {
    if let Some(pid) = pid {
        pid.to_str()?.parse().ok().filter(|pid: &u32| *pid == own)?;
    }
    let usec = usec?.to_str()?.parse::<u64>().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Removes [`PRIVATE_ENV`] if this is the only thread; otherwise whoever starts processes must leave it out.
#[allow(unsafe_code)]
fn unset_private_env() {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if alone {
        for name in PRIVATE_ENV {
            // SAFETY: no other thread exists that could read or write the environment meanwhile.
            unsafe { env::remove_var(name) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 4096];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn the_life_of_a_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::at(path.as_os_str(), None).unwrap();
        systemd.ready("1 instance\nREADY=0");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=1 instance READY=0\n");
        systemd.reloading();
        let reloading = heard(&manager);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0);
        systemd.status("mainland MASTER");
        assert_eq!(heard(&manager), "STATUS=mainland MASTER\n");
        systemd.stopping("bye", Duration::from_secs(130));
        assert_eq!(heard(&manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=130000000\nSTATUS=bye\n");
        assert_eq!(systemd.watchdog().tick(&systemd, Time::ZERO), None);
    }

    #[test]
    fn the_watchdog_is_told_at_half_its_time_through_an_abstract_socket() {
        let name = format!("announcerd-test-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let abstract_name = format!("@{name}");
        let systemd = Systemd::at(OsStr::new(&abstract_name), Some(Duration::from_secs(10))).unwrap();
        let mut watchdog = systemd.watchdog();
        let second = |s| Time::ZERO + Duration::from_secs(s);
        assert_eq!(watchdog.tick(&systemd, second(1)), Some(second(6)));
        assert_eq!(watchdog.tick(&systemd, second(5)), Some(second(6)));
        assert_eq!(watchdog.tick(&systemd, second(7)), Some(second(12)));
        assert_eq!((heard(&manager), heard(&manager)), ("WATCHDOG=1\n".into(), "WATCHDOG=1\n".into()));
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut [0; 64]).is_err(), "two signs of life, no more");
    }

    #[test]
    fn a_manager_that_reads_nothing_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::at(path.as_os_str(), None).unwrap();
        for _ in 0..10_000 {
            systemd.status("still here");
        }
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let w = |usec: &str, pid: Option<&str>| watchdog(Some(OsStr::new(usec)), pid.map(OsStr::new), 7);
        assert_eq!(w("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(w("30000000", Some("7")), Some(Duration::from_secs(30)));
        assert_eq!(w("30000000", Some("8")), None);
        assert_eq!((w("0", None), w("soon", None), watchdog(None, None, 7)), (None, None, None));
    }
}
