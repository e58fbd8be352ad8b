//! Reads `[[instance]]`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::announce::{self, ReadAnnounce};
use super::check::path_of;
use super::model::{Failback, HookUrl, Instance, Name, Notify, OnStop, Primary, Quorum, Require, When};
use super::reader::{Item, Table};
use super::report::Span;
use super::route::{ReadAddress, ReadRoute};
use super::rule::ReadRule;
use super::tunnel::ReadTunnel;
use super::{Env, duration, route, rule, tunnel, values};

const fn seconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(least)..=Duration::from_secs(most)
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const NOTIFY_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(HOUR);
const DEFAULT_FAILBACK_DELAY: Duration = Duration::from_secs(30);
const DEFAULT_FAILBACK_DELAY_MAX: Duration = Duration::from_secs(30 * 60);
const DEFAULT_DRAIN: Duration = Duration::from_secs(10);
const DEFAULT_NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);

/// What gives an instance an effect on the kernel and on peers.
const OBJECTS: [&str; 5] = ["tunnel", "route", "address", "rule", "announce"];
/// What gives it an effect on anything else.
const SCRIPTS: [&str; 6] =
    ["notify_master", "notify_backup", "notify_fault", "notify_stop", "notify", "notify_url"];

/// Keys of an instance that end up in the table above them if they are written too far down.
const OFTEN_MISPLACED: [&str; 11] = [
    "primary",
    "require",
    "takeover_delay",
    "failback",
    "failback_delay",
    "failback_delay_max",
    "drain",
    "on_stop",
    "keep_max",
    "notify_timeout",
    "notify_retry",
];

/// Words about a key of the instance that stands under the header of one of its routes, addresses or announcements.
pub(super) fn misplaced(key: &str) -> Option<String> {
    let of_instance = OFTEN_MISPLACED.contains(&key) || SCRIPTS.contains(&key);
    let words = "is a key of the instance, and TOML gives it to the header above it: move it up, before the first [[instance.…]]";
    of_instance.then(|| words.to_owned())
}

/// An instance as it was read.
pub(super) struct ReadInstance {
    /// Its name; `None` if it has no usable one.
    pub name: Option<Name>,
    /// Dotted path.
    pub path: String,
    /// Where the name stands.
    pub name_span: Span,
    /// False if `primary` or `require` is there and could not be read whole.
    pub gates_read: bool,
    /// `primary`, if it is there.
    pub primary: Option<ReadGate>,
    /// `require`, if it is there.
    pub require: Option<ReadGate>,
    /// The routes that are right.
    pub routes: Vec<ReadRoute>,
    /// The addresses that are right.
    pub addresses: Vec<ReadAddress>,
    /// The tunnels that are right.
    pub tunnels: Vec<ReadTunnel>,
    /// The rules that are right.
    pub rules: Vec<ReadRule>,
    /// The announcements.
    pub announces: Vec<ReadAnnounce>,
    /// Everything else.
    pub rest: Rest,
    /// True if the file names a route, an address, an announcement or a script at all, right or wrong.
    pub does_something: bool,
}

/// What needs no second look.
pub(super) struct Rest {
    takeover_delay: Duration,
    failback: Failback,
    failback_delay: Duration,
    failback_delay_max: Duration,
    drain: Duration,
    on_stop: OnStop,
    notify: Notify,
}

/// `primary` or `require` as it was read.
pub(super) struct ReadGate {
    /// Dotted path.
    pub path: String,
    /// The names of checks that could be read, and where they stand.
    pub checks: Vec<(Name, Span)>,
    /// Where `checks` stands.
    pub span: Span,
    /// True if `checks` is there and all of it could be read.
    pub whole: bool,
    /// `down_when`; always all for `require`.
    pub down_when: (Quorum, Span),
    /// `up_when`.
    pub up_when: (Quorum, Span),
}

/// Reads all of them.
pub(super) fn read_all(item: &Item<'_, '_>, env: &Env<'_>) -> Option<Vec<ReadInstance>> {
    let items = item.tables("instance")?;
    Some(items.iter().enumerate().filter_map(|(index, item)| read(item, index, env)).collect())
}

