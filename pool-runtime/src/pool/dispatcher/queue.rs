//! The calls that wait, in the order in which they are to be sent, with their counts.
//!
//! | | sent | |
//! |---|---|---|
//! | returned | first | taken back from a worker before they started |
//! | submitted | next | in the order of submission, found by ticket |
//! | delayed | as returned, once due | to be tried again |
//!
//! No other module knows how they are kept, so that another order, such as that of priorities, is made here: a call's
//! priority would come with [`push`](CallQueue::push), from its policy.

use crate::dossier::Ran;
use crate::pool::dispatcher::{CallRange, NEVER, Ticket, Time};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct CallQueue<W: ?Sized> {
    /// The first one has the ticket `first_ticket`. Cancelled ones are empty.
    submitted: VecDeque<CallRange<W>>,
    first_ticket: Ticket,
    /// None is empty.
    returned: VecDeque<CallRange<W>>,
    /// In the order of their times. None is empty.
    delayed: Vec<(Time, CallRange<W>)>,
    ready_calls: usize,
    delayed_calls: usize,
}

impl<W: ?Sized> CallQueue<W> {
    pub(super) fn new() -> Self {
        let (submitted, returned) = (VecDeque::new(), VecDeque::new());
        Self { submitted, first_ticket: 0, returned, delayed: Vec::new(), ready_calls: 0, delayed_calls: 0 }
    }

    /// How many calls could be sent now.
    pub(super) fn ready(&self) -> usize {
        self.ready_calls
    }

    /// How many calls wait, including the delayed ones.
    pub(super) fn len(&self) -> usize {
        self.ready_calls + self.delayed_calls
    }

    /// Adds calls behind all others.
    #[inline]
    pub(super) fn push(&mut self, work: Arc<W>, calls: u32) -> Ticket {
        let ticket = self.first_ticket + self.submitted.len() as u64;
        self.ready_calls += calls as usize;
        let range = CallRange { ticket, work, next: 0, end: calls, attempt: 1, deaths: 0, moves: 0, ran: Ran::No };
        self.submitted.push_back(range);
        ticket
    }

    /// Puts calls before all others. Adjacent ones of a submission become one range again.
    pub(super) fn put_back(&mut self, range: CallRange<W>) {
        self.ready_calls += range.len() as usize;
        match self.returned.front_mut() {
            Some(front) if front.continues(&range) => front.next = range.next,
            _ => self.returned.push_front(range),
        }
    }

    /// Keeps calls until this time. Then they are sent before the submitted ones.
    pub(super) fn delay(&mut self, until: Time, range: CallRange<W>) {
        self.delayed_calls += range.len() as usize;
        let behind = self.delayed.partition_point(|(other, _)| *other <= until);
        self.delayed.insert(behind, (until, range));
    }

    /// When the next delayed calls are due.
    pub(super) fn next_due(&self) -> Time {
        self.delayed.first().map_or(NEVER, |(at, _)| *at)
    }

    /// Makes delayed calls ready that are due. Returns whether there were any.
    pub(super) fn release_due(&mut self, now: Time) -> bool {
        let due = self.delayed.partition_point(|(at, _)| *at <= now);
        for (_, range) in self.delayed.drain(..due) {
            self.delayed_calls -= range.len() as usize;
            self.ready_calls += range.len() as usize;
            self.returned.push_back(range);
        }
        due > 0
    }

    /// The calls to be sent next.
    #[inline]
    pub(super) fn front(&self) -> Option<&CallRange<W>> {
        self.returned.front().or_else(|| self.submitted.front()).filter(|range| range.len() > 0)
    }

    /// Takes so many calls off the [front](Self::front).
    #[inline]
    pub(super) fn take(&mut self, calls: u32) -> Option<CallRange<W>> {
        let range = self.returned.front_mut().or_else(|| self.submitted.front_mut())?;
        let taken = range.take(calls);
        self.ready_calls -= taken.len() as usize;
        self.drop_empty();
        Some(taken)
    }

    /// An empty range must not keep its arguments in memory.
    fn drop_empty(&mut self) {
        while self.returned.pop_front_if(|range| range.len() == 0).is_some() {}
        while self.submitted.pop_front_if(|range| range.len() == 0).is_some() {
            self.first_ticket += 1;
        }
    }

    /// Removes the waiting calls of these submissions, which are in ascending order.
    pub(super) fn cancel(&mut self, tickets: &[Ticket]) -> VecDeque<CallRange<W>> {
        let returned = std::mem::take(&mut self.returned).into_iter();
        let (mut taken, kept): (VecDeque<_>, _) = returned.partition(|range| range.is_of(tickets));
        self.returned = kept;
        for ticket in tickets {
            // The range keeps its place, as a ticket is a position.
            let submitted = ticket.checked_sub(self.first_ticket).and_then(|at| self.submitted.get_mut(at as usize));
            taken.extend(submitted.map(|range| range.take(range.len())).filter(|range| range.len() > 0));
        }
        self.ready_calls -= taken.iter().map(|range| range.len() as usize).sum::<usize>();
        for (_, range) in self.delayed.extract_if(.., |(_, range)| range.is_of(tickets)) {
            self.delayed_calls -= range.len() as usize;
            taken.push_back(range);
        }
        self.drop_empty();
        taken
    }

    pub(super) fn drain(&mut self) -> Vec<CallRange<W>> {
        (self.ready_calls, self.delayed_calls) = (0, 0);
        self.first_ticket += self.submitted.len() as u64;
        let delayed = self.delayed.drain(..).map(|(_, range)| range);
        self.returned.drain(..).chain(delayed).chain(self.submitted.drain(..)).collect()
    }
}

#[cfg(test)]
impl<W: ?Sized> CallQueue<W> {
    /// Checks the invariants.
    pub(super) fn check(&self) {
        let ready = self.submitted.iter().chain(&self.returned).map(|range| range.len() as usize).sum::<usize>();
        assert_eq!(ready, self.ready_calls);
        let delayed = self.delayed.iter().map(|(_, range)| range.len() as usize).sum::<usize>();
        assert_eq!(delayed, self.delayed_calls);
        assert!(self.delayed.is_sorted_by_key(|(at, _)| *at));
        assert!(self.delayed.iter().all(|(_, range)| range.len() > 0));
        assert_eq!(self.front().is_some(), ready > 0, "what goes next is found");
    }

    /// The submission of the next delayed calls.
    pub(super) fn next_delayed(&self) -> Option<Ticket> {
        self.delayed.first().map(|(_, range)| range.ticket)
    }
}
