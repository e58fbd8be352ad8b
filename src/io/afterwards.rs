//! What `on_stop = "keep"` leaves in the kernel does not stay for ever: a small process waits out `keep_max` and sweeps,
//! unless another daemon has taken the state folder by then.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::clock;
use super::netlink::sweep;
use super::state::StateDir;
use crate::config::model::Node;

/// The hidden subcommand's arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct AfterwardsArgs {
    /// Milliseconds to wait
    #[arg(long)]
    wait_ms: u64,
    /// Our mark in the kernel
    #[arg(long)]
    protocol: u8,
    /// The state folder, whose lock a running daemon holds
    #[arg(long)]
    state_dir: PathBuf,
}

/// Starts that process; it outlives us. A failure is logged: the next start or `announcerctl sweep` must clean up then.
pub fn start(node: &Node, after: Duration) {
    // The very program that runs, though an upgrade may have replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command.arg("afterwards").arg("--wait-ms").arg(after.as_millis().to_string());
    command.arg("--protocol").arg(node.route_protocol.to_string()).arg("--state-dir").arg(&node.state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    if let Err(e) = command.spawn() {
        tracing::error!(
            "nothing will sweep what was kept after keep_max ({e}); do it with `announcerctl sweep`"
        );
    }
}

/// Waits and sweeps.
pub fn main(args: &AfterwardsArgs) -> ExitCode {
    std::thread::sleep(Duration::from_millis(args.wait_ms));
    let wall = clock::wall();
    // Held by a running daemon: everything is its business now.
    let Ok((_held, left)) = StateDir::open(&args.state_dir, &wall) else { return ExitCode::SUCCESS };
    // Kept anew by a daemon that came and went meanwhile: its own process waits for that.
    if left.memory.kept_until.is_some_and(|until| until > wall.at) {
        return ExitCode::SUCCESS;
    }
    match sweep(args.protocol) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
