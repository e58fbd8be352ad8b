//! SPEC 4, "Stop and restart", where peers are told: what goes, what stays, and in which order.

use announcerd::announcer::event::Command;
use announcerd::announcer::{Event, Legacy};
use announcerd::time::Time;

use crate::bgp::{HEARS, LOSES, PEER, announcing, heard, restarting};
use crate::fake::{Kernel, MS, SECOND};
use crate::rig::{EXPORT, Rig, with};

/// Beside `a` (MASTER because its primary is dead) one that is MASTER all the time, and withdraws when it stops.
const B: &str = "[[instance]]\nname = \"b\"\nrequire = { checks = [\"uplink\"] }\ndrain = \"10s\"\n\
                 [[instance.announce]]\nprefixes = [\"203.0.114.0/24\"]\nmaster = { med = 8 }\n";
const KEEP: &str = "name = \"a\"\non_stop = \"keep\"\nkeep_max = \"90s\"";
const B_SHUT: &str = "isp-a hears 203.0.114.0/24 MED 8 GSHUT";
const B_GONE: &str = "isp-a loses 203.0.114.0/24";
const SILENTLY: &str = "isp-a closed, without a word";
const CEASE: &str = "isp-a closed, Cease/Administrative Shutdown, \"announcerd on hk-1 stops\"";

/// Both MASTER, `a` keeps and `b` does not; peers that know graceful restart or do not.
fn both(text: &str, helps: bool) -> Rig {
    let mut rig = Rig::new(text);
    rig.far.helps = helps;
    rig.run(10 * SECOND);
    rig.set("ping", crate::fake::Target::Silent);
    rig.until("both", 30 * SECOND, |r| {
        r.has_told("203.0.114.0/24 MED 8") && (r.has_told(HEARS) || r.kernel.has(EXPORT))
    });
    rig.run(SECOND);
    rig.forget();
    rig
}

fn stopped(rig: &mut Rig) {
    rig.tell(Event::Terminate);
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
}

/// "Stop withdraws (GSHUT, a moment, withdraw, Cease …) unless `on_stop = "keep"`": each instance as it says. RFC 4724
/// section 4.2: a peer that we leave without a NOTIFICATION keeps all that it still has from us, so the other's prefix has to be
/// withdrawn before.
#[test]
fn one_keeps_and_one_withdraws() {
    let text = with(&restarting(), "name = \"a\"", KEEP) + B;
    let mut rig = both(&text, true);
    stopped(&mut rig);
    let of_peer: Vec<&str> = heard(&rig).into_iter().filter(|w| w.starts_with("isp")).collect();
    assert_eq!(of_peer, [B_SHUT, B_GONE, SILENTLY], "a's prefix is left as it is");
    assert!(rig.when(B_GONE) >= rig.when(B_SHUT) + 3 * SECOND);
    assert!(rig.kernel.has(EXPORT));
    assert_eq!(rig.exit, Some(Some(90 * SECOND)));
}

/// Nothing can be kept with a peer that did not agree to graceful restart: RFC 4724 section 4.2 is not its business, and the
/// end of the session is the end of the routes. It gets its moment for another way.
#[test]
fn nothing_is_kept_with_a_peer_that_does_not_help() {
    let text = with(&restarting(), "name = \"a\"", KEEP) + B;
    let mut rig = both(&text, false);
    stopped(&mut rig);
    for words in [&format!("{HEARS} GSHUT"), LOSES, B_SHUT, B_GONE, CEASE] {
        assert!(rig.has_told(words), "no {words} in {:?}", rig.told());
    }
    assert!(rig.kernel.has(EXPORT), "the kernel's objects stay all the same");
}

/// An instance that keeps its kernel objects, and announces nothing, keeps nothing at a peer.
#[test]
fn who_announces_nothing_keeps_no_session() {
    let text = with(&restarting(), "name = \"a\"", KEEP);
    let text = text[..text.find("[[instance.announce]]").unwrap()].to_owned() + B;
    let mut rig = both(&text, true);
    stopped(&mut rig);
    let of_peer: Vec<&str> = heard(&rig).into_iter().filter(|w| w.starts_with("isp")).collect();
    assert_eq!(of_peer, [B_SHUT, B_GONE, CEASE]);
}

