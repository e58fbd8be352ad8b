//! `announcerctl`: asks the daemon over its control socket and shows the answers to people and to scripts.
//!
//! [`args`] says what can be asked, [`client`] asks, [`status`] and [`events`] show. Exit codes: 0 done, 1 failed,
//! 2 usage, 3 no daemon, 78 the configuration is wrong.

pub mod args;
mod backtest;
pub mod client;
mod drill;
pub mod events;
mod record;
pub mod status;
pub mod style;
pub mod sweep;
pub mod table;
mod watch;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use serde_json::Value;

use crate::import;
use crate::io::control::protocol::{ErrorKind, Line, Request};
use crate::io::reload;
use crate::status::{EventStatus, Status};
use args::{Args, Command};
use client::Client;
use events::Printer;
use style::{Style, clean};

/// It did not work.
const FAILED: u8 = 1;
/// No daemon answers.
const NO_DAEMON: u8 = 3;
/// EX_CONFIG of sysexits.h.
const CONFIG: u8 = 78;

/// Why a command ends without success.
#[derive(Debug)]
pub enum Failure {
    /// Exit code and words.
    Said(u8, String),
    /// Nobody reads our output any more: no reason to complain.
    OutputClosed,
}

impl Failure {
    /// It did not work.
    pub fn failed(text: impl Into<String>) -> Self {
        Failure::Said(FAILED, text.into())
    }

    /// No daemon answers.
    pub fn no_daemon(text: impl Into<String>) -> Self {
        Failure::Said(NO_DAEMON, text.into())
    }

    /// The daemon's refusal.
    pub fn refused(error: String, kind: ErrorKind) -> Self {
        let code = if kind == ErrorKind::Config { CONFIG } else { FAILED };
        Failure::Said(code, error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing to stdout: everything else is said with what was tried.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::failed(format!("cannot write the answer: {error}")),
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run(&args, &mut out).and_then(|()| Ok(out.flush()?));
    // What is left was refused already: dropped without another try.
    let _ = out.into_parts();
    match done {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Said(code, text)) => {
            let text = text.lines().map(clean).collect::<Vec<_>>().join("\n");
            // With stderr closed too, the exit code must do.
            let _ = writeln!(io::stderr(), "announcerctl: {text}");
            ExitCode::from(code)
        }
    }
}

type Out<'a> = BufWriter<StdoutLock<'a>>;

fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    match &args.command {
        Command::Status { json } => status(&args.socket(), *json, out),
        Command::Watch { no_color } => watch::run(&args.socket(), *no_color, out),
        Command::Events { follow, json, since } => events(&args.socket(), *follow, *json, *since, out),
        Command::Sweep { protocol, force } => {
            sweep::run(&args.socket(), &args.config, sweep::mark(*protocol, &args.config)?, *force, out)
        }
        Command::ImportKeepalived { file, config_id } => import(file, config_id.as_deref(), out),
        Command::Drill { instance, hold, dry_run } => {
            drill::run(&args.socket(), instance, hold, *dry_run, out)
        }
        Command::Backtest(what) => backtest::run(&args.config, what, out),
        Command::Convert(args) => backtest::convert(args, out),
        Command::Record { checks } => record::run(&args.socket(), checks, out),
        Command::Maintenance { switch } => {
            tell(args, &Request::Maintenance { on: *switch == args::Switch::On }, out)
        }
        Command::Handover => tell(args, &Request::Handover {}, out),
        Command::Explain { instance } => tell(args, &Request::Explain { instance: instance.clone() }, out),
        Command::Auto { instance } => tell(args, &Request::Auto { instance: instance.clone() }, out),
        Command::Force { instance, state, lasting } => {
            let (instance, state, lasting) = (instance.clone(), (*state).into(), lasting.clone());
            tell(args, &Request::Force { instance, state, lasting }, out)
        }
        Command::Failback { instance, reset_flaps } => {
            let request = Request::Failback { instance: instance.clone(), reset_flaps: *reset_flaps };
            tell(args, &request, out)
        }
        Command::Reload => tell(args, &Request::Reload {}, out),
    }
}

fn import(file: &Path, id: Option<&str>, out: &mut Out<'_>) -> Result<(), Failure> {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let id = id.unwrap_or_else(|| host.split('.').next().unwrap_or_default());
    let check = |text: &str| reload::check("announcer.toml", text, Path::new("/etc"));
    let text =
        import::convert(file, id, check).map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    Ok(out.write_all(text.as_bytes())?)
}

/// Asks, and prints the answer's text.
fn tell(args: &Args, request: &Request, out: &mut Out<'_>) -> Result<(), Failure> {
    let answer = Client::connect(&args.socket())?.ask(request)?;
    for line in text_of(&answer) {
        writeln!(out, "{}", clean(&line))?;
    }
    Ok(())
}

/// The lines of a text, or of `{"text": [...]}`; of anything else, its JSON.
fn text_of(answer: &Value) -> Vec<String> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    match (answer, answer.get("text")) {
        (Value::String(text), _) | (_, Some(Value::String(text))) => lines(text),
        (_, Some(Value::Array(text))) => {
            text.iter().map(|l| l.as_str().map_or_else(|| l.to_string(), str::to_owned)).collect()
        }
        _ => lines(&format!("{answer:#}")),
    }
}

fn status(control: &Path, json: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    let answer = Client::connect(control)?.ask(&Request::Status {})?;
    if json {
        return Ok(writeln!(out, "{answer:#}")?);
    }
    let status: Status = serde_json::from_value(answer).map_err(|e| strange(&e))?;
    Ok(write!(out, "{}", status::render(&status, SystemTime::now(), Style::of_stdout()))?)
}

fn events(
    control: &Path,
    follow: bool,
    json: bool,
    since: Option<SystemTime>,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let mut client = Client::connect(control)?;
    let answer = client.ask(&Request::Events { after: 0, follow })?;
    let past: Vec<EventStatus> = serde_json::from_value(answer).map_err(|e| strange(&e))?;
    let mut printer = Printer::new(Style::of_stdout());
    let mut show = |event: &EventStatus, out: &mut Out<'_>| -> Result<(), Failure> {
        let text = if json {
            serde_json::to_string(event).map_err(|e| strange(&e))? + "\n"
        } else {
            printer.print(event)
        };
        Ok(out.write_all(text.as_bytes())?)
    };
    let is_old = |event: &EventStatus| {
        since.is_some_and(|since| humantime::parse_rfc3339(&event.time).is_ok_and(|at| at < since))
    };
    past.iter().filter(|event| !is_old(event)).try_for_each(|event| show(event, out))?;
    if !follow {
        return Ok(());
    }
    loop {
        out.flush()?;
        match client.next_line(out.get_ref())? {
            Some(Line::Event(event)) => show(&event, out)?,
            Some(Line::Ok(_) | Line::Probe(_) | Line::Drill(_)) => {}
            Some(Line::End(why)) => return Err(Failure::no_daemon(why)),
            Some(Line::Error { error, kind }) => return Err(Failure::refused(error, kind)),
            None => return Err(Failure::no_daemon("announcerd has gone")),
        }
    }
}

fn strange(error: &serde_json::Error) -> Failure {
    Failure::failed(format!(
        "the answer is not understood ({error}); is announcerd of the same version as announcerctl?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_in_three_shapes() {
        assert_eq!(text_of(&"a\nb".into()), ["a", "b"]);
        assert_eq!(text_of(&serde_json::json!({"text": ["a", "b"]})), ["a", "b"]);
        assert_eq!(text_of(&serde_json::json!([1])), ["[", "  1", "]"]);
    }
}
