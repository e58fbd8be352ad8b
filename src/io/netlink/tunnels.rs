//! Tunnels: which are ours, and what is done to them, one at a time.
//!
//! Ours is what carries our interface alias. The kernel takes an alias only of a link that exists already, so between
//! making a tunnel and naming it there is a moment in which we could be killed: until then our mark is the link's
//! group, which the kernel takes while making it. Each operation looks first whose link it is about: names are not
//! exclusive to us as route protocols are.

mod wire;

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;

use super::batch::Fate;
use super::draft::Draft;
use super::egress;
use super::links::Links;
use super::socket::Channel;
use super::standing::refusal;
use crate::config::model::Origin;
use crate::fib::object::{Action, Object, OpError, TunnelObject};
use crate::net::IfIndex;

pub(super) use wire::{SeenLink, decode};

/// `anno`, of which the protocol number is added: a group that nobody else uses.
const GROUP: u32 = 0x616e_6e00;

/// The interface alias of our tunnels.
pub(super) fn alias(protocol: u8) -> String {
    format!("announcerd proto {protocol}")
}

fn group(protocol: u8) -> u32 {
    GROUP | u32::from(protocol)
}

/// True if the link carries our mark.
pub(super) fn is_ours(link: &SeenLink, protocol: u8) -> bool {
    link.alias.as_deref() == Some(&*alias(protocol)) || link.group == group(protocol)
}

/// The tunnel that a link message tells of, if it is one with our mark.
pub(super) fn ours(payload: &[u8], protocol: u8) -> Option<SeenLink> {
    decode(payload).filter(|link| is_ours(link, protocol))
}

/// What the core is told of a tunnel of ours. One that we could not have made (of another kind, or half made) differs
/// from whatever is wanted.
pub(super) fn object(
    channel: &mut Channel,
    link: &SeenLink,
    links: &Links,
    protocol: u8,
) -> Option<TunnelObject> {
    let name_of = |index: u32| links.name(index).map_or_else(|| format!("if{index}"), str::to_owned);
    let mut tunnel = link.tunnel(name_of)?;
    // Half made: it wants its alias still.
    tunnel.up &= link.alias.as_deref() == Some(&*alias(protocol));
    tunnel.recursive = tunnel.up && leads_into_itself(channel, link.index, &tunnel);
    Some(tunnel)
}

/// True if the kernel would send the packets that carry into the tunnel itself. What cannot be found out is no.
fn leads_into_itself(channel: &mut Channel, index: IfIndex, tunnel: &TunnelObject) -> bool {
    if tunnel.device.is_some() {
        return false;
    }
    let fwmark = (tunnel.fwmark != 0).then_some(tunnel.fwmark);
    let origin = Origin { source: Some(tunnel.local), device: None, fwmark };
    matches!(egress::way_out(channel, tunnel.remote, &origin), Ok(Ok(Some(out))) if out == index.0)
}

/// Looks a link up by its name.
pub(super) fn find(channel: &mut Channel, name: &str) -> io::Result<Option<SeenLink>> {
    Ok(egress::link_message(channel, name, decode)?.ok().flatten())
}

/// Carries out an operation on a tunnel. `index_of` finds the device that its packets leave through.
pub(super) fn execute(
    channel: &mut Channel,
    action: &Action,
    index_of: impl Fn(&str) -> Option<IfIndex>,
    protocol: u8,
) -> Result<(), OpError> {
    let Object::Tunnel(tunnel) = action.object() else { return Ok(()) };
    let there = find(channel, &tunnel.name)
        .map_err(|e| OpError::Refused(format!("cannot see what is there: {e}")))?;
    let ours = there.as_ref().filter(|link| is_ours(link, protocol));
    if let Action::Delete(_) = action {
        return ours.map_or(Ok(()), |link| remove(channel, link.index));
    }
    if let Action::Examine(_) = action {
        let lost = ours.is_some_and(|link| leads_into_itself(channel, link.index, tunnel));
        return if lost { Err(OpError::Recursive(tunnel.remote.to_string())) } else { Ok(()) };
    }
    let device = match &tunnel.device {
        None => None,
        Some(dev) => Some(index_of(dev).ok_or_else(|| OpError::NoDevice(dev.clone()))?),
    };
    match (there.as_ref(), ours) {
        (None, _) => make(channel, tunnel, device, protocol),
        (Some(link), None) => Err(OpError::ForeignTunnel(link.describe())),
        (Some(_), Some(_)) if matches!(action, Action::Add(_)) => Err(OpError::OursExists),
        (Some(_), Some(link)) => change(channel, link, tunnel, device, protocol),
    }
}

