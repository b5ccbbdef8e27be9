//! The handle of a submitted call, and the slot in which its result arrives.
//!
//! ```text
//!   who listens ─────────── finish ──▶ Slot ◀── get / wait / poll ── any user's thread or executor
//!                                     │
//!                                     └── on_done ──▶ callback thread: decode, user's function ──▶ next Slot
//! ```
//!
//! A slot is finished exactly once; what comes later is ignored. Results stay bytes until a user's thread asks: user
//! code (decoding, callbacks) never runs on a thread that others wait for, but for an executor's `Waker`.

mod callbacks;
mod decode;
mod results;

pub(crate) use callbacks::Callbacks;
pub(crate) use decode::{Decode, decode_value};
pub(crate) use results::Results;

use crate::codec::Reader;
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::job::decode::decode_all;
use crate::memory::Split;
use crate::memory::payload::Payload;
use crate::memory::region::{Region, Regions};
use crate::panic;
use crate::policy::{Policy, SharedPolicy};
use crate::sync::{lock, sleep_on};
use crate::task::TaskInfo;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A result before it is asked for.
pub(crate) enum Raw {
    /// Of one call: bytes to decode.
    One(Result<Payload>),
    /// Of one call: bytes to decode, and plain data to be taken over.
    Split(Box<Split>),
    /// Of many calls.
    Many(Box<[Results]>),
    /// A `Result<R>` that a callback has already seen, and whether it is a value.
    Decoded(Box<dyn Any + Send>, bool),
}

impl Raw {
    /// Is it no failure? Whether it can be decoded is not known before it is.
    fn is_value(&self) -> bool {
        match self {
            Self::One(result) => result.is_ok(),
            Self::Many(batches) => batches.iter().all(Results::are_values),
            Self::Split(_) => true,
            Self::Decoded(_, value) => *value,
        }
    }
}

/// A thread that waits for one of many short calls is late by no more, about; futures and callbacks by a few times
/// that.
pub(crate) const SHORT_NAP: Duration = Duration::from_micros(300);

/// Something that a thread can wait for.
pub(crate) trait Awaited {
    fn is_done(&self) -> bool;

    /// Sleeps until it is done, at most until `deadline`; may return before. For a thread that others do the work for.
    fn sleep(&self, deadline: Option<Instant>);

    /// How late it may be noticed that it is done, where many short calls are under way.
    fn patience(&self) -> Duration {
        SHORT_NAP
    }
}

thread_local! {
    /// How many [`Deferral`]s there are on this thread.
    static DEFERRALS: Cell<usize> = const { Cell::new(0) };
    /// Whom to wake when there are none.
    static DEFERRED: Cell<Vec<Waker>> = const { Cell::new(Vec::new()) };
}

/// While there is one, jobs that this thread finishes wake no executor: its code may poll the next call at once, and
/// that may want what this thread holds just now.
pub(crate) struct Deferral(());

impl Deferral {
    pub(crate) fn new() -> Self {
        DEFERRALS.set(DEFERRALS.get() + 1);
        Self(())
    }

    /// Does anybody wait to be woken?
    pub(crate) fn has_any() -> bool {
        with_deferred(|wakers| !wakers.is_empty()).unwrap_or_default()
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        DEFERRALS.set(DEFERRALS.get() - 1);
        if DEFERRALS.get() == 0 {
            with_deferred(std::mem::take).into_iter().flatten().for_each(wake);
        }
    }
}

/// None on a thread that is about to end.
fn with_deferred<R>(look: impl FnOnce(&mut Vec<Waker>) -> R) -> Option<R> {
    let looked = DEFERRED.try_with(|deferred| {
        let mut wakers = deferred.take();
        let looked = look(&mut wakers);
        deferred.set(wakers);
        looked
    });
    looked.ok()
}

/// Runs an executor's code, now or later: its panic is not ours.
fn wake(waker: Waker) {
    let mut waker = Some(waker);
    if DEFERRALS.get() > 0 {
        with_deferred(|wakers| wakers.extend(waker.take()));
    }
    if let Some(waker) = waker {
        let _ = panic::catch(|| waker.wake());
    }
}

/// Where the result of a job arrives; before that, where its arguments lie.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<SlotInner>,
    finished: Condvar,
    /// How many bytes the arguments take.
    size: u32,
    /// Do they speak of shared memory?
    shares: bool,
    /// What the call may take.
    policy: SharedPolicy,
    pub(crate) job: u64,
    /// None if no worker is to run it: where it gathers what others have.
    task: Option<&'static TaskInfo>,
}

