//! Back-test and core agree on the same trace, and passing calm stretches in one step changes nothing.

use std::time::{Duration, Instant};

use announcerd::announcer::effect::Sample;
use announcerd::announcer::event::Outcome;
use announcerd::announcer::journal::State;
use announcerd::backtest::judge::judge;
use announcerd::backtest::outage::outages;
use announcerd::backtest::replay::{Story, replay};
use announcerd::backtest::sweep::{Choice, Grid, sweep, with as chosen};
use announcerd::backtest::trace::{Builder, Row, Seen, Trace};
use announcerd::time::Time;
use proptest::prelude::*;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{Rig, STANDBY, config, standby};

/// What happened to which target, and when.
type Weather = Vec<(u32, bool, u8)>;

/// Lives through `weather` (seconds, of the primary or of the uplink, what), recording every probe.
fn live(text: &str, weather: &Weather, seconds: u32) -> Rig {
    let mut rig = Rig::new(text);
    rig.core.sample_probes(true);
    let start = rig.now;
    let mut weather = weather.clone();
    weather.sort_unstable();
    for (at, primary, what) in weather {
        let at = start + Duration::from_millis(u64::from(at % (seconds * 1000)));
        if at > rig.now {
            rig.run(at.since(rig.now));
        }
        let target = match what % 5 {
            0 => Target::Silent,
            1 => Target::Refuses(20 * MS),
            2 => Target::Blind,
            3 => Target::Answers(700 * MS),
            _ => Target::Answers(10 * MS),
        };
        rig.set(if primary { "ping" } else { "uplink" }, target);
    }
    let end = start + SECOND * seconds;
    if end > rig.now {
        rig.run(end.since(rig.now));
    }
    rig
}

fn row(sample: &Sample) -> Row {
    let (seen, rtt) = match &sample.outcome {
        Outcome::Success { rtt } => (Seen::Ok, *rtt),
        Outcome::Failure(_) => (Seen::Error, sample.took),
        Outcome::Blind(_) => (Seen::Blind, sample.took),
    };
    Row { at: sample.sent.as_nanos(), seen, rtt }
}

fn recorded(rig: &Rig) -> Trace {
    let mut builder = Builder::default();
    for sample in &rig.samples {
        builder.push(&sample.check, row(sample)).unwrap();
    }
    builder.finish()
}

