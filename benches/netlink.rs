//! The kernel's edge, in a network namespace of its own (needs root): `cargo bench --bench netlink`.
//!
//! - latency of one operation, from `submit` to its result in a tokio task, against the floor: one thread that sends
//!   to the kernel and reads the answer by itself;
//! - 100,000 routes made and removed, against `ip -batch` in the same run;
//! - a dump of 100,000 routes.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use announcerd::fib::object::{Action, Object};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use support::{Rig, in_namespace, ip, ip_batch, on};

const ROUNDS: usize = 2_000;
const BULK: u32 = 100_000;

fn main() {
    in_namespace(|| {
        latency();
        for to in [v4 as fn(u32) -> String, v6] {
            bulk(to);
        }
    });
}

fn v4(i: u32) -> String {
    format!("{}/32", Ipv4Addr::from(0x0a00_0000 + i))
}

fn v6(i: u32) -> String {
    format!("2001:db8:{:x}:{:x}::/64", i >> 16, i & 0xffff)
}

fn latency() {
    let mut rig = Rig::new();
    rig.quiet();
    let object = on("198.51.100.0/24", "lo");
    let (mut add, mut delete) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (action, times) in
            [(Action::Add(object.clone()), &mut add), (Action::Delete(object.clone()), &mut delete)]
        {
            let start = Instant::now();
            rig.one(action).unwrap();
            times.push(start.elapsed());
        }
    }
    report("add, submit to result", add);
    report("delete, submit to result", delete);
    let (add, delete) = bare();
    report("add, bare send and receive", add);
    report("delete, bare send and receive", delete);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!("{what:32} p50 {:7.1} us   p99 {:7.1} us", at(50), at(99));
}

/// What the kernel itself takes.
fn bare() -> (Vec<Duration>, Vec<Duration>) {
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    let message = |make: bool| {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = 24;
        route.header.table = 254;
        route.header.protocol = RouteProtocol::from(support::MARK);
        route.header.scope = RouteScope::Link;
        route.header.kind = RouteType::Unicast;
        let to = Ipv4Addr::new(198, 51, 100, 0);
        route.attributes =
            vec![RouteAttribute::Destination(std::net::IpAddr::V4(to).into()), RouteAttribute::Oif(1)];
        let inner =
            if make { RouteNetlinkMessage::NewRoute(route) } else { RouteNetlinkMessage::DelRoute(route) };
        let mut message = NetlinkMessage::from(inner);
        let flags = if make { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    };
    let (make, remove) = (message(true), message(false));
    let (mut add, mut delete) = (Vec::new(), Vec::new());
    let mut answer = Vec::with_capacity(4096);
    for _ in 0..ROUNDS {
        for (bytes, times) in [(&make, &mut add), (&remove, &mut delete)] {
            let start = Instant::now();
            socket.send(bytes, 0).unwrap();
            answer.clear();
            socket.recv(&mut answer, 0).unwrap();
            times.push(start.elapsed());
            assert_eq!(answer[16..20], [0; 4], "refused");
        }
    }
    (add, delete)
}

fn bulk(to: fn(u32) -> String) {
    let lines =
        |verb: &str| (0..BULK).map(|i| format!("route {verb} {} dev lo\n", to(i))).collect::<String>();
    let rate = |what: &str, took: Duration| {
        println!(
            "{what:32} {:7.1} ms   {:9.0} routes/s",
            took.as_secs_f64() * 1e3,
            f64::from(BULK) / took.as_secs_f64()
        );
        took.as_secs_f64()
    };
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        rate(what, start.elapsed())
    };
    println!("-- {BULK} routes like {}", to(0));
    let (add, del) = (lines("add"), lines("del"));
    let theirs_add = timed("add, ip -batch", &mut || ip_batch(&add));
    let theirs_del = timed("delete, ip -batch", &mut || ip_batch(&del));
    let mut rig = Rig::new();
    let objects: Vec<Object> = (0..BULK).map(|i| on(&to(i), "lo")).collect();
    let all = |action: fn(Object) -> Action| objects.iter().cloned().map(action).collect::<Vec<_>>();
    let mut actions = Some(all(Action::Add));
    let add = timed("add, submit to last result", &mut || {
        assert!(rig.all(actions.take().unwrap()).iter().all(Result::is_ok));
    });
    let mut count = 0;
    timed("dump", &mut || count = rig.dump().objects.len());
    assert_eq!(count, objects.len());
    let mut actions = Some(all(Action::Delete));
    let del = timed("delete, submit to last result", &mut || {
        assert!(rig.all(actions.take().unwrap()).iter().all(Result::is_ok));
    });
    println!(
        "against ip -batch: add {:.1} times, delete {:.1} times as fast",
        theirs_add / add,
        theirs_del / del
    );
    assert_eq!(ip("route show table main proto 187"), "");
}
