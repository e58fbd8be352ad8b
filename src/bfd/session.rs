//! One session: the state machine of RFC 5880 section 6.8.

use std::collections::VecDeque;
use std::time::Duration;

use super::auth::{self, Sequence};
use super::config::{SLOW, SessionConfig};
use super::histogram::Histogram;
use super::news::{Change, Fault, News};
use super::random::Random;
use super::status::{Counters, SessionStatus};
use super::timing::Timing;
use super::wire::{Diagnostic, Discard, Packet, Received, State};
use crate::time::Time;

/// A BFD session; see the module's description for how to drive it.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    since: Time,
    remote_state: State,
    local_discriminator: u32,
    /// bfd.RemoteDiscr: 0 while the neighbour is not heard.
    remote_discriminator: u32,
    diagnostic: Diagnostic,
    remote_diagnostic: Diagnostic,
    remote_demand: bool,
    timing: Timing,
    sequence: Sequence,
    /// What the last authenticated packet said.
    last_sent: Option<Packet>,
    /// Twice the detection time after the last packet: bfd.AuthSeqKnown (section 6.8.1), also of a session that is lost.
    sequence_holds_until: Option<Time>,
    random: Random,
    /// The next packet says something new: it does not wait (section 6.8.7).
    is_news: bool,
    /// When the packets that did not wait would all have gone out one [`STEP`] after the other.
    burst: Time,
    /// A Poll wants its Final.
    owes_final: bool,
    /// Held down for good: forgotten then.
    leaves_at: Option<Time>,
    /// When, and why, we could not do our part.
    own_fault: Option<(Time, Fault)>,
    news: VecDeque<News>,
    told: Option<(State, bool)>,
    counters: Counters,
    last_discard: Option<Discard>,
    /// Packets discarded since the last one that was taken.
    refused: u64,
    /// What was told of them, and when anything was.
    told_refused: (Option<Discard>, Option<Time>),
    lateness: Histogram,
    jitter: Histogram,
}

/// Between two of [`News::Refused`]: whoever can send packets can send such as are discarded for one reason and another.
const REFUSALS: Duration = Duration::from_secs(10);

/// Packets in a row that need not wait for the timer, and what one more waits. Two ends that answer each old packet of the
/// other's at once would never settle on a network that reorders and repeats.
const BURST: u32 = 5;
const STEP: Duration = Duration::from_millis(200);

/// What [`Fault::Deaf`] says.
const NO_ROOM: &str = "the kernel had no room for packets that came";

/// What our own absence may have caused is not held against the neighbour for so long after it: time for the session to
/// come back, which starts at one packet a second.
pub const AFTERMATH: Duration = Duration::from_secs(5);

