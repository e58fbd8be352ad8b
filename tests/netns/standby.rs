//! The main job: conf/standby-bird.toml with conf/bird.conf, conf/standby-frr.toml with conf/frr.conf.

use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{bird::Received, routes, topology::prefix, wait_for};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{LIMIT, Rig, check, instance, let_pass};

/// The whole story: the primary dies, the ISP learns the prefix from us; it returns, the ISP forgets it.
fn story(rig: &Rig) {
    assert!(!rig.isp_has() && !rig.kernel_has());
    rig.take_over();
    let events = rig.node.events().unwrap();
    let takeover = events.iter().find(|e| e.to == State::Master).unwrap();
    let steps = takeover.timeline_us;
    assert_eq!(steps.first_bad_probe, Some(0), "{takeover:?}");
    assert!(steps.decision.unwrap() > 0 && steps.kernel_acked.unwrap() >= steps.decision.unwrap());

    rig.lab.primary_returns().unwrap();
    rig.wait_isp_has(false);
    rig.wait_state(State::Backup);
    rig.wait_kernel_has(false);
    assert_eq!(rig.told(), Received { updates: 1, withdraws: 1 });
    assert_eq!(rig.transitions(), ["INIT-BACKUP", "BACKUP-MASTER", "MASTER-BACKUP"]);
}

#[test]
fn bird_announces_while_the_primary_is_dead() {
    story(&Rig::bird());
}

#[test]
fn frr_announces_while_the_primary_is_dead() {
    story(&Rig::frr());
}

/// The primary's health page may be HTTPS, with a certificate of an authority that the machine trusts.
#[test]
fn https_of_the_primary_is_watched() {
    let rig = Rig::bird_with(|config, _| {
        check(config, "mainland-http").insert("url".into(), "https://www.example.com/healthz".into());
        // Nothing but HTTPS says that the primary lives.
        instance(config).insert("primary".into(), toml::toml! { checks = ["mainland-http"] }.into());
    });
    story(&rig);
}

/// FIELD 8: an isolated standby must not take over although the primary seems dead to it.
fn isolation(rig: &Rig) {
    let watch = routes::Watch::start(&rig.lab.standby).unwrap();
    let wait_every_check = |verdict: &str| {
        let all = || rig.node.status().unwrap().checks.iter().all(|check| check.verdict == verdict);
        wait_for(&format!("every check to be {verdict}"), LIMIT, || all().then_some(())).unwrap();
    };
    rig.lab.standby_isolated().unwrap();
    wait_every_check("down");
    rig.wait_state(State::Fault);
    rig.lab.standby_rejoins().unwrap();
    wait_every_check("up");
    rig.wait_state(State::Backup);
    let news: Vec<_> = watch.news().into_iter().filter(|change| change.route.to == prefix()).collect();
    assert!(news.is_empty(), "{news:?}\n{}", rig.node.log());
    assert!(rig.transitions().iter().all(|t| !t.contains("MASTER")));
    assert_eq!(rig.told().updates, 0);
}

#[test]
fn an_isolated_standby_announces_nothing() {
    isolation(&Rig::bird());
}

#[test]
fn an_isolated_standby_announces_nothing_with_frr() {
    isolation(&Rig::frr());
}

/// When the uplink is back, its check recovers long before those of the primary: what these say was learned in the
/// isolation, and is no evidence.
#[test]
fn an_isolation_that_ends_is_no_evidence_against_the_primary() {
    isolation(&Rig::bird_with(|config, _| {
        check(config, "uplink").insert("interval".into(), "100ms".into());
        check(config, "uplink").insert("timeout".into(), "90ms".into());
        check(config, "uplink").insert("rise".into(), 1.into());
    }));
}

/// The same in MASTER: without its uplink the standby does not keep the route.
#[test]
fn a_master_that_is_cut_off_withdraws() {
    let rig = Rig::bird();
    rig.take_over();
    rig.lab.standby_isolated().unwrap();
    rig.wait_state(State::Fault);
    rig.wait_kernel_has(false);
    rig.lab.standby_rejoins().unwrap();
    rig.wait_state(State::Master);
    rig.wait_isp_has(true);
}

