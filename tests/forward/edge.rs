//! The netlink edge: several next hops, and rules, as wanted and as the kernel says them.

use announcerd::config::model::{HopMode, NextHop, NextHops, Route, Rule, When, WhenNone};
use announcerd::fib::normal::{routed, rule_object};
use announcerd::fib::object::{Action, Object, OpError};
use announcerd::io::netlink::sweep;
use announcerd::net::Family;

use crate::support::*;

fn hop(via: &str, dev: Option<&str>, weight: u16) -> NextHop {
    NextHop { via: via.parse().ok(), dev: dev.map(str::to_owned), check: None, weight }
}

/// A route by these next hops, `chosen` of them.
fn by(to: &str, hops: &[NextHop], chosen: &[usize], metric: u32) -> Object {
    let nexthops = NextHops { hops: hops.to_vec(), mode: HopMode::Ecmp, when_none: WhenNone::Keep };
    let cfg = Route { nexthops: Some(nexthops), metric, when: When::Always, ..route(to) };
    Object::Route(routed(&cfg, chosen).expect("one is chosen"))
}

/// Both protocols, with and without a device; and each subset in the place of another by one operation.
#[test]
fn next_hops_come_back_as_they_were_wanted_and_replace_each_other() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let v4 =
            [hop("192.0.2.2", Some("ve0"), 1), hop("192.0.2.3", None, 7), hop("192.0.2.4", Some("ve0"), 256)];
        let v6 = [
            hop("2001:db8:1::2", Some("ve0"), 1),
            hop("2001:db8:1::3", None, 7),
            hop("fe80::1", Some("ve0"), 256),
        ];
        let sets: [&[usize]; 6] = [&[0, 1, 2], &[1], &[1, 2], &[2], &[0, 2], &[0, 1, 2]];
        for (to, hops, metric) in [
            ("0.0.0.0/0", &v4, 0),
            ("::/0", &v6, 0),
            ("198.51.100.0/24", &v4, 7),
            ("2001:db8:100::/48", &v6, 7),
        ] {
            let first = by(to, hops, &[0], metric);
            assert_eq!(rig.one(Action::Add(first.clone())), Ok(()), "{first}");
            // A stranger's, with another metric: it stays.
            let family = if to.contains(':') { "-6" } else { "-4" };
            ip(&format!("{family} route add {to} dev lo metric 4000"));
            for chosen in sets {
                let wanted = by(to, hops, chosen, metric);
                assert_eq!(rig.one(Action::Replace(wanted.clone())), Ok(()), "{wanted}");
                let have = rig.dump().objects;
                assert!(have.len() == 1 && have[0].satisfies(&wanted), "have {have:#?}\nwant {wanted:#?}");
            }
            let last = by(to, hops, &[0, 1, 2], metric);
            let seen = rig.dump().objects.remove(0);
            assert_eq!(rig.one(Action::Delete(seen)), Ok(()));
            assert_eq!(rig.dump().objects, []);
            assert_eq!(rig.one(Action::Add(last.clone())), Ok(()));
            assert_eq!(rig.one(Action::Delete(last)), Ok(()));
            assert_eq!(rig.dump().objects, []);
            ip(&format!("{family} route del {to} dev lo metric 4000"));
        }
        let lost = by("0.0.0.0/0", &[hop("192.0.2.2", Some("no"), 1), hop("192.0.2.3", None, 1)], &[0, 1], 0);
        assert_eq!(rig.one(Action::Add(lost)), Err(OpError::NoDevice("no".into())));
    });
}

fn rules() -> Vec<Object> {
    let rule = |family, from: &str, to: &str| Rule {
        family,
        from: from.parse().ok(),
        to: to.parse().ok(),
        fwmark: None,
        iif: None,
        table: 100,
        priority: 10_000,
        when: When::Master,
    };
    let all = [
        rule(Family::V4, "10.10.10.0/30", ""),
        rule(Family::V4, "10.10.10.0/30", "198.51.100.0/24"),
        rule(Family::V6, "2001:db8:100::/48", ""),
        Rule { table: 254, priority: 5, ..rule(Family::V4, "", "198.51.100.1/32") },
        Rule { fwmark: Some((0x10, 0xff)), table: 1000, ..rule(Family::V4, "", "") },
        Rule { fwmark: Some((7, u32::MAX)), iif: Some("ve0".into()), ..rule(Family::V6, "", "") },
        // A device that is not there yet.
        Rule { iif: Some("gre1".into()), ..rule(Family::V4, "0.0.0.0/0", "") },
    ];
    all.iter().map(|r| Object::Rule(rule_object(r))).collect()
}

#[test]
fn rules_come_back_as_they_were_wanted_and_go_again() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let before = (ip("rule"), ip("-6 rule"));
        let results = rig.all(rules().into_iter().map(Action::Add).collect());
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let have = rig.dump().objects;
        assert_eq!(have.len(), rules().len(), "{have:#?}");
        for rule in rules() {
            assert!(have.contains(&rule), "{rule} not in {have:#?}");
            assert_eq!(rig.one(Action::Add(rule)), Err(OpError::OursExists));
        }
        let results = rig.all(have.into_iter().map(Action::Delete).collect());
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!((ip("rule"), ip("-6 rule")), before);
        assert!(rig.all(rules().into_iter().map(Action::Delete).collect()).iter().all(Result::is_ok));
    });
}

/// A stranger's rule in every way like ours but for the mark.
#[test]
fn a_strangers_rule_is_left_alone() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("rule add from 10.10.10.0/30 lookup 100 priority 10000");
        let rule = rules().remove(0);
        // Whatever this kernel says of a second one like it, the rule is there.
        let added = rig.one(Action::Add(rule.clone()));
        assert!(matches!(added, Ok(()) | Err(OpError::ForeignSame)), "{added:?}");
        assert_eq!(rig.one(Action::Delete(rule.clone())), Ok(()));
        assert_eq!(rig.dump().objects, []);
        assert!(ip("rule").contains("from 10.10.10.0/30 lookup 100"));
        let _ = rig.one(Action::Add(rules().remove(1)));
        let swept = sweep(MARK).unwrap();
        assert!(
            swept.iter().any(|s| s.starts_with("rule from 10.10.10.0/30 to 198.51.100.0/24")),
            "{swept:?}"
        );
        assert!(ip("rule").contains("from 10.10.10.0/30 lookup 100") && !ip("rule").contains("198.51.100.0"));
    });
}
