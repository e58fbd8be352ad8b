//! SPEC 4, "Require": no announcement without it, and no takeover by a node that is cut off.

use std::time::Duration;

use announcerd::announcer::event::Event;
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{EXPORT, Rig, STANDBY, config, standby, with};

/// FIELD 8: an isolated standby takes over although only its own uplink is down (keepalived #2555).
#[test]
fn an_isolated_standby_never_takes_over() {
    for how in [Target::Silent, Target::Refuses(MS), Target::Blind] {
        let mut rig = Rig::settled(STANDBY);
        rig.set("ping", how.clone());
        rig.set("uplink", how.clone());
        rig.run(600 * SECOND);
        assert_eq!(rig.state("a"), State::Fault, "{how:?}");
        assert_eq!(rig.states("a"), [State::Fault]);
        assert!(!rig.kernel.has(EXPORT));
    }
}

/// FIELD 8 once more: the isolation ends, shorter or longer than the falls, and the primary was well all the time.
#[test]
fn an_isolation_that_ends_is_no_reason_for_a_takeover() {
    for tenths in 1..120u32 {
        let mut rig = Rig::settled(STANDBY);
        rig.run(Duration::from_millis(37) * (tenths % 27));
        rig.set("ping", Target::Silent);
        rig.set("uplink", Target::Silent);
        rig.run(100 * MS * tenths);
        rig.set("uplink", Target::Answers(MS));
        rig.set("ping", Target::Answers(300 * MS));
        rig.run(30 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{tenths} tenths of a second");
        assert_eq!(rig.state("a"), State::Backup);
    }
}

/// FIELD 8, the other way round: the primary's probes are lost, and our uplink is cut while the fall goes on. What answered before
/// that says nothing of the last failure.
#[test]
fn an_isolation_that_begins_is_no_reason_for_a_takeover() {
    for after in (5..690u32).step_by(17) {
        let mut rig = Rig::settled(&with(STANDBY, "timeout = \"800ms\"", "timeout = \"300ms\""));
        rig.set("ping", Target::Silent);
        rig.until("two failures", 5 * SECOND, |r| r.check("ping").failures == 2);
        rig.set("ping", Target::Answers(40 * MS));
        rig.run(after * MS);
        rig.set("ping", Target::Silent);
        rig.set("uplink", Target::Silent);
        rig.run(30 * SECOND);
        assert_eq!(rig.states("a"), [State::Fault], "cut {after} ms after the second failure");
    }
}

/// The same with a window: a failure that was proved, but decided nothing, does not speak for the one that does.
#[test]
fn an_isolation_that_begins_with_a_window_is_no_reason_either() {
    let quick = with(
        STANDBY,
        "timeout = \"800ms\"\nfall = 3",
        "timeout = \"300ms\"\nfall = { failures = 3, of = 5 }",
    );
    let (good, bad) = (Target::Answers(40 * MS), Target::Silent);
    let turns = [&bad, &good, &good, &good, &bad, &bad, &good].map(Target::clone).to_vec();
    for after in (20..650u32).step_by(45) {
        let mut rig = Rig::settled(&quick);
        rig.set("ping", Target::Turns(turns.clone()));
        rig.until("the first", 2 * SECOND, |r| r.check("ping").failures == 1);
        rig.run(5 * SECOND + after * MS);
        assert_eq!((rig.check("ping").failures, rig.verdict("ping").as_str()), (2, "up"));
        rig.set("ping", Target::Silent);
        rig.set("uplink", Target::Silent);
        rig.run(30 * SECOND);
        assert_eq!(rig.states("a"), [State::Fault], "cut {after} ms after it: {:?}", rig.records);
    }
}

/// FIELD 8, by a line that bounces: it is back for long enough that a witness answers, and gone when the next probe is sent.
#[test]
fn an_uplink_that_bounces_is_no_reason_for_a_takeover() {
    let both = |rig: &mut Rig, on: bool| {
        rig.set("ping", if on { Target::Answers(40 * MS) } else { Target::Silent });
        rig.set("uplink", if on { Target::Answers(MS) } else { Target::Silent });
    };
    for (fall, down, up) in [3, 30]
        .into_iter()
        .flat_map(|fall| (20..50u32).step_by(3).map(move |down| (fall, down)))
        .flat_map(|(fall, down)| (50..950u32).step_by(75).map(move |up| (fall, down, up)))
    {
        let quick = with(STANDBY, "timeout = \"800ms\"", "timeout = \"300ms\"");
        let slow = with(
            &quick,
            "fall = 3\nrise = 2\n[[instance]]",
            &format!("fall = {fall}\nrise = 2\n[[instance]]"),
        );
        let mut rig = Rig::settled(&slow);
        both(&mut rig, false);
        rig.run(100 * MS * down);
        both(&mut rig, true);
        rig.run(up * MS);
        both(&mut rig, false);
        rig.run(1500 * MS);
        both(&mut rig, true);
        rig.run(30 * SECOND);
        assert!(
            !rig.states("a").contains(&State::Master),
            "fall {fall}, {down}00 ms, {up} ms: {:?}",
            rig.records
        );
    }
}

/// But who loses packets all the time has to take over one day, and soon.
#[test]
fn an_uplink_that_loses_packets_is_no_isolation() {
    let (well, lost) = (Target::Answers(MS), Target::Silent);
    // Two of a cluster: one is slow, the other refuses.
    let two = vec![Target::Answers(700 * MS), Target::Refuses(MS)];
    for turns in [
        vec![well.clone(), lost.clone()],
        vec![well.clone(), lost.clone(), lost.clone()],
        vec![lost, well.clone(), well],
        two,
    ] {
        let mut rig = Rig::settled(STANDBY);
        rig.set("uplink", Target::Turns(turns.clone()));
        rig.run(60 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("three failures", 5 * SECOND, |r| r.verdict("ping") == "down");
        let took = rig.until_state("a", State::Master, 60 * SECOND);
        assert!(took <= 8 * SECOND, "{turns:?}: {took:?}");
    }
}

/// A witness that answers later than the primary fails anew is late, not silent: nothing may wait for it for ever.
#[test]
fn a_slow_witness_is_a_witness() {
    for interval in [100, 150, 300] {
        let quick = format!("interval = \"{interval}ms\"\ntimeout = \"90ms\"");
        let mut rig = Rig::settled(&with(STANDBY, "interval = \"1s\"\ntimeout = \"800ms\"", &quick));
        rig.set("uplink", Target::Answers(250 * MS));
        rig.run(5 * SECOND);
        rig.set("ping", Target::Refuses(MS));
        rig.until("three failures", 5 * SECOND, |r| r.verdict("ping") == "down");
        let took = rig.until_state("a", State::Master, 60 * SECOND);
        assert!(took <= SECOND, "{interval} ms apart: {took:?}");
    }
}

/// The same with a window that has failures of yesterday's loss in it: they confirm nothing.
#[test]
fn old_loss_does_not_confirm_an_isolation() {
    for tenths in (20..90u32).step_by(3) {
        let mut rig = Rig::settled(&with(STANDBY, "fall = 3", "fall = { failures = 4, of = 6 }"));
        let (good, bad) = (Target::Answers(300 * MS), Target::Refuses(MS));
        rig.set("ping", Target::Turns(vec![good.clone(), bad.clone(), bad.clone()]));
        rig.run(30 * SECOND);
        rig.set(
            "ping",
            Target::Turns(vec![good.clone(), good.clone(), good.clone(), bad.clone(), bad, good.clone()]),
        );
        rig.run(61 * SECOND);
        assert_eq!(rig.state("a"), State::Backup);
        rig.forget();
        rig.set("ping", Target::Silent);
        rig.set("uplink", Target::Silent);
        rig.run(100 * MS * tenths);
        rig.set("uplink", Target::Answers(MS));
        rig.set("ping", good);
        rig.run(30 * SECOND);
        assert!(!rig.states("a").contains(&State::Master), "{tenths} tenths: {:?}", rig.records);
    }
}

/// "`unknown` blocks a takeover at once".
#[test]
fn unknown_blocks_a_takeover_at_once() {
    let mut rig = Rig::settled(&with(
        STANDBY,
        "fall = 3\nrise = 2\n[[instance]]",
        "fall = 300\nrise = 2\n[[instance]]",
    ));
    rig.set("ping", Target::Silent);
    rig.until("two failures", 5 * SECOND, |r| r.check("ping").failures == 2);
    rig.set("uplink", Target::Blind);
    rig.run(60 * SECOND);
    assert_eq!((rig.state("a"), rig.verdict("ping").as_str()), (State::Backup, "down"));
    assert_eq!(rig.instance("a").require.as_deref(), Some("unknown"));
    rig.set("uplink", Target::Answers(MS));
    let took = rig.until_state("a", State::Master, 5 * SECOND);
    assert!(took <= 2 * SECOND, "as soon as it is known: {took:?}");
}

/// "and as MASTER becomes FAULT after that check's fall time".
#[test]
fn unknown_as_master_becomes_fault_after_the_checks_fall_time() {
    let mut rig = Rig::master(STANDBY);
    rig.set("uplink", Target::Blind);
    rig.until("unknown", 2 * SECOND, |r| r.verdict("uplink") == "unknown");
    // fall 3, a second apart, and a timeout of 800 ms.
    let took = rig.until_state("a", State::Fault, 10 * SECOND);
    assert_eq!(took, 3800 * MS);
    assert!(!rig.kernel.has(EXPORT));
    rig.set("uplink", Target::Answers(MS));
    rig.until_state("a", State::Master, 3 * SECOND);
}

/// A short blindness of MASTER is no FAULT.
#[test]
fn a_master_that_is_blind_for_less_stays() {
    let mut rig = Rig::master(STANDBY);
    for _ in 0..20 {
        rig.set("uplink", Target::Blind);
        rig.run(3 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.run(2 * SECOND);
    }
    assert_eq!(rig.told(), Vec::<&str>::new());
}

/// "In MASTER, after FAULT by `require`, the first recovery counts at once; further ones within an hour need 2, 4, …
/// 60 s met."
#[test]
fn recoveries_are_damped() {
    let mut rig = Rig::master(STANDBY);
    let mut holds = Vec::new();
    for _ in 0..8 {
        rig.set("uplink", Target::Refuses(MS));
        rig.until_state("a", State::Fault, 10 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.until("met", 10 * SECOND, |r| r.instance("a").require.as_deref() == Some("met"));
        holds.push(rig.until_state("a", State::Master, 100 * SECOND).as_secs());
    }
    assert_eq!(holds, [0, 2, 4, 8, 16, 32, 60, 60]);
    rig.run(3601 * SECOND);
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.set("uplink", Target::Answers(MS));
    rig.until("met", 10 * SECOND, |r| r.instance("a").require.as_deref() == Some("met"));
    assert_eq!(rig.until_state("a", State::Master, 100 * SECOND).as_secs(), 0, "an hour later");
}

/// The hold is "met" without a break.
#[test]
fn a_recovery_that_breaks_off_starts_anew() {
    let mut rig = Rig::master(STANDBY);
    for _ in 0..3 {
        rig.set("uplink", Target::Refuses(MS));
        rig.until_state("a", State::Fault, 10 * SECOND);
        rig.set("uplink", Target::Answers(MS));
        rig.until_state("a", State::Master, 100 * SECOND);
    }
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    for _ in 0..20 {
        rig.set("uplink", Target::Answers(MS));
        rig.run(5 * SECOND);
        rig.set("uplink", Target::Refuses(MS));
        rig.run(5 * SECOND);
    }
    assert_eq!(rig.state("a"), State::Fault, "never met for 8 s");
}

/// "Before a takeover each required check needs a success from a probe sent *after* the primary's first failed probe
/// (sent at once on that failure)."
#[test]
fn the_required_checks_are_asked_at_once_on_the_first_failure() {
    let mut rig = Rig::settled(&with(
        STANDBY,
        "host = \"203.0.113.1\"\ninterval = \"1s\"",
        "host = \"203.0.113.1\"\ninterval = \"60s\"",
    ));
    rig.set("ping", Target::Refuses(MS));
    rig.forget();
    rig.until("a failure", 3 * SECOND, |r| r.check("ping").failures == 1);
    assert_eq!(rig.sent("uplink").last(), Some(&rig.now));
    let took = rig.until_state("a", State::Master, 10 * SECOND);
    assert!(took <= 2 * SECOND + 20 * MS, "it does not wait for the uplink's minute: {took:?}");
}

/// No witness, no takeover: `require` is up by an old answer only.
#[test]
fn an_old_success_is_no_witness() {
    let mut rig = Rig::settled(&with(
        STANDBY,
        "host = \"203.0.113.1\"\ninterval = \"1s\"",
        "host = \"203.0.113.1\"\ninterval = \"60s\"",
    ));
    rig.run(60 * SECOND);
    rig.set("ping", Target::Silent);
    rig.set("uplink", Target::Silent);
    rig.run(30 * SECOND);
    assert_eq!((rig.verdict("uplink").as_str(), rig.state("a")), ("up", State::Backup));
    assert!(rig.instance("a").reason.contains("it may be us"), "{}", rig.instance("a").reason);
}

fn link_required(more: &str) -> String {
    let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
    with(&standby(&format!("require = {{ checks = [\"wire\"{more}] }}")), "[[instance]]", link)
}

/// A link can be all that is required: the kernel's word on it is a witness.
#[test]
fn a_link_alone_can_be_required() {
    for more in ["", ", \"uplink\""] {
        let mut rig = Rig::settled(&link_required(more));
        rig.set("ping", Target::Silent);
        let took = rig.until_state("a", State::Master, 20 * SECOND);
        assert!(took <= 4 * SECOND, "{took:?}");
    }
}

/// "link (carrier and admin state by netlink, instant)".
#[test]
fn a_required_link_that_goes_is_fault_at_once() {
    let mut rig = Rig::master(&link_required(", \"uplink\""));
    let before = rig.now;
    rig.set_link("eth0", false);
    assert_eq!((rig.state("a"), rig.now), (State::Fault, before));
    rig.set_link("eth0", true);
    assert_eq!(rig.state("a"), State::Master, "the first recovery counts at once");
    rig.kernel.links.retain(|l| l.name != "eth0");
    rig.tell(Event::LinkGone("eth0".into()));
    assert_eq!(rig.state("a"), State::Fault);
}

/// A dump that was read before the news of a link must not undo the news.
#[test]
fn an_old_dump_does_not_bring_a_link_back() {
    let mut rig = Rig::master(&link_required(", \"uplink\""));
    rig.run(20 * SECOND);
    rig.forget();
    // A dump is read, and before it is heard the link goes.
    rig.tell(Event::KernelChanged);
    assert_eq!(rig.dumps, 1);
    rig.set_link("eth0", false);
    assert_eq!(rig.state("a"), State::Fault);
    rig.run(60 * SECOND);
    assert_eq!(rig.states("a"), [State::Fault]);
}

/// A link can be the primary's check, too; the witnesses are asked at once.
#[test]
fn a_primary_that_is_a_link() {
    let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
    let text = with(&standby("primary = { checks = [\"wire\"] }"), "[[instance]]", link);
    let text = with(
        &text,
        "host = \"203.0.113.1\"\ninterval = \"1s\"",
        "host = \"203.0.113.1\"\ninterval = \"60s\"",
    );
    let mut rig = Rig::settled(&text);
    rig.set_link("eth0", false);
    let took = rig.until_state("a", State::Master, 70 * SECOND);
    assert!(took <= 100 * MS, "{took:?}");
}

/// It may be down long before anybody goes by it.
#[test]
fn a_primary_that_is_a_link_and_was_down_before() {
    let link = "[[check]]\nname = \"wire\"\ntype = \"link\"\ndevice = \"eth0\"\n[[instance]]";
    let mut rig = Rig::settled(&with(STANDBY, "[[instance]]", link));
    rig.set_link("eth0", false);
    rig.run(60 * SECOND);
    let text = with(&standby("primary = { checks = [\"wire\"] }"), "[[instance]]", link);
    rig.tell(Event::Reload(Box::new(config(&text))));
    rig.until_state("a", State::Master, 2 * SECOND);
}

/// "Met when the `up` verdicts reach `up_when`."
#[test]
fn a_quorum_of_required_checks() {
    let more = "[[check]]\nname = \"uplink2\"\ntype = \"ping\"\nhost = \"203.0.113.9\"\ninterval = \"1s\"\ntimeout = \"800ms\"\n[[instance]]";
    let text = with(
        &standby("require = { checks = [\"uplink\", \"uplink2\"], up_when = \"any\" }"),
        "[[instance]]",
        more,
    );
    let mut rig = Rig::settled(&text);
    rig.set("uplink", Target::Silent);
    rig.run(10 * SECOND);
    assert_eq!(rig.state("a"), State::Backup);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.set("uplink2", Target::Silent);
    rig.until_state("a", State::Fault, 10 * SECOND);
}

const SECOND_INSTANCE: &str = r#"
[[check]]
name = "uplink2"
type = "ping"
host = "203.0.113.9"
interval = "1s"
timeout = "800ms"
fall = 1
rise = 1
[[instance]]
name = "b"
primary = { checks = ["ping"] }
require = { checks = ["uplink2"] }
takeover_delay = "1m"
[[instance.route]]
to = "203.0.113.128/25"
dev = "lo"
"#;

/// Two instances share a primary's check, and one of them is cut off again and again: the other's takeover does not
/// wait for it.
#[test]
fn a_flapping_uplink_of_one_does_not_keep_another_from_its_takeover() {
    for fall in ["fall = 3", "fall = 1"] {
        let text = with(&standby("takeover_delay = \"20s\""), "fall = 3", fall);
        let mut rig = Rig::settled(&format!("{text}{SECOND_INSTANCE}"));
        rig.set("ping", Target::Silent);
        rig.set(
            "uplink2",
            Target::Turns([vec![Target::Answers(MS); 9], vec![Target::Refuses(MS); 9]].concat()),
        );
        rig.until("down", 10 * SECOND, |r| r.verdict("ping") == "down");
        rig.set("uplink2", Target::Refuses(MS));
        rig.run(2 * SECOND);
        for _ in 0..4 {
            rig.set("uplink2", Target::Answers(MS));
            rig.run(2 * SECOND);
            rig.set("uplink2", Target::Refuses(MS));
            rig.run(2 * SECOND);
        }
        rig.run(6 * SECOND);
        assert_eq!(rig.state("a"), State::Master);
    }
}

/// Two instances go by one primary: what one of them does not need (any more) is asked for the other.
#[test]
fn one_that_requires_nothing_takes_no_witness_from_the_other() {
    let uplink = "host = \"203.0.113.1\"\ninterval = \"1s\"\ntimeout = \"800ms\"";
    let slow =
        with(&standby("takeover_delay = \"30s\""), uplink, "host = \"203.0.113.1\"\ninterval = \"60s\"");
    let mut rig =
        Rig::new(&format!("{slow}\n[[instance]]\nname = \"b\"\nprimary = {{ checks = [\"ping\"] }}\n"));
    rig.run(90 * SECOND);
    rig.set("ping", Target::Silent);
    rig.until("down", 5 * SECOND, |r| r.verdict("ping") == "down");
    let took = rig.until_state("a", State::Master, 100 * SECOND);
    assert!(took <= 31 * SECOND, "{took:?}");
}

/// A timeout may be as long as the interval, and is seen to be over a moment later.
#[test]
fn the_third_failure_decides_though_it_takes_the_whole_interval() {
    let mut rig = Rig::settled(&with(STANDBY, "timeout = \"800ms\"", "timeout = \"1s\""));
    rig.set("ping", Target::Silent);
    rig.until("down", 6 * SECOND, |r| r.verdict("ping") == "down");
    assert!(rig.until_state("a", State::Master, SECOND) <= 100 * MS);
}

/// FIELD 8: after an isolation the primary has answered, once too few for `rise`. One lost packet then is no death.
#[test]
fn a_success_that_is_one_too_few_ends_the_row() {
    let mut rig =
        Rig::settled(&with(STANDBY, "fall = 3\nrise = 2\n[[instance]]", "fall = 30\nrise = 2\n[[instance]]"));
    rig.set("ping", Target::Silent);
    rig.set("uplink", Target::Silent);
    rig.until("down", 6 * SECOND, |r| r.verdict("ping") == "down");
    rig.set("uplink", Target::Answers(MS));
    rig.set("ping", Target::Turns(vec![Target::Answers(40 * MS), Target::Silent]));
    rig.run(60 * SECOND);
    assert_eq!((rig.states("a"), rig.verdict("ping").as_str()), (vec![], "down"), "{:?}", rig.records);
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 5 * SECOND);
}
