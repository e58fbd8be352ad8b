//! NOTIFICATION: every code and subcode that is registered, in words, and the texts that peers put into them.

use std::fmt;

use super::header::{MessageType, begin, finish};

/// Error Code and Error Subcode of a NOTIFICATION.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cause {
    /// Error Code.
    pub code: u8,
    /// Error Subcode.
    pub subcode: u8,
}

macro_rules! causes {
    ($($name:ident = $code:literal / $subcode:literal, $words:literal;)*) => {
        impl Cause {
            $(#[doc = concat!($words, ".")] pub const $name: Cause = Cause { code: $code, subcode: $subcode };)*
        }
        const WORDS: &[(Cause, &str)] = &[$((Cause::$name, $words),)*];
    };
}

// RFC 4271 section 4.5; 5492 (2/7); 9234 (2/11); 6608 (5/x); 4486 and 8203, 8538, 9384 (6/x); 7313 (7/x); 9687 (8).
causes! {
    HEADER_UNSPECIFIC = 1/0, "Message Header Error";
    CONNECTION_NOT_SYNCHRONIZED = 1/1, "Message Header Error/Connection Not Synchronized";
    BAD_MESSAGE_LENGTH = 1/2, "Message Header Error/Bad Message Length";
    BAD_MESSAGE_TYPE = 1/3, "Message Header Error/Bad Message Type";
    OPEN_UNSPECIFIC = 2/0, "OPEN Message Error";
    UNSUPPORTED_VERSION = 2/1, "OPEN Message Error/Unsupported Version Number";
    BAD_PEER_AS = 2/2, "OPEN Message Error/Bad Peer AS";
    BAD_BGP_IDENTIFIER = 2/3, "OPEN Message Error/Bad BGP Identifier";
    UNSUPPORTED_OPTIONAL_PARAMETER = 2/4, "OPEN Message Error/Unsupported Optional Parameter";
    AUTHENTICATION_FAILURE = 2/5, "OPEN Message Error/Authentication Failure";
    UNACCEPTABLE_HOLD_TIME = 2/6, "OPEN Message Error/Unacceptable Hold Time";
    UNSUPPORTED_CAPABILITY = 2/7, "OPEN Message Error/Unsupported Capability";
    ROLE_MISMATCH = 2/11, "OPEN Message Error/Role Mismatch";
    UPDATE_UNSPECIFIC = 3/0, "UPDATE Message Error";
    MALFORMED_ATTRIBUTE_LIST = 3/1, "UPDATE Message Error/Malformed Attribute List";
    UNRECOGNIZED_WELL_KNOWN = 3/2, "UPDATE Message Error/Unrecognized Well-known Attribute";
    MISSING_WELL_KNOWN = 3/3, "UPDATE Message Error/Missing Well-known Attribute";
    ATTRIBUTE_FLAGS = 3/4, "UPDATE Message Error/Attribute Flags Error";
    ATTRIBUTE_LENGTH = 3/5, "UPDATE Message Error/Attribute Length Error";
    INVALID_ORIGIN = 3/6, "UPDATE Message Error/Invalid ORIGIN Attribute";
    AS_ROUTING_LOOP = 3/7, "UPDATE Message Error/AS Routing Loop";
    INVALID_NEXT_HOP = 3/8, "UPDATE Message Error/Invalid NEXT_HOP Attribute";
    OPTIONAL_ATTRIBUTE = 3/9, "UPDATE Message Error/Optional Attribute Error";
    INVALID_NETWORK_FIELD = 3/10, "UPDATE Message Error/Invalid Network Field";
    MALFORMED_AS_PATH = 3/11, "UPDATE Message Error/Malformed AS_PATH";
    HOLD_TIMER_EXPIRED = 4/0, "Hold Timer Expired";
    FSM_UNSPECIFIC = 5/0, "Finite State Machine Error";
    FSM_OPEN_SENT = 5/1, "Finite State Machine Error/Unexpected Message in OpenSent";
    FSM_OPEN_CONFIRM = 5/2, "Finite State Machine Error/Unexpected Message in OpenConfirm";
    FSM_ESTABLISHED = 5/3, "Finite State Machine Error/Unexpected Message in Established";
    CEASE_UNSPECIFIC = 6/0, "Cease";
    MAX_PREFIXES = 6/1, "Cease/Maximum Number of Prefixes Reached";
    ADMIN_SHUTDOWN = 6/2, "Cease/Administrative Shutdown";
    PEER_DECONFIGURED = 6/3, "Cease/Peer De-configured";
    ADMIN_RESET = 6/4, "Cease/Administrative Reset";
    CONNECTION_REJECTED = 6/5, "Cease/Connection Rejected";
    CONFIGURATION_CHANGE = 6/6, "Cease/Other Configuration Change";
    CONNECTION_COLLISION = 6/7, "Cease/Connection Collision Resolution";
    OUT_OF_RESOURCES = 6/8, "Cease/Out of Resources";
    HARD_RESET = 6/9, "Cease/Hard Reset";
    BFD_DOWN = 6/10, "Cease/BFD Down";
    REFRESH_UNSPECIFIC = 7/0, "ROUTE-REFRESH Message Error";
    REFRESH_LENGTH = 7/1, "ROUTE-REFRESH Message Error/Invalid Message Length";
    SEND_HOLD_TIMER_EXPIRED = 8/0, "Send Hold Timer Expired";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = WORDS.iter().find(|(cause, _)| cause == self);
        let class = WORDS.iter().find(|(cause, _)| cause.code == self.code && cause.subcode == 0);
        match (exact, class) {
            (Some((_, words)), _) => f.write_str(words),
            (None, Some((_, words))) => write!(f, "{words}/subcode {}", self.subcode),
            (None, None) => write!(f, "error code {}, subcode {}", self.code, self.subcode),
        }
    }
}