fn read(item: &Item<'_, '_>, index: usize, env: &Env<'_>) -> Option<ReadInstance> {
    let mut table = item.table_named("instance", path_of("instance", index, item))?;
    let name = table.need("name", "\"mainland\"", |i| values::name(&i)).map(Arc::from);
    let primary = table.get("primary", |i| gate(&i, true));
    let require = table.get("require", |i| gate(&i, false));
    let rest = rest(&mut table, env);
    let routes = table.or("route", Vec::new(), |i| route::read_routes(&i));
    let addresses = table.or("address", Vec::new(), |i| route::read_addresses(&i));
    let tunnels = table.or("tunnel", Vec::new(), |i| tunnel::read_all(&i));
    let rules = table.or("rule", Vec::new(), |i| rule::read_all(&i));
    let announces = table.or("announce", Vec::new(), |i| announce::read_all(&i, env));
    let does_something = OBJECTS.iter().any(|key| table.has(key))
        || SCRIPTS.iter().any(|key| table.is_wrong(key))
        || !rest.notify.is_silent();
    let whole = |gate: &Option<ReadGate>| gate.as_ref().is_none_or(|gate| gate.whole);
    let gates_read =
        !table.is_wrong("primary") && !table.is_wrong("require") && whole(&primary) && whole(&require);
    let (path, name_span) = (table.path.clone(), table.span_of("name"));
    table.finish();
    Some(ReadInstance {
        name,
        path,
        name_span,
        gates_read,
        primary,
        require,
        routes,
        addresses,
        tunnels,
        rules,
        announces,
        rest,
        does_something,
    })
}

fn gate(item: &Item<'_, '_>, is_primary: bool) -> Option<ReadGate> {
    if !item.is_table() {
        return item.fail("must be a table such as { checks = [\"mainland-ping\"], up_when = \"all\" }");
    }
    let mut table = item.table("instance.gate")?;
    let checks = table.need("checks", "[\"mainland-ping\"]", |i| names(&i));
    let (down_when, down_span) = if is_primary {
        (table.or("down_when", Quorum::All, |i| quorum(&i)), table.span_of("down_when"))
    } else {
        (Quorum::All, table.span.clone())
    };
    let up_when = table.or("up_when", Quorum::All, |i| quorum(&i));
    let wrong = ["down_when", "up_when"].iter().any(|key| table.is_wrong(key));
    let gate = ReadGate {
        path: table.path.clone(),
        span: table.span_of("checks"),
        whole: checks.as_ref().is_some_and(|(_, whole)| *whole) && !wrong,
        checks: checks.map(|(names, _)| names).unwrap_or_default(),
        down_when: (down_when, down_span),
        up_when: (up_when, table.span_of("up_when")),
    };
    table.finish_with(|key| {
        (key == "down_when").then(|| "belongs to `primary`: `require` is met or not, by `up_when`".to_owned())
    });
    Some(gate)
}

/// The names that can be read, with their places, and whether those are all.
fn names(item: &Item<'_, '_>) -> Option<(Vec<(Name, Span)>, bool)> {
    let elements = item.elements()?;
    if elements.is_empty() {
        return item.fail("is empty; name at least one check");
    }
    let mut names: Vec<(Name, Span)> = Vec::new();
    let mut whole = true;
    for element in &elements {
        match element.word() {
            Some(name) if names.iter().any(|(known, _)| &**known == name) => {
                element.fail::<()>(format!("`{name}` is in the list already"));
            }
            Some(name) => names.push((Arc::from(name), element.span())),
            None => whole = false,
        }
    }
    Some((names, whole))
}

fn quorum(item: &Item<'_, '_>) -> Option<Quorum> {
    match item.is_string() {
        true => item.one_of(&[("all", Quorum::All), ("any", Quorum::Any)]),
        false => item.integer(1..=u64::from(u32::MAX)).map(Quorum::AtLeast),
    }
}

fn rest(table: &mut Table<'_, '_>, env: &Env<'_>) -> Rest {
    let takeover_delay = table.or("takeover_delay", Duration::ZERO, |i| i.duration(seconds(0, DAY)));
    let failback = [("auto", Failback::Auto), ("manual", Failback::Manual)];
    let failback = table.or("failback", Failback::Auto, |i| i.one_of(&failback));
    let (failback_delay, failback_delay_max) = failback_delays(table);
    Rest {
        takeover_delay,
        failback,
        failback_delay,
        failback_delay_max,
        drain: table.or("drain", DEFAULT_DRAIN, |i| i.duration(seconds(0, HOUR))),
        on_stop: on_stop(table),
        notify: notify(table, env),
    }
}

fn failback_delays(table: &mut Table<'_, '_>) -> (Duration, Duration) {
    let delay = table.or("failback_delay", DEFAULT_FAILBACK_DELAY, |i| i.duration(seconds(0, DAY)));
    let max = DEFAULT_FAILBACK_DELAY_MAX.max(delay);
    let max = table.or("failback_delay_max", max, |i| i.duration(seconds(0, 7 * DAY)));
    if max < delay && !table.is_wrong("failback_delay") {
        table.error(
            "failback_delay_max",
            format!("is less than failback_delay ({}), which it bounds", duration::show(delay)),
        );
    }
    (delay, max)
}

