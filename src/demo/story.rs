//! What happens in the demonstration, and what must be seen for it to count.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::Exporter;
use super::lab::echo::{Client, Server};
use super::lab::topology::{PRIMARY, SERVICE, prefix};
use super::lab::web::{Web, answer_ok, http};
use super::lab::{Bird, LabError, Node, Result, Topology, host, routes, wait_for};
use super::narrator::{Narrator, say};
use super::steps::{Change, FAILBACK, Steps, TAKEOVER, note_first, summary, times_of};
use crate::announcer::journal::State;
use crate::status::EventStatus;

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
pub fn play(exporter: Exporter) -> Result<()> {
    host::become_root_of_a_user_namespace()?;
    host::find_program("bird", "bird2")?;
    say("A lab in network namespaces: a client and an ISP router, a primary site, a standby site.");
    let stage = Stage::set(exporter)?;

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
    exporter: Exporter,
    client: Client,
    client_started: Instant,
    events: Receiver<EventStatus>,
    isp_routes: routes::Watch,
    // Dropped last: the daemons, then the hosts under them.
    _node: Node,
    _servers: (Server, Server, Web),
    _birds: Vec<Bird>,
    lab: Topology,
}

impl Stage {
    fn set(exporter: Exporter) -> Result<Self> {
        let lab = Topology::build(&[])?;
        let isp_routes = routes::Watch::start(&lab.isp)?;
        let servers = (
            Server::start(&lab.primary, SERVICE)?,
            Server::start(&lab.standby, SERVICE)?,
            Web::start(&lab.primary, http(PRIMARY), answer_ok)?,
        );
        let isp = lab.start_isp()?;
        let mut birds = vec![lab.start_primary()?];
        match exporter {
            Exporter::Builtin => {
                say("BIRD runs at the ISP and at the primary; their BGP session comes up ...")
            }
            Exporter::Bird => {
                birds.push(Bird::start(&lab.standby, super::BIRD)?);
                say(
                    "BIRD runs at the ISP, at the primary and at the standby; their BGP sessions come up ...",
                );
                isp.wait_established("from_standby")?;
            }
        }
        isp.wait_established("from_primary")?;
        say(
            "announcerd starts at the standby: ping and HTTP of the primary every 200 ms, 3 failures are death.",
        );
        let node = Node::start(&lab.standby, Path::new("/proc/self/exe"), &exporter.standby_config())?;
        if exporter == Exporter::Builtin {
            say("It speaks BGP itself, and has nothing to announce yet; its session to the ISP comes up ...");
            isp.wait_established("from_standby")?;
        }
        birds.push(isp);
        let events = node.follow()?;
        node.wait_state(INSTANCE, State::Backup, LIMIT)?;
        let client_started = Instant::now();
        let client = Client::start(&lab.client, SERVICE, INTERVAL)?;
        Ok(Stage {
            exporter,
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
        let mut steps = Steps::new(self.exporter);
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
