//! The speaker and its edge against BIRD 2, with as much of a driver as that needs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use announcerd::bgp::{Attributes, Claim, Peer, PeerEffect, PeerEvent, PrefixSet, StopCause, Table, Wanted};
use announcerd::config::model::Bgp;
use announcerd::io::bgp::{BgpEdge, BgpNews};
use announcerd::io::clock;
use announcerd::time::Time;
use tokio::sync::mpsc::{Receiver, channel};

use crate::node::{DEADLINE, PEER, cabled, keyed};

const CONFIG: &str = r#"
log stderr all;
router id 192.0.2.2;
protocol device {}
protocol bgp announcerd {
    local 192.0.2.2 as 64500;
    neighbor 192.0.2.1 as 64501;
    password "s3cret";
    ttl security on;
    passive MODE;
    ipv4 { import all; export none; };
}
"#;

/// BIRD in the foreground; killed in the end.
struct Bird {
    child: Child,
    folder: tempfile::TempDir,
}

impl Bird {
    /// Starts in the namespace of the calling thread.
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("conf"), config).unwrap();
        let file = |name: &str| folder.path().join(name);
        let child = Command::new("bird")
            .args([Path::new("-f"), Path::new("-c"), &file("conf"), Path::new("-s"), &file("ctl")])
            .args([Path::new("-P"), &file("pid")])
            .stderr(Stdio::null())
            .spawn()
            .expect("bird2 is installed");
        Bird { child, folder }
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("ctl")
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn birdc(control: &Path, words: &str) -> String {
    let out = Command::new("birdc").arg("-s").arg(control).args(words.split(' ')).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The driver in small.
struct Driver {
    peer: Peer,
    edge: BgpEdge,
    news: Receiver<BgpNews>,
    effects: Vec<PeerEffect>,
}

impl Driver {
    fn new(cfg: Bgp) -> Self {
        let (sender, news) = channel(64);
        let mut edge = BgpEdge::new(sender);
        let peer = Peer::new(cfg.session.clone(), 1, false, clock::now());
        edge.set_peers(vec![(PEER, Arc::new(cfg))]);
        Driver { peer, edge, news, effects: Vec::new() }
    }

    fn tell(&mut self, event: PeerEvent) {
        self.peer.handle_event(event, clock::now());
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(effect) = self.peer.poll_effect() {
            match effect.clone() {
                PeerEffect::Connect { conn } => self.edge.connect(PEER, conn),
                PeerEffect::Close { conn, last_words } => self.edge.close(PEER, conn, last_words),
                PeerEffect::Transmit { conn } => self.pump(conn),
                _ => self.effects.push(effect),
            }
        }
    }

    fn pump(&mut self, conn: announcerd::bgp::ConnId) {
        let Driver { peer, edge, .. } = self;
        let total = edge.pump(PEER, conn, &mut |limit, out| peer.poll_transmit(conn, limit, out));
        if let Some(total) = total {
            self.peer.handle_event(PeerEvent::Written { conn, total }, clock::now());
        }
    }

    /// Until `done`; what it looks at is looked at again every now and then.
    async fn turn_until(&mut self, what: &str, mut done: impl FnMut(&[PeerEffect]) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done(&self.effects) {
            assert!(Instant::now() < end, "no {what}: {:?}", self.effects);
            let due = self.peer.poll_timeout().map_or(Duration::MAX, |at: Time| at.since(clock::now()));
            tokio::select! {
                Some(news) = self.news.recv() => match news {
                    BgpNews::Event(_, event) => self.tell(event),
                    BgpNews::Writable(_, conn) => {
                        self.pump(conn);
                        self.perform();
                    }
                },
                () = tokio::time::sleep(due.min(Duration::from_millis(50))) => {}
            }
            if self.peer.poll_timeout().is_some_and(|at| at <= clock::now()) {
                self.peer.handle_timeout(clock::now());
                self.perform();
            }
        }
    }
}

/// A session with MD5 and GTSM; prefixes come, go, and the last words are read.
fn session(bird_passive: bool) {
    let (a, b) = cabled();
    let bird = b.run(move || Bird::start(&CONFIG.replace("MODE", if bird_passive { "on" } else { "off" })));
    let control = bird.control();
    let mut cfg = keyed("192.0.2.2", "s3cret");
    cfg.session.ttl_security = true;
    cfg.session.passive = !bird_passive;
    cfg.session.connect_retry = Duration::from_secs(1);
    a.block_on(async move || {
        let mut driver = Driver::new(cfg);
        let set = PrefixSet::new(["198.51.100.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()]);
        let table = Arc::new(Table::new(&[set]));
        let master = Claim::Master(Arc::new(Attributes { med: Some(7), ..Attributes::default() }));
        let wanted = |claim| Wanted { table: table.clone(), claims: vec![claim] };
        driver.tell(PeerEvent::InitOver);
        driver.turn_until("session", |seen| seen.contains(&PeerEffect::SessionUp)).await;
        driver.tell(PeerEvent::SetWanted { wanted: wanted(master), token: 1 });
        driver.turn_until("written", |seen| seen.contains(&PeerEffect::UpdateWritten { token: 1 })).await;
        driver.turn_until("acked", |seen| seen.contains(&PeerEffect::UpdateAcked { token: 1 })).await;
        let route = || birdc(&control, "show route all 198.51.100.0/24");
        driver.turn_until("route", |_| route().contains("BGP.med: 7")).await;
        assert!(birdc(&control, "show protocols announcerd").contains("Established"));
        driver.tell(PeerEvent::SetWanted { wanted: wanted(Claim::None), token: 2 });
        driver.turn_until("acked", |seen| seen.contains(&PeerEffect::UpdateAcked { token: 2 })).await;
        driver.turn_until("withdraw", |_| !route().contains("BGP.med")).await;
        assert!(birdc(&control, "show protocols announcerd").contains("Established"));
        let (cause, message) = (StopCause::Shutdown, "moving house, back at noon".to_owned());
        driver.tell(PeerEvent::Stop { moment: Duration::ZERO, cause, message });
        driver.turn_until("stop", |seen| seen.contains(&PeerEffect::Stopped)).await;
        driver.edge.finish(DEADLINE).await;
        let all = || birdc(&control, "show protocols all announcerd");
        driver.turn_until("message", |_| all().contains("moving house, back at noon")).await;
        let said = all();
        assert!(said.contains("Administrative shutdown"), "{said}");
    });
}

#[test]
fn bird_listens_and_we_connect() {
    session(true);
}

#[test]
fn bird_connects_and_we_listen() {
    session(false);
}
