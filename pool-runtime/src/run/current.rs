//! The job that runs here, as its task can ask: which it is, and how long it may take.

use crate::memory::StatusPage;
use crate::os;
use crate::policy::Timing;
use crate::protocol::CallHeader;
use crate::sync::lock;
use std::cell::RefCell;
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What a worker knows of the call that it runs. Written by the thread that runs the calls, read by all.
pub(crate) struct JobClock {
    page: Arc<StatusPage>,
    task: Mutex<Option<&'static str>>,
    /// The job of the first call of the chunk, and its number.
    first_job: AtomicU64,
    first_number: AtomicU32,
    attempt: AtomicU32,
    /// Nanoseconds; 0 if there is no limit.
    timeout: AtomicU64,
    soft_timeout: AtomicU64,
    /// Of the call that runs: when the task is to be told, and when its worker is killed. 0 is never.
    soft_at: AtomicU64,
    hard_at: AtomicU64,
}

impl JobClock {
    pub(crate) fn new(page: Arc<StatusPage>) -> Self {
        Self {
            page,
            task: Mutex::default(),
            first_job: AtomicU64::new(0),
            first_number: AtomicU32::new(0),
            attempt: AtomicU32::new(0),
            timeout: AtomicU64::new(0),
            soft_timeout: AtomicU64::new(0),
            soft_at: AtomicU64::new(0),
            hard_at: AtomicU64::new(0),
        }
    }

    /// The calls that come next are of this task.
    pub(crate) fn set_task(&self, task: Option<&'static str>) {
        *lock(&self.task) = task;
    }

    /// The calls that come next are these.
    pub(crate) fn begin(&self, first: &CallHeader) {
        self.first_job.store(first.job, Relaxed);
        self.first_number.store(first.number, Relaxed);
        self.attempt.store(first.attempt, Relaxed);
        let Timing { timeout, soft_timeout } = first.timing;
        let nanos = |limit: Option<NonZero<u32>>| limit.map_or(0, |limit| u64::from(limit.get()) * 1_000_000);
        self.timeout.store(nanos(timeout), Relaxed);
        self.soft_timeout.store(nanos(soft_timeout), Relaxed);
        self.soft_at.store(0, Relaxed);
        self.hard_at.store(0, Relaxed);
    }

    /// A call that is limited in time is about to start.
    pub(crate) fn start(&self) {
        let now = os::monotonic();
        let at = |limit: &AtomicU64| match limit.load(Relaxed) {
            0 => 0,
            limit => now.saturating_add(limit),
        };
        self.soft_at.store(at(&self.soft_timeout), Relaxed);
        self.hard_at.store(at(&self.timeout), Relaxed);
        self.page.set_started(now);
    }

    fn job(&self) -> u64 {
        let behind = self.page.claimed().wrapping_sub(self.first_number.load(Relaxed));
        self.first_job.load(Relaxed).wrapping_add(u64::from(behind))
    }

    fn is_running(&self) -> bool {
        self.page.stage() != 0
    }
}

/// Of a worker process.
static PROCESS: OnceLock<Arc<JobClock>> = OnceLock::new();

thread_local! {
    /// Of a thread that runs calls in a process that is no worker.
    static THREAD: RefCell<Option<Arc<JobClock>>> = const { RefCell::new(None) };
}

/// This process runs calls.
pub(crate) fn process_runs(clock: Arc<JobClock>) {
    let _ = PROCESS.set(clock);
}

/// This thread runs calls, or none any more. Returns what it was before.
pub(crate) fn thread_runs(clock: Option<Arc<JobClock>>) -> Option<Arc<JobClock>> {
    THREAD.try_with(|thread| thread.replace(clock)).ok().flatten()
}

/// The job that runs here, as its task sees it: see [`current_job`].
#[derive(Clone)]
pub struct CurrentJob {
    running: Option<(Arc<JobClock>, u64)>,
}

/// The job of which this is a part: which it is, whether it should come to an end, and how to ask for more time.
///
/// In a worker it is known to all threads that a task starts; outside of a task there is no job, and nothing to stop.
///
/// ```
/// # use pool_runtime::{Pool, Result, current_job, enter, task};
/// # use std::time::Duration;
/// #[task(timeout = "10s", soft_timeout = "50ms")]
/// fn search() -> u64 {
///     let mut tried = 0;
///     // Told to stop, it returns what it has; one that goes on is killed after ten seconds.
///     while !current_job().is_cancelled() {
///         tried += 1;
///     }
///     tried
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     assert!(Pool::new(1)?.apply(search::call())? > 0);
///     assert_eq!(current_job().id(), None);
///     Ok(())
/// }
/// ```
pub fn current_job() -> CurrentJob {
    let own = THREAD.try_with(|thread| thread.try_borrow().ok()?.clone()).ok().flatten();
    let clock = own.or_else(|| PROCESS.get().cloned()).filter(|clock| clock.is_running());
    CurrentJob { running: clock.map(|clock| (clock.clone(), clock.job())) }
}

impl CurrentJob {
    /// The job's number in its pool, as [`Job::id`](crate::Job::id); `None` outside of a task. Each call of a `map` has
    /// one of its own.
    pub fn id(&self) -> Option<u64> {
        self.running.as_ref().map(|(_, job)| *job)
    }

    /// The name of its task.
    pub fn task_name(&self) -> Option<&'static str> {
        let (clock, _) = self.running.as_ref()?;
        *lock(&clock.task)
    }

    /// Which attempt at it this is: more than 1 if it is [tried again](crate::PoolBuilder::retries). 0 outside of a
    /// task.
    pub fn attempt(&self) -> u32 {
        self.running.as_ref().map_or(0, |(clock, _)| clock.attempt.load(Relaxed))
    }

    fn is_over(&self) -> bool {
        self.running.as_ref().is_some_and(|(clock, job)| !clock.is_running() || clock.job() != *job)
    }

    /// Should it come to an end? True after its soft time-out, and for a handle that is kept longer than the job lasts.
    pub fn is_cancelled(&self) -> bool {
        let Some((clock, _)) = &self.running else { return false };
        let soft_at = clock.soft_at.load(Relaxed);
        self.is_over() || (soft_at != 0 && os::monotonic() >= soft_at)
    }

    /// How long until its worker is killed; `None` if there is no time-out.
    pub fn remaining(&self) -> Option<Duration> {
        let (clock, _) = self.running.as_ref()?;
        let hard_at = clock.hard_at.load(Relaxed);
        (hard_at != 0).then(|| Duration::from_nanos(hard_at.saturating_sub(os::monotonic())))
    }

    /// Asks to be told to stop no earlier than after `time` from now; the worker is then killed as much later as the
    /// time-out is longer than the soft one. Returns whether it may: only a call that has a soft time-out can ask for
    /// more time, and only while it runs.
    pub fn extend_deadline(&self, time: Duration) -> bool {
        let Some((clock, _)) = self.running.as_ref().filter(|_| !self.is_over()) else { return false };
        let (soft, hard) = (clock.soft_timeout.load(Relaxed), clock.timeout.load(Relaxed));
        if soft == 0 {
            return false;
        }
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let soft_at = os::monotonic().saturating_add(time).max(clock.soft_at.load(Relaxed));
        clock.soft_at.store(soft_at, Relaxed);
        if hard != 0 {
            let hard_at = soft_at.saturating_add(hard.saturating_sub(soft));
            clock.hard_at.store(hard_at, Relaxed);
            clock.page.set_extended(hard_at);
        }
        true
    }
}

impl fmt::Debug for CurrentJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentJob").field("id", &self.id()).field("task", &self.task_name()).finish_non_exhaustive()
    }
}
