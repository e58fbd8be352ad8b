//! From the decision to its effects, by the real daemon in a namespace of its own (needs root):
//! `cargo bench --bench reaction`.
//!
//! - decision to the kernel's acknowledgement, and to the start and the end of a script, over hundreds of failovers by hand;
//! - from the end of the check that decides to the route in the kernel and to the script's start, beside keepalived
//!   with the same check and `ip route add` as its notify script, in the same run.

mod common;

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::topology::prefix;
use announcerd::demo::lab::{Daemon, Host, Node, routes, wait_for};
use common::*;
use nix::time::{ClockId, clock_gettime};

const FORCED: usize = 300;
const DECIDED: usize = 20;
const STAMP: &str = "/run/stamp";

fn main() {
    let mut words = std::env::args().skip(1);
    match (words.next().as_deref(), words.next()) {
        // A script whose first deed is to say when it began.
        (Some("began"), Some(file)) => stamp(&file),
        // A check whose last deed is to say when it ended: good while the file `dead` is not there.
        (Some("check"), Some(file)) => {
            let dead = std::path::Path::new("/run/dead").exists();
            stamp(&file);
            std::process::exit(i32::from(dead));
        }
        // keepalived's notify script: the recipe's own command.
        (Some("add"), Some(file)) => {
            stamp(&file);
            ip("add");
        }
        (Some("del"), _) => ip("del"),
        _ => {
            forced();
            decided();
        }
    }
}

fn ip(verb: &str) {
    let words = ["route", verb, "198.51.100.0/24", "dev", "lo"];
    std::process::Command::new("ip").args(words).status().unwrap();
}

/// Nanoseconds of the clock that all processes of the machine share.
fn now() -> u64 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_nanos() as u64
}

fn stamp(file: &str) {
    let at = now();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(format!("{at}\n").as_bytes()).unwrap();
}

fn stamps(host: &Host, file: &str) -> Vec<u64> {
    host.read(file).lines().filter_map(|l| l.parse().ok()).collect()
}

/// That clock's time of a date of announcerd's journal.
fn of_date(date: &str) -> u64 {
    let (wall, clock) = (SystemTime::now(), now());
    let ago = wall.duration_since(humantime::parse_rfc3339(date).unwrap()).unwrap();
    clock - ago.as_nanos() as u64
}

