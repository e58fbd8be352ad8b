//! How often packets go out, and how long silence may last (RFC 5880 sections 6.8.2 to 6.8.4 and 6.8.7).

use std::time::Duration;

use super::config::SLOW;
use super::random::{Random, Share};
use super::wire::Packet;
use crate::time::Time;

/// A Poll Sequence (section 6.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poll {
    Idle,
    /// Packets carry the P bit until a Final comes. `again`: what was polled for is old already. `stale`: Finals that
    /// are still to come for Polls of before, and say nothing of this one.
    Active {
        since: Time,
        again: bool,
        stale: u32,
    },
}

/// The timing variables of one session.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    /// bfd.DesiredMinTxInterval, as we tell it.
    desired_min_tx: Duration,
    /// bfd.RequiredMinRxInterval, as we tell it.
    required_min_rx: Duration,
    /// What we go by until the neighbour has acknowledged a change (section 6.8.3).
    tx_in_use: Duration,
    rx_in_use: Duration,
    /// bfd.RemoteMinRxInterval; zero: it wants no periodic packets.
    remote_min_rx: Duration,
    /// Desired Min TX Interval and Detect Mult of the last packet.
    remote_min_tx: Duration,
    remote_multiplier: u8,
    poll: Poll,
    /// Packets with the P bit that no Final has come for.
    unanswered: u32,
    /// When the last of them went out.
    polled_at: Option<Time>,
    last_tx: Option<Time>,
    /// The interval when the last packet went out.
    last_interval: Option<Duration>,
    last_rx: Option<Time>,
    share: Share,
    /// We were away: silence counts from here at the earliest. Once in each silence.
    grace: Option<Time>,
    /// The last time in this silence that packets found no room here: the neighbour's may have been among them.
    deaf: Option<Time>,
}

impl Timing {
    pub fn new(interval: Duration, random: &mut Random, multiplier: u8) -> Self {
        let slow = interval.max(SLOW);
        Timing {
            desired_min_tx: slow,
            required_min_rx: interval,
            tx_in_use: slow,
            rx_in_use: interval,
            // Section 6.8.1: "MUST be initialized to 1".
            remote_min_rx: Duration::from_micros(1),
            remote_min_tx: Duration::ZERO,
            remote_multiplier: 0,
            poll: Poll::Idle,
            unanswered: 0,
            polled_at: None,
            last_tx: None,
            last_interval: None,
            last_rx: None,
            share: Share::draw(random, multiplier),
            grace: None,
            deaf: None,
        }
    }

    pub fn desired_min_tx(&self) -> Duration {
        self.desired_min_tx
    }

    pub fn required_min_rx(&self) -> Duration {
        self.required_min_rx
    }

    pub fn remote_multiplier(&self) -> u8 {
        self.remote_multiplier
    }

    pub fn last_rx(&self) -> Option<Time> {
        self.last_rx
    }

    /// The interval of our packets, before jitter; None: the neighbour wants none (section 6.8.7).
    pub fn tx_interval(&self) -> Option<Duration> {
        (!self.remote_min_rx.is_zero()).then(|| self.tx_in_use.max(self.remote_min_rx))
    }

    /// The interval agreed on for the neighbour's packets, before its jitter.
    pub fn rx_interval(&self) -> Duration {
        self.rx_in_use.max(self.remote_min_tx)
    }

    /// Section 6.8.4: the *remote* Detect Mult times the greater of what we require and what it desires.
    pub fn detection_time(&self) -> Duration {
        self.rx_interval().saturating_mul(u32::from(self.remote_multiplier))
    }

    /// How long the neighbour takes to miss us, `multiplier` being ours.
    pub fn remote_detection_time(&self, multiplier: u8) -> Duration {
        self.desired_min_tx.max(self.remote_min_rx).saturating_mul(u32::from(multiplier))
    }

    /// When silence has lasted a detection time; None before the first packet.
    pub fn deadline(&self) -> Option<Time> {
        let since = self.silent_since()?;
        let limit = self.detection_time();
        // Who floods us for ever does not keep the dead alive: one detection time more, and no longer.
        Some(self.deaf.map_or(since, |at| at.clamp(since, since + limit)) + limit)
    }

    fn silent_since(&self) -> Option<Time> {
        self.last_rx.map(|at| at.max(self.grace.unwrap_or(at)))
    }

    /// True if a silence that ends at [`Timing::deadline`] has no whole detection time in which nothing was lost here.
    pub fn is_deaf(&self) -> bool {
        let limit = self.detection_time();
        self.deaf.zip(self.silent_since()).is_some_and(|(at, since)| at > since + limit)
    }

    /// When the next periodic packet is due.
    pub fn next_tx(&self) -> Option<Time> {
        let interval = self.tx_interval()?;
        Some(self.last_tx.map_or(Time::ZERO, |at| at + self.share.of(interval)))
    }

