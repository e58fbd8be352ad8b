//! SPEC 4, "Reload": what did not change is not disturbed.

use announcerd::announcer::event::{Event, ScriptEnd};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{BASE, EXPORT, Rig, STANDBY, SUPPORT, standby, with};

/// "What did not change is not disturbed: … no route flaps, no check starts anew." FIELD 5: a reload moves every
/// instance to BACKUP and drops addresses (keepalived #349, #2159).
#[test]
fn the_same_file_changes_nothing() {
    for mut rig in [Rig::settled(STANDBY), Rig::master(STANDBY)] {
        let before = rig.status();
        rig.reload(STANDBY);
        assert_eq!(rig.status(), before);
        rig.run(60 * SECOND);
        assert_eq!(rig.told(), Vec::<&str>::new());
    }
}

/// FIELD 5 and 6: other delays, other scripts, other limits: no state changes, no route goes, counts stay.
#[test]
fn other_delays_and_limits_disturb_nothing() {
    let mut rig = Rig::master(STANDBY);
    let successes = rig.check("uplink").successes;
    let text = standby(
        "failback_delay = \"60s\"\ntakeover_delay = \"7s\"\ndrain = \"1s\"\nnotify_fault = \"/other\"",
    );
    rig.reload(&text.replace("fall = 3", "fall = 4").replace("interval = \"1s\"", "interval = \"2s\""));
    rig.run(60 * SECOND);
    assert_eq!(rig.told(), Vec::<&str>::new());
    assert!(rig.check("uplink").successes > successes);
    assert_eq!(rig.sent("uplink").len(), 30, "every two seconds now");
}

/// A changed route is changed in its place, a new one comes, one that is gone goes; the announcement stays.
#[test]
fn objects_change_in_their_place() {
    let mut rig = Rig::master(STANDBY);
    let text = with(STANDBY, "via = \"172.16.1.9\"", "via = \"172.16.1.8\"");
    let text = with(&text, "to = \"10.20.0.0/16\"", "to = \"10.30.0.0/16\"");
    rig.reload(&text);
    rig.run(SECOND);
    assert_eq!(
        rig.told(),
        [
            "add route 10.30.0.0/16 dev lo",
            "replace route 10.10.0.0/16 via 172.16.1.8",
            "delete route 10.20.0.0/16 dev lo",
        ]
    );
}

fn b(lines: &str) -> String {
    format!(
        "[[instance]]\nname = \"b\"\nprimary = {{ checks = [\"ping\"] }}\nrequire = {{ checks = [\"uplink\"] }}\ndrain = \"10s\"\n{lines}\n"
    )
}

const MOVED: &str = "[[instance.route]]\nto = \"10.40.0.0/16\"\ndev = \"lo\"\nexport = false";

/// A route that moves from one instance to another stays where it is.
#[test]
fn a_route_that_moves_between_instances_stays() {
    for (from, to) in [
        (format!("{STANDBY}{MOVED}\n{}", b("")), format!("{STANDBY}\n{}", b(MOVED))),
        (format!("{STANDBY}\n{}", b(MOVED)), format!("{STANDBY}{MOVED}\n{}", b(""))),
    ] {
        let mut rig = Rig::master(&from);
        rig.reload(&to);
        rig.run(60 * SECOND);
        assert_eq!(rig.told(), Vec::<&str>::new());
    }
}

/// The same when the instance it moves from is no longer there, and drains.
#[test]
fn a_route_that_moves_from_a_removed_instance_stays() {
    let mut rig = Rig::master(&format!("{STANDBY}\n{}", b(MOVED)));
    rig.reload(&format!("{STANDBY}{MOVED}\n"));
    assert_eq!(rig.state("b"), State::Stop);
    // News in the middle of the drain, for both.
    rig.set("ping", Target::Turns(vec![Target::Blind, Target::Refuses(MS)]));
    rig.run(60 * SECOND);
    let told: Vec<&str> = rig.told().into_iter().filter(|w| w.contains("10.40")).collect();
    assert_eq!(told, Vec::<&str>::new());
    assert!(rig.kernel.has("10.40.0.0/16"));
    assert_eq!(rig.status().instances.len(), 1, "b has gone");
}

/// An instance that goes withdraws, drains and runs its stop script; one that comes starts in INIT.
#[test]
fn instances_come_and_go() {
    let mut rig = Rig::master(STANDBY);
    rig.reload(&STANDBY.replace("name = \"a\"", "name = \"c\""));
    assert_eq!(rig.state("a"), State::Stop);
    rig.until_state("c", State::Master, 5 * SECOND);
    rig.run(60 * SECOND);
    assert_eq!(rig.status().instances.len(), 1);
    assert!(rig.has_told("run /stop") && rig.has_told("run /master"));
    assert_eq!(rig.kernel.objects.len(), 4, "the new one has them now");
    assert!(!rig.memory.instances.contains_key("a"));
}

/// An instance that comes back while it still leaves is the same one: its scripts go on one at a time, in order
/// (FIELD 1), and nothing is announced before INIT is over.
#[test]
fn an_instance_that_comes_back_before_it_has_left() {
    let mut rig = Rig::master(STANDBY);
    rig.programs.takes.insert("/stop", (5 * SECOND, ScriptEnd::Exited(0)));
    let without = &STANDBY[..STANDBY.find("[[instance]]").expect("an instance")];
    rig.reload(&format!("{without}{}", b("")));
    assert_eq!(rig.state("a"), State::Stop);
    rig.run(SECOND);
    rig.reload(STANDBY);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [State::Stop, State::Init, State::Master]);
    assert_eq!(rig.started(), ["/stop", "/master"]);
    assert_eq!(rig.when("run /master").since(rig.when("run /stop")), 5 * SECOND);
    assert!(rig.kernel.has(EXPORT) && rig.kernel.has(SUPPORT));
    assert!(rig.memory.instances.contains_key("a"));
}

