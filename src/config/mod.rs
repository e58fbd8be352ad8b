//! From the file to a checked [`model::Config`].
//!
//! [`parse`] is pure: text in, a configuration or every error out. It goes in three steps. The TOML parser keeps
//! the place of each value and recovers from syntax errors; `reader` walks the result with types and ranges and one
//! file a table (`node`, `check`, `bgp`, `instance`, `route`, `tunnel`, `rule`, `announce`); `resolve`, `peers`, `guards`, `guards_bgp` and `guards_tunnel` then judge what needs the whole.
//! No step stops at an error. [`diff`] tells two configurations apart for a reload.

mod announce;
mod bfd;
mod bgp;
mod check;
mod diagnostic;
pub mod diff;
pub mod duration;
mod facts;
mod guards;
mod guards_bgp;
mod guards_tunnel;
mod instance;
mod later;
pub mod model;
mod nexthops;
mod node;
mod peers;
mod prefixes;
mod probe;
mod probe_dns;
mod probe_http;
mod reader;
mod report;
mod resolve;
mod route;
mod rule;
mod suggest;
mod tunnel;
mod values;
pub(crate) mod words;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
use model::Config;
pub use node::{ROUTE_PROTOCOL, STATE_DIR, control_in, mark_in, state_dir_in};
use reader::Table;
use report::Report;

/// The largest file that is read, in bytes.
pub const LARGEST: u64 = 64 << 20;

/// What the machine adds to the file.
pub struct Env<'a> {
    /// The default of `node.name`.
    pub hostname: String,
    /// Looks at the program of a command; see [`crate::io::script_guard::inspect`].
    pub inspect_script: &'a dyn Fn(&[String]) -> ScriptVerdict,
    /// Reads a file that holds a password; refuses, in words, one that others can read. See
    /// [`crate::io::files::secret`].
    pub read_secret: ReadFile<'a>,
    /// Reads a file of prefixes; see [`crate::io::files::prefixes`].
    pub read_prefixes: ReadFile<'a>,
}

/// Reads a file that the configuration names, or says in words why it cannot be. Relative paths are meant from the
/// folder of the configuration.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Result<Vec<u8>, String>;

/// Whether a program may be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScriptVerdict {
    /// It may.
    Ok,
    /// It is not there, or not executable; words that name it. Refused when it is to be run, not before.
    Missing(String),
    /// Others could write to it; words that name the place and the mend.
    Insecure(String),
}

/// Reads a configuration from its text. `file_name` is used in the messages only.
///
/// # Errors
///
/// Everything that is wrong, sorted by place, with the warnings between.
pub fn parse(file_name: &str, source: &str, env: &Env<'_>) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let (document, syntax) = DeTable::parse_recoverable(source);
    let mut report = Report::new(source);
    report.syntax(syntax);
    let config = read(&report, document.get_ref(), env);
    let (items, has_errors) = report.finish(file_name);
    match config {
        Some(config) if !has_errors => Ok((config, items)),
        _ => Err(Diagnostics { items }),
    }
}

/// The paths of all keys that the readers ask for while they read `source`, whether they are there or not. The readers
/// say so themselves, so that a manual can be compared with them; they ask in the tables that `source` has.
#[doc(hidden)]
pub fn keys_asked_for(source: &str, env: &Env<'_>) -> BTreeSet<String> {
    let (document, _) = DeTable::parse_recoverable(source);
    let report = Report::curious(source);
    read(&report, document.get_ref(), env);
    report.into_asked()
}

fn read<'s>(report: &Report<'s>, document: &DeTable<'s>, env: &Env<'_>) -> Option<Config> {
    let mut root = Table::new(report, "", String::new(), 0..0, document);
    let speaks_bgp = root.has("bgp");
    let node = root.get("node", |i| match i.is_array() {
        true => i.fail("there is one node: write the header as [node]"),
        false => i.table("node").map(|table| node::read(table, speaks_bgp, env)),
    });
    let node = node.unwrap_or_else(|| node::default(env));
    if speaks_bgp && !root.has("node") && !report.is_broken() {
        report.error(root.key_span("bgp"), "node.router_id", node::NO_ROUTER_ID);
    }
    let peers = root.or("bgp", Vec::new(), |i| bgp::read_all(&i, node.router_id, env));
    let checks = root.or("check", Vec::new(), |i| check::read_all(&i, env));
    let instances = root.or("instance", Vec::new(), |i| instance::read_all(&i, env));
    if !root.has("instance") && !report.is_broken() {
        root.warning("instance", "there is no [[instance]]: nothing will ever be announced");
    }
    let all_read = !root.is_wrong("check") && !report.is_broken();
    let all_peers_read = !root.is_wrong("bgp") && !report.is_broken();
    root.finish();
    peers::resolve(report, &peers, &checks, &instances, all_peers_read);
    resolve::resolve(report, &checks, &instances, all_read);
    let whole_checks = checks.iter().filter_map(|c| Some((c, c.check.as_ref()?)));
    bfd::resolve(report, whole_checks, peers.iter().filter_map(|p| Some((p, p.bgp.as_ref()?))));
    guards::guard(report, &node, &checks, &peers, &instances);
    guards_bgp::guard(report, &node, &peers, &instances);
    guards_tunnel::guard(report, &checks, &peers, &instances);
    let names: Vec<model::Name> = peers.iter().filter_map(|p| p.name.clone()).collect();
    let bgp = peers.into_iter().map(|p| p.bgp.map(Arc::new)).collect::<Option<_>>()?;
    let checks = checks.into_iter().map(|c| c.check.map(Arc::new)).collect::<Option<_>>()?;
    let instances =
        instances.into_iter().map(|i| i.into_instance(&names).map(Arc::new)).collect::<Option<_>>()?;
    Some(Config { node, checks, instances, bgp })
}

/// Reads a configuration from a file.
///
/// # Errors
///
/// As [`parse`]; also if the file cannot be read, is larger than [`LARGEST`], or is not UTF-8.
pub fn load(path: &Path, env: &Env<'_>) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let name = path.display().to_string();
    let whole = |message: String| Diagnostics::of_file(&name, message);
    let bytes = read_bounded(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(whole(format!("is larger than {} MiB; is it a configuration?", LARGEST >> 20)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(source) => parse(&name, source, env),
        Err(error) => Err(not_utf8(&name, &bytes, error.valid_up_to())),
    }
}

/// One byte more than is allowed, at most: a path such as /dev/zero has no end.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(name: &str, bytes: &[u8], at: usize) -> Diagnostics {
    // What is before the bad byte stays as it is, so that offsets agree; the bad byte becomes one character.
    let text = String::from_utf8_lossy(bytes);
    let report = Report::new(&text);
    let end = at + char::REPLACEMENT_CHARACTER.len_utf8();
    report.error(at..end, "encoding", "this is not UTF-8; save the file in that encoding");
    Diagnostics { items: report.finish(name).0 }
}
