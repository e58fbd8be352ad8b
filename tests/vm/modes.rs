//! Each mode between two hosts, over a line with 30 ms of delay and 5 % of loss: the near ends are announcerd's, the far
//! ones `ip`'s, so that the two must agree on what is sent.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use announcerd::demo::lab::{Host, Node};

use crate::guest;
use crate::line::{Line, program};

/// Mode, what the file says of it besides, and what `ip` is told of the other end.
const MODES: [(&str, &str, &str); 6] = [
    ("gre", "key = 7\nttl = 255", "key 7 ttl 255"),
    ("ipip", "", "ttl 64"),
    ("sit", "tos = \"inherit\"", "ttl 64"),
    ("ip6gre", "ikey = 1\nokey = 2", "ikey 2 okey 1"),
    ("ip6tnl", "", "mode any"),
    ("gretap", "mtu = 1400", ""),
];
const BYTES: usize = 100_000;

fn config() -> String {
    let mut text = "[[instance]]\nname = \"tunnels\"\n".to_owned();
    for (n, (mode, more, _)) in MODES.iter().enumerate() {
        let (local, remote) = ends(mode);
        let addresses: Vec<String> =
            inner(n, mode, 2).iter().map(|(a, len)| format!("\"{a}/{len}\"")).collect();
        text += &format!(
            "[[instance.tunnel]]\nname = \"t-{mode}\"\nmode = \"{mode}\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n\
             addresses = [{}]\n{more}\n",
            addresses.join(", ")
        );
    }
    text
}

fn ends(mode: &str) -> (&'static str, &'static str) {
    if mode.starts_with("ip6") { ("2001:db8::2", "2001:db8::1") } else { ("203.0.113.2", "203.0.113.1") }
}

/// The addresses inside of the `n`th tunnel, of what it carries.
fn inner(n: usize, mode: &str, host: u8) -> Vec<(IpAddr, u8)> {
    let v4 = (format!("10.{n}.0.{host}").parse().unwrap(), 30);
    let v6 = (format!("2001:db8:{}::{host}", n + 1).parse().unwrap(), 64);
    match mode {
        "ipip" => vec![v4],
        "sit" => vec![v6],
        _ => vec![v4, v6],
    }
}

fn far_ends(far: &Host) {
    for (n, (mode, _, more)) in MODES.iter().enumerate() {
        let (remote, local) = ends(mode);
        let more = if *mode == "ip6gre" || *mode == "ip6tnl" {
            format!("{more} encaplimit none")
        } else {
            (*more).into()
        };
        let add = format!("ip link add t-{mode} type {mode} local {local} remote {remote} {more}");
        far.run(&["sh", "-c", &format!("{add} && ip link set t-{mode} up")]).unwrap();
        for (address, len) in inner(n, mode, 1) {
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            far.run(&["sh", "-c", &format!("ip address add {address}/{len} dev t-{mode} {nodad}")]).unwrap();
        }
    }
}

/// So many bytes there, and their number back.
fn transfer(line: &Line, to: IpAddr) {
    let listener = line.far.in_network(|| Ok(TcpListener::bind(SocketAddr::new(to, 5000)).unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(got.len().to_string().as_bytes()).unwrap();
    });
    let answer = line.near.in_network(|| {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::new(to, 5000), Duration::from_secs(30)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&vec![7; BYTES]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Ok(answer)
    });
    assert_eq!(answer.unwrap(), BYTES.to_string(), "to {to}");
    server.join().unwrap();
}

#[test]
fn each_mode_carries_what_it_can_over_a_bad_line() {
    guest::inside("modes::each_mode_carries_what_it_can_over_a_bad_line", || {
        let line = Line::new();
        far_ends(&line.far);
        let node = Node::start(&line.near, program(), &config()).unwrap();
        line.wait_for_kernel(&node);
        line.spoil();
        for (n, (mode, ..)) in MODES.iter().enumerate() {
            for (address, _) in inner(n, mode, 1) {
                let ping = format!("ping -n -q -c 20 -i 0.1 -W 2 {address}");
                let said = line.near.run(&["sh", "-c", &ping]).unwrap();
                let received: u32 =
                    said.split(" received").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
                assert!(received >= 10, "{mode} {address}: {said}");
                transfer(&line, address);
                println!("{mode} {address}: {received} of 20 pings, {BYTES} bytes");
            }
        }
    });
}
