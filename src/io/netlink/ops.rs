//! The thread that carries operations out.
//!
//! The kernel works inside `sendmsg` and holds its one big lock (RTNL) meanwhile, so a send can wait for whoever else
//! has that lock: the driver must not send by itself. What it costs is one wake-up of this thread.
//!
//! Most operations go straight to the kernel, which protects others' objects: NLM_F_EXCL never makes a second route
//! in a place, and removal matches our protocol. Where it does not, this thread looks first ([`Standing`]): a replaced
//! route is whichever stands first, an address is removed whoever put it there.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteFlags;
use nix::errno::Errno;

use super::batch::Fate;
use super::decode::{self, Seen};
use super::draft::{self, Draft};
use super::dump::Job;
use super::encode::{self, Exit};
use super::links::Links;
use super::queue::Queue;
use super::socket::Channel;
use super::standing::{Found, Standing, foreign, refusal};
use super::{rules, tunnels};
use crate::announcer::Event;
use crate::config::model::RouteKind;
use crate::fib::object::{Action, Object, Op, OpError, RouteObject};
use crate::net::{Family, IfIndex};

/// Operations in one `sendmsg`: more is no faster, and a withdraw has to wait for this many at most.
const BATCH: usize = 1024;
const MAKE: u16 = NLM_F_CREATE | NLM_F_EXCL;

type Results = Vec<(crate::fib::object::OpId, Result<(), OpError>)>;

/// What a message stands for: the operation that its fate decides, or something done on the way there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Decides(usize),
    OnTheWay,
}

pub(super) struct Worker {
    pub channel: Channel,
    pub links: Arc<RwLock<Links>>,
    pub events: tokio::sync::mpsc::Sender<Event>,
    pub jobs: Sender<Job>,
    pub protocol: u8,
    /// Tunnels that were operated on: of these the table of links may be a moment behind, so the kernel is asked.
    pub tunnels: BTreeSet<String>,
}

/// How an operation is carried out; neighbours of one way go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Straight,
    Carefully,
    Tunnel,
}

impl Worker {
    /// Until the queue is closed and empty, or nobody listens any more.
    pub fn run(mut self, queue: &Queue) {
        while let Some(ops) = queue.take(BATCH) {
            let mut rest = ops.as_slice();
            while let Some(first) = rest.first() {
                let way = way(&first.action);
                let len = rest.iter().take_while(|op| self::way(&op.action) == way).count();
                let (run, after) = rest.split_at(len);
                let results = match way {
                    Way::Straight => self.straight(run),
                    Way::Carefully => self.carefully(run),
                    Way::Tunnel => run.iter().map(|op| (op.id, self.tunnel(&op.action))).collect(),
                };
                if !results.is_empty() && self.events.blocking_send(Event::Ops(results)).is_err() {
                    return;
                }
                rest = after;
            }
        }
    }