/// Each peer by what it has: one has the announcement that is kept, the other has the other.
#[test]
fn each_peer_by_what_it_has() {
    let second = PEER.replace("isp-a", "isp-b").replace("203.0.113.1\"", "203.0.113.9\"");
    let second =
        second.replace("peer_as = 64500", "peer_as = 64500\ngraceful_restart = { restart_time = \"120s\" }");
    let text = with(&restarting(), "name = \"a\"", KEEP);
    let text = with(&text, "master = { med = 7 }", "master = { med = 7 }\npeers = [\"isp-a\"]");
    let text = with(&text, "[[instance]]", &format!("{second}[[instance]]"))
        + &with(B, "master = {", "peers = [\"isp-b\"]\nmaster = {");
    let mut rig = both(&text, true);
    rig.tell(Event::Terminate);
    assert_eq!(
        heard(&rig).into_iter().filter(|w| w.starts_with("isp-a")).collect::<Vec<_>>(),
        [SILENTLY],
        "at once: there is nothing to wait for"
    );
    rig.until("exit", 60 * SECOND, |r| r.exit.is_some());
    let other = |words: &str| words.replace("isp-a", "isp-b");
    let of_other: Vec<&str> = heard(&rig).into_iter().filter(|w| w.starts_with("isp-b")).collect();
    assert_eq!(of_other, [other(B_SHUT), other(B_GONE), other(CEASE)]);
}

/// A stop before the kernel was read: nobody has heard of us, so nobody is waited for.
#[test]
fn a_stop_before_the_first_dump_waits_for_no_peer() {
    for handover in [false, true] {
        let mut rig = Rig::new(&announcing(""));
        match handover {
            true => drop(rig.command(Command::Handover).unwrap()),
            false => rig.tell(Event::Terminate),
        }
        let took = rig.until("exit", 600 * SECOND, |r| r.exit.is_some());
        assert!(took <= 100 * MS, "{took:?}");
        assert_eq!(heard(&rig).iter().filter(|w| w.starts_with("isp")).count(), 0);
        assert!(!rig.logs.iter().any(|l| l.contains("stopping took too long")), "{:?}", rig.logs);
    }
}

/// Nor is a kernel that cannot be read waited for as long as scripts and drains would be: there are none.
#[test]
fn a_stop_without_any_dump_is_short() {
    let kernel = Kernel { unreadable: true, ..Kernel::default() };
    let mut rig =
        Rig::after(&announcing(""), &Legacy::default(), kernel, Time::from_nanos(1_000_000_000_000));
    rig.run(30 * SECOND);
    rig.tell(Event::Terminate);
    let took = rig.until("exit", 600 * SECOND, |r| r.exit.is_some());
    assert!(took <= 10 * SECOND, "{took:?}");
}

/// Between GSHUT and the withdraw packets still come: what carries them stays as long (as in `maintenance`). Who has no
/// session tells BIRD or FRR by its `export` route, at once.
#[test]
fn export_routes_carry_what_still_comes_during_the_moment() {
    let text = with(&announcing(""), "export = false", "export = true")
        + "[[instance]]\nname = \"c\"\nrequire = { checks = [\"uplink\"] }\n\
           [[instance.route]]\nto = \"203.0.115.0/24\"\ndev = \"lo\"\n";
    let mut rig = Rig::master(&text);
    let began = rig.now;
    stopped(&mut rig);
    assert_eq!(rig.when("delete route 203.0.115.0/24"), began);
    assert_eq!(rig.when(LOSES), began + 3 * SECOND);
    assert_eq!(rig.when("delete route 198.51.100.0/24"), began + 3 * SECOND);
    assert!(rig.when("run /stop") <= began + MS, "scripts need not wait");
    assert_eq!(rig.when("delete route 10.10.0.0/16"), began + 13 * SECOND, "the drain is after the withdraw");
    assert!(rig.kernel.objects.is_empty());
    // Once it is gone it stays gone: a crash in that moment resumes nothing.
    let mut rig = Rig::master(&text);
    rig.tell(Event::Terminate);
    rig.run(SECOND);
    assert!(rig.kernel.has(EXPORT));
    let mut next = rig.crash(&text, SECOND, true);
    next.run(MS * 10);
    assert!(!next.kernel.has(EXPORT), "{:?}", next.kernel.all());
}
