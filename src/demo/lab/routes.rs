//! What a host's kernel routes where, as it happens.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use futures::TryStreamExt;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::RouteMessageBuilder;

use super::{Doing, Host, Result, wire};
use crate::net::Prefix;

/// The multicast group RTNLGRP_IPV4_ROUTE (7), as a bit.
const IPV4_ROUTE: u32 = 1 << 6;

/// A route of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Whereto; the default route is 0.0.0.0/0.
    pub to: Prefix,
    /// Through this gateway.
    pub via: Option<IpAddr>,
    /// Who put it there (`proto` in the words of `ip route`).
    pub protocol: u8,
    /// Its table; 254 is main.
    pub table: u32,
}

/// A change that the kernel told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When it was read.
    pub at: Instant,
    /// True: added or replaced; false: deleted.
    pub added: bool,
    /// What.
    pub route: Route,
}

impl Route {
    fn parse(message: &RouteMessage) -> Option<Self> {
        let mut to = IpAddr::from([0, 0, 0, 0]);
        let (mut via, mut table) = (None, u32::from(message.header.table));
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(a)) => to = IpAddr::V4(*a),
                RouteAttribute::Gateway(RouteAddress::Inet(a)) => via = Some(IpAddr::V4(*a)),
                RouteAttribute::Table(t) => table = *t,
                _ => {}
            }
        }
        let to = Prefix::containing(to, message.header.destination_prefix_length)?;
        Some(Route { to, via, protocol: message.header.protocol.into(), table })
    }
}

/// The IPv4 routes to exactly `to` that the host has.
pub fn routes_to(host: &Host, to: Prefix) -> Result<Vec<Route>> {
    let all: Vec<RouteMessage> = wire::netlink(host, "reading routes", async |h| {
        h.route().get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).execute().try_collect().await
    })?;
    Ok(all.iter().filter_map(Route::parse).filter(|r| r.to == to).collect())
}

/// The changes of a host's routes from now on.
#[derive(Debug)]
pub struct Watch {
    changes: Receiver<Change>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(host: &Host) -> Result<Self> {
        let doing = || format!("watching the routes of {}", host.name());
        let socket = host.in_network(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).doing(doing())?;
            socket.bind(&SocketAddr::new(0, IPV4_ROUTE)).doing(doing())?;
            Ok(socket)
        })?;
        let (sender, changes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if readable(&socket) && !forward(&socket, &sender) {
                    return;
                }
            }
        });
        Ok(Watch { changes, stop, thread: Some(thread) })
    }

    /// What has happened since the last call.
    pub fn news(&self) -> Vec<Change> {
        self.changes.try_iter().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for news, a moment at most.
fn readable(socket: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::from(50u8)), Ok(n) if n > 0)
}

/// Passes on what one datagram tells; false if nobody listens any more.
fn forward(socket: &Socket, sender: &Sender<Change>) -> bool {
    let Ok((bytes, _)) = socket.recv_from_full() else { return true };
    let at = Instant::now();
    let mut rest = bytes.as_slice();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
        let length = (message.header.length as usize).next_multiple_of(4);
        let (added, route) = match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(r)) => (true, Route::parse(r)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(r)) => (false, Route::parse(r)),
            _ => (false, None),
        };
        if let Some(route) = route {
            if sender.send(Change { at, added, route }).is_err() {
                return false;
            }
        }
        match rest.get(length.max(1)..) {
            Some(more) if !more.is_empty() => rest = more,
            _ => break,
        }
    }
    true
}
