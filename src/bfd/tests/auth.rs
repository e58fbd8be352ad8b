//! Authentication (RFC 5880 section 6.7).

use std::time::Duration;

use super::{THEM, US, config};
use crate::bfd::auth::{Sequence, len, sign, verify};
use crate::bfd::random::Random;
use crate::bfd::wire::{Discard, Packet, State};
use crate::bfd::{AuthType, Authentication, News, Session, SessionConfig};
use crate::time::Time;

pub(super) const KINDS: [AuthType; 5] =
    [AuthType::Simple, AuthType::Md5, AuthType::MeticulousMd5, AuthType::Sha1, AuthType::MeticulousSha1];

fn auth(kind: AuthType, key_id: u8, key: &str) -> Authentication {
    Authentication { kind, key_id, key: key.as_bytes().to_vec() }
}

fn packet() -> Packet {
    let bytes = [0x20, 0x40, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 15, 66, 64, 0, 4, 147, 224, 0, 0, 0, 0];
    Packet::parse(&bytes).unwrap().packet
}

fn signed(auth: &Authentication, sequence: &mut Sequence) -> Vec<u8> {
    let mut out = Vec::new();
    packet().put(len(auth), &mut out);
    sign(auth, sequence, false, 0, &mut out);
    out
}

#[test]
fn each_type_takes_its_own_and_nothing_else() {
    for kind in KINDS {
        let ours = auth(kind, 1, "secret");
        let octets = signed(&ours, &mut Sequence::new(u32::MAX));
        let judge = |by: &Authentication, octets: &[u8]| {
            verify(by, &mut Sequence::new(0), &Packet::parse(octets).unwrap())
        };
        assert_eq!(judge(&ours, &octets), Ok(()), "{kind:?}");
        assert_eq!(judge(&auth(kind, 2, "secret"), &octets), Err(Discard::Auth), "another key: {kind:?}");
        assert_eq!(
            judge(&auth(kind, 1, "Secret"), &octets),
            Err(Discard::Auth),
            "another password: {kind:?}"
        );
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_eq!(
                judge(&auth(other, 1, "secret"), &octets),
                Err(Discard::Auth),
                "{kind:?} as {other:?}"
            );
        }
        if kind != AuthType::Simple {
            // A digest covers everything: here the Desired Min TX Interval.
            let mut changed = octets.clone();
            changed[13] ^= 1;
            assert_eq!(judge(&ours, &changed), Err(Discard::Auth), "{kind:?}");
        }
    }
}

/// RFC 5880 section 6.7.3: the window, its end, its wrap around 2^32, and who may move it.
#[test]
fn sequence_numbers_that_were_seen_or_are_too_new_are_refused() {
    for (kind, again) in [(AuthType::Sha1, Ok(())), (AuthType::MeticulousSha1, Err(Discard::Sequence))] {
        let ours = auth(kind, 1, "secret");
        let octets = |number: u32| {
            let mut at = Sequence::new(if kind.is_meticulous() { number.wrapping_sub(1) } else { number });
            signed(&ours, &mut at)
        };
        let mut window = Sequence::new(0);
        let mut judge = |by: &Authentication, number: u32| {
            verify(by, &mut window, &Packet::parse(&octets(number)).unwrap())
        };
        assert_eq!(judge(&ours, u32::MAX), Ok(()));
        assert_eq!(judge(&ours, u32::MAX), again);
        assert_eq!(judge(&ours, u32::MAX - 1), Err(Discard::Sequence), "an old one");
        assert_eq!(judge(&ours, 9), Err(Discard::Sequence), "more than 3 * Detect Mult ahead");
        assert_eq!(judge(&auth(kind, 1, "wrong"), 8), Err(Discard::Auth));
        assert_eq!(judge(&ours, 8), Ok(()), "3 * Detect Mult ahead, and the forged one moved nothing");
        assert_eq!(judge(&ours, 7), Err(Discard::Sequence));
    }
}

