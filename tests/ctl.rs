//! What `announcerctl status` and `events` print, against the texts in `tests/ctl/`.
//!
//! After a wanted change: `UPDATE_GOLDENS=1 cargo test --test ctl`, and read the difference.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use announcerd::announcer::journal::State;
use announcerd::ctl::events::Printer;
use announcerd::ctl::status::render;
use announcerd::ctl::style::{Style, width};
use announcerd::status::*;

fn golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ctl").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(got == want, "{} differs; it is now:\n{got}", path.display());
    if !name.contains("colour") && !name.contains("events") {
        for line in got.lines() {
            assert!(width(line) <= 80, "wider than 80 columns: {line}");
        }
    }
}

fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-11-22T04:00:00Z").unwrap()
}

/// `seconds` ago; in the future if negative.
fn ago(seconds: i64) -> String {
    let d = Duration::from_secs(seconds.unsigned_abs());
    let then = if seconds < 0 { now() + d } else { now() - d };
    humantime::format_rfc3339_micros(then).to_string()
}

fn instance(name: &str, state: State, since: i64, reason: &str) -> InstanceStatus {
    InstanceStatus {
        drill: false,
        name: name.into(),
        state,
        since: ago(since),
        reason: reason.into(),
        forced: None,
        primary: None,
        require: None,
        pending: None,
        flaps: 0,
    }
}

fn check(name: &str, kind: &str, verdict: &str, since: i64) -> CheckStatus {
    CheckStatus {
        name: name.into(),
        kind: kind.into(),
        verdict: verdict.into(),
        since: ago(since),
        last_rtt_us: None,
        last_error: None,
        successes: 0,
        failures: 0,
    }
}

fn object(kind: &str, object: &str, desired: bool, observed: bool, error: Option<&str>) -> KernelStatus {
    let error = error.map(str::to_owned);
    KernelStatus { kind: kind.into(), object: object.into(), desired, observed, error }
}

/// A quiet night: standing by, all is well.
fn quiet() -> Status {
    let mainland = InstanceStatus {
        primary: Some("well".into()),
        require: Some("met".into()),
        ..instance("mainland", State::Backup, 270_000, "the primary is well")
    };
    let ping = CheckStatus {
        last_rtt_us: Some(31_420),
        successes: 270_000,
        // What was wrong long ago is no news.
        last_error: Some("no reply within 800ms".into()),
        ..check("mainland-ping", "ping", "up", 270_000)
    };
    let http = CheckStatus {
        last_rtt_us: Some(1_204_000),
        successes: 3,
        ..check("mainland-http", "http", "up", 15)
    };
    let uplink =
        CheckStatus { last_rtt_us: Some(412), successes: 9, ..check("uplink", "ping", "up", 270_002) };
    Status {
        node: NodeStatus { name: "hk-1".into(), version: "0.1.0".into(), started: ago(270_005) },
        instances: vec![mainland],
        checks: vec![ping, http, uplink],
        bgp: vec![],
        bfd: vec![],
        kernel: vec![],
    }
}

/// A bad one: a takeover that the kernel half refused, an override, a fault.
fn bad() -> Status {
    let mut status = quiet();
    let mainland = InstanceStatus {
        primary: Some("well".into()),
        require: Some("met".into()),
        pending: Some(PendingStatus { what: "failback".into(), at: ago(-27) }),
        flaps: 2,
        ..instance(
            "mainland",
            State::Master,
            754,
            "the primary is down: mainland-ping is down (no reply within 800ms, 3 in a row), mainland-http is down \
             (https://www.example.com/healthz: connect to 198.18.0.1:443: Connection refused (os error 111))",
        )
    };
    let forced = InstanceStatus {
        forced: Some(OverrideStatus { state: State::Backup, until: Some(ago(-2460)) }),
        require: Some("met".into()),
        primary: Some("undecided".into()),
        ..instance("anycast", State::Backup, 3, "forced by an operator")
    };
    let forever = InstanceStatus {
        forced: Some(OverrideStatus { state: State::Master, until: None }),
        require: Some("unmet".into()),
        flaps: 1,
        ..instance(
            "an-instance-with-a-very-long-name-indeed",
            State::Fault,
            90_061,
            "uplink is down: \u{1b}[2Jtricks\nof a peer",
        )
    };
    status.instances = vec![mainland, forced, forever];
    status.checks = vec![
        CheckStatus {
            failures: 12,
            last_error: Some("no reply within 800ms".into()),
            last_rtt_us: Some(31_420),
            ..check("mainland-ping", "ping", "down", 754)
        },
        CheckStatus {
            failures: 1,
            last_error: Some("status 503 Service Unavailable, expected 200-299 or 301; the body began with <html><head><title>".into()),
            last_rtt_us: Some(48_000),
            ..check("mainland-http", "http", "up", 15)
        },
        CheckStatus { successes: 1, ..check("uplink", "ping", "down", 61) },
        CheckStatus { last_error: Some("/usr/local/bin/check.sh: No such file".into()), ..check("legacy", "exec", "unknown", 270_000) },
    ];
    status.kernel = vec![
        object("route", "198.51.100.0/24 dev lo", true, true, None),
        object(
            "route",
            "10.9.0.0/16 via 192.0.2.1",
            true,
            false,
            Some(
                "the kernel refused: Nexthop has invalid gateway; it is tried again in 8s, and the announcement waits for it",
            ),
        ),
        object("address", "172.16.1.1/32 dev lo", false, true, None),
        object(
            "route",
            "blackhole 203.0.113.0/24",
            true,
            true,
            Some("the same object is there already and belongs to somebody else"),
        ),
    ];
    status.bgp = vec![
        BgpStatus {
            name: "isp-a".into(),
            state: "Established".into(),
            uptime_s: 5000,
            advertised: 2,
            last_error: None,
        },
        BgpStatus {
            name: "isp-b".into(),
            state: "Active".into(),
            uptime_s: 0,
            advertised: 0,
            last_error: Some(
                "the peer sent Cease / Administrative Shutdown: \"maintenance until six\"".into(),
            ),
        },
    ];
    status.bfd = vec![
        session("203.0.113.1", "Up", Some(detail())),
        BfdStatus { trouble: Some("UDP port 3784 is in use".into()), ..session("203.0.113.3", "Down", None) },
    ];
    status
}

