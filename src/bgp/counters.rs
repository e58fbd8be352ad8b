//! What a peer has counted since it was configured.

use super::wire::header::MessageType;

/// Messages of each type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct MessageCounts {
    pub open: u64,
    pub update: u64,
    pub notification: u64,
    pub keepalive: u64,
    pub route_refresh: u64,
}

impl MessageCounts {
    pub(crate) fn count(&mut self, kind: MessageType) {
        match kind {
            MessageType::Open => self.open += 1,
            MessageType::Update => self.update += 1,
            MessageType::Notification => self.notification += 1,
            MessageType::Keepalive => self.keepalive += 1,
            MessageType::RouteRefresh => self.route_refresh += 1,
        }
    }
}

/// Since the peer was configured, over all its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages received.
    pub received: MessageCounts,
    /// Messages written; End-of-RIB, BoRR and EoRR count as UPDATE.
    pub sent: MessageCounts,
    /// Prefixes that the peer announced; the same one may count often.
    pub prefixes_announced: u64,
    /// Prefixes that the peer withdrew.
    pub prefixes_withdrawn: u64,
    /// UPDATEs that RFC 7606 had to mend.
    pub faults: u64,
    /// Sessions that reached Established.
    pub established: u64,
}
