//! Posts what [`crate::hook`] says, a task for each instance that has a `notify_url`.
//!
//! Nothing here is waited for but at the very end, and then for a bounded moment. What the log says names the receiver
//! without user, password, path and query: any of them may be a secret.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::clock;
use super::probe::{cause, no_tls, system_tls};
use super::resolve::Resolver;
use crate::config::model::{Config, HookUrl, Name};
use crate::hook::{Next, Outcome, Queue, Say, Tally};
use crate::status::{EventStatus, Notice};

/// A post that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// All of them. Must live inside a tokio runtime with everything enabled.
#[derive(Debug, Default)]
pub struct Hooks {
    live: HashMap<Name, Hook>,
    resolver: Resolver,
    tls: Arc<Mutex<Option<ClientConfig>>>,
}

#[derive(Debug)]
struct Hook {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    instance: Name,
    url: Mutex<HookUrl>,
    queue: Mutex<Queue<Arc<Notice>>>,
    changed: Notify,
    resolver: Resolver,
    tls: Arc<Mutex<Option<ClientConfig>>>,
}

impl Hooks {
    /// After a start or a reload. What waits for an instance whose URL has changed goes to the new one; what waits for one
    /// that has none any more is tried once. The system's certificates are read anew when they are needed next.
    pub fn configure(&mut self, config: &Config) {
        let wanted: HashMap<&Name, &HookUrl> =
            config.instances.iter().filter_map(|i| Some((&i.name, i.notify.url.as_ref()?))).collect();
        self.live.retain(|name, hook| {
            let stays = wanted.contains_key(name);
            if !stays {
                lock(&hook.shared.queue).close();
                hook.shared.changed.notify_one();
            }
            stays
        });
        *lock(&self.tls) = None;
        let names: HashSet<String> =
            wanted.values().filter_map(|url| url.name().map(str::to_owned)).collect();
        self.resolver.retain(&names);
        for (name, url) in wanted {
            match self.live.get(name) {
                Some(hook) => *lock(&hook.shared.url) = url.clone(),
                None => {
                    let hook = self.start(name, url);
                    self.live.insert(name.clone(), hook);
                }
            }
        }
    }

    fn start(&self, name: &Name, url: &HookUrl) -> Hook {
        let shared = Arc::new(Shared {
            instance: name.clone(),
            url: Mutex::new(url.clone()),
            queue: Mutex::default(),
            changed: Notify::new(),
            resolver: self.resolver.clone(),
            tls: self.tls.clone(),
        });
        Hook { task: tokio::spawn(serve(shared.clone())), shared }
    }

    /// A transition happened (`anew`), or more is known of one. `notice` is made only if somebody is to be told.
    pub fn tell(&self, event: &EventStatus, anew: bool, notice: impl FnOnce() -> Notice) {
        let Some(hook) = self.live.get(event.instance.as_str()) else { return };
        let (mut queue, notice) = (lock(&hook.shared.queue), Arc::new(notice()));
        if anew {
            queue.push(event.seq, notice, clock::now());
            hook.shared.changed.notify_one();
        } else {
            queue.update(event.seq, notice);
        }
    }

    /// What became of notices, by instance.
    pub fn tallies(&self) -> Vec<(Name, Tally)> {
        let tally = |(name, hook): (&Name, &Hook)| (name.clone(), lock(&hook.shared.queue).tally());
        let mut tallies: Vec<_> = self.live.iter().map(tally).collect();
        tallies.sort_by(|(a, _), (b, _)| a.cmp(b));
        tallies
    }

