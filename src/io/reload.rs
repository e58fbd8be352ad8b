//! Reading the configuration file beside the loop, one reading at a time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use super::{files, script_guard};
use crate::announcer::event::RequestId;
use crate::config::model::Config;
use crate::config::{self, Diagnostic, Diagnostics, Env};

/// A configuration with its warnings, or what is wrong with it.
pub type Read = Result<(Config, Vec<Diagnostic>), Diagnostics>;

/// A reading that has come to its end.
#[derive(Debug)]
pub struct Loaded {
    /// Who asked; None: a signal.
    pub request: Option<RequestId>,
    /// What was read.
    pub result: Read,
}

/// Readings under way and asked for. A later one never overtakes an earlier one.
#[derive(Debug, Default)]
pub struct Reloads {
    waiting: VecDeque<(PathBuf, Option<RequestId>)>,
    running: Option<(Option<RequestId>, JoinHandle<Read>)>,
}

/// Reads a configuration, with this machine's name and this user's eyes on scripts. Blocks.
pub fn read(path: &Path) -> Read {
    in_env(path.parent().unwrap_or(Path::new("")), |env| config::load(path, env))
}

/// Checks a text that is no file yet; files that it names are looked for in `folder`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn check(name: &str, text: &str, folder: &Path) -> Result<(), Diagnostics> {
    in_env(folder, |env| config::parse(name, text, env)).map(|_| ())
}

fn in_env<T>(folder: &Path, read: impl FnOnce(&Env<'_>) -> T) -> T {
    let euid = nix::unistd::geteuid().as_raw();
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let inspect = |command: &[String]| script_guard::inspect(command, euid);
    let env = Env {
        hostname: hostname.unwrap_or_else(|_| "localhost".to_owned()),
        inspect_script: &inspect,
        read_secret: &|file| files::secret(&folder.join(file), euid),
        read_prefixes: &|file| files::prefixes(&folder.join(file)),
    };
    read(&env)
}

impl Reloads {
    /// Asks for a reading.
    pub fn begin(&mut self, path: &Path, request: Option<RequestId>) {
        self.waiting.push_back((path.to_owned(), request));
        self.start_next();
    }

    /// The next reading that ends; None if none is under way. Cancel safe.
    pub async fn next(&mut self) -> Option<Loaded> {
        let (request, task) = self.running.as_mut()?;
        let request = *request;
        let result = task.await;
        self.running = None;
        self.start_next();
        let result =
            result.unwrap_or_else(|panic| Err(Diagnostics::of_file("the configuration", panic.to_string())));
        Some(Loaded { request, result })
    }

    fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some((path, request)) = self.waiting.pop_front() {
            self.running = Some((request, tokio::task::spawn_blocking(move || read(&path))));
        }
    }
}
