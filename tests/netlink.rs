//! The netlink edge against a real kernel, each test in a network namespace of its own.

mod support;

use announcerd::announcer::Event;
use announcerd::config::model::{Address, Route, RouteKind, Scope, When};
use announcerd::fib::normal::{address_object, route_object};
use announcerd::fib::object::{Action, LinkState, Object, OpError};
use announcerd::io::netlink::sweep;
use support::*;

fn wanted_routes() -> Vec<Route> {
    let some = |text: &str| Some(text.to_owned());
    let at = |text: &str| Some(text.parse().unwrap());
    let (a, b) = (at("192.0.2.1"), at("2001:db8:1::1"));
    let mut all = vec![
        // The recipe's own route, and its IPv6 twin.
        Route { dev: some("lo"), ..route("198.51.100.0/24") },
        Route { dev: some("lo"), ..route("2001:db8:100::/48") },
        Route { via: at("192.0.2.2"), ..route("198.51.101.0/24") },
        Route { via: at("2001:db8:1::2"), ..route("2001:db8:101::/48") },
        Route { via: at("192.0.2.2"), dev: some("ve0"), ..route("0.0.0.0/0") },
        Route { via: at("2001:db8:1::2"), dev: some("ve0"), ..route("::/0") },
        Route { via: at("203.0.113.1"), dev: some("ve0"), onlink: true, ..route("198.51.102.0/24") },
        Route { via: at("2001:db8:9::1"), dev: some("ve0"), onlink: true, ..route("2001:db8:102::/48") },
        Route { via: at("fe80::1"), dev: some("ve0"), ..route("2001:db8:103::/48") },
        // RFC 8950: an IPv6 gateway for an IPv4 route.
        Route { via: at("fe80::1"), dev: some("ve0"), ..route("198.51.103.0/24") },
        Route { dev: some("ve0"), src: a, mtu: Some(1400), advmss: Some(1300), ..route("198.51.104.0/24") },
        Route { dev: some("ve0"), src: b, mtu: Some(1400), advmss: Some(1300), ..route("2001:db8:104::/48") },
        Route { dev: some("ve0"), mtu: Some(70_000), advmss: Some(70_000), ..route("198.51.105.0/24") },
        Route { dev: some("ve0"), mtu: Some(70_000), advmss: Some(70_000), ..route("2001:db8:105::/48") },
        Route { via: at("192.0.2.2"), table: 1000, metric: 7, ..route("198.51.106.0/24") },
        Route { via: at("2001:db8:1::2"), table: 1000, metric: 7, ..route("2001:db8:106::/48") },
        Route { dev: some("ve0"), scope: Some(Scope::Host), ..route("198.51.107.0/24") },
        Route { dev: some("ve0"), scope: Some(Scope::Global), ..route("198.51.108.0/24") },
        Route { dev: some("ve0"), scope: Some(Scope::Host), ..route("2001:db8:108::/48") },
        Route { dev: some("ve0"), onlink: true, ..route("198.51.109.0/24") },
        Route { dev: some("ve0"), onlink: true, ..route("2001:db8:109::/48") },
        Route { dev: some("lo"), metric: 5, ..route("198.51.110.1/32") },
        Route { dev: some("lo"), metric: 5, ..route("2001:db8:110::1/128") },
        Route { dev: some("lo"), table: 0, metric: 9, ..route("198.51.110.1/32") },
    ];
    let kinds = [RouteKind::Local, RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit];
    for (i, kind) in kinds.into_iter().enumerate() {
        for (j, dev) in [None, Some("lo"), Some("ve0")].into_iter().enumerate() {
            let dev = dev.map(str::to_owned);
            all.push(Route { kind, dev: dev.clone(), ..route(&format!("198.18.{}.0/24", i * 4 + j)) });
            all.push(Route { kind, dev: dev.clone(), ..route(&format!("2001:db8:2{i}{j}::/48")) });
            let table = 255;
            all.push(Route { kind, dev, table, ..route(&format!("198.18.{}.0/24", i * 4 + j)) });
        }
    }
    all
}

