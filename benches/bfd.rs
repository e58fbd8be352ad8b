//! BFD beside BIRD and FRR, in one run (needs root, bird2, frr, stress-ng): `cargo bench --bench bfd` takes half an
//! hour, `-- short` a few minutes, `-- detection`, `-- stress`, `-- processor` the parts, a tool's name or a number
//! of sessions that alone (processor), a number with `stress` the seconds.
//!
//! - detection over its bound: a neighbour made of our own pure session falls silent; how long after its last packet plus
//!   interval x multiplier does the first packet with Down come back? The same instrument for all three;
//! - false downs: two of a kind, every kind and interval at once, with stress-ng on every core;
//! - processor time for 1, 100 and 500 sessions.

mod common;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use announcerd::bfd::wire::Packet;
use announcerd::bfd::{Datagram, Hops, Path, SessionConfig, SessionId, Speaker, State};
use announcerd::demo::lab::wire::{End, connect};
use announcerd::demo::lab::{Bird, Daemon, Host, Node, wait_for};
use announcerd::io::clock;
use announcerd::time::Time;
use common::{cpu, program};
use nix::unistd::Pid;

const US: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const LIMIT: Duration = Duration::from_secs(60);
const TOOLS: [&str; 3] = ["announcerd", "BIRD", "FRR"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let short = words.iter().any(|a| a == "short");
    let only = words.iter().find(|a| TOOLS.contains(&a.as_str()));
    let number: Option<u64> = words.iter().find_map(|a| a.parse().ok());
    let is_part = |a: &&String| *a != "short" && Some(*a) != only && a.parse::<u64>().is_err();
    let parts: Vec<&String> = words.iter().filter(is_part).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| *p == part);
    let (rounds, watch, window) = if short { (5, 10, 3) } else { (50, 600, 20) };
    for interval in [10, 50, 300].into_iter().filter(|_| wanted("detection")) {
        for tool in TOOLS {
            detection(tool, interval, if interval == 300 { rounds.min(20) } else { rounds });
        }
    }
    if wanted("stress") {
        false_downs(Duration::from_secs(number.unwrap_or(watch)));
    }
    let counts = number.map_or(vec![1, 100, 500], |only| vec![only as usize]);
    for count in counts.into_iter().filter(|_| wanted("processor")) {
        for tool in TOOLS.into_iter().filter(|tool| only.is_none_or(|only| only == *tool)) {
            footprint(tool, count, Duration::from_secs(window));
        }
    }
}

/// The neighbours' addresses.
fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 1 + (n / 250) as u8, 1 + (n % 250) as u8)
}

struct Lab {
    us: Host,
    them: Host,
}

impl Lab {
    fn new(neighbours: usize) -> Self {
        let private = ["/etc/frr", "/var/log"];
        let lab = Lab { us: Host::new("us", &private).unwrap(), them: Host::new("them", &private).unwrap() };
        let end = |host, interface, address| End { host, interface, address };
        connect(end(&lab.us, "uplink", US), end(&lab.them, "customer", address(0)), 16).unwrap();
        let more: String =
            (1..neighbours).map(|n| format!("address add {}/16 dev customer\n", address(n))).collect();
        lab.them.write("/run/addresses", more).unwrap();
        lab.them.run(&["ip", "-batch", "/run/addresses"]).unwrap();
        lab
    }
}

enum Tool {
    Announcerd(Node),
    Bird(Bird),
    Frr(Vec<Daemon>),
}

