//! The words of a conformance case, and what they stand for.

use std::time::Duration;

use super::auth::KINDS;
use crate::bfd::auth::{Sequence, len, sign, verify};
use crate::bfd::wire::{Diagnostic, Packet, Received, State};
use crate::bfd::{AuthType, Authentication, SessionConfig};
use crate::time::Time;

/// Our discriminator.
pub(super) const OURS: u32 = 0x0a0a_0a0a;

pub(super) fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &[&str], key: &str, default: u32) -> u32 {
    match value(words, key) {
        Some("ours") => OURS,
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{key}={text}")),
        None => default,
    }
}

pub(super) fn session_config(before: SessionConfig, words: &[&str]) -> SessionConfig {
    let plain = Authentication { kind: AuthType::Simple, key_id: 1, key: Vec::new() };
    let password = value(words, "password").map(|_| changed(plain, words));
    SessionConfig {
        interval: value(words, "interval").map_or(before.interval, duration),
        multiplier: number(words, "multiplier", before.multiplier.into()) as u8,
        passive: before.passive || words.contains(&"passive"),
        auth: password.or(before.auth),
        path: before.path,
    }
}

/// That authentication, but for what is said to differ.
fn changed(auth: Authentication, words: &[&str]) -> Authentication {
    let kind = value(words, "auth").map(|word| {
        KINDS.into_iter().find(|k| k.word() == word).unwrap_or_else(|| panic!("what is {word}?"))
    });
    Authentication {
        kind: kind.unwrap_or(auth.kind),
        key_id: number(words, "key", auth.key_id.into()) as u8,
        key: value(words, "password").map_or(auth.key, |key| key.as_bytes().to_vec()),
    }
}

/// The sequence number of the neighbour's next packet: the one that is said, or another than the last.
pub(super) fn next_number(words: &[&str], last: u32) -> u32 {
    number(words, "seq", last.wrapping_add(1))
}

/// The sequence number of a packet of ours, if it has one; its authentication has to be right.
pub(super) fn sequence_of(auth: Option<&Authentication>, sent: &Received<'_>) -> Option<u32> {
    assert_eq!(auth.is_some(), sent.has_auth);
    let auth = auth?;
    verify(auth, &mut Sequence::new(0), sent).unwrap();
    if auth.kind == AuthType::Simple {
        return None;
    }
    Some(u32::from_be_bytes(sent.octets[28..32].try_into().unwrap()))
}

/// `sequence`: its number, if it is authenticated by a digest.
pub(super) fn packet(words: &[&str], config: &SessionConfig, sequence: u32) -> Vec<u8> {
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
        control_plane_independent: words.contains(&"C"),
        demand: words.contains(&"demand"),
        multiplier: number(words, "mult", 3) as u8,
        my_discriminator: number(words, "my", 77),
        your_discriminator: number(words, "your", 0),
        desired_min_tx: number(words, "tx", 1_000_000),
        required_min_rx: number(words, "rx", 300_000),
        required_min_echo_rx: number(words, "echo", 0),
    };
    let mut out = Vec::new();
    let auth = config.auth.clone().filter(|_| !words.contains(&"open")).map(|auth| changed(auth, words));
    packet.put(auth.as_ref().map_or(0, len), &mut out);
    if let Some(auth) = auth {
        // Who is meticulous counts before it signs.
        let before = sequence.wrapping_sub(u32::from(auth.kind.is_meticulous()));
        sign(&auth, &mut Sequence::new(before), false, 0, &mut out);
    }
    out
}

pub(super) fn words_of(p: &Packet) -> String {
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

pub(super) fn hex(words: &[&str]) -> Vec<u8> {
    let digits: String = words.concat();
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(super) fn time(text: &str) -> Time {
    Time::ZERO + duration(text)
}

pub(super) fn show(at: Time) -> String {
    format!("{:>9.3}ms", at.as_nanos() as f64 / 1e6)
}