/// Whatever is configured, the dump shows what was wanted: no difference remains for ever. And it can be removed.
#[test]
fn every_route_comes_back_as_it_was_wanted_and_goes_again() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let before = (ip("route show table all"), ip("-6 route show table all"));
        let wanted: Vec<Object> = wanted_routes().iter().map(|r| Object::Route(route_object(r))).collect();
        for (object, result) in wanted.iter().zip(rig.all(wanted.iter().cloned().map(Action::Add).collect()))
        {
            assert_eq!(result, Ok(()), "add {object:?}");
        }
        let have = rig.dump().objects;
        assert_eq!(have.len(), wanted.len());
        for object in &wanted {
            let seen = have.iter().find(|o| o.key() == object.key()).unwrap_or_else(|| panic!("no {object}"));
            assert!(seen.satisfies(object), "have {seen:?}\nwant {object:?}");
        }
        // What was seen can be removed too: the core removes what it saw, not only what it wanted.
        let gone = have.iter().cloned().map(Action::Delete).collect();
        assert!(rig.all(gone).iter().all(Result::is_ok));
        assert_eq!(rig.dump().objects, []);
        assert!(rig.all(wanted.iter().cloned().map(Action::Add).collect()).iter().all(Result::is_ok));
        let again = wanted.into_iter().map(Action::Delete).collect::<Vec<_>>();
        assert!(rig.all(again.clone()).iter().all(Result::is_ok));
        assert_eq!(rig.dump().objects, []);
        assert!(rig.all(again).iter().all(Result::is_ok), "gone already is done");
        assert_eq!(before, (ip("route show table all"), ip("-6 route show table all")));
    });
}

#[test]
fn every_route_can_be_replaced_in_place() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let wanted: Vec<Object> = wanted_routes().iter().map(|r| Object::Route(route_object(r))).collect();
        assert!(rig.all(wanted.iter().cloned().map(Action::Add).collect()).iter().all(Result::is_ok));
        // Into another type, and back.
        let other: Vec<Object> = wanted_routes()
            .iter()
            .map(|r| match r.kind {
                RouteKind::Blackhole => Route { kind: RouteKind::Prohibit, dev: None, ..r.clone() },
                _ => Route { kind: RouteKind::Blackhole, dev: None, via: None, scope: None, ..r.clone() },
            })
            .map(|r| Object::Route(route_object(&r)))
            .collect();
        for generation in [&other, &wanted] {
            let results = rig.all(generation.iter().cloned().map(Action::Replace).collect());
            for (object, result) in generation.iter().zip(results) {
                assert_eq!(result, Ok(()), "replace by {object:?}");
            }
            let have = rig.dump().objects;
            assert_eq!(have.len(), generation.len());
            for object in generation {
                assert!(have.iter().any(|o| o.satisfies(object)), "{object:?} not in {have:#?}");
            }
        }
        // What is gone meanwhile is made.
        ip("route flush proto 187");
        assert_eq!(rig.one(Action::Replace(wanted[0].clone())), Ok(()));
    });
}

fn addresses() -> Vec<Object> {
    let address = |text: &str, len, dev: &str, scope| {
        let (address, dev) = (text.parse().unwrap(), dev.to_owned());
        Object::Address(address_object(&Address { address, len, dev, scope, when: When::Master }))
    };
    vec![
        address("198.51.100.1", 32, "lo", Scope::Global),
        address("198.51.100.2", 24, "ve0", Scope::Global),
        address("198.51.100.3", 32, "ve0", Scope::Link),
        address("198.51.100.4", 32, "lo", Scope::Host),
        address("2001:db8:100::1", 128, "lo", Scope::Global),
        address("2001:db8:100::2", 64, "ve0", Scope::Link),
        address("fe80::abcd", 64, "ve0", Scope::Global),
    ]
}

#[test]
fn every_address_comes_back_as_it_was_wanted_and_goes_again() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let wanted = addresses();
        for (object, result) in wanted.iter().zip(rig.all(wanted.iter().cloned().map(Action::Add).collect()))
        {
            assert_eq!(result, Ok(()), "add {object}");
        }
        let have = rig.dump().objects;
        assert_eq!(have.len(), wanted.len(), "{have:?}");
        for object in &wanted {
            assert!(have.iter().any(|o| o.satisfies(object)), "{object:?} not in {have:#?}");
        }
        assert!(
            !ip("-6 addr show dev ve0")
                .lines()
                .any(|l| l.contains("2001:db8:100::2") && l.contains("tentative"))
        );
        assert_eq!(rig.one(Action::Replace(wanted[1].clone())), Ok(()), "the same again");
        assert_eq!(rig.one(Action::Add(wanted[1].clone())), Err(OpError::OursExists));
        assert!(rig.all(wanted.into_iter().map(Action::Delete).collect()).iter().all(Result::is_ok));
        assert_eq!(rig.dump().objects, []);
        assert!(ip("addr show dev ve0").contains("192.0.2.1/24"), "others' addresses stay");
    });
}

