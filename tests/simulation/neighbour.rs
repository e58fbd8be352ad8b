//! Model BFD neighbours, as far as the core hears of them: the news that the thread at the edge gives of a session.
//!
//! No packets (there would be billions), but their times: silence is noticed a detection time after the last of them, a
//! handshake takes up to two and a half seconds (RFC 5880 section 6.8.3: a packet a second while a session is not Up), a Poll is
//! answered with the next packet but one. News come late now and then, in their order, and some are of a session that is no more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use announcerd::announcer::event::Event;
use announcerd::bfd::{Change, Diagnostic, Fault, News, SessionConfig, SessionId, State};
use announcerd::time::Time;

use crate::rng::Rng;

const MILLI: Duration = Duration::from_millis(1);
/// So long after our own absence what it led to is called our own fault.
const AFTERMATH: Duration = Duration::from_secs(5);
/// News are never later than this.
pub const LATEST: Duration = Duration::from_millis(300);

/// What is between us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    Alive,
    /// Nothing gets through, and nobody says why.
    Silent,
    /// We cannot send, and know it.
    Mute,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The detection time is over.
    Expire,
    /// The neighbour says AdminDown.
    AdminDown,
    /// The neighbour says Down.
    Signal,
    /// It is heard; the second is when it hears us.
    Init(Time),
    Up,
}

#[derive(Debug)]
pub struct Neighbour {
    /// Its check.
    pub check: &'static str,
    host: IpAddr,
    session: Option<(SessionId, SessionConfig)>,
    line: Line,
    loss: f64,
    admin_down: bool,
    /// The way out cannot be opened until then.
    blocked: Option<Time>,
    state: State,
    remote: State,
    next: Option<(Time, Step)>,
    /// A Poll is under way since then; another is wanted after it.
    poll: Option<(Time, bool)>,
    answer: Option<Time>,
    troubled: bool,
    absent_until: Time,
    outbox: BTreeMap<(Time, u64), (SessionId, News)>,
    serial: u64,
    posted: Time,
    /// What the core was told last.
    pub told: Option<(State, State)>,
    rng: Rng,
    pub tally: Tally,
}

/// What the core was told, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub ups: u64,
    pub downs: u64,
    /// Downs by our own fault.
    pub own_faults: u64,
    pub admin_downs: u64,
    pub troubles: u64,
    pub verified: u64,
}

impl Tally {
    pub fn add(&mut self, o: &Tally) {
        self.ups += o.ups;
        self.downs += o.downs;
        self.own_faults += o.own_faults;
        self.admin_downs += o.admin_downs;
        self.troubles += o.troubles;
        self.verified += o.verified;
    }
}

impl Neighbour {
    pub fn new(check: &'static str, host: &str, seed: u64, now: Time) -> Self {
        Neighbour {
            check,
            host: host.parse().expect("an address"),
            session: None,
            line: Line::Alive,
            loss: 0.0,
            admin_down: false,
            blocked: None,
            state: State::Down,
            remote: State::Down,
            next: None,
            poll: None,
            answer: None,
            troubled: false,
            absent_until: now,
            outbox: BTreeMap::new(),
            serial: 0,
            posted: now,
            told: None,
            rng: Rng::new(seed),
            tally: Tally::default(),
        }
    }

    /// The sessions that the core wants.
    pub fn configured(&mut self, sessions: &[(SessionId, SessionConfig)], now: Time) {
        let new = sessions.iter().find(|(_, s)| s.path.remote == self.host).cloned();
        let same = new.as_ref().map(|(id, _)| id) == self.session.as_ref().map(|(id, _)| id);
        self.session = new;
        if same {
            return;
        }
        (self.state, self.remote, self.told) = (State::Down, State::Down, None);
        (self.next, self.poll, self.answer, self.troubled) = (None, None, None, false);
        if self.session.is_some() && self.rng.chance(0.1) {
            self.blocked = Some(now + self.rng.between(MILLI, MILLI * 20_000));
        }
        self.replan(now);
    }

    /// Our process died.
    pub fn our_crash(&mut self) {
        self.session = None;
        self.outbox.clear();
        (self.next, self.poll, self.answer, self.told, self.blocked) = (None, None, None, None, None);
    }

