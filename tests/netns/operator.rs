//! What the README tells an operator to type, typed.

use announcerd::announcer::journal::State;

use crate::rig::Rig;

/// Runs announcerctl on the standby.
fn ctl(rig: &Rig, words: &[&str]) -> String {
    rig.lab.standby.run(&[&[env!("CARGO_BIN_EXE_announcerctl")][..], words].concat()).unwrap()
}

fn contains(text: &str, what: &str) {
    assert!(text.contains(what), "no `{what}` in\n{text}");
}

/// "Try it while it is yours to try", with BIRD.
#[test]
fn the_readmes_trial_with_bird() {
    let rig = Rig::bird();
    let run = |words: &[&str]| rig.lab.standby.run(words).unwrap();
    contains(&ctl(&rig, &["status"]), "BACKUP");
    let explained = ctl(&rig, &["explain", "mainland"]);
    for words in [
        "mainland is in BACKUP since ",
        "The primary is well:",
        "more failed probes make it down",
        "What it requires is met:",
        "It takes over when the primary is down and what it requires is met",
        "Then it would:",
        "add route 198.51.100.0/24 dev lo",
    ] {
        contains(&explained, words);
    }
    ctl(&rig, &["force", "mainland", "master", "--for", "1m"]);
    rig.wait_state(State::Master);
    rig.wait_isp_has(true);
    contains(&run(&["ip", "route", "show", "proto", "187"]), "198.51.100.0/24 dev lo");
    contains(&run(&["birdc", "show", "route", "export", "isp"]), "198.51.100.0/24");
    ctl(&rig, &["auto", "mainland"]);
    rig.wait_state(State::Backup);
    rig.wait_isp_has(false);
    contains(&ctl(&rig, &["events"]), "MASTER");
}

/// The same with FRR.
#[test]
fn the_readmes_trial_with_frr() {
    let rig = Rig::frr();
    let run = |words: &[&str]| rig.lab.standby.run(words).unwrap();
    ctl(&rig, &["force", "mainland", "master", "--for", "1m"]);
    rig.wait_state(State::Master);
    rig.wait_isp_has(true);
    contains(&run(&["ip", "route", "show", "proto", "200"]), "198.51.100.0/24 dev lo");
    let advertised = "show bgp ipv4 unicast neighbors 203.0.113.1 advertised-routes";
    contains(&run(&["vtysh", "-c", advertised]), "198.51.100.0/24");
    ctl(&rig, &["auto", "mainland"]);
    rig.wait_state(State::Backup);
    rig.wait_isp_has(false);
}

/// `announcerctl sweep` needs no daemon: what a killed one left is gone, and the ISP hears of it.
#[test]
fn sweep_removes_what_a_killed_daemon_left() {
    let mut rig = Rig::bird();
    rig.take_over();
    rig.node.daemon().kill();
    assert!(rig.kernel_has());
    ctl(&rig, &["sweep"]);
    assert!(!rig.kernel_has());
    rig.wait_isp_has(false);
}