    fn tunnel(&mut self, action: &Action) -> Result<(), OpError> {
        if let (Object::Tunnel(tunnel), false) = (action.object(), matches!(action, Action::Examine(_))) {
            self.tunnels.insert(tunnel.name.clone());
        }
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner).clone();
        tunnels::execute(&mut self.channel, action, |dev| links.index(dev), self.protocol)
    }

    /// The index of a device. Where a tunnel of ours is meant, a stranger's of the same name is not it: what hangs on
    /// it must not come to hang there.
    fn index(&mut self, dev: &str, action: &Action) -> Result<IfIndex, Result<(), OpError>> {
        let found = match self.tunnels.contains(dev) {
            true => tunnels::find(&mut self.channel, dev).ok().flatten(),
            false => {
                let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
                return links.index(dev).ok_or_else(|| missing(dev, action));
            }
        };
        match found {
            None => Err(missing(dev, action)),
            Some(link) if tunnels::is_ours(&link, self.protocol) => Ok(link.index),
            Some(_) if matches!(action, Action::Delete(_)) => Err(Ok(())),
            Some(_) => Err(Err(OpError::ForeignDevice(dev.to_owned()))),
        }
    }

    /// The indexes of the devices that the object names. An error is already the operation's result.
    fn devices(&mut self, action: &Action) -> Result<Exit, Result<(), OpError>> {
        let mut exit = Exit::default();
        if let Some(dev) = action.object().dev() {
            exit.dev = Some(self.index(dev, action)?);
        }
        if let Object::Route(route) = action.object() {
            for hop in &route.hops {
                let index = hop.dev.as_ref().map(|dev| self.index(dev, action)).transpose()?;
                exit.hops.push(index);
            }
        }
        Ok(exit)
    }

    fn straight(&mut self, ops: &[Op]) -> Results {
        let mut results = Vec::with_capacity(ops.len());
        let mut draft = Draft::default();
        for (i, op) in ops.iter().enumerate() {
            match self.devices(&op.action) {
                Err(result) => results.push((op.id, result)),
                Ok(exit) => self.draft_straight(&mut draft, &op.action, &exit, Role::Decides(i)),
            }
        }
        self.send(draft, ops, &mut results);
        results
    }

    fn draft_straight(&mut self, draft: &mut Draft<Role>, action: &Action, exit: &Exit, role: Role) {
        let (protocol, dev) = (self.protocol, exit.dev);
        match action {
            Action::Delete(Object::Route(r)) => {
                let flags = if any_metric(r) { draft::ECHO } else { 0 };
                draft.push(&mut self.channel, encode::delete_route(r, exit, protocol), flags, role);
            }
            Action::Add(Object::Route(r)) | Action::Replace(Object::Route(r)) => {
                draft.push(&mut self.channel, encode::add_route(r, exit, protocol), MAKE, role);
            }
            Action::Add(Object::Address(a)) | Action::Replace(Object::Address(a)) => {
                let message = encode::add_address(a, dev.unwrap_or(IfIndex(0)), protocol);
                draft.push(&mut self.channel, message, MAKE, role);
            }
            Action::Delete(Object::Address(a)) => {
                let message = encode::delete_address(a, dev.unwrap_or(IfIndex(0)));
                draft.push(&mut self.channel, message, 0, role);
            }
            Action::Add(Object::Rule(r)) | Action::Replace(Object::Rule(r)) => {
                let message = RouteNetlinkMessage::NewRule(rules::message(r, protocol));
                draft.push(&mut self.channel, message, MAKE, role);
            }
            Action::Delete(Object::Rule(r)) => {
                let message = RouteNetlinkMessage::DelRule(rules::message(r, protocol));
                draft.push(&mut self.channel, message, 0, role);
            }
            Action::Add(Object::Tunnel(_))
            | Action::Replace(Object::Tunnel(_))
            | Action::Delete(Object::Tunnel(_))
            | Action::Examine(_) => {}
        }
    }

    fn carefully(&mut self, ops: &[Op]) -> Results {
        let mut results = Vec::with_capacity(ops.len());
        let objects = ops.iter().map(|op| op.action.object());
        let standing = match Standing::look(&mut self.channel, &self.links, objects) {
            Ok(standing) => standing,
            Err(e) => {
                let words = format!("cannot see whose object stands there: {e}");
                return ops.iter().map(|op| (op.id, Err(OpError::Refused(words.clone())))).collect();
            }
        };
        let mut draft = Draft::default();
        for (i, op) in ops.iter().enumerate() {
            let exit = match self.devices(&op.action) {
                Ok(exit) => exit,
                Err(result) => {
                    results.push((op.id, result));
                    continue;
                }
            };
            let (ours, others) = standing.there(op.action.object(), self.protocol);
            let messages = draft.len();
            let refused = match &op.action {
                Action::Replace(wanted) => match foreign(&others, wanted) {
                    Some(error) => Err(error),
                    None => {
                        self.draft_replace(&mut draft, &op.action, &ours, &exit, i);
                        Ok(())
                    }
                },
                action => {
                    self.draft_delete(&mut draft, action, &ours, &exit, i);
                    Ok(())
                }
            };
            if draft.len() == messages {
                results.push((op.id, refused));
            }
        }
        self.send(draft, ops, &mut results);
        results
    }

    /// Nothing of others' stands there. In place where the kernel can do that; else away with the old first.
    fn draft_replace(
        &mut self,
        draft: &mut Draft<Role>,
        action: &Action,
        ours: &[&Found],
        exit: &Exit,
        op: usize,
    ) {
        let role = Role::Decides(op);
        match (action.object(), ours) {
            (Object::Route(r), [Found { seen: Seen::Route(old), .. }]) if old.exact => {
                let message = encode::add_route(r, exit, self.protocol);
                draft.push(&mut self.channel, message, NLM_F_REPLACE, role);
            }
            (Object::Address(_), [one]) if one.seen.satisfies(action.object()) => {}
            _ => {
                for old in ours {
                    self.draft_removal(draft, old, Role::OnTheWay);
                }
                self.draft_straight(draft, action, exit, role);
            }
        }
    }

    /// Removes what of ours stands there; nothing is done already.
    fn draft_delete(
        &mut self,
        draft: &mut Draft<Role>,
        action: &Action,
        ours: &[&Found],
        exit: &Exit,
        op: usize,
    ) {
        match (action.object(), ours.split_last()) {
            (_, None) => {}
            (Object::Address(a), Some(_)) if ours.iter().any(|f| f.seen.is_address(a)) => {
                self.draft_straight(draft, action, exit, Role::Decides(op));
            }
            (Object::Address(_) | Object::Tunnel(_) | Object::Rule(_), Some(_)) => {}
            (Object::Route(_), Some((last, before))) => {
                for old in before {
                    self.draft_removal(draft, old, Role::OnTheWay);
                }
                self.draft_removal(draft, last, Role::Decides(op));
            }
        }
    }

    fn draft_removal(&mut self, draft: &mut Draft<Role>, old: &Found, role: Role) {
        match old.seen {
            Seen::Route(_) => {
                let payload = decode::removal(&old.raw);
                draft.push_raw(&mut self.channel, draft::DELETE_ROUTE, &payload, 0, role);
            }
            Seen::Address(_) => draft.push_raw(&mut self.channel, draft::DELETE_ADDRESS, &old.raw, 0, role),
            Seen::Rule(_) => draft.push_raw(&mut self.channel, draft::DELETE_RULE, &old.raw, 0, role),
        }
    }

    fn send(&mut self, draft: Draft<Role>, ops: &[Op], results: &mut Results) {
        if draft.is_empty() {
            return;
        }
        let mut unclear = Vec::new();
        let returned = match draft.send(&mut self.channel) {
            Ok(returned) => returned,
            Err(e) => {
                let answered: std::collections::HashSet<_> = results.iter().map(|(id, _)| *id).collect();
                let words = format!("cannot send to the kernel: {e}");
                let left = ops.iter().filter(|op| !answered.contains(&op.id));
                results.extend(left.map(|op| (op.id, Err(OpError::Refused(words.clone())))));
                return;
            }
        };
        self.put_back(&returned.echoes);
        for (role, fate) in returned.fates {
            let Role::Decides(i) = role else { continue };
            let Some(op) = ops.get(i) else { continue };
            match result(&op.action, fate) {
                Some(result) => results.push((op.id, result)),
                None => unclear.push(op.clone()),
            }
        }
        // What exists is looked up elsewhere: with a full table that takes longer than a withdraw may wait.
        if !unclear.is_empty() {
            let _ = self.jobs.send(Job::Examine(unclear));
        }
    }

    /// To the kernel, metric 0 in an IPv4 removal means any. If ours with metric 0 was gone already and it took
    /// another of ours, that one goes back at once.
    fn put_back(&mut self, echoes: &[(usize, Vec<u8>)]) {
        let mut draft = Draft::default();
        for (_, payload) in echoes {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            let wrong = decode::route(payload, &links).is_some_and(|r| r.route.metric != 0);
            drop(links);
            if wrong {
                let mut route = payload.clone();
                keep_onlink_only(&mut route);
                draft.push_raw(&mut self.channel, draft::NEW_ROUTE, &route, MAKE, ());
            }
        }
        if !draft.is_empty() {
            let _ = draft.send(&mut self.channel);
            let _ = self.events.blocking_send(Event::KernelChanged);
        }
    }
}

