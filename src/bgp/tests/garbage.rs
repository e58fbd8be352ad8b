//! A peer that sends broken octets in odd pieces, for hours: no panic, no tight loop, and the session comes back.

use std::time::Duration;

use super::network::Rng;
use super::rig::{Rig, config, isp_open};
use crate::bgp::wire::header::put_keepalive;
use crate::bgp::{PeerEffect, PeerEvent, PeerState};

fn streams() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bgp");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// An OPEN and a KEEPALIVE, then the corpus in any order, some octets changed.
fn stream(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = Vec::new();
    isp_open().put(&mut octets);
    put_keepalive(&mut octets);
    for _ in 0..rng.below(20) {
        octets.extend(&corpus[rng.below(corpus.len() as u64) as usize]);
    }
    for _ in 0..rng.below(4) {
        let at = rng.below(octets.len() as u64) as usize;
        octets[at] = rng.next() as u8;
    }
    octets
}

#[test]
fn broken_octets_in_odd_pieces() {
    let corpus = streams();
    let mut rng = Rng(3);
    let mut rig = Rig::new(config());
    for round in 0..2000 {
        let conn = if rng.below(2) == 0 { rig.connect() } else { rig.accept().0 };
        let octets = stream(&mut rng, &corpus);
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + rng.below(200) as usize).min(rest.len()));
            rest = after;
            let effects = rig.send(conn, piece.to_vec());
            assert!(effects.len() < 20, "round {round}: {effects:?}");
            if effects
                .iter()
                .any(|effect| matches!(effect, PeerEffect::Close { conn: gone, .. } if *gone == conn))
            {
                break;
            }
            rig.fetch(conn);
        }
        rig.event(PeerEvent::Closed { conn, reason: "reset".into() });
        rig.pass(Duration::from_millis(rng.below(100_000)));
    }
    rig.pass(Duration::from_secs(600));
    let conn = rig.accept().0;
    rig.establish(conn, &isp_open());
    assert_eq!(rig.peer.state(), PeerState::Established);
}
