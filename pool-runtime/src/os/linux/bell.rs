//! Sleeping on a word of shared memory: a futex.

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A word that counts how often it was rung, in memory that several processes may write. Zero is a new one.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    /// Wakes everyone who sleeps on it, so that a process that should not sleep there cannot take another's wake-up.
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&self.0, Flags::empty(), i32::MAX as u32);
    }

    /// To be read before checking what is waited for.
    #[inline]
    pub(crate) fn seen(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sleeps until it is rung, at most for `timeout`; not at all if it was rung since it was `seen`. Spurious returns
    /// are possible: the caller checks again what it waits for.
    pub(crate) fn wait(&self, seen: u32, timeout: Option<Duration>) {
        match futex::wait(&self.0, Flags::empty(), seen, super::poll::timespec(timeout).as_ref()) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            // The kernel has no futexes, or forbids them: polling slowly is better than spinning.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
