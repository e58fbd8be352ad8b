//! BFD's news in the core: verdicts of checks, witnesses, reload. (SPEC 4, "Checks"; RFC 5882.)

use std::time::Duration;

use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State as Role;
use announcerd::bfd::{Change, Diagnostic, Fault, News, SessionId, State};

use crate::fake::{MS, SECOND, Target};
use crate::rig::{Rig, with};

const PAIR: &str = r#"
[[check]]
name = "primary"
type = "bfd"
host = "198.18.0.1"
multihop = true
interval = "200ms"
multiplier = 5
[[check]]
name = "gateway"
type = "bfd"
host = "203.0.113.1"
[[instance]]
name = "a"
primary = { checks = ["primary"] }
require = { checks = ["gateway"] }
failback_delay = "5s"
[[instance.address]]
address = "172.16.1.1/24"
dev = "lo"
"#;

impl Rig {
    fn bfd_session(&self, host: &str) -> SessionId {
        let list = self.bfd.last().expect("sessions");
        list.iter().find(|(_, s)| s.path.remote.to_string() == host).expect(host).0
    }

    fn bfd(&mut self, host: &str, state: State, remote_state: State, own_fault: Option<Fault>) {
        let change = Change {
            state,
            remote_state,
            diagnostic: Diagnostic::NONE,
            reason: "silence for 1000.1 ms (detection time 1000.0 ms)".into(),
            own_fault,
            at: self.now,
        };
        let id = self.bfd_session(host);
        self.tell(Event::Bfd { id, news: News::Changed(change) });
    }

    fn up(&mut self, host: &str) {
        self.bfd(host, State::Up, State::Up, None);
    }

    fn verified(&mut self, host: &str) {
        let (id, since) = (self.bfd_session(host), self.now);
        self.tell(Event::Bfd { id, news: News::Verified { since } });
    }
}

const PRIMARY: &str = "198.18.0.1";
const GATEWAY: &str = "203.0.113.1";

fn backup() -> Rig {
    let mut rig = Rig::new(PAIR);
    rig.run(10 * MS);
    rig.up(PRIMARY);
    rig.up(GATEWAY);
    rig.until_state("a", Role::Backup, SECOND);
    rig.run(10 * SECOND);
    rig
}

/// Down at once at the detection; and a takeover as soon as the gateway has answered a Poll that was sent after it.
#[test]
fn detection_is_the_verdict_and_a_poll_is_the_witness() {
    let mut rig = backup();
    rig.run(10 * SECOND);
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    assert_eq!(rig.verdict("primary"), "down");
    assert_eq!(rig.state("a"), Role::Backup, "the gateway was last seen before the primary's death");
    assert_eq!(rig.asked, [rig.bfd_session(GATEWAY)]);
    rig.run(100 * MS);
    rig.verified(GATEWAY);
    assert_eq!(rig.state("a"), Role::Master);
    let error = rig.check("primary").last_error.unwrap();
    assert!(error.contains("detection time 1000.0 ms"), "{error}");
    rig.up(PRIMARY);
    rig.until_state("a", Role::Backup, 6 * SECOND);
}

/// FIELD 8: cut off ourselves, both sessions die: no takeover.
#[test]
fn nobody_who_is_cut_off_takes_over() {
    let mut rig = backup();
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.run(300 * MS);
    rig.bfd(GATEWAY, State::Down, State::Down, None);
    rig.run(60 * SECOND);
    assert_eq!(rig.state("a"), Role::Fault);
    assert!(!rig.states("a").contains(&Role::Master), "{:?}", rig.records);
}

