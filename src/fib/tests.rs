//! Plans from random wishes, leavings, refusals and thefts: whatever happened, the kernel becomes what is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::desired::{Planned, Stage};
use super::object::{
    Action, AddressObject, Key, Object, Op, OpError, OpId, RouteObject, RuleObject, TunnelObject,
};
use super::reconcile::Fib;
use crate::announcer::instance::Level;
use crate::announcer::timers::InstanceId;
use crate::config::model::{RouteKind, Scope, TunnelMode};
use crate::net::Family;
use crate::time::Time;

const OWNERS: [InstanceId; 2] = [InstanceId(1), InstanceId(2)];

/// One that the kernel can change in place, or one that it must make anew.
fn tunnel(n: u8, variant: u8) -> TunnelObject {
    let anew = n % 2 == 0 && variant > 0;
    TunnelObject {
        name: format!("gre{n}"),
        mode: if anew { TunnelMode::Gretap } else { TunnelMode::Gre },
        local: "203.0.113.2".parse().expect("an address"),
        remote: std::net::Ipv4Addr::new(198, 18, 0, n).into(),
        ttl: 64 + variant,
        tos: 0,
        ikey: None,
        okey: None,
        pmtudisc: true,
        device: None,
        fwmark: 0,
        mtu: None,
        up: true,
        plain: true,
        recursive: false,
    }
}

fn object(n: u8, variant: u8) -> Object {
    if n % 5 == 4 {
        return Object::Tunnel(tunnel(n, variant));
    }
    if n % 5 == 3 {
        let from = format!("10.{n}.0.0/16").parse().ok();
        let (family, priority, table) = (Family::V4, 100 + u32::from(n), 100);
        return Object::Rule(RuleObject { family, priority, from, to: None, fwmark: None, iif: None, table });
    }
    if n % 3 == 0 {
        let address = std::net::Ipv4Addr::new(10, 0, 0, n).into();
        let scope = if variant == 0 { Scope::Global } else { Scope::Link };
        return Object::Address(AddressObject { dev: "lo".into(), address, len: 32, scope });
    }
    Object::Route(RouteObject {
        table: 254,
        to: format!("10.{n}.0.0/16").parse().expect("a prefix"),
        metric: 0,
        kind: RouteKind::Unicast,
        dev: Some("lo".into()),
        via: None,
        hops: Vec::new(),
        src: None,
        scope: Scope::Link,
        onlink: false,
        mtu: (variant > 0).then_some(1400),
        advmss: None,
    })
}

/// The objects `first..first + 8`, in the order of their stages.
fn plan_of(first: u8, variant: u8) -> Vec<Planned> {
    let stage = |n: u8| [Stage::Base, Stage::Support, Stage::Export][usize::from(n % 8) * 3 / 8];
    let mut all: Vec<Planned> = (first..first + 8)
        .map(|n| object(n, variant))
        .zip(0..)
        .map(|(object, n)| Planned { key: object.key(), object, stage: stage(n) })
        .collect();
    all.sort_by_key(|p| p.stage);
    all
}

#[derive(Clone, Debug)]
enum Step {
    Level(usize, Level),
    /// New objects: from this one on, so that the two owners' never meet.
    Objects(usize, u8, u8),
    /// Somebody deletes one of ours, or makes one that carries our mark.
    Steal(u8),
    Plant(u8, u8),
    /// The kernel answers so many operations: 0 does them, 1 refuses, 2 does them unheard.
    Answer(usize, u8),
    Dump,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let level = prop_oneof![Just(Level::Nothing), Just(Level::Base), Just(Level::Drain), Just(Level::Full)];
    prop_oneof![
        (0..2usize, level).prop_map(|(o, l)| Step::Level(o, l)),
        (0..2usize, 0..8u8, 0..2u8).prop_map(|(o, f, v)| Step::Objects(o, f, v)),
        (0..60u8).prop_map(Step::Steal),
        (0..60u8, 0..2u8).prop_map(|(n, v)| Step::Plant(n, v)),
        (1..9usize, 0..3u8).prop_map(|(n, how)| Step::Answer(n, how)),
        Just(Step::Dump),
        (0..2000u64).prop_map(Step::Pass),
    ]
}

