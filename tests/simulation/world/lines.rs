//! What is wrong with the primary, with our uplink and with the sessions over them; and what verdicts may follow from it.

use announcerd::announcer::journal::{Record, State};
use announcerd::bfd::State as Bfd;
use announcerd::config::model::Probe;
use announcerd::status::{Status, WallClock};
use announcerd::time::Time;

use super::World;
use crate::isp::Silence;
use crate::neighbour::Line;
use crate::scenario;

impl World {
    /// Everybody's lines as the network is now.
    pub(super) fn set_lines(&mut self) {
        let (net, now) = (&self.net, self.now);
        self.session_hurt |= net.primary_dead || net.http_dead;
        for isp in &mut self.isps {
            let is_primary = isp.name == scenario::PRIMARY;
            let by_uplink = is_primary || (isp.name == "isp-a" && self.isp_is_uplink);
            isp.cut(Silence::Ours, by_uplink && net.uplink_dead, now);
            isp.cut(Silence::Theirs, is_primary && net.primary_dead, now);
            isp.refuse(is_primary && net.http_dead, now);
        }
        for neighbour in &mut self.neighbours {
            let (dead, off) = match neighbour.check {
                "uplink-bfd" => (net.gateway_bfd_dead, net.gateway_bfd_off),
                _ => (net.primary_dead || net.bfd_dead, net.bfd_off),
            };
            let line = match (net.uplink_dead, net.uplink_says_so, dead) {
                (true, true, _) => Line::Mute,
                (true, false, _) | (_, _, true) => Line::Silent,
                _ => Line::Alive,
            };
            neighbour.set(line, net.loss, off, now);
        }
    }

    /// Something happens to a BFD session that happens to nothing else.
    pub(super) fn bother_neighbours(&mut self) {
        let now = self.now;
        match self.rng.below(6) {
            0 => self.net.bfd_dead = true,
            1 => self.net.gateway_bfd_dead = self.rng.chance(0.3),
            2 => self.net.bfd_off = true,
            3 => self.net.gateway_bfd_off = self.rng.chance(0.5),
            4 => {
                self.net.trouble_at = now;
                self.neighbours.iter_mut().for_each(|n| n.restarts(now));
            }
            _ => {
                let net = &mut self.net;
                (net.bfd_dead, net.bfd_off, net.gateway_bfd_dead) = (false, false, false);
            }
        }
    }

    /// Something is wrong with the primary or the way to it, our own isolation left aside. That its operator does not want
    /// BFD is nothing wrong (RFC 5882 section 3.2).
    pub(super) fn is_primary_in_trouble(&mut self) -> bool {
        if self.session_hurt && self.is_session_well() {
            self.session_hurt = false;
        }
        let net = &self.net;
        net.primary_dead || net.http_dead || net.bfd_dead || net.loss > 0.0 || self.session_hurt
    }

    /// The primary's own session, if there is one.
    fn is_session_well(&self) -> bool {
        let well = |isp: &crate::isp::Isp| isp.settled().is_some() && !isp.is_slow(self.now);
        !self.net.primary_dead && !self.net.http_dead && self.isps.get(2).is_none_or(well)
    }

    /// True if no probe tells of the primary.
    pub(super) fn is_told_only(&self) -> bool {
        let primary = self.config.instances[0].primary.as_ref().expect("there is one");
        let told = |probe: &Probe| matches!(probe, Probe::Bfd(_) | Probe::Bgp(_));
        primary.checks.iter().filter_map(|name| self.config.check(name)).all(|check| told(&check.probe))
    }

    /// The verdicts that are `down`, and those alone, make a primary that is down.
    pub(super) fn check_quorum(&self, record: &Record, status: &Status) {
        let primary = self.config.instances[0].primary.as_ref().expect("there is one");
        let is_down = |name: &str| status.checks.iter().any(|c| c.name == *name && c.verdict == "down");
        let down = primary.checks.iter().filter(|name| is_down(name)).count();
        let needed = primary.down_when.needed(primary.checks.len());
        assert!(down >= needed, "seed {}: {down} of {needed} are down: {record:?}", self.seed);
    }

    /// A MASTER whose `require` is unmet announces nothing, and one that does not know is not excused for ever.
    pub(super) fn check_require(&mut self) {
        if self.state != State::Master {
            self.unknown_since = None;
            return;
        }
        let clock = WallClock { at: Time::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        let status = self.core.overview(self.now, &clock);
        let require = status.instances[0].require.as_deref();
        let since = match require {
            Some("met") => None,
            Some("unknown") => Some(self.unknown_since.unwrap_or(self.now)),
            _ => panic!("seed {}, at {:?}: MASTER though require is {require:?}", self.seed, self.now),
        };
        self.unknown_since = since;
        let bound = scenario::longest_excuse(&self.config);
        let excused = since.is_none_or(|since| self.now <= since + bound);
        assert!(excused, "seed {}: unknown since {since:?}: {status:#?}", self.seed);
    }

    /// A check of type `bfd` says what its session is: AdminDown is no failure (RFC 5882 section 3.2).
    pub(super) fn check_sessions(&self) {
        if self.neighbours.is_empty() {
            return;
        }
        let status = self.status();
        for neighbour in &self.neighbours {
            let verdict = status.checks.iter().find(|c| c.name == neighbour.check).map(|c| &*c.verdict);
            let right = match neighbour.told {
                Some((Bfd::Up, _)) => verdict == Some("up"),
                Some((_, Bfd::AdminDown)) => verdict == Some("unknown"),
                _ => verdict != Some("up"),
            };
            assert!(right, "seed {}, at {:?}: {verdict:?}: {neighbour:?}", self.seed, self.now);
        }
    }

    /// After a calm: every verdict is what it should be.
    pub(super) fn is_decided(&self, dead: bool) -> bool {
        let primary = self.config.instances[0].primary.as_ref().expect("there is one");
        let right = |c: &announcerd::status::CheckStatus| {
            let is_primary = primary.checks.iter().any(|name| **name == *c.name);
            c.verdict == if is_primary && dead { "down" } else { "up" }
        };
        self.status().checks.iter().all(right)
    }
}
