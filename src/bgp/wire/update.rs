//! UPDATE as received: parsed in place, judged by RFC 7606, so that the caller can count and drop it.

use super::attribute::{AS_SEQUENCE, OPTIONAL, Overrun, RawAttribute, RawAttributes, TRANSITIVE, code};
use super::notification::{Cause, Notification};
use super::{Reader, unicast_family};
use crate::bgp::prefix_set::prefix_of;
use crate::net::{Family, Prefix};

/// What the session says about the attributes of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateContext {
    /// AS numbers in AS_PATH have four octets (RFC 6793).
    pub four_octet: bool,
    /// The peer is in another AS.
    pub external: bool,
}

/// What RFC 7606 section 2 does about an error, mildest first; a session reset is a [`Notification`] instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Treatment {
    /// Forget the attribute, keep the route.
    AttributeDiscard,
    /// Take the routes as withdrawn.
    TreatAsWithdraw,
    /// Ignore this family for the rest of the session.
    DisableFamily(Family),
}

/// An error within an UPDATE that the session survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is done about it.
    pub treatment: Treatment,
    /// The type code of the attribute at fault.
    pub attribute: u8,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Prefixes within a message; their syntax has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nlri<'a> {
    family: Family,
    octets: &'a [u8],
    count: u32,
}

impl<'a> Nlri<'a> {
    /// RFC 7606 section 5.3: no length beyond the address, no prefix beyond the field.
    fn parse(family: Family, octets: &'a [u8]) -> Option<Self> {
        let max = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let mut reader = Reader(octets);
        let mut count = 0;
        while !reader.is_empty() {
            let len = reader.u8().filter(|len| *len <= max)?;
            reader.take(usize::from(len.div_ceil(8)))?;
            count += 1;
        }
        Some(Nlri { family, octets, count })
    }

    /// Their family.
    pub fn family(self) -> Family {
        self.family
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The prefixes; host bits that the peer left set are cleared.
    pub fn prefixes(self) -> impl Iterator<Item = Prefix> + 'a {
        let mut reader = Reader(self.octets);
        std::iter::from_fn(move || {
            let len = *reader.0.first()?;
            prefix_of(self.family, reader.take(1 + usize::from(len.div_ceil(8)))?)
        })
    }
}

/// An UPDATE message (RFC 4271 section 4.3) that does not end the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    /// Withdrawn Routes, IPv4.
    pub withdrawn: Nlri<'a>,
    /// Network Layer Reachability Information, IPv4.
    pub nlri: Nlri<'a>,
    /// MP_REACH_NLRI for a family that we speak.
    pub mp_reach: Option<Nlri<'a>>,
    /// The next hop in MP_REACH_NLRI.
    pub mp_next_hop: &'a [u8],
    /// MP_UNREACH_NLRI for a family that we speak.
    pub mp_unreach: Option<Nlri<'a>>,
    /// All path attributes, unjudged.
    pub attributes: RawAttributes<'a>,
    /// The gravest error (RFC 7606 section 3.h), if there was one.
    pub fault: Option<Fault>,
}

impl<'a> Update<'a> {
    /// Parses the body. `Err` is a session reset with the NOTIFICATION of RFC 4271 section 6.3.
    pub fn parse(body: &'a [u8], context: UpdateContext) -> Result<Self, Notification> {
        let malformed = || Notification::new(Cause::MALFORMED_ATTRIBUTE_LIST);
        let mut reader = Reader(body);
        // RFC 7606 section 3.b: lengths that leave the message make it impossible to find anything in it.
        let withdrawn = reader.u16().and_then(|length| reader.take(length.into())).ok_or_else(malformed)?;
        let attributes = reader.u16().and_then(|length| reader.take(length.into())).ok_or_else(malformed)?;
        let nlri = Nlri::parse(Family::V4, reader.0);
        let withdrawn = Nlri::parse(Family::V4, withdrawn);
        let (Some(nlri), Some(withdrawn)) = (nlri, withdrawn) else {
            return Err(Notification::new(Cause::INVALID_NETWORK_FIELD));
        };
        let mut judge = Judge::new(context);
        for attribute in RawAttributes(attributes) {
            judge.attribute(attribute)?;
        }
        judge.finish(nlri.count > 0)?;
        Ok(Update {
            withdrawn,
            nlri,
            mp_reach: judge.mp_reach,
            mp_next_hop: judge.mp_next_hop,
            mp_unreach: judge.mp_unreach,
            attributes: RawAttributes(attributes),
            fault: judge.fault,
        })
    }

