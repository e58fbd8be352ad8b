//! Many checks and many routes in the real daemon (needs root): `cargo bench --bench scale`.
//!
//! - 1,000 and 5,000 ping targets at 1 s: share of a core, probes that were no success;
//! - 100,000 routes made and removed by a failover, against `ip -batch` in the same run.

mod common;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Host, Node};
use announcerd::status::EventStatus;
use common::*;
use nix::sys::signal::Signal;

const WATCHED: Duration = Duration::from_secs(20);
const METRICS: &str = "127.0.0.1:9179";
const BULK: u32 = 100_000;
const ROUNDS: usize = 4;

fn main() {
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let wanted = |what: &str| only.as_deref().is_none_or(|o| o == what);
    if wanted("targets") {
        for targets in [1_000, 5_000] {
            pings(targets);
        }
    }
    if wanted("routes") {
        routes();
    }
}

fn pings(targets: u32) {
    let host = host();
    host.run(&["ip", "route", "add", "local", "198.18.0.0/16", "dev", "lo"]).unwrap();
    let (mut config, mut names) = (format!("[node]\nmetrics = \"{METRICS}\"\n"), Vec::new());
    for n in 1..=targets {
        let to = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
        writeln!(config, "[[check]]\nname = \"t{n}\"\ntype = \"ping\"\nhost = \"{to}\"\ninterval = \"1s\"")
            .unwrap();
        writeln!(config, "timeout = \"800ms\"\nfall = 3\nrise = 2").unwrap();
        names.push(format!("\"t{n}\""));
    }
    let names = names.join(", ");
    writeln!(config, "[[instance]]\nname = \"mainland\"\nprimary = {{ checks = [{names}] }}").unwrap();
    writeln!(config, "[[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"lo\"").unwrap();
    let mut node = Node::start(&host, program(), &config).unwrap();
    node.wait_state("mainland", State::Backup, LIMIT).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let pid = node.daemon().pid();
    let counted = results(&host);
    let (before, start) = (cpu(pid), Instant::now());
    let woken = sleeps(pid);
    std::thread::sleep(WATCHED);
    let (took, used, woken) = (start.elapsed(), cpu(pid) - before, sleeps(pid) - woken);
    let (good, bad) = results(&host);
    let (good, bad) = (good - counted.0, bad - counted.1);
    let checks = node.status().unwrap().checks;
    let error = checks.iter().find_map(|c| c.last_error.as_ref());
    println!(
        "{targets:>6} targets/s   {:5.2} % of a core   {:5.2} us each   {:6.0} wake-ups/s   {:5.1} MB   {bad} of {} not answered {}",
        used.as_secs_f64() / took.as_secs_f64() * 100.0,
        used.as_secs_f64() * 1e6 / (f64::from(targets) * took.as_secs_f64()),
        woken as f64 / took.as_secs_f64(),
        memory(pid).0 as f64 / 1024.0,
        good + bad,
        error.map_or("", String::as_str)
    );
}

/// Probes so far that were a success, and those that were none.
fn results(host: &Host) -> (u64, u64) {
    // A page is made four times a second at most: this one has to be new.
    std::thread::sleep(Duration::from_millis(500));
    let page = host.run(&["curl", "-sS", &format!("http://{METRICS}/metrics")]).unwrap();
    let (mut good, mut bad) = (0, 0);
    for line in page.lines().filter(|l| l.starts_with("announcerd_check_results_total{")) {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *if line.contains("result=\"success\"") { &mut good } else { &mut bad } += count;
    }
    assert!(good > 0, "no results in\n{page}");
    (good, bad)
}

fn to(i: u32) -> String {
    format!("{}/32", Ipv4Addr::from(0x0a00_0000 + i))
}

fn routes() {
    let host = host();
    let mut config = String::from(
        "[[check]]\nname = \"primary\"\ntype = \"ping\"\nhost = \"127.0.0.1\"\n\
         [[instance]]\nname = \"mainland\"\nprimary = { checks = [\"primary\"] }\ndrain = \"0s\"\n",
    );
    for i in 0..BULK {
        writeln!(config, "[[instance.route]]\nto = \"{}\"\ndev = \"lo\"", to(i)).unwrap();
    }
    let start = Instant::now();
    let mut node = Node::start(&host, program(), &config).unwrap();
    println!("-- {BULK} routes like {}", to(0));
    println!("start until it answers                {:8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    node.wait_state("mainland", State::Backup, LIMIT).unwrap();
    let news = node.follow().unwrap();
    // In turns, so that a busy machine is as hard on both.
    let (mut add, mut del) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let ours = change(&node, &news, State::Master);
        assert_eq!(count(&host), BULK as usize);
        let ours_back = change(&node, &news, State::Backup);
        assert_eq!(count(&host), 0);
        node.daemon().signal(Signal::SIGSTOP).unwrap();
        add.push((ours, batch(&host, "add")));
        del.push((ours_back, batch(&host, "del")));
        node.daemon().signal(Signal::SIGCONT).unwrap();
        node.wait_state("mainland", State::Backup, LIMIT).unwrap();
    }
    println!(
        "resident afterwards                   {:8.1} MB",
        memory(node.daemon().pid()).0 as f64 / 1024.0
    );
    for (what, times) in [("add", add), ("delete", del)] {
        let best = |pick: fn(&(f64, f64)) -> f64| times.iter().map(pick).fold(f64::MAX, f64::min);
        let (ours, theirs) = (best(|t| t.0), best(|t| t.1));
        println!(
            "{what:7} announcerd, force to acknowledged {:8.1} ms   ip -batch {:8.1} ms   {:.2} times as fast   {times:.2?}",
            ours * 1e3,
            theirs * 1e3,
            theirs / ours
        );
    }
}

/// In seconds.
fn batch(host: &Host, verb: &str) -> f64 {
    let lines: String = (0..BULK).map(|i| format!("route {verb} {} dev lo\n", to(i))).collect();
    host.write("/run/batch", lines).unwrap();
    let mut command = Command::new("ip");
    command.args(["-batch", "/run/batch"]).stdout(Stdio::null());
    let start = Instant::now();
    let mut child = host.spawn(&mut command).unwrap();
    assert!(child.child().wait().unwrap().success());
    start.elapsed().as_secs_f64()
}

/// From the operator's word to the kernel's last acknowledgement, seen from outside, in seconds.
fn change(node: &Node, news: &Receiver<EventStatus>, state: State) -> f64 {
    let start = Instant::now();
    force(node, "mainland", state);
    loop {
        let event = news.recv_timeout(LIMIT).unwrap();
        if event.to == state && event.timeline_us.kernel_acked.is_some() {
            return start.elapsed().as_secs_f64();
        }
    }
}

fn count(host: &Host) -> usize {
    host.run(&["ip", "route", "show", "proto", "187"]).unwrap().lines().count()
}
