//! Which session a packet is for (RFC 5880 section 6.8.6, RFC 5881 sections 3 and 5, RFC 5883).

use std::net::IpAddr;

use super::{THEM, US, config, from_them};
use crate::bfd::config::{Hops, Path};
use crate::bfd::wire::{Discard, Packet, State};
use crate::bfd::{Datagram, SessionConfig, SessionId, Speaker};
use crate::time::Time;

fn hello(your_discriminator: u32) -> Vec<u8> {
    let bytes = [0x20, 0x40, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 15, 66, 64, 0, 4, 147, 224, 0, 0, 0, 0];
    let packet = Packet { your_discriminator, ..Packet::parse(&bytes).unwrap().packet };
    let mut out = Vec::new();
    packet.put(0, &mut out);
    out
}

fn on(path: Path) -> SessionConfig {
    SessionConfig { path, ..config(THEM, 300, 3) }
}

const ZERO: Time = Time::ZERO;

/// RFC 5881 section 5: TTL 255 or nothing, with our discriminator as without. FIELD 22: each kind has a port of its own.
#[test]
fn single_hop_packets_that_were_routed_are_discarded() {
    let mut speaker = Speaker::new(1);
    speaker.start(SessionId(1), config(THEM, 300, 3), ZERO);
    let ours = speaker.session(SessionId(1)).unwrap().discriminator();
    for your in [0, ours] {
        let octets = hello(your);
        let near = from_them(&octets, ZERO);
        for ttl in [Some(254), Some(1), None] {
            assert_eq!(speaker.receive(&Datagram { ttl, ..near }, ZERO), Err(Discard::Ttl));
        }
        let stray = if your == 0 { Discard::NoSession } else { Discard::Address };
        assert_eq!(speaker.receive(&Datagram { multihop: true, ..near }, ZERO), Err(stray));
        assert_eq!(speaker.receive(&Datagram { source: US, ..near }, ZERO), Err(stray));
        assert_eq!(speaker.receive(&near, ZERO), Ok(SessionId(1)));
    }
    let octets = hello(ours.wrapping_add(1));
    assert_eq!(speaker.receive(&from_them(&octets, ZERO), ZERO), Err(Discard::NoSession));
}

#[test]
fn multihop_has_a_ttl_rule_if_it_is_told_one() {
    for (least_ttl, ttl, expected) in
        [(0, 1, Ok(SessionId(1))), (253, 253, Ok(SessionId(1))), (253, 252, Err(Discard::Ttl))]
    {
        let mut speaker = Speaker::new(1);
        let hops = Hops::Multi { least_ttl };
        speaker.start(SessionId(1), on(Path { hops, ..config(THEM, 1, 1).path }), ZERO);
        let octets = hello(0);
        let datagram = Datagram { multihop: true, ttl: Some(ttl), ..from_them(&octets, ZERO) };
        assert_eq!(speaker.receive(&datagram, ZERO), expected);
    }
}

/// A session with a local address or a device takes what comes there only; two to one neighbour are told apart.
#[test]
fn paths_to_one_neighbour_are_told_apart() {
    let other: IpAddr = [192, 0, 2, 9].into();
    let mut speaker = Speaker::new(1);
    let path = config(THEM, 1, 1).path;
    for (id, local) in [(1, US), (2, other)] {
        speaker.start(SessionId(id), on(Path { local: Some(local), ..path.clone() }), ZERO);
    }
    let octets = hello(0);
    let here = from_them(&octets, ZERO);
    assert_eq!(speaker.receive(&here, ZERO), Ok(SessionId(1)));
    assert_eq!(speaker.receive(&Datagram { destination: other, ..here }, ZERO), Ok(SessionId(2)));
    assert_eq!(speaker.receive(&Datagram { destination: THEM, ..here }, ZERO), Err(Discard::NoSession));
    speaker.set_interface(SessionId(1), Some(5));
    assert_eq!(speaker.receive(&here, ZERO), Err(Discard::NoSession));
    assert_eq!(speaker.receive(&Datagram { interface: 5, ..here }, ZERO), Ok(SessionId(1)));
}

