//! A BGP session with `bfd = { … }`: what BFD's news do to it. (SPEC 4, "BGP"; RFC 5882, RFC 9384.)

use announcerd::announcer::Event;
use announcerd::bfd::{Change, Diagnostic, Fault, News, SessionId, State};

use crate::bgp::{HEARS, announcing, heard};
use crate::fake::{SECOND, Target};
use crate::rig::{Rig, with};

const CLOSED: &str = "isp-a closed, Cease/BFD Down";

fn guarded(bfd: &str) -> String {
    with(&announcing(""), "peer_as = 64500", &format!("peer_as = 64500\nbfd = {bfd}"))
}

fn bfd(rig: &mut Rig, state: State, remote_state: State, own_fault: Option<Fault>) {
    let id: SessionId = rig.bfd.last().expect("sessions").last().expect("a session").0;
    let change = Change {
        state,
        remote_state,
        diagnostic: Diagnostic::NONE,
        reason: "as the test says".into(),
        own_fault,
        at: rig.now,
    };
    rig.tell(Event::Bfd { id, news: News::Changed(change) });
}

fn up(rig: &mut Rig) {
    bfd(rig, State::Up, State::Up, None);
}

fn down(rig: &mut Rig) {
    bfd(rig, State::Down, State::Down, None);
}

fn admin_down(rig: &mut Rig) {
    bfd(rig, State::Down, State::AdminDown, None);
}

fn session(rig: &Rig) -> String {
    rig.status().bgp[0].state.clone()
}

/// Established, BFD Up, the prefix announced.
fn established() -> Rig {
    let mut rig = Rig::new(&guarded("{}"));
    up(&mut rig);
    rig.set("ping", Target::Silent);
    rig.until("the announcement", 20 * SECOND, |r| r.has_told(HEARS));
    rig.run(SECOND);
    rig.forget();
    rig
}

/// RFC 5882 section 3.2: "AdminDown … does not imply any connectivity loss", and section 4.2: it does not take the session
/// with it. When the neighbour's operator wants BFD again, its Down on the way there is no loss either; silence after it
/// has been Up is.
#[test]
fn admin_down_at_the_neighbour_leaves_the_session() {
    let mut rig = established();
    admin_down(&mut rig);
    rig.run(600 * SECOND);
    down(&mut rig);
    rig.run(600 * SECOND);
    up(&mut rig);
    rig.run(SECOND);
    assert_eq!((session(&rig).as_str(), heard(&rig)), ("Established", vec![]));
    // RFC 9384: at once.
    down(&mut rig);
    assert_eq!(heard(&rig), [CLOSED]);
    assert_eq!(rig.when(CLOSED), rig.now);
}

/// FIELD 9: that we did not run, or could not hear, is not the peer's loss, if BFD comes back in its time. Packets of ours
/// that do not leave are: the path is of no use.
#[test]
fn our_own_absence_leaves_the_session() {
    for fault in [Fault::Absent("announcerd did not run for 5s".into()), Fault::Deaf("no room".into())] {
        let lose = |rig: &mut Rig| bfd(rig, State::Down, State::Down, Some(fault.clone()));
        let mut rig = established();
        lose(&mut rig);
        rig.run(2 * SECOND);
        up(&mut rig);
        rig.run(600 * SECOND);
        assert_eq!((session(&rig).as_str(), heard(&rig)), ("Established", vec![]), "{fault:?}");
        // The pardon was for that time: this one is nobody's fault but the neighbour's.
        down(&mut rig);
        assert_eq!(heard(&rig), [CLOSED], "{fault:?}");

        // It does not come back.
        let mut rig = established();
        lose(&mut rig);
        let took = rig.until("the end", 10 * SECOND, |r| r.has_told(CLOSED));
        assert!(took > 2 * SECOND, "{took:?}, {fault:?}");

        // It does not come back since the neighbour's operator does not want it to.
        let mut rig = established();
        lose(&mut rig);
        rig.run(SECOND);
        admin_down(&mut rig);
        rig.run(10 * SECOND);
        down(&mut rig);
        rig.run(600 * SECOND);
        assert_eq!((session(&rig).as_str(), heard(&rig)), ("Established", vec![]), "{fault:?}");
    }
    let mut rig = established();
    bfd(&mut rig, State::Down, State::Down, Some(Fault::Mute("no route".into())));
    assert_eq!(heard(&rig), [CLOSED]);
}

/// Strict mode: a session waits for BFD, but not for one that the neighbour's operator does not want. Once he wants it again the
/// next session waits, and this one stays.
#[test]
fn admin_down_lets_a_strict_session_begin() {
    let mut rig = Rig::new(&guarded("{ strict = true }"));
    rig.until("our wait", 10 * SECOND, |r| session(r) == "OpenConfirm");
    rig.run(5 * SECOND);
    assert_eq!(session(&rig), "OpenConfirm");
    admin_down(&mut rig);
    rig.until("the session", SECOND, |r| session(r) == "Established");
    down(&mut rig);
    rig.run(600 * SECOND);
    assert_eq!(session(&rig), "Established");

    let (peer, event) = rig.far.breaks("isp-a");
    rig.tell(Event::Bgp { peer, event });
    rig.until("our wait", 20 * SECOND, |r| session(r) == "OpenConfirm");
    rig.run(5 * SECOND);
    assert_eq!(session(&rig), "OpenConfirm", "BFD is wanted again");
    admin_down(&mut rig);
    rig.until("the session", SECOND, |r| session(r) == "Established");
}

/// The same of a peer that a reload brings, where a check has told of AdminDown before.
#[test]
fn a_strict_session_that_a_reload_brings_knows_of_admin_down() {
    let check = "[[check]]\nname = \"router\"\ntype = \"bfd\"\nhost = \"203.0.113.1\"\n[[instance]]";
    let other = with(
        &with(&announcing(""), "[[instance]]", check),
        "peer = \"203.0.113.1\"",
        "peer = \"203.0.113.9\"",
    );
    let strict = with(&guarded("{ strict = true }"), "[[instance]]", check);
    for says_admin_down in [true, false] {
        let mut rig = Rig::new(&other);
        rig.run(SECOND);
        if says_admin_down {
            admin_down(&mut rig);
        }
        rig.reload(&strict);
        rig.run(10 * SECOND);
        let expected = if says_admin_down { "Established" } else { "OpenConfirm" };
        assert_eq!(session(&rig), expected);
    }
}
