//! Network namespaces for tests: each is a thread that lives in one, and dies with it.
//!
//! Nothing is left behind, not even after a panic: the kernel frees a namespace when its last thread and socket go.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with nothing but `lo`, which is up.
pub struct Netns {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Netns {
    /// Makes one. Needs root (CAP_SYS_ADMIN).
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("network tests need root: unshare(CLONE_NEWNET)");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let tid = told.recv().expect("the namespace's thread died");
        let ns = Netns { jobs: Some(jobs), thread: Some(thread), tid };
        ns.ip("link set lo up");
        ns
    }

    /// Runs `job` inside, and returns what it returns; its panic becomes the caller's.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = tell.send(result);
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).expect("the namespace's thread died");
        match told.recv().expect("the namespace's thread died") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a future inside, on a runtime like the daemon's.
    pub fn block_on<T: Send + 'static>(&self, job: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let value = runtime.block_on(job());
            runtime.shutdown_background();
            value
        })
    }

    /// `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &str) {
        self.command("ip", arguments.split_whitespace().map(str::to_owned).collect());
    }

    /// `nft RULES` inside.
    pub fn nft(&self, rules: &str) {
        self.command("nft", vec![rules.to_owned()]);
    }

    /// Sets a kernel parameter inside, by its path under /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    fn command(&self, program: &'static str, arguments: Vec<String>) {
        self.run(move || {
            let output =
                Command::new(program).args(&arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
        });
    }

    /// A cable to another namespace: `device` here, `their_device` there, both up.
    pub fn cable(&self, device: &str, peer: &Netns, their_device: &str) {
        let tid = peer.tid;
        self.ip(&format!("link add {device} type veth peer name {their_device} netns {tid}"));
        self.ip(&format!("link set {device} up"));
        peer.ip(&format!("link set {their_device} up"));
    }

    /// An address without duplicate address detection, which would hold IPv6 back for a second.
    pub fn address(&self, address: &str, device: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address add {address} dev {device} {nodad}"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
