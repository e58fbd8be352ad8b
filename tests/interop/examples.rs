//! conf/primary-site.toml and conf/anycast.toml: announced while their local checks are well, and only then.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};

use announcerd::demo::lab::host::find_program;
use announcerd::demo::lab::web::{Web, answer_ok};
use announcerd::demo::lab::{Bird, Daemon, Node};

use crate::nsd;
use crate::rig::{LIMIT, PREFIX, PREFIX6, Pair, hurried, program, until};

/// Something that accepts on that port of our loopback.
fn serve(pair: &Pair, port: u16) -> Web {
    Web::start(&pair.us, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), answer_ok).unwrap()
}

fn start(pair: &Pair, example: &str) -> Node {
    Node::start(&pair.us, program(), &hurried(example).to_string()).unwrap()
}

/// Waits until BIRD has the prefix from all these peers, or from none; their sessions stay up.
fn wait_announced(node: &Node, bird: &Bird, from: &[(&str, &str)], wanted: bool) {
    for (prefix, peer) in from {
        until(&format!("{prefix} from {peer}: {wanted}"), node, || {
            bird.established(peer) && bird.route(prefix, peer).is_some() == wanted
        });
    }
}

const TWO_ISPS: &str = "
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol bgp isp_a {
    local 203.0.113.1 as 64500;
    neighbor 203.0.113.2 as 64501;
    passive on;
    ipv4 { import all; export none; };
}
protocol bgp isp_b {
    local 192.0.2.1 as 64502;
    neighbor 192.0.2.2 as 64501;
    passive on;
    local role provider;
    ipv4 { import all; export none; };
}
";

#[test]
fn the_primary_site_announces_while_it_can_serve() {
    let pair = Pair::new(&[]);
    pair.us.run(&["ip", "address", "add", "192.0.2.2/24", "dev", "uplink"]).unwrap();
    pair.them.run(&["ip", "address", "add", "192.0.2.1/24", "dev", "customer"]).unwrap();
    let bird = Bird::start(&pair.them, TWO_ISPS).unwrap();
    let backends = |count: &str| pair.us.write("/run/balancer/backends-up", count).unwrap();
    backends("3");
    let web = serve(&pair, 80);
    let node = start(&pair, include_str!("../../conf/primary-site.toml"));
    let from = [(PREFIX, "isp_a"), (PREFIX, "isp_b")];
    wait_announced(&node, &bird, &from, true);
    let [a, b] = from.map(|(prefix, peer)| bird.route(prefix, peer).unwrap());
    assert!(a.contains("BGP.as_path: 64501\n") && a.contains("(64501,100)"), "{a}");
    assert!(b.contains("BGP.as_path: 64501 64501 64501\n") && b.contains("(64501,100)"), "{b}");

    backends("1");
    wait_announced(&node, &bird, &from, false);
    backends("2");
    wait_announced(&node, &bird, &from, true);
    drop(web);
    wait_announced(&node, &bird, &from, false);
}

const ROUTER: &str = "
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol bgp v4 {
    local 203.0.113.1 as 64500;
    neighbor 203.0.113.2 as 64501;
    passive on;
    ipv4 { import all; export none; };
}
protocol bgp v6 {
    local 2001:db8::1 as 64500;
    neighbor 2001:db8::2 as 64501;
    passive on;
    ipv6 { import all; export none; };
}
";

/// NSD on our host's loopback.
fn name_server(pair: &Pair) -> Daemon {
    name_server_with(pair, &nsd::zone())
}

fn name_server_with(pair: &Pair, zone: &str) -> Daemon {
    let folder = "/run/nsd";
    let config = nsd::config(folder, &["127.0.0.1", "::1"]);
    pair.us.write(format!("{folder}/nsd.conf"), config).unwrap();
    pair.us.write(format!("{folder}/example.com.zone"), zone).unwrap();
    let mut command = Command::new(find_program("nsd", "nsd").unwrap());
    command.args(["-d", "-c", "/run/nsd/nsd.conf"]).stdout(Stdio::null()).stderr(Stdio::null());
    pair.us.spawn(&mut command).unwrap()
}

#[test]
fn an_anycast_node_announces_while_it_answers() {
    let pair = Pair::new(&[]);
    let bird = Bird::start(&pair.them, ROUTER).unwrap();
    let mut server = name_server(&pair);
    let node = start(&pair, include_str!("../../conf/anycast.toml"));
    let from = [(PREFIX, "v4"), (PREFIX6, "v6")];
    wait_announced(&node, &bird, &from, true);

    // It ends.
    assert!(server.stop(LIMIT));
    wait_announced(&node, &bird, &from, false);
    let mut server = name_server(&pair);
    wait_announced(&node, &bird, &from, true);

    // It is there, and answers with something else.
    assert!(server.stop(LIMIT));
    let moved = nsd::zone().replace("www A 192.0.2.1\n", "www A 192.0.2.9\n");
    let mut server = name_server_with(&pair, &moved);
    wait_announced(&node, &bird, &from, false);
    assert!(server.stop(LIMIT));
    let _server = name_server(&pair);
    wait_announced(&node, &bird, &from, true);

    // It is there, and nothing reaches it.
    pair.us.run(&["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i udp dport 53 drop"]).unwrap();
    wait_announced(&node, &bird, &from, false);
}