fn on_stop(table: &mut Table<'_, '_>) -> OnStop {
    let keep = table.or("on_stop", false, |i| i.one_of(&[("withdraw", false), ("keep", true)]));
    let max = table.get("keep_max", |i| i.duration(seconds(1, 7 * DAY)));
    match (keep, max) {
        (true, Some(max)) => return OnStop::Keep { max },
        (true, None) if !table.has("keep_max") => {
            table.error(
                "on_stop",
                "needs a bound: say with keep_max how long at most, such as keep_max = \"10m\"",
            );
        }
        (false, _) if table.has("keep_max") && !table.is_wrong("on_stop") => {
            table.error("keep_max", "has no effect without on_stop = \"keep\"");
        }
        _ => {}
    }
    OnStop::Withdraw
}

fn notify(table: &mut Table<'_, '_>, env: &Env<'_>) -> Notify {
    let mut script = |key| table.get(key, |i| values::command(&i, env.inspect_script)).unwrap_or_default();
    Notify {
        master: script("notify_master"),
        backup: script("notify_backup"),
        fault: script("notify_fault"),
        stop: script("notify_stop"),
        any: script("notify"),
        timeout: table.or("notify_timeout", DEFAULT_NOTIFY_TIMEOUT, |i| i.duration(NOTIFY_TIMEOUT)),
        retry: table.or("notify_retry", 0, |i| i.integer(0..=1000)),
        url: table.or("notify_url", None, |i| hook_url(&i)),
    }
}

/// An empty one is none, as with the scripts.
fn hook_url(item: &Item<'_, '_>) -> Option<Option<HookUrl>> {
    let text = item.text()?;
    if text.is_empty() {
        return Some(None);
    }
    // The text itself may be a secret: it is not repeated.
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return item.fail(format!("is no URL ({error}); write it as https://hooks.example.com/x"));
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return item.fail("must begin with http:// or https://");
    }
    if url.fragment().is_some() {
        return item.fail("has a fragment (`#…`), which is never sent; leave it out");
    }
    let url = HookUrl(url);
    match url.address() {
        Some(address) => values::unicast(item, address).map(|_| Some(url)),
        None => Some(Some(url)),
    }
}

impl Notify {
    fn is_silent(&self) -> bool {
        self.url.is_none() && self.commands().iter().all(|words| words.is_empty())
    }

    /// Every command, the empty ones too.
    fn commands(&self) -> [&[String]; 5] {
        [&self.master, &self.backup, &self.fault, &self.stop, &self.any]
    }
}

impl ReadGate {
    fn names(&self) -> Vec<Name> {
        self.checks.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl ReadInstance {
    /// True if being MASTER or not makes a difference: not all that there is is there always.
    pub fn hangs_on_its_state(&self) -> bool {
        let whens = self.routes.iter().map(|r| r.route.when);
        let whens = whens.chain(self.addresses.iter().map(|a| a.address.when));
        let whens = whens.chain(self.tunnels.iter().map(|t| t.tunnel.when));
        let mut whens = whens.chain(self.rules.iter().map(|r| r.rule.when)).peekable();
        let scripts = !self.rest.notify.is_silent();
        whens.peek().is_none() || whens.any(|w| w == When::Master) || !self.announces.is_empty() || scripts
    }

    /// The instance, once everything about it is known to be right; `all_peers` are the names of every `[[bgp]]`.
    pub fn into_instance(self, all_peers: &[Name]) -> Option<Instance> {
        let primary = self.primary.map(|gate| Primary {
            checks: gate.names(),
            down_when: gate.down_when.0,
            up_when: gate.up_when.0,
        });
        let require = self.require.map(|gate| Require { checks: gate.names(), up_when: gate.up_when.0 });
        Some(Instance {
            name: self.name?,
            primary,
            require,
            takeover_delay: self.rest.takeover_delay,
            failback: self.rest.failback,
            failback_delay: self.rest.failback_delay,
            failback_delay_max: self.rest.failback_delay_max,
            drain: self.rest.drain,
            on_stop: self.rest.on_stop,
            notify: self.rest.notify,
            routes: self.routes.into_iter().map(|read| read.route).collect(),
            addresses: self.addresses.into_iter().map(|read| read.address).collect(),
            tunnels: self.tunnels.into_iter().map(|read| read.tunnel).collect(),
            rules: self.rules.into_iter().map(|read| read.rule).collect(),
            announces: self
                .announces
                .into_iter()
                .map(|a| a.into_announce(all_peers))
                .collect::<Option<_>>()?,
        })
    }
}
