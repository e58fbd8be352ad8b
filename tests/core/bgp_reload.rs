//! SPEC 4, "Reload", where a peer's own configuration changed: its session begins anew, and nothing else.

use announcerd::announcer::Event;
use announcerd::announcer::journal::State;
use announcerd::bfd::{Change, Diagnostic, News, SessionId, State as Bfd};

use crate::bgp::{HEARS, SESSION_CHECK, announcing, heard};
use crate::fake::{SECOND, Target};
use crate::rig::{Rig, with};

/// MASTER, and the session is what it requires, besides the uplink.
fn requiring() -> String {
    let text = with(
        &announcing(""),
        "require = { checks = [\"uplink\"] }",
        "require = { checks = [\"uplink\", \"session\"] }",
    );
    with(&text, "[[instance]]", &format!("{SESSION_CHECK}[[instance]]"))
}

fn other_hold_time(text: &str) -> String {
    with(text, "peer_as = 64500", "peer_as = 64500\nhold_time = \"30s\"")
}

/// "What did not change is not disturbed": a session that a reload resets is no failure of the peer's. Its check knows nothing
/// for the moment: "`unknown` … as MASTER becomes FAULT after that check's fall time", and not before.
#[test]
fn a_session_that_a_reload_resets_is_not_down() {
    let text = requiring();
    let mut rig = Rig::master(&text);
    rig.reload(&other_hold_time(&text));
    assert_eq!(rig.verdict("session"), "unknown");
    rig.until("the new session", 10 * SECOND, |r| r.has_told(HEARS));
    rig.run(60 * SECOND);
    assert_eq!((rig.states("a"), rig.state("a")), (vec![], State::Master), "{:?}", rig.told());
    assert_eq!(rig.verdict("session"), "up");
    assert!(!rig.has_told("delete"), "{:?}", rig.told());
}

/// A first try that the peer refuses, since it has not forgotten the old session yet, says no more than that.
#[test]
fn a_first_refusal_after_a_reset_is_not_down_either() {
    let text = requiring();
    let mut rig = Rig::master(&text);
    rig.far.silent = true;
    rig.reload(&other_hold_time(&text));
    rig.run(SECOND);
    rig.far.silent = false;
    assert_eq!(
        (rig.verdict("session"), rig.state("a")),
        ("unknown".into(), State::Master),
        "{:?}",
        rig.told()
    );
}

/// Where it does not come back the check's fall time decides, and a check of a primary in the end says down.
#[test]
fn a_session_that_does_not_come_back_is_fault_after_the_fall_time() {
    let text = requiring();
    let mut rig = Rig::master(&text);
    let reset = rig.now;
    rig.far.silent = true;
    rig.reload(&other_hold_time(&text));
    rig.until_state("a", State::Fault, 60 * SECOND);
    // The default of such a check: one failure of an interval, and its timeout.
    let took = rig.now.since(reset);
    assert!(took > SECOND && took < 3 * SECOND, "{took:?}");
    rig.until("the verdict", 120 * SECOND, |r| r.verdict("session") == "down");
}

fn bfd(rig: &mut Rig, state: Bfd) {
    let id: SessionId = rig.bfd.last().expect("sessions").last().expect("a session").0;
    let change = Change {
        state,
        remote_state: state,
        diagnostic: Diagnostic::NONE,
        reason: "as the test says".into(),
        own_fault: None,
        at: rig.now,
    };
    rig.tell(Event::Bfd { id, news: News::Changed(change) });
}

/// Strict mode: "No BGP session before BFD is up". That of another path was not up, whatever the old one's was.
#[test]
fn a_strict_session_waits_for_the_bfd_session_that_a_reload_brings() {
    let strict = |more: &str| {
        let bfd = format!("peer_as = 64500\nmultihop = 3\nbfd = {{ strict = true{more} }}");
        with(&announcing(""), "peer_as = 64500", &bfd)
    };
    let mut rig = Rig::new(&strict(""));
    bfd(&mut rig, Bfd::Up);
    rig.until("the session", 10 * SECOND, |r| r.status().bgp[0].state == "Established");
    rig.set("ping", Target::Silent);
    rig.until("the announcement", 20 * SECOND, |r| r.has_told(HEARS));
    rig.run(SECOND);
    rig.forget();
    rig.reload(&strict(", multihop = false"));
    rig.run(10 * SECOND);
    assert_eq!(heard(&rig), [""; 0], "the session that is up stays");
    let (peer, event) = rig.far.breaks("isp-a");
    rig.tell(Event::Bgp { peer, event });
    rig.until("the new session's OPEN", 20 * SECOND, |r| r.status().bgp[0].state == "OpenConfirm");
    rig.run(10 * SECOND);
    assert!(!rig.has_told(HEARS), "{:?}", rig.told());
    bfd(&mut rig, Bfd::Up);
    rig.until("the session", 40 * SECOND, |r| r.has_told(HEARS));
}
