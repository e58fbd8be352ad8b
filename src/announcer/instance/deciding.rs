//! The decision itself: state by state, what follows from what is known.

use std::time::Duration;

use super::call::Call;
use super::{Inputs, Instance, Phase, Transition};
use crate::announcer::event::Forced;
use crate::announcer::gate::{PrimaryState, RequireState, RequireView};
use crate::config::model::Failback;
use crate::time::Time;

/// A takeover this soon after a failback is a flap; a recovery this soon after the last has to wait.
const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// The longest that `require` must be met before MASTER comes back out of FAULT.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

impl Instance {
    /// The transition that follows from what is known, if any. To be called until it says None.
    pub fn decide(&mut self, inputs: &Inputs, now: Time) -> Option<Transition> {
        if self.forced.is_some_and(|f| f.until.is_some_and(|t| t <= now)) {
            self.forced = None;
        }
        // Known as MASTER, by failures with a witness, and not forgotten or seen otherwise since.
        self.knows_death &= matches!(self.phase, Phase::Master { .. } | Phase::Fault { .. });
        self.knows_death |= matches!(self.phase, Phase::Master { .. }) && inputs.witnessed;
        self.knows_death &= seems_down(inputs) && inputs.confirmed;
        self.really_down = self.knows_death || inputs.is_really_down();
        match self.phase.clone() {
            Phase::Init { until, resumed } => self.decide_init(inputs, now, until, resumed),
            Phase::Backup { takeover, drain } => self.decide_backup(inputs, now, takeover, drain),
            Phase::Master { well_since } => self.decide_master(inputs, now, well_since),
            Phase::Fault { was_master, met_since } => self.decide_fault(inputs, now, was_master, met_since),
            Phase::Stop { gshut, drain, kept } => {
                let later = |end: &Time| *end > now;
                self.phase = Phase::Stop { gshut: gshut.filter(later), drain: drain.filter(later), kept };
                None
            }
        }
    }

    fn decide_init(&mut self, inputs: &Inputs, now: Time, until: Time, resumed: bool) -> Option<Transition> {
        let primary_decided = self.forced.is_some()
            || inputs.primary.as_ref().is_none_or(|p| p.state != PrimaryState::Undecided);
        let require_decided = !matches!(inputs.require.state, RequireState::Unknown(_));
        if resumed && self.is_require_lost(inputs, now) {
            // What was resumed is announced all the while: it does not wait for the rest to be decided.
            return Some(self.fault(inputs, true, now));
        }
        if !(primary_decided && require_decided) && now < until {
            return None;
        }
        if inputs.require.state != RequireState::Met {
            return Some(self.fault(inputs, resumed, now));
        }
        if resumed && self.forced.is_none_or(|f| f.state != Forced::Backup) {
            let reason = "resumed MASTER after a restart".to_owned();
            let transition = self.go(Phase::Master { well_since: None }, reason, None, now);
            return Some(Transition { resumed: true, ..transition });
        }
        Some(self.decide_anew(inputs, resumed, now))
    }

    fn decide_backup(
        &mut self,
        inputs: &Inputs,
        now: Time,
        takeover: Option<Time>,
        drain: Option<Time>,
    ) -> Option<Transition> {
        let drain = drain.filter(|end| *end > now);
        match inputs.require.state {
            RequireState::Unmet => return Some(self.fault(inputs, false, now)),
            // Lapsed while we looked: the same as unmet. Before that it only blocks.
            RequireState::Unknown(until) if until <= now => return Some(self.fault(inputs, false, now)),
            _ => {}
        }
        let met = inputs.require.state == RequireState::Met;
        let takeover = match self.call(inputs) {
            Call::TakeOver { reason, first_bad, at_once, flap } => {
                let delay = if at_once { Duration::ZERO } else { self.config.takeover_delay };
                let due = match takeover {
                    Some(due) if !at_once => due,
                    _ if !met => {
                        self.reason = format!("{reason}; but {}", fault_reason(&inputs.require));
                        return self.wait_in_backup(takeover, drain);
                    }
                    _ => now + delay,
                };
                if due <= now && met {
                    return Some(self.take_over(reason, first_bad, flap, now));
                }
                self.reason = match met {
                    true => format!("{reason}; takeover_delay runs"),
                    false => format!("{reason}; but {}", fault_reason(&inputs.require)),
                };
                Some(due)
            }
            // The primary stays down, as far as can be seen: the delay runs on, and its end waits for a witness.
            Call::Stay { reason } if seems_down(inputs) => {
                self.reason = reason;
                takeover
            }
            Call::HandBack { reason, .. } | Call::Stay { reason } => {
                self.reason = reason;
                None
            }
        };
        self.wait_in_backup(takeover, drain)
    }

    fn wait_in_backup(&mut self, takeover: Option<Time>, drain: Option<Time>) -> Option<Transition> {
        self.phase = Phase::Backup { takeover, drain };
        None
    }

