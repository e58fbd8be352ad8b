//! Notify scripts, the recipe's own among them (FIELD 1, 2 and 4).

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Topology, wait_for};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Rig, instance};

const LOG: &str = "/run/notify.log";

/// The recipe's scripts as published.
fn recipe(lab: &Topology) -> (String, String) {
    (
        Rig::script(lab, "add_route.sh", "ip route add 198.51.100.0/24 dev lo"),
        Rig::script(lab, "del_route.sh", "ip route del 198.51.100.0/24 dev lo"),
    )
}

/// A script that writes its arguments down.
fn diary(lab: &Topology, name: &str, more: &str) -> String {
    Rig::script(lab, name, &format!("echo \"{name} $* $ANNOUNCERD_STATE\" >> {LOG}\n{more}"))
}

fn story(rig: &Rig) {
    rig.take_over();
    rig.lab.primary_returns().unwrap();
    rig.wait_isp_has(false);
    rig.wait_state(State::Backup);
    rig.wait_kernel_has(false);
}

/// The recipe's scripts alone do the job: no native route at all.
#[test]
fn the_recipes_scripts_work_alone() {
    story(&Rig::bird_with(|config, lab| {
        let (add, del) = recipe(lab);
        let instance = instance(config);
        instance.remove("route");
        instance.insert("notify_master".into(), add.into());
        instance.insert("notify_backup".into(), del.into());
    }));
}

/// And they live beside the native route: the same route twice is no quarrel.
#[test]
fn the_recipes_scripts_work_beside_a_native_route() {
    story(&Rig::bird_with(|config, lab| {
        let (add, del) = recipe(lab);
        let instance = instance(config);
        instance.insert("notify_master".into(), add.into());
        instance.insert("notify_backup".into(), del.into());
    }));
}

/// FIELD 1: in the order of the transitions, one after the other, with keepalived's arguments for `notify`.
#[test]
fn scripts_run_in_order() {
    let rig = Rig::bird_with(|config, lab| {
        let instance = instance(config);
        instance.insert(
            "notify_master".into(),
            diary(lab, "master", "sleep 0.5; echo master done >> /run/notify.log").into(),
        );
        instance.insert("notify_backup".into(), diary(lab, "backup", "").into());
        instance.insert("notify".into(), diary(lab, "notify", "").into());
    });
    story(&rig);
    let name = rig.instance();
    let lines = wait_for("the scripts", LIMIT, || {
        let log = rig.lab.standby.read(LOG);
        (log.matches("notify INSTANCE").count() == 3).then_some(log)
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", rig.lab.standby.read(LOG), rig.node.log()));
    let lines: Vec<&str> = lines.lines().collect();
    let notified: Vec<&&str> = lines.iter().filter(|l| l.starts_with("notify")).collect();
    let expected = ["BACKUP", "MASTER", "BACKUP"].map(|s| format!("notify INSTANCE {name} {s} 100 {s}"));
    assert_eq!(notified, expected.iter().collect::<Vec<_>>(), "{lines:?}");
    let position = |what: &str| lines.iter().position(|l| l.starts_with(what)).unwrap();
    let last_backup = lines.iter().rposition(|l| l.starts_with("backup")).unwrap();
    assert!(
        position("master") < position("master done") && position("master done") < last_backup,
        "{lines:?}"
    );
}

/// FIELD 4: a hung script delays no failback, and is killed with everything that it started.
#[test]
fn a_hung_script_is_killed_with_its_children() {
    let rig = Rig::bird_with(|config, lab| {
        let hang = "sleep 1234 & echo $! >> /run/sleepers; sleep 1234";
        instance(config).insert("notify_master".into(), diary(lab, "master", hang).into());
        instance(config).insert("notify_backup".into(), diary(lab, "backup", "").into());
    });
    rig.take_over();
    wait_for("the script to hang", LIMIT, || {
        (!rig.lab.standby.read("/run/sleepers").is_empty()).then_some(())
    })
    .unwrap();
    let sleeper = rig.lab.standby.read("/run/sleepers");
    let alive = || rig.lab.standby.run(&["sh", "-c", &format!("kill -0 {}", sleeper.trim())]).is_ok();
    assert!(alive(), "the script's child sleeps");
    rig.lab.primary_returns().unwrap();
    rig.wait_isp_has(false);
    wait_for("notify_backup after the hung script", LIMIT, || {
        (rig.lab.standby.read(LOG).matches("backup").count() >= 2).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", rig.lab.standby.read(LOG), rig.node.log()));
    wait_for("the script's child to be dead", LIMIT, || (!alive()).then_some(())).unwrap();
}

/// FIELD 2: the stop script runs to its end.
#[test]
fn the_stop_script_is_awaited() {
    let mut rig = Rig::bird_with(|config, lab| {
        let slow = "sleep 2; echo stop done >> /run/notify.log";
        instance(config).insert("notify_stop".into(), diary(lab, "stop", slow).into());
    });
    rig.take_over();
    rig.node.daemon().signal(Signal::SIGTERM).unwrap();
    rig.node.daemon().wait(LIMIT).unwrap();
    assert!(rig.lab.standby.read(LOG).contains("stop done"));
    rig.wait_isp_has(false);
}

/// What others than root can write to is never run, also if that became so after the start, and the takeover goes on.
#[test]
fn a_script_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::bird_with(|config, lab| {
        instance(config).insert("notify_master".into(), diary(lab, "master", "").into());
    });
    let script = rig.lab.standby.path(format!("{}/master", crate::rig::SCRIPTS));
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o777)).unwrap();
    rig.take_over();
    wait_for("the refusal in the log", LIMIT, || {
        rig.node.log().contains("/usr/local/bin/master").then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", rig.node.log()));
    assert_eq!(rig.lab.standby.read(LOG), "");
}
