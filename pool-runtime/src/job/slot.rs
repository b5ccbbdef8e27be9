//! The slot in which the arguments of a job lie, and then its result: encoded, until a user's thread asks for it.
//!
//! ```text
//!   Pending ── finish ──▶ Ended ── take ──▶ Ended, and given away
//! ```
//!
//! Only the first `finish` counts. Whoever waits is woken by it, a callback gets the result in place of all others, and of
//! a job whose handle was dropped a failure is logged. While a slot is locked, nothing of the user's runs.

use crate::error::{Error, Result};
use crate::foreign;
use crate::job::results::Results;
use crate::job::waiting::{Awaited, sleep_until, wake};
use crate::locks::lock;
use crate::logging::{self, LogSubscriber};
use crate::memory::region::{Region, Regions};
use crate::memory::{Split, joined, payload::Payload};
use crate::policy::SharedPolicy;
use crate::targets::JOB;
use crate::task::{Encoded, TaskInfo};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Instant;
use tracing::Level;

/// A result that is not decoded yet.
pub(crate) enum Raw {
    One(Result<Payload>),
    /// One value whose plain data is in memory of its own.
    Split(Box<Split>),
    Many(Box<[Results]>),
    /// A `Result<R>` that a callback has seen, and whether it is a value.
    Decoded(Box<dyn Any + Send>, bool),
}

impl Raw {
    /// Whether the call succeeded. Decoding may still fail.
    fn is_value(&self) -> bool {
        match self {
            Self::One(result) => result.is_ok(),
            Self::Many(batches) => batches.iter().all(Results::are_values),
            Self::Split(_) => true,
            Self::Decoded(_, value) => *value,
        }
    }

    /// The first failure that nobody has asked for, in the order of the calls; none of a result that a callback has seen.
    fn failure(&self) -> Option<Error> {
        match self {
            Self::One(result) => result.as_ref().err().filter(|error| !error.is_cancelled()).cloned(),
            Self::Many(batches) => batches.iter().find_map(Results::failure),
            Self::Split(_) | Self::Decoded(..) => None,
        }
    }

    /// The encoded value of one call.
    pub(crate) fn into_payload(self, task: &'static str) -> Result<Payload> {
        match self {
            Self::One(result) => result,
            Self::Split(split) => {
                let length = split.data.bytes().len();
                let whole = joined(&[&split.before, split.data.bytes()]).map(Payload::from);
                whole.ok_or_else(|| Error::no_memory(length).of_task(task))
            }
            _ => Err(mismatch(task)),
        }
    }
}

/// The place of a job's arguments, and then of its result.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<SlotInner>,
    finished: Condvar,
    /// Of the arguments, in bytes.
    pub(crate) size: u32,
    /// The arguments refer to regions.
    shares: bool,
    pub(crate) policy: SharedPolicy,
    pub(crate) job: u64,
    /// None if a callback has seen the result before.
    pub(crate) task: Option<&'static TaskInfo>,
}

#[derive(Default)]
pub(super) struct SlotInner {
    pub(super) progress: SlotState,
    sleepers: u32,
    /// Nobody will read the result.
    abandoned: bool,
    /// The job has failed as its pool has, which was logged.
    failed_with_pool: bool,
    /// Most jobs have none, so they are behind a pointer.
    pub(super) listeners: Option<Box<SlotListeners>>,
}

#[derive(Default)]
pub(super) struct SlotListeners {
    /// Of the future.
    pub(super) waker: Option<Waker>,
    /// Of threads that wait for several things at once.
    waiting: Vec<Waker>,
    callback: Option<Callback>,
    /// Where it is logged if the job fails and nobody will read why.
    unread: LogSubscriber,
}

pub(super) enum SlotState {
    /// The arguments, and the regions that they refer to.
    Pending(Payload, Regions),
    /// The result until it is handed out, and whether it is a value.
    Ended(Option<Raw>, bool),
}

impl SlotInner {
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.progress, SlotState::Pending(..))
    }

    pub(super) fn take(&mut self) -> Option<Raw> {
        match &mut self.progress {
            SlotState::Pending(..) => None,
            SlotState::Ended(raw, _) => raw.take(),
        }
    }

    /// Takes a result that nobody will read. Returns its failure, if that was not logged.
    fn take_unread(&mut self) -> (Option<Raw>, Option<Error>) {
        let raw = self.take();
        let failure = raw.as_ref().filter(|_| !self.failed_with_pool).and_then(Raw::failure);
        (raw, failure)
    }
}

impl Default for SlotState {
    fn default() -> Self {
        Self::Pending(Payload::default(), Regions::default())
    }
}

type Callback = Box<dyn FnOnce(Raw) + Send>;

impl Slot {
    #[inline]
    pub(crate) fn of_call(task: &'static TaskInfo, job: u64, arguments: Encoded, policy: SharedPolicy) -> Self {
        let Encoded { bytes, regions } = arguments;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let shares = !regions.is_empty();
        let state = SlotInner { progress: SlotState::Pending(bytes, regions), ..SlotInner::default() };
        Self { state: state.into(), finished: Condvar::new(), size, shares, policy, job, task: Some(task) }
    }

    /// Of a job that gathers the results of several calls.
    pub(crate) fn of_calls(task: &'static TaskInfo, job: u64) -> Self {
        Self { job, task: Some(task), ..Self::default() }
    }

