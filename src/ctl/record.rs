//! `announcerctl record`: probe results of a running daemon as a trace for `backtest`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::client::Client;
use super::{Failure, Out, strange};
use crate::backtest::trace::{self, Row, Seen, nanos};
use crate::io::control::protocol::{Line, Request};
use crate::status::{ProbeStatus, Status};

pub(super) fn run(control: &Path, checks: &[String], out: &mut Out<'_>) -> Result<(), Failure> {
    let mut client = Client::connect(control)?;
    let status: Status = serde_json::from_value(client.ask(&Request::Status {})?).map_err(|e| strange(&e))?;
    let known = |name: &&String| !status.checks.iter().any(|c| c.name == **name);
    if let Some(unknown) = checks.iter().find(known) {
        let names: Vec<&str> = status.checks.iter().map(|c| c.name.as_str()).collect();
        return Err(Failure::failed(format!(
            "there is no check `{unknown}`; there are: {}",
            names.join(", ")
        )));
    }
    client.ask(&Request::Probes {})?;
    writeln!(out, "time,check,result,rtt_ms")?;
    loop {
        out.flush()?;
        match client.next_line(out.get_ref())? {
            Some(Line::Probe(probe)) if checks.is_empty() || checks.contains(&probe.check) => {
                let row =
                    row(&probe).ok_or_else(|| Failure::failed("the daemon's times are not understood"))?;
                out.write_all(trace::line(&probe.check, row).as_bytes())?;
            }
            Some(Line::End(why)) => return Err(Failure::no_daemon(why)),
            Some(Line::Error { error, kind }) => return Err(Failure::refused(error, kind)),
            Some(_) => {}
            None => return Err(Failure::no_daemon("announcerd has gone")),
        }
    }
}

fn row(probe: &ProbeStatus) -> Option<Row> {
    let seen = match probe.result.as_str() {
        "ok" => Seen::Ok,
        "error" => Seen::Error,
        _ => Seen::Blind,
    };
    let rtt = probe.rtt_us.map(Duration::from_micros);
    Some(Row { at: nanos(probe.time.as_bytes())?, seen, rtt })
}
