//! Whose fault is it? What speaks for it that a primary's failures are the primary's and not our own isolation.
//!
//! A standby that is cut off sees its primary fail, and when it is back it sees its uplink answer, perhaps before the
//! primary does: failures, then a witness, and yet the primary is well. So a row of failures counts only once it is
//! *confirmed*: one of them, which found the check down or made it so, is of a probe that went out together with probes of all
//! that is required, and those were answered. What was answered before or after it proves nothing: a line may bounce. (Where a
//! single failure decides they are sent right after it. Of a link the kernel tells, so any answer since then will do.) While a
//! takeover waits for its delay, trouble of what is required is a doubt: the row has to be confirmed once more.
//!
//! A session (BFD, BGP) makes no such probe: it is down until its handshake is over, which takes seconds (RFC 5880 section
//! 6.8.3), however soon the line is back. So its word counts at once only if nothing that is required has had any trouble since
//! the silence began that it goes by ([`Fallen`]); else it has a handshake's time from the first answer on. A BGP speaker that
//! takes our connection and turns it away is not dead: what it still holds of the lost session keeps it from the next one (its
//! hold timer, RFC 4271 section 6.8; errors that it makes us wait for, section 8.1.1). So we try again before it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::timers::CheckId;
use crate::time::Time;

/// Trouble on the way begins the wait for a session anew, and makes a failure nobody's; but who loses packets all the time must
/// take over one day: after so many waits, or failures, at the latest.
const WAITS: u32 = 4;

/// Who turns our connections away lives, but has to have us one day, however often the wait begins anew: BIRD's `error wait time`
/// is five minutes at the most, and then it connects within seconds. While `require` is not met nobody waits.
const TURNED_AWAY: Duration = Duration::from_secs(360);

/// The rows of failures of a primary's checks.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<CheckId, Row>,
    /// Its sessions that are down.
    fallen: BTreeMap<CheckId, Fallen>,
    /// How long they were hoped for: what begins their time anew forgets nothing of that.
    hopes: BTreeMap<CheckId, Hope>,
}

/// How long one was waited for that turned us away.
#[derive(Clone, Copy, Debug, Default)]
struct Hope {
    spent: Duration,
    /// Since then, too.
    since: Option<Time>,
}

/// A session that is down.
#[derive(Clone, Copy, Debug)]
struct Fallen {
    /// Since then, as far as it counts.
    began: Time,
    /// What was seen before that proves nothing: we were cut off ourselves.
    was_cut_off: bool,
    /// The first answer of what we require that counts, and what it had to be asked after.
    witnessed: Option<(Time, Time)>,
    /// The first such answer since `require` is met.
    first: Option<Time>,
    /// It counts from then on, unless it comes back.
    due: Option<Time>,
    /// What we require has to be asked after that, and has not answered such a question yet.
    lacks: Option<Time>,
    /// How long it may take to come back.
    rejoin: Duration,
    confirmed: bool,
    /// How often that was doubted again.
    shaken: u32,
}

/// What is known when a session that is down is judged.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Its check went down then.
    pub since: Time,
    /// How long it may take to come back.
    pub rejoin: Duration,
    /// Its BGP speaker lives: it turned our last connection away, for what it holds against the session that was lost. Until
    /// then we will have tried again, and it may have come back.
    pub hope: Option<Time>,
    /// `require` is met.
    pub met: bool,
    /// When the last probe was sent of what is required, and up, that was no success.
    pub trouble: Option<Time>,
    /// Nothing that is required had any trouble since the silence began, and all that was asked has answered.
    pub unblemished: bool,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// When its first failure became known, or what was in doubt turned out to prove nothing.
    since: Time,
    /// When the last failed probe was sent that a session which is required has spoken after, or the first.
    before: Time,
    /// The last failure that was counted as blurred, or the first of all.
    counted: Time,
    /// What we require was seen to answer since then, and the primary was probed at once.
    stirred: bool,
    /// When a failure's probe was sent of which it is not known yet whether our own line was well, and what was `before` then.
    doubtful: Option<(Time, Time)>,
    /// It was, for one of them.
    confirmed: bool,
    /// For how many of them nobody knows, though what we require has answered since: it loses packets, or is slow.
    blurred: u32,
    /// How often that was doubted again.
    shaken: u32,
}

/// A failure of which it is not known yet whether our own line was well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubt {
    /// Of this check.
    pub check: CheckId,
    /// When its probe was sent, together with probes of what is required.
    pub sent: Time,
    /// When the probe was sent that failed before it, or turned out to prove nothing: a session that vouches for this one has
    /// spoken between them.
    pub before: Time,
    /// Who has been heard of since then loses packets: it is not silent.
    pub counted: Time,
}