    /// Gives what waits one try, for `limit` at most.
    pub async fn finish(&mut self, limit: Duration) {
        for hook in self.live.values() {
            lock(&hook.shared.queue).close();
            hook.shared.changed.notify_one();
        }
        let tasks = futures::future::join_all(self.live.values_mut().map(|hook| &mut hook.task));
        if timeout(limit, tasks).await.is_ok() {
            return;
        }
        for hook in self.live.values() {
            let waiting = lock(&hook.shared.queue).tally().waiting;
            if waiting > 0 {
                let (instance, url) = (&*hook.shared.instance, lock(&hook.shared.url).clone());
                tracing::warn!(
                    instance,
                    "notify_url {url}: no answer at the end; {waiting} transitions may not be told"
                );
            }
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for hook in self.live.values() {
            hook.task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(shared: Arc<Shared>) {
    loop {
        let next = lock(&shared.queue).next(clock::now());
        match next {
            Next::Post(notice) => {
                let url = lock(&shared.url).clone();
                let outcome = match timeout(PATIENCE, post(&shared, &url, &notice)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Outcome::Failed(format!("no answer in {} s", PATIENCE.as_secs())),
                };
                let said = lock(&shared.queue).ended(outcome, clock::now());
                let instance = &*shared.instance;
                match said {
                    Some(Say::Trouble(why)) => tracing::warn!(instance, "notify_url {url}: {why}"),
                    Some(Say::Better(words)) => tracing::info!(instance, "notify_url {url}: {words}"),
                    None => {}
                }
            }
            Next::At(then) => {
                let pause = then.since(clock::now());
                tokio::select! {
                    () = sleep(pause) => {}
                    () = shared.changed.notified() => {}
                }
            }
            Next::Idle => shared.changed.notified().await,
            Next::Over => return,
        }
    }
}

/// One try, on a connection of its own. Proxies and redirects are not followed.
async fn post(shared: &Shared, url: &HookUrl, notice: &Notice) -> Outcome {
    let address = match address(shared, url) {
        Ok(address) => address,
        Err(why) => return Outcome::Failed(why),
    };
    let to = SocketAddr::new(address, url.0.port_or_known_default().unwrap_or(80));
    let client = match client(shared, url, to).await {
        Ok(client) => client,
        Err(why) => return Outcome::Failed(why),
    };
    let body = match serde_json::to_vec(notice) {
        Ok(body) => body,
        Err(e) => return Outcome::Refused(format!("it cannot be put into JSON: {e}")),
    };
    let request = client.post(url.0.clone()).header(CONTENT_TYPE, "application/json").body(body);
    match request.send().await {
        Ok(response) => judge(response.status().as_u16()),
        Err(error) => Outcome::Failed(cause(&error, to)),
    }
}

fn judge(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        // RFC 9110 sections 15.5.9 and 15.6, RFC 6585 section 4: later it may do.
        408 | 425 | 429 | 500.. => Outcome::Failed(format!("status {status}")),
        _ => Outcome::Refused(format!("status {status}")),
    }
}

fn address(shared: &Shared, url: &HookUrl) -> Result<IpAddr, String> {
    match (url.address(), url.name()) {
        (Some(address), _) => Ok(address),
        (None, Some(name)) => shared.resolver.address(name, None),
        (None, None) => Err("it names no host".to_owned()),
    }
}

async fn client(shared: &Shared, url: &HookUrl, to: SocketAddr) -> Result<Client, String> {
    let tls = match url.0.scheme() {
        "https" => tls(shared).await?,
        // Plain HTTP never looks at it; without one, reqwest would read the system's certificates.
        _ => no_tls()?,
    };
    let builder = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("announcerd/", env!("CARGO_PKG_VERSION")))
        .resolve(url.0.host_str().unwrap_or_default(), to)
        .tls_backend_preconfigured(tls);
    builder.build().map_err(|e| format!("cannot make an HTTP client: {e}"))
}

/// Certificates are files: read on a thread, once.
async fn tls(shared: &Shared) -> Result<ClientConfig, String> {
    if let Some(config) = lock(&shared.tls).clone() {
        return Ok(config);
    }
    let read = tokio::task::spawn_blocking(system_tls).await;
    let config = read.map_err(|e| format!("certificates: {e}"))??;
    *lock(&shared.tls) = Some(config.clone());
    Ok(config)
}
