//! Two hosts and a line between them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Host, Node, wait_for};
use announcerd::status::KernelStatus;

/// Nothing that the tests wait for takes longer, unless something is wrong; guests are slow.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The daemon under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

/// `near` is 203.0.113.2 and 2001:db8::2, `far` the same with 1; both call the line `wire`.
pub struct Line {
    pub near: Host,
    pub far: Host,
}

impl Line {
    pub fn new() -> Self {
        let line = Line { near: Host::new("near", &[]).unwrap(), far: Host::new("far", &[]).unwrap() };
        let end = |host, n| End { host, interface: "wire", address: Ipv4Addr::new(203, 0, 113, n) };
        wire::connect(end(&line.near, 2), end(&line.far, 1), 24).unwrap();
        for (host, n) in [(&line.near, 2), (&line.far, 1)] {
            host.run(&["sh", "-c", &format!("ip address add 2001:db8::{n}/64 dev wire nodad")]).unwrap();
        }
        line
    }

    /// From now on the line delays by 30 ms and loses one packet of twenty.
    pub fn spoil(&self) {
        let words = "tc qdisc add dev wire root netem delay 30ms loss 5%";
        self.near.run(&["sh", "-c", words]).unwrap();
    }

    /// What `ip` says on the near host.
    pub fn ip(&self, words: &str) -> String {
        self.near.run(&["sh", "-c", &format!("ip {words}")]).unwrap()
    }

    /// Waits until all that is wanted is there and nothing else.
    pub fn wait_for_kernel(&self, node: &Node) {
        let right = |row: &KernelStatus| row.desired == row.observed && row.error.is_none();
        let wanted = wait_for("the kernel to be as wanted", LIMIT, || {
            let kernel = node.status().ok()?.kernel;
            (!kernel.is_empty() && kernel.iter().all(right)).then_some(())
        });
        wanted.unwrap_or_else(|e| panic!("{e}\n{:#?}\n{}", node.status().map(|s| s.kernel), node.log()));
    }

    /// Waits until the status says that of an object.
    pub fn wait_for_error(&self, node: &Node, object: &str, words: &str) {
        let said = |row: &KernelStatus| {
            row.object.starts_with(object) && row.error.as_ref().is_some_and(|e| e.contains(words))
        };
        let found = wait_for(&format!("`{words}` about {object}"), LIMIT, || {
            node.status().ok()?.kernel.iter().any(said).then_some(())
        });
        found.unwrap_or_else(|e| panic!("{e}\n{:#?}\n{}", node.status().map(|s| s.kernel), node.log()));
    }

    /// Waits until `ip` says something, or no more.
    pub fn wait_for_ip(&self, node: &Node, words: &str, part: &str, wanted: bool) {
        let met = || {
            let said = self.near.run(&["sh", "-c", &format!("ip {words} 2>&1 || true")]).ok()?;
            (said.contains(part) == wanted).then_some(())
        };
        let found = wait_for(&format!("`{part}` in `ip {words}`: {wanted}"), LIMIT, met);
        found.unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.ip("-d address"), node.log()));
    }
}
