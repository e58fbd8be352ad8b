//! conf/standby-bgp.toml, end to end: the ISP runs BIRD 2, and its kernel follows it.

use announcerd::demo::lab::bird::Received;
use announcerd::status::EventStatus;
use nix::sys::signal::Signal;
use toml::Value;

use crate::rig::{LIMIT, PREFIX, PREFIX6, Site, ctl, peer_status, tables, until};

/// The job: the ISP's kernel sends packets here while the primary is dead, and only then.
#[test]
fn the_isp_forwards_to_us_while_the_primary_is_dead() {
    let site = Site::start();
    assert!(site.isp.route(PREFIX, "standby").is_none());
    assert_eq!(peer_status(&site.lab.standby, "isp-a").unwrap().advertised, 0);
    site.take_over();
    let status = peer_status(&site.lab.standby, "isp-a").unwrap();
    assert_eq!((&*status.state, status.advertised), ("Established", 2), "{status:?}");

    // The journal knows when the UPDATE was written, and when the ISP's TCP had it.
    let takeover = || {
        let events = ctl(&site.lab.standby, &["events", "-j"]);
        let event = |line: &str| serde_json::from_str::<EventStatus>(line).unwrap();
        events.lines().map(event).find(|e| e.to.word() == "MASTER").unwrap().timeline_us
    };
    until("update_acked in `events -j`", &site.node, || takeover().update_acked.is_some());
    let steps = takeover();
    assert!(steps.update_written >= steps.kernel_acked, "{steps:?}");
    assert!(steps.update_acked >= steps.update_written, "{steps:?}");

    site.lab.primary_returns().unwrap();
    site.wait_isp_has(false);
    until("BACKUP", &site.node, || site.state() == "BACKUP");
    // Nothing twice, and nothing withdrawn that was not announced. (The counters are those of IPv4.)
    assert_eq!(site.isp.received("standby").unwrap(), Received { updates: 1, withdraws: 1 });
}

/// SIGTERM: withdrawn, then Cease / Administrative Shutdown (RFC 4486) with our words (RFC 9003).
#[test]
fn a_stop_says_so() {
    let mut site = Site::start();
    site.take_over();
    site.node.daemon().signal(Signal::SIGTERM).unwrap();
    assert!(site.node.daemon().wait(LIMIT).unwrap().success());
    let said = site.isp.ask("show protocols all standby").unwrap();
    assert!(said.contains("Administrative shutdown"), "{said}");
    assert!(site.isp.route(PREFIX, "standby").is_none());
    assert!(!site.forwards(PREFIX) && !site.forwards(PREFIX6));
    let log = site.lab.isp.read("/run/bird/log");
    let words = "announcerd on hk-1 stops";
    assert!(said.contains(words) || log.contains(words), "{said}\n{log}");
}

#[test]
fn maintenance_drains_and_ends() {
    let site = Site::start();
    site.take_over();
    ctl(&site.lab.standby, &["maintenance", "on"]);
    // RFC 8326: first the community, the withdraw a moment later.
    until("GRACEFUL_SHUTDOWN", &site.node, || {
        site.isp.route(PREFIX, "standby").is_some_and(|r| r.contains("(65535,0)"))
    });
    site.wait_isp_has(false);
    assert!(site.isp.established("standby"));
    ctl(&site.lab.standby, &["maintenance", "off"]);
    site.wait_isp_has(true);
    let route = site.isp.route(PREFIX, "standby").unwrap();
    assert!(!route.contains("(65535,0)"), "{route}");
}

/// A reload that changes nothing changes nothing; one with another MED announces that, in the same session.
#[test]
fn a_reload_keeps_the_session() {
    let mut site = Site::start();
    site.take_over();
    let since = |site: &Site| site.isp.ask("show protocols standby").unwrap();
    let (session, told) = (since(&site), site.isp.received("standby").unwrap());
    site.reload(&site.config);
    assert_eq!(site.isp.received("standby").unwrap(), told);

    let announce = &mut tables(&mut site.config, "instance").next().unwrap()["announce"][0];
    let master = "med = 55\ncommunities = [\"64500:100\"]".parse().unwrap();
    announce.as_table_mut().unwrap().insert("master".into(), Value::Table(master));
    site.reload(&site.config);
    for prefix in [PREFIX, PREFIX6] {
        until("the new MED", &site.node, || {
            let route = site.isp.route(prefix, "standby").unwrap_or_default();
            route.contains("BGP.med: 55") && route.contains("(64500,100)")
        });
    }
    let now = site.isp.received("standby").unwrap();
    assert_eq!(now, Received { updates: told.updates + 1, withdraws: 0 });
    assert_eq!(since(&site), session);
}

/// BIRD asks for everything again (RFC 2918), and gets it in the same session.
#[test]
fn a_route_refresh_is_answered() {
    let site = Site::start();
    site.take_over();
    let told = site.isp.received("standby").unwrap();
    site.isp.ask("reload in standby").unwrap();
    assert!(site.isp.established("standby"));
    until("the refreshed table", &site.node, || {
        site.isp.received("standby").unwrap().updates == told.updates + 1
    });
    assert_eq!(site.isp.received("standby").unwrap().withdraws, 0);
}

/// The ISP's router restarts: it learns the prefixes again.
#[test]
fn a_peer_that_restarts_learns_all_again() {
    let site = Site::start();
    site.take_over();
    site.isp.ask("disable standby").unwrap();
    until("a closed session", &site.node, || !site.isp.established("standby"));
    site.isp.ask("enable standby").unwrap();
    site.wait_isp_has(true);
}
