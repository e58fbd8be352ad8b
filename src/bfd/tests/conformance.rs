//! Cases as folders: `tests/conformance/bfd/CASE/input` in, `expected` out. `ANNOUNCERD_BLESS=1 cargo test --lib
//! bfd::tests::conformance` writes what came out; read it before you commit.
//!
//! `input` has one line for each event: a time, then
//! - `start KEY=VALUE…`: the session, with `interval` and `multiplier`, `passive`, `password`;
//! - `receive STATE KEY=VALUE… FLAGS`: a packet; `your=ours` is our discriminator; `stamp=TIME`: when the kernel had it;
//! - `octets HEX`: a packet as it is on the wire;
//! - `reconfigure KEY=VALUE…`, `verify`, `forgive`, `leave`, `end`.
//!
//! Time runs from line to line and everything that is due in between happens. Jitter comes from a seed.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{THEM, config};
use crate::bfd::random::Random;
use crate::bfd::wire::{Diagnostic, Packet, State};
use crate::bfd::{AuthType, Authentication, News, Session, SessionConfig};
use crate::time::Time;

const OURS: u32 = 0x0a0a_0a0a;

#[test]
fn cases() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/bfd"));
    let bless = std::env::var_os("ANNOUNCERD_BLESS").is_some();
    let (mut count, mut failures) = (0, String::new());
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let input = std::fs::read_to_string(case.join("input")).unwrap();
        let outcome = play(&input);
        let expected = std::fs::read_to_string(case.join("expected")).unwrap_or_default();
        if outcome != expected {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            writeln!(failures, "== {name}\n-- expected\n{expected}-- came\n{outcome}").unwrap();
            if bless {
                std::fs::write(case.join("expected"), &outcome).unwrap();
            }
        }
        count += 1;
    }
    assert!(failures.is_empty() || bless, "\n{failures}");
    assert!(count >= 20, "the cases are gone: {count} in {}", folder.display());
}

fn play(input: &str) -> String {
    let mut stage = Stage { session: None, now: Time::ZERO, out: String::new(), last: None };
    for line in input.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        let at = time(words.next().unwrap());
        stage.run_until(at);
        let command = words.next().unwrap_or_else(|| panic!("no command: {line}"));
        stage.act(command, &words.collect::<Vec<_>>());
        stage.settle();
    }
    stage.out
}

struct Stage {
    session: Option<Session>,
    now: Time,
    out: String,
    /// When the last packet that was no Final went out, and the interval by which the next is due.
    last: Option<(Time, Option<Duration>)>,
}