#[derive(Default)]
struct SlotInner {
    progress: SlotState,
    /// Somebody sleeps.
    slept_for: bool,
    /// Who else wants to know. Most jobs have nobody.
    heirs: Option<Box<Heirs>>,
}

#[derive(Default)]
struct Heirs {
    waker: Option<Waker>,
    callback: Option<Callback>,
}

enum SlotState {
    /// Not ended: the arguments, and what they speak of.
    Pending(Payload, Regions),
    Finished(Raw),
    /// The result was handed out; it was a value, or not.
    Taken(bool),
}

impl Default for SlotState {
    fn default() -> Self {
        Self::Pending(Payload::default(), Regions::default())
    }
}

type Callback = Box<dyn FnOnce(Raw) + Send>;

impl Slot {
    /// The slot of a call that is submitted.
    pub(crate) fn of_call(
        task: &'static TaskInfo,
        job: u64,
        arguments: Payload,
        regions: Regions,
        policy: SharedPolicy,
    ) -> Self {
        let size = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
        let shares = !regions.is_empty();
        let state = SlotInner { progress: SlotState::Pending(arguments, regions), ..SlotInner::default() };
        Self { state: Mutex::new(state), finished: Condvar::new(), size, shares, policy, job, task: Some(task) }
    }

    /// The name of its task.
    pub(crate) fn task(&self) -> &'static str {
        self.task.map_or("", TaskInfo::name)
    }

    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    /// What the call may take.
    pub(crate) fn policy(&self) -> &Policy {
        self.policy.get()
    }

    /// Shows the arguments of a call that has not ended; of one that has, nobody needs any.
    pub(crate) fn with_arguments<R>(&self, see: impl FnOnce(&[u8]) -> R) -> R {
        match &lock(&self.state).progress {
            SlotState::Pending(arguments, _) => see(arguments),
            SlotState::Finished(_) | SlotState::Taken(_) => see(&[]),
        }
    }

    /// Shows the shared memory of which the arguments of a call that has not ended speak, if they do.
    pub(crate) fn with_regions(&self, see: impl FnOnce(&[Arc<Region>])) {
        if self.shares
            && let SlotState::Pending(_, regions) = &lock(&self.state).progress
        {
            see(regions);
        }
    }

    /// The call has failed.
    pub(crate) fn fail(&self, error: Error) {
        self.finish(Raw::One(Err(error)));
    }

    /// The result is there. Only the first one counts.
    pub(crate) fn finish(&self, raw: Raw) {
        let mut state = lock(&self.state);
        if !matches!(state.progress, SlotState::Pending(..)) {
            return;
        }
        let heirs = state.heirs.take().map_or_else(Heirs::default, |heirs| *heirs);
        if let Some(callback) = heirs.callback {
            let arguments = std::mem::replace(&mut state.progress, SlotState::Taken(raw.is_value()));
            drop(state);
            drop(arguments);
            callback(raw);
            return;
        }
        let arguments = std::mem::replace(&mut state.progress, SlotState::Finished(raw));
        let slept_for = state.slept_for;
        drop(state);
        drop(arguments);
        if slept_for {
            self.finished.notify_all();
        }
        if let Some(waker) = heirs.waker {
            wake(waker);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        !matches!(lock(&self.state).progress, SlotState::Pending(..))
    }

    fn take(state: &mut SlotInner) -> Option<Raw> {
        let SlotState::Finished(raw) = &state.progress else { return None };
        let taken = SlotState::Taken(raw.is_value());
        match std::mem::replace(&mut state.progress, taken) {
            SlotState::Finished(raw) => Some(raw),
            SlotState::Pending(..) | SlotState::Taken(_) => None,
        }
    }

    /// Has `callback` called with the result: now, if it is there.
    fn then(&self, callback: Callback) {
        let mut state = lock(&self.state);
        let raw = match state.progress {
            SlotState::Pending(..) => {
                state.heirs.get_or_insert_default().callback = Some(callback);
                return;
            }
            _ => Self::take(&mut state).unwrap_or_else(|| Raw::One(Err(already_taken()))),
        };
        drop(state);
        callback(raw);
    }
}

impl Awaited for Slot {
    fn is_done(&self) -> bool {
        self.is_finished()
    }

    fn sleep(&self, deadline: Option<Instant>) {
        let mut state = lock(&self.state);
        while matches!(state.progress, SlotState::Pending(..)) {
            state.slept_for = true;
            match sleep_on(&self.finished, state, deadline) {
                Some(awake) => state = awake,
                None => return,
            }
        }
    }
}

