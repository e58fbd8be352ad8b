//! Whether a program may be run with our privileges: nobody but root may be able to change what it does.
//!
//! Looked at when the configuration is loaded and again right before every run, since a file may change in
//! between. What is looked at is every folder on the way, those that symbolic links lead through too: whoever can
//! write to one of them can put another program in the place of this one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::config::ScriptVerdict;

/// Where a program without a `/` in its name is looked for; the environment's PATH has no say.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As many links as the kernel follows before it gives up (path_resolution(7)).
const MOST_LINKS: u32 = 40;
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const ANY_EXECUTE: u32 = 0o111;

/// Programs whose first path among the arguments is the real program.
const INTERPRETERS: &[&str] = &[
    "ash", "awk", "bash", "busybox", "dash", "env", "ksh", "nice", "node", "perl", "python", "ruby",
    "setsid", "sh", "timeout", "zsh",
];

/// The program that a command runs: itself if it is a path, else the first of that name in [`PATH`].
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let runnable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & ANY_EXECUTE != 0)
    };
    PATH.split(':').map(|folder| Path::new(folder).join(program)).find(runnable)
}

/// Judges the program of a command (its first word) for a process of that effective user. Where the program is an
/// interpreter, the script that it is given is judged as well. An empty command is fine: nothing is run.
pub fn inspect(command: &[String], euid: u32) -> ScriptVerdict {
    let Some(program) = command.first() else { return ScriptVerdict::Ok };
    let Some(path) = find(program) else {
        return ScriptVerdict::Missing(format!("there is no program `{program}` in {PATH}"));
    };
    if let Err(verdict) = runnable(&path, euid) {
        return verdict;
    }
    match script_of(&path, command) {
        Some(script) => walk(Path::new(script), euid).err().unwrap_or(ScriptVerdict::Ok),
        None => ScriptVerdict::Ok,
    }
}

/// The script that an interpreter is given, if it is given by its whole path.
fn script_of<'c>(program: &Path, command: &'c [String]) -> Option<&'c str> {
    let name = program.file_name()?.to_str()?;
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let arguments = command.get(1..)?;
    let script = arguments.iter().find(|word| word.starts_with('/'))?;
    INTERPRETERS.contains(&name).then_some(script)
}

fn runnable(path: &Path, euid: u32) -> Result<(), ScriptVerdict> {
    if !path.is_absolute() {
        let words = format!("`{}` must be an absolute path, beginning with `/`", path.display());
        return Err(ScriptVerdict::Insecure(words));
    }
    let file = walk(path, euid)?;
    let shown = path.display();
    if !file.is_file() {
        return Err(ScriptVerdict::Missing(format!("`{shown}` is not a file")));
    }
    if file.permissions().mode() & ANY_EXECUTE == 0 {
        return Err(ScriptVerdict::Missing(format!("`{shown}` is not executable: chmod +x {shown}")));
    }
    Ok(())
}