/// The kernel removes an address whoever put it there: we must look.
#[test]
fn others_addresses_are_never_touched() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("addr add 198.51.100.1/32 dev lo");
        ip("addr add 198.51.100.2/24 dev ve0");
        ip("-6 addr add 2001:db8:100::1/64 dev lo");
        let mut ours = addresses();
        let Object::Address(v6) = ours[4].clone() else { unreachable!() };
        ours.truncate(2);
        for object in &ours {
            assert_eq!(rig.one(Action::Add(object.clone())), Err(OpError::ForeignSame), "{object}");
            assert_eq!(rig.one(Action::Replace(object.clone())), Err(OpError::ForeignSame));
            assert_eq!(rig.one(Action::Delete(object.clone())), Ok(()));
        }
        let other = rig.one(Action::Add(Object::Address(v6.clone())));
        assert_eq!(other, Err(OpError::ForeignOther("2001:db8:100::1/64 dev lo".into())));
        assert_eq!(rig.one(Action::Delete(Object::Address(v6))), Ok(()));
        let left = ip("addr show");
        for address in ["198.51.100.1/32", "198.51.100.2/24", "2001:db8:100::1/64", "192.0.2.1/24"] {
            assert!(left.contains(address), "{address} is gone");
        }
    });
}

#[test]
fn others_routes_are_told_apart_and_never_replaced() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("route add 198.51.100.0/24 dev lo");
        ip("-6 route add 2001:db8:100::/48 dev lo");
        ip("route add 198.51.101.0/24 via 192.0.2.2 proto bird metric 20 mtu 1400");
        ip("-6 route add 2001:db8:101::/48 via 2001:db8:1::2 proto bird");
        ip("route add 198.51.102.0/24 proto static nexthop via 192.0.2.2 nexthop via 192.0.2.3");
        ip("route add throw 198.51.103.0/24 table 1000");
        let before = (ip("route show table all"), ip("-6 route show table all"));
        for to in ["198.51.100.0/24", "2001:db8:100::/48"] {
            assert_eq!(rig.one(Action::Add(on(to, "lo"))), Err(OpError::ForeignSame));
            assert_eq!(rig.one(Action::Replace(on(to, "lo"))), Err(OpError::ForeignSame));
        }
        let others = [
            (
                Route { metric: 20, ..route("198.51.101.0/24") },
                "198.51.101.0/24 via 192.0.2.2 dev ve0 proto bird metric 20 mtu 1400",
            ),
            (
                route("2001:db8:101::/48"),
                "2001:db8:101::/48 via 2001:db8:1::2 dev ve0 proto bird metric 1024",
            ),
            (
                route("198.51.102.0/24"),
                "198.51.102.0/24 nexthop via 192.0.2.2 dev ve0 weight 1 nexthop via 192.0.2.3 dev ve0 weight 1 proto static",
            ),
            (
                Route { table: 1000, ..route("198.51.103.0/24") },
                "throw 198.51.103.0/24 table 1000 proto boot",
            ),
        ];
        for (cfg, text) in others {
            let wanted = Object::Route(route_object(&Route { dev: Some("lo".into()), ..cfg }));
            let expected = Err(OpError::ForeignOther(text.into()));
            assert_eq!(rig.one(Action::Add(wanted.clone())), expected);
            assert_eq!(rig.one(Action::Replace(wanted.clone())), expected);
            assert_eq!(rig.one(Action::Delete(wanted)), Ok(()));
        }
        assert_eq!(before, (ip("route show table all"), ip("-6 route show table all")));
    });
}

