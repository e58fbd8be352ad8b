//! `announcerctl backtest` and `convert`: files in, tables and a picture out. No daemon is needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::{Backtest, Convert};
use super::style::clean;
use super::{Failure, Out};
use crate::backtest::judge::{Verdict, judge};
use crate::backtest::outage::{Span, outages};
use crate::backtest::replay::{Story, is_finer, replay, shortcomings};
use crate::backtest::sweep::{Choice, Grid, Outcome, sweep};
use crate::backtest::trace::{self, Trace};
use crate::backtest::{convert, plot};
use crate::config::model::{Config, Instance};
use crate::config::{Env, ScriptVerdict, load};
use crate::io::control::protocol::ErrorKind;
use crate::io::files;

/// An instance that is judged.
struct Case<'a> {
    instance: &'a Instance,
    outages: Vec<Span>,
}

pub(super) fn run(config: &Path, args: &Backtest, out: &mut Out<'_>) -> Result<(), Failure> {
    let config = self::config(config)?;
    let began = Instant::now();
    let trace = read_trace(&args.trace)?;
    let read = began.elapsed();
    let notes = shortcomings(&config, &trace).map_err(Failure::failed)?;
    notes.iter().try_for_each(|note| writeln!(out, "note: {}", clean(note)))?;
    let cases = cases(&config, &trace, args)?;
    if let Some(grid) = &args.sweep {
        cases.iter().try_for_each(|case| fine_enough(case, &trace, grid))?;
        for case in &cases {
            let outcomes = sweep(&config, &trace, &case.instance.name, &case.outages, grid);
            table(case, &outcomes, out)?;
        }
        return Ok(());
    }
    let began = Instant::now();
    let story = replay(&config, &trace, true);
    let took = began.elapsed();
    for case in &cases {
        report(case, &story, args.verbose, out)?;
    }
    let rate = trace.len() as f64 / took.as_secs_f64().max(1e-9);
    let (took, read) = (took.as_secs_f64(), read.as_secs_f64());
    writeln!(
        out,
        "{} results: read in {read:.2} s, replayed in {took:.2} s ({rate:.0} a second)",
        trace.len()
    )?;
    match &args.svg {
        Some(path) => picture(path, &trace, &story, &cases, out),
        None => Ok(()),
    }
}

fn config(path: &Path) -> Result<Config, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let env = Env {
        hostname: "backtest".into(),
        // Nothing is run, and no session is opened: another machine's files need not be here.
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Ok(b"unused".to_vec()),
        read_prefixes: &|file| files::prefixes(&folder.join(file)),
    };
    let (config, _) = load(path, &env).map_err(|e| Failure::refused(e.to_string(), ErrorKind::Config))?;
    Ok(config)
}

fn open(path: &Path) -> Result<Box<dyn io::BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn read_trace(path: &Path) -> Result<Trace, Failure> {
    trace::read(open(path)?).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))
}

fn cases<'a>(config: &'a Config, trace: &Trace, args: &Backtest) -> Result<Vec<Case<'a>>, Failure> {
    let wanted = |i: &&Instance| args.instance.as_ref().is_none_or(|name| **name == *i.name);
    let instances = config.instances.iter().map(|i| &**i).filter(wanted);
    let with_primary = instances.filter_map(|i| Some((i, i.primary.as_ref()?)));
    let cases: Vec<Case<'a>> = with_primary
        .map(|(instance, primary)| Case { instance, outages: outages(trace, primary, args.outage) })
        .collect();
    if cases.is_empty() {
        return Err(Failure::failed("the configuration has no such instance with a primary to judge"));
    }
    Ok(cases)
}

/// Each recorded result may be used once only: a lost probe that counts five times is no measure of `fall`.
fn fine_enough(case: &Case<'_>, trace: &Trace, grid: &Grid) -> Result<(), Failure> {
    let checks = case.instance.primary.iter().flat_map(|p| &p.checks);
    let steps = checks.filter_map(|name| Some((name, trace.of(name)?.step()?)));
    let Some((name, step)) = steps.max_by_key(|(_, step)| *step) else { return Ok(()) };
    match grid.interval.iter().find(|interval| is_finer(**interval, step)) {
        None => Ok(()),
        Some(finer) => Err(Failure::failed(format!(
            "interval={} cannot be judged: {name} was recorded each {}, so that one lost probe would count several times; sweep {} and more",
            humantime::format_duration(*finer),
            humantime::format_duration(rounded(step)),
            humantime::format_duration(rounded(step)),
        ))),
    }
}

/// Of a median with many digits, as many as tell.
fn rounded(step: Duration) -> Duration {
    let ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    let grain = if ms < 100 { 1 } else { 10 };
    Duration::from_millis(ms.saturating_add(grain / 2).max(1) / grain * grain)
}

