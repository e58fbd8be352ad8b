//! FIELD 9: who did not run for a while does not take that for the death of others.

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Bird, wait_for};
use nix::sys::signal::Signal;

use crate::bird::config;
use crate::rig::{LIMIT, Pair, THEM, bfd, check, detail, until, until_up};

/// SIGSTOP for many detection times: BIRD loses us, we are told so when we wake, and nobody takes over.
#[test]
fn a_stopped_process_takes_over_from_nobody() {
    let pair = Pair::new();
    let lines = "min rx interval 50 ms; min tx interval 50 ms; multiplier 3;";
    let neighbour = "203.0.113.2 dev \"customer\" local 203.0.113.1";
    let bird = Bird::start(&pair.them, &config(lines, neighbour)).unwrap();
    let mut node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"50ms\"\nmultiplier = 3"));
    until_up(&node);
    node.wait_state("main", State::Backup, LIMIT).unwrap();
    for round in 1..4 {
        node.daemon().signal(Signal::SIGSTOP).unwrap();
        // The daemon cannot be asked now.
        wait_for("BIRD to lose us", LIMIT, || (!crate::bird::is_up(&bird)).then_some(())).unwrap();
        node.daemon().signal(Signal::SIGCONT).unwrap();
        until("our own absence to be told", &node, || detail(&node).forgiven >= round);
        until_up(&node);
    }
    let events = node.events().unwrap();
    assert!(events.iter().all(|e| e.to != State::Master), "{events:?}\n{}", node.log());
    assert!(check(&node).verdict == "up" && bfd(&node).state == "Up");
}
