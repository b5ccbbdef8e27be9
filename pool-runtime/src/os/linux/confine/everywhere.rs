//! Confines each thread of this process: the calling one, and those that wait for it.
//!
//! Landlock and capabilities belong to a thread, not to a process. A thread that is left out has all rights, and whoever
//! runs code in this process can use them: signals are handled by the same functions on all threads. So each thread is sent
//! one, and confines itself while it handles it.

use super::super::bell::Bell;
use super::super::step::{CAPABILITIES, PRCTL, RESTRICT_SELF, Step};
use super::super::thread::{number_of_this, waiting};
use rustix::io::Errno;
use rustix::process::{RawPid, getpid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use std::collections::HashSet;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, mem};

/// What belongs to a thread.
#[derive(Debug)]
pub(super) struct OfThread {
    /// Landlock's rules; none where it is not to confine.
    pub(super) rules: Option<OwnedFd>,
    pub(super) kept: CapabilitySet,
    /// What no program gets that is started from here.
    pub(super) given_up: CapabilitySet,
}

impl OfThread {
    /// Confines the calling thread, for good.
    pub(super) fn confine_this(&self) -> io::Result<()> {
        let confined = confine(self.rules.as_ref().map(AsRawFd::as_raw_fd), self.kept, self.given_up);
        confined.map_err(|NotConfined { measure, errno }| measure.step().failed(errno))
    }

    /// Confines these threads, which only wait.
    pub(super) fn confine_others(&self, threads: &[RawPid]) -> Result<(), String> {
        if threads.is_empty() {
            return Ok(());
        }
        RULES.store(self.rules.as_ref().map_or(-1, AsRawFd::as_raw_fd), Ordering::Relaxed);
        KEPT.store(self.kept.bits(), Ordering::Relaxed);
        GIVEN_UP.store(self.given_up.bits(), Ordering::Relaxed);
        let signal = libc::SIGRTMAX();
        let before = set_handler(signal, handler());
        let confined = threads.iter().try_for_each(|thread| confine_other(*thread, signal));
        TARGET.store(0, Ordering::Release);
        set_handler(signal, before);
        confined
    }
}

/// Numbers of the threads that only wait for the calling one: `harness` says whether a test harness's first thread does.
pub(super) fn waiting_threads(harness: bool) -> Vec<RawPid> {
    let this = number_of_this();
    let first = harness.then(|| getpid().as_raw_nonzero().get());
    first.into_iter().chain(waiting()).filter(|thread| *thread != this).collect()
}

/// Checks that this process has no threads but the calling one and these.
pub(super) fn check_alone(waiting: &[RawPid]) -> Result<(), String> {
    let threads = match fs::read_dir("/proc/self/task") {
        Ok(threads) => threads,
        // Only a sandbox around this one denies that, and it confines the threads.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(format!("cannot count its threads: {error}")),
    };
    // They count as elsewhere if /proc is of another name space: then how many there are must do.
    let known: HashSet<_> = waiting.iter().chain([&number_of_this()]).map(|thread| thread.to_string()).collect();
    let threads: Vec<_> = threads.flatten().map(|thread| thread.file_name().to_string_lossy().into_owned()).collect();
    let others = threads.len().saturating_sub(known.len());
    if others == 0 {
        return Ok(());
    }
    let name = |thread: &String| fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
    let strange = threads.iter().filter(|thread| !known.contains(*thread));
    let names: Vec<_> = strange.filter_map(|thread| Some(format!("`{}`", name(thread).ok()?.trim_end()))).collect();
    Err(format!(
        "its sandbox would not reach {others} other threads that run already ({}): start threads after `pool_main!` or \
         `enter()`, or accept less with `Sandbox::best_effort()`",
        names.join(", ")
    ))
}

/// A step of confining a thread that the kernel may refuse.
#[derive(Clone, Copy, Debug)]
enum Measure {
    NoNewRights,
    Rules,
    BoundingSet,
    Capabilities,
}

impl Measure {
    const ALL: [Self; 4] = [Self::NoNewRights, Self::Rules, Self::BoundingSet, Self::Capabilities];

    fn step(self) -> Step {
        match self {
            Self::NoNewRights | Self::BoundingSet => PRCTL,
            Self::Rules => RESTRICT_SELF,
            Self::Capabilities => CAPABILITIES,
        }
    }