    /// The family whose initial table ends here (RFC 4724 section 2).
    pub fn end_of_rib(&self) -> Option<Family> {
        let no_routes = self.withdrawn.count == 0 && self.nlri.count == 0 && self.mp_reach.is_none();
        match self.mp_unreach {
            _ if !no_routes || self.fault.is_some() => None,
            Some(unreach) if unreach.count == 0 && self.attributes.count() == 1 => Some(unreach.family),
            None if self.attributes.0.is_empty() => Some(Family::V4),
            _ => None,
        }
    }

    /// All prefixes announced.
    pub fn announced(&self) -> impl Iterator<Item = Prefix> + 'a {
        self.nlri.prefixes().chain(self.mp_reach.into_iter().flat_map(Nlri::prefixes))
    }

    /// All prefixes withdrawn.
    pub fn withdrawals(&self) -> impl Iterator<Item = Prefix> + 'a {
        self.withdrawn.prefixes().chain(self.mp_unreach.into_iter().flat_map(Nlri::prefixes))
    }
}

/// Goes through the attributes of one message.
struct Judge<'a> {
    context: UpdateContext,
    seen: [bool; 256],
    mp_reach: Option<Nlri<'a>>,
    mp_next_hop: &'a [u8],
    mp_unreach: Option<Nlri<'a>>,
    /// MP_REACH_NLRI of whatever family stood there.
    reaches: bool,
    /// There is an attribute besides MP_UNREACH_NLRI.
    more_than_unreach: bool,
    fault: Option<Fault>,
}

impl<'a> Judge<'a> {
    fn new(context: UpdateContext) -> Self {
        Judge {
            context,
            seen: [false; 256],
            mp_reach: None,
            mp_next_hop: &[],
            mp_unreach: None,
            reaches: false,
            more_than_unreach: false,
            fault: None,
        }
    }

    /// RFC 7606 section 3.h: the strongest treatment wins.
    fn fault(&mut self, treatment: Treatment, attribute: u8, why: &'static str) {
        if self.fault.is_none_or(|before| before.treatment < treatment) {
            self.fault = Some(Fault { treatment, attribute, why });
        }
    }

