//! The only clock: the boot clock for every decision, the wall clock for what people read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::status::WallClock;
use crate::time::Time;

/// Now, on `CLOCK_BOOTTIME`: it never goes back and counts on while the machine is suspended.
pub fn now() -> Time {
    // The kernel has had this clock since 2.6.39 and refuses it to nobody.
    let at = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME can be read");
    Time::from_nanos(at.tv_sec().saturating_mul(1_000_000_000).saturating_add(at.tv_nsec()))
}

/// The processor time that this thread has used.
pub fn worked() -> Duration {
    // As above: no kernel of today refuses it.
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock can be read");
    used.into()
}

/// The last reading of both clocks that is in force.
static ANCHOR: Mutex<Option<WallClock>> = Mutex::new(None);
/// The wall clock differs by more from what the boot clock makes of the anchor: somebody has set it. Both run at the same
/// (slewed) rate, so that nothing less than a step parts them.
const STEP: Duration = Duration::from_millis(1);
/// Readings of both that are further apart say nothing.
const APART: Duration = Duration::from_micros(200);

/// Where the wall clock stands, so that points of the boot clock can be told as dates: a point has the same date
/// whenever it is told, unless the clock has been set meanwhile.
pub fn wall() -> WallClock {
    let (before, wall) = (now(), SystemTime::now());
    let apart = now().since(before);
    let mut anchor = ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    let clock = in_force(*anchor, WallClock { at: before, wall }, apart);
    *anchor = Some(clock);
    // As of now: who keeps or compares moments goes by `at`.
    let since = before.since(clock.at);
    clock.wall.checked_add(since).map_or(clock, |wall| WallClock { at: clock.at + since, wall })
}

/// The anchor that holds after another reading, whose two halves are as far apart as said.
fn in_force(anchor: Option<WallClock>, read: WallClock, apart: Duration) -> WallClock {
    let Some(anchor) = anchor else { return read };
    let expected = anchor.wall.checked_add(read.at.since(anchor.at)).unwrap_or(anchor.wall);
    let off = expected.duration_since(read.wall).unwrap_or_else(|e| e.duration());
    if off > STEP && apart <= APART { read } else { anchor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_goes_forward_and_has_a_date() {
        let first = now();
        let clock = wall();
        assert!(first > Time::ZERO && now() >= first);
        let date = humantime::parse_rfc3339(&clock.date(clock.at)).unwrap();
        let off = clock.wall.duration_since(date).unwrap();
        assert!(off.as_micros() == 0, "{off:?}");
    }

    #[test]
    fn it_is_told_as_of_now_and_a_point_has_one_date() {
        let first = wall();
        while now().since(first.at) < Duration::from_millis(2) {}
        let second = wall();
        assert!(second.at.since(first.at) >= Duration::from_millis(2), "{first:?} {second:?}");
        assert_eq!(first.date(first.at), second.date(first.at));
    }

    #[test]
    fn a_point_keeps_its_date_unless_the_clock_is_set() {
        let us = Duration::from_micros;
        let (start, at) = (SystemTime::UNIX_EPOCH + us(1_000_000_000), Time::from_nanos(5_000));
        let read = |after, wall| WallClock { at: at + after, wall };
        let first = in_force(None, read(us(0), start), us(0));
        let date = |clock: WallClock| clock.date(at);
        let later = in_force(Some(first), read(us(700), start + us(701)), us(1));
        assert_eq!(date(later), date(first));
        let preempted = in_force(Some(first), read(us(700), start + us(90_700)), us(90_000));
        assert_eq!(date(preempted), date(first), "we were away between the two readings");
        for set in [start + us(60_000_700), start - us(60_000_000)] {
            let stepped = in_force(Some(first), read(us(700), set), us(1));
            assert_eq!(stepped.wall, set);
        }
    }
}
