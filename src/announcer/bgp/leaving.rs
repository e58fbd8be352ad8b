//! Peers that are left: maintenance, stop, handover.

use std::time::Duration;

use super::{GSHUT, Maintenance, Peering, announcements};
use crate::announcer::Announcer;
use crate::announcer::conduct::Member;
use crate::announcer::event::PeerId;
use crate::announcer::operate::kept_for;
use crate::announcer::timers::{InstanceId, Timer};
use crate::bgp::{Claim, PeerEvent, PeerState, StopCause};
use crate::config::model::Announce;
use crate::time::Time;

impl Announcer {
    /// How long the peers take to drain: nothing where no session is up.
    pub(in crate::announcer) fn gshut_moment(&self) -> Duration {
        let up = self.peers.all.values().any(|p| p.peer.state() == PeerState::Established);
        if up { GSHUT } else { Duration::ZERO }
    }

    /// How long peers go on hearing of what this MASTER announces when we stop.
    pub(in crate::announcer) fn moment_of(&self, id: InstanceId) -> Duration {
        let Some(member) = self.members.get(&id) else { return Duration::ZERO };
        let hears = |p: &Peering| {
            let mut claims = announcements(&self.config, &p.config).zip(&p.claims);
            let theirs = |((name, _), claim): ((&str, &Announce), &Claim)| {
                *name == **member.name() && matches!(claim, Claim::Master(_))
            };
            p.peer.state() == PeerState::Established && claims.any(theirs)
        };
        if self.peers.all.values().any(|p| !p.retired && hears(p)) { GSHUT } else { Duration::ZERO }
    }

    /// Every peer closes, and each forgets what is not to stay. (What stays in the kernel stays announced where a peer
    /// knows graceful restart.)
    pub(in crate::announcer) fn stop_peers(&mut self, now: Time) {
        let moment = self.gshut_moment();
        let message = format!("announcerd on {} stops", self.config.node.name);
        let ids: Vec<PeerId> = self.peers.all.keys().copied().collect();
        for id in ids {
            let claims = self.kept_claims(id);
            self.on_bgp(id, PeerEvent::Keep { claims }, now);
            let (cause, message) = (StopCause::Shutdown, message.clone());
            self.on_bgp(id, PeerEvent::Stop { moment, cause, message }, now);
        }
    }

    /// Of what a peer heard last: what its instances leave as it is. Maintenance leaves nothing.
    fn kept_claims(&self, id: PeerId) -> Vec<Claim> {
        let Some(peering) = self.peers.all.get(&id).filter(|p| !p.retired && !self.in_maintenance()) else {
            return Vec::new();
        };
        let heard = announcements(&self.config, &peering.config).zip(&peering.claims);
        let is_kept = |m: &Member| kept_for(m).is_some() && !m.instance.is_mere_exercise();
        let kept = |name| self.member(name).is_some_and(|(_, m)| is_kept(m));
        heard.map(|((name, _), claim)| if kept(name) { claim.clone() } else { Claim::None }).collect()
    }

    /// Every peer closes so that it keeps our routes where graceful restart allows.
    pub(in crate::announcer) fn hand_over_peers(&mut self, now: Time) {
        let ids: Vec<PeerId> = self.peers.all.keys().copied().collect();
        ids.into_iter().for_each(|id| self.on_bgp(id, PeerEvent::Handover, now));
    }

    /// True if no session is left to be closed.
    pub(in crate::announcer) fn peers_are_gone(&self) -> bool {
        self.peers.all.values().all(|p| p.stopped)
    }

    /// `maintenance on|off`.
    pub(in crate::announcer) fn set_maintenance(&mut self, on: bool, now: Time) -> String {
        let already = (self.peers.maintenance != Maintenance::Off) == on;
        if already {
            return format!("maintenance is {} already", if on { "on" } else { "off" });
        }
        let moment = self.gshut_moment();
        self.peers.maintenance =
            if on { Maintenance::Draining { until: now + moment } } else { Maintenance::Off };
        self.memory_stale = true;
        let ids: Vec<PeerId> = self.peers.all.keys().copied().collect();
        for id in ids {
            let event = if on { PeerEvent::MaintenanceOn { moment } } else { PeerEvent::MaintenanceOff };
            self.on_bgp(id, event, now);
        }
        self.timers.set(Timer::Maintenance, Some(if on { now + moment } else { now }));
        match on {
            true => "maintenance: draining; nothing is announced until `announcerctl maintenance off`".into(),
            false => "maintenance is over; the ordinary rules decide".into(),
        }
    }

    /// The peers have had their moment (or maintenance is over): the instances follow.
    pub(in crate::announcer) fn on_maintenance(&mut self, now: Time) {
        if let Maintenance::Draining { until } = self.peers.maintenance {
            if until <= now {
                self.peers.maintenance = Maintenance::On;
            }
        }
        let drained = self.peers.maintenance == Maintenance::On;
        let ids: Vec<InstanceId> = self.members.keys().copied().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.instance.set_maintenance(drained);
            }
            self.evaluate(id, now);
        }
    }

    /// True from `maintenance on` to `maintenance off`.
    pub(in crate::announcer) fn in_maintenance(&self) -> bool {
        self.peers.maintenance != Maintenance::Off
    }
}
