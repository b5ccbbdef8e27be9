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
//!
//! The handle is here; `slot.rs` is what it looks into, and `waiting.rs` how threads and futures wait.

mod callbacks;
mod decode;
mod results;
mod slot;
mod waiting;

pub(crate) use callbacks::Callbacks;
pub(crate) use decode::{Decode, decode_payload, decode_value};
pub(crate) use results::Results;
pub(crate) use slot::{Raw, Slot};
pub(crate) use waiting::{Awaited, Deferral, SHORT_NAP, is_waking, sleep_until};

use crate::codec::Reader;
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::job::decode::decode_all;
use crate::job::slot::{SlotInner, SlotState, already_taken, mismatch};
use crate::logging::LogSubscriber;
use crate::memory::Split;
use crate::memory::referred::came_with;
use crate::panic;
use crate::targets::JOB;
use crate::task::TaskInfo;
use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tracing::Level;

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
            let state = self.slot.lock();
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
        match &self.slot.lock().progress {
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
        let mut state = self.slot.lock();
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
