//! The only clock: the boot clock for every decision, the wall clock for what people read.

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};

use crate::status::WallClock;
use crate::time::Time;

/// Now, on `CLOCK_BOOTTIME`: it never goes back and counts on while the machine is suspended.
pub fn now() -> Time {
    // The kernel has had this clock since 2.6.39 and refuses it to nobody.
    let at = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME can be read");
    Time::from_nanos(at.tv_sec().saturating_mul(1_000_000_000).saturating_add(at.tv_nsec()))
}

/// Where the wall clock stands now, so that points of the boot clock can be told as dates.
pub fn wall() -> WallClock {
    WallClock { at: now(), wall: SystemTime::now() }
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
}