/// RFC 5880 section 6.8.16: who leaves says AdminDown for a detection time; a new session takes the path over at once.
#[test]
fn a_session_leaves_in_order_and_makes_room() {
    let mut speaker = Speaker::new(1);
    speaker.start(SessionId(1), config(THEM, 300, 3), ZERO);
    speaker.receive(&from_them(&hello(0), ZERO), ZERO).unwrap();
    speaker.leave(SessionId(1), ZERO);
    let mut sent = Vec::new();
    let mut now = ZERO;
    while let Some(next) = speaker.poll_timeout() {
        now = now.max(next);
        speaker.handle_timeout(now);
        let mut out = Vec::new();
        while speaker.poll_transmit(now, &mut out).is_some() {
            sent.push(Packet::parse(&out).unwrap().packet.state);
            out.clear();
        }
    }
    assert!((3..=5).contains(&sent.len()) && sent.iter().all(|s| *s == State::AdminDown), "{sent:?}");
    assert!(now.since(ZERO) <= std::time::Duration::from_secs(3) && speaker.session(SessionId(1)).is_none());

    speaker.start(SessionId(2), config(THEM, 300, 3), ZERO);
    speaker.receive(&from_them(&hello(0), ZERO), ZERO).unwrap();
    speaker.leave(SessionId(2), ZERO);
    speaker.start(SessionId(3), config(THEM, 300, 3), ZERO);
    assert!(speaker.session(SessionId(2)).is_none());
    assert_eq!(speaker.receive(&from_them(&hello(0), ZERO), ZERO), Ok(SessionId(3)));
}

/// A reload that names our address, the device, or another number of hops makes another path to the same neighbour: who
/// leaves would say AdminDown to the one session that the neighbour has. Who can be told apart leaves in order.
#[test]
fn who_leaves_makes_room_for_every_session_that_it_could_be_taken_for() {
    let plain = config(THEM, 1, 1).path;
    let far = |least_ttl| Path { hops: Hops::Multi { least_ttl }, ..plain.clone() };
    let on_device = |device: &str| Path { device: Some(device.into()), ..plain.clone() };
    let from = |local: IpAddr| Path { local: Some(local), ..plain.clone() };
    let other = from([192, 0, 2, 9].into());
    let cases = [
        (plain.clone(), from(US), true),
        (from(US), plain.clone(), true),
        (plain.clone(), on_device("eth0"), true),
        (far(254), far(253), true),
        (plain.clone(), far(0), false),
        (from(US), other, false),
        (on_device("eth0"), on_device("eth1"), false),
    ];
    for (old, new, makes_room) in cases {
        let mut speaker = Speaker::new(1);
        speaker.start(SessionId(1), on(old.clone()), ZERO);
        let octets = hello(0);
        let heard = Datagram { multihop: old.hops.is_multi(), ..from_them(&octets, ZERO) };
        speaker.receive(&heard, ZERO).unwrap();
        speaker.leave(SessionId(1), ZERO);
        speaker.start(SessionId(2), on(new.clone()), ZERO);
        assert_eq!(speaker.session(SessionId(1)).is_none(), makes_room, "{old} and {new}");
    }
}

/// In the midst of a flood what is due leaves, and no silence is judged before all was heard.
#[test]
fn who_is_roused_speaks_and_judges_nothing() {
    let mut speaker = Speaker::new(1);
    speaker.start(SessionId(1), config(THEM, 300, 3), ZERO);
    speaker.receive(&from_them(&hello(0), ZERO), ZERO).unwrap();
    let mut out = Vec::new();
    while speaker.poll_transmit(ZERO, &mut out).is_some() {}
    let late = ZERO + std::time::Duration::from_secs(60);
    assert!(speaker.judges_at(late));
    out.clear();
    speaker.rouse(late);
    assert_eq!(speaker.poll_transmit(late, &mut out), Some(SessionId(1)));
    assert_eq!(speaker.poll_transmit(late, &mut Vec::new()), None);
    assert_eq!(speaker.session(SessionId(1)).unwrap().state(), State::Init);
    speaker.handle_timeout(late);
    assert_eq!(speaker.session(SessionId(1)).unwrap().state(), State::Down);
}

#[test]
fn discriminators_are_unique_and_nonzero() {
    let mut speaker = Speaker::new(7);
    for n in 0..500_u32 {
        let remote = IpAddr::from([198, 18, (n >> 8) as u8, n as u8]);
        speaker.start(SessionId(n), config(remote, 300, 3), ZERO);
    }
    let mut all: Vec<u32> =
        (0..500).map(|n| speaker.session(SessionId(n)).unwrap().discriminator()).collect();
    all.sort_unstable();
    all.dedup();
    assert!(all.len() == 500 && all[0] != 0);
}