/// RFC 1321 and RFC 3174 by hand: the key stands, padded, where the digest goes.
#[test]
fn digests_are_those_of_other_implementations() {
    let ours = auth(AuthType::Md5, 5, "k");
    let octets = signed(&ours, &mut Sequence::new(9));
    let mut covered = octets[..32].to_vec();
    covered.extend_from_slice(b"k\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    use md5::Digest;
    assert_eq!(octets[24..32], [2, 24, 5, 0, 0, 0, 0, 9]);
    assert_eq!(octets[32..], md5::Md5::digest(&covered)[..]);
}

/// RFC 5880 section 6.8.1: after twice the detection time without packets any sequence number is good.
#[test]
fn a_neighbour_that_restarts_is_taken_after_a_while() {
    let ours = auth(AuthType::MeticulousSha1, 1, "secret");
    let config = SessionConfig { auth: Some(ours.clone()), ..config(THEM, 300, 3) };
    let mut session = Session::new(config, 1, Random::new(1), Time::ZERO);
    let mut take = |number: u32, ms: u64| {
        let octets = signed(&ours, &mut Sequence::new(number));
        let at = Time::ZERO + Duration::from_millis(ms);
        session.receive(&Packet::parse(&octets).unwrap(), at, at)
    };
    assert_eq!(take(100, 0), Ok(()));
    assert_eq!(take(50, 1000), Err(Discard::Sequence));
    assert_eq!(take(50, 5999), Err(Discard::Sequence));
    assert_eq!(take(50, 6000), Ok(()), "twice 3 x 1 s");
}

/// The same for a session that was lost meanwhile: one detection time is not two.
#[test]
fn a_replay_to_a_session_just_lost_is_refused() {
    let ours = auth(AuthType::MeticulousSha1, 1, "secret");
    let config = SessionConfig { auth: Some(ours.clone()), ..config(THEM, 300, 3) };
    let mut session = Session::new(config, 1, Random::new(1), Time::ZERO);
    let octets = |number: u32| signed(&ours, &mut Sequence::new(number));
    let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
    assert_eq!(session.receive(&Packet::parse(&octets(100)).unwrap(), at(0), at(0)), Ok(()));
    session.handle_timeout(at(3000));
    assert_eq!(session.remote_discriminator(), 0, "lost after 3 x 1 s");
    assert_eq!(
        session.receive(&Packet::parse(&octets(50)).unwrap(), at(5999), at(5999)),
        Err(Discard::Sequence)
    );
    assert_eq!(session.receive(&Packet::parse(&octets(50)).unwrap(), at(6000), at(6000)), Ok(()));
}

#[test]
fn with_and_without_do_not_agree() {
    let _ = US;
    let plain = {
        let mut out = Vec::new();
        packet().put(0, &mut out);
        out
    };
    let ours = auth(AuthType::Simple, 1, "secret");
    let secret = signed(&ours, &mut Sequence::new(0));
    let mut open = Session::new(config(THEM, 300, 3), 1, Random::new(1), Time::ZERO);
    let mut closed = Session::new(
        SessionConfig { auth: Some(ours), ..config(THEM, 300, 3) },
        2,
        Random::new(1),
        Time::ZERO,
    );
    let judge =
        |s: &mut Session, octets: &[u8]| s.receive(&Packet::parse(octets).unwrap(), Time::ZERO, Time::ZERO);
    assert_eq!(judge(&mut open, &secret), Err(Discard::UnexpectedAuth));
    assert_eq!(judge(&mut closed, &plain), Err(Discard::MissingAuth));
    assert_eq!((open.state(), closed.state()), (State::Down, State::Down));
    assert_eq!(closed.status().counters.discarded, 1);
}

/// What is refused is no silence, and is told: once, however many come, and again for another reason or after a packet that
/// was taken. While the session is Up, or the neighbour is heard, it is only counted.
#[test]
fn packets_that_are_refused_are_told_and_not_each_of_them() {
    let ours = auth(AuthType::MeticulousSha1, 1, "secret");
    let config = SessionConfig { auth: Some(ours.clone()), ..config(THEM, 300, 3) };
    let mut session = Session::new(config, 1, Random::new(1), Time::ZERO);
    let wrong = signed(&auth(AuthType::MeticulousSha1, 1, "wrong"), &mut Sequence::new(0));
    let plain = {
        let mut out = Vec::new();
        packet().put(0, &mut out);
        out
    };
    let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
    let told = |session: &mut Session, octets: &[u8], ms: u64| {
        let _ = session.receive(&Packet::parse(octets).unwrap(), at(ms), at(ms));
        std::iter::from_fn(|| session.poll_news()).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut session, &wrong, 0), [News::Refused(Discard::Auth)]);
    for ms in 1..=20_000 {
        assert_eq!(told(&mut session, &wrong, ms), []);
    }
    assert_eq!(told(&mut session, &plain, 20_001), [News::Refused(Discard::MissingAuth)]);
    // In turns: not more than one in ten seconds.
    let turns =
        (20_002..40_000).flat_map(|ms| told(&mut session, if ms % 2 == 0 { &wrong } else { &plain }, ms));
    assert_eq!(turns.count(), 1);
    let good = signed(&ours, &mut Sequence::new(7));
    assert!(matches!(told(&mut session, &good, 50_000)[..], [News::Changed(_)]));
    for ms in 50_001..50_003 {
        assert_eq!(told(&mut session, &plain, ms), [], "the neighbour is heard");
    }
    session.handle_timeout(at(53_000));
    let Some(News::Changed(change)) = session.poll_news() else { panic!("nothing was told of the silence") };
    let expected = "silence for 3000.0 ms (detection time 3000.0 ms); packets that came in it were refused (2), the last: \
                    not authenticated";
    assert_eq!(change.reason, expected);
    assert_eq!(
        told(&mut session, &plain, 53_001),
        [News::Refused(Discard::MissingAuth)],
        "since it was heard"
    );
}
