//! What `announcerctl status` and `events` print, against the texts in `tests/ctl/`.
//!
//! After a wanted change: `UPDATE_GOLDENS=1 cargo test --test ctl`, and read the difference.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use announcerd::announcer::journal::State;
use announcerd::ctl::events::Printer;
use announcerd::ctl::status::render;
use announcerd::ctl::style::{Style, width};
use announcerd::io::control::protocol::Line;
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
        BfdStatus {
            diagnostic: "Control Detection Time Expired".into(),
            ..session("203.0.113.1", "Up", Some(detail()))
        },
        BfdStatus {
            reason: "packets come, and are refused: not authenticated".into(),
            ..session("203.0.113.2", "Down", Some(BfdDetail { received: 0, discarded: 37, ..detail() }))
        },
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
    status.counters.sent = 12_345;
    status.counters.received = 12_344;
    status.jitter.record(std::time::Duration::from_micros(1700));
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

/// A daemon's end of the control socket: answers one request with these lines, and waits for the client's end.
fn daemon(lines: &[Line]) -> (tempfile::TempDir, std::thread::JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
    let lines: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    let thread = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.read_line(&mut String::new()).unwrap();
        stream.get_mut().write_all(lines.as_bytes()).unwrap();
        // A client that goes before it has read all resets.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (folder, thread)
}

/// Exit status 0 is the proof that somebody files: `drill x | head -1` must not have it.
#[test]
fn a_drill_whose_report_nobody_reads_to_its_end_has_failed() {
    let news = |done| {
        Line::Drill(Box::new(DrillStatus {
            time: ago(0),
            instance: "mainland".into(),
            since_began_us: 1000,
            in_phase_us: 1000,
            ok: Some(true),
            text: "all well".into(),
            done,
        }))
    };
    let exit = |words: &[&str], stdout: Stdio| {
        let (folder, thread) = daemon(&[Line::Ok("begins".into()), news(false), news(true)]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_announcerctl"));
        command.arg("--control").arg(folder.path().join("control.sock")).args(words);
        let done = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
        thread.join().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let closed = || {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    assert_eq!(exit(&["drill", "mainland"], Stdio::null()), (Some(0), String::new()));
    let (code, words) = exit(&["drill", "mainland"], closed());
    assert_eq!(code, Some(1));
    assert!(words.contains("nobody reads its report any more; announcerd hands back"), "{words}");
    assert_eq!(exit(&["drill", "mainland", "--dry-run"], closed()).0, Some(1));
    // Of others it is no matter: `status | head -1`.
    assert_eq!(exit(&["explain", "mainland"], closed()), (Some(0), String::new()));
}

/// One lost probe of a recording each second is one failure, not ten: a finer interval is not judged.
#[test]
fn no_interval_finer_than_the_trace_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let (config, trace) = (folder.path().join("announcer.toml"), folder.path().join("trace.csv"));
    let text = "[[check]]\nname = \"p\"\ntype = \"ping\"\nhost = \"198.18.0.1\"\n[[instance]]\nname = \"a\"\nprimary = { checks = [\"p\"] }\nnotify = \"/bin/true\"\n";
    fs::write(&config, text).unwrap();
    // The clock of a recording is not exact.
    let row =
        |n: u64| format!("{}.{:03},p,{},2\n", 1_800_000_000 + n, n % 7, if n == 60 { "error" } else { "ok" });
    fs::write(&trace, (0..120).map(row).collect::<String>()).unwrap();
    let sweep = |grid: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_announcerctl"));
        command.arg("backtest").arg("-c").arg(&config).arg("-t").arg(&trace).args(["--sweep", grid]);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
    };
    let (code, words) = sweep("fall=3,interval=2s/100ms");
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("interval=100ms cannot be judged: p was recorded each 1s"), "{words}");
    let (code, words) = sweep("fall=3,interval=1s/2s");
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("Pareto front"), "{words}");
}
