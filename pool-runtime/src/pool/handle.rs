//! The pool's handle, as users hold it.

use crate::error::{Error, Result};
use crate::job::{Job, Origin, Raw, Slot, Tickets};
use crate::pool::builder::PoolBuilder;
use crate::pool::dispatcher::{Counts, Phase};
use crate::pool::imap::Imap;
use crate::pool::inner::Inner;
use crate::pool::map;
use crate::pool::station::Station;
use crate::sync::lock;
use crate::task::TaskCall;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Workers: processes of this program that run the calls given to them.
///
/// All methods take `&self`; a pool can be shared between threads. Dropping it terminates it.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// #[task]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(2)?;
///     assert_eq!(pool.apply(square::call(3))?, 9);
///     assert_eq!(pool.map(square::call, 1..=4)?, [1, 4, 9, 16]);
///     let job = pool.apply_async(square::call(5));
///     assert_eq!(job.get()?, 25);
///     pool.close();
///     pool.join()
/// }
/// ```
pub struct Pool {
    pub(super) inner: Arc<Inner>,
    /// The attendants and the collector.
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// Its process is on its way.
    Starting,
    /// It waits for work.
    Idle,
    /// It has work.
    Busy,
    /// It is about to end.
    Stopping,
}

/// A worker, as [`Pool::workers`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// How many calls were finished at its place in the pool, by it and by those before it.
    pub jobs_done: u64,
}

/// How many calls are where, as [`Pool::stats`] counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls that wait in this process.
    pub waiting: usize,
    /// Calls that were sent to a worker and have not ended.
    pub running: usize,
    /// Calls that ended with a value.
    pub done: u64,
    /// Calls that ended with an error.
    pub failed: u64,
}

impl Pool {
    /// A pool of `processes` workers.
    ///
    /// # Errors
    ///
    /// As [`PoolBuilder::build`].
    pub fn new(processes: usize) -> Result<Self> {
        Self::builder().processes(processes).build()
    }

    /// A pool with options.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Runs a call, and waits for its result.
    ///
    /// # Errors
    ///
    /// What became of the call; see [`Error`].
    pub fn apply<C: TaskCall>(&self, call: C) -> Result<C::Output> {
        let call = call.into_raw();
        let task = call.task;
        let slot = self.inner.slot(call)?;
        self.inner.run(&slot).map_err(|error| error.of_task(task.name()))?;
        let origin = Origin { id: slot.job, task, tickets: Tickets::none() };
        Job::one::<C::Task>(slot, self.inner.clone(), origin).get()
    }

    /// Submits a call, and returns at once. A call that cannot be submitted is a job that has failed.
    pub fn apply_async<C: TaskCall>(&self, call: C) -> Job<C::Output> {
        let call = call.into_raw();
        let task = call.task;
        let submitted = self.inner.slot(call).and_then(|slot| Ok((self.inner.submit(&slot)?, slot)));
        let (slot, origin) = match submitted {
            Ok((ticket, slot)) => {
                let origin = Origin { id: slot.job, task, tickets: Tickets::One(ticket) };
                (slot, origin)
            }
            Err(error) => {
                let slot = Arc::new(Slot::default());
                slot.finish(Raw::One(Err(error.of_task(task.name()))));
                let id = self.inner.jobs.fetch_add(1, Ordering::Relaxed);
                (slot, Origin { id, task, tickets: Tickets::none() })
            }
        };
        Job::one::<C::Task>(slot, self.inner.clone(), origin)
    }

    /// Makes a call of each input with `f`, here, runs them all, and waits for their results, which come in the order
    /// of the inputs.
    ///
    /// `f` is `name::call` for a task with one parameter, or a closure that returns a call.
    ///
    /// # Errors
    ///
    /// The failure of the first input, in their order, whose call failed. The other calls run all the same.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that wait are cancelled then.
    pub fn map<I, F, C>(&self, f: F, inputs: I) -> Result<Vec<C::Output>>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        map::map(&self.inner, f, inputs)
    }

    /// As [`map`](Self::map), but returns as soon as all inputs have been read. The job's result is that of `map`.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that wait are cancelled then.
    pub fn map_async<I, F, C>(&self, f: F, inputs: I) -> Job<Vec<C::Output>>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        map::map_async(&self.inner, f, inputs)
    }

    /// An iterator over the results, in the order of the inputs. It reads `inputs` as results are taken, a little
    /// ahead: an input without end works.
    ///
    /// An input or a closure that panics does so again when all results before it have been taken. What still waits
    /// when the iterator is dropped is cancelled.
    pub fn imap<I, F, C>(&self, f: F, inputs: I) -> Imap<'_, I::IntoIter, F, C>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        Imap::new(&self.inner, f, inputs.into_iter(), true)
    }

    /// As [`imap`](Self::imap), but the results come in the order in which they are ready.
    pub fn imap_unordered<I, F, C>(&self, f: F, inputs: I) -> Imap<'_, I::IntoIter, F, C>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        Imap::new(&self.inner, f, inputs.into_iter(), false)
    }

    /// Takes no more work. What was submitted is finished; then the workers exit.
    pub fn close(&self) {
        self.inner.tell(|dispatcher, _| dispatcher.close());
    }

    /// Stops now: workers are killed, and jobs that have not ended end with an error that says so.
    pub fn terminate(&self) {
        self.inner.tell(|dispatcher, _| dispatcher.terminate());
    }

    /// Waits until all workers have exited and all callbacks have run.
    ///
    /// # Errors
    ///
    /// The pool was neither closed nor terminated, and so would never end; or its workers could not start.
    pub fn join(&self) -> Result<()> {
        if !lock(&self.inner.core).dispatcher.is_over() {
            return Err(Error::invalid("cannot join a pool that takes work: close or terminate it first"));
        }
        let joined = self.inner.join();
        self.join_threads();
        self.inner.source.leave();
        self.inner.callbacks.wait_idle();
        joined
    }

    fn join_threads(&self) {
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // It runs no user code that could panic.
            let _ = thread.join();
        }
        self.inner.source.finish();
    }

    /// How many workers the pool has.
    pub fn processes(&self) -> usize {
        self.inner.seats
    }

    /// The workers whose processes exist just now.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let core = lock(&self.inner.core);
        let dispatcher = &core.dispatcher;
        let worker = |(seat, station): (usize, &Option<Arc<Station>>)| {
            let station = station.as_ref()?;
            let seat = dispatcher.seat(seat);
            let state = match seat.phase() {
                Phase::Ready if seat.is_busy() => WorkerState::Busy,
                Phase::Ready => WorkerState::Idle,
                Phase::Starting => WorkerState::Starting,
                _ => WorkerState::Stopping,
            };
            Some(WorkerInfo { pid: station.peer.pid(), state, jobs_done: seat.done })
        };
        core.stations.iter().enumerate().filter_map(worker).collect()
    }

    /// How many calls are where.
    pub fn stats(&self) -> PoolStats {
        let Counts { waiting, running, done, failed } = lock(&self.inner.core).dispatcher.counts();
        PoolStats { waiting, running, done, failed }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let abandoned = self.inner.tell(|dispatcher, _| dispatcher.terminate());
        if abandoned > 0 {
            tracing::warn!(
                "pool `{}` was dropped with {abandoned} calls that had not ended: close and join it to let them finish",
                self.inner.name
            );
        }
        self.join_threads();
        self.inner.source.leave();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.inner.name)
            .field("processes", &self.processes())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
