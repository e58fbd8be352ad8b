//! The format of `state.json`, and times carried over a reboot.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::announcer::event::Forced;
use crate::announcer::journal::State;
use crate::announcer::memory::{Memory, Override, Remembered};
use crate::status::WallClock;
use crate::time::Time;

/// What this program writes and reads.
const VERSION: u32 = 1;

/// `state.json`. Times are nanoseconds on the boot clock of the boot that wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StateFile {
    version: u32,
    pub(super) boot_id: String,
    pub(super) saved_boot_ns: i64,
    saved_unix_us: i64,
    #[serde(default)]
    kept_until_ns: Option<i64>,
    #[serde(default)]
    maintenance: bool,
    instances: BTreeMap<String, Instance>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Instance {
    state: State,
    since_ns: i64,
    /// Files of older versions do not say it: then they are not to be run again.
    #[serde(default = "yes")]
    told: bool,
    forced: Option<ForcedUntil>,
    flaps: u32,
    last_failback_ns: Option<i64>,
    #[serde(default)]
    recoveries: u32,
    #[serde(default)]
    last_recovery_ns: Option<i64>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ForcedUntil {
    state: Forced,
    until_ns: Option<i64>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl StateFile {
    pub(super) fn new(memory: &Memory, clock: &WallClock, boot_id: &str) -> Self {
        let instance = |r: &Remembered| Instance {
            state: r.state,
            since_ns: r.since.as_nanos(),
            told: r.told,
            forced: r.forced.map(|f| ForcedUntil { state: f.state, until_ns: f.until.map(Time::as_nanos) }),
            flaps: r.flaps,
            last_failback_ns: r.last_failback.map(Time::as_nanos),
            recoveries: r.recoveries,
            last_recovery_ns: r.last_recovery.map(Time::as_nanos),
        };
        StateFile {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            saved_boot_ns: clock.at.as_nanos(),
            saved_unix_us: unix_us(clock.wall),
            kept_until_ns: memory.kept_until.map(Time::as_nanos),
            maintenance: memory.maintenance,
            instances: memory.instances.iter().map(|(name, r)| (name.to_string(), instance(r))).collect(),
        }
    }

    /// From the bytes of a file; what is wrong with them, in words.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Versioned { version } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!(
                "it has version {version}, and this announcerd knows only version {VERSION}"
            ));
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    pub(super) fn render(&self) -> Vec<u8> {
        // These types hold nothing that JSON cannot: no map with other keys than texts.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// True if its times are on the boot clock that `clock` shows.
    pub(super) fn same_boot(&self, clock: &WallClock, boot_id: &str) -> bool {
        // A boot clock behind the file's is another one, whatever the id says (time namespaces, a restored container).
        !boot_id.is_empty() && self.boot_id == boot_id && self.saved_boot_ns <= clock.at.as_nanos()
    }

    /// The contents, on the boot clock that `clock` shows.
    pub(super) fn restore(self, clock: &WallClock, boot_id: &str) -> Memory {
        let shift = if self.same_boot(clock, boot_id) { 0 } else { self.shift(clock) };
        let time = |ns: i64| Time::from_nanos(saturate(i128::from(ns) + shift));
        let remembered = |i: Instance| Remembered {
            state: i.state,
            since: time(i.since_ns),
            told: i.told,
            forced: i.forced.map(|f| Override { state: f.state, until: f.until_ns.map(time) }),
            flaps: i.flaps,
            last_failback: i.last_failback_ns.map(time),
            recoveries: i.recoveries,
            last_recovery: i.last_recovery_ns.map(time),
        };
        let kept_until = self.kept_until_ns.map(time);
        let instances = self.instances.into_iter().map(|(name, i)| (name.into(), remembered(i))).collect();
        Memory { instances, kept_until, maintenance: self.maintenance }
    }

    /// What to add to a time of the other boot. A wall clock that went back (no battery) counts as standing still, so
    /// that an override never lasts longer than it had left.
    fn shift(&self, clock: &WallClock) -> i128 {
        let elapsed_us = (i128::from(unix_us(clock.wall)) - i128::from(self.saved_unix_us)).max(0);
        i128::from(clock.at.as_nanos()) - i128::from(self.saved_boot_ns) - elapsed_us * 1000
    }
}

fn saturate(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

fn unix_us(wall: SystemTime) -> i64 {
    let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    match wall.duration_since(UNIX_EPOCH) {
        Ok(after) => us(after),
        Err(before) => -us(before.duration()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::io::state) fn seconds(s: i64) -> Time {
        Time::from_nanos(s * 1_000_000_000)
    }

    pub(in crate::io::state) fn clock(boot: i64, unix: u64) -> WallClock {
        WallClock { at: seconds(boot), wall: UNIX_EPOCH + Duration::from_secs(unix) }
    }

    pub(in crate::io::state) fn memory(since: i64, until: i64) -> Memory {
        let remembered = Remembered {
            state: State::Master,
            since: seconds(since),
            told: false,
            forced: Some(Override { state: Forced::Master, until: Some(seconds(until)) }),
            flaps: 3,
            last_failback: Some(seconds(since - 50)),
            recoveries: 2,
            last_recovery: Some(seconds(since - 20)),
        };
        Memory { instances: [("mainland".into(), remembered)].into(), kept_until: None, maintenance: true }
    }

    fn carried(from: WallClock, to: WallClock, boots: [&str; 2]) -> (Memory, Option<Time>) {
        let kept = Memory { kept_until: Some(seconds(1100)), ..memory(900, 2000) };
        let file = StateFile::new(&kept, &from, boots[0]);
        let got = StateFile::parse(&file.render()).unwrap().restore(&to, boots[1]);
        let kept_until = got.kept_until;
        (Memory { kept_until: None, ..got }, kept_until)
    }

    #[test]
    fn in_the_same_boot_times_are_as_they_were() {
        let (got, kept) = carried(clock(1000, 50_000), clock(1010, 70_000), ["a", "a"]);
        assert_eq!((got, kept), (memory(900, 2000), Some(seconds(1100))));
    }

    #[test]
    fn over_a_reboot_times_go_by_the_wall_clock() {
        // Saved 1000 s after one boot; 20 s after the next, 100 s have passed by the wall clock.
        let (got, kept) = carried(clock(1000, 50_000), clock(20, 50_100), ["a", "b"]);
        assert_eq!((got, kept), (memory(-180, 920), Some(seconds(20))));
    }

    #[test]
    fn a_wall_clock_that_went_back_prolongs_no_override() {
        let (got, _) = carried(clock(1000, 50_000), clock(20, 3), ["a", "b"]);
        assert_eq!(got, memory(-80, 1020), "1000 s were left, and 1000 s are left");
    }

    #[test]
    fn an_unknown_boot_is_another_boot() {
        let (got, _) = carried(clock(1000, 50_000), clock(1010, 50_010), ["", ""]);
        assert_eq!(got, memory(900, 2000), "the wall clock says the same");
        let (got, _) = carried(clock(1000, 50_000), clock(10, 50_010), ["a", "a"]);
        assert_eq!(got, memory(-100, 1000), "the boot clock went back");
    }

    /// What an upgrade finds: nothing was said of scripts, and none is to be run twice.
    #[test]
    fn a_file_of_an_older_version_is_read() {
        let file = br#"{"version":1,"boot_id":"a","saved_boot_ns":1000,"saved_unix_us":50,"instances":
            {"mainland":{"state":"MASTER","since_ns":900,"forced":null,"flaps":0,"last_failback_ns":null}}}"#;
        let memory = StateFile::parse(file).unwrap().restore(&clock(1, 1), "a");
        let mainland = &memory.instances["mainland"];
        assert_eq!((mainland.state, mainland.told), (State::Master, true));
    }

    #[test]
    fn another_version_is_not_guessed_at() {
        let error = StateFile::parse(br#"{"version":2,"surprise":true}"#).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
    }
}
