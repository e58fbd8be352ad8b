//! The speakers, each with its fastest way to announce and withdraw a whole table on one command.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::{Bird, Daemon, Doing, Host, Node, host::find_program, wait_for};
use nix::unistd::Pid;

use crate::common::*;
use crate::grpc::{self, AddPathStream};

/// Prefix `n` of the benchmark.
pub fn prefix(n: u32) -> Ipv6Addr {
    Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(n) << 64))
}

/// Something that announces its table on command, and withdraws it.
pub trait Speaker {
    /// Gives the command; need not wait until it is done.
    fn tell(&mut self, announce: bool);
    /// Its processes.
    fn pids(&mut self) -> Vec<Pid>;
}

/// Starts one on a host, with a table of so many prefixes, each with a MED of its own or none.
pub type Start = fn(&Host, u32, bool) -> Box<dyn Speaker>;

/// In the order of the report.
pub const ALL: [(&str, Start); 6] = [
    ("limit", limit),
    ("announcerd", announcer),
    ("BIRD", bird),
    ("GoBGP", gobgp),
    ("ExaBGP", exabgp),
    ("FRR", frr),
];

struct Limit(Daemon, UnixStream);

/// A process that writes octets made before (`limit.rs`).
fn limit(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    let program = copy_self(host, "/run/limit");
    let mut command = Command::new(program);
    command.args(["limit", &count.to_string(), &distinct.to_string()]);
    let daemon = host.spawn(&mut command).unwrap();
    let path = host.path("/run/limit.sock");
    let stream = wait_for("the writer", LIMIT, || UnixStream::connect(&path).ok()).unwrap();
    Box::new(Limit(daemon, stream))
}

impl Speaker for Limit {
    fn tell(&mut self, announce: bool) {
        self.1.write_all(&[u8::from(announce)]).unwrap();
    }

    fn pids(&mut self) -> Vec<Pid> {
        vec![self.0.pid()]
    }
}

const SESSION: &str = r#"
[node]
router_id = "203.0.113.2"
[[bgp]]
name = "sink"
peer = "2001:db8:ffff::1"
peer_as = 64500
local_as = 64501
connect_retry = "1s"
[[check]]
name = "primary"
type = "ping"
host = "127.0.0.1"
[[instance]]
name = "bulk"
primary = { checks = ["primary"] }
drain = "0s"
"#;

/// The daemon as it is: a file of prefixes, and an operator's `force` over the control socket.
fn announcer(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    let node = node(host, count, distinct);
    Box::new((node, terminal(host, "/run/announcerd/control.sock")))
}

/// A connection for commands that stays; nobody reads the answers.
fn terminal(host: &Host, socket: &str) -> UnixStream {
    let stream = UnixStream::connect(host.path(socket)).unwrap();
    let mut answers = stream.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    stream
}

pub fn node(host: &Host, count: u32, distinct: bool) -> Node {
    let mut config = SESSION.to_owned();
    if distinct {
        for n in 0..count {
            let to = prefix(n);
            writeln!(config, "[[instance.announce]]\nprefixes = [\"{to}/64\"]\nmaster = {{ med = {n} }}")
                .unwrap();
        }
    } else {
        let mut lines = String::new();
        (0..count).for_each(|n| writeln!(lines, "{}/64", prefix(n)).unwrap());
        host.write("/run/prefixes", lines).unwrap();
        config += "[[instance.announce]]\nprefixes_file = \"/run/prefixes\"\n";
    }
    let node = Node::start(host, program(), &config).unwrap();
    node.wait_state("bulk", State::Backup, LIMIT).unwrap();
    node
}

impl Speaker for (Node, UnixStream) {
    fn tell(&mut self, announce: bool) {
        let state = if announce { "master" } else { "backup" };
        let line = format!("{{\"command\":\"force\",\"instance\":\"bulk\",\"state\":\"{state}\"}}\n");
        self.1.write_all(line.as_bytes()).unwrap();
    }

    fn pids(&mut self) -> Vec<Pid> {
        vec![self.0.daemon().pid()]
    }
}

