//! What the primary, a drill and the operator ask of an instance; `require` has its say later.

use super::{Inputs, Instance};
use crate::announcer::drill::Pretence;
use crate::announcer::event::Forced;
use crate::announcer::gate::PrimaryState;
use crate::announcer::memory::Override;
use crate::time::Time;

/// What the verdicts and the operator ask for, `require` left aside.
pub(super) enum Call {
    TakeOver { reason: String, first_bad: Option<Time>, at_once: bool, flap: bool },
    HandBack { reason: String, at_once: bool },
    Stay { reason: String },
}

impl Instance {
    pub(super) fn call(&self, inputs: &Inputs) -> Call {
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
                PrimaryState::Down if inputs.witnessed || self.knows_death => Call::TakeOver {
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
        match (self.pretence?, self.forced) {
            (_, Some(_)) => None,
            (Pretence::Down(_), None) if inputs.drilled => Some(Call::TakeOver {
                reason: "drill: pretending that the primary is down".into(),
                first_bad: None, // no probe was bad: nothing was detected
                at_once: false,
                flap: false,
            }),
            (Pretence::Down(_), None) => {
                Some(Call::Stay { reason: "drill: waiting for an answer of what it requires".into() })
            }
            (Pretence::Well, None) if self.really_down => None,
            (Pretence::Well, None) => {
                Some(Call::HandBack { reason: "drill: handing back".into(), at_once: true })
            }
        }
    }
}
