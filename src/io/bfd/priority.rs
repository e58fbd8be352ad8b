//! A thread that is not kept waiting by others.

#![allow(unsafe_code)]

use std::io;

/// Above every ordinary thread, below what the kernel itself runs at 50.
const FIFO_PRIORITY: libc::c_int = 10;
const NICE: libc::c_int = -20;

/// Puts the calling thread under SCHED_FIFO, or at least first among the ordinary ones; what its children are is not
/// changed. Warns once where it may not.
pub(super) fn raise() {
    // SAFETY: a plain structure of integers, for which all zeroes is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = FIFO_PRIORITY;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the structure is live and only read; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        return;
    }
    let why = io::Error::last_os_error();
    // SAFETY: no pointers; 0 is the calling thread.
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0;
    let instead = if nice { "it runs with nice -20 instead" } else { "it runs as any other thread" };
    tracing::warn!(
        "BFD cannot have real-time priority ({why}); {instead}, and may be late on a busy machine: allow it CAP_SYS_NICE \
         (LimitRTPRIO=10 in the unit)"
    );
}
