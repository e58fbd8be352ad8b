//! What operators may do: SPEC 2 and 4 on `force`, `auto` and `failback`.

use announcerd::announcer::event::{Command, Forced};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, clock, standby, with};

/// "`force` stands in for the primary's verdict …, never for `require`".
#[test]
fn force_stands_in_for_the_primary_and_never_for_require() {
    let mut rig = Rig::settled(STANDBY);
    rig.force(Forced::Master, None);
    assert_eq!(rig.state("a"), State::Master, "at once");
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    assert!(!rig.kernel.has(EXPORT));
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 5 * SECOND);
    // And in FAULT it is an answer, not an announcement.
    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.force(Forced::Master, None);
    rig.run(60 * SECOND);
    assert_eq!(rig.state("a"), State::Fault);
}

/// An operator who takes the traffic away for a while says nothing of the primary: no flap, no longer failback delay.
#[test]
fn a_forced_handback_is_no_flap() {
    let mut rig = Rig::master(STANDBY);
    rig.force(Forced::Backup, None);
    rig.run(60 * SECOND);
    rig.command(Command::Auto { instance: "a".into() }).expect("a command");
    rig.until_state("a", State::Master, 10 * SECOND);
    assert_eq!(rig.instance("a").flaps, 0);
}

/// Forced MASTER while `require` is unknown: it is awaited, and then followed.
#[test]
fn a_forced_takeover_waits_for_require() {
    let mut rig = Rig::settled(STANDBY.replace("fall = 3", "fall = 30").as_str());
    rig.set("uplink", Target::Blind);
    rig.run(3 * SECOND);
    rig.force(Forced::Master, None);
    assert_eq!(rig.state("a"), State::Backup);
    rig.set("uplink", Target::Answers(MS));
    let took = rig.until_state("a", State::Master, 5 * SECOND);
    assert!(took <= SECOND, "{took:?}");
}

/// "without `--for` it lasts until `auto`, and says so."
#[test]
fn force_lasts_until_auto_and_says_so() {
    let mut rig = Rig::settled(STANDBY);
    let force = |lasting| Command::Force { instance: "a".into(), state: Forced::Master, lasting };
    let said = rig.command(force(None)).unwrap();
    assert!(said.contains("until `announcerctl auto a`"), "{said}");
    rig.run(24 * 3600 * SECOND);
    assert_eq!(rig.state("a"), State::Master);
    assert_eq!(rig.instance("a").forced.unwrap().until, None);
    rig.command(Command::Auto { instance: "a".into() }).unwrap();
    let took = rig.until_state("a", State::Backup, 60 * SECOND);
    assert_eq!(took, 30 * SECOND, "the ordinary failback");
    let said = rig.command(force(Some(3600 * SECOND))).unwrap();
    assert!(said.contains("for 1h"), "{said}");
}