/// Follows an absolute path as the kernel does, judging everything on the way; gives what is at its end.
fn walk(path: &Path, euid: u32) -> Result<Metadata, ScriptVerdict> {
    let missing = |at: &Path, why: &str| ScriptVerdict::Missing(format!("`{}` {why}", at.display()));
    let mut links = 0;
    let mut here = PathBuf::from("/");
    let mut found = look(&here)?;
    judge(&here, &found, euid)?;
    let mut ahead: VecDeque<OsString> = names(path);
    while let Some(name) = ahead.pop_front() {
        if !found.is_dir() {
            return Err(missing(&here, "is not a directory"));
        }
        if name == ".." {
            here.pop();
            found = look(&here)?;
            continue;
        }
        let next = here.join(&name);
        let entry = look(&next)?;
        judge(&next, &entry, euid)?;
        if !entry.is_symlink() {
            (here, found) = (next, entry);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(missing(path, "leads through too many symbolic links"));
        }
        let target = std::fs::read_link(&next).map_err(|e| missing(&next, &e.to_string()))?;
        if target.is_absolute() {
            here = PathBuf::from("/");
            found = look(&here)?;
        }
        for name in names(&target).into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(found)
}

/// The steps of a path; `.` is none.
fn names(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}

fn look(path: &Path) -> Result<Metadata, ScriptVerdict> {
    std::fs::symlink_metadata(path).map_err(|error| {
        ScriptVerdict::Missing(match error.kind() {
            ErrorKind::NotFound => format!("`{}` does not exist", path.display()),
            _ => format!("`{}` cannot be looked at: {error}", path.display()),
        })
    })
}

/// Refuses what others than root (or we ourselves, if we are not root) can write to or replace.
fn judge(path: &Path, entry: &Metadata, euid: u32) -> Result<(), ScriptVerdict> {
    let shown = path.display();
    let insecure = |words: String| Err(ScriptVerdict::Insecure(words));
    if entry.uid() != 0 && entry.uid() != euid {
        return insecure(format!(
            "`{shown}` belongs to user {}, who could change what is run: chown root {shown}",
            entry.uid()
        ));
    }
    // The mode of a link means nothing; and nobody can replace the entries of others in a sticky folder.
    let sticky = entry.is_dir() && entry.mode() & STICKY != 0;
    if entry.is_symlink() || sticky {
        return Ok(());
    }
    if entry.mode() & OTHERS_WRITE != 0 {
        return insecure(format!("`{shown}` can be written to by everybody: chmod go-w {shown}"));
    }
    if entry.mode() & GROUP_WRITE != 0 && entry.gid() != 0 {
        return insecure(format!("`{shown}` can be written to by group {}: chmod g-w {shown}", entry.gid()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// A folder under /tmp (sticky, of root) of the user who runs the test.
    struct Lab {
        root: tempfile::TempDir,
        euid: u32,
    }

    impl Lab {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let euid = std::fs::metadata(root.path()).unwrap().uid();
            Lab { root, euid }
        }

        fn path(&self, name: &str) -> String {
            self.root.path().join(name).display().to_string()
        }

        fn folder(&self, name: &str, mode: u32) {
            std::fs::create_dir(self.path(name)).unwrap();
            self.mode(name, mode);
        }

        fn file(&self, name: &str, mode: u32) -> String {
            std::fs::write(self.path(name), "#!/bin/sh\n").unwrap();
            self.mode(name, mode);
            self.path(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn inspect(&self, words: &[&str]) -> ScriptVerdict {
            inspect(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), self.euid)
        }
    }

    fn insecure(verdict: ScriptVerdict) -> String {
        match verdict {
            ScriptVerdict::Insecure(words) => words,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_private_script_and_a_program_of_the_system_may_run() {
        let lab = Lab::new();
        let script = lab.file("ok.sh", 0o755);
        assert_eq!(lab.inspect(&[&script, "argument"]), ScriptVerdict::Ok);
        assert_eq!(lab.inspect(&["/bin/sh", "-c", "true"]), ScriptVerdict::Ok);
        assert_eq!(lab.inspect(&["sh"]), ScriptVerdict::Ok);
        assert_eq!(lab.inspect(&[]), ScriptVerdict::Ok);
    }

    #[test]
    fn what_is_not_there_or_cannot_run_is_missing() {
        let lab = Lab::new();
        let plain = lab.file("plain.sh", 0o644);
        lab.folder("folder", 0o755);
        for (program, words) in [
            (lab.path("absent.sh"), "does not exist"),
            (plain.clone(), "chmod +x"),
            (lab.path("folder"), "is not a file"),
            (format!("{plain}/below"), "is not a directory"),
            ("announcerd-no-such-program".to_owned(), "there is no program"),
        ] {
            match lab.inspect(&[&program]) {
                ScriptVerdict::Missing(why) => assert!(why.contains(words), "{why}"),
                other => panic!("{program}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_script_that_others_can_write_to_is_refused_with_the_mend() {
        let lab = Lab::new();
        let script = lab.file("open.sh", 0o757);
        assert_eq!(
            insecure(lab.inspect(&[&script])),
            format!("`{script}` can be written to by everybody: chmod go-w {script}")
        );
        assert!(insecure(lab.inspect(&["relative/x.sh"])).contains("absolute"));
    }

    #[test]
    fn a_folder_above_counts_and_a_sticky_one_does_not() {
        let lab = Lab::new();
        lab.folder("open", 0o777);
        let script = lab.file("open/x.sh", 0o755);
        assert!(insecure(lab.inspect(&[&script])).starts_with(&format!("`{}` can", lab.path("open"))));
        lab.mode("open", 0o1777);
        assert_eq!(lab.inspect(&[&script]), ScriptVerdict::Ok);
    }

    #[test]
    fn a_link_is_followed_and_its_own_folders_count() {
        let lab = Lab::new();
        lab.folder("good", 0o755);
        lab.folder("open", 0o777);
        let good = lab.file("good/x.sh", 0o755);
        lab.file("open/x.sh", 0o755);
        symlink(&good, lab.path("open/to-good")).unwrap();
        symlink("../open/x.sh", lab.path("good/to-open")).unwrap();
        symlink("x.sh", lab.path("good/fine")).unwrap();
        symlink("loop", lab.path("loop")).unwrap();
        let open = format!("`{}` can", lab.path("open"));
        assert!(insecure(lab.inspect(&[&lab.path("open/to-good")])).starts_with(&open));
        assert!(insecure(lab.inspect(&[&lab.path("good/to-open")])).starts_with(&open));
        assert_eq!(lab.inspect(&[&lab.path("good/fine")]), ScriptVerdict::Ok);
        assert!(insecure(lab.inspect(&[&lab.path("open/../good/x.sh")])).starts_with(&open));
        assert!(matches!(lab.inspect(&[&lab.path("loop")]), ScriptVerdict::Missing(_)));
    }

    #[test]
    fn the_script_that_an_interpreter_is_given_counts_too() {
        let lab = Lab::new();
        let script = lab.file("open.sh", 0o646);
        assert!(insecure(lab.inspect(&["/bin/sh", "-e", &script])).contains("open.sh"));
        assert_eq!(lab.inspect(&["/bin/cat", &script]), ScriptVerdict::Ok);
    }

    #[test]
    fn another_owner_and_another_group_are_refused() {
        assert!(nix::unistd::geteuid().is_root(), "this test changes owners: run it as root");
        let lab = Lab::new();
        let script = lab.file("x.sh", 0o775);
        assert_eq!(lab.inspect(&[&script]), ScriptVerdict::Ok, "group root may write");
        chown(&script, None, Some(4242)).unwrap();
        assert!(insecure(lab.inspect(&[&script])).contains("by group 4242: chmod g-w"));
        lab.mode("x.sh", 0o755);
        assert_eq!(lab.inspect(&[&script]), ScriptVerdict::Ok);
        chown(&script, Some(4242), None).unwrap();
        assert!(insecure(lab.inspect(&[&script])).contains("belongs to user 4242"));
        let words = [script];
        assert!(matches!(inspect(&words, 4243), ScriptVerdict::Insecure(_)));
        // The folder is root's, the script our own.
        assert_eq!(inspect(&words, 4242), ScriptVerdict::Ok);
    }
}
