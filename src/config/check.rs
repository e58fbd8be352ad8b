//! Reads `[[check]]`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Check, Fall, Name, Probe};
use super::reader::{Item, Table, path_step};
use super::report::Span;
use super::{Env, bfd, duration, probe, values};
use crate::bfd::SessionConfig;

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(800);
/// Bound of `fall`, `rise` and the window: more than this is a slip of the pen.
const RESULTS: RangeInclusive<u64> = 1..=1000;

/// A check as it was read.
pub(super) struct ReadCheck {
    /// Its name; `None` if it has no usable one.
    pub name: Option<Name>,
    /// Dotted path.
    pub path: String,
    /// Where the name stands.
    pub name_span: Span,
    /// Where the target stands (host, url, connect_to or peer), and its key.
    pub target: (&'static str, Span),
    /// Where `fall` stands, if it is given.
    pub fall_span: Span,
    /// The check; `None` if something about it is wrong.
    pub check: Option<Check>,
}

/// Keys that belong to some types only, with those types, for the words about a key at the wrong one.
const KEYS_OF_TYPES: &[(&str, &str)] = &[
    ("host", "ping, tcp and bfd"),
    ("port", "tcp and dns"),
    ("count", "ping"),
    ("max_loss", "ping"),
    ("max_rtt", "ping"),
    ("size", "ping"),
    ("source", "ping, http, tcp and dns"),
    ("device", "ping, http, tcp, dns, link and bfd"),
    ("fwmark", "ping, tcp and dns"),
    ("server", "dns"),
    ("query", "dns"),
    ("record", "dns"),
    ("expect", "dns"),
    ("transport", "dns"),
    ("url", "http"),
    ("method", "http"),
    ("headers", "http"),
    ("connect_to", "http"),
    ("expect_status", "http"),
    ("expect_body", "http"),
    ("ca_file", "http"),
    ("insecure", "http"),
    ("command", "exec"),
    ("invert", "exec"),
    ("path", "file"),
    ("max_age", "file"),
    ("peer", "bgp"),
    ("multiplier", "bfd"),
    ("multihop", "bfd"),
    ("local_address", "bfd"),
    ("passive", "bfd"),
    ("authentication", "bfd"),
];

/// Reads all of them.
pub(super) fn read_all(item: &Item<'_, '_>, env: &Env<'_>) -> Option<Vec<ReadCheck>> {
    let items = item.tables("check")?;
    Some(items.iter().enumerate().filter_map(|(index, item)| read(item, index, env)).collect())
}

/// The path of the n-th table of a kind: by its name if it has one.
pub(super) fn path_of(kind: &str, index: usize, item: &Item<'_, '_>) -> String {
    match item.peek("name") {
        Some(name) if !name.is_empty() => format!("{kind}.{}", path_step(name)),
        _ => format!("{kind}[{index}]"),
    }
}

fn read(item: &Item<'_, '_>, index: usize, env: &Env<'_>) -> Option<ReadCheck> {
    let before = item.report.errors();
    let mut table = item.table_named("check", path_of("check", index, item))?;
    let name: Option<Name> = table.need("name", "\"uplink\"", |i| values::name(&i)).map(Arc::from);
    let mut read = ReadCheck {
        name: name.clone(),
        path: table.path.clone(),
        name_span: table.span_of("name"),
        target: ("", table.span_of("host")),
        fall_span: table.span_of("fall"),
        check: None,
    };
    let kind = table.need("type", "\"ping\"", |i| kind(&i));
    let Some(kind) = kind else {
        // Which keys it may have is not known: its name is all that counts.
        return Some(read);
    };
    let target = probe::target_key(kind, &table);
    read.target = (target, table.span_of(target));
    let (rhythm, probe) = if kind == "bfd" {
        let session = bfd::check(&mut table, env);
        (Rhythm::of_session(session.as_ref()), session.map(Probe::Bfd))
    } else {
        let rhythm = Rhythm::read(&mut table, kind);
        let probe = probe::read(kind, &mut table, rhythm.timeout, env);
        (rhythm, probe)
    };
    table.finish_with(|key| {
        let (_, types) = KEYS_OF_TYPES.iter().find(|(k, _)| *k == key)?;
        Some(format!("is a key of {types} checks, not of {kind} checks"))
    });
    let sound = item.report.errors() == before;
    read.check = match (name, probe) {
        (Some(name), Some(probe)) if sound => Some(rhythm.check(name, probe)),
        _ => None,
    };
    Some(read)
}

fn kind(item: &Item<'_, '_>) -> Option<&'static str> {
    let kinds = ["ping", "http", "tcp", "dns", "exec", "bfd", "link", "bgp", "file"];
    item.one_of(&kinds.map(|name| (name, name)))
}

/// When a check probes, and how many results make a verdict.
struct Rhythm {
    interval: Duration,
    timeout: Duration,
    fall: Fall,
    rise: u32,
}

impl Rhythm {
    /// A link and a session tell each change at once: nothing is gained by waiting for a second result, unless the file says so.
    fn defaults(kind: &str) -> (u32, u32) {
        if matches!(kind, "link" | "bgp") { (1, 1) } else { (3, 2) }
    }

    /// A BFD session has its own: the detection time is all of it.
    fn of_session(session: Option<&SessionConfig>) -> Self {
        let interval = session.map_or(DEFAULT_INTERVAL, |s| s.interval);
        let timeout = session.map_or(DEFAULT_TIMEOUT, SessionConfig::detection_time);
        Rhythm { interval, timeout, fall: Fall::Consecutive(1), rise: 1 }
    }

    fn read(table: &mut Table<'_, '_>, kind: &str) -> Self {
        let (fall, rise) = Self::defaults(kind);
        let interval = table.or("interval", DEFAULT_INTERVAL, |i| i.duration(INTERVAL));
        let default_timeout = DEFAULT_TIMEOUT.min(interval * 4 / 5);
        let timeout = table.or("timeout", default_timeout, |i| i.duration(TIMEOUT));
        if timeout > interval && !table.is_wrong("interval") {
            table.error(
                "timeout",
                format!(
                    "is longer than the interval ({}): a slow probe would overlap the next; make it at most \"{0}\"",
                    duration::show(interval)
                ),
            );
        }
        Rhythm {
            interval,
            timeout,
            fall: table.or("fall", Fall::Consecutive(fall), |i| read_fall(&i)),
            rise: table.or("rise", rise, |i| i.integer(RESULTS)),
        }
    }

    fn check(self, name: Name, probe: Probe) -> Check {
        let Rhythm { interval, timeout, fall, rise } = self;
        Check { name, probe, interval, timeout, fall, rise }
    }
}

fn read_fall(item: &Item<'_, '_>) -> Option<Fall> {
    if !item.is_table() {
        return match item.is_string() || item.is_array() {
            true => item.fail("must be a number, or a window such as { failures = 8, of = 10 }"),
            false => item.integer(RESULTS).map(Fall::Consecutive),
        };
    }
    let mut window = item.table("check.fall")?;
    let failures = window.need("failures", "8", |i| i.integer::<u32>(RESULTS));
    let of = window.need("of", "10", |i| i.integer::<u32>(RESULTS));
    let (failures, of) = match (failures, of) {
        (Some(failures), Some(of)) => (failures, of),
        _ => {
            window.finish();
            return None;
        }
    };
    if failures > of {
        window.error("failures", format!("must be at most `of` ({of})"));
    }
    window.finish();
    Some(Fall::Window { failures, of })
}
