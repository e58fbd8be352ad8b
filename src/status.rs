//! The read-only picture of the daemon: what `status -j` prints. Field names are fixed by the contract.
//!
//! The core fills it in; the control socket, `announcerctl` and later the metrics read it. Points in time are
//! RFC 3339 in UTC.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

use crate::announcer::effect::{DrillNews, Sample};
use crate::announcer::event::Outcome;
use crate::announcer::journal::{Record, State};
use crate::bfd::SessionStatus;
use crate::bfd::histogram::{BOUNDS_US, Histogram};
use crate::time::Time;

/// Where the wall clock stood at a point of the core's clock: turns [`Time`] into dates.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// A point of the core's clock…
    pub at: Time,
    /// …and the wall clock then.
    pub wall: SystemTime,
}

impl WallClock {
    /// The wall clock at `time`, as RFC 3339 in UTC with microseconds.
    pub fn date(&self, time: Time) -> String {
        let wall = if time >= self.at {
            self.wall.checked_add(time.since(self.at))
        } else {
            self.wall.checked_sub(self.at.since(time))
        };
        // The formatter knows the years 1970 to 9999; other dates can only come from a broken clock.
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let date = wall.unwrap_or(SystemTime::UNIX_EPOCH).clamp(SystemTime::UNIX_EPOCH, last);
        humantime::format_rfc3339_micros(date).to_string()
    }
}

/// All that `status -j` prints.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: NodeStatus,
    /// Instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
    /// Checks, in the order of the configuration.
    pub checks: Vec<CheckStatus>,
    /// BGP peers.
    pub bgp: Vec<BgpStatus>,
    /// BFD sessions.
    pub bfd: Vec<BfdStatus>,
    /// Kernel objects that are wanted, or ours and not wanted.
    pub kernel: Vec<KernelStatus>,
}

/// The node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// The daemon's version.
    pub version: String,
    /// When the daemon started.
    pub started: String,
}

/// An instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: String,
    /// Why, in words.
    pub reason: String,
    /// The operator's override.
    #[serde(rename = "override")]
    pub forced: Option<OverrideStatus>,
    /// "down", "well" or "undecided"; none without a primary.
    pub primary: Option<String>,
    /// "met", "unmet" or "unknown"; none without `require`.
    pub require: Option<String>,
    /// What it waits for, and until when: a takeover delay, a failback delay, a drain.
    pub pending: Option<PendingStatus>,
    /// Flaps that lengthen the failback delay now.
    pub flaps: u32,
    /// True while a drill pretends that its primary is down, or hands back from that.
    #[serde(default)]
    pub drill: bool,
}

/// An override.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OverrideStatus {
    /// MASTER or BACKUP.
    pub state: State,
    /// When it expires; none: it lasts until `auto`.
    pub until: Option<String>,
}

/// Something that will happen if nothing comes in between.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PendingStatus {
    /// What: "takeover", "failback", "drain".
    pub what: String,
    /// When.
    pub at: String,
}

/// A check.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// "up", "down" or "unknown".
    pub verdict: String,
    /// Since when.
    pub since: String,
    /// Round-trip time of the last success, microseconds.
    pub last_rtt_us: Option<u64>,
    /// What was wrong with the last probe that was not a success.
    pub last_error: Option<String>,
    /// Consecutive successes now.
    pub successes: u32,
    /// Consecutive failures now (of a window: failures in it).
    pub failures: u32,
}

/// A BGP peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BgpStatus {
    /// Its name.
    pub name: String,
    /// The state's name in RFC 4271.
    pub state: String,
    /// Seconds since it was established; 0 if it is not.
    pub uptime_s: u64,
    /// Prefixes announced to it now.
    pub advertised: u64,
    /// Why the last session ended or could not begin.
    pub last_error: Option<String>,
}

impl BgpStatus {
    /// A peer before the first try, which waits until the kernel's state is known.
    pub(crate) fn idle(name: &str) -> Self {
        let state = crate::bgp::PeerState::Idle.to_string();
        BgpStatus { name: name.to_owned(), state, uptime_s: 0, advertised: 0, last_error: None }
    }
}

