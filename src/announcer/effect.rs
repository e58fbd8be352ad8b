//! What the [`Announcer`](super::Announcer) wants the world to do.

use std::sync::Arc;
use std::time::Duration;

use super::event::{DumpId, Outcome, PeerId, ProbeId, RequestId, ScriptId};
use super::journal::Record;
use super::memory::Memory;
use super::own::OwnPrefixes;
use crate::bfd::{SessionConfig, SessionId};
use crate::bgp::event::PeerEffect;
use crate::config::model::{Bgp, Check, Name};
use crate::fib::object::Op;
use crate::time::Time;

/// One thing to do. Exhaustive and comparable: tests assert whole lists.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Make a probe now and answer with [`Event::Probe`](super::Event::Probe).
    Probe {
        /// For the answer.
        id: ProbeId,
        /// What to probe.
        check: Arc<Check>,
        /// An address in one of these is our own: do not ask it, answer `Blind`.
        own: Arc<OwnPrefixes>,
    },
    /// Nobody waits for this probe any more: end it, and kill what it started.
    CancelProbe(ProbeId),
    /// Change the kernel, in this order, without waiting in between.
    Kernel(Vec<Op>),
    /// Read links, routes and addresses, and answer with [`Event::Dump`](super::Event::Dump).
    Dump(DumpId),
    /// These are the BGP peers from now on: listen for them, with their keys, and forget all others.
    Peers(Vec<(PeerId, Arc<Bgp>)>),
    /// A BGP peer's connections: `Connect`, `Close` or `Transmit`, nothing else. `Transmit`: there are octets, fetch
    /// them with [`Announcer::transmit`](super::Announcer::transmit) whenever the socket can take more, until it gives
    /// none.
    Bgp {
        /// Which peer.
        peer: PeerId,
        /// What to do.
        effect: PeerEffect,
    },
    /// These are the BFD sessions from now on. One that keeps its number keeps its path and its authentication, and goes on;
    /// what else is new of it is agreed on with the neighbour.
    BfdSessions(Vec<(SessionId, SessionConfig)>),
    /// Ask this session's neighbour for a sign of life, and answer with [`News::Verified`](crate::bfd::News::Verified).
    BfdVerify(SessionId),
    /// Start a script.
    RunScript(ScriptRun),
    /// Kill a script's whole process group.
    KillScript(ScriptId),
    /// Answer a control request.
    Reply {
        /// Whose.
        id: RequestId,
        /// What to say, or what was wrong.
        answer: Result<String, String>,
    },
    /// A transition, or news of its timeline: for the log and those who follow.
    Journal(Record),
    /// A probe's result, while somebody wants to hear of them: see
    /// [`Announcer::sample_probes`](super::Announcer::sample_probes).
    Sample(Sample),
    /// How a drill goes on: for whoever asked for it.
    Drill(DrillNews),
    /// Keep this across restarts.
    Save(Memory),
    /// Tell the log.
    Log(Note),
    /// Everything is in order: end the process.
    Exit {
        /// `on_stop = "keep"`: what stays in the kernel is to be swept after this, unless a successor takes it over.
        sweep_after: Option<Duration>,
    },
}

/// One line of a drill's report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrillNews {
    /// Which instance is drilled.
    pub instance: Name,
    /// When.
    pub at: Time,
    /// How long after the drill's beginning.
    pub since_began: Duration,
    /// How long after the beginning of the takeover or of the way back.
    pub in_phase: Duration,
    /// A step was verified (true), or failed; None: no step, just news. Of the last line: whether every step was verified.
    pub ok: Option<bool>,
    /// In words.
    pub text: String,
    /// The drill is over.
    pub done: bool,
}

/// What became of one probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When it was sent.
    pub sent: Time,
    /// Of which check.
    pub check: Name,
    /// What it saw.
    pub outcome: Outcome,
    /// When that was known, after it was sent; None if only the time-out told.
    pub took: Option<Duration>,
}

/// A script to run, without a shell, in a process group of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptRun {
    /// For the result.
    pub id: ScriptId,
    /// Whose script it is.
    pub instance: Name,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the environment: the `ANNOUNCERD_*` variables.
    pub env: Vec<(&'static str, String)>,
}

/// How much a log line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is wrong and needs a person.
    Error,
    /// Something may need a person.
    Warn,
    /// Good to know.
    Info,
    /// For the curious.
    Debug,
}

/// A log line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The instance or check it is about.
    pub about: Option<Name>,
    /// The text.
    pub text: String,
}
