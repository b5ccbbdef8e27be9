//! [`Condvar`]: waiting for a condition of what a mutex guards.

use super::line::{PLACES, WaitingLine};
use super::signalled::{Naps, Signalled, after};
use super::{MutexGuard, Poisoned};
use crate::error::Result;
use crate::objects::{Plain, reference};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::{Duration, Instant};

/// Waits for a condition of what a [`Mutex`](super::Mutex) guards.
///
/// As [`std::sync::Condvar`], between processes. It is an argument like any other; a clone, and what a task gets, are the
/// same. While a thread waits, it does not have the mutex. A process that ends while it waits takes no notification with
/// it: another thread is woken instead.
///
/// ```no_run
/// use pool_runtime::sync::{Condvar, Mutex};
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn wait_for(stage: &Mutex<u32>, changed: &Condvar, wanted: u32) -> Result<u32, String> {
///     let stage = stage.lock().map_err(|poisoned| poisoned.to_string())?;
///     let stage = changed.wait_while(stage, |stage| *stage < wanted).map_err(|poisoned| poisoned.to_string())?;
///     Ok(*stage)
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let (stage, changed) = (Mutex::new(0)?, Condvar::new()?);
///     let pool = Pool::new(2)?;
///     let job = pool.apply_async(wait_for::call(&stage, &changed, 3));
///     *stage.lock()? = 3;
///     changed.notify_all();
///     assert_eq!(job.get()?, Ok(3));
///     Ok(())
/// }
/// ```
///
/// At most 256 threads of all processes wait as long as nobody notifies them; any more return after a moment, as if they
/// had been notified. So use [`wait_while`](Self::wait_while), or wait in a loop, as with std's. It is freed as an
/// [`Array`](crate::Array) is.
#[derive(Clone)]
pub struct Condvar {
    signalled: Signalled<CondvarState>,
}

/// Whether a wait has ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    /// Whether the time was over before somebody notified the thread; or before the condition was as it should be.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CondvarState {
    line: WaitingLine,
}

/// The marks of places.
const WAITS: u8 = 0;
const NOTIFIED: u8 = 1;

impl CondvarState {
    /// Marks the oldest of those that wait, and returns them.
    fn notify(&mut self, most: usize) -> Vec<usize> {
        let mut notified = Vec::new();
        while notified.len() < most
            && let Some(place) = self.line.first_marked(WAITS)
        {
            self.line.set_mark(place, NOTIFIED);
            notified.push(place);
        }
        notified
    }

    /// Removes these processes. Whoever had been notified and has not noticed is replaced by another one.
    fn bury(&mut self, ended: &[u32]) -> Vec<usize> {
        let lost = self.line.bury(ended, NOTIFIED);
        self.notify(lost)
    }
}

/// What waiting for a mutex again gives, with whether the time was over.
type TimedGuard<'m, T> = (MutexGuard<'m, T>, WaitTimeoutResult);

impl Condvar {
    /// A new one, for which nobody waits.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Condvar` is two.
    pub fn new() -> Result<Self> {
        let state = CondvarState { line: WaitingLine::EMPTY };
        Signalled::new("a `Condvar`", state, PLACES, 0).map(|signalled| Self { signalled })
    }

