//! SPEC 4, "Primary".

use announcerd::announcer::journal::State;

use crate::fake::{MS, SECOND, Target};
use crate::rig::{Rig, STANDBY, standby, with};

/// Guards at run time: a name of the primary that resolves to what this machine draws to itself asks ourselves. What is
/// required may well be our own.
#[test]
fn probes_of_a_primary_know_what_is_our_own() {
    let local =
        "[[instance.route]]\nto = \"198.51.100.128/32\"\ndev = \"lo\"\ntype = \"local\"\nexport = false\n";
    let rig = Rig::settled(&format!("{STANDBY}{local}"));
    let own = |check: &str| rig.own[check].iter().map(|p| p.to_string()).collect::<Vec<_>>();
    assert_eq!(own("ping"), ["10.20.0.0/16", "198.51.100.0/24", "172.16.1.1/32", "198.51.100.128/32"]);
    assert_eq!(own("uplink"), Vec::<String>::new());
}

/// However many they are: the last of them is as much our own as the first.
#[test]
fn probes_of_a_primary_know_all_that_is_our_own() {
    let mut text = STANDBY.to_owned();
    for n in 0..1500 {
        let to = format!("10.99.{}.{}/32", n / 250, n % 250);
        text += &format!("[[instance.route]]\nto = \"{to}\"\ndev = \"lo\"\nexport = false\n");
    }
    let rig = Rig::settled(&text);
    let covering = |address: &str| rig.own["ping"].covering(address.parse().unwrap()).map(|p| p.to_string());
    assert_eq!(covering("10.99.5.249").as_deref(), Some("10.99.5.249/32"));
    assert_eq!(covering("10.99.5.250"), None);
    assert!(rig.own["uplink"].covering("10.99.5.249".parse().unwrap()).is_none());
}

fn two(primary: &str) -> String {
    let http = "[[check]]\nname = \"http\"\ntype = \"tcp\"\nhost = \"198.18.0.2\"\nport = 80\ninterval = \"1s\"\ntimeout = \"800ms\"\nfall = 3\nrise = 2\n[[instance]]";
    with(&standby(primary), "[[instance]]", http)
}

/// "It is *down* when the `down` verdicts reach `down_when`": all, any, a number.
#[test]
fn down_when() {
    for (when, one_is_enough) in [("\"all\"", false), ("\"any\"", true), ("2", false), ("1", true)] {
        let text = two(&format!("primary = {{ checks = [\"ping\", \"http\"], down_when = {when} }}"));
        let mut rig = Rig::settled(&text);
        rig.set("http", Target::Silent);
        rig.run(60 * SECOND);
        let after_one = if one_is_enough { State::Master } else { State::Backup };
        assert_eq!(rig.state("a"), after_one, "down_when = {when}");
        rig.set("ping", Target::Silent);
        rig.run(10 * SECOND);
        assert_eq!(rig.state("a"), State::Master, "down_when = {when}");
    }
}

/// "*well* when the `up` verdicts reach `up_when` (default all)".
#[test]
fn well_when() {
    for (when, one_is_enough) in [("", false), (", up_when = \"any\"", true), (", up_when = 2", false)] {
        let text = two(&format!("primary = {{ checks = [\"ping\", \"http\"]{when} }}"));
        let mut rig = Rig::settled(&text);
        for check in ["ping", "http"] {
            rig.set(check, Target::Silent);
        }
        rig.run(10 * SECOND);
        assert_eq!(rig.state("a"), State::Master);
        rig.set("ping", Target::Answers(MS));
        rig.run(60 * SECOND);
        let after_one = if one_is_enough { State::Backup } else { State::Master };
        assert_eq!(rig.state("a"), after_one, "up_when {when}");
    }
}

/// "Else *undecided*: no takeover, and the failback clock starts anew."
#[test]
fn undecided_starts_the_failback_clock_anew() {
    let mut rig = Rig::master(STANDBY);
    rig.set("ping", Target::Answers(MS));
    rig.until("well", 5 * SECOND, |r| r.instance("a").primary.as_deref() == Some("well"));
    rig.run(29 * SECOND);
    assert_eq!(rig.state("a"), State::Master);
    // One probe that could not be made is enough.
    rig.set("ping", Target::Blind);
    rig.until("undecided", 2 * SECOND, |r| r.instance("a").primary.as_deref() == Some("undecided"));
    rig.set("ping", Target::Answers(MS));
    let again = rig.until("well", 5 * SECOND, |r| r.instance("a").primary.as_deref() == Some("well"));
    assert!(again <= SECOND);
    let took = rig.until_state("a", State::Backup, 60 * SECOND);
    assert_eq!(took, 30 * SECOND, "the whole delay again");
}

/// "Undecided: no takeover": a primary that was never seen, or cannot be seen, is not dead.
#[test]
fn a_primary_that_was_never_seen_is_not_taken_over() {
    let mut rig = Rig::new(STANDBY);
    rig.set("ping", Target::Blind);
    rig.run(3600 * SECOND);
    assert_eq!(rig.states("a"), [State::Backup]);
}