/// NLM_F_REPLACE takes the route that stands first, whosever it is.
#[test]
fn a_foreign_route_before_or_beside_ours_is_not_replaced() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let (v4, v6) =
            (through("198.51.100.0/24", "192.0.2.2"), through("2001:db8:100::/48", "2001:db8:1::2"));
        assert!(rig.all(vec![Action::Add(v4.clone()), Action::Add(v6.clone())]).iter().all(Result::is_ok));
        ip("route prepend 198.51.100.0/24 via 192.0.2.9 proto bird");
        ip("-6 route append 2001:db8:100::/48 via 2001:db8:1::9 proto bird");
        let r = rig.one(Action::Replace(on("198.51.100.0/24", "lo")));
        assert_eq!(r, Err(OpError::ForeignOther("198.51.100.0/24 via 192.0.2.9 dev ve0 proto bird".into())));
        // Removal takes our own and leaves the other, even of two siblings of one IPv6 ECMP route.
        assert!(rig.all(vec![Action::Delete(v4), Action::Delete(v6)]).iter().all(Result::is_ok));
        assert!(ip("route show 198.51.100.0/24").contains("via 192.0.2.9 dev ve0 proto bird"));
        assert!(ip("-6 route show 2001:db8:100::/48").contains("via 2001:db8:1::9 dev ve0 proto bird"));
        assert_eq!(rig.dump().objects, []);
    });
}

#[test]
fn removal_takes_nothing_with_another_metric_or_protocol() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("route add 198.51.100.0/24 dev lo metric 50 proto bird");
        ip("-6 route add 2001:db8:100::/48 dev lo metric 50 proto bird");
        ip("route add 198.51.101.0/24 dev lo proto bird");
        ip("-6 route add 2001:db8:101::/48 dev lo proto bird");
        let before = (ip("route show"), ip("-6 route show"));
        for to in ["198.51.100.0/24", "2001:db8:100::/48"] {
            let ours = on(to, "lo");
            assert_eq!(rig.one(Action::Add(ours.clone())), Ok(()));
            assert_eq!(rig.one(Action::Delete(ours.clone())), Ok(()));
            assert_eq!(rig.one(Action::Delete(ours)), Ok(()));
        }
        for to in ["198.51.101.0/24", "2001:db8:101::/48"] {
            assert_eq!(rig.one(Action::Delete(on(to, "lo"))), Ok(()));
        }
        assert_eq!(before, (ip("route show"), ip("-6 route show")));
    });
}

/// In an IPv4 removal the kernel reads metric 0 as any.
#[test]
fn removal_of_metric_0_leaves_our_other_metrics() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let zero = on("198.51.100.0/24", "lo");
        let backup = Object::Route(route_object(&Route {
            dev: Some("lo".into()),
            metric: 100,
            ..route("198.51.100.0/24")
        }));
        assert_eq!(rig.one(Action::Add(backup.clone())), Ok(()));
        rig.quiet();
        assert_eq!(rig.one(Action::Delete(zero.clone())), Ok(()));
        assert!(rig.kernel_has(&backup).is_some_and(|o| o.satisfies(&backup)));
        rig.wait_for(Event::KernelChanged);
        assert!(rig.all(vec![Action::Add(zero.clone()), Action::Delete(zero)]).iter().all(Result::is_ok));
        assert!(rig.kernel_has(&backup).is_some());
    });
}

