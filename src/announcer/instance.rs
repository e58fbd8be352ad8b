//! The state machine of one instance: INIT, BACKUP, MASTER, FAULT, STOP.
//!
//! Pure: it is told what is known ([`Inputs`]) and what time it is, and says which transition follows. It knows
//! nothing of probes, kernel or scripts.

mod leaving;

use std::sync::Arc;
use std::time::Duration;

use super::drill::Pretence;
use super::event::Forced;
use super::gate::{PrimaryState, PrimaryView, RequireState, RequireView};
use super::journal::State;
use super::memory::{Override, Remembered};
use crate::config::model::{self, Failback};
use crate::time::Time;

/// A takeover this soon after a failback is a flap; a recovery this soon after the last has to wait.
const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// The longest that `require` must be met before MASTER comes back out of FAULT.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

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
    /// It has, but it may be we who were cut off, and a session of the primary's has until then to come back.
    pub returning: Option<Time>,
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

/// What the verdicts and the operator ask for, `require` left aside.
enum Call {
    TakeOver { reason: String, first_bad: Option<Time>, at_once: bool, flap: bool },
    HandBack { reason: String, at_once: bool },
    Stay { reason: String },
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
    /// The primary is down, whatever is pretended.
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

    /// The transition that follows from what is known, if any. To be called until it says None.
    pub fn decide(&mut self, inputs: &Inputs, now: Time) -> Option<Transition> {
        if self.forced.is_some_and(|f| f.until.is_some_and(|t| t <= now)) {
            self.forced = None;
        }
        self.really_down = seems_down(inputs);
        // Known as MASTER, by failures with a witness, and not forgotten or seen otherwise since.
        self.knows_death &= matches!(self.phase, Phase::Master { .. } | Phase::Fault { .. });
        self.knows_death |= matches!(self.phase, Phase::Master { .. }) && inputs.witnessed;
        self.knows_death &= self.really_down;
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
        if !self.knows_death && self.forced.is_none() && self.really_down {
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

    fn call(&self, inputs: &Inputs) -> Call {
        if self.maintenance {
            return Call::HandBack { reason: "maintenance".into(), at_once: true };
        }
        if let Some(call) = self.drill_call(inputs) {
            return call;
        }
        match (self.forced, &inputs.primary) {
            (Some(Override { state: Forced::Master, .. }), _) => Call::TakeOver {
                reason: "forced to MASTER by the operator".into(),
                first_bad: None,
                at_once: true,
                flap: false,
            },
            (Some(Override { state: Forced::Backup, .. }), _) => {
                Call::HandBack { reason: "forced to BACKUP by the operator".into(), at_once: true }
            }
            (None, None) => Call::TakeOver {
                reason: "require is met, and there is no primary to wait for".into(),
                first_bad: None,
                at_once: false,
                flap: false,
            },
            (None, Some(p)) => match p.state {
                PrimaryState::Down if inputs.witnessed => Call::TakeOver {
                    reason: format!("the primary is down: {}", p.reason),
                    first_bad: p.first_bad,
                    at_once: false,
                    flap: true,
                },
                PrimaryState::Down => Call::Stay {
                    reason: match inputs.returning {
                        None => format!(
                            "the primary seems down ({}), but what we require has not answered together with it: it may be us",
                            p.reason
                        ),
                        Some(_) => format!(
                            "the primary seems down ({}), but this node may have been cut off: its session has a handshake's time to come back",
                            p.reason
                        ),
                    },
                },
                PrimaryState::Well => Call::HandBack { reason: "the primary is well".into(), at_once: false },
                PrimaryState::Undecided => {
                    Call::Stay { reason: format!("the primary is undecided: {}", p.reason) }
                }
            },
        }
    }

    /// What a drill asks for; None if there is none, or an override or the primary's real death has the word.
    fn drill_call(&self, inputs: &Inputs) -> Option<Call> {
        let really_down = inputs.primary.as_ref().is_some_and(|p| p.state == PrimaryState::Down);
        match (self.pretence?, self.forced) {
            (_, Some(_)) => None,
            (Pretence::Down(_), None) if inputs.witnessed => Some(Call::TakeOver {
                reason: "drill: pretending that the primary is down".into(),
                first_bad: None, // no probe was bad: nothing was detected
                at_once: false,
                flap: false,
            }),
            (Pretence::Down(_), None) => {
                Some(Call::Stay { reason: "drill: waiting for an answer of what it requires".into() })
            }
            (Pretence::Well, None) if really_down => None,
            (Pretence::Well, None) => {
                Some(Call::HandBack { reason: "drill: handing back".into(), at_once: true })
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
    fn recovery_hold(&self, was_master: bool, met_since: Time) -> Duration {
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

    fn go(&mut self, phase: Phase, reason: String, first_bad: Option<Time>, now: Time) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.since = now;
        self.reason.clone_from(&reason);
        self.failback_asked = false;
        Transition { from, to: self.state(), reason, first_bad, resumed: false, was_cut_off: false }
    }
}

fn seems_down(inputs: &Inputs) -> bool {
    inputs.primary.as_ref().is_some_and(|p| p.state == PrimaryState::Down)
}

fn fault_reason(require: &RequireView) -> String {
    format!("require is {}: {}", require.state.word(), require.reason)
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