/// FIELD 8, on the way back: the line returns, and the gateway's session with it; the primary's has yet to shake hands
/// (RFC 5880 section 6.8.3: a packet a second), and that is no death.
#[test]
fn nobody_who_was_cut_off_for_long_takes_over_when_it_is_back() {
    let cut_off = || {
        let mut rig = backup();
        rig.bfd(PRIMARY, State::Down, State::Down, None);
        rig.run(300 * MS);
        rig.bfd(GATEWAY, State::Down, State::Down, None);
        rig.run(60 * SECOND);
        assert_eq!(rig.state("a"), Role::Fault);
        rig.up(GATEWAY);
        rig.verified(GATEWAY);
        assert_eq!(rig.state("a"), Role::Backup);
        rig
    };
    let mut rig = cut_off();
    rig.run(2500 * MS);
    rig.verified(GATEWAY);
    rig.run(500 * MS);
    assert!(rig.instance("a").reason.contains("a handshake's time"), "{}", rig.instance("a").reason);
    rig.up(PRIMARY);
    rig.run(60 * SECOND);
    assert!(!rig.states("a").contains(&Role::Master), "{:?}", rig.records);

    // It really is dead: it has a handshake's time and a detection time, and no timer of anybody else's is needed.
    let mut rig = cut_off();
    assert_eq!(rig.until_state("a", Role::Master, 60 * SECOND), 4 * SECOND);
}

/// The same primary, and the uplink's ping as the witness.
fn pinged() -> String {
    let ping = "name = \"gateway\"\ntype = \"ping\"\nhost = \"203.0.113.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3\nrise = 2";
    with(PAIR, "name = \"gateway\"\ntype = \"bfd\"\nhost = \"203.0.113.1\"", ping)
}

/// In BACKUP, and cut off for so long; the primary's session goes down `detected` after the cut.
fn cut_for(phase: Duration, cut: Duration, detected: Duration) -> Rig {
    let mut rig = Rig::new(&pinged());
    rig.run(10 * MS);
    rig.up(PRIMARY);
    rig.until_state("a", Role::Backup, SECOND);
    rig.run(10 * SECOND + phase);
    rig.set("gateway", Target::Silent);
    rig.run(detected);
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.run(cut - detected);
    rig.set("gateway", Target::Answers(10 * MS));
    rig
}

/// A short cut, of which nothing but the primary's session and a probe or two know: the first answer after it is no
/// witness of a death.
#[test]
fn nobody_who_was_cut_off_for_a_moment_takes_over() {
    for phase in (0..10).map(|n| 100 * MS * n) {
        for (cut, detected) in [(850, 800), (1200, 1000), (1500, 900), (1900, 900), (2400, 1000)] {
            let (cut, detected) = (MS * cut, MS * detected);
            let mut rig = cut_for(phase, cut, detected);
            rig.run(2900 * MS);
            rig.up(PRIMARY);
            rig.run(60 * SECOND);
            let took_over = rig.states("a").contains(&Role::Master);
            assert!(!took_over, "cut for {cut:?}, {phase:?} after the probe: {:?}", rig.records);
            // And if it is dead, no longer than that: the first answer, and its time.
            let mut rig = cut_for(phase, cut, detected);
            let took = rig.until_state("a", Role::Master, 60 * SECOND);
            assert!(took >= 4 * SECOND && took <= 7 * SECOND, "{took:?}, cut for {cut:?}, {phase:?}");
        }
    }
}

/// Cut off again while the session still has its time: it has all of it again.
#[test]
fn two_cuts_are_no_death() {
    let mut rig = cut_for(Duration::ZERO, 1500 * MS, 900 * MS);
    rig.run(2 * SECOND);
    rig.set("gateway", Target::Silent);
    rig.run(2200 * MS);
    rig.set("gateway", Target::Answers(10 * MS));
    rig.run(2900 * MS);
    rig.up(PRIMARY);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [Role::Backup]);
}

/// Where nothing that is required had any trouble the detection is the verdict: the takeover waits for one answer.
#[test]
fn a_death_without_a_cut_is_taken_over_at_once() {
    for phase in (0..10).map(|n| 100 * MS * n) {
        let mut rig = Rig::new(&pinged());
        rig.run(10 * MS);
        rig.up(PRIMARY);
        rig.run(10 * SECOND + phase);
        rig.bfd(PRIMARY, State::Down, State::Down, None);
        assert_eq!(rig.until_state("a", Role::Master, SECOND), 10 * MS);
    }
}

