//! Announcements of our own: SPEC 4, "Order", "BGP", "Reload", "Stop and restart".

use std::time::Duration;

use announcerd::announcer::Event;
use announcerd::announcer::event::Command;
use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{Rig, standby, with};

pub const HEARS: &str = "isp-a hears 198.51.100.0/24 MED 7";
pub const LOSES: &str = "isp-a loses 198.51.100.0/24";
const ALARM: &str = "no BGP session is established";

pub const PEER: &str = r#"
[[bgp]]
name = "isp-a"
peer = "203.0.113.1"
peer_as = 64500
local_as = 64501
next_hop = ["203.0.113.2", "2001:db8::2"]
"#;

/// [`crate::rig::STANDBY`] with a session, the prefix announced by it, and these lines more in its instance.
pub fn announcing(lines: &str) -> String {
    let text = with(&standby(lines), "name = \"hk-1\"", "name = \"hk-1\"\nrouter_id = \"203.0.113.2\"");
    let text = with(
        &text,
        "to = \"198.51.100.0/24\"\ndev = \"lo\"",
        "to = \"198.51.100.0/24\"\ndev = \"lo\"\nexport = false",
    );
    with(&text, "[[instance]]", &format!("{PEER}[[instance]]"))
        + "[[instance.announce]]\nprefixes = [\"198.51.100.0/24\"]\nmaster = { med = 7 }\n"
}

/// What the far side heard, and the transitions.
pub fn heard(rig: &Rig) -> Vec<&str> {
    let told = rig.told().into_iter();
    told.filter(|words| words.starts_with("isp") || words.starts_with("a ") || words.starts_with("b "))
        .collect()
}

/// "Into MASTER: tunnels, addresses, routes; when the kernel has acknowledged them, `export` routes and the BGP
/// announcement; then scripts. Out of MASTER: BGP withdraw and `export` routes at once …; then `drain`; then other routes".
#[test]
fn announced_when_the_kernel_has_it_and_withdrawn_at_once() {
    let mut rig = Rig::settled(&announcing(""));
    rig.set("ping", Target::Silent);
    rig.until("the announcement", 10 * SECOND, |r| r.has_told(HEARS));
    rig.run(SECOND);
    assert_eq!(heard(&rig), ["a MASTER", HEARS]);
    let decided = rig.when("a MASTER");
    assert_eq!(rig.when("add route 198.51.100.0/24"), decided);
    assert_eq!(rig.when(HEARS), decided + MS, "acknowledged after a millisecond");
    let steps = rig.records.last().unwrap().timeline;
    assert_eq!(steps.update_written, Some(decided + MS));
    assert_eq!(steps.update_acked, Some(decided + 2 * MS));
    assert!(rig.when("run /master") >= decided + MS);

    rig.forget();
    rig.set("ping", Target::Answers(MS));
    rig.until("the withdraw", 60 * SECOND, |r| r.has_told(LOSES));
    rig.run(30 * SECOND);
    assert_eq!(heard(&rig), ["a BACKUP", LOSES]);
    assert_eq!(rig.when(LOSES), rig.when("a BACKUP"));
    assert_eq!(rig.when("delete route 198.51.100.0/24"), rig.when("a BACKUP") + 10 * SECOND);
}

#[test]
fn nothing_is_announced_while_the_kernel_says_nothing() {
    let mut rig = Rig::settled(&announcing(""));
    rig.kernel.mute = true;
    rig.set("ping", Target::Silent);
    rig.until_state("a", State::Master, 10 * SECOND);
    rig.run(5 * SECOND);
    assert_eq!(heard(&rig), ["a MASTER"]);
    // FIELD 15: withdrawing what was never announced made the peer reset the session (exabgp #954).
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    rig.run(5 * SECOND);
    assert_eq!(heard(&rig), ["a MASTER", "a FAULT"]);
}

/// "A withdraw never waits for the kernel or a script."
#[test]
fn a_withdraw_waits_for_nobody() {
    let mut rig = Rig::settled(&announcing(""));
    rig.programs.hang.insert("/master");
    rig.set("ping", Target::Silent);
    rig.until("the script runs", 10 * SECOND, |r| r.has_told("run /master"));
    rig.kernel.mute = true;
    rig.forget();
    rig.set("uplink", Target::Refuses(MS));
    rig.until_state("a", State::Fault, 10 * SECOND);
    assert_eq!(rig.when(LOSES), rig.when("a FAULT"));
}