impl Stage {
    fn run_until(&mut self, until: Time) {
        while let Some(next) = self.session.as_ref().and_then(Session::poll_timeout).filter(|t| *t < until) {
            self.now = self.now.max(next);
            self.session.as_mut().unwrap().handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn act(&mut self, command: &str, words: &[&str]) {
        let now = self.now;
        if command != "receive" {
            self.last = None;
        }
        if command == "start" {
            let config = session_config(config(THEM, 300, 3), words);
            self.session = Some(Session::new(config, OURS, Random::new(5), now));
            return;
        }
        // It may have left already.
        let Some(session) = &mut self.session else { return };
        match command {
            "receive" => {
                let octets = packet(words, session.config());
                let at = value(words, "stamp").map_or(now, time);
                hear(session, &octets, at, now, &mut self.out);
            }
            "octets" => hear(session, &hex(words), now, now, &mut self.out),
            "reconfigure" => {
                let config = session_config(session.config().clone(), words);
                session.reconfigure(config, now);
            }
            "verify" => session.verify(now),
            "forgive" => session.forgive(Duration::from_millis(250), "slept", now),
            "leave" => session.leave(now),
            "end" => session.handle_timeout(now),
            other => panic!("what is {other}?"),
        }
    }

    /// Writes down what the session sends and tells now.
    fn settle(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut octets = Vec::new();
        while session.poll_transmit(self.now, &mut octets) {
            let sent = Packet::parse(&octets).unwrap().packet;
            writeln!(self.out, "{} send {}", show(self.now), words_of(&sent)).unwrap();
            octets.clear();
            if sent.is_final {
                continue;
            }
            // RFC 5880 section 6.8.7: no packet later than its interval.
            let periodic = self.last.filter(|_| !sent.demand && !sent.poll);
            if let Some((last, Some(interval))) = periodic {
                let share = self.now.since(last).as_secs_f64() / interval.as_secs_f64();
                assert!(
                    share <= 1.0 + 1e-6,
                    "late at {}: {share} of {interval:?}\n{}",
                    show(self.now),
                    self.out
                );
            }
            self.last = session.status().tx_interval.map(|i| (self.now, Some(i)));
        }
        while let Some(news) = session.poll_news() {
            let text = match news {
                News::Changed(c) => {
                    let fault = c.own_fault.map(|f| format!(" [own fault: {f}]")).unwrap_or_default();
                    format!(
                        "{} remote={} diag={}: {}{fault}",
                        c.state, c.remote_state, c.diagnostic.0, c.reason
                    )
                }
                News::Verified { since } => format!("verified since {}", show(since)),
                News::Trouble(_) => unreachable!("the edge's"),
            };
            writeln!(self.out, "{} news {text}", show(self.now)).unwrap();
        }
        if session.has_left(self.now) {
            writeln!(self.out, "{} gone", show(self.now)).unwrap();
            self.session = None;
        } else {
            // An interval that changed between two packets is not the next one's.
            let interval = session.status().tx_interval;
            self.last = self.last.filter(|(_, before)| *before == interval);
        }
    }
}

fn hear(session: &mut Session, octets: &[u8], at: Time, now: Time, out: &mut String) {
    let result = Packet::parse(octets).and_then(|received| session.receive(&received, at, now));
    if let Err(why) = result {
        writeln!(out, "{} discarded: {why}", show(now)).unwrap();
    }
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &[&str], key: &str, default: u32) -> u32 {
    match value(words, key) {
        Some("ours") => OURS,
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{key}={text}")),
        None => default,
    }
}

fn session_config(before: SessionConfig, words: &[&str]) -> SessionConfig {
    let password = value(words, "password").map(|key| Authentication {
        kind: AuthType::Simple,
        key_id: 1,
        key: key.as_bytes().to_vec(),
    });
    SessionConfig {
        interval: value(words, "interval").map_or(before.interval, duration),
        multiplier: number(words, "multiplier", before.multiplier.into()) as u8,
        passive: before.passive || words.contains(&"passive"),
        auth: password.or(before.auth),
        path: before.path,
    }
}

fn packet(words: &[&str], config: &SessionConfig) -> Vec<u8> {
    let state = match words.first() {
        Some(&"AdminDown") => State::AdminDown,
        Some(&"Down") => State::Down,
        Some(&"Init") => State::Init,
        Some(&"Up") => State::Up,
        other => panic!("state {other:?}"),
    };
    let packet = Packet {
        diagnostic: Diagnostic(number(words, "diag", 0) as u8),
        state,
        poll: words.contains(&"poll"),
        is_final: words.contains(&"final"),
        control_plane_independent: false,
        demand: words.contains(&"demand"),
        multiplier: number(words, "mult", 3) as u8,
        my_discriminator: number(words, "my", 77),
        your_discriminator: number(words, "your", 0),
        desired_min_tx: number(words, "tx", 1_000_000),
        required_min_rx: number(words, "rx", 300_000),
        required_min_echo_rx: 0,
    };
    let mut out = Vec::new();
    let auth = config.auth.as_ref().filter(|_| !words.contains(&"open"));
    packet.put(auth.map_or(0, crate::bfd::auth::len), &mut out);
    if let Some(auth) = auth {
        crate::bfd::auth::sign(auth, &mut crate::bfd::auth::Sequence::new(0), false, 0, &mut out);
    }
    out
}

fn words_of(p: &Packet) -> String {
    let your = if p.your_discriminator == 0 { "0".to_owned() } else { p.your_discriminator.to_string() };
    let mut text = format!(
        "{} diag={} your={your} tx={} rx={} mult={}",
        p.state, p.diagnostic.0, p.desired_min_tx, p.required_min_rx, p.multiplier
    );
    for (set, word) in [
        (p.poll, " poll"),
        (p.is_final, " final"),
        (p.control_plane_independent, " C"),
        (p.demand, " demand"),
    ] {
        text.push_str(if set { word } else { "" });
    }
    assert_eq!((p.my_discriminator, p.required_min_echo_rx), (OURS, 0));
    text
}

fn hex(words: &[&str]) -> Vec<u8> {
    let digits: String = words.concat();
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn time(text: &str) -> Time {
    Time::ZERO + duration(text)
}

fn show(at: Time) -> String {
    format!("{:>9.3}ms", at.as_nanos() as f64 / 1e6)
}