/// Flags of state (dead, linkdown, offloaded) are the kernel's to say, and refused in a request.
fn keep_onlink_only(payload: &mut [u8]) {
    if let Some(flags) = payload.get_mut(8..12) {
        let kept = flags.first_chunk().map_or(0, |f| u32::from_ne_bytes(*f)) & RouteFlags::Onlink.bits();
        flags.copy_from_slice(&kept.to_ne_bytes());
    }
}

/// There is no such device: for a removal that is as good as done, for the kernel removed everything with it.
fn missing(dev: &str, action: &Action) -> Result<(), OpError> {
    match action {
        Action::Delete(_) => Ok(()),
        _ => Err(OpError::NoDevice(dev.to_owned())),
    }
}

fn any_metric(route: &RouteObject) -> bool {
    route.metric == 0 && route.to.family() == Family::V4
}

/// True where the kernel would touch others' objects, or where we cannot say which of ours is meant.
fn needs_a_look(action: &Action) -> bool {
    match action {
        Action::Delete(Object::Route(r)) => {
            r.kind == RouteKind::Unicast && r.via.is_none() && r.dev.is_none() && r.hops.is_empty()
        }
        Action::Replace(Object::Rule(_)) | Action::Delete(Object::Rule(_) | Object::Tunnel(_)) => false,
        Action::Replace(_) | Action::Delete(Object::Address(_)) => true,
        Action::Add(_) | Action::Examine(_) => false,
    }
}

