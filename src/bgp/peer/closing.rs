//! A connection's end: what it says of the peer, and when to try again.

use std::time::Duration;

use super::{Dial, Peer};
use crate::bgp::connection::{ConnId, Origin, Reason, State};
use crate::bgp::event::PeerEffect;
use crate::bgp::retry::Setback;
use crate::bgp::wire::notification::{Cause, Notification};

/// A session that lasted this long makes earlier trouble forgotten.
const LASTING: Duration = Duration::from_secs(60);
/// How long the peer's own connections are refused after repeated errors.
const REFUSED_AFTER_ERRORS: Duration = Duration::from_secs(10);

/// Who ends our connections without a word may be BIRD after an error: its `error wait time` is a minute at first. It may as
/// well be what answers in the place of a speaker that is dead: a proxy, a load balancer.
const WORDLESS: Duration = Duration::from_secs(60);

impl Peer {
    /// Ends a connection, if it is still there.
    pub(crate) fn close(&mut self, id: ConnId, reason: Reason) {
        if matches!(self.dial, Dial::Connecting { conn, .. } if conn == id) {
            return self.connect_failed(id, reason.to_string());
        }
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let connection = self.connections.swap_remove(at);
        match &reason {
            Reason::Sent(notification) => self.reject(id, notification),
            _ => self.emit_close(id, Vec::new()),
        }
        let words = reason.to_string();
        let setback = setback_of(&reason);
        if let State::Established(up) = &connection.state {
            if self.now.since(up.since) >= LASTING {
                self.retry.forgive();
            }
            self.last_error = Some(words.clone());
            self.effects.push_back(PeerEffect::SessionDown { reason: words });
        } else if setback != Setback::Collision {
            self.last_error = Some(words.clone());
            self.effects.push_back(PeerEffect::AttemptFailed { reason: words });
        }
        let refused_parameter = |notification: &Notification| {
            notification.cause == Cause::UNSUPPORTED_OPTIONAL_PARAMETER && !self.plain
        };
        if matches!(&reason, Reason::Received(notification) if refused_parameter(notification)) {
            self.plain = true;
            (self.turned_away, self.wordless) = (None, None);
            return self.retry_after(Setback::Collision);
        }
        if !matches!(connection.state, State::Established(_)) && setback != Setback::Collision {
            self.plain = false;
        }
        self.uncross();
        self.retry_after(setback);
        let was_up = matches!(connection.state, State::Established(_));
        self.note_turned_away(&reason, was_up);
        let said = matches!(reason, Reason::Sent(_) | Reason::Received(_)) && setback != Setback::Collision;
        if said && self.retry.failures() > 1 {
            // DampPeerOscillations (RFC 4271 section 8.1.1): errors that come again and again.
            self.refuse_until = Some(self.now + REFUSED_AFTER_ERRORS);
        }
    }

    /// Whether its speaker lives, and until when that is believed.
    fn note_turned_away(&mut self, reason: &Reason, was_up: bool) {
        let lives = turns_away(reason, was_up);
        self.wordless = match reason {
            Reason::Network(_) if lives => self.wordless.or(Some(self.now)),
            _ => None,
        };
        let believed = self.wordless.map(|since| since + WORDLESS);
        // It may have us then, and is not heard of any more if it has not.
        if let (Dial::Waiting { at, refused: false }, Some(end)) =
            (&mut self.dial, believed.filter(|end| *end > self.now))
        {
            *at = (*at).min(end);
        }
        let next_try = match self.dial {
            Dial::Waiting { at, .. } | Dial::Connecting { until: at, .. } => at,
            Dial::Off => self.now,
        };
        self.turned_away = lives.then_some(believed.map_or(next_try, |end| end.min(next_try)));
    }

    pub(super) fn retry_after(&mut self, setback: Setback) {
        let established = self.connections.iter_mut().any(|connection| connection.established().is_some());
        if self.duty.ends() || established {
            return;
        }
        let wait = self.retry.after(setback);
        let trying = self.connections.iter().any(|connection| connection.id.origin == Origin::Outgoing);
        if !trying && self.dial == Dial::Off && !self.cfg.passive {
            self.dial = Dial::Waiting { at: self.now + wait, refused: setback == Setback::Refused };
        }
    }
}

/// True if the peer's speaker ended the connection, and may have the next one: it still has the old session (RFC 4271 section
/// 6.8), or waits after an error (section 8.1.1; BIRD closes without a word then). Neither an operator's will nor a
/// configuration that contradicts ours changes by itself.
fn turns_away(reason: &Reason, was_up: bool) -> bool {
    match reason {
        Reason::Network(_) => !was_up,
        Reason::Received(notification) => !matches!(
            notification.unwrapped().0,
            Cause::ADMIN_SHUTDOWN | Cause::PEER_DECONFIGURED | Cause::MAX_PREFIXES | Cause { code: 2, .. }
        ),
        Reason::Sent(_) | Reason::Replaced | Reason::Handover => false,
    }
}

/// How a connection's end bears on the next try.
fn setback_of(reason: &Reason) -> Setback {
    let notification = match reason {
        Reason::Network(_) | Reason::Replaced | Reason::Handover => return Setback::Network,
        Reason::Received(notification) | Reason::Sent(notification) => notification,
    };
    match notification.unwrapped().0 {
        Cause::CONNECTION_COLLISION => Setback::Collision,
        Cause::MAX_PREFIXES
        | Cause::ADMIN_SHUTDOWN
        | Cause::PEER_DECONFIGURED
        | Cause::ADMIN_RESET
        | Cause::CONNECTION_REJECTED
        | Cause::OUT_OF_RESOURCES => Setback::Refused,
        Cause { code: 2, .. } => Setback::Refused,
        _ => Setback::Network,
    }
}
