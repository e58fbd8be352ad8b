//! The manual in packaging/man says what the programs do: every key, command and flag that there is, no other, and each
//! default as it is. The completions in packaging/completions are those of the command lines.
//!
//! announcer.toml(5) is read by its form: a heading for each table, `.It Cm KEY Pq TYPE, default VALUE` for each key, and
//! examples (`.Bd -literal`) that are one valid file when they are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use announcerd::announcer::journal::State;
use announcerd::announcer::{Announcer, Legacy};
use announcerd::bfd::{Hops, SessionConfig, SessionId, Speaker};
use announcerd::config::model::Config;
use announcerd::config::{Env, ScriptVerdict, keys_asked_for, parse};
use announcerd::status::{BfdDetail, KernelStatus, OverrideStatus, PendingStatus, Status, WallClock};
use announcerd::time::Time;
use announcerd::{args, ctl};
use clap::CommandFactory;
use regex::Regex;
use toml::{Table, Value};

const PAGES: [&str; 3] = ["announcerd.8", "announcerctl.8", "announcer.toml.5"];

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn page(name: &str) -> String {
    std::fs::read_to_string(packaging("man").join(name)).unwrap()
}

/// What roff shows in the place of its escapes.
fn plain(text: &str) -> String {
    [("\\(dq", "\""), ("\\-", "-"), ("\\e", "\\"), ("\\&", "")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn the_pages_are_well_formed() {
    for name in PAGES {
        let file = packaging("man").join(name);
        let out = Command::new("mandoc").args(["-T", "lint", "-W", "style"]).arg(file).output();
        let out = out.expect("mandoc is installed (package mandoc)");
        let words = String::from_utf8_lossy(&out.stdout).into_owned();
        // Which pages a machine has is its own business.
        let wrong: Vec<&str> = words.lines().filter(|l| !l.contains("referenced manual not found")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let wide = page(name).lines().any(|l| l.len() > 150);
        assert!(!wide, "{name} has lines that nobody can read");
    }
}

// --- announcer.toml(5) ---

fn env() -> Env<'static> {
    Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Ok(b"secret".to_vec()),
        read_prefixes: &|_| Ok(b"203.0.113.128/25\n".to_vec()),
    }
}

fn read(document: &Table) -> Result<Config, String> {
    parse("example.toml", &document.to_string(), &env()).map(|(config, _)| config).map_err(|e| e.to_string())
}

/// A key as the page has it.
#[derive(Debug)]
struct Key {
    /// As in `instance.route.to`; of a check `check.ping.host`, and `check.*.name` if every type has it.
    path: String,
    default: Option<Value>,
}

struct Manual {
    keys: Vec<Key>,
    sections: BTreeSet<String>,
    example: Table,
}

/// "[[instance.route]]" is about `instance.route`, "[[check]] of type ping" about `check.ping`.
fn section(heading: &str) -> Option<String> {
    let (table, kind) = heading.split_once(" of type ").map_or((heading, None), |(t, k)| (t, Some(k)));
    let table = table.strip_prefix('[')?.trim_matches(['[', ']']);
    Some(match (table, kind) {
        ("check", None) => "check.*".to_owned(),
        (_, None) => table.to_owned(),
        (_, Some(kind)) => format!("{table}.{kind}"),
    })
}

fn manual() -> Manual {
    let item = Regex::new(r"^\.It Cm (\S+) Pq (.*)$").unwrap();
    let default = Regex::new(r"default (.*)$").unwrap();
    let (mut keys, mut sections, mut example) = (Vec::new(), BTreeSet::new(), String::new());
    let (mut here, mut literal) = (None, false);
    for line in page("announcer.toml.5").lines() {
        if let Some(heading) = line.strip_prefix(".Ss ").or(line.strip_prefix(".Sh ")) {
            here = section(&plain(heading));
            sections.extend(here.clone());
        } else if line.starts_with(".Bd -literal") {
            literal = true;
        } else if line.starts_with(".Ed") {
            literal = false;
        } else if literal && here.is_some() {
            example += &(plain(line) + "\n");
        } else if let Some(found) = item.captures(line) {
            let section = here.as_deref().unwrap_or_else(|| panic!("{line} is in no table's section"));
            let text = plain(&found[2]);
            let value = default.captures(&text).and_then(|c| format!("v = {}", &c[1]).parse::<Table>().ok());
            let default = value.and_then(|mut t| t.remove("v"));
            keys.push(Key { path: format!("{section}.{}", &found[1]), default });
        }
    }
    let example = example.parse().unwrap_or_else(|e| panic!("the examples together: {e}\n{example}"));
    Manual { keys, sections, example }
}

/// All tables of a document at a path such as `instance.route.nexthops` or `check.ping`.
fn tables_at<'d>(document: &'d mut Table, path: &str) -> Vec<&'d mut Table> {
    let mut here = vec![document];
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let into = here.into_iter().filter_map(|table| table.get_mut(step));
        here = into.flat_map(tables).collect();
        if step == "check" {
            let kind = steps.next().unwrap_or("*");
            here.retain(|check| kind == "*" || check["type"].as_str() == Some(kind));
        }
    }
    here
}

