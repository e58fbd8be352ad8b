//! A session: what its messages do, its timers, and the changes that wait for TCP.

use std::collections::VecDeque;
use std::time::Duration;

use super::adj_rib_out::AdjRibOut;
use super::config::PeerConfig;
use super::connection::{Context, Step};
use super::family::Families;
use super::negotiate::Negotiated;
use super::wire::header::MessageType;
use super::wire::notification::{Cause, Notification};
use super::wire::refresh::{RefreshKind, RouteRefresh};
use super::wire::update::{Treatment, Update, UpdateContext};
use crate::net::Family;
use crate::time::Time;

/// RFC 9687: the least send hold time where none is configured.
const SEND_HOLD_TIME: Duration = Duration::from_secs(480);

/// A session's timers, from OpenConfirm on.
#[derive(Debug)]
pub(crate) struct Session {
    pub negotiated: Negotiated,
    pub hold: Option<Time>,
    pub keepalive: Option<Time>,
    /// When KEEPALIVE was sent last.
    pub kept_alive: Option<Time>,
}

/// A change that the peer's TCP is to have, and the octet after which it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    token: u64,
    end: u64,
    written: bool,
}

#[derive(Debug)]
pub(crate) struct Established {
    pub session: Session,
    pub rib: AdjRibOut,
    pub since: Time,
    /// Families disabled by RFC 7606.
    disabled: Families,
    /// The newest change not yet told whole.
    pending: Option<u64>,
    marks: VecDeque<Mark>,
}

/// The most changes whose acknowledgement is waited for at a time.
const MAX_MARKS: usize = 64;

impl Established {
    /// A session that has just come up.
    pub fn new(session: Session, rib: AdjRibOut, now: Time) -> Self {
        Established {
            session,
            rib,
            since: now,
            disabled: Families::NONE,
            pending: None,
            marks: VecDeque::new(),
        }
    }

    pub fn handle(
        &mut self,
        kind: MessageType,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<Step, Notification> {
        match kind {
            MessageType::Keepalive => {
                self.session.restart_hold(context.now);
                Ok(Step::Done)
            }
            MessageType::Update => {
                self.session.restart_hold(context.now);
                self.update(message.get(super::wire::HEADER_LEN..).unwrap_or(&[]), context)
            }
            MessageType::RouteRefresh => {
                let enhanced = self.session.negotiated.encoding.enhanced_refresh;
                // The peer's BoRR and EoRR frame routes that we do not keep.
                let refresh = RouteRefresh::parse(message, enhanced)?;
                if let Some(RouteRefresh { kind: RefreshKind::Request, family }) = refresh {
                    self.rib.refresh(family);
                }
                Ok(Step::Done)
            }
            MessageType::Open | MessageType::Notification => {
                Err(Notification::with_data(Cause::FSM_ESTABLISHED, vec![kind.octet()]))
            }
        }
    }

    /// What the peer announces is parsed, counted and dropped.
    fn update(&mut self, body: &[u8], context: &mut Context<'_>) -> Result<Step, Notification> {
        let path = self.session.negotiated.encoding.path;
        let update =
            Update::parse(body, UpdateContext { four_octet: path.four_octet, external: path.external })?;
        let counters = &mut context.counters;
        let withdraw = matches!(update.fault, Some(fault) if fault.treatment >= Treatment::TreatAsWithdraw);
        let lists = [(Some(update.nlri), withdraw), (update.mp_reach, withdraw)];
        let withdrawn = [(Some(update.withdrawn), true), (update.mp_unreach, true)];
        for (nlri, withdrawn) in lists.into_iter().chain(withdrawn) {
            match nlri {
                Some(nlri) if self.disabled.contains(nlri.family()) => {}
                Some(nlri) if withdrawn => counters.prefixes_withdrawn += u64::from(nlri.count()),
                Some(nlri) => counters.prefixes_announced += u64::from(nlri.count()),
                None => {}
            }
        }
        let Some(fault) = update.fault else { return Ok(Step::Done) };
        counters.faults += 1;
        let what = match fault.treatment {
            Treatment::AttributeDiscard => "attribute ignored",
            Treatment::TreatAsWithdraw => "its routes count as withdrawn",
            Treatment::DisableFamily(family) => {
                *self.disabled.get_mut(family) = true;
                match family {
                    Family::V4 => "IPv4 routes of the peer are ignored from now on",
                    Family::V6 => "IPv6 routes of the peer are ignored from now on",
                }
            }
        };
        // A peer that goes wrong all the time must not fill the log: the first, second, fourth, eighth.
        if !counters.faults.is_power_of_two() {
            return Ok(Step::Done);
        }
        let (number, attribute, why) = (counters.faults, fault.attribute, fault.why);
        Ok(Step::Note(format!(
            "malformed UPDATE from the peer (the {number}. so far): attribute {attribute}: {why}; {what} (RFC 7606)"
        )))
    }

    /// Adds the tokens that are written (false) or acknowledged (true) now and were not before.
    pub fn reach(&mut self, written: u64, acked: u64, reached: &mut Vec<(u64, bool)>) {
        for mark in self.marks.iter_mut().filter(|mark| !mark.written && mark.end <= written) {
            mark.written = true;
            reached.push((mark.token, false));
        }
        while let Some(mark) = self.marks.front().filter(|mark| mark.written && mark.end <= acked) {
            reached.push((mark.token, true));
            self.marks.pop_front();
        }
    }

    /// A change is wanted; `token` is reported when TCP has all of it. Zero names no change: one that waits is told with it.
    pub fn track(&mut self, token: u64) {
        let before = self.pending.filter(|_| token == 0);
        self.pending = if self.rib.is_settled() { None } else { before.or(Some(token)) };
    }

    /// Octets up to `end` were fetched: a change that is told whole waits for TCP from here on.
    pub fn mark(&mut self, end: u64) {
        if let Some(token) = self.pending.filter(|_| self.rib.is_settled()) {
            self.pending = None;
            if self.marks.len() == MAX_MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back(Mark { token, end, written: false });
        }
    }
}

impl Session {
    pub fn restart_hold(&mut self, now: Time) {
        self.hold = self.negotiated.hold_time.map(|hold_time| now + hold_time);
    }

    /// When a KEEPALIVE may be sent out of turn: RFC 4271 section 4.4 has no more than one a second. (Where the hold time is
    /// zero none may be sent *periodically*.)
    pub fn may_keep_alive_at(&self) -> Option<Time> {
        self.kept_alive.map(|last| last + Duration::from_secs(1))
    }

    /// RFC 4271 section 4.4: a third of the hold time; section 10: with jitter.
    pub fn restart_keepalive(&mut self, context: &mut Context<'_>) {
        let interval = self.negotiated.hold_time.map(|hold_time| context.retry.jitter(hold_time / 3));
        self.keepalive = interval.map(|interval| context.now + interval);
        self.kept_alive = Some(context.now);
    }

    /// RFC 9687 section 3.1; `None` where there is no hold time either.
    pub fn send_hold_time(&self, cfg: &PeerConfig) -> Option<Duration> {
        let hold_time = self.negotiated.hold_time?;
        Some(cfg.send_hold_time.unwrap_or(SEND_HOLD_TIME.max(hold_time * 2)).max(hold_time))
    }
}
