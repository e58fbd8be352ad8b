//! BFD packets that come and are refused: what an operator is told of them. (SPEC 4, "Checks".)

use announcerd::announcer::event::Event;
use announcerd::bfd::wire::Discard;
use announcerd::bfd::{Change, Diagnostic, News, SessionId, State};

use crate::fake::{MS, SECOND};
use crate::rig::Rig;

const CHECK: &str = r#"
[[check]]
name = "gateway"
type = "bfd"
host = "203.0.113.1"
[[instance]]
name = "a"
primary = { checks = ["gateway"] }
"#;

fn tell(rig: &mut Rig, news: News) {
    let id: SessionId = rig.bfd.last().expect("sessions")[0].0;
    rig.tell(Event::Bfd { id, news });
}

fn is(rig: &mut Rig, state: State, reason: &str) {
    let change = Change {
        state,
        remote_state: state,
        diagnostic: Diagnostic::NONE,
        reason: reason.into(),
        own_fault: None,
        at: rig.now,
    };
    tell(rig, News::Changed(change));
}

fn refused(rig: &mut Rig, why: Discard) {
    tell(rig, News::Refused(why));
}

/// What the status says of the session, and of the check.
fn words(rig: &Rig) -> (String, String) {
    let reason = rig.status().bfd[0].reason.clone();
    (reason, rig.check("gateway").last_error.unwrap_or_default())
}

fn lines(rig: &Rig) -> usize {
    rig.logs.iter().filter(|l| l.starts_with("BFD with") && l.contains("are refused")).count()
}

/// A wrong key from the start: "nothing was heard" would send people to the network.
#[test]
fn a_wrong_key_is_not_silence() {
    let mut rig = Rig::new(CHECK);
    rig.run(10 * MS);
    assert_eq!(words(&rig).0, "nothing was heard yet");
    refused(&mut rig, Discard::Auth);
    let expected = format!("packets come, and are refused: {}", Discard::Auth);
    assert_eq!(words(&rig).0, expected);
    assert_eq!(rig.verdict("gateway"), "unknown", "it has its time all the same");
    rig.run(10 * SECOND);
    assert_eq!(rig.verdict("gateway"), "down");
    assert_eq!(words(&rig).1, format!("no session: {expected}"));
    // The neighbour's operator tries something else.
    refused(&mut rig, Discard::MissingAuth);
    assert!(words(&rig).0.ends_with("are refused: not authenticated"), "{:?}", words(&rig));
    assert!(words(&rig).1.ends_with("are refused: not authenticated"), "{:?}", words(&rig));
    assert_eq!(lines(&rig), 1, "a line until it has been Up: {:?}", rig.logs);
}

/// A neighbour that comes after the verdict, and one whose key changes while the session is Up.
#[test]
fn a_key_that_changes_is_told_once_each_time() {
    let mut rig = Rig::new(CHECK);
    rig.run(10 * SECOND);
    assert_eq!(words(&rig).1, "no session: nothing was heard yet");
    refused(&mut rig, Discard::UnexpectedAuth);
    assert!(words(&rig).1.contains("but no authentication is configured"), "{:?}", words(&rig));
    for n in 2..4 {
        is(&mut rig, State::Up, "both ends hear each other");
        assert!(!words(&rig).0.contains("refused"));
        // News that are out of their order.
        refused(&mut rig, Discard::Auth);
        assert_eq!((lines(&rig), rig.verdict("gateway").as_str()), (n - 1, "up"));
        is(&mut rig, State::Down, "silence for 900.1 ms");
        assert_eq!(words(&rig), ("silence for 900.1 ms".into(), "silence for 900.1 ms".into()));
        refused(&mut rig, Discard::Auth);
        refused(&mut rig, Discard::Auth);
        let reason =
            format!("silence for 900.1 ms; packets come since then, and are refused: {}", Discard::Auth);
        assert_eq!(words(&rig), (reason.clone(), format!("no session: {reason}")));
        assert_eq!(lines(&rig), n, "{:?}", rig.logs);
    }
}