/// A session that is required is asked again where another check had trouble after its answer: it answers only when it is
/// asked, and the takeover waited for ever.
#[test]
fn a_required_session_is_asked_as_often_as_it_takes() {
    let more = "[[check]]\nname = \"router\"\ntype = \"ping\"\nhost = \"203.0.113.9\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3\nrise = 2\n[[instance]]";
    let text = with(PAIR, "[[instance]]", more);
    let mut rig = Rig::new(&with(&text, "checks = [\"gateway\"]", "checks = [\"gateway\", \"router\"]"));
    rig.run(10 * MS);
    rig.up(PRIMARY);
    rig.up(GATEWAY);
    rig.until_state("a", Role::Backup, 5 * SECOND);
    rig.run(10 * SECOND);
    // Two probes of the router are lost, one before the session's silence has become its death and one after.
    rig.set("router", Target::Silent);
    rig.run(1100 * MS);
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.verified(GATEWAY);
    // That question is answered.
    rig.asked.clear();
    rig.run(SECOND);
    rig.set("router", Target::Answers(10 * MS));
    let start = rig.now;
    while rig.state("a") != Role::Master {
        assert!(rig.now.since(start) < 20 * SECOND, "{}", rig.instance("a").reason);
        // The gateway answers whatever it is asked.
        if !std::mem::take(&mut rig.asked).is_empty() {
            rig.verified(GATEWAY);
        }
        rig.run(50 * MS);
    }
    assert_eq!(rig.verdict("router"), "up");
}

/// One of several required checks that is down for days slows nothing where the others are enough.
#[test]
fn who_is_not_needed_slows_no_takeover() {
    let more = "[[check]]\nname = \"spare\"\ntype = \"ping\"\nhost = \"203.0.113.9\"\ninterval = \"1s\"\n[[instance]]";
    let text = with(&pinged(), "[[instance]]", more);
    let any = "checks = [\"gateway\", \"spare\"], up_when = \"any\"";
    let mut rig = Rig::new(&with(&text, "checks = [\"gateway\"]", any));
    rig.set("spare", Target::Silent);
    rig.run(10 * MS);
    rig.up(PRIMARY);
    rig.run(20 * SECOND);
    assert_eq!((rig.verdict("spare").as_str(), rig.state("a")), ("down", Role::Backup));
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    assert_eq!(rig.until_state("a", Role::Master, SECOND), 10 * MS);
}

/// A gateway that is asked by a Poll and is slow to answer may have been asked over a line that was cut.
#[test]
fn a_late_answer_is_no_first_answer() {
    let mut rig = backup();
    rig.run(10 * SECOND);
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.run(700 * MS);
    rig.verified(GATEWAY);
    assert_eq!(rig.state("a"), Role::Backup);
    rig.run(3 * SECOND);
    rig.up(PRIMARY);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [Role::Backup]);
}

/// SPEC: "In MASTER, after FAULT by `require`, the first recovery counts at once": its primary was dead before.
#[test]
fn a_master_comes_back_out_of_fault_at_once() {
    let mut rig = backup();
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.verified(GATEWAY);
    assert_eq!(rig.state("a"), Role::Master);
    rig.run(10 * SECOND);
    rig.bfd(GATEWAY, State::Down, State::Down, None);
    rig.run(10 * SECOND);
    assert_eq!(rig.state("a"), Role::Fault);
    rig.up(GATEWAY);
    assert_eq!(rig.state("a"), Role::Master);
}

/// RFC 5882 section 3.2: AdminDown is no failure: unknown, and unknown it stays.
#[test]
fn admin_down_at_the_neighbour_is_unknown() {
    let mut rig = backup();
    rig.bfd(PRIMARY, State::Down, State::AdminDown, None);
    assert_eq!(rig.verdict("primary"), "unknown");
    rig.run(600 * SECOND);
    assert_eq!((rig.verdict("primary").as_str(), rig.state("a")), ("unknown", Role::Backup));
    // Back in Down it has a handshake's time.
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.run(3 * SECOND);
    assert_eq!(rig.verdict("primary"), "unknown");
    rig.run(2 * SECOND);
    assert_eq!(rig.verdict("primary"), "down");
}