#[derive(Default)]
struct World {
    fib: Fib,
    kernel: BTreeMap<Key, Object>,
    queue: Vec<Op>,
    now: Time,
    last: BTreeMap<usize, Vec<Planned>>,
    levels: BTreeMap<usize, Level>,
}

impl World {
    fn plan(&mut self) {
        self.queue.extend(self.fib.plan(self.now));
    }

    fn execute(&mut self, action: Action) -> Result<(), OpError> {
        let key = action.object().key();
        match action {
            Action::Add(_) if self.kernel.contains_key(&key) => Err(OpError::OursExists),
            Action::Add(o) | Action::Replace(o) => {
                self.kernel.insert(key, o);
                Ok(())
            }
            Action::Delete(_) => {
                self.kernel.remove(&key);
                Ok(())
            }
            Action::Examine(_) => Ok(()),
        }
    }

    fn answer(&mut self, n: usize, how: u8) -> bool {
        let ops: Vec<Op> = self.queue.drain(..n.min(self.queue.len())).collect();
        let mut answers: Vec<(OpId, Result<(), OpError>)> = Vec::new();
        for op in ops {
            answers.push(match how {
                0 => (op.id, self.execute(op.action)),
                1 => (op.id, Err(OpError::Refused("No buffer space available".into()))),
                _ => {
                    let _ = self.execute(op.action);
                    (op.id, Err(OpError::NoAnswer))
                }
            });
        }
        self.fib.done(answers, self.now)
    }

    fn dump(&mut self) {
        self.fib.dump_started();
        self.fib.dumped(self.kernel.values().cloned().collect());
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Level(o, level) => {
                self.fib.set_level(OWNERS[o], level, false);
                self.levels.insert(o, level);
            }
            Step::Objects(o, first, variant) => {
                let planned = plan_of(u8::try_from(o).expect("small") * 30 + first, variant);
                self.fib.set_objects(OWNERS[o], planned.clone());
                self.last.insert(o, planned);
            }
            Step::Steal(n) => {
                self.kernel.remove(&object(n, 0).key());
            }
            Step::Plant(n, variant) => {
                self.kernel.insert(object(n, variant).key(), object(n, variant));
            }
            Step::Answer(n, how) => {
                self.answer(n, how);
            }
            Step::Dump => self.dump(),
            Step::Pass(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.fib.retry(self.now, false);
            }
        }
        self.plan();
    }

    /// No more trouble: answers, dumps and time, until nothing is left to do.
    fn calm(&mut self) {
        for _ in 0..8 {
            self.dump();
            self.plan();
            while !self.queue.is_empty() {
                if self.answer(usize::MAX, 0) {
                    self.dump();
                }
                self.plan();
            }
            self.now = self.now + Duration::from_secs(31);
            self.fib.retry(self.now, false);
            self.plan();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_the_kernel_becomes_what_is_wanted(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for (o, id) in OWNERS.iter().enumerate() {
            world.fib.set_objects(*id, plan_of(u8::try_from(o).expect("small") * 30, 0));
            world.last.insert(o, plan_of(u8::try_from(o).expect("small") * 30, 0));
        }
        for step in steps {
            world.take(step);
        }
        world.calm();
        let mut wanted = BTreeMap::new();
        for (o, planned) in &world.last {
            let level = world.levels.get(o).copied().unwrap_or(Level::Nothing);
            let mine = planned.iter().filter(|p| p.stage.is_wanted(level, true));
            wanted.extend(mine.map(|p| (p.key.clone(), p.object.clone())));
        }
        prop_assert_eq!(&world.kernel, &wanted);
        prop_assert!(world.fib.is_quiet() && !world.fib.has_leftovers());
        prop_assert_eq!(world.fib.retry_at(), None);
        for id in OWNERS {
            prop_assert_eq!(world.fib.progress(id), Default::default());
        }
        prop_assert!(world.fib.rows().iter().all(|r| r.desired == r.observed && r.error.is_none()));
    }
}

fn wants(fib: &mut Fib, objects: Vec<(Object, Stage)>) {
    let planned = objects.into_iter().map(|(object, stage)| Planned { key: object.key(), object, stage });
    fib.set_objects(OWNERS[0], planned.collect());
}

fn answer_all(fib: &mut Fib, now: Time) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        let ops = fib.plan(now);
        if ops.is_empty() {
            return done;
        }
        done.extend(ops.iter().map(|op| format!("{} {}", op.action.verb(), op.action.object().kind())));
        fib.done(ops.into_iter().map(|op| (op.id, Ok(()))).collect(), now);
    }
}

