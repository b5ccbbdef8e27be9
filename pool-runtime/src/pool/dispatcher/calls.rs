//! Events of calls: submitted, cancelled, reported; the pool closed or terminated.

use crate::dossier::Ran;
use crate::pool::dispatcher::events::{Ended, How, Refusal, Report, Ticket, Time, Why, Work};
use crate::pool::dispatcher::machine::{Dispatcher, LONGEST, Over};
use crate::pool::dispatcher::seat::{Phase, Seat};
use std::sync::Arc;

const NOT_SENT: &str = "reports a call that it was not sent";

impl<W: ?Sized + Work> Dispatcher<W> {
    // ---- from users ----

    /// # Errors
    ///
    /// The pool is closed, terminated or failed.
    pub(crate) fn submit(&mut self, work: Arc<W>, calls: u32, now: Time) -> Result<Ticket, Refusal> {
        self.accepts()?;
        let ticket = self.queue.push(work, calls);
        if !self.idle.is_empty() && !self.append(now) {
            self.feed_idle(now);
        }
        Ok(ticket)
    }

    pub(crate) fn close(&mut self) {
        if self.over == Over::No {
            self.over = Over::Closed;
        }
        for seat in 0..self.seats.len() {
            self.leave_if_through(seat);
        }
    }

    /// Ends everything: what waits and what runs fails, every worker is killed. Returns how many calls that hit.
    pub(crate) fn terminate(&mut self) -> usize {
        if self.over == Over::Terminated {
            return 0;
        }
        self.over = Over::Terminated;
        let hit = self.queue.len() + self.in_flight_calls + self.inline_calls;
        self.fail_waiting(&Why::Terminated);
        for seat in 0..self.seats.len() {
            for flight in self.empty(seat) {
                // Nobody asks the worker whether the latest one has started: it makes no difference.
                self.fail_running(seat, &flight.calls, &Why::Terminated);
            }
            self.kill(seat);
        }
        hit
    }

    /// Cancels what has no result yet of a submission: what waits never runs. If `running` says so, what was sent to a
    /// worker is taken back, and if it turns out to run there, the worker is killed. Returns whether there was anything
    /// to cancel.
    pub(crate) fn cancel(&mut self, ticket: Ticket, running: bool, now: Time) -> bool {
        let waiting = self.queue.cancel(ticket);
        let mut any = !waiting.is_empty();
        for seat in 0..if running { self.seats.len() } else { 0 } {
            let flights = self.seats[seat].in_flight.iter_mut();
            let hit = flights.filter(|flight| flight.calls.ticket == ticket && !flight.cancelled);
            if hit.map(|flight| flight.cancelled = true).count() > 0 {
                any = true;
                // None is killed before it is known which call runs there.
                self.recall(seat);
            }
        }
        for range in waiting {
            self.fail_range(&range, range.tried_before(), Ran::No, &Why::Cancelled);
        }
        self.feed_idle(now);
        any
    }

    // ---- from workers ----