/// Two instances want the same prefix: the first MASTER in the order of the file is heard, else the first with `backup`
/// attributes; the peer never sees a withdraw in between.
#[test]
fn two_instances_want_the_same_prefix() {
    let mut text =
        with(&announcing(""), "master = { med = 7 }", "master = { med = 7 }\nbackup = { med = 70 }");
    text += "[[check]]\nname = \"ping-b\"\ntype = \"ping\"\nhost = \"198.18.0.2\"\n\
             [[instance]]\nname = \"b\"\nprimary = { checks = [\"ping-b\"] }\nfailback_delay = \"30s\"\n\
             [[instance.announce]]\nprefixes = [\"198.51.100.0/24\", \"203.0.114.0/24\"]\n\
             master = { med = 8 }\nbackup = { med = 80 }\n";
    let mut rig = Rig::new(&text);
    rig.until("both told", 20 * SECOND, |r| r.has_told("203.0.114.0/24 MED 80"));
    assert!(rig.has_told("198.51.100.0/24 MED 70"), "the first one's backup: {:?}", heard(&rig));
    rig.run(SECOND);
    rig.forget();
    rig.set("ping-b", Target::Silent);
    rig.until("b's", 20 * SECOND, |r| r.has_told("198.51.100.0/24 MED 8"));
    rig.set("ping", Target::Silent);
    rig.until("a's", 20 * SECOND, |r| r.has_told("198.51.100.0/24 MED 7"));
    rig.set("ping", Target::Answers(MS));
    rig.until_state("a", State::Backup, 120 * SECOND);
    rig.set("ping-b", Target::Answers(MS));
    rig.until_state("b", State::Backup, 120 * SECOND);
    rig.run(SECOND);
    let of_both: Vec<&str> = heard(&rig).into_iter().filter(|w| w.contains("198.51.100.0/24")).collect();
    assert_eq!(of_both, ["8", "7", "8", "70"].map(|med| format!("isp-a hears 198.51.100.0/24 MED {med}")));
}

/// "`maintenance on|off`: graceful drain of everything (GSHUT, wait, withdraw), and back"; the session stays.
#[test]
fn maintenance() {
    let text = announcing("");
    let mut rig = Rig::master(&text);
    rig.command(Command::Maintenance { on: true }).unwrap();
    rig.run(10 * SECOND);
    let shut = format!("{HEARS} GSHUT");
    assert_eq!(heard(&rig), [&*shut, LOSES, "a BACKUP"]);
    assert!(rig.when(LOSES) >= rig.when("GSHUT") + 3 * SECOND);
    // It survives a crash.
    let mut rig = rig.crash(&text, SECOND, true);
    rig.run(60 * SECOND);
    assert!(!rig.has_told("hears"), "{:?}", heard(&rig));
    rig.command(Command::Maintenance { on: false }).unwrap();
    rig.until("the announcement", 30 * SECOND, |r| r.has_told(HEARS));
    assert!(!rig.has_told("GSHUT") && !rig.has_told("closed"));
}

/// [`announcing`], and graceful restart wherever the peer helps.
pub fn restarting() -> String {
    with(
        &announcing(""),
        "peer_as = 64500",
        "peer_as = 64500\ngraceful_restart = { restart_time = \"120s\" }",
    )
}

/// FIELD 18: stale routes are held back for the whole deferral time (kube-router #1323). "End-of-RIB waits for INIT's end,
/// bounded by half the restart time": a start that cannot decide for long tells the helper after half of it.
#[test]
fn field_18_end_of_rib_waits_for_half_the_restart_time_at_most() {
    let told = |r: &Rig| r.has_told("End-of-RIB");
    let undecided = with(&restarting(), "name = \"hk-1\"", "name = \"hk-1\"\ninit_timeout = \"10m\"");
    let mut rig = Rig::new(&undecided);
    rig.set("ping", Target::Blind);
    let took = rig.until("End-of-RIB", 70 * SECOND, told);
    assert!(took >= 60 * SECOND && took < 61 * SECOND, "{took:?}");
    assert_eq!(rig.state("a"), State::Init);
    // Decided: at once.
    let mut rig = Rig::new(&undecided);
    rig.until("the decision", 20 * SECOND, |r| r.state("a") == State::Backup);
    rig.run(SECOND);
    assert!(told(&rig), "{:?}", rig.told());
}

