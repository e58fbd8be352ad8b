//! What happens in the demonstration, and what must be seen for it to count.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use super::lab::echo::{Client, Loss, Server};
use super::lab::topology::{PRIMARY, SERVICE, STANDBY, prefix};
use super::lab::web::{Web, answer_ok, http};
use super::lab::{Bird, Doing, LabError, Node, Result, Topology, host, routes, wait_for};
use super::narrator::{Narrator, millis, say};
use crate::announcer::journal::State;
use crate::status::EventStatus;

/// The standby's configuration.
const CONFIG: &str = include_str!("standby.toml");
/// The standby's BIRD: the very example that we ship.
const EXPORTER: &str = include_str!("../../conf/bird.conf");
const INSTANCE: &str = "service";

/// The client sends as often as this.
const INTERVAL: Duration = Duration::from_millis(20);
/// Nothing that the story waits for takes longer.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the primary stays dead, longer than its BGP session lives: the ISP forgets it altogether.
const DEATH: Duration = Duration::from_secs(8);
/// An answer that has not come after this time will not come.
const UNDERWAY: Duration = Duration::from_millis(300);
/// How long the story looks on when nothing is to happen.
const QUIET: Duration = Duration::from_secs(2);

/// Plays it all; an error if a step was not seen.
pub fn play() -> Result<()> {
    host::become_root_of_a_user_namespace()?;
    host::find_program("bird", "bird2")?;
    say("A lab in network namespaces: a client and an ISP router, a primary site, a standby site.");
    let stage = Stage::set()?;

    let mut calm = Narrator::chapter("The primary serves");
    let answer = wait_for("the client's first answer", LIMIT, || {
        stage.client.first_answer("primary", stage.client_started)
    })?;
    calm.note(answer.at, "client   is answered by the primary");
    stage.look_on(&mut calm, QUIET);

    let mut story =
        Narrator::chapter("The primary's site falls silent: no link goes down, no session is closed");
    stage.lab.primary_dies()?;
    let takeover = stage.follow(&mut story, &TAKEOVER)?;
    let left = DEATH.saturating_sub(story.zero().elapsed());
    stage.look_on(&mut story, left);
    let takeover_loss = stage.client.loss(story.zero(), Instant::now() - UNDERWAY);

    let mut story = Narrator::chapter("The primary is back");
    stage.lab.primary_returns()?;
    let failback = stage.follow(&mut story, &FAILBACK)?;
    stage.look_on(&mut story, QUIET);
    let failback_loss = stage.client.loss(story.zero(), Instant::now() - UNDERWAY);

    summary(&takeover, takeover_loss, &failback, failback_loss);
    Ok(())
}

/// Everything that runs.
struct Stage {
    client: Client,
    client_started: Instant,
    events: Receiver<EventStatus>,
    isp_routes: routes::Watch,
    // Dropped last: the daemons, then the hosts under them.
    _node: Node,
    _servers: (Server, Server, Web),
    _birds: [Bird; 3],
    lab: Topology,
}

impl Stage {
    fn set() -> Result<Self> {
        let lab = Topology::build(&[])?;
        let isp_routes = routes::Watch::start(&lab.isp)?;
        let servers = (
            Server::start(&lab.primary, SERVICE)?,
            Server::start(&lab.standby, SERVICE)?,
            Web::start(&lab.primary, http(PRIMARY), answer_ok)?,
        );
        let birds = [lab.start_isp()?, lab.start_primary()?, Bird::start(&lab.standby, EXPORTER)?];
        say("BIRD runs at the ISP, at the primary and at the standby; their BGP sessions come up ...");
        birds[0].wait_established("from_primary")?;
        birds[0].wait_established("from_standby")?;
        say(
            "announcerd starts at the standby: ping and HTTP of the primary every 200 ms, 3 failures are death.",
        );
        let node = Node::start(&lab.standby, Path::new("/proc/self/exe"), CONFIG)?;
        let events = node.follow()?;
        node.wait_state(INSTANCE, State::Backup, LIMIT)?;
        let client_started = Instant::now();
        let client = Client::start(&lab.client, SERVICE, INTERVAL)?;
        Ok(Stage {
            client,
            client_started,
            events,
            isp_routes,
            _node: node,
            _servers: servers,
            _birds: birds,
            lab,
        })
    }

    /// Lets time pass, and tells what comes.
    fn look_on(&self, story: &mut Narrator, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            story.tell();
            std::thread::sleep(Duration::from_millis(5));
        }
        story.tell_all();
    }

    /// Waits until each step of the change was seen.
    fn follow(&self, story: &mut Narrator, change: &Change) -> Result<Steps> {
        let mut steps = Steps::default();
        let seen = wait_for(change.name, LIMIT, || {
            self.look(story, change, &mut steps);
            story.tell();
            steps.complete(change).then_some(())
        });
        story.tell_all();
        seen.map_err(|_| {
            LabError::new(change.name, format!("not seen within {LIMIT:?}: {}", steps.missing(change)))
        })?;
        Ok(steps)
    }

    /// Notes what is new.
    fn look(&self, story: &mut Narrator, change: &Change, steps: &mut Steps) {
        for event in self.events.try_iter().filter(|e| e.instance == INSTANCE) {
            if let Ok(times) = times_of(&event) {
                steps.daemon(story, change, &event, &times);
            }
        }
        for news in self.isp_routes.news().into_iter().filter(|n| n.route.to == prefix()) {
            let via = news.route.via;
            if news.added && via == Some(change.next_hop) {
                steps.isp = note_first(steps.isp, story, news.at, || {
                    format!("ISP      routes {} to the {}", prefix(), change.serves)
                });
            }
        }
        if let Some(answer) = self.client.first_answer(change.serves, story.zero()) {
            steps.client = note_first(steps.client, story, answer.at, || {
                format!("client   is answered by the {}", change.serves)
            });
        }
    }
}

