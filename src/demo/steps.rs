//! The steps of a takeover and of a failback, when each was seen, and in which words it is told.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Exporter;
use super::lab::echo::Loss;
use super::lab::topology::{PRIMARY, STANDBY};
use super::lab::{Doing, Result};
use super::narrator::{Narrator, millis, say};
use crate::announcer::journal::State;
use crate::status::EventStatus;

/// One of the two changes.
pub struct Change {
    /// In words.
    pub name: &'static str,
    to: State,
    /// Who serves afterwards.
    pub serves: &'static str,
    /// The ISP's gateway afterwards.
    pub next_hop: IpAddr,
    has_bad_probe: bool,
}

/// From the primary to the standby.
pub const TAKEOVER: Change = Change {
    name: "the takeover",
    to: State::Master,
    serves: "standby",
    next_hop: IpAddr::V4(STANDBY),
    has_bad_probe: true,
};

/// And back.
pub const FAILBACK: Change = Change {
    name: "the failback",
    to: State::Backup,
    serves: "primary",
    next_hop: IpAddr::V4(PRIMARY),
    has_bad_probe: false,
};

/// When each step was seen.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    exporter: Exporter,
    first_bad_probe: Option<Instant>,
    decision: Option<Instant>,
    kernel: Option<Instant>,
    update_written: Option<Instant>,
    update_acked: Option<Instant>,
    /// The ISP's kernel has the new route.
    pub isp: Option<Instant>,
    /// The client's first answer.
    pub client: Option<Instant>,
}

impl Steps {
    /// Nothing was seen yet.
    pub fn new(exporter: Exporter) -> Self {
        Steps {
            exporter,
            first_bad_probe: None,
            decision: None,
            kernel: None,
            update_written: None,
            update_acked: None,
            isp: None,
            client: None,
        }
    }

    /// Takes over what the daemon tells of a transition.
    pub fn daemon(&mut self, story: &mut Narrator, change: &Change, event: &EventStatus, times: &Times) {
        if event.to != change.to {
            return;
        }
        if let Some(at) = times.first_bad_probe.filter(|_| change.has_bad_probe) {
            self.first_bad_probe = note_first(self.first_bad_probe, story, at, || {
                "standby  misses the primary: first bad probe".into()
            });
        }
        if let Some(at) = times.decision {
            self.decision = note_first(self.decision, story, at, || {
                format!("standby  decides: {} ({})", event.to.word(), event.reason)
            });
        }
        if let Some((at, done)) = times.kernel_acked.zip(self.kernel_does(event.to)) {
            self.kernel = note_first(self.kernel, story, at, || format!("standby  kernel says: {done}"));
        }
        let (update, meanwhile) = match event.to {
            State::Master => ("UPDATE", ""),
            _ => ("withdraw", "; address and route stay a second for packets under way"),
        };
        if let Some(at) = times.update_written {
            self.update_written = note_first(self.update_written, story, at, || {
                format!("standby  {update} is written to the ISP's session{meanwhile}")
            });
        }
        if let Some(at) = times.update_acked {
            self.update_acked = note_first(self.update_acked, story, at, || {
                format!("standby  {update} is acknowledged by the ISP's TCP")
            });
        }
    }

    /// What the kernel acknowledges with the transition; what it is asked for only after the drain does not count.
    fn kernel_does(&self, to: State) -> Option<&'static str> {
        match (to, self.exporter) {
            (State::Master, _) => Some("address and route added"),
            (_, Exporter::Bird) => Some("route removed; the address stays a second for packets under way"),
            (_, Exporter::Builtin) => None,
        }
    }

    fn list(&self, change: &Change) -> Vec<(&'static str, Option<Instant>)> {
        let mut list = vec![
            ("decision", self.decision),
            ("ISP's route", self.isp),
            ("client's first answer", self.client),
        ];
        if change.has_bad_probe {
            list.push(("first bad probe", self.first_bad_probe));
        }
        if self.kernel_does(change.to).is_some() {
            list.push(("kernel acknowledged", self.kernel));
        }
        if self.exporter == Exporter::Builtin {
            list.push(("UPDATE written", self.update_written));
            list.push(("UPDATE acknowledged", self.update_acked));
        }
        list
    }

    /// True once each step was seen.
    pub fn complete(&self, change: &Change) -> bool {
        self.list(change).iter().all(|(_, at)| at.is_some())
    }

    /// The steps that were not seen.
    pub fn missing(&self, change: &Change) -> String {
        let names = self.list(change).into_iter().filter(|(_, at)| at.is_none()).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Notes a step the first time that it is seen.
pub fn note_first(
    known: Option<Instant>,
    story: &mut Narrator,
    at: Instant,
    text: impl FnOnce() -> String,
) -> Option<Instant> {
    if known.is_none() {
        story.note(at, text());
    }
    known.or(Some(at))
}

/// An event's steps on our clock.
pub struct Times {
    first_bad_probe: Option<Instant>,
    decision: Option<Instant>,
    kernel_acked: Option<Instant>,
    update_written: Option<Instant>,
    update_acked: Option<Instant>,
}

/// The event has a date and distances; its date is that of the decision.
pub fn times_of(event: &EventStatus) -> Result<Times> {
    let date = humantime::parse_rfc3339(&event.time).doing("reading an event's date")?;
    let (now, wall) = (Instant::now(), SystemTime::now());
    let decided = now - wall.duration_since(date).unwrap_or_default();
    let steps = &event.timeline_us;
    let to_decision = Duration::from_micros(steps.decision.unwrap_or_default());
    let first = decided.checked_sub(to_decision).unwrap_or(decided);
    let at = |us: Option<u64>| us.map(|us| first + Duration::from_micros(us));
    Ok(Times {
        first_bad_probe: at(steps.first_bad_probe),
        decision: at(steps.decision),
        kernel_acked: at(steps.kernel_acked),
        update_written: at(steps.update_written),
        update_acked: at(steps.update_acked),
    })
}

/// Tells the distances that matter.
pub fn summary(takeover: &Steps, takeover_loss: Loss, failback: &Steps, failback_loss: Loss) {
    let between = |a: Option<Instant>, b: Option<Instant>| {
        a.zip(b).map_or("?".into(), |(a, b)| millis(b.saturating_duration_since(a)))
    };
    let Loss { sent, lost, longest_gap } = takeover_loss;
    say("\n== In short");
    say(&format!(
        "  takeover  first bad probe to decision {} ms",
        between(takeover.first_bad_probe, takeover.decision)
    ));
    let written = match takeover.update_written {
        Some(at) => format!("to the UPDATE in the socket {} ms, ", between(takeover.decision, Some(at))),
        None => String::new(),
    };
    say(&format!(
        "            decision to kernel {} ms, {written}to the ISP's route {} ms, to the client {} ms",
        between(takeover.decision, takeover.kernel),
        between(takeover.decision, takeover.isp),
        between(takeover.decision, takeover.client)
    ));
    say(&format!(
        "            the client lost {lost} of {sent} datagrams, no service for {} ms",
        millis(longest_gap)
    ));
    let Loss { sent, lost, .. } = failback_loss;
    say(&format!(
        "  failback  decision to the ISP's route {} ms; the client lost {lost} of {sent} datagrams",
        between(failback.decision, failback.isp)
    ));
}
