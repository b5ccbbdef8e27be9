//! Signals of the calling thread.

use std::mem::MaybeUninit;

fn set_of(fill: impl FnOnce(*mut libc::sigset_t)) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    fill(set.as_mut_ptr());
    // SAFETY: `sigemptyset` or `sigfillset`, called first in every closure here, initialises it.
    unsafe { set.assume_init() }
}

/// Keeps all signals away from the calling thread: the library's own threads never run the user's handlers.
pub(crate) fn block_all_signals() {
    // SAFETY: the pointer is that of a signal set.
    let all = set_of(|set| unsafe {
        libc::sigfillset(set);
    });
    // SAFETY: the set is initialised; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
}

/// While it lives, writing to a peer that is gone is an error for the calling thread, not a signal that ends the program.
///
/// ipc-channel sends without `MSG_NOSIGNAL`, and programs that want to die of a closed pipe set `SIGPIPE` to default.
pub(crate) struct SigpipeHeld {
    before: libc::sigset_t,
    was_pending: bool,
    /// A mask belongs to a thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl SigpipeHeld {
    pub(crate) fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        let sigpipe = sigpipe();
        // SAFETY: both sets are valid; the call initialises `before`.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const sigpipe, before.as_mut_ptr());
            before.assume_init()
        };
        Self { before, was_pending: is_pending(), _thread: std::marker::PhantomData }
    }
}

impl Drop for SigpipeHeld {
    fn drop(&mut self) {
        let sigpipe = sigpipe();
        if !self.was_pending && is_pending() {
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the set and the time are valid; no information about the signal is asked for.
            unsafe { libc::sigtimedwait(&raw const sigpipe, std::ptr::null_mut(), &raw const at_once) };
        }
        // SAFETY: `before` is the mask that the constructor got.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn sigpipe() -> libc::sigset_t {
    // SAFETY: the pointer is that of a signal set, which is emptied before a member is added.
    set_of(|set| unsafe {
        libc::sigemptyset(set);
        libc::sigaddset(set, libc::SIGPIPE);
    })
}

fn is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: `sigpending` initialises the set before it is read.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1
    }
}
