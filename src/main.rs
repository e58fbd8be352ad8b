//! The daemon's entrance: arguments, log, exit codes. What it does is in the library; `lib.rs` is the tour.

use std::process::ExitCode;

use clap::Parser;

use announcerd::args::{Args, Command};
use announcerd::demo;
use announcerd::io::systemd::Systemd;
use announcerd::io::{afterwards, driver, log, reload, sysctl};

/// EX_CONFIG of sysexits(3).
const CONFIG_ERROR: u8 = 78;

fn main() -> ExitCode {
    // Before any thread: the environment is changed here, and the demonstration makes namespaces.
    let (manager, complaint) = Systemd::from_env();
    let args = Args::parse();
    match &args.command {
        Some(Command::Demo(demo)) => demo::main(demo),
        Some(Command::Afterwards(what)) => afterwards::main(what),
        None if args.check => check(&args),
        None => daemon(&args, manager, complaint),
    }
}

fn check(args: &Args) -> ExitCode {
    match reload::read(&args.config) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|w| eprintln!("{w}"));
            let of_machine = sysctl::warnings(&config, &sysctl::of_this_machine);
            of_machine.iter().for_each(|w| eprintln!("{}: warning: {w}", args.config.display()));
            println!("{}: no errors", args.config.display());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(CONFIG_ERROR)
        }
    }
}

fn daemon(args: &Args, manager: Systemd, complaint: Option<String>) -> ExitCode {
    let (config, warnings) = match reload::read(&args.config) {
        Ok(read) => read,
        Err(errors) => {
            // As --check shows it: the places and carets are for eyes, not for a log's fields.
            eprintln!("{errors}");
            return ExitCode::from(CONFIG_ERROR);
        }
    };
    let _log = match log::init(args.verbose) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("announcerd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let of_machine = sysctl::warnings(&config, &sysctl::of_this_machine);
    warnings
        .iter()
        .map(ToString::to_string)
        .chain(of_machine)
        .chain(complaint)
        .for_each(|w| tracing::warn!("{w}"));
    let node = config.node.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    // A task, and not what the runtime blocks on: waking that costs two system calls each time.
    let path = args.config.clone();
    let driver = runtime.spawn(async move { driver::run(&path, config, manager).await });
    let ended =
        runtime.block_on(driver).unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // Threads that wait for a slow disk or name server must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match ended {
        Ok(ending) => {
            if let Some(after) = ending.sweep_after {
                afterwards::start(&node, after);
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::FAILURE
}
