//! [`ReentrantMutex`]: a mutex that the thread that has it may take again.

use super::{Poisoned, TryLockError};
use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::region::Region;
use crate::objects::committed::{Committed, Held, in_new_memory_with_room};
use crate::objects::{Plain, reference};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A lock between processes that the thread that has it may take again, and the value that it guards.
///
/// As `std::sync::ReentrantLock` and Python's `multiprocessing.RLock`: the lock is given back when all guards of its
/// thread are dropped. As there may be several guards, none lends the value: it is copied by [`get`] and stored by [`set`]
/// and [`update`], at once, so that the value is whole whenever a process ends. If the holder ends or panics, what it has
/// stored stays, and the next holder is [told](Poisoned).
///
/// ```no_run
/// use pool_runtime::sync::{Poisoned, ReentrantMutex};
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// fn deposit(account: &ReentrantMutex<i64>, amount: i64) {
///     account.lock().unwrap_or_else(Poisoned::into_inner).update(|balance| *balance += amount);
/// }
///
/// #[task]
/// fn deposit_twice(account: &ReentrantMutex<i64>, amount: i64) {
///     // Nobody sees one without the other.
///     let _both = account.lock().unwrap_or_else(Poisoned::into_inner);
///     deposit(account, amount);
///     deposit(account, amount);
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let account = ReentrantMutex::new(0)?;
///     let pool = Pool::new(2)?;
///     pool.map(|amount| deposit_twice::call(&account, amount), [1, 2, 3])?;
///     assert_eq!(account.lock()?.get(), 12);
///     Ok(())
/// }
/// ```
///
/// It is freed as an [`Array`](crate::Array) is.
///
/// [`get`]: ReentrantMutexGuard::get
/// [`set`]: ReentrantMutexGuard::set
/// [`update`]: ReentrantMutexGuard::update
pub struct ReentrantMutex<T> {
    committed: Committed<T>,
    /// Who has it, and how many guards. Only who has the lock writes them.
    words: View<[AtomicU64], Region>,
}

/// The lock is held as long as this thread has one of these.
#[must_use = "the lock is given back at once if the guard is dropped"]
pub struct ReentrantMutexGuard<'m, T: Plain> {
    mutex: &'m ReentrantMutex<T>,
    held: Held,
    /// Whether this thread panicked before: then a panic says nothing about the value.
    was_panicking: bool,
    /// It stays on its thread, and is used by that alone.
    thread: PhantomData<*const ()>,
}

/// The words.
const THREAD: usize = 0;
const GUARDS: usize = 1;
const WORDS: usize = 2;

/// Of a thread's number in the words, the bits below are its own, and those above its process's.
const THREAD_BITS: u32 = 40;

/// The number of this thread in its process, from 1 on.
fn this_thread() -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = STARTED.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number) & ((1 << THREAD_BITS) - 1)
}

impl<T: Plain> ReentrantMutex<T> {
    /// A new lock, which nobody has.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `ReentrantMutex` is two.
    pub fn new(value: T) -> Result<Self> {
        let room = WORDS * size_of::<AtomicU64>();
        Self::with_words(in_new_memory_with_room("a `ReentrantMutex`", value, room)?).map_err(Error::invalid)
    }

    fn found(region: &Arc<Region>) -> Result<Self, String> {
        Self::with_words(Committed::found(region)?)
    }

    fn with_words(committed: Committed<T>) -> Result<Self, String> {
        let first = Committed::<T>::END / size_of::<AtomicU64>();
        let words = View::new(committed.region().clone(), |region| {
            region.memory().words().get(first..first + WORDS).ok_or("the shared memory is too short for a lock")
        })?;
        Ok(Self { committed, words })
    }