/// A BFD session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BfdStatus {
    /// Its number in this process.
    pub id: u32,
    /// The path: the neighbour's address, and what else tells it apart.
    pub name: String,
    /// The state's name in RFC 5880.
    pub state: String,
    /// The neighbour's.
    pub remote_state: String,
    /// Since when.
    pub since: String,
    /// Why it last left Up, in the words of RFC 5880.
    pub diagnostic: String,
    /// What happened last, in words.
    pub reason: String,
    /// Why packets cannot be sent or received here.
    pub trouble: Option<String>,
    /// Checks that go by it.
    pub checks: Vec<String>,
    /// BGP peers that are guarded by it.
    pub peers: Vec<String>,
    /// What the protocol's own thread knows; none before its first report.
    pub detail: Option<BfdDetail>,
}

/// What was negotiated and counted in a BFD session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BfdDetail {
    /// Ours.
    pub local_discriminator: u32,
    /// The neighbour's; 0 while it is not heard.
    pub remote_discriminator: u32,
    /// The interval of our packets as negotiated, before jitter, microseconds; none: the neighbour wants none.
    pub tx_interval_us: Option<u64>,
    /// The same of the neighbour's.
    pub rx_interval_us: u64,
    /// Silence of this length is death, microseconds.
    pub detection_time_us: u64,
    /// Ours.
    pub multiplier: u8,
    /// The neighbour's.
    pub remote_multiplier: u8,
    /// A Poll Sequence is under way.
    pub polling: bool,
    /// What the neighbour says why it left Up.
    pub remote_diagnostic: String,
    /// Packets sent.
    pub sent: u64,
    /// Packets taken.
    pub received: u64,
    /// Packets for this session that were discarded.
    pub discarded: u64,
    /// Why the last of them was.
    pub last_discard: Option<String>,
    /// Times that it came Up.
    pub up: u64,
    /// Times that it left Up.
    pub down: u64,
    /// Times that silence was forgiven since we ourselves had not run, or had no room for packets.
    pub forgiven: u64,
    /// How late our periodic packets left.
    pub lateness: HistogramStatus,
    /// By how much gaps between the neighbour's packets were longer than agreed.
    pub jitter: HistogramStatus,
}

/// A histogram of durations.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistogramStatus {
    /// Upper bounds of the buckets, microseconds.
    pub bounds_us: Vec<u64>,
    /// Counts of the buckets, and of what is above them, last.
    pub counts: Vec<u64>,
    /// All together, microseconds.
    pub sum_us: u64,
    /// The greatest, microseconds.
    pub max_us: u64,
    /// The bound below which 99 of 100 lie, microseconds.
    pub p99_us: u64,
}

impl HistogramStatus {
    pub(crate) fn new(h: &Histogram) -> Self {
        HistogramStatus {
            bounds_us: BOUNDS_US.to_vec(),
            counts: h.counts().to_vec(),
            sum_us: h.sum_us(),
            max_us: h.max_us(),
            p99_us: h.quantile_us(0.99),
        }
    }
}

impl BfdDetail {
    /// A session's status as the outside sees it.
    pub fn new(s: &SessionStatus) -> Self {
        BfdDetail {
            local_discriminator: s.discriminators.0,
            remote_discriminator: s.discriminators.1,
            tx_interval_us: s.tx_interval.map(micros),
            rx_interval_us: micros(s.rx_interval),
            detection_time_us: micros(s.detection_time),
            multiplier: s.multipliers.0,
            remote_multiplier: s.multipliers.1,
            polling: s.polling,
            remote_diagnostic: s.remote_diagnostic.to_string(),
            sent: s.counters.sent,
            received: s.counters.received,
            discarded: s.counters.discarded,
            last_discard: s.last_discard.clone(),
            up: s.counters.up,
            down: s.counters.down,
            forgiven: s.counters.forgiven,
            lateness: HistogramStatus::new(&s.lateness),
            jitter: HistogramStatus::new(&s.jitter),
        }
    }
}

/// A kernel object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KernelStatus {
    /// "route", "address", …
    pub kind: String,
    /// The object, as one would tell `ip`.
    pub object: String,
    /// True if it is wanted.
    pub desired: bool,
    /// True if the kernel has it.
    pub observed: bool,
    /// Why the two differ, in the kernel's own words.
    pub error: Option<String>,
}

/// An event of `events -j`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventStatus {
    /// Number of the transition; the same again means the same transition with more of its timeline.
    pub seq: u64,
    /// When.
    pub time: String,
    /// Whose.
    pub instance: String,
    /// From which state.
    pub from: State,
    /// To which state.
    pub to: State,
    /// Why.
    pub reason: String,
    /// Microseconds since the first step of it.
    pub timeline_us: TimelineStatus,
}

