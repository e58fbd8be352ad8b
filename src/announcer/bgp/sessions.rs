//! What a peer's session says to the checks of type `bgp` that watch it.

use std::time::Duration;

use super::Peering;
use crate::announcer::Announcer;
use crate::announcer::event::PeerId;
use crate::announcer::timers::CheckId;
use crate::bgp::{PeerEvent, PeerState};
use crate::config::model::Probe;
use crate::health::Verdict;
use crate::time::Time;

/// The acknowledgement of a KEEPALIVE that takes longer was sent again by TCP: the line may have been cut meanwhile.
const PROMPT: Duration = Duration::from_millis(500);

impl Announcer {
    /// It is a witness as a probe's success is: a takeover may have waited for it.
    pub(super) fn note_sign_of_life(&mut self, id: PeerId, now: Time) {
        let Some(name) = self.peers.all.get(&id).map(|p| p.config.session.name.clone()) else { return };
        for check in self.checks_of_session(&name) {
            if let Some(seen) = self.checks.get_mut(&check) {
                let is_late = seen.answered(PROMPT, now);
                if is_late {
                    self.note_trouble(check, now);
                }
                self.seen_alive(check, now, now);
                self.note_success(check, false, now);
                self.reconsider(check, false, now);
            }
        }
    }

    fn checks_of_session(&self, name: &str) -> Vec<CheckId> {
        let watches = |p: &Probe| matches!(p, Probe::Bgp(b) if &*b.peer == name);
        self.checks.iter().filter(|(_, c)| watches(&c.config.probe)).map(|(id, _)| *id).collect()
    }

    /// A session that lives says so when it is asked: its TCP acknowledges a KEEPALIVE. When that goes out; None without a session.
    pub(in crate::announcer) fn ask_session(&mut self, name: &str, now: Time) -> Option<Time> {
        let live = |p: &Peering| !p.retired && p.config.session.name == name;
        let (id, peering) = self.peers.all.iter().find(|(_, p)| live(p))?;
        let (id, asks_at) = (*id, peering.peer.may_ask_for_life_at(now)?);
        self.on_bgp(id, PeerEvent::AskForLife, now);
        Some(asks_at)
    }

    /// A session that has its time to come back, after what may have been our own isolation, does not spend it in the
    /// back-off that grew meanwhile.
    pub(in crate::announcer) fn try_session(&mut self, check: CheckId, now: Time) {
        let Some(Probe::Bgp(watched)) = self.checks.get(&check).map(|c| c.config.probe.clone()) else {
            return;
        };
        let live = |p: &Peering| !p.retired && *p.config.session.name == *watched.peer;
        let found = self.peers.all.iter().find(|(_, p)| live(p)).map(|(id, _)| *id);
        if let Some(id) = found {
            self.on_bgp(id, PeerEvent::TryNow, now);
        }
    }

    /// When we try next, or tried, after that peer turned us away; None if it did not, or the last try found nobody there.
    pub(in crate::announcer) fn turned_away(&self, name: &str) -> Option<Time> {
        let live = |p: &&Peering| !p.retired && p.config.session.name == name;
        self.peers.all.values().find(live)?.peer.turned_away()
    }

    /// The checks of type `bgp` on that peer. Who leaves closes the sessions itself: that is nothing wrong, and
    /// must not make FAULT of a MASTER that hands over or keeps its routes.
    pub(super) fn session_news(&mut self, name: &str, wrong: Option<&str>, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        for id in self.checks_of_session(name) {
            self.tell_check(id, wrong, now);
        }
    }

    /// A reload resets the session, which says nothing of the peer: until there is a new one nothing is known.
    pub(super) fn forget_session(&mut self, name: &str, now: Time) {
        for id in self.checks_of_session(name) {
            let up = self.checks.get(&id).is_some_and(|c| c.verdict() == Verdict::Up);
            if up && self.forget_check(id, "its session begins anew with another configuration", now) {
                self.give_session_time(id, now);
                self.reconsider(id, true, now);
            }
        }
    }

    /// True while its checks have time to learn of the session that follows on a reset one: a peer may refuse until it has
    /// closed the old one.
    pub(super) fn is_awaited(&self, name: &str, now: Time) -> bool {
        let checks = self.checks_of_session(name).into_iter().filter_map(|id| self.checks.get(&id));
        checks.filter_map(|c| c.lapses_at()).any(|at| now < at)
    }

    /// Whether the session that a check of type `bgp` watches is up; None if there was none yet and no try failed.
    pub(in crate::announcer) fn session_state(&self, name: &str) -> Option<Result<(), String>> {
        let peering = self.peers.all.values().find(|p| p.config.session.name == name && !p.retired)?;
        let status = peering.peer.status();
        match status.state {
            PeerState::Established => Some(Ok(())),
            _ => status.last_error.map(Err),
        }
    }
}
