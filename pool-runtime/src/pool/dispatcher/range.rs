//! Ranges of calls that were submitted together, waiting or in flight.

use crate::dossier::Ran;
use crate::pool::dispatcher::{Reach, Ticket, Time, Work};
use crate::protocol::CallHeader;
use std::ops::Range;
use std::sync::Arc;

/// Calls of one submission: those from `next` to `end`.
#[derive(Debug)]
pub(crate) struct CallRange<W: ?Sized> {
    pub(super) ticket: Ticket,
    pub(crate) work: Arc<W>,
    pub(crate) next: u32,
    pub(crate) end: u32,
    /// The number of the present or next attempt, from 1.
    pub(super) attempt: u32,
    /// How many workers died that were to start these calls next and started none. Saturates.
    pub(super) deaths: u16,
    /// How often these calls were taken back from a worker that was to start them next. Saturates.
    pub(super) moves: u8,
    /// Did an earlier attempt run?
    pub(super) ran: Ran,
}

impl<W: ?Sized> Clone for CallRange<W> {
    fn clone(&self) -> Self {
        Self { work: self.work.clone(), ..*self }
    }
}

impl<W: ?Sized> CallRange<W> {
    pub(crate) fn len(&self) -> u32 {
        self.end - self.next
    }

    /// Their indices in the submission.
    pub(crate) fn range(&self) -> Range<u32> {
        self.next..self.end
    }

    /// The attempts before the present one, which did not start; at least 1, as users are told.
    pub(super) fn attempts_before(&self) -> u32 {
        self.attempt.saturating_sub(1).max(1)
    }

    /// Does this range belong to one of these submissions, which are in ascending order?
    pub(super) fn is_of(&self, tickets: &[Ticket]) -> bool {
        tickets.binary_search(&self.ticket).is_ok()
    }

    /// Takes so many calls off the front.
    pub(super) fn take(&mut self, calls: u32) -> Self {
        let front = Self { end: self.next + calls, ..self.clone() };
        self.next = front.end;
        front
    }

    /// Does this range directly follow the `other`, with the same history?
    pub(super) fn continues(&self, other: &Self) -> bool {
        (self.ticket, self.next) == (other.ticket, other.end)
            && (self.attempt, self.deaths, self.ran) == (other.attempt, other.deaths, other.ran)
            && self.moves == other.moves
    }
}

/// Calls that were sent to a worker one after the other and have not ended.
#[derive(Debug)]
pub(crate) struct Flight<W: ?Sized> {
    pub(crate) calls: CallRange<W>,
    /// The number of the first call.
    pub(super) number: u32,
    /// How long each call was expected to take when it was sent.
    pub(super) expected: Time,
    /// Cancelled by the user. The calls stay until it is known which of them have started.
    pub(super) cancelled: Option<Reach>,
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

    /// Does its result not count, even if it has started?
    pub(super) fn is_given_up(&self) -> bool {
        self.cancelled == Some(Reach::Running)
    }

    pub(super) fn has(&self, number: u32) -> bool {
        number.wrapping_sub(self.number) < self.len()
    }

    pub(super) fn take(&mut self, calls: u32) -> Self {
        let front = Self { calls: self.calls.take(calls), ..*self };
        self.number = self.number.wrapping_add(calls);
        front
    }

    /// Removes the calls after the one of this number, if there are any.
    pub(super) fn split_after(&mut self, number: u32) -> Option<Self> {
        let kept = number.wrapping_sub(self.number).wrapping_add(1);
        let kept = if is_after(self.number, number) { 0 } else { kept.min(self.len()) };
        (kept < self.len()).then(|| {
            let front = self.take(kept);
            std::mem::replace(self, front)
        })
    }
}

impl<W: ?Sized + Work> Flight<W> {
    /// The header of the call of this index in its submission.
    pub(crate) fn header_of(&self, index: u32) -> CallHeader {
        let number = self.number.wrapping_add(index - self.calls.next);
        let work = &self.calls.work;
        let timing = work.policy().timing();
        CallHeader { job: work.first_job() + u64::from(index), attempt: self.calls.attempt, number, timing }
    }
}

/// Compares numbers that wrap around: those in flight are far fewer than half of all.
pub(crate) fn is_after(number: u32, claimed: u32) -> bool {
    number.wrapping_sub(claimed) as i32 > 0
}
