//! What the dispatcher keeps: calls that wait or are in flight, seats, and what it wants done.

use crate::{
    dossier::Ran,
    error::Error,
    policy::Policy,
    pool::dispatcher::{Time, watch::Watch},
    protocol::CallHeader,
};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// Calls of one task that were submitted together.
pub(crate) trait Work {
    /// The task's name.
    fn task(&self) -> &'static str;

    /// The first call's job; the others' follow.
    fn first_job(&self) -> u64;

    /// How many bytes these calls take in a frame, about.
    fn size(&self, calls: Range<u32>) -> usize;

    /// What each of them may take.
    fn policy(&self) -> &Policy;
}

/// Names what was submitted together.
pub(crate) type Ticket = u64;

/// Calls that wait: those from `next` to `end`.
#[derive(Debug)]
pub(super) struct Waiting<W: ?Sized> {
    pub(super) ticket: Ticket,
    pub(super) work: Arc<W>,
    pub(super) next: u32,
    pub(super) end: u32,
    /// From 1: how often they have been started, and once more.
    pub(super) attempt: u32,
    /// How many workers have died that had been sent these calls, before they started any; that many at the least,
    /// where there is no counting further.
    pub(super) deaths: u16,
    /// Have they been started in an earlier attempt?
    pub(super) ran: Ran,
}

/// What was done for a call until now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub(super) attempts: u32,
    pub(super) ran: Ran,
}

impl Tried {
    fn before(attempt: u32, ran: Ran) -> Self {
        Self { attempts: attempt.saturating_sub(1).max(1), ran }
    }
}

impl<W: ?Sized> Waiting<W> {
    /// In the attempts before the one that it waits for.
    pub(super) fn tried(&self) -> Tried {
        Tried::before(self.attempt, self.ran)
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.next) as usize
    }
}

/// Calls that were sent to a worker, one after the other, and have not ended: those from `next` to `end`.
#[derive(Debug)]
pub(crate) struct Flight<W: ?Sized> {
    pub(super) ticket: Ticket,
    pub(crate) work: Arc<W>,
    pub(crate) next: u32,
    pub(crate) end: u32,
    pub(super) attempt: u32,
    pub(super) deaths: u16,
    /// Have they been started in an earlier attempt?
    pub(super) ran: Ran,
    /// The number of the call `next`.
    pub(super) number: u32,
    /// How long each was expected to take when it was sent.
    pub(super) expected: Time,
    /// Their user has given them up; what is to be done about it depends on which have started.
    pub(super) cancelled: bool,
}

impl<W: ?Sized> Clone for Flight<W> {
    fn clone(&self) -> Self {
        Self { work: self.work.clone(), ..*self }
    }
}

impl<W: ?Sized> Flight<W> {
    /// In all attempts, with this one.
    pub(super) fn tried(&self) -> Tried {
        Tried { attempts: self.attempt, ran: self.ran }
    }

    /// In the attempts before this one.
    pub(super) fn tried_before(&self) -> Tried {
        Tried::before(self.attempt, self.ran)
    }

    pub(super) fn len(&self) -> u32 {
        self.end - self.next
    }

    pub(super) fn last_number(&self) -> u32 {
        self.number.wrapping_add(self.len()).wrapping_sub(1)
    }

    /// How long all of it is expected to take.
    pub(super) fn ahead(&self) -> Time {
        self.expected * Time::from(self.len())
    }

    /// Cuts off what is behind the call of this number. None if nothing is.
    pub(super) fn split_after(&mut self, number: u32) -> Option<Self> {
        let kept = number.wrapping_sub(self.number).wrapping_add(1);
        let kept = if super::is_after(self.number, number) { 0 } else { kept.min(self.len()) };
        if kept == self.len() {
            return None;
        }
        let back = Self { next: self.next + kept, number: self.number.wrapping_add(kept), ..self.clone() };
        self.end = back.next;
        Some(back)
    }
}

impl<W: ?Sized + Work> Flight<W> {
    /// What the first of them is called.
    pub(crate) fn header(&self) -> CallHeader {
        self.header_of(self.next)
    }

    /// What one of them is called.
    pub(super) fn header_of(&self, index: u32) -> CallHeader {
        let number = self.number.wrapping_add(index - self.next);
        let timing = self.work.policy().timing();
        CallHeader { job: self.work.first_job() + u64::from(index), attempt: self.attempt, number, timing }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Effect<W: ?Sized> {
    /// Send the calls of these numbers, which [`flights`](super::Dispatcher::flights) tells, after all that was sent to
    /// the seat before.
    Send { seat: usize, epoch: u32, generation: u32, first: u32, last: u32 },
    /// Take back what has not started, and say so with [`taken_back`](super::Dispatcher::taken_back).
    TakeBack { seat: usize, epoch: u32, generation: u32 },
    /// Let the worker finish and exit.
    Stop { seat: usize, epoch: u32 },
    /// Kill the worker.
    Kill { seat: usize, epoch: u32 },
    /// Look what the worker is doing, and say so with [`seen`](super::Dispatcher::seen). Its memory too?
    Look { seat: usize, epoch: u32, memory: bool },
    /// Tell that calls have ended with values: those of the reports from this number on.
    Values { work: Arc<W>, first: u32, count: u32, number: u32 },
    /// Tell how a call failed.
    Failed { work: Arc<W>, index: u32, error: Error },
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
pub(super) struct Seat<W: ?Sized> {
    pub(super) phase: Phase,
    pub(super) epoch: u32,
    pub(super) generation: u32,
    /// The number of the latest call sent.
    pub(super) sent: u32,
    /// In the order of their numbers.
    pub(super) in_flight: VecDeque<Flight<W>>,
    /// How many calls that are.
    pub(super) calls: usize,
    /// Frames that the worker may not have read yet: the number of the last call in each, and how large it is. Also
    /// those whose calls were taken back: they still lie between here and there.
    pub(super) unread: VecDeque<(u32, usize)>,
    pub(super) unread_bytes: usize,
    /// How many starts have failed here one after another.
    pub(super) failures: u32,
    /// How long what is in flight is expected to take.
    pub(super) ahead: Time,
    /// The task of the call that was reported last.
    pub(super) task: &'static str,
    /// The number of the latest call that is known to have started, from the last time something was taken back.
    pub(super) started: u32,
    /// What has not started is being taken back: nothing new is sent until that is done.
    pub(super) recalling: bool,
    /// How often calls were taken back for others since it has reported anything.
    pub(super) relieved: u32,
    /// Calls given to this process.
    pub(super) given: u64,
    /// Calls this process has finished.
    pub(super) finished: u64,
    /// Calls finished at this seat.
    pub(super) done: u64,
    pub(super) ready_at: Time,
    pub(super) progress: Time,
    pub(super) watch: Watch,
}

impl<W: ?Sized> Seat<W> {
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
