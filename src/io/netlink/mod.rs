//! The kernel: routes, addresses and links by rtnetlink.
//!
//! Three threads, each with sockets of its own, so that none waits for another:
//!
//! - `ops` carries operations out, many in one system call, and tells their results;
//! - `dump` reads: everything of ours when the core asks, and what it is that exists where the kernel said EEXIST;
//! - `monitor` hears news and keeps the table of links, in which the others find a device's index.
//!
//! All of them live in the network namespace of the thread that called [`Netlink::new`].
//!
//! Ours is what carries our protocol number: `rtm_protocol` of a route, FRA_PROTOCOL of a rule, the interface alias of a
//! tunnel, IFA_PROTO of an address (Linux 5.18 and later;
//! on older kernels an address is made, but not known again as ours). Nothing else is ever changed or removed: making
//! is exclusive (NLM_F_EXCL), removing names the owner, and where the kernel would not look at the owner we do.

mod batch;
mod decode;
mod draft;
mod dump;
mod egress;
mod encode;
mod hint;
mod links;
mod monitor;
mod names;
mod ops;
mod queue;
mod release;
mod rules;
mod socket;
mod standing;
mod sweep;
mod tunnels;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::announcer::Event;
use crate::announcer::event::DumpId;
use crate::fib::object::Op;
use dump::{Job, Reader};
use monitor::Monitor;
use ops::Worker;
use queue::Queue;
use socket::Channel;

pub use egress::Egress;
pub use release::shortcoming;
pub use sweep::{left, sweep};

/// Stack of each thread in octets: nothing is recursive, buffers are on the heap.
const STACK: usize = 256 * 1024;

/// The kernel's edge. Dropping it ends its threads, after what was submitted is done.
#[derive(Debug)]
pub struct Netlink {
    queue: Arc<Queue>,
    jobs: mpsc::Sender<Job>,
    /// Closed with us: the monitor's sign to end.
    _stop: UnixStream,
}

impl Netlink {
    /// Opens the sockets, reads the links, starts the threads. `protocol` is our mark.
    ///
    /// What happens comes through `events`: [`Event::Ops`], [`Event::Dump`], [`Event::LinkIs`] (at first one for each
    /// link), [`Event::LinkGone`], [`Event::KernelChanged`]. While nobody takes them, the threads wait.
    ///
    /// Errors: no netlink socket, or the links cannot be read.
    pub fn new(events: tokio::sync::mpsc::Sender<Event>, protocol: u8) -> io::Result<Self> {
        Self::with_news_queue(events, protocol, None)
    }

    /// [`Netlink::new`] with a receive queue for news of so many octets; small ones lose news.
    pub fn with_news_queue(
        events: tokio::sync::mpsc::Sender<Event>,
        protocol: u8,
        octets: Option<usize>,
    ) -> io::Result<Self> {
        let working = Channel::open()?;
        let reading = Channel::open()?;
        let monitor = Monitor::open(events.clone(), protocol, vec![working.port()], octets)?;
        let links = monitor.links();
        let (jobs, asked) = mpsc::channel();
        let (stop, stopped) = UnixStream::pair()?;
        let queue = Arc::new(Queue::default());

        start("netlink-news", move || monitor.run(&stopped))?;
        let reader = Reader { channel: reading, links: Arc::clone(&links), events: events.clone(), protocol };
        start("netlink-read", move || reader.run(&asked))?;
        let worker = Worker {
            channel: working,
            links,
            events,
            jobs: jobs.clone(),
            protocol,
            tunnels: Default::default(),
        };
        let work = Arc::clone(&queue);
        start("netlink-ops", move || worker.run(&work))?;
        Ok(Netlink { queue, jobs, _stop: stop })
    }

    /// Has the kernel carry operations out; returns at once. Each gets its result in an [`Event::Ops`].
    ///
    /// Operations keep their order, but for a small submission of route removals alone: that goes ahead of what
    /// earlier submissions left waiting (a withdraw does not wait for a bulk), unless one of its keys waits there.
    pub fn submit(&mut self, ops: Vec<Op>) {
        self.queue.put(ops);
    }

    /// Reads links, and all routes and addresses with our mark; returns at once. Answered by [`Event::Dump`].
    pub fn dump(&mut self, id: DumpId) {
        // The reader ends only when nobody takes events, and then nobody waits for this one.
        let _ = self.jobs.send(Job::Dump(id));
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run = move || {
        // A daemon that cannot reach the kernel any more must not look alive: its successor adopts or sweeps.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            std::process::abort();
        }
    };
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run).map(drop)
}