fn tables(value: &mut Value) -> Vec<&mut Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(values) => values.iter_mut().filter_map(Value::as_table_mut).collect(),
        _ => Vec::new(),
    }
}

/// What the readers ask for in the examples, in the page's form: `check.TYPE.KEY` for checks, without names and numbers.
fn asked(example: &Table) -> BTreeSet<String> {
    let checks = example["check"].as_array().unwrap().iter();
    let types: BTreeMap<&str, &str> =
        checks.map(|c| (c["name"].as_str().unwrap(), c["type"].as_str().unwrap())).collect();
    let number = Regex::new(r"\[\d+\]").unwrap();
    let canonical = |path: &String| {
        let path = number.replace_all(path, "").into_owned();
        let mut steps: Vec<&str> = path.split('.').collect();
        match (steps[0], steps.len()) {
            (_, 1) => return None,
            ("check", _) => steps[1] = types[steps[1]],
            ("bgp" | "instance", _) => drop(steps.remove(1)),
            _ => {}
        }
        // "a table like master's".
        (!steps.join(".").starts_with("instance.announce.backup.")).then(|| steps.join("."))
    };
    keys_asked_for(&example.to_string(), &env()).iter().filter_map(canonical).collect()
}

/// What the page says, each key of every check for each type of check.
fn documented(manual: &Manual, asked: &BTreeSet<String>) -> BTreeSet<String> {
    let types: Vec<&str> = manual.sections.iter().filter_map(|s| s.strip_prefix("check.")).collect();
    let spread = |key: &Key| match key.path.strip_prefix("check.*.") {
        Some(name) => {
            let all = types.iter().filter(|t| **t != "*").map(|t| format!("check.{t}.{name}"));
            let all: Vec<String> = all.filter(|path| asked.contains(path)).collect();
            assert!(!all.is_empty(), "no check has the key {name}");
            all
        }
        None => vec![key.path.clone()],
    };
    manual.keys.iter().flat_map(spread).collect()
}

#[test]
fn every_key_is_in_the_manual_and_every_key_of_the_manual_exists() {
    let manual = manual();
    let asked = asked(&manual.example);
    let documented = documented(&manual, &asked);
    let missing: Vec<_> =
        asked.difference(&documented).filter(|key| !manual.sections.contains(*key)).collect();
    assert!(missing.is_empty(), "not in the manual: {missing:#?}");
    let invented: Vec<_> = documented.difference(&asked).collect();
    assert!(invented.is_empty(), "nobody reads: {invented:#?}");
}

/// The readers ask only in tables that are there: so the examples must have a table of every kind.
#[test]
fn the_examples_have_a_table_of_every_kind() {
    let manual = manual();
    let sources = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config")).unwrap();
    let call = Regex::new(r#"\.table(?:_named)?\(\s*"([a-z._]+)""#).unwrap();
    let mut kinds = BTreeSet::new();
    for source in sources.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(source).unwrap();
        kinds.extend(call.captures_iter(&text).map(|c| c[1].to_owned()));
    }
    let place = |kind: &str| match kind {
        "check.fall" | "check.headers" => format!("check.*.{}", &kind["check.".len()..]),
        "instance.gate" => "instance.primary".to_owned(),
        "instance.announce.attributes" => "instance.announce.master".to_owned(),
        "instance.route.nexthop" => "instance.route.nexthops".to_owned(),
        "bfd.authentication" => "bgp.bfd.authentication".to_owned(),
        "check" => "check.*".to_owned(),
        other => other.to_owned(),
    };
    let mut example = manual.example;
    for kind in &kinds {
        assert!(!tables_at(&mut example, &place(kind)).is_empty(), "the examples have no {kind}");
    }
    assert!(kinds.len() >= 15, "{kinds:?}");
}

#[test]
fn the_examples_are_valid_and_have_every_key() {
    let mut manual = manual();
    read(&manual.example).unwrap_or_else(|e| panic!("{e}"));
    let mut missing = Vec::new();
    for key in &manual.keys {
        let (table, name) = key.path.rsplit_once('.').unwrap();
        if !tables_at(&mut manual.example, table).iter().any(|table| table.contains_key(name)) {
            missing.push(&key.path);
        }
    }
    assert!(missing.is_empty(), "in no example: {missing:#?}");
}

