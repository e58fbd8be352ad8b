//! What we send, as another's dissector sees it: tshark finds nothing malformed and has no complaint, in sessions with
//! each of the peers, for every kind of message.

use std::process::{Command, Stdio};

use announcerd::demo::lab::host::find_program;
use announcerd::demo::lab::{Daemon, Host, Node, wait_for};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Pair, ctl, until};
use crate::{bird, exabgp, frr, gobgp, openbgpd};

const FILE: &str = "/run/capture";
const LOG: &str = "/run/tcpdump.log";

/// What we sent: address of either transport.
const OURS: &str = "bgp && (ip.src == 203.0.113.2 || ipv6.src == 2001:db8::2)";
/// Malformed, or an expert's warning (0x600000) or error (0x800000).
const COMPLAINTS: &str = "(_ws.malformed || _ws.expert.severity >= 0x00600000)";

/// Everything on our cable, from now on.
struct Capture<'a> {
    host: &'a Host,
    daemon: Daemon,
}

impl<'a> Capture<'a> {
    fn start(host: &'a Host) -> Self {
        let mut command = Command::new(find_program("tcpdump", "tcpdump").unwrap());
        command.args([
            "-i",
            "uplink",
            "-Z",
            "root",
            "-U",
            "--immediate-mode",
            "-s",
            "0",
            "-w",
            FILE,
            "tcp port 179",
        ]);
        let log = std::fs::File::create(host.path(LOG)).unwrap();
        let daemon = host.spawn(command.stdout(Stdio::null()).stderr(log)).unwrap();
        wait_for("tcpdump", LIMIT, || host.read(LOG).contains("listening on").then_some(())).unwrap();
        Capture { host, daemon }
    }

    /// One line for each message's types among the packets that the filter takes.
    fn ask(&self, filter: &str, field: &str) -> Vec<String> {
        tshark(self.host.path(FILE).to_str().unwrap(), filter, field)
    }

    /// Ends it, when our last words are in it; nobody complains of us, and `kinds` of messages were sent.
    fn judge(mut self, node: &Node, kinds: &[&str]) {
        // Types of messages: OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH.
        until("the NOTIFICATION in the capture", node, || {
            !self.ask(&format!("{OURS} && bgp.type == 3"), "frame.number").is_empty()
        });
        assert!(self.daemon.stop(LIMIT));
        let complaints = self.ask(&format!("{OURS} && {COMPLAINTS}"), "_ws.expert.message");
        assert!(
            complaints.is_empty(),
            "{complaints:?}\n{:#?}",
            self.ask(&format!("{OURS} && {COMPLAINTS}"), "tcp.payload")
        );
        for kind in ["bgp.type == 1", "bgp.type == 2", "bgp.type == 4"].iter().chain(kinds) {
            assert!(
                !self.ask(&format!("{OURS} && ({kind})"), "frame.number").is_empty(),
                "nothing with {kind} was sent"
            );
        }
    }
}

fn tshark(file: &str, filter: &str, field: &str) -> Vec<String> {
    let mut command = Command::new(find_program("tshark", "tshark").unwrap());
    // TCP's own analysis (repeated segments and their like) says nothing of our messages.
    command.args(["-n", "-r", file, "-o", "tcp.analyze_sequence_numbers:FALSE", "-Y", filter]);
    command.args(["-T", "fields", "-e", field]).stderr(Stdio::piped());
    let answer = command.output().unwrap();
    // The file may end in the middle of a packet while it is being written.
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success() || said.contains("cut short"), "{said}");
    String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned).collect()
}

/// The session comes up, all is announced, withdrawn and announced again; `more` does what this peer can; maintenance,
/// and a stop with our words in it.
fn life(pair: &Pair, node: &mut Node, more: impl FnOnce(&Node)) {
    pair.wait_advertised(node);
    pair.healthy(false);
    let advertised = |count| crate::rig::peer_status(&pair.us, "peer").is_some_and(|s| s.advertised == count);
    until("the withdraw", node, || advertised(0));
    pair.healthy(true);
    pair.wait_advertised(node);
    more(node);
    ctl(&pair.us, &["maintenance", "on"]);
    until("the drain's end", node, || advertised(0));
    ctl(&pair.us, &["maintenance", "off"]);
    pair.wait_advertised(node);
    node.daemon().signal(Signal::SIGTERM).unwrap();
    assert!(node.daemon().wait(LIMIT).unwrap().success());
}

const V4: &str = "bgp.nlri_prefix == 198.51.100.0";
const V6: &str = "bgp.mp_reach_nlri_ipv6_prefix == 2001:db8:100::";
const COMMUNITIES: [&str; 3] =
    ["bgp.update.path_attribute.community_as == 64501", "bgp.ext_communities", "bgp.large_communities"];
