//! The screen, line by line: pure, so that tests can look at it.

use std::time::SystemTime;

use super::feed::Data;
use super::history::History;
use crate::ctl::status::{bfd, bgp, instances, kernel, node, rtt, word};
use crate::ctl::style::{Style, Tone, age, clean, cut, date, width};
use crate::status::{CheckStatus, EventStatus, Status};

/// Transitions that are shown.
const EVENTS: usize = 12;
/// Columns of a check before its sparkline.
const CHECK: usize = 46;

/// How the person looks at it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    /// The first line of the body that is shown.
    pub(super) top: usize,
    /// Lines of the body that fit.
    pub(super) page: usize,
    /// Only what has this in its name.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) editing: bool,
    /// Nothing new is shown.
    pub(super) paused: bool,
}

/// Exactly `rows` lines, none wider than the style.
pub(super) fn render(
    data: &Data,
    view: &mut View,
    rows: usize,
    style: Style,
    now: SystemTime,
) -> Vec<String> {
    let body = match &data.status {
        Some(status) => body(&filtered(status, &view.filter), data, view, style, now),
        None => vec!["waiting for announcerd".to_owned()],
    };
    let title = data.status.as_ref().map(|s| node(&s.node, now, style)).unwrap_or_default();
    let mut lines = vec![title.trim_end().to_owned()];
    if let Some(trouble) = &data.trouble {
        lines.push(style.paint(Tone::Bad, &clean(trouble)));
    }
    view.page = rows.saturating_sub(lines.len() + 1).max(1);
    view.top = view.top.min(body.len().saturating_sub(view.page));
    lines.extend(body.iter().skip(view.top).take(view.page).cloned());
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push(footer(view, body.len(), style));
    lines.iter().map(|line| fit(line, style.width)).collect()
}

fn body(status: &Status, data: &Data, view: &View, style: Style, now: SystemTime) -> Vec<String> {
    let sections = [
        instances(&status.instances, now, style),
        kernel(&status.kernel, style),
        checks(&status.checks, &data.history, style, now),
        bgp(&status.bgp, style),
        bfd(&status.bfd, now, style),
        events(data, &view.filter, style),
    ];
    let filled: Vec<String> = sections.into_iter().filter(|s| !s.is_empty()).collect();
    filled.join("\n").lines().map(str::to_owned).collect()
}

fn filtered(status: &Status, filter: &str) -> Status {
    let mut status = status.clone();
    if !filter.is_empty() {
        status.instances.retain(|i| i.name.contains(filter));
        status.checks.retain(|c| c.name.contains(filter));
        status.bgp.retain(|p| p.name.contains(filter));
        status.bfd.retain(|s| s.name.contains(filter));
    }
    status
}

fn checks(checks: &[CheckStatus], history: &History, style: Style, now: SystemTime) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let heading = format!("{:<20} {:<8} {:>8} {:>7}  ", "CHECK", "VERDICT", "RTT", "LOSS");
    let mut out = format!("{}\n", style.paint(Tone::Head, &format!("{heading}LAST RESULTS, NEWEST RIGHT")));
    for c in checks {
        let (tone, verdict) = word(Some(&c.verdict), "up", "down");
        let rtt = c.last_rtt_us.filter(|_| c.verdict != "down").map_or_else(|| "-".to_owned(), rtt);
        let loss = history.loss(&c.name);
        let loss_text = loss.map_or_else(|| "-".to_owned(), |n| format!("{n}%"));
        let loss_tone = if loss.is_some_and(|n| n > 0) { Tone::Warn } else { Tone::Plain };
        let spark = history.spark(&c.name, style.width.saturating_sub(CHECK + 2));
        out.push_str(&format!(
            "{:<20} {} {rtt:>8} {}  {spark}\n",
            cut(&clean(&c.name), 20),
            style.paint(tone, &format!("{verdict:<8}")),
            style.paint(loss_tone, &format!("{loss_text:>7}")),
        ));
        let wrong = c.last_error.as_ref().filter(|_| c.verdict != "up" || c.failures > 0);
        if let Some(error) = wrong {
            let text = format!(
                "{} failed in a row; {} for {}: {}",
                c.failures,
                c.verdict,
                age(&c.since, now),
                clean(error)
            );
            out.push_str(&style.paragraph(Tone::Dim, 4, 2, &text));
        }
    }
    out
}

fn events(data: &Data, filter: &str, style: Style) -> String {
    let shown = |e: &&EventStatus| e.instance.contains(filter) || e.reason.contains(filter);
    let mut out = String::new();
    for event in data.events.values().rev().filter(shown).take(EVENTS) {
        let took = event.timeline_us.update_acked.or(event.timeline_us.kernel_acked);
        let took = took.map(|us| format!(" [{}]", rtt(us))).unwrap_or_default();
        out.push_str(&format!(
            "{} #{} {}: {} -> {}{took} {}\n",
            date(&event.time),
            event.seq,
            clean(&event.instance),
            event.from.word(),
            event.to.word(),
            clean(&event.reason)
        ));
    }
    if out.is_empty() { out } else { format!("{}\n{out}", style.paint(Tone::Head, "LAST EVENTS")) }
}

fn footer(view: &View, lines: usize, style: Style) -> String {
    let keys = "q quit  p pause  / filter  arrows scroll";
    let mut text = if view.editing { format!("filter: {}_", view.filter) } else { keys.to_owned() };
    if !view.editing && !view.filter.is_empty() {
        text.push_str(&format!("  filter: {}", view.filter));
    }
    if lines > view.page {
        let last = (view.top + view.page).min(lines);
        text.push_str(&format!("  {}-{last} of {lines}", view.top + 1));
    }
    let paused = if view.paused { style.paint(Tone::Warn, "PAUSED  ") } else { String::new() };
    format!("{paused}{}", style.paint(Tone::Dim, &text))
}