/// Left out, or written with the default that the page names: the same configuration.
#[test]
fn the_defaults_are_what_the_manual_says() {
    let manual = manual();
    let mut tried = 0;
    for key in &manual.keys {
        let Some(default) = &key.default else { continue };
        let (table, name) = key.path.rsplit_once('.').unwrap();
        let count = tables_at(&mut manual.example.clone(), table).len();
        let same = (0..count).any(|n| {
            let with = |change: &dyn Fn(&mut Table)| {
                let mut document = manual.example.clone();
                change(tables_at(&mut document, table).remove(n));
                read(&document)
            };
            let without = with(&|t| drop(t.remove(name)));
            let written = with(&|t| drop(t.insert(name.to_owned(), default.clone())));
            without.is_ok() && without == written
        });
        assert!(same, "{}: the default is not {default}", key.path);
        tried += 1;
    }
    assert!(tried > 50, "only {tried} defaults were found");
}

// --- announcerd(8) and announcerctl(8) ---

/// What a page says of flags: of each command (`.It Ic NAME`), and outside of them under "".
fn flags(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let flag = Regex::new(r"\bFl (-?[A-Za-z][a-z-]*)").unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut here = String::new();
    for line in text.lines() {
        match line.strip_prefix(".It Ic ") {
            Some(item) => here = item.split(' ').next().unwrap_or_default().to_owned(),
            None if line.starts_with(".Sh ") => here.clear(),
            None => {}
        }
        let flags = flag.captures_iter(line).map(|c| plain(&c[1]));
        found.entry(here.clone()).or_default().extend(flags);
    }
    found
}

/// The same of a command line, in the page's form: `j` and `-json`.
fn flags_of(command: &clap::Command) -> BTreeSet<String> {
    let arguments = command.get_arguments();
    let names = arguments.flat_map(|a| {
        let long = a.get_long().map(|l| format!("-{l}"));
        long.into_iter().chain(a.get_short().map(String::from))
    });
    names.collect()
}

fn same_commands(page: &str, command: &clap::Command) {
    let mut expected = BTreeMap::new();
    let mut own = flags_of(command);
    own.extend(["h", "-help", "V", "-version"].map(String::from));
    expected.insert(String::new(), own);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        expected.insert(sub.get_name().to_owned(), flags_of(sub));
    }
    assert_eq!(flags(page), expected);
}

#[test]
fn the_commands_and_flags_are_those_of_the_programs() {
    same_commands(&page("announcerctl.8"), &ctl::args::Args::command());
    same_commands(&page("announcerd.8"), &args::Args::command());
}

/// What `status -j` prints: each field is explained, and no other.
#[test]
fn the_fields_of_the_status_are_explained() {
    let text = page("announcerctl.8");
    let (_, json) = text.split_once("\n.Sh JSON").expect("a section on JSON");
    let (json, _) = json.split_once("\n.Sh ").unwrap();
    let field = Regex::new(r"^\.It Va (\S+)").unwrap();
    let explained: BTreeSet<&str> =
        json.lines().filter_map(|l| field.captures(l)).map(|c| c.get(1).unwrap().as_str()).collect();
    let (config, _) = parse("example.toml", &manual().example.to_string(), &env()).unwrap();
    let core = Announcer::new(config, &Legacy::default(), Time::ZERO);
    let clock = WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH };
    let status = serde_json::to_value(filled(core.status(Time::ZERO, &clock))).unwrap();
    let mut there = BTreeSet::new();
    names(&status, &mut there);
    for name in ["override", "until", "last_rtt_us", "desired", "what", "last_discard", "p99_us"] {
        assert!(there.contains(name), "{name} is not in {there:?}");
    }
    let missing: Vec<_> = there.iter().filter(|name| !explained.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not explained: {missing:?}");
    let source = include_str!("../src/status.rs");
    for name in explained {
        let known =
            source.contains(&format!("pub {name}: ")) || source.contains(&format!("rename = \"{name}\""));
        assert!(known, "there is no field {name}");
    }
}

/// With everything in it that there can be, so that no field hides in what is null.
fn filled(mut status: Status) -> Status {
    let until = Some("2026-11-22T04:00:00Z".to_owned());
    let instance = status.instances.first_mut().expect("an instance");
    instance.forced = Some(OverrideStatus { state: State::Backup, until });
    instance.pending = Some(PendingStatus { what: "failback".into(), at: "2026-11-22T04:00:00Z".into() });
    let (id, config) = (SessionId(1), bfd_session());
    let mut speaker = Speaker::new(1);
    speaker.start(id, config, Time::ZERO);
    let session = speaker.session(id).expect("the session").status();
    status.bfd.first_mut().expect("a BFD session").detail = Some(BfdDetail::new(&session));
    status.kernel.push(KernelStatus {
        kind: "route".into(),
        object: "198.51.100.0/24 dev lo".into(),
        desired: true,
        observed: false,
        error: None,
    });
    let lists = [status.checks.len(), status.bgp.len(), status.kernel.len()];
    assert!(lists.iter().all(|len| *len > 0), "{lists:?}");
    status
}

