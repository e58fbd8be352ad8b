//! A tunnel's life: made, changed, taken away, left behind, adopted, swept; and somebody else's left alone.

use announcerd::demo::lab::{Node, node::CONFIG};
use serde_json::json;

use crate::guest;
use crate::line::{Line, program};

/// One tunnel with everything, a route and a rule over it. `what` is its first lines.
fn config(what: &str) -> String {
    format!(
        "[[instance]]\nname = \"main\"\ndrain = \"0s\"\n[[instance.tunnel]]\nname = \"gre1\"\nlocal = \"203.0.113.2\"\n\
         remote = \"203.0.113.1\"\ntos = 0x10\nfwmark = 5\ndevice = \"wire\"\naddresses = [\"10.10.10.2/30\"]\n{what}\n\
         [[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"gre1\"\nadvmss = 1300\n\
         [[instance.rule]]\nfrom = \"10.10.10.0/30\"\ntable = 100\n"
    )
}

const FIRST: &str = "mode = \"gre\"\nkey = 7\nttl = 200\nmtu = 1400";

fn start(line: &Line, what: &str) -> Node {
    let node = Node::start(&line.near, program(), &config(what)).unwrap();
    line.wait_for_kernel(&node);
    node
}

fn reload(line: &Line, node: &Node, config: &str) {
    line.near.write(CONFIG, config).unwrap();
    node.ask(&json!({"command": "reload"})).unwrap();
    line.wait_for_kernel(node);
}

fn index(line: &Line, dev: &str) -> String {
    line.ip(&format!("-o link show {dev}")).split(':').next().unwrap().to_owned()
}

fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

/// FIELD 13: "a change that omits key or TTL resets them". FIELD 11 and 12: what another manager removes of a tunnel, its
/// address or its rule, and what the kernel drops with it, is back.
#[test]
fn a_change_leaves_everything_else_as_it_was() {
    guest::inside("lifecycle::a_change_leaves_everything_else_as_it_was", || {
        let line = Line::new();
        let node = start(&line, FIRST);
        let is = || line.ip("-d link show gre1");
        let rest = ["tos 0x10", "fwmark 0x5", "dev wire", "alias announcerd proto 187", ",UP"];
        has_all(&is(), &rest);
        has_all(&is(), &["key 0.0.0.7", "ttl 200", "mtu 1400"]);
        has_all(&line.ip("rule"), &["10000:\tfrom 10.10.10.0/30 lookup 100"]);
        has_all(&line.ip("route"), &["198.51.100.0/24 dev gre1", "advmss 1300"]);
        let number = index(&line, "gre1");

        reload(&line, &node, &config("mode = \"gre\"\nkey = 8\nttl = 200\nmtu = 1400"));
        has_all(&is(), &rest);
        has_all(&is(), &["key 0.0.0.8", "ttl 200", "mtu 1400"]);
        reload(&line, &node, &config("mode = \"gre\"\nikey = 8\nokey = 9\nttl = 100\nmtu = 1380"));
        has_all(&is(), &rest);
        has_all(&is(), &["ikey 0.0.0.8", "okey 0.0.0.9", "ttl 100", "mtu 1380"]);
        reload(&line, &node, &config("mode = \"gre\"\npmtudisc = false\nmtu = 1380"));
        has_all(&is(), &rest);
        has_all(&is(), &["ttl inherit", "nopmtudisc"]);
        assert!(!is().contains("key"), "{}", is());
        assert_eq!(index(&line, "gre1"), number, "changed in place");

        // A stranger's change is put right, and a stranger's removal.
        line.ip("link set gre1 type gre local 203.0.113.2 remote 203.0.113.1 ttl 9 key 3");
        line.wait_for_ip(&node, "-d link show gre1", "key", false);
        has_all(&is(), &rest);
        line.ip("link set gre1 down");
        line.wait_for_ip(&node, "link show gre1", ",UP", true);
        assert_eq!(index(&line, "gre1"), number);
        // Options that we have no words for, too: such a one is made anew.
        line.ip("link set gre1 type gre local 203.0.113.2 remote 203.0.113.1 csum seq");
        line.wait_for_ip(&node, "-d link show gre1", "csum", false);
        line.wait_for_ip(&node, "route", "198.51.100.0/24 dev gre1", true);
        line.wait_for_kernel(&node);
        has_all(&is(), &rest);
        // And the kernel's own MTU, when the file says none any more.
        reload(&line, &node, &config("mode = \"gre\"\npmtudisc = false"));
        has_all(&is(), &rest);
        has_all(&is(), &["mtu 1476"]);
        has_all(&line.ip("route"), &["198.51.100.0/24 dev gre1"]);
        line.ip("link delete gre1");
        line.wait_for_ip(&node, "route", "198.51.100.0/24 dev gre1", true);
        line.wait_for_kernel(&node);
        has_all(&is(), &rest);
        has_all(&line.ip("address show gre1"), &["10.10.10.2/30"]);
        line.ip("rule delete priority 10000");
        line.wait_for_ip(&node, "rule", "10000:\tfrom 10.10.10.0/30 lookup 100", true);
        line.ip("address flush dev gre1");
        line.wait_for_ip(&node, "address show gre1", "10.10.10.2/30", true);
        line.wait_for_ip(&node, "route", "198.51.100.0/24 dev gre1", true);
        line.wait_for_kernel(&node);

        // Another mode is another device; what hangs on it follows.
        reload(&line, &node, &config("mode = \"gretap\""));
        has_all(&is(), &["gretap", "ttl 64"]);
        has_all(&line.ip("route"), &["198.51.100.0/24 dev gre1"]);
        has_all(&line.ip("address show gre1"), &["10.10.10.2/30"]);
        // And gone when it is wanted no more.
        reload(
            &line,
            &node,
            "[[instance]]\nname = \"main\"\n[[instance.route]]\nto = \"192.0.2.0/24\"\ndev = \"lo\"\n",
        );
        assert!(!line.ip("link").contains("gre1"));
        assert!(!line.ip("rule").contains("10.10.10"));
    });
}

