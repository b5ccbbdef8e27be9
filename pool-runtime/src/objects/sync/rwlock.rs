//! [`RwLock`]: a value that many threads may read at a time, of all processes, or one may change.

use super::line::{Holders, Lined, PLACES, WaitingLine};
use super::signalled::{Signalled, after};
use super::{Poisoned, TryLockError};
use crate::error::{Error, Result};
use crate::memory::region::Region;
use crate::objects::committed::Committed;
use crate::objects::{Plain, reference};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A lock between processes that many may have to read, or one to write, and the value that it guards.
///
/// As [`std::sync::RwLock`], but for this: each guard has a copy of the value, and a writer's is stored when its guard is
/// dropped. So the value is whole whenever a process ends. A reader that ends is not counted any more. If a writer ends,
/// or panics, the later ones are [told](Poisoned), readers and writers.
///
/// ```no_run
/// use pool_runtime::sync::RwLock;
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn scale(factors: &RwLock<[f64; 2]>, value: f64) -> Result<f64, String> {
///     let factors = factors.read().map_err(|poisoned| poisoned.to_string())?;
///     Ok(value * factors[0] + factors[1])
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let factors = RwLock::new([1.0, 0.0])?;
///     let pool = Pool::new(2)?;
///     *factors.write()? = [2.0, 1.0];
///     assert_eq!(pool.apply(scale::call(&factors, 10.0))?, Ok(21.0));
///     Ok(())
/// }
/// ```
///
/// Readers and writers get it in the order in which they came, so that nobody is left out: a reader that comes after a
/// writer waits for that. So a thread that reads and wants to read again may wait for a writer that waits for it, for ever.
/// If 256 processes have it to read, another one waits until one of them does not.
///
/// To read one value now and then, [`Value`](crate::Value) is faster: its readers never wait. It is freed as an
/// [`Array`](crate::Array) is.
pub struct RwLock<T> {
    signalled: Signalled<RwLockState>,
    /// In the same memory, changed by who has the lock to write.
    value: Committed<T>,
}

/// The lock is held to read as long as this lives.
#[must_use = "the lock is given back at once if the guard is dropped"]
pub struct RwLockReadGuard<'l, T: Plain> {
    lock: &'l RwLock<T>,
    /// Of the process that has it.
    number: u32,
    value: T,
}

/// The lock is held to write as long as this lives; then the value is stored.
#[must_use = "the lock is given back at once if the guard is dropped"]
pub struct RwLockWriteGuard<'l, T: Plain> {
    lock: &'l RwLock<T>,
    /// Of the process that has it.
    number: u32,
    value: T,
    is_changed: bool,
    /// Whether this thread panicked before: then a panic says nothing about the value.
    was_panicking: bool,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RwLockState {
    line: WaitingLine,
    readers: Holders,
    /// The process that has it to write; 0: none.
    writer: u32,
    is_poisoned: u32,
}

/// What those in line wait for.
const READ: u8 = 0;
const WRITE: u8 = 1;

impl Lined for RwLockState {
    fn line(&self) -> &WaitingLine {
        &self.line
    }

    fn line_mut(&mut self) -> &mut WaitingLine {
        &mut self.line
    }

    fn admits(&self, mark: u8) -> bool {
        self.writer == 0 && if mark == WRITE { self.readers.total() == 0 } else { !self.readers.is_full() }
    }

    fn owners(&self) -> Vec<u32> {
        self.readers.owners().chain((self.writer != 0).then_some(self.writer)).collect()
    }

    fn take_back(&mut self, ended: &[u32]) {
        self.readers.bury(ended);
        if ended.contains(&self.writer) {
            self.writer = 0;
            self.is_poisoned = 1;
        }
    }
}

type ReadResult<'l, T, E> = Result<RwLockReadGuard<'l, T>, E>;
type WriteResult<'l, T, E> = Result<RwLockWriteGuard<'l, T>, E>;

impl<T: Plain> RwLock<T> {
    /// A new lock, which nobody has.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `RwLock` is two.
    pub fn new(value: T) -> Result<Self> {
        let state = RwLockState { line: WaitingLine::EMPTY, readers: Holders::NONE, writer: 0, is_poisoned: 0 };
        let signalled = Signalled::new("an `RwLock`", state, PLACES, Committed::<T>::SIZE)?;
        let lock = Self::with_value(signalled).map_err(Error::invalid)?;
        lock.value.change(|first| *first = value);
        Ok(lock)
    }

    fn found(region: &Arc<Region>) -> Result<Self, String> {
        Self::with_value(Signalled::found(region, PLACES)?)
    }

    fn with_value(signalled: Signalled<RwLockState>) -> Result<Self, String> {
        let value = Committed::at(signalled.region(), Signalled::<RwLockState>::end(PLACES))?;
        Ok(Self { signalled, value })
    }

    /// Waits until it may be read, and takes the lock to read.
    ///
    /// # Errors
    ///
    /// The lock was taken, and somebody [has ended](Poisoned) who had it to write.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec`, if there are no more file locks.
    pub fn read(&self) -> ReadResult<'_, T, Poisoned<RwLockReadGuard<'_, T>>> {
        let number = self.signalled.number();
        match self.signalled.take_in_turn(READ, None, |state| state.read(number)) {
            Some(is_poisoned) => self.reads(number, is_poisoned),
            None => unreachable!("without a deadline, it waits until it has the lock"),
        }
    }

