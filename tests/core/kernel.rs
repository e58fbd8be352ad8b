//! SPEC 4, "Kernel".

use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State;
use announcerd::fib::object::{Object, OpError};

use crate::fake::{MS, SECOND, Target, words};
use crate::rig::{ADDRESS, BASE, EXPORT, Rig, STANDBY, SUPPORT, link, standby};

/// "Objects that others delete come back within a second." FIELD 11: systemd-networkd or another manager removes foreign
/// routes, rules, addresses (keepalived #2479, systemd #25451). FIELD 10: a route deleted from the kernel, still
/// announced (FRR #5883).
#[test]
fn what_others_delete_comes_back_within_a_second() {
    let mut rig = Rig::master(STANDBY);
    for part in [EXPORT, SUPPORT, BASE, ADDRESS] {
        rig.run(3 * SECOND);
        rig.steal(part);
        assert!(!rig.kernel.has(part));
        rig.until("it is back", SECOND, |r| r.kernel.has(part));
    }
    assert_eq!(rig.states("a"), []);
}

/// FIELD 12: the kernel silently drops routes when the covering address or the link goes, with no message (keepalived
/// #1719): the scan finds it.
#[test]
fn what_goes_without_a_message_comes_back_with_the_scan() {
    let mut rig = Rig::master(STANDBY);
    rig.kernel.objects.clear();
    rig.until("all are back", 11 * SECOND, |r| r.kernel.objects.len() == 4);
}

/// What hangs on an address comes after it, so that nothing is refused, and the announcement stays.
#[test]
fn all_that_was_flushed_comes_back_in_its_order() {
    let mut rig = Rig::master(STANDBY);
    rig.run(3 * SECOND);
    rig.forget();
    rig.kernel.needs = vec![(ADDRESS, SUPPORT)];
    rig.kernel.objects.retain(|words, _| words.contains(EXPORT) || words.contains(BASE));
    rig.tell(Event::KernelChanged);
    rig.run(3 * SECOND);
    assert_eq!(rig.told(), ["add address 172.16.1.1/24 dev lo", "add route 10.10.0.0/16 via 172.16.1.9"]);
}

/// The same when a refusal is over: in the order of the file, each time.
#[test]
fn what_was_refused_is_tried_again_in_its_order() {
    let mut routes = String::new();
    for n in 0..30 {
        routes
            .push_str(&format!("[[instance.route]]\nto = \"10.{}.0.0/16\"\nvia = \"172.16.1.9\"\n", 99 - n));
    }
    let mut rig = Rig::settled(&format!("{STANDBY}{routes}"));
    rig.kernel.refuses = vec![("172.16.1", OpError::NoDevice("eth0".into()))];
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(SECOND);
    rig.forget();
    rig.kernel.refuses.clear();
    rig.kernel.needs = vec![(ADDRESS, "via 172.16.1.9")];
    rig.tell(Event::LinkIs(link("eth1", true)));
    let told = rig.told();
    assert_eq!(told.len(), 32);
    assert_eq!(
        told[..4],
        [
            "add address 172.16.1.1/24 dev lo",
            "add route 10.10.0.0/16 via 172.16.1.9",
            "add route 10.99.0.0/16 via 172.16.1.9",
            "add route 10.98.0.0/16 via 172.16.1.9",
        ]
    );
}

/// "Objects that others own are never touched": the same object counts as there, another one holds back.
#[test]
fn what_others_own_is_never_touched() {
    let support =
        Rig::master(STANDBY).kernel.objects.into_values().find(|o| words(o).contains(SUPPORT)).unwrap();
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.foreign.insert("same".into(), support.clone());
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(10 * SECOND);
    assert!(rig.kernel.has(EXPORT) && !rig.kernel.has(SUPPORT));
    assert!(rig.has_told("run /master"));
    // It goes: within a second or so ours stands there.
    rig.kernel.foreign.clear();
    rig.until("ours", 2 * SECOND, |r| r.kernel.has(SUPPORT));

    let Object::Route(mut other) = support else { panic!("a route") };
    other.mtu = Some(1400);
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.foreign.insert("other".into(), Object::Route(other));
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(60 * SECOND);
    assert!(!rig.kernel.has(EXPORT) && rig.kernel.foreign.len() == 1);
    let error = rig.status().kernel.into_iter().find_map(|k| k.error).unwrap();
    assert!(error.contains("not ours"), "{error}");
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 60 * SECOND);
    rig.run(20 * SECOND);
    assert_eq!((rig.kernel.foreign.len(), rig.kernel.all()), (1, vec!["route 10.20.0.0/16 dev lo"]));
}