/// Every mode is changed in place, and keeps what was not changed.
#[test]
fn every_mode_is_changed_in_place() {
    guest::inside("lifecycle::every_mode_is_changed_in_place", || {
        let line = Line::new();
        let text = |mode: &str, ttl: u8, tos: u8| {
            let ends = match mode {
                "ip6gre" | "ip6tnl" => "local = \"2001:db8::2\"\nremote = \"2001:db8::1\"",
                _ => "local = \"203.0.113.2\"\nremote = \"203.0.113.1\"",
            };
            format!(
                "[[instance]]\nname = \"main\"\ndrain = \"0s\"\n[[instance.tunnel]]\nname = \"t1\"\nmode = \"{mode}\"\n{ends}\n\
                 ttl = {ttl}\ntos = {tos}\nfwmark = 5\ndevice = \"wire\"\n"
            )
        };
        let mut node: Option<Node> = None;
        for mode in ["ipip", "sit", "ip6gre", "ip6tnl", "gretap"] {
            let words = match mode {
                "ip6gre" | "ip6tnl" => ["hoplimit 77", "tclass 0x20"],
                _ => ["ttl 77", "tos 0x20"],
            };
            let first = text(mode, 200, 0x10);
            match &node {
                Some(node) => reload(&line, node, &first),
                None => {
                    let started = Node::start(&line.near, program(), &first).unwrap();
                    line.wait_for_kernel(&started);
                    node = Some(started);
                }
            }
            let node = node.as_ref().expect("it has been started");
            let number = index(&line, "t1");
            reload(&line, node, &text(mode, 77, 0x20));
            let is = line.ip("-d link show t1");
            has_all(&is, &words);
            has_all(&is, &["fwmark 0x5", "dev wire", "alias announcerd proto 187", ",UP"]);
            assert_eq!(index(&line, "t1"), number, "{mode} was changed in place");
        }
    });
}

