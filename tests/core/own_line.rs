//! What our own line does is no death of the primary's, however it falls together with other things (FIELD 8).

use announcerd::announcer::event::{Command, Event};
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::far::Away;
use crate::rig::{Rig, STANDBY, standby, with};

/// Everything that we can reach, or nothing.
fn cut(rig: &mut Rig, on: bool) {
    let target = if on { Target::Silent } else { Target::Answers(10 * MS) };
    rig.far.silent = on;
    rig.set("ping", target.clone());
    rig.set("uplink", target);
}

/// A witness that falls late, so that `require` stays met.
const PATIENT: &str = "host = \"203.0.113.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 30";

fn patient(text: &str) -> String {
    with(text, "host = \"203.0.113.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3", PATIENT)
}

/// A drill has its own witness, which says nothing of a failure that comes later: neither while it holds nor on its way back.
#[test]
fn a_cut_during_a_drill_is_no_takeover() {
    for waits_for in ["holding", "handing back"] {
        let mut rig = Rig::settled(&patient(STANDBY));
        rig.command(Command::Drill { instance: "a".into(), hold: SECOND * 2 }).expect("a drill");
        rig.until(waits_for, 9 * SECOND, |r| r.drill.iter().any(|n| n.text.contains(waits_for)));
        cut(&mut rig, true);
        rig.until("down", 6 * SECOND, |r| r.verdict("ping") == "down");
        rig.run(2 * SECOND);
        cut(&mut rig, false);
        rig.until_state("a", State::Backup, 5 * SECOND);
        rig.run(120 * SECOND);
        assert_eq!(rig.states("a"), [State::Master, State::Backup], "{waits_for}: {:?}", rig.records);
        assert!(!rig.drill.iter().any(|n| n.text.contains("really is down")), "{:?}", rig.drill);
    }
}

/// A ping of the primary's, and a session to a router as what is required, alone or beside the uplink.
fn session_required(more: &str) -> String {
    let isp = "[[bgp]]\nname = \"isp\"\npeer = \"203.0.113.9\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"90s\"\n\
               [[check]]\nname = \"session\"\ntype = \"bgp\"\npeer = \"isp\"\n[[instance]]";
    let text = with(STANDBY, "name = \"hk-1\"", "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"");
    let text = with(&text, "[[instance]]", isp);
    with(&text, "checks = [\"uplink\"]", &format!("checks = [\"session\"{more}]"))
}

/// Beyond the gateway nothing answers: a session that says nothing when it is asked has not been heard of, though it will be
/// Established for a hold time.
#[test]
fn a_session_that_is_silent_is_not_heard_of() {
    for more in ["", ", \"uplink\""] {
        let mut rig = Rig::settled(&session_required(more));
        rig.run(60 * SECOND);
        rig.far.silent = true;
        rig.set("ping", Target::Silent);
        rig.run(30 * SECOND);
        assert_eq!((rig.states("a"), rig.verdict("session").as_str()), (vec![], "up"), "{:?}", rig.records);
        cut(&mut rig, false);
        rig.run(30 * SECOND);
        assert_eq!(rig.states("a"), [], "{:?}", rig.records);
        rig.set("ping", Target::Silent);
        let took = rig.until_state("a", State::Master, 20 * SECOND);
        assert!(took <= 5 * SECOND, "one that speaks is a witness: {took:?}");
    }
}

/// A lost packet, a sign of life, and then a cut of the line that is over when the last failure is known: the signs before and
/// after it do not bracket a moment, but a second and more.
#[test]
fn a_session_vouches_for_no_more_than_one_failure() {
    for length in (10..24).map(|n| 100 * MS * n) {
        let mut rig = Rig::settled(&session_required(""));
        rig.run(60 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("a failure", 2 * SECOND, |r| r.check("ping").failures == 1);
        rig.run(50 * MS);
        cut(&mut rig, true);
        rig.run(length);
        cut(&mut rig, false);
        rig.run(30 * SECOND);
        assert_eq!(rig.states("a"), [], "{length:?}: {:?}", rig.records);
    }
}

/// Seven failures of ten are our own, and are forgotten with the isolation: the next lost packet is the first.
#[test]
fn failures_of_our_isolation_are_in_no_window() {
    let fall = "host = \"198.18.0.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3";
    let window = fall.replace("fall = 3", "fall = { failures = 8, of = 10 }");
    let mut rig = Rig::settled(&with(STANDBY, fall, &window));
    rig.run(20 * SECOND);
    cut(&mut rig, true);
    rig.until("seven", 9 * SECOND, |r| r.check("ping").failures == 7);
    assert_eq!((rig.verdict("ping").as_str(), rig.state("a")), ("up", State::Fault));
    cut(&mut rig, false);
    rig.until_state("a", State::Backup, 5 * SECOND);
    assert_eq!(rig.verdict("ping"), "up", "it has answered");
    rig.set("ping", Target::Silent);
    rig.until("a loss", 2 * SECOND, |r| r.check("ping").failures > 0 && r.check("ping").last_error.is_some());
    rig.run(SECOND);
    cut(&mut rig, false);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault, State::Backup], "{:?}", rig.records);
}

