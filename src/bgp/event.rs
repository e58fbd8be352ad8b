//! What a [`Peer`](super::Peer) is told, and what it wants done.

use std::net::SocketAddr;
use std::time::Duration;

use super::connection::ConnId;
use super::family::Families;
use super::table::{Claim, Wanted};

/// Something happened.
#[derive(Clone, PartialEq, Debug)]
pub enum PeerEvent {
    /// A connection that [`PeerEffect::Connect`] asked for is there.
    TransportConnected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
    },
    /// A connection that [`PeerEffect::Connect`] asked for could not be made.
    TransportFailed {
        /// Which.
        conn: ConnId,
        /// In the system's words.
        reason: String,
    },
    /// The peer connected to us.
    TransportAccepted {
        /// Its name, new, of origin `Incoming`.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
    },
    /// Octets from TCP.
    Received {
        /// Where.
        conn: ConnId,
        /// In order.
        octets: Vec<u8>,
    },
    /// The socket took octets.
    Written {
        /// Where.
        conn: ConnId,
        /// All so far on this connection.
        total: u64,
    },
    /// The peer's TCP acknowledged octets.
    Acked {
        /// Where.
        conn: ConnId,
        /// All so far on this connection.
        total: u64,
    },
    /// TCP lost the connection, or the peer closed it.
    Closed {
        /// Which.
        conn: ConnId,
        /// In the system's words.
        reason: String,
    },
    /// What the peer should know. `token` is reported by [`PeerEffect::UpdateWritten`] and
    /// [`PeerEffect::UpdateAcked`] if it changes anything for a session that is up and no newer change comes before.
    SetWanted {
        /// All of it.
        wanted: Wanted,
        /// The change's name.
        token: u64,
    },
    /// Whoever lives there should show it: a KEEPALIVE is sent, for its acknowledgement. At most one a second (RFC 4271
    /// section 4.4), and none where the hold time is zero.
    AskForLife,
    /// What kept the session away may be over: ConnectRetryTimer (RFC 4271 section 8) expires now. A peer that refused us is
    /// left its time.
    TryNow,
    /// INIT is over: what is wanted is complete, End-of-RIB may be sent (RFC 4724 section 4.1). Until then it waits.
    InitOver,
    /// Families whose forwarding state is in place, for the F bit of the next OPEN (RFC 4724 section 3).
    ForwardingPreserved(Families),
    /// BFD lost the peer (RFC 5882 section 4.2). AdminDown is no failure (section 3.2): it is not told.
    BfdDown,
    /// BFD has the peer Up, or its operator does not want BFD now: a strict session need not wait any longer.
    BfdUp,
    /// The peer's operator wants BFD again, and it is not Up: a strict session that begins waits for it; one that is
    /// Established stays.
    BfdAwaited,
    /// Drain everything: GRACEFUL_SHUTDOWN, after `moment` withdraw; the session stays.
    MaintenanceOn {
        /// Between the two.
        moment: Duration,
    },
    /// Announce again as wanted.
    MaintenanceOff,
    /// A stop follows, and of what is wanted this is to stay with a peer that agreed to graceful restart: it is neither
    /// withdrawn nor told to be left, and the session ends without NOTIFICATION. With all others nothing can stay.
    Keep {
        /// One for each of [`Wanted::claims`]; what is not kept is [`Claim::None`].
        claims: Vec<Claim>,
    },
    /// For good: GRACEFUL_SHUTDOWN, after `moment` withdraw, NOTIFICATION (unless something is kept), close; then
    /// [`PeerEffect::Stopped`]. At once where everything is kept.
    Stop {
        /// Between GRACEFUL_SHUTDOWN and the withdraw; zero: no GRACEFUL_SHUTDOWN.
        moment: Duration,
        /// What the NOTIFICATION says.
        cause: StopCause,
        /// The operator's words (RFC 9003), for a shutdown or reset.
        message: String,
    },
    /// Close so that the peer keeps our routes where graceful restart was negotiated; elsewhere Cease. Then
    /// [`PeerEffect::Stopped`].
    Handover,
}

/// Why a peer is stopped (RFC 4486).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopCause {
    /// Administrative Shutdown.
    Shutdown,
    /// Administrative Reset.
    Reset,
    /// The peer is no longer in the configuration.
    Deconfigured,
    /// Its configuration changed so that a new session is needed.
    ConfigurationChange,
}

/// What the world must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerEffect {
    /// Connect to the peer.
    Connect {
        /// Under this name.
        conn: ConnId,
    },
    /// Close, or give up connecting. Events of this connection that come later are ignored.
    Close {
        /// Which.
        conn: ConnId,
        /// Write these octets before, behind what is not yet written, if TCP takes them without a long wait.
        last_words: Vec<u8>,
    },
    /// There are octets: fetch them with `poll_transmit` whenever the socket can take more, until it gives none.
    Transmit {
        /// Where.
        conn: ConnId,
    },
    /// Established.
    SessionUp,
    /// No longer Established.
    SessionDown {
        /// Why, in words.
        reason: String,
    },
    /// A try to get a session failed.
    AttemptFailed {
        /// Why, in words.
        reason: String,
    },
    /// TCP took the last octet of this change.
    UpdateWritten {
        /// Of [`PeerEvent::SetWanted`].
        token: u64,
    },
    /// The peer's TCP has the last octet of this change.
    UpdateAcked {
        /// Of [`PeerEvent::SetWanted`].
        token: u64,
    },
    /// Worth a line in the log.
    Note(String),
    /// Stop or handover is complete; nothing follows.
    Stopped,
}
