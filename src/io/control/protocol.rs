//! Requests and answers on the wire; see [`super`] for the protocol in words.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::announcer::event::{Command, Forced};
use crate::config::model::Name;
use crate::status::{DrillStatus, EventStatus, ProbeStatus};

/// Where the daemon listens unless `[node] control` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/announcerd/control.sock";

/// Bytes in a request, its newline included.
pub const MAX_REQUEST: usize = 64 * 1024;

/// One line from a client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The whole picture.
    Status {},
    /// Why an instance is in its state.
    Explain {
        /// Which.
        instance: String,
    },
    /// The decision journal.
    Events {
        /// Only what has a greater number.
        #[serde(default)]
        after: u64,
        /// Go on with what happens from now.
        #[serde(default)]
        follow: bool,
    },
    /// An operator's override.
    Force {
        /// Which instance.
        instance: String,
        /// Into which state.
        state: Forced,
        /// For how long, as in the configuration ("1h"); absent: until `auto`.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasting: Option<String>,
    },
    /// Ends an override.
    Auto {
        /// Which instance.
        instance: String,
    },
    /// Hand back now.
    Failback {
        /// Which instance.
        instance: String,
        /// Forget the flap penalty.
        #[serde(default)]
        reset_flaps: bool,
    },
    /// Drain everything, or end that.
    Maintenance {
        /// On or off.
        on: bool,
    },
    /// End the process so that its successor goes on without a flap.
    Handover {},
    /// Read the configuration again.
    Reload {},
    /// Every probe's result from now on.
    Probes {},
    /// A failover exercise, which ends with this connection.
    Drill {
        /// Which instance.
        instance: String,
        /// How long to stay MASTER, as in the configuration ("10s").
        hold: String,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
}

/// What the daemon is asked to do, once a request is understood and allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Answer with a [`Status`](crate::status::Status).
    Status,
    /// Answer with `{"text": [line, ...]}` or a text.
    Explain(Name),
    /// Answer with a list of [`EventStatus`].
    Events {
        /// Only what has a greater number.
        after: u64,
        /// What is published after the answer goes to this client too.
        follow: bool,
    },
    /// Change state; answer with a text.
    Change(Command),
    /// Read the configuration again; answer with the list of what changed.
    Reload,
    /// Answer with a text; then every probe's result goes to this client.
    Probes,
    /// Begin a drill; answer with a text; then its report goes to this client.
    Drill {
        /// Which instance.
        instance: Name,
        /// How long to stay MASTER.
        hold: Duration,
    },
    /// Answer with what a drill would do.
    PlanDrill(Name),
    /// The client of the drill that was asked for under this number has left: no answer.
    LeaveDrill,
}

/// What a client may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Transitions.
    Events,
    /// Results of probes.
    Probes,
    /// The drill under way.
    Drill,
}

impl Request {
    /// What it asks for, or what is wrong with it.
    pub fn ask(self) -> Result<Ask, String> {
        Ok(match self {
            Request::Status {} => Ask::Status,
            Request::Explain { instance } => Ask::Explain(instance.into()),
            Request::Events { after, follow } => Ask::Events { after, follow },
            Request::Force { instance, state, lasting } => Ask::Change(Command::Force {
                instance: instance.into(),
                state,
                lasting: lasting.as_deref().map(lasting_of).transpose()?,
            }),
            Request::Auto { instance } => Ask::Change(Command::Auto { instance: instance.into() }),
            Request::Failback { instance, reset_flaps } => {
                Ask::Change(Command::Failback { instance: instance.into(), reset_flaps })
            }
            Request::Maintenance { on } => Ask::Change(Command::Maintenance { on }),
            Request::Handover {} => Ask::Change(Command::Handover),
            Request::Reload {} => Ask::Reload,
            Request::Probes {} => Ask::Probes,
            Request::Drill { instance, dry_run: true, .. } => Ask::PlanDrill(instance.into()),
            Request::Drill { instance, hold, dry_run: false } => {
                Ask::Drill { instance: instance.into(), hold: hold_of(&hold)? }
            }
        })
    }
}

impl Ask {
    /// True if not everybody may ask for it.
    pub fn changes(&self) -> bool {
        matches!(self, Ask::Change(_) | Ask::Reload | Ask::Drill { .. })
    }

    /// What the client follows after the answer.
    pub fn follows(&self) -> Option<Topic> {
        match self {
            Ask::Events { follow: true, .. } => Some(Topic::Events),
            Ask::Probes => Some(Topic::Probes),
            Ask::Drill { .. } => Some(Topic::Drill),
            _ => None,
        }
    }
}