    /// New values of ours. `up`: the session is Up; `heard`: there is a neighbour to poll.
    pub fn set_local(&mut self, interval: Duration, up: bool, heard: bool, now: Time) {
        // Section 6.8.3: "When bfd.SessionState is not Up, the system MUST set bfd.DesiredMinTxInterval to a value of not
        // less than one second".
        let tx = if up { interval } else { interval.max(SLOW) };
        // What makes us send less, or wait less, only counts once the neighbour knows.
        if !up || !heard || tx < self.tx_in_use {
            self.tx_in_use = tx;
        }
        if !up || !heard || interval > self.rx_in_use {
            self.rx_in_use = interval;
        }
        if (tx, interval) == (self.desired_min_tx, self.required_min_rx) {
            return;
        }
        self.desired_min_tx = tx;
        self.required_min_rx = interval;
        // "If either bfd.DesiredMinTxInterval is changed or bfd.RequiredMinRxInterval is changed, a Poll Sequence MUST be
        // initiated". Without a neighbour there is nobody to answer it.
        if heard {
            self.start_poll(now);
        }
    }

    pub fn start_poll(&mut self, now: Time) {
        self.poll = match self.poll {
            Poll::Idle => {
                // What was asked so long ago was answered, or is lost.
                if self.polled_at.is_none_or(|at| now.since(at) >= self.detection_time()) {
                    self.unanswered = 0;
                }
                Poll::Active { since: now, again: false, stale: self.unanswered }
            }
            Poll::Active { since, stale, .. } => Poll::Active { since, again: true, stale },
        };
    }

    /// A packet with the P bit went out.
    pub fn polled(&mut self, now: Time) {
        self.polled_at = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    pub fn is_polling(&self) -> bool {
        self.poll != Poll::Idle
    }

    /// A Final came (section 6.5). Returns when the sequence that it ends began.
    ///
    /// Finals carry no number. Where a Poll of an earlier sequence has found no answer yet, the first Final may be for that;
    /// after a detection time it was lost, and is awaited no longer.
    pub fn end_poll(&mut self, now: Time) -> Option<Time> {
        // Section 6.8.6: only "if a Poll Sequence is being transmitted": no Poll of ours, no answer to it. A network that
        // repeats packets brings such Finals.
        self.unanswered = self.unanswered.checked_sub(1)?;
        let Poll::Active { since, again, stale } = self.poll else { return None };
        if stale > 0 && now.since(since) < self.detection_time() {
            self.poll = Poll::Active { since, again, stale: stale - 1 };
            return None;
        }
        if again {
            // The older values stay in use: they are the more patient ones.
            self.poll = Poll::Active { since: now, again: false, stale: self.unanswered };
        } else {
            self.poll = Poll::Idle;
            self.tx_in_use = self.desired_min_tx;
            self.rx_in_use = self.required_min_rx;
        }
        Some(since)
    }

    /// A packet came at `at`. Returns by how much the gap before it was longer than agreed.
    pub fn received(&mut self, packet: &Packet, at: Time) -> Option<Duration> {
        let agreed = self.rx_interval();
        let gap = self.last_rx.map(|last| at.since(last).saturating_sub(agreed));
        self.remote_min_rx = Duration::from_micros(packet.required_min_rx.into());
        self.remote_min_tx = Duration::from_micros(packet.desired_min_tx.into());
        self.remote_multiplier = packet.multiplier;
        self.last_rx = self.last_rx.max(Some(at));
        (self.grace, self.deaf) = (None, None);
        gap
    }

    /// A packet went out, periodic or because it says something new. Returns how late a periodic one was; one that only
    /// became due by a new interval is not late.
    pub fn sent(&mut self, random: &mut Random, multiplier: u8, now: Time) -> Option<Duration> {
        let steady = self.last_interval == self.tx_interval();
        let late = self.next_tx().filter(|_| steady).map(|due| now.since(due));
        self.last_interval = self.tx_interval();
        self.last_tx = Some(now);
        self.share = Share::draw(random, multiplier);
        late
    }

    /// The neighbour is lost: what it told holds no longer.
    pub fn lost(&mut self) {
        self.remote_min_rx = Duration::from_micros(1);
        self.last_rx = None;
        (self.grace, self.deaf) = (None, None);
        self.poll = Poll::Idle;
        self.unanswered = 0;
    }

    /// Silence counts from now on only, once until the next packet: true if that changed anything.
    pub fn forgive(&mut self, now: Time) -> bool {
        if self.last_rx.is_none() || self.grace.is_some() {
            return false;
        }
        self.grace = Some(now);
        true
    }

    /// Packets found no room here: silence counts from now on, within the bounds of [`Timing::deadline`]. True if this is
    /// the first time in this silence.
    pub fn deafen(&mut self, now: Time) -> bool {
        self.last_rx.is_some() && self.deaf.replace(now).is_none()
    }

    /// True while packets found no room here in this silence.
    pub fn is_deafened(&self) -> bool {
        self.deaf.is_some()
    }

    /// True while the silence is one that we slept through.
    pub fn is_forgiven(&self) -> bool {
        self.grace.is_some()
    }
}
