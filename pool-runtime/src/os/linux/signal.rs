//! Signals of the calling thread, and of this process.

use super::step;
use rustix::process::Resource;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::{mem, ptr};

pub(super) fn set_of(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: all zeroes is a value of a set, and it is initialised before a member is added.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Changes which signals are blocked for the calling thread, and returns which were.
pub(super) fn set_mask(how: c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = set_of(&[]);
    // SAFETY: both sets are initialised.
    unsafe { libc::pthread_sigmask(how, set, &raw mut before) };
    before
}

pub(super) fn action_of(handler: usize, flags: c_int, blocked: &[c_int]) -> libc::sigaction {
    // SAFETY: all zeroes is a value of the structure, of plain numbers and no function.
    let none: libc::sigaction = unsafe { mem::zeroed() };
    libc::sigaction { sa_sigaction: handler, sa_flags: flags, sa_mask: set_of(blocked), ..none }
}

/// What this process does at a signal.
pub(super) fn action(signal: c_int) -> libc::sigaction {
    let mut action = action_of(libc::SIG_DFL, 0, &[]);
    // SAFETY: asks for the action alone, and there is room for it.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action
}

thread_local! {
    static ALL_BLOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Blocks all signals on the calling thread for good: the library's own threads never run the user's handlers.
pub(crate) fn block_all_signals() {
    let mut all = set_of(&[]);
    // SAFETY: the pointer is that of a signal set.
    unsafe { libc::sigfillset(&raw mut all) };
    set_mask(libc::SIG_SETMASK, &all);
    ALL_BLOCKED.set(true);
}

/// As `raise`, which musl does with a call that a sandbox denies on all threads but the main one.
///
/// # Safety
///
/// As for what comes of the signal.
pub(super) unsafe fn raise(signal: c_int) {
    // SAFETY: numbers alone; the caller answers for the signal.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal) };
}

/// Comes with a signal that a parent means for one worker, and not for the whole program.
pub(super) const MEANT: usize = 0x706f_6f6c;

/// Keeps the signals that ask a whole program to end from ending this process, unless its program has installed an
/// action of its own: Ctrl-C, the `SIGTERM` of a service manager, and the `SIGHUP` of a terminal that is closed. With a
/// handler, as an ignored signal would stay ignored in the programs that this process starts. What the parent
/// [means for this process](super::Child::ask_to_end) ends it.
pub(crate) fn outlive_requests_to_end() {
    extern "C" fn unless_meant(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel hands over valid information, and asking for the parent is allowed at any time.
        let meant = unsafe {
            (*info).si_code == libc::SI_QUEUE
                && (*info).si_pid() == libc::getppid()
                && (*info).si_value().sival_ptr.addr() == MEANT
        };
        if meant {
            let default = action_of(libc::SIG_DFL, 0, &[]);
            // SAFETY: both are allowed in a handler. The signal is blocked until that has returned.
            unsafe {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                raise(signal);
            }
        }
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        if action(signal).sa_sigaction == libc::SIG_DFL {
            // With `SA_RESTART`, no system call of a task returns early because of it.
            let handler = unless_meant as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            let action = action_of(handler, libc::SA_RESTART | libc::SA_SIGINFO, &[]);
            // SAFETY: the handler does what is allowed at any time.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    }
}

/// Does what may make a file larger than this process may have. That is then an error, as for every other limit, and
/// not a signal that ends the program.
pub(super) fn without_sigxfsz<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // A thread that gets no signals, or a process without that limit. If nobody tells the limit, there may be one.
    if ALL_BLOCKED.get() || step::limits_of(Resource::Fsize).is_ok_and(|(limit, _)| limit.is_none()) {
        return work();
    }
    let signal = set_of(&[libc::SIGXFSZ]);
    let before = set_mask(libc::SIG_BLOCK, &signal);
    let done = work();
    // SAFETY: the set is initialised.
    let was_blocked = unsafe { libc::sigismember(&raw const before, libc::SIGXFSZ) } == 1;
    if done.is_err() && !was_blocked {
        discard(&signal);
    }
    set_mask(libc::SIG_SETMASK, &before);
    done
}

/// Which limit of a process it has exceeded, if the system ends it with this signal.
pub(crate) fn exceeded_limit(signal: c_int) -> Option<&'static str> {
    match signal {
        libc::SIGXCPU => Some("it used more processor time than it may (`ulimit -t`, or `Sandbox::cpu_time`)"),
        libc::SIGXFSZ => Some("it made a file larger than it may (`ulimit -f`, or `Sandbox::file_size`)"),
        _ => None,
    }
}

/// Takes a pending signal of this set, if there is one.
fn discard(set: &libc::sigset_t) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the time are valid; no information about the signal is asked for.
    unsafe { libc::sigtimedwait(set, ptr::null_mut(), &raw const now) };
}

/// While it lives, writing to a peer that is gone is an error for the calling thread, not a signal to the program.
///
/// ipc-channel sends without `MSG_NOSIGNAL`, and programs that want to die of a closed pipe set `SIGPIPE` to default.
pub(crate) struct SigpipeHeld {
    /// None on a thread that gets no signals at all.
    before: Option<libc::sigset_t>,
    /// A mask belongs to a thread.
    _thread: PhantomData<*const ()>,
}

impl SigpipeHeld {
    pub(crate) fn new() -> Self {
        let before = (!ALL_BLOCKED.get()).then(|| set_mask(libc::SIG_BLOCK, &set_of(&[libc::SIGPIPE])));
        Self { before, _thread: PhantomData }
    }

    /// The peer was gone, so a signal is pending: discards it.
    pub(crate) fn peer_was_gone(&self) {
        discard(&set_of(&[libc::SIGPIPE]));
    }
}

impl Drop for SigpipeHeld {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            set_mask(libc::SIG_SETMASK, before);
        }
    }
}
