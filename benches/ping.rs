//! 1,000 and 5,000 ping targets at 1 s each: share of a core, and lost replies.
//!
//! `cargo bench --bench ping`; needs root. The targets are addresses of a namespace's loopback, so the CPU time is that of both
//! ends: the kernel's answering is part of it, as is this program's little schedule.

#[path = "../tests/common/netns.rs"]
mod netns;
#[path = "../tests/common/probing.rs"]
mod probing;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use announcerd::announcer::event::Outcome;
use announcerd::config::model::{Check, Probe};
use netns::Netns;
use probing::{Prober, check, ping};
use tokio::time::Instant;

const SECONDS: u32 = 10;
/// Probes that start together: the grid that the daemon puts them on.
const TICK: Duration = Duration::from_millis(10);

fn main() {
    for targets in [1_000, 5_000] {
        for spread in [true, false] {
            run(targets, spread);
        }
    }
}

fn run(targets: u32, spread: bool) {
    let ns = Netns::new();
    ns.ip("route add local 198.18.0.0/16 dev lo");
    ns.block_on(async move || {
        let checks: Vec<Arc<Check>> = (1..=targets)
            .map(|n| Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n))
            .map(|to| check(Probe::Ping(ping(&to.to_string())), Duration::from_millis(800)))
            .collect();
        let mut prober = Prober::new();
        prober.probes.retain_checks(&checks);
        let (cpu, start) = (cpu_time(), Instant::now());
        let mut lost = Vec::new();
        for second in 0..SECONDS {
            let begin = start + Duration::from_secs(1) * second;
            let mut tally = Tally::default();
            for (n, check) in checks.iter().enumerate() {
                if spread {
                    let due = begin + Duration::from_millis(n as u64 * 900 / u64::from(targets));
                    while Instant::now() < due {
                        tokio::time::sleep(TICK).await;
                        tally.drain(&mut prober).await;
                    }
                }
                prober.start(check);
            }
            while tally.seen < targets {
                tally.one(prober.next().await.1);
                tally.drain(&mut prober).await;
            }
            lost.append(&mut tally.bad);
            tokio::time::sleep_until(begin + Duration::from_secs(1)).await;
        }
        let (cpu, wall) = (cpu_time() - cpu, start.elapsed());
        let share = 100.0 * cpu.as_secs_f64() / wall.as_secs_f64();
        let each = cpu.as_secs_f64() * 1e6 / f64::from(targets * SECONDS);
        let how = if spread { "spread" } else { "burst" };
        let (lost, first) = (lost.len(), lost.first());
        println!("{targets:>5} targets/s {how:<6}: {share:5.2} % of a core, {each:5.2} us each, {lost} lost {first:?}");
    });
}

#[derive(Default)]
struct Tally {
    seen: u32,
    bad: Vec<Outcome>,
}

impl Tally {
    async fn drain(&mut self, prober: &mut Prober) {
        while prober.has_news() {
            self.one(prober.next().await.1);
        }
    }

    fn one(&mut self, outcome: Outcome) {
        self.seen += 1;
        if !matches!(outcome, Outcome::Success { .. }) {
            self.bad.push(outcome);
        }
    }
}

/// User and system time of this thread.
fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