fn route_on(dev: &str) -> Object {
    let Object::Route(route) = object(1, 0) else { panic!("a route") };
    Object::Route(RouteObject { dev: Some(dev.into()), ..route })
}

/// What hangs on a tunnel goes with it without a word of the kernel's, and comes back after it.
#[test]
fn a_tunnel_that_must_be_made_anew_takes_along_what_hangs_on_it() {
    let (mut fib, now) = (Fib::default(), Time::default());
    let with = |variant| {
        vec![(Object::Tunnel(tunnel(4, variant)), Stage::Support), (route_on("gre4"), Stage::Support)]
    };
    wants(&mut fib, with(0));
    fib.set_level(OWNERS[0], Level::Full, false);
    fib.dump_started();
    fib.dumped(Vec::new());
    assert_eq!(answer_all(&mut fib, now), ["add tunnel", "add route", "examine tunnel"]);
    wants(&mut fib, with(1));
    assert_eq!(answer_all(&mut fib, now), ["delete tunnel", "add tunnel", "add route"]);
    assert!(fib.is_released(OWNERS[0]));
    wants(&mut fib, Vec::new());
    assert_eq!(answer_all(&mut fib, now), ["delete route", "delete tunnel"]);
}

/// The kernel has it as wanted, but it carries nothing: the announcement is held back, or taken back, until it does.
#[test]
fn a_tunnel_that_leads_into_itself_is_not_there() {
    let (mut fib, now) = (Fib::default(), Time::default());
    let lost = TunnelObject { recursive: true, ..tunnel(9, 0) };
    let dump = |fib: &mut Fib, tunnel: &TunnelObject| {
        fib.dump_started();
        fib.dumped(vec![Object::Tunnel(tunnel.clone())]);
    };
    wants(&mut fib, vec![(Object::Tunnel(tunnel(9, 0)), Stage::Base), (route_on("lo"), Stage::Export)]);
    fib.set_level(OWNERS[0], Level::Full, false);
    dump(&mut fib, &lost);
    assert!(answer_all(&mut fib, now).is_empty());
    assert!(!fib.is_released(OWNERS[0]));
    let error = |fib: &Fib| {
        let row = fib.rows().into_iter().find(|r| r.object.kind() == "tunnel").expect("the tunnel");
        row.error.map(|e| e.to_string())
    };
    assert!(error(&fib).is_some_and(|e| e.contains("leads into the tunnel itself")));
    assert_eq!(fib.take_notes().len(), 1);
    dump(&mut fib, &lost);
    assert!(fib.take_notes().is_empty(), "said once");
    dump(&mut fib, &tunnel(9, 0));
    assert_eq!(answer_all(&mut fib, now), ["examine tunnel", "add route"]);
    assert!(fib.is_released(OWNERS[0]) && error(&fib).is_none());
    dump(&mut fib, &lost);
    assert!(!fib.is_released(OWNERS[0]));
}