fn changes(story: &Story, before: Time) -> Vec<(i64, State)> {
    let changes = story.changes.iter().map(|c| (c.at, c.to));
    changes.filter(|(at, _)| *at < before.as_nanos()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The back-test makes of a recording what the core made of the world that was recorded.
    #[test]
    fn back_test_and_core_agree(
        weather in proptest::collection::vec((any::<u32>(), any::<bool>(), any::<u8>()), 0..24),
        window in any::<bool>(),
    ) {
        let text = if window {
            STANDBY.replacen("fall = 3", "fall = { failures = 4, of = 6 }", 1)
        } else {
            STANDBY.to_owned()
        };
        let rig = live(&text, &weather, 600);
        let lived: Vec<(i64, State)> = rig.records.iter().map(|r| (r.time.as_nanos(), r.to)).collect();
        let trace = recorded(&rig);
        // Probes that were under way at the end are not in the recording.
        let end = rig.now - SECOND * 3;
        let lived: Vec<_> = lived.into_iter().filter(|(at, _)| *at < end.as_nanos()).collect();
        for leap in [false, true] {
            let story = replay(&config(&text), &trace, leap);
            prop_assert_eq!(&changes(&story, end), &lived, "leap: {}", leap);
        }
    }
}

/// A day of one-second probes: three outages of the primary, two short disturbances, one isolation of our own.
fn day() -> Trace {
    let mut builder = Builder::default();
    let begin = 1_795_320_000i64;
    for second in 0..86_400i64 {
        let within = |from: i64, length: i64| (from..from + length).contains(&second);
        let dead = within(10_000, 300) || within(40_000, 600) || within(70_000, 120);
        let disturbed = within(20_000, 4) || within(50_000, 7);
        let isolated = within(60_000, 200);
        let answer = |down: bool, at: i64| match down {
            true => Row { at, seen: Seen::Error, rtt: None },
            false => Row { at, seen: Seen::Ok, rtt: Some(10 * MS) },
        };
        let at = (begin + second) * 1_000_000_000;
        builder.push("ping", answer(dead || disturbed || isolated, at)).unwrap();
        builder.push("uplink", answer(isolated, at + 300_000_000)).unwrap();
        builder.truth(at, dead);
    }
    builder.finish()
}

#[test]
fn a_day_whose_outcome_is_known() {
    let trace = day();
    let config = config(&standby("failback_delay = \"30s\""));
    let primary = config.instance("a").unwrap().primary.clone().unwrap();
    let real = outages(&trace, &primary, SECOND * 30);
    assert_eq!(real.len(), 3);
    let story = replay(&config, &trace, true);
    assert_eq!(story, replay(&config, &trace, false), "in leaps as in steps");
    let v = judge(&story, "a", &real);
    // fall = 3: both disturbances are long enough to be taken for the primary's death; our isolation is not.
    assert_eq!((v.takeovers, v.false_takeovers, v.missed), (5, 2, 0), "{:#?}", story.changes);
    // Two to three intervals, the timeout, and the probe that confirms.
    assert!(v.slowest().unwrap() < SECOND * 6, "{v:?}");
    let isolated = (1_795_320_000 + 60_000) * 1_000_000_000..(1_795_320_000 + 60_300) * 1_000_000_000;
    assert!(!story.changes.iter().any(|c| isolated.contains(&c.at) && c.to == State::Master));
}

#[test]
fn a_sweep_finds_what_is_known() {
    let trace = day();
    let config = config(STANDBY);
    let primary = config.instance("a").unwrap().primary.clone().unwrap();
    let real = outages(&trace, &primary, SECOND * 30);
    let grid = Grid::parse("fall=2..9").unwrap();
    let outcomes = sweep(&config, &trace, "a", &real, &grid);
    let false_ones: Vec<usize> = outcomes.iter().map(|o| o.verdict.false_takeovers).collect();
    assert_eq!(false_ones.first(), Some(&2), "the loosest takes both disturbances for a death");
    assert_eq!(false_ones.last(), Some(&0), "the strictest none");
    assert!(false_ones.is_sorted_by(|a, b| a >= b), "{false_ones:?}");
    let speed: Vec<_> = outcomes.iter().map(|o| o.verdict.percentile(95)).collect();
    assert!(speed.is_sorted(), "{speed:?}");
    let best: Vec<u32> = outcomes.iter().filter(|o| o.best).filter_map(|o| o.choice.fall).collect();
    assert_eq!(best.first(), Some(&2), "the fastest is on the front");
    assert!(best.len() >= 2 && best.len() < outcomes.len(), "{best:?}");
}

#[test]
fn a_choice_changes_the_primarys_checks_alone() {
    let config = config(STANDBY);
    let choice = Choice { fall: Some(7), interval: Some(500 * MS), ..Choice::default() };
    let new = chosen(&config, "a", choice);
    let ping = new.check("ping").unwrap();
    assert_eq!((ping.fall.failures(), ping.interval, ping.timeout, ping.rise), (7, 500 * MS, 500 * MS, 2));
    assert_eq!(new.check("uplink"), config.check("uplink"));
}

/// Not a bound, but a look: what it does is printed, and a year of three checks must not take minutes.
#[test]
fn a_month_takes_no_time_to_speak_of() {
    let mut builder = Builder::default();
    for second in 0..30 * 86_400i64 {
        for (n, check) in ["ping", "uplink"].into_iter().enumerate() {
            let at = second * 1_000_000_000 + n as i64 * 100_000_000;
            let bad = n == 0 && (second + 5000) % 100_000 < 60;
            let (seen, rtt) = if bad { (Seen::Error, None) } else { (Seen::Ok, Some(10 * MS)) };
            builder.push(check, Row { at, seen, rtt }).unwrap();
        }
    }
    let trace = builder.finish();
    let began = Instant::now();
    let story = replay(&config(STANDBY), &trace, true);
    let masters = story.changes.iter().filter(|c| c.to == State::Master).count();
    assert_eq!(masters, 25);
    println!("{} results in {:?}", trace.len(), began.elapsed());
}
