//! The BFD Control packet (RFC 5880 section 4): octets to meaning and back. Parsing never panics.

use std::fmt;

/// The mandatory section, in octets.
pub const MANDATORY_LEN: usize = 24;
/// The longest packet: with an authentication section of SHA1.
pub const MAX_LEN: usize = MANDATORY_LEN + 28;
/// The version of RFC 5880.
const VERSION: u8 = 1;

/// Sta: the session's state (section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Held down by an operator; no failure.
    AdminDown,
    /// No session.
    Down,
    /// The neighbour is heard, and does not hear us yet.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            State::AdminDown => 0,
            State::Down => 1,
            State::Init => 2,
            State::Up => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Diag: why a session last left Up (section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing was wrong yet.
    pub const NONE: Self = Diagnostic(0);
    /// Silence for a whole detection time.
    pub const DETECTION_EXPIRED: Self = Diagnostic(1);
    /// The neighbour said Down.
    pub const NEIGHBOR_DOWN: Self = Diagnostic(3);
    /// An operator's wish.
    pub const ADMINISTRATIVE: Self = Diagnostic(7);
}

impl fmt::Display for Diagnostic {
    /// The words of RFC 5880 section 4.1 (and RFC 6428, for 9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            9 => "Mis-connectivity Defect",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// The mandatory section, but for its version, length and the A bit, which the rest decides. Intervals in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Diag.
    pub diagnostic: Diagnostic,
    /// Sta.
    pub state: State,
    /// P: answer at once.
    pub poll: bool,
    /// F: the answer to a Poll.
    pub is_final: bool,
    /// C: the sender's BFD survives its control plane.
    pub control_plane_independent: bool,
    /// D: the sender wants to be spared periodic packets.
    pub demand: bool,
    /// Detect Mult.
    pub multiplier: u8,
    /// My Discriminator.
    pub my_discriminator: u32,
    /// Your Discriminator; 0: not known yet.
    pub your_discriminator: u32,
    /// Desired Min TX Interval.
    pub desired_min_tx: u32,
    /// Required Min RX Interval; 0: no periodic packets, please.
    pub required_min_rx: u32,
    /// Required Min Echo RX Interval; 0: no Echo packets, please.
    pub required_min_echo_rx: u32,
}

/// A packet that came, whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received<'a> {
    /// Its mandatory section.
    pub packet: Packet,
    /// The octets that its Length covers: what a digest is made of.
    pub octets: &'a [u8],
    /// True if the A bit is set; the section begins after the mandatory one.
    pub has_auth: bool,
}

/// Why a packet was discarded, each a sentence of section 6.8.6 or of RFC 5881 section 5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Discard {
    /// Less than the mandatory section.
    #[error("shorter than a control packet")]
    Short,
    /// "If the version number is not correct (1)".
    #[error("not version 1")]
    Version,
    /// "If the Length field is less than the minimum correct value (24 if the A bit is clear, or 26 if set)".
    #[error("Length is too small")]
    Length,
    /// "If the Length field is greater than the payload of the encapsulating protocol".
    #[error("Length is more than came")]
    Truncated,
    /// "If the Detect Mult field is zero".
    #[error("Detect Mult is zero")]
    Multiplier,
    /// "If the Multipoint (M) bit is nonzero".
    #[error("the Multipoint bit is set")]
    Multipoint,
    /// "If the My Discriminator field is zero".
    #[error("My Discriminator is zero")]
    MyDiscriminator,
    /// "If no session is found".
    #[error("for no session of ours")]
    NoSession,
    /// "If the Your Discriminator field is zero and the State field is not Down or AdminDown".
    #[error("Your Discriminator is zero in a state that needs one")]
    YourDiscriminator,
    /// RFC 5881 section 5: it was routed, so it is no neighbour's. RFC 5883: from farther than allowed.
    #[error("its TTL says that it comes from too far away")]
    Ttl,
    /// It is not from the address of the neighbour.
    #[error("from another address than the session's")]
    Address,
    /// "If the A bit is set and no authentication is in use".
    #[error("authenticated, but no authentication is configured")]
    UnexpectedAuth,
    /// "If the A bit is clear and authentication is in use".
    #[error("not authenticated")]
    MissingAuth,
    /// Section 6.7: of another type, with another key, or broken.
    #[error("authentication of another type or key, or a wrong password or digest")]
    Auth,
    /// Section 6.7.3: seen already, or too new.
    #[error("authenticated, but its sequence number is out of the window")]
    Sequence,
    /// "If bfd.SessionState is AdminDown".
    #[error("the session is administratively down")]
    AdminDown,
}

impl Packet {
    /// Parses a datagram's payload: the checks of section 6.8.6 that need no session, in its order.
    ///
    /// # Errors
    ///
    /// The first of those checks that fails.
    pub fn parse(payload: &[u8]) -> Result<Received<'_>, Discard> {
        let fixed: &[u8; MANDATORY_LEN] = payload.first_chunk().ok_or(Discard::Short)?;
        let [first, flags, multiplier, length, ..] = *fixed;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let has_auth = flags & 0x04 != 0;
        let least = if has_auth { MANDATORY_LEN + 2 } else { MANDATORY_LEN };
        if usize::from(length) < least {
            return Err(Discard::Length);
        }
        let octets = payload.get(..usize::from(length)).ok_or(Discard::Truncated)?;
        if multiplier == 0 {
            return Err(Discard::Multiplier);
        }
        if flags & 0x01 != 0 {
            return Err(Discard::Multipoint);
        }
        let word =
            |at: usize| fixed.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_be_bytes);
        let packet = Packet {
            diagnostic: Diagnostic(first & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & 0x20 != 0,
            is_final: flags & 0x10 != 0,
            control_plane_independent: flags & 0x08 != 0,
            demand: flags & 0x02 != 0,
            multiplier,
            my_discriminator: word(4),
            your_discriminator: word(8),
            desired_min_tx: word(12),
            required_min_rx: word(16),
            required_min_echo_rx: word(20),
        };
        if packet.my_discriminator == 0 {
            return Err(Discard::MyDiscriminator);
        }
        if packet.your_discriminator == 0 && !matches!(packet.state, State::Down | State::AdminDown) {
            return Err(Discard::YourDiscriminator);
        }
        Ok(Received { packet, octets, has_auth })
    }

    /// Appends the mandatory section. `auth_len`: octets of the authentication section that the caller appends.
    pub fn put(&self, auth_len: u8, out: &mut Vec<u8>) {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = self.state.bits() << 6
            | bit(self.poll, 0x20)
            | bit(self.is_final, 0x10)
            | bit(self.control_plane_independent, 0x08)
            | bit(auth_len > 0, 0x04)
            | bit(self.demand, 0x02);
        out.push(VERSION << 5 | self.diagnostic.0 & 0x1f);
        out.push(flags);
        out.push(self.multiplier);
        out.push((MANDATORY_LEN as u8).saturating_add(auth_len));
        for word in [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}
