//! The Debian package: what is in it, that it is the same each time, and its life on fresh Debian 12 and 13 machines, from
//! the installation to the purge. It packs the programs of this test run (`packaging/build --binaries`), since a release
//! build says nothing more about the packaging.
//!
//! The machines are guests ([`guest`]) booted from roots that mmdebstrap makes of the mirror that this machine itself uses;
//! they are kept in `target/`. What is done inside is `guest.sh`.

mod debian;
mod guest;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use guest::run;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Where everything is made.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("package-{name}"));
    std::fs::create_dir_all(&path).expect("a folder in target/");
    path
}

/// Packs this run's programs into `out`; the package.
fn pack(out: &Path, version: Option<&str>) -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_announcerd")).parent().expect("a folder of programs");
    let mut command = Command::new(format!("{HERE}/packaging/build"));
    command.arg("--fast").arg("--binaries").arg(programs).arg("--out").arg(out);
    command.args(version.iter().flat_map(|v| ["--version", v]));
    run(&mut command);
    out.join(format!("announcerd_{}_amd64.deb", version.unwrap_or(env!("CARGO_PKG_VERSION"))))
}

/// The package, and one of the same programs with a higher version. Built once.
fn packages() -> &'static (PathBuf, PathBuf) {
    static PACKAGES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let out = folder("built");
        (pack(&out, None), pack(&out, Some("9.9.9")))
    })
}

/// The package, unpacked; and the scripts in `DEBIAN`.
fn unpacked() -> &'static Path {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    UNPACKED.get_or_init(|| {
        let to = folder("unpacked");
        std::fs::remove_dir_all(&to).expect("what an earlier run left");
        run(Command::new("dpkg-deb").arg("--raw-extract").arg(&packages().0).arg(&to));
        to
    })
}

#[test]
fn lintian_finds_neither_errors_nor_warnings() {
    let said = run(Command::new("lintian").args(["--allow-root", "--fail-on", "none"]).arg(&packages().0));
    let found: Vec<&str> = said.lines().filter(|l| l.starts_with("E:") || l.starts_with("W:")).collect();
    assert!(found.is_empty(), "{said}");
    assert!(!unpacked().join("usr/share/lintian/overrides").exists(), "nothing is hidden");
}

#[test]
fn everything_is_there() {
    let root = unpacked();
    for file in [
        "usr/sbin/announcerd",
        "usr/bin/announcerctl",
        "lib/systemd/system/announcerd.service",
        "usr/lib/sysusers.d/announcerd.conf",
        "etc/iproute2/rt_protos.d/announcerd.conf",
        "usr/share/announcerd/prometheus/announcerd.rules.yml",
        "usr/share/announcerd/grafana/announcerd.json",
        "usr/share/doc/announcerd/changelog.gz",
        "usr/share/doc/announcerd/copyright",
        "usr/share/doc/announcerd/examples/scripts-as-root.conf",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
    for example in std::fs::read_dir(format!("{HERE}/conf")).unwrap() {
        let name = example.unwrap().file_name();
        let mut installed = root.join("usr/share/doc/announcerd/examples").join(&name).into_os_string();
        let plain = Path::new(&installed).exists();
        installed.push(".gz");
        assert!(plain || Path::new(&installed).exists(), "{name:?}");
    }
    let conffiles = std::fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap();
    assert!(conffiles.lines().any(|l| l == "/etc/announcer.toml"), "{conffiles}");
    let depends = run(Command::new("dpkg-deb").arg("-f").arg(&packages().0).arg("Depends"));
    assert!(depends.contains("libc6 (>= 2.") && depends.contains("iproute2"), "{depends}");
}

/// What is installed announces nothing; what its comments hold is right as soon as they are none.
#[test]
fn the_configuration_is_valid_with_and_without_its_comments() {
    let file = unpacked().join("etc/announcer.toml");
    let check =
        |path: &Path| run(Command::new(env!("CARGO_BIN_EXE_announcerd")).arg("--check").arg("-c").arg(path));
    check(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|l| l.is_empty() || l.starts_with('#')), "something is in force");
    let edited: Vec<&str> = text.lines().map(|l| l.strip_prefix("#: ").unwrap_or(l)).collect();
    let path = folder("edited").join("announcer.toml");
    std::fs::write(&path, edited.join("\n")).unwrap();
    assert!(edited.contains(&"[[instance.route]]"));
    check(&path);
}

#[test]
fn the_units_are_sound_and_confined() {
    for unit in ["announcerd", "announcerd-sweep", "announcerd-afterwards"] {
        let file = unpacked().join(format!("lib/systemd/system/{unit}.service"));
        // In tenths: 2.5.
        run(Command::new("systemd-analyze").args(["security", "--offline=yes", "--threshold=25"]).arg(file));
    }
}

#[test]
fn apparmor_understands_the_profile() {
    let profile = unpacked().join("etc/apparmor.d/usr.sbin.announcerd");
    run(Command::new("apparmor_parser").args(["--skip-kernel-load", "--skip-cache"]).arg(profile));
}

#[test]
fn the_same_programs_give_the_same_package() {
    let first = std::fs::read(&packages().0).unwrap();
    let second = std::fs::read(pack(&folder("again"), None)).unwrap();
    assert!(first == second, "two runs, not the same bytes");
}

#[test]
fn life_on_debian_12() {
    guest::live("bookworm");
}

#[test]
fn life_on_debian_13() {
    guest::live("trixie");
}
