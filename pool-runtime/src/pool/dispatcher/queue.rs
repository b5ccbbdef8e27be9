//! The calls that wait, in the order in which they are to go, with their own counts.
//!
//! | | goes | |
//! |---|---|---|
//! | returned | first | came back from a worker before it had started |
//! | submitted | then | in the order of submission, found by ticket |
//! | delayed | when its time has come, as returned | is tried again |
//!
//! Nothing else of the dispatcher knows how they are kept, so another order fits in here.

use crate::pool::dispatcher::events::{Ticket, Time};
use crate::pool::dispatcher::range::CallRange;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Queue<W: ?Sized> {
    /// The first one has the ticket `first_ticket`. Cancelled ones are empty.
    submitted: VecDeque<CallRange<W>>,
    first_ticket: Ticket,
    returned: VecDeque<CallRange<W>>,
    /// In the order of their times. None is empty.
    delayed: Vec<(Time, CallRange<W>)>,
    ready_calls: usize,
    delayed_calls: usize,
}

impl<W: ?Sized> Default for Queue<W> {
    fn default() -> Self {
        Self {
            submitted: VecDeque::new(),
            first_ticket: 0,
            returned: VecDeque::new(),
            delayed: Vec::new(),
            ready_calls: 0,
            delayed_calls: 0,
        }
    }
}

impl<W: ?Sized> Queue<W> {
    /// How many calls could go now.
    pub(super) fn ready(&self) -> usize {
        self.ready_calls
    }

    /// How many calls wait, with those whose time has not come.
    pub(super) fn len(&self) -> usize {
        self.ready_calls + self.delayed_calls
    }

    /// Adds calls behind all others.
    pub(super) fn push(&mut self, work: Arc<W>, calls: u32) -> Ticket {
        let ticket = self.first_ticket + self.submitted.len() as u64;
        self.ready_calls += calls as usize;
        self.submitted.push_back(CallRange::new(ticket, work, calls));
        ticket
    }

    /// Puts calls before all others. Those that were submitted side by side are one range again.
    pub(super) fn put_back(&mut self, range: CallRange<W>) {
        self.ready_calls += range.len() as usize;
        match self.returned.front_mut() {
            Some(front) if front.continues(&range) => front.next = range.next,
            _ => self.returned.push_front(range),
        }
    }

    /// Keeps calls until this time; then they go before those that were submitted.
    pub(super) fn delay(&mut self, until: Time, range: CallRange<W>) {
        self.delayed_calls += range.len() as usize;
        let behind = self.delayed.partition_point(|(other, _)| *other <= until);
        self.delayed.insert(behind, (until, range));
    }

    /// When the next delayed calls are due.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// Lets the delayed calls go whose time has come. Says whether there were any.
    pub(super) fn release_due(&mut self, now: Time) -> bool {
        let due = self.delayed.partition_point(|(at, _)| *at <= now);
        for (_, range) in self.delayed.drain(..due) {
            self.delayed_calls -= range.len() as usize;
            self.ready_calls += range.len() as usize;
            self.returned.push_back(range);
        }
        due > 0
    }

    /// The calls that go next.
    pub(super) fn front(&self) -> Option<&CallRange<W>> {
        self.returned.front().or_else(|| self.submitted.front()).filter(|range| range.len() > 0)
    }

    /// Takes so many calls off the [front](Self::front).
    pub(super) fn take(&mut self, calls: u32) -> Option<CallRange<W>> {
        let range = self.returned.front_mut().or_else(|| self.submitted.front_mut())?;
        let taken = range.take(calls);
        self.ready_calls -= taken.len() as usize;
        self.drop_empty();
        Some(taken)
    }

    /// What has been given out must not be kept in memory by a range that has nothing left.
    fn drop_empty(&mut self) {
        while self.returned.pop_front_if(|range| range.len() == 0).is_some() {}
        while self.submitted.pop_front_if(|range| range.len() == 0).is_some() {
            self.first_ticket += 1;
        }
    }

    /// Takes out what waits of a submission.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Vec<CallRange<W>> {
        let returned = std::mem::take(&mut self.returned).into_iter();
        let (mut taken, kept): (Vec<_>, Vec<_>) = returned.partition(|range| range.ticket == ticket);
        self.returned = kept.into();
        let position = ticket.checked_sub(self.first_ticket).map(|position| position as usize);
        // Its place is kept: tickets are positions.
        taken.extend(
            position.and_then(|position| self.submitted.get_mut(position)).map(|range| range.take(range.len())),
        );
        taken.retain(|range| range.len() > 0);
        self.ready_calls -= calls(&taken);
        let delayed: Vec<_> =
            self.delayed.extract_if(.., |(_, range)| range.ticket == ticket).map(|(_, range)| range).collect();
        self.delayed_calls -= calls(&delayed);
        self.drop_empty();
        taken.extend(delayed);
        taken
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<CallRange<W>> {
        (self.ready_calls, self.delayed_calls) = (0, 0);
        self.first_ticket += self.submitted.len() as u64;
        let delayed = self.delayed.drain(..).map(|(_, range)| range);
        self.returned.drain(..).chain(delayed).chain(self.submitted.drain(..)).collect()
    }
}

#[cfg(test)]
impl<W: ?Sized> Queue<W> {
    /// What is always true.
    pub(super) fn check(&self) {
        let ready = self.submitted.iter().chain(&self.returned).map(|range| range.len() as usize).sum::<usize>();
        assert_eq!(ready, self.ready_calls);
        let delayed = self.delayed.iter().map(|(_, range)| range.len() as usize).sum::<usize>();
        assert_eq!(delayed, self.delayed_calls);
        assert!(self.delayed.is_sorted_by_key(|(at, _)| *at));
        assert!(self.delayed.iter().all(|(_, range)| range.len() > 0));
        assert_eq!(self.front().is_some(), ready > 0, "what goes next is found");
    }

    /// The submission of which calls are tried again next.
    pub(super) fn next_delayed(&self) -> Option<Ticket> {
        self.delayed.first().map(|(_, range)| range.ticket)
    }
}

fn calls<W: ?Sized>(ranges: &[CallRange<W>]) -> usize {
    ranges.iter().map(|range| range.len() as usize).sum()
}