/// RFC 9003.
const SHUTDOWN: &str = "bgp.notify.minor_error_cease == 2 && bgp.notify.communication contains \"stops\"";

/// BIRD agrees to everything: graceful restart, extended messages, enhanced refresh, roles, IPv4 by way of IPv6.
#[test]
fn bird_with_every_capability() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let bird =
        bird::over_ipv6(&pair, "local role provider; enable extended messages on; graceful restart on;");
    let mut node = pair.node_to(
        "2001:db8::1",
        "next_hop = \"2001:db8::2\"\nrole = \"customer\"\ngraceful_restart = { restart_time = \"60s\" }",
    );
    life(&pair, &mut node, |node| {
        bird.ask("reload in announcerd").unwrap();
        let borr = format!("{OURS} && bgp.route_refresh.subtype == 1");
        until("BoRR", node, || !capture.ask(&borr, "frame.number").is_empty());
        let eorr = format!("{OURS} && bgp.route_refresh.subtype == 2");
        until("EoRR", node, || !capture.ask(&eorr, "frame.number").is_empty());
    });
    let capabilities = [1, 2, 5, 6, 9, 64, 65, 70].map(|code| format!("bgp.cap.type == {code}"));
    let mut kinds: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    kinds.extend(COMMUNITIES);
    kinds.extend([V6, SHUTDOWN, "bgp.type == 5"]);
    capture.judge(&node, &kinds);
}

#[test]
fn bird_over_ipv4() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let _bird = bird::bird(&pair, "");
    let mut node = pair.node("");
    life(&pair, &mut node, |_| {});
    capture.judge(&node, &[&COMMUNITIES[..], &[V4, V6, SHUTDOWN]].concat());
}

#[test]
fn frr() {
    let pair = Pair::new(&frr::PRIVATE);
    let capture = Capture::start(&pair.us);
    let _frr = frr::neighbour(&pair, "");
    let mut node = pair.node("");
    life(&pair, &mut node, |node| frr::asks_again(&pair, node));
    capture.judge(&node, &[&COMMUNITIES[..], &[V4, V6, SHUTDOWN]].concat());
}

#[test]
fn gobgp() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let _gobgpd = gobgp::gobgpd(&pair, true);
    let mut node = pair.node("");
    life(&pair, &mut node, |_| {});
    capture.judge(&node, &[&COMMUNITIES[..], &[V4, V6, SHUTDOWN]].concat());
}

#[test]
fn exabgp() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let _exabgp = exabgp::exabgp(&pair, true);
    let mut node = pair.node("");
    life(&pair, &mut node, |_| {});
    capture.judge(&node, &[&COMMUNITIES[..], &[V4, V6, SHUTDOWN]].concat());
}

#[test]
fn openbgpd() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let mut node = pair.node("");
    let _bgpd = openbgpd::bgpd(&pair, true);
    life(&pair, &mut node, |node| openbgpd::asks_again(&pair, node));
    capture.judge(&node, &[&COMMUNITIES[..], &[V4, V6, SHUTDOWN]].concat());
}

/// A refusal is well formed, too: RFC 9234's Role Mismatch.
#[test]
fn a_refusal() {
    let pair = Pair::new(&[]);
    let capture = Capture::start(&pair.us);
    let _bird = bird::bird(&pair, "local role customer;");
    let node = pair.node("role = \"customer\"");
    let refused = format!("{OURS} && bgp.type == 3");
    until("our NOTIFICATION", &node, || !capture.ask(&refused, "frame.number").is_empty());
    let complaints = capture.ask(&format!("{OURS} && {COMPLAINTS}"), "_ws.expert.message");
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// The judge itself: it sees an UPDATE whose attribute is longer than the message.
#[test]
fn what_is_malformed_would_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (text, file) = (folder.path().join("hex"), folder.path().join("pcap"));
    let octets = [&[0xff; 16][..], &[0, 30, 2, 0, 0, 0, 7, 0x40, 2, 40, 2, 1, 0, 0]].concat();
    let hex: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    std::fs::write(&text, format!("000000 {}\n", hex.join(" "))).unwrap();
    let mut command = Command::new(find_program("text2pcap", "tshark").unwrap());
    command.args(["-q", "-4", "203.0.113.2,203.0.113.1", "-T", "40000,179"]).args([&text, &file]);
    assert!(command.status().unwrap().success());
    assert!(!tshark(file.to_str().unwrap(), &format!("{OURS} && {COMPLAINTS}"), "frame.number").is_empty());
}