const BIRD: &str = "
log stderr all;
router id 203.0.113.2;
protocol device {}
protocol bgp sink {
    local 2001:db8:ffff::2 as 64501;
    neighbor 2001:db8:ffff::1 as 64500;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 1;
    ipv6 { import none; export where source = RTS_STATIC; };
}
protocol static bulk {
    disabled;
    ipv6 {};
";

/// `enable` and `disable` of a static protocol: the fastest of all ways that BIRD has.
fn bird(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    let mut config = BIRD.to_owned();
    for n in 0..count {
        let med = if distinct { format!("{{ bgp_med = {n}; }}") } else { String::new() };
        writeln!(config, "route {}/64 blackhole {med};", prefix(n)).unwrap();
    }
    config += "}\n";
    let bird = Bird::start(host, &config).unwrap();
    Box::new((bird, terminal(host, "/run/bird/bird.ctl")))
}

impl Speaker for (Bird, UnixStream) {
    fn tell(&mut self, announce: bool) {
        let line: &[u8] = if announce { b"enable bulk\n" } else { b"disable bulk\n" };
        self.1.write_all(line).unwrap();
    }

    fn pids(&mut self) -> Vec<Pid> {
        vec![self.0.daemon().pid()]
    }
}

struct GoBgp {
    daemon: Daemon,
    stream: Option<AddPathStream>,
    /// What to send, for withdraw and announce.
    messages: [Arc<Vec<Vec<u8>>>; 2],
    sending: Option<JoinHandle<AddPathStream>>,
}

const GOBGP: &str = r#"
[global.config]
as = 64501
router-id = "203.0.113.2"
[[neighbors]]
[neighbors.config]
neighbor-address = "2001:db8:ffff::1"
peer-as = 64500
[neighbors.timers.config]
connect-retry = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"#;

/// One gRPC stream, open all the time, with messages made before.
fn gobgp(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    host.write("/run/gobgpd.toml", GOBGP).unwrap();
    let mut command = Command::new(find_program("gobgpd", "gobgpd").unwrap());
    command.args(["-f", "/run/gobgpd.toml", "--pprof-disable", "--api-hosts=127.0.0.1:50051"]);
    let daemon = host.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    let connect = || host.in_network(|| TcpStream::connect("127.0.0.1:50051").doing("connecting")).ok();
    let stream = AddPathStream::open(wait_for("gobgpd", LIMIT, connect).unwrap()).unwrap();
    let messages = [false, true].map(|announce| Arc::new(grpc::messages(count, distinct, announce)));
    Box::new(GoBgp { daemon, stream: Some(stream), messages, sending: None })
}

impl Speaker for GoBgp {
    fn tell(&mut self, announce: bool) {
        if let Some(before) = self.sending.take() {
            self.stream = Some(before.join().unwrap());
        }
        let mut stream = self.stream.take().unwrap();
        let messages = Arc::clone(&self.messages[usize::from(announce)]);
        self.sending = Some(std::thread::spawn(move || {
            // Fails when gobgpd is killed because it takes too long.
            let _ = stream.send(&messages);
            stream
        }));
    }

    fn pids(&mut self) -> Vec<Pid> {
        vec![self.daemon.pid()]
    }
}

struct ExaBgp {
    daemon: Daemon,
    commands: PathBuf,
    /// What to write, for announce and withdraw.
    lines: [Arc<String>; 2],
}

const EXABGP: &str = "
process bulk {
    run /bin/sh -c \"exec cat /run/commands\";
    encoder text;
}
neighbor 2001:db8:ffff::1 {
    router-id 203.0.113.2;
    local-address 2001:db8:ffff::2;
    local-as 64501;
    peer-as 64500;
    group-updates true;
    family { ipv6 unicast; }
    api { processes [ bulk ]; }
}
";

/// Its API, many prefixes to a line where they share attributes, and no answers.
fn exabgp(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    host.write("/run/exabgp.conf", EXABGP).unwrap();
    host.run(&["mkfifo", "/run/commands"]).unwrap();
    let line = |verb: &str, numbers: &[u32]| -> String {
        let med = if distinct { format!(" med {}", numbers[0]) } else { String::new() };
        let nlri: Vec<String> = numbers.iter().map(|n| format!("{}/64", prefix(*n))).collect();
        format!("{verb} attributes next-hop 2001:db8:ffff::2{med} nlri {}\n", nlri.join(" "))
    };
    let numbers: Vec<u32> = (0..count).collect();
    let lines = ["withdraw", "announce"].map(|verb| {
        let all: String =
            numbers.chunks(if distinct { 1 } else { 100 }).map(|some| line(verb, some)).collect();
        Arc::new(all)
    });
    let log = File::create(host.path("/run/exabgp.log")).unwrap();
    let mut command = Command::new(find_program("exabgp", "exabgp").unwrap());
    command.arg("/run/exabgp.conf");
    for (key, value) in
        [("daemon.user", "root"), ("daemon.drop", "false"), ("api.cli", "false"), ("api.ack", "false")]
    {
        command.env(format!("exabgp.{key}"), value);
    }
    let daemon = host.spawn(command.stdout(log.try_clone().unwrap()).stderr(log)).unwrap();
    Box::new(ExaBgp { daemon, commands: host.path("/run/commands"), lines })
}

impl Speaker for ExaBgp {
    fn tell(&mut self, announce: bool) {
        let lines = Arc::clone(&self.lines[usize::from(announce)]);
        // Fails while ExaBGP has not started its reader; it starts another one after this one's end.
        let open = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&self.commands).ok();
        let pipe = wait_for("ExaBGP's reader", LIMIT, open).unwrap();
        let flags = nix::fcntl::OFlag::empty();
        nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        // The pipe takes a part at a time. It breaks when ExaBGP is killed: that ends the thread.
        std::thread::spawn(move || {
            let mut pipe = pipe;
            let _ = pipe.write_all(lines.as_bytes());
            // Kept open: at its end ExaBGP would think that the reader failed.
            std::mem::forget(pipe);
        });
    }

