//! The operator's eyes and hands on the lab: metrics, the kept journal, drills, recordings, the live view.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Host, wait_for};
use announcerd::status::Status;
use nix::sys::signal::Signal;
use toml::{Table, Value};

use crate::rig::{LIMIT, Rig, instance};

const METRICS: &str = "127.0.0.1:9179";
const CTL: &str = env!("CARGO_BIN_EXE_announcerctl");

fn with_metrics(config: &mut Table) {
    let node = config.entry("node").or_insert(Value::Table(Table::new()));
    node.as_table_mut().unwrap().insert("metrics".into(), METRICS.into());
}

/// The page, with curl on the standby; the HTTP status and the body.
fn get(rig: &Rig, page: &str) -> (String, String) {
    let url = format!("http://{METRICS}{page}");
    let text = wait_for("the page", LIMIT, || {
        rig.lab.standby.run(&["curl", "-s", "-m", "5", "-w", "\n%{http_code}", &url]).ok()
    })
    .unwrap();
    let (body, code) = text.trim_end().rsplit_once('\n').unwrap();
    (code.to_owned(), body.trim_end().to_owned())
}

fn metric(rig: &Rig, series: &str) -> f64 {
    let (_, text) = get(rig, "/metrics");
    let line = text.lines().find_map(|l| l.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).trim().parse().unwrap()
}

#[test]
fn metrics_tell_of_a_takeover() {
    let rig = Rig::bird_with(|config, _| with_metrics(config));
    let state = |state: &str| format!("announcerd_instance_state{{name=\"mainland\",state=\"{state}\"}}");
    assert_eq!(metric(&rig, &state("BACKUP")), 1.0);
    assert_eq!(metric(&rig, "announcerd_require_met{name=\"mainland\"}"), 1.0);
    assert_eq!(get(&rig, "/healthz"), ("200".into(), "ok".into()));
    let (code, body) = get(&rig, "/status");
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((code.as_str(), status.instances[0].state), ("200", State::Backup));
    rig.take_over();
    wait_for("the metrics of MASTER", LIMIT, || (metric(&rig, &state("MASTER")) == 1.0).then_some(()))
        .unwrap();
    assert_eq!(metric(&rig, "announcerd_primary_down{name=\"mainland\"}"), 1.0);
    assert!(metric(&rig, "announcerd_netlink_operations_total{verb=\"add\",kind=\"route\"}") >= 1.0);
    assert!(metric(&rig, "announcerd_reaction_seconds_count{to=\"MASTER\",step=\"kernel_acked\"}") >= 1.0);
}

/// A reload moves the metrics, switches them off, and on again.
#[test]
fn a_reload_moves_the_metrics() {
    let mut rig = Rig::bird();
    let url = format!("http://{METRICS}/healthz");
    let up = |rig: &Rig| rig.lab.standby.run(&["curl", "-s", "-f", "-m", "5", &url]).is_ok();
    assert!(!up(&rig));
    let without = rig.config.to_string();
    with_metrics(&mut rig.config);
    rig.configure(&rig.config.to_string());
    let answer = rig.lab.standby.run(&[CTL, "reload"]).unwrap();
    assert!(answer.contains("metrics none -> 127.0.0.1:9179"), "{answer}");
    wait_for("the metrics", LIMIT, || up(&rig).then_some(())).unwrap();
    rig.configure(&without);
    rig.lab.standby.run(&[CTL, "reload"]).unwrap();
    wait_for("no metrics", LIMIT, || (!up(&rig)).then_some(())).unwrap();
}