/// What a job needs of its pool.
pub(crate) trait Home: Send + Sync {
    /// Cancels what was submitted under these tickets; says whether it had no result yet.
    fn cancel(&self, tickets: &[u64]) -> bool;
    /// Waits until something is done, at most until `deadline`.
    fn wait(&self, what: &dyn Awaited, deadline: Option<Instant>);
    fn callbacks(&self) -> &Arc<Callbacks>;
}

/// Where a job comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) id: u64,
    pub(crate) task: &'static TaskInfo,
    /// What was submitted for it.
    pub(crate) tickets: Tickets,
}

#[derive(Clone, Debug)]
pub(crate) enum Tickets {
    One(u64),
    Many(Box<[u64]>),
}

impl Tickets {
    pub(crate) fn none() -> Self {
        Self::Many(Box::default())
    }

    fn all(&self) -> &[u64] {
        match self {
            Self::One(ticket) => std::slice::from_ref(ticket),
            Self::Many(tickets) => tickets,
        }
    }
}

/// A call that was submitted to a [`Pool`](crate::Pool): wait for its result, ask for it, or await it.
///
/// A job goes on if its handle is dropped. It ends exactly once, with a value or an error, whatever dies.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// # use std::time::Duration;
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(2)?;
///     let mut job = pool.apply_async(double::call(21));
///     let value = loop {
///         match job.get_timeout(Duration::from_millis(100)) {
///             Err(error) if error.is_timeout() => println!("still waiting"),
///             result => break result?,
///         }
///     };
///     assert_eq!(value, 42);
///     Ok(())
/// }
/// ```
pub struct Job<R> {
    slot: Arc<Slot>,
    decode: fn(Raw, &'static str) -> Result<R>,
    home: Arc<dyn Home>,
    origin: Origin,
    /// Its result has to pass a callback first.
    called_back: bool,
}

fn decode_one<T: crate::Task>(raw: Raw, task: &'static str) -> Result<T::Output> {
    match raw {
        Raw::One(result) => decode_value(T::decode, task, &result?),
        Raw::Split(split) => {
            let Split { before, data } = *split;
            let tail = RefCell::new(Some(data));
            decode_all(T::decode, task, Reader::of_split(&before, &tail))
        }
        Raw::Many(_) | Raw::Decoded(..) => Err(mismatch(task)),
    }
}

fn decode_many<T: crate::Task>(raw: Raw, task: &'static str) -> Result<Vec<T::Output>> {
    let batches = match raw {
        Raw::Many(batches) => batches,
        Raw::One(Err(error)) => return Err(error),
        Raw::One(Ok(_)) | Raw::Split(_) | Raw::Decoded(..) => return Err(mismatch(task)),
    };
    let mut values = Vec::with_capacity(batches.iter().map(Results::len).sum());
    for batch in batches {
        batch.decode_into(T::decode, task, &mut values)?;
    }
    Ok(values)
}

fn decode_seen<R: 'static>(raw: Raw, task: &'static str) -> Result<R> {
    match raw {
        Raw::Decoded(seen, _) => *seen.downcast::<Result<R>>().map_err(|_| mismatch(task))?,
        Raw::One(Err(error)) => Err(error),
        Raw::One(Ok(_)) | Raw::Split(_) | Raw::Many(_) => Err(mismatch(task)),
    }
}

fn already_taken() -> Error {
    Error::invalid("has given its result away already")
}

fn mismatch(task: &'static str) -> Error {
    Error::invalid("has a result of another kind: this is a mistake in pool-runtime").of_task(task)
}

impl<R> Job<R> {
    pub(crate) fn one<T: crate::Task<Output = R>>(slot: Arc<Slot>, home: Arc<dyn Home>, origin: Origin) -> Self {
        Self { slot, decode: decode_one::<T>, home, origin, called_back: false }
    }

    pub(crate) fn many<T: crate::Task>(slot: Arc<Slot>, home: Arc<dyn Home>, origin: Origin) -> Job<Vec<T::Output>> {
        Job { slot, decode: decode_many::<T>, home, origin, called_back: false }
    }

