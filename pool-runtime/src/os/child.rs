//! A child process, held by a pidfd: signals never reach another process that got the same pid.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A process that this one started and has not forgotten.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// Set once, by whoever reaps it; None in it if the status was taken by somebody else.
    status: OnceLock<Option<ExitStatus>>,
}

impl Child {
    /// Takes charge of a child that nobody has reaped yet.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        match pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(super::beyond_standard) {
            Ok(pidfd) => Ok(Self { pid, pidfd, status: OnceLock::new() }),
            Err(error) => {
                // Without a handle it could neither be watched nor ended later.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Readable as soon as the process has ended, and ever after.
    pub(crate) fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal; a process that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    pub(crate) fn interrupt(&self) -> io::Result<()> {
        self.signal(Signal::INT)
    }

    /// Has it ended? Does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        self.wait_timeout(Some(Duration::ZERO))
    }

    /// Waits until it has ended, at most so long; then reaps it. Says whether it has ended.
    pub(crate) fn wait_timeout(&self, patience: Option<Duration>) -> bool {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if self.status.get().is_some() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match super::wait_readable([self.sentinel()], left) {
                Ok([true]) => break,
                Ok([false]) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok([false]) => {}
                // A pidfd can always be polled, but for a lack of kernel memory, which passes.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        self.reap();
        true
    }

    /// Waits until it has ended, and says how; None if something else in this program took its status.
    pub(crate) fn wait(&self) -> Option<ExitStatus> {
        self.wait_timeout(None);
        self.status()
    }

    /// How it ended, if it has and is reaped.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.status.get().copied().flatten()
    }

    fn reap(&self) {
        self.status.get_or_init(|| {
            loop {
                match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                    Ok(Some(status)) => {
                        let core = if status.dumped() { 0x80 } else { 0 };
                        let raw = match (status.exit_status(), status.terminating_signal()) {
                            (Some(code), _) => (code & 0xff) << 8,
                            (_, Some(signal)) => signal | core,
                            (None, None) => return None,
                        };
                        return Some(ExitStatus::from_raw(raw));
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    // SIGCHLD is ignored, or somebody waited for any child.
                    Ok(None) | Err(_) => return None,
                }
            }
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // No zombie stays behind a child that has ended; one that has not is its owner's concern.
        let _ = self.has_ended();
    }
}
