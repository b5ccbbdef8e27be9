//! The handle of a pool, as users hold it.

use crate::error::{Error, Result};
use crate::job::{Job, Origin, Raw, Slot, Tickets, decode_one};
use crate::locks::{lock, try_lock};
use crate::logging;
use crate::pool::dispatcher::{Dispatcher, Phase, PoolStats, Refusal};
use crate::pool::{Inner, PoolBuilder, Station};
use crate::task::TaskCall;
use crate::worker::Joining;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A pool of workers: processes of this program that run calls.
///
/// Nearly all methods take `&self`, so threads can share a pool. Dropping it terminates it, unless it was
/// [detached](Self::detach).
///
/// A pool belongs to the process that made it. In a child that was forked from that (as `daemon()` does), it takes no
/// calls, and dropping it there does nothing: a program that forks makes its pools afterwards.
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
    /// Dropping this handle does not end the pool.
    pub(super) detached: bool,
}

/// The state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It is being started.
    Starting,
    /// It waits for calls.
    Idle,
    /// It has calls.
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
    /// Its state.
    pub state: WorkerState,
    /// How many calls have ended at its seat, including those of workers before it.
    pub jobs_done: u64,
}

/// A thread that submits calls one by one reads reports once for so many.
const HELP_EVERY: u64 = 32;