/// A probe's result, on a stream of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// When it was sent.
    pub time: String,
    /// Of which check.
    pub check: String,
    /// "ok", "error" or "blind".
    pub result: String,
    /// Round-trip time, microseconds; of an error, how long it took to know, unless that was the time-out.
    pub rtt_us: Option<u64>,
}

impl ProbeStatus {
    /// A sample as the outside sees it.
    pub fn new(sample: &Sample, clock: &WallClock) -> Self {
        let (result, rtt) = match &sample.outcome {
            Outcome::Success { rtt } => ("ok", rtt.or(sample.took)),
            Outcome::Failure(_) => ("error", sample.took),
            Outcome::Blind(_) => ("blind", sample.took),
        };
        ProbeStatus {
            time: clock.date(sample.sent),
            check: sample.check.to_string(),
            result: result.to_owned(),
            rtt_us: rtt.map(micros),
        }
    }
}

/// A line of a drill's report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrillStatus {
    /// When.
    pub time: String,
    /// Which instance.
    pub instance: String,
    /// Microseconds since the drill began.
    pub since_began_us: u64,
    /// Microseconds since the takeover or the way back began.
    pub in_phase_us: u64,
    /// A step was verified (true), or failed; none: no step. Of the last line: whether every step was verified.
    pub ok: Option<bool>,
    /// In words.
    pub text: String,
    /// This is the last line.
    pub done: bool,
}

impl DrillStatus {
    /// News of a drill as the outside sees them.
    pub fn new(news: &DrillNews, clock: &WallClock) -> Self {
        DrillStatus {
            time: clock.date(news.at),
            instance: news.instance.to_string(),
            since_began_us: micros(news.since_began),
            in_phase_us: micros(news.in_phase),
            ok: news.ok,
            text: news.text.clone(),
            done: news.done,
        }
    }
}

/// `timeline_us`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // the steps are explained at `journal::Timeline`
pub struct TimelineStatus {
    pub first_bad_probe: Option<u64>,
    pub decision: Option<u64>,
    pub kernel_acked: Option<u64>,
    pub update_written: Option<u64>,
    pub update_acked: Option<u64>,
    pub notify_done: Option<u64>,
}

impl EventStatus {
    /// A journal record as the outside sees it.
    pub fn new(record: &Record, clock: &WallClock) -> Self {
        let t = &record.timeline;
        let steps =
            [t.first_bad_probe, t.decision, t.kernel_acked, t.update_written, t.update_acked, t.notify_done];
        let first = steps.into_iter().flatten().min().unwrap_or(record.time);
        let us = |step: Option<Time>| step.map(|s| micros(s.since(first)));
        EventStatus {
            seq: record.seq,
            time: clock.date(record.time),
            instance: record.instance.to_string(),
            from: record.from,
            to: record.to,
            reason: record.reason.clone(),
            timeline_us: TimelineStatus {
                first_bad_probe: us(t.first_bad_probe),
                decision: us(t.decision),
                kernel_acked: us(t.kernel_acked),
                update_written: us(t.update_written),
                update_acked: us(t.update_acked),
                notify_done: us(t.notify_done),
            },
        }
    }
}

/// What `notify_url` is told of a transition: an event, and what else of that moment a reader wants to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The node's name.
    pub node: String,
    /// As `events -j` has it, its timeline as far as it was known when this was sent.
    #[serde(flatten)]
    pub event: EventStatus,
    /// True if a drill was under way.
    pub drill: bool,
    /// The operator's override.
    #[serde(rename = "override")]
    pub forced: Option<OverrideStatus>,
}

/// Whole microseconds, saturating.
pub fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_clock_gives_a_date_and_no_panic() {
        let clock = WallClock { at: Time::from_nanos(10), wall: SystemTime::UNIX_EPOCH };
        assert_eq!(clock.date(Time::ZERO), "1970-01-01T00:00:00.000000Z");
        assert_eq!(clock.date(Time::from_nanos(i64::MAX)), "2262-04-11T23:47:16.854775Z");
        let clock =
            WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799) };
        assert_eq!(clock.date(Time::from_nanos(i64::MAX)), "9999-12-31T23:59:59.000000Z");
    }
}
