//! What is shipped for Prometheus and Grafana: the rules do what they say, and nothing asks for a metric that does not exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use announcerd::announcer::{Announcer, Legacy};
use announcerd::config::{Env, ScriptVerdict, parse};
use announcerd::metrics;
use announcerd::status::WallClock;
use announcerd::time::Time;
use regex::Regex;
use serde_json::Value;

fn packaging(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

/// The names that a query can ask for: of every family, whether it has a series now or not.
fn exposed() -> BTreeSet<String> {
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    let (config, _) = parse("test.toml", "", &env).unwrap_or_else(|e| panic!("{e}"));
    let core = Announcer::new(config, &Legacy::default(), Time::ZERO);
    let clock = WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH };
    let text = metrics::render(core.measure(Time::ZERO, &clock));
    let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    types
        .flat_map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            suffixes.iter().map(|s| format!("{name}{s}")).collect::<Vec<_>>()
        })
        .collect()
}

fn asked(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\bannouncerd_[a-z_]+").unwrap();
    name.find_iter(text).map(|m| m.as_str().to_owned()).collect()
}

fn promtool(words: &[&str]) {
    let out = Command::new("promtool").args(words).current_dir(packaging("prometheus")).output();
    let out = out.expect("promtool is installed (package prometheus)");
    let text = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "promtool {words:?}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn the_alert_rules_are_sound_and_fire_when_they_should() {
    promtool(&["check", "rules", "announcerd.rules.yml"]);
    promtool(&["test", "rules", "announcerd.rules.test.yml"]);
}

/// An alert that no test has seen fire is no alert.
#[test]
fn every_alert_is_tested() {
    let rules = std::fs::read_to_string(packaging("prometheus/announcerd.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(packaging("prometheus/announcerd.rules.test.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")),
            "{alert} is not tested"
        );
    }
}

#[test]
fn the_rules_ask_for_metrics_that_exist() {
    let rules = std::fs::read_to_string(packaging("prometheus/announcerd.rules.yml")).unwrap();
    let exprs: String = rules.lines().filter(|l| l.trim().starts_with("expr:")).collect();
    let missing: Vec<String> = asked(&exprs).difference(&exposed()).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_dashboard_loads_and_asks_for_metrics_that_exist() {
    let text = std::fs::read_to_string(packaging("grafana/announcerd.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let exposed = exposed();
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one id");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let names = asked(query);
            assert!(!names.is_empty(), "{query}");
            let missing: Vec<&String> = names.difference(&exposed).collect();
            assert!(missing.is_empty(), "{query}: {missing:?}");
            shown.extend(names);
        }
    }
    // And what is measured is shown: of a histogram its buckets.
    let forgotten: Vec<&String> =
        exposed.difference(&shown).filter(|n| !n.ends_with("_sum") && !n.ends_with("_count")).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