/// How long an override lasts: "90s", "1h", "1h 30m"; never nothing.
pub fn lasting_of(text: &str) -> Result<Duration, String> {
    let mend = "write it as 90s, 30m or 1h";
    let lasting = humantime::parse_duration(text).map_err(|e| format!("`{text}`: {e}; {mend}"))?;
    if lasting.is_zero() { Err(format!("`{text}` is no time at all; {mend}")) } else { Ok(lasting) }
}

/// How long a drill may stay MASTER.
const HOLD_MAX: Duration = Duration::from_secs(3600);

/// How long a drill holds: "10s", "2m"; an hour at most.
pub fn hold_of(text: &str) -> Result<Duration, String> {
    let mend = "write it as 10s or 2m; 1h at most";
    let hold = humantime::parse_duration(text).map_err(|e| format!("`{text}`: {e}; {mend}"))?;
    if hold > HOLD_MAX { Err(format!("`{text}` is too long; {mend}")) } else { Ok(hold) }
}

/// One line from the daemon.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The answer.
    Ok(Value),
    /// To a follower: a transition, or more of its timeline.
    Event(Box<EventStatus>),
    /// To a follower of probes: a result.
    Probe(Box<ProbeStatus>),
    /// To who asked for a drill: how it goes on.
    Drill(Box<DrillStatus>),
    /// To a follower: the daemon stops; nothing more will come.
    End(String),
    /// Refused or failed; on a stream, the last line.
    #[serde(untagged)]
    Error {
        /// What is wrong and what to do.
        error: String,
        /// What kind of failure it is.
        #[serde(default)]
        kind: ErrorKind,
    },
}

/// The kinds of failure that a client treats differently.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// It did not work.
    #[default]
    Failed,
    /// The client may not do this.
    Denied,
    /// The configuration is wrong.
    Config,
}

/// Why a request was not done: the words, and the kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What is wrong and what to do.
    pub error: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
}

impl Refusal {
    /// The configuration is wrong: `announcerctl` exits with 78.
    pub fn config(error: String) -> Self {
        Refusal { error, kind: ErrorKind::Config }
    }
}

impl From<String> for Refusal {
    fn from(error: String) -> Self {
        Refusal { error, kind: ErrorKind::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(text: &str) -> Result<Ask, String> {
        serde_json::from_str::<Request>(text).map_err(|e| e.to_string())?.ask()
    }

    #[test]
    fn requests_are_what_the_documentation_says() {
        assert_eq!(ask(r#"{"command":"status"}"#), Ok(Ask::Status));
        assert_eq!(ask(r#"{"command":"events"}"#), Ok(Ask::Events { after: 0, follow: false }));
        let force = r#"{"command":"force","instance":"mainland","state":"master","for":"1h"}"#;
        let lasting = Some(Duration::from_secs(3600));
        let command = Command::Force { instance: "mainland".into(), state: Forced::Master, lasting };
        assert_eq!(ask(force), Ok(Ask::Change(command)));
        assert_eq!(ask(r#"{"command":"reload"}"#), Ok(Ask::Reload));
    }

    #[test]
    fn a_wrong_request_is_named() {
        assert!(ask(r#"{"command":"dance"}"#).unwrap_err().contains("unknown variant `dance`"));
        assert!(ask(r#"{"command":"status","loud":1}"#).unwrap_err().contains("unknown field `loud`"));
        let force = r#"{"command":"force","instance":"a","state":"master","for":"0s"}"#;
        assert!(ask(force).unwrap_err().contains("write it as 90s"));
        assert!(ask("[1]").is_err());
    }

    #[test]
    fn lines_are_what_the_documentation_says() {
        let text = |line: &Line| serde_json::to_string(line).unwrap();
        assert_eq!(text(&Line::Ok("done".into())), r#"{"ok":"done"}"#);
        let denied = Line::Error { error: "no".into(), kind: ErrorKind::Denied };
        assert_eq!(text(&denied), r#"{"error":"no","kind":"denied"}"#);
        assert_eq!(serde_json::from_str::<Line>(r#"{"error":"no","kind":"denied"}"#).unwrap(), denied);
        assert_eq!(text(&Line::End("bye".into())), r#"{"end":"bye"}"#);
    }

    proptest! {
        #[test]
        fn no_line_of_a_client_panics(text in any::<Vec<u8>>()) {
            let _ = serde_json::from_slice::<Request>(&text).map(Request::ask);
        }

        #[test]
        fn no_duration_of_a_client_panics(text in "[0-9]{0,30} ?(ns|s|m|h|d|y|years|x)?") {
            let _ = lasting_of(&text);
        }
    }
}
