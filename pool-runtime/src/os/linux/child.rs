//! A child process, held by a pidfd (see [`sentinel`](super::sentinel)): signals never reach another process that got the
//! same pid. And how its end is printed.

use super::process;
use super::scale::Scale;
use super::sentinel::Sentinel;
use super::signal::MEANT;
use super::{step, wait_readable};
use crate::locks::lock;
use crate::os::{End, HandleRef, UNSEEN, Usage, Weight};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getuid, kill_process, waitid};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    sentinel: Sentinel,
    /// Set once, when it is reaped, or cannot be: the error is `ECHILD` if something else in this program did that.
    status: OnceLock<io::Result<(End, Usage)>>,
    /// Locked while it is reaped, or signalled by its number, which may be another process's afterwards.
    reaped: Mutex<bool>,
    /// When it was first killed.
    killed: OnceLock<Instant>,
    /// Opened when it is first weighed.
    scale: OnceLock<Scale>,
}

/// A `siginfo_t` of `SI_QUEUE`, whose fields the libc crate does not let one write.
#[repr(C)]
struct MarkedSignal {
    fields: SignalFields,
    rest: [u8; REST],
}

const REST: usize = size_of::<libc::siginfo_t>() - size_of::<SignalFields>();

#[repr(C)]
struct SignalFields {
    signal: c_int,
    errno: c_int,
    code: c_int,
    #[cfg(target_pointer_width = "64")]
    padding: c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: usize,
}