    /// Gives the mutex back, waits until somebody notifies this thread, and takes the mutex again.
    ///
    /// Whoever takes the mutex in between and then notifies is not missed.
    ///
    /// # Errors
    ///
    /// The mutex was taken, and somebody [has ended](Poisoned) who had it.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec`, if there are no more file locks.
    pub fn wait<'m, T: Plain>(
        &self,
        guard: MutexGuard<'m, T>,
    ) -> Result<MutexGuard<'m, T>, Poisoned<MutexGuard<'m, T>>> {
        let mutex = MutexGuard::mutex(&guard);
        self.wait_until(guard, None);
        mutex.lock()
    }

    /// As [`wait`](Self::wait), again and again while the condition holds.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); then the condition may still hold.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'m, T: Plain>(
        &self,
        mut guard: MutexGuard<'m, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'m, T>, Poisoned<MutexGuard<'m, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for no longer than this. To take the mutex again may take longer.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<'m, T: Plain>(
        &self,
        guard: MutexGuard<'m, T>,
        timeout: Duration,
    ) -> Result<TimedGuard<'m, T>, Poisoned<TimedGuard<'m, T>>> {
        let (mutex, deadline) = (MutexGuard::mutex(&guard), after(timeout));
        let result = WaitTimeoutResult { timed_out: !self.wait_until(guard, deadline) };
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(Poisoned::new((poisoned.into_inner(), result))),
        }
    }

    /// As [`wait_while`](Self::wait_while), for no longer than this. To take the mutex again may take longer.
    ///
    /// ```
    /// use pool_runtime::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let (stage, changed) = (Mutex::new(0)?, Condvar::new()?);
    /// let waits = changed.wait_timeout_while(stage.lock()?, Duration::from_millis(1), |stage| *stage == 0);
    /// let (guard, result) = waits.unwrap();
    /// assert!(*guard == 0 && result.timed_out());
    /// # drop(guard);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_while`](Self::wait_while).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout_while<'m, T: Plain>(
        &self,
        mut guard: MutexGuard<'m, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<TimedGuard<'m, T>, Poisoned<TimedGuard<'m, T>>> {
        let deadline = after(timeout);
        while condition(&mut guard) {
            let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok((guard, WaitTimeoutResult { timed_out: true }));
            }
            guard = self.wait_timeout(guard, left)?.0;
        }
        Ok((guard, WaitTimeoutResult { timed_out: false }))
    }

    /// Wakes one thread that waits, if there is one: that which has waited longest.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes all threads that wait.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    /// Wakes so many threads that wait, in whichever processes, those that have waited longest; all if there are fewer.
    /// Returns how many.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn notify(&self, threads: usize) -> usize {
        let ended = self.signalled.ended(self.signalled.state().line.owners());
        let (replaced, notified) = self.signalled.change(|state| (state.bury(&ended), state.notify(threads)));
        replaced.iter().chain(&notified).for_each(|place| self.signalled.wake(*place));
        notified.len()
    }

    /// How many threads wait at this moment, and have not been notified. Some of them may have ended.
    pub fn waiting(&self) -> usize {
        self.signalled.state().line.marked(WAITS).count()
    }

    /// Waits without the mutex. Returns false if the time is over, and nobody has notified this thread.
    fn wait_until<T: Plain>(&self, guard: MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let (number, mut naps) = (self.signalled.number(), Naps::until(deadline));
        // While it has the mutex: who takes that next finds this thread in line.
        let place = self.signalled.change(|state| state.line.join(number, WAITS));
        drop(guard);
        let Some(place) = place else {
            naps.rest();
            self.bury();
            return !naps.is_over();
        };
        loop {
            let seen = self.signalled.seen(place);
            let is_notified = self.signalled.state().line.mark(place) == NOTIFIED;
            if is_notified || naps.is_over() {
                // It may have been notified since.
                return self.signalled.change(|state| state.line.leave(place)) == NOTIFIED;
            }
            if !self.signalled.sleep(place, seen, &mut naps) {
                self.bury();
            }
        }
    }

    /// Removes processes that have ended from the line.
    fn bury(&self) {
        let ended = self.signalled.ended(self.signalled.state().line.owners());
        if !ended.is_empty() {
            let replaced = self.signalled.change(|state| state.bury(&ended));
            replaced.into_iter().for_each(|place| self.signalled.wake(place));
        }
    }
}

/// Shows how many threads wait.
impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is.
impl Serialize for Condvar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<CondvarState, S>("Condvar", self.signalled.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de> Deserialize<'de> for Condvar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<CondvarState, D>("Condvar", deserializer)?;
        Signalled::found(&region, PLACES).map(|signalled| Self { signalled }).map_err(de::Error::custom)
    }
}