/// Ours as MASTER, all of it there.
fn master(objects: Vec<(Object, Stage)>) -> Fib {
    let (mut fib, now) = (Fib::default(), Time::default());
    wants(&mut fib, objects);
    fib.set_level(OWNERS[0], Level::Full, false);
    fib.dump_started();
    fib.dumped(Vec::new());
    answer_all(&mut fib, now);
    assert!(fib.is_released(OWNERS[0]));
    fib
}

fn route_with(metric: u32) -> Object {
    let Object::Route(route) = object(1, 0) else { panic!("a route") };
    Object::Route(RouteObject { metric, ..route })
}

fn rule_with(priority: u32) -> Object {
    let from = "10.10.10.0/30".parse().ok();
    Object::Rule(RuleObject {
        family: Family::V4,
        priority,
        from,
        to: None,
        fwmark: None,
        iif: None,
        table: 100,
    })
}

fn address_with(last: u8, len: u8) -> Object {
    let address = std::net::Ipv4Addr::new(192, 0, 2, last).into();
    Object::Address(AddressObject { dev: "lo".into(), address, len, scope: Scope::Global })
}

/// What an instance wants.
type Plan = Vec<(Object, Stage)>;

/// Packets have a way at every moment of a change: the new one comes before the old one goes, if both can stand.
#[test]
fn what_comes_comes_before_what_goes() {
    use Stage::{Export, Support};
    let named =
        |name: &str, remote: u8| Object::Tunnel(TunnelObject { name: name.into(), ..tunnel(remote, 0) });
    let cases: [(&str, Plan, Plan, &[&str]); 8] = [
        (
            "another metric",
            vec![(route_with(0), Support)],
            vec![(route_with(9), Support)],
            &["add route", "delete route"],
        ),
        (
            "another priority",
            vec![(rule_with(1), Support)],
            vec![(rule_with(2), Support)],
            &["add rule", "delete rule"],
        ),
        (
            "announced with another metric",
            vec![(route_with(0), Export)],
            vec![(route_with(9), Export)],
            &["add route", "delete route"],
        ),
        (
            "not announced any more: a withdraw does not wait",
            vec![(route_with(0), Export)],
            vec![(rule_with(1), Support)],
            &["delete route", "add rule"],
        ),
        (
            "another tunnel",
            vec![(named("gre4", 4), Support), (route_on("gre4"), Support)],
            vec![(named("gre6", 6), Support), (route_on("gre6"), Support)],
            &["add tunnel", "replace route", "delete tunnel"],
        ),
        (
            "another name for the same ends: the kernel has only one",
            vec![(named("gre4", 4), Support), (route_on("gre4"), Support)],
            vec![(named("gre6", 4), Support), (route_on("gre6"), Support)],
            &["delete tunnel", "add tunnel", "replace route"],
        ),
        (
            "another address of the same network: it would go with the first",
            vec![(address_with(1, 24), Support)],
            vec![(address_with(2, 24), Support)],
            &["delete address", "add address"],
        ),
        (
            "another address",
            vec![(address_with(1, 32), Support)],
            vec![(address_with(2, 32), Support)],
            &["add address", "delete address"],
        ),
    ];
    for (what, before, after, expected) in cases {
        let mut fib = master(before);
        wants(&mut fib, after);
        assert_eq!(answer_all(&mut fib, Time::default()), expected, "{what}");
    }
}