fn make(
    channel: &mut Channel,
    tunnel: &TunnelObject,
    device: Option<IfIndex>,
    protocol: u8,
) -> Result<(), OpError> {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(tunnel.name.clone()), LinkAttribute::Group(group(protocol))];
    message.attributes.extend(tunnel.mtu.map(LinkAttribute::Mtu));
    message.attributes.push(wire::info(tunnel, device));
    send(channel, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map_err(|e| match e {
        Refusal::Errno(Errno::EOPNOTSUPP, _) => OpError::Refused(no_module(tunnel)),
        Refusal::Errno(Errno::EEXIST, _) => taken(channel, tunnel),
        other => other.into(),
    })?;
    let link = find(channel, &tunnel.name).ok().flatten().ok_or(OpError::NoAnswer)?;
    let mut message = LinkMessage::default();
    message.header.index = link.index.0;
    finish(&mut message, protocol);
    let done = send(channel, RouteNetlinkMessage::NewLink(message), 0).map_err(OpError::from);
    if done.is_err() {
        // An MTU or a device that does not fit: nothing half made is left.
        let _ = remove(channel, link.index);
    }
    done
}

/// Alias in the place of the group, and up.
fn finish(message: &mut LinkMessage, protocol: u8) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend([LinkAttribute::IfAlias(alias(protocol)), LinkAttribute::Group(0)]);
}

/// All attributes at once: what a change leaves out the kernel sets to its default (FIELD 13).
fn change(
    channel: &mut Channel,
    link: &SeenLink,
    tunnel: &TunnelObject,
    device: Option<IfIndex>,
    protocol: u8,
) -> Result<(), OpError> {
    let mut message = LinkMessage::default();
    message.header.index = link.index.0;
    message.attributes.extend(tunnel.mtu.map(LinkAttribute::Mtu));
    message.attributes.push(wire::info(tunnel, device));
    finish(&mut message, protocol);
    match send(channel, RouteNetlinkMessage::NewLink(message), 0) {
        Ok(()) => Ok(()),
        // This kernel cannot change it in place; what hung on it is put back by the next comparison.
        Err(Refusal::Errno(Errno::EOPNOTSUPP | Errno::EINVAL, _)) => {
            remove(channel, link.index)?;
            make(channel, tunnel, device, protocol)
        }
        Err(Refusal::Errno(Errno::EEXIST, _)) => Err(taken(channel, tunnel)),
        Err(other) => Err(other.into()),
    }
}

fn remove(channel: &mut Channel, index: IfIndex) -> Result<(), OpError> {
    let mut message = LinkMessage::default();
    message.header.index = index.0;
    match send(channel, RouteNetlinkMessage::DelLink(message), 0) {
        Err(Refusal::Errno(Errno::ENODEV, _)) => Ok(()),
        done => done.map_err(OpError::from),
    }
}

fn no_module(tunnel: &TunnelObject) -> String {
    let (mode, module) = (tunnel.mode.word(), tunnel.mode.module());
    format!(
        "this kernel knows no tunnels of mode {mode}: module {module} is missing; `modprobe {module}`, or a kernel package that has it"
    )
}

/// The name is free, so it is the ends: the kernel allows one tunnel for each mode, ends and key.
fn taken(channel: &mut Channel, tunnel: &TunnelObject) -> OpError {
    let mut other = None;
    let looked = channel.dump(
        &super::links::request(),
        || (),
        |payload| {
            let same = |link: &SeenLink| {
                let found = link.tunnel(|index| format!("if{index}"));
                link.name != tunnel.name
                    && found.is_some_and(|t| {
                        (t.mode, t.local, t.remote, t.ikey)
                            == (tunnel.mode, tunnel.local, tunnel.remote, tunnel.ikey)
                    })
            };
            if let Some(link) = decode(payload).filter(same) {
                other = Some(link.describe());
            }
        },
    );
    match (looked, other) {
        (Ok(()), Some(other)) => OpError::ForeignTunnel(format!("with the same ends and key, {other}")),
        _ => OpError::Refused("a tunnel with the same ends and key exists (EEXIST)".into()),
    }
}

enum Refusal {
    Errno(Errno, String),
    NoAnswer,
    Unsent(io::Error),
}

impl From<Refusal> for OpError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Errno(_, words) => OpError::Refused(words),
            Refusal::NoAnswer => OpError::NoAnswer,
            Refusal::Unsent(e) => OpError::Refused(format!("cannot send to the kernel: {e}")),
        }
    }
}

fn send(channel: &mut Channel, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
    let mut draft = Draft::default();
    draft.push(channel, message, flags, ());
    let returned = draft.send(channel).map_err(Refusal::Unsent)?;
    match returned.fates.into_iter().next() {
        Some(((), Fate::Done)) => Ok(()),
        Some(((), Fate::Refused(errno, words))) => {
            Err(Refusal::Errno(Errno::from_raw(errno), refusal(errno, words)))
        }
        _ => Err(Refusal::NoAnswer),
    }
}