/// Failovers by hand: what lies behind the decision, without the noise of a check before it.
fn forced() {
    let host = host();
    let stamp = copy_self(&host, STAMP);
    let config = format!(
        "[[check]]\nname = \"primary\"\ntype = \"ping\"\nhost = \"127.0.0.1\"\n\
         [[instance]]\nname = \"mainland\"\nprimary = {{ checks = [\"primary\"] }}\n\
         drain = \"0s\"\nnotify_master = \"{stamp} began /run/began\"\n\
         [[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"lo\"\n"
    );
    let node = Node::start(&host, program(), &config).unwrap();
    node.wait_state("mainland", State::Backup, LIMIT).unwrap();
    let news = node.follow().unwrap();
    let (mut acked, mut withdrawn, mut began, mut done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=FORCED {
        for (state, acks) in [(State::Master, &mut acked), (State::Backup, &mut withdrawn)] {
            force(&node, "mainland", state);
            loop {
                let event = news.recv_timeout(LIMIT).unwrap();
                let steps = event.timeline_us;
                let (Some(decision), Some(acknowledged)) = (steps.decision, steps.kernel_acked) else {
                    continue;
                };
                let after = |step: u64| Duration::from_micros(step - decision);
                match (state, steps.notify_done) {
                    (State::Master, None) => continue,
                    (State::Master, Some(end)) if event.to == state => {
                        done.push(after(end));
                        // The record's date is that of the decision.
                        let starts = stamps(&host, "/run/began");
                        assert_eq!(starts.len(), round, "each of the scripts has run");
                        let start = starts[round - 1].saturating_sub(of_date(&event.time));
                        began.push(Duration::from_nanos(start));
                    }
                    _ => {}
                }
                if event.to == state {
                    acks.push(after(acknowledged));
                    break;
                }
            }
        }
    }
    println!("-- announcerd, by hand");
    println!("decision to kernel_acked, takeover    {}", spread(acked).1);
    println!("decision to kernel_acked, withdraw    {}", spread(withdrawn).1);
    println!("decision to the script's start        {}", spread(began).1);
    println!("decision to the script's end          {}", spread(done).1);
}

/// Failovers by an exec check (keepalived: vrrp_script) of the same program.
fn decided() {
    let (mut ours, mut our_script) = (Vec::new(), Vec::new());
    let (mut theirs, mut their_script) = (Vec::new(), Vec::new());
    measure(&host(), &mut ours, &mut our_script, |host, stamp| {
        let config = format!(
            "[[check]]\nname = \"primary\"\ntype = \"exec\"\ncommand = \"{stamp} check /run/checked\"\n\
             interval = \"100ms\"\ntimeout = \"100ms\"\nfall = 1\nrise = 1\n\
             [[instance]]\nname = \"mainland\"\nprimary = {{ checks = [\"primary\"] }}\n\
             failback_delay = \"0s\"\ndrain = \"0s\"\nnotify_master = \"{stamp} began /run/began\"\n\
             [[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"lo\"\n"
        );
        let node = Node::start(host, program(), &config).unwrap();
        node.wait_state("mainland", State::Backup, LIMIT).unwrap();
        Box::new(node)
    });
    // What its instance tracks is "the primary lives": FAULT is its word for a check that fails, and comes without an
    // election.
    measure(&host(), &mut theirs, &mut their_script, |host, stamp| {
        host.run(&["ip", "link", "add", "vrrp0", "type", "veth", "peer", "name", "vrrp1"]).unwrap();
        for words in ["link set vrrp0 up", "link set vrrp1 up", "addr add 192.0.2.1/24 dev vrrp0"] {
            host.run(&[&["ip"][..], &words.split(' ').collect::<Vec<_>>()].concat()).unwrap();
        }
        let config = format!(
            "global_defs {{\n script_user root\n enable_script_security\n}}\n\
             vrrp_script primary {{\n script \"{stamp} check /run/checked\"\n interval 1\n fall 1\n rise 1\n}}\n\
             vrrp_instance mainland {{\n state BACKUP\n interface vrrp0\n virtual_router_id 51\n priority 100\n \
             advert_int 0.1\n virtual_ipaddress {{ 192.0.2.9/32 dev vrrp0 }}\n track_script {{ primary }}\n \
             notify_fault \"{stamp} add /run/began\"\n notify_master \"{stamp} del x\"\n}}\n"
        );
        let daemon: Daemon = keepalived(host, &config);
        wait_for("keepalived", LIMIT, || (stamps(host, "/run/checked").len() > 3).then_some(())).unwrap();
        Box::new(daemon)
    });
    println!("-- from the end of the deciding check");
    let line = |who: &str, what: &str, times: Vec<Duration>| {
        let (median, text) = spread(times);
        println!("{who:10} to {what:24} {text}");
        median.as_secs_f64()
    };
    let ours = line("announcerd", "the route in the kernel", ours);
    let our_script = line("announcerd", "the script's start", our_script);
    let theirs = line("keepalived", "the route in the kernel", theirs);
    let their_script = line("keepalived", "the script's start", their_script);
    println!(
        "keepalived takes {:.1} times as long to the route, {:.1} times to the script",
        theirs / ours,
        their_script / our_script
    );
}

fn measure(
    host: &Host,
    to_route: &mut Vec<Duration>,
    to_script: &mut Vec<Duration>,
    start: impl FnOnce(&Host, &str) -> Box<dyn std::any::Any>,
) {
    let stamp = copy_self(host, STAMP);
    let watch = routes::Watch::start(host).unwrap();
    let daemon = start(host, &stamp);
    for round in 1..=DECIDED {
        // Instant and the stamps are of the same clock; this ties one to the other.
        let (instant, clock) = (Instant::now(), now());
        host.write("/run/dead", "").unwrap();
        let mut added = None;
        wait_for("the route and the script", LIMIT, || {
            added = added.or(watch.news().iter().find(|c| c.added && c.route.to == prefix()).map(|c| c.at));
            (added.is_some() && stamps(host, "/run/began").len() == round).then_some(())
        })
        .unwrap();
        let route = clock + added.unwrap().duration_since(instant).as_nanos() as u64;
        let began = stamps(host, "/run/began")[round - 1];
        let checks = stamps(host, "/run/checked");
        // The last check that ended before the effect decided it.
        let decided = |effect: u64| checks.iter().rev().find(|c| **c <= effect).copied().unwrap();
        to_route.push(Duration::from_nanos(route - decided(route)));
        to_script.push(Duration::from_nanos(began - decided(began)));
        std::fs::remove_file(host.path("/run/dead")).unwrap();
        wait_for("the route to go", LIMIT, || {
            watch.news().iter().any(|c| !c.added && c.route.to == prefix()).then_some(())
        })
        .unwrap();
    }
    drop(daemon);
}
