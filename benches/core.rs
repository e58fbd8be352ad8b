//! What one event costs the core, with 5,000 checks and with 100,000 routes. Microseconds of CPU an event; nothing may grow
//! with the number of checks, instances or routes that have nothing to do with it.
//!
//!     cargo bench --bench core

use std::collections::HashMap;
use std::time::Duration;

use announcerd::announcer::event::{Dump, Event, Outcome, ProbeId};
use announcerd::announcer::{Announcer, Effect, Legacy};
use announcerd::config::{Env, ScriptVerdict, parse};
use announcerd::fib::object::{Action, Key, LinkState, Object};
use announcerd::time::Time;
use nix::time::{ClockId, clock_gettime};

struct Run {
    core: Announcer,
    now: Time,
    probes: Vec<(ProbeId, bool)>,
    kernel: HashMap<Key, Object>,
    events: u64,
    spent: Duration,
    worst: Duration,
}

impl Run {
    fn new(text: &str) -> Self {
        let env = Env {
            hostname: "host".into(),
            inspect_script: &|_| ScriptVerdict::Ok,
            read_secret: &|_| Err("there is none".into()),
            read_prefixes: &|_| Err("there is none".into()),
        };
        let config = parse("core.toml", text, &env).unwrap_or_else(|e| panic!("{e}")).0;
        let now = Time::from_nanos(1_000_000_000);
        let core = Announcer::new(config, &Legacy::default(), now);
        Run {
            core,
            now,
            probes: Vec::new(),
            kernel: HashMap::new(),
            events: 0,
            spent: Duration::ZERO,
            worst: Duration::ZERO,
        }
    }

    fn timed(&mut self, act: impl FnOnce(&mut Announcer, Time)) -> Duration {
        let start = cpu();
        act(&mut self.core, self.now);
        let mut effects = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            effects.push(effect);
        }
        let took = cpu() - start;
        self.events += 1;
        self.spent += took;
        self.worst = self.worst.max(took);
        for effect in effects {
            self.obey(effect);
        }
        took
    }

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Probe { id, check, .. } => self.probes.push((id, check.name.starts_with("primary"))),
            Effect::Dump(id) => {
                let lo = LinkState { name: "lo".into(), admin_up: true, carrier: true };
                let result = Ok(Dump {
                    links: vec![lo],
                    nets: Vec::new(),
                    objects: self.kernel.values().cloned().collect(),
                });
                self.timed(|core, now| core.handle_event(Event::Dump { id, result }, now));
            }
            Effect::Kernel(ops) => {
                let answers = ops.iter().map(|op| (op.id, Ok(()))).collect();
                for op in ops {
                    match op.action {
                        Action::Add(o) | Action::Replace(o) => self.kernel.insert(o.key(), o),
                        Action::Delete(o) => self.kernel.remove(&o.key()),
                        Action::Examine(_) => None,
                    };
                }
                self.timed(|core, now| core.handle_event(Event::Ops(answers), now));
            }
            _ => {}
        }
    }

    /// Virtual seconds in which every probe is answered at once: the primaries' so, the others' well.
    fn seconds(&mut self, seconds: u32, primaries_are_well: bool) {
        let end = self.now + Duration::from_secs(1) * seconds;
        while let Some((at, _)) = self.core.poll_timeout().filter(|(at, _)| *at < end) {
            self.now = self.now.max(at);
            self.timed(Announcer::handle_timeout);
            while let Some((id, primary)) = self.probes.pop() {
                let outcome = match primary && !primaries_are_well {
                    true => Outcome::Failure("no reply".into()),
                    false => Outcome::Success { rtt: Some(Duration::from_millis(1)) },
                };
                self.timed(|core, now| core.handle_event(Event::Probe { id, outcome }, now));
            }
        }
        self.now = end;
    }

    fn report(&mut self, what: &str) {
        let mean = self.spent.as_secs_f64() * 1e6 / self.events.max(1) as f64;
        println!("{what:<58} {:>8} events, mean {mean:>8.2} us, worst {:?}", self.events, self.worst);
        (self.events, self.spent, self.worst) = (0, Duration::ZERO, Duration::ZERO);
    }
}

/// CPU time of this thread: what others do on the machine does not count.
fn cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has it"))
}

fn check(name: &str, n: usize) -> String {
    format!(
        "[[check]]\nname = \"{name}{n}\"\ntype = \"ping\"\nhost = \"198.18.{}.{}\"\ninterval = \"1s\"\ntimeout = \"800ms\"\n",
        n / 256,
        n % 256
    )
}

fn many_instances(n: usize) -> String {
    let mut text: String = (0..n).map(|i| check("primary", i)).collect();
    text.extend((0..n).map(|i| check("uplink", i)));
    for i in 0..n {
        text += &format!(
            "[[instance]]\nname = \"i{i}\"\nprimary = {{ checks = [\"primary{i}\"] }}\nrequire = {{ checks = [\"uplink{i}\"] }}\n[[instance.route]]\nto = \"10.{}.{}.0/24\"\ndev = \"lo\"\n",
            i / 256,
            i % 256
        );
    }
    text
}

fn one_instance(checks: usize, routes: usize) -> String {
    let mut text: String = (0..checks).map(|i| check("primary", i)).collect();
    text += &check("uplink", 0);
    let names: Vec<String> = (0..checks).map(|i| format!("\"primary{i}\"")).collect();
    text += &format!(
        "[[instance]]\nname = \"i\"\nprimary = {{ checks = [{}] }}\nrequire = {{ checks = [\"uplink0\"] }}\n",
        names.join(", ")
    );
    for r in 0..routes {
        text += &format!(
            "[[instance.route]]\nto = \"10.{}.{}.{}/32\"\ndev = \"lo\"\nexport = false\n",
            r / 65536,
            r / 256 % 256,
            r % 256
        );
    }
    text
}

fn all(what: &str, text: &str) {
    let mut run = Run::new(text);
    run.seconds(5, true);
    run.report(&format!("{what}: the first 5 s"));
    run.seconds(10, true);
    run.report(&format!("{what}: 10 s, all is well"));
    run.seconds(10, false);
    run.report(&format!("{what}: 10 s, all primaries die"));
    run.seconds(40, true);
    run.report(&format!("{what}: 40 s, all come back"));
}

fn main() {
    all("250 instances, 500 checks", &many_instances(250));
    all("2,500 instances, 5,000 checks", &many_instances(2_500));
    all("1 instance, 5,000 checks of its primary", &one_instance(5_000, 0));
    all("1 instance, 10 checks, 100,000 routes", &one_instance(10, 100_000));
}