/// "`handover`: kernel objects stay, BGP closes without NOTIFICATION where graceful restart was negotiated; not resumed
/// within 60 s they are swept."
#[test]
fn handover() {
    for helps in [true, false] {
        let mut rig = Rig::new(&restarting());
        rig.far.helps = helps;
        rig.run(10 * SECOND);
        rig.set("ping", Target::Silent);
        rig.until("the announcement", 20 * SECOND, |r| r.has_told(HEARS));
        rig.run(SECOND);
        rig.forget();
        rig.command(Command::Handover).unwrap();
        rig.until("exit", 10 * SECOND, |r| r.exit.is_some());
        let closed = match helps {
            true => "isp-a closed, without a word",
            false => "isp-a closed, Cease/Administrative Shutdown",
        };
        assert!(!rig.has_told(LOSES), "{:?}", rig.told());
        assert!(rig.has_told(closed), "{:?}", rig.told());
        assert_eq!(rig.exit, Some(Some(Duration::from_secs(60))));
        assert!(rig.kernel.has("198.51.100.0/24"));
        // The next process is MASTER again and announces at once, though the primary's checks are not decided yet.
        let mut next = rig.crash(&restarting(), SECOND, true);
        next.far.helps = helps;
        next.until("the announcement", SECOND, |r| r.has_told(HEARS));
        assert!(!next.has_told("delete"), "{:?}", next.told());
    }
}

/// "Reload: an unchanged peer's session stays up, changed attributes are re-announced without a reset." FIELD 19: a
/// config change drops every session (metallb #2049).
#[test]
fn a_reload_disturbs_no_session() {
    let text = announcing("");
    let mut rig = Rig::master(&text);
    rig.reload(&text);
    rig.run(60 * SECOND);
    assert_eq!(heard(&rig), [""; 0]);
    rig.reload(&with(&text, "med = 7", "med = 9"));
    rig.run(SECOND);
    assert_eq!(heard(&rig), ["isp-a hears 198.51.100.0/24 MED 9"]);
    assert!(rig.records.is_empty(), "the takeover's own UPDATE was long before: {:?}", rig.records);
    rig.forget();
    // What the new file has no more is withdrawn, what it has more is announced.
    rig.reload(&with(&text, "prefixes = [\"198.51.100.0/24\"]", "prefixes = [\"203.0.114.0/24\"]"));
    rig.run(SECOND);
    assert_eq!(heard(&rig), [LOSES, "isp-a hears 203.0.114.0/24 MED 7"]);
    rig.forget();
    // Another hold time is another session; the others would stay.
    rig.reload(&with(&text, "peer_as = 64500", "peer_as = 64500\nhold_time = \"30s\""));
    rig.until("the new session", 60 * SECOND, |r| r.has_told(HEARS));
    assert!(rig.has_told("isp-a closed, Cease/Other Configuration Change"), "{:?}", heard(&rig));
}

/// "No established session at all while `[[instance.announce]]` waits for one is an alarm before it is needed."
#[test]
fn no_session_at_all_is_an_alarm_before_it_is_needed() {
    let alarms = |rig: &Rig| rig.logs.iter().filter(|l| l.contains(ALARM)).count();
    let mut rig = Rig::new(&announcing(""));
    rig.far.silent = true;
    rig.run(50 * SECOND);
    assert_eq!(alarms(&rig), 0);
    rig.run(3600 * SECOND);
    assert_eq!(alarms(&rig), 1, "once, not again and again: {:?}", rig.logs);
    rig.far.silent = false;
    rig.until("a session", 600 * SECOND, |r| r.status().bgp[0].state == "Established");
    // It comes back after a session that was lost.
    rig.far.silent = true;
    let (peer, event) = rig.far.breaks("isp-a");
    rig.tell(Event::Bgp { peer, event });
    rig.run(120 * SECOND);
    assert_eq!(alarms(&rig), 2);
}

