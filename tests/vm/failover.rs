//! The recipe end to end: the primary dies, the standby announces, and a client's request reaches the backends through
//! GRE and comes back; with conf/standby-bgp.toml, its part on GRE uncommented.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::echo::{Client, Server};
use announcerd::demo::lab::topology::{PRIMARY, SERVICE};
use announcerd::demo::lab::web::{Web, answer_ok, http};
use announcerd::demo::lab::wire::{self, End};
use announcerd::demo::lab::{Bird, Host, Node, Topology, wait_for};
use toml::{Table, Value};

use crate::guest;
use crate::line::{LIMIT, program};
use crate::tap::Tap;

/// The backends' router: one more host behind the ISP.
const BACKEND: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const ISP_TO_BACKEND: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);

/// The example with GRE, and the waiting cut short.
fn example() -> Table {
    let text = include_str!("../../conf/standby-bgp.toml").replace("\n#: ", "\n");
    let mut config: Table = text.parse().unwrap();
    for check in config["check"].as_array_mut().unwrap() {
        check.as_table_mut().unwrap().insert("interval".into(), "500ms".into());
        if check["type"].as_str() != Some("bgp") {
            check.as_table_mut().unwrap().insert("timeout".into(), "490ms".into());
        }
    }
    let instance = instance(&mut config);
    instance.insert("failback_delay".into(), "2s".into());
    instance.insert("drain".into(), "3s".into());
    let routes = instance["route"].as_array_mut().unwrap();
    routes.retain(|route| route["dev"].as_str() != Some("lo"));
    assert_eq!(routes.len(), 2);
    require(&mut config).push("way-back".into());
    config
}

fn instance(config: &mut Table) -> &mut Table {
    config["instance"].as_array_mut().unwrap()[0].as_table_mut().unwrap()
}

fn require(config: &mut Table) -> &mut Vec<Value> {
    instance(config)["require"]["checks"].as_array_mut().unwrap()
}

struct Site {
    // Dropped in this order: daemons first, the hosts under them last.
    node: Node,
    _isp: Bird,
    _web: Web,
    _echo: Server,
    backend: Host,
    lab: Topology,
}

const ISP: &str = r#"
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol bgp standby {
    local 203.0.113.1 as 64500;
    neighbor 203.0.113.2 as 64501;
    passive on;
    ipv4 { import all; export none; };
    ipv6 { import all; export none; };
}
"#;

impl Site {
    fn start(config: &Table) -> Self {
        let lab = Topology::build(&[]).unwrap();
        lab.standby.sysctl("net/ipv4/ip_forward", "1").unwrap();
        let backend = Host::new("backend", &[]).unwrap();
        let isp = End { host: &lab.isp, interface: "backend", address: ISP_TO_BACKEND };
        wire::connect(isp, End { host: &backend, interface: "uplink", address: BACKEND }, 30).unwrap();
        // The ISP would drop replies with a source that is not the backends': they go back through the tunnel.
        for words in [
            "ip link add gre1 type gre local 198.18.1.1 remote 203.0.113.2 ttl 255",
            "ip address add 10.10.10.1/30 dev gre1",
            "ip link set gre1 up",
            "ip address add 198.51.100.1/32 dev lo",
            "ip route add default via 198.18.1.2",
            "ip route add default dev gre1 table 100",
            "ip rule add from 198.51.100.0/24 lookup 100",
            "sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.gre1.rp_filter=0",
        ] {
            backend.run(&["sh", "-c", words]).unwrap();
        }
        let web = Web::start(&lab.primary, http(PRIMARY), answer_ok).unwrap();
        let echo = Server::start(&backend, SERVICE).unwrap();
        let isp = Bird::start(&lab.isp, ISP).unwrap();
        let node = Node::start(&lab.standby, program(), &config.to_string()).unwrap();
        let site = Site { node, _isp: isp, _web: web, _echo: echo, backend, lab };
        site.wait_state(State::Backup);
        site
    }

    fn wait_state(&self, state: State) {
        self.node.wait_state("mainland", state, LIMIT).unwrap();
    }

    /// The ISP's kernel sends the service to the standby, or does no more.
    fn wait_forwarded(&self, wanted: bool) {
        let is = || self.lab.isp.run(&["ip", "route", "show", "198.51.100.0/24"]).ok();
        let met = || (is()?.contains("via 203.0.113.2") == wanted).then_some(());
        wait_for(&format!("the ISP to forward: {wanted}"), LIMIT, met)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node.log()));
    }

    fn uplink(&self) -> usize {
        let said = self.lab.standby.run(&["cat", "/sys/class/net/uplink/ifindex"]);
        // sysfs may show another network: ask ip.
        let said = self.lab.standby.run(&["ip", "-o", "link", "show", "uplink"]).or(said).unwrap();
        said.split(':').next().unwrap().trim().parse().unwrap()
    }
}

