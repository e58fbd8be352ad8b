//! Policy rules as rtnetlink messages. Ours carry our protocol (FRA_PROTOCOL), and removal names it.

use netlink_packet_core::Parseable;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::encode;
use crate::fib::object::RuleObject;
use crate::net::{Family, Prefix};

/// A rule as the kernel has it, anybody's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenRule {
    /// What of it we can express.
    pub rule: RuleObject,
    /// Whose it is.
    pub protocol: u8,
    /// `rule` says all there is to say.
    pub exact: bool,
}

/// The request for a family's rules.
pub(super) fn get(of: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = encode::family(of);
    RouteNetlinkMessage::GetRule(message)
}

/// What both making and removing need: all of it.
pub(super) fn message(object: &RuleObject, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = encode::family(object.family);
    header.action = RuleAction::ToTable;
    header.src_len = object.from.map_or(0, Prefix::len);
    header.dst_len = object.to.map_or(0, Prefix::len);
    // FRA_TABLE says it whole; this octet would win if it were set.
    header.table = 0;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(object.priority));
    attributes.push(RuleAttribute::Table(object.table));
    attributes.push(RuleAttribute::Protocol(protocol.into()));
    attributes.extend(object.from.map(|p| RuleAttribute::Source(p.address())));
    attributes.extend(object.to.map(|p| RuleAttribute::Destination(p.address())));
    attributes.extend(object.iif.clone().map(RuleAttribute::Iifname));
    if let Some((mark, mask)) = object.fwmark {
        attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    message
}

/// A rule from the payload of RTM_NEWRULE or RTM_DELRULE.
pub(super) fn decode(payload: &[u8]) -> Option<SeenRule> {
    let message = RuleMessage::parse(payload).ok()?;
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let table = u32::from(header.table);
    let rule = RuleObject { family, priority: 0, from: None, to: None, fwmark: None, iif: None, table };
    let exact = header.action == RuleAction::ToTable && header.tos == 0 && header.flags.bits() & INVERT == 0;
    let mut seen = SeenRule { rule, protocol: 0, exact };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => seen.rule.priority = n,
            RuleAttribute::Table(n) => seen.rule.table = n,
            RuleAttribute::Protocol(p) => seen.protocol = p.into(),
            RuleAttribute::Source(a) => seen.rule.from = Prefix::containing(a, header.src_len),
            RuleAttribute::Destination(a) => seen.rule.to = Prefix::containing(a, header.dst_len),
            RuleAttribute::Iifname(dev) => seen.rule.iif = Some(dev),
            RuleAttribute::FwMark(n) => mark = Some(n),
            RuleAttribute::FwMask(n) => mask = n,
            // What the kernel says of every rule: nothing is suppressed.
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => seen.exact = false,
        }
    }
    seen.rule.fwmark = mark.map(|mark| (mark, mask));
    Some(seen)
}

/// FIB_RULE_INVERT.
const INVERT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    fn bytes_of(rule: &RuleObject) -> Vec<u8> {
        let message = message(rule, 187);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn rule() -> RuleObject {
        RuleObject {
            family: Family::V4,
            priority: 10_000,
            from: "10.10.10.0/30".parse().ok(),
            to: "198.51.100.0/24".parse().ok(),
            fwmark: Some((0x10, 0xff)),
            iif: Some("gre1".into()),
            table: 1000,
        }
    }

    #[test]
    fn a_rule_survives_the_wire() {
        let seen = decode(&bytes_of(&rule())).unwrap();
        assert_eq!(seen, SeenRule { rule: rule(), protocol: 187, exact: true });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(at in 0usize..100, value in any::<u8>(), cut in 0usize..120) {
            let mut bytes = bytes_of(&rule());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            decode(&bytes);
        }
    }
}
