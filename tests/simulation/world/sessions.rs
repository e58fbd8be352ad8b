//! The ISPs' sessions: what is on them is what is wanted.

use announcerd::announcer::event::PeerId;
use announcerd::announcer::journal::State;
use announcerd::bgp::PeerEffect;
use announcerd::net::Prefix;

use super::{Meds, SECOND, World};
use crate::isp::Silence;
use crate::view::Heard;

impl World {
    pub(super) fn bgp(&mut self, peer: PeerId, effect: PeerEffect) {
        if let Some(isp) = self.isps.iter().position(|isp| isp.is(peer)) {
            let announced = self.isps[isp].effect(peer, effect, &mut self.core, self.now);
            self.judge(isp, &announced);
        }
    }

    /// Nothing is ever announced that is not wanted at that moment, and each with the attributes that are.
    pub(super) fn judge(&mut self, isp: usize, announced: &[(Prefix, Heard)]) {
        if announced.is_empty() {
            return;
        }
        self.unproved[isp] = true;
        // A stop and a maintenance say it once more, with GRACEFUL_SHUTDOWN, before they withdraw.
        let draining = (self.stopping && self.core.is_stopping()) || self.maintenance;
        let state = self.state;
        let [master, backup] = &self.wanted[isp];
        for (prefix, heard) in announced {
            let is = |meds: &Meds| meds.get(prefix) == Some(&heard.med);
            let wanted = match state {
                State::Master => is(master) || is(backup),
                State::Backup => is(backup),
                State::Init => self.resumed && is(master),
                State::Fault | State::Stop => false,
            };
            let allowed = if draining { is(master) || is(backup) } else { wanted };
            let name = self.isps[isp].name;
            // What is to stay is told as it was.
            let words = heard.graceful_shutdown == draining || (self.stopping && self.is_keeping());
            assert!(allowed && words, "seed {}: told {name} of {prefix} in {state:?}: {heard:?}", self.seed);
        }
    }

    /// Whenever nothing is on its way to an ISP, what it knows is what is wanted.
    pub(super) fn prove(&mut self) {
        for isp in 0..self.isps.len() {
            if !self.unproved[isp] {
                continue;
            }
            let Some(view) = self.isps[isp].settled() else { continue };
            let state = self.state;
            let meds: Meds = view.routes.iter().map(|(p, h)| (*p, h.med)).collect();
            let [master, backup] = &self.wanted[isp];
            let draining = (self.stopping && self.core.is_stopping()) || self.maintenance;
            let right = match state {
                _ if draining => {
                    let kept = self.stopping && self.is_keeping();
                    meds.is_empty()
                        || (meds == *master || meds == *backup)
                            && (kept || view.routes.values().all(|h| h.graceful_shutdown))
                }
                // Until the kernel has what MASTER needs, the `backup` attributes hold.
                State::Master => meds == *master || meds == *backup,
                State::Backup => meds == *backup,
                State::Init => meds.is_empty() || self.resumed && meds == *master,
                State::Fault | State::Stop => meds.is_empty(),
            };
            let name = self.isps[isp].name;
            assert!(right, "seed {} at {:?}: {name} has {meds:?} in {state:?}", self.seed, self.now);
            self.unproved[isp] = false;
        }
    }

    /// Something happens to a session.
    pub(super) fn trouble(&mut self) {
        let span = self.rng.between(SECOND, 100 * SECOND);
        let (what, now) = (self.rng.below(10), self.now);
        let which = usize::try_from(self.rng.below(self.isps.len() as u64)).expect("few");
        self.session_hurt |= which == 2;
        let isp = &mut self.isps[which];
        match what {
            0 => isp.reset(now),
            1 => isp.reboot(now),
            2 | 3 => isp.cut(Silence::Line, true, now),
            4..=6 => isp.cut(Silence::Line, false, now),
            7 => isp.blackhole(),
            8 => isp.stall(span, now),
            _ => isp.storm(now),
        }
    }
}
