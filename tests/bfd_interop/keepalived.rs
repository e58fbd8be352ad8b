//! keepalived's BFD (`bfd_instance`, which `track_bfd` follows).

use std::fs::File;
use std::process::Command;

use announcerd::demo::lab::{Daemon, Host, host::find_program};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Pair, THEM, bfd, check, detail, until, until_agreed, until_up};

const FILE: &str = "/etc/keepalived/keepalived.conf";
const LOG: &str = "/run/keepalived.log";

/// `timing`: lines of its `bfd_instance`.
fn config(timing: &str) -> String {
    format!(
        "
global_defs {{ router_id them }}
bfd_instance us {{
    neighbor_ip 203.0.113.2
    source_ip 203.0.113.1
    idle_tx 1000
    {timing}
}}
{VRRP}"
    )
}

const VRRP: &str = "
vrrp_instance vi {
    state BACKUP
    interface customer
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress { 192.0.2.99/32 dev lo }
    track_bfd { us weight 0 }
}
";

fn start_it(pair: &Pair, timing: &str) -> Daemon {
    start_with(pair, &config(timing))
}

/// In real time, as [`crate::rig::in_real_time`] does for others; by its own rule the kernel would kill it for 10 ms of work.
pub fn start_in_real_time(pair: &Pair, timing: &str) -> Daemon {
    let globals = "global_defs {\n bfd_rt_priority 10\n bfd_rlimit_rttime 5000000\n";
    start_with(pair, &config(timing).replacen("global_defs {", globals, 1))
}

/// What it says goes to a file, from its first word on.
fn start_with(pair: &Pair, config: &str) -> Daemon {
    pair.them.write(FILE, config).unwrap();
    let program = find_program("keepalived", "keepalived").unwrap();
    pair.them.write(LOG, "").unwrap();
    let log = || File::options().append(true).open(pair.them.path(LOG)).unwrap();
    let mut command = Command::new(program);
    command.args(["-n", "-l", "-f", FILE]).stdout(log()).stderr(log());
    pair.them.spawn(&mut command).unwrap()
}

fn log(pair: &Pair) -> String {
    std::fs::read_to_string(pair.them.path(LOG)).unwrap()
}

fn vrrp_state(host: &Host) -> bool {
    host.run(&["ip", "address", "show", "dev", "lo"]).is_ok_and(|a| a.contains("192.0.2.99"))
}

/// Up each way, intervals agreed on, keepalived follows our death by `track_bfd`, and we its.
#[test]
fn up_and_down_each_way() {
    let pair = Pair::new();
    let mut keepalived = start_it(&pair, "min_rx 50\nmin_tx 50\nmultiplier 3");
    let mut node = pair.node(&format!("host = \"{THEM}\"\ninterval = \"50ms\"\nmultiplier = 3"));
    until_up(&node);
    until_agreed(&node, 50_000, 50_000);
    until("keepalived to be MASTER", &node, || vrrp_state(&pair.them));

    // We die without a word: keepalived's track_bfd makes FAULT of it.
    node.daemon().signal(Signal::SIGKILL).unwrap();
    let node = {
        let _ = node.daemon().wait(LIMIT);
        until("keepalived to notice", &node, || !vrrp_state(&pair.them));
        node.restart().unwrap();
        node
    };
    until_up(&node);
    until("keepalived to be MASTER again", &node, || vrrp_state(&pair.them));

    keepalived.kill();
    until("down", &node, || check(&node).verdict == "down");
    assert!(bfd(&node).state == "Down");
}

/// Intervals change on either side by a Poll Sequence, and nothing goes down for it; we leave by AdminDown, and it by silence.
#[test]
fn polls_and_admin_down() {
    let pair = Pair::new();
    let keepalived = start_it(&pair, "min_rx 200\nmin_tx 200\nmultiplier 5");
    let lines = |interval: u32| format!("host = \"{THEM}\"\ninterval = \"{interval}ms\"\nmultiplier = 5");
    let node = pair.node(&lines(100));
    until_up(&node);
    until_agreed(&node, 200_000, 200_000);
    assert_eq!(detail(&node).detection_time_us, 1_000_000);
    // Our Poll has to find its Final.
    pair.reload(&lines(400));
    until_agreed(&node, 400_000, 400_000);
    pair.them.write(FILE, config("min_rx 600\nmin_tx 500\nmultiplier 5")).unwrap();
    keepalived.signal(Signal::SIGHUP).unwrap();
    until_agreed(&node, 600_000, 500_000);
    assert_eq!(detail(&node).down, 0, "{:?}", bfd(&node));

    // Ours: the check goes, and its session with it. To keepalived that is no failure (RFC 5882 section 3.2).
    until("keepalived to be MASTER", &node, || vrrp_state(&pair.them));
    pair.reload("host = \"203.0.113.99\"");
    until("keepalived to hear of it", &node, || {
        log(&pair).contains("Remote diagnostic - Administratively Down")
    });
    pair.reload(&lines(400));
    until_up(&node);
    assert!(vrrp_state(&pair.them) && !log(&pair).contains("Entering FAULT STATE"), "{}", log(&pair));

    // keepalived 2.2 stops without a word: that is silence, and no AdminDown.
    keepalived.signal(Signal::SIGTERM).unwrap();
    until("down", &node, || check(&node).verdict == "down");
    let row = bfd(&node);
    assert_eq!(
        (row.state.as_str(), row.diagnostic.as_str()),
        ("Down", "Control Detection Time Expired"),
        "{row:?}"
    );
}