/// A request of the client's, and the backend's answer. For a while after a tunnel's far end was out of reach the kernel
/// says "host unreachable" to those who use it: people try again, and so does this client.
fn request(site: &Site) -> String {
    let address = SocketAddr::new(SERVICE.into(), 80);
    let listener = site.backend.in_network(|| Ok(TcpListener::bind(address).unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, client) = listener.accept().unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(format!("hello {}", client.ip()).as_bytes()).unwrap();
    });
    let ask = || {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(20)).ok();
        let mut stream = wait_for("the backend to accept", LIMIT, connect)?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Ok(answer)
    };
    let answer = site.lab.client.in_network(ask).unwrap();
    server.join().unwrap();
    answer
}

#[test]
fn the_recipe_with_gre_back_to_the_backends() {
    guest::inside("failover::the_recipe_with_gre_back_to_the_backends", || {
        let site = Site::start(&example());
        site.lab.primary_dies().unwrap();
        site.wait_state(State::Master);
        site.wait_forwarded(true);
        assert_eq!(request(&site), "hello 192.0.2.10");
        // The way back breaks: an announcement would be a promise that nobody keeps.
        wire::cut(&site.lab.isp, "backend").unwrap();
        site.wait_state(State::Fault);
        site.wait_forwarded(false);
        wire::mend(&site.lab.isp, "backend").unwrap();
        site.wait_state(State::Master);
        site.wait_forwarded(true);
        assert_eq!(request(&site), "hello 192.0.2.10");
        site.lab.primary_returns().unwrap();
        site.wait_forwarded(false);
        site.wait_state(State::Backup);
        let log = site.node.log();
        assert!(!log.contains("panicked"), "{log}");
    });
}

/// SPEC 4, Order, on a real kernel: of the packets that the ISP sent here none was dropped or thrown back, neither while
/// everything was being made nor while it was being taken away.
#[test]
fn no_packet_of_a_client_is_lost_by_our_order_of_steps() {
    guest::inside("failover::no_packet_of_a_client_is_lost_by_our_order_of_steps", || {
        let mut config = example();
        require(&mut config).pop();
        config["check"].as_array_mut().unwrap().retain(|c| c["name"].as_str() != Some("way-back"));
        let tunnel = &mut instance(&mut config)["tunnel"].as_array_mut().unwrap()[0];
        tunnel.as_table_mut().unwrap().insert("when".into(), "master".into());
        let site = Site::start(&config);
        let has_tunnel = || site.lab.standby.run(&["ip", "link"]).unwrap().contains("gre1");
        assert!(!has_tunnel());
        let tap = Tap::start(&site.lab.standby, site.uplink());
        let client = Client::start(&site.lab.client, SERVICE, Duration::from_millis(5)).unwrap();
        for _ in 0..2 {
            let died = Instant::now();
            site.lab.primary_dies().unwrap();
            wait_for("an answer of the backend's", LIMIT, || client.first_answer("backend", died))
                .unwrap_or_else(|e| panic!("{e}\n{}", site.node.log()));
            site.wait_state(State::Master);
            site.lab.primary_returns().unwrap();
            site.wait_state(State::Backup);
            wait_for("the tunnel to go", LIMIT, || (!has_tunnel()).then_some(())).unwrap();
        }
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Acquire);
        // What arrived is read last: it is counted before it goes on, so nothing was on its way if the sum is right.
        let counts = || {
            let (carried, bounced) = (read(&tap.counts.carried), read(&tap.counts.bounced));
            (read(&tap.counts.arrived), carried, bounced)
        };
        let settled = || Some(counts()).filter(|(arrived, carried, bounced)| *arrived == carried + bounced);
        let (arrived, carried, bounced) = wait_for("every packet to go on", LIMIT, settled)
            .unwrap_or_else(|e| panic!("{e}: arrived, carried, bounced: {:?}", counts()));
        println!("{arrived} packets arrived, {carried} were carried on, {bounced} thrown back");
        assert!(arrived > 20, "too few to tell: {arrived}");
        assert_eq!((carried, bounced), (arrived, 0));
    });
}
