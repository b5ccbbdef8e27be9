//! The handle of a submitted call, and the slot in which its result arrives.
//!
//! ```text
//!   listener ── finish ──▶ Slot ◀── get / wait / poll ── any user's thread or async runtime
//!                           │
//!                           └── on_done ──▶ callback thread: decode, user's function ──▶ next Slot
//! ```
//!
//! A slot is finished exactly once; later results are ignored. Results stay bytes until a user's thread asks for them:
//! user code (decoding, callbacks) never runs on a thread that others wait for. A `Waker` is the exception.

mod callbacks;
mod decode;
mod results;

pub(crate) use callbacks::Callbacks;
pub(crate) use decode::{Decode, decode_payload, decode_value};
pub(crate) use results::Results;

use crate::codec::Reader;
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::job::decode::decode_all;
use crate::locks::{lock, sleep_on};
use crate::logging::{self, LogSubscriber};
use crate::memory::referred::came_with;
use crate::memory::region::{Region, Regions};
use crate::memory::{Split, joined, payload::Payload};
use crate::panic;
use crate::policy::SharedPolicy;
use crate::targets::JOB;
use crate::task::{Encoded, TaskInfo};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
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

/// About the longest delay of a thread that waits for one of many short calls. Futures and callbacks may be a few times
/// later.
pub(crate) const SHORT_NAP: Duration = Duration::from_micros(300);

/// What a thread can wait for.
pub(crate) trait Awaited {
    fn is_done(&self) -> bool;

    /// Sleeps until another thread reports that it is done, at most until `deadline`; may return early.
    fn sleep(&self, deadline: Option<Instant>);

    /// How late the end may be noticed while many short calls are in flight.
    fn patience(&self) -> Duration {
        SHORT_NAP
    }
}

/// Sleeps on `changed` until `is_done`, at most until `deadline`. `sleepers` is counted, as notifying none is a system
/// call too.
pub(crate) fn sleep_until<T>(
    (state, changed): (&Mutex<T>, &Condvar),
    deadline: Option<Instant>,
    is_done: impl Fn(&T) -> bool,
    sleepers: impl Fn(&mut T) -> &mut u32,
) {
    let mut state = lock(state);
    while !is_done(&state) {
        *sleepers(&mut state) += 1;
        let Some(awake) = sleep_on(changed, state, deadline) else { return };
        state = awake;
        *sleepers(&mut state) -= 1;
    }
}

thread_local! {
    /// The number of [`Deferral`]s on this thread, and what is woken when there are none.
    static DEFERRALS: Cell<usize> = const { Cell::new(0) };
    static DEFERRED: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    /// A `Waker` is being woken on this thread.
    static IS_WAKING: Cell<bool> = const { Cell::new(false) };
}

/// While one exists on a thread, its `Waker`s are woken later: an async runtime may poll the next call at once, which may
/// need what the thread holds.
pub(crate) struct Deferral(());

impl Deferral {
    pub(crate) fn new() -> Self {
        DEFERRALS.set(DEFERRALS.get() + 1);
        Self(())
    }

    /// Whether any `Waker` was deferred.
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
    DEFERRED.try_with(|deferred| look(&mut deferred.borrow_mut())).ok()
}

/// Wakes, unless that is deferred. A panic of the async runtime is ignored.
fn wake(waker: Waker) {
    let mut waker = Some(waker);
    if DEFERRALS.get() > 0 {
        with_deferred(|wakers| wakers.extend(waker.take()));
    }
    if let Some(waker) = waker {
        let before = IS_WAKING.replace(true);
        let _ = panic::catch(|| waker.wake());
        IS_WAKING.set(before);
    }
}

