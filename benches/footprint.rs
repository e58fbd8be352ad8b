//! What standing by costs: memory, processor time, time to start; beside keepalived with three check scripts and the same
//! BIRD, in the same run (needs root): `cargo bench --bench footprint`.

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use announcerd::announcer::journal::State;
use announcerd::demo::lab::node::CONFIG;
use announcerd::demo::lab::topology::PRIMARY;
use announcerd::demo::lab::web::{Web, answer_ok, http};
use announcerd::demo::lab::{Bird, Node, Topology};
use common::*;
use nix::unistd::Pid;

const IDLE: Duration = Duration::from_secs(20);
const STARTS: usize = 20;
const EXAMPLE: &str = include_str!("../conf/standby-bird.toml");

fn main() {
    let lab = Topology::build(&[]).expect("benchmarks make namespaces: run them as root");
    let _web = Web::start(&lab.primary, http(PRIMARY), answer_ok).unwrap();
    let isp = lab.start_isp().unwrap();
    let mut bird = Bird::start(&lab.standby, include_str!("../conf/bird.conf")).unwrap();
    isp.wait_established("from_standby").unwrap();
    println!("-- idle for {} s, three checks a second", IDLE.as_secs());
    {
        let mut node = Node::start(&lab.standby, program(), EXAMPLE).unwrap();
        node.wait_state("mainland", State::Backup, LIMIT).unwrap();
        // The failback delay of the example is over, and so is all that a start needs once.
        std::thread::sleep(Duration::from_secs(5));
        let pid = node.daemon().pid();
        idle("announcerd", pid);
        node.daemon().stop(LIMIT);
    }
    idle("BIRD", bird.daemon().pid());
    {
        let scripts = "global_defs {\n script_user root\n enable_script_security\n}\n\
            vrrp_script ping {\n script \"/bin/ping -c1 -W1 198.18.0.1\"\n interval 1\n fall 3\n rise 2\n}\n\
            vrrp_script http {\n script \"/usr/bin/curl -sfm1 -o /dev/null http://198.18.0.1/healthz\"\n interval 1\n fall 3\n rise 2\n}\n\
            vrrp_script uplink {\n script \"/bin/ping -c1 -W1 203.0.113.1\"\n interval 1\n fall 3\n rise 2\n}\n\
            vrrp_instance mainland {\n state BACKUP\n interface uplink\n virtual_router_id 51\n priority 100\n advert_int 1\n \
            virtual_ipaddress { 192.0.2.9/32 dev lo }\n track_script { ping\n http\n uplink }\n}\n";
        let mut daemon = keepalived(&lab.standby, scripts);
        std::thread::sleep(Duration::from_secs(5));
        idle("keepalived", daemon.pid());
        daemon.stop(LIMIT);
    }
    start_time(&lab);
}

fn idle(who: &str, pid: Pid) {
    let processes = family(pid);
    let sum = || processes.iter().map(|p| cpu(*p)).sum::<Duration>();
    let woken = || processes.iter().map(|p| sleeps(*p)).sum::<u64>();
    let (cpu_before, woken_before, start) = (sum(), woken(), Instant::now());
    std::thread::sleep(IDLE);
    let took = start.elapsed().as_secs_f64();
    let share = (sum() - cpu_before).as_secs_f64() / took * 100.0;
    let wakes = (woken() - woken_before) as f64 / took;
    let (rss, pss) =
        processes.iter().map(|p| memory(*p)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let mb = |kb: u64| kb as f64 / 1024.0;
    println!(
        "{who:10}  {:6.1} MB resident  {:6.1} MB proportional  {share:5.2} % of a core  {wakes:5.1} wake-ups/s",
        mb(rss),
        mb(pss)
    );
}

/// From fork to READY=1.
fn start_time(lab: &Topology) {
    lab.standby.write(CONFIG, EXAMPLE).unwrap();
    let manager = UnixDatagram::bind(lab.standby.path("/run/notify")).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut command = Command::new(program());
        command.args(["-c", CONFIG]).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("NOTIFY_SOCKET", "/run/notify").env_remove("WATCHDOG_USEC");
        let start = Instant::now();
        let mut daemon = lab.standby.spawn(&mut command).unwrap();
        let mut buffer = [0; 4096];
        while !manager.recv(&mut buffer).is_ok_and(|n| buffer[..n].starts_with(b"READY=1")) {}
        times.push(start.elapsed());
        daemon.stop(LIMIT);
        manager.set_nonblocking(true).unwrap();
        while manager.recv(&mut buffer).is_ok() {}
        manager.set_nonblocking(false).unwrap();
    }
    println!("start to READY                        {}", spread(times).1);
}