/// "After kill -9 and a restart, what is still wanted is adopted without a flap and the rest is swept." FIELD 3:
/// `kill -9` leaves the address or route behind, and the next start does not clean it (keepalived #2361).
#[test]
fn what_a_crash_left_is_adopted_or_swept() {
    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, true);
    rig.run(60 * SECOND);
    assert_eq!(rig.told(), ["a MASTER"], "adopted: no operation, no script");
    // The same, and the file has changed meanwhile.
    let text = standby("").replace("10.10.0.0/16", "10.11.0.0/16");
    let mut rig = Rig::master(STANDBY).crash(&text, SECOND, true);
    rig.run(60 * SECOND);
    let told = rig.told();
    assert_eq!(
        told,
        ["add route 10.11.0.0/16 via 172.16.1.9", "delete route 10.10.0.0/16 via 172.16.1.9", "a MASTER"]
    );
    // Not to be resumed: swept, and then the ordinary rules.
    let mut rig = Rig::master(STANDBY).crash(STANDBY, SECOND, false);
    rig.run(10 * MS);
    assert_eq!(rig.kernel.all(), ["route 10.20.0.0/16 dev lo"]);
}

/// "A refused operation is logged with the kernel's own words, retried with back-off, and holds back the announcement
/// that depends on it."
#[test]
fn a_refusal_holds_back_the_announcement() {
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.refuses = vec![(SUPPORT, OpError::Refused("Network is unreachable".into()))];
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(300 * SECOND);
    assert!(!rig.kernel.has(EXPORT) && !rig.has_told("run /master"));
    assert!(rig.logs.iter().any(|l| l.contains("Network is unreachable")), "{:?}", rig.logs);
    let tries: Vec<u64> = rig
        .story
        .iter()
        .filter(|(_, w)| w.contains(SUPPORT))
        .map(|(t, _)| t.since(rig.when("a MASTER")).as_secs())
        .collect();
    assert!(tries.len() < 20, "{tries:?}");
    assert!(tries.windows(2).all(|w| w[1] - w[0] <= 31), "{tries:?}");
    assert_eq!(rig.logs.iter().filter(|l| l.contains("unreachable")).count(), 1, "said once");
    rig.kernel.refuses.clear();
    rig.until("announced", 31 * SECOND, |r| r.kernel.has(EXPORT));
    rig.run(SECOND);
    assert!(rig.has_told("run /master"));
}

/// The same for what was announced before: by the process that went, while somebody took everything away…
#[test]
fn a_resumed_master_announces_nothing_before_all_else_is_there() {
    let flushed = |rig: &mut Rig| rig.kernel.objects.retain(|words, _| words.contains(BASE));
    let refusal = (SUPPORT, OpError::Refused("Network is unreachable".into()));
    let adds = format!("add route {EXPORT}");
    let mut rig = Rig::master(STANDBY);
    flushed(&mut rig);
    let mut next = rig.crash(STANDBY, SECOND, true);
    next.kernel.refuses = vec![refusal.clone()];
    next.run(60 * SECOND);
    assert_eq!(next.state("a"), State::Master);
    assert!(!next.has_told(&adds), "{:?}", next.told());
    next.kernel.refuses.clear();
    next.until("announced", 31 * SECOND, |r| r.kernel.has(EXPORT));
    assert_eq!((next.when(&adds) > next.when(SUPPORT), next.states("a")), (true, vec![State::Master]));
    // …or by this one.
    let mut rig = Rig::master(STANDBY);
    rig.forget();
    flushed(&mut rig);
    rig.kernel.refuses = vec![refusal];
    rig.tell(Event::KernelChanged);
    rig.run(60 * SECOND);
    assert!(!rig.has_told(&adds), "{:?}", rig.told());
    rig.kernel.refuses.clear();
    rig.until("announced", 31 * SECOND, |r| r.kernel.has(EXPORT));
    // What is there already stays: it is put back beneath it.
    let mut rig = Rig::master(STANDBY);
    rig.kernel.objects.retain(|words, _| words.contains(EXPORT));
    let mut next = rig.crash(STANDBY, SECOND, true);
    next.run(60 * SECOND);
    assert_eq!((next.kernel.objects.len(), next.has_told(EXPORT)), (4, false));
}

