//! The probes: one file a type. Each is a task that ends in one [`Event::Probe`], or is cancelled and ends in none; a ping
//! of one request has no task of its own.
//!
//! Timeouts are the core's: it cancels. Those that ask over the network judge silence themselves a moment before that,
//! because only here it can be told apart. What decides between [`Outcome::Failure`] and [`Outcome::Blind`] is who is to
//! blame: what the other end or the way to it did is a failure; what kept us from asking, or from hearing the answer,
//! is neither.

mod deadline;
mod dns;
mod echo;
mod exec;
mod file;
mod http;
mod icmp;
mod offthread;
mod patience;
mod ping;
mod requests;
mod target;
mod tcp;
mod tls;

pub(super) use http::cause;
pub(super) use tls::{no_tls, system_tls};

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::AbortHandle;

use super::child::Inspect;
use super::netlink::Egress;
use super::resolve::Resolver;
use crate::announcer::Event;
use crate::announcer::event::{Outcome, ProbeId};
use crate::announcer::own::OwnPrefixes;
use crate::config::model::{Check, Host, Origin, Probe};

/// Ended tasks are swept when so many handles are held, or twice what the last sweep left.
const SWEEP: usize = 64;

/// All probes under way. Must live inside a tokio runtime with everything enabled.
#[derive(Debug)]
pub struct Probes {
    events: mpsc::Sender<Event>,
    kit: Arc<Kit>,
    tasks: HashMap<ProbeId, AbortHandle>,
    sweep_at: usize,
}

/// What the probes share.
#[derive(Debug)]
struct Kit {
    inspect: Inspect,
    resolver: Resolver,
    sockets: echo::Sockets,
    tls: tls::Cache,
    threads: offthread::Threads,
    egress: Egress,
}

impl Probes {
    /// Answers go to `events`; `inspect` may refuse the command of an `exec` check before each run.
    pub fn new(events: mpsc::Sender<Event>, inspect: Inspect) -> Self {
        Self::with_resolver(events, inspect, Resolver::default())
    }

    /// The same over a resolver of the caller's.
    pub fn with_resolver(events: mpsc::Sender<Event>, inspect: Inspect, resolver: Resolver) -> Self {
        let kit = Kit {
            inspect,
            resolver,
            sockets: echo::Sockets::default(),
            tls: tls::Cache::default(),
            threads: offthread::Threads::default(),
            egress: Egress::default(),
        };
        Probes { events, kit: Arc::new(kit), tasks: HashMap::new(), sweep_at: SWEEP }
    }

    /// Starts a probe and returns at once; [`Event::Probe`] follows unless it is cancelled.
    pub fn start(&mut self, id: ProbeId, check: Arc<Check>, own: Arc<OwnPrefixes>) {
        if self.tasks.len() >= self.sweep_at {
            self.tasks.retain(|_, task| !task.is_finished());
            self.sweep_at = SWEEP.max(self.tasks.len() * 2);
        }
        let (kit, events) = (self.kit.clone(), self.events.clone());
        if let Probe::Ping(ping) = &check.probe
            && ping.count <= 1
        {
            let ended = Ended { kit, check: check.clone(), events, id };
            return ping::one(&self.kit, (id, &check, ping), &own, |verdict| ended.tell(verdict));
        }
        let task = tokio::spawn(async move {
            let outcome = run(&kit, &check, &own).await;
            // The receiver is gone only when the daemon ends.
            let _ = events.send(Event::Probe { id, outcome }).await;
        });
        self.tasks.insert(id, task.abort_handle());
    }

    /// Ends a probe, and kills what it started.
    pub fn cancel(&mut self, id: ProbeId) {
        match self.tasks.remove(&id) {
            Some(task) => task.abort(),
            None => self.kit.sockets.cancel(id),
        }
    }

    /// After a start or reload: frees what no check of `live` needs (sockets, certificates, names), and begins to look up
    /// the names of those that are new. CA files are read again.
    pub fn retain_checks(&mut self, live: &[Arc<Check>]) {
        self.tasks.retain(|_, task| !task.is_finished());
        self.sweep_at = SWEEP.max(self.tasks.len() * 2);
        let names: HashSet<String> = live.iter().filter_map(|check| name_of(&check.probe)).collect();
        self.kit.resolver.retain(&names);
        let origins: HashSet<&Origin> = live
            .iter()
            .filter_map(|check| match &check.probe {
                Probe::Ping(ping) => Some(&ping.origin),
                _ => None,
            })
            .collect();
        self.kit.sockets.retain(&origins);
        self.kit.threads.retain(&live.iter().map(|check| &check.name).collect());
        self.kit.tls.clear();
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
        self.kit.sockets.close();
    }
}

/// A probe that has no task of its own.
struct Ended {
    kit: Arc<Kit>,
    check: Arc<Check>,
    events: mpsc::Sender<Event>,
    id: ProbeId,
}

