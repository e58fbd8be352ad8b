//! FIELD 7: memory and descriptors leak with each reload. A process of its own, because it counts its descriptors.

#[path = "common/netns.rs"]
mod netns;
#[path = "common/probing.rs"]
mod probing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use announcerd::announcer::event::Outcome;
use announcerd::config::model::{Check, Exec, Origin, Probe};
use netns::Netns;
use probing::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The checks of the n-th configuration: no two configurations agree in any socket, name or command.
fn configuration(n: u32) -> Vec<Arc<Check>> {
    let origin =
        |device: Option<&str>| Origin { source: None, device: device.map(str::to_owned), fwmark: Some(n) };
    let pings = [("127.0.0.1", None), ("127.0.0.2", Some("lo")), ("::1", None)].map(|(to, device)| {
        let mut ping = ping(to);
        ping.origin = origin(device);
        ping_check(ping)
    });
    let mut checks = pings.to_vec();
    checks.push(tcp_check("127.0.0.1", 1, origin(None)));
    let mut https = http(format!("https://name-{n}.example.com:1/"));
    https.connect_to = Some(host("127.0.0.1"));
    https.insecure = true;
    checks.push(http_check(https));
    checks.push(http_check(http(format!("http://name-{n}.example.com/"))));
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("exit {}", n % 2)];
    checks.push(check(Probe::Exec(Exec { command, invert: false }), Duration::from_secs(10)));
    checks
}

#[test]
fn a_hundred_reloads_leave_no_descriptor_behind() {
    Netns::new().block_on(async || {
        let mut prober = Prober::new();
        let mut before = 0;
        for n in 0..110 {
            let checks = configuration(n);
            prober.probes.retain_checks(&checks);
            for check in &checks {
                prober.start(check);
            }
            let mut good = 0;
            for _ in &checks {
                good += usize::from(matches!(prober.next().await.1, Outcome::Success { .. }));
            }
            assert_eq!(good, 4 - n as usize % 2, "three pings, and every other command");
            // One that does not come to its end.
            let id = prober.start(&checks[0]);
            prober.probes.cancel(id);
            if n == 10 {
                before = descriptors();
            }
        }
        prober.probes.retain_checks(&[]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while descriptors() > before {
            assert!(Instant::now() < deadline, "{before} descriptors became {}", descriptors());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