    pub fn set(&mut self, line: Line, loss: f64, admin_down: bool, now: Time) {
        if (self.line, self.admin_down, self.loss) != (line, admin_down, loss) {
            (self.line, self.admin_down, self.loss) = (line, admin_down, loss);
            self.replan(now);
        }
    }

    /// The neighbour's BFD begins anew.
    pub fn restarts(&mut self, now: Time) {
        if self.state == State::Up && self.is_alive() && !self.admin_down {
            self.next = Some((now + MILLI, Step::Signal));
        }
    }

    pub fn is_admin_down(&self) -> bool {
        self.admin_down
    }

    /// Both hear each other, and the core knows it.
    pub fn is_up(&self) -> bool {
        self.told == Some((State::Up, State::Up)) && self.outbox.is_empty()
    }

    fn is_alive(&self) -> bool {
        self.line == Line::Alive && self.blocked.is_none()
    }

    fn is_mute(&self) -> bool {
        self.line == Line::Mute || self.blocked.is_some()
    }

    fn interval(&self) -> Duration {
        self.session.as_ref().map_or(MILLI, |(_, config)| config.interval)
    }

    fn detection(&self) -> Duration {
        self.session.as_ref().map_or(MILLI, |(_, config)| config.detection_time())
    }

    /// What follows from how things are now.
    fn replan(&mut self, now: Time) {
        if self.session.is_none() {
            return;
        }
        if self.is_mute() != self.troubled {
            self.troubled = self.is_mute();
            let why = self.troubled.then(|| "our own link eth0 has no carrier".to_owned());
            self.tally.troubles += u64::from(self.troubled);
            self.post(now, News::Trouble(why));
        }
        let heard = self.state != State::Down || self.remote == State::AdminDown;
        let jitter = self.rng.between(Duration::ZERO, self.interval());
        self.answer = None;
        self.next = match (self.is_alive(), self.admin_down) {
            (false, _) => {
                heard.then(|| (now + self.detection() - jitter.min(self.detection()), Step::Expire))
            }
            (true, true) if self.remote == State::AdminDown => None,
            (true, true) => Some((now + jitter, Step::AdminDown)),
            (true, false) if self.state == State::Up => self.unlucky(now),
            (true, false) => Some(self.handshake(now)),
        };
        if self.is_alive() && self.poll.is_some() {
            self.answer = Some(now + jitter + MILLI * 40);
        }
    }

    fn handshake(&mut self, now: Time) -> (Time, Step) {
        let slower = 1.0 / (1.0 - self.loss).powi(2);
        let heard = now + self.rng.between(MILLI * 50, MILLI * 1200).mul_f64(slower);
        let up = heard + self.rng.between(MILLI, MILLI * 1200).mul_f64(slower);
        (heard, Step::Init(up))
    }

    /// As many packets in a row as it takes are lost, sooner or later.
    fn unlucky(&mut self, now: Time) -> Option<(Time, Step)> {
        let (_, config) = self.session.as_ref()?;
        let chance = self.loss.powi(i32::from(config.multiplier));
        let packets = (1.0 / chance).min(1e6);
        let patience = config.interval.mul_f64(packets);
        (chance > 1e-4).then(|| (now + self.rng.between(Duration::ZERO, 2 * patience), Step::Expire))
    }

    /// The core asks for a sign of life.
    pub fn verify(&mut self, id: SessionId, now: Time) {
        if self.session.as_ref().is_none_or(|(own, _)| *own != id) || self.state != State::Up {
            return;
        }
        if let Some((_, again)) = &mut self.poll {
            *again = true;
            return;
        }
        self.poll = Some((now, false));
        self.answer_soon(now);
    }

    fn answer_soon(&mut self, now: Time) {
        let jitter = self.rng.between(Duration::ZERO, self.interval());
        self.answer = self.is_alive().then(|| now + jitter + MILLI * 5);
    }

