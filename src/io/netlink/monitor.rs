//! The thread that hears news: of links, of addresses, of routes with our mark.
//!
//! A socket of its own, read directly: rtnetlink's monitor hands news on through an unbounded channel. The kernel
//! drops foreign routes before they are queued (a socket filter on the protocol), so a full BGP table that comes and
//! goes neither costs us anything nor pushes out what concerns us. News that our own operations cause name our
//! socket, and are no news; those the kernel does not name cause a hint too many, at most ten a second.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use netlink_packet_core::{NLMSG_OVERRUN, NetlinkHeader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockFilter, SockRef};

use super::decode::{PROTOCOL_OFFSET, protocol_of};
use super::dump::all_links;
use super::hint::Hint;
use super::links::{self, Links};
use super::socket::Channel;
use super::{rules, tunnels};
use crate::announcer::Event;

/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE,
/// RTNLGRP_IPV6_RULE.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
/// Datagrams read before hints are looked after again.
const TURN: usize = 256;

pub(super) struct Monitor {
    news: Channel,
    asking: Channel,
    links: Arc<RwLock<Links>>,
    events: tokio::sync::mpsc::Sender<Event>,
    protocol: u8,
    /// The sockets whose doings are our own.
    own: Vec<u32>,
    hint: Hint,
}

/// Nobody listens any more.
struct Gone;

impl Monitor {
    /// Subscribes, then reads the links: what changes in between is heard of. `receive_queue`: octets, for tests.
    pub fn open(
        events: tokio::sync::mpsc::Sender<Event>,
        protocol: u8,
        own: Vec<u32>,
        receive_queue: Option<usize>,
    ) -> io::Result<Self> {
        let mut news = Channel::open()?;
        SockRef::from(news.as_socket()).attach_filter(&filter(protocol))?;
        if let Some(octets) = receive_queue {
            SockRef::from(news.as_socket()).set_recv_buffer_size(octets)?;
        }
        for group in GROUPS {
            news.socket().add_membership(group)?;
        }
        let mut asking = Channel::open()?;
        let links = Arc::new(RwLock::new(all_links(&mut asking)?));
        Ok(Monitor { news, asking, links, events, protocol, own, hint: Hint::default() })
    }

    /// The interfaces, kept up to date.
    pub fn links(&self) -> Arc<RwLock<Links>> {
        Arc::clone(&self.links)
    }

    /// Until the other end of `stop` is closed, or nobody listens any more.
    pub fn run(mut self, stop: &UnixStream) {
        let initial = self.links.read().unwrap_or_else(PoisonError::into_inner).states();
        if self.tell(initial.into_iter().map(Event::LinkIs).collect()).is_err() {
            return;
        }
        while self.wait(stop) && self.turn().is_ok() {}
    }

    /// Waits for news or for the hint's time. False: the end.
    fn wait(&self, stop: &UnixStream) -> bool {
        let timeout = match self.hint.due_in(Instant::now()) {
            // A millisecond more: poll counts whole ones.
            Some(wait) => PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.news.as_socket().as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => !fds[1].any().unwrap_or(false),
            Err(nix::errno::Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    fn turn(&mut self) -> Result<(), Gone> {
        let mut told = Vec::new();
        let mut lost = false;
        for _ in 0..TURN {
            match self.news.receive(libc::MSG_DONTWAIT) {
                Ok(frames) => {
                    for (header, payload) in frames {
                        lost |= header.message_type == NLMSG_OVERRUN;
                        let own = self.own.contains(&header.port_number);
                        hear(&header, payload, own, self.protocol, &self.links, &mut self.hint, &mut told);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // ENOBUFS, and whatever else: news were lost.
                Err(_) => lost = true,
            }
            if lost {
                break;
            }
        }
        if lost {
            self.resync(&mut told);
        }
        self.tell(told)?;
        let events = &self.events;
        self.hint.give(Instant::now(), || events.try_send(Event::KernelChanged).is_ok());
        Ok(())
    }

    /// After a loss: the links anew (the core asks for the rest, on the hint).
    fn resync(&mut self, told: &mut Vec<Event>) {
        self.hint.want();
        if let Ok(fresh) = all_links(&mut self.asking) {
            told.extend(self.links.write().unwrap_or_else(PoisonError::into_inner).resync(fresh));
        }
    }

    /// Links must not get lost: waits for room; the kernel keeps further news meanwhile.
    fn tell(&self, events: Vec<Event>) -> Result<(), Gone> {
        events.into_iter().try_for_each(|event| self.events.blocking_send(event).map_err(|_| Gone))
    }
}

fn hear(
    header: &NetlinkHeader,
    payload: &[u8],
    own: bool,
    protocol: u8,
    links: &RwLock<Links>,
    hint: &mut Hint,
    told: &mut Vec<Event>,
) {
    match header.message_type {
        NEW_LINK | DELETE_LINK => {
            let Some((index, link)) = links::decode(payload) else { return };
            let mut links = links.write().unwrap_or_else(PoisonError::into_inner);
            let before = told.len();
            if header.message_type == NEW_LINK {
                told.extend(links.changed(index, link));
            } else {
                told.extend(links.gone(index));
            }
            // The kernel removes routes with a link that goes down, without a word about them.
            // And what was changed of a tunnel of ours is nothing that the table of links shows.
            if told.len() > before || tunnels::ours(payload, protocol).is_some() {
                hint.want();
            }
        }
        NEW_ROUTE | DELETE_ROUTE if !own && protocol_of(payload) == Some(protocol) => hint.want(),
        NEW_RULE | DELETE_RULE if !own && rules::decode(payload).is_some_and(|r| r.protocol == protocol) => {
            hint.want();
        }
        // Anybody's: routes of ours can hang on it, or become possible by it.
        NEW_ADDRESS | DELETE_ADDRESS if !own => hint.want(),
        _ => {}
    }
}

/// Lets through all but routes of other protocols. Classic BPF reads big-endian: the type is compared octet by octet
/// in the machine's order.
fn filter(protocol: u8) -> [SockFilter; 7] {
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let swapped = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let protocol_at = 16 + PROTOCOL_OFFSET as u32;
    [
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(EQUAL, 1, 0, swapped(NEW_ROUTE)),
        SockFilter::new(EQUAL, 0, 2, swapped(DELETE_ROUTE)),
        SockFilter::new(LOAD_OCTET, 0, 0, protocol_at),
        SockFilter::new(EQUAL, 0, 1, u32::from(protocol)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
