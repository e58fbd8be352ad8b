//! What a receiver learns from our octets. A withdraw of what was never announced resets sessions elsewhere (exabgp
//! #954), and a route that a refresh left out is lost (RFC 7313 section 4): both fail the run.

use std::collections::{BTreeMap, BTreeSet};

use announcerd::bgp::wire::attribute::{RawAttribute, code};
use announcerd::bgp::wire::header::{Frame, MessageType, frame};
use announcerd::bgp::wire::refresh::{RefreshKind, RouteRefresh};
use announcerd::bgp::wire::update::{Update, UpdateContext};
use announcerd::net::{Family, Prefix};

/// What tells our routes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    pub med: Option<u32>,
    /// With RFC 8326's community.
    pub graceful_shutdown: bool,
}

/// The routes of one connection.
#[derive(Debug, Default)]
pub struct View {
    pub routes: BTreeMap<Prefix, Heard>,
    /// Families whose initial table is complete.
    pub ended: BTreeSet<Family>,
    stale: BTreeMap<Family, BTreeSet<Prefix>>,
    rest: Vec<u8>,
}

impl View {
    /// Takes octets as TCP hands them over; what they announced.
    pub fn read(&mut self, octets: &[u8]) -> Vec<(Prefix, Heard)> {
        let mut announced = Vec::new();
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(octets);
        let mut unread = rest.as_slice();
        while let Frame::Message(kind, length) = frame(unread, true).expect("our message is well formed") {
            let (message, behind) = unread.split_at(length);
            unread = behind;
            match kind {
                MessageType::Update => self.update(&message[19..], &mut announced),
                MessageType::RouteRefresh => self.refresh(message),
                _ => {}
            }
        }
        self.rest = unread.to_vec();
        announced
    }

    fn update(&mut self, body: &[u8], announced: &mut Vec<(Prefix, Heard)>) {
        let context = UpdateContext { four_octet: true, external: true };
        let update = Update::parse(body, context).expect("our UPDATE is well formed");
        assert_eq!(update.fault, None);
        if let Some(family) = update.end_of_rib() {
            assert!(self.ended.insert(family), "End-of-RIB twice");
            return;
        }
        for prefix in update.withdrawals() {
            assert!(self.routes.remove(&prefix).is_some(), "{prefix} withdrawn, never announced");
            self.refreshed(prefix);
        }
        let mut heard = Heard { med: None, graceful_shutdown: false };
        for RawAttribute { code, value, .. } in update.attributes.map(|a| a.expect("a whole attribute")) {
            match code {
                code::MULTI_EXIT_DISC => {
                    heard.med = Some(u32::from_be_bytes(value.try_into().expect("four octets")));
                }
                code::COMMUNITIES => {
                    heard.graceful_shutdown = value.chunks(4).any(|c| c == [0xff, 0xff, 0, 0]);
                }
                _ => {}
            }
        }
        for prefix in update.announced() {
            self.routes.insert(prefix, heard);
            self.refreshed(prefix);
            announced.push((prefix, heard));
        }
    }

    fn refreshed(&mut self, prefix: Prefix) {
        if let Some(stale) = self.stale.get_mut(&prefix.family()) {
            stale.remove(&prefix);
        }
    }

    fn refresh(&mut self, message: &[u8]) {
        let parsed = RouteRefresh::parse(message, true).expect("our ROUTE-REFRESH is well formed");
        let RouteRefresh { kind, family } = parsed.expect("of a known family");
        match kind {
            RefreshKind::Request => {}
            RefreshKind::Begin => {
                let all = self.routes.keys().copied().filter(|p| p.family() == family).collect();
                assert!(self.stale.insert(family, all).is_none(), "BoRR before EoRR");
            }
            RefreshKind::End => {
                let left = self.stale.remove(&family).expect("EoRR without BoRR");
                assert!(left.is_empty(), "not refreshed: {left:?}");
            }
        }
    }
}