/// What somebody made by hand under our mark is shown, satisfies nothing, and can be removed.
#[test]
fn what_we_could_not_have_made_is_seen_and_removable() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("route add 198.51.100.0/24 proto 187 nexthop via 192.0.2.2 nexthop via 192.0.2.3");
        ip("-6 route add 2001:db8:100::/48 proto 187 nexthop via 2001:db8:1::2 nexthop via 2001:db8:1::3");
        ip("-6 route append 2001:db8:100::/48 via 2001:db8:1::9 proto bird");
        ip("route add throw 198.51.101.0/24 proto 187");
        ip("route add 198.51.102.0/24 via 192.0.2.2 proto 187 initcwnd 20");
        ip("-6 route add 2001:db8:102::/48 via 2001:db8:1::2 proto 187 initcwnd 20");
        ip("nexthop add id 5 via 192.0.2.2 dev ve0");
        ip("nexthop add id 6 via 2001:db8:1::2 dev ve0");
        ip("route add 198.51.103.0/24 nhid 5 proto 187");
        ip("-6 route add 2001:db8:103::/48 nhid 6 proto 187");
        let have = rig.dump().objects;
        assert_eq!(have.len(), 7, "{have:#?}");
        for object in &have {
            let Object::Route(r) = object else { panic!("{object:?}") };
            let via = if r.to.address().is_ipv4() { "192.0.2.2" } else { "2001:db8:1::2" };
            assert!(!object.satisfies(&through(&r.to.to_string(), via)), "{object:?}");
        }
        // One replaced, the rest removed.
        let better = through("198.51.102.0/24", "192.0.2.3");
        assert_eq!(rig.one(Action::Replace(better.clone())), Ok(()));
        assert!(rig.kernel_has(&better).is_some_and(|o| o.satisfies(&better)));
        for object in rig.dump().objects {
            assert_eq!(rig.one(Action::Delete(object.clone())), Ok(()), "{object:?}");
        }
        assert_eq!(rig.dump().objects, []);
        assert!(ip("-6 route show 2001:db8:100::/48").contains("via 2001:db8:1::9 dev ve0 proto bird"));
    });
}

/// FIELD 3 (keepalived #2361): what kill -9 leaves behind is cleaned; FIELD 11: others' objects stay.
#[test]
fn field_3_and_11_sweep_removes_ours_and_only_ours() {
    in_namespace(|| {
        ip("route add 198.51.100.0/24 dev lo proto bird");
        ip("-6 route add 2001:db8:100::/48 via 2001:db8:1::2 proto bird");
        ip("addr add 198.51.100.77/32 dev lo");
        let all = || [ip("route show table all"), ip("-6 route show table all"), ip("addr show")];
        let before = all();
        assert_eq!(sweep(MARK).unwrap(), [""; 0]);
        {
            let mut rig = Rig::new();
            let routes = wanted_routes()
                .into_iter()
                .filter(|r| !["198.51.100.0/24", "2001:db8:100::/48"].contains(&r.to.to_string().as_str()));
            let mut wanted: Vec<Object> = routes.map(|r| Object::Route(route_object(&r))).collect();
            wanted.extend(addresses());
            assert!(rig.all(wanted.into_iter().map(Action::Add).collect()).iter().all(Result::is_ok));
        }
        ip("-6 route add 2001:db8:130::/48 via 2001:db8:1::2 proto 187");
        ip("-6 route append 2001:db8:130::/48 via 2001:db8:1::3 proto bird");
        ip("route add 198.51.122.0/24 via 192.0.2.2 tos 0x10 proto 187 metric 3");
        ip("route add 198.51.120.0/24 proto 187 nexthop via 192.0.2.2 nexthop via 192.0.2.3");
        ip("route add 198.51.121.0/24 tos 0x10 dev lo proto 187");
        let removed = sweep(MARK).unwrap();
        assert!(
            removed.iter().any(|r| r.starts_with("route blackhole 198.18.4.0/24 proto ")),
            "{removed:#?}"
        );
        assert!(removed.iter().any(|r| r.starts_with("address 198.51.100.1/32 dev lo")), "{removed:#?}");
        ip("-6 route del 2001:db8:130::/48 via 2001:db8:1::3 proto bird");
        assert_eq!(before, all());
        assert_eq!(sweep(MARK).unwrap(), [""; 0]);
    });
}

/// FIELD 11 (keepalived #2479, systemd #25451): another manager removes what is ours.
#[test]
fn field_11_what_others_remove_is_hinted_at() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let route = on("198.51.100.0/24", "lo");
        let v6 = on("2001:db8:100::/48", "lo");
        let address = addresses().remove(0);
        let all = vec![Action::Add(route), Action::Add(v6), Action::Add(address)];
        assert!(rig.all(all).iter().all(Result::is_ok));
        for line in [
            "route del 198.51.100.0/24",
            "-6 route del 2001:db8:100::/48",
            "addr del 198.51.100.1/32 dev lo",
            "route add 198.51.110.0/24 dev lo proto 187",
        ] {
            rig.quiet();
            ip(line);
            rig.wait_for(Event::KernelChanged);
        }
    });
}

