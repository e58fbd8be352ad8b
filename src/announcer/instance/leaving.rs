//! How an instance leaves, and what the next process finds of it.

use std::time::Duration;

use super::{Instance, Level, Phase, Transition};
use crate::announcer::journal::State;
use crate::announcer::memory::Remembered;
use crate::config::model::OnStop;
use crate::time::Time;

impl Instance {
    /// What is worth keeping across a restart. It knows nothing of scripts: `told` is its owner's to say.
    pub fn remember(&self) -> Remembered {
        let state = match self.level() {
            _ if self.is_gshut() => self.state(),
            Level::Full if self.is_mere_exercise() => State::Backup,
            Level::Full => State::Master,
            _ => self.state(),
        };
        Remembered {
            state,
            since: self.since,
            told: true,
            forced: self.forced,
            flaps: self.flaps,
            last_failback: self.last_failback,
            recoveries: self.recoveries,
            last_recovery: self.last_recovery,
        }
    }

    /// True while it leaves and BGP still announces for it.
    pub fn is_gshut(&self) -> bool {
        matches!(self.phase, Phase::Stop { gshut: Some(_), .. })
    }

    /// True if a drill, and nothing else, makes a MASTER of it: then nobody may go on with that who knows nothing of the
    /// drill.
    pub fn is_mere_exercise(&self) -> bool {
        self.pretence.is_some() && !self.really_down
    }

    /// A MASTER, or one that was and is cut off now, that knows of its primary's death.
    pub fn knows_death(&self) -> bool {
        self.knows_death
    }

    /// The kernel objects of it that a stop may leave to the next process.
    pub fn heritable_level(&self) -> Level {
        let level = self.level();
        if self.is_mere_exercise() { level.min(Level::Base) } else { level }
    }

    /// A second wish to stop: no more draining.
    pub fn cut_drain(&mut self) {
        if let Phase::Stop { drain, .. } | Phase::Backup { drain, .. } = &mut self.phase {
            *drain = None;
        }
    }

    /// Leave, and let the kernel objects be as they are: a successor takes them over.
    pub fn hand_over(&mut self, now: Time) -> Option<Transition> {
        if self.state() == State::Stop {
            return None;
        }
        let kept = Some(self.heritable_level());
        let phase = Phase::Stop { gshut: None, drain: None, kept };
        Some(self.go(phase, "handover to the next process".into(), None, now))
    }

    /// It was to leave, and is wanted again.
    pub fn begin_anew(&mut self, now: Time, until: Time) -> Transition {
        self.go(
            Phase::Init { until, resumed: false },
            "configured again; waiting for the checks".into(),
            None,
            now,
        )
    }

    /// True if it is in STOP and has drained: what is left of its objects then stays.
    pub fn has_drained(&self) -> bool {
        matches!(self.phase, Phase::Stop { gshut: None, drain: None, .. })
    }

    /// Leave: the daemon stops, or the instance is no longer configured (then nothing is kept). With `on_stop = "keep"`
    /// MASTER leaves all that it has; else what is wanted always stays, for it has nothing to do with the state. `moment` is how long
    /// BGP goes on announcing for it with GRACEFUL_SHUTDOWN: all is there so long, and the drain begins after it.
    pub fn stop(&mut self, reason: &str, may_keep: bool, moment: Duration, now: Time) -> Option<Transition> {
        if self.state() == State::Stop {
            return None;
        }
        let (level, heritable) = (self.level(), self.heritable_level());
        let keeps = may_keep && matches!(self.config.on_stop, OnStop::Keep { .. });
        let kept =
            keeps.then_some(if heritable == Level::Full { heritable } else { heritable.min(Level::Base) });
        let span = moment + self.config.drain;
        let drain =
            (level >= Level::Drain && kept != Some(Level::Full) && !span.is_zero()).then(|| now + span);
        let announces = level == Level::Full && kept != Some(Level::Full) && !moment.is_zero();
        let gshut = announces.then(|| now + moment);
        Some(self.go(Phase::Stop { gshut, drain, kept }, reason.to_owned(), None, now))
    }
}
