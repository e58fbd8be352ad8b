//! How often the core is told that something changed. Pure: the caller says what time it is.

use std::time::{Duration, Instant};

/// From one hint to the next.
const SPACING: Duration = Duration::from_millis(100);

/// At most one hint waits, at most one is given in [`SPACING`]; the first is given at once.
#[derive(Default, Debug)]
pub(super) struct Hint {
    wanted: bool,
    next: Option<Instant>,
}

impl Hint {
    /// Something changed.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// How long until the hint that waits may be given; `None` if none waits.
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        self.wanted.then(|| self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now)))
    }

    /// Gives the hint if one is due. `give` returns false if there was no room: it is tried again later.
    pub fn give(&mut self, now: Instant, give: impl FnOnce() -> bool) {
        if self.due_in(now) == Some(Duration::ZERO) {
            self.wanted = !give();
            self.next = Some(now + SPACING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_changes_are_a_hint_at_once_and_one_each_tenth_of_a_second() {
        let start = Instant::now();
        let mut hint = Hint::default();
        let mut given = 0;
        for change in 0..100_000 {
            hint.want();
            hint.give(start + Duration::from_micros(change * 10), || {
                given += 1;
                true
            });
        }
        assert_eq!(given, 10);
        assert_eq!(hint.due_in(start + Duration::from_secs(1)), Some(Duration::ZERO));
    }

    #[test]
    fn a_hint_that_found_no_room_waits() {
        let start = Instant::now();
        let mut hint = Hint::default();
        assert_eq!(hint.due_in(start), None);
        hint.want();
        hint.give(start, || false);
        assert_eq!(hint.due_in(start), Some(SPACING));
        hint.give(start + SPACING, || true);
        assert_eq!(hint.due_in(start + SPACING), None);
    }
}
