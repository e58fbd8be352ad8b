//! The real FRR on a host of the lab.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use announcerd::demo::lab::{Daemon, Doing, Host, LabError, Result, host::find_program, wait_for};

/// Private to a host that runs FRR.
pub const PRIVATE: [&str; 2] = ["/etc/frr", "/var/log"];

/// Running zebra and bgpd.
pub struct Frr {
    host: Host,
    _daemons: Vec<Daemon>,
}

impl Frr {
    /// Starts zebra and bgpd and loads the configuration as `frrinit.sh` does.
    pub fn start(host: &Host, config: &str) -> Result<Self> {
        host.write("/etc/frr/frr.conf", config)?;
        host.write("/etc/frr/vtysh.conf", "service integrated-vtysh-config\n")?;
        host.run(&["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr"])?;
        let mut frr = Frr { host: host.clone(), _daemons: Vec::new() };
        for name in ["zebra", "bgpd"] {
            let program = Path::new("/usr/lib/frr").join(name);
            if !program.exists() {
                find_program(name, "frr")?;
            }
            let log =
                std::fs::File::create(host.path(format!("/run/{name}.log"))).doing("making FRR's log")?;
            let mut command = Command::new(program);
            command.stdout(log.try_clone().doing("making FRR's log")?).stderr(log).stdin(Stdio::null());
            frr._daemons.push(host.spawn(&mut command)?);
            let what = format!("{name}: {}", host.read(format!("/run/{name}.log")));
            wait_for(&what, Duration::from_secs(15), || frr.ask(name, "show version").ok())?;
        }
        host.run(&["vtysh", "-b"])?;
        Ok(frr)
    }

    /// Asks one of the daemons.
    pub fn ask(&self, daemon: &str, command: &str) -> Result<String> {
        self.host.run(&["vtysh", "-d", daemon, "-c", command])
    }

    /// What bgpd announces to the ISP.
    pub fn advertised(&self) -> Result<String> {
        let answer = self.ask("bgpd", "show bgp ipv4 unicast neighbors 203.0.113.1 advertised-routes")?;
        if answer.contains("No such neighbor") {
            Err(LabError::new("asking bgpd", answer))
        } else {
            Ok(answer)
        }
    }
}