    fn pids(&mut self) -> Vec<Pid> {
        family(self.daemon.pid())
    }
}

struct Frr {
    daemons: Vec<Daemon>,
    terminal: UnixStream,
}

const FRR: &str = "
frr defaults traditional
router bgp 64501
 bgp router-id 203.0.113.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 2001:db8:ffff::1 remote-as 64500
 neighbor 2001:db8:ffff::1 timers connect 1
 neighbor 2001:db8:ffff::1 advertisement-interval 0
 address-family ipv6 unicast
  neighbor 2001:db8:ffff::1 activate
 exit-address-family
exit
";

/// `redistribute kernel`, switched on and off: Debian's FRR has no sharpd, and takes no bulk otherwise.
fn frr(host: &Host, count: u32, distinct: bool) -> Box<dyn Speaker> {
    assert!(!distinct, "FRR has no way");
    host.write("/etc/frr/frr.conf", FRR).unwrap();
    host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n").unwrap();
    host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"]).unwrap();
    let mut batch = String::new();
    (0..count).for_each(|n| writeln!(batch, "route add blackhole {}/64", prefix(n)).unwrap());
    host.write("/run/batch", batch).unwrap();
    host.run(&["ip", "-6", "-batch", "/run/batch"]).unwrap();
    let start = |name: &&str| {
        let mut command = Command::new(format!("/usr/lib/frr/{name}"));
        let daemon = host.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        wait_for(name, LIMIT, || host.run(&["vtysh", "-d", name, "-c", "show version"]).ok()).unwrap();
        daemon
    };
    let daemons = ["zebra", "bgpd"].iter().map(start).collect();
    host.run(&["vtysh", "-b"]).unwrap();
    let known = || {
        let answer = host.run(&["vtysh", "-d", "zebra", "-c", "show ipv6 route summary"]).unwrap_or_default();
        let kernel = answer.lines().find_map(|line| line.strip_prefix("kernel"))?;
        let routes: u32 = kernel.split_whitespace().next()?.parse().ok()?;
        (routes >= count).then_some(())
    };
    wait_for("zebra's table", LIMIT, known).unwrap();
    let terminal = UnixStream::connect(host.path("/run/frr/bgpd.vty")).unwrap();
    let mut frr = Frr { daemons, terminal };
    for line in ["enable", "configure terminal", "router bgp 64501", "address-family ipv6 unicast"] {
        frr.say(line);
        frr.hear();
    }
    Box::new(frr)
}

impl Frr {
    fn say(&mut self, line: &str) {
        self.terminal.write_all(format!("{line}\0").as_bytes()).unwrap();
    }

    /// An answer ends with three zeros and a return code.
    fn hear(&mut self) {
        let (mut octet, mut zeros) = ([0], 0);
        while zeros < 3 {
            self.terminal.read_exact(&mut octet).unwrap();
            zeros = if octet == [0] { zeros + 1 } else { 0 };
        }
        self.terminal.read_exact(&mut octet).unwrap();
        assert_eq!(octet, [0], "FRR refuses");
    }
}

impl Speaker for Frr {
    fn tell(&mut self, announce: bool) {
        self.say(if announce { "redistribute kernel" } else { "no redistribute kernel" });
        self.hear();
    }

    fn pids(&mut self) -> Vec<Pid> {
        self.daemons.iter().map(Daemon::pid).collect()
    }
}
