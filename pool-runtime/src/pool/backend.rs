//! What stands at the seats of a pool: worker processes, or something else in their place, for tests.

use crate::{
    memory::{attach::Attacher, region::Region},
    os::{self, Child},
    peer::{Inline, Thread, faults::Plan, launch::Launch},
};
use std::{sync::Arc, time::Duration};

/// What runs a pool's calls.
///
/// Worker processes, if nobody says otherwise. The others are for tests and debuggers: they run calls in this process,
/// with no process started and no way in needed. Values are encoded and decoded all the same; results, their order,
/// panics, worker state, callbacks and all errors are as with processes, so that what is tested is what runs later.
///
/// | | [`Processes`](Self::Processes) | [`Threads`](Self::Threads), [`Faults`](Self::Faults) | [`Inline`](Self::Inline) |
/// |---|---|---|---|
/// | a call runs | in a worker | on a thread of the pool's | on the thread that submits it, at once |
/// | a `static` | belongs to each worker | is shared | is shared |
/// | [`current_job`](crate::current_job) | is known to all threads of the task | to the task's own | to the task's own |
/// | abort, exit, segmentation fault, stack overflow; a panic with `panic = "abort"` | cost one call | end the program | end the program |
/// | cancelled, terminated, too slow | the worker is killed | the job ends; the task goes on, and nobody hears of it | the task goes on to its end |
/// | limits of memory, `max_memory_per_child` | hold | have no effect | have no effect |
/// | time-outs, retries | hold | hold | the soft time-out holds |
/// | what a task prints | goes through the worker | is the program's | is the program's |
/// | [`workers`](crate::Pool::workers) | have pids of their own | have the program's pid | are none |
/// | [`current_process`](crate::current_process) | is the worker | is the program | is the program |
/// | worker state | of each worker | of each thread | of each thread that submits calls |
///
/// `env`, `env_remove`, `current_dir` and `sandbox` would change the program itself: with another backend than
/// processes, [`build`](crate::PoolBuilder::build) refuses them. `nice`, `cpus`, `executable`, `transport` and
/// `start_timeout` have no effect there.
///
/// A test of how a program takes failures, which needs no luck to meet them:
///
/// ```
/// # use pool_runtime::{Backend, Error, Pool, Result, enter, task};
/// #[task]
/// fn fetch(page: u32) -> String {
///     format!("page {page}")
/// }
///
/// /// The code under test: what fails is tried again.
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
    /// Each call runs when it is submitted, on the thread that submits it: for debuggers, which find the task below the
    /// call in one stack.
    ///
    /// [`apply_async`](crate::Pool::apply_async) and [`map_async`](crate::Pool::map_async) return jobs that have ended;
    /// [`imap`](crate::Pool::imap) runs a call when it reads its input. Calls run in the order in which they are
    /// submitted, one after the other, but for those that several threads submit. There is nothing to be cancelled.
    ///
    /// [`build`](crate::PoolBuilder::build) runs the initializer on its own thread, and every other thread does when it
    /// submits its first call; if it fails then, so does the call. A state is dropped with its thread; or when the pool
    /// is joined or dropped, on the thread that does that; other threads drop theirs when they next use such a pool.
    Inline,
    /// Each worker is a thread of this process.
    ///
    /// A thread cannot be killed. Where a worker would be, the job ends at once, a new thread takes the worker's place,
    /// and the old one ends when its task returns; what that returns is dropped. Also when the pool is terminated or
    /// dropped, nobody waits for such a thread. A call that took too long and is tried again runs beside its earlier
    /// attempt, if that has not come to its end.
    Threads,
    /// As [`Threads`](Self::Threads), and things go wrong, drawn from this seed: the same seed and the same
    /// submissions, in the same order, make the same faults for each job, however the threads are scheduled.
    ///
    /// About one attempt in four meets something. Of 64 attempts,
    ///
    /// | | |
    /// |---|---|
    /// | 6 | are late: the task starts, or its report leaves, 1 to 5 ms later |
    /// | 1 | loses its worker before it starts; it is run by another one, unseen |
    /// | 1 | loses its worker while the arguments are decoded: [`Ran::No`](crate::Ran::No) |
    /// | 2 | lose their worker in the task: at its beginning, or at its end, with all that it has done outside |
    /// | 2 | lose their worker after that, while the result is encoded or before it is sent |
    /// | 2 | panic, in place of the task, and say `injected by Backend::Faults(seed)` |
    /// | 1 | finds that its arguments cannot be read |
    /// | 1 | has run, and its result cannot be sent |
    ///
    /// A lost worker is as one that was killed: [`Error::signal`](crate::Error::signal) is 9, calls that were sent to
    /// it and had not started are run by others, [retries](crate::PoolBuilder::retries) are made, each of which may
    /// meet something else, and the next worker makes its state anew.
    Faults(u64),
}

/// What a backend needs to fill the seats.
pub(super) enum Staff {
    Processes(Box<Launch>),
    Threads {
        /// What goes wrong on purpose, if anything.
        plan: Option<Arc<Plan>>,
        initializer_timeout: Option<Duration>,
    },
    Inline(Inline),
}

/// What is at a seat.
pub(crate) enum Occupant {
    Process {
        child: Arc<Child>,
        /// How shared memory gets there.
        courier: Arc<Attacher>,
    },
    Thread(Arc<Thread>),
}

impl Occupant {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Process { child, .. } => child.pid(),
            Self::Thread(_) => std::process::id(),
        }
    }

    pub(super) fn kill(&self) {
        match self {
            // It cannot fail for a child of ours.
            Self::Process { child, .. } => drop(child.kill()),
            Self::Thread(thread) => thread.kill(),
        }
    }

    /// A call that speaks of these is about to be sent there. A thread finds them in this process, where they are to be
    /// `held` as long as it is busy with the frame, whatever becomes of the call.
    pub(super) fn bring(&self, regions: &[Arc<Region>], held: &mut Vec<Arc<Region>>) {
        match self {
            Self::Process { courier, .. } => courier.bring(regions),
            Self::Thread(_) => held.extend_from_slice(regions),
        }
    }

    /// It could not read the arguments of a call that speaks of these.
    pub(super) fn doubt(&self, regions: &[Arc<Region>], under_way: bool) {
        match self {
            Self::Process { courier, .. } => courier.doubt(regions, under_way),
            Self::Thread(_) => {}
        }
    }

    /// How many bytes of memory are its own; None if they cannot be told from others'.
    pub(super) fn memory(&self) -> Option<u64> {
        match self {
            Self::Process { child, .. } => os::private_memory(child.pid()),
            Self::Thread(_) => None,
        }
    }
}
