//! What the dispatcher is told, and what it wants done: inputs and effects, as plain data.

use crate::dossier::{Loss, Ran};
use crate::policy::Policy;
use crate::protocol::Failed;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Nanoseconds since the pool began.
pub(crate) type Time = u64;

pub(crate) const MILLISECOND: Time = 1_000_000;

/// No time: never.
pub(crate) const NEVER: Time = Time::MAX;

/// Names calls that were submitted together.
pub(crate) type Ticket = u64;

/// Calls of one task that were submitted together.
pub(crate) trait Work {
    /// The task's name.
    fn task(&self) -> &'static str;

    /// The job of the first call; those of the others follow it.
    fn first_job(&self) -> u64;

    /// About how many bytes these calls take in a frame.
    fn size(&self, calls: Range<u32>) -> usize;

    /// The limits of each of them.
    fn policy(&self) -> &Policy;
}

// ---- inputs ----

/// What a worker reports of calls with consecutive numbers: that all have a value, or that one has failed.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) failed: Option<Failed>,
}

/// What a look at a worker has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// The number of the latest call that it has started.
    pub(crate) claimed: u32,
    /// When it started that, if the worker says so.
    pub(crate) started: Option<Time>,
    /// Until when the task asks to be let run, if it does.
    pub(crate) extended: Option<Time>,
    /// How many bytes of memory are its own.
    pub(crate) memory: Option<u64>,
}

/// How a start has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedStart {
    /// Every start of this program would fail in this way.
    pub(crate) for_good: bool,
    /// The next one may succeed though nothing changes in the program.
    pub(crate) may_pass: bool,
}

// ---- answers ----

/// What an attendant of a seat is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Start a worker of this epoch.
    Now { epoch: u32 },
    /// Ask again at this time.
    NotBefore(Time),
    /// The seat stays empty.
    Never,
}

/// Why no more work is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Terminated,
    /// The workers cannot start.
    Failed,
}

/// What the public `PoolStats` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

// ---- effects ----

/// What is to be done. An effect that names an epoch is void once the seat has another.
#[derive(Debug)]
pub(crate) enum Effect<W: ?Sized> {
    /// Send the calls of these numbers, which [`flights`](super::Dispatcher::flights) tells, after all that was sent to
    /// the seat before.
    Send { seat: usize, epoch: u32, generation: u32, first: u32, last: u32 },
    /// Take back what has not started, and answer with [`taken_back`](super::Dispatcher::taken_back).
    TakeBack { seat: usize, epoch: u32, generation: u32 },
    /// Let the worker finish and exit.
    Stop { seat: usize, epoch: u32 },
    /// Kill the worker.
    Kill { seat: usize, epoch: u32 },
    /// Look what the worker is doing, and answer with [`seen`](super::Dispatcher::seen). Its memory too?
    Look { seat: usize, epoch: u32, memory: bool },
    /// The worker may still run these calls, which end without it: keep what they lend it until it is gone.
    Hold { seat: usize, epoch: u32, work: Arc<W> },
    /// Calls have ended.
    Ended(Ended<W>),
    /// Starts have failed so often at a seat that something was decided about it.
    StartsFailed { tries: u32, then: AfterStarts },
}

/// What becomes of a seat where starts fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterStarts {
    /// Others work, and what is wrong may pass: it is tried on.
    TryOn,
    /// Others work: the seat is given up.
    GiveUpSeat,
    /// Nobody works: the pool has failed.
    GiveUpPool,
}

/// Calls of one submission that have ended, and how.
#[derive(Debug)]
pub(crate) struct Ended<W: ?Sized> {
    pub(crate) work: Arc<W>,
    /// The index of the first one, and how many they are.
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) how: How,
}

#[derive(Debug)]
pub(crate) enum How {
    /// With values: those of the reports from this number on.
    Values {
        number: u32,
    },
    Failed(CallFailure),
}

/// How a call has ended without a value.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    pub(crate) why: Why,
    pub(crate) ran: Ran,
    /// How often it was tried.
    pub(crate) attempts: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// Its worker says why.
    Reported(Failed),
    /// It was lost with its worker.
    Lost(CallLoss),
    Cancelled,
    Terminated,
    /// The workers cannot start.
    PoolFailed,
}

/// A call that was lost with its worker.
#[derive(Clone, Debug)]
pub(crate) struct CallLoss {
    pub(crate) loss: Arc<Loss>,
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    /// For how long it had been running, if it had begun.
    pub(crate) time: Option<Duration>,
    /// Why the worker was killed, if that was for this call.
    pub(crate) condemned: Option<Excess>,
}

/// What a call has taken too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Time { limit: Time },
    Memory { limit: u64, used: u64 },
}
