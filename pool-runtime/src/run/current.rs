//! The job that runs on this thread or in this process, as its task sees it: its number, its deadline.

use crate::locks::lock;
use crate::memory::StatusPage;
use crate::os;
use crate::policy::Timing;
use crate::protocol::CallHeader;
use std::cell::RefCell;
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The call that a worker runs, and its deadlines. Written by the thread that runs the calls, read by all.
pub(crate) struct JobClock {
    page: Arc<StatusPage>,
    task: Mutex<Option<&'static str>>,
    /// Of the first call of the chunk.
    first_job: AtomicU64,
    first_number: AtomicU32,
    attempt: AtomicU32,
    /// Nanoseconds; 0 if there is no limit.
    timeout: AtomicU64,
    soft_timeout: AtomicU64,
    /// When the task that runs is told to stop, and when its worker is killed. 0 is never.
    soft_at: AtomicU64,
    hard_at: AtomicU64,
}

impl JobClock {
    pub(crate) fn new(page: Arc<StatusPage>) -> Self {
        let [first_job, timeout, soft_timeout, soft_at, hard_at] = [const { AtomicU64::new(0) }; 5];
        let [first_number, attempt] = [const { AtomicU32::new(0) }; 2];
        let task = Mutex::default();
        Self { page, task, first_job, first_number, attempt, timeout, soft_timeout, soft_at, hard_at }
    }

    pub(crate) fn set_task(&self, task: Option<&'static str>) {
        *lock(&self.task) = task;
    }

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

    /// Called before a call that has time limits starts.
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

/// The clock of a worker process, and its id: a child that a task forks has no job, and nothing to read one from.
static PROCESS: OnceLock<(u32, Arc<JobClock>)> = OnceLock::new();

thread_local! {
    /// The clock of a thread that runs calls in a process that is no worker.
    static THREAD: RefCell<Option<Arc<JobClock>>> = const { RefCell::new(None) };
}

pub(crate) fn process_runs(clock: Arc<JobClock>) {
    let _ = PROCESS.set((os::current_pid(), clock));
}

/// Sets or removes the clock of this thread. Returns the previous one.
pub(crate) fn thread_runs(clock: Option<Arc<JobClock>>) -> Option<Arc<JobClock>> {
    THREAD.try_with(|thread| thread.replace(clock)).ok().flatten()
}

/// Whether this thread runs calls, in a process that is no worker.
pub(crate) fn is_thread_of_calls() -> bool {
    THREAD.try_with(|thread| thread.try_borrow().is_ok_and(|clock| clock.is_some())).unwrap_or(false)
}

/// The job that is running, as its task sees it: see [`current_job`].
#[derive(Clone)]
pub struct CurrentJob {
    running: Option<(Arc<JobClock>, u64)>,
}

/// The job that is running: its number, whether it should stop, and how to ask for more time.
///
/// In a worker process, all threads that a task starts see it. Outside of a task there is no job.
///
/// ```
/// # use pool_runtime::{Pool, Result, current_job, enter, task};
/// # use std::time::Duration;
/// #[task(timeout = "10s", soft_timeout = "50ms")]
/// fn search() -> u64 {
///     let mut tried = 0;
///     // A task that does not stop when it is told to is killed after ten seconds.
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
    let clock = own.or_else(|| {
        let (process, clock) = PROCESS.get()?;
        (*process == os::current_pid()).then(|| clock.clone())
    });
    let clock = clock.filter(|clock| clock.is_running());
    CurrentJob { running: clock.map(|clock| (clock.clone(), clock.job())) }
}

impl CurrentJob {
    /// The job's number in its pool, as [`Job::id`](crate::Job::id); `None` outside of a task. Each call of a `map` has
    /// its own number.
    pub fn id(&self) -> Option<u64> {
        self.running.as_ref().map(|(_, job)| *job)
    }

    /// The name of its task.
    pub fn task_name(&self) -> Option<&'static str> {
        let (clock, _) = self.running.as_ref()?;
        *lock(&clock.task)
    }

    /// The number of this attempt: more than 1 if the job is [retried](crate::PoolBuilder::retries), 0 outside of a task.
    pub fn attempt(&self) -> u32 {
        self.running.as_ref().map_or(0, |(clock, _)| clock.attempt.load(Relaxed))
    }

    fn is_over(&self) -> bool {
        self.running.as_ref().is_some_and(|(clock, job)| !clock.is_running() || clock.job() != *job)
    }

    /// Whether the job should stop: true after its soft timeout, and when the job has ended.
    pub fn is_cancelled(&self) -> bool {
        let Some((clock, _)) = &self.running else { return false };
        let soft_at = clock.soft_at.load(Relaxed);
        self.is_over() || (soft_at != 0 && os::monotonic() >= soft_at)
    }

    /// The time until its worker is killed; `None` without a timeout.
    pub fn remaining(&self) -> Option<Duration> {
        let (clock, _) = self.running.as_ref()?;
        let hard_at = clock.hard_at.load(Relaxed);
        (hard_at != 0).then(|| Duration::from_nanos(hard_at.saturating_sub(os::monotonic())))
    }

    /// Postpones the soft timeout to at least `time` from now; the timeout follows it at the same distance as before.
    /// Returns false, without any effect, if the job has no soft timeout or does not run any more.
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