    /// Waits for the lock and takes it; not at all if this thread has it.
    ///
    /// ```
    /// let lock = pool_runtime::sync::ReentrantMutex::new(1)?;
    /// let outer = lock.lock()?;
    /// lock.lock()?.update(|value| *value += 1);
    /// assert_eq!(outer.get(), 2);
    /// # drop(outer);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The lock was taken, and somebody [has ended](Poisoned) who had it.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec` from one that has the lock, if there are no more file locks.
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, Poisoned<ReentrantMutexGuard<'_, T>>> {
        match self.take(|| self.committed.acquire(None)) {
            Some(guard) => told(guard),
            None => unreachable!("without a deadline, it waits until it has the lock"),
        }
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    ///
    /// Another thread has it; or as [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        let guard = self.take(|| self.committed.try_acquire());
        Ok(told(guard.ok_or(TryLockError::WouldBlock)?)?)
    }

    /// As [`lock`](Self::lock), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// Another thread has it all the time; or as [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        // A time that the clock cannot reach never comes.
        let guard = self.take(|| self.committed.acquire(Instant::now().checked_add(timeout)));
        Ok(told(guard.ok_or(TryLockError::WouldBlock)?)?)
    }

    fn take(&self, acquire: impl FnOnce() -> Option<Held>) -> Option<ReentrantMutexGuard<'_, T>> {
        let me = u64::from(self.committed.number()) << THREAD_BITS | this_thread();
        // Nobody else writes this number, and this thread takes it out before it gives the lock back.
        let held = if self.words[THREAD].load(Ordering::Relaxed) == me {
            self.words[GUARDS].store(self.guards().saturating_add(1), Ordering::Relaxed);
            self.committed.held_again()
        } else {
            let held = acquire()?;
            self.words[GUARDS].store(1, Ordering::Relaxed);
            self.words[THREAD].store(me, Ordering::Relaxed);
            held
        };
        let was_panicking = std::thread::panicking();
        Some(ReentrantMutexGuard { mutex: self, held, was_panicking, thread: PhantomData })
    }
}

fn told<T: Plain>(
    guard: ReentrantMutexGuard<'_, T>,
) -> Result<ReentrantMutexGuard<'_, T>, Poisoned<ReentrantMutexGuard<'_, T>>> {
    if guard.held.is_poisoned { Err(Poisoned::new(guard)) } else { Ok(guard) }
}

impl<T> ReentrantMutex<T> {
    fn guards(&self) -> u64 {
        self.words[GUARDS].load(Ordering::Relaxed)
    }

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

impl<T: Plain> ReentrantMutexGuard<'_, T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> T {
        self.mutex.committed.value(&self.held)
    }

    /// Replaces the value, at once.
    pub fn set(&self, value: T) {
        // A process that was forked with the guard does not have the lock.
        if self.mutex.committed.is_here(&self.held) {
            self.mutex.committed.commit(&self.held, value);
        }
    }

    /// Has `change` change the value, stores it and returns what `change` returns. What `change` itself stores through
    /// another guard is lost.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.get();
        let returned = change(&mut value);
        self.set(value);
        returned
    }
}

impl<T: Plain> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        let ReentrantMutex { committed, words } = self.mutex;
        if !committed.is_here(&self.held) {
            return;
        }
        if std::thread::panicking() && !self.was_panicking {
            committed.poison(&self.held);
        }
        let left = self.mutex.guards().saturating_sub(1);
        words[GUARDS].store(left, Ordering::Relaxed);
        if left == 0 {
            words[THREAD].store(0, Ordering::Relaxed);
            committed.release(&self.held);
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: Plain + fmt::Display> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> Self {
        Self { committed: self.committed.clone(), words: self.words.clone() }
    }
}

/// Shows who has it, not the value.
impl<T> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ReentrantMutex");
        shown.field("holder", &self.holder()).field("is_poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is, not the value.
impl<T: Plain> Serialize for ReentrantMutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<T, S>("ReentrantMutex", self.committed.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for ReentrantMutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<T, D>("ReentrantMutex", deserializer)?;
        Self::found(&region).map_err(de::Error::custom)
    }
}
