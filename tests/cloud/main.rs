//! conf/cloud-route-table.toml with its hook, by the real `aws` against an endpoint of the test's own: ten bad pings
//! switch the cloud's route tables to the VPN, and back.

mod ec2;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Host, Node, wait_for};
use ec2::{Ec2, Trouble};
use toml::{Table, Value};

/// The tool takes a second for each call where nothing else runs.
const LIMIT: Duration = Duration::from_secs(90);
const HOOK: &str = "/usr/local/bin/cloud-route-table.sh";
const SETTINGS: &str = "/usr/local/etc/cloud-route-table.env";
// As in conf/cloud-route-table.env.
const A: &str = "tgw-rtb-0a0a0a0a0a0a0a0a0";
const B: &str = "tgw-rtb-0b0b0b0b0b0b0b0b0";
const VPN: &str = "tgw-attach-0d0d0d0d0d0d0d0d0";
const CLOUD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 8000);

/// This machine with the hook and its settings, the far end of the line, and the cloud behind the uplink.
struct Lab {
    us: Host,
    line: Host,
    cloud: Ec2,
    _internet: Host,
}

impl Lab {
    /// `settings` come after those of the example.
    fn new(settings: &str) -> Self {
        let us = Host::new("site-1", &["/usr/local/bin", "/usr/local/etc"]).unwrap();
        let (line, internet) = (Host::new("line", &[]).unwrap(), Host::new("internet", &[]).unwrap());
        let end = |host, interface, address: [u8; 4]| End { host, interface, address: address.into() };
        wire::connect(end(&us, "ens4", [198, 18, 0, 2]), end(&line, "site", [198, 18, 0, 1]), 24).unwrap();
        wire::connect(end(&us, "ens3", [203, 0, 113, 2]), end(&internet, "site", [203, 0, 113, 1]), 24)
            .unwrap();
        wire::cuttable(&line).unwrap();
        us.write(HOOK, include_str!("../../conf/cloud-route-table.sh")).unwrap();
        std::fs::set_permissions(us.path(HOOK), std::fs::Permissions::from_mode(0o755)).unwrap();
        let example = include_str!("../../conf/cloud-route-table.env");
        let own = format!(
            "ENDPOINT_URL=http://{CLOUD}\nAWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\nAGAIN_SECONDS=0\n"
        );
        us.write(SETTINGS, format!("{example}\n{own}{settings}\n")).unwrap();
        let cloud = Ec2::start(&internet, CLOUD);
        Lab { us, line, cloud, _internet: internet }
    }

    /// The daemon with the example, its waiting cut short (probes every 300 ms, two seconds until failback), and with
    /// what the test wants otherwise.
    fn daemon(&self, edit: impl FnOnce(&mut Table)) -> Node {
        let mut config: Table = include_str!("../../conf/cloud-route-table.toml").parse().unwrap();
        for check in tables(&mut config, "check") {
            check.insert("interval".into(), "300ms".into());
            check.insert("timeout".into(), "290ms".into());
        }
        let instance = tables(&mut config, "instance").next().unwrap();
        instance.insert("failback_delay".into(), "2s".into());
        edit(instance);
        Node::start(&self.us, Path::new(env!("CARGO_BIN_EXE_announcerd")), &config.to_string()).unwrap()
    }

    /// The hook by hand; what it said, whether it succeeded or not.
    fn hook(&self, way: &str) -> Result<String, String> {
        self.us.run(&[HOOK, way]).map_err(|e| e.to_string())
    }

    /// Waits until both tables' references point there.
    fn wait_both(&self, node: &Node, wanted: Option<&str>) {
        self.until(&format!("both tables at {wanted:?}"), node, || {
            [A, B].iter().all(|table| self.cloud.attachment(table).as_deref() == wanted)
        });
    }

    fn until(&self, what: &str, node: &Node, mut so: impl FnMut() -> bool) {
        wait_for(what, LIMIT, || so().then_some(())).unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
    }

    /// Waits until the scripts of `seq`-th transition have ended.
    fn wait_notified(&self, node: &Node, transition: usize) {
        self.until("the end of the scripts", node, || {
            node.events().unwrap().get(transition).is_some_and(|e| e.timeline_us.notify_done.is_some())
        });
    }
}

fn tables<'a>(config: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Table> {
    let list = config.get_mut(key).and_then(Value::as_array_mut).expect("an array of tables");
    list.iter_mut().filter_map(Value::as_table_mut)
}

