//! Read access to the dispatcher: nothing in this file changes it.

use crate::pool::dispatcher::{
    Dispatcher, Flight, MILLISECOND, NEVER, Phase, PoolStats, Refusal, Seat, Ticket, Time, Work, is_after,
};

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Is every seat closed, and all work done?
    pub(crate) fn is_finished(&self) -> bool {
        // Inline calls are waited for, unless the pool was terminated.
        let inline = self.inline_calls > 0 && self.over != Some(Refusal::Terminated);
        !inline && self.open_seats() == 0
    }

    pub(crate) fn seat(&self, seat: usize) -> &Seat<W> {
        &self.seats[seat]
    }

    /// How many seats have a worker, or may have one again.
    pub(crate) fn open_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.phase() != Phase::Closed).count()
    }

    pub(crate) fn counts(&self) -> PoolStats {
        PoolStats {
            waiting: self.queue.len(),
            running: self.in_flight_calls + self.inline_calls,
            done: self.done,
            failed: self.failed,
            retries: self.retries,
            restarts: self.restarted,
            timeouts: self.timeouts,
        }
    }

    /// How many calls no worker runs yet: all but one for each worker that has calls.
    pub(crate) fn backlog(&self) -> usize {
        (self.queue.len() + self.in_flight_calls).saturating_sub(self.busy_seats())
    }

    /// How many bytes the arguments of all calls have that have not ended, if that [is counted](super::Limits).
    pub(crate) fn unended_bytes(&self) -> usize {
        self.unended_bytes
    }

    /// Has every seat a worker that takes calls?
    pub(crate) fn are_all_ready(&self) -> bool {
        self.ready_seats == self.seats.len()
    }

    /// The calls in flight at a seat with these numbers.
    pub(crate) fn flights(&self, seat: usize, first: u32, last: u32) -> impl Iterator<Item = &Flight<W>> {
        let flights = &self.seats[seat].in_flight;
        let start = flights.partition_point(|flight| is_after(first, flight.number));
        flights.range(start..).take_while(move |flight| !is_after(flight.number, last))
    }

    /// How many ready seats are not idle.
    pub(crate) fn busy_seats(&self) -> usize {
        self.ready_seats - self.idle.len()
    }

    /// How many calls have ended, with a value or not.
    pub(crate) fn ended(&self) -> u64 {
        self.done + self.failed
    }

    /// The seats with calls of these submissions, which are in ascending order: the epoch of its worker, and the number
    /// of the first of them.
    pub(crate) fn seats_of(&self, tickets: &[Ticket]) -> impl Iterator<Item = (usize, u32, u32)> {
        self.seats.iter().enumerate().filter_map(move |(index, seat)| {
            let first = seat.in_flight.iter().find(|flight| flight.calls.is_of(tickets) && !flight.is_given_up())?;
            Some((index, seat.epoch(), first.number))
        })
    }

    pub(crate) fn any_in_flight(&self) -> bool {
        self.in_flight_calls > 0
    }

    /// How long reports need not be read, as every busy worker has many short calls. May delay a result by at most
    /// `patience`.
    pub(crate) fn rest(&self, now: Time, patience: Time) -> Option<Time> {
        const MANY: usize = 4;
        /// So many results are still in the processor's cache.
        const WARM: Time = 3000;
        let mut rest = NEVER;
        for seat in self.seats.iter().filter(|seat| seat.calls > 0 && seat.phase() == Phase::Ready) {
            let expected = seat.in_flight.front()?.expected;
            // A worker without progress runs a call that is not short.
            let stalled = now.saturating_sub(seat.worker.progress) >= MILLISECOND;
            if expected > patience || stalled || seat.calls < MANY {
                return None;
            }
            rest = rest.min(seat.ahead / 2).min(WARM * expected);
        }
        (rest < NEVER).then(|| rest.min(patience))
    }
}