/// An announcement that waits for what it stands on is not forgotten by a reload in that moment.
#[test]
fn new_objects_do_not_forget_what_waits() {
    let mut rig = Rig::master(STANDBY);
    rig.forget();
    rig.kernel.objects.retain(|words, _| words.contains(BASE));
    rig.tell(Event::KernelChanged);
    rig.until("put back", SECOND, |r| r.has_told(&format!("add route {SUPPORT}")));
    assert!(!rig.kernel.has(EXPORT), "the kernel has not answered yet");
    rig.reload(&STANDBY.replace("drain = \"10s\"", "drain = \"11s\"").replace("10.20.0.0", "10.21.0.0"));
    rig.until("announced", 31 * SECOND, |r| r.kernel.has(EXPORT));
}

/// What was refused for want of a device is tried at once when the device is there.
#[test]
fn a_new_link_ends_the_back_off() {
    let mut rig = Rig::settled(STANDBY);
    rig.kernel.refuses = vec![(SUPPORT, OpError::NoDevice("gre1".into()))];
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(100 * SECOND);
    rig.kernel.refuses.clear();
    rig.set_link("gre1", true);
    rig.run(10 * MS);
    assert!(rig.kernel.has(EXPORT));
}

/// An answer that does not come is no refusal: what is announced stays until it is known what is there.
#[test]
fn a_lost_answer_is_no_refusal() {
    let mut rig = Rig::master(STANDBY);
    rig.run(3 * SECOND);
    rig.forget();
    rig.kernel.refuses = vec![(SUPPORT, OpError::NoAnswer)];
    rig.steal(SUPPORT);
    rig.run(3 * SECOND);
    assert!(rig.has_told(&format!("add route {SUPPORT}")));
    rig.kernel.refuses.clear();
    rig.until("back", 31 * SECOND, |r| r.kernel.has(SUPPORT));
    assert!(!rig.has_told(EXPORT), "{:?}", rig.told());
}

/// Our picture was old: what stands there is looked at at once.
#[test]
fn an_address_that_is_there_already_is_read() {
    let master = Rig::master(STANDBY);
    let address = master.kernel.objects.iter().find(|(w, _)| w.contains(ADDRESS)).unwrap();
    let (name, object) = (address.0.clone(), address.1.clone());
    let mut rig = Rig::settled(STANDBY);
    // Ours, by its mark, and no dump has shown it.
    rig.kernel.objects.insert(name, object);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.until("announced", SECOND, |r| r.kernel.has(EXPORT));
}

/// A storm of news is a few dumps.
#[test]
fn a_storm_of_news_is_a_few_dumps() {
    let mut rig = Rig::master(STANDBY);
    rig.forget();
    for _ in 0..10_000 {
        rig.tell(Event::KernelChanged);
        rig.run(MS);
    }
    assert!((50..=102).contains(&rig.dumps), "{}", rig.dumps);
}

/// A dump that fails is tried again, a while later, and said once.
#[test]
fn a_dump_that_fails_is_tried_again_without_a_flood() {
    use announcerd::announcer::event::DumpId;
    let mut rig = Rig::settled(STANDBY);
    rig.run(30 * SECOND);
    rig.forget();
    rig.tell(Event::KernelChanged);
    for n in 1..2000 {
        rig.tell(Event::Dump { id: DumpId(n), result: Err("Interrupted".into()) });
        rig.run(10 * MS);
    }
    assert!(rig.dumps < 200 && rig.logs.len() < 60, "{} dumps, {} lines", rig.dumps, rig.logs.len());
}