impl Rows {
    /// A probe of the primary that was sent at `sent` has failed. `asked`: what is required was probed then, together with it. Later failures do not
    /// move that: what takes longer to answer than the primary takes to fail anew would never be in time. `has_spoken`: every
    /// session that is required has given a sign of life since [`Rows::before`].
    pub fn failed(&mut self, check: CheckId, sent: Time, asked: Option<Time>, has_spoken: bool, now: Time) {
        let fresh = Row {
            since: now,
            before: sent,
            counted: now,
            stirred: false,
            doubtful: None,
            confirmed: false,
            blurred: 0,
            shaken: 0,
        };
        let row = self.rows.entry(check).or_insert(fresh);
        let asked = asked.filter(|_| !row.confirmed);
        row.doubtful = row.doubtful.or(asked.map(|asked| (asked, row.before)));
        if has_spoken {
            row.before = sent;
        }
    }

    /// A session that vouches for the next failure has to give a sign of life after that; None without a failure.
    pub fn before(&self, check: CheckId) -> Option<Time> {
        self.rows.get(&check).map(|row| row.before)
    }

    /// The failures that are in doubt.
    pub fn doubtful(&self) -> impl Iterator<Item = Doubt> {
        let unproved = self.rows.iter().filter(|(_, row)| !row.confirmed);
        unproved.filter_map(|(id, row)| {
            let (sent, before) = row.doubtful?;
            Some(Doubt { check: *id, sent, before, counted: row.counted })
        })
    }

    /// It is known now whether our own line was well when that one in doubt was sent. If not: was what we require `heard` of
    /// nevertheless?
    pub fn settle(&mut self, check: CheckId, was_well: bool, heard: bool, now: Time) {
        if let Some(row) = self.rows.get_mut(&check) {
            if heard && !was_well {
                (row.blurred, row.counted) = (row.blurred + 1, now);
            }
            row.confirmed = was_well || row.blurred >= WAITS;
            row.before = row.doubtful.take().map_or(row.before, |(sent, _)| sent.max(row.before));
            (row.since, row.stirred) = (now, false);
        }
    }

    /// What is required has had trouble: what was certain may be over meanwhile, and is to be seen once more. (But who loses packets
    /// all the time must take over one day.) True if anything was certain.
    pub fn shake(&mut self) -> bool {
        let rows = self.rows.values_mut().filter(|row| row.confirmed && row.shaken < WAITS);
        let rows = rows.map(|row| (row.confirmed, row.shaken) = (false, row.shaken + 1)).count();
        let fallen = self.fallen.values_mut().filter(|fallen| fallen.confirmed && fallen.shaken < WAITS);
        let fallen = fallen.map(|fallen| {
            let (was_cut_off, shaken) = (fallen.was_cut_off, fallen.shaken + 1);
            *fallen = Fallen { was_cut_off, shaken, ..Fallen::new(fallen.began) };
        });
        rows + fallen.count() > 0
    }

    /// The row is over.
    pub fn ended(&mut self, check: CheckId) {
        self.rows.remove(&check);
        self.fallen.remove(&check);
        self.hopes.remove(&check);
    }

    /// Only these checks are the primary's now.
    pub fn retain(&mut self, checks: &[CheckId]) {
        self.rows.retain(|check, _| checks.contains(check));
        self.fallen.retain(|check, _| checks.contains(check));
        self.hopes.retain(|check, _| checks.contains(check));
    }