#[test]
fn the_journal_survives_a_kill() {
    let mut rig = Rig::bird();
    rig.take_over();
    let before = rig.node.events().unwrap();
    // What is appended is on its way to the disk in the moment in which it is told.
    wait_for("the journal on the disk", LIMIT, || {
        let kept = rig.lab.standby.read("/var/lib/announcerd/journal");
        kept.lines().any(|l| l.contains("\"to\":\"MASTER\"")).then_some(())
    })
    .unwrap();
    rig.node.restart().unwrap();
    let after = wait_for("the journal to go on", LIMIT, || {
        let events = rig.node.events().ok()?;
        (events.len() > before.len()).then_some(events)
    })
    .unwrap();
    let seqs = |events: &[announcerd::status::EventStatus]| events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&after)[..before.len()], seqs(&before)[..]);
    assert!(seqs(&after).windows(2).all(|w| w[0] < w[1]), "{after:#?}");
    let recent = rig.lab.standby.run(&[CTL, "events", "-j", "--since", "1h"]).unwrap();
    assert_eq!(recent.lines().count(), after.len());
    let none = rig.lab.standby.run(&[CTL, "events", "--since", "2100-01-01T00:00:00Z"]).unwrap();
    assert_eq!(none, "");
}

fn spawn(rig: &Rig, words: &[&str]) -> announcerd::demo::lab::Daemon {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    rig.lab.standby.spawn(&mut command).unwrap()
}

fn words_of(child: &mut Child) -> String {
    use std::io::Read;
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The whole exercise with BIRD beside it: the ISP really learns the prefix, and forgets it.
#[test]
fn a_drill_with_bird() {
    let rig = Rig::bird();
    let plan = rig.lab.standby.run(&[CTL, "drill", "mainland", "--dry-run"]).unwrap();
    assert!(plan.contains("kernel: add route 198.51.100.0/24"), "{plan}");
    assert!(!rig.kernel_has());
    let mut drill = spawn(&rig, &[CTL, "drill", "mainland", "--hold", "2s"]);
    rig.wait_isp_has(true);
    let status = drill.wait(LIMIT).unwrap();
    let report = words_of(drill.child());
    assert!(status.success(), "{report}");
    for part in [
        "MASTER is decided",
        "read back, it has what MASTER needs",
        "BACKUP is decided",
        "every step was verified",
    ] {
        assert!(report.contains(part), "no `{part}` in\n{report}");
    }
    rig.wait_isp_has(false);
    let events = rig.node.events().unwrap();
    assert_eq!(events.iter().filter(|e| e.reason.starts_with("drill: ")).count(), 2);
}

/// The same with our own speaker: the peer's TCP has the announcement, and the withdrawal.
#[test]
fn a_drill_with_the_embedded_exporter() {
    let rig = Rig::own_with(|config, _| with_metrics(config));
    assert_eq!(metric(&rig, "announcerd_bgp_session_up{peer=\"isp-a\"}"), 1.0);
    assert_eq!(get(&rig, "/healthz").0, "200");
    let mut drill = spawn(&rig, &[CTL, "drill", "mainland", "--hold", "1s"]);
    rig.wait_isp_has(true);
    let status = drill.wait(LIMIT).unwrap();
    let report = words_of(drill.child());
    assert!(status.success(), "{report}");
    println!("{report}"); // for the README: cargo test --test netns embedded -- --nocapture
    for part in ["isp-a has acknowledged the announcement", "isp-a has acknowledged the withdrawal"] {
        assert!(report.contains(part), "no `{part}` in\n{report}");
    }
    rig.wait_isp_has(false);
    assert!(
        metric(&rig, "announcerd_bgp_messages_total{peer=\"isp-a\",direction=\"sent\",type=\"update\"}")
            >= 2.0
    );
    assert_eq!(metric(&rig, "announcerd_reaction_seconds_count{to=\"MASTER\",step=\"update_acked\"}"), 1.0);
}

/// Logs as the real programs write them.
#[test]
fn logs_of_ping_and_fping_become_traces() {
    let rig = Rig::bird();
    let standby = &rig.lab.standby;
    let log = |command: &str| {
        // Their exit status tells of losses.
        standby.run(&["sh", "-c", &format!("{command} >/run/log 2>/dev/null || true")]).unwrap();
        standby.run(&[CTL, "convert", "--name", "203.0.113.1=uplink", "/run/log"]).unwrap()
    };
    let trace = log("fping -D -c 3 -p 50 -t 40 203.0.113.1 203.0.113.77");
    let rows = |trace: &str, part: &str| trace.lines().filter(|l| l.contains(part)).count();
    assert_eq!((rows(&trace, ",uplink,ok,"), rows(&trace, ",203.0.113.77,error,")), (3, 3), "{trace}");
    let trace = log("ping -n -D -O -c 4 -i 0.2 203.0.113.1");
    assert_eq!((rows(&trace, ",uplink,ok,"), trace.lines().count()), (4, 4), "{trace}");
    let trace = log("ping -n -D -O -W 1 -c 4 -i 0.2 203.0.113.77");
    assert!(rows(&trace, ",uplink,error,") >= 1, "{trace}");
}

/// Ctrl-C, or an ssh that breaks: the daemon notices the end of the connection.
#[test]
fn a_drill_whose_operator_is_gone_hands_back() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let rig = Rig::bird();
        let drill = spawn(&rig, &[CTL, "drill", "mainland", "--hold", "1h"]);
        rig.wait_isp_has(true);
        drill.signal(signal).unwrap();
        rig.wait_state(State::Backup);
        rig.wait_isp_has(false);
        let log = rig.node.log();
        assert!(log.contains("the operator has left"), "{log}");
    }
}

