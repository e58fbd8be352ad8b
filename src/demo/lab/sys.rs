//! The only unsafe code of the lab: forking a host's init, and entering its namespaces between fork and exec.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid};

/// Makes the process that holds a host's namespaces. It becomes process 1 of a new process id namespace, mounts
/// a private tmpfs over each folder of `private`, and dies with the calling thread.
///
/// # Errors
/// What the kernel refused; EPERM without CAP_SYS_ADMIN.
pub fn fork_init(hostname: &str, private: &[&str]) -> io::Result<Pid> {
    let (mut reader, mut writer) = UnixStream::pair()?;
    let private: Vec<CString> = private.iter().map(|p| CString::new(*p)).collect::<Result<_, _>>()?;
    // SAFETY: the child makes system calls only (no allocation, no lock) and never returns.
    let pid = match unsafe { fork_into_new_pid_namespace() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // So that telling fails, and we end, if the parent is gone before it could be watched.
            let _ = nix::unistd::close(reader.as_raw_fd());
            let error = become_init(hostname, &private).err().map_or(0, |e| e as i32);
            let told = writer.write_all(&error.to_ne_bytes());
            rest(error == 0 && told.is_ok())
        }
    };
    drop(writer);
    let mut error = [0; 4];
    reader.read_exact(&mut error)?;
    match i32::from_ne_bytes(error) {
        0 => Ok(pid),
        errno => {
            let _ = nix::sys::wait::waitpid(pid, None);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// fork(2), the child being process 1 of a new process id namespace. Not by unshare(2): inside a user namespace
/// the thread could not go back to the old one afterwards.
///
/// # Safety
/// As for fork(2) in a process with threads; the C library's own handlers do not run either.
unsafe fn fork_into_new_pid_namespace() -> io::Result<ForkResult> {
    let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
    // SAFETY: as the caller promises. With no stack given, the child goes on with a copy of ours.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => Ok(ForkResult::Child),
        pid if pid > 0 => Ok(ForkResult::Parent { child: Pid::from_raw(pid as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In the child: new namespaces and private folders.
fn become_init(hostname: &str, private: &[CString]) -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The terminal's Ctrl-C is for the demonstration, which then ends its hosts in order.
    nix::unistd::setsid()?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )?;
    nix::unistd::sethostname(hostname)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // Where a container masks parts of these, a user namespace may not mount them anew; the old ones do as well.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none);
    for folder in private {
        match mount(Some("tmpfs"), folder.as_c_str(), Some("tmpfs"), MsFlags::empty(), Some("mode=755")) {
            // What does not exist needs no hiding.
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// In the child: holds the namespaces until killed.
fn rest(well: bool) -> ! {
    // SAFETY: plain system calls; nothing of Rust's state is used afterwards.
    unsafe {
        if !well {
            libc::_exit(1);
        }
        // Everything that was inherited: other hosts' pipes and sockets must not live on in here.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        // Orphans of the host become our children, and are reaped by the kernel.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}

/// Lets `command` run in the namespaces of the process behind `pidfd`, in a session of its own.
fn enter_before_exec(command: &mut Command, pidfd: RawFd) {
    let enter = move || {
        // SAFETY: the caller keeps the descriptor open for as long as `command` may be started.
        let pidfd = unsafe { BorrowedFd::borrow_raw(pidfd) };
        setns(pidfd, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::setsid()?;
        Ok(())
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(enter) };
}

/// A descriptor for a process (pidfd_open(2), Linux 5.3); joining namespaces through it needs Linux 5.8.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the result is checked before it is taken as a descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Starts `command` in the namespaces of the process behind `pidfd`.
pub fn spawn_in(command: &mut Command, pidfd: &OwnedFd) -> io::Result<Child> {
    enter_before_exec(command, pidfd.as_raw_fd());
    // In a thread that ends at once: what it forks is in the other process id namespace from now on.
    let spawn = || {
        setns(pidfd, CloneFlags::CLONE_NEWPID)?;
        command.spawn()
    };
    std::thread::scope(|scope| match scope.spawn(spawn).join() {
        Ok(child) => child,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
