//! What a client loses when one of two gateways fails, with FRR gateways and BFD at 300 ms x 3 (needs root, frr, nftables):
//! `cargo bench --bench gateways`, with a number of rounds after `--` if not twenty.
//!
//! One datagram each millisecond. A gateway that dies in silence is noticed 900 ms after its last BFD packet; the aim is
//! that service is back 10 ms after that. The run fails if it ever was back only after [`SLACK`].

mod common;
#[path = "../tests/forward/lab.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod lab;
#[path = "../tests/forward/stream.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod stream;

use std::net::IpAddr;
use std::time::Duration;

use common::spread;
use lab::{DETECTION, EXAMPLE, FAR, FAR6, FIRST, FIRST6, Failure, Lab, SECOND, SECOND6, with_ipv6};
use stream::{Heard, Stream};

const EACH: Duration = Duration::from_millis(1);
/// Whatever else this machine is doing.
const SLACK: Duration = Duration::from_millis(100);

fn main() {
    let rounds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(20);
    failover("IPv4", FAR.into(), EXAMPLE, "-4", [FIRST, SECOND], rounds);
    let far6 = FAR6.parse().expect("an address");
    failover("IPv6", far6, &with_ipv6(EXAMPLE), "-6", [FIRST6, SECOND6], rounds);
}

fn failover(name: &str, far: IpAddr, config: &str, family: &str, hops: [&str; 2], rounds: usize) {
    let [first, second] = hops;
    let lab = Lab::start(config);
    lab.ready();
    let gateway = first.split(' ').nth(1).and_then(|via| via.parse().ok()).expect("via an address");
    let heard = Heard::listen(&lab.server, gateway);
    let stream = Stream::start(&lab.server, far, 1, EACH);
    let mut late = Vec::new();
    for how in [Failure::DeadGateway, Failure::DeadLink, Failure::BfdDropped] {
        let (mut gaps, mut lost, mut lost_back) = (Vec::new(), 0, 0);
        for _ in 0..rounds {
            let since = stream.settle();
            lab.fail(0, how);
            lab.wait(family, &[second], &[first]);
            let loss = stream.loss(since, stream.settle(), |_| true);
            lost += loss.lost;
            gaps.push(loss.gap);
            if how == Failure::DeadGateway {
                let again = loss.resumed.expect("an answer");
                late.push(again.saturating_duration_since(heard.last() + DETECTION));
            }
            lab.wait_checks(["down", "up"]);
            let since = stream.settle();
            lab.heal(0, how);
            lab.wait(family, &[first], &[second]);
            lost_back += stream.loss(since, stream.settle(), |_| true).lost;
            lab.ready();
        }
        println!("{name}, {how:?}: {lost} lost in all, {lost_back} when it came back");
        println!("    longest gap     {}", spread(gaps).1);
    }
    let slowest = late.iter().copied().max().unwrap_or_default();
    println!("    {name}: after the bound of {DETECTION:?}: {}", spread(late).1);
    assert!(slowest <= SLACK, "{name}: service was back only {slowest:?} after the bound");
}