    /// As [`read`](Self::read), without waiting.
    ///
    /// # Errors
    ///
    /// Somebody has it to write, or waits for it; or as [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn try_read(&self) -> ReadResult<'_, T, TryLockError<RwLockReadGuard<'_, T>>> {
        let number = self.signalled.number();
        let taken = self.signalled.try_take(READ, |state| state.read(number));
        Ok(self.reads(number, taken.ok_or(TryLockError::WouldBlock)?)?)
    }

    /// As [`read`](Self::read), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// Somebody has it to write all the time; or as [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> ReadResult<'_, T, TryLockError<RwLockReadGuard<'_, T>>> {
        let number = self.signalled.number();
        let deadline: Option<Instant> = after(timeout);
        let taken = self.signalled.take_in_turn(READ, deadline, |state| state.read(number));
        Ok(self.reads(number, taken.ok_or(TryLockError::WouldBlock)?)?)
    }

    /// Waits until nobody has it, and takes the lock to write.
    ///
    /// # Errors
    ///
    /// The lock was taken, and somebody [has ended](Poisoned) who had it to write.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn write(&self) -> WriteResult<'_, T, Poisoned<RwLockWriteGuard<'_, T>>> {
        let number = self.signalled.number();
        match self.signalled.take_in_turn(WRITE, None, |state| state.write(number)) {
            Some(is_poisoned) => self.writes(number, is_poisoned),
            None => unreachable!("without a deadline, it waits until it has the lock"),
        }
    }

    /// As [`write`](Self::write), without waiting.
    ///
    /// # Errors
    ///
    /// Somebody has it, or waits for it; or as [`write`](Self::write).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn try_write(&self) -> WriteResult<'_, T, TryLockError<RwLockWriteGuard<'_, T>>> {
        let number = self.signalled.number();
        let taken = self.signalled.try_take(WRITE, |state| state.write(number));
        Ok(self.writes(number, taken.ok_or(TryLockError::WouldBlock)?)?)
    }

    /// As [`write`](Self::write), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// Somebody has it all the time; or as [`write`](Self::write).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn write_timeout(&self, timeout: Duration) -> WriteResult<'_, T, TryLockError<RwLockWriteGuard<'_, T>>> {
        let number = self.signalled.number();
        let taken = self.signalled.take_in_turn(WRITE, after(timeout), |state| state.write(number));
        Ok(self.writes(number, taken.ok_or(TryLockError::WouldBlock)?)?)
    }

    fn reads(&self, number: u32, is_poisoned: bool) -> ReadResult<'_, T, Poisoned<RwLockReadGuard<'_, T>>> {
        let guard = RwLockReadGuard { lock: self, number, value: self.value.get() };
        if is_poisoned { Err(Poisoned::new(guard)) } else { Ok(guard) }
    }

    fn writes(&self, number: u32, is_poisoned: bool) -> WriteResult<'_, T, Poisoned<RwLockWriteGuard<'_, T>>> {
        let (value, was_panicking) = (self.value.get(), std::thread::panicking());
        let guard = RwLockWriteGuard { lock: self, number, value, is_changed: false, was_panicking };
        if is_poisoned { Err(Poisoned::new(guard)) } else { Ok(guard) }
    }
}

impl RwLockState {
    /// For the process with this number. Returns whether a writer has ended.
    fn read(&mut self, number: u32) -> bool {
        self.readers.add(number);
        self.is_poisoned != 0
    }

    /// As [`read`](Self::read).
    fn write(&mut self, number: u32) -> bool {
        self.writer = number;
        self.is_poisoned != 0
    }
}

impl<T> RwLock<T> {
    /// Whether somebody has ended or panicked who had the lock to write. Of a process that has just ended, it may not be
    /// known.
    pub fn is_poisoned(&self) -> bool {
        self.signalled.state().is_poisoned != 0
    }

    /// Forgets that somebody has ended or panicked who had the lock: later holders are not told.
    pub fn clear_poison(&self) {
        self.signalled.change(|state| state.is_poisoned = 0);
    }
}

impl<T: Plain> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        // A process that was forked with the guard does not have the lock.
        if self.lock.signalled.is_this_process(self.number) {
            self.lock.signalled.change_and_go_on(|state| state.readers.remove(self.number));
        }
    }
}

impl<T: Plain> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let RwLock { signalled, value } = self.lock;
        if !signalled.is_this_process(self.number) {
            return;
        }
        let panics = std::thread::panicking() && !self.was_panicking;
        if self.is_changed && !panics {
            value.change(|value| *value = self.value);
        }
        signalled.change_and_go_on(|state| {
            state.writer = 0;
            state.is_poisoned |= u32::from(panics);
        });
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Plain + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Plain + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self { signalled: self.signalled.clone(), value: self.value.clone() }
    }
}

/// Shows how many read it and whether somebody writes it, not the value.
impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.signalled.state();
        let mut shown = f.debug_struct("RwLock");
        shown.field("readers", &state.readers.total()).field("is_written", &(state.writer != 0));
        shown.field("is_poisoned", &(state.is_poisoned != 0)).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is, not the value.
impl<T: Plain> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<T, S>("RwLock", self.signalled.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<T, D>("RwLock", deserializer)?;
        Self::found(&region).map_err(de::Error::custom)
    }
}