/// How soon it is noticed that a thread has ended.
const SHORTLY: Duration = Duration::from_millis(1);

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
    /// The failure of the call; see [`Error`].
    pub fn apply<C: TaskCall>(&self, call: C) -> Result<C::Output> {
        let call = call.into_raw();
        let task = call.task;
        let slot = self.inner.slot(call)?;
        self.inner.run(&slot).map_err(|error| error.of_task(task.name()))?;
        let origin = Origin { id: slot.job, task, tickets: Tickets::none() };
        Job::new(slot, decode_one::<C::Task>, self.inner.clone(), origin).get()
    }

    /// Submits a call, and returns at once; or, with [`max_waiting`](PoolBuilder::max_waiting), once there is room for it.
    /// If it cannot be submitted, the job has failed.
    pub fn apply_async<C: TaskCall>(&self, call: C) -> Job<C::Output> {
        let call = call.into_raw();
        let task = call.task;
        let submitted = self.inner.slot(call).and_then(|slot| Ok((self.inner.submit_all(slot.clone(), 1)?, slot)));
        let (id, slot, tickets) = match submitted {
            Ok((ticket, slot)) => {
                if slot.job.is_multiple_of(HELP_EVERY) {
                    self.inner.help();
                }
                (slot.job, slot, Tickets::One(ticket))
            }
            Err(error) => {
                let id = self.inner.jobs.fetch_add(1, Ordering::Relaxed);
                let slot = Arc::new(Slot::of_calls(task, id));
                let (error, inner) = (error.of_task(task.name()), &self.inner);
                match inner.made_in.is_here() && lock(&inner.core).dispatcher.accepts() == Err(Refusal::Failed) {
                    true => slot.fail_with_pool(error),
                    false => slot.finish(Raw::One(Err(error))),
                }
                (id, slot, Tickets::none())
            }
        };
        Job::new(slot, decode_one::<C::Task>, self.inner.clone(), Origin { id, task, tickets })
    }

    /// As [`apply_async`](Self::apply_async), but never waits for room: if as many calls wait as
    /// [`max_waiting`](PoolBuilder::max_waiting) or [`max_waiting_bytes`](PoolBuilder::max_waiting_bytes) allow, the call is
    /// refused. It has encoded its arguments, so to try again, make it again.
    ///
    /// With [`Backend::Inline`](crate::Backend::Inline), it runs the call.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn sleep(seconds: u64) {
    ///     std::thread::sleep(Duration::from_secs(seconds));
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(1).max_waiting(2).build()?;
    ///     // One runs, and two wait.
    ///     let jobs = (0..3).map(|_| pool.try_apply_async(sleep::call(600))).collect::<Result<Vec<_>>>()?;
    ///     let error = pool.try_apply_async(sleep::call(600)).unwrap_err();
    ///     assert!(error.is_would_block());
    ///     assert!(error.to_string().contains("2 calls wait, and the pool's limit is 2"));
    ///     assert!(jobs[2].cancel());
    ///     assert!(pool.try_apply_async(sleep::call(600)).is_ok());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no room: the error [`is_would_block`](Error::is_would_block). The pool takes no more calls, or the call
    /// cannot be submitted for another reason, for which the job of `apply_async` would have failed.
    pub fn try_apply_async<C: TaskCall>(&self, call: C) -> Result<Job<C::Output>> {
        let call = call.into_raw();
        let task = call.task;
        let slot = self.inner.slot(call).map_err(|error| error.of_task(task.name()))?;
        let ticket = self.inner.try_submit(slot.clone())?;
        if slot.job.is_multiple_of(HELP_EVERY) {
            self.inner.help();
        }
        let origin = Origin { id: slot.job, task, tickets: Tickets::One(ticket) };
        Ok(Job::new(slot, decode_one::<C::Task>, self.inner.clone(), origin))
    }

    /// Waits until all workers take calls, at most for `timeout`; `None` is no limit. [`build`](PoolBuilder::build) waits
    /// only for the first of them, so a service calls this if it is to start with all its workers warm.
    ///
    /// A worker takes calls when its [initializer](PoolBuilder::initializer) has returned. Without workers
    /// ([`Backend::Inline`](crate::Backend::Inline)) there is nothing to wait for.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, WorkerState, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(3)?;
    ///     pool.wait_ready(Duration::from_secs(60))?;
    ///     assert_eq!(pool.workers().len(), 3);
    ///     assert!(pool.workers().iter().all(|worker| worker.state == WorkerState::Idle));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Not all of them take calls in time: the error [`is_timeout`](Error::is_timeout), and they go on starting. The pool
    /// is closed or terminated, or has failed. A worker cannot start for good: the error says why, and the pool goes on
    /// with the others.
    pub fn wait_ready(&self, timeout: impl Into<Option<Duration>>) -> Result<()> {
        self.inner.made_in.check("pool")?;
        self.inner.await_all_ready(timeout.into().and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Takes no more calls. Submitted ones still run; then the workers exit.
    pub fn close(&self) {
        if self.inner.made_in.is_here() {
            self.inner.tell(Dispatcher::close);
        }
    }

    /// Ends all workers, also those that join processes of their own: at once, or, with a
    /// [`terminate_grace`](PoolBuilder::terminate_grace), once that is over. Jobs that have not ended fail.
    pub fn terminate(&self) {
        if self.inner.made_in.is_here() {
            self.inner.tell(|dispatcher, _| dispatcher.terminate());
        }
    }

    /// Waits until all workers have exited and all callbacks have run. A worker that is to exit has the pool's
    /// [`exit_grace`](PoolBuilder::exit_grace), and as long as there are processes that it has started and joins: only
    /// [`terminate`](Self::terminate) ends it earlier.
    ///
    /// # Errors
    ///
    /// The pool was neither closed nor terminated, or its workers could not start.
    pub fn join(&self) -> Result<()> {
        self.join_until(None).map(drop)
    }

    /// As [`join`](Self::join), but waits for at most `patience`. Returns whether the workers have exited and the callbacks
    /// have run; if not, the pool can be joined again. Zero polls.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn sleep(seconds: u64) {
    ///     std::thread::sleep(Duration::from_secs(seconds));
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(1)?;
    ///     let _job = pool.apply_async(sleep::call(600));
    ///     pool.close();
    ///     if !pool.join_timeout(Duration::from_millis(100))? {
    ///         pool.terminate();
    ///     }
    ///     pool.join()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, patience: Duration) -> Result<bool> {
        self.join_until(Instant::now().checked_add(patience))
    }

    fn join_until(&self, deadline: Option<Instant>) -> Result<bool> {
        self.inner.made_in.check("pool")?;
        if self.is_open() {
            return Err(Error::invalid("cannot join a pool that takes work: close or terminate it first"));
        }
        let _joining = Joining::new();
        let joined = self.inner.await_phase(deadline, Dispatcher::is_finished);
        if let Ok(false) = joined {
            return joined;
        }
        if !self.join_threads(deadline) {
            return joined.map(|_| false);
        }
        self.inner.source.leave();
        self.inner.log_ended();
        let called_back = self.inner.callbacks.wait_idle(deadline);
        logging::flush(deadline);
        joined.map(|_| called_back)
    }

    /// Closes the pool and lets go of it: what was submitted still runs, then the workers exit. Nobody waits for that,
    /// and [`Job`]s still get their results. What has not ended when the program ends, ends with it.
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
    ///     let pool = Pool::new(1)?;
    ///     let job = pool.apply_async(square::call(3));
    ///     pool.detach();
    ///     assert_eq!(job.get()?, 9);
    ///     Ok(())
    /// }
    /// ```
    pub fn detach(mut self) {
        self.close();
        self.detached = true;
    }

    /// Waits for the threads, which are about to end, at most until `deadline`. Returns whether they have ended, and what
    /// workers have printed is passed on.
    fn join_threads(&self, deadline: Option<Instant>) -> bool {
        loop {
            // Another caller may be waiting for them, without a limit.
            let threads = if deadline.is_none() { Some(lock(&self.threads)) } else { try_lock(&self.threads) };
            if let Some(mut threads) = threads {
                while let Some(thread) = threads.pop_if(|thread| deadline.is_none() || thread.is_finished()) {
                    // These threads catch their panics.
                    let _ = thread.join();
                }
                if threads.is_empty() && self.inner.join_clock(deadline) {
                    return self.inner.source.finish(deadline);
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            std::thread::sleep(SHORTLY);
        }
    }

    /// Whether the pool takes calls: it was neither closed nor terminated, has not failed, and was made by this process.
    pub fn is_open(&self) -> bool {
        self.inner.made_in.is_here() && !lock(&self.inner.core).dispatcher.is_over()
    }

    /// How many workers the pool has.
    pub fn processes(&self) -> usize {
        self.inner.seats
    }

    /// The workers that exist at present. None in a child that was forked from the pool's process.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        if !self.inner.made_in.is_here() {
            return Vec::new();
        }
        let core = lock(&self.inner.core);
        let worker = |station: &Arc<Station>| {
            let seat = core.dispatcher.seat(station.seat);
            let state = match seat.phase() {
                Phase::Ready if seat.is_busy() => WorkerState::Busy,
                Phase::Ready => WorkerState::Idle,
                Phase::Starting => WorkerState::Starting,
                _ => WorkerState::Stopping,
            };
            WorkerInfo { pid: station.peer.pid(), state, jobs_done: seat.done }
        };
        core.stations.iter().flatten().map(worker).collect()
    }

    /// How many calls wait, run, and have ended, how often calls were made again or took too long, and how many workers were
    /// replaced as they had died or were killed.
    pub fn stats(&self) -> PoolStats {
        if !self.inner.made_in.is_here() {
            return PoolStats::default();
        }
        lock(&self.inner.core).dispatcher.counts()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.inner.made_in.is_here() {
            // The workers are those of another process, and the threads are not there.
            std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner))
                .into_iter()
                .for_each(std::mem::forget);
            return;
        }
        if self.detached {
            return self.inner.source.leave();
        }
        let abandoned = self.inner.tell(|dispatcher, _| dispatcher.terminate());
        if abandoned > 0 {
            self.inner.log_abandoned(abandoned);
        }
        self.join_threads(None);
        self.inner.source.leave();
        self.inner.log_ended();
        logging::flush(None);
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