    /// A worker reports how calls have ended. Whom to tell is added to `ended`. When all that it has to say is told,
    /// [`progressed`](Self::progressed) is to follow.
    ///
    /// # Errors
    ///
    /// The report is not about the calls that come next: the worker is corrupt.
    pub(crate) fn reported(
        &mut self,
        seat: usize,
        epoch: u32,
        report: Report,
        ended: &mut Vec<Ended<W>>,
    ) -> Result<(), &'static str> {
        let Report { first: mut number, mut count, mut failed } = report;
        while count > 0 {
            let state = &mut self.seats[seat];
            let known = state.works(epoch);
            let Some(flight) = state.in_flight.front_mut().filter(|flight| flight.number == number) else {
                // What a worker has to say that was given up is of no interest.
                return if known { Err(NOT_SENT) } else { Ok(()) };
            };
            let through = flight.len().min(count);
            let cancelled = flight.cancelled;
            let range = flight.take(through);
            if flight.len() == 0 {
                state.in_flight.pop_front();
            }
            state.ahead -= range.ahead();
            state.calls -= through as usize;
            state.has_read(range.last_number());
            (state.failures, state.relieved) = (0, 0);
            state.finished += u64::from(through);
            state.done += u64::from(through);
            state.task = range.calls.work.task();
            self.futile_starts = 0;
            self.in_flight_calls -= through as usize;
            let calls = range.calls;
            let tried = calls.tried();
            if let Some(failed) = failed.take() {
                if failed.leaving {
                    // Told to go already, it takes no more calls all the same.
                    let _ = self.transit(seat, Seat::leave);
                }
                let ran = failed.stage.ran();
                let why = if cancelled { Why::Cancelled } else { Why::Reported(failed) };
                ended.push(self.failure(&calls.work, calls.next, tried, ran, why));
            } else if cancelled {
                for index in calls.next..calls.end {
                    ended.push(self.failure(&calls.work, index, tried, Ran::Yes, Why::Cancelled));
                }
            } else {
                self.done += u64::from(through);
                ended.push(Ended { work: calls.work, first: calls.next, count: through, how: How::Values { number } });
            }
            number = number.wrapping_add(through);
            count -= through;
        }
        Ok(())
    }

    /// A worker has begun to report a call, at some length.
    ///
    /// # Errors
    ///
    /// Nobody waits for that call.
    pub(crate) fn begins(&self, seat: usize, epoch: u32, number: u32) -> Result<(), &'static str> {
        let state = &self.seats[seat];
        let sent = state.in_flight.front().is_some_and(|flight| flight.number == number);
        if state.works(epoch) && !sent { Err(NOT_SENT) } else { Ok(()) }
    }

    /// The latest calls of a worker, so many, took so long, all in all.
    pub(crate) fn timed(&mut self, seat: usize, calls: u32, nanos: u64) {
        let each = (nanos / u64::from(calls.max(1))).clamp(self.limits.shortest, LONGEST);
        let task = self.seats[seat].task;
        if !task.is_empty() {
            self.durations.add(task, each);
        }
    }

    /// A worker has reported all that it had to say until now.
    pub(crate) fn progressed(&mut self, seat: usize, epoch: u32, now: Time) {
        if self.seats[seat].epoch() == epoch {
            self.seats[seat].progress = now;
            self.after_progress(seat, now);
        }
    }

    /// What had not started at a seat was taken back; `claimed` is the number of the latest call that had.
    pub(crate) fn taken_back(&mut self, seat: usize, epoch: u32, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        if state.epoch() != epoch || !state.recalling {
            return;
        }
        state.recalling = false;
        state.started = claimed;
        state.generation = state.generation.wrapping_add(1);
        let back = state.take_behind(claimed);
        self.in_flight_calls -= back.iter().map(|flight| flight.len() as usize).sum::<usize>();
        // In reverse, as each goes to the front.
        for flight in back.into_iter().rev() {
            self.send_back(flight);
        }
        self.kill_if_cancelled(seat, claimed);
        self.kill_if_condemned(seat, claimed, now);
        self.feed_idle(now);
        if self.seats[seat].phase() == Phase::Ready {
            self.after_progress(seat, now);
        }
    }

    /// Kills the worker if the latest call that it started was cancelled. What it has not started has been taken back,
    /// so no other call is hit; what it finished before is reported, or will be.
    fn kill_if_cancelled(&mut self, seat: usize, claimed: u32) {
        let state = &mut self.seats[seat];
        let last = state.in_flight.back_mut();
        let Some(flight) = last.filter(|flight| flight.cancelled && flight.last_number() == claimed) else { return };
        let before = flight.take(flight.len() - 1);
        let last = std::mem::replace(flight, before);
        if flight.len() == 0 {
            state.in_flight.pop_back();
        }
        state.ahead -= last.expected;
        state.calls -= 1;
        self.in_flight_calls -= 1;
        self.fail_running(seat, &last.calls, &Why::Cancelled);
        self.kill(seat);
    }
}