impl Usage {
    fn new(raw: &libc::rusage) -> Self {
        // They have 32 bits on some machines.
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        let time = |time: libc::timeval| {
            let micros = u64::try_from(time.tv_usec).unwrap_or(0);
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
        };
        Self {
            user: time(raw.ru_utime),
            system: time(raw.ru_stime),
            peak: count(raw.ru_maxrss),
            minor_faults: count(raw.ru_minflt),
            major_faults: count(raw.ru_majflt),
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
        let sentinel = Sentinel::of(pid).inspect_err(|_| {
            // Without a handle it could neither be watched nor ended later. If it cannot be killed either, it finds out
            // that this side has closed its connection.
            if kill_process(pid, Signal::KILL).is_ok() {
                abandon(pid);
            }
        })?;
        Ok(Self {
            pid,
            sentinel,
            status: OnceLock::new(),
            reaped: Mutex::default(),
            killed: OnceLock::new(),
            scale: OnceLock::new(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Readable as soon as the process has ended, and ever after.
    pub(crate) fn sentinel(&self) -> HandleRef<'_> {
        self.sentinel.handle()
    }

    /// Sends a signal; a process that has ended is left alone.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.sentinel.signal(signal) {
            Ok(()) | Err(Errno::SRCH) => return Ok(()),
            // A filter of system calls may know only the older one.
            Err(_) => {}
        }
        let reaped = lock(&self.reaped);
        // The number is its own until it is reaped; where the system reaps by itself, until shortly after its end.
        if *reaped || self.is_over() {
            return Ok(());
        }
        match kill_process(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(step::PIDFD_SEND_SIGNAL.failed(error)),
        }
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends `SIGTERM`, marked as meant for this process: a worker outlives one that goes to the whole program.
    pub(crate) fn ask_to_end(&self) -> io::Result<()> {
        let fields = SignalFields {
            signal: libc::SIGTERM,
            code: libc::SI_QUEUE,
            pid: getpid().as_raw_pid(),
            uid: getuid().as_raw(),
            value: MEANT,
            // SAFETY: all zeroes is a value of the rest.
            ..unsafe { mem::zeroed() }
        };
        let info = MarkedSignal { fields, rest: [0; REST] };
        let at = &raw const info;
        // SAFETY: the descriptor is open, and the pointer leads to information of the size that the kernel reads.
        let send = |pidfd: BorrowedFd<'_>| unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGTERM, at, 0)
        };
        if self.sentinel.pidfd().is_some_and(|pidfd| send(pidfd) == 0) || self.is_over() {
            return Ok(());
        }
        let reaped = lock(&self.reaped);
        // SAFETY: as above. The number is the child's own until it is reaped.
        if *reaped || unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, self.pid(), libc::SIGTERM, at) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }

    /// Whether it has ended, whether or not it is reaped.
    fn is_over(&self) -> bool {
        matches!(wait_readable([self.sentinel()], Some(Duration::ZERO)), Ok([true]))
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
        self.status.get()?.as_ref().ok().map(|(end, _)| *end)
    }

    /// Why the status of a process that has ended is not known.
    pub(crate) fn status_error(&self) -> Option<String> {
        let error = self.status.get()?.as_ref().err()?;
        Some(match error.raw_os_error() == Some(libc::ECHILD) {
            true if ignores_children() => "its exit status is lost (this program ignores SIGCHLD)".to_owned(),
            true => "something else in this program took its exit status".to_owned(),
            false => format!("its exit status cannot be asked for: {error}"),
        })
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        self.status.get()?.as_ref().ok().map(|(_, usage)| *usage)
    }

    /// How many bytes of its own memory it has in use; None if it ends, or if this process is short of descriptors.
    /// [`UNSEEN`] if it runs and nobody tells. What was told apart before `since` is told apart again soon.
    pub(crate) fn memory(&self, since: u64) -> Option<Weight> {
        let opened = || Scale::of(self.sentinel.pidfd(), self.pid).map(|scale| self.scale.get_or_init(|| scale));
        match self.scale.get().map_or_else(opened, Ok).and_then(|scale| scale.read(since)) {
            Ok(weight) => weight,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => None,
            Err(_) => (!self.has_ended()).then_some(Weight { alone: UNSEEN, whole: None }),
        }
    }

    /// Does it have children? None if it has ended, or the system does not tell.
    pub(crate) fn has_children(&self) -> Option<bool> {
        process::has_children(self.sentinel.pidfd(), self.pid)
    }

    /// Reaps it, as it has ended. `ECHILD`: `SIGCHLD` is ignored, or somebody waited for any child.
    fn reap(&self) -> io::Result<(End, Usage)> {
        // SAFETY: all zeroes is a value of both.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { mem::zeroed() };
        let (info_at, usage_at) = (&raw mut info, &raw mut usage);
        let (kind, id) = self.sentinel.wait_id();
        // rustix's `waitid` returns no usage.
        // SAFETY: both pointers lead to memory of the right size.
        while unsafe { libc::syscall(libc::SYS_waitid, kind, id, info_at, libc::WEXITED, usage_at) } != 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECHILD) => return Err(error),
                // A filter denies it. The number is still this child's, as nobody has reaped it.
                _ => return wait_by_pid(self.pid).map_err(|_| step::WAITID.failed(error)),
            }
        }
        // SAFETY: a child has a status.
        let status = unsafe { info.si_status() };
        let end = match info.si_code {
            libc::CLD_EXITED => End::Exited(status & 0xff),
            libc::CLD_DUMPED | libc::CLD_KILLED => End::Signal(status),
            _ => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
        };
        Ok((end, Usage::new(&usage)))
    }
}

/// Whether the system reaps the children of this process itself, without a word.
fn ignores_children() -> bool {
    // SAFETY: without a new action, the call only writes the one in force, all of whose bytes may be zero.
    let action = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action);
        action
    };
    action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0
}

/// Reaps a child that has ended, by its number.
fn wait_by_pid(pid: Pid) -> io::Result<(End, Usage)> {
    let mut status = 0;
    // SAFETY: all zeroes is a value of a usage.
    let mut usage = unsafe { mem::zeroed() };
    // SAFETY: both pointers lead to memory of the right size.
    let reaped = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, libc::WNOHANG, &raw mut usage) };
    let status = ExitStatus::from_raw(status);
    let end = status.code().map(End::Exited).or_else(|| status.signal().map(End::Signal));
    match end.filter(|_| reaped == pid.as_raw_pid()) {
        Some(end) => Ok((end, Usage::new(&usage))),
        None => Err(io::Error::last_os_error()),
    }
}

/// Reaps a child that was just killed, if it ends soon.
fn abandon(pid: Pid) {
    let ended = || match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Err(error) if error != Errno::CHILD => wait_by_pid(pid).is_ok(),
        answer => !matches!(answer, Ok(None)),
    };
    let deadline = Instant::now() + Duration::from_secs(2);
    while !ended() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
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
