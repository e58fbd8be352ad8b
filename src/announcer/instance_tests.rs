use std::time::Duration;

use super::*;
use crate::announcer::event::Forced;
use crate::config::{Env, ScriptVerdict, parse};

const SECOND: Duration = Duration::from_secs(1);

fn at(s: u64) -> Time {
    Time::ZERO + SECOND * u32::try_from(s).unwrap()
}

fn config(lines: &str) -> Arc<model::Instance> {
    let text = format!(
        "[[check]]\nname = \"c\"\ntype = \"ping\"\nhost = \"198.18.0.1\"\n[[instance]]\nname = \"a\"\nprimary = {{ checks = [\"c\"] }}\n{lines}\n"
    );
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    parse("a.toml", &text, &env).unwrap_or_else(|e| panic!("{e}")).0.instances[0].clone()
}

fn inputs(state: PrimaryState, require: RequireState) -> Inputs {
    let primary = PrimaryView { state, first_bad: Some(Time::ZERO), witness_since: None, reason: "c".into() };
    Inputs {
        primary: Some(primary),
        require: RequireView { state: require, reason: "r".into() },
        witnessed: true,
        confirmed: true,
        drilled: true,
        returning: None,
    }
}

fn settle(instance: &mut Instance, inputs: &Inputs, now: Time) -> Vec<State> {
    std::iter::from_fn(|| instance.decide(inputs, now)).map(|t| t.to).collect()
}

fn fresh(lines: &str) -> Instance {
    Instance::new(config(lines), None, false, at(0), at(30))
}

/// SPEC: "the first recovery counts at once; further ones within an hour need 2, 4, … 60 s met".
#[test]
fn recoveries_need_0_2_4_and_at_most_60_seconds() {
    let mut i = fresh("");
    let met = inputs(PrimaryState::Down, RequireState::Met);
    let unmet = inputs(PrimaryState::Down, RequireState::Unmet);
    assert_eq!(settle(&mut i, &met, at(1)), [State::Master]);
    let mut now = 10;
    let mut holds = Vec::new();
    for _ in 0..8 {
        assert_eq!(settle(&mut i, &unmet, at(now)), [State::Fault]);
        let mut hold = 0;
        while settle(&mut i, &met, at(now + hold)).is_empty() {
            assert!(i.deadline(&met, at(now + hold)).is_some(), "it must be asked again");
            hold += 1;
        }
        holds.push(hold);
        now += hold + 10;
    }
    assert_eq!(holds, [0, 2, 4, 8, 16, 32, 60, 60]);
}

/// SPEC: "the delay doubles with each flap … up to `failback_delay_max`", for any number of flaps.
#[test]
fn the_failback_delay_doubles_up_to_its_bound() {
    for (lines, expected) in [
        ("failback_delay = \"30s\"\nfailback_delay_max = \"3m\"", [30, 60, 120, 180, 180]),
        ("failback_delay = \"0s\"", [0, 0, 0, 0, 0]),
    ] {
        let mut i = fresh(lines);
        for (flaps, seconds) in expected.into_iter().enumerate() {
            i.flaps = u32::try_from(flaps).unwrap();
            assert_eq!(i.failback_delay().as_secs(), seconds);
        }
        i.flaps = u32::MAX;
        assert_eq!(i.failback_delay().as_secs(), expected[4]);
    }
}

/// Whatever an instance waits for by time, it says when; and never a time that has passed.
#[test]
fn no_deadline_lies_in_the_past_and_none_is_missing() {
    let states = [PrimaryState::Down, PrimaryState::Well, PrimaryState::Undecided];
    let mut seed = 1u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..200 {
        let mut i = fresh("takeover_delay = \"5s\"\ndrain = \"7s\"\nfailback_delay = \"9s\"");
        let mut now = 0;
        for _ in 0..200 {
            now += random(8);
            let require = match random(3) {
                0 => RequireState::Met,
                1 => RequireState::Unknown(at(now + 1 + random(4))),
                _ => RequireState::Unmet,
            };
            let mut known = inputs(states[usize::try_from(random(3)).unwrap()], require);
            known.witnessed = random(2) == 0;
            if random(20) == 0 {
                let state = if random(2) == 0 { Forced::Master } else { Forced::Backup };
                i.force(Some(Override { state, until: Some(at(now + random(9))) }));
            }
            assert!(settle(&mut i, &known, at(now)).len() <= 3, "it goes round and round");
            let deadline = i.deadline(&known, at(now));
            assert!(deadline.is_none_or(|t| t > at(now)));
            // Until then nothing changes by itself.
            let end = deadline.unwrap_or(at(now + 100));
            if !matches!(known.require.state, RequireState::Unknown(_)) {
                let just_before = end - Duration::from_nanos(1);
                assert_eq!(i.clone().decide(&known, just_before), None, "{i:?} {known:?}");
                let before = (i.state(), i.level(), i.forced());
                let mut later = i.clone();
                assert_eq!(later.decide(&known, just_before), None);
                assert_eq!((later.state(), later.level(), later.forced()), before);
            }
        }
    }
}

/// MASTER with `require` unmet, or any state but MASTER, never wants the announcement.
#[test]
fn only_master_wants_all() {
    let mut i = fresh("drain = \"7s\"");
    for (state, require) in [
        (PrimaryState::Down, RequireState::Unmet),
        (PrimaryState::Well, RequireState::Met),
        (PrimaryState::Undecided, RequireState::Met),
    ] {
        settle(&mut i, &inputs(state, require), at(40));
        assert!(i.level() < Level::Full, "{:?}", i.state());
    }
    let reason = "announcerd stops";
    assert_eq!(i.stop(reason, true, std::time::Duration::ZERO, at(50)).map(|t| t.to), Some(State::Stop));
    assert_eq!(i.stop(reason, true, std::time::Duration::ZERO, at(51)), None);
    assert_eq!(i.level(), Level::Nothing);
}