/// AdminDown once said excuses no silence after it, however the neighbour tries and fails to come back.
#[test]
fn after_admin_down_a_session_that_does_not_come_back_is_down() {
    let mut rig = backup();
    rig.bfd(PRIMARY, State::Down, State::AdminDown, None);
    rig.run(60 * SECOND);
    rig.bfd(PRIMARY, State::Init, State::Down, None);
    rig.run(3 * SECOND);
    assert_eq!(rig.verdict("primary"), "unknown", "it has a handshake's time");
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    rig.run(1500 * MS);
    assert_eq!(rig.verdict("primary"), "down", "once, however often it tries");
}

/// News are condensed when the queue is full: a Down between Up and Init is one all the same.
#[test]
fn up_and_then_init_was_down_in_between() {
    let mut rig = backup();
    rig.bfd(PRIMARY, State::Init, State::Down, None);
    assert_eq!(rig.verdict("primary"), "down");
}

/// The unknown of a `require` holds as long as a session may take to come back.
#[test]
fn a_master_waits_for_its_gateway_to_come_back() {
    let pause = Some(Fault::Absent("announcerd did not run for 5s".into()));
    for (remote_state, fault) in [(State::Down, pause), (State::AdminDown, None)] {
        let mut rig = backup();
        rig.bfd(PRIMARY, State::Down, State::Down, None);
        rig.verified(GATEWAY);
        assert_eq!(rig.state("a"), Role::Master);
        rig.bfd(GATEWAY, State::Down, remote_state, fault);
        rig.run(3 * SECOND);
        assert_eq!((rig.verdict("gateway").as_str(), rig.state("a")), ("unknown", Role::Master));
        rig.run(2 * SECOND);
        assert_eq!(rig.state("a"), Role::Fault, "not for ever");
    }
}

/// A check that a reload adds to a session that is Up is up, but it has not seen its neighbour now.
#[test]
fn a_reload_is_no_witness() {
    let mut rig = backup();
    rig.run(10 * SECOND);
    rig.bfd(PRIMARY, State::Down, State::Down, None);
    let renamed = with(PAIR, "name = \"gateway\"", "name = \"router\"");
    rig.reload(&with(&renamed, "checks = [\"gateway\"]", "checks = [\"router\"]"));
    rig.run(SECOND);
    assert_eq!((rig.verdict("router").as_str(), rig.state("a")), ("up", Role::Backup));
    rig.verified(GATEWAY);
    // What is new has not been seen to be well all the time.
    assert_eq!(rig.until_state("a", Role::Master, 10 * SECOND), 4 * SECOND);
}

/// FIELD 9: who slept knows nothing of others, unless they do not come back.
#[test]
fn our_own_fault_is_unknown_for_a_while() {
    let faults = [
        Fault::Absent("announcerd did not run for 5s".into()),
        Fault::Deaf("no room".into()),
        Fault::Mute("no route".into()),
    ];
    for fault in faults {
        let mut rig = backup();
        rig.bfd(PRIMARY, State::Down, State::Down, Some(fault.clone()));
        assert_eq!(rig.verdict("primary"), "unknown");
        assert!(rig.check("primary").last_error.unwrap().contains(&fault.to_string()));
        rig.run(2 * SECOND);
        rig.up(PRIMARY);
        assert_eq!(rig.verdict("primary"), "up");

        rig.bfd(PRIMARY, State::Down, State::Down, Some(fault));
        rig.run(5 * SECOND);
        assert_eq!(rig.verdict("primary"), "down", "it had its time");
    }
}

/// A neighbour that was never there is down after a handshake's time and a detection time; trouble of ours is not.
#[test]
fn who_never_answers_is_down_in_the_end() {
    let mut rig = Rig::new(PAIR);
    let trouble = |rig: &mut Rig, why: Option<&str>| {
        let id = rig.bfd_session(GATEWAY);
        rig.tell(Event::Bfd { id, news: News::Trouble(why.map(str::to_owned)) });
    };
    rig.run(10 * MS);
    trouble(&mut rig, Some("UDP port 3784 is in use"));
    rig.run(3900 * MS);
    assert_eq!(rig.verdict("primary"), "unknown");
    rig.run(200 * MS);
    assert_eq!(rig.verdict("primary"), "down");
    rig.run(60 * SECOND);
    assert_eq!(rig.verdict("gateway"), "unknown");
    assert_eq!(rig.check("gateway").last_error.as_deref(), Some("UDP port 3784 is in use"));
    trouble(&mut rig, None);
    rig.run(4 * SECOND);
    assert_eq!(rig.verdict("gateway"), "down");
}