/// A line cut to `columns`; escape sequences for colour take none.
fn fit(line: &str, columns: usize) -> String {
    if width(line) <= columns {
        return line.to_owned();
    }
    let (mut out, mut used, mut coloured) = (String::new(), 0, false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            out.push(c);
            out.extend(rest.by_ref().take_while_inclusive(|c| *c != 'm'));
            coloured = true;
        } else if used < columns {
            out.push(c);
            used += 1;
        } else {
            break;
        }
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    out
}

/// As `take_while`, with the one that ends it.
trait TakeWhileInclusive: Iterator + Sized {
    fn take_while_inclusive(self, go_on: impl Fn(&Self::Item) -> bool) -> impl Iterator<Item = Self::Item> {
        let mut over = false;
        self.map_while(move |item| {
            let ended = std::mem::replace(&mut over, !go_on(&item));
            (!ended).then_some(item)
        })
    }
}

impl<I: Iterator<Item = char>> TakeWhileInclusive for I {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announcer::journal::State;
    use crate::status::{BgpStatus, InstanceStatus, KernelStatus, NodeStatus, ProbeStatus, TimelineStatus};
    use proptest::prelude::*;

    const STAMP: &str = "2026-11-22T04:00:00.000000Z";

    fn data(checks: usize) -> Data {
        let check = |n: usize| CheckStatus {
            name: format!("check-{n}"),
            kind: "ping".into(),
            verdict: if n == 0 { "down" } else { "up" }.into(),
            since: STAMP.into(),
            last_rtt_us: Some(12_345),
            last_error: (n == 0).then(|| "no answer in 800ms".into()),
            successes: 3,
            failures: u32::from(n == 0),
        };
        let instance = InstanceStatus {
            name: "mainland".into(),
            state: State::Backup,
            since: STAMP.into(),
            reason: "the primary is well".into(),
            forced: None,
            primary: Some("well".into()),
            require: Some("met".into()),
            pending: None,
            flaps: 0,
            drill: false,
        };
        let mut data = Data {
            status: Some(Status {
                node: NodeStatus { name: "hk-1".into(), version: "0.1.0".into(), started: STAMP.into() },
                instances: vec![instance],
                checks: (0..checks).map(check).collect(),
                bgp: vec![BgpStatus {
                    name: "isp-a".into(),
                    state: "Active".into(),
                    uptime_s: 0,
                    advertised: 0,
                    last_error: Some("connection refused".into()),
                }],
                bfd: vec![],
                kernel: vec![KernelStatus {
                    kind: "route".into(),
                    object: "198.51.100.0/24 dev lo".into(),
                    desired: true,
                    observed: false,
                    error: Some("Network is down".into()),
                }],
            }),
            ..Data::default()
        };
        for _ in 0..200 {
            let result = "ok".to_owned();
            data.history.add(ProbeStatus {
                time: STAMP.into(),
                check: "check-1".into(),
                result,
                rtt_us: Some(9),
            });
        }
        let event = EventStatus {
            seq: 7,
            time: STAMP.into(),
            instance: "mainland".into(),
            from: State::Init,
            to: State::Backup,
            reason: "the primary is well".into(),
            timeline_us: TimelineStatus::default(),
        };
        data.events.insert(7, event);
        data
    }

    fn shown(data: &Data, view: &mut View, rows: usize, width: usize, colour: bool) -> Vec<String> {
        render(data, view, rows, Style { colour, width }, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn everything_fits_80_by_24() {
        let lines = shown(&data(3), &mut View::default(), 24, 80, false);
        assert_eq!(lines.len(), 24);
        let text = lines.join("\n");
        for part in [
            "hk-1",
            "mainland",
            "BACKUP",
            "check-0",
            "no answer in 800ms",
            "▁▁▁",
            "isp-a",
            "Active",
            "missing",
            "LAST EVENTS",
            "#7",
            "q quit",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        assert!(lines.iter().all(|l| width(l) <= 80), "{text}");
        assert!(!text.contains('\x1b'), "no colour when asked");
    }

    #[test]
    fn it_scrolls_and_filters() {
        let data = data(100);
        let mut view = View { top: usize::MAX, ..View::default() };
        let text = shown(&data, &mut view, 24, 80, false).join("\n");
        assert!(text.contains("LAST EVENTS") && text.contains(" of "), "{text}");
        view = View { filter: "check-77".into(), ..View::default() };
        let text = shown(&data, &mut view, 24, 80, false).join("\n");
        assert!(text.contains("check-77") && !text.contains("check-1 ") && text.contains("filter: check-77"));
        view.paused = true;
        assert!(shown(&data, &mut view, 24, 80, false).join("\n").contains("PAUSED"));
    }

    proptest! {
        #[test]
        fn any_size_is_filled_and_never_exceeded(rows in 1usize..60, columns in 20usize..200, checks in 0usize..50, top in any::<usize>()) {
            let mut view = View { top, ..View::default() };
            let lines = shown(&data(checks), &mut view, rows, columns, false);
            prop_assert_eq!(lines.len(), rows);
            prop_assert!(lines.iter().all(|l| width(l) <= columns));
            let coloured = shown(&data(checks), &mut view, rows, columns, true);
            prop_assert_eq!(coloured.len(), rows);
        }
    }
}
