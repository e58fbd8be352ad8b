//! A thread that is not kept waiting by others.

#![allow(unsafe_code)]

use std::io;

/// Above every ordinary thread, below what the kernel itself runs at 50.
const FIFO_PRIORITY: libc::c_int = 10;
const NICE: libc::c_int = -20;

/// Puts the calling thread under SCHED_FIFO, or at least first among the ordinary ones; what its children are is not
/// changed.
///
/// # Errors
///
/// It may not; what it runs as instead, in words.
pub(super) fn raise() -> Result<(), String> {
    // SAFETY: a plain structure of integers, for which all zeroes is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = FIFO_PRIORITY;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the structure is live and only read; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        return Ok(());
    }
    let why = io::Error::last_os_error();
    // SAFETY: no pointers; 0 is the calling thread.
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0;
    let instead = if nice { "it runs with nice -20 instead" } else { "it runs as any other thread" };
    Err(format!(
        "BFD cannot have real-time priority ({why}); {instead}, and may be late on a busy machine: allow it CAP_SYS_NICE \
         (LimitRTPRIO=10 in the unit)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// linux/capability.h: _LINUX_CAPABILITY_VERSION_3, CAP_SYS_NICE.
    const VERSION: u32 = 0x2008_0522;
    const CAP_SYS_NICE: u32 = 23;

    /// Of the calling thread; SCHED_RESET_ON_FORK is a bit of it.
    fn policy() -> libc::c_int {
        // SAFETY: no pointers; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    /// The calling thread gives the privilege up, and what the whole process may do without it.
    fn give_up_nice() {
        let mut header = [VERSION, 0];
        let mut sets = [[0_u32; 3]; 2];
        // SAFETY: both are of the kernel's layout for this version, and live during the calls; 0 is the calling thread.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
            sets[0][0] &= !(1 << CAP_SYS_NICE);
            assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
        }
    }

    /// LAB: under SCHED_FIFO it stays within a millisecond where an ordinary thread slips by tens of them.
    #[test]
    fn the_thread_runs_in_real_time_where_it_may() {
        let thread = std::thread::spawn(|| (raise(), policy()));
        let (raised, policy) = thread.join().unwrap();
        assert_eq!(raised, Ok(()), "this test needs root (CAP_SYS_NICE)");
        assert_eq!(policy, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
    }

    #[test]
    fn where_it_may_not_it_says_so_and_runs_all_the_same() {
        let thread = std::thread::spawn(|| {
            give_up_nice();
            (raise(), policy())
        });
        let (raised, policy) = thread.join().unwrap();
        let words = raised.unwrap_err();
        assert!(words.contains("CAP_SYS_NICE") && words.contains("it runs"), "{words}");
        assert_eq!(policy, libc::SCHED_OTHER);
    }
}
