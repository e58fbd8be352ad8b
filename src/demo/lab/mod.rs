//! Small networks in namespaces of their own: what the demonstration and the end-to-end tests run on.
//!
//! A [`Host`] is a set of namespaces (network, mount, process ids, host name) that nothing names: no entry in
//! /run/netns, no cgroup, no folder. It lives in one child process, its *init*, which does nothing but hold it.
//! That gives the one property that matters, without any clean-up code having to run:
//!
//! - When the thread that made the host ends, or its process does (Ctrl-C, SIGTERM, kill -9), the kernel kills
//!   the init (`PR_SET_PDEATHSIG`).
//! - When the init dies, the kernel kills every process of the host: the init is process 1 of their process id
//!   namespace, so not even a daemon that forked twice escapes.
//! - When the last process is gone, so are the namespaces, and with them the interfaces, routes, sockets and the
//!   private tmpfs over /run, /var/lib and so on. Configurations, sockets and state files live in these.
//!
//! [`wire`] connects hosts by veth pairs and sets addresses and routes by rtnetlink: no `ip` needed.
//! [`Topology`] is the lab with a client, an ISP router, a primary and a standby; [`Bird`] runs BIRD in a host.
//!
//! Making a host needs CAP_SYS_ADMIN: root, or [`host::become_root_of_a_user_namespace`].

use std::fmt::Display;
use std::time::{Duration, Instant};

pub mod bird;
pub mod echo;
pub mod host;
pub mod node;
pub mod routes;
mod sys;
pub mod topology;
pub mod web;
pub mod wire;

pub use bird::Bird;
pub use host::{Daemon, Host};
pub use node::Node;
pub use topology::Topology;

/// Why the lab could not do something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{doing}: {why}")]
pub struct LabError {
    doing: String,
    why: String,
}

impl LabError {
    /// `doing` failed because of `why`.
    pub fn new(doing: impl Into<String>, why: impl Display) -> Self {
        LabError { doing: doing.into(), why: why.to_string() }
    }
}

/// What the lab's functions return.
pub type Result<T> = std::result::Result<T, LabError>;

/// Says what was being done when an error came.
pub trait Doing<T> {
    /// Names the deed.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|e| LabError::new(what, e))
    }
}

/// Waits until `met` gives a value, looking every few milliseconds; an error that names `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut met: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = met() {
            return Ok(value);
        }
        if begun.elapsed() > limit {
            return Err(LabError::new(format!("waiting for {what}"), format!("not within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
