//! [`Mutex`]: a value that one thread at a time may change, of all processes.

use super::{Poisoned, TryLockError};
use crate::error::Result;
use crate::objects::Plain;
use crate::objects::committed::{Committed, Held, in_new_memory};
use crate::objects::reference;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// A lock between processes, and the value that it guards.
///
/// As [`std::sync::Mutex`], but for this: the guard has a copy of the value, which is stored when it is dropped. So the
/// value is whole whenever a process ends, and a holder that ends has changed all of it or nothing. Of a thread that panics while it
/// has the guard, nothing is stored either. In both cases the next holder is [told](Poisoned).
///
/// ```no_run
/// use pool_runtime::sync::Mutex;
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn record(best: &Mutex<[u64; 2]>, index: u64, score: u64) -> Result<(), String> {
///     let mut best = best.lock().map_err(|poisoned| poisoned.to_string())?;
///     if score > best[1] {
///         *best = [index, score];
///     }
///     Ok(())
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let best = Mutex::new([0, 0])?;
///     let pool = Pool::new(2)?;
///     pool.map(|(index, score)| record::call(&best, index, score), [(1, 20), (2, 50), (3, 10)])?;
///     assert_eq!(*best.lock()?, [2, 50]);
///     Ok(())
/// }
/// ```
///
/// `Mutex<()>` is a lock alone. A large value is copied each time: [`Array`](crate::Array) has values that are not, and
/// a `Mutex<()>` may stand beside it.
///
/// A thread that takes it again while it has the guard waits for itself, for ever. Who waits gets it in turn, so that
/// nobody is left out. It is freed as an [`Array`](crate::Array) is.
pub struct Mutex<T> {
    committed: Committed<T>,
}

/// The lock is held as long as this lives; then the value is stored.
#[must_use = "the lock is given back at once if the guard is dropped"]
pub struct MutexGuard<'m, T: Plain> {
    mutex: &'m Mutex<T>,
    held: Held,
    value: T,
    is_changed: bool,
    /// Whether this thread panicked before: then a panic says nothing about the value.
    was_panicking: bool,
}

impl<T: Plain> Mutex<T> {
    /// A new lock, which nobody has.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Mutex` is two.
    pub fn new(value: T) -> Result<Self> {
        in_new_memory(value).map(|committed| Self { committed })
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    ///
    /// The lock was taken, and somebody [has ended](Poisoned) who had it.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec` from one that has the lock, if there are no more file locks.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, Poisoned<MutexGuard<'_, T>>> {
        match self.committed.acquire(None) {
            Some(held) => self.guard(held),
            None => unreachable!("without a deadline, it waits until it has the lock"),
        }
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    ///
    /// Somebody else has it; or as [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        self.taken(self.committed.try_acquire())
    }

    /// As [`lock`](Self::lock), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// Somebody else has it all the time; or as [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        // A time that the clock cannot reach never comes.
        self.taken(self.committed.acquire(Instant::now().checked_add(timeout)))
    }

    fn taken(&self, held: Option<Held>) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        Ok(self.guard(held.ok_or(TryLockError::WouldBlock)?)?)
    }

    #[inline]
    fn guard(&self, held: Held) -> Result<MutexGuard<'_, T>, Poisoned<MutexGuard<'_, T>>> {
        let is_poisoned = held.is_poisoned;
        let value = self.committed.value(&held);
        let guard = MutexGuard { mutex: self, held, value, is_changed: false, was_panicking: std::thread::panicking() };
        if is_poisoned { Err(Poisoned::new(guard)) } else { Ok(guard) }
    }
}

impl<T> Mutex<T> {
    /// Whether somebody has ended or panicked who had the lock.
    pub fn is_poisoned(&self) -> bool {
        self.committed.is_poisoned()
    }

    /// Forgets that somebody has ended or panicked who had the lock: later holders are not told.
    pub fn clear_poison(&self) {
        self.committed.clear_poison();
    }

    /// The id of the process that has the lock now, as it is in its own namespace of processes.
    pub fn holder(&self) -> Option<u32> {
        self.committed.holder()
    }
}

impl<'m, T: Plain> MutexGuard<'m, T> {
    /// The lock that it is of, to take it again after the guard was dropped.
    pub(super) fn mutex(guard: &Self) -> &'m Mutex<T> {
        guard.mutex
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let committed = &self.mutex.committed;
        if std::thread::panicking() && !self.was_panicking {
            committed.poison(&self.held);
        } else if self.is_changed {
            committed.commit(&self.held, self.value);
        }
        committed.release(&self.held);
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Plain + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { committed: self.committed.clone() }
    }
}

/// Shows who has it, not the value.
impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        shown.field("holder", &self.holder()).field("is_poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is, not the value.
impl<T: Plain> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<T, S>("Mutex", self.committed.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<T, D>("Mutex", deserializer)?;
        Committed::found(&region).map(|committed| Self { committed }).map_err(de::Error::custom)
    }
}