/// In place the kernel would refuse each for the sake of the other.
#[test]
fn tunnels_that_swap_their_keys_are_both_made_anew_in_one_turn() {
    let keyed = |n: u8, key: u32| {
        let ends = TunnelObject { ikey: Some(key), okey: Some(key), ..tunnel(1, 0) };
        (Object::Tunnel(TunnelObject { name: format!("gre{n}"), ..ends }), Stage::Support)
    };
    let mut fib = master(vec![keyed(1, 1), keyed(2, 2), keyed(3, 3)]);
    wants(&mut fib, vec![keyed(1, 2), keyed(2, 1), keyed(3, 4)]);
    let turn = fib.plan(Time::default());
    let words: Vec<String> =
        turn.iter().map(|op| format!("{} {}", op.action.verb(), op.action.object())).collect();
    let tunnel = |verb: &str, n: u8, key: u32| {
        format!("{verb} gre{n} mode gre local 203.0.113.2 remote 198.18.0.1 ttl 64 key {key}")
    };
    let expected = [("delete", 1, 1), ("delete", 2, 2), ("add", 1, 2), ("add", 2, 1), ("replace", 3, 4)]
        .map(|(v, n, k)| tunnel(v, n, k));
    assert_eq!(words, expected);
    // A ring of three is no other matter; and who only takes what another gives up waits for that one.
    let mut fib = master(vec![keyed(1, 1), keyed(2, 2)]);
    wants(&mut fib, vec![keyed(2, 1)]);
    assert_eq!(answer_all(&mut fib, Time::default()), ["delete tunnel", "replace tunnel"]);
}

/// Only when it makes a tunnel does the kernel work out an MTU for it.
#[test]
fn a_tunnel_whose_mtu_is_no_longer_said_is_made_anew() {
    let with = |mtu| vec![(Object::Tunnel(TunnelObject { mtu, ..tunnel(1, 0) }), Stage::Support)];
    let mut fib = master(with(Some(1400)));
    wants(&mut fib, with(Some(1300)));
    assert_eq!(answer_all(&mut fib, Time::default()), ["replace tunnel"]);
    wants(&mut fib, with(None));
    assert_eq!(answer_all(&mut fib, Time::default()), ["delete tunnel", "add tunnel"]);
    wants(&mut fib, with(None));
    assert!(answer_all(&mut fib, Time::default()).is_empty());
}

/// What others did to a tunnel of ours, and we have no words for, is not left as it is.
#[test]
fn a_tunnel_with_strange_options_is_made_anew() {
    let mut fib = master(vec![(Object::Tunnel(tunnel(1, 0)), Stage::Support)]);
    fib.dump_started();
    fib.dumped(vec![Object::Tunnel(TunnelObject { plain: false, ..tunnel(1, 0) })]);
    assert_eq!(answer_all(&mut fib, Time::default()), ["delete tunnel", "add tunnel"]);
}

/// The way is looked at when everything is there, and the announcement waits for what is found.
#[test]
fn the_announcement_waits_for_a_look_at_the_way() {
    let (mut fib, now) = (Fib::default(), Time::default());
    wants(&mut fib, vec![(Object::Tunnel(tunnel(9, 0)), Stage::Base), (route_on("lo"), Stage::Export)]);
    fib.set_level(OWNERS[0], Level::Full, false);
    fib.dump_started();
    fib.dumped(vec![Object::Tunnel(tunnel(9, 0))]);
    let verbs = |ops: &[Op]| ops.iter().map(|op| op.action.verb()).collect::<Vec<_>>();
    let look = fib.plan(now);
    assert_eq!(verbs(&look), ["examine"]);
    assert_eq!(fib.progress(OWNERS[0]).support_missing, 1, "nobody knows whether it works");
    fib.done(vec![(look[0].id, Err(OpError::Recursive("198.18.0.9".into())))], now);
    assert!(fib.plan(now).is_empty() && !fib.is_released(OWNERS[0]));
    assert_eq!(fib.progress(OWNERS[0]).support_refused, 1);
    assert_eq!(fib.take_notes().len(), 1);
    fib.dump_started();
    fib.dumped(vec![Object::Tunnel(tunnel(9, 0))]);
    let look = fib.plan(now);
    assert_eq!(verbs(&look), ["examine"]);
    fib.done(vec![(look[0].id, Ok(()))], now);
    assert!(fib.is_released(OWNERS[0]));
    assert_eq!(verbs(&fib.plan(now)), ["add"]);
}
