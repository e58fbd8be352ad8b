//! A network namespace for one test, and the netlink edge in it.

use std::process::Command;
use std::time::Duration;

use announcerd::announcer::Event;
use announcerd::announcer::event::{Dump, DumpId};
use announcerd::config::model::{Route, RouteKind, When};
use announcerd::fib::normal::route_object;
use announcerd::fib::object::{Action, Object, Op, OpError, OpId};
use announcerd::io::netlink::Netlink;
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc::{Receiver, channel};

/// Our mark in these tests.
pub const MARK: u8 = 187;
/// Long enough for the slowest machine; reached only when something is wrong.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `test` in a thread with a network namespace of its own (gone with the thread), `lo` up and a pair `ve0`/`ve1`
/// with 192.0.2.1/24 and 2001:db8:1::1/64.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root (CAP_SYS_ADMIN)");
        for line in [
            "link set lo up",
            "link add name ve0 type veth peer name ve1",
            "link set ve0 up",
            "link set ve1 up",
            "addr add 192.0.2.1/24 dev ve0",
            "-6 addr add 2001:db8:1::1/64 dev ve0 nodad",
        ] {
            ip(line);
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` with these words; its output. Panics if it fails.
pub fn ip(line: &str) -> String {
    let out = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is installed");
    assert!(out.status.success(), "ip {line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// `ip -batch` with these lines.
pub fn ip_batch(lines: &str) {
    use std::io::Write;
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A unicast route; more by struct update.
pub fn route(to: &str) -> Route {
    Route {
        to: to.parse().unwrap(),
        kind: RouteKind::Unicast,
        dev: None,
        via: None,
        nexthops: None,
        src: None,
        table: 254,
        metric: 0,
        scope: None,
        onlink: false,
        mtu: None,
        advmss: None,
        export: false,
        when: When::Master,
    }
}

/// As [`route`], on a device, as the core wants it.
pub fn on(to: &str, dev: &str) -> Object {
    Object::Route(route_object(&Route { dev: Some(dev.into()), ..route(to) }))
}

/// As [`route`], through a gateway, as the core wants it.
pub fn through(to: &str, via: &str) -> Object {
    Object::Route(route_object(&Route { via: Some(via.parse().unwrap()), ..route(to) }))
}

/// The edge and what comes out of it.
pub struct Rig {
    pub netlink: Netlink,
    pub events: Receiver<Event>,
    runtime: tokio::runtime::Runtime,
    next: u64,
    /// Events that nobody waited for yet.
    pub seen: Vec<Event>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(1024, None)
    }

    pub fn with(room: usize, news_queue: Option<usize>) -> Self {
        let (sender, events) = channel(room);
        let netlink = Netlink::with_news_queue(sender, MARK, news_queue).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Rig { netlink, events, runtime, next: 1, seen: Vec::new() }
    }

    fn recv(&mut self) -> Option<Event> {
        let events = &mut self.events;
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, events.recv()).await.ok().flatten() })
    }

    /// Waits until an event passes; it is taken out, the others stay in `seen`.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut at = 0;
        loop {
            while let Some(event) = self.seen.get(at) {
                if let Some(value) = pick(event) {
                    self.seen.remove(at);
                    return value;
                }
                at += 1;
            }
            let event = self.recv().unwrap_or_else(|| panic!("no {what}; seen: {:?}", self.seen));
            self.seen.push(event);
        }
    }

    pub fn wait_for(&mut self, event: Event) {
        self.wait(&format!("{event:?}"), |e| (*e == event).then_some(()));
    }

    /// Submits together; the results in the order of the actions.
    pub fn all(&mut self, actions: Vec<Action>) -> Vec<Result<(), OpError>> {
        let first = self.next;
        self.next += actions.len() as u64;
        let ids: Vec<u64> = (first..self.next).collect();
        let ops = ids.iter().zip(actions).map(|(id, action)| Op { id: OpId(*id), action }).collect();
        self.netlink.submit(ops);
        let mut results = std::collections::BTreeMap::new();
        while results.len() < ids.len() {
            let some = self.wait("results", |e| match e {
                Event::Ops(results) => Some(results.clone()),
                _ => None,
            });
            for (id, result) in some {
                assert!(results.insert(id.0, result).is_none(), "two results for one operation");
            }
        }
        assert!(results.keys().eq(ids.iter()));
        results.into_values().collect()
    }

    pub fn one(&mut self, action: Action) -> Result<(), OpError> {
        self.all(vec![action]).remove(0)
    }

    pub fn dump(&mut self) -> Dump {
        let id = DumpId(self.next);
        self.next += 1;
        self.netlink.dump(id);
        self.wait("dump", |e| match e {
            Event::Dump { id: of, result } if *of == id => Some(result.clone().unwrap()),
            _ => None,
        })
    }

    /// The object in the dump with the same key.
    pub fn kernel_has(&mut self, object: &Object) -> Option<Object> {
        self.dump().objects.into_iter().find(|o| o.key() == object.key())
    }

    /// Has the kernel finish what it was told, and forgets all events.
    pub fn quiet(&mut self) {
        self.dump();
        self.seen.clear();
    }
}