impl Tool {
    fn start(
        name: &str,
        host: &Host,
        local: Ipv4Addr,
        device: &str,
        remotes: &[Ipv4Addr],
        interval: u64,
    ) -> Self {
        match name {
            "announcerd" => {
                let check = |(n, a): (usize, &Ipv4Addr)| {
                    format!(
                        "[[check]]\nname = \"c{n}\"\ntype = \"bfd\"\nhost = \"{a}\"\nlocal_address = \"{local}\"\ninterval = \"{interval}ms\"\nmultiplier = 3\n"
                    )
                };
                let checks: String = remotes.iter().enumerate().map(check).collect();
                Tool::Announcerd(
                    Node::start(host, program(), &format!("[node]\nname = \"bench\"\n{checks}")).unwrap(),
                )
            }
            "BIRD" => {
                let line = |a: &Ipv4Addr| format!("neighbor {a} dev \"{device}\" local {local};\n");
                let neighbours: String = remotes.iter().map(line).collect();
                let config = format!(
                    "log stderr all;\nrouter id {local};\nprotocol device {{}}\nprotocol bfd b {{ debug {{ events }}; interface \"*\" {{ min rx interval {interval} ms; min tx interval {interval} ms; multiplier 3; }};\n{neighbours} }}\n"
                );
                Tool::Bird(Bird::start(host, &config).unwrap())
            }
            _ => {
                let line = |a: &Ipv4Addr| {
                    format!(
                        " peer {a} local-address {local} interface {device}\n  receive-interval {interval}\n  transmit-interval {interval}\n exit\n"
                    )
                };
                let peers: String = remotes.iter().map(line).collect();
                host.write("/etc/frr/frr.conf", format!("bfd\n{peers}exit\n")).unwrap();
                host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
                host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
                let start = |name: &&str| {
                    let mut command = Command::new(format!("/usr/lib/frr/{name}"));
                    let daemon = host.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
                    let asked = || host.run(&["vtysh", "-d", name, "-c", "show version"]).ok();
                    wait_for(name, LIMIT, asked).unwrap();
                    daemon
                };
                let daemons = ["zebra", "bfdd"].iter().map(start).collect();
                host.run(&["vtysh", "-b"]).unwrap();
                Tool::Frr(daemons)
            }
        }
    }

    fn pid(&mut self) -> Pid {
        match self {
            Tool::Announcerd(node) => node.daemon().pid(),
            Tool::Bird(bird) => bird.daemon().pid(),
            Tool::Frr(daemons) => daemons[1].pid(),
        }
    }

    /// How many sessions are Up, and how often one left Up.
    fn sessions(&self, host: &Host) -> (usize, u64) {
        match self {
            Tool::Announcerd(node) => {
                let status = node.status().unwrap();
                let up = status.bfd.iter().filter(|s| s.state == "Up").count();
                (up, status.bfd.iter().filter_map(|s| s.detail.as_ref()).map(|d| d.down).sum())
            }
            Tool::Bird(bird) => {
                let answer = bird.ask("show bfd sessions").unwrap_or_default();
                let up = answer.lines().filter(|l| l.split_whitespace().nth(2) == Some("Up")).count();
                // It counts nothing; but it logs each change where it is told to.
                let log = host.read("/run/bird/log");
                assert!(up == 0 || log.contains("to Up"), "BIRD does not log its sessions' changes:\n{log}");
                (up, log.lines().filter(|l| l.contains("Up to Down")).count() as u64)
            }
            Tool::Frr(_) => {
                let ask = |what: &str| -> serde_json::Value {
                    let command = format!("show bfd peers {what}json");
                    let answer = host.run(&["vtysh", "-d", "bfdd", "-c", &command]).unwrap_or_default();
                    serde_json::from_str(&answer).unwrap_or_default()
                };
                let (all, counters) = (ask(""), ask("counters "));
                let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
                let up = list(&all).iter().filter(|p| p["status"] == "up").count();
                (up, list(&counters).iter().filter_map(|c| c["session-down"].as_u64()).sum())
            }
        }
    }
}