fn session(name: &str, state: &str, detail: Option<BfdDetail>) -> BfdStatus {
    BfdStatus {
        id: 1,
        name: name.into(),
        state: state.into(),
        remote_state: state.into(),
        since: ago(3600),
        diagnostic: "No Diagnostic".into(),
        reason: "both ends hear each other".into(),
        trouble: None,
        checks: Vec::new(),
        peers: vec!["isp-a".into()],
        detail,
    }
}

fn detail() -> BfdDetail {
    let mut status = announcerd::bfd::Session::new(
        announcerd::bfd::SessionConfig {
            path: announcerd::bfd::Path {
                remote: "203.0.113.1".parse().unwrap(),
                local: None,
                device: None,
                hops: announcerd::bfd::Hops::Single,
            },
            interval: std::time::Duration::from_millis(300),
            multiplier: 3,
            passive: false,
            auth: None,
        },
        1,
        announcerd::bfd::random::Random::new(1),
        announcerd::time::Time::ZERO,
    )
    .status();
    status.detection_time = std::time::Duration::from_millis(900);
    BfdDetail::new(&status)
}

#[test]
fn status_of_a_quiet_night() {
    golden("status-quiet.txt", &render(&quiet(), now(), Style::PLAIN));
}

#[test]
fn status_of_a_bad_night() {
    golden("status-bad.txt", &render(&bad(), now(), Style::PLAIN));
    golden("status-bad-colour.txt", &render(&bad(), now(), Style { colour: true, ..Style::PLAIN }));
}

#[test]
fn status_with_a_thousand_checks_shows_those_that_matter() {
    let mut status = quiet();
    status.checks = (0..1000).map(|n| check(&format!("target-{n}"), "ping", "up", 3600)).collect();
    status.checks[417] = CheckStatus {
        failures: 3,
        last_error: Some("no reply within 800ms".into()),
        ..check("target-417", "ping", "down", 9)
    };
    status.kernel = vec![object("route", "198.51.100.0/24 dev lo", true, true, None)];
    golden("status-many.txt", &render(&status, now(), Style::PLAIN));
}

#[test]
fn status_with_nothing_configured() {
    let mut status = quiet();
    (status.instances, status.checks) = (vec![], vec![]);
    golden("status-empty.txt", &render(&status, now(), Style::PLAIN));
}

fn event(seq: u64, from: State, to: State, reason: &str, timeline_us: TimelineStatus) -> EventStatus {
    let (instance, reason) = ("mainland".into(), reason.into());
    EventStatus { seq, time: ago(600 - seq as i64), instance, from, to, reason, timeline_us }
}

#[test]
fn events_with_their_timelines_growing() {
    let mut printer = Printer::new(Style::PLAIN);
    let none = TimelineStatus::default();
    let down = "the primary is down: mainland-ping is down (no reply within 800ms)";
    let decided = TimelineStatus { first_bad_probe: Some(0), decision: Some(2_003_120), ..none };
    let acked = TimelineStatus { kernel_acked: Some(2_003_544), ..decided };
    let done = TimelineStatus { notify_done: Some(2_104_002), ..acked };
    let full = TimelineStatus { update_written: Some(2_003_600), update_acked: Some(2_034_001), ..done };
    let printed = [
        event(
            1,
            State::Init,
            State::Backup,
            "the primary is well",
            TimelineStatus { decision: Some(0), ..none },
        ),
        event(2, State::Backup, State::Master, down, decided),
        event(2, State::Backup, State::Master, down, acked),
        event(2, State::Backup, State::Master, down, acked),
        event(2, State::Backup, State::Master, down, done),
        event(3, State::Backup, State::Master, down, full),
        event(4, State::Master, State::Fault, "uplink is down:\nnetwork is unreachable", none),
    ]
    .iter()
    .map(|e| printer.print(e))
    .collect::<String>();
    golden("events.txt", &printed);
}