#[test]
fn a_drill_is_refused_while_the_primary_is_down() {
    let rig = Rig::bird();
    rig.take_over();
    let mut drill = spawn(&rig, &[CTL, "drill", "mainland"]);
    assert_eq!(drill.wait(LIMIT).unwrap().code(), Some(1));
    assert!(words_of(drill.child()).contains("is in MASTER: a drill begins in BACKUP"));
}

/// What is recorded of a takeover is a takeover in the back-test.
#[test]
fn a_recording_is_played_back() {
    let rig = Rig::bird();
    let standby = &rig.lab.standby;
    standby.write("/run/trace.csv", "").unwrap();
    let mut command = Command::new(CTL);
    let file = std::fs::File::create(standby.path("/run/trace.csv")).unwrap();
    command.arg("record").stdout(file).stderr(Stdio::null());
    let mut recorder = standby.spawn(&mut command).unwrap();
    let rows = || standby.read("/run/trace.csv").lines().count();
    let grown = |more: usize| {
        let from = rows();
        wait_for("the recording to grow", LIMIT, || (rows() >= from + more).then_some(())).unwrap();
    };
    grown(30);
    rig.take_over();
    grown(10);
    rig.lab.primary_returns().unwrap();
    rig.wait_state(State::Backup);
    recorder.kill();
    let trace = standby.read("/run/trace.csv");
    let whole = trace.rsplit_once('\n').map_or("", |(lines, _)| lines);
    standby.write("/run/trace.csv", whole).unwrap();
    let config = announcerd::demo::lab::node::CONFIG;
    let words = [CTL, "backtest", "--config", config, "--trace", "/run/trace.csv", "--outage", "500ms", "-v"];
    let report = standby.run(&words).unwrap();
    assert!(report.contains("takeovers     1 (0 false)"), "{report}\n{trace}");
    assert!(report.contains("outages       1 (0 missed)"), "{report}\n{trace}");
    let svg = standby.path("/run/plot.svg");
    standby.run(&[&words[..], &["--svg", "/run/plot.svg"]].concat()).unwrap();
    assert!(std::fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
    let swept = standby.run(&[&words[..8], &["--sweep", "fall=2..4,rise=1/2"]].concat()).unwrap();
    assert!(swept.contains("Pareto front"), "{swept}");
}

/// The live view in a real terminal of 80 by 24.
#[test]
fn watch_in_a_terminal() {
    let rig = Rig::bird_with(|config, _| {
        instance(config).insert("takeover_delay".into(), "0s".into());
    });
    let screen = Screen::start(&rig.lab.standby);
    screen.wait("mainland", "BACKUP");
    screen.wait("q quit", "p pause");
    screen.wait("the last results", "▁");
    assert!(screen.text().lines().all(|l| l.chars().count() <= 80), "{}", screen.text());
    rig.take_over();
    screen.wait("the takeover", "MASTER");
    screen.wait("the event", "BACKUP -> MASTER");
    screen.wait("lost probes", "×");
    screen.keys(&["/"]);
    screen.keys(&["nothing-like-this", "Enter"]);
    screen.wait("the filter", "filter: nothing-like-this");
    // Escape and a letter at once would be Alt and the letter.
    screen.keys(&["/", "Escape"]);
    screen.wait("no filter", "mainland");
    screen.keys(&["p"]);
    screen.wait("the pause", "PAUSED");
    screen.resize(100, 12);
    screen.wait("the foot of a smaller screen", "of ");
    screen.keys(&["q"]);
    screen.wait("the shell's word", "ended with 0");
}

/// A tmux of its own on a host, with `watch` in it.
pub struct Screen<'a> {
    host: &'a Host,
}