/// Two tunnels of ours that exchange their keys: in place the kernel refuses each for the sake of the other.
#[test]
fn keys_are_swapped() {
    guest::inside("lifecycle::keys_are_swapped", || {
        let line = Line::new();
        let text = |keys: [u8; 2]| {
            let tunnel = |n: usize, key: u8| {
                format!(
                    "[[instance.tunnel]]\nname = \"gre{n}\"\nmode = \"gre\"\nlocal = \"203.0.113.2\"\n\
                     remote = \"203.0.113.1\"\nkey = {key}\n[[instance.route]]\nto = \"198.51.{n}.0/24\"\ndev = \"gre{n}\"\n"
                )
            };
            format!("[[instance]]\nname = \"main\"\n{}{}", tunnel(1, keys[0]), tunnel(2, keys[1]))
        };
        let node = Node::start(&line.near, program(), &text([1, 2])).unwrap();
        line.wait_for_kernel(&node);
        reload(&line, &node, &text([2, 1]));
        has_all(&line.ip("-d link show gre1"), &["key 0.0.0.2"]);
        has_all(&line.ip("-d link show gre2"), &["key 0.0.0.1"]);
        has_all(&line.ip("route"), &["198.51.1.0/24 dev gre1", "198.51.2.0/24 dev gre2"]);
        assert!(!node.log().contains("same ends"), "{}", node.log());
    });
}

/// A rule of our own that leads the tunnel's packets into it is seen before anything is announced, not after.
#[test]
fn nothing_is_announced_over_a_tunnel_that_leads_into_itself() {
    guest::inside("lifecycle::nothing_is_announced_over_a_tunnel_that_leads_into_itself", || {
        let line = Line::new();
        let text = "[[instance]]\nname = \"main\"\n[[instance.tunnel]]\nname = \"gre1\"\nmode = \"gre\"\n\
             local = \"203.0.113.2\"\nremote = \"203.0.113.1\"\n\
             [[instance.route]]\nto = \"default\"\ndev = \"gre1\"\ntable = 100\n\
             [[instance.rule]]\nto = \"203.0.113.1/32\"\ntable = 100\n\
             [[instance.route]]\nto = \"192.0.2.0/24\"\ndev = \"lo\"\n";
        let mut news = std::process::Command::new("ip");
        news.args(["monitor", "route"]);
        news.stdout(std::fs::File::create(line.near.path("/run/news")).unwrap());
        let _news = line.near.spawn(&mut news).unwrap();
        let node = Node::start(&line.near, program(), text).unwrap();
        line.wait_for_error(&node, "gre1", "leads into the tunnel itself");
        assert!(!line.near.read("/run/news").contains("192.0.2.0/24"), "{}", line.near.read("/run/news"));
    });
}

/// FIELD 13: "a tunnel left by a crash makes the restart fail with `File exists`". FIELD 3: kill -9.
#[test]
fn after_a_crash_it_is_adopted_changed_or_swept() {
    guest::inside("lifecycle::after_a_crash_it_is_adopted_changed_or_swept", || {
        let line = Line::new();
        let mut node = start(&line, FIRST);
        let number = index(&line, "gre1");
        let mut news = std::process::Command::new("ip");
        news.args(["monitor", "link", "route", "address"]);
        news.stdout(std::fs::File::create(line.near.path("/run/news")).unwrap());
        let _news = line.near.spawn(&mut news).unwrap();
        node.daemon().kill();
        node.restart().unwrap();
        line.wait_for_kernel(&node);
        assert_eq!(index(&line, "gre1"), number);
        let about =
            |text: &str| text.lines().filter(|l| l.contains("gre1")).map(str::to_owned).collect::<Vec<_>>();
        assert!(about(&line.near.read("/run/news")).is_empty(), "{}", line.near.read("/run/news"));

        // Killed, and another file: changed in place.
        node.daemon().kill();
        line.near.write(CONFIG, config("mode = \"gre\"\nkey = 8")).unwrap();
        node.restart().unwrap();
        line.wait_for_kernel(&node);
        has_all(&line.ip("-d link show gre1"), &["key 0.0.0.8", "ttl 64", "fwmark 0x5"]);
        assert_eq!(index(&line, "gre1"), number);

        // Killed between the making and the naming: the group is the mark.
        node.daemon().kill();
        line.ip("link set gre1 alias ''");
        line.ip(&format!("link set gre1 group {}", 0x616e_6e00 + 187));
        node.restart().unwrap();
        line.wait_for_kernel(&node);
        has_all(&line.ip("link show gre1"), &["alias announcerd proto 187", "group default"]);

        // Killed and never to come back: swept, and nothing but ours.
        line.ip("link add other type gre local 203.0.113.2 remote 203.0.113.9");
        line.ip("rule add from 10.10.10.0/30 lookup 100 priority 9999");
        node.daemon().kill();
        let sweep = [env!("CARGO_BIN_EXE_announcerctl"), "sweep"];
        let said = line.near.run(&sweep).unwrap();
        has_all(&said, &["tunnel gre1 mode gre", "rule from 10.10.10.0/30"]);
        assert!(!line.ip("link").contains("gre1") && line.ip("link").contains("other"));
        has_all(&line.ip("rule"), &["9999:\tfrom 10.10.10.0/30 lookup 100"]);
        assert!(!line.ip("rule").contains("10000:"));
        // An ordinary stop leaves nothing either.
        let mut node = start(&line, FIRST);
        assert!(node.daemon().stop(crate::line::LIMIT));
        assert!(!line.ip("link").contains("gre1") && line.ip("link").contains("other"));
    });
}

