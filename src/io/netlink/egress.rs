//! Which way a packet would leave, and whether that way is connected at all. For probes that were not answered: a route
//! stays when its device loses the carrier, and what is sent through it is dropped without a word.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::links;
use super::socket::{Channel, frame, status};
use crate::config::model::Origin;
use crate::fib::object::LinkState;
use crate::net::{Family, family_of};

/// rtnetlink(7).
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
/// RTA_OIF.
const RTA_OIF: u16 = 4;
/// The fixed head of a route message.
const ROUTE_HEAD: usize = 12;
/// Where its type is.
const ROUTE_KIND: usize = 7;

/// Asks the kernel; some 20 us for each question. [`Egress::trouble`] also asks for devices, and may have to wait for the kernel's
/// lock behind a bulk of changes, so a thread does that, one question at a time. The socket is opened when first needed, in the network namespace of the
/// thread that asks.
#[derive(Clone, Default)]
pub struct Egress {
    channel: Arc<Mutex<Option<Channel>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Egress")
    }
}

impl Egress {
    /// What keeps this machine from sending to `to` from `origin`: "our own link eth0 has no carrier". None if
    /// nothing does, or if it cannot be found out.
    pub async fn trouble(&self, to: IpAddr, origin: &Origin) -> Option<String> {
        // Else a thousand silent targets would be a thousand threads.
        let turn = self.turn.clone().lock_owned().await;
        let (egress, origin) = (self.clone(), origin.clone());
        let question = move || {
            // Until the kernel has answered, even if nobody waits for it any more.
            let _turn = turn;
            egress.ask(to, &origin)
        };
        tokio::task::spawn_blocking(question).await.ok().flatten()
    }

    /// The index of the device that packets to `to` from `source` leave through; None if there is none, or if it cannot be
    /// found out. Asked at once, in the calling thread: a route is looked up without the kernel's lock.
    pub fn way(&self, to: IpAddr, source: Option<IpAddr>) -> Option<u32> {
        let origin = Origin { source, device: None, fwmark: None };
        self.put(to, |channel| Ok(way_out(channel, to, &origin)?.ok().flatten()))
    }

    /// The index of the device that has that address, if it is one of this machine's. Asked as [`Egress::way`] asks.
    pub fn home(&self, address: IpAddr) -> Option<u32> {
        let nowhere = Origin { source: None, device: None, fwmark: None };
        let mut question = way(address, &nowhere, None);
        // Else it is the loopback device for each of them.
        question.header.flags = RouteFlags::FibMatch;
        let question = RouteNetlinkMessage::GetRoute(question);
        self.put(address, |channel| Ok(ask(channel, question, RTM_NEWROUTE, local)?.ok().flatten()))
    }

    fn ask(&self, to: IpAddr, origin: &Origin) -> Option<String> {
        self.put(to, |channel| trouble(channel, to, origin))
    }

    fn put<T>(&self, to: IpAddr, question: impl FnOnce(&mut Channel) -> io::Result<Option<T>>) -> Option<T> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match &mut *channel {
            Some(open) => question(open),
            closed => Channel::open().and_then(|open| question(closed.insert(open))),
        };
        found.unwrap_or_else(|e| {
            // An answer that comes after all must not be taken for that to the next question.
            *channel = None;
            tracing::debug!("the way to {to} is not known: {e}");
            None
        })
    }
}

fn trouble(channel: &mut Channel, to: IpAddr, origin: &Origin) -> io::Result<Option<String>> {
    let mut device = None;
    if let Some(name) = &origin.device {
        match link(channel, by_name(name))? {
            Ok((index, state)) => {
                if let Some(why) = down(&state) {
                    return Ok(Some(why));
                }
                device = Some(index);
            }
            Err(_) => return Ok(Some(format!("there is no device {name}"))),
        }
    }
    let way = ask_way(channel, to, origin, device)?;
    match way {
        Ok(Some(index)) => Ok(link(channel, by_index(index))?.ok().and_then(|(_, state)| down(&state))),
        Ok(None) => Ok(None),
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES) => {
            Ok(Some(format!("this machine has no route to {to}")))
        }
        Err(_) => Ok(None),
    }
}

/// The index of the device that packets to `to` from `origin` (its device aside) would leave through.
pub(super) fn way_out(
    channel: &mut Channel,
    to: IpAddr,
    origin: &Origin,
) -> io::Result<Result<Option<u32>, Errno>> {
    ask_way(channel, to, origin, None)
}

fn ask_way(
    channel: &mut Channel,
    to: IpAddr,
    origin: &Origin,
    device: Option<u32>,
) -> io::Result<Result<Option<u32>, Errno>> {
    ask(channel, RouteNetlinkMessage::GetRoute(way(to, origin, device)), RTM_NEWROUTE, outgoing)
}

/// What the kernel says of the link of that name.
pub(super) fn link_message<T>(
    channel: &mut Channel,
    name: &str,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Result<Option<T>, Errno>> {
    let mut which = by_name(name);
    which.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    ask(channel, RouteNetlinkMessage::GetLink(which), RTM_NEWLINK, decode)
}

fn down(link: &LinkState) -> Option<String> {
    let name = &link.name;
    match (link.admin_up, link.carrier) {
        (false, _) => Some(format!("our own link {name} is administratively down")),
        (true, false) => Some(format!("our own link {name} has no carrier")),
        (true, true) => None,
    }
}

fn way(to: IpAddr, origin: &Origin, device: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = match family_of(to) {
        Family::V4 => (AddressFamily::Inet, 32),
        Family::V6 => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    if let Some(source) = origin.source {
        message.header.source_prefix_length = bits;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message.attributes.extend(device.map(RouteAttribute::Oif));
    message.attributes.extend(origin.fwmark.map(RouteAttribute::Mark));
    message
}

/// The index of the device in a route that was looked up.
fn outgoing(payload: &[u8]) -> Option<u32> {
    let attributes = netlink_packet_core::NlasIterator::new(payload.get(ROUTE_HEAD..)?);
    let device = attributes.flatten().find(|nla| nla.kind() == RTA_OIF)?;
    device.value().first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The same of a route to an address of our own.
fn local(payload: &[u8]) -> Option<u32> {
    outgoing(payload).filter(|_| payload.get(ROUTE_KIND) == Some(&libc::RTN_LOCAL))
}

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn link(channel: &mut Channel, mut which: LinkMessage) -> io::Result<Result<(u32, LinkState), Errno>> {
    // Counters take the kernel longer than all the rest.
    which.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let found = ask(channel, RouteNetlinkMessage::GetLink(which), RTM_NEWLINK, links::decode)?;
    Ok(found.and_then(|link| link.ok_or(Errno::ENODEV)))
}

/// One question and its one answer: a message of the kind `kind`, or the kernel's refusal.
fn ask<T>(
    channel: &mut Channel,
    question: RouteNetlinkMessage,
    kind: u16,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Result<Option<T>, Errno>> {
    let seq = channel.next_seq();
    let mut bytes = Vec::new();
    frame(&mut bytes, question, NLM_F_REQUEST, seq);
    channel.send(&bytes)?;
    // The kernel has answered before send(2) returned: waiting would be in vain.
    for (header, payload) in channel.receive(libc::MSG_DONTWAIT)? {
        match header.message_type {
            _ if header.sequence_number != seq => {}
            NLMSG_ERROR => return Ok(Err(Errno::from_raw(-status(payload)))),
            found if found == kind => return Ok(Ok(decode(payload))),
            _ => {}
        }
    }
    Err(io::Error::other("the kernel answered something else"))
}