fn report(case: &Case<'_>, story: &Story, verbose: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    let name = &*case.instance.name;
    let v = judge(story, name, &case.outages);
    writeln!(out, "{name}")?;
    writeln!(out, "  takeovers     {} ({} false)", v.takeovers, v.false_takeovers)?;
    writeln!(out, "  outages       {} ({} missed)", v.outages, v.missed)?;
    writeln!(
        out,
        "  detection     p50 {}, p95 {}, max {}",
        seconds(v.percentile(50)),
        seconds(v.percentile(95)),
        seconds(v.slowest())
    )?;
    writeln!(
        out,
        "  announced     {:.1} minutes ({:.1} while the primary was not down)",
        minutes(v.announced),
        minutes(v.announced_falsely)
    )?;
    if verbose {
        for change in story.changes.iter().filter(|c| *c.instance == *name) {
            let at = std::time::UNIX_EPOCH + Duration::from_nanos(u64::try_from(change.at).unwrap_or(0));
            let at = humantime::format_rfc3339_millis(at);
            let (from, to) = (change.from.word(), change.to.word());
            writeln!(out, "  {at} {from} -> {to}: {}", clean(&change.reason))?;
        }
    }
    Ok(())
}

fn table(case: &Case<'_>, outcomes: &[Outcome], out: &mut Out<'_>) -> Result<(), Failure> {
    writeln!(
        out,
        "{}: {} outages; * marks what no other beats in false takeovers, missed outages and p95 at once",
        case.instance.name,
        case.outages.len()
    )?;
    let first = ["  ", "fall", "rise", "interval", "failback"];
    let rest = ["takeovers", "false", "missed", "p50", "p95", "max", "announced"];
    writeln!(out, "{}", line(first.iter().chain(&rest).map(|t| (*t).to_owned())))?;
    for o in outcomes {
        writeln!(out, "{}", line(cells(o)))?;
    }
    writeln!(out, "\nPareto front")?;
    let mut front: Vec<&Outcome> = outcomes.iter().filter(|o| o.best).collect();
    front.sort_by_key(|o| (o.verdict.false_takeovers, o.verdict.percentile(95)));
    for o in front {
        writeln!(out, "{}", line(cells(o)))?;
    }
    Ok(())
}

fn cells(o: &Outcome) -> impl Iterator<Item = String> {
    let Outcome { choice: Choice { fall, rise, interval, failback_delay }, verdict: v, best } = o;
    let same = || "=".to_owned();
    let duration = |d: &Option<Duration>| d.map_or_else(same, |d| humantime::format_duration(d).to_string());
    let Verdict { takeovers, false_takeovers, missed, .. } = v;
    [
        if *best { "* " } else { "  " }.to_owned(),
        fall.map_or_else(same, |n| n.to_string()),
        rise.map_or_else(same, |n| n.to_string()),
        duration(interval),
        duration(failback_delay),
        takeovers.to_string(),
        false_takeovers.to_string(),
        missed.to_string(),
        seconds(v.percentile(50)),
        seconds(v.percentile(95)),
        seconds(v.slowest()),
        format!("{:.1}m", minutes(v.announced)),
    ]
    .into_iter()
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let widths = [2, 4, 4, 8, 8, 9, 6, 6, 9, 9, 9, 11];
    let cells: Vec<String> = cells.zip(widths).map(|(text, width)| format!("{text:>width$}")).collect();
    cells.join(" ")
}

fn picture(
    path: &Path,
    trace: &Trace,
    story: &Story,
    cases: &[Case<'_>],
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let instances: Vec<(String, Vec<Span>)> =
        cases.iter().map(|c| (c.instance.name.to_string(), c.outages.clone())).collect();
    let svg = plot::svg(trace, story, &instances);
    std::fs::write(path, svg).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    Ok(writeln!(out, "drawn to {}", path.display())?)
}

fn seconds(d: Option<Duration>) -> String {
    d.map_or_else(|| "-".to_owned(), |d| format!("{:.3}s", d.as_secs_f64()))
}

fn minutes(d: Duration) -> f64 {
    d.as_secs_f64() / 60.0
}

pub(super) fn convert(args: &Convert, out: &mut Out<'_>) -> Result<(), Failure> {
    let names: BTreeMap<String, String> = args.names.iter().cloned().collect();
    let path: PathBuf = args.log.clone();
    let rows = convert::read(open(&path)?, &names)
        .map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    for (check, row) in rows {
        out.write_all(trace::line(&check, row).as_bytes())?;
    }
    Ok(())
}
