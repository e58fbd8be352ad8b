//! Files that the configuration names: passwords, lists of prefixes.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::Group;

/// More than any password.
const SECRET_LARGEST: u64 = 4096;
/// Room for a million IPv6 prefixes of 45 characters, each with a comment.
const PREFIXES_LARGEST: u64 = 256 << 20;
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;

/// Whose members the packaged daemon counts among.
const SERVICE_GROUP: &str = "announcerd";
const GROUP_CHANGES: u32 = 0o030;

/// Reads a password for a process of that effective user: from a file that nobody else can read or change. The group of
/// the packaged daemon may read it, so that it may be root's, and root can check the configuration too.
///
/// # Errors
///
/// In words, with the mend: it is not there, is no file, is too large, or others can read it.
pub fn secret(path: &Path, euid: u32) -> Result<Vec<u8>, String> {
    let (file, metadata) = open(path)?;
    private(path, &metadata, euid)?;
    bounded(path, file, SECRET_LARGEST)
}

/// Reads a file of prefixes.
///
/// # Errors
///
/// In words: it is not there, is no file, or is too large.
pub fn prefixes(path: &Path) -> Result<Vec<u8>, String> {
    let (file, _) = open(path)?;
    bounded(path, file, PREFIXES_LARGEST)
}

fn open(path: &Path) -> Result<(File, Metadata), String> {
    let shown = path.display();
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "`{shown}` cannot be read by this user: {error}; for the group: chgrp {SERVICE_GROUP} {shown}, chmod 640 {shown}"
        ),
        _ => format!("`{shown}` cannot be read: {error}"),
    };
    // Without waiting for a writer, should it be a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(format!("`{shown}` is not a file")) }
}

fn bounded(path: &Path, file: File, largest: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = file.take(largest + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    if bytes.len() as u64 > largest {
        return Err(format!("`{shown}` is larger than {largest} bytes; is it the right file?"));
    }
    Ok(bytes)
}

/// Judged on the open file, so that nobody can change it in between.
fn private(path: &Path, file: &Metadata, euid: u32) -> Result<(), String> {
    let shown = path.display();
    if file.uid() != 0 && file.uid() != euid {
        let mend = match Group::from_name(SERVICE_GROUP) {
            Ok(Some(_)) => format!("chown root:{SERVICE_GROUP} {shown}, chmod 640 {shown}"),
            _ => format!("chown root {shown}"),
        };
        return Err(format!("`{shown}` belongs to user {}, who knows the password: {mend}", file.uid()));
    }
    if file.mode() & OTHERS != 0 {
        return Err(format!("`{shown}` can be read or changed by everybody: chmod 600 {shown}"));
    }
    let is_shared = file.mode() & GROUP != 0 && file.gid() != 0;
    if is_shared && (file.mode() & GROUP_CHANGES != 0 || !is_service_group(file.gid())) {
        return Err(format!("`{shown}` can be read or changed by group {}: chmod 600 {shown}", file.gid()));
    }
    Ok(())
}

fn is_service_group(gid: u32) -> bool {
    let service = Group::from_name(SERVICE_GROUP).ok().flatten();
    service.is_some_and(|group| group.gid.as_raw() == gid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_password_that_others_can_read_is_refused_with_the_mend() {
        assert!(nix::unistd::geteuid().is_root(), "this test changes owners: run it as root");
        let lab = tempfile::tempdir().unwrap();
        let path = lab.path().join("key");
        std::fs::write(&path, "secret\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        assert_eq!(secret(&path, 0), Ok(b"secret\n".to_vec()), "group root");
        mode(0o644);
        let words = format!("`{0}` can be read or changed by everybody: chmod 600 {0}", path.display());
        assert_eq!(secret(&path, 0), Err(words));
        mode(0o640);
        chown(&path, None, Some(4242)).unwrap();
        assert!(secret(&path, 0).unwrap_err().contains("by group 4242: chmod 600"));
        mode(0o600);
        assert!(secret(&path, 0).is_ok());
        chown(&path, Some(4242), None).unwrap();
        assert!(secret(&path, 0).unwrap_err().contains("belongs to user 4242"));
        assert!(secret(&path, 4242).is_ok());
    }

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused() {
        let lab = tempfile::tempdir().unwrap();
        let at = |name: &str| lab.path().join(name);
        assert!(secret(&at("absent"), 0).unwrap_err().contains("cannot be read: No such file"));
        assert!(prefixes(lab.path()).unwrap_err().ends_with("is not a file"));
        assert!(prefixes(Path::new("/dev/zero")).unwrap_err().ends_with("is not a file"));
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(prefixes(&at("pipe")).unwrap_err().ends_with("is not a file"));
        std::fs::write(at("large"), vec![b'x'; 5000]).unwrap();
        std::fs::set_permissions(at("large"), PermissionsExt::from_mode(0o600)).unwrap();
        let euid = nix::unistd::geteuid().as_raw();
        assert!(secret(&at("large"), euid).unwrap_err().contains("larger than 4096 bytes"));
    }
}
