//! Cases as folders: `tests/conformance/bfd/CASE/input` in, `expected` out. `ANNOUNCERD_BLESS=1 cargo test --lib
//! bfd::tests::conformance` writes what came out; read it before you commit.
//!
//! `input` has one line for each event: a time, then
//! - `start KEY=VALUE…`: the session, with `interval` and `multiplier`, `passive`, `password`, `auth` and `key`;
//! - `receive STATE KEY=VALUE… FLAGS`: a packet; `your=ours` is our discriminator; `stamp=TIME`: when the kernel had it;
//!   it is authenticated as ours are but for `password`, `auth`, `key`, `seq` and `open`;
//! - `octets HEX`: a packet as it is on the wire;
//! - `reconfigure KEY=VALUE…`, `verify`, `forgive`, `overflow`, `leave`, `end`.
//!
//! Time runs from line to line and everything that is due in between happens. Jitter comes from a seed. What makes the
//! cases complete is counted: every state with every state that is heard, and every reason to discard a packet.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::script::{
    OURS, hex, next_number, packet, sequence_of, session_config, show, time, value, words_of,
};
use super::{THEM, config};
use crate::bfd::random::Random;
use crate::bfd::wire::{Discard, Packet, State};
use crate::bfd::{News, Session};
use crate::time::Time;

const STATES: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

/// What a session itself, or the parser, finds wrong; the rest is the speaker's, which knows addresses.
const DISCARDS: [Discard; 13] = [
    Discard::Short,
    Discard::Version,
    Discard::Length,
    Discard::Truncated,
    Discard::Multiplier,
    Discard::Multipoint,
    Discard::MyDiscriminator,
    Discard::YourDiscriminator,
    Discard::UnexpectedAuth,
    Discard::MissingAuth,
    Discard::Auth,
    Discard::Sequence,
    Discard::AdminDown,
];

/// What the cases have shown.
#[derive(Default)]
struct Seen {
    /// Our state, and that of a packet that reached the state machine.
    pairs: HashSet<(State, State)>,
    discards: BTreeSet<Discard>,
}

/// RFC 5880 section 6.8.6, sentence by sentence: our state after a packet in this one with that one.
fn section_6_8_6(ours: State, theirs: State) -> State {
    match ours {
        // "If bfd.SessionState is AdminDown, discard the packet."
        State::AdminDown => State::AdminDown,
        // "If received state is AdminDown: If bfd.SessionState is not Down … set bfd.SessionState to Down".
        _ if theirs == State::AdminDown => State::Down,
        // "If received State is Down … Init; else if received State is Init … Up".
        State::Down if theirs == State::Down => State::Init,
        State::Down if theirs == State::Init => State::Up,
        State::Down => State::Down,
        // "If received State is Init or Up … Up".
        State::Init if theirs == State::Down => State::Init,
        State::Init => State::Up,
        // "Else (bfd.SessionState is Up): If received State is Down … Down".
        State::Up if theirs == State::Down => State::Down,
        State::Up => State::Up,
    }
}

#[test]
fn cases() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/bfd"));
    let bless = std::env::var_os("ANNOUNCERD_BLESS").is_some();
    let (mut count, mut failures, mut seen) = (0, String::new(), Seen::default());
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let input = std::fs::read_to_string(case.join("input")).unwrap();
        let outcome = play(&input, &mut seen);
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
    assert!(count >= 50, "the cases are gone: {count} in {}", folder.display());
    for (ours, theirs) in STATES.iter().flat_map(|ours| STATES.map(|theirs| (*ours, theirs))) {
        assert!(seen.pairs.contains(&(ours, theirs)), "no case in which {ours} hears {theirs}");
    }
    assert_eq!(seen.discards, BTreeSet::from(DISCARDS), "reasons to discard that cases show");
}

fn play(input: &str, seen: &mut Seen) -> String {
    let mut stage = Stage {
        session: None,
        now: Time::ZERO,
        out: String::new(),
        last: None,
        first_sequence: None,
        their_sequence: 0,
        seen,
    };
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

struct Stage<'a> {
    session: Option<Session>,
    now: Time,
    out: String,
    /// When the last packet that was no Final went out, and the interval by which the next is due.
    last: Option<(Time, Option<Duration>)>,
    /// The sequence number of our first packet, which is random, and of the neighbour's last one.
    first_sequence: Option<u32>,
    their_sequence: u32,
    seen: &'a mut Seen,
}

impl Stage<'_> {
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
        // Who is in Demand mode is spared until it is not any more: what follows then is not late.
        if command != "receive" || words.contains(&"demand") {
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
                self.their_sequence = next_number(words, self.their_sequence);
                let octets = packet(words, session.config(), self.their_sequence);
                self.hear(&octets, value(words, "stamp").map_or(now, time));
            }
            "octets" => self.hear(&hex(words), now),
            "reconfigure" => {
                let config = session_config(session.config().clone(), words);
                session.reconfigure(config, now);
            }
            "verify" => session.verify(now),
            "forgive" => session.forgive(Duration::from_millis(250), "slept", now),
            "overflow" => session.overflowed(now),
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
            let received = Packet::parse(&octets).unwrap();
            let sent = received.packet;
            write!(self.out, "{} send {}", show(self.now), words_of(&sent)).unwrap();
            if let Some(number) = sequence_of(session.config().auth.as_ref(), &received) {
                let first = *self.first_sequence.get_or_insert(number);
                write!(self.out, " seq=+{}", number.wrapping_sub(first)).unwrap();
            }
            self.out.push('\n');
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
                News::Refused(why) => format!("refused: {why}"),
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

    fn hear(&mut self, octets: &[u8], at: Time) {
        let Some(session) = &mut self.session else { return };
        let before = session.state();
        let parsed = Packet::parse(octets);
        let result = parsed.and_then(|received| session.receive(&received, at, self.now));
        if let (Ok(received), Ok(()) | Err(Discard::AdminDown)) = (parsed, result) {
            let heard = received.packet.state;
            assert_eq!(session.state(), section_6_8_6(before, heard), "{before} heard {heard}\n{}", self.out);
            self.seen.pairs.insert((before, heard));
        }
        if let Err(why) = result {
            assert_eq!(session.state(), before, "{why}\n{}", self.out);
            self.seen.discards.insert(why);
            writeln!(self.out, "{} discarded: {why}", show(self.now)).unwrap();
        }
    }
}
