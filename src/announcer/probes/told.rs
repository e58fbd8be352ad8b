//! Checks that are told instead of probed: links, by the kernel, and sessions.

use crate::announcer::Announcer;
use crate::announcer::timers::CheckId;
use crate::config::model;
use crate::fib::object::LinkState;
use crate::health::Check;
use crate::time::Time;

impl Announcer {
    pub(super) fn ask_told(&mut self, id: CheckId, now: Time) {
        let probe = self.checks.get(&id).map(|check| check.config.probe.clone());
        let asks_at = match probe {
            Some(model::Probe::Bgp(session)) => self.ask_session(&session.peer, now),
            Some(model::Probe::Bfd(_)) => {
                self.verify_bfd(id);
                Some(now)
            }
            _ => {
                self.refresh_told_check(id, now);
                None
            }
        };
        // Nobody answers what was not sent.
        if let (Some(at), Some(check)) = (asks_at, self.checks.get_mut(&id)) {
            check.ask(at);
        }
    }

    /// A session has given a sign of life, to a question that was asked after `since`.
    pub(in crate::announcer) fn seen_alive(&mut self, id: CheckId, since: Time, now: Time) {
        if let Some(check) = self.checks.get_mut(&id) {
            check.seen_well(since);
            check.testify_alive(now);
        }
    }

    /// What a check that is told would be told now; None if it is not such a check, or nothing is known yet.
    pub(super) fn told_state(&self, check: &Check) -> Option<Result<(), String>> {
        match &check.config.probe {
            // Before the first dump no link is known; that a device is missing is not to be claimed then.
            model::Probe::Link(link) if self.fib.is_known() => Some(link_state(self.links.get(&link.device))),
            model::Probe::Bgp(session) => self.session_state(&session.peer),
            model::Probe::Bfd(session) => self.bfd_verdict(&session.path),
            _ => None,
        }
    }

    /// The kernel tells of links at once, so what it last said holds now. (What is known of a session proves nothing about now.)
    pub(super) fn refresh_told_check(&mut self, id: CheckId, now: Time) {
        let link = self.checks.get(&id).filter(|check| link_of(check).is_some());
        let state = link.and_then(|check| self.told_state(check));
        if let Some(state) = state {
            self.tell_check(id, state.err().as_deref(), now);
        }
    }

    /// News of what a check watches: None if all is well.
    pub(in crate::announcer) fn tell_check(&mut self, id: CheckId, wrong: Option<&str>, now: Time) {
        let Some(check) = self.checks.get_mut(&id) else { return };
        let before = check.verdict();
        let changed = check.told(wrong, now);
        if changed {
            self.report_verdict(id, before);
        }
        // News are news even if they are the old ones: a witness, or a failure of the primary's.
        if wrong.is_none() {
            self.note_success(id, true, now);
        } else if changed {
            self.call_witnesses(id, now);
        }
        if changed {
            self.reconsider(id, true, now);
        }
    }

    pub(in crate::announcer) fn on_link(&mut self, link: LinkState, now: Time) {
        let name = link.name.clone();
        self.dump.link_told(&name);
        if self.links.insert(name.clone(), link.clone()) != Some(link) {
            self.link_news(&name, now);
        }
    }

    pub(in crate::announcer) fn on_link_gone(&mut self, name: &str, now: Time) {
        self.dump.link_told(name);
        if self.links.remove(name).is_some() {
            self.link_news(name, now);
        }
    }

    /// After a dump every link check is judged, whether its device exists or not.
    pub(in crate::announcer) fn refresh_told_checks(&mut self, now: Time) {
        let ids: Vec<CheckId> = self.checks.iter().filter(|(_, c)| c.is_told()).map(|(id, _)| *id).collect();
        for id in ids {
            self.refresh_told_check(id, now);
        }
    }

    fn link_news(&mut self, name: &str, now: Time) {
        if self.fib.is_known() {
            let on_it = |c: &Check| link_of(c) == Some(name);
            let ids: Vec<CheckId> = self.checks.iter().filter(|(_, c)| on_it(c)).map(|(id, _)| *id).collect();
            for id in ids {
                self.refresh_told_check(id, now);
            }
        }
        // What was refused for want of this device may go now; what hung on it may be gone without a word.
        self.fib.retry(now, true);
        self.want_dump(now);
    }
}

pub(super) fn link_of(check: &Check) -> Option<&str> {
    match &check.config.probe {
        model::Probe::Link(link) => Some(&link.device),
        _ => None,
    }
}

/// A link is well if it is there, administratively up, and has carrier.
fn link_state(link: Option<&LinkState>) -> Result<(), String> {
    match link {
        None => Err("there is no such device".into()),
        Some(l) if !l.admin_up => Err("administratively down".into()),
        Some(l) if !l.carrier => Err("no carrier".into()),
        Some(_) => Ok(()),
    }
}
