//! A whole table at once: from the operator's command until a fast sink has the last prefix, and until it has none, by
//! the real daemon and by four others in the same run, beside a writer of octets made before as the limit (needs root,
//! and the packages of `tests/run prepare`): `cargo bench --bench bgp_bulk`, about ten minutes.
//!
//! `cargo bench --bench bgp_bulk -- [NAME ...] [SIZE ...]` measures these speakers or sizes alone.
//!
//! IPv6 /64s over one session, messages of 4,096 octets; processor time and the most memory (from its start, so reading
//! the table is in it) are those of all processes of the speaker. Where attributes are "distinct" each prefix has a MED of
//! its own, and for announcerd is an `[[instance.announce]]` of its own.

#[path = "../common/mod.rs"]
mod common;
mod grpc;
mod limit;
mod sink;
mod speakers;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::Host;
use announcerd::demo::lab::wire::{self, End};
use common::*;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use sink::Sink;
use speakers::{Speaker, Start};

const SIZES: [u32; 4] = [1, 1_000, 100_000, 1_000_000];
/// Of attributes of its own for each prefix; more announcements than this nobody writes into a file.
const DISTINCT: [u32; 2] = [1_000, 10_000];
/// Who has not done it after this is not waited for.
const BOUND: Duration = Duration::from_secs(90);
/// As many rounds as fit into this, at most the other.
const ROUNDS: (Duration, usize) = (Duration::from_secs(4), 20);
const FAILOVERS: usize = 300;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [role, count, distinct] = words.as_slice() {
        if role == "limit" {
            return limit::run(count.parse().unwrap(), distinct.parse().unwrap());
        }
    }
    let (sizes, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|w| w.parse::<u32>().is_ok());
    let asked = |size: u32| sizes.is_empty() || sizes.iter().any(|s| **s == size.to_string());
    let named = |name: &str| names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(name));
    for (distinct, all) in [(false, &SIZES[..]), (true, &DISTINCT[..])] {
        for size in all.iter().copied().filter(|size| asked(*size)) {
            println!("-- {size} prefixes, {} attributes", if distinct { "distinct" } else { "shared" });
            let mut limit = None;
            for (name, start) in speakers::ALL {
                if named(name) && !(distinct && name == "FRR") {
                    measure(name, start, size, distinct, &mut limit);
                }
            }
        }
    }
    if named("announcerd") {
        reaction();
    }
}

/// The speaker's host and the sink's, and a cable.
fn lab() -> (Host, Host) {
    let (us, them) = (Host::new("us", &["/etc/frr", "/var/log"]).unwrap(), Host::new("them", &[]).unwrap());
    let end = |host, interface, last| End { host, interface, address: Ipv4Addr::new(203, 0, 113, last) };
    wire::connect(end(&us, "uplink", 2), end(&them, "customer", 1), 24).unwrap();
    for (host, interface, address) in [(&us, "uplink", "2/64"), (&them, "customer", "1/64")] {
        let address = format!("2001:db8:ffff::{address}");
        host.run(&["ip", "-6", "address", "add", &address, "dev", interface, "nodad"]).unwrap();
    }
    (us, them)
}

/// Announce or withdraw: times, and processor time of the round that took least.
#[derive(Default)]
struct Column {
    times: Vec<Duration>,
    cpu: Vec<Duration>,
}

impl Column {
    fn median(&mut self) -> (Duration, Duration) {
        self.times.sort();
        self.cpu.sort();
        (self.times[self.times.len() / 2], self.cpu[self.cpu.len() / 2])
    }
}

fn measure(name: &str, start: Start, size: u32, distinct: bool, limit: &mut Option<[Duration; 2]>) {
    let (us, them) = lab();
    let sink = Sink::start(&them, size as usize);
    let mut speaker = start(&us, size, distinct);
    if sink.wait(0, LIMIT).is_err() {
        return println!("{name:10}  no session");
    }
    let mut columns = [Column::default(), Column::default()];
    let begun = Instant::now();
    while begun.elapsed() < ROUNDS.0 && columns[1].times.len() < ROUNDS.1 {
        for (column, announce) in columns.iter_mut().zip([true, false]) {
            let before = cpu_of(&mut *speaker);
            let trigger = Instant::now();
            speaker.tell(announce);
            match sink.wait(if announce { size as usize } else { 0 }, BOUND) {
                Ok(done) => column.times.push(done - trigger),
                Err(at) => {
                    let what = if announce { "announce" } else { "withdraw" };
                    let left = if announce { size as usize - at } else { at };
                    println!("{name:10}  {what}: {left} of {size} were left after {} s", BOUND.as_secs());
                    return;
                }
            }
            column.cpu.push(cpu_of(&mut *speaker).saturating_sub(before));
        }
    }
    let rounds = columns[0].times.len();
    let [announce, withdraw] = columns.map(|mut column| column.median());
    let bounds = limit.get_or_insert([announce.0, withdraw.0]);
    let peak: u64 = speaker.pids().into_iter().map(most_memory).sum();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let show = |(time, cpu): (Duration, Duration), bound: Duration| {
        let ratio = time.as_secs_f64() / bound.as_secs_f64();
        format!("{:10.2} ms ({ratio:7.1} x limit, {:9.2} ms cpu)", ms(time), ms(cpu))
    };
    println!(
        "{name:10}  announce {}  withdraw {}  {:7.1} MB  ({rounds} rounds)",
        show(announce, bounds[0]),
        show(withdraw, bounds[1]),
        peak as f64 / 1024.0,
    );
}

/// Processor time of all its processes, those that ended not counted.
fn cpu_of(speaker: &mut dyn Speaker) -> Duration {
    let of =
        |pid: Pid| clock_getcpuclockid(pid).and_then(clock_gettime).map_or(Duration::ZERO, Duration::from);
    speaker.pids().into_iter().map(of).sum()
}

/// In kilobytes, since the process began.
fn most_memory(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Over hundreds of failovers with a session: from the decision until the UPDATE is in the socket.
fn reaction() {
    let (us, them) = lab();
    let sink = Sink::start(&them, 1);
    let node = speakers::node(&us, 1, false);
    sink.wait(0, LIMIT).unwrap();
    let news = node.follow().unwrap();
    let (mut takeovers, mut withdraws) = (Vec::new(), Vec::new());
    for _ in 0..FAILOVERS {
        for (announce, state, times) in
            [(true, State::Master, &mut takeovers), (false, State::Backup, &mut withdraws)]
        {
            force(&node, "bulk", state);
            times.push(written(&news, state));
            sink.wait(usize::from(announce), LIMIT).unwrap();
        }
    }
    println!("-- decision to UPDATE in the socket, by announcerd's own timeline");
    println!("takeover  {}", spread(takeovers).1);
    println!("withdraw  {}", spread(withdraws).1);
}

fn written(news: &std::sync::mpsc::Receiver<announcerd::status::EventStatus>, state: State) -> Duration {
    loop {
        let event = news.recv_timeout(LIMIT).unwrap();
        let steps = event.timeline_us;
        if let (true, Some(decision), Some(written)) =
            (event.to == state, steps.decision, steps.update_written)
        {
            return Duration::from_micros(written - decision);
        }
    }
}