/// A tunnel of the same name, or of the same ends, that is not ours.
#[test]
fn what_is_not_ours_is_left_alone_and_said() {
    guest::inside("lifecycle::what_is_not_ours_is_left_alone_and_said", || {
        let line = Line::new();
        // Just what we want, but for the mark.
        line.ip("link add gre1 type gre local 203.0.113.2 remote 203.0.113.1 ttl 64 key 7 dev wire");
        line.ip("link set gre1 up");
        let before = line.ip("-d link show gre1");
        let node = Node::start(&line.near, program(), &config("mode = \"gre\"\nkey = 7")).unwrap();
        line.wait_for_error(&node, "gre1", "is there already and is not ours");
        line.wait_for_error(&node, "198.51.100.0/24", "waits for our tunnel gre1");
        assert!(!line.ip("address show gre1").contains("10.10.10.2"));
        assert_eq!(line.ip("-d link show gre1"), before);
        assert!(!line.ip("route").contains("198.51.100.0/24"), "what hangs on it waits");
        // Under another name it is still in the way: the kernel allows one of the same ends.
        line.ip("link set gre1 down");
        line.ip("link set gre1 name gre2");
        line.wait_for_error(&node, "gre1", "with the same ends and key");
        line.ip("link delete gre2");
        line.wait_for_kernel(&node);
        has_all(&line.ip("route"), &["198.51.100.0/24 dev gre1"]);
        // An ordinary device of that name.
        drop(node);
        line.near.run(&[env!("CARGO_BIN_EXE_announcerctl"), "sweep"]).unwrap();
        line.ip("link add gre1 type dummy");
        let node = Node::start(&line.near, program(), &config("mode = \"gre\"")).unwrap();
        line.wait_for_error(&node, "gre1", "device gre1 of kind dummy is there already");
        has_all(&line.ip("-d link show gre1"), &["dummy"]);
    });
}

/// What a routing daemon does later can lead the tunnel's packets into the tunnel.
#[test]
fn a_way_that_comes_to_lead_into_the_tunnel_is_an_error_until_it_does_no_more() {
    guest::inside(
        "lifecycle::a_way_that_comes_to_lead_into_the_tunnel_is_an_error_until_it_does_no_more",
        || {
            let line = Line::new();
            let text = config("mode = \"gre\"").replace("device = \"wire\"\n", "");
            let node = Node::start(&line.near, program(), &text).unwrap();
            line.wait_for_kernel(&node);
            line.ip("route add 203.0.113.1/32 dev gre1");
            // Link news have the kernel read at once; without them it is read each ten seconds.
            line.wait_for_error(&node, "gre1", "leads into the tunnel itself");
            line.ip("route delete 203.0.113.1/32 dev gre1");
            line.wait_for_kernel(&node);
        },
    );
}

/// A kernel without the module says so, by name.
#[test]
fn a_missing_module_is_named() {
    guest::inside("lifecycle::a_missing_module_is_named", || {
        let line = Line::new();
        guest::sh("echo /bin/false >/proc/sys/kernel/modprobe");
        let node = Node::start(&line.near, program(), &config(FIRST)).unwrap();
        line.wait_for_error(&node, "gre1", "module ip_gre is missing");
    });
}
