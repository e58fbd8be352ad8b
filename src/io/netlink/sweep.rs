//! Removes everything that carries our mark: for `announcerctl sweep`, with no daemon.

use std::cell::RefCell;
use std::io;

use super::batch::Fate;
use super::decode::{self, Seen};
use super::draft::{DELETE_ADDRESS, DELETE_LINK, DELETE_ROUTE, DELETE_RULE, Draft};
use super::dump::all_links;
use super::links::Links;
use super::socket::Channel;
use super::standing::{describe, refusal};
use super::{encode, links, rules, tunnels};
use crate::net::Family;

/// Octets of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Messages in one `sendmsg`: a route with many next hops can be large.
const BATCH: usize = 256;
/// Removing takes another look: what it uncovers (an IPv6 sibling), or what changed meanwhile.
const ROUNDS: usize = 4;

/// Removes every rule, route, address and tunnel that carries our mark in the network namespace of the calling thread; says what
/// was removed, as `ip` would print it. Objects of others stay. Nothing to remove is no error.
///
/// Errors: the kernel cannot be asked, or refuses to remove something (all else is removed nevertheless).
pub fn sweep(protocol: u8) -> io::Result<Vec<String>> {
    let mut channel = Channel::open()?;
    let mut removed = Vec::new();
    for _ in 0..ROUNDS {
        let links = all_links(&mut channel)?;
        let found = ours(&mut channel, protocol, &links)?;
        if found.is_empty() {
            return Ok(removed);
        }
        remove(&mut channel, found, &mut removed)?;
    }
    Ok(removed)
}

/// What [`sweep`] would remove now, as `ip` would print it.
///
/// Errors: the kernel cannot be asked.
pub fn left(protocol: u8) -> io::Result<Vec<String>> {
    let mut channel = Channel::open()?;
    let links = all_links(&mut channel)?;
    Ok(ours(&mut channel, protocol, &links)?.into_iter().map(|(_, _, text)| text).collect())
}

/// A message of removal and what it removes. What hangs on something comes before it: an address takes routes along, in
/// silence, and a tunnel both.
type Removal = (u16, Vec<u8>, String);

fn ours(channel: &mut Channel, protocol: u8, links: &Links) -> io::Result<Vec<Removal>> {
    let found = RefCell::new(Vec::new());
    for family in [Family::V4, Family::V6] {
        let before = found.borrow().len();
        channel.dump(
            &rules::get(family),
            || found.borrow_mut().truncate(before),
            |payload| {
                let rule = rules::decode(payload).filter(|r| r.protocol == protocol);
                let text = rule.map(|r| format!("rule {}", describe(&Seen::Rule(r))));
                found.borrow_mut().extend(text.map(|text| (DELETE_RULE, payload.to_vec(), text)));
            },
        )?;
    }
    for family in [Family::V4, Family::V6] {
        let before = found.borrow().len();
        channel.dump(
            &encode::get_routes(family, protocol, 0),
            || found.borrow_mut().truncate(before),
            |payload| {
                let route = decode::route(payload, links).filter(|r| r.protocol == protocol);
                let text = route.map(|r| format!("route {}", describe(&Seen::Route(r))));
                found.borrow_mut().extend(text.map(|text| (DELETE_ROUTE, decode::removal(payload), text)));
            },
        )?;
    }
    for family in [Family::V4, Family::V6] {
        let before = found.borrow().len();
        channel.dump(
            &encode::get_addresses(family, None),
            || found.borrow_mut().truncate(before),
            |payload| {
                let address = decode::address(payload, links).filter(|a| a.protocol == protocol);
                let text = address.map(|a| format!("address {}", describe(&Seen::Address(a))));
                found.borrow_mut().extend(text.map(|text| (DELETE_ADDRESS, payload.to_vec(), text)));
            },
        )?;
    }
    let before = found.borrow().len();
    channel.dump(
        &links::request(),
        || found.borrow_mut().truncate(before),
        |payload| {
            let tunnel = tunnels::ours(payload, protocol);
            // The header names the link; the rest is what the kernel says of it, and no part of a request.
            let header = payload.get(..LINK_HEADER).unwrap_or_default().to_vec();
            found.borrow_mut().extend(tunnel.map(|link| (DELETE_LINK, header, link.describe())));
        },
    )?;
    Ok(found.into_inner())
}

fn remove(channel: &mut Channel, found: Vec<Removal>, removed: &mut Vec<String>) -> io::Result<()> {
    let mut refused = None;
    let mut found = found.into_iter().peekable();
    while found.peek().is_some() {
        let mut draft = Draft::default();
        for (kind, payload, text) in found.by_ref().take(BATCH) {
            draft.push_raw(channel, kind, &payload, 0, text);
        }
        for (text, fate) in draft.send(channel)?.fates {
            match fate {
                Fate::Done => removed.push(text),
                // Gone by itself, or with what was removed before it; the next look tells.
                Fate::Unknown | Fate::Refused(libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV, _) => {}
                Fate::Refused(errno, words) => {
                    refused = Some(format!("{text}: {}", refusal(errno, words)));
                }
            }
        }
    }
    refused.map_or(Ok(()), |text| Err(io::Error::other(format!("cannot remove {text}"))))
}
