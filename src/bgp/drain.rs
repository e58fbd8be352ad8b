//! Leaving in order: GRACEFUL_SHUTDOWN (RFC 8326), a moment, withdraw, and then perhaps NOTIFICATION.

use std::time::Duration;

use super::adj_rib_out::Manner;
use super::event::StopCause;
use super::wire::notification::{Cause, Notification};
use crate::time::Time;

/// How long a stop waits for the withdraws to be written.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(5);

/// How far a drain has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drain {
    /// Announced with GRACEFUL_SHUTDOWN.
    Graceful { until: Time },
    /// Withdrawn.
    Withdrawn { since: Time },
}

impl Drain {
    pub fn begin(moment: Duration, now: Time) -> Self {
        if moment.is_zero() {
            Drain::Withdrawn { since: now }
        } else {
            Drain::Graceful { until: now + moment }
        }
    }

    fn advance(&mut self, now: Time) {
        if matches!(self, Drain::Graceful { until } if *until <= now) {
            *self = Drain::Withdrawn { since: now };
        }
    }

    fn manner(self) -> Manner {
        match self {
            Drain::Graceful { .. } => Manner::GracefulShutdown,
            Drain::Withdrawn { .. } => Manner::Withdrawn,
        }
    }
}

/// What a peer is there for at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Duty {
    /// To announce what is wanted.
    Run,
    /// To keep a session and announce nothing.
    Maintenance(Drain),
    /// To leave.
    Stopping { drain: Drain, last_words: Notification },
    /// Nothing any more.
    Stopped,
}

impl Duty {
    /// No new session may begin.
    pub fn ends(&self) -> bool {
        matches!(self, Duty::Stopping { .. } | Duty::Stopped)
    }

    /// How routes are told now; moves a drain on when its moment is over.
    pub fn manner(&mut self, now: Time) -> Manner {
        match self {
            Duty::Run => Manner::Plain,
            Duty::Maintenance(drain) | Duty::Stopping { drain, .. } => {
                drain.advance(now);
                drain.manner()
            }
            Duty::Stopped => Manner::Withdrawn,
        }
    }

    /// The NOTIFICATION that ends a stop, once all withdraws are written (`quiet`) or have had their time, or
    /// there is nobody left to tell (`gone`).
    pub fn finished(&self, now: Time, quiet: bool, gone: bool) -> Option<Notification> {
        match self {
            Duty::Stopping { last_words, .. } if gone => Some(last_words.clone()),
            Duty::Stopping { drain: Drain::Withdrawn { since }, last_words }
                if quiet || *since + WITHDRAW_LIMIT <= now =>
            {
                Some(last_words.clone())
            }
            _ => None,
        }
    }

    /// When the drain moves on.
    pub fn timer(&self) -> Option<Time> {
        match self {
            Duty::Maintenance(Drain::Graceful { until }) => Some(*until),
            Duty::Stopping { drain: Drain::Graceful { until }, .. } => Some(*until),
            Duty::Stopping { drain: Drain::Withdrawn { since }, .. } => Some(*since + WITHDRAW_LIMIT),
            Duty::Run | Duty::Maintenance(Drain::Withdrawn { .. }) | Duty::Stopped => None,
        }
    }
}

/// The NOTIFICATION for a stop (RFC 4486, 9003).
pub(crate) fn last_words(cause: StopCause, message: &str) -> Notification {
    let cause = match cause {
        StopCause::Shutdown => Cause::ADMIN_SHUTDOWN,
        StopCause::Reset => Cause::ADMIN_RESET,
        StopCause::Deconfigured => Cause::PEER_DECONFIGURED,
        StopCause::ConfigurationChange => Cause::CONFIGURATION_CHANGE,
    };
    Notification::with_message(cause, message)
}
