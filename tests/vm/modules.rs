//! What the kernel does on the way to an answer: to ask for a device by its name in an ioctl has a privileged program wait
//! for modprobe if there is none of that name.

use announcerd::demo::lab::{Node, wait_for};

use crate::guest;
use crate::line::{LIMIT, Line, program};

const CONFIG: &str = r#"
[[check]]
name = "neighbour"
type = "bfd"
host = "203.0.113.1"
device = "missing0"
[[instance]]
name = "main"
primary = { checks = ["neighbour"] }
"#;

/// BFD's thread must not be kept waiting: while its device is not there it asks once a second.
#[test]
fn bfd_has_no_module_loaded_for_a_device_that_is_not_there() {
    guest::inside("modules::bfd_has_no_module_loaded_for_a_device_that_is_not_there", || {
        let asked =
            |name: &str| guest::sh("dmesg").matches(&format!("asked for -q -- netdev-{name}")).count();
        let spy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/asked-for");
        guest::sh(&format!("echo {spy} >/proc/sys/kernel/modprobe"));
        assert!(nix::net::if_::if_nametoindex("missing1").is_err());
        assert_eq!(asked("missing1"), 1, "an ioctl's question is seen: {}", guest::sh("dmesg | tail"));

        let line = Line::new();
        let node = Node::start(&line.near, program(), CONFIG).unwrap();
        let trouble = || node.status().unwrap().bfd.first().and_then(|row| row.trouble.clone());
        let told = wait_for("the trouble", LIMIT, trouble).unwrap();
        assert!(told.contains("there is no device missing0"), "{told}");
        // It is tried again once a second; then it is there.
        line.ip("link add missing0 type dummy");
        line.ip("link set missing0 up");
        wait_for("no trouble", LIMIT, || trouble().is_none().then_some(())).unwrap();
        line.ip("link delete missing0");
        wait_for("the trouble again", LIMIT, trouble).unwrap();
        assert_eq!(asked("missing0"), 0, "{}", guest::sh("dmesg | grep 'asked for'"));
    });
}
