//! What others ask the dispatcher: nothing here changes it.

use crate::pool::dispatcher::events::{Counts, MILLISECOND, Time, Work};
use crate::pool::dispatcher::machine::{Dispatcher, Over};
use crate::pool::dispatcher::range::{Flight, is_after};
use crate::pool::dispatcher::seat::{Phase, Seat};

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn is_over(&self) -> bool {
        self.over != Over::No
    }

    /// Every seat is empty for good, and so nothing is left to be told.
    pub(crate) fn is_finished(&self) -> bool {
        // What runs where it was submitted is waited for, unless the pool was terminated.
        let inline = self.inline_calls > 0 && self.over != Over::Terminated;
        !inline && self.seats.iter().all(|seat| seat.phase() == Phase::Closed)
    }

    /// How often what has not started was taken back from the process at a seat.
    pub(crate) fn generation(&self, seat: usize) -> u32 {
        self.seats[seat].generation
    }

    /// At how many seats there is, or may be again, a process.
    pub(crate) fn open_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.phase() != Phase::Closed).count()
    }

    pub(crate) fn is_starting(&self, seat: usize) -> bool {
        self.seats[seat].phase() == Phase::Starting
    }

    /// Has a worker been told to exit, and may take its time?
    pub(crate) fn is_leaving(&self, seat: usize) -> bool {
        self.seats[seat].phase() == Phase::Leaving
    }

    pub(crate) fn ever_ready(&self) -> bool {
        self.ever_ready
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            waiting: self.queue.len(),
            running: self.in_flight_calls + self.inline_calls,
            done: self.done,
            failed: self.failed,
        }
    }

    /// What was sent to a seat with these numbers.
    pub(crate) fn flights(&self, seat: usize, first: u32, last: u32) -> impl Iterator<Item = &Flight<W>> {
        let flights = &self.seats[seat].in_flight;
        let start = flights.partition_point(|flight| is_after(first, flight.number));
        flights.range(start..).take_while(move |flight| !is_after(flight.number, last))
    }

    /// How many seats have calls in flight, while processes wait there.
    pub(crate) fn busy_seats(&self) -> usize {
        self.ready_seats - self.idle.len()
    }

    /// How many calls have ended, in whatever way.
    pub(crate) fn ended(&self) -> u64 {
        self.done + self.failed
    }

    /// Are calls in flight anywhere?
    pub(crate) fn any_in_flight(&self) -> bool {
        self.in_flight_calls > 0
    }

    /// For how long nobody needs to look at reports: how long the workers have enough to do, if all who have something
    /// to do have many short calls. A result that comes meanwhile may be late by `patience`.
    pub(crate) fn rest(&self, now: Time, patience: Time) -> Option<Time> {
        const MANY: usize = 4;
        /// So many results are still in the processor's cache.
        const WARM: Time = 3000;
        let busy = self.seats.iter().filter(|seat| seat.calls > 0 && seat.phase() == Phase::Ready);
        let rest = |seat: &Seat<W>| {
            let expected = seat.in_flight.front().map(|flight| flight.expected).filter(|time| *time <= patience)?;
            // One that shows no progress has met a call that is not short.
            let goes_on = now.saturating_sub(seat.progress) < MILLISECOND;
            (goes_on && seat.calls >= MANY).then_some((seat.ahead / 2).min(WARM * expected))
        };
        busy.map(rest)
            .try_fold(Time::MAX, |least, rest| rest.map(|rest| least.min(rest)))
            .filter(|rest| *rest < Time::MAX)
            .map(|rest| rest.min(patience))
    }

    /// Has a seat calls in flight?
    pub(crate) fn is_busy(&self, seat: usize) -> bool {
        !self.seats[seat].in_flight.is_empty()
    }

    /// Of a seat: is a process there, does it have work, and how many calls were finished there.
    pub(crate) fn seat(&self, seat: usize) -> (bool, bool, u64) {
        let seat = &self.seats[seat];
        (seat.phase() == Phase::Ready, !seat.in_flight.is_empty(), seat.done)
    }
}
