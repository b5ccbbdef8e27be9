//! Sleeping on words of shared memory: futexes.

use crate::os::monotonic;
use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, WaitFlags, WaitPtr, WaitvFlags};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A word that counts how often it was rung, in memory that several processes may write. Zero is a new one.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

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
        sleep_while(&self.0, seen, timeout);
    }
}

/// Sleeps until the word is [woken](wake_sleepers), at most for `timeout`; not at all if it has another value. Spurious
/// returns are possible. Returns false if the time is over.
pub(crate) fn sleep_while(word: &AtomicU32, value: u32, timeout: Option<Duration>) -> bool {
    match futex::wait(word, Flags::empty(), value, super::poll::timespec(timeout).as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(Errno::TIMEDOUT) => false,
        // The kernel has no futexes, or forbids them: polling slowly is better than spinning.
        Err(_) => {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
    }
}

/// Wakes so many of those that sleep on a word, those that have slept longest first.
pub(crate) fn wake_sleepers(word: &AtomicU32, most: u32) {
    let _ = futex::wake(word, Flags::empty(), most.min(i32::MAX as u32));
}

/// Several bells on which a thread is about to sleep, and how often each had been rung when it was added.
#[derive(Debug)]
pub(crate) struct BellWatch<'b> {
    waits: Vec<futex::Wait>,
    bells: PhantomData<&'b Bell>,
}

impl<'b> BellWatch<'b> {
    /// The kernel watches no more of them at a time.
    pub(crate) const MOST: usize = 128;

    /// Whether the kernel can do this: Linux 5.16, where no filter forbids it.
    pub(crate) fn is_supported() -> bool {
        // No bells at all are refused by a kernel that knows the call.
        futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) == Err(Errno::INVAL)
    }

    pub(crate) fn of(bells: impl Iterator<Item = &'b Bell>) -> Self {
        let wait = |bell: &Bell| {
            let mut wait = futex::Wait::new();
            wait.val = bell.seen().into();
            wait.uaddr = WaitPtr::new(bell.0.as_ptr().cast());
            wait.flags = WaitFlags::SIZE_U32;
            wait
        };
        Self { waits: bells.map(wait).collect(), bells: PhantomData }
    }

    /// Sleeps until one of them is rung, at most for `timeout`; not at all if one was rung since it was added. Spurious
    /// returns are possible.
    pub(crate) fn wait(&self, timeout: Duration) {
        let end = super::poll::timespec(Some(Duration::from_nanos(monotonic()).saturating_add(timeout)));
        match futex::waitv(&self.waits, WaitvFlags::empty(), end.as_ref(), ClockId::Monotonic) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            // For a lack of kernel memory, which passes.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
