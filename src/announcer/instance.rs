//! The state machine of one instance: INIT, BACKUP, MASTER, FAULT, STOP.
//!
//! Pure: it is told what is known ([`Inputs`]) and what time it is, and says which transition follows. It knows
//! nothing of probes, kernel or scripts.

mod call;
mod deciding;
mod leaving;

use std::sync::Arc;

use super::drill::Pretence;
use super::gate::{PrimaryState, PrimaryView, RequireState, RequireView};
use super::journal::State;
use super::memory::{Override, Remembered};
use crate::config::model::{self, Failback};
use crate::time::Time;

/// What an instance decides by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// Its primary; None if it has none.
    pub primary: Option<PrimaryView>,
    /// Its `require`.
    pub require: RequireView,
    /// What is required has answered so that the primary's failures are not ours ([`super::witness`]). (SPEC asks for an answer to a
    /// probe that was sent after the first failure; but who was cut off after that one would then pass.)
    pub witnessed: bool,
    /// Enough of the primary's checks that are down are so by failures that are confirmed, and have not answered since.
    pub confirmed: bool,
    /// What is required has answered since a drill began that pretends the primary's death.
    pub drilled: bool,
    /// It has, but it may be we who were cut off, and a session of the primary's has until then to come back.
    pub returning: Option<Time>,
}

impl Inputs {
    /// The primary is down, and it is not we who are cut off.
    pub fn is_really_down(&self) -> bool {
        self.witnessed && self.primary.as_ref().is_some_and(|p| p.state == PrimaryState::Down)
    }
}

/// A change of state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// From.
    pub from: State,
    /// To.
    pub to: State,
    /// Why, in words.
    pub reason: String,
    /// The first failed probe of the row that led here, if failures did.
    pub first_bad: Option<Time>,
    /// MASTER was taken up again where the last process left it: nothing changes in the world.
    pub resumed: bool,
    /// The primary failed while we were cut off: those failures prove nothing and are to be forgotten.
    pub was_cut_off: bool,
}

/// How much of its kernel objects an instance wants; more from top to bottom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Nothing: it has left.
    Nothing,
    /// Those that are wanted always.
    Base,
    /// All but what announces: traffic that is still under way is served.
    Drain,
    /// All.
    Full,
}

/// The data of a state live in it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Init {
        until: Time,
        resumed: bool,
    },
    Backup {
        takeover: Option<Time>,
        drain: Option<Time>,
    },
    Master {
        well_since: Option<Time>,
    },
    Fault {
        was_master: bool,
        met_since: Option<Time>,
    },
    /// `gshut`: until then BGP goes on announcing with GRACEFUL_SHUTDOWN, and everything is there for what still comes.
    Stop {
        gshut: Option<Time>,
        drain: Option<Time>,
        kept: Option<Level>,
    },
}

/// An instance at run time.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its configuration.
    pub config: Arc<model::Instance>,
    phase: Phase,
    since: Time,
    reason: String,
    forced: Option<Override>,
    flaps: u32,
    last_failback: Option<Time>,
    recoveries: u32,
    last_recovery: Option<Time>,
    failback_asked: bool,
    /// Everything is drained: nothing may be announced, whatever the verdicts and overrides say.
    maintenance: bool,
    /// A drill pretends this.
    pretence: Option<Pretence>,
    /// The primary is down, whatever is pretended, and it is not we who are cut off.
    really_down: bool,
    /// A MASTER, or one that was, knows that its primary is dead: what it sees in FAULT is not all that it goes by.
    knows_death: bool,
}

impl Instance {
    /// Starts in INIT, which ends at `until` at the latest. `remembered` is what the last process left, and with
    /// `resume` its MASTER goes on.
    pub fn new(
        config: Arc<model::Instance>,
        remembered: Option<&Remembered>,
        resume: bool,
        now: Time,
        until: Time,
    ) -> Self {
        let resumed = resume && remembered.is_some_and(|r| r.state == State::Master);
        Instance {
            config,
            phase: Phase::Init { until, resumed },
            since: now,
            reason: if resumed {
                "resuming MASTER; waiting for the checks"
            } else {
                "waiting for the checks"
            }
            .into(),
            forced: remembered.and_then(|r| r.forced),
            flaps: remembered.map_or(0, |r| r.flaps),
            last_failback: remembered.and_then(|r| r.last_failback),
            recoveries: remembered.map_or(0, |r| r.recoveries),
            last_recovery: remembered.and_then(|r| r.last_recovery),
            failback_asked: false,
            maintenance: false,
            pretence: None,
            really_down: false,
            knows_death: false,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Init { .. } => State::Init,
            Phase::Backup { .. } => State::Backup,
            Phase::Master { .. } => State::Master,
            Phase::Fault { .. } => State::Fault,
            Phase::Stop { .. } => State::Stop,
        }
    }

    /// Since when.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The override in force.
    pub fn forced(&self) -> Option<Override> {
        self.forced
    }