/// The same while STOP's script still waits for the one before: what INIT decides is told after it.
#[test]
fn an_instance_that_comes_back_while_its_stop_waits() {
    let mut rig = Rig::settled(STANDBY);
    rig.programs.takes.insert("/fault", (15 * SECOND, ScriptEnd::Exited(0)));
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.run(5 * SECOND);
    rig.forget();
    let without = &STANDBY[..STANDBY.find("[[instance]]").expect("an instance")];
    rig.reload(&format!("{without}{}", b("")));
    rig.run(SECOND);
    rig.reload(STANDBY);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a")[..3], [State::Stop, State::Init, State::Backup]);
    assert_eq!(rig.started(), ["/stop", "/backup"]);
}

/// A check that asks something else starts anew; the others do not.
#[test]
fn a_check_that_asks_something_else_starts_anew() {
    let mut rig = Rig::settled(STANDBY);
    let uplink = rig.check("uplink");
    rig.reload(&with(STANDBY, "198.18.0.1", "198.18.0.7"));
    assert_eq!((rig.verdict("ping").as_str(), rig.check("uplink")), ("unknown", uplink));
    let names: Vec<String> = rig.status().checks.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["ping", "uplink"], "in the order of the file");
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
}

/// A reload in the middle of a drain, of `takeover_delay`, of a script.
#[test]
fn a_reload_in_the_middle_of_something() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    let decided = rig.now;
    rig.run(3 * SECOND);
    rig.reload(&standby("drain = \"99s\""));
    rig.run(20 * SECOND);
    assert_eq!(rig.when(&format!("delete route {SUPPORT}")), decided + 10 * SECOND);

    let mut rig = Rig::settled(&standby("takeover_delay = \"10s\""));
    rig.set("ping", Target::Silent);
    rig.until("pending", 10 * SECOND, |r| r.instance("a").pending.is_some());
    rig.run(3 * SECOND);
    rig.reload(&standby("takeover_delay = \"60s\""));
    assert_eq!(rig.until_state("a", State::Master, 20 * SECOND), 7 * SECOND, "fixed, from the decision");

    let mut rig = Rig::settled(STANDBY);
    rig.programs.hang.insert("/master");
    rig.set("ping", Target::Silent);
    rig.until("it runs", 10 * SECOND, |r| r.has_told("run /master"));
    rig.reload(&standby("notify_master = \"/new\""));
    rig.run(SECOND);
    assert_eq!(rig.started(), ["/master"]);
}

/// FIELD 7: memory and descriptors leak with each reload (keepalived #2336, #1177).
#[test]
fn reloads_do_not_pile_up() {
    let mut rig = Rig::master(STANDBY);
    let mut sizes = Vec::new();
    for n in 0..300 {
        let text = with(STANDBY, "10.10.0.0/16", &format!("10.{}.0.0/16", 50 + n % 97));
        rig.kernel.refuses = match n % 3 {
            0 => vec![("via 172.16.1.9", announcerd::fib::object::OpError::Refused("no".into()))],
            _ => Vec::new(),
        };
        rig.reload(&with(&text, "198.18.0.1", &format!("198.18.0.{}", 1 + n % 200)));
        rig.run(10 * SECOND);
        if n % 100 == 99 {
            rig.kernel.refuses.clear();
            rig.reload(STANDBY);
            rig.run(60 * SECOND);
            rig.records.clear();
            let core = format!("{:?}", rig.core);
            // The journal is bounded, and is not what this is about.
            let (before, after) = core.split_once("journal: Journal").unwrap();
            sizes.push(before.len() + after.split_once("timers: Timers").unwrap().1.len());
        }
    }
    let (first, last) = (sizes[0], sizes[2]);
    assert!(last <= first + first / 20, "{sizes:?}");
}

/// Memory does not grow with time, either.
#[test]
fn nothing_piles_up_in_a_long_run() {
    let mut rig = Rig::settled(STANDBY);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for _ in 0..40 {
            rig.set("ping", Target::Silent);
            rig.until_state("a", State::Master, 30 * SECOND);
            rig.steal(EXPORT);
            rig.set("ping", Target::Answers(MS));
            rig.until_state("a", State::Backup, 2000 * SECOND);
            rig.steal(BASE);
            rig.set("uplink", Target::Refuses(MS));
            rig.until_state("a", State::Fault, 30 * SECOND);
            rig.set("uplink", Target::Answers(MS));
            rig.until_state("a", State::Backup, 30 * SECOND);
        }
        rig.run(60 * SECOND);
        rig.forget();
        let core = format!("{:?}", rig.core);
        let (before, after) = core.split_once("journal: Journal").unwrap();
        sizes.push(before.len() + after.split_once("timers: Timers").unwrap().1.len());
    }
    assert!(sizes[2] <= sizes[0] + sizes[0] / 20, "{sizes:?}");
}

/// A reload while stopping is too late.
#[test]
fn a_reload_while_stopping_changes_nothing() {
    let mut rig = Rig::master(STANDBY);
    rig.tell(Event::Terminate);
    rig.reload(&STANDBY.replace("name = \"a\"", "name = \"c\""));
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    assert!(rig.kernel.objects.is_empty());
}
