//! Whether the sessions' packets can leave and be heard: sockets, devices, and what is wrong with them.

use std::net::IpAddr;

use crate::bfd::wire::State;
use crate::bfd::{News, Path, SessionConfig, SessionId};
use crate::io::bfd::link::Link;
use crate::io::bfd::port::{Kind, Port};
use crate::io::bfd::sieve::Admission;
use crate::time::Time;

use super::{RETRY, RETRY_SEND, Worker, first_port, kind_of, kind_on};

impl Worker {
    /// Opens what is not open, tells what cannot be, and closes what nobody needs any more.
    pub(super) fn open(&mut self, now: Time) {
        let speaker = &self.speaker;
        self.links.retain(|id, _| speaker.session(*id).is_some());
        self.arrived.retain(|id, _| speaker.session(*id).is_some());
        let mut kinds: Vec<Kind> = self.configs.values().map(kind_of).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.closed.clear();
        for kind in &kinds {
            if self.ports.iter().any(|p| p.kind() == *kind) {
                continue;
            }
            match Port::open(*kind) {
                Ok(port) => self.ports.push(port),
                Err(why) => {
                    self.closed.insert(*kind, why);
                }
            }
        }
        let (mut missing, mut urgent) = (false, false);
        for port in &mut self.ports {
            let kind = port.kind();
            missing |= !port.admit(&Admission::of(self.speaker.paths().filter(|path| kind_on(path) == kind)));
        }
        let leaving = self.links.keys().any(|id| !self.configs.contains_key(id));
        self.ports.retain(|p| leaving || kinds.contains(&p.kind()));
        for (id, config) in self.configs.clone() {
            let is_new = !self.links.contains_key(&id);
            let linked = if is_new { self.link(id, &config) } else { Ok(()) };
            let closed = self.closed.get(&kind_of(&config)).cloned();
            missing |= closed.is_some() || linked.is_err();
            urgent |= linked.is_err() && self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
            // That a way is there is proved by the first packet on it; who speaks only when spoken to waits for none.
            if closed.is_none() && linked.is_ok() && is_new && !config.passive {
                continue;
            }
            let own = if self.troubles.contains_key(&id) { self.own_trouble(id, &config) } else { None };
            missing |= own.is_some();
            self.note_trouble(id, closed.or(linked.err()).or(own), now);
        }
        // Those that leave hold their sockets for a while.
        self.retry_at = (missing || leaving).then(|| now + if urgent { RETRY_SEND } else { RETRY });
    }

    pub(super) fn link(&mut self, id: SessionId, config: &SessionConfig) -> Result<(), String> {
        let link = Link::open(&config.path, first_port(id))?;
        self.speaker.set_interface(id, link.interface);
        self.links.insert(id, link);
        Ok(())
    }

    pub(super) fn retry(&mut self, now: Time) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.open(now);
        }
    }

    pub(super) fn note_trouble(&mut self, id: SessionId, trouble: Option<String>, now: Time) {
        if let Some(why) = &trouble {
            self.speaker.excuse(id, why, now);
        }
        if self.troubles.get(&id) != trouble.as_ref() {
            match &trouble {
                Some(why) => self.troubles.insert(id, why.clone()),
                None => self.troubles.remove(&id),
            };
            self.unheard.push_back((id, News::Trouble(trouble)));
        }
    }

    /// A packet was taken; but a dead link takes them as well.
    pub(super) fn sent(&mut self, id: SessionId, now: Time) {
        let is_up = self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
        if is_up && !self.troubles.contains_key(&id) {
            return;
        }
        let Some(config) = self.configs.get(&id).cloned() else { return };
        if !self.closed.contains_key(&kind_of(&config)) {
            let trouble = self.own_trouble(id, &config);
            self.note_trouble(id, trouble, now);
        }
    }

    /// Sessions of which a silence is about to be judged: SPEC 4, "our own link down … counts as neither".
    pub(super) fn suspect_own_links(&mut self, judged: Time) {
        for id in self.speaker.judged(judged) {
            let Some(config) = self.configs.get(&id).cloned() else { continue };
            if let Some(why) = self.own_trouble(id, &config) {
                self.note_trouble(id, Some(why), judged);
                let again = judged + RETRY;
                self.retry_at = Some(self.retry_at.map_or(again, |at| at.min(again)));
            }
        }
    }

    /// What is wrong with our own link to a neighbour: the configured one; else that by which it was heard, if it is on our
    /// link or was heard just now; else that by which packets to it leave.
    pub(super) fn own_trouble(&self, id: SessionId, config: &SessionConfig) -> Option<String> {
        let path = &config.path;
        if let Some(device) = &path.device {
            return self.own_links.trouble(device);
        }
        let is_up = self.speaker.session(id).is_some_and(|s| s.state() == State::Up);
        match self.arrived.get(&id) {
            Some((index, _)) if *index != 0 && is_up => self.own_links.trouble_of(*index),
            Some((index, our)) if *index != 0 && !path.hops.is_multi() => {
                self.own_trouble_near(*index, *our, path)
            }
            _ => self.own_links.trouble_towards(path.remote, path.local),
        }
    }

    /// The same of who is Down and on our link: that may be another by now.
    fn own_trouble_near(&self, index: u32, our: IpAddr, path: &Path) -> Option<String> {
        // A default route by another link is not enough.
        if let Some(other) = self.own_links.home_towards(path.remote, path.local.unwrap_or(our)) {
            return self.own_links.trouble_of(other);
        }
        // One that was made anew has another number.
        if nix::net::if_::if_indextoname(index).is_ok_and(|name| !name.is_empty()) {
            self.own_links.trouble_of(index)
        } else {
            self.own_links.trouble_towards(path.remote, path.local)
        }
    }
}
