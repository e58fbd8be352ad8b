//! The thread that reads: dumps for the core, and what it is that exists where the kernel said EEXIST.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, RwLock};

use super::links::{self, Links};
use super::socket::Channel;
use super::standing::{Standing, exists};
use super::{decode, encode, rules, tunnels};
use crate::announcer::Event;
use crate::announcer::event::{Dump, DumpId};
use crate::fib::object::{Object, Op};
use crate::net::Family;

/// What there is to read.
pub(super) enum Job {
    /// Everything of ours.
    Dump(DumpId),
    /// What stands in the way of these.
    Examine(Vec<Op>),
}

pub(super) struct Reader {
    pub channel: Channel,
    pub links: Arc<RwLock<Links>>,
    pub events: tokio::sync::mpsc::Sender<Event>,
    pub protocol: u8,
}

impl Reader {
    /// Until nobody asks or listens any more. What was asked meanwhile is answered together.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (mut dumps, mut unclear) = (Vec::new(), Vec::new());
            for job in std::iter::once(first).chain(jobs.try_iter()) {
                match job {
                    Job::Dump(id) => dumps.push(id),
                    Job::Examine(ops) => unclear.extend(ops),
                }
            }
            if !unclear.is_empty() && self.examine(&unclear).is_err() {
                return;
            }
            if !dumps.is_empty() && self.dump(dumps).is_err() {
                return;
            }
        }
    }

    fn examine(&mut self, ops: &[Op]) -> Result<(), Gone> {
        let objects = ops.iter().map(|op| op.action.object());
        let standing = Standing::look(&mut self.channel, &self.links, objects);
        let results =
            ops.iter().map(|op| (op.id, Err(exists(&standing, op.action.object(), self.protocol)))).collect();
        self.events.blocking_send(Event::Ops(results)).map_err(|_| Gone)
    }

    fn dump(&mut self, ids: Vec<DumpId>) -> Result<(), Gone> {
        let result = snapshot(&mut self.channel, self.protocol)
            .map_err(|e| format!("cannot read routes and addresses from the kernel: {e}"));
        for id in ids {
            let event = Event::Dump { id, result: result.clone() };
            self.events.blocking_send(event).map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// Nobody listens any more.
struct Gone;

/// All links, and everything with our mark.
fn snapshot(channel: &mut Channel, protocol: u8) -> io::Result<Dump> {
    let ours = RefCell::new(Vec::new());
    let begin = || ours.borrow_mut().clear();
    let links = all_links_and(channel, begin, |p| ours.borrow_mut().extend(tunnels::ours(p, protocol)))?;
    let (mut objects, mut nets) = (Vec::new(), Vec::new());
    for link in ours.into_inner() {
        objects.extend(tunnels::object(channel, &link, &links, protocol).map(Object::Tunnel));
    }
    for family in [Family::V4, Family::V6] {
        // Addresses before routes: the order in which they were made.
        let mut seen = Vec::new();
        collect(channel, &encode::get_addresses(family, None), &mut seen, |p| decode::address(p, &links))?;
        nets.extend(seen.iter().filter_map(|s| Some((s.net?, s.address.dev.clone()))));
        let ours = seen.into_iter().filter(|s| s.protocol == protocol);
        objects.extend(ours.map(|s| Object::Address(s.address)));
    }
    for family in [Family::V4, Family::V6] {
        collect(channel, &encode::get_routes(family, protocol, 0), &mut objects, |payload| {
            // The kernel filters by protocol already; one without strict checking would not.
            if decode::protocol_of(payload) != Some(protocol) {
                return None;
            }
            let seen = decode::route(payload, &links).filter(|r| !r.special)?;
            Some(Object::Route(seen.object()))
        })?;
    }
    for family in [Family::V4, Family::V6] {
        collect(channel, &rules::get(family), &mut objects, |payload| {
            let seen = rules::decode(payload).filter(|r| r.protocol == protocol && r.exact)?;
            Some(Object::Rule(seen.rule))
        })?;
    }
    Ok(Dump { links: links.states(), nets, objects })
}

fn collect<T>(
    channel: &mut Channel,
    request: &netlink_packet_route::RouteNetlinkMessage,
    objects: &mut Vec<T>,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<()> {
    let before = objects.len();
    let objects = RefCell::new(objects);
    channel.dump(
        request,
        || objects.borrow_mut().truncate(before),
        |payload| objects.borrow_mut().extend(decode(payload)),
    )
}

/// The links as the kernel has them now.
pub(super) fn all_links(channel: &mut Channel) -> io::Result<Links> {
    all_links_and(channel, || (), |_| ())
}

/// The same, with another look at each message.
fn all_links_and(channel: &mut Channel, begin: impl Fn(), each: impl Fn(&[u8])) -> io::Result<Links> {
    let all = RefCell::new(Links::default());
    channel.dump(
        &links::request(),
        || {
            *all.borrow_mut() = Links::default();
            begin();
        },
        |payload| {
            each(payload);
            if let Some((index, link)) = links::decode(payload) {
                all.borrow_mut().insert(index, link);
            }
        },
    )?;
    Ok(all.into_inner())
}
