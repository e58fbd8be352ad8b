//! Whatever octets come: no panic; what is written reads back; each sentence of RFC 5880 section 6.8.6 that needs no session.

use proptest::prelude::*;

use super::{THEM, config, from_them};
use crate::bfd::wire::{Diagnostic, Discard, MANDATORY_LEN, MAX_LEN, Packet, State};
use crate::bfd::{AuthType, Authentication, SessionId, Speaker};
use crate::time::Time;

fn good() -> Vec<u8> {
    let mut out = Vec::new();
    packet().put(0, &mut out);
    out
}

fn packet() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 7,
        your_discriminator: 0,
        desired_min_tx: 1_000_000,
        required_min_rx: 300_000,
        required_min_echo_rx: 0,
    }
}

/// RFC 5880 section 6.8.6, sentence by sentence; a packet with two errors shows that the first one is found.
#[test]
fn each_sentence_of_reception() {
    let cases: &[(&[(usize, u8)], Discard)] = &[
        (&[(0, 0x00)], Discard::Version),
        (&[(0, 0x40), (3, 0)], Discard::Version),
        (&[(3, 23)], Discard::Length),
        (&[(3, 0), (2, 0)], Discard::Length),
        (&[(1, 0x44), (3, 25)], Discard::Length),
        (&[(3, 25)], Discard::Truncated),
        (&[(1, 0x44), (3, 26)], Discard::Truncated),
        (&[(3, 255), (2, 0)], Discard::Truncated),
        (&[(2, 0)], Discard::Multiplier),
        (&[(2, 0), (1, 0x41)], Discard::Multiplier),
        (&[(1, 0x41)], Discard::Multipoint),
        (&[(7, 0)], Discard::MyDiscriminator),
        (&[(7, 0), (1, 0xc0)], Discard::MyDiscriminator),
        (&[(1, 0x80)], Discard::YourDiscriminator),
        (&[(1, 0xc0)], Discard::YourDiscriminator),
    ];
    for (changes, expected) in cases {
        let mut octets = good();
        changes.iter().for_each(|(at, value)| octets[*at] = *value);
        assert_eq!(Packet::parse(&octets), Err(*expected), "{changes:?}");
    }
    assert_eq!(Packet::parse(&good()[..23]), Err(Discard::Short));
    // AdminDown needs no Your Discriminator either, and what follows the packet in its datagram is nobody's.
    let mut octets = good();
    octets[1] = 0;
    octets.extend_from_slice(&[0xff; 40]);
    let received = Packet::parse(&octets).unwrap();
    assert_eq!((received.packet.state, received.octets.len()), (State::AdminDown, MANDATORY_LEN));
}

#[test]
fn diagnostics_have_words() {
    assert_eq!(Diagnostic::DETECTION_EXPIRED.to_string(), "Control Detection Time Expired");
    assert_eq!(Diagnostic::NEIGHBOR_DOWN.to_string(), "Neighbor Signaled Session Down");
    assert_eq!(Diagnostic(31).to_string(), "diagnostic 31");
}

/// A speaker with a session of each kind of authentication, all to one neighbour, and whatever comes from there.
fn digest(octets: &[u8]) {
    let kinds = [
        None,
        Some(AuthType::Simple),
        Some(AuthType::Md5),
        Some(AuthType::MeticulousMd5),
        Some(AuthType::Sha1),
        Some(AuthType::MeticulousSha1),
    ];
    for kind in kinds {
        let mut speaker = Speaker::new(1);
        let auth = kind.map(|kind| Authentication { kind, key_id: 1, key: b"secret".to_vec() });
        speaker.start(SessionId(1), crate::bfd::SessionConfig { auth, ..config(THEM, 300, 3) }, Time::ZERO);
        let mut out = Vec::new();
        for at in [1, 2] {
            let now = Time::from_nanos(at * 1_000_000);
            let _ = speaker.receive(&from_them(octets, now), now);
            while speaker.poll_transmit(now, &mut out).is_some() {
                assert!(out.len() <= MAX_LEN && Packet::parse(&out).is_ok(), "{out:?}");
                out.clear();
            }
            speaker.handle_timeout(now);
        }
    }
}

/// Octets that once were interesting: packets of other implementations, and what broke ours.
#[test]
fn corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bfd");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        digest(&octets);
        let mut mutated = octets.clone();
        for at in 0..octets.len() {
            for value in [0, 0xff, octets[at] ^ 1, octets[at] ^ 0x80] {
                mutated[at] = value;
                digest(&mutated);
            }
            mutated[at] = octets[at];
            digest(&octets[..at]);
        }
        files += 1;
    }
    assert!(files >= 6, "the corpus is gone: {files} files in {folder}");
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let state = prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
    let flags = any::<[bool; 4]>();
    let words = (1..=u32::MAX, 1..=u32::MAX, any::<[u32; 3]>());
    (0..32_u8, state, flags, 1..=u8::MAX, words).prop_map(|(diagnostic, state, flags, multiplier, words)| {
        Packet {
            diagnostic: Diagnostic(diagnostic),
            state,
            poll: flags[0],
            is_final: flags[1],
            control_plane_independent: flags[2],
            demand: flags[3],
            multiplier,
            my_discriminator: words.0,
            your_discriminator: words.1,
            desired_min_tx: words.2[0],
            required_min_rx: words.2[1],
            required_min_echo_rx: words.2[2],
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(packet in any_packet()) {
        let mut out = Vec::new();
        packet.put(0, &mut out);
        let received = Packet::parse(&out).unwrap();
        prop_assert_eq!((received.packet, received.has_auth, received.octets.len()), (packet, false, 24));
    }

    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        digest(&octets);
    }

    /// What looks like a packet gets further in.
    #[test]
    fn nearly_good_octets_are_survived(
        packet in any_packet(), known in any::<bool>(), tail in proptest::collection::vec(any::<u8>(), 0..40), kind in 0..7_u8
    ) {
        let mut out = Vec::new();
        let packet = Packet { your_discriminator: if known { packet.your_discriminator } else { 0 }, ..packet };
        packet.put(tail.len() as u8, &mut out);
        out.extend_from_slice(&tail);
        if let (Some(first), true) = (out.get_mut(24), kind > 0) {
            *first = kind;
        }
        digest(&out);
    }
}