    /// Flaps that lengthen the failback delay.
    pub fn flaps(&self) -> u32 {
        self.flaps
    }

    /// The kernel objects it wants.
    pub fn level(&self) -> Level {
        match self.phase {
            Phase::Init { resumed: true, .. } | Phase::Master { .. } | Phase::Stop { gshut: Some(_), .. } => {
                Level::Full
            }
            Phase::Backup { drain: Some(_), .. } | Phase::Stop { drain: Some(_), .. } => Level::Drain,
            Phase::Init { .. } | Phase::Backup { .. } | Phase::Fault { .. } => Level::Base,
            Phase::Stop { kept: Some(level), .. } => level,
            Phase::Stop { .. } => Level::Nothing,
        }
    }

    /// True in the states from which a takeover may follow: then a failure of the primary's is reason to probe what is required.
    pub fn could_take_over(&self) -> bool {
        matches!(self.phase, Phase::Init { resumed: false, .. } | Phase::Backup { .. } | Phase::Fault { .. })
    }

    /// A takeover is decided, and waits for its delay.
    pub fn awaits_takeover(&self) -> bool {
        matches!(self.phase, Phase::Backup { takeover: Some(_), .. })
    }

    /// What it waits for, and until when: "takeover", "failback", "drain" or "recovery".
    pub fn pending(&self) -> Option<(&'static str, Time)> {
        match &self.phase {
            Phase::Backup { takeover: Some(due), .. } => Some(("takeover", *due)),
            Phase::Backup { drain: Some(end), .. } | Phase::Stop { drain: Some(end), .. } => {
                Some(("drain", *end))
            }
            Phase::Master { well_since: Some(t) } if self.config.failback == Failback::Auto => {
                Some(("failback", *t + self.failback_delay()))
            }
            Phase::Fault { met_since: Some(t), was_master } => {
                Some(("recovery", *t + self.recovery_hold(*was_master, *t)))
            }
            _ => None,
        }
    }

    /// Sets or ends an override. [`Instance::decide`] acts on it.
    pub fn force(&mut self, forced: Option<Override>) {
        self.forced = forced;
    }

    /// The node is being drained, or no longer. [`Instance::decide`] acts on it.
    pub fn set_maintenance(&mut self, on: bool) {
        self.maintenance = on;
    }

    /// A drill begins, turns or ends. [`Instance::decide`] acts on it.
    pub fn pretend(&mut self, pretence: Option<Pretence>) {
        self.pretence = pretence;
    }

    /// What a drill pretends now.
    pub fn pretence(&self) -> Option<Pretence> {
        self.pretence
    }

    /// The operator wants the traffic back at the primary now. Errors say why that cannot be.
    pub fn ask_failback(&mut self, inputs: &Inputs, reset_flaps: bool) -> Result<String, String> {
        let answer = self.try_failback(inputs, reset_flaps)?;
        if reset_flaps {
            self.flaps = 0;
            self.last_failback = None;
        }
        Ok(answer)
    }

    fn try_failback(&mut self, inputs: &Inputs, reset_flaps: bool) -> Result<String, String> {
        let name = &self.config.name;
        if self.state() != State::Master {
            return match reset_flaps {
                true => Ok(format!(
                    "{name}: flap penalty forgotten; nothing to hand back in {}",
                    self.state().word()
                )),
                false => Err(format!("{name} is in {}: there is nothing to hand back", self.state().word())),
            };
        }
        if self.forced.is_some() {
            return Err(format!("{name} is forced; end that first: announcerctl auto {name}"));
        }
        match &inputs.primary {
            Some(p) if p.state == PrimaryState::Well => {
                self.failback_asked = true;
                Ok(format!("{name}: handing back"))
            }
            Some(p) => Err(format!(
                "the primary of {name} is {} ({}); to withdraw all the same: announcerctl force {name} backup",
                p.state.word(),
                p.reason
            )),
            None => Err(format!("{name} has no primary to hand back to")),
        }
    }

    /// When [`Instance::decide`] must be asked again though nothing happened.
    pub fn deadline(&self, inputs: &Inputs, now: Time) -> Option<Time> {
        let init = match self.phase {
            Phase::Init { until, .. } => Some(until),
            _ => None,
        };
        let drain = match self.phase {
            Phase::Backup { drain, .. } | Phase::Stop { drain, .. } => drain,
            _ => None,
        };
        let gshut = match self.phase {
            Phase::Stop { gshut, .. } => gshut,
            _ => None,
        };
        let lapse = match inputs.require.state {
            RequireState::Unknown(until) => Some(until),
            _ => None,
        };
        let pending = self.pending().map(|(_, at)| at);
        let returning = inputs.returning;
        let expiry = self.forced.and_then(|f| f.until);
        // A deadline that has passed waits for an event: asking again would not help.
        let ends = [init, gshut, drain, lapse, pending, returning, expiry];
        ends.into_iter().flatten().filter(|t| *t > now).min()
    }
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