/// One of the two changes.
struct Change {
    name: &'static str,
    to: State,
    serves: &'static str,
    next_hop: IpAddr,
    has_bad_probe: bool,
}

const TAKEOVER: Change = Change {
    name: "the takeover",
    to: State::Master,
    serves: "standby",
    next_hop: IpAddr::V4(STANDBY),
    has_bad_probe: true,
};

const FAILBACK: Change = Change {
    name: "the failback",
    to: State::Backup,
    serves: "primary",
    next_hop: IpAddr::V4(PRIMARY),
    has_bad_probe: false,
};

/// When each step was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    first_bad_probe: Option<Instant>,
    decision: Option<Instant>,
    kernel: Option<Instant>,
    isp: Option<Instant>,
    client: Option<Instant>,
}

impl Steps {
    /// Takes over what the daemon tells of a transition.
    fn daemon(&mut self, story: &mut Narrator, change: &Change, event: &EventStatus, times: &Times) {
        if event.to != change.to {
            return;
        }
        if let Some(at) = times.first_bad_probe.filter(|_| change.has_bad_probe) {
            self.first_bad_probe = note_first(self.first_bad_probe, story, at, || {
                "standby  misses the primary: first bad probe".into()
            });
        }
        if let Some(at) = times.decision {
            self.decision = note_first(self.decision, story, at, || {
                format!("standby  decides: {} ({})", event.to.word(), event.reason)
            });
        }
        if let Some(at) = times.kernel_acked {
            let done = if event.to == State::Master {
                "address and route added"
            } else {
                "address and route removed"
            };
            self.kernel = note_first(self.kernel, story, at, || format!("standby  kernel says: {done}"));
        }
    }

    fn list(&self, change: &Change) -> Vec<(&'static str, Option<Instant>)> {
        let mut list = vec![
            ("first bad probe", self.first_bad_probe),
            ("decision", self.decision),
            ("kernel acknowledged", self.kernel),
            ("ISP's route", self.isp),
            ("client's first answer", self.client),
        ];
        if !change.has_bad_probe {
            list.remove(0);
        }
        list
    }

    fn complete(&self, change: &Change) -> bool {
        self.list(change).iter().all(|(_, at)| at.is_some())
    }

    fn missing(&self, change: &Change) -> String {
        let names = self.list(change).into_iter().filter(|(_, at)| at.is_none()).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Notes a step the first time that it is seen.
fn note_first(
    known: Option<Instant>,
    story: &mut Narrator,
    at: Instant,
    text: impl FnOnce() -> String,
) -> Option<Instant> {
    if known.is_none() {
        story.note(at, text());
    }
    known.or(Some(at))
}

/// An event's steps on our clock.
struct Times {
    first_bad_probe: Option<Instant>,
    decision: Option<Instant>,
    kernel_acked: Option<Instant>,
}

/// The event has a date and distances; its date is that of the decision.
fn times_of(event: &EventStatus) -> Result<Times> {
    let date = humantime::parse_rfc3339(&event.time).doing("reading an event's date")?;
    let (now, wall) = (Instant::now(), SystemTime::now());
    let decided = now - wall.duration_since(date).unwrap_or_default();
    let steps = &event.timeline_us;
    let to_decision = Duration::from_micros(steps.decision.unwrap_or_default());
    let first = decided.checked_sub(to_decision).unwrap_or(decided);
    let at = |us: Option<u64>| us.map(|us| first + Duration::from_micros(us));
    Ok(Times {
        first_bad_probe: at(steps.first_bad_probe),
        decision: at(steps.decision),
        kernel_acked: at(steps.kernel_acked),
    })
}

fn summary(takeover: &Steps, takeover_loss: Loss, failback: &Steps, failback_loss: Loss) {
    let between = |a: Option<Instant>, b: Option<Instant>| {
        a.zip(b).map_or("?".into(), |(a, b)| millis(b.saturating_duration_since(a)))
    };
    let Loss { sent, lost, longest_gap } = takeover_loss;
    say("\n== In short");
    say(&format!(
        "  takeover  first bad probe to decision {} ms",
        between(takeover.first_bad_probe, takeover.decision)
    ));
    say(&format!(
        "            decision to kernel {} ms, to the ISP's route {} ms, to the client {} ms",
        between(takeover.decision, takeover.kernel),
        between(takeover.decision, takeover.isp),
        between(takeover.decision, takeover.client)
    ));
    say(&format!(
        "            the client lost {lost} of {sent} datagrams, no service for {} ms",
        millis(longest_gap)
    ));
    let Loss { sent, lost, .. } = failback_loss;
    say(&format!(
        "  failback  decision to the ISP's route {} ms; the client lost {lost} of {sent} datagrams",
        between(failback.decision, failback.isp)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, ScriptVerdict, parse};

    #[test]
    fn the_standbys_configuration_is_sound() {
        let no_file = |_: &std::path::Path| Err("there is none".to_owned());
        let env = Env {
            hostname: "standby".into(),
            inspect_script: &|_| ScriptVerdict::Ok,
            read_secret: &no_file,
            read_prefixes: &no_file,
        };
        let (config, warnings) = parse("standby.toml", CONFIG, &env).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(config.instance(INSTANCE).is_some());
    }
}