/// A NOTIFICATION message (RFC 4271 section 4.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Error Code and Subcode.
    pub cause: Cause,
    /// The Data field; what it holds depends on the cause.
    pub data: Vec<u8>,
}

/// The longest shutdown message, in octets of UTF-8 (RFC 9003 section 2).
pub const MAX_SHUTDOWN_MESSAGE: usize = 255;

impl Notification {
    /// With an empty Data field.
    pub fn new(cause: Cause) -> Self {
        Notification { cause, data: Vec::new() }
    }

    /// With this Data field.
    pub fn with_data(cause: Cause, data: Vec<u8>) -> Self {
        Notification { cause, data }
    }

    /// With the operator's words (RFC 9003), cut at a character's end where longer than 255 octets.
    ///
    /// Only Administrative Shutdown and Administrative Reset carry words; for other causes they are left out.
    pub fn with_message(cause: Cause, message: &str) -> Self {
        if message.is_empty() || !carries_message(cause) {
            return Self::new(cause);
        }
        let end =
            (0..=message.len().min(MAX_SHUTDOWN_MESSAGE)).rev().find(|at| message.is_char_boundary(*at));
        let text = &message.as_bytes()[..end.unwrap_or(0)];
        let mut data = vec![text.len() as u8];
        data.extend_from_slice(text);
        Self::with_data(cause, data)
    }

    /// This NOTIFICATION inside a Hard Reset (RFC 8538 section 3.1), which ends graceful restart's mercy.
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.cause.code, self.cause.subcode];
        data.extend_from_slice(&self.data);
        Self::with_data(Cause::HARD_RESET, data)
    }

    /// What a Hard Reset carries, or itself.
    pub fn unwrapped(&self) -> (Cause, &[u8]) {
        match (self.cause, self.data.as_slice()) {
            (Cause::HARD_RESET, [code, subcode, data @ ..]) => {
                (Cause { code: *code, subcode: *subcode }, data)
            }
            (cause, data) => (cause, data),
        }
    }

    /// Parses the body, which the header check made at least two octets long.
    ///
    /// RFC 4271 section 6.4: an error in it cannot be answered; a body that is too short reads as zeros.
    pub fn parse(body: &[u8]) -> Self {
        let at = |index: usize| body.get(index).copied().unwrap_or(0);
        let cause = Cause { code: at(0), subcode: at(1) };
        Self::with_data(cause, body.get(2..).unwrap_or(&[]).to_vec())
    }

    /// Appends the message; Data that would make it longer than 4,096 octets is cut.
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = begin(out, MessageType::Notification);
        out.extend_from_slice(&[self.cause.code, self.cause.subcode]);
        let room = super::MAX_MESSAGE - super::HEADER_LEN - 2;
        out.extend_from_slice(&self.data[..self.data.len().min(room)]);
        finish(out, start);
    }
}