    /// Shows the arguments; none of a call that has ended.
    pub(crate) fn with_arguments<R>(&self, see: impl FnOnce(&[u8]) -> R) -> R {
        match &lock(&self.state).progress {
            SlotState::Pending(arguments, _) => see(arguments),
            SlotState::Ended(..) => see(&[]),
        }
    }

    /// Shows the regions that the arguments refer to, if they do and the call has not ended.
    pub(crate) fn with_regions(&self, see: impl FnOnce(&[Arc<Region>])) {
        if self.shares
            && let SlotState::Pending(_, regions) = &lock(&self.state).progress
        {
            see(regions);
        }
    }

    /// Stores the result. Only the first one counts.
    pub(crate) fn finish(&self, raw: Raw) {
        let mut state = lock(&self.state);
        if !state.is_pending() {
            return;
        }
        let is_value = raw.is_value();
        let listeners = state.listeners.take().map_or_else(SlotListeners::default, |listeners| *listeners);
        if let Some(callback) = listeners.callback {
            let arguments = std::mem::replace(&mut state.progress, SlotState::Ended(None, is_value));
            drop(state);
            drop(arguments);
            callback(raw);
            return;
        }
        let arguments = std::mem::replace(&mut state.progress, SlotState::Ended(Some(raw), is_value));
        let sleepers = state.sleepers;
        let (unread, failure) = if state.abandoned { state.take_unread() } else { (None, None) };
        drop(state);
        drop((arguments, unread));
        if let Some(failure) = failure {
            listeners.unread.log(Level::WARN, || self.unread(failure));
        }
        if sleepers > 0 {
            self.finished.notify_all();
        }
        listeners.waker.into_iter().chain(listeners.waiting).for_each(wake);
    }

    /// Stores the failure of the whole pool, which is logged once, and not for each job.
    pub(crate) fn fail_with_pool(&self, error: Error) {
        lock(&self.state).failed_with_pool = true;
        self.finish(Raw::One(Err(error)));
    }

    /// Nobody will read the result: a failure is logged, now or when it comes.
    pub(super) fn abandon(&self, subscriber: &LogSubscriber) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        if state.is_pending() && subscriber.is_any() {
            state.listeners.get_or_insert_default().unread = subscriber.clone();
        }
        let (unread, failure) = state.take_unread();
        drop(state);
        drop(unread);
        if let Some(failure) = failure {
            // On the thread of the user who drops the job.
            logging::log_here(Level::WARN, self.unread(failure));
        }
    }

    /// Logs that the job has failed and nobody reads why.
    fn unread(&self, reason: Error) -> impl FnOnce() + Send + 'static {
        let (job, task) = (self.job, self.task.map_or("", TaskInfo::name));
        move || {
            let reason = foreign::line(&reason.to_string()).to_string();
            tracing::warn!(
                target: JOB,
                task,
                job,
                %reason,
                "job {job} has failed, and its handle was dropped, so nobody reads why"
            );
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SlotInner> {
        lock(&self.state)
    }

    pub(crate) fn take(&self) -> Option<Raw> {
        lock(&self.state).take()
    }

    pub(super) fn wake_at_end(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        if state.is_pending() {
            let waiting = &mut state.listeners.get_or_insert_default().waiting;
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
    }

    pub(super) fn forget_waiting(&self, waker: &Waker) {
        if let Some(listeners) = &mut lock(&self.state).listeners {
            listeners.waiting.retain(|other| !other.will_wake(waker));
        }
    }

    /// Calls `callback` with the result, at once if it has arrived.
    pub(super) fn then(&self, callback: Callback) {
        let mut state = lock(&self.state);
        if state.is_pending() {
            state.listeners.get_or_insert_default().callback = Some(callback);
            return;
        }
        let raw = state.take().unwrap_or_else(|| Raw::One(Err(already_taken())));
        drop(state);
        callback(raw);
    }
}

impl Awaited for Slot {
    fn is_done(&self) -> bool {
        !lock(&self.state).is_pending()
    }

    fn sleep(&self, deadline: Option<Instant>) {
        sleep_until((&self.state, &self.finished), deadline, |s| !s.is_pending(), |s| &mut s.sleepers);
    }
}

pub(super) fn already_taken() -> Error {
    Error::invalid("has given its result away already")
}

pub(super) fn mismatch(task: &'static str) -> Error {
    Error::invalid("has a result of another kind: this is a mistake in pool-runtime").of_task(task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_who_wait_are_woken_once_and_those_who_do_no_longer_are_not() {
        let (slot, counts) = (Slot::default(), [(); 3].map(|()| Arc::new(Count(AtomicU32::new(0)))));
        let wakers = counts.each_ref().map(|count| Waker::from(count.clone()));
        for _ in 0..3 {
            wakers.iter().for_each(|waker| slot.wake_at_end(waker));
        }
        slot.forget_waiting(&wakers[1]);
        slot.finish(Raw::One(Ok(Payload::default())));
        slot.wake_at_end(&wakers[1]);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 0, 1]);
    }

    #[test]
    fn a_slot_is_small() {
        // With the counts of its `Arc` and the allocator's overhead, it fits into 128 bytes: a million may wait.
        assert!(size_of::<Slot>() <= 104);
    }
}
