//! [`Semaphore`]: a number of permits, which processes and threads take and give back.

use super::line::{HOLDERS, Holders, Lined, PLACES, WaitingLine};
use super::signalled::{Signalled, after};
use crate::error::{Error, Result};
use crate::objects::reference;
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::{Duration, Instant};

/// A number of permits: as many threads of all processes as have one may do something at a time.
///
/// As Python's `multiprocessing.BoundedSemaphore`. It is an argument like any other; a clone, and what a task gets, are
/// the same semaphore. Permits are given in the order in which they were asked for. A process that ends has given back
/// its permits, which is found out when somebody wants one and there is none.
///
/// ```no_run
/// use pool_runtime::sync::Semaphore;
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn download(connections: &Semaphore, url: &str) -> Result<usize, String> {
///     let _permit = connections.acquire().map_err(|error| error.to_string())?;
///     // At most two of these at a time.
///     Ok(url.len())
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let connections = Semaphore::new(2)?;
///     let pool = Pool::new(8)?;
///     pool.map(|url| download::call(&connections, url), ["a", "b", "c", "d"])?;
///     assert_eq!(connections.available(), 2);
///     Ok(())
/// }
/// ```
///
/// At most 256 processes may have permits at a time, as many as they like. It is freed as an [`Array`](crate::Array) is.
#[derive(Clone)]
pub struct Semaphore {
    signalled: Signalled<SemaphoreState>,
}

/// A permit of a [`Semaphore`], which is given back when this is dropped.
#[must_use = "the permit is given back at once if it is dropped"]
pub struct Permit<'s> {
    semaphore: &'s Semaphore,
    /// Of the process that has it.
    number: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SemaphoreState {
    line: WaitingLine,
    holders: Holders,
    /// How many permits there are at most.
    all: u32,
    available: u32,
}

impl SemaphoreState {
    fn give_back(&mut self, permits: u32) {
        self.available = self.available.saturating_add(permits).min(self.all);
    }
}

impl Lined for SemaphoreState {
    fn line(&self) -> &WaitingLine {
        &self.line
    }

    fn line_mut(&mut self) -> &mut WaitingLine {
        &mut self.line
    }

    fn admits(&self, _: u8) -> bool {
        self.available > 0
    }

    fn owners(&self) -> Vec<u32> {
        self.holders.owners().collect()
    }

    fn take_back(&mut self, ended: &[u32]) {
        let held = self.holders.bury(ended);
        self.give_back(held);
    }
}

/// All wait for the same.
const PERMIT: u8 = 0;

impl Semaphore {
    /// A new semaphore, with so many permits.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Semaphore` is two.
    pub fn new(permits: u32) -> Result<Self> {
        let state =
            SemaphoreState { line: WaitingLine::EMPTY, holders: Holders::NONE, all: permits, available: permits };
        Signalled::new("a `Semaphore`", state, PLACES, 0).map(|signalled| Self { signalled })
    }

    /// Waits for a permit and takes it.
    ///
    /// # Errors
    ///
    /// 256 other processes have permits.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec`, if there are no more file locks.
    pub fn acquire(&self) -> Result<Permit<'_>> {
        match self.take(|take| self.signalled.take_in_turn(PERMIT, None, take))? {
            Some(permit) => Ok(permit),
            None => unreachable!("without a deadline, it waits until it has a permit"),
        }
    }

    /// As [`acquire`](Self::acquire), without waiting. None: there is no permit, or others wait for one.
    ///
    /// ```
    /// let semaphore = pool_runtime::sync::Semaphore::new(1)?;
    /// let permit = semaphore.try_acquire()?;
    /// assert!(permit.is_some() && semaphore.try_acquire()?.is_none());
    /// drop(permit);
    /// assert!(semaphore.try_acquire()?.is_some());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Option<Permit<'_>>> {
        self.take(|take| self.signalled.try_take(PERMIT, take))
    }

    /// As [`acquire`](Self::acquire), waiting for no longer than this. None: there was no permit all the time.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit<'_>>> {
        let deadline: Option<Instant> = after(timeout);
        self.take(|take| self.signalled.take_in_turn(PERMIT, deadline, take))
    }

    /// Takes a permit as `how` does, which is given what takes one and returns whether there was room for its holder.
    fn take(
        &self,
        how: impl Fn(&mut dyn FnMut(&mut SemaphoreState) -> bool) -> Option<bool>,
    ) -> Result<Option<Permit<'_>>> {
        let number = self.signalled.number();
        let mut take = |state: &mut SemaphoreState| {
            let is_noted = state.holders.add(number);
            if is_noted {
                state.available = state.available.saturating_sub(1);
            }
            is_noted
        };
        loop {
            match how(&mut take) {
                None => return Ok(None),
                Some(true) => return Ok(Some(Permit { semaphore: self, number })),
                // Some of them may have ended.
                Some(false) if self.signalled.bury() => {}
                Some(false) => {
                    let why =
                        format!("{HOLDERS} other processes have permits of this semaphore, which are all it can note");
                    return Err(Error::invalid(why));
                }
            }
        }
    }

    /// Gives permits back that were [forgotten](Permit::forget).
    ///
    /// ```
    /// let semaphore = pool_runtime::sync::Semaphore::new(2)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available(), 1);
    /// semaphore.add_permits(1)?;
    /// assert!(semaphore.add_permits(1).is_err(), "it has two");
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// So many were not forgotten: there would be more than at first. Then none is given back.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    pub fn add_permits(&self, permits: u32) -> Result<()> {
        let forgotten = self.signalled.change_and_go_on(|state| {
            let forgotten = state.all.saturating_sub(state.available).saturating_sub(state.holders.total());
            if permits <= forgotten {
                state.give_back(permits);
            }
            forgotten
        });
        if permits <= forgotten {
            return Ok(());
        }
        let what = "more permits were given back than the semaphore was made with";
        Err(Error::invalid(format!("{what}: {permits}, and {forgotten} had been taken and forgotten")))
    }

    /// How many permits nobody has, at this moment. Those of a process that has ended may be missing.
    pub fn available(&self) -> u32 {
        self.signalled.state().available
    }
}

impl Permit<'_> {
    /// Keeps the permit taken, whatever becomes of this process, until [`add_permits`](Semaphore::add_permits) gives one
    /// back.
    pub fn forget(self) {
        if self.semaphore.signalled.is_this_process(self.number) {
            self.semaphore.signalled.change(|state| state.holders.remove(self.number));
        }
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Self { semaphore, number } = self;
        // A process that was forked has none of the permits of the other one.
        if semaphore.signalled.is_this_process(*number) {
            semaphore.signalled.change_and_go_on(|state| {
                if state.holders.remove(*number) {
                    state.give_back(1);
                }
            });
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// Shows how many permits nobody has, how many there are, and how many threads wait for one.
impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.signalled.state();
        let mut shown = f.debug_struct("Semaphore");
        shown.field("available", &state.available).field("permits", &state.all);
        shown.field("waiting", &state.line.owners().count()).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is.
impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<SemaphoreState, S>("Semaphore", self.signalled.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<SemaphoreState, D>("Semaphore", deserializer)?;
        Signalled::found(&region, PLACES).map(|signalled| Self { signalled }).map_err(de::Error::custom)
    }
}
