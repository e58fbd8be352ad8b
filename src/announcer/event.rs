//! What can happen to the [`Announcer`](super::Announcer). Events carry an id, never a socket.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bfd::{News, SessionId};
use crate::bgp::event::PeerEvent;
use crate::config::model::{Config, Name};
use crate::fib::object::{LinkState, Object, OpError, OpId};
use crate::net::Prefix;

/// Ties an answer to its probe; never used twice, so that a late answer is recognised and dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProbeId(pub u64);

/// Ties a result to its script run; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ScriptId(pub u64);

/// Ties a reply to the control request that asked for it; given by the edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Ties a dump to the demand for it; given by the core, rising.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DumpId(pub u64);

/// The number of a BGP peer at run time; never used twice, so that news of a peer that is no more are dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u32);

/// Something happened in the world.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A probe came back.
    Probe {
        /// Of [`Effect::Probe`](super::Effect::Probe).
        id: ProbeId,
        /// What it saw.
        outcome: Outcome,
    },
    /// A network interface appeared or changed.
    LinkIs(LinkState),
    /// The network interface of that name went away.
    LinkGone(String),
    /// All links, and all objects with our mark.
    Dump {
        /// Of [`Effect::Dump`](super::Effect::Dump).
        id: DumpId,
        /// What the kernel has, or why it could not be read.
        result: Result<Dump, String>,
    },
    /// Somebody changed an object with our mark, or an address or link that ours hang on; or news were lost (ENOBUFS).
    KernelChanged,
    /// The kernel's answers to operations, in the order in which it gave them.
    Ops(Vec<(OpId, Result<(), OpError>)>),
    /// News of a BGP peer's connections.
    Bgp {
        /// Which peer.
        peer: PeerId,
        /// What happened. Of the transport only: `TransportConnected` to `Closed`.
        event: PeerEvent,
    },
    /// News of a BFD session.
    Bfd {
        /// Which.
        id: SessionId,
        /// What.
        news: News,
    },
    /// A script ended.
    Script {
        /// Of [`Effect::RunScript`](super::Effect::RunScript).
        id: ScriptId,
        /// How.
        end: ScriptEnd,
    },
    /// An operator wants something.
    Command {
        /// For the reply.
        id: RequestId,
        /// What.
        command: Command,
    },
    /// A new configuration, checked already, that needs no restart.
    Reload(Box<Config>),
    /// SIGTERM or SIGINT: leave in order.
    Terminate,
}

/// What the kernel has that concerns us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// Every network interface.
    pub links: Vec<LinkState>,
    /// The networks that interfaces have addresses in, anybody's: where a gateway is.
    pub nets: Vec<(Prefix, String)>,
    /// Every route and address with our mark.
    pub objects: Vec<Object>,
}

/// What a probe saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer that was expected.
    Success {
        /// How long the answer took, where that means something.
        rtt: Option<Duration>,
    },
    /// No answer, or a wrong one; why, in words.
    Failure(String),
    /// The probe could not be made, or its answer could not have been seen; why. Neither success nor failure.
    Blind(String),
}

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScriptEnd {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It never ran: not found, not executable, or others than root can write to it.
    NotStarted(String),
}

/// The two states that an operator can force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forced {
    /// As if the primary were down.
    Master,
    /// As if the primary were well.
    Backup,
}

/// A change that an operator asks for. Reading asks for nothing: it uses [`Announcer::status`](super::Announcer::status).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `force INSTANCE master|backup [--for DURATION]`.
    Force {
        /// Which instance.
        instance: Name,
        /// Into which state.
        state: Forced,
        /// For how long; None: until `auto`.
        lasting: Option<Duration>,
    },
    /// `auto INSTANCE`: back to the ordinary rules.
    Auto {
        /// Which instance.
        instance: Name,
    },
    /// `maintenance on|off`: drain everything, or end that.
    Maintenance {
        /// On or off.
        on: bool,
    },
    /// `handover`: end the process so that its successor goes on without a flap.
    Handover,
    /// `drill INSTANCE`: a failover exercise.
    Drill {
        /// Which instance.
        instance: Name,
        /// How long it stays MASTER once everything is verified.
        hold: Duration,
    },
    /// The client of that request (a drill's) has left.
    LeaveDrill,
    /// `failback INSTANCE`: hand back now.
    Failback {
        /// Which instance.
        instance: Name,
        /// Forget the flap penalty.
        reset_flaps: bool,
    },
}