    /// Nobody ran us from `from` on: what would have happened happens now, and it is our own fault.
    pub fn slept(&mut self, from: Time, now: Time) {
        let missed = now.since(from) >= self.detection();
        self.absent_until = now + AFTERMATH;
        match self.next {
            Some((at, Step::Expire)) if at <= now => self.next = Some((now + self.detection(), Step::Expire)),
            Some((at, step)) if at <= now => self.next = Some((now + MILLI, step)),
            None if missed && self.state == State::Up && self.is_alive() => {
                self.next = Some((now + MILLI, Step::Signal));
            }
            _ => {}
        }
        if self.answer.is_some_and(|at| at <= now) {
            self.answer = Some(now + MILLI);
        }
    }

    pub fn next(&self) -> Option<Time> {
        let news = self.outbox.keys().next().map(|(at, _)| *at);
        let step = self.next.map(|(at, _)| at);
        [news, step, self.answer, self.blocked].into_iter().flatten().min()
    }

    /// Lets time pass; what reaches the core.
    pub fn step(&mut self, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            if self.blocked.is_some_and(|at| at <= now) {
                self.blocked = None;
                self.replan(now);
            }
            if let Some((_, step)) = self.next.take_if(|(at, _)| *at <= now) {
                self.act(step, now);
            }
            if self.answer.take_if(|at| *at <= now).is_some() {
                self.answered(now);
            }
            while let Some(entry) = self.outbox.first_entry().filter(|e| e.key().0 <= now) {
                let (id, news) = entry.remove();
                // A session that is no more says nothing of the one that is.
                if self.session.as_ref().is_some_and(|(own, _)| *own == id) {
                    if let News::Changed(change) = &news {
                        self.told = Some((change.state, change.remote_state));
                    }
                }
                events.push(Event::Bfd { id, news });
            }
        }
        events
    }

    fn act(&mut self, step: Step, now: Time) {
        match step {
            Step::Expire => self.change(State::Down, State::Down, "silence", now),
            Step::Signal => self.change(State::Down, State::Down, "the neighbour signalled Down", now),
            Step::AdminDown => {
                self.change(State::Down, State::AdminDown, "the neighbour is administratively down", now);
            }
            Step::Init(up) if up > now && self.rng.chance(0.5) => {
                self.change(State::Init, State::Down, "the neighbour is heard", now);
                self.next = Some((up, Step::Up));
            }
            Step::Init(up) if up > now => self.next = Some((up, Step::Up)),
            Step::Init(_) | Step::Up => self.change(State::Up, State::Up, "both ends hear each other", now),
        }
        if self.next.is_none() {
            self.replan(now);
        }
    }

    fn change(&mut self, state: State, remote_state: State, reason: &str, now: Time) {
        let was_up = self.state == State::Up;
        if (self.state, self.remote) == (state, remote_state) {
            return;
        }
        (self.state, self.remote) = (state, remote_state);
        let own_fault = match (was_up && state != State::Up, self.is_mute(), now <= self.absent_until) {
            (true, true, _) => Some(Fault::Mute("no carrier".into())),
            (true, false, true) => Some(Fault::Absent("announcerd did not run".into())),
            _ => None,
        };
        if state != State::Up {
            (self.poll, self.answer) = (None, None);
        }
        match (state, remote_state) {
            (State::Up, _) => self.tally.ups += 1,
            (_, State::AdminDown) => self.tally.admin_downs += 1,
            _ if own_fault.is_some() => self.tally.own_faults += 1,
            _ => self.tally.downs += u64::from(was_up),
        }
        let reason = reason.to_owned();
        let change = Change { state, remote_state, diagnostic: Diagnostic::NONE, reason, own_fault, at: now };
        self.post(now, News::Changed(change));
    }

    fn answered(&mut self, now: Time) {
        let Some((since, again)) = self.poll.take() else { return };
        self.tally.verified += 1;
        self.post(now, News::Verified { since });
        if again {
            self.poll = Some((now, false));
            self.answer_soon(now);
        }
    }

    fn post(&mut self, now: Time, news: News) {
        let Some((id, _)) = &self.session else { return };
        let late = if self.rng.chance(0.05) { LATEST } else { MILLI };
        self.posted = self.posted.max(now + self.rng.between(Duration::ZERO, late));
        self.serial += 1;
        self.outbox.insert((self.posted, self.serial), (*id, news));
    }
}