/// Whether this thread wakes a `Waker`: what that calls must not wait for another call, as the thread may be the one that
/// reads reports.
pub(crate) fn is_waking() -> bool {
    IS_WAKING.try_with(Cell::get).unwrap_or(false)
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
struct SlotInner {
    progress: SlotState,
    sleepers: u32,
    /// Nobody will read the result.
    abandoned: bool,
    /// The job has failed as its pool has, which was logged.
    failed_with_pool: bool,
    /// Most jobs have none, so they are behind a pointer.
    listeners: Option<Box<SlotListeners>>,
}

#[derive(Default)]
struct SlotListeners {
    /// Of the future.
    waker: Option<Waker>,
    /// Of threads that wait for several things at once.
    waiting: Vec<Waker>,
    callback: Option<Callback>,
    /// Where it is logged if the job fails and nobody will read why.
    unread: LogSubscriber,
}

enum SlotState {
    /// The arguments, and the regions that they refer to.
    Pending(Payload, Regions),
    /// The result until it is handed out, and whether it is a value.
    Ended(Option<Raw>, bool),
}

impl SlotInner {
    fn is_pending(&self) -> bool {
        matches!(self.progress, SlotState::Pending(..))
    }

    fn take(&mut self) -> Option<Raw> {
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
    fn abandon(&self, subscriber: &LogSubscriber) {
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

    pub(crate) fn take(&self) -> Option<Raw> {
        lock(&self.state).take()
    }

    fn wake_at_end(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        if state.is_pending() {
            let waiting = &mut state.listeners.get_or_insert_default().waiting;
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
    }

    fn forget_waiting(&self, waker: &Waker) {
        if let Some(listeners) = &mut lock(&self.state).listeners {
            listeners.waiting.retain(|other| !other.will_wake(waker));
        }
    }

    /// Calls `callback` with the result, at once if it has arrived.
    fn then(&self, callback: Callback) {
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

/// What a job needs of its pool.
pub(crate) trait Home: Send + Sync {
    /// An error in a child that was forked from the process of the pool, where nothing of it may be touched.
    fn check(&self) -> Result<()>;
    /// Cancels these submissions, which are in ascending order; returns whether any of them had not ended.
    fn cancel(&self, tickets: &[u64]) -> bool;
    /// Cancels the calls of these submissions that have not started; returns whether there were any.
    fn cancel_waiting(&self, tickets: &[u64]) -> bool;
    /// Whether any call of these submissions has started and has no result yet.
    fn is_running(&self, tickets: &[u64]) -> bool;
    /// Waits until `what` is done, at most until `deadline`.
    fn wait(&self, what: &dyn Awaited, deadline: Option<Instant>);
    fn callbacks(&self) -> &Arc<Callbacks>;
    fn subscriber(&self) -> &LogSubscriber;
}

/// What was submitted for a job.
pub(crate) struct Origin {
    pub(crate) id: u64,
    pub(crate) task: &'static TaskInfo,
    pub(crate) tickets: Tickets,
}

/// In ascending order.
pub(crate) enum Tickets {
    One(u64),
    Many(Box<[u64]>),
}

impl Tickets {
    pub(crate) fn none() -> Self {
        Self::Many(Box::default())
    }

    fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(ticket) => std::slice::from_ref(ticket),
            Self::Many(tickets) => tickets,
        }
    }
}

/// A call that was submitted to a [`Pool`](crate::Pool): wait for its result, poll it, or await it.
///
/// A job goes on if its handle is dropped; if it fails then, that is [logged](crate::guide::logging) once, as a warning. It
/// ends exactly once, with a value or an error, whatever dies. In a child that was forked from the pool's process it is of
/// no use: it never becomes ready there, and waiting for it is an error.
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
#[must_use = "dropping a job does not cancel it, and nobody gets its result: keep it, or `drop` it to let it run"]
pub struct Job<R> {
    slot: Arc<Slot>,
    decode: DecodeRaw<R>,
    home: Arc<dyn Home>,
    origin: Origin,
    /// A callback gets its result first.
    called_back: bool,
    /// The user knows how it ended, or a callback will.
    is_known: AtomicBool,
}

type DecodeRaw<R> = fn(Raw, &'static str) -> Result<R>;

pub(crate) fn decode_one<T: crate::Task>(raw: Raw, task: &'static str) -> Result<T::Output> {
    match raw {
        Raw::One(result) => decode_payload(T::decode, task, &result?),
        Raw::Split(split) => {
            let Split { before, data } = *split;
            let tail = RefCell::new(Some(data));
            came_with(&[], || decode_all(T::decode, task, Reader::of_split(&before, &tail)))
        }
        _ => Err(mismatch(task)),
    }
}

pub(crate) fn decode_many<T: crate::Task>(raw: Raw, task: &'static str) -> Result<Vec<T::Output>> {
    let batches = match raw {
        Raw::Many(batches) => batches,
        Raw::One(Err(error)) => return Err(error),
        _ => return Err(mismatch(task)),
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
        _ => Err(mismatch(task)),
    }
}

fn already_taken() -> Error {
    Error::invalid("has given its result away already")
}

fn mismatch(task: &'static str) -> Error {
    Error::invalid("has a result of another kind: this is a mistake in pool-runtime").of_task(task)
}

impl<R> Job<R> {
    /// `decode` is [`decode_one`] or [`decode_many`] of its task.
    pub(crate) fn new(slot: Arc<Slot>, decode: DecodeRaw<R>, home: Arc<dyn Home>, origin: Origin) -> Self {
        Self { slot, decode, home, origin, called_back: false, is_known: AtomicBool::new(false) }
    }

    fn take(&self, mut state: MutexGuard<'_, SlotInner>) -> Result<R> {
        let raw = state.take();
        drop(state);
        self.is_known.store(true, Ordering::Relaxed);
        raw.map_or_else(|| Err(already_taken().of_task(self.task_name())), |raw| (self.decode)(raw, self.task_name()))
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// The failure of the call: the task panicked, its worker was lost, it was cancelled, its pool was terminated, or a
    /// value could not be encoded or decoded.
    pub fn get(self) -> Result<R> {
        self.check()?;
        self.take(self.wait_until(None))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> MutexGuard<'_, SlotInner> {
        loop {
            let state = lock(&self.slot.state);
            if !state.is_pending() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return state;
            }
            drop(state);
            // A job with a callback ends on the callbacks' thread, so leading the pool would not help.
            match self.called_back {
                true => self.slot.sleep(deadline),
                false => self.home.wait(&*self.slot, deadline),
            }
        }
    }

    /// Waits for the result for at most `patience`. If that is too short, the job goes on, and can be waited for again.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and one that [`is_timeout`](Error::is_timeout) if there is no result yet. Calling this
    /// again after it returned a result is an error.
    pub fn get_timeout(&mut self, patience: Duration) -> Result<R> {
        self.check()?;
        let state = self.wait_until(Instant::now().checked_add(patience));
        if state.is_pending() {
            return Err(Error::new(Kind::NotYet(patience)).with_ran(Ran::Maybe).of_task(self.task_name()));
        }
        self.take(state)
    }

    /// Waits until the job has ended, for at most `patience`. Returns whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        self.is_here() && !self.wait_until(Instant::now().checked_add(patience)).is_pending()
    }

    /// Whether the job has ended.
    pub fn is_ready(&self) -> bool {
        self.is_here() && self.slot.is_done()
    }

    fn is_here(&self) -> bool {
        self.home.check().is_ok()
    }

    /// Whether [`get`](Self::get) would return at once, with a result or an error.
    pub(crate) fn would_return(&self) -> bool {
        !self.is_here() || self.slot.is_done()
    }

    /// Has this thread woken when the job ends, unless it has, or [no longer waits](Self::forget_waiting) for it.
    pub(crate) fn wake_at_end(&self, waker: &Waker) {
        if self.is_here() {
            self.slot.wake_at_end(waker);
        }
    }

    pub(crate) fn forget_waiting(&self, waker: &Waker) {
        if self.is_here() {
            self.slot.forget_waiting(waker);
        }
    }

    fn check(&self) -> Result<()> {
        self.home.check().map_err(|error| error.of_task(self.task_name()))
    }

    /// Whether the job ended with a value. `None` while it has not ended.
    pub fn is_successful(&self) -> Option<bool> {
        if !self.is_here() {
            return None;
        }
        match &lock(&self.slot.state).progress {
            SlotState::Pending(..) => None,
            SlotState::Ended(_, is_value) => {
                self.is_known.fetch_or(!is_value, Ordering::Relaxed);
                Some(*is_value)
            }
        }
    }

    /// Cancels the job: a waiting one never runs, and the worker of a running one is killed and replaced. No other job
    /// is affected. Returns whether the job had not ended.
    pub fn cancel(&self) -> bool {
        self.home.cancel(self.origin.tickets.as_slice())
    }

    /// Cancels the job unless it has started: no worker is killed, and a call that runs goes on to its end. Of a `map`,
    /// it cancels those calls that have not started; the job then fails, as its other calls have ended.
    ///
    /// Returns whether it has cancelled any call. With `false`, all have started or ended.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn sleep(millis: u64) -> u64 {
    ///     std::thread::sleep(Duration::from_millis(millis));
    ///     millis
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(1)?;
    ///     let first = pool.apply_async(sleep::call(500));
    ///     let second = pool.apply_async(sleep::call(500));
    ///     while !first.is_running() {
    ///         std::thread::sleep(Duration::from_millis(1));
    ///     }
    ///     assert!(!first.cancel_waiting());
    ///     assert!(second.cancel_waiting());
    ///     assert_eq!(first.get()?, 500);
    ///     assert!(second.get().unwrap_err().is_cancelled());
    ///     Ok(())
    /// }
    /// ```
    pub fn cancel_waiting(&self) -> bool {
        self.home.cancel_waiting(self.origin.tickets.as_slice())
    }

    /// Whether a worker has started the job, or any call of a `map`, and its result has not arrived. That may have
    /// changed when this returns. A job that waits, waits to be retried, or has ended does not run.
    pub fn is_running(&self) -> bool {
        self.home.is_running(self.origin.tickets.as_slice())
    }

    /// The number of the job: unique in its pool, and increasing.
    pub fn id(&self) -> u64 {
        self.origin.id
    }

    /// The name of the task.
    pub fn task_name(&self) -> &'static str {
        self.origin.task.name()
    }

    /// Calls `f` once with the result when it arrives, before [`is_ready`](Self::is_ready) turns true.
    ///
    /// Callbacks run one after the other on a thread of the pool of their own, in the order in which jobs end. They may
    /// use the pool, and even terminate it. One that panics harms nothing else; one that blocks delays those after it.
    pub fn on_done(mut self, f: impl FnOnce(&Result<R>) + Send + 'static) -> Self
    where
        R: Send + 'static,
    {
        if !self.is_here() {
            return self;
        }
        let next = Arc::new(Slot::default());
        let (slot, decode, task) = (next.clone(), self.decode, self.task_name());
        let (callbacks, subscriber) = (self.home.callbacks().clone(), self.home.subscriber().clone());
        self.slot.then(Box::new(move |raw| {
            callbacks.run(Box::new(move || {
                let result = decode(raw, task);
                if let Err(panic) = panic::catch(|| f(&result)) {
                    subscriber.log(Level::WARN, || {
                        move || {
                            let reason = foreign::line(&panic.to_string()).to_string();
                            tracing::warn!(target: JOB, task, %reason, "a callback of a job has panicked");
                        }
                    });
                }
                let is_value = result.is_ok();
                slot.finish(Raw::Decoded(Box::new(result), is_value));
            }));
        }));
        self.is_known = AtomicBool::new(true);
        let Origin { id, task, ref mut tickets } = self.origin;
        let origin = Origin { id, task, tickets: std::mem::replace(tickets, Tickets::none()) };
        let home = self.home.clone();
        Self { slot: next, decode: decode_seen::<R>, home, origin, called_back: true, is_known: AtomicBool::new(true) }
    }
}

impl<R> Drop for Job<R> {
    fn drop(&mut self) {
        if !*self.is_known.get_mut() && self.is_here() {
            self.slot.abandon(self.home.subscriber());
        }
    }
}

impl<R> Future for Job<R> {
    type Output = Result<R>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        if let Err(error) = self.check() {
            return Poll::Ready(Err(error));
        }
        // Cloning and dropping a waker run code of the async runtime, so the slot must not be locked.
        let waker = context.waker().clone();
        let mut state = lock(&self.slot.state);
        match state.progress {
            SlotState::Pending(..) => {
                // The latest waker counts.
                let before = state.listeners.get_or_insert_default().waker.replace(waker);
                drop(state);
                drop(before);
                Poll::Pending
            }
            SlotState::Ended(Some(_), _) => Poll::Ready(self.take(state)),
            SlotState::Ended(None, _) => panic!("a job was polled after its result was taken"),
        }
    }
}

impl<R> fmt::Debug for Job<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.origin.id)
            .field("task", &self.task_name())
            .field("ready", &self.is_ready())
            .finish()
    }
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