/// The same where a reload brings the peer.
#[test]
fn a_peer_that_a_reload_brings_is_missed_too() {
    let text = announcing("");
    let announce = text.find("[[instance.announce]]").unwrap();
    let without = with(&text[..announce], PEER, "");
    let mut rig = Rig::settled(&without);
    rig.far.silent = true;
    rig.reload(&text);
    rig.run(120 * SECOND);
    assert!(rig.logs.iter().any(|l| l.contains(ALARM)), "{:?}", rig.logs);
}

pub const SESSION_CHECK: &str = "[[check]]\nname = \"session\"\ntype = \"bgp\"\npeer = \"isp-a\"\n";

/// A session stays Established for a whole hold time after the line was cut: it is no witness that we are connected.
/// FIELD 8: an isolated standby takes over (keepalived #2555).
#[test]
fn a_session_is_no_witness_of_this_moment() {
    let text =
        with(&announcing(""), "require = { checks = [\"uplink\"] }", "require = { checks = [\"session\"] }");
    let text = with(&text, "[[instance]]", &format!("{SESSION_CHECK}[[instance]]"));
    let mut rig = Rig::settled(&text);
    // The line is cut: nothing gets through, and nobody says so.
    rig.far.silent = true;
    rig.set("ping", Target::Silent);
    rig.run(600 * SECOND);
    assert!(!rig.states("a").contains(&State::Master), "{:?}", heard(&rig));
    assert_eq!(rig.state("a"), State::Fault, "the hold time is over long since");
}

/// And where the peer lives it shows so when it is asked: nobody waits for its next KEEPALIVE, half a minute away.
#[test]
fn a_living_session_is_a_witness() {
    let text =
        with(&announcing(""), "require = { checks = [\"uplink\"] }", "require = { checks = [\"session\"] }");
    let text = with(&text, "[[instance]]", &format!("{SESSION_CHECK}[[instance]]"));
    let mut rig = Rig::settled(&text);
    rig.set("ping", Target::Silent);
    let took = rig.until("the announcement", 60 * SECOND, |r| r.has_told(HEARS));
    assert!(took < 5 * SECOND, "{took:?}");
}

/// FIELD 8: a session as the primary's check. It broke because we were cut off; back on the line it takes a while to come up.
#[test]
fn a_session_that_broke_with_our_own_line_is_no_death() {
    let text = announcing("primary = { checks = [\"session\"] }\ndrain = \"0s\"");
    let text = with(&text, "[[instance]]", &format!("{SESSION_CHECK}[[instance]]"));
    for is_dead in [false, true] {
        let mut rig = Rig::new(&text);
        rig.run(200 * SECOND);
        assert_eq!(rig.state("a"), State::Backup);
        rig.set("uplink", Target::Silent);
        rig.far.silent = true;
        rig.run(1500 * MS);
        let (peer, event) = rig.far.breaks("isp-a");
        rig.tell(Event::Bgp { peer, event });
        assert_eq!(rig.verdict("session"), "down");
        rig.run(300 * MS);
        rig.set("uplink", Target::Answers(MS));
        rig.far.silent = is_dead;
        if is_dead {
            let took = rig.until_state("a", State::Master, 60 * SECOND);
            assert!(took >= 10 * SECOND && took <= 12 * SECOND, "twice connect_retry: {took:?}");
        } else {
            rig.until("the session", 60 * SECOND, |r| r.verdict("session") == "up");
            rig.run(60 * SECOND);
            assert!(!rig.states("a").contains(&State::Master), "{:?}", rig.records);
        }
    }
}

/// Peers exist once the kernel is known, and are shown from the first moment on: an operator who asks during a slow start
/// must not read that none is configured.
#[test]
fn peers_are_shown_before_they_may_connect() {
    let mut rig = Rig::new(&announcing(""));
    let shown = |rig: &Rig| -> Vec<(String, String)> {
        rig.status().bgp.into_iter().map(|b| (b.name, b.state)).collect()
    };
    let row = |state: &str| vec![("isp-a".to_owned(), state.to_owned())];
    assert_eq!(shown(&rig), row("Idle"));
    rig.run(10 * SECOND);
    assert_eq!(shown(&rig), row("Established"));
}
