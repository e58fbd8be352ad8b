//! keepalived's BFD (`bfd_instance`, which `track_bfd` follows).

use announcerd::demo::lab::{Host, host::find_program};
use nix::sys::signal::Signal;

use crate::rig::{LIMIT, Pair, THEM, bfd, check, start, until, until_agreed, until_up};

const CONFIG: &str = "
global_defs { router_id them }
bfd_instance us {
    neighbor_ip 203.0.113.2
    source_ip 203.0.113.1
    min_rx 50
    min_tx 50
    idle_tx 1000
    multiplier 3
}
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

fn vrrp_state(host: &Host) -> bool {
    host.run(&["ip", "address", "show", "dev", "lo"]).is_ok_and(|a| a.contains("192.0.2.99"))
}

/// Up each way, intervals agreed on, keepalived follows our death by `track_bfd`, and we its.
#[test]
fn up_and_down_each_way() {
    let pair = Pair::new();
    pair.them.write("/etc/keepalived/keepalived.conf", CONFIG).unwrap();
    let program = find_program("keepalived", "keepalived").unwrap();
    let words = [program.to_str().unwrap(), "-n", "-l", "-f", "/etc/keepalived/keepalived.conf"];
    let mut keepalived = start(&pair.them, &words, || true);
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