    /// All rows are over: nothing that was seen so far counts, but for how long a session was hoped for.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.fallen.clear();
    }

    /// A session was down when our own isolation ended: it has its time from now on.
    pub fn begin_anew(&mut self, check: CheckId, now: Time) {
        self.fallen.insert(check, Fallen { was_cut_off: true, ..Fallen::new(now) });
    }

    /// We did not run for `away`, until now: that is no part of the time that a session has to come back. If it is as long
    /// as that time, the session may have come and gone meanwhile, and even what was certain before is to be seen anew: a
    /// takeover may still wait for its delay.
    pub fn slept(&mut self, away: Duration, now: Time) {
        self.hopes.values_mut().for_each(|hope| hope.since = hope.since.map(|since| since + away));
        for fallen in self.fallen.values_mut() {
            match away < fallen.rejoin {
                true => fallen.first = fallen.first.map(|first| first + away),
                false => *fallen = Fallen { was_cut_off: true, ..Fallen::new(now) },
            }
        }
    }

    /// True if it is not known yet of a failure whether our own line was well.
    pub fn is_in_doubt(&self) -> bool {
        self.doubtful().next().is_some()
    }

    /// Judges a session that is down. `witnessed` says whether what is required has answered a probe that was sent after a
    /// moment. Returns true if its time to come back begins now.
    pub fn judge(
        &mut self,
        check: CheckId,
        look: &Look,
        now: Time,
        witnessed: impl Fn(Time) -> bool,
    ) -> bool {
        let fallen = self.fallen.entry(check).or_insert(Fallen::new(look.since));
        let had_begun = fallen.first.is_some();
        fallen.judge(look, self.hopes.entry(check).or_default(), now, witnessed);
        !had_begun && fallen.first.is_some() && !fallen.confirmed
    }

    /// When a session that is down will count, if it waits for nothing else.
    pub fn due(&self, check: CheckId) -> Option<Time> {
        self.fallen.get(&check).filter(|f| !f.confirmed)?.due
    }

    /// What is required has to answer a question that is asked after that moment, before the session can count.
    pub fn lacks(&self, check: CheckId) -> Option<Time> {
        self.fallen.get(&check)?.lacks
    }

    /// Something that we require has answered: which of those that are down are to be probed at once? `witnessed` says (by the
    /// time since when nothing is known) whether enough of it has.
    pub fn stir(
        &mut self,
        is_down: impl Fn(CheckId) -> bool,
        witnessed: impl Fn(Time) -> bool,
    ) -> Vec<CheckId> {
        let idle = |row: &Row| !row.confirmed && !row.stirred && row.doubtful.is_none();
        let rows =
            self.rows.iter_mut().filter(|(id, row)| idle(row) && is_down(**id) && witnessed(row.since));
        rows.map(|(id, row)| {
            row.stirred = true;
            *id
        })
        .collect()
    }

    /// True if our own isolation has cost that session, or may have.
    pub fn was_cut_off(&self, check: CheckId) -> bool {
        self.fallen.get(&check).is_some_and(|f| f.was_cut_off)
    }

    /// True if the row of that check is confirmed, or that session has had its time.
    pub fn is_confirmed(&self, check: CheckId) -> bool {
        let fallen = self.fallen.get(&check).is_some_and(|f| f.confirmed);
        fallen || self.rows.get(&check).is_some_and(|row| row.confirmed)
    }
}

impl Fallen {
    fn new(began: Time) -> Self {
        Fallen {
            began,
            was_cut_off: false,
            witnessed: None,
            first: None,
            due: None,
            lacks: None,
            rejoin: Duration::ZERO,
            confirmed: false,
            shaken: 0,
        }
    }

    fn judge(&mut self, look: &Look, hope: &mut Hope, now: Time, witnessed: impl Fn(Time) -> bool) {
        if self.confirmed {
            return;
        }
        (self.lacks, self.rejoin) = (None, look.rejoin);
        if !look.met {
            hope.pause(now);
            (self.witnessed, self.first, self.due) = (None, None, None);
            return;
        }
        let moment = look.trouble.map_or(self.began, |trouble| trouble.max(self.began));
        self.witnessed = self.witnessed.filter(|(asked_after, _)| *asked_after >= moment);
        if self.witnessed.is_none() && witnessed(moment) {
            self.witnessed = Some((moment, now));
        }
        let Some((_, at)) = self.witnessed else {
            self.lacks = Some(moment);
            self.due = self.first.map(|first| first + look.rejoin.saturating_mul(WAITS));
            return;
        };
        let first = *self.first.get_or_insert(at);
        let due = (at + look.rejoin).min(first + look.rejoin.saturating_mul(WAITS));
        let due = due.max(hope.until(look.hope, now).unwrap_or(due));
        self.due = Some(due);
        self.confirmed = due <= now || (look.unblemished && !self.was_cut_off);
    }
}

impl Hope {
    fn pause(&mut self, now: Time) {
        self.spent += self.since.take().map_or(Duration::ZERO, |since| now.since(since));
    }

