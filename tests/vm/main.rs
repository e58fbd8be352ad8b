//! Tests on a kernel that has tunnels, netem and dummy devices, which the ordinary machine's may lack: each test boots a
//! guest of its own ([`guest`]) and runs itself inside. Nothing is built there; where no guest can run, the test fails and
//! says what is missing.
//!
//! One command: `cargo test --test vm`; with `-- --nocapture` what the guests say is seen as they say it.

mod failover;
mod guest;
mod lifecycle;
mod line;
mod modes;
mod modules;
mod tap;

/// Everything that the other tests take for granted.
#[test]
fn the_guest_has_what_the_tests_need() {
    guest::inside("the_guest_has_what_the_tests_need", || {
        for kind in ["gre", "ipip", "sit", "ip6gre", "ip6tnl", "gretap", "dummy"] {
            let addresses = match kind {
                "ip6gre" | "ip6tnl" => "local 2001:db8::1 remote 2001:db8::2",
                "dummy" => "",
                _ => "local 192.0.2.1 remote 192.0.2.2",
            };
            guest::sh(&format!("ip link add t-{kind} type {kind} {addresses} && ip link delete t-{kind}"));
        }
        guest::sh("ip netns add a && ip -n a link add v type veth && ip netns delete a");
        guest::sh("tc qdisc add dev lo root netem delay 1ms loss 5% && tc qdisc delete dev lo root");
    });
}
