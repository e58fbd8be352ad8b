//! `announcerctl status`: what a person needs to see in ten seconds, the worst first.

use std::time::{Duration, SystemTime};

use super::style::{Style, Tone, age, clean, date, until};
use super::table::Table;
use crate::announcer::journal::State;
use crate::bfd::Diagnostic;
use crate::status::{
    BfdDetail, BfdStatus, BgpStatus, CheckStatus, InstanceStatus, KernelStatus, NodeStatus, Status,
};

/// With more checks than this, those that are up are counted instead of listed.
const MANY_CHECKS: usize = 40;
/// Indent of what belongs to the row above.
const UNDER: usize = 4;
/// Lines of a reason.
const LINES: usize = 4;

/// The whole screen, seen at `now`.
pub fn render(status: &Status, now: SystemTime, style: Style) -> String {
    let sections = [
        node(&status.node, now, style),
        instances(&status.instances, now, style),
        kernel(&status.kernel, style),
        checks(&status.checks, now, style),
        bgp(&status.bgp, style),
        bfd(&status.bfd, now, style),
    ];
    let filled: Vec<String> = sections.into_iter().filter(|s| !s.is_empty()).collect();
    filled.join("\n")
}

pub(super) fn node(node: &NodeStatus, now: SystemTime, style: Style) -> String {
    let name = style.paint(Tone::Head, &clean(&node.name));
    let date = date(&humantime::format_rfc3339_seconds(now).to_string());
    format!("{name}  announcerd {}, up {}, {date}\n", clean(&node.version), age(&node.started, now))
}

pub(super) fn instances(instances: &[InstanceStatus], now: SystemTime, style: Style) -> String {
    if instances.is_empty() {
        return "no instances\n".to_owned();
    }
    let mut table = Table::new(&["INSTANCE", "STATE", "FOR", "PRIMARY", "REQUIRE"]);
    for i in instances {
        table.row(vec![
            (Tone::Head, i.name.clone()),
            (state_tone(i.state), i.state.word().to_owned()),
            (Tone::Plain, age(&i.since, now)),
            word(i.primary.as_deref(), "well", "down"),
            word(i.require.as_deref(), "met", "unmet"),
        ]);
    }
    let mut lines = table.lines(style).into_iter();
    let mut out = lines.next().unwrap_or_default();
    for (i, line) in instances.iter().zip(lines) {
        out.push_str(&line);
        out.push_str(&under(i, now, style));
    }
    out
}

/// What stands below an instance's row: its reason, what is next, its override, its flaps.
fn under(i: &InstanceStatus, now: SystemTime, style: Style) -> String {
    let mut out = style.paragraph(Tone::Plain, UNDER, LINES, &clean(&i.reason));
    if i.drill {
        let text = "DRILL: the primary is only pretended to be down";
        out.push_str(&style.paragraph(Tone::Warn, UNDER, LINES, text));
    }
    if let Some(p) = &i.pending {
        let text = format!("NEXT: {} {}, at {}", p.what, until(&p.at, now), date(&p.at));
        out.push_str(&style.paragraph(Tone::Warn, UNDER, LINES, &clean(&text)));
    }
    if let Some(forced) = &i.forced {
        let end = match &forced.until {
            Some(at) => format!("until {} ({})", date(at), until(at, now)),
            None => format!("until `announcerctl auto {}`", i.name),
        };
        let text = format!("FORCED to {} {end}", forced.state.word());
        out.push_str(&style.paragraph(Tone::Warn, UNDER, LINES, &clean(&text)));
    }
    if i.flaps > 0 {
        let flaps =
            if i.flaps == 1 { "1 flap lengthens".into() } else { format!("{} flaps lengthen", i.flaps) };
        out.push_str(&style.paragraph(Tone::Warn, UNDER, LINES, &format!("{flaps} the failback delay")));
    }
    out
}

pub(super) fn kernel(objects: &[KernelStatus], style: Style) -> String {
    let wanted = objects.iter().filter(|o| o.desired).count();
    let there = objects.iter().filter(|o| o.desired && o.observed).count();
    let wrong: Vec<&KernelStatus> =
        objects.iter().filter(|o| o.desired != o.observed || o.error.is_some()).collect();
    if wrong.is_empty() {
        return match wanted {
            0 => format!("{}  nothing is wanted, nothing is there\n", style.paint(Tone::Head, "KERNEL")),
            n => {
                format!("{}  {}\n", style.paint(Tone::Head, "KERNEL"), style.paint(Tone::Good, &all_there(n)))
            }
        };
    }
    let summary = format!("{there} of {wanted} wanted objects are there; these differ:");
    let mut out = format!("{}  {}\n", style.paint(Tone::Head, "KERNEL"), style.paint(Tone::Bad, &summary));
    for object in wrong {
        let (tone, word) = match (object.desired, object.observed) {
            (true, false) => (Tone::Bad, "missing"),
            (false, true) => (Tone::Warn, "extra  "),
            _ => (Tone::Warn, "note   "),
        };
        let text = clean(&format!("{} {}", object.kind, object.object));
        out.push_str(&format!("{:UNDER$}{}  {text}\n", "", style.paint(tone, word)));
        if let Some(error) = &object.error {
            out.push_str(&style.paragraph(Tone::Plain, UNDER + 9, LINES, &clean(error)));
        }
    }
    out
}

