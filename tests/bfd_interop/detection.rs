//! Detection after a silent drop, at three speeds: never before its time, by silence, and a takeover follows.

use std::time::Instant;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::Bird;

use crate::bird::config;
use crate::rig::{LIMIT, Pair, THEM, bfd, check, until, until_agreed, until_up};

fn run(interval: u64) {
    let pair = Pair::new();
    let lines = format!("min rx interval {interval} ms; min tx interval {interval} ms; multiplier 3;");
    let neighbour = "203.0.113.2 dev \"customer\" local 203.0.113.1";
    let _bird = Bird::start(&pair.them, &config(&lines, neighbour)).unwrap();
    let node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"{interval}ms\"\nmultiplier = 3"));
    until_up(&node);
    until_agreed(&node, interval * 1000, interval * 1000);
    node.wait_state("main", State::Backup, LIMIT).unwrap();
    let cut = Instant::now();
    pair.silence();
    node.wait_state("main", State::Master, LIMIT).unwrap();
    let row = bfd(&node);
    println!("{interval} ms x 3: MASTER was seen {:?} after nft began; {}", cut.elapsed(), row.reason);
    assert_eq!(check(&node).verdict, "down");
    assert!(
        row.diagnostic == "Control Detection Time Expired" && row.reason.contains("silence for"),
        "{row:?}"
    );
    // Not before its time: the silence that is told is at least the detection time.
    let silence: f64 = row.reason.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(silence >= (interval * 3) as f64, "{}", row.reason);
    let events = node.events().unwrap();
    assert!(events.iter().any(|e| e.to == State::Master && e.reason.contains("silence for")), "{events:?}");
    pair.unsilence();
    until("hand back", &node, || node.state("main").unwrap() == State::Backup);
}

#[test]
fn at_10_ms() {
    run(10);
}

#[test]
fn at_50_ms() {
    run(50);
}

#[test]
fn at_300_ms() {
    run(300);
}
