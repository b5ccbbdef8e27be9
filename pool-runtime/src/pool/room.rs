//! Room in a bounded backlog: who waits until there is room for another call, and is woken when there is.
//!
//! Whether there is room is asked while the core is locked, by the thread that submits. A thread for whose calls there is
//! none says so in [`Core::blocked`] and sleeps under the same lock. Every event of the dispatcher ends with
//! [`settle`](Inner::settle), which wakes the sleepers under that lock if there is room again or the pool is over: no
//! wake-up is lost.
//!
//! Two kinds of threads never sleep for room, as room may come only from them: the worker of a pool of threads, and a
//! thread that wakes a `Waker`, which may be the one that reads reports. Their calls are taken beyond the bound.

use crate::error::Error;
use crate::job;
use crate::locks::{lock, sleep_on};
use crate::peer::Source;
use crate::pool::{Bound, Core, Inner, Load, Submission};
use crate::run::current;
use std::sync::MutexGuard;
use std::time::Instant;

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