fn bfd_session() -> SessionConfig {
    let remote = "203.0.113.1".parse().expect("an address");
    SessionConfig {
        path: announcerd::bfd::Path { remote, local: None, device: None, hops: Hops::Single },
        interval: Duration::from_millis(300),
        multiplier: 3,
        passive: false,
        auth: None,
    }
}

fn names(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.keys().cloned());
            fields.values().for_each(|value| names(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

// --- Completions ---

/// Without the commands that are not for people.
fn visible(program: &'static str, command: &clap::Command) -> clap::Command {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    clap::Command::new(program)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(shown)
}

/// `ANNOUNCERD_BLESS=1 cargo test --test manual completions` writes them anew.
#[test]
fn the_completions_are_those_of_the_command_lines() {
    use clap_complete::{Generator, Shell};
    let bless = std::env::var_os("ANNOUNCERD_BLESS").is_some();
    for (program, command) in
        [("announcerd", args::Args::command()), ("announcerctl", ctl::args::Args::command())]
    {
        let command = visible(program, &command);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut made = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), program, &mut made);
            let file = packaging("completions").join(shell.file_name(program));
            if bless {
                std::fs::write(&file, &made).unwrap();
            }
            let kept = std::fs::read(&file).unwrap_or_default();
            assert!(
                kept == made,
                "{} is not what the command line gives; ANNOUNCERD_BLESS=1",
                file.display()
            );
        }
    }
}

// --- The guide ---

/// The guide's pages, by name.
fn guides() -> Vec<(String, String)> {
    let files = std::fs::read_dir(packaging("guide")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|f| (f.file_name().unwrap().to_string_lossy().into(), std::fs::read_to_string(&f).unwrap()))
        .collect()
}

/// Commands of ours, each in its words: what stands on a line of a block, up to a pipe, and what is quoted in the text.
fn commands_in(text: &str) -> Vec<Vec<String>> {
    let quoted = Regex::new("`(announcer(?:d|ctl) [^`]*)`").unwrap();
    let mut all: Vec<&str> = quoted.captures_iter(text).map(|c| c.get(1).unwrap().as_str()).collect();
    let mut inside = false;
    for line in text.lines() {
        inside ^= line.starts_with("```");
        let command = line.trim();
        let ours = command.starts_with("announcerctl ") || command.starts_with("announcerd ");
        if ours && (inside || line.starts_with("      ")) {
            all.push(command);
        }
    }
    let plain = all.iter().map(|l| l.split(['|', '#', '>']).next().unwrap_or_default());
    plain.map(|l| l.split_whitespace().map(|w| w.replace('…', "mainland")).collect()).collect()
}

#[test]
fn the_commands_of_the_guide_are_understood() {
    use clap::Parser;
    let mut seen = 0;
    for (name, text) in guides() {
        assert!(text.lines().count() <= 120, "{name} is more than a page");
        for words in commands_in(&text) {
            let error = match words[0].as_str() {
                "announcerd" => args::Args::try_parse_from(&words).err(),
                _ => ctl::args::Args::try_parse_from(&words).err(),
            };
            assert!(error.is_none(), "{name}: {}: {}", words.join(" "), error.unwrap());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} commands were found");
}

#[test]
fn the_links_of_the_guide_lead_somewhere_and_its_examples_are_toml() {
    let link = Regex::new(r"\]\(([^)#]+)\)").unwrap();
    let pages = guides();
    for (name, text) in &pages {
        for target in link.captures_iter(text).map(|c| c[1].to_owned()).filter(|t| !t.contains("://")) {
            assert!(packaging("guide").join(&target).exists(), "{name}: {target}");
        }
        for example in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            assert!(example.parse::<Table>().is_ok(), "{name}: {example}");
        }
    }
    let readme = include_str!("../README.md");
    assert!(pages.iter().all(|(name, _)| readme.contains(name.as_str())), "README names every page");
}

/// The completions are sound to the shells that they are for.
#[test]
fn the_shells_read_the_completions() {
    for (shell, package) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        for program in ["announcerd", "announcerctl"] {
            let file = match shell {
                "zsh" => format!("_{program}"),
                other => format!("{program}.{other}"),
            };
            let out = Command::new(shell).arg("-n").arg(packaging("completions").join(file)).output();
            let out = out.unwrap_or_else(|e| panic!("{shell}: {e} (package {package})"));
            assert!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
    let asks = "source announcerctl.bash; COMP_WORDS=(announcerctl dri) COMP_CWORD=1; _announcerctl announcerctl dri announcerctl; echo ${COMPREPLY[@]}";
    let out = Command::new("bash").args(["-c", asks]).current_dir(packaging("completions")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "drill\n", "{}", String::from_utf8_lossy(&out.stderr));
}
