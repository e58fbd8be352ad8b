//! What sessions tell those who live by them.

use super::wire::{Diagnostic, Discard, State};
use crate::time::Time;

/// Something that was not so before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// The session's state, or the neighbour's wish to be down, changed.
    Changed(Change),
    /// The neighbour answered a Poll of ours: it hears us and we hear it.
    Verified {
        /// The Poll was sent after this.
        since: Time,
    },
    /// Nothing is heard of the neighbour, but packets come and are discarded, the last of them for this. Told for the first
    /// of them, and again if it is for another reason; a flood of them is no flood of news.
    Refused(Discard),
    /// Packets cannot be sent or received here, and why; None: they can again. No evidence against the neighbour.
    Trouble(Option<String>),
}

/// What we ourselves did wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// We did not run for a while: who lost us then is not to be blamed, and may be well.
    Absent(String),
    /// The kernel had no room for what came, to the end of the silence: the neighbour's packets may have been among it.
    Deaf(String),
    /// Our packets did not leave: the path is of no use, but that says nothing of who is at its end.
    Mute(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Absent(why) | Fault::Deaf(why) | Fault::Mute(why) => f.write_str(why),
        }
    }
}

/// A session's state now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// bfd.SessionState.
    pub state: State,
    /// bfd.RemoteSessionState: AdminDown means that the neighbour's operator wants it so (RFC 5882 section 3.2).
    pub remote_state: State,
    /// bfd.LocalDiag.
    pub diagnostic: Diagnostic,
    /// What happened, in words.
    pub reason: String,
    /// Why this may be our own fault and proves nothing against the neighbour, if so.
    pub own_fault: Option<Fault>,
    /// When it happened.
    pub at: Time,
}
