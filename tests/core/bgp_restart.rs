//! Graceful restart's bits (RFC 4724 section 3), each peer by what it was told.

use announcerd::announcer::Event;
use announcerd::announcer::event::Command;
use announcerd::announcer::journal::State;

use crate::bgp::restarting;
use crate::fake::{SECOND, Target};
use crate::rig::{EXPORT, Rig, SUPPORT, with};

/// The bits of the OPENs so far.
fn opens(rig: &Rig) -> Vec<&str> {
    rig.told().into_iter().filter(|words| words.starts_with("OPEN to isp-a")).collect()
}

fn handed_over(rig: &mut Rig) {
    rig.command(Command::Handover).unwrap();
    rig.until("exit", 10 * SECOND, |r| r.exit.is_some());
}

/// Announces all the time, worse as BACKUP.
fn always() -> String {
    with(&restarting(), "master = { med = 7 }", "master = { med = 7 }\nbackup = { med = 70 }")
}

/// RFC 4724 section 4.2: with F = 0 the helper removes the stale routes at once. What a BACKUP announced all the while, and
/// whose forwarding nobody touched, must not go with a handover (or a crash).
#[test]
fn a_backup_that_announces_is_preserved_over_a_handover() {
    let mut rig = Rig::new(&always());
    rig.far.helps = true;
    rig.until("the announcement", 20 * SECOND, |r| r.has_told("hears 198.51.100.0/24 MED 70"));
    rig.run(SECOND);
    let crashed = Rig::after(
        &always(),
        &announcerd::announcer::Legacy { memory: rig.memory.clone(), resumable: true },
        crate::fake::Kernel { objects: rig.kernel.objects.clone(), ..Default::default() },
        rig.now + SECOND,
    );
    handed_over(&mut rig);
    for mut next in [rig.crash(&always(), SECOND, true), crashed] {
        next.far.helps = true;
        next.until("the announcement", 20 * SECOND, |r| r.has_told("hears 198.51.100.0/24 MED 70"));
        assert_eq!(opens(&next), ["OPEN to isp-a: R F"]);
        // Routes first, End-of-RIB behind them.
        next.run(SECOND);
        assert!(next.when("End-of-RIB") >= next.when("MED 70"));
    }
}

/// "Unless allowed via configuration, the "Forwarding State" bit … can be set only if the forwarding state has indeed been
/// preserved" (RFC 4724 section 4.1): an object of its instance that is missing says that it was not.
#[test]
fn what_is_not_found_in_the_kernel_was_not_preserved() {
    for part in ["10.20.0.0/16", ""] {
        let mut rig = Rig::new(&always());
        rig.far.helps = true;
        rig.run(10 * SECOND);
        handed_over(&mut rig);
        rig.kernel.objects.retain(|words, _| part.is_empty() || !words.contains(part));
        let mut next = rig.crash(&always(), SECOND, true);
        next.run(10 * SECOND);
        let expected = if part.is_empty() { "OPEN to isp-a: R F" } else { "OPEN to isp-a: R" };
        assert_eq!(opens(&next), [expected]);
    }
}

/// SPEC 4, "Kernel": a refused operation "holds back the announcement that depends on it", that of a resumed MASTER too.
#[test]
fn a_resumed_master_waits_for_the_kernel() {
    let text = restarting();
    let mut rig = Rig::master(&text);
    rig.kernel.objects.retain(|words, _| !words.contains(SUPPORT));
    let legacy = || announcerd::announcer::Legacy { memory: rig.memory.clone(), resumable: true };
    let left = || crate::fake::Kernel { objects: rig.kernel.objects.clone(), ..Default::default() };
    let starts = |mute| {
        let mut next = Rig::after(&text, &legacy(), crate::fake::Kernel { mute, ..left() }, rig.now + SECOND);
        next.run(5 * SECOND);
        next
    };
    let next = starts(true);
    assert_eq!((next.state("a"), next.has_told("hears")), (State::Master, false), "{:?}", next.told());
    assert!(starts(false).has_told("hears 198.51.100.0/24 MED 7"));
}

/// A MASTER of another peer says nothing about this one: it was told nothing that could be preserved.
#[test]
fn each_peer_by_its_own_announcements() {
    let second = "[[bgp]]\nname = \"isp-b\"\npeer = \"203.0.113.9\"\npeer_as = 64500\nlocal_as = 64501\n\
                  graceful_restart = { restart_time = \"120s\" }\n";
    let text = with(&restarting(), "master = { med = 7 }", "master = { med = 7 }\npeers = [\"isp-b\"]");
    let text = with(&text, "[[instance]]", &format!("{second}[[instance]]"))
        + "[[instance]]\nname = \"b\"\nprimary = { checks = [\"uplink\"] }\n\
           [[instance.announce]]\nprefixes = [\"203.0.114.0/24\"]\npeers = [\"isp-a\"]\n";
    let mut rig = Rig::master(&text);
    handed_over(&mut rig);
    let mut next = rig.crash(&text, SECOND, true);
    next.run(10 * SECOND);
    let told = next.told();
    assert!(told.contains(&"OPEN to isp-b: R F") && told.contains(&"OPEN to isp-a: R"), "{told:?}");
}

/// "The graceful restart F bit is set only after that adoption": a process that took up nothing has preserved nothing "during
/// the previous BGP restart" (RFC 4724 section 3), and that does not change when TCP breaks later: such a reset is no restart.
/// It has nothing to do with R either, which is for "after the restart" (section 4.1).
#[test]
fn a_process_that_took_up_nothing_never_says_that_it_did() {
    let mut rig = Rig::new(&restarting());
    rig.far.helps = true;
    rig.run(10 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 20 * SECOND);
    rig.run(SECOND);
    let (peer, event) = rig.far.breaks("isp-a");
    rig.tell(Event::Bgp { peer, event });
    rig.run(60 * SECOND);
    assert_eq!(opens(&rig), ["OPEN to isp-a:", "OPEN to isp-a:"]);
    assert!(rig.kernel.has(EXPORT));
    // Nor does one that comes after an ordinary stop: everything was withdrawn.
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    let mut next = rig.crash(&restarting(), SECOND, true);
    next.far.helps = true;
    next.run(20 * SECOND);
    assert!(!next.has_told(" F"), "{:?}", next.told());
}

/// A peer that a reload brings, or begins anew, was told nothing before a restart of ours.
#[test]
fn a_reload_is_no_restart() {
    let mut rig = Rig::master(&restarting());
    handed_over(&mut rig);
    let mut next = rig.crash(&restarting(), SECOND, true);
    next.far.helps = true;
    next.run(20 * SECOND);
    assert_eq!(opens(&next), ["OPEN to isp-a: R F"]);
    next.forget();
    next.reload(&with(&restarting(), "peer_as = 64500", "peer_as = 64500\nhold_time = \"30s\""));
    next.run(20 * SECOND);
    assert_eq!(opens(&next), ["OPEN to isp-a: F"], "what was adopted is still there; nobody restarted");
    next.forget();
    let second = "[[bgp]]\nname = \"isp-b\"\npeer = \"203.0.113.9\"\npeer_as = 64500\nlocal_as = 64501\n\
                  graceful_restart = { restart_time = \"120s\" }\n";
    next.reload(&with(&restarting(), "[[instance]]", &format!("{second}[[instance]]")));
    next.run(20 * SECOND);
    assert!(next.has_told("OPEN to isp-b:") && !next.has_told("OPEN to isp-b: "), "{:?}", next.told());
}
