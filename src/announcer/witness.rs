//! Whose fault is it? What speaks for it that a primary's failures are the primary's and not our own isolation.
//!
//! A standby that is cut off sees its primary fail, and when it is back it sees its uplink answer, perhaps before the
//! primary does: failures, then a witness, and yet the primary is well. So a row of failures counts only once it is
//! *confirmed*: a required check answered after the row began, and a probe of the primary that was sent after that
//! failed as well.

use std::collections::BTreeMap;

use super::timers::CheckId;
use crate::time::Time;

/// The rows of failures of a primary's checks.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<CheckId, Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// When its first failure became known.
    began: Time,
    /// When it was seen that what we require answers since then.
    witnessed: Option<Time>,
    /// A probe sent after that has failed.
    confirmed: bool,
}

impl Rows {
    /// A probe of the primary that was sent at `sent` has failed.
    pub fn failed(&mut self, check: CheckId, sent: Time, now: Time) {
        let row = self.rows.entry(check).or_insert(Row { began: now, witnessed: None, confirmed: false });
        row.confirmed |= row.witnessed.is_some_and(|w| sent >= w);
    }

    /// The row is over.
    pub fn ended(&mut self, check: CheckId) {
        self.rows.remove(&check);
    }

    /// Only these checks are the primary's now.
    pub fn retain(&mut self, checks: &[CheckId]) {
        self.rows.retain(|check, _| checks.contains(check));
    }

    /// All rows are over: nothing that was seen so far counts.
    pub fn forget(&mut self) {
        self.rows.clear();
    }

    /// Marks every row that `witnessed` says (by the time it began) has a witness now; returns those that are new.
    pub fn witness(&mut self, now: Time, witnessed: impl Fn(Time) -> bool) -> Vec<CheckId> {
        let fresh = self.rows.iter_mut().filter(|(_, row)| row.witnessed.is_none() && witnessed(row.began));
        fresh
            .map(|(id, row)| {
                row.witnessed = Some(now);
                *id
            })
            .collect()
    }

    /// True if the row of that check is confirmed.
    pub fn is_confirmed(&self, check: CheckId) -> bool {
        self.rows.get(&check).is_some_and(|row| row.confirmed)
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
    fn a_row_is_confirmed_by_a_failure_that_was_sent_after_its_witness() {
        let mut rows = Rows::default();
        rows.failed(PING, at(1), at(2));
        assert!(rows.witness(at(3), |_| false).is_empty());
        assert_eq!(rows.witness(at(3), |began| began == at(2)), [PING]);
        rows.failed(PING, at(2), at(4));
        assert!(!rows.is_confirmed(PING), "sent before the witness answered");
        rows.failed(PING, at(3), at(5));
        assert!(rows.is_confirmed(PING));
        rows.ended(PING);
        assert!(!rows.is_confirmed(PING));
    }
}
