//! The core with a fake world around it, and virtual time that jumps to the next thing that happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use announcerd::announcer::effect::{DrillNews, Effect, Sample, ScriptRun};
use announcerd::announcer::event::{Command, Event, Forced, PeerId, RequestId, ScriptEnd, ScriptId};
use announcerd::announcer::journal::{Record, State};
use announcerd::announcer::memory::Memory;
use announcerd::announcer::own::OwnPrefixes;
use announcerd::announcer::{Announcer, Legacy};
use announcerd::bfd::{SessionConfig, SessionId};
use announcerd::bgp::{PeerEffect, PeerEvent};
use announcerd::config::model::Config;
use announcerd::config::{Env, ScriptVerdict, parse};
use announcerd::fib::object::LinkState;
use announcerd::status::{CheckStatus, InstanceStatus, Status, WallClock};
use announcerd::time::Time;

use crate::fake::{Kernel, MS, Programs, SECOND, Target, words};
use crate::far::Far;

/// A standby as in the recipe: two checks of the primary, the uplink as witness, a route to announce, one to keep for
/// the drain, one for ever, an address, and all scripts.
pub const STANDBY: &str = r#"
[node]
name = "hk-1"
[[check]]
name = "ping"
type = "ping"
host = "198.18.0.1"
interval = "1s"
timeout = "800ms"
fall = 3
rise = 2
[[check]]
name = "uplink"
type = "ping"
host = "203.0.113.1"
interval = "1s"
timeout = "800ms"
fall = 3
rise = 2
[[instance]]
name = "a"
primary = { checks = ["ping"] }
require = { checks = ["uplink"] }
failback_delay = "30s"
drain = "10s"
notify_master = "/master"
notify_backup = "/backup"
notify_fault = "/fault"
notify_stop = "/stop"
[[instance.route]]
to = "198.51.100.0/24"
dev = "lo"
[[instance.route]]
to = "10.10.0.0/16"
via = "172.16.1.9"
[[instance.route]]
to = "10.20.0.0/16"
dev = "lo"
export = false
when = "always"
[[instance.address]]
address = "172.16.1.1/24"
dev = "lo"
"#;

pub const EXPORT: &str = "198.51.100.0/24";
pub const SUPPORT: &str = "10.10.0.0/16";
pub const BASE: &str = "10.20.0.0/16";
pub const ADDRESS: &str = "172.16.1.1";

pub fn config(text: &str) -> Config {
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    match parse("test.toml", text, &env) {
        Ok((config, _)) => config,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// `text` with the first `from` replaced, which must be there.
pub fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the configuration");
    text.replacen(from, to, 1)
}

/// [`STANDBY`] with these lines more in its instance.
pub fn standby(lines: &str) -> String {
    let mut text = STANDBY.to_owned();
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let key = line.split('=').next().expect("a key").trim();
        let old = STANDBY.lines().find(|l| l.split('=').next().is_some_and(|k| k.trim() == key));
        text = match old {
            Some(old) => with(&text, old, line),
            None => with(&text, "name = \"a\"", &format!("name = \"a\"\n{line}")),
        };
    }
    text
}

pub struct Rig {
    pub core: Announcer,
    pub now: Time,
    pub kernel: Kernel,
    pub far: Far,
    pub programs: Programs,
    pub memory: Memory,
    /// How often [`Effect::Save`] came.
    pub saves: usize,
    targets: BTreeMap<String, Target>,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    running: BTreeMap<ScriptId, &'static str>,
    /// In words, with its time: what the kernel is told, scripts, transitions.
    pub story: Vec<(Time, String)>,
    pub records: Vec<Record>,
    pub runs: Vec<ScriptRun>,
    /// Probes sent, by check.
    pub probes: Vec<(Time, String)>,
    /// What a check's probe must not be answered from.
    pub own: BTreeMap<String, Arc<OwnPrefixes>>,
    pub cancelled: usize,
    pub dumps: usize,
    pub replies: Vec<Result<String, String>>,
    /// Results of probes, if the test asked the core for them.
    pub samples: Vec<Sample>,
    /// A drill's report.
    pub drill: Vec<DrillNews>,
    pub logs: Vec<String>,
    /// Each list of BFD sessions.
    pub bfd: Vec<Vec<(SessionId, SessionConfig)>>,
    /// BFD sessions that were to ask their neighbour.
    pub asked: Vec<SessionId>,
    pub exit: Option<Option<Duration>>,
}

