//! What looking costs: a scrape with 1,000 checks (the copy is made in the driver's loop, the text elsewhere), and a year of
//! one-second probes of three checks played back, and the daemon's processor time while somebody watches it live (which needs
//! root and tmux).
//!
//!     cargo bench --bench eyes
//!     ANNOUNCERD_BENCH_SECONDS=3 cargo bench --bench eyes    # each watch shorter than 20 s

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use announcerd::announcer::event::{Dump, Event, Outcome};
use announcerd::announcer::journal::State;
use announcerd::announcer::{Announcer, Effect, Legacy};
use announcerd::backtest::replay::replay;
use announcerd::backtest::trace::{Builder, Row, Seen, Trace, line, read};
use announcerd::config::model::Config;
use announcerd::config::{Env, ScriptVerdict, parse};
use announcerd::demo::lab::{Node, wait_for};
use announcerd::metrics;
use announcerd::status::WallClock;
use announcerd::time::Time;

fn config(text: &str) -> Config {
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    parse("eyes.toml", text, &env).unwrap_or_else(|e| panic!("{e}")).0
}

fn ping(name: &str) -> String {
    format!("[[check]]\nname = \"{name}\"\ntype = \"ping\"\nhost = \"198.18.0.1\"\n")
}

const INSTANCE: &str = "[[instance]]\nname = \"a\"\nprimary = { checks = [\"ping\", \"http\"] }\nrequire = { checks = [\"uplink\"] }\n";

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

fn scrape() {
    let others: String = (0..997).map(|n| ping(&format!("check-{n}"))).collect();
    let text = [ping("ping"), ping("http"), ping("uplink"), others, INSTANCE.to_owned()].concat();
    let mut now = Time::from_nanos(1_000_000_000);
    let mut core = Announcer::new(config(&text), &Legacy::default(), now);
    let end = now + Duration::from_secs(20);
    while now < end {
        while let Some(effect) = core.poll_effect() {
            match effect {
                Effect::Dump(id) => core.handle_event(Event::Dump { id, result: Ok(Dump::default()) }, now),
                Effect::Probe { id, .. } => {
                    let rtt = Some(Duration::from_millis(12));
                    core.handle_event(Event::Probe { id, outcome: Outcome::Success { rtt } }, now);
                }
                _ => {}
            }
        }
        now = core.poll_timeout().map_or(end, |(at, _)| at.max(now));
        core.handle_timeout(now);
    }
    let clock = WallClock { at: now, wall: SystemTime::now() };
    let (mut copies, mut texts, mut size) = (Vec::new(), Vec::new(), 0);
    for _ in 0..50 {
        let began = Instant::now();
        let measures = core.measure(now, &clock);
        copies.push(began.elapsed());
        let began = Instant::now();
        size = metrics::render(measures).len();
        texts.push(began.elapsed());
    }
    println!(
        "scrape of 1,000 checks: {:?} in the loop, {:?} elsewhere, {size} bytes",
        median(copies),
        median(texts)
    );
}

fn answer(second: i64, n: i64) -> Row {
    let dead = n < 2 && second % 200_000 > 199_700;
    let noise = n == 0 && second % 7777 < 2;
    let at = 1_795_320_000_000_000_000 + second * 1_000_000_000 + n * 200_000_000;
    match dead || noise {
        true => Row { at, seen: Seen::Error, rtt: None },
        false => Row { at, seen: Seen::Ok, rtt: Some(Duration::from_micros(12_340)) },
    }
}

fn year() -> Trace {
    let mut builder = Builder::default();
    for second in 0..365 * 86_400 {
        for (n, check) in ["ping", "http", "uplink"].into_iter().enumerate() {
            builder.push(check, answer(second, n as i64)).expect("within five years");
        }
    }
    builder.finish()
}

fn back_test() {
    let text = [ping("ping"), ping("http"), ping("uplink"), INSTANCE.to_owned()].concat();
    let day: String = (0..86_400)
        .flat_map(|s| ["ping", "http", "uplink"].into_iter().enumerate().map(move |(n, c)| (s, n as i64, c)))
        .map(|(second, n, check)| line(check, answer(second, n)))
        .collect();
    let began = Instant::now();
    let rows = read(day.as_bytes()).expect("a trace").len();
    println!("reading: {:.1} million results a second", rows as f64 / began.elapsed().as_secs_f64() / 1e6);
    let (config, trace) = (config(&text), year());
    let began = Instant::now();
    let story = replay(&config, &trace, true);
    let took = began.elapsed();
    let masters = story.changes.iter().filter(|c| c.to == State::Master).count();
    println!(
        "a year of three checks, {} results, {masters} takeovers: {took:?}, {:.1} million results a second",
        trace.len(),
        trace.len() as f64 / took.as_secs_f64() / 1e6
    );
}

/// The daemon alone, and with `announcerctl watch` at it, for so many checks a second.
fn watched(checks: usize) {
    let seconds = std::env::var("ANNOUNCERD_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let host = common::host();
    let pings: String = (0..checks)
        .map(|n| {
            let address = Ipv4Addr::from(Ipv4Addr::new(127, 1, 0, 1).to_bits() + n as u32);
            ping(&format!("check-{n}")).replace("198.18.0.1", &address.to_string())
        })
        .collect();
    let instance = "[[instance]]\nname = \"a\"\nrequire = { checks = [\"check-0\"] }\n";
    let mut node = Node::start(&host, common::program(), &format!("{pings}{instance}")).unwrap();
    node.wait_state("a", State::Master, common::LIMIT).unwrap();
    let pid = node.daemon().pid();
    let share = || {
        let (before, began) = (common::cpu(pid), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        (common::cpu(pid) - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0
    };
    let alone = share();
    let tmux = ["env", "-u", "TMUX", "LC_ALL=C.UTF-8", "tmux", "-u", "-f", "/dev/null", "-S", "/run/tmux"];
    let run = |words: &[&str]| host.run(&[&tmux[..], words].concat()).expect("tmux");
    let watch = format!("{} watch", env!("CARGO_BIN_EXE_announcerctl"));
    run(&["new-session", "-d", "-x", "80", "-y", "24", &watch]);
    let shown = || run(&["capture-pane", "-p"]).contains("MASTER").then_some(());
    wait_for("the live view", common::LIMIT, shown).unwrap();
    let with_watch = share();
    run(&["kill-server"]);
    println!(
        "{checks} checks a second: {alone:.2} % of a core alone, {with_watch:.2} % while somebody watches ({seconds} s each)"
    );
}

fn main() {
    scrape();
    back_test();
    watched(3);
    watched(1000);
}
