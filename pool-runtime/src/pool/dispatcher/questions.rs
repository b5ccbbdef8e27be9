//! What others ask the dispatcher: nothing here changes it.

use crate::{
    error::Error,
    pool::dispatcher::{
        Dispatcher, Flight, MILLISECOND, Over, Phase, Seat, Ticket, Time, Work, is_after, state::Counts,
    },
};

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.over, Over::No)
    }

    /// Every seat is empty for good, and so nothing is left to be told.
    pub(crate) fn is_finished(&self) -> bool {
        // What runs where it was submitted is waited for, unless the pool was terminated.
        let here = self.running_here > 0 && !matches!(self.over, Over::Terminated);
        !here && self.seats.iter().all(|seat| seat.phase == Phase::Closed)
    }

    /// How often what has not started was taken back from the process at a seat.
    pub(crate) fn generation(&self, seat: usize) -> u32 {
        self.seats[seat].generation
    }

    /// At how many seats there is, or may be again, a process.
    pub(crate) fn open_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.phase != Phase::Closed).count()
    }

    pub(crate) fn is_starting(&self, seat: usize) -> bool {
        self.seats[seat].phase == Phase::Starting
    }

    /// Has a worker been told to exit, and may take its time?
    pub(crate) fn is_leaving(&self, seat: usize) -> bool {
        self.seats[seat].phase == Phase::Leaving
    }

    pub(crate) fn failure(&self) -> Option<&Error> {
        match &self.over {
            Over::Failed(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn ever_ready(&self) -> bool {
        self.ever_ready
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            waiting: self.waiting_calls + self.delayed_calls,
            running: self.in_flight_calls + self.running_here,
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

    /// Where this work is, a single call, if it is the only one in flight there.
    pub(crate) fn alone_at(&self, ticket: Ticket) -> Option<(usize, u32)> {
        let alone = |seat: &&Seat<W>| seat.in_flight.len() == 1 && seat.in_flight[0].ticket == ticket;
        self.seats.iter().enumerate().find(|(_, seat)| alone(seat)).map(|(index, seat)| (index, seat.epoch))
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
        let busy = self.seats.iter().filter(|seat| seat.calls > 0 && seat.phase == Phase::Ready);
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
        (matches!(seat.phase, Phase::Ready), !seat.in_flight.is_empty(), seat.done)
    }
}