fn carries_message(cause: Cause) -> bool {
    matches!(cause, Cause::ADMIN_SHUTDOWN | Cause::ADMIN_RESET)
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cause, data) = self.unwrapped();
        if self.cause == Cause::HARD_RESET {
            f.write_str("Hard Reset: ")?;
        }
        cause.fmt(f)?;
        match data.split_first() {
            Some((length, text)) if carries_message(cause) => {
                let text = text.get(..usize::from(*length)).unwrap_or(text);
                write!(f, ", \"{}\"", printable(text))
            }
            _ => Ok(()),
        }
    }
}

/// A peer's text, fit for a terminal and a log line: RFC 9003 section 6 warns of what else it might hold.
pub fn printable(text: &[u8]) -> String {
    let harmless = |c: char| match c {
        // Line ends, and marks that turn the direction of what follows.
        '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        '"' => false,
        c => !c.is_control(),
    };
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|c| {
            if harmless(c) {
                c
            } else if c == '"' {
                '\''
            } else {
                '\u{fffd}'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_registered_and_unregistered_causes() {
        assert_eq!(Cause::BFD_DOWN.to_string(), "Cease/BFD Down");
        assert_eq!(Cause { code: 6, subcode: 99 }.to_string(), "Cease/subcode 99");
        assert_eq!(Cause { code: 99, subcode: 1 }.to_string(), "error code 99, subcode 1");
    }

    /// RFC 9003 section 2: a length octet and up to 255 octets of UTF-8.
    #[test]
    fn shutdown_messages_are_cut_at_a_character() {
        let long = "\u{4e2d}".repeat(100);
        let notification = Notification::with_message(Cause::ADMIN_SHUTDOWN, &long);
        assert_eq!(notification.data.len(), 256);
        assert_eq!(notification.data[0], 255);
        assert!(notification.to_string().ends_with("\u{4e2d}\""));
        assert!(Notification::with_message(Cause::BFD_DOWN, "text").data.is_empty());
    }

    /// RFC 9003 section 6: what the peer sends may be made to fool whoever reads the log.
    #[test]
    fn texts_of_peers_are_made_harmless() {
        let mut data = b"\x10\x1b[31m\nbad\"\xff\xe2\x80\xae".to_vec();
        data[0] = (data.len() - 1) as u8;
        let shown = Notification::with_data(Cause::ADMIN_RESET, data).to_string();
        assert_eq!(shown, "Cease/Administrative Reset, \"\u{fffd}[31m\u{fffd}bad'\u{fffd}\u{fffd}\"");
        // A length octet that promises more than there is.
        let short = Notification::with_data(Cause::ADMIN_SHUTDOWN, vec![200, b'h', b'i']);
        assert_eq!(short.to_string(), "Cease/Administrative Shutdown, \"hi\"");
    }

    /// RFC 8538 section 3.1: the Data of a Hard Reset is the code, subcode and data of the reason.
    #[test]
    fn hard_reset_carries_the_reason() {
        let hard = Notification::with_message(Cause::ADMIN_SHUTDOWN, "bye").into_hard_reset();
        assert_eq!((hard.cause, hard.data.as_slice()), (Cause::HARD_RESET, &b"\x06\x02\x03bye"[..]));
        assert_eq!(hard.to_string(), "Hard Reset: Cease/Administrative Shutdown, \"bye\"");
        let mut octets = Vec::new();
        hard.put(&mut octets);
        assert_eq!(Notification::parse(&octets[19..]), hard);
    }
}