impl Rig {
    pub fn new(text: &str) -> Self {
        Self::after(text, &Legacy::default(), Kernel::default(), Time::from_nanos(1_000_000_000_000))
    }

    /// Settled in BACKUP with everything well.
    pub fn settled(text: &str) -> Self {
        let mut rig = Self::new(text);
        rig.run(10 * SECOND);
        assert_eq!(rig.state("a"), State::Backup);
        rig.forget();
        rig
    }

    /// Settled in MASTER: the primary is dead.
    pub fn master(text: &str) -> Self {
        let mut rig = Self::settled(text);
        rig.set("ping", Target::Silent);
        rig.until_state("a", State::Master, 60 * SECOND);
        rig.run(SECOND);
        rig.forget();
        rig
    }

    /// A new process on what an old one left.
    pub fn after(text: &str, legacy: &Legacy, mut kernel: Kernel, now: Time) -> Self {
        if kernel.links.is_empty() {
            kernel.links = vec![link("lo", true), link("eth0", true)];
        }
        let mut rig = Rig {
            core: Announcer::new(config(text), legacy, now),
            now,
            kernel,
            far: Far::default(),
            programs: Programs::default(),
            memory: Memory::default(),
            saves: 0,
            targets: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            running: BTreeMap::new(),
            story: Vec::new(),
            records: Vec::new(),
            runs: Vec::new(),
            probes: Vec::new(),
            own: BTreeMap::new(),
            cancelled: 0,
            dumps: 0,
            replies: Vec::new(),
            samples: Vec::new(),
            drill: Vec::new(),
            logs: Vec::new(),
            bfd: Vec::new(),
            asked: Vec::new(),
            exit: None,
        };
        rig.drain();
        rig
    }

    /// kill -9, and a new process `later`. Targets stay as they are.
    pub fn crash(self, text: &str, later: Duration, resumable: bool) -> Self {
        let legacy = Legacy { memory: self.memory, resumable };
        let mut next = Self::after(text, &legacy, self.kernel, self.now + later);
        next.targets = self.targets;
        next
    }

    /// How a check's target answers from now on; the default is well, after 10 ms.
    pub fn set(&mut self, check: &str, target: Target) {
        self.targets.insert(check.to_owned(), target);
    }

    pub fn tell(&mut self, event: Event) {
        self.core.handle_event(event, self.now);
        self.drain();
    }

    pub fn command(&mut self, command: Command) -> Result<String, String> {
        self.tell(Event::Command { id: RequestId(1), command });
        self.replies.pop().expect("every command is answered")
    }

    pub fn force(&mut self, state: Forced, lasting: Option<Duration>) {
        self.command(Command::Force { instance: "a".into(), state, lasting }).expect("a command");
    }

    pub fn reload(&mut self, text: &str) {
        self.tell(Event::Reload(Box::new(config(text))));
    }

    pub fn set_link(&mut self, name: &str, carrier: bool) {
        self.kernel.links.retain(|l| l.name != name);
        self.kernel.links.push(link(name, carrier));
        self.tell(Event::LinkIs(link(name, carrier)));
    }

    /// Somebody deletes objects of ours, and we hear of it.
    pub fn steal(&mut self, part: &str) {
        self.kernel.objects.retain(|words, _| !words.contains(part));
        self.tell(Event::KernelChanged);
    }