/// The neighbours of the tool: our own pure sessions on one socket each.
struct Neighbours {
    mute: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    heard: std::sync::mpsc::Receiver<(Time, Time)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Neighbours {
    /// `heard` gets, once it is mute, the time of the last packet sent and that of the first Down that came after it.
    fn start(host: &Host, count: usize, interval: u64) -> Self {
        let sockets = host
            .in_network(|| {
                let bound = |n| -> std::io::Result<(UdpSocket, UdpSocket)> {
                    let receiving = UdpSocket::bind((address(n), 3784))?;
                    let sending = UdpSocket::bind((address(n), 49_152 + n as u16))?;
                    sending.set_ttl(255)?;
                    receiving.set_nonblocking(true)?;
                    Ok((receiving, sending))
                };
                Ok((0..count).map(|n| bound(n).unwrap()).collect::<Vec<_>>())
            })
            .unwrap();
        let (mute, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (sender, heard) = std::sync::mpsc::channel();
        let (muted, ended) = (mute.clone(), end.clone());
        let run = move || {
            let mut speaker = Speaker::new(1);
            for n in 0..count {
                let path = Path {
                    remote: IpAddr::V4(US),
                    local: Some(IpAddr::V4(address(n))),
                    device: None,
                    hops: Hops::Single,
                };
                let config = SessionConfig {
                    path,
                    interval: Duration::from_millis(interval),
                    multiplier: 3,
                    passive: false,
                    auth: None,
                };
                speaker.start(SessionId(n as u32), config, clock::now());
            }
            let (mut last, mut told) = (clock::now(), false);
            while !ended.load(Ordering::Relaxed) {
                let mut payload = [0; 64];
                for (n, (socket, _)) in sockets.iter().enumerate() {
                    while let Ok((len, _)) = socket.recv_from(&mut payload) {
                        let now = clock::now();
                        let octets = &payload[..len];
                        let is_mute = muted.load(Ordering::Relaxed);
                        let down = Packet::parse(octets).is_ok_and(|p| p.packet.state == State::Down);
                        if is_mute && down && !told {
                            told = true;
                            let _ = sender.send((last, now));
                        }
                        let datagram = Datagram {
                            source: IpAddr::V4(US),
                            destination: IpAddr::V4(address(n)),
                            interface: 1,
                            ttl: Some(255),
                            multihop: false,
                            payload: octets,
                            at: now,
                        };
                        let _ = speaker.receive(&datagram, now);
                    }
                }
                let now = clock::now();
                speaker.handle_timeout(now);
                let mut out = Vec::new();
                while let Some(id) = speaker.poll_transmit(now, &mut out) {
                    if !muted.load(Ordering::Relaxed) {
                        told = false;
                        last = clock::now();
                        let _ = sockets[id.0 as usize].1.send_to(&out, (US, 3784));
                    }
                    out.clear();
                }
                while speaker.poll_news().is_some() {}
                std::thread::sleep(Duration::from_micros(if count > 1 { 2000 } else { 100 }));
            }
        };
        let thread = std::thread::spawn(run);
        Neighbours { mute, end, heard, thread: Some(thread) }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn until_up(tool: &Tool, host: &Host, count: usize) {
    wait_for("the sessions", LIMIT, || (tool.sessions(host).0 == count).then_some(())).unwrap();
}

fn detection(name: &str, interval: u64, rounds: usize) {
    let lab = Lab::new(1);
    let neighbours = Neighbours::start(&lab.them, 1, interval);
    let tool = Tool::start(name, &lab.us, US, "uplink", &[address(0)], interval);
    let bound = Duration::from_millis(interval * 3);
    let mut over: Vec<f64> = Vec::new();
    for _ in 0..rounds {
        until_up(&tool, &lab.us, 1);
        // Until the intervals are agreed on.
        std::thread::sleep(Duration::from_millis(500 + interval * 5));
        neighbours.mute.store(true, Ordering::Relaxed);
        let (last, down) = neighbours.heard.recv_timeout(LIMIT).expect("Down");
        over.push(down.since(last).as_secs_f64() / bound.as_secs_f64() * 100.0 - 100.0);
        wait_for("down", LIMIT, || (tool.sessions(&lab.us).0 == 0).then_some(())).unwrap();
        neighbours.mute.store(false, Ordering::Relaxed);
    }
    over.sort_by(f64::total_cmp);
    let at = |share: f64| over[((over.len() - 1) as f64 * share) as usize];
    println!(
        "detection  {interval:>3} ms x 3  {name:<10}  over the bound: p50 {:+.1} %  p90 {:+.1} %  max {:+.1} %  ({rounds} times)",
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

/// A pair of each tool at each interval, all at once: under the same load and for the same time.
fn false_downs(watch: Duration) {
    let kinds = [10, 50].into_iter().flat_map(|interval| TOOLS.map(|name| (name, interval)));
    let mut pairs: Vec<Pair> = kinds.map(|(name, interval)| Pair::start(name, interval)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let seconds = watch.as_secs().to_string();
    let mut stress = Command::new("stress-ng")
        .args(["--cpu", "0", "--matrix", "0", "--timeout", &seconds, "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .expect("stress-ng is installed");
    let before: Vec<_> = pairs.iter_mut().map(|pair| (pair.downs(), pair.cpu())).collect();
    let began = Instant::now();
    assert!(stress.wait().unwrap().success());
    let took = began.elapsed().as_secs_f64();
    for (pair, (downs, cpu)) in pairs.iter_mut().zip(before) {
        let (name, interval) = (pair.name, pair.interval);
        let used = (pair.cpu() - cpu).as_secs_f64() / took;
        println!(
            "false downs  {interval:>3} ms x 3  {name:<10}  {} at both ends in {seconds} s of stress-ng on every core; {:.2} % of a core for both",
            pair.downs() - downs,
            used * 100.0
        );
        pair.punctuality();
    }
}

/// Two of a kind that watch each other.
struct Pair {
    name: &'static str,
    interval: u64,
    ours: Tool,
    theirs: Tool,
    lab: Lab,
}

impl Pair {
    fn start(name: &'static str, interval: u64) -> Self {
        let lab = Lab::new(1);
        let ours = Tool::start(name, &lab.us, US, "uplink", &[address(0)], interval);
        let theirs = Tool::start(name, &lab.them, address(0), "customer", &[US], interval);
        until_up(&ours, &lab.us, 1);
        until_up(&theirs, &lab.them, 1);
        Pair { name, interval, ours, theirs, lab }
    }

    fn downs(&self) -> u64 {
        self.ours.sessions(&self.lab.us).1 + self.theirs.sessions(&self.lab.them).1
    }

    fn cpu(&mut self) -> Duration {
        cpu(self.ours.pid()) + cpu(self.theirs.pid())
    }

    fn punctuality(&self) {
        let Tool::Announcerd(node) = &self.ours else { return };
        for detail in node.status().unwrap().bfd.into_iter().filter_map(|s| s.detail) {
            println!(
                "    our packets left late by p99 {} us, max {} us; gaps longer than agreed by p99 {} us, max {} us; forgiven {}",
                detail.lateness.p99_us,
                detail.lateness.max_us,
                detail.jitter.p99_us,
                detail.jitter.max_us,
                detail.forgiven
            );
        }
    }
}

fn footprint(name: &str, count: usize, window: Duration) {
    let lab = Lab::new(count);
    let _neighbours = Neighbours::start(&lab.them, count, 100);
    let remotes: Vec<Ipv4Addr> = (0..count).map(address).collect();
    let mut tool = Tool::start(name, &lab.us, US, "uplink", &remotes, 100);
    until_up(&tool, &lab.us, count);
    std::thread::sleep(Duration::from_secs(2));
    let before = (Instant::now(), cpu(tool.pid()));
    std::thread::sleep(window);
    let used = (cpu(tool.pid()) - before.1).as_secs_f64() / before.0.elapsed().as_secs_f64();
    println!("processor  {count:>3} sessions at 100 ms  {name:<10}  {:.2} % of a core", used * 100.0);
}