const SOCKET: &str = "/run/watch.tmux";

impl<'a> Screen<'a> {
    pub fn start(host: &'a Host) -> Self {
        let screen = Screen { host };
        let shell = format!("NO_COLOR=1 {CTL} watch; echo ended with $?; exec sleep 1000");
        screen.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &shell]);
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let tmux = ["env", "-u", "TMUX", "LC_ALL=C.UTF-8", "tmux", "-u", "-f", "/dev/null", "-S", SOCKET];
        self.host.run(&[&tmux[..], words].concat()).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn resize(&self, columns: u32, rows: u32) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub fn wait(&self, what: &str, part: &str) {
        wait_for(what, LIMIT, || self.text().contains(part).then_some(()))
            .unwrap_or_else(|e| panic!("{e}: no `{part}` in\n{}", self.text()));
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Prometheus itself scrapes the daemon, and its rules fire in a failover.
#[test]
fn prometheus_scrapes_and_alerts() {
    let rig = Rig::bird_with(|config, _| with_metrics(config));
    let standby = &rig.lab.standby;
    let config = format!(
        "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\nrule_files: [/run/rules.yml]\n\
         scrape_configs:\n- job_name: announcerd\n  static_configs: [ {{ targets: ['{METRICS}'] }} ]\n"
    );
    standby.write("/run/prometheus.yml", config).unwrap();
    // As they are shipped, but for the waiting.
    let rules = include_str!("../../packaging/prometheus/announcerd.rules.yml");
    let hurried: Vec<&str> = rules.lines().filter(|l| !l.trim_start().starts_with("for:")).collect();
    standby.write("/run/rules.yml", hurried.join("\n")).unwrap();
    standby.write("/run/prometheus/.keep", "").unwrap();
    let listen = "--web.listen-address=127.0.0.1:9090";
    let words =
        ["prometheus", "--config.file=/run/prometheus.yml", "--storage.tsdb.path=/run/prometheus", listen];
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut prometheus = standby.spawn(&mut command).unwrap();
    let ask = |path: &str| {
        let url = format!("http://127.0.0.1:9090/api/v1/{path}");
        standby.run(&["curl", "-s", "-m", "5", &url]).unwrap_or_default()
    };
    let patient = LIMIT * 3;
    wait_for("the scrape", patient, || {
        let up = ask("query?query=up");
        let value = up.contains("\"1\"]");
        (value && ask("query?query=announcerd_build_info").contains("version")).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}: {}", ask("targets")));
    assert!(!ask("alerts").contains("AnnouncerdPrimaryDown"), "{}", ask("alerts"));
    rig.take_over();
    wait_for("the alerts", patient, || {
        let alerts = ask("alerts");
        (alerts.contains("AnnouncerdPrimaryDown") && alerts.contains("AnnouncerdTakeover")).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}: {}", ask("alerts")));
    prometheus.stop(Duration::from_secs(20));
}
