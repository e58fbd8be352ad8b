//! Checks made by hand, and their outcomes awaited.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use announcerd::announcer::Event;
use announcerd::announcer::event::{Outcome, ProbeId};
use announcerd::config::model::{Check, Fall, Host, Http, Origin, Ping, Probe, Tcp};
use announcerd::io::probe::Probes;
use announcerd::io::resolve::Resolver;
use announcerd::net::Prefix;
use tokio::sync::mpsc;

/// The edge under test and its events.
pub struct Prober {
    pub probes: Probes,
    events: mpsc::Receiver<Event>,
    next: u64,
}

impl Prober {
    pub fn new() -> Self {
        Self::with_resolver(Resolver::default())
    }

    pub fn with_resolver(resolver: Resolver) -> Self {
        let (sender, events) = mpsc::channel(1024);
        Prober { probes: Probes::with_resolver(sender, |_| Ok(()), resolver), events, next: 0 }
    }

    pub fn start(&mut self, check: &Arc<Check>) -> ProbeId {
        self.start_beside(check, &[])
    }

    pub fn start_beside(&mut self, check: &Arc<Check>, own: &[Prefix]) -> ProbeId {
        self.next += 1;
        let own = Arc::new(own.iter().copied().collect());
        self.probes.start(ProbeId(self.next), check.clone(), own);
        ProbeId(self.next)
    }

    /// The next outcome, whichever probe it is of.
    pub async fn next(&mut self) -> (ProbeId, Outcome) {
        match tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await {
            Ok(Some(Event::Probe { id, outcome })) => (id, outcome),
            other => panic!("no outcome: {other:?}"),
        }
    }

    /// One probe, from its start to its outcome; again if a busy machine did not let us see it in time.
    pub async fn ask(&mut self, check: &Arc<Check>) -> Outcome {
        loop {
            let id = self.start(check);
            let (of, outcome) = self.next().await;
            assert_eq!(of, id);
            match &outcome {
                Outcome::Blind(why) if why.contains("this process was not running") => {}
                _ => return outcome,
            }
        }
    }

    /// True if an event is there without waiting.
    pub fn has_news(&mut self) -> bool {
        !self.events.is_empty()
    }
}

/// A check of a name of its own.
pub fn check(probe: Probe, timeout: Duration) -> Arc<Check> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("check-{}", NEXT.fetch_add(1, Ordering::Relaxed)).into();
    let fall = Fall::Consecutive(3);
    Arc::new(Check { name, probe, interval: timeout * 2, timeout, fall, rise: 2 })
}

pub fn host(host: &str) -> Host {
    host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address)
}

pub fn ping(to: &str) -> Ping {
    Ping { host: host(to), count: 1, max_loss: 0.0, max_rtt: None, size: 56, origin: Origin::default() }
}

/// A ping whose timeout is long enough for a busy machine, where it is not what is tested.
pub fn ping_check(ping: Ping) -> Arc<Check> {
    check(Probe::Ping(ping), Duration::from_secs(10))
}

pub fn tcp_check(to: &str, port: u16, origin: Origin) -> Arc<Check> {
    check(Probe::Tcp(Tcp { host: host(to), port, origin }), Duration::from_secs(10))
}

pub fn http(url: String) -> Http {
    Http {
        url,
        method: "GET".into(),
        headers: vec![],
        connect_to: None,
        expect_status: vec![(200, 299)],
        expect_body: None,
        ca_file: None,
        insecure: false,
        origin: Origin::default(),
    }
}

pub fn http_check(http: Http) -> Arc<Check> {
    check(Probe::Http(http), Duration::from_secs(10))
}

#[track_caller]
pub fn assert_success(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Success { rtt: Some(_) }), "{outcome:?}");
}

#[track_caller]
pub fn assert_failure(outcome: Outcome, words: &str) {
    assert!(matches!(&outcome, Outcome::Failure(why) if why.contains(words)), "{outcome:?}");
}

#[track_caller]
pub fn assert_blind(outcome: Outcome, words: &str) {
    assert!(matches!(&outcome, Outcome::Blind(why) if why.contains(words)), "{outcome:?}");
}
