//! What a receiver makes of our octets: a model of the peer's Adj-RIB-In that panics at anything a peer could complain
//! about.

use std::collections::{HashMap, HashSet};

use crate::bgp::wire::attribute::{RawAttribute, code};
use crate::bgp::wire::header::{Frame, MessageType, frame};
use crate::bgp::wire::refresh::{RefreshKind, RouteRefresh};
use crate::bgp::wire::update::{Update, UpdateContext};
use crate::net::{Family, Prefix};

/// What the tests look at in a route.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    pub med: Option<u32>,
    pub graceful_shutdown: bool,
    pub as_path: Vec<u8>,
    pub next_hop: Vec<u8>,
}

/// The routes of one session.
#[derive(Debug, Default)]
pub struct View {
    pub routes: HashMap<Prefix, Heard>,
    pub ended: Vec<Family>,
    stale: HashMap<Family, HashSet<Prefix>>,
    pub updates: usize,
    pub keepalives: usize,
    pub refreshes: Vec<(RefreshKind, Family)>,
    /// The peer has four-octet AS numbers.
    pub four_octet: bool,
}

/// A change that a message made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Announced(Prefix, Heard),
    Withdrawn(Prefix),
}

impl View {
    pub fn new() -> Self {
        View { four_octet: true, ..View::default() }
    }

    /// Reads whole messages; what changed, in order.
    pub fn read(&mut self, mut octets: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        while !octets.is_empty() {
            let Ok(Frame::Message(kind, length)) = frame(octets, true) else { panic!("not whole messages") };
            let (message, rest) = octets.split_at(length);
            octets = rest;
            match kind {
                MessageType::Update => self.update(&message[19..], &mut changes),
                MessageType::Keepalive => self.keepalives += 1,
                MessageType::RouteRefresh => self.refresh(message),
                MessageType::Open | MessageType::Notification => {}
            }
        }
        changes
    }

    fn update(&mut self, body: &[u8], changes: &mut Vec<Change>) {
        self.updates += 1;
        let context = UpdateContext { four_octet: self.four_octet, external: true };
        let update = Update::parse(body, context).expect("our own UPDATE resets the session");
        assert_eq!(update.fault, None);
        if let Some(family) = update.end_of_rib() {
            assert!(!self.ended.contains(&family), "End-of-RIB twice");
            self.ended.push(family);
            return;
        }
        for prefix in update.withdrawals() {
            // FIELD 15.
            assert!(self.routes.remove(&prefix).is_some(), "{prefix} withdrawn, never announced");
            self.forget_stale(prefix);
            changes.push(Change::Withdrawn(prefix));
        }
        let mut heard = Heard { next_hop: update.mp_next_hop.to_vec(), ..Heard::default() };
        for RawAttribute { code, value, .. } in update.attributes.map(Result::unwrap) {
            match code {
                code::MULTI_EXIT_DISC => heard.med = Some(u32::from_be_bytes(value.try_into().unwrap())),
                code::NEXT_HOP => heard.next_hop = value.to_vec(),
                code::AS_PATH => heard.as_path = value.to_vec(),
                code::COMMUNITIES => {
                    heard.graceful_shutdown = value.chunks(4).any(|octets| octets == [0xff, 0xff, 0, 0]);
                }
                _ => {}
            }
        }
        for prefix in update.announced() {
            self.routes.insert(prefix, heard.clone());
            self.forget_stale(prefix);
            changes.push(Change::Announced(prefix, heard.clone()));
        }
    }

    fn forget_stale(&mut self, prefix: Prefix) {
        if let Some(stale) = self.stale.get_mut(&prefix.family()) {
            stale.remove(&prefix);
        }
    }

    /// RFC 7313 section 4.
    fn refresh(&mut self, message: &[u8]) {
        let RouteRefresh { kind, family } = RouteRefresh::parse(message, true).unwrap().unwrap();
        self.refreshes.push((kind, family));
        match kind {
            RefreshKind::Request => {}
            RefreshKind::Begin => {
                let all = self.routes.keys().copied().filter(|prefix| prefix.family() == family).collect();
                assert!(self.stale.insert(family, all).is_none(), "BoRR before EoRR");
            }
            RefreshKind::End => {
                let left = self.stale.remove(&family).expect("EoRR without BoRR");
                assert!(left.is_empty(), "not refreshed: {left:?}");
            }
        }
    }
}