    fn attribute(&mut self, attribute: Result<RawAttribute<'a>, Overrun>) -> Result<(), Notification> {
        let attribute = match attribute {
            Ok(attribute) => attribute,
            // RFC 7606 section 3.j: prefixes that cannot be read cannot be taken as withdrawn.
            Err(Overrun { code: Some(code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) }) => {
                return Err(optional_attribute_error());
            }
            // RFC 7606 section 4.
            Err(Overrun { .. }) => {
                self.more_than_unreach = true;
                let why = "an attribute is longer than the rest of the message";
                self.fault(Treatment::TreatAsWithdraw, 0, why);
                return Ok(());
            }
        };
        self.more_than_unreach |= attribute.code != code::MP_UNREACH_NLRI;
        let multiprotocol = matches!(attribute.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI);
        let seen = self.seen.get_mut(usize::from(attribute.code));
        if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
            // RFC 7606 section 3.g.
            if multiprotocol {
                return Err(Notification::new(Cause::MALFORMED_ATTRIBUTE_LIST));
            }
            self.fault(Treatment::AttributeDiscard, attribute.code, "the attribute is there twice");
            return Ok(());
        }
        if attribute.flags & OPTIONAL == 0 && expected_flags(attribute.code).is_none() {
            // RFC 4271 section 6.3: Data is the attribute.
            return Err(Notification::with_data(Cause::UNRECOGNIZED_WELL_KNOWN, attribute.octets.to_vec()));
        }
        let flags = attribute.flags & (OPTIONAL | TRANSITIVE);
        if expected_flags(attribute.code).is_some_and(|expected| expected != flags) {
            // RFC 7606 section 3.c.
            self.fault(Treatment::TreatAsWithdraw, attribute.code, "its flags contradict its type");
        }
        match attribute.code {
            code::MP_REACH_NLRI => self.reach(attribute.value),
            code::MP_UNREACH_NLRI => self.unreach(attribute.value),
            other => {
                if let Some((treatment, why)) = judge_value(other, attribute.value, self.context) {
                    self.fault(treatment, other, why);
                }
                Ok(())
            }
        }
    }

    /// RFC 7606 sections 5.3 and 7.11.
    fn reach(&mut self, value: &'a [u8]) -> Result<(), Notification> {
        self.reaches = true;
        let mut reader = Reader(value);
        let head = reader.u16().and_then(|afi| Some((afi, reader.u8()?, reader.u8()?)));
        let Some((afi, safi, length)) = head else { return Err(optional_attribute_error()) };
        let Some(family) = unicast_family(afi, safi) else { return Ok(()) };
        let body = reader.take(usize::from(length)).and_then(|next_hop| {
            reader.u8()?;
            Some((next_hop, Nlri::parse(family, reader.0)?))
        });
        let fits = match family {
            // RFC 4760 section 3, RFC 8950 section 3.
            Family::V4 => matches!(length, 4 | 16 | 32),
            Family::V6 => matches!(length, 16 | 32),
        };
        match body {
            Some((next_hop, nlri)) if fits => {
                self.mp_next_hop = next_hop;
                self.mp_reach = Some(nlri);
            }
            _ => self.fault(Treatment::DisableFamily(family), code::MP_REACH_NLRI, "it cannot be parsed"),
        }
        Ok(())
    }

    /// RFC 7606 sections 5.3 and 7.12.
    fn unreach(&mut self, value: &'a [u8]) -> Result<(), Notification> {
        let mut reader = Reader(value);
        let head = reader.u16().and_then(|afi| Some((afi, reader.u8()?)));
        let Some((afi, safi)) = head else { return Err(optional_attribute_error()) };
        let Some(family) = unicast_family(afi, safi) else { return Ok(()) };
        self.mp_unreach = Nlri::parse(family, reader.0);
        if self.mp_unreach.is_none() {
            self.fault(Treatment::DisableFamily(family), code::MP_UNREACH_NLRI, "it cannot be parsed");
        }
        Ok(())
    }

    fn has(&self, code: u8) -> bool {
        self.seen.get(usize::from(code)).copied().unwrap_or(false)
    }

    fn finish(&mut self, classic: bool) -> Result<(), Notification> {
        // RFC 4271 section 6.3 with RFC 7606 section 3.d.
        let mandatory = [
            (code::ORIGIN, classic || self.reaches),
            (code::AS_PATH, classic || self.reaches),
            (code::NEXT_HOP, classic),
            (code::LOCAL_PREF, !self.context.external && (classic || self.reaches)),
        ];
        for (code, needed) in mandatory {
            if needed && !self.has(code) {
                self.fault(Treatment::TreatAsWithdraw, code, "a mandatory attribute is missing");
            }
        }
        // RFC 7606 section 5.2: with no prefix in sight, nothing says what to treat as withdrawn.
        let nothing_reached = !classic && !self.reaches && self.more_than_unreach;
        match self.fault {
            Some(fault) if nothing_reached && fault.treatment > Treatment::AttributeDiscard => {
                Err(Notification::new(Cause::MALFORMED_ATTRIBUTE_LIST))
            }
            _ => Ok(()),
        }
    }
}

fn optional_attribute_error() -> Notification {
    Notification::new(Cause::OPTIONAL_ATTRIBUTE)
}

