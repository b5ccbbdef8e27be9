//! A child process, held by a pidfd: signals never reach another process that got the same pid. And how its end is
//! printed.

use super::{beyond_standard, wait_readable};
use crate::os::{End, HandleRef, Usage};
use crate::sync::lock;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal, waitid,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// Set once, when it is reaped; None in it if something else in this program has taken the status.
    status: OnceLock<Option<(End, Usage)>>,
    /// Locked while it is reaped, or signalled by its number, which may be another process's afterwards.
    reaped: Mutex<bool>,
    /// When it was first killed.
    killed: OnceLock<Instant>,
}

impl Usage {
    fn new(raw: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Self {
            user: time(raw.ru_utime),
            system: time(raw.ru_stime),
            peak: raw.ru_maxrss.unsigned_abs(),
            minor_faults: raw.ru_minflt.unsigned_abs(),
            major_faults: raw.ru_majflt.unsigned_abs(),
        }
    }

    pub(crate) fn of_this_process() -> Self {
        // SAFETY: all zeroes is a value of a usage.
        let mut raw = unsafe { mem::zeroed() };
        // SAFETY: the pointer is that of a usage.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut raw) };
        Self::new(&raw)
    }
}

impl Child {
    /// Takes charge of a child that nobody has reaped yet.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(beyond_standard);
        let pidfd = pidfd.inspect_err(|_| {
            // Without a handle it could neither be watched nor ended later. If it cannot be killed, it ends by itself, as its
            // connection is closed; then nobody reaps it.
            let _ = kill_process(pid, Signal::KILL);
            let deadline = Instant::now() + Duration::from_secs(2);
            let nothing = |status| matches!(status, Ok(None) | Err(Errno::INTR));
            while nothing(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)) {
                if Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })?;
        Ok(Self { pid, pidfd, status: OnceLock::new(), reaped: Mutex::default(), killed: OnceLock::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Readable as soon as the process has ended, and ever after.
    pub(crate) fn sentinel(&self) -> HandleRef<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal; a process that has ended is left alone.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => return Ok(()),
            // A filter of system calls may know only the older one.
            Err(_) => {}
        }
        let reaped = lock(&self.reaped);
        // The number is its own until it is reaped; where the system reaps by itself, until shortly after its end.
        if *reaped || matches!(wait_readable([self.sentinel()], Some(Duration::ZERO)), Ok([true])) {
            return Ok(());
        }
        match kill_process(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        let _ = self.killed.set(Instant::now());
        self.signal(Signal::KILL)
    }

    /// Has this process [killed](Self::kill) it, or tried to?
    pub(crate) fn was_killed(&self) -> bool {
        self.killed.get().is_some()
    }

    pub(crate) fn interrupt(&self) -> io::Result<()> {
        self.signal(Signal::INT)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.wait_timeout(Some(Duration::ZERO))
    }

    /// Waits until it has ended, at most so long; then reaps it. Returns whether it has ended.
    pub(crate) fn wait_timeout(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        while self.status.get().is_none() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match wait_readable([self.sentinel()], left) {
                Ok([true]) => {
                    self.status.get_or_init(|| {
                        let mut reaped = lock(&self.reaped);
                        *reaped = true;
                        self.reap()
                    });
                }
                Ok([false]) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok([false]) => {}
                // Polling a pidfd only fails for a lack of kernel memory, which passes.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        true
    }

    /// Waits until it has ended, or has lived on for so long after it was killed. Returns whether it has ended.
    pub(crate) fn await_death(&self, patience: Duration) -> bool {
        /// How soon it is noticed that it was killed.
        const NOTICED: Duration = Duration::from_millis(250);
        loop {
            let left = self.killed.get().map(|killed| patience.saturating_sub(killed.elapsed()));
            if self.wait_timeout(Some(left.unwrap_or(NOTICED))) {
                return true;
            } else if left == Some(Duration::ZERO) {
                return false;
            }
        }
    }

    /// How it ended. None if it has not, or something else in this program took its status.
    pub(crate) fn status(&self) -> Option<End> {
        self.status.get()?.map(|(end, _)| end)
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        self.status.get()?.map(|(_, usage)| usage)
    }

    /// Reaps it, as it has ended. None: `SIGCHLD` is ignored, or somebody waited for any child.
    fn reap(&self) -> Option<(End, Usage)> {
        // SAFETY: all zeroes is a value of both.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { mem::zeroed() };
        let (info_at, usage_at) = (&raw mut info, &raw mut usage);
        let pidfd = self.pidfd.as_raw_fd();
        // rustix's `waitid` returns no usage.
        // SAFETY: the descriptor is open; both pointers lead to memory of the right size.
        while unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, pidfd, info_at, libc::WEXITED, usage_at) } != 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
        // SAFETY: a child has a status.
        let status = unsafe { info.si_status() };
        let end = match info.si_code {
            libc::CLD_EXITED => End::Exited(status & 0xff),
            libc::CLD_DUMPED | libc::CLD_KILLED => End::Signal(status),
            _ => return None,
        };
        Some((end, Usage::new(&usage)))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child that has ended leaves no zombie; one that has not is its owner's concern.
        let _ = self.has_ended();
    }
}

/// As the standard library prints an `ExitStatus`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = match self {
            Self::Exited(code) => (code & 0xff) << 8,
            Self::Signal(signal) => *signal,
        };
        ExitStatus::from_raw(raw).fmt(f)
    }
}

/// ` (SIGSEGV)`, or nothing for a number without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    // The standard library only prints a name as a part of a status: "signal: 11 (SIGSEGV)".
    let status = End::Signal(signal).to_string();
    let name = status.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    name.map(|(name, _)| format!(" ({name})")).unwrap_or_default()
}
