//! The composition with BFD: which sessions are wanted, and what their news mean for checks and peers.
//!
//! A session belongs to a path, and not to who asked for it: a check and a peer on one path share one. The protocol runs
//! at the edge, in a thread with a clock of its own; what arrives here are changes of state.

use std::collections::BTreeMap;

use super::effect::Level;
use super::event::PeerId;
use super::timers::{CheckId, Timer};
use super::{Announcer, Effect};
use crate::bfd::wire::Discard;
use crate::bfd::{Change, Diagnostic, Fault, News, Path, SessionConfig, SessionId, State};
use crate::bgp::PeerEvent;
use crate::config::model::{Config, Probe};
use crate::health::Verdict;
use crate::status::{BfdStatus, WallClock};
use crate::time::Time;

/// A session as it was last heard of.
#[derive(Debug)]
struct Session {
    config: SessionConfig,
    state: State,
    remote_state: State,
    diagnostic: Diagnostic,
    since: Time,
    /// What the path's checks say: None: nothing is known yet, or not any more.
    verdict: Option<Result<(), String>>,
    /// What happened last; None: nothing was heard yet.
    reason: Option<String>,
    /// Why what came since then was refused, if anything was.
    refusal: Option<Discard>,
    /// The journal has a line on that; the next one after the session has been Up.
    is_refusal_logged: bool,
    trouble: Option<String>,
    /// It went down because we did not run, or could not hear: the peers on it lose their session only if it does not come back.
    pardoned: bool,
}

