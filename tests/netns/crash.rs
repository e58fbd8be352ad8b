//! kill -9 and what comes after (FIELD 3).

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{routes, topology::prefix};

use crate::rig::Rig;

/// Killed as MASTER and started again while the primary is still dead: nothing flaps.
fn resumes_without_a_flap(mut rig: Rig) {
    rig.take_over();
    let told = rig.told();
    let watch = routes::Watch::start(&rig.lab.standby).unwrap();
    rig.node.daemon().kill();
    assert!(rig.kernel_has());
    rig.node.restart().unwrap();
    rig.wait_state(State::Master);
    // A few probes later it still is, by what the checks say now.
    rig.wait_probes(3);
    rig.wait_state(State::Master);
    assert!(rig.isp_has());
    assert_eq!(rig.told(), told);
    assert!(watch.news().iter().all(|change| change.route.to != prefix()));
}

#[test]
fn a_killed_master_resumes_without_a_flap() {
    resumes_without_a_flap(Rig::bird());
}

#[test]
fn a_killed_master_resumes_without_a_flap_with_frr() {
    resumes_without_a_flap(Rig::frr());
}

/// Killed as MASTER, and the primary is well when it starts again: the route goes, by the ordinary rules.
fn hands_back_after_its_restart(mut rig: Rig) {
    rig.take_over();
    rig.node.daemon().kill();
    rig.lab.primary_returns().unwrap();
    rig.node.restart().unwrap();
    rig.wait_state(State::Backup);
    rig.wait_kernel_has(false);
    rig.wait_isp_has(false);
}

#[test]
fn a_killed_master_hands_back_after_its_restart() {
    hands_back_after_its_restart(Rig::bird());
}

#[test]
fn a_killed_master_hands_back_after_its_restart_with_frr() {
    hands_back_after_its_restart(Rig::frr());
}

/// The same without its memory (another boot, a lost disk): what is ours is swept at once, others' stays.
#[test]
fn without_its_memory_it_sweeps() {
    let mut rig = Rig::bird();
    rig.take_over();
    rig.node.daemon().kill();
    let state = rig.lab.standby.path("/var/lib/announcerd");
    for file in std::fs::read_dir(state).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    rig.lab.primary_returns().unwrap();
    rig.node.restart().unwrap();
    rig.wait_kernel_has(false);
    rig.wait_state(State::Backup);
    rig.wait_isp_has(false);
    assert!(rig.transitions().iter().all(|t| !t.contains("MASTER")));
}

/// A broken state file is set aside and never stops a start.
#[test]
fn a_broken_state_file_is_set_aside() {
    let mut rig = Rig::bird();
    rig.take_over();
    rig.node.daemon().kill();
    let state = rig.lab.standby.path("/var/lib/announcerd");
    for file in std::fs::read_dir(state).unwrap() {
        std::fs::write(file.unwrap().path(), "{ not what it was").unwrap();
    }
    rig.node.restart().unwrap();
    rig.wait_state(State::Master);
    rig.wait_isp_has(true);
}

/// Killed at any moment of a takeover, it ends up right.
#[test]
fn killed_in_the_middle_of_a_takeover() {
    let mut rig = Rig::bird();
    let name = rig.instance();
    rig.lab.primary_dies().unwrap();
    for _ in 0..3 {
        // Sometimes before the decision, sometimes after.
        let _ = rig.node.wait_state(&name, State::Master, std::time::Duration::from_millis(700));
        rig.node.daemon().kill();
        rig.node.restart().unwrap();
    }
    rig.wait_state(State::Master);
    rig.wait_isp_has(true);
    rig.lab.primary_returns().unwrap();
    rig.wait_isp_has(false);
    rig.wait_kernel_has(false);
}
