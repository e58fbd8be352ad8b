//! What an announcement says about its prefixes, before any session's parameters are applied.

use super::community::{Community, ExtendedCommunity, LargeCommunity};

/// The attributes of an announcement, as the operator gave them; next hop and AS number come with the session.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes {
    /// MULTI_EXIT_DISC (RFC 4271 section 5.1.4); absent: not sent.
    pub med: Option<u32>,
    /// Extra copies of the local AS number in front of AS_PATH.
    pub prepend: u8,
    /// Standard communities (RFC 1997).
    pub communities: Vec<Community>,
    /// Extended communities (RFC 4360).
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Large communities (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
}

/// The octets that the communities of one announcement may take: with everything else it must fit into one
/// message of 4,096 octets beside at least one prefix.
pub const MAX_COMMUNITY_OCTETS: usize = 2400;

/// More communities than an UPDATE message can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the communities take {octets} octets and at most {MAX_COMMUNITY_OCTETS} fit into an UPDATE message: \
     a standard community takes 4, an extended one 8, a large one 12"
)]
pub struct TooManyCommunities {
    /// What they take.
    pub octets: usize,
}

impl Attributes {
    /// Refuses what could not be sent to every peer.
    pub fn check(&self) -> Result<(), TooManyCommunities> {
        // One more for GRACEFUL_SHUTDOWN, which a stop adds.
        let octets = 4 * (self.communities.len() + 1)
            + 8 * self.extended_communities.len()
            + 12 * self.large_communities.len();
        if octets > MAX_COMMUNITY_OCTETS { Err(TooManyCommunities { octets }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_into_a_message_is_refused() {
        let mut attributes = Attributes { communities: vec![Community(1); 599], ..Attributes::default() };
        assert_eq!(attributes.check(), Ok(()));
        attributes.communities.push(Community(2));
        assert_eq!(attributes.check(), Err(TooManyCommunities { octets: 2404 }));
    }
}
