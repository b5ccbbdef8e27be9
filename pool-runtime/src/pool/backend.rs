//! What runs the calls of a pool: worker processes, or something else for tests.

/// What runs a pool's calls.
///
/// The default is worker processes. The other backends are for tests and debuggers: they run calls in this process, and
/// need no [`enter`](crate::enter). Values are still encoded and decoded; results, their order, panics, worker state,
/// callbacks and errors are the same as with processes.
///
/// | | [`Processes`](Self::Processes) | [`Threads`](Self::Threads), [`Faults`](Self::Faults) | [`Inline`](Self::Inline) |
/// |---|---|---|---|
/// | a call runs | in a worker | on a thread of the pool's | on the thread that submits it, at once |
/// | a `static` | belongs to each worker | is shared | is shared |
/// | [`current_job`](crate::current_job) | is known to all threads of the task | to the task's own | to the task's own |
/// | abort, exit, segmentation fault, stack overflow; a panic with `panic = "abort"` | cost one call | end the program | end the program |
/// | cancelled, terminated, too slow | the worker is killed | the job ends; the task goes on, its result is dropped | the task goes on to its end |
/// | limits of memory, `max_memory_per_child` | hold | have no effect | have no effect |
/// | time-outs, retries | hold | hold | the soft time-out holds |
/// | what a task prints | goes through the worker | is the program's | is the program's |
/// | [`workers`](crate::Pool::workers) | have pids of their own | have the program's pid | are none |
/// | [`current_process`](crate::current_process) | is the worker | is the program | is the program |
/// | worker state | of each worker | of each thread | of each thread that submits calls |
///
/// Without processes, [`build`](crate::PoolBuilder::build) refuses `env`, `env_remove`, `current_dir` and `sandbox`,
/// which would change the program itself. `nice`, `cpus`, `scheduler`, `executable`, `transport` and `start_timeout`
/// have no effect.
///
/// A test of how a program handles failures:
///
/// ```
/// # use pool_runtime::{Backend, Error, Pool, Result, enter, task};
/// #[task]
/// fn fetch(page: u32) -> String {
///     format!("page {page}")
/// }
///
/// /// The code under test: it retries what fails.
/// fn fetch_all(pool: &Pool, pages: u32) -> Result<Vec<String>, Error> {
///     (0..pages)
///         .map(|page| {
///             let mut tries = 0;
///             loop {
///                 match pool.apply(fetch::call(page)) {
///                     Err(_) if tries < 10 => tries += 1,
///                     result => return result,
///                 }
///             }
///         })
///         .collect()
/// }
///
/// fn main() -> Result<()> {
///     # enter();
///     for seed in 0..3 {
///         let pool = Pool::builder().processes(2).backend(Backend::Faults(seed)).build()?;
///         let pages = fetch_all(&pool, 20)?;
///         assert_eq!(pages[7], "page 7");
///         assert!(pool.stats().failed > 0, "something went wrong, and nobody noticed");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Worker processes.
    #[default]
    Processes,
    /// Each call runs when it is submitted, on the thread that submits it, so that a debugger shows the task and its
    /// caller in one stack.
    ///
    /// [`apply_async`](crate::Pool::apply_async) and [`map_async`](crate::Pool::map_async) return jobs that have ended;
    /// [`imap`](crate::Pool::imap) runs a call when it reads its input. The calls of one thread run in the order in which
    /// it submits them. Nothing can be cancelled.
    ///
    /// [`build`](crate::PoolBuilder::build) runs the initializer on the calling thread; every other thread runs it before
    /// its first call, which fails if the initializer does. A state is dropped with its thread, or when that thread joins
    /// or drops the pool; other threads drop theirs when they next use such a pool.
    Inline,
    /// Each worker is a thread of this process.
    ///
    /// A thread cannot be killed. Where a process would be, the job ends at once, and a new thread replaces the worker.
    /// The old one ends when its task returns, and that result is dropped. Nothing waits for such a thread, not even
    /// terminating or dropping the pool. A retried call may run beside its earlier attempt.
    Threads,
    /// As [`Threads`](Self::Threads), with faults drawn from this seed. The same seed and submissions, in the same order,
    /// make the same faults for each job, however the threads are scheduled.
    ///
    /// About one attempt in four is faulty. Of 64 attempts,
    ///
    /// | | |
    /// |---|---|
    /// | 6 | are late: the task starts, or its report leaves, 1 to 5 ms later |
    /// | 1 | loses its worker before it starts; another worker runs it |
    /// | 1 | loses its worker while the arguments are decoded: [`Ran::No`](crate::Ran::No) |
    /// | 2 | lose their worker in the task: at its beginning, or at its end, after its side effects |
    /// | 2 | lose their worker after that, while the result is encoded or before it is sent |
    /// | 2 | panic in place of the task, with the message `injected by Backend::Faults(seed)` |
    /// | 1 | cannot decode its arguments |
    /// | 1 | has run, and its result cannot be sent |
    ///
    /// A lost worker is like one that was killed: [`Error::signal`](crate::Error::signal) is 9, other workers run its
    /// calls that had not started, [retries](crate::PoolBuilder::retries) are made, with faults of their own, and the
    /// next worker makes a new state.
    Faults(u64),
}
