//! The limits of a pool, which its user chooses or its transport has.

use crate::pool::dispatcher::events::Time;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many calls a process gets before it is replaced.
    pub(crate) tasks_per_child: u64,
    /// How many bytes of memory a process may have when it starts a call.
    pub(crate) memory_per_child: u64,
    /// How old a process may be when it starts a call.
    pub(crate) age_per_child: Time,
    /// How long a call waits before it is tried again, the first time; each time it is twice as long.
    pub(crate) retry_delay: Time,
    /// How often the memory of a worker is looked at.
    pub(crate) weigh_every: Time,
    /// How many bytes may be on their way to a worker that is busy.
    pub(crate) unhindered: usize,
    /// How many bytes one frame has, if it has more than one call.
    pub(crate) frame: usize,
    /// How many frames may lie unread between here and a worker.
    pub(crate) frames: usize,
    /// How many calls may be in flight at one seat.
    pub(crate) calls: usize,
    /// No call is taken to be shorter, as its transport is not.
    pub(crate) shortest: Time,
}

impl Limits {
    /// Nothing is limited.
    pub(crate) const NONE: Self = Self {
        tasks_per_child: u64::MAX,
        memory_per_child: u64::MAX,
        age_per_child: Time::MAX,
        retry_delay: 0,
        weigh_every: 0,
        unhindered: usize::MAX,
        frame: usize::MAX,
        frames: usize::MAX,
        calls: usize::MAX,
        shortest: 0,
    };
}
