//! The limits of a pool: those that its user chose, and those of its transport.

use crate::pool::dispatcher::{CallRange, Time};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many calls a worker gets before it is replaced.
    pub(crate) tasks_per_child: u64,
    /// How many bytes of memory a worker may have when it starts a call.
    pub(crate) memory_per_child: u64,
    /// How many bytes of memory a worker may have at all, whatever it runs.
    pub(crate) memory: u64,
    /// How old a worker may be when it starts a call.
    pub(crate) age_per_child: Time,
    /// How long a worker that was told to leave may take, not counting the time in which it joins processes.
    pub(crate) exit_grace: Time,
    /// The timeout of the last call holds until its worker has gone, and not only until it has reported.
    pub(crate) until_gone: bool,
    /// How long a worker that is to be killed may take to end by itself.
    pub(crate) terminate_grace: Time,
    /// How long a call waits before its first retry. Doubles with each retry.
    pub(crate) retry_delay: Time,
    /// The time between two measurements of a worker's memory.
    pub(crate) weigh_every: Time,
    /// How many bytes may be on their way to a busy worker.
    pub(crate) unhindered: usize,
    /// How many bytes a frame with more than one call may have.
    pub(crate) frame: usize,
    /// How many unread frames the transport may hold.
    pub(crate) frames: usize,
    /// How many calls may be in flight at one seat.
    pub(crate) calls: usize,
    /// The shortest expected duration of a call: the transport's own cost.
    pub(crate) shortest: Time,
    /// How much longer than its timeout a call may stay at the front of a seat, whatever its worker claims.
    pub(crate) grace: Time,
    /// Whether it is counted how many bytes the arguments of calls have.
    pub(crate) counts_bytes: bool,
}

impl Limits {
    /// How long a worker may take to start its first call, though it did not fail to start others: far longer than any
    /// machine is slow, and twice as long as the one before it.
    pub(super) fn useless<W: ?Sized>(&self, calls: &CallRange<W>) -> Time {
        /// So many times the grace.
        const USELESS: Time = 15;
        (USELESS * self.grace) << calls.moves.min(10)
    }

    /// No limits.
    pub(crate) const NONE: Self = Self {
        tasks_per_child: u64::MAX,
        memory_per_child: u64::MAX,
        memory: u64::MAX,
        age_per_child: Time::MAX,
        exit_grace: Time::MAX,
        until_gone: false,
        terminate_grace: 0,
        retry_delay: 0,
        weigh_every: 0,
        unhindered: usize::MAX,
        frame: usize::MAX,
        frames: usize::MAX,
        calls: usize::MAX,
        shortest: 0,
        grace: 2_000_000_000,
        counts_bytes: false,
    };
}