    /// Until when it is waited for who may be there at `next`.
    fn until(&mut self, next: Option<Time>, now: Time) -> Option<Time> {
        let Some(next) = next else {
            self.pause(now);
            return None;
        };
        let since = *self.since.get_or_insert(now);
        Some(next.min(since + TURNED_AWAY.saturating_sub(self.spent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Time {
        Time::from_nanos(s * 1_000_000_000)
    }

    const PING: CheckId = CheckId(1);

    #[test]
    fn a_row_is_confirmed_by_a_failure_that_is_vouched_for() {
        let mut rows = Rows::default();
        rows.failed(PING, at(1), None, false, at(2));
        let doubtful = |rows: &Rows| rows.doubtful().map(|doubt| doubt.sent).collect::<Vec<_>>();
        assert_eq!(doubtful(&rows), [], "nothing was asked together with it");
        rows.failed(PING, at(3), Some(at(3)), false, at(4));
        rows.failed(PING, at(4), Some(at(4)), false, at(5));
        assert_eq!(doubtful(&rows), [at(3)], "the first, until it is known");
        rows.settle(PING, false, false, at(5));
        assert_eq!((doubtful(&rows), rows.is_confirmed(PING)), (vec![], false));
        rows.failed(PING, at(5), Some(at(5)), false, at(6));
        assert_eq!(doubtful(&rows), [at(5)]);
        rows.settle(PING, true, true, at(6));
        assert!(rows.is_confirmed(PING));
        rows.failed(PING, at(7), Some(at(7)), false, at(8));
        assert_eq!(doubtful(&rows), []);
        rows.ended(PING);
        assert!(!rows.is_confirmed(PING));
        for n in 1..=WAITS {
            assert!(!rows.is_confirmed(PING), "{n}");
            rows.failed(PING, at(9), Some(at(9)), false, at(9));
            rows.settle(PING, false, true, at(9));
        }
        assert!(rows.is_confirmed(PING), "who loses packets all the time");
        rows.ended(PING);
        assert!(!rows.is_confirmed(PING));
    }

    /// What was asked together with an earlier failure, for somebody else's sake, confirms nothing later.
    #[test]
    fn what_is_doubted_again_needs_a_new_failure() {
        let mut rows = Rows::default();
        rows.failed(PING, at(1), Some(at(1)), false, at(2));
        rows.settle(PING, true, true, at(2));
        rows.failed(PING, at(3), Some(at(3)), false, at(4));
        assert!(rows.shake());
        assert_eq!((rows.doubtful().count(), rows.is_confirmed(PING), rows.shake()), (0, false, false));
        rows.failed(PING, at(5), Some(at(5)), false, at(6));
        assert_eq!(rows.doubtful().count(), 1);
        rows.settle(PING, true, true, at(6));
        assert!(rows.is_confirmed(PING));
        // Who loses packets all the time takes over one day.
        let shaken = (0..10).filter(|_| {
            rows.failed(PING, at(7), Some(at(7)), false, at(8));
            let shaken = rows.shake();
            rows.settle(PING, true, true, at(8));
            shaken
        });
        assert_eq!(shaken.count(), 3);
        assert!(rows.is_confirmed(PING));
    }

    /// What is down and unproved is probed as soon as what is required answers, once for each time that it turned out to prove
    /// nothing.
    #[test]
    fn a_row_that_proves_nothing_is_stirred_by_the_next_answer() {
        let mut rows = Rows::default();
        rows.failed(PING, at(1), None, false, at(2));
        assert_eq!(rows.stir(|_| false, |_| true), [], "not down yet");
        assert_eq!(rows.stir(|_| true, |_| false), [], "no answer since then");
        assert_eq!(rows.stir(|_| true, |since| since == at(2)), [PING]);
        assert_eq!(rows.stir(|_| true, |_| true), [], "once");
        rows.failed(PING, at(3), Some(at(3)), false, at(4));
        rows.settle(PING, false, true, at(5));
        assert_eq!(rows.stir(|_| true, |since| since == at(5)), [PING]);
        rows.failed(PING, at(6), Some(at(6)), false, at(7));
        rows.settle(PING, false, true, at(8));
        rows.failed(PING, at(9), Some(at(9)), false, at(9));
        assert_eq!(rows.stir(|_| true, |_| true), [], "it is in doubt already");
    }

    const LOOK: Look = Look {
        since: Time::ZERO,
        rejoin: Duration::from_secs(4),
        hope: None,
        met: true,
        trouble: None,
        unblemished: false,
    };

    /// A session that is down since 0; what is required is up, and its probes are answered from that second on.
    fn judged(look: Look, answers_from: i64, now: i64, rows: &mut Rows) -> (bool, Option<Time>) {
        rows.judge(PING, &look, at(now), |moment| at(answers_from) >= moment);
        (rows.is_confirmed(PING), rows.due(PING))
    }

    #[test]
    fn a_session_counts_at_once_where_nothing_had_trouble() {
        let mut rows = Rows::default();
        let look = Look { unblemished: true, ..LOOK };
        assert_eq!(judged(look, -1, 0, &mut rows), (false, None), "nothing has answered since");
        assert!(judged(look, 1, 1, &mut rows).0);
        assert!(judged(Look { trouble: Some(at(9)), met: false, ..LOOK }, 1, 9, &mut rows).0, "it stays so");
        rows.ended(PING);
        rows.begin_anew(PING, at(20));
        assert_eq!(judged(look, 20, 20, &mut rows), (false, Some(at(24))), "we were cut off");
        assert!(judged(look, 20, 24, &mut rows).0);
    }

    #[test]
    fn a_session_has_a_handshakes_time_after_the_first_answer() {
        let mut rows = Rows::default();
        assert_eq!(judged(LOOK, 2, 2, &mut rows), (false, Some(at(6))));
        // Trouble again: what was sent after it has to be answered first.
        let again = Look { trouble: Some(at(5)), ..LOOK };
        assert_eq!(judged(again, 4, 6, &mut rows), (false, Some(at(18))));
        assert_eq!(judged(again, 7, 7, &mut rows), (false, Some(at(11))));
        // Cut off for long: all anew.
        assert_eq!(judged(Look { met: false, ..LOOK }, 7, 9, &mut rows), (false, None));
        assert_eq!(judged(again, 12, 12, &mut rows), (false, Some(at(16))));
        assert!(judged(again, 12, 16, &mut rows).0);
    }

    #[test]
    fn our_absence_is_no_time_to_come_back() {
        let again = Look { trouble: Some(at(8)), ..LOOK };
        let mut rows = Rows::default();
        assert_eq!(judged(LOOK, 2, 2, &mut rows), (false, Some(at(6))));
        rows.slept(Duration::from_secs(3), at(8));
        assert_eq!(judged(again, 4, 8, &mut rows), (false, Some(at(5 + 16))), "nothing has answered since");
        assert_eq!(judged(again, 9, 9, &mut rows), (false, Some(at(13))));
        assert!(judged(again, 9, 13, &mut rows).0);
        // What was certain stays so over a short one only.
        rows.slept(Duration::from_secs(3), at(20));
        assert!(rows.is_confirmed(PING));
        rows.slept(Duration::from_secs(4), at(30));
        let (again, unblemished) = (Look { trouble: Some(at(30)), ..LOOK }, true);
        assert_eq!(judged(Look { unblemished, ..again }, 31, 31, &mut rows), (false, Some(at(35))));
    }

    #[test]
    fn who_turns_us_away_has_until_the_next_try() {
        let mut rows = Rows::default();
        let turned = |s| Look { hope: Some(at(s)), ..LOOK };
        assert_eq!(judged(turned(40), 2, 2, &mut rows), (false, Some(at(40))));
        assert_eq!(judged(turned(100), 2, 40, &mut rows), (false, Some(at(100))));
        assert_eq!(judged(turned(400), 2, 100, &mut rows), (false, Some(at(362))));
        // The last try found nobody: what was waited for is over.
        assert!(judged(LOOK, 2, 110, &mut rows).0);
        let mut rows = Rows::default();
        assert!(judged(Look { unblemished: true, ..turned(40) }, 2, 2, &mut rows).0, "it is not our fault");
    }

    /// Nothing that begins its time anew gives it the six minutes once more.
    #[test]
    fn who_turns_us_away_has_its_minutes_once() {
        let mut rows = Rows::default();
        let turned = Look { hope: Some(at(9000)), ..LOOK };
        assert_eq!(judged(turned, 2, 2, &mut rows), (false, Some(at(362))));
        // Cut off after 100 s; that is no time in which it could have had us.
        assert_eq!(judged(Look { met: false, ..turned }, 2, 102, &mut rows), (false, None));
        rows.forget();
        rows.begin_anew(PING, at(1000));
        assert_eq!(judged(turned, 1000, 1000, &mut rows), (false, Some(at(1260))));
        // We did not run; and for a try nobody was there.
        rows.slept(Duration::from_secs(50), at(1150));
        assert_eq!(judged(turned, 1150, 1150, &mut rows), (false, Some(at(1310))));
        rows.begin_anew(PING, at(1200));
        assert_eq!(judged(LOOK, 1200, 1200, &mut rows), (false, Some(at(1204))));
        assert_eq!(judged(turned, 1200, 1203, &mut rows), (false, Some(at(1313))));
        assert!(judged(turned, 1200, 1313, &mut rows).0);
        // It came back, and fell again.
        rows.ended(PING);
        assert_eq!(judged(turned, 2000, 2000, &mut rows), (false, Some(at(2360))));
    }

    #[test]
    fn who_loses_packets_all_the_time_takes_over_one_day() {
        let mut rows = Rows::default();
        let took = (1..100).find(|s| {
            let look = Look { trouble: Some(at(*s)), ..LOOK };
            judged(look, *s, *s, &mut rows).0
        });
        assert_eq!(took, Some(1 + 4 * 4));
    }
}