/// A full table that comes and goes in another protocol is no news, and neither is our own bulk.
#[test]
fn others_routes_and_our_own_operations_give_no_hints() {
    in_namespace(|| {
        let mut rig = Rig::new();
        rig.wait("links", |e| matches!(e, Event::LinkIs(l) if l.name == "ve0").then_some(()));
        let v6_ready = || !ip("-6 addr show tentative").contains("inet6");
        // Link-local addresses finish their duplicate detection: news that are not meant here.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !v6_ready() {
            assert!(std::time::Instant::now() < deadline, "duplicate address detection does not end");
            std::thread::yield_now();
        }
        ip("route add 198.51.110.0/24 dev lo proto 187");
        rig.wait_for(Event::KernelChanged);
        rig.quiet();
        let lines = |verb| {
            (0..2000).fold(String::new(), |s, i| {
                s + &format!("route {verb} 10.{}.{}.0/24 dev lo proto bird\n", i / 256, i % 256)
            })
        };
        ip_batch(&lines("add"));
        ip_batch(&lines("del"));
        let ours: Vec<_> = (0..2000).map(|i| on(&format!("10.{}.{}.0/24", i / 256, i % 256), "lo")).collect();
        assert!(rig.all(ours.iter().cloned().map(Action::Add).collect()).iter().all(Result::is_ok));
        assert!(rig.all(ours.into_iter().map(Action::Delete).collect()).iter().all(Result::is_ok));
        // News come in order: after this one, all earlier would have been heard.
        ip("link set ve1 mtu 1400");
        ip("link set ve1 name sign");
        rig.wait("the sign", |e| matches!(e, Event::LinkIs(l) if l.name == "sign").then_some(()));
        // One may be left from before; more than two tenths of a second of bulk would have given several.
        let hints = rig.seen.iter().filter(|e| **e == Event::KernelChanged).count();
        assert!(hints <= 1, "{:?}", rig.seen);
    });
}

/// FIELD 12 (keepalived #1719): the kernel drops routes with the link or the covering address, without a word.
#[test]
fn field_12_silent_drops_are_hinted_at() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let up = |name: &str, up| LinkState { name: name.into(), admin_up: up, carrier: up };
        rig.wait_for(Event::LinkIs(up("ve0", true)));
        let gateway = through("198.51.100.0/24", "192.0.2.2");
        assert_eq!(rig.one(Action::Add(gateway.clone())), Ok(()));
        rig.quiet();
        ip("addr del 192.0.2.1/24 dev ve0");
        rig.wait_for(Event::KernelChanged);
        ip("addr add 192.0.2.1/24 dev ve0");
        let _ = rig.one(Action::Add(gateway.clone()));
        assert!(rig.kernel_has(&gateway).is_some());
        rig.quiet();
        ip("link set ve0 down");
        rig.wait_for(Event::LinkIs(up("ve0", false)));
        rig.wait_for(Event::KernelChanged);
        assert_eq!(rig.kernel_has(&gateway), None);
        let refused = rig.one(Action::Add(gateway));
        assert!(
            matches!(&refused, Err(OpError::Refused(words)) if words.contains("ENETUNREACH")),
            "{refused:?}"
        );
        // The other end has lost its carrier, and is still administratively up.
        rig.wait_for(Event::LinkIs(LinkState { name: "ve1".into(), admin_up: true, carrier: false }));
    });
}

#[test]
fn links_appear_are_renamed_and_go() {
    in_namespace(|| {
        let mut rig = Rig::new();
        rig.wait_for(Event::LinkIs(LinkState { name: "lo".into(), admin_up: true, carrier: true }));
        ip("link add name ve2 type veth peer name ve3");
        rig.wait_for(Event::LinkIs(LinkState { name: "ve2".into(), admin_up: false, carrier: false }));
        assert_eq!(rig.one(Action::Add(on("198.51.100.0/24", "ve0"))), Ok(()));
        ip("link set ve0 name wan0");
        rig.wait_for(Event::LinkGone("ve0".into()));
        rig.wait_for(Event::LinkIs(LinkState { name: "wan0".into(), admin_up: true, carrier: true }));
        let seen = rig.kernel_has(&on("198.51.100.0/24", "wan0")).unwrap();
        assert_eq!(seen.dev(), Some("wan0"));
        assert_eq!(rig.one(Action::Add(on("198.51.101.0/24", "ve0"))), Err(OpError::NoDevice("ve0".into())));
        assert_eq!(rig.one(Action::Delete(on("198.51.101.0/24", "ve0"))), Ok(()), "gone with its device");
        assert_eq!(rig.one(Action::Delete(on("198.51.100.0/24", "wan0"))), Ok(()));
        ip("link del wan0");
        rig.wait_for(Event::LinkGone("wan0".into()));
        let names: Vec<_> = rig.dump().links.into_iter().map(|l| l.name).collect();
        assert!(!names.contains(&"wan0".to_owned()) && names.contains(&"lo".to_owned()), "{names:?}");
    });
}

