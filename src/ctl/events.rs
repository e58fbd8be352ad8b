//! `announcerctl events`: a line for each transition, and its timeline in milliseconds.

use std::collections::BTreeMap;

use super::style::{Style, Tone, clean, width};
use crate::announcer::journal::{CAPACITY, State};
use crate::status::{EventStatus, TimelineStatus};

/// Of the lines below a transition.
const INDENT: usize = 4;

/// Prints transitions as they come; of one that comes again, only the steps that are news.
pub struct Printer {
    style: Style,
    shown: BTreeMap<u64, TimelineStatus>,
}

impl Printer {
    /// Nothing has been printed yet.
    pub fn new(style: Style) -> Self {
        Printer { style, shown: BTreeMap::new() }
    }

    /// The lines for `event`, each ending with a newline; none if it brings no news.
    pub fn print(&mut self, event: &EventStatus) -> String {
        let before = self.shown.insert(event.seq, event.timeline_us);
        if self.shown.len() > CAPACITY {
            self.shown.pop_first();
        }
        match before {
            None => format!("{}{}", self.transition(event), self.steps(&event.timeline_us, None, "")),
            Some(known) => self.steps(&event.timeline_us, Some(&known), &format!("#{} ", event.seq)),
        }
    }

    fn transition(&self, event: &EventStatus) -> String {
        let to = self.style.paint(tone(event.to), event.to.word());
        format!(
            "{} #{} {}: {} -> {to}: {}\n",
            clean(&event.time),
            event.seq,
            clean(&event.instance),
            event.from.word(),
            clean(&event.reason)
        )
    }

    /// The steps that are not in `known`, in the order in which they happened.
    fn steps(&self, timeline: &TimelineStatus, known: Option<&TimelineStatus>, prefix: &str) -> String {
        let known = known.map(named).unwrap_or_default();
        let mut news: Vec<(&str, u64)> = named(timeline)
            .into_iter()
            .enumerate()
            .filter(|(at, _)| known.get(*at).is_none_or(|(_, us)| us.is_none()))
            .filter_map(|(_, (name, us))| Some((name, us?)))
            .collect();
        news.sort_by_key(|(_, us)| *us);
        if let [] | [(_, 0)] = news.as_slice() {
            return String::new(); // a first step alone says nothing: there is no other to measure to
        }
        let texts = news.iter().map(|(name, us)| format!("{name} {}", ms(*us)));
        self.lines(prefix, texts)
    }

    /// Steps side by side as far as they fit.
    fn lines(&self, prefix: &str, steps: impl Iterator<Item = String>) -> String {
        let mut lines = vec![prefix.to_owned()];
        for (at, step) in steps.enumerate() {
            let Some(line) = lines.last_mut() else { break };
            if at > 0 {
                line.push(',');
            }
            if INDENT + width(line) + 1 + width(&step) >= self.style.width {
                lines.push(step);
            } else {
                line.push_str(if at > 0 { " " } else { "" });
                line.push_str(&step);
            }
        }
        lines.iter().map(|l| format!("{:INDENT$}{}\n", "", self.style.paint(Tone::Dim, l))).collect()
    }
}

/// The steps in the order of the contract.
fn named(t: &TimelineStatus) -> Vec<(&'static str, Option<u64>)> {
    vec![
        ("first bad probe", t.first_bad_probe),
        ("decision", t.decision),
        ("kernel", t.kernel_acked),
        ("UPDATE written", t.update_written),
        ("UPDATE acknowledged", t.update_acked),
        ("scripts done", t.notify_done),
    ]
}

fn ms(us: u64) -> String {
    format!("+{}.{:03}ms", us / 1000, us % 1000)
}

fn tone(state: State) -> Tone {
    match state {
        State::Master => Tone::Good,
        State::Backup => Tone::Plain,
        State::Init | State::Stop => Tone::Warn,
        State::Fault => Tone::Bad,
    }
}
