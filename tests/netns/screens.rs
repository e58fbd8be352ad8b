//! The screens of the README, from the real program in the lab. This test proves that each can be made and still looks
//! like the stored one; with ANNOUNCERD_SCREENS=FOLDER (see `tests/screens`) it stores them.

use std::path::{Path, PathBuf};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::wait_for;
use announcerd::status::CheckStatus;
use regex::Regex;

use crate::eyes::Screen;
use crate::rig::{LIMIT, Rig};

const CTL: &str = env!("CARGO_BIN_EXE_announcerctl");

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/screens")
}

/// Keeps a screen, or compares its words with those of the one that is kept: times and counts change, words do not.
fn keep(name: &str, text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{name}: no `{word}` in\n{text}");
    }
    if let Some(folder) = std::env::var_os("ANNOUNCERD_SCREENS") {
        std::fs::write(Path::new(&folder).join(name), text).unwrap();
        return;
    }
    let path = stored().join(name);
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for word in words {
        let stale = "is of another time; run tests/screens";
        assert!(kept.contains(word), "{}: no `{word}`: the screen {stale}", path.display());
    }
}

/// Answers that the screen shows, whatever they took: how high a column is depends on how busy this machine is.
fn results(screen: &str) -> usize {
    screen.chars().filter(|c| ('▁'..='█').contains(c)).count()
}

fn run(rig: &Rig, words: &[&str]) -> String {
    let text = rig.lab.standby.run(&[&[CTL], words].concat()).unwrap();
    format!("$ announcerctl {}\n{}", words.join(" "), text.trim_end()) + "\n"
}

#[test]
fn screens() {
    let rig = Rig::own_with(|_, _| {});
    let probed = |c: &CheckStatus| c.kind == "bgp" || c.successes >= 12;
    wait_for("probes", LIMIT, || rig.node.status().unwrap().checks.iter().all(probed).then_some(())).unwrap();
    let head =
        ["INSTANCE", "mainland", "BACKUP", "CHECK", "mainland-ping", "up", "PEER", "isp-a", "Established"];
    keep("status.txt", &run(&rig, &["status"]), &head);
    let why = ["mainland is in BACKUP since", "kernel: add route local 198.51.100.0/24"];
    keep("explain.txt", &run(&rig, &["explain", "mainland"]), &why);
    let drill = run(&rig, &["drill", "mainland", "--hold", "2s"]);
    let steps = [
        "drill begins",
        "MASTER is decided",
        "acknowledged",
        "handing back",
        "DONE",
        "every step was verified",
    ];
    keep("drill.txt", &drill, &steps);
    rig.wait_state(State::Backup);

    let screen = Screen::start(&rig.lab.standby);
    rig.take_over();
    screen.wait("the takeover", "BACKUP -> MASTER");
    screen.wait("the peer", "isp-a");
    wait_for("a full history", LIMIT, || (results(&screen.text()) > 20).then_some(())).unwrap();
    let watch = screen.text();
    assert!(watch.lines().count() <= 24 && watch.lines().all(|l| l.chars().count() <= 80), "{watch}");
    keep("watch.txt", &watch, &["MASTER", "mainland-ping", "×", "isp-a", "q quit"]);
    drop(screen);
    back_test(&rig);
}

/// A day with two outages, an hour of loss and a slow evening, played to the configuration of the lab as it is shipped.
fn back_test(rig: &Rig) {
    let standby = &rig.lab.standby;
    standby.write(CONFIG, include_str!("../../conf/standby-bgp.toml")).unwrap();
    standby.write("/run/day.csv", day()).unwrap();
    let words = ["backtest", "--config", CONFIG, "--trace", "/run/day.csv", "--svg", "/run/plot.svg"];
    let report = run(rig, &words);
    // How fast this machine is belongs into no picture.
    let speed = Regex::new(r"(?m)^\d+ results: .*\n|/run/").unwrap();
    keep(
        "backtest.txt",
        &speed.replace_all(&report, ""),
        &["takeovers ", "outages       2 (0 missed)", "detection "],
    );
    let svg = standby.read("/run/plot.svg");
    keep("backtest.svg", &svg, &[svg.as_str(), "mainland-ping", "mainland-http", "MASTER: "]);
}

/// Numbers that look like noise and are always the same (Numerical Recipes' generator).
fn noise(state: &mut u32) -> f64 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f64::from(*state >> 8) / f64::from(1 << 24)
}

fn day() -> String {
    let (mut random, mut csv) = (7, String::new());
    for second in (0..86_400).step_by(5) {
        let within = |from: i32, length: i32| (from..from + length).contains(&second);
        let dead = within(23_000, 1_900) || within(68_500, 4_200);
        let loss = if within(40_000, 3_600) { 0.12 } else { 0.0005 };
        let busy = if within(57_600, 18_000) { 9.0 } else { 1.0 };
        for (check, rtt, far) in
            [("mainland-ping", 38.0, true), ("mainland-http", 81.0, true), ("uplink", 0.4, false)]
        {
            let lost = far && (dead || noise(&mut random) < loss);
            let rtt = rtt * (1.0 + busy * 0.1 * noise(&mut random).powi(6));
            let at = 1_795_305_600 + i64::from(second);
            csv += &match lost {
                true => format!("{at},{check},error,\n"),
                false => format!("{at},{check},ok,{rtt:.2}\n"),
            };
        }
    }
    csv
}
