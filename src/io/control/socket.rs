//! The socket file: made, taken over from a dead daemon, never from a living one, and removed at exit.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A daemon answers there.
    #[error("another announcerd is running at {}; stop it, or give this one its own [node] control", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{} is there and is no socket; move it away or choose another [node] control", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("control socket {}: {what}: {error}", path.display())]
    Os {
        /// The socket, or its folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

/// The socket file as we made it; removed when dropped, unless somebody has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            // Gone or going: nothing useful can be said at this point.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`: open to everyone (mode 0666), in a folder that is made (0755) if it is missing.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), ControlError> {
    let os = |what| move |error| ControlError::Os { path: path.to_owned(), what, error };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(os("cannot make its folder"))?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(os("cannot listen"))?;
    let id = identity(path).map_err(os("cannot be read back"))?;
    let file = SocketFile { path: path.to_owned(), id };
    fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(os("cannot be opened to everyone"))?;
    Ok((listener, file))
}

fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let os = |what| move |error| ControlError::Os { path: path.to_owned(), what, error };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(os("cannot look")(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(ControlError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    if somebody_listens(path).map_err(os("cannot see whether a daemon answers there"))? {
        return Err(ControlError::InUse(path.to_owned()));
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(os("cannot remove a dead daemon's")(e)),
        _ => Ok(()),
    }
}

/// True if a process listens at `path`, even one too busy to answer. Never blocks.
pub fn somebody_listens(path: &Path) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        // A full queue belongs to a living, if busy, listener (unix(7): EAGAIN).
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.st_dev(), meta.st_ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced_and_ours_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/deep/control.sock");
        let (listener, file) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        std::mem::forget(file); // as after kill -9: the file stays, nobody listens
        drop(listener);
        assert!(!somebody_listens(&path).unwrap());
        let (_listener, file) = listen(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_living_daemons_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (_listener, _file) = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert!(error.to_string().contains("another announcerd is running at"), "{error}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(ControlError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_successors_socket_is_not_removed_by_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (_old, old_file) = listen(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let (_new, _new_file) = listen(&path).unwrap();
        drop(old_file);
        assert!(path.exists());
    }
}
