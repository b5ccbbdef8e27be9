//! Sleeping on a word of memory, also one that another process can write.

use rustix::{
    io::Errno,
    thread::futex::{self, Flags, Timespec},
};
use std::{sync::atomic::AtomicU32, time::Duration};

/// Sleeps until the word is [woken](futex_wake), at most for `patience`; not at all if it is not `seen` any more.
///
/// May return for no reason: the caller looks again at what it waits for.
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, patience: Option<Duration>) {
    let patience = patience.map(|patience| Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    match futex::wait(word, Flags::empty(), seen, patience.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        // A kernel without futexes, or one that forbids them: slow is better than busy.
        Err(_) => std::thread::sleep(Duration::from_millis(1)),
    }
}

/// Wakes all who sleep on the word: one process that is not meant to sleep there must not take another's wake-up.
pub(crate) fn futex_wake(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}
