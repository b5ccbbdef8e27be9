//! Inputs and effects of the dispatcher, as plain data.

use crate::dossier::{Loss, Ran};
use crate::policy::Policy;
use crate::protocol::{CallHeader, Failed};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Nanoseconds since the pool was created.
pub(crate) type Time = u64;

pub(crate) const MILLISECOND: Time = 1_000_000;
pub(crate) const NEVER: Time = Time::MAX;

pub(crate) fn nanos(time: Duration) -> Time {
    Time::try_from(time.as_nanos()).unwrap_or(Time::MAX)
}

/// Identifies calls that were submitted together.
pub(crate) type Ticket = u64;

/// Calls of one task that were submitted together.
pub(crate) trait Work {
    fn task(&self) -> &'static str;

    /// The job of the first call. The jobs of the others follow it.
    fn first_job(&self) -> u64;

    /// About how many bytes these calls take in a frame.
    fn size(&self, calls: Range<u32>) -> usize;

    fn policy(&self) -> &Policy;

    /// How many bytes the result of each call has at most, as its type says.
    fn result_bound(&self) -> u64 {
        u64::MAX
    }
}

// ---- inputs ----

/// Which calls of a submission are cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Those that have not started. A worker goes on with the one that it runs, whose result counts.
    Waiting,
    /// All: a worker that runs one is killed.
    Running,
}

/// A worker's report on consecutive calls: all have a value, or the only one failed.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) failed: Option<Failed>,
}

/// What a [look](Effect::Look) at a worker has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// The number of the latest call that it started.
    pub(crate) claimed: u32,
    /// When that call started, if known.
    pub(crate) started: Option<Time>,
    /// The task's deadline, if it asked for a later one.
    pub(crate) extended: Option<Time>,
    /// The worker's memory in bytes, if it was measured: what it has, or has had while it ran the latest call.
    pub(crate) memory: Option<u64>,
    /// What it had, together with memory that it could share, when that was looked at last: the time of that, and the
    /// bytes. It may have been before the latest call.
    pub(crate) whole: Option<(Time, u64)>,
    /// The latest generation that it has found out about, as calls of earlier ones were taken back.
    pub(crate) heard: u32,
    /// It waits for processes that it has started.
    pub(crate) joins: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedStart {
    /// Every start of this program would fail in this way.
    pub(crate) for_good: bool,
    /// A retry may succeed without any change to the program.
    pub(crate) may_pass: bool,
}

/// What the attendant of a seat is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Start a worker of this epoch.
    Now { epoch: u32 },
    /// Ask again at this time.
    NotBefore(Time),
    /// The seat stays empty.
    Never,
}

/// Why the pool takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What was submitted before is still done.
    Closed,
    Terminated,
    /// The workers cannot start.
    Failed,
}

/// Numbers of calls, as [`Pool::stats`](crate::Pool::stats) returns them.
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
    /// How often calls that were lost with their worker, or took too long, were to be made again: a call that succeeds at
    /// its third attempt counts twice here, and once in `done`.
    pub retries: u64,
    /// Workers that were started in place of one that had died or was killed. Those that were replaced as planned, after
    /// [`max_tasks_per_child`](crate::PoolBuilder::max_tasks_per_child) calls for example, and those that ended after a
    /// panic, do not count, even if the one before had to be killed as it did not leave in time.
    pub restarts: u64,
    /// Attempts at calls that were ended as they took longer than their timeout, also those that were made again.
    pub timeouts: u64,
}

// ---- effects ----

/// What the caller is to do. An effect that names an epoch is void once the seat has another.
#[derive(Debug)]
pub(crate) enum Effect<W: ?Sized> {
    /// Send the calls of these numbers, found by [`flights`](super::Dispatcher::flights), after all earlier ones.
    Send { seat: usize, epoch: u32, generation: u32, first: u32, last: u32 },
    /// Take back the calls that have not started, and answer with [`taken_back`](super::Dispatcher::taken_back).
    TakeBack { seat: usize, epoch: u32, generation: u32 },
    /// Let the worker finish and exit.
    Stop { seat: usize, epoch: u32 },
    /// Kill the worker.
    Kill { seat: usize, epoch: u32 },
    /// Ask the worker to end. It starts no more calls of this generation.
    AskToEnd { seat: usize, epoch: u32, generation: u32 },
    /// Tell the user that the worker, which is killed next, has not left in time.
    Overstayed { seat: usize, epoch: u32 },
    /// Tell the user that the worker, which is killed next, has more memory than it may, and says that it runs nothing.
    Outgrown { seat: usize, epoch: u32, limit: u64, used: u64 },
    /// Look at what the worker runs, and at its `memory` if asked; answer with [`seen`](super::Dispatcher::seen).
    Look { seat: usize, epoch: u32, memory: bool },
    /// These calls end, but the worker may still run them: keep the memory they share with it until it is gone.
    Hold { seat: usize, epoch: u32, work: Arc<W> },
    /// Calls have ended.
    Ended(Ended<W>),
    /// Starts failed so often at a seat that a decision was made.
    StartsFailed { tries: u32, then: AfterStarts },
    /// For the log: an attempt at a call has exceeded a limit. Whether it is made again is told next.
    Exceeded { work: Arc<W>, call: CallHeader, seat: usize, excess: Excess },
    /// For the log: these calls, from index `first` on, were lost with the worker of this seat, and are tried again.
    Retried { work: Arc<W>, first: u32, count: u32, attempt: u32, seat: usize, loss: Arc<Loss> },
    /// For the log: the worker gets no more calls, and another one takes its place.
    Retired { seat: usize, epoch: u32, why: Retirement },
    /// For the log: the worker has ended.
    Departed { seat: usize, epoch: u32, how: Parting, loss: Arc<Loss> },
}

/// Why a worker is replaced that does as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retirement {
    /// It was given as many calls as it may run.
    Calls,
    Age,
    Memory,
    /// Its call panicked.
    Panic,
}

/// How a worker has ended, as the pool sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It was to leave.
    Left,
    /// The pool has killed it.
    Killed,
    /// Nobody had asked it to end.
    Lost,
}

/// What becomes of a seat where starts fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterStarts {
    /// Other workers exist and the cause may pass: starts go on.
    TryOn,
    /// Other workers exist: the seat is closed.
    GiveUpSeat,
    /// No other worker exists: the pool has failed.
    GiveUpPool,
}

/// Calls of one submission that have ended: `count` of them, from index `first`.
#[derive(Debug)]
pub(crate) struct Ended<W: ?Sized> {
    pub(crate) work: Arc<W>,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) how: How,
}

#[derive(Debug)]
pub(crate) enum How {
    /// With the values reported from this number on.
    Values { number: u32 },
    /// Without a value.
    Failed(CallFailure),
}

#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    pub(crate) why: Why,
    pub(crate) ran: Ran,
    pub(crate) attempts: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Why {
    Reported(Failed),
    /// With its worker.
    Lost {
        loss: Arc<Loss>,
        job: u64,
        attempt: u32,
        /// How long it had been running, if it had started.
        time: Option<Duration>,
        /// The limit it exceeded, if the worker was killed for that.
        condemned: Option<Excess>,
    },
    Cancelled,
    Terminated,
    PoolFailed,
}

/// The limit that a call exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Time { limit: Time },
    Memory { limit: u64, used: u64 },
}