/// FIELD 10 and 11: somebody deletes the route; it comes back, and so does the announcement. And that by the kernel's news
/// of it: by a look every ten seconds alone, so many times would take longer.
fn a_deleted_route_comes_back(rig: &Rig) {
    const TIMES: u32 = 5;
    const BETWEEN_SCANS: Duration = Duration::from_secs(10);
    rig.take_over();
    let watch = routes::Watch::start(&rig.lab.standby).unwrap();
    let start = Instant::now();
    for _ in 0..TIMES {
        rig.lab.standby.run(&["ip", "route", "del", "198.51.100.0/24"]).unwrap();
        rig.wait_kernel_has(true);
    }
    let took = start.elapsed();
    assert!(took < BETWEEN_SCANS * (TIMES - 1), "{took:?} for {TIMES} times");
    rig.wait_isp_has(true);
    let news = watch.news();
    let added: Vec<bool> = news.iter().filter(|c| c.route.to == prefix()).map(|c| c.added).collect();
    assert_eq!(added, [false, true].repeat(TIMES as usize));
    rig.wait_state(State::Master);
}

#[test]
fn a_deleted_route_comes_back_with_bird() {
    a_deleted_route_comes_back(&Rig::bird());
}

#[test]
fn a_deleted_route_comes_back_with_frr() {
    a_deleted_route_comes_back(&Rig::frr());
}

/// FIELD 12: the link goes and the kernel drops its routes without a word.
#[test]
fn routes_that_went_with_the_link_come_back() {
    let rig = Rig::bird();
    rig.take_over();
    rig.lab.standby.run(&["ip", "link", "set", "lo", "down"]).unwrap();
    rig.lab.standby.run(&["ip", "link", "set", "lo", "up"]).unwrap();
    rig.wait_kernel_has(true);
    rig.wait_isp_has(true);
}

/// Routes of others with the same destination are not ours to touch.
#[test]
fn foreign_routes_stay() {
    let rig = Rig::bird();
    let foreign = ["198.51.100.0/24", "dev", "lo", "metric", "4000", "proto", "99"];
    rig.lab.standby.run(&[&["ip", "route", "add"][..], &foreign].concat()).unwrap();
    rig.take_over();
    rig.lab.primary_returns().unwrap();
    rig.wait_isp_has(false);
    let left = routes::routes_to(&rig.lab.standby, prefix()).unwrap();
    assert_eq!(left.iter().map(|r| r.protocol).collect::<Vec<_>>(), [99]);
}

/// SIGTERM withdraws, and ends.
#[test]
fn a_stopped_daemon_withdraws() {
    let mut rig = Rig::bird();
    rig.take_over();
    rig.node.daemon().signal(Signal::SIGTERM).unwrap();
    let status = rig.node.daemon().wait(crate::rig::LIMIT).unwrap();
    assert!(status.success(), "{status}");
    assert!(!rig.kernel_has());
    rig.wait_isp_has(false);
}

/// FIELD 9: a process that was stopped for a while (a paused virtual machine) wakes up without a false takeover.
#[test]
fn a_pause_is_no_failure() {
    let mut rig = Rig::bird();
    rig.node.daemon().signal(Signal::SIGSTOP).unwrap();
    let_pass(Duration::from_secs(4));
    rig.node.daemon().signal(Signal::SIGCONT).unwrap();
    rig.wait_probes(3);
    assert_eq!(rig.transitions(), ["INIT-BACKUP"]);
    rig.take_over();
}

/// FIELD 5: a reload disturbs nothing that did not change; a bad one changes nothing at all.
#[test]
fn a_reload_disturbs_nothing() {
    let mut rig = Rig::bird();
    rig.take_over();
    let before = (rig.told(), rig.transitions());
    let watch = routes::Watch::start(&rig.lab.standby).unwrap();
    let name = rig.instance();
    let since =
        |rig: &Rig| rig.node.status().unwrap().checks.iter().map(|c| c.since.clone()).collect::<Vec<_>>();
    let checks = since(&rig);

    instance(&mut rig.config).insert("failback_delay".into(), "3s".into());
    rig.configure(&rig.config.to_string());
    rig.node.ask(&json!({"command": "reload"})).unwrap();

    rig.configure("[[instance]]\nname = \"broken\"\nfailback_dellay = \"3s\"\n");
    let refusal = rig.node.ask(&json!({"command": "reload"})).unwrap_err().to_string();
    assert!(refusal.contains("failback_dellay"), "{refusal}");
    let refusals = |rig: &Rig| rig.node.log().matches("not reloaded").count();
    let answered = refusals(&rig);
    rig.node.daemon().signal(Signal::SIGHUP).unwrap();
    wait_for("the second refusal", LIMIT, || (refusals(&rig) > answered).then_some(())).unwrap();

    assert_eq!(rig.node.state(&name).unwrap(), State::Master);
    assert_eq!((rig.told(), rig.transitions()), before);
    assert_eq!(since(&rig), checks);
    assert_eq!(watch.news(), []);
}
