//! What the dispatcher keeps: batches, calls that wait or are in flight, seats, and what it wants done.

use super::Time;
use crate::{error::Error, protocol::CallHeader};
use std::{collections::VecDeque, sync::Arc};

/// Calls of one task that were submitted together, with whom to tell how they end.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    pub(crate) task: &'static str,
    /// The first call's job; the others' follow.
    pub(crate) first_job: u64,
    /// The encoded arguments of all calls, one after the other.
    pub(crate) arguments: Vec<u8>,
    /// Where the arguments of each call end.
    pub(crate) ends: Vec<usize>,
    pub(crate) sink: S,
}

impl<S> Batch<S> {
    pub(crate) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    pub(crate) fn arguments(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.arguments[start..self.ends[index]]
    }
}

/// Names a submitted batch.
pub(crate) type Ticket = u64;

/// Calls of one batch that wait: those from `next` to `end`.
#[derive(Debug)]
pub(super) struct Waiting<S> {
    pub(super) ticket: Ticket,
    pub(super) batch: Arc<Batch<S>>,
    pub(super) next: u32,
    pub(super) end: u32,
    pub(super) attempt: u32,
    /// How many workers have died that had been sent these calls, before they started any.
    pub(super) deaths: u32,
}

impl<S> Waiting<S> {
    pub(super) fn len(&self) -> usize {
        (self.end - self.next) as usize
    }
}

/// A call that was sent to a worker.
#[derive(Debug)]
pub(crate) struct Flight<S> {
    pub(super) ticket: Ticket,
    pub(crate) batch: Arc<Batch<S>>,
    pub(crate) index: u32,
    pub(super) attempt: u32,
    pub(super) deaths: u32,
    pub(super) number: u32,
    /// How long it was expected to take when it was sent.
    pub(super) expected: Time,
    /// Its user has given it up; what is to be done about it depends on whether it has started.
    pub(super) cancelled: bool,
}

impl<S> Clone for Flight<S> {
    fn clone(&self) -> Self {
        Self { batch: self.batch.clone(), ..*self }
    }
}

impl<S> Flight<S> {
    pub(crate) fn header(&self) -> CallHeader {
        CallHeader { job: self.batch.first_job + u64::from(self.index), attempt: self.attempt, number: self.number }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Effect<S> {
    /// Send these calls, in this order, after all that was sent to the seat before.
    Send { seat: usize, epoch: u32, generation: u32, calls: Vec<Flight<S>> },
    /// Take back what has not started, and say so with [`Dispatcher::taken_back`].
    TakeBack { seat: usize, epoch: u32, generation: u32 },
    /// Let the worker finish and exit.
    Stop { seat: usize, epoch: u32 },
    /// Kill the worker.
    Kill { seat: usize, epoch: u32 },
    /// Tell how a call ended.
    Finish { batch: Arc<Batch<S>>, index: u32, result: Result<Vec<u8>, Error> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No process. One may be started from this time on.
    Empty { not_before: Time },
    /// A process is on its way in.
    Starting,
    /// Takes calls.
    Ready,
    /// Exits when it is through; takes no more calls.
    Leaving,
    /// Is being killed.
    Doomed,
    /// No process, and none will be started.
    Closed,
}

#[derive(Debug)]
pub(super) struct Seat<S> {
    pub(super) phase: Phase,
    pub(super) epoch: u32,
    pub(super) generation: u32,
    /// The number of the latest call sent.
    pub(super) sent: u32,
    /// In the order of their numbers.
    pub(super) in_flight: VecDeque<Flight<S>>,
    /// Frames that the worker may not have read yet: the number of the last call in each, and how large it is. Also
    /// those whose calls were taken back: they still lie between here and there.
    pub(super) unread: VecDeque<(u32, usize)>,
    pub(super) unread_bytes: usize,
    /// How many starts have failed here one after another.
    pub(super) failures: u32,
    /// How long those are expected to take.
    pub(super) ahead: Time,
    /// The number of the latest call that is known to have started, from the last time something was taken back.
    pub(super) started: u32,
    /// What has not started is being taken back: nothing new is sent until that is done.
    pub(super) recalling: bool,
    /// Calls given to this process.
    pub(super) given: u64,
    /// Calls this process has finished.
    pub(super) finished: u64,
    /// Calls finished at this seat.
    pub(super) done: u64,
    pub(super) ready_at: Time,
    pub(super) progress: Time,
}

impl<S> Seat<S> {
    /// The worker has come as far as this call; whatever frames lie before it have been read.
    pub(super) fn has_read(&mut self, number: u32) {
        let nothing_left = self.in_flight.is_empty();
        while let Some((_, bytes)) =
            self.unread.pop_front_if(|(last, _)| nothing_left || !super::is_after(*last, number))
        {
            self.unread_bytes -= bytes;
        }
    }
}

/// What an attendant of a seat is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Start a process of this epoch.
    Now { epoch: u32 },
    /// Ask again at this time.
    NotBefore(Time),
    /// The seat stays empty.
    Never,
}

/// How work ends for all.
#[derive(Clone, Debug)]
pub(super) enum Over {
    No,
    /// No new work; what is there is done.
    Closed,
    /// No work at all.
    Terminated,
    /// The workers cannot start.
    Failed(Error),
}

/// What the public `PoolStats` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// Limits that the user chooses, or the transport has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many calls a process gets before it is replaced.
    pub(crate) tasks_per_child: u64,
    /// How many bytes may be on their way to a worker that is busy.
    pub(crate) unhindered: usize,
}
