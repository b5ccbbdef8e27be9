//! [`Event`]: something that has happened, or not yet.

use super::signalled::{Naps, Signalled, after};
use crate::error::Result;
use crate::objects::reference;
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::{Duration, Instant};

/// A flag that processes and threads wait for.
///
/// As Python's `multiprocessing.Event`. It is an argument like any other; a clone, and what a task gets, are the same
/// event. What was [`set`](Self::set) stays so however the process ends that has set it.
///
/// ```no_run
/// use pool_runtime::sync::Event;
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn start_together(start: &Event) -> u32 {
///     start.wait();
///     std::process::id()
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let start = Event::new()?;
///     let pool = Pool::new(2)?;
///     let jobs = [(); 2].map(|()| pool.apply_async(start_together::call(&start)));
///     start.set();
///     for job in jobs {
///         println!("{} has started", job.get()?);
///     }
///     Ok(())
/// }
/// ```
///
/// It is freed as an [`Array`](crate::Array) is.
#[derive(Clone)]
pub struct Event {
    signalled: Signalled<EventState>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct EventState {
    /// How often it was set.
    sets: u32,
    is_set: u32,
}

/// The word on which all sleep.
const CHANGED: usize = 0;
const WORDS: usize = 1;

impl Event {
    /// A new event, which is not set.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Event` is two.
    pub fn new() -> Result<Self> {
        let state = EventState { sets: 0, is_set: 0 };
        Signalled::new("an `Event`", state, WORDS, 0).map(|signalled| Self { signalled })
    }

    /// Sets it, and wakes all who wait. They return even if it is [cleared](Self::clear) at once.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec`, if there are no more file locks.
    pub fn set(&self) {
        self.signalled.change(|state| *state = EventState { sets: state.sets.wrapping_add(1), is_set: 1 });
        self.signalled.wake(CHANGED);
    }

    /// Clears it: who waits from now on waits until it is set again.
    ///
    /// ```
    /// let event = pool_runtime::sync::Event::new()?;
    /// event.set();
    /// event.wait();
    /// event.clear();
    /// assert!(!event.is_set());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`set`](Self::set).
    pub fn clear(&self) {
        self.signalled.change(|state| state.is_set = 0);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.signalled.state().is_set != 0
    }

    /// Waits until it is set; not at all if it is.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// As [`wait`](Self::wait), for no longer than this. Returns whether it was set.
    #[must_use = "the time may be over"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(after(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let (mut naps, first) = (Naps::until(deadline), self.signalled.state().sets);
        loop {
            let seen = self.signalled.seen(CHANGED);
            let state = self.signalled.state();
            if state.is_set != 0 || state.sets != first {
                return true;
            }
            if naps.is_over() {
                return false;
            }
            self.signalled.sleep(CHANGED, seen, &mut naps);
        }
    }
}

/// Shows whether it is set.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<EventState, S>("Event", self.signalled.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<EventState, D>("Event", deserializer)?;
        Signalled::found(&region, WORDS).map(|signalled| Self { signalled }).map_err(de::Error::custom)
    }
}