    /// The next thing happens, or nothing until `end`.
    fn step(&mut self, end: Time) {
        let timer = self.core.poll_timeout().map(|(at, _)| at);
        let event = self.events.keys().next().map(|(at, _)| *at);
        let wake = timer.into_iter().chain(event).min().unwrap_or(end).min(end);
        self.now = self.now.max(wake);
        self.deliver();
        let mut turns = 0;
        while self.core.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            turns += 1;
            assert!(turns < 10, "a timer that is always due: {:?}", self.core.poll_timeout());
            self.core.handle_timeout(self.now);
            self.drain();
        }
    }

    /// What is due is heard, without a timer in between.
    pub fn deliver(&mut self) {
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= self.now) {
            let event = entry.remove();
            self.tell(event);
        }
    }

    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step(end);
        }
    }

    /// Runs until it is so; panics after `bound`. Returns how long it took.
    pub fn until(&mut self, what: &str, bound: Duration, so: impl Fn(&Rig) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + bound);
        while !so(self) {
            assert!(self.now < end, "not within {bound:?}: {what}\n{:#?}", self.status());
            self.step(end);
        }
        self.now.since(start)
    }

    pub fn until_state(&mut self, instance: &str, state: State, bound: Duration) -> Duration {
        self.until(&format!("{instance} in {state:?}"), bound, |r| r.state(instance) == state)
    }

    /// The world goes on and nobody runs us; the events of that time are kept or lost.
    pub fn pause(&mut self, span: Duration, keep_events: bool) {
        self.now = self.now + span;
        if !keep_events {
            let now = self.now;
            self.events.retain(|(at, _), e| *at > now || !matches!(e, Event::Probe { .. }));
        }
    }

    pub fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn tell_story(&mut self, words: String) {
        self.story.push((self.now, words));
    }

    fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Probe { id, check, own } => {
                    self.own.insert(check.name.to_string(), own);
                    self.probes.push((self.now, check.name.to_string()));
                    let default = Target::Answers(10 * MS);
                    let target = self.targets.entry(check.name.to_string()).or_insert(default);
                    if let Some((after, outcome)) = target.ask() {
                        self.later(after, Event::Probe { id, outcome });
                    }
                }
                Effect::CancelProbe(_) => self.cancelled += 1,
                Effect::Kernel(ops) => {
                    let mut answers = Vec::new();
                    for op in ops {
                        self.tell_story(format!("{} {}", op.action.verb(), words(op.action.object())));
                        answers.push(self.kernel.execute(op));
                    }
                    if !self.kernel.mute {
                        self.later(MS, Event::Ops(answers));
                    }
                }
                Effect::Dump(id) => {
                    self.dumps += 1;
                    let result = self.kernel.dump();
                    self.later(MS, Event::Dump { id, result });
                }
                Effect::RunScript(run) => self.start(run),
                Effect::KillScript(id) => self.kill(id),
                Effect::Reply { answer, .. } => self.replies.push(answer),
                Effect::Journal(record) => self.journal(record),
                Effect::Save(memory) => {
                    self.saves += 1;
                    self.memory = memory;
                }
                Effect::Log(note) => self.logs.push(note.text),
                Effect::Exit { sweep_after } => {
                    self.tell_story("exit".into());
                    self.exit = Some(sweep_after);
                }
                Effect::Peers(peers) => {
                    self.far.names = peers.iter().map(|(id, p)| (*id, p.session.name.clone())).collect();
                }
                Effect::Bgp { peer, effect } => self.session(peer, effect),
                Effect::BfdSessions(sessions) => self.bfd.push(sessions),
                Effect::BfdVerify(id) => self.asked.push(id),
                Effect::Drill(news) => self.drill.push(news),
                Effect::Sample(sample) => self.samples.push(sample),
            }
        }
    }

    fn session(&mut self, peer: PeerId, effect: PeerEffect) {
        match effect {
            PeerEffect::Connect { conn } => {
                let event = self.far.connect(peer, conn);
                self.later(MS, Event::Bgp { peer, event });
            }
            PeerEffect::Close { conn, last_words } => {
                if let Some(words) = self.far.closed(peer, conn, &last_words) {
                    self.tell_story(words);
                }
            }
            PeerEffect::Transmit { conn } => {
                let mut octets = Vec::new();
                while self.core.transmit(peer, conn, 65536, &mut octets, self.now) > 0 {}
                let (events, story) = self.far.hear(peer, &octets);
                story.into_iter().for_each(|words| self.tell_story(words));
                for event in events {
                    let after = if matches!(event, PeerEvent::Written { .. }) { Duration::ZERO } else { MS };
                    self.later(after, Event::Bgp { peer, event });
                }
            }
            _ => {}
        }
    }

    fn journal(&mut self, record: Record) {
        match self.records.iter_mut().find(|r| r.seq == record.seq) {
            Some(old) => *old = record,
            None => {
                self.tell_story(format!("{} {}", record.instance, record.to.word()));
                self.records.push(record);
            }
        }
    }

    fn start(&mut self, run: ScriptRun) {
        let program: &'static str = Box::leak(run.command.join(" ").into_boxed_str());
        self.tell_story(format!("run {program}"));
        self.running.insert(run.id, program);
        let hangs = self.programs.hang.contains(program);
        if !hangs {
            let (after, end) =
                self.programs.takes.get(program).cloned().unwrap_or((MS, ScriptEnd::Exited(0)));
            self.later(after, Event::Script { id: run.id, end });
        }
        self.runs.push(run);
    }

    fn kill(&mut self, id: ScriptId) {
        let program = self.running.get(&id).copied().unwrap_or("?");
        self.tell_story(format!("kill {program}"));
        if !self.programs.immortal.contains(program) {
            self.events.retain(|_, e| !matches!(e, Event::Script { id: other, .. } if *other == id));
            self.later(MS, Event::Script { id, end: ScriptEnd::Killed(9) });
        }
    }

    /// The story and the lists begin anew.
    pub fn forget(&mut self) {
        self.story.clear();
        self.records.clear();
        self.runs.clear();
        self.probes.clear();
        self.logs.clear();
        (self.dumps, self.saves, self.cancelled) = (0, 0, 0);
    }

    /// The story without its times.
    pub fn told(&self) -> Vec<&str> {
        self.story.iter().map(|(_, words)| words.as_str()).collect()
    }

    /// When this was told last.
    pub fn when(&self, part: &str) -> Time {
        let found = self.story.iter().rev().find(|(_, words)| words.contains(part));
        found.unwrap_or_else(|| panic!("{part} is not in {:#?}", self.story)).0
    }

    pub fn has_told(&self, part: &str) -> bool {
        self.story.iter().any(|(_, words)| words.contains(part))
    }

    pub fn states(&self, instance: &str) -> Vec<State> {
        self.records.iter().filter(|r| &*r.instance == instance).map(|r| r.to).collect()
    }

    pub fn status(&self) -> Status {
        self.core.status(self.now, &clock())
    }

    pub fn instance(&self, name: &str) -> InstanceStatus {
        self.status().instances.into_iter().find(|i| i.name == name).expect("an instance of that name")
    }

    pub fn state(&self, name: &str) -> State {
        self.instance(name).state
    }

    pub fn check(&self, name: &str) -> CheckStatus {
        self.status().checks.into_iter().find(|c| c.name == name).expect("a check of that name")
    }

    pub fn verdict(&self, name: &str) -> String {
        self.check(name).verdict
    }

    pub fn sent(&self, check: &str) -> Vec<Time> {
        self.probes.iter().filter(|(_, c)| c == check).map(|(t, _)| *t).collect()
    }

    /// Programs in the order of their starts.
    pub fn started(&self) -> Vec<String> {
        self.runs.iter().map(|r| r.command.join(" ")).collect()
    }
}

pub fn clock() -> WallClock {
    WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH }
}

pub fn link(name: &str, carrier: bool) -> LinkState {
    LinkState { name: name.into(), admin_up: true, carrier }
}
