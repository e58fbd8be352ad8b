//! Graceful restart (RFC 4724) with BIRD as the helper: the next process takes over, and no route is ever lost.

use std::time::Duration;

use announcerd::demo::lab::routes::Watch;
use announcerd::demo::lab::topology::prefix;
use announcerd::demo::lab::wait_for;
use nix::sys::signal::Signal;
use toml::{Table, Value};

use crate::rig::{LIMIT, PREFIX, Site, ctl, tables, until};

const HELPER: &str = "graceful restart aware; graceful restart time 60;";

fn site(edit: impl FnOnce(&mut Table)) -> Site {
    let site = Site::with(HELPER, |config| {
        for peer in tables(config, "bgp") {
            let restart = "restart_time = \"60s\"".parse().unwrap();
            peer.insert("graceful_restart".into(), Value::Table(restart));
        }
        edit(config);
    });
    site.take_over();
    site
}

/// The next process is up; the ISP's kernel never changed its route.
fn goes_on_unseen(mut site: Site, end: impl FnOnce(&mut Site)) {
    let watches = [&site.lab.isp, &site.lab.standby].map(|host| Watch::start(host).unwrap());
    end(&mut site);
    until("BIRD to help", &site.node, || !site.isp.established("standby"));
    assert!(site.forwards(PREFIX));
    site.node.restart().unwrap();
    until("the session to be back", &site.node, || site.isp.established("standby"));
    // The R bit of the new process, and that it kept forwarding, in BIRD's words.
    let said = site.isp.ask("show protocols all standby").unwrap();
    let theirs = said.split("Neighbor capabilities").nth(1).unwrap_or_default();
    for words in ["Restart time: 60", "Restart recovery", "AF preserved: ipv4 ipv6"] {
        assert!(theirs.contains(words), "no {words} in {said}");
    }
    until("MASTER", &site.node, || site.state() == "MASTER");
    site.wait_isp_has(true);
    for watch in watches {
        let lost: Vec<_> = watch.news().into_iter().filter(|c| c.route.to == prefix() && !c.added).collect();
        assert!(lost.is_empty(), "{lost:?}\n{}", site.node.log());
    }
    // It is in charge, too.
    site.lab.primary_returns().unwrap();
    site.wait_isp_has(false);
}

#[test]
fn a_handover_is_not_seen() {
    goes_on_unseen(site(|_| {}), |site| {
        ctl(&site.lab.standby, &["handover"]);
        site.node.daemon().wait(LIMIT).unwrap();
    });
}

#[test]
fn a_crash_is_not_seen() {
    goes_on_unseen(site(|_| {}), |site| {
        site.node.daemon().signal(Signal::SIGKILL).unwrap();
        site.node.daemon().wait(LIMIT).unwrap();
    });
}

/// `on_stop = "keep"`: what stays in the kernel stays announced.
#[test]
fn a_stop_that_keeps_is_not_seen() {
    let keep = |config: &mut Table| {
        for instance in tables(config, "instance") {
            instance.insert("on_stop".into(), "keep".into());
            instance.insert("keep_max".into(), "1m".into());
        }
    };
    goes_on_unseen(site(keep), |site| {
        site.node.daemon().signal(Signal::SIGTERM).unwrap();
        assert!(site.node.daemon().wait(LIMIT).unwrap().success());
    });
}

/// One instance keeps and another does not: BIRD keeps the one's routes, and is told of the other's end before it is left.
#[test]
fn what_is_not_kept_is_withdrawn() {
    const OTHER: &str = "198.51.101.0/24";
    let mut site = site(|config| {
        for instance in tables(config, "instance") {
            instance.insert("on_stop".into(), "keep".into());
            instance.insert("keep_max".into(), "1m".into());
        }
        let allowed = config["node"]["allowed_prefixes"].as_array_mut().unwrap();
        allowed.push(OTHER.into());
        let other = toml::toml! {
            name = "other"
            require = { checks = ["uplink"] }
            drain = "0s"
            announce = [{ prefixes = ["198.51.101.0/24"], peers = ["isp-a"] }]
        };
        config["instance"].as_array_mut().unwrap().push(Value::Table(other));
    });
    let has = |site: &Site, prefix| site.isp.route(prefix, "standby").is_some();
    until("the other prefix", &site.node, || has(&site, OTHER));
    site.node.daemon().signal(Signal::SIGTERM).unwrap();
    assert!(site.node.daemon().wait(LIMIT).unwrap().success());
    until("BIRD to help", &site.node, || !site.isp.established("standby"));
    assert!(has(&site, PREFIX) && site.forwards(PREFIX), "{}", site.node.log());
    assert!(!has(&site, OTHER), "{}", site.node.log());
}