/// News lost (ENOBUFS): the core is told to look, and links are read anew.
#[test]
fn an_overrun_gives_a_hint_and_the_links_anew() {
    in_namespace(|| {
        // Room for one event: the thread that hears stands still at its second, until we take them.
        let mut rig = Rig::with(1, Some(2048));
        let lines = (0..2000).fold(String::new(), |s, i| {
            s + &format!("addr add 10.0.{}.{}/32 dev lo\n", i / 250, i % 250 + 1)
        });
        ip_batch(&lines);
        ip("link set ve0 name lost0");
        rig.wait_for(Event::KernelChanged);
        rig.wait_for(Event::LinkGone("ve0".into()));
        rig.wait("the new name", |e| matches!(e, Event::LinkIs(l) if l.name == "lost0").then_some(()));
    });
}

#[test]
fn the_kernels_own_words_are_passed_on() {
    in_namespace(|| {
        let mut rig = Rig::new();
        let r = rig.one(Action::Add(through("198.51.100.0/24", "203.0.113.9")));
        assert_eq!(r, Err(OpError::Refused("Nexthop has invalid gateway (ENETUNREACH)".into())));
        let cfg = Route {
            src: Some("203.0.113.77".parse().unwrap()),
            dev: Some("lo".into()),
            ..route("198.51.100.0/24")
        };
        let r = rig.one(Action::Add(Object::Route(route_object(&cfg))));
        assert!(matches!(&r, Err(OpError::Refused(words)) if words.contains("EINVAL")), "{r:?}");
        assert_eq!(
            rig.one(Action::Add(on("198.51.100.0/24", "nowhere"))),
            Err(OpError::NoDevice("nowhere".into()))
        );
    });
}

#[test]
fn each_of_a_bulk_has_its_own_result_in_order() {
    in_namespace(|| {
        let mut rig = Rig::new();
        ip("route add 10.0.7.0/24 dev lo");
        ip("route add 10.1.9.0/24 via 192.0.2.2 proto static");
        let net = |i: u32| format!("10.{}.{}.0/24", i / 256, i % 256);
        let all: Vec<_> = (0..5000).map(|i| on(&net(i), if i == 4321 { "nowhere" } else { "lo" })).collect();
        let results = rig.all(all.iter().cloned().map(Action::Add).collect());
        for (i, result) in results.into_iter().enumerate() {
            match i {
                7 => assert_eq!(result, Err(OpError::ForeignSame)),
                265 => assert!(matches!(result, Err(OpError::ForeignOther(_))), "{result:?}"),
                4321 => assert_eq!(result, Err(OpError::NoDevice("nowhere".into()))),
                _ => assert_eq!(result, Ok(())),
            }
        }
        assert_eq!(rig.dump().objects.len(), 4997);
        // Add, replace, remove of one key in one submission: in that order.
        let (a, b) = (on("192.0.2.128/25", "lo"), on("192.0.2.128/25", "ve0"));
        let sequence = vec![
            Action::Add(a.clone()),
            Action::Replace(b.clone()),
            Action::Delete(b),
            Action::Add(a.clone()),
        ];
        assert_eq!(rig.all(sequence), vec![Ok(()); 4]);
        assert!(rig.kernel_has(&a).is_some_and(|o| o.satisfies(&a)));
        let again = rig.all(all.iter().cloned().map(Action::Add).collect());
        assert_eq!(again.iter().filter(|r| **r == Err(OpError::OursExists)).count(), 4997);
        assert!(rig.all(all.into_iter().map(Action::Delete).collect()).iter().all(Result::is_ok));
        assert_eq!(rig.dump().objects, [a]);
    });
}