impl Ended {
    /// Never waits: what takes time, and a queue that is full, are waited for in a task.
    fn tell(self, verdict: Verdict) {
        let event = match settled(verdict) {
            Ok(outcome) => match self.events.try_send(Event::Probe { id: self.id, outcome }) {
                Err(TrySendError::Full(event)) => event,
                _ => return,
            },
            Err((to, why)) => {
                tokio::spawn(async move {
                    let outcome = silence(&self.kit, &self.check.probe, to, why).await;
                    let _ = self.events.send(Event::Probe { id: self.id, outcome }).await;
                });
                return;
            }
        };
        tokio::spawn(async move { drop(self.events.send(event).await) });
    }
}

/// The name that a check looks up.
fn name_of(probe: &Probe) -> Option<String> {
    let host = match probe {
        Probe::Ping(ping) => &ping.host,
        Probe::Tcp(tcp) => &tcp.host,
        Probe::Dns(dns) => &dns.server,
        Probe::Http(http) => match &http.connect_to {
            Some(host) => host,
            None => return http::name_in(&http.url),
        },
        Probe::Exec(_) | Probe::Link(_) | Probe::Bgp(_) | Probe::Bfd(_) | Probe::File(_) => return None,
    };
    match host {
        Host::Name(name) => Some(name.clone()),
        Host::Address(_) => None,
    }
}

async fn run(kit: &Kit, check: &Check, own: &OwnPrefixes) -> Outcome {
    let result = match &check.probe {
        Probe::Ping(ping) => Box::pin(ping::several(kit, ping, check.timeout, own)).await,
        Probe::Tcp(tcp) => tcp::probe(kit, tcp, check.timeout, own).await,
        Probe::Dns(dns) => Box::pin(dns::probe(kit, dns, check.timeout, own)).await,
        Probe::Http(http) => Box::pin(http::probe(kit, &check.name, http, check.timeout, own)).await,
        Probe::Exec(exec) => Box::pin(exec::probe(kit, &check.name, exec)).await,
        Probe::File(file) => Box::pin(file::probe(kit, &check.name, file)).await,
        Probe::Link(_) | Probe::Bgp(_) | Probe::Bfd(_) => {
            Err(Fault::Ours("the core knows of it without a probe".to_owned()))
        }
    };
    match settled(result) {
        Ok(outcome) => outcome,
        Err((to, why)) => silence(kit, &check.probe, to, why).await,
    }
}

/// What a verdict comes to, unless our own link has to be looked at: whom it was about, and why.
fn settled(verdict: Verdict) -> Result<Outcome, (IpAddr, String)> {
    match verdict {
        Ok(rtt) => Ok(Outcome::Success { rtt }),
        Err(Fault::Theirs(why)) => Ok(Outcome::Failure(why)),
        Err(Fault::Ours(why)) => Ok(Outcome::Blind(why)),
        Err(Fault::Silence { to, why }) => Err((to, why)),
    }
}

/// SPEC 4: with our own link down it counts as neither.
async fn silence(kit: &Kit, probe: &Probe, to: IpAddr, why: String) -> Outcome {
    let origin = match probe {
        Probe::Ping(ping) => &ping.origin,
        Probe::Tcp(tcp) => &tcp.origin,
        Probe::Dns(dns) => &dns.origin,
        Probe::Http(http) => &http.origin,
        Probe::Exec(_) | Probe::Link(_) | Probe::Bgp(_) | Probe::Bfd(_) | Probe::File(_) => {
            return Outcome::Failure(why);
        }
    };
    match kit.egress.trouble(to, origin).await {
        Some(trouble) => Outcome::Blind(format!("{trouble} ({why})")),
        None => Outcome::Failure(why),
    }
}

/// Why a probe was no success.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fault {
    /// The other end, or the way to it: [`Outcome::Failure`].
    Theirs(String),
    /// This machine: [`Outcome::Blind`].
    Ours(String),
    /// Nothing came back, or nobody but our own kernel said why: a failure, unless we are not even connected.
    Silence { to: IpAddr, why: String },
}

/// How long the answer took, where that means something.
type Verdict = Result<Option<std::time::Duration>, Fault>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Fall, File};
    use std::time::Duration;

    /// FIELD 7 in the small: what a probe needed is forgotten when it has ended.
    #[tokio::test]
    async fn ended_probes_are_forgotten() {
        let (sender, mut events) = mpsc::channel(8);
        let mut probes = Probes::new(sender, |_| Ok(()));
        let check = Arc::new(Check {
            name: "absent".into(),
            probe: Probe::File(File { path: "/nonexistent/file".into(), max_age: None }),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: Fall::Consecutive(3),
            rise: 2,
        });
        for id in 0..5_000 {
            probes.start(ProbeId(id), check.clone(), Arc::default());
            assert!(matches!(events.recv().await, Some(Event::Probe { id: ProbeId(of), .. }) if of == id));
            assert!(probes.tasks.len() <= SWEEP + 1, "{}", probes.tasks.len());
        }
    }
}