impl Session {
    /// A session that begins now, Down. `discriminator` is not 0 and nobody else's; `random` is its own.
    pub fn new(config: SessionConfig, discriminator: u32, mut random: Random, now: Time) -> Self {
        let timing = Timing::new(config.interval, &mut random, config.multiplier);
        Session {
            timing,
            state: State::Down,
            since: now,
            remote_state: State::Down,
            local_discriminator: discriminator.max(1),
            remote_discriminator: 0,
            diagnostic: Diagnostic::NONE,
            remote_diagnostic: Diagnostic::NONE,
            remote_demand: false,
            sequence: Sequence::new(random.word()),
            last_sent: None,
            sequence_holds_until: None,
            random,
            is_news: false,
            burst: now,
            owes_final: false,
            leaves_at: None,
            own_fault: None,
            news: VecDeque::new(),
            told: None,
            counters: Counters::default(),
            last_discard: None,
            refused: 0,
            told_refused: (None, None),
            lateness: Histogram::default(),
            jitter: Histogram::default(),
            config,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// bfd.SessionState.
    pub fn state(&self) -> State {
        self.state
    }

    /// bfd.LocalDiscr.
    pub fn discriminator(&self) -> u32 {
        self.local_discriminator
    }

    /// bfd.RemoteDiscr; 0 while the neighbour is not heard.
    pub fn remote_discriminator(&self) -> u32 {
        self.remote_discriminator
    }

    /// A packet for this session, which the kernel had at `at` (not after `now`).
    ///
    /// # Errors
    ///
    /// Why it was discarded.
    pub fn receive(&mut self, received: &Received<'_>, at: Time, now: Time) -> Result<(), Discard> {
        let result = self.take(received, at.max(self.timing.last_rx().unwrap_or(at)).min(now), now);
        match result {
            Ok(()) => {
                self.counters.received += 1;
                self.refused = 0;
                self.told_refused.0 = None;
            }
            Err(why) => {
                self.counters.discarded += 1;
                self.last_discard = Some(why);
                self.refused += 1;
                self.tell_refused(why, now);
            }
        }
        self.tell(now);
        result
    }

    /// Who hears nothing but packets that are no good to it is not to look for what is wrong with the network.
    fn tell_refused(&mut self, why: Discard, now: Time) {
        let (told, at) = self.told_refused;
        let is_deaf = self.state == State::Down && self.remote_discriminator == 0;
        if is_deaf && told != Some(why) && at.is_none_or(|at| now.since(at) >= REFUSALS) {
            self.told_refused = (Some(why), Some(now));
            self.news.push_back(News::Refused(why));
        }
    }

    /// Section 6.8.6, from the authentication on, in its order.
    fn take(&mut self, received: &Received<'_>, at: Time, now: Time) -> Result<(), Discard> {
        let packet = &received.packet;
        self.authenticate(received, at)?;
        self.remote_discriminator = packet.my_discriminator;
        self.remote_state = packet.state;
        self.remote_diagnostic = packet.diagnostic;
        self.remote_demand = packet.demand;
        let gap = self.timing.received(packet, at);
        self.sequence_holds_until = Some(at + self.timing.detection_time().saturating_mul(2));
        if let Some(gap) = gap.filter(|_| self.state == State::Up) {
            self.jitter.record(gap);
        }
        if packet.is_final {
            if let Some(since) = self.timing.end_poll(now) {
                self.news.push_back(News::Verified { since });
            }
        }
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        self.follow(packet.state, now);
        self.acquit(packet.state, at);
        // "If the Poll (P) bit is set, send a BFD Control packet to the remote system with the Poll (P) bit clear, and the
        // Final (F) bit set".
        self.owes_final |= packet.poll;
        Ok(())
    }

    /// What we did wrong has had no effect if the neighbour still hears us a good while after it: from then on a silence is
    /// the neighbour's.
    fn acquit(&mut self, remote: State, at: Time) {
        let effect = self.timing.remote_detection_time(self.config.multiplier).saturating_mul(2).max(SLOW);
        let is_over = self.own_fault.as_ref().is_some_and(|(since, _)| at.since(*since) >= effect);
        if is_over && (self.state, remote) == (State::Up, State::Up) {
            self.own_fault = None;
        }
    }

    fn authenticate(&mut self, received: &Received<'_>, at: Time) -> Result<(), Discard> {
        if self.sequence_holds_until.is_none_or(|until| at >= until) {
            self.sequence.forget();
        }
        match (&self.config.auth, received.has_auth) {
            (None, true) => Err(Discard::UnexpectedAuth),
            (None, false) => Ok(()),
            (Some(_), false) => Err(Discard::MissingAuth),
            (Some(auth), true) => auth::verify(auth, &mut self.sequence, received),
        }
    }

    /// What the neighbour's state makes of ours (the diagram of section 6.2).
    fn follow(&mut self, remote: State, now: Time) {
        match (remote, self.state) {
            (State::AdminDown, State::Down) => {}
            (State::AdminDown, _) => self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, now),
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic, now),
            (State::Init, State::Down) => self.enter(State::Up, self.diagnostic, now),
            (State::Init | State::Up, State::Init) => self.enter(State::Up, self.diagnostic, now),
            (State::Down, State::Up) => self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, now),
            _ => {}
        }
    }

    fn enter(&mut self, state: State, diagnostic: Diagnostic, now: Time) {
        if (self.state, self.diagnostic) == (state, diagnostic) {
            return;
        }
        match (self.state, state) {
            (State::Up, State::Up) => {}
            (State::Up, _) => self.counters.down += 1,
            (_, State::Up) => self.counters.up += 1,
            _ => {}
        }
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.diagnostic = diagnostic;
        self.is_news = true;
        self.set_interval(now);
    }

    fn set_interval(&mut self, now: Time) {
        // Nobody polls who does not listen to the answer.
        let heard = self.remote_discriminator != 0 && self.state != State::AdminDown;
        self.timing.set_local(self.config.interval, self.state == State::Up, heard, now);
    }

    /// Time passed, and every packet that had come by `now` has been received.
    pub fn handle_timeout(&mut self, now: Time) {
        let Some(deadline) = self.timing.deadline().filter(|at| *at <= now) else { return };
        let silence = now.since(self.timing.last_rx().unwrap_or(deadline));
        let limit = self.timing.detection_time();
        // Section 6.8.1, bfd.RemoteDiscr: "If a period of a Detection Time passes without the receipt of a valid,
        // authenticated BFD packet from the remote system, this variable MUST be set to zero".
        let (deaf, again) = (self.timing.is_deaf(), self.counted_anew());
        self.remote_discriminator = 0;
        self.remote_demand = false;
        self.owes_final = false;
        self.timing.lost();
        // RFC 5882 section 3.2 excuses a neighbour that says AdminDown, not one that is silent.
        let excused = self.remote_state == State::AdminDown && self.state == State::Down;
        let heard = matches!(self.state, State::Init | State::Up);
        if heard || excused {
            self.remote_state = State::Down;
        }
        if heard {
            self.enter(State::Down, Diagnostic::DETECTION_EXPIRED, now);
        }
        if heard || excused {
            let words = format!(
                "silence for {} (detection time {}{again}){}",
                millis(silence),
                millis(limit),
                self.refusals()
            );
            // What we lost ourselves is not the neighbour's silence, and nothing that it could have noticed.
            let fault = deaf.then(|| Fault::Deaf(NO_ROOM.to_owned()));
            self.tell_of(words, fault, now);
        }
    }

    /// What came in a silence, if anything did.
    fn refusals(&self) -> String {
        match self.last_discard.filter(|_| self.refused > 0) {
            Some(why) => {
                format!("; packets that came in it were refused ({}), the last: {why}", self.refused)
            }
            None => String::new(),
        }
    }

    /// Why the silence is longer than a detection time, if it is.
    fn counted_anew(&self) -> &'static str {
        match (self.timing.is_forgiven(), self.timing.is_deafened()) {
            (true, _) => ", counted anew after our own absence",
            (false, true) => ", counted anew after packets found no room here",
            (false, false) => "",
        }
    }

    /// When [`Session::handle_timeout`] or [`Session::poll_transmit`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let periodic = if self.sends_periodically() { self.timing.next_tx() } else { None };
        let at_once = self.owes_final.then_some(Time::ZERO);
        let news = (self.is_news && self.may_speak()).then(|| self.burst_allows_at());
        [self.timing.deadline(), periodic, at_once, news, self.leaves_at].into_iter().flatten().min()
    }

    fn burst_allows_at(&self) -> Time {
        self.burst - STEP * (BURST - 1)
    }

    /// True if a silence would be judged at `now`: everything that has come has to be received first.
    pub fn judges_at(&self, now: Time) -> bool {
        self.timing.deadline().is_some_and(|at| at <= now)
    }

    /// Section 6.8.7: what keeps a system from speaking at all.
    fn may_speak(&self) -> bool {
        !(self.config.passive && self.remote_discriminator == 0)
    }

    fn sends_periodically(&self) -> bool {
        // A neighbour in Demand mode is spared, once both are Up and unless a Poll is under way.
        let spared = self.remote_demand
            && (self.state, self.remote_state) == (State::Up, State::Up)
            && !self.timing.is_polling();
        self.may_speak() && !spared
    }

    /// Appends the packet that is due now, if one is, to `out`; true if so. Call until false.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.owes_final) {
            // At once, "without respect to the transmission timer or any other transmission limitations".
            self.put(false, true, out);
            return true;
        }
        let due = self.sends_periodically() && self.timing.next_tx().is_some_and(|at| at <= now);
        let is_news = self.is_news && self.may_speak() && self.burst_allows_at() <= now;
        if !due && !is_news {
            return false;
        }
        if is_news {
            self.burst = self.burst.max(now) + STEP;
        }
        let late = self.timing.sent(&mut self.random, self.config.multiplier, now);
        if let Some(late) = late.filter(|_| due && !is_news) {
            self.lateness.record(late);
        }
        let poll = self.timing.is_polling() && self.state != State::AdminDown;
        if poll {
            self.timing.polled(now);
        }
        self.put(poll, false, out);
        self.is_news = false;
        true
    }

    fn put(&mut self, poll: bool, is_final: bool, out: &mut Vec<u8>) {
        let packet = Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            is_final,
            // Section 4.1: set only if BFD "can continue to function through disruptions in the control plane".
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote_discriminator,
            desired_min_tx: micros(self.timing.desired_min_tx()),
            required_min_rx: micros(self.timing.required_min_rx()),
            required_min_echo_rx: 0,
        };
        let start = out.len();
        packet.put(self.config.auth.as_ref().map_or(0, auth::len), out);
        if let Some(auth) = &self.config.auth {
            // Section 6.7.3: "when the transmitted BFD Control packet carries different contents than the previously
            // transmitted packet".
            let changed = self.last_sent != Some(packet);
            auth::sign(auth, &mut self.sequence, changed, start, out);
            self.last_sent = Some(packet);
        }
        self.counters.sent += 1;
    }

    /// News since the last call.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// True if there are some.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    fn tell(&mut self, now: Time) {
        let key = (self.state, self.remote_state == State::AdminDown);
        // Hundreds of packets that say nothing new need no words.
        if self.told.unwrap_or((State::Down, false)) != key {
            self.tell_of(self.words(), None, now);
        }
    }

    /// `fault`: what was wrong here in the silence that has just ended.
    fn tell_of(&mut self, reason: String, fault: Option<Fault>, now: Time) {
        let key = (self.state, self.remote_state == State::AdminDown);
        if self.told.unwrap_or((State::Down, false)) == key {
            return;
        }
        let was_up = self.told.is_some_and(|(state, _)| state == State::Up);
        self.told = Some(key);
        let own_fault = match &self.own_fault {
            Some((at, why)) if now.since(*at) <= AFTERMATH => Some(why.clone()),
            _ => fault,
        };
        let own_fault = own_fault.filter(|_| was_up && self.state != State::Up);
        self.news.push_back(News::Changed(Change {
            state: self.state,
            remote_state: self.remote_state,
            diagnostic: self.diagnostic,
            reason,
            own_fault,
            at: now,
        }));
    }

    fn words(&self) -> String {
        match (self.state, self.remote_state) {
            (State::AdminDown, _) => "administratively down".to_owned(),
            (_, State::AdminDown) => "the neighbour is administratively down".to_owned(),
            // It is heard, and neither Down nor AdminDown: it was one of them, and waits for our Down to reach it.
            (State::Down, State::Init | State::Up) => {
                "the neighbour is not administratively down any more".to_owned()
            }
            (State::Down, State::Down) => match self.remote_diagnostic {
                Diagnostic::NONE => "the neighbour signalled Down".to_owned(),
                why => format!("the neighbour signalled Down: {why}"),
            },
            (State::Init, _) => "the neighbour is heard".to_owned(),
            (State::Up, _) => "both ends hear each other".to_owned(),
        }
    }

    /// Other intervals, multiplier or role; the path and the authentication are the same.
    pub fn reconfigure(&mut self, config: SessionConfig, now: Time) {
        // Section 6.8.12: Detect Mult may change at any time; the next packet tells it.
        self.is_news |= config.multiplier != self.config.multiplier;
        self.config = config;
        self.set_interval(now);
    }

    /// Asks the neighbour for a sign of life by a Poll Sequence; its Final is told as [`News::Verified`].
    pub fn verify(&mut self, now: Time) {
        if self.state == State::Up {
            self.timing.start_poll(now);
        }
    }

    /// We did not run for so long: if that is a good part of a detection time, silence counts from now on only (once
    /// until the next packet), and that the neighbour lost us is not held against it.
    pub fn forgive(&mut self, away: Duration, why: &str, now: Time) {
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(250));
        if away < (self.timing.detection_time() / 4).clamp(least, most) {
            return;
        }
        self.own_fault = Some((now, Fault::Absent(why.to_owned())));
        if self.timing.forgive(now) {
            self.counters.forgiven += 1;
        }
    }

    /// The kernel had no room for packets that came, up to now, and the neighbour's may have been among them: silence counts
    /// from now on only, but is death after twice the detection time all the same.
    pub fn overflowed(&mut self, now: Time) {
        if self.timing.deafen(now) {
            self.counters.forgiven += 1;
        }
    }

    /// Our packets do not leave: a session that goes down now says nothing of the neighbour.
    pub fn excuse(&mut self, why: &str, now: Time) {
        self.own_fault = Some((now, Fault::Mute(why.to_owned())));
    }

    /// Section 6.8.16: down by an operator's wish, for good. The neighbour is told for a detection time of its own.
    pub fn leave(&mut self, now: Time) {
        if self.leaves_at.is_none() {
            self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVE, now);
            self.leaves_at = Some(now + self.timing.remote_detection_time(self.config.multiplier));
            self.tell(now);
        }
    }

    /// True once the neighbour has been told long enough, or there is none.
    pub fn has_left(&self, now: Time) -> bool {
        self.leaves_at.is_some_and(|at| at <= now || self.remote_discriminator == 0)
    }

    /// True from [`Session::leave`] on.
    pub fn is_leaving(&self) -> bool {
        self.leaves_at.is_some()
    }

    /// Everything that is shown.
    pub fn status(&self) -> SessionStatus {
        SessionStatus {
            state: self.state,
            since: self.since,
            remote_state: self.remote_state,
            diagnostic: self.diagnostic,
            remote_diagnostic: self.remote_diagnostic,
            discriminators: (self.local_discriminator, self.remote_discriminator),
            tx_interval: self.timing.tx_interval(),
            rx_interval: self.timing.rx_interval(),
            detection_time: self.timing.detection_time(),
            multipliers: (self.config.multiplier, self.timing.remote_multiplier()),
            polling: self.timing.is_polling(),
            counters: self.counters,
            last_discard: self.last_discard.map(|why| why.to_string()),
            lateness: self.lateness,
            jitter: self.jitter,
        }
    }
}

fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