/// `--for`: it expires by itself, in any state.
#[test]
fn force_expires() {
    let mut rig = Rig::master(STANDBY);
    rig.force(Forced::Backup, Some(60 * SECOND));
    assert_eq!((rig.state("a"), rig.kernel.has(EXPORT)), (State::Backup, false));
    assert_eq!(rig.until_state("a", State::Master, 100 * SECOND), 60 * SECOND);
    assert_eq!(rig.instance("a").forced, None);
    assert_eq!(rig.memory.instances["a"].forced, None);

    let mut rig = Rig::settled(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.force(Forced::Master, Some(60 * SECOND));
    rig.run(61 * SECOND);
    assert_eq!((rig.instance("a").forced, rig.memory.instances["a"].forced), (None, None));
}

/// A forced BACKUP holds a takeover off, whatever the primary does.
#[test]
fn a_forced_backup_stays() {
    let mut rig = Rig::settled(STANDBY);
    rig.force(Forced::Backup, None);
    rig.set("ping", Target::Silent);
    rig.run(600 * SECOND);
    assert_eq!(rig.states("a"), []);
    rig.command(Command::Auto { instance: "a".into() }).unwrap();
    let took = rig.until_state("a", State::Master, 5 * SECOND);
    assert!(took <= 2 * SECOND, "{took:?}");
}

/// `failback = "manual"`: nothing but the command hands back, and only to a primary that is well.
#[test]
fn manual_failback() {
    let mut rig = Rig::master(&standby("failback = \"manual\""));
    let failback = || Command::Failback { instance: "a".into(), reset_flaps: false };
    let said = rig.command(failback()).unwrap_err();
    assert!(said.contains("the primary of a is down") && said.contains("force a backup"), "{said}");
    rig.set("ping", Target::Answers(MS));
    rig.run(24 * 3600 * SECOND);
    assert_eq!(rig.state("a"), State::Master);
    assert_eq!(rig.instance("a").pending, None);
    rig.command(failback()).unwrap();
    assert_eq!(rig.state("a"), State::Backup);
    assert!(rig.records[0].reason.contains("the operator handed back"), "{:?}", rig.records);
    assert!(rig.command(failback()).is_err(), "there is nothing to hand back");
}

/// "`failback INSTANCE`: hand back now", also with `auto`, before the delay is over.
#[test]
fn failback_now() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.run(5 * SECOND);
    rig.command(Command::Failback { instance: "a".into(), reset_flaps: false }).unwrap();
    assert_eq!(rig.state("a"), State::Backup);
}

/// "`--reset-flaps` forgets the penalty", and a command that is refused changes nothing.
#[test]
fn reset_flaps() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    rig.set("ping", Target::Refuses(MS));
    rig.until_state("a", State::Master, 60 * SECOND);
    assert_eq!(rig.instance("a").flaps, 1);
    let reset = || Command::Failback { instance: "a".into(), reset_flaps: true };
    rig.command(reset()).unwrap_err();
    assert_eq!(rig.instance("a").flaps, 1, "refused: nothing was done");
    rig.force(Forced::Backup, None);
    rig.command(reset()).unwrap();
    assert_eq!(rig.instance("a").flaps, 0);
}

/// A name that is not there is answered with those that are.
#[test]
fn an_unknown_instance() {
    let mut rig = Rig::settled(STANDBY);
    let said = rig.command(Command::Auto { instance: "b".into() }).unwrap_err();
    assert_eq!(said, "there is no instance `b`; there are: a");
}

/// Who stands in for nobody hands back to nobody: what would end it is what it requires.
#[test]
fn explain_without_a_primary() {
    let explain = |rig: &Rig| rig.core.explain("a", rig.now, &clock()).unwrap().into_lines().join("\n");
    let check = |text: String, parts: &[&str]| {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in\n{text}"));
        assert!(!text.contains("the primary"), "{text}");
    };
    let text = with(STANDBY, "primary = { checks = [\"ping\"] }\n", "");
    let mut rig = Rig::new(&text);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    let losing =
        ["It is MASTER until", "Then it would go to FAULT", "delete route 198.51.100.0/24", "script: /fault"];
    check(explain(&rig), &losing);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(20 * SECOND);
    let gaining = ["as soon as what it requires is met", "add route 198.51.100.0/24", "script: /master"];
    check(explain(&rig), &gaining);
    let nothing = with(&text, "require = { checks = [\"uplink\"] }\n", "");
    let mut rig = Rig::new(&nothing);
    rig.until_state("a", State::Master, 40 * SECOND);
    rig.run(SECOND);
    check(explain(&rig), &["It requires nothing.", "it stays MASTER", "script: /backup"]);
}

/// "`explain INSTANCE`: why it is in its state, what would change it, what it would do next (a dry run)".
#[test]
fn explain() {
    let rig = Rig::settled(STANDBY);
    let text = rig.core.explain("a", rig.now, &clock()).unwrap().into_lines().join("\n");
    for part in [
        "a is in BACKUP",
        "The primary is well",
        "3 more failed probes make it down",
        "What it requires is met",
        "kernel: add address 172.16.1.1/24 dev lo",
        "kernel: add route 198.51.100.0/24 dev lo",
        "script: /master",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!rig.has_told("add"), "a dry run");
}
