//! Calls that stay together: a range of those that were submitted together, waiting or in flight.

use crate::dossier::Ran;
use crate::pool::dispatcher::events::{Ticket, Time, Work};
use crate::protocol::CallHeader;
use std::sync::Arc;

/// Calls of one submission: those from `next` to `end`.
#[derive(Debug)]
pub(crate) struct CallRange<W: ?Sized> {
    pub(super) ticket: Ticket,
    pub(crate) work: Arc<W>,
    pub(crate) next: u32,
    pub(crate) end: u32,
    /// From 1: how often they have been started, and once more.
    pub(super) attempt: u32,
    /// How many workers have died that had been sent these calls, before they started any. It stays at its maximum.
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

impl<W: ?Sized> Clone for CallRange<W> {
    fn clone(&self) -> Self {
        Self { work: self.work.clone(), ..*self }
    }
}

impl<W: ?Sized> CallRange<W> {
    pub(super) fn new(ticket: Ticket, work: Arc<W>, calls: u32) -> Self {
        Self { ticket, work, next: 0, end: calls, attempt: 1, deaths: 0, ran: Ran::No }
    }

    pub(crate) fn len(&self) -> u32 {
        self.end - self.next
    }

    /// In the attempts before the present one.
    pub(super) fn tried_before(&self) -> Tried {
        Tried { attempts: self.attempt.saturating_sub(1).max(1), ran: self.ran }
    }

    /// In all attempts, with the present one.
    pub(super) fn tried(&self) -> Tried {
        Tried { attempts: self.attempt, ran: self.ran }
    }

    /// Takes so many calls off the front.
    pub(super) fn take(&mut self, calls: u32) -> Self {
        let front = Self { end: self.next + calls, ..self.clone() };
        self.next = front.end;
        front
    }

    /// Is this the range right behind the `other`, and is the same known of both?
    pub(super) fn continues(&self, other: &Self) -> bool {
        (self.ticket, self.next) == (other.ticket, other.end)
            && (self.attempt, self.deaths, self.ran) == (other.attempt, other.deaths, other.ran)
    }
}

/// Calls that were sent to a worker, one after the other, and have not ended.
#[derive(Debug)]
pub(crate) struct Flight<W: ?Sized> {
    pub(crate) calls: CallRange<W>,
    /// The number of the first of them.
    pub(super) number: u32,
    /// How long each was expected to take when it was sent.
    pub(super) expected: Time,
    /// Their user has given them up; what is to be done about it depends on which have started.
    pub(super) cancelled: bool,
}

impl<W: ?Sized> Flight<W> {
    pub(super) fn len(&self) -> u32 {
        self.calls.len()
    }

    pub(super) fn last_number(&self) -> u32 {
        self.number.wrapping_add(self.len()).wrapping_sub(1)
    }

    /// How long all of it is expected to take.
    pub(super) fn ahead(&self) -> Time {
        self.expected * Time::from(self.len())
    }

    pub(super) fn has(&self, number: u32) -> bool {
        number.wrapping_sub(self.number) < self.len()
    }

    /// Takes so many calls off the front.
    pub(super) fn take(&mut self, calls: u32) -> Self {
        let front = Self { calls: self.calls.take(calls), ..*self };
        self.number = self.number.wrapping_add(calls);
        front
    }

    /// Cuts off what is behind the call of this number. None if nothing is.
    pub(super) fn split_after(&mut self, number: u32) -> Option<Self> {
        let kept = number.wrapping_sub(self.number).wrapping_add(1);
        let kept = if is_after(self.number, number) { 0 } else { kept.min(self.len()) };
        if kept == self.len() {
            return None;
        }
        let front = self.take(kept);
        Some(std::mem::replace(self, front))
    }
}

impl<W: ?Sized + Work> Flight<W> {
    /// The header of the first of them.
    pub(crate) fn header(&self) -> CallHeader {
        self.header_of(self.calls.next)
    }

    /// The header of the call of this index in its submission.
    pub(super) fn header_of(&self, index: u32) -> CallHeader {
        let number = self.number.wrapping_add(index - self.calls.next);
        let work = &self.calls.work;
        let timing = work.policy().timing();
        CallHeader { job: work.first_job() + u64::from(index), attempt: self.calls.attempt, number, timing }
    }
}

/// Numbers wrap around; what is in flight is far less than half of them.
pub(super) fn is_after(number: u32, claimed: u32) -> bool {
    number.wrapping_sub(claimed) as i32 > 0
}