impl Session {
    /// What a person needs to know of it.
    fn reason(&self) -> String {
        match (&self.reason, self.refusal) {
            (None, None) => "nothing was heard yet".to_owned(),
            (None, Some(why)) => format!("packets come, and are refused: {why}"),
            (Some(reason), None) => reason.clone(),
            (Some(reason), Some(why)) => format!("{reason}; packets come since then, and are refused: {why}"),
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: BTreeMap<SessionId, Session>,
}

fn no_session(session: &Session) -> String {
    format!("no session: {}", session.reason())
}

/// What the configuration wants: one session for each path, the one with the shortest detection time of those that want it.
fn wanted(config: &Config) -> Vec<SessionConfig> {
    let of_checks = config.checks.iter().filter_map(|c| match &c.probe {
        Probe::Bfd(session) => Some(session),
        _ => None,
    });
    let of_peers = config.bgp.iter().filter_map(|b| b.bfd.as_ref());
    let mut wanted: Vec<SessionConfig> = Vec::new();
    for session in of_checks.chain(of_peers) {
        match wanted.iter_mut().find(|w| w.path == session.path) {
            Some(w) if session.detection_time() < w.detection_time() => *w = session.clone(),
            Some(_) => {}
            None => wanted.push(session.clone()),
        }
    }
    wanted
}

impl Announcer {
    /// The sessions of the configuration; those that are there already go on.
    pub(super) fn set_bfd_sessions(&mut self, now: Time) {
        let wanted = wanted(&self.config);
        let before: Vec<(SessionId, SessionConfig)> = self.bfd_sessions();
        let stays = |s: &SessionConfig| wanted.iter().any(|w| w.path == s.path && w.auth == s.auth);
        let gone: Vec<SessionId> = before.iter().filter(|(_, s)| !stays(s)).map(|(id, _)| *id).collect();
        for id in gone {
            self.bfd.all.remove(&id);
            self.timers.set(Timer::Bfd(id), None);
        }
        for config in wanted {
            match self.bfd.all.values_mut().find(|s| s.config.path == config.path) {
                Some(session) => session.config = config,
                None => self.add_bfd_session(config, now),
            }
        }
        let after = self.bfd_sessions();
        if after != before {
            self.emit(Effect::BfdSessions(after));
        }
    }

    fn bfd_sessions(&self) -> Vec<(SessionId, SessionConfig)> {
        self.bfd.all.iter().map(|(id, s)| (*id, s.config.clone())).collect()
    }

    fn add_bfd_session(&mut self, config: SessionConfig, now: Time) {
        self.next_id += 1;
        let id = SessionId(u32::try_from(self.next_id).unwrap_or(u32::MAX));
        self.timers.set(Timer::Bfd(id), Some(now + config.patience()));
        let session = Session {
            config,
            state: State::Down,
            remote_state: State::Down,
            diagnostic: Diagnostic::NONE,
            since: now,
            verdict: None,
            reason: None,
            refusal: None,
            is_refusal_logged: false,
            trouble: None,
            pardoned: false,
        };
        self.bfd.all.insert(id, session);
    }

    /// What a check on that path would be told now; None if nothing is known.
    pub(super) fn bfd_verdict(&self, path: &Path) -> Option<Result<(), String>> {
        self.bfd_on(path)?.1.verdict.clone()
    }

    /// True if a strict BGP session on that path need not wait: BFD is Up, or the neighbour's operator does not want it.
    pub(super) fn is_bfd_settled(&self, path: &Path) -> bool {
        let session = self.bfd_on(path).map(|(_, s)| s);
        session.is_some_and(|s| s.state == State::Up || s.remote_state == State::AdminDown)
    }

    /// True if the neighbour on that path says AdminDown.
    pub(super) fn is_admin_down(&self, path: &Path) -> bool {
        self.bfd_on(path).is_some_and(|(_, s)| s.remote_state == State::AdminDown)
    }

    fn bfd_on(&self, path: &Path) -> Option<(SessionId, &Session)> {
        self.bfd.all.iter().find(|(_, s)| s.config.path == *path).map(|(id, s)| (*id, s))
    }

    /// A witness is wanted: a check of type `bfd` has its neighbour answer a Poll, sent after now.
    pub(super) fn verify_bfd(&mut self, id: CheckId) {
        let Some(check) = self.checks.get(&id) else { return };
        let Probe::Bfd(config) = &check.config.probe else { return };
        let session = self.bfd_on(&config.path).filter(|(_, s)| s.state == State::Up);
        if let Some(id) = session.map(|(id, _)| id) {
            self.emit(Effect::BfdVerify(id));
        }
    }

    pub(super) fn on_bfd(&mut self, id: SessionId, news: News, now: Time) {
        // Unknown ids are news of sessions that are no more.
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        match news {
            News::Changed(change) => self.on_bfd_change(id, change, now),
            News::Verified { since } => {
                if session.state == State::Up {
                    self.on_bfd_verified(id, since, now);
                }
            }
            News::Refused(why) => self.on_bfd_refused(id, why, now),
            News::Trouble(trouble) => {
                session.trouble.clone_from(&trouble);
                let (path, is_up) = (session.config.path.clone(), session.state == State::Up);
                let wait = now + session.config.patience();
                if let Some(why) = &trouble {
                    self.log(Level::Warn, None, format!("BFD with {path}: {why}"));
                    if !is_up {
                        self.unsettle(id, why, now);
                    }
                }
                let waits = trouble.is_none() && !is_up;
                self.timers.set(Timer::Bfd(id), waits.then_some(wait));
            }
        }
    }

    fn on_bfd_change(&mut self, id: SessionId, change: Change, now: Time) {
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        let was_up = session.state == State::Up;
        let was_excused = session.remote_state == State::AdminDown;
        if session.state != change.state {
            session.since = change.at;
        }
        (session.state, session.remote_state) = (change.state, change.remote_state);
        session.diagnostic = change.diagnostic;
        session.pardoned &= change.remote_state != State::AdminDown;
        (session.reason, session.refusal) = (Some(change.reason.clone()), None);
        session.is_refusal_logged &= change.state != State::Up;
        let path = session.config.path.clone();
        let wait = now + session.config.patience();
        let level = if was_up { Level::Warn } else { Level::Info };
        let fault = change.own_fault.as_ref().map(|f| format!(" (our own fault: {f})")).unwrap_or_default();
        if change.state != State::Init || was_up {
            let text = format!("BFD with {path} is {}: {}{fault}", change.state, change.reason);
            self.log(level, None, text);
        }
        match (change.state, change.remote_state) {
            (State::Up, _) => {
                self.timers.set(Timer::Bfd(id), None);
                self.settle_bfd(id, Ok(()), now);
                self.tell_bfd_peers(&path, &PeerEvent::BfdUp, now);
            }
            // RFC 5882 section 3.2: "AdminDown ... does not imply any connectivity loss": nobody is told of a failure.
            (_, State::AdminDown) => {
                self.timers.set(Timer::Bfd(id), None);
                self.unsettle(id, &change.reason, now);
                self.tell_bfd_peers(&path, &PeerEvent::BfdUp, now);
            }
            // News are condensed where there is no room for all: the Down before this Init was one of them.
            (State::Down | State::Init, _) if was_up => self.on_bfd_down(id, &path, change, now),
            (State::Down | State::Init, _) => {
                // One time for all its tries: each of them is news, and none puts it off.
                if self.bfd_verdict(&path).is_none() && !self.timers.runs(Timer::Bfd(id)) {
                    self.timers.set(Timer::Bfd(id), Some(wait));
                }
                if was_excused {
                    self.tell_bfd_peers(&path, &PeerEvent::BfdAwaited, now);
                }
            }
            (State::AdminDown, _) => {}
        }
    }

    /// Packets come, and none of them is any good: an operator would look for them in the network.
    fn on_bfd_refused(&mut self, id: SessionId, why: Discard, now: Time) {
        // News that found no room are told out of their order.
        let Some(session) = self.bfd.all.get_mut(&id).filter(|s| s.state == State::Down) else { return };
        session.refusal = Some(why);
        let (words, path) = (no_session(session), session.config.path.clone());
        let is_down = matches!(session.verdict, Some(Err(_)));
        if !std::mem::replace(&mut session.is_refusal_logged, true) {
            let text = format!(
                "BFD with {path}: packets come, and are refused: {why} (further ones are counted, and not logged)"
            );
            self.log(Level::Warn, None, text);
        }
        if is_down {
            self.settle_bfd(id, Err(words), now);
        }
    }

    fn on_bfd_down(&mut self, id: SessionId, path: &Path, change: Change, now: Time) {
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        session.pardoned = matches!(change.own_fault, Some(Fault::Absent(_) | Fault::Deaf(_)));
        let (pardoned, wait) = (session.pardoned, now + session.config.patience());
        match &change.own_fault {
            Some(fault) => {
                self.unsettle(id, &fault.to_string(), now);
                self.timers.set(Timer::Bfd(id), Some(wait));
            }
            None => self.settle_bfd(id, Err(change.reason), now),
        }
        // RFC 9384: at once, the hold timer is not awaited.
        if !pardoned {
            self.tell_bfd_peers(path, &PeerEvent::BfdDown, now);
        }
    }

    /// It has had time enough to come up (again).
    pub(super) fn on_bfd_timer(&mut self, id: SessionId, now: Time) {
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        if session.state == State::Up || session.remote_state == State::AdminDown || session.trouble.is_some()
        {
            return;
        }
        let (path, pardoned) = (session.config.path.clone(), std::mem::take(&mut session.pardoned));
        let words = match session.state {
            State::Init => "the neighbour is heard, but does not hear us".to_owned(),
            _ => no_session(session),
        };
        self.settle_bfd(id, Err(words), now);
        if pardoned {
            self.tell_bfd_peers(&path, &PeerEvent::BfdDown, now);
        }
    }

    fn on_bfd_verified(&mut self, id: SessionId, since: Time, now: Time) {
        for check in self.checks_on(id) {
            let Some(check_of) = self.checks.get_mut(&check) else { continue };
            // A Poll goes out with the next packet, and again with each until it is answered. Whatever takes longer may be the
            // second one: the line may have been cut when the first one went out.
            check_of.answered(check_of.config.interval * 5 / 4, now);
            self.seen_alive(check, since, now);
            if self.checks.get(&check).is_some_and(|c| c.verdict() == Verdict::Up) {
                self.note_success(check, true, now);
                self.reconsider(check, false, now);
            }
        }
    }

    fn settle_bfd(&mut self, id: SessionId, verdict: Result<(), String>, now: Time) {
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        session.verdict = Some(verdict.clone());
        for check in self.checks_on(id) {
            self.tell_check(check, verdict.as_ref().err().map(String::as_str), now);
        }
    }

    /// Nothing is known any more.
    fn unsettle(&mut self, id: SessionId, why: &str, now: Time) {
        let Some(session) = self.bfd.all.get_mut(&id) else { return };
        session.verdict = None;
        for check in self.checks_on(id) {
            if self.forget_check(check, why, now) {
                self.reconsider(check, true, now);
            }
        }
    }

    fn checks_on(&self, id: SessionId) -> Vec<CheckId> {
        let Some(session) = self.bfd.all.get(&id) else { return Vec::new() };
        let on_it = |p: &Probe| matches!(p, Probe::Bfd(s) if s.path == session.config.path);
        self.checks.iter().filter(|(_, c)| on_it(&c.config.probe)).map(|(id, _)| *id).collect()
    }

    fn tell_bfd_peers(&mut self, path: &Path, event: &PeerEvent, now: Time) {
        let peers: Vec<PeerId> = self.peers_on(path);
        for peer in peers {
            self.on_bgp(peer, event.clone(), now);
        }
    }

    /// What is known here; the edge adds what was counted.
    pub(super) fn bfd_status(&self, clock: &WallClock) -> Vec<BfdStatus> {
        self.bfd.all.iter().map(|(id, s)| self.bfd_row(*id, s, clock)).collect()
    }

    fn bfd_row(&self, id: SessionId, session: &Session, clock: &WallClock) -> BfdStatus {
        let path = &session.config.path;
        let checks = self.checks_on(id).into_iter().filter_map(|id| self.checks.get(&id));
        let peers = self.config.bgp.iter().filter(|b| b.bfd.as_ref().is_some_and(|s| s.path == *path));
        BfdStatus {
            id: id.0,
            name: path.to_string(),
            state: session.state.to_string(),
            remote_state: session.remote_state.to_string(),
            since: clock.date(session.since),
            diagnostic: session.diagnostic.to_string(),
            reason: session.reason(),
            trouble: session.trouble.clone(),
            checks: checks.map(|c| c.config.name.to_string()).collect(),
            peers: peers.map(|b| b.session.name.clone()).collect(),
            detail: None,
        }
    }
}
