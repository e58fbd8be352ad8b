//! BIRD 2 in a host of the lab.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Daemon, Doing, Host, LabError, Result, host::find_program, wait_for};

const CONFIG: &str = "/run/bird/bird.conf";
const SOCKET: &str = "/run/bird/bird.ctl";

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    daemon: Daemon,
}

/// What a BGP neighbour has sent to a BIRD so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Routes announced, again or anew.
    pub updates: u64,
    /// Routes withdrawn.
    pub withdraws: u64,
}

impl Bird {
    /// Starts BIRD with this configuration and waits until it answers.
    pub fn start(host: &Host, config: &str) -> Result<Self> {
        let program = find_program("bird", "bird2")?;
        host.write(CONFIG, config)?;
        let log = std::fs::File::create(host.path("/run/bird/log")).doing("making BIRD's log")?;
        let mut command = Command::new(program);
        command.args(["-f", "-c", CONFIG, "-s", SOCKET]).stdout(Stdio::null()).stderr(log);
        let mut bird = Bird { daemon: host.spawn(&mut command)?, host: host.clone() };
        let up = wait_for("BIRD", Duration::from_secs(10), || {
            if bird.daemon.ended().is_some() {
                return Some(false);
            }
            bird.ask("show status").is_ok().then_some(true)
        })?;
        let doing = || format!("starting BIRD on {}", host.name());
        if up { Ok(bird) } else { Err(LabError::new(doing(), host.read("/run/bird/log").trim())) }
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Asks as `birdc` does and returns the answer without its codes.
    pub fn ask(&self, command: &str) -> Result<String> {
        let talk = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.host.path(SOCKET))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            lines.next().transpose()?; // the greeting
            stream.write_all(format!("{command}\n").as_bytes())?;
            let mut answer = String::new();
            for line in lines {
                let line = line?;
                // "1002-text" goes on, "0000 text" is the last one; a line that begins with a space has no code.
                let code = line.get(..4).filter(|c| c.bytes().all(|b| b.is_ascii_digit()));
                let text = if code.is_some() { line.get(5..) } else { line.get(1..) };
                answer += text.unwrap_or_default();
                answer.push('\n');
                // Codes from 8000 on are errors, 0 ends an answer; the others come before an end.
                let last = line.as_bytes().get(4) == Some(&b' ');
                if code.is_some_and(|c| last && (c.starts_with('0') || c >= "8000")) {
                    break;
                }
            }
            Ok(answer)
        };
        talk().doing(format!("asking BIRD on {} to `{command}`", self.host.name()))
    }

    /// True if the BGP session of that protocol is established.
    pub fn established(&self, protocol: &str) -> bool {
        self.ask(&format!("show protocols {protocol}")).is_ok_and(|a| a.contains("Established"))
    }

    /// Waits until it is.
    pub fn wait_established(&self, protocol: &str) -> Result<()> {
        let what = format!("the BGP session `{protocol}` of {}", self.host.name());
        wait_for(&what, Duration::from_secs(20), || self.established(protocol).then_some(()))
    }

    /// What the neighbour of that protocol has sent.
    pub fn received(&self, protocol: &str) -> Result<Received> {
        let answer = self.ask(&format!("show protocols all {protocol}"))?;
        // "Import updates:   received rejected filtered ignored accepted"
        let first = |line: &str| {
            answer.lines().find_map(|l| l.trim().strip_prefix(line)?.split_whitespace().next()?.parse().ok())
        };
        let find = |line| first(line).ok_or_else(|| LabError::new("reading BIRD's counters", &answer));
        Ok(Received { updates: find("Import updates:")?, withdraws: find("Import withdraws:")? })
    }

    /// What it says about a route to exactly this prefix that came from that protocol; nothing if there is none.
    pub fn route(&self, prefix: &str, protocol: &str) -> Option<String> {
        let answer = self.ask(&format!("show route {prefix} protocol {protocol} all")).ok()?;
        answer.contains(prefix).then_some(answer)
    }
}