/// "What did not change is not disturbed"; another interval keeps the session, another path is another session.
#[test]
fn a_reload_keeps_sessions() {
    let mut rig = backup();
    let (primary, gateway) = (rig.bfd_session(PRIMARY), rig.bfd_session(GATEWAY));
    let count = rig.bfd.len();
    rig.reload(&with(PAIR, "failback_delay = \"5s\"", "failback_delay = \"6s\""));
    assert_eq!(rig.bfd.len(), count, "nothing was said of BFD");

    rig.reload(&with(PAIR, "interval = \"200ms\"", "interval = \"500ms\""));
    assert_eq!((rig.bfd_session(PRIMARY), rig.bfd_session(GATEWAY)), (primary, gateway));
    let list = rig.bfd.last().unwrap();
    assert!(list.iter().any(|(_, s)| s.interval == Duration::from_millis(500)));
    assert_eq!((rig.verdict("primary").as_str(), rig.state("a")), ("up", Role::Backup));

    rig.reload(&with(PAIR, "host = \"198.18.0.1\"", "host = \"198.18.0.9\""));
    assert_ne!(rig.bfd_session("198.18.0.9"), primary);
    assert_eq!(rig.verdict("primary"), "unknown");
    rig.tell(Event::Bfd { id: primary, news: News::Trouble(Some("old news".into())) });
    assert_eq!(rig.status().bfd.len(), 2);
}

const HOPS: &str = r#"
[[check]]
name = "gw1"
type = "bfd"
host = "192.0.2.1"
[[check]]
name = "gw2"
type = "bfd"
host = "192.0.2.129"
[[instance]]
name = "a"
[[instance.route]]
to = "default"
nexthops = [ { via = "192.0.2.1", dev = "eth0", check = "gw1" }, { via = "192.0.2.129", dev = "eth1", check = "gw2" } ]
when = "always"
"#;

/// RFC 5882 section 3.2: AdminDown "does not imply any connectivity loss": a next hop is kept for as long as it is said.
#[test]
fn a_gateway_in_admin_down_is_not_given_up() {
    let mut rig = Rig::new(HOPS);
    rig.set_link("eth1", true);
    rig.run(SECOND);
    rig.up("192.0.2.1");
    rig.up("192.0.2.129");
    rig.run(SECOND);
    assert_eq!(rig.kernel.all(), ["route 0.0.0.0/0 via 192.0.2.1 dev eth0"]);
    rig.bfd("192.0.2.1", State::Down, State::AdminDown, None);
    rig.run(600 * SECOND);
    assert_eq!(rig.kernel.all(), ["route 0.0.0.0/0 via 192.0.2.1 dev eth0"]);
    // Silence after it is another matter.
    rig.bfd("192.0.2.1", State::Down, State::Down, None);
    rig.until("the second", 5 * SECOND, |r| r.kernel.has("via 192.0.2.129"));
}

/// SPEC 4: "our own link down … counts as neither": as of a ping nothing is known, however long it lasts.
#[test]
fn our_own_link_is_nobodys_death() {
    let mut rig = backup();
    let id = rig.bfd_session(PRIMARY);
    let why = "our own link eth0 has no carrier";
    rig.tell(Event::Bfd { id, news: News::Trouble(Some(why.into())) });
    rig.bfd(PRIMARY, State::Down, State::Down, Some(Fault::Mute(why.into())));
    rig.run(600 * SECOND);
    assert_eq!((rig.verdict("primary").as_str(), rig.state("a")), ("unknown", Role::Backup));
    assert_eq!(rig.check("primary").last_error.as_deref(), Some(why));
    rig.tell(Event::Bfd { id, news: News::Trouble(None) });
    rig.up(PRIMARY);
    assert_eq!(rig.verdict("primary"), "up");
    assert!(!rig.states("a").contains(&Role::Master), "{:?}", rig.records);
}