/// The primary died, and came back while our own line was cut: its death was certain, and is not any more.
#[test]
fn a_death_is_not_certain_for_ever() {
    let uplink = "host = \"203.0.113.1\"\ninterval = \"1s\"";
    let slow =
        with(&standby("takeover_delay = \"20s\""), uplink, "host = \"203.0.113.1\"\ninterval = \"10s\"");
    for phase in (0..10).map(|n| 100 * MS * n) {
        let mut rig = Rig::new(&slow);
        rig.run(60 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("the delay", 9 * SECOND, |r| r.instance("a").pending.is_some());
        rig.run(12 * SECOND);
        cut(&mut rig, true);
        rig.run(10 * SECOND + phase);
        assert_eq!((rig.verdict("uplink").as_str(), rig.state("a")), ("up", State::Backup));
        cut(&mut rig, false);
        rig.run(60 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{phase:?}: {:?}", rig.records);
    }
    // Where it is still dead a lost witness costs no more than the next failure.
    let mut rig = Rig::new(&slow);
    rig.run(60 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until("the delay", 9 * SECOND, |r| r.instance("a").pending.is_some());
    rig.run(18 * SECOND);
    rig.set("uplink", Target::Silent);
    rig.run(SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 4 * SECOND);
}

/// Two go by one primary and one uplink, and one of them has announced already: it comes back from FAULT as a MASTER, whoever is
/// the first to leave it.
#[test]
fn who_knows_of_the_death_is_not_robbed_of_it() {
    let other = "[[instance]]\nname = \"b\"\nprimary = { checks = [\"ping\"] }\nrequire = { checks = [\"uplink\"] }\n";
    let mut rig = Rig::new(&format!("{}{other}", standby("takeover_delay = \"5m\"")));
    rig.run(20 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until_state("b", State::Master, 10 * SECOND);
    rig.forget();
    rig.set("uplink", Target::Silent);
    rig.until_state("b", State::Fault, 10 * SECOND);
    rig.run(5 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("b", State::Master, 5 * SECOND);
    assert_eq!(rig.states("b"), [State::Fault, State::Master], "{:?}", rig.records);
}

/// A reload resets the primary's session, and its router makes us wait after our Cease, as BIRD does: that is no death.
#[test]
fn a_reload_of_the_primarys_session_is_no_death() {
    let session = |hold: &str| {
        let router = format!(
            "[[bgp]]\nname = \"router\"\npeer = \"198.18.0.4\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"{hold}\"\nmultihop = 8\n\
             [[check]]\nname = \"session\"\ntype = \"bgp\"\npeer = \"router\"\n[[instance]]"
        );
        let text = with(STANDBY, "name = \"hk-1\"", "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"");
        with(&with(&text, "checks = [\"ping\"]", "checks = [\"session\"]"), "[[instance]]", &router)
    };
    let mut rig = Rig::new(&session("9s"));
    rig.run(120 * SECOND);
    assert_eq!(rig.verdict("session"), "up");
    rig.forget();
    rig.far.away = Some(Away::Closes);
    rig.reload(&session("12s"));
    rig.run(50 * SECOND);
    rig.far.away = None;
    rig.run(120 * SECOND);
    assert_eq!((rig.states("a"), rig.verdict("session").as_str()), (vec![], "up"), "{:?}", rig.records);
    rig.far.silent = true;
    rig.until_state("a", State::Master, 60 * SECOND);
}

/// Two checks of the primary's that fall one after the other, and a second witness that is not needed, and never answers.
#[test]
fn a_witness_that_is_not_needed_delays_nobody() {
    for broken in [Target::Blind, Target::Silent, Target::Refuses(MS)] {
        let checks = "[[check]]\nname = \"web\"\ntype = \"ping\"\nhost = \"198.18.0.2\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3\n\
                      [[check]]\nname = \"other\"\ntype = \"ping\"\nhost = \"203.0.113.9\"\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 30\n[[instance]]";
        for delay in [0, 5] {
            let text = with(&standby(&format!("takeover_delay = \"{delay}s\"")), "[[instance]]", checks);
            let text = with(&text, "checks = [\"ping\"]", "checks = [\"ping\", \"web\"]");
            let both = "checks = [\"uplink\", \"other\"], up_when = \"any\"";
            let mut rig = Rig::settled(&with(&text, "checks = [\"uplink\"]", both));
            rig.set("other", broken.clone());
            rig.run(2 * SECOND);
            rig.set("ping", Target::Silent);
            rig.set("web", Target::Silent);
            let took = rig.until_state("a", State::Master, 20 * SECOND);
            assert!(took <= SECOND * (5 + delay), "{broken:?}, {delay} s: {took:?}");
        }
    }
}

/// The primary dies during a drill, and what is required is asked seldom: the way back stops at what is known of the death.
#[test]
fn a_death_during_a_drill_is_known_on_its_way_back() {
    let uplink = "host = \"203.0.113.1\"\ninterval = \"1s\"";
    let text = with(STANDBY, uplink, "host = \"203.0.113.1\"\ninterval = \"10s\"");
    for phase in (0..10).map(|n| n * SECOND) {
        let mut rig = Rig::new(&text);
        rig.run(60 * SECOND + phase);
        rig.forget();
        rig.command(Command::Drill { instance: "a".into(), hold: SECOND * 50 }).expect("a drill");
        rig.until_state("a", State::Master, 5 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("the end", 90 * SECOND, |r| r.drill.iter().any(|n| n.done));
        assert_eq!(rig.states("a"), [State::Master], "{phase:?}: {:?}", rig.records);
        assert_eq!(rig.memory.instances["a"].state, State::Master);
    }
}

/// A MASTER is back at once though its required session, which was never lost, has yet to say a word.
#[test]
fn a_known_death_needs_no_fresh_word_of_a_session() {
    let mut rig = Rig::settled(&session_required(", \"uplink\""));
    rig.run(60 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(5 * SECOND);
    rig.forget();
    rig.far.silent = true;
    rig.set("uplink", Target::Silent);
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(10 * SECOND);
    // TCP sends what was lost again when its time has come.
    rig.set("uplink", Target::Answers(MS));
    rig.run(4 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault, State::Master], "{:?}", rig.records);
}

/// It may have no hold time, and then nothing is heard of it but the answer to a KEEPALIVE out of turn; and it may be asked once a
/// second only.
#[test]
fn a_session_that_may_not_be_asked_yet_is_asked_later() {
    for hold in ["90s", "0s"] {
        let text = with(
            &session_required(", \"uplink\""),
            "hold_time = \"90s\"",
            &format!("hold_time = \"{hold}\""),
        );
        let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
        let text = with(&with(&text, "[[instance]]", link), "checks = [\"ping\"]", "checks = [\"wire\"]");
        for phase in (0..20).map(|n| 50 * MS * n) {
            let mut rig = Rig::settled(&text);
            rig.run(31 * SECOND + phase);
            assert_eq!((rig.verdict("session").as_str(), rig.state("a")), ("up", State::Backup));
            rig.set_link("eth0", false);
            let took = rig.until_state("a", State::Master, 10 * SECOND);
            assert!(took <= SECOND + 10 * MS, "{hold}, {phase:?}: {took:?}");
        }
    }
}

/// Nor does a primary that is a link, whose state the kernel tells.
#[test]
fn a_link_that_is_known_to_be_down_needs_no_word_either() {
    let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
    let text = with(&standby("primary = { checks = [\"wire\"] }"), "[[instance]]", link);
    let mut rig = Rig::settled(&text);
    rig.set_link("eth0", false);
    rig.until_state("a", State::Master, SECOND);
    rig.run(5 * SECOND);
    rig.forget();
    rig.set("uplink", Target::Silent);
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(5 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.run(4 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault, State::Master], "{:?}", rig.records);
}

/// The primary is back before the line is, and has answered once when FAULT ends: that is known, whatever was known before.
#[test]
fn a_known_death_is_over_with_the_first_answer() {
    for phase in (0..20).map(|n| 50 * MS * n) {
        let mut rig = Rig::master(&with(STANDBY, "rise = 2\n[[instance]]", "rise = 1\n[[instance]]"));
        rig.run(10 * SECOND);
        rig.forget();
        cut(&mut rig, true);
        rig.until_state("a", State::Fault, 10 * SECOND);
        rig.run(5 * SECOND + phase);
        cut(&mut rig, false);
        let back = rig.now;
        rig.run(20 * SECOND);
        let answered = rig.sent("ping").into_iter().find(|t| *t > back).expect("a probe") + 10 * MS;
        if rig.has_told("a MASTER") {
            assert!(rig.when("a MASTER") <= answered, "{phase:?}: {:?}", rig.records);
        }
    }
}

/// A question to a required session that has to wait for its second is one all the same: an answer that is late then says that
/// the line was cut.
#[test]
fn a_question_that_waits_is_answered_late_all_the_same() {
    let router = "[[bgp]]\nname = \"router\"\npeer = \"198.18.0.4\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"9s\"\nmultihop = 8\n\
                  [[check]]\nname = \"primary\"\ntype = \"bgp\"\npeer = \"router\"\n[[instance]]";
    let text = with(&session_required(""), "[[instance]]", router);
    let text = with(&text, "checks = [\"ping\"]", "checks = [\"primary\"]");
    let text = with(&text, "hold_time = \"90s\"", "hold_time = \"9s\"");
    for phase in (0..60).map(|n| 50 * MS * n) {
        let mut rig = Rig::new(&text);
        rig.run(60 * SECOND + phase);
        assert_eq!((rig.verdict("primary").as_str(), rig.state("a")), ("up", State::Backup));
        rig.forget();
        cut(&mut rig, true);
        rig.run(800 * MS);
        let (peer, event) = rig.far.breaks("router");
        rig.tell(Event::Bgp { peer, event });
        rig.run(4 * SECOND);
        cut(&mut rig, false);
        rig.run(60 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{phase:?}: {:?}", rig.records);
    }
}

/// The same while the delay runs, and with nothing but a session to ask.
#[test]
fn a_session_that_was_silent_shakes_what_was_certain() {
    let text = with(&session_required(""), "name = \"a\"", "name = \"a\"\ntakeover_delay = \"20s\"");
    for phase in (0..40).map(|n| 50 * MS * n) {
        let mut rig = Rig::settled(&text);
        rig.run(60 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("the delay", 9 * SECOND, |r| r.instance("a").pending.is_some());
        rig.run(14 * SECOND);
        cut(&mut rig, true);
        rig.run(10 * SECOND + phase);
        cut(&mut rig, false);
        rig.run(60 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{phase:?}: {:?}", rig.records);
    }
}

/// RFC 4271 section 4.4: "If the negotiated Hold Time interval is zero, then periodic KEEPALIVE messages MUST NOT be sent."
#[test]
fn no_keepalives_in_calm_times_where_there_is_no_hold_time() {
    for (hold, some) in [("0s", false), ("90s", true)] {
        let text = with(&session_required(""), "hold_time = \"90s\"", &format!("hold_time = \"{hold}\""));
        let mut rig = Rig::settled(&text);
        let before = rig.far.keepalives;
        for _ in 0..60 {
            rig.tell(Event::KernelChanged);
            rig.run(SECOND);
        }
        assert_eq!(rig.far.keepalives > before, some, "hold time {hold}");
    }
}

/// A link that is down before anybody goes by it, and a session that has nothing to say by itself.
#[test]
fn a_session_is_asked_for_a_link_that_was_down_before() {
    let text = session_required("");
    let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
    let by_link = with(&with(&text, "[[instance]]", link), "checks = [\"ping\"]", "checks = [\"wire\"]");
    for phase in (0..10).map(|n| 3 * SECOND * n) {
        let mut rig = Rig::settled(&text);
        rig.run(60 * SECOND + phase);
        rig.set_link("eth0", false);
        rig.run(5 * SECOND);
        rig.reload(&by_link);
        let took = rig.until_state("a", State::Master, 60 * SECOND);
        assert!(took <= 2 * SECOND, "{phase:?}: {took:?}");
    }
}

/// With the least hold time there is, its own turn may come before a question may go out: that is the question then.
#[test]
fn a_session_with_the_least_hold_time_is_not_late() {
    let text = with(&session_required(""), "hold_time = \"90s\"", "hold_time = \"3s\"");
    let router = "[[bgp]]\nname = \"router\"\npeer = \"198.18.0.4\"\npeer_as = 64500\nlocal_as = 64501\nhold_time = \"9s\"\nmultihop = 8\n\
                  [[check]]\nname = \"primary\"\ntype = \"bgp\"\npeer = \"router\"\n[[instance]]";
    let text = with(&text, "[[instance]]", router);
    let text = with(&text, "checks = [\"ping\"]", "checks = [\"primary\"]");
    for phase in (0..40).map(|n| 50 * MS * n) {
        let mut rig = Rig::new(&text);
        rig.run(60 * SECOND + phase);
        rig.far.away = Some(Away::Closes);
        let (peer, event) = rig.far.breaks("router");
        rig.tell(Event::Bgp { peer, event });
        let took = rig.until_state("a", State::Master, 60 * SECOND);
        assert!(took <= 2 * SECOND, "{phase:?}: {took:?}");
    }
}
