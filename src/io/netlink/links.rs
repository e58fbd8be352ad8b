//! The network interfaces by index and by name.

use std::collections::HashMap;

use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::announcer::Event;
use crate::fib::object::LinkState;
use crate::net::IfIndex;

/// IFLA_IFNAME.
const IFLA_IFNAME: u16 = 3;

/// All interfaces of the network namespace, as far as news have come in.
#[derive(Clone, Default, Debug)]
pub(super) struct Links {
    by_index: HashMap<u32, LinkState>,
}

impl Links {
    /// The index of the interface with that name.
    pub fn index(&self, name: &str) -> Option<IfIndex> {
        // Few interfaces, and asked once an operation: a scan costs less than keeping a second map true.
        self.by_index.iter().find(|(_, l)| l.name == name).map(|(i, _)| IfIndex(*i))
    }

    /// The name of the interface with that index.
    pub fn name(&self, index: u32) -> Option<&str> {
        self.by_index.get(&index).map(|l| l.name.as_str())
    }

    /// All of them, in the order of their indexes.
    pub fn states(&self) -> Vec<LinkState> {
        let mut all: Vec<_> = self.by_index.iter().collect();
        all.sort_by_key(|(index, _)| **index);
        all.into_iter().map(|(_, link)| link.clone()).collect()
    }

    /// Takes in what a link message says; what changed by it, in the order to be told.
    pub fn changed(&mut self, index: u32, link: LinkState) -> Vec<Event> {
        let mut events = Vec::new();
        // A name can move to another index before the old one's end is heard of.
        let usurped: Vec<u32> = self
            .by_index
            .iter()
            .filter(|(i, l)| **i != index && l.name == link.name)
            .map(|(i, _)| *i)
            .collect();
        for old in usurped {
            self.by_index.remove(&old);
        }
        match self.by_index.insert(index, link.clone()) {
            Some(before) if before == link => return events,
            Some(before) if before.name != link.name => events.push(Event::LinkGone(before.name)),
            _ => {}
        }
        events.push(Event::LinkIs(link));
        events
    }

    /// Forgets an interface.
    pub fn gone(&mut self, index: u32) -> Option<Event> {
        self.by_index.remove(&index).map(|l| Event::LinkGone(l.name))
    }

    /// Takes in a whole dump; what changed by it.
    pub fn resync(&mut self, fresh: Links) -> Vec<Event> {
        let mut events = Vec::new();
        let missing: Vec<u32> =
            self.by_index.keys().filter(|i| !fresh.by_index.contains_key(i)).copied().collect();
        for index in missing {
            events.extend(self.gone(index));
        }
        let mut fresh: Vec<_> = fresh.by_index.into_iter().collect();
        fresh.sort_by_key(|(index, _)| *index);
        for (index, link) in fresh {
            events.extend(self.changed(index, link));
        }
        events
    }

    /// Adds one decoded message of a dump.
    pub fn insert(&mut self, index: u32, link: LinkState) {
        self.by_index.insert(index, link);
    }
}

/// The request for all links.
pub(super) fn request() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

/// Index and state from the payload of RTM_NEWLINK or RTM_DELLINK.
///
/// `None` for what is no interface's own news: bridges report the loss of a port as RTM_DELLINK of family AF_BRIDGE.
pub(super) fn decode(payload: &[u8]) -> Option<(u32, LinkState)> {
    use netlink_packet_core::{NlasIterator, parse_string};
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    // Only the name is looked at: a whole link message has kilobytes of statistics and driver attributes.
    let name = NlasIterator::new(payload.get(16..)?)
        .flatten()
        .find(|nla| nla.kind() == IFLA_IFNAME)
        .and_then(|nla| parse_string(nla.value()).ok())?;
    let flags = header.flags;
    let state = LinkState {
        name,
        admin_up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    };
    Some((header.index, state))
}

/// For tests: the message that [`decode`] reads.
#[cfg(test)]
pub(super) fn encode(index: u32, state: &LinkState, family: AddressFamily) -> Vec<u8> {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::LinkAttribute;
    let mut message = LinkMessage::default();
    message.header.interface_family = family;
    message.header.index = index;
    message.header.flags.set(LinkFlags::Up, state.admin_up);
    message.header.flags.set(LinkFlags::LowerUp, state.carrier);
    message.attributes.push(LinkAttribute::IfName(state.name.clone()));
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, carrier: bool) -> LinkState {
        LinkState { name: name.into(), admin_up: true, carrier }
    }

    #[test]
    fn a_bridge_that_loses_a_port_is_not_the_end_of_the_port() {
        let bytes = encode(3, &link("eth0", true), AddressFamily::Bridge);
        assert_eq!(decode(&bytes), None);
        assert_eq!(
            decode(&encode(3, &link("eth0", true), AddressFamily::Unspec)),
            Some((3, link("eth0", true)))
        );
        assert_eq!(decode(&[0; 7]), None);
    }

    #[test]
    fn only_changes_are_told_and_a_rename_is_an_end_and_a_beginning() {
        let mut links = Links::default();
        assert_eq!(links.changed(2, link("eth0", true)), [Event::LinkIs(link("eth0", true))]);
        assert_eq!(links.changed(2, link("eth0", true)), []);
        assert_eq!(links.changed(2, link("eth0", false)), [Event::LinkIs(link("eth0", false))]);
        let renamed = links.changed(2, link("wan", false));
        assert_eq!(renamed, [Event::LinkGone("eth0".into()), Event::LinkIs(link("wan", false))]);
        assert_eq!(links.index("wan"), Some(IfIndex(2)));
        assert_eq!(links.index("eth0"), None);
    }

    #[test]
    fn a_name_that_moved_belongs_to_its_last_owner() {
        let mut links = Links::default();
        links.changed(2, link("eth0", true));
        links.changed(7, link("eth0", true));
        assert_eq!(links.index("eth0"), Some(IfIndex(7)));
        assert_eq!(links.gone(2), None);
    }

    #[test]
    fn a_resync_tells_the_difference() {
        let mut links = Links::default();
        links.changed(1, link("lo", true));
        links.changed(2, link("eth0", true));
        let mut fresh = Links::default();
        fresh.insert(1, link("lo", true));
        fresh.insert(3, link("eth1", true));
        let told = links.resync(fresh);
        assert_eq!(told, [Event::LinkGone("eth0".into()), Event::LinkIs(link("eth1", true))]);
    }
}
