//! Signals of the calling thread, and of this process.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

fn set_of(fill: impl FnOnce(*mut libc::sigset_t)) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    fill(set.as_mut_ptr());
    // SAFETY: `sigemptyset` or `sigfillset`, called first in every closure here, initialises it.
    unsafe { set.assume_init() }
}

thread_local! {
    static ALL_BLOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps all signals away from the calling thread for good: the library's own threads never run the user's handlers.
pub(crate) fn block_all_signals() {
    // SAFETY: the pointer is that of a signal set.
    let all = set_of(|set| unsafe {
        libc::sigfillset(set);
    });
    // SAFETY: the set is initialised; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    ALL_BLOCKED.set(true);
}

extern "C" fn ignore(_: libc::c_int) {}

/// Has this process outlive Ctrl-C, unless its program has decided for itself what becomes of it.
///
/// By a handler that does nothing: what is ignored outright stays so in the programs that this process starts.
pub(crate) fn outlive_interrupts() {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks for the action alone, and initialises `before` if it succeeds.
    let known = unsafe { libc::sigaction(libc::SIGINT, std::ptr::null(), before.as_mut_ptr()) } == 0;
    // SAFETY: initialised by the call, which is looked at first.
    if !known || unsafe { before.assume_init() }.sa_sigaction != libc::SIG_DFL {
        return;
    }
    // SAFETY: all zero is a value of the structure, of plain numbers and an empty set of signals.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
    // No call of the task's returns early because of it.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised, and its handler does nothing, which is allowed at any time.
    unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
}

/// While it lives, writing to a peer that is gone is an error for the calling thread, not a signal that ends the
/// program.
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
        let before = (!ALL_BLOCKED.get()).then(|| {
            let sigpipe = sigpipe();
            let mut before = MaybeUninit::uninit();
            // SAFETY: both sets are valid; the call initialises `before`.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const sigpipe, before.as_mut_ptr());
                before.assume_init()
            }
        });
        Self { before, _thread: PhantomData }
    }

    /// The peer was gone, and a signal is pending because of that: it is taken off.
    pub(crate) fn peer_was_gone(&self) {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let sigpipe = sigpipe();
        // SAFETY: the set and the time are valid; no information about the signal is asked for.
        unsafe { libc::sigtimedwait(&raw const sigpipe, std::ptr::null_mut(), &raw const at_once) };
    }
}

impl Drop for SigpipeHeld {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: it is the mask that the constructor got.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
        }
    }
}

fn sigpipe() -> libc::sigset_t {
    // SAFETY: the pointer is that of a signal set, which is emptied before a member is added.
    set_of(|set| unsafe {
        libc::sigemptyset(set);
        libc::sigaddset(set, libc::SIGPIPE);
    })
}
