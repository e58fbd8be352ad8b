//! Tells the story line by line, in the order in which things happened.

use std::io::Write;
use std::time::{Duration, Instant};

/// News of one moment may come by several ways; a line waits this long for an earlier one.
const PATIENCE: Duration = Duration::from_millis(100);

/// Prints lines with their distance in time from a cause.
#[derive(Debug)]
pub struct Narrator {
    zero: Instant,
    waiting: Vec<(Instant, String)>,
}

impl Narrator {
    /// Begins a chapter now: prints its title.
    pub fn chapter(title: &str) -> Self {
        say(&format!("\n== {title}"));
        Narrator { zero: Instant::now(), waiting: Vec::new() }
    }

    /// The chapter's cause.
    pub fn zero(&self) -> Instant {
        self.zero
    }

    /// Something happened at that moment.
    pub fn note(&mut self, at: Instant, text: impl Into<String>) {
        self.waiting.push((at, text.into()));
    }

    /// Prints what has waited long enough.
    pub fn tell(&mut self) {
        self.tell_before(Instant::now().checked_sub(PATIENCE).unwrap_or(self.zero));
    }

    /// Prints everything.
    pub fn tell_all(&mut self) {
        self.tell_before(Instant::now() + PATIENCE);
    }

    fn tell_before(&mut self, limit: Instant) {
        self.waiting.sort_by_key(|(at, _)| *at);
        let due = self.waiting.partition_point(|(at, _)| *at <= limit);
        for (at, text) in self.waiting.drain(..due) {
            say(&format!("  {:>12}  {text}", since(self.zero, at)));
        }
    }
}

/// Prints a line at once. A reader that went away (`announcerd demo | head`) is no reason to fail.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// "+712.3 ms", "-0.1 ms".
fn since(zero: Instant, at: Instant) -> String {
    let (sign, distance) = match at.checked_duration_since(zero) {
        Some(distance) => ('+', distance),
        None => ('-', zero - at),
    };
    format!("{sign}{} ms", millis(distance))
}

/// Milliseconds with one digit after the point.
pub fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_a_sign() {
        let zero = Instant::now();
        let later = zero + Duration::from_micros(712_340);
        assert_eq!(since(zero, later), "+712.3 ms");
        assert_eq!(since(later, zero), "-712.3 ms");
    }
}
