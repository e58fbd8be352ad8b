//! SPEC 4, "Order".

use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, standby};

const ADD_ADDRESS: &str = "add address 172.16.1.1/24 dev lo";
const ADD_SUPPORT: &str = "add route 10.10.0.0/16 via 172.16.1.9";
const ADD_EXPORT: &str = "add route 198.51.100.0/24 dev lo";
const DELETE_ADDRESS: &str = "delete address 172.16.1.1/24 dev lo";
const DELETE_SUPPORT: &str = "delete route 10.10.0.0/16 via 172.16.1.9";
const DELETE_EXPORT: &str = "delete route 198.51.100.0/24 dev lo";

/// "Into MASTER: tunnels, addresses, routes; when the kernel has acknowledged them, `export` routes …; then scripts."
#[test]
fn into_master() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    assert_eq!(rig.told(), ["a MASTER", ADD_ADDRESS, ADD_SUPPORT, ADD_EXPORT, "run /master"]);
    let decided = rig.when("a MASTER");
    assert_eq!(rig.when(ADD_SUPPORT), decided);
    assert_eq!(rig.when(ADD_EXPORT), decided + MS, "acknowledged after a millisecond");
    assert_eq!(rig.when("run /master"), decided + 2 * MS);
    let timeline = rig.records[0].timeline;
    assert_eq!(timeline.decision, Some(decided));
    assert_eq!(timeline.kernel_acked, Some(decided + 2 * MS));
    assert_eq!(timeline.notify_done, Some(decided + 3 * MS));
    assert!(timeline.first_bad_probe < timeline.decision && timeline.first_bad_probe.is_some());
}

/// "Out of MASTER: … `export` routes at once, together with notify_backup; then `drain`; then other routes, addresses,
/// tunnels."
#[test]
fn out_of_master_with_drain() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    rig.run(30 * SECOND);
    assert_eq!(rig.told(), ["a BACKUP", "run /backup", DELETE_EXPORT, DELETE_SUPPORT, DELETE_ADDRESS]);
    let decided = rig.when("a BACKUP");
    assert_eq!((rig.when(DELETE_EXPORT), rig.when("run /backup")), (decided, decided));
    assert_eq!(rig.when(DELETE_SUPPORT), decided + 10 * SECOND);
}

/// "In FAULT the same, at once."
#[test]
fn out_of_master_into_fault() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(SECOND);
    assert_eq!(rig.told(), ["a FAULT", "run /fault", DELETE_EXPORT, DELETE_SUPPORT, DELETE_ADDRESS]);
    assert_eq!(rig.when(DELETE_ADDRESS), rig.when("a FAULT"));
}

/// The same on the way out.
#[test]
fn out_of_master_into_stop() {
    let mut rig = Rig::master(STANDBY);
    rig.tell(announcerd::announcer::Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    let all = [
        "a STOP",
        "run /stop",
        DELETE_EXPORT,
        DELETE_SUPPORT,
        DELETE_ADDRESS,
        "delete route 10.20.0.0/16 dev lo",
        "exit",
    ];
    assert_eq!(rig.told(), all);
    assert_eq!(rig.when(DELETE_SUPPORT), rig.when("a STOP") + 10 * SECOND);
    assert!(rig.kernel.objects.is_empty());
}

/// "A withdraw never waits for the kernel or a script." FIELD 17: the check fails, nothing is withdrawn (exabgp #1383).
#[test]
fn a_withdraw_waits_for_nobody() {
    let mut rig = Rig::settled(STANDBY);
    rig.programs.hang.insert("/master");
    rig.set("ping", Target::Silent);
    rig.until("the script runs", 10 * SECOND, |r| r.has_told("run /master"));
    rig.kernel.mute = true;
    rig.forget();
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    assert_eq!(rig.when(DELETE_EXPORT), rig.when("a FAULT"));
    assert!(!rig.kernel.has(EXPORT));
}

/// A withdraw does not wait for an announcement that is still under way, either.
#[test]
fn a_withdraw_follows_an_addition_that_is_not_acknowledged() {
    let mut rig = Rig::settled(STANDBY);
    rig.set("ping", Target::Silent);
    rig.until("exported", 10 * SECOND, |r| r.has_told(ADD_EXPORT));
    assert!(!rig.has_told("run /master"), "the answer is still under way");
    rig.tell(announcerd::announcer::Event::Terminate);
    assert_eq!(rig.told()[4..], ["a STOP", "run /stop", DELETE_EXPORT]);
}

/// Nothing is announced before the kernel has all the rest.
#[test]
fn nothing_is_announced_before_the_rest_is_there() {
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.mute = true;
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(5 * SECOND);
    assert!(!rig.has_told(ADD_EXPORT) && !rig.has_told("run /master"), "{:?}", rig.told());
    assert_eq!(rig.records[0].timeline.kernel_acked, None);
}

/// "Nobody learns of a prefix of ours from what we keep for the drain": the kernel makes a route for the network of an
/// address, so an address in the prefix itself goes with the announcement. FIELD 17: the loopback address is removed
/// before the withdraw (exabgp #993): the route goes first.
#[test]
fn an_address_of_the_prefix_itself_goes_with_the_announcement() {
    let text = standby("")
        .replace("172.16.1.1/24", "198.51.100.1/24")
        .replace("via = \"172.16.1.9\"", "dev = \"lo\"\nexport = false");
    let mut rig = Rig::master(&text);
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    let told = rig.told();
    assert_eq!(told[2..], [DELETE_EXPORT, "delete address 198.51.100.1/24 dev lo"]);
}
