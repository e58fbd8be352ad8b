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
    assert_eq!(answer_all(&mut fib, now), ["add tunnel", "add route"]);
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
    assert_eq!(answer_all(&mut fib, now), ["add route"]);
    assert!(fib.is_released(OWNERS[0]) && error(&fib).is_none());
    dump(&mut fib, &lost);
    assert!(!fib.is_released(OWNERS[0]));
}
