//! What clients lose when a gateway fails, in each mode, with FRR's BFD at 300 ms x 3 as in the example. The figures are
//! printed; asserted is who loses and who does not.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::{
    DETECTION, EXAMPLE, FAR, FAR6, FIRST, FIRST6, Failure, Lab, SECOND, SECOND6, with_ecmp, with_ipv6,
};
use crate::stream::{Heard, Loss, Stream};

const EACH: Duration = Duration::from_millis(1);
const FAILURES: [Failure; 3] = [Failure::DeadGateway, Failure::DeadLink, Failure::BfdDropped];

/// What BFD says of the gateway's session.
fn reason(lab: &Lab, gateway: usize) -> String {
    lab.node.status().unwrap().bfd[gateway].reason.clone()
}

fn print(what: &str, loss: Loss, reason: &str) {
    println!("{what}: {} of {} lost, longest gap {:.1?}; {reason}", loss.lost, loss.sent, loss.gap);
}

fn failover(far: IpAddr, config: &str, family: &str, [first, second]: [&str; 2], failures: &[Failure]) {
    let lab = Lab::start(config);
    lab.ready();
    lab.wait(family, &[first], &[second]);
    let gateway = first.split(' ').nth(1).unwrap().parse().unwrap();
    let heard = Heard::listen(&lab.server, gateway);
    let stream = Stream::start(&lab.server, far, 1, EACH);
    let all = |_| true;
    for how in failures.iter().copied() {
        let since = stream.settle();
        lab.fail(0, how);
        lab.wait(family, &[second], &[first]);
        let until = stream.settle();
        let loss = match how {
            Failure::BfdDropped => stream.late(since, until, all),
            _ => stream.loss(since, until, all),
        };
        let silent = loss.resumed.map(|again| again.saturating_duration_since(heard.last()));
        assert_eq!(stream.gateways(), [1], "{how:?}");
        // BFD goes down in its time even where the link was faster; and that our own link is dead says nothing of a gateway.
        let verdict = if how == Failure::DeadLink { "unknown" } else { "down" };
        lab.wait_checks([verdict, "up"]);
        print(&format!("failover {family}, {how:?}"), loss, &reason(&lab, 0));
        match how {
            Failure::DeadGateway => {
                assert!(loss.lost > 0, "{loss:?}");
                // From the last sign of life; the rest of the gap is what the gateway lived on after it.
                let late = silent.unwrap().as_secs_f64() - DETECTION.as_secs_f64();
                println!("    service again {:.1} ms after the bound of {DETECTION:?}", late * 1e3);
            }
            Failure::DeadLink => {}
            // The gateway forwards all the while, and the route is replaced, not removed and added.
            Failure::BfdDropped => assert_eq!(loss.lost, 0, "{loss:?}"),
        }

        let since = stream.settle();
        lab.heal(0, how);
        lab.wait(family, &[first], &[second]);
        let until = stream.settle();
        assert_eq!(stream.gateways(), [0], "{how:?}");
        let loss = stream.late(since, until, all);
        print(&format!("failover {family}, {how:?}, back"), loss, &reason(&lab, 0));
        assert_eq!(loss.lost, 0, "{how:?}, handed back: {loss:?}");
        lab.ready();
    }
    assert_eq!(lab.deletions(), [""; 0], "at some moment there was no default route");
}

#[test]
fn failover_loses_what_was_sent_until_detection() {
    failover(
        FAR.into(),
        EXAMPLE,
        "-4",
        [FIRST, SECOND],
        &[&FAILURES[..], &[Failure::DeadGateway; 2]].concat(),
    );
}

#[test]
fn failover_of_ipv6() {
    failover(FAR6.parse().unwrap(), &with_ipv6(EXAMPLE), "-6", [FIRST6, SECOND6], &FAILURES);
}

fn ecmp(far: IpAddr, config: &str, family: &str, [first, second]: [&str; 2]) {
    let lab = Lab::start(config);
    lab.ready();
    lab.wait(family, &[first, second], &[]);
    let stream = Stream::start(&lab.server, far, 32, EACH);
    stream.settle();
    // First the one, then the other, each in every way.
    for (gateway, how) in FAILURES.iter().flat_map(|how| [(0, *how), (1, *how)]) {
        ecmp_round(&lab, &stream, family, [first, second], (gateway, how));
    }
}

fn ecmp_round(
    lab: &Lab,
    stream: &Stream,
    family: &str,
    [first, second]: [&str; 2],
    (gateway, how): (usize, Failure),
) {
    let other = 1 - gateway;
    let what = format!("ecmp {family}, {how:?} {}", gateway + 1);
    let moves = lab.moves();
    let since = stream.settle();
    let before = stream.gateways();
    let dead = |n: usize| usize::from(before[n]) == gateway;
    let of_dead = (0..before.len()).filter(|n| dead(*n)).count();
    lab.fail(gateway, how);
    let (gone, left) = if gateway == 0 { (first, second) } else { (second, first) };
    lab.wait(family, &[left], &[gone, "weight"]);
    let until = stream.settle();
    let living = stream.late(since, until, |n| !dead(n));
    let loss = match how {
        Failure::BfdDropped => stream.late(since, until, dead),
        _ => stream.loss(since, until, dead),
    };
    let verdict = if how == Failure::DeadLink { "unknown" } else { "down" };
    lab.wait_checks(if gateway == 0 { [verdict, "up"] } else { ["up", verdict] });
    let (reason, after) = (reason(lab, gateway), stream.gateways());
    let back_since = stream.settle();
    lab.heal(gateway, how);
    lab.wait(family, &[first, second], &[]);
    lab.ready();
    let back = stream.late(back_since, stream.settle(), |_| true);
    let (restored, moved) = (stream.gateways(), lab.moves() - moves);
    assert_eq!(moved, 2, "{what}: away and back, and nobody else failed: {}", lab.node.log());
    print(&format!("{what}, its {of_dead} flows"), loss, &reason);
    print(&format!("{what}, the other's {}", before.len() - of_dead), living, "");
    print(&format!("{what}, back"), back, "");
    assert!(of_dead > 0 && of_dead < before.len(), "not shared: {before:?}");
    let strays = living.by[gateway];
    assert_eq!((living.lost, strays), (0, 0), "{what}: flows of the living gateway: {living:?}");
    assert!(after.iter().all(|by| usize::from(*by) == other), "{what}: {after:?}");
    match how {
        Failure::DeadGateway => assert!(loss.lost > 0, "{what}: {loss:?}"),
        Failure::DeadLink => {}
        Failure::BfdDropped => assert_eq!(loss.lost, 0, "{what}: {loss:?}"),
    }
    assert_eq!(back.lost, 0, "{what}, back: {back:?}");
    // To each flow its old gateway.
    assert_eq!(restored, before, "{what}");
}

#[test]
fn ecmp_loses_only_flows_of_the_dead_gateway() {
    ecmp(FAR.into(), &with_ecmp(EXAMPLE), "-4", [FIRST, SECOND]);
}

#[test]
fn ecmp_of_ipv6() {
    ecmp(FAR6.parse().unwrap(), &with_ecmp(&with_ipv6(EXAMPLE)), "-6", [FIRST6, SECOND6]);
}
