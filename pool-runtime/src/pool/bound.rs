//! The bound of a pool's backlog: how many calls may wait for a worker, and who waits until there is room for another.
//!
//! Whether there is room is asked while the core is locked, by the thread that submits. A thread for whose calls there is
//! none says so in [`Core::blocked`] and sleeps under the same lock. Every event of the dispatcher ends with
//! [`settle`](Inner::settle), which wakes the sleepers under that lock if there is room again or the pool is over: no
//! wake-up is lost.
//!
//! Two kinds of threads never sleep for room, as room may come only from them: the worker of a pool of threads, and a
//! thread that wakes a `Waker`, which may be the one that reads reports. Their calls are taken beyond the bound.

use crate::error::{Error, Kind};
use crate::job;
use crate::locks::{lock, sleep_on};
use crate::peer::Source;
use crate::pool::dispatcher::Dispatcher;
use crate::pool::{Core, Inner, Submission};
use crate::run::current;
use std::fmt::Display;
use std::sync::{Condvar, MutexGuard};
use std::time::Instant;

/// The limits of a backlog. It is never changed.
pub(super) struct Bound {
    /// How many calls may wait.
    calls: usize,
    /// How many bytes the arguments of calls that have not ended may have, while any call waits.
    bytes: usize,
    /// There is room again, or the pool is over.
    room: Condvar,
}

/// What is to be added to the backlog.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) calls: usize,
    pub(super) bytes: usize,
}

impl Bound {
    /// None if nothing is limited.
    pub(super) fn new(calls: Option<usize>, bytes: Option<u64>) -> Option<Self> {
        calls.or(bytes.map(|_| 0))?;
        let bytes = bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Some(Self { calls: calls.unwrap_or(usize::MAX), bytes, room: Condvar::new() })
    }

    /// How many calls can be submitted together, and how many bytes of arguments should be.
    pub(super) fn most_together(&self) -> Load {
        Load { calls: self.calls, bytes: self.bytes }
    }

    /// Why there is no room. Calls whose arguments are larger than the bound are admitted once none waits; nobody submits
    /// more calls together than may wait.
    fn refuses(&self, dispatcher: &Dispatcher<dyn Submission>, load: Load) -> Option<Full> {
        let (waiting, bytes) = (dispatcher.backlog(), dispatcher.unended_bytes());
        match () {
            () if waiting.saturating_add(load.calls) > self.calls => Some(Full::Calls { waiting, limit: self.calls }),
            () if waiting > 0 && bytes.saturating_add(load.bytes) > self.bytes => {
                Some(Full::Bytes { bytes, limit: self.bytes })
            }
            () => None,
        }
    }
}

/// Which limit is reached.
enum Full {
    Calls { waiting: usize, limit: usize },
    Bytes { bytes: usize, limit: usize },
}

impl Full {
    fn into_error(self) -> Error {
        let say = |what: &dyn Display, option| {
            let text = format!(
                "cannot be submitted: {what} (`{option}`): take the result of a job first, or use `apply_async`, which \
                 waits for room"
            );
            Error::new(Kind::BacklogFull(text))
        };
        match self {
            Self::Calls { waiting, limit } => {
                say(&format_args!("{waiting} calls wait, and the pool's limit is {limit}"), "max_waiting")
            }
            Self::Bytes { bytes, limit } => say(
                &format_args!("the calls of the pool have {bytes} bytes of arguments, and its limit is {limit}"),
                "max_waiting_bytes",
            ),
        }
    }
}

impl Inner {
    /// Locks the core, once there is room for these calls, or no more are taken, as the dispatcher then says.
    #[inline]
    pub(super) fn core_with_room(&self, work: &dyn Submission, calls: u32) -> MutexGuard<'_, Core> {
        let core = lock(&self.core);
        match &self.bound {
            None => core,
            Some(bound) => {
                let load = Load { calls: calls as usize, bytes: work.size(0..calls) };
                self.sleep_until_room(bound, core, load, None)
            }
        }
    }

    /// Locks the core, if there is room for a call.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn core_if_room(&self, work: &dyn Submission) -> Result<MutexGuard<'_, Core>, Error> {
        let core = lock(&self.core);
        let Some(bound) = &self.bound else { return Ok(core) };
        let full = bound.refuses(&core.dispatcher, Load { calls: 1, bytes: work.size(0..1) });
        match full.filter(|_| core.dispatcher.accepts().is_ok()) {
            None => Ok(core),
            Some(full) => Err(full.into_error()),
        }
    }

    /// Whether there is room at present, or the pool takes no more calls.
    pub(super) fn has_room(&self, load: Load) -> bool {
        self.bound.as_ref().is_none_or(|bound| self.goes_in(bound, &lock(&self.core), load))
    }

    /// The same after a wait for it, at most until `deadline`. It may be gone when this returns.
    pub(super) fn await_room(&self, load: Load, deadline: Option<Instant>) -> bool {
        let Some(bound) = &self.bound else { return true };
        let core = self.sleep_until_room(bound, lock(&self.core), load, deadline);
        self.goes_in(bound, &core, load)
    }

    fn goes_in(&self, bound: &Bound, core: &Core, load: Load) -> bool {
        bound.refuses(&core.dispatcher, load).is_none() || core.dispatcher.accepts().is_err() || self.must_not_sleep()
    }

    fn sleep_until_room<'c>(
        &'c self,
        bound: &Bound,
        mut core: MutexGuard<'c, Core>,
        load: Load,
        deadline: Option<Instant>,
    ) -> MutexGuard<'c, Core> {
        while !self.goes_in(bound, &core, load) && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            core.blocked += 1;
            core = sleep_on(&bound.room, core, deadline).unwrap_or_else(|| lock(&self.core));
            core.blocked -= 1;
        }
        core
    }

    /// Whether room for calls might come only from this thread.
    fn must_not_sleep(&self) -> bool {
        job::is_waking() || matches!(self.source, Source::Threads { .. }) && current::is_thread_of_calls()
    }

    /// Wakes those who wait for room, if there is some or never will be. Called after each event.
    #[inline]
    pub(super) fn wake_blocked(&self, core: &Core) {
        if let Some(bound) = &self.bound
            && core.blocked > 0
            && (core.dispatcher.is_over() || bound.refuses(&core.dispatcher, Load { calls: 1, bytes: 0 }).is_none())
        {
            // All of them: each may need another amount of room.
            bound.room.notify_all();
        }
    }
}