    fn decide_master(&mut self, inputs: &Inputs, now: Time, well_since: Option<Time>) -> Option<Transition> {
        if self.is_require_lost(inputs, now) {
            return Some(self.fault(inputs, true, now));
        }
        let Call::HandBack { reason, at_once } = self.call(inputs) else {
            self.phase = Phase::Master { well_since: None };
            self.failback_asked = false;
            return None;
        };
        let since = well_since.unwrap_or(now);
        let due = since + self.failback_delay();
        let by_itself = self.config.failback == Failback::Auto && due <= now;
        if !(at_once || self.failback_asked || by_itself) {
            self.phase = Phase::Master { well_since: Some(since) };
            return None;
        }
        let reason = match (at_once, self.failback_asked) {
            (true, _) => reason,
            (false, true) => format!("the operator handed back; {reason}"),
            (false, false) => format!(
                "{reason} for {}",
                humantime::format_duration(Duration::from_secs(now.since(since).as_secs()))
            ),
        };
        if !at_once {
            // An operator who takes a node out for a while says nothing of the primary: that is no flap.
            self.last_failback = Some(now);
        }
        Some(self.back_up(reason, None, true, now))
    }

    fn decide_fault(
        &mut self,
        inputs: &Inputs,
        now: Time,
        was_master: bool,
        met_since: Option<Time>,
    ) -> Option<Transition> {
        if inputs.require.state != RequireState::Met {
            self.phase = Phase::Fault { was_master, met_since: None };
            self.reason = fault_reason(&inputs.require);
            return None;
        }
        let since = met_since.unwrap_or(now);
        if since + self.recovery_hold(was_master, since) > now {
            self.phase = Phase::Fault { was_master, met_since: Some(since) };
            return None;
        }
        if was_master {
            let again = self.last_recovery.is_some_and(|t| now.since(t) < FLAP_WINDOW);
            self.recoveries = if again { self.recoveries.saturating_add(1) } else { 1 };
            self.last_recovery = Some(now);
        }
        if !self.knows_death && self.forced.is_none() && seems_down(inputs) {
            // SPEC: leaving FAULT decides anew. Anew means by what is seen from now on: while `require` was unmet the
            // primary would have seemed down however well it was. (A MASTER knew of its death before that.)
            let reason =
                "require is met; what was seen of the primary while it was not does not count".to_owned();
            let transition = self.back_up(reason, None, false, now);
            return Some(Transition { was_cut_off: true, ..transition });
        }
        Some(self.decide_anew(inputs, false, now))
    }

    /// INIT or FAULT is over and `require` is met: what now?
    fn decide_anew(&mut self, inputs: &Inputs, announced: bool, now: Time) -> Transition {
        let from_fault_as_master = matches!(self.phase, Phase::Fault { was_master: true, .. });
        match self.call(inputs) {
            Call::TakeOver { reason, first_bad, at_once, flap } => {
                if at_once || self.config.takeover_delay.is_zero() {
                    self.take_over(reason, first_bad, flap && !from_fault_as_master, now)
                } else {
                    let due = now + self.config.takeover_delay;
                    self.back_up(format!("{reason}; takeover_delay runs"), Some(due), announced, now)
                }
            }
            Call::HandBack { reason, .. } | Call::Stay { reason } => {
                self.back_up(reason, None, announced, now)
            }
        }
    }

    fn is_require_lost(&self, inputs: &Inputs, now: Time) -> bool {
        match inputs.require.state {
            RequireState::Met => false,
            RequireState::Unknown(until) => until <= now,
            RequireState::Unmet => true,
        }
    }

    /// `failback_delay`, doubled with each flap, up to its bound.
    pub fn failback_delay(&self) -> Duration {
        let doubled = self.config.failback_delay.saturating_mul(2u32.saturating_pow(self.flaps));
        doubled.min(self.config.failback_delay_max.max(self.config.failback_delay))
    }

    /// How long `require` must be met before FAULT ends: nothing at first, then 2, 4, … 60 s within an hour.
    pub(super) fn recovery_hold(&self, was_master: bool, met_since: Time) -> Duration {
        let recent = self.last_recovery.is_some_and(|t| met_since.since(t) < FLAP_WINDOW);
        if !was_master || !recent {
            return Duration::ZERO;
        }
        Duration::from_secs(2u64.saturating_pow(self.recoveries)).min(RECOVERY_MAX)
    }

    fn take_over(&mut self, reason: String, first_bad: Option<Time>, flap: bool, now: Time) -> Transition {
        if flap {
            let recent = self.last_failback.is_some_and(|t| now.since(t) < FLAP_WINDOW);
            self.flaps = if recent { self.flaps.saturating_add(1) } else { 0 };
        }
        self.go(Phase::Master { well_since: None }, reason, first_bad, now)
    }

    fn back_up(&mut self, reason: String, takeover: Option<Time>, announced: bool, now: Time) -> Transition {
        let drain = (announced && !self.config.drain.is_zero()).then(|| now + self.config.drain);
        self.go(Phase::Backup { takeover, drain }, reason, None, now)
    }

    fn fault(&mut self, inputs: &Inputs, was_master: bool, now: Time) -> Transition {
        self.go(Phase::Fault { was_master, met_since: None }, fault_reason(&inputs.require), None, now)
    }

    pub(super) fn go(
        &mut self,
        phase: Phase,
        reason: String,
        first_bad: Option<Time>,
        now: Time,
    ) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.since = now;
        self.reason.clone_from(&reason);
        self.failback_asked = false;
        Transition { from, to: self.state(), reason, first_bad, resumed: false, was_cut_off: false }
    }
}

pub(super) fn seems_down(inputs: &Inputs) -> bool {
    inputs.primary.as_ref().is_some_and(|p| p.state == PrimaryState::Down)
}

fn fault_reason(require: &RequireView) -> String {
    format!("require is {}: {}", require.state.word(), require.reason)
}
