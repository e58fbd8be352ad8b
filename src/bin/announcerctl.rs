//! `announcerctl`: talks to the daemon over its control socket.

use std::process::ExitCode;

fn main() -> ExitCode {
    announcerd::ctl::main()
}