/// The example's story. On the way there the endpoint refuses one of two changes, twice: the hook is a failure until
/// both tables are switched, and does nothing twice.
#[test]
fn a_dead_line_switches_the_tables_and_a_well_one_switches_them_back() {
    let lab = Lab::new("");
    let node = lab.daemon(|_| {});
    // The state after the start is told as well: there is nothing to change, which is made sure of.
    lab.wait_notified(&node, 0);
    assert_eq!(lab.cloud.calls(A), ["Get", "Get"]);
    assert_eq!(lab.cloud.calls(B), ["Get", "Get"]);

    lab.cloud.trouble("Create", B, Trouble::Fails);
    lab.cloud.trouble("Create", B, Trouble::Fails);
    wire::cut(&lab.line, "site").unwrap();
    lab.wait_both(&node, Some(VPN));
    lab.wait_notified(&node, 1);
    assert_eq!(lab.cloud.calls(A), ["Get", "Create", "Get", "Get", "Get", "Get", "Get"], "{}", node.log());
    assert_eq!(lab.cloud.calls(B), ["Get", "Create", "Get", "Create", "Get", "Create", "Get"]);
    let event = &node.events().unwrap()[1];
    assert_eq!(event.to.word(), "MASTER");
    assert!(event.reason.contains("10 failures"), "{}", event.reason);

    wire::mend(&lab.line, "site").unwrap();
    lab.wait_both(&node, None);
    lab.wait_notified(&node, 2);
    assert_eq!(lab.cloud.calls(A), ["Get", "Delete", "Get"], "{}", node.log());
    assert_eq!(lab.cloud.calls(B), ["Get", "Delete", "Get"]);
}

/// A call that never ends: the whole hook is killed at `notify_timeout`, and its next try does the rest.
#[test]
fn a_hook_that_hangs_is_killed_and_tried_again() {
    let lab = Lab::new(&format!("TABLES={A}\nREAD_SECONDS=120"));
    lab.cloud.trouble("Create", A, Trouble::IsDoneInSilence);
    let node = lab.daemon(|instance| {
        instance.insert("notify_timeout".into(), "12s".into());
        // The story before is the other test's.
        instance.remove("notify_backup");
    });
    lab.until("BACKUP", &node, || node.state("cloud-route").is_ok_and(|s| s.word() == "BACKUP"));
    wire::cut(&lab.line, "site").unwrap();
    lab.wait_notified(&node, 1);
    assert!(node.log().contains("was killed: it had not ended after notify_timeout, 12s"), "{}", node.log());
    assert_eq!(lab.cloud.attachment(A).as_deref(), Some(VPN));
    let creates = lab.cloud.calls(A).into_iter().filter(|call| call == "Create").count();
    assert_eq!(creates, 1, "what was done in silence is not done twice");
}

/// A promise that was not kept is a failure, however it was answered.
#[test]
fn the_hook_believes_what_it_sees() {
    let lab = Lab::new(&format!("TABLES={A}\nSETTLE_SECONDS=2"));
    lab.cloud.trouble("Create", A, Trouble::IsForgotten);
    let said = lab.hook("vpn").unwrap_err();
    assert!(said.contains(&format!("{A}: is still none, not {VPN}")), "{said}");
    assert_eq!(lab.cloud.calls(A).iter().filter(|call| *call == "Create").count(), 1);
    assert!(lab.cloud.is_calm());
}

/// No answer within the time is a failure; so is a reference that somebody else made, and it is left alone.
#[test]
fn the_hook_is_bounded_and_leaves_alone_what_others_made() {
    let lab = Lab::new(&format!("TABLES={A}\nREAD_SECONDS=3"));
    lab.cloud.trouble("Get", A, Trouble::Hangs);
    let said = lab.hook("vpn").unwrap_err();
    assert!(said.contains(&format!("{A}: cannot be looked at")), "{said}");
    assert_eq!(lab.cloud.calls(A), ["Get"]);

    lab.cloud.set(A, "tgw-attach-0e0e0e0e0e0e0e0e0");
    for way in ["vpn", "line"] {
        let said = lab.hook(way).unwrap_err();
        assert!(said.contains("-> tgw-attach-0e0e0e0e0e0e0e0e0") && said.contains("left alone"), "{said}");
    }
    assert_eq!(lab.cloud.calls(A), ["Get", "Get"]);
    assert!(lab.hook("sideways").unwrap_err().contains("usage: "));
}

/// Where the line's routes are static, the reference is turned, never absent.
#[test]
fn a_static_line_is_turned_to_and_fro() {
    let line = "tgw-attach-0f0f0f0f0f0f0f0f0";
    let lab = Lab::new(&format!("TABLES={A}\nLINE={line}"));
    lab.cloud.set(A, line);
    lab.cloud.trouble("Modify", A, Trouble::IsSlow(1));
    lab.hook("vpn").unwrap();
    assert_eq!(lab.cloud.calls(A), ["Get", "Modify", "Get", "Get"], "until it is seen to have settled");
    for (way, attachment) in [("vpn", VPN), ("line", line)] {
        lab.hook(way).unwrap();
        assert_eq!(lab.cloud.attachment(A).as_deref(), Some(attachment));
        assert_eq!(lab.cloud.calls(A).contains(&"Modify".to_owned()), way == "line");
    }
}
