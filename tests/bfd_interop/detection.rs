//! Detection after a silent drop, at three speeds, of BIRD, FRR and keepalived: never before its time, by silence, and a
//! takeover follows.

use std::time::Instant;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Bird, Node};

use crate::bird::config;
use crate::frr::{Frr, PEER};
use crate::rig::{LIMIT, Pair, THEM, bfd, check, in_real_time, until, until_agreed, until_up};

fn bird(interval: u64) {
    let pair = Pair::new();
    let lines = format!("min rx interval {interval} ms; min tx interval {interval} ms; multiplier 3;");
    let neighbour = "203.0.113.2 dev \"customer\" local 203.0.113.1";
    let mut bird = Bird::start(&pair.them, &config(&lines, neighbour)).unwrap();
    in_real_time(bird.daemon());
    let node = pair.node(&lines_for(interval));
    detect(&pair, &node, interval);
}

/// One bfdd, and one session after the other.
#[test]
fn of_frr() {
    let pair = Pair::new();
    let frr = Frr::start(&pair.them, &format!("bfd\n {PEER}\n exit\nexit\n"));
    frr.in_real_time();
    let node = pair.node(&lines_for(300));
    for interval in [300, 50, 10] {
        let [tx, rx] = ["transmit", "receive"].map(|way| format!("{way}-interval {interval}"));
        frr.set(&[PEER, "detect-multiplier 3", &tx, &rx]);
        pair.reload(&lines_for(interval));
        detect(&pair, &node, interval);
    }
}

/// keepalived 2.2 can do 10 ms.
fn keepalived(interval: u64) {
    let pair = Pair::new();
    let timing = format!("min_rx {interval}\n min_tx {interval}\n multiplier 3");
    let _keepalived = crate::keepalived::start_in_real_time(&pair, &timing);
    let node = pair.node(&lines_for(interval));
    detect(&pair, &node, interval);
}

#[test]
fn of_keepalived_at_10_ms() {
    keepalived(10);
}

#[test]
fn of_keepalived_at_50_ms() {
    keepalived(50);
}

#[test]
fn of_keepalived_at_300_ms() {
    keepalived(300);
}

fn lines_for(interval: u64) -> String {
    format!("host = \"{THEM}\"\ninterval = \"{interval}ms\"\nmultiplier = 3")
}

fn detect(pair: &Pair, node: &Node, interval: u64) {
    until_up(node);
    until_agreed(node, interval * 1000, interval * 1000);
    node.wait_state("main", State::Backup, LIMIT).unwrap();
    let cut = Instant::now();
    pair.silence();
    node.wait_state("main", State::Master, LIMIT).unwrap();
    let row = bfd(node);
    println!("{interval} ms x 3: MASTER was seen {:?} after nft began; {}", cut.elapsed(), row.reason);
    assert_eq!(check(node).verdict, "down");
    assert!(
        row.diagnostic == "Control Detection Time Expired" && row.reason.contains("silence for"),
        "{row:?}"
    );
    // Not before its time: the silence that is told is at least the detection time.
    let silence: f64 = row.reason.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(silence >= (interval * 3) as f64, "{}", row.reason);
    let events = node.events().unwrap();
    let took_over = events.iter().rfind(|e| e.to == State::Master).unwrap();
    assert!(took_over.reason.contains("silence for"), "{events:?}");
    pair.unsilence();
    until("hand back", node, || node.state("main").unwrap() == State::Backup);
}

#[test]
fn at_10_ms() {
    bird(10);
}

#[test]
fn at_50_ms() {
    bird(50);
}

#[test]
fn at_300_ms() {
    bird(300);
}