/// The Optional and Transitive bits of the attributes that we know.
fn expected_flags(attribute: u8) -> Option<u8> {
    Some(match attribute {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            TRANSITIVE
        }
        code::MULTI_EXIT_DISC | code::ORIGINATOR_ID | code::CLUSTER_LIST => OPTIONAL,
        code::MP_REACH_NLRI | code::MP_UNREACH_NLRI | code::AIGP => OPTIONAL,
        code::AGGREGATOR | code::COMMUNITIES | code::EXTENDED_COMMUNITIES => OPTIONAL | TRANSITIVE,
        code::AS4_PATH | code::AS4_AGGREGATOR | code::IPV6_EXTENDED_COMMUNITIES => OPTIONAL | TRANSITIVE,
        code::LARGE_COMMUNITIES | code::ONLY_TO_CUSTOMER => OPTIONAL | TRANSITIVE,
        _ => return None,
    })
}

/// RFC 7606 section 7, and the documents that define later attributes, one by one.
fn judge_value(attribute: u8, value: &[u8], context: UpdateContext) -> Option<(Treatment, &'static str)> {
    use Treatment::{AttributeDiscard as Discard, TreatAsWithdraw as Withdraw};
    let multiple_of = |size: usize| !value.is_empty() && value.len() % size == 0;
    let internal_only = |good: bool| {
        if context.external {
            Some((Discard, "it comes from an external peer"))
        } else {
            length(good, Withdraw)
        }
    };
    match attribute {
        code::ORIGIN if !matches!(value, [0..=2]) => Some((Withdraw, "it is none of IGP, EGP, INCOMPLETE")),
        code::AS_PATH => length(is_path(value, if context.four_octet { 4 } else { 2 }), Withdraw),
        code::NEXT_HOP | code::MULTI_EXIT_DISC => length(value.len() == 4, Withdraw),
        code::LOCAL_PREF | code::ORIGINATOR_ID => internal_only(value.len() == 4),
        code::CLUSTER_LIST => internal_only(multiple_of(4)),
        code::ATOMIC_AGGREGATE => length(value.is_empty(), Discard),
        code::AGGREGATOR => length(is_aggregator(value, if context.four_octet { 4 } else { 2 }), Discard),
        code::COMMUNITIES => length(multiple_of(4), Withdraw),
        code::EXTENDED_COMMUNITIES => length(multiple_of(8), Withdraw),
        code::IPV6_EXTENDED_COMMUNITIES => length(multiple_of(20), Withdraw),
        // RFC 8092 section 6.
        code::LARGE_COMMUNITIES => length(multiple_of(12), Withdraw),
        // RFC 6793 section 6.
        code::AS4_PATH | code::AS4_AGGREGATOR if context.four_octet => {
            Some((Discard, "it comes from a peer with four-octet AS numbers"))
        }
        code::AS4_PATH => length(is_path(value, 4), Discard),
        code::AS4_AGGREGATOR => length(is_aggregator(value, 4), Discard),
        // RFC 9234 section 5.
        code::ONLY_TO_CUSTOMER => length(value.len() == 4, Withdraw),
        _ => None,
    }
}

fn length(good: bool, treatment: Treatment) -> Option<(Treatment, &'static str)> {
    if good { None } else { Some((treatment, "its length or contents are impossible")) }
}

/// RFC 7606 section 7.2: no empty segment, none too long; RFC 9774 section 3: AS_SEQUENCE alone; RFC 7607 section 2:
/// no AS 0.
fn is_path(value: &[u8], asn_octets: usize) -> bool {
    let mut reader = Reader(value);
    while !reader.is_empty() {
        let (Some(AS_SEQUENCE), Some(count @ 1..)) = (reader.u8(), reader.u8()) else { return false };
        let Some(numbers) = reader.take(usize::from(count) * asn_octets) else { return false };
        if numbers.chunks(asn_octets).any(is_zero) {
            return false;
        }
    }
    true
}

fn is_zero(asn: &[u8]) -> bool {
    asn.iter().all(|octet| *octet == 0)
}

/// RFC 7606 section 7.7, RFC 6793 section 6, RFC 7607 section 2: an AS number, not 0, and an address.
fn is_aggregator(value: &[u8], asn_octets: usize) -> bool {
    value.len() == asn_octets + 4 && value.get(..asn_octets).is_some_and(|asn| !is_zero(asn))
}