/// "What did not change is not disturbed": a reload that begins the session anew, which this MASTER requires, is no FAULT.
#[test]
fn a_session_that_a_reload_resets_is_no_fault() {
    let slow = |config: &mut Table| {
        // The fall time is what the session has to come back; on a busy machine that takes more than a moment.
        for check in tables(config, "check").filter(|c| c["name"].as_str() == Some("session")) {
            check.insert("fall".into(), 30.into());
        }
    };
    let site = Site::with("", slow);
    site.take_over();
    let mut config = site.config.clone();
    tables(&mut config, "bgp").for_each(|peer| drop(peer.insert("hold_time".into(), "30s".into())));
    let watch = Watch::start(&site.lab.standby).unwrap();
    site.reload(&config);
    until("the new session", &site.node, || {
        let said = site.isp.ask("show protocols all standby").unwrap();
        // BIRD: "Hold timer: 25.1/30".
        said.lines().any(|l| l.contains("Hold timer:") && l.trim_end().ends_with("/30"))
    });
    site.wait_isp_has(true);
    let states: Vec<&str> = site.node.events().unwrap().iter().map(|e| e.to.word()).collect();
    assert!(!states.contains(&"FAULT"), "{states:?}\n{}", site.node.log());
    let lost: Vec<_> = watch.news().into_iter().filter(|c| c.route.to == prefix() && !c.added).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// FIELD 18: stale routes outlive the session (gobgp #1939). A process that does not take over again tells BIRD so: with
/// the session up, and long before the restart time is over, BIRD lets go of the stale routes. (That End-of-RIB is not
/// held back for the whole deferral time is `field_18_…` in tests/core/bgp.rs.)
#[test]
fn field_18_stale_routes_do_not_outlive_the_restart() {
    let mut site = site(|_| {});
    site.node.daemon().signal(Signal::SIGKILL).unwrap();
    site.node.daemon().wait(LIMIT).unwrap();
    until("BIRD to help", &site.node, || !site.isp.established("standby"));
    for file in std::fs::read_dir(site.lab.standby.path("/var/lib/announcerd")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(site.isp.route(PREFIX, "standby").is_some(), "BIRD keeps it");
    site.lab.primary_returns().unwrap();
    let begun = std::time::Instant::now();
    site.node.restart().unwrap();
    until("the session to be back", &site.node, || site.isp.established("standby"));
    site.wait_isp_has(false);
    assert!(site.isp.established("standby") && begun.elapsed() < Duration::from_secs(60));
    until("BACKUP", &site.node, || site.state() == "BACKUP");
}

/// "not resumed within 60 s they are swept", and the peer loses the routes as well.
#[test]
fn a_handover_that_nobody_takes_over_is_swept() {
    let mut site = site(|_| {});
    let begun = std::time::Instant::now();
    ctl(&site.lab.standby, &["handover"]);
    site.node.daemon().wait(LIMIT).unwrap();
    let ours = || site.lab.standby.run(&["ip", "route", "show", "table", "all", "proto", "187"]).unwrap();
    assert!(ours().contains("198.51.100.0/24") && site.forwards(PREFIX));
    wait_for("the sweep", Duration::from_secs(60) + LIMIT, || ours().is_empty().then_some(())).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(60), "swept after {:?}", begun.elapsed());
    // BIRD was told 60 s too.
    site.wait_isp_has(false);
}