    fn take(&self, mut state: MutexGuard<'_, SlotInner>) -> Result<R> {
        let raw = Slot::take(&mut state);
        drop(state);
        match raw {
            Some(raw) => (self.decode)(raw, self.origin.task.name()),
            None => Err(already_taken().of_task(self.origin.task.name())),
        }
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// What became of the call: the task panicked, its worker was lost, it was cancelled, its pool was terminated, or a
    /// value could not be encoded or decoded.
    pub fn get(self) -> Result<R> {
        self.take(self.wait_until(None))
    }

    /// Waits until the result is there, at most until `deadline`.
    fn wait_until(&self, deadline: Option<Instant>) -> MutexGuard<'_, SlotInner> {
        loop {
            let state = lock(&self.slot.state);
            let past = || deadline.is_some_and(|deadline| deadline <= Instant::now());
            if !matches!(state.progress, SlotState::Pending(..)) || past() {
                return state;
            }
            drop(state);
            // A job that a callback has yet to see ends on the thread of the callbacks, whoever listens to the workers.
            match self.called_back {
                true => self.slot.sleep(deadline),
                false => self.home.wait(&*self.slot, deadline),
            }
        }
    }

    /// Waits for the result for at most `patience`; the job goes on if that is not long enough, and can be asked again.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and one that [`is_timeout`](Error::is_timeout) when there is no result yet. After the
    /// result has been handed out, an error that says so.
    pub fn get_timeout(&mut self, patience: Duration) -> Result<R> {
        let state = self.wait_until(Instant::now().checked_add(patience));
        if matches!(state.progress, SlotState::Pending(..)) {
            return Err(Error::new(Kind::NotYet(patience)).with_ran(Ran::Maybe).of_task(self.origin.task.name()));
        }
        self.take(state)
    }

    /// Waits until the job has ended, at most for `patience`. Says whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        !matches!(self.wait_until(Instant::now().checked_add(patience)).progress, SlotState::Pending(..))
    }

    /// Has the job ended?
    pub fn is_ready(&self) -> bool {
        self.slot.is_finished()
    }

    /// Did the job end with a value? `None` while it has not ended.
    pub fn is_successful(&self) -> Option<bool> {
        match &lock(&self.slot.state).progress {
            SlotState::Pending(..) => None,
            SlotState::Taken(value) => Some(*value),
            SlotState::Finished(raw) => Some(raw.is_value()),
        }
    }

    /// Cancels the job, if it has not ended: a waiting one never runs, and a running one has its worker killed and
    /// replaced. Never does it hit another job. Says whether there was anything to cancel.
    pub fn cancel(&self) -> bool {
        self.home.cancel(self.origin.tickets.all())
    }

    /// The number of the job, unique in its pool and rising.
    pub fn id(&self) -> u64 {
        self.origin.id
    }

    /// The name of the task.
    pub fn task_name(&self) -> &'static str {
        self.origin.task.name()
    }

    /// Has `f` called once with the result, as soon as it is there, before [`is_ready`](Self::is_ready) turns true.
    ///
    /// Callbacks run on a thread of the pool's that does nothing else, one after the other, in the order in which jobs
    /// end. They may use the pool, and even terminate it. If one panics, nothing else is harmed; if one blocks, those
    /// after it wait.
    pub fn on_done(self, f: impl FnOnce(&Result<R>) + Send + 'static) -> Self
    where
        R: Send + 'static,
    {
        let next = Arc::new(Slot::default());
        let (slot, decode, task) = (next.clone(), self.decode, self.origin.task.name());
        let callbacks = self.home.callbacks().clone();
        self.slot.then(Box::new(move |raw| {
            callbacks.run(Box::new(move || {
                let result = decode(raw, task);
                if let Err(panic) = panic::catch(|| f(&result)) {
                    tracing::warn!("a callback of task `{task}` panicked {panic}");
                }
                let is_value = result.is_ok();
                slot.finish(Raw::Decoded(Box::new(result), is_value));
            }));
        }));
        Self { slot: next, decode: decode_seen::<R>, home: self.home, origin: self.origin, called_back: true }
    }
}

impl<R> Future for Job<R> {
    type Output = Result<R>;

    /// # Panics
    ///
    /// When it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        // The executor's code, as is the drop of the old one: not while the slot is locked.
        let waker = context.waker().clone();
        let mut state = lock(&self.slot.state);
        match state.progress {
            SlotState::Pending(..) => {
                // Whoever polled last is woken.
                let before = state.heirs.get_or_insert_default().waker.replace(waker);
                drop(state);
                drop(before);
                Poll::Pending
            }
            SlotState::Finished(_) => Poll::Ready(self.take(state)),
            SlotState::Taken(_) => panic!("a job was polled after its result was taken"),
        }
    }
}

impl<R> fmt::Debug for Job<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.origin.id)
            .field("task", &self.origin.task.name())
            .field("ready", &self.is_ready())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        // With the counts of its `Arc`, and what the allocator adds, it fits into 128 bytes: a million may wait.
        assert!(size_of::<Slot>() <= 104);
    }
}
