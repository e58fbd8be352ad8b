//! Golden tests of the configuration reader: every folder of `tests/config/` is a case, `input.toml` in and
//! `expected.txt` out. `ANNOUNCERD_BLESS=1 cargo test --test config` writes what came out; read it before you commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use announcerd::config::{self, Env, ScriptVerdict};

/// A machine with two programs that give trouble.
fn inspect(command: &[String]) -> ScriptVerdict {
    match command.first().map(String::as_str) {
        Some("/opt/missing.sh") => ScriptVerdict::Missing("`/opt/missing.sh` does not exist".into()),
        Some("/opt/open.sh") => ScriptVerdict::Insecure(
            "`/opt/open.sh` can be written to by everybody: chmod go-w /opt/open.sh".into(),
        ),
        _ => ScriptVerdict::Ok,
    }
}

/// What the files hold that the cases name.
fn file(path: &Path) -> Result<Vec<u8>, String> {
    let many_wrong = (0..30).map(|n| format!("198.51.100.{n}/24 # {n}\n")).collect::<String>();
    let many_outside = (0..30).map(|n| format!("203.0.{n}.0/24\n")).collect::<String>();
    let name = path.to_str().unwrap_or_default();
    let text = match name {
        "key" | "/etc/key" => "secret\n",
        "other-key" => "another",
        "open-key" => return Err(format!("`{name}` can be read or changed by everybody: chmod 600 {name}")),
        "empty-key" => "\n",
        "long-key" => "0123456789012345678901234567890123456789012345678901234567890123456789012345678901",
        "two-lines-key" => "one\ntwo\n",
        "prefixes" => "# ours\n198.51.100.0/24\r\n\n  2001:db8:100::/48 # all of it\n",
        "prefixes-only-comments" => "# none\n\n",
        "prefixes-wrong" => "198.51.100.0/24\n198.51.100.1/24\nnonsense\n192.0.2.1\n",
        "prefixes-many-wrong" => &many_wrong,
        "prefixes-outside" => "198.51.100.0/24\n203.0.113.0/24\n",
        "prefixes-many-outside" => &many_outside,
        "prefixes-long" => "198.51.100.0/25\n198.51.100.0/24\n198.51.100.128/25\n",
        "prefixes-default" => "0.0.0.0/0\n",
        _ => return Err(format!("`{name}` cannot be read: No such file or directory (os error 2)")),
    };
    Ok(text.into())
}

fn outcome(source: &str) -> String {
    let env = Env {
        hostname: "standby.example".into(),
        inspect_script: &inspect,
        read_secret: &file,
        read_prefixes: &file,
    };
    match config::parse("input.toml", source, &env) {
        Ok((config, warnings)) => {
            let mut text = String::new();
            for warning in warnings {
                writeln!(text, "{warning}").unwrap();
            }
            let (checks, instances) = (config.checks.len(), config.instances.len());
            writeln!(text, "accepted: {checks} checks, {instances} instances").unwrap();
            text
        }
        Err(diagnostics) => format!("{diagnostics}\n"),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// The lines of both, those that only one has marked with `-` (expected) or `+` (came out).
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let missing = expected.iter().filter(|line| !actual.contains(line)).map(|line| format!("- {line}\n"));
    let surplus = actual.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}\n"));
    missing.chain(surplus).collect()
}

#[test]
fn every_case_says_what_is_expected() {
    let bless = std::env::var_os("ANNOUNCERD_BLESS").is_some();
    let mut failures = String::new();
    let cases = cases();
    assert!(cases.len() > 30, "the cases are gone");
    for case in cases {
        let source = std::fs::read_to_string(case.join("input.toml")).unwrap();
        let actual = outcome(&source);
        let file = case.join("expected.txt");
        if bless {
            std::fs::write(&file, &actual).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if expected != actual {
            let name = case.file_name().unwrap().to_string_lossy();
            writeln!(failures, "== {name}\n{}", difference(&expected, &actual)).unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}\n(ANNOUNCERD_BLESS=1 accepts this)");
}
