//! What tells that a child has ended: a pidfd. Where the system has none (a filter of an older container denies it,
//! valgrind does not know it), a thread waits for the child, and the end of a pipe tells.
//!
//! ```text
//!   pidfd:    kernel ─────────────────────────────────▶ readable
//!   watched:  kernel ─▶ waitid, without reaping ─▶ pipe ─▶ readable          one thread per child
//! ```

use super::{beyond_standard, block_all_signals, pipe, spawn_thread, step};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::io::{self, PipeReader, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub(super) enum Sentinel {
    Pidfd(OwnedFd),
    Watched(PipeReader, Pid),
}

/// Asks about a child without reaping it.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOWAIT);

impl Sentinel {
    /// Of a child that nobody has reaped yet.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => beyond_standard(pidfd).map(Self::Pidfd),
            Err(error @ (Errno::PERM | Errno::NOSYS)) => {
                let failed = step::PIDFD_OPEN.failed(error);
                // Without this either, nobody could tell.
                if waitid(WaitId::Pid(pid), LOOK | WaitIdOptions::NOHANG).is_err() {
                    return Err(failed);
                }
                Self::watch(pid)
            }
            Err(error) => Err(step::PIDFD_OPEN.failed(error)),
        }
    }

    fn watch(pid: Pid) -> io::Result<Self> {
        let (reader, mut writer) = pipe()?;
        spawn_thread("pool-wait", Some(1 << 17), move || {
            block_all_signals();
            while matches!(waitid(WaitId::Pid(pid), LOOK), Err(Errno::INTR)) {}
            // Closing the pipe says it too, but not to everyone who polls for something to read.
            let _ = writer.write_all(&[1]);
        })?;
        Ok(Self::Watched(reader, pid))
    }

    /// Readable as soon as the child has ended, and ever after.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pidfd(pidfd) => pidfd.as_fd(),
            Self::Watched(reader, _) => reader.as_fd(),
        }
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pidfd(pidfd) => Some(pidfd.as_fd()),
            Self::Watched(..) => None,
        }
    }

    /// How `waitid` names the child.
    pub(super) fn wait_id(&self) -> (libc::idtype_t, libc::id_t) {
        match self {
            Self::Pidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned()),
            Self::Watched(_, pid) => (libc::P_PID, pid.as_raw_pid().cast_unsigned()),
        }
    }

    /// Sends a signal to this child and to no other process of its number, even if it was reaped.
    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        match self {
            Self::Pidfd(pidfd) => pidfd_send_signal(pidfd, signal),
            Self::Watched(..) => Err(Errno::NOSYS),
        }
    }
}