fn way(action: &Action) -> Way {
    match action.object() {
        Object::Tunnel(_) => Way::Tunnel,
        _ if needs_a_look(action) => Way::Carefully,
        _ => Way::Straight,
    }
}

/// The operation's result; `None` if it depends on what exists there.
fn result(action: &Action, fate: Fate) -> Option<Result<(), OpError>> {
    let (errno, words) = match fate {
        Fate::Done => return Some(Ok(())),
        Fate::Unknown => return Some(Err(OpError::NoAnswer)),
        Fate::Refused(errno, words) => (errno, words),
    };
    let delete = matches!(action, Action::Delete(_));
    match (Errno::from_raw(errno), action.object().dev()) {
        (Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ENOENT, _) if delete => Some(Ok(())),
        (Errno::EEXIST, _) if !delete => None,
        (Errno::ENODEV, Some(dev)) => Some(Err(OpError::NoDevice(dev.to_owned()))),
        _ => Some(Err(OpError::Refused(refusal(errno, words)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Scope;
    use crate::fib::object::AddressObject;

    fn address() -> Object {
        let address = "192.0.2.1".parse().unwrap();
        Object::Address(AddressObject { dev: "eth0".into(), address, len: 32, scope: Scope::Global })
    }

    #[test]
    fn gone_already_is_done_and_a_device_that_went_is_said_so() {
        let gone = Fate::Refused(Errno::EADDRNOTAVAIL as i32, None);
        assert_eq!(result(&Action::Delete(address()), gone.clone()), Some(Ok(())));
        assert!(matches!(result(&Action::Add(address()), gone), Some(Err(OpError::Refused(_)))));
        let stale = Fate::Refused(Errno::ENODEV as i32, None);
        assert_eq!(result(&Action::Add(address()), stale), Some(Err(OpError::NoDevice("eth0".into()))));
        assert_eq!(result(&Action::Add(address()), Fate::Unknown), Some(Err(OpError::NoAnswer)));
        assert_eq!(result(&Action::Add(address()), Fate::Refused(Errno::EEXIST as i32, None)), None);
    }

    #[test]
    fn the_kernels_words_come_first() {
        let words = Some("Nexthop has invalid gateway".to_owned());
        assert_eq!(refusal(Errno::ENETUNREACH as i32, words), "Nexthop has invalid gateway (ENETUNREACH)");
        assert_eq!(refusal(Errno::EEXIST as i32, None), "File exists (EEXIST)");
    }
}
