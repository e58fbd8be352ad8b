//! Peers after a reload: which sessions stay, which end, which begin.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Begin, NO_SESSION, Peering, table};
use crate::announcer::Announcer;
use crate::announcer::event::PeerId;
use crate::announcer::timers::Timer;
use crate::bgp::{PeerEvent, PeerState, StopCause};
use crate::config::model::Bgp;
use crate::time::Time;

/// What is known of a session that ended: whom it was with, and whether that peer's routes were preserved.
type Reset = (IpAddr, bool);

impl Announcer {
    /// New peers, changed ones, new announcements. A session whose own configuration did not change stays up.
    pub(in crate::announcer) fn reload_peers(&mut self, now: Time) {
        if !self.peers.started {
            return;
        }
        let mut reset: BTreeMap<String, Reset> = BTreeMap::new();
        let ids: Vec<PeerId> = self.peers.all.iter().filter(|(_, p)| !p.retired).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(Peering { config: old, preserved, .. }) = self.peers.all.get(&id) else { continue };
            let new = self.config.bgp.iter().find(|b| b.session.name == old.session.name).cloned();
            match new {
                Some(new) if new.session == old.session && new.password == old.password => {
                    self.keep_peer(id, new, now);
                }
                changed => {
                    reset.insert(old.session.name.clone(), (old.session.peer, *preserved));
                    let is_configured = changed.is_some();
                    self.retire_peer(id, is_configured, now);
                }
            }
        }
        self.add_new_peers(&reset, now);
        if !self.peers.all.values().any(|p| p.peer.state() == PeerState::Established) {
            self.timers.set(Timer::NoSession, Some(now + NO_SESSION));
        }
        self.announce_peers();
    }

    /// Its session stays; what it may hear, and what guards it, may be something else now.
    fn keep_peer(&mut self, id: PeerId, new: Arc<Bgp>, now: Time) {
        let table = table(&self.config, &new);
        // Its BFD goes its own way: what was known of it may have been about another path or key.
        let is_guarded = new.bfd.as_ref().map(|b| self.is_bfd_settled(&b.path));
        let Some(peering) = self.peers.all.get_mut(&id) else { return };
        peering.config = new;
        if table != *peering.table {
            peering.table = Arc::new(table);
            // Told anew, whatever the claims: they were about the old table.
            peering.table_is_new = true;
        }
        if let Some(up) = is_guarded {
            self.on_bgp(id, if up { PeerEvent::BfdUp } else { PeerEvent::BfdAwaited }, now);
        }
    }

    fn retire_peer(&mut self, id: PeerId, is_configured: bool, now: Time) {
        let Some(peering) = self.peers.all.get_mut(&id) else { return };
        peering.retired = true;
        let name = peering.config.session.name.clone();
        let cause = if is_configured { StopCause::ConfigurationChange } else { StopCause::Deconfigured };
        let (moment, message) = (Duration::ZERO, String::new());
        self.on_bgp(id, PeerEvent::Stop { moment, cause, message }, now);
        self.forget_session(&name, now);
    }

    fn add_new_peers(&mut self, reset: &BTreeMap<String, Reset>, now: Time) {
        let live = |name: &str| self.peers.all.values().any(|p| !p.retired && p.config.session.name == name);
        let new = self.config.bgp.iter().filter(|b| !live(&b.session.name)).cloned();
        for bgp in new.collect::<Vec<_>>() {
            let before = reset.get(&bgp.session.name);
            let preserved = before.is_some_and(|(peer, preserved)| *peer == bgp.session.peer && *preserved);
            // That is no restart of ours (RFC 4724 section 4.1): no R bit.
            let begin = Begin { restarted: false, preserved, anew: before.is_some() };
            self.add_peer(bgp, begin, now);
        }
    }
}