fn all_there(wanted: usize) -> String {
    if wanted == 1 {
        "the 1 wanted object is there".to_owned()
    } else {
        format!("all {wanted} wanted objects are there")
    }
}

fn checks(checks: &[CheckStatus], now: SystemTime, style: Style) -> String {
    let many = checks.len() > MANY_CHECKS;
    let shown: Vec<&CheckStatus> = checks.iter().filter(|c| !many || c.verdict != "up").collect();
    let mut out = String::new();
    if !shown.is_empty() {
        let mut table = Table::new(&["CHECK", "TYPE", "VERDICT", "FOR", "RTT", "LAST"]);
        for c in &shown {
            table.row(vec![
                (Tone::Plain, c.name.clone()),
                (Tone::Dim, c.kind.clone()),
                word(Some(&c.verdict), "up", "down"),
                (Tone::Plain, age(&c.since, now)),
                (Tone::Plain, c.last_rtt_us.filter(|_| c.verdict != "down").map(rtt).unwrap_or_else(dash)),
                (Tone::Plain, last(c)),
            ]);
        }
        out = table.lines(style).concat();
    }
    if many {
        let up = checks.len() - shown.len();
        let text = format!("{up} more checks are up (`announcerctl status -j` lists them)\n");
        out.push_str(&style.paint(Tone::Dim, &text));
    }
    out
}

/// What the last probes said, where that is news: nothing of a check that is well.
fn last(c: &CheckStatus) -> String {
    let error = c.last_error.as_deref().unwrap_or_default();
    match (c.verdict.as_str(), c.failures) {
        ("up", 0) => String::new(),
        (_, 0) if c.successes > 0 => format!("{} good: recovering", c.successes),
        (_, 0) => error.to_owned(),
        (_, n) if error.is_empty() => format!("{n} failed"),
        (_, n) => format!("{n} failed: {error}"),
    }
}

pub(super) fn bgp(peers: &[BgpStatus], style: Style) -> String {
    if peers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["BGP PEER", "STATE", "UPTIME", "SENT", "LAST ERROR"]);
    for p in peers {
        let established = p.state == "Established";
        table.row(vec![
            (Tone::Plain, p.name.clone()),
            (if established { Tone::Good } else { Tone::Bad }, p.state.clone()),
            (
                Tone::Plain,
                if established { super::style::short(Duration::from_secs(p.uptime_s)) } else { dash() },
            ),
            (Tone::Plain, p.advertised.to_string()),
            (Tone::Plain, p.last_error.clone().unwrap_or_default()),
        ]);
    }
    table.lines(style).concat()
}

pub(super) fn bfd(sessions: &[BfdStatus], now: SystemTime, style: Style) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["BFD SESSION", "STATE", "FOR", "TX", "RX", "DETECT", "LATE p99", "LAST"]);
    for s in sessions {
        let is_up = s.state == "Up";
        let tone = if is_up { Tone::Good } else { Tone::Bad };
        let of = |pick: fn(&BfdDetail) -> Option<u64>| {
            (Tone::Plain, s.detail.as_ref().and_then(pick).map(rtt).unwrap_or_else(dash))
        };
        let last = match &s.trouble {
            Some(trouble) => trouble.clone(),
            None if is_up => String::new(),
            None => s.reason.clone(),
        };
        table.row(vec![
            (Tone::Plain, s.name.clone()),
            (tone, s.state.clone()),
            (Tone::Plain, age(&s.since, now)),
            of(|d| d.tx_interval_us),
            of(|d| Some(d.rx_interval_us)),
            of(|d| Some(d.detection_time_us)),
            of(|d| Some(d.lateness.p99_us)),
            (Tone::Plain, last),
        ]);
    }
    let mut lines = table.lines(style).into_iter();
    let mut out = lines.next().unwrap_or_default();
    for (session, line) in sessions.iter().zip(lines) {
        out.push_str(&line);
        out.push_str(&style.paragraph(Tone::Dim, UNDER, LINES, &clean(&counted(session))));
    }
    out
}

/// What stands below a session's row: its packets, and why it last left Up, also when it is Up again.
fn counted(session: &BfdStatus) -> String {
    let mut parts = Vec::new();
    if let Some(d) = &session.detail {
        parts.push(format!("packets sent {}, received {}, discarded {}", d.sent, d.received, d.discarded));
        parts.push(format!("jitter p99 {}", rtt(d.jitter.p99_us)));
    }
    if session.diagnostic != Diagnostic::NONE.to_string() {
        parts.push(format!("last down: {}", session.diagnostic));
    }
    parts.join("; ")
}

fn state_tone(state: State) -> Tone {
    match state {
        State::Master => Tone::Good,
        State::Backup => Tone::Plain,
        State::Init | State::Stop => Tone::Warn,
        State::Fault => Tone::Bad,
    }
}

pub(super) fn word(text: Option<&str>, good: &str, bad: &str) -> (Tone, String) {
    let tone = match text {
        None => Tone::Dim,
        Some(t) if t == good => Tone::Good,
        Some(t) if t == bad => Tone::Bad,
        Some(_) => Tone::Warn,
    };
    (tone, text.map_or_else(dash, str::to_owned))
}

fn dash() -> String {
    "-".to_owned()
}

/// A round-trip time with three digits that matter.
pub(super) fn rtt(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.2}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        _ => format!("{:.2}s", us as f64 / 1e6),
    }
}
