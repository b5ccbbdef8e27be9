//! A child process, held by a pidfd: signals never reach another process that got the same pid. And how its end is
//! printed.

use super::signal::MEANT;
use super::{beyond_standard, wait_readable};
use crate::os::{End, HandleRef, Usage};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getuid, pidfd_open, pidfd_send_signal, waitid,
};
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// Set once, when it is reaped; None in it if something else in this program has taken the status.
    status: OnceLock<Option<(End, Usage)>>,
    killed: AtomicBool,
}

/// A `siginfo_t` of `SI_QUEUE`, whose fields the libc crate does not let one write.
#[repr(C)]
struct MarkedSignal {
    signal: c_int,
    errno: c_int,
    code: c_int,
    #[cfg(target_pointer_width = "64")]
    padding: c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: usize,
    rest: [c_int; 24],
}

const _: () = assert!(size_of::<MarkedSignal>() >= size_of::<libc::siginfo_t>());

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
            // Without a handle it could neither be watched nor ended later.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        })?;
        Ok(Self { pid, pidfd, status: OnceLock::new(), killed: false.into() })
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
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends `SIGTERM`, marked as meant for this process: a worker outlives one that goes to the whole program.
    pub(crate) fn ask_to_end(&self) -> io::Result<()> {
        let info = MarkedSignal {
            signal: libc::SIGTERM,
            code: libc::SI_QUEUE,
            pid: getpid().as_raw_pid(),
            uid: getuid().as_raw(),
            value: MEANT,
            // SAFETY: all zeroes is a value of the rest.
            ..unsafe { mem::zeroed() }
        };
        let (pidfd, at) = (self.pidfd.as_raw_fd(), &raw const info);
        // SAFETY: the descriptor is open, and the pointer leads to information of the size that the kernel reads.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGTERM, at, 0) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        self.killed.store(true, Ordering::Relaxed);
        self.signal(Signal::KILL)
    }

    /// Has this process [killed](Self::kill) it, or tried to?
    pub(crate) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
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
                Ok([true]) => _ = self.status.get_or_init(|| self.reap()),
                Ok([false]) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok([false]) => {}
                // Polling a pidfd only fails for a lack of kernel memory, which passes.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        true
    }

    /// Waits until it has ended, and returns how; None if something else in this program took its status.
    pub(crate) fn wait(&self) -> Option<End> {
        self.wait_timeout(None);
        self.status()
    }

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