    fn refused(self, errno: Errno) -> NotConfined {
        NotConfined { measure: self, errno }
    }
}

/// What the kernel has refused. As one number, for an answer out of a signal's handler.
struct NotConfined {
    measure: Measure,
    errno: Errno,
}

impl NotConfined {
    /// Above all error numbers.
    const MEASURE: i32 = 1 << 16;

    fn to_answer(&self) -> i32 {
        self.errno.raw_os_error() + self.measure as i32 * Self::MEASURE
    }

    fn of_answer(answer: i32) -> io::Error {
        let measure = Measure::ALL[(answer / Self::MEASURE) as usize % Measure::ALL.len()];
        measure.step().failed(Errno::from_raw_os_error(answer % Self::MEASURE))
    }
}

/// Takes from the calling thread all capabilities but these.
fn keep_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    let next = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: now.inheritable & kept,
    };
    if next == now { Ok(()) } else { set_capabilities(None, next) }
}

/// Confines the calling thread. Makes system calls alone, as a signal's handler may.
fn confine(rules: Option<c_int>, kept: CapabilitySet, given_up: CapabilitySet) -> Result<(), NotConfined> {
    if let Some(rules) = rules {
        set_no_new_privs(true).map_err(|errno| Measure::NoNewRights.refused(errno))?;
        // SAFETY: numbers alone. The descriptor is open, or the call fails.
        if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) } != 0 {
            let errno = Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL);
            return Err(Measure::Rules.refused(errno));
        }
    }
    let of_set = |errno| Measure::Capabilities.refused(errno);
    if !given_up.is_empty() && capabilities(None).map_err(of_set)?.effective.contains(CapabilitySet::SETPCAP) {
        let dropped = given_up.iter().try_for_each(remove_capability_from_bounding_set);
        dropped.map_err(|errno| Measure::BoundingSet.refused(errno))?;
    }
    keep_capabilities(kept).map_err(of_set)
}

/// What the thread with the number `TARGET` is to do, and what came of it: what was refused, or 0; `PENDING` before.
static RULES: AtomicI32 = AtomicI32::new(-1);
static KEPT: AtomicU64 = AtomicU64::new(0);
static GIVEN_UP: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicI32 = AtomicI32::new(0);
static ANSWER: AtomicI32 = AtomicI32::new(0);
static ANSWERED: Bell = Bell::new();

const PENDING: i32 = -1;
/// A thread that waits answers at once; one that blocks signals never does.
const PATIENCE: Duration = Duration::from_secs(10);

fn confine_other(thread: RawPid, signal: c_int) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot confine the thread that waits for it: {error}");
    ANSWER.store(PENDING, Ordering::Relaxed);
    TARGET.store(thread, Ordering::Release);
    // SAFETY: numbers alone. The signal has a handler.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    if sent != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = ANSWERED.seen();
        match ANSWER.load(Ordering::Acquire) {
            PENDING => {}
            0 => return Ok(()),
            answer => return Err(failed(NotConfined::of_answer(answer))),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::Error::other("it handles no signals")));
        }
        ANSWERED.wait(seen, Some(left));
    }
}

fn handler() -> libc::sigaction {
    extern "C" fn confine_interrupted(_: c_int) {
        // Whoever else sends the signal, to another thread, gets nothing done.
        if TARGET.load(Ordering::Acquire) != number_of_this() {
            return;
        }
        let [kept, given_up] =
            [&KEPT, &GIVEN_UP].map(|set| CapabilitySet::from_bits_retain(set.load(Ordering::Relaxed)));
        // SAFETY: the location belongs to this thread.
        let before = unsafe { *libc::__errno_location() };
        let rules = Some(RULES.load(Ordering::Relaxed)).filter(|rules| *rules >= 0);
        let confined = confine(rules, kept, given_up);
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = before };
        ANSWER.store(confined.map_or_else(|why| why.to_answer(), |()| 0), Ordering::Release);
        ANSWERED.ring();
    }
    // SAFETY: all zero is such a value: no flags, and nothing blocked.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = confine_interrupted as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    action
}

/// Returns the action before.
fn set_handler(signal: c_int, action: libc::sigaction) -> libc::sigaction {
    let mut before = action;
    // SAFETY: the action is a function that makes system calls alone, or what was there before. With pointers to values of
    // the right type the call does not fail.
    unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
    before
}
