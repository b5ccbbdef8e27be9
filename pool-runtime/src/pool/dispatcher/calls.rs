//! Events of calls: submitted, cancelled, run inline, reported; the pool closed or terminated.

use crate::dossier::Ran;
use crate::pool::dispatcher::machine::Withdrawn;
use crate::pool::dispatcher::{
    Dispatcher, Effect, Ended, How, Phase, Reach, Refusal, Reported, Retirement, Seat, Ticket, Time, Unreported, Why,
    Work, is_after,
};
use std::sync::Arc;

/// The error says why the worker is corrupt: its report is not about the calls that come next.
type Checked = Result<(), &'static str>;

const NOT_SENT: &str = "reports a call that it was not sent";

/// The longest expected duration, in nanoseconds: calls are sent singly long before.
const LONGEST: Time = 1_000_000_000_000;

impl<W: ?Sized + Work> Dispatcher<W> {
    // ---- from users ----

    pub(crate) fn submit(&mut self, work: Arc<W>, calls: u32, now: Time) -> Result<Ticket, Refusal> {
        self.accepts()?;
        if self.limits.counts_bytes {
            self.unended_bytes += work.size(0..calls);
        }
        let ticket = self.queue.push(work, calls);
        if !self.idle.is_empty() && !self.append(now) {
            self.feed_idle(now);
        }
        Ok(ticket)
    }

    pub(crate) fn close(&mut self, now: Time) {
        self.over.get_or_insert(Refusal::Closed);
        for seat in 0..self.seats.len() {
            self.leave_if_through(seat, now);
        }
    }

    /// Fails all calls and kills every worker. Returns how many calls failed.
    pub(crate) fn terminate(&mut self) -> usize {
        if self.over.replace(Refusal::Terminated) == Some(Refusal::Terminated) {
            return 0;
        }
        let hit = self.queue.len() + self.in_flight_calls + self.inline_calls;
        self.fail_waiting(&Why::Terminated);
        for seat in 0..self.seats.len() {
            self.fail_seat(seat, &Why::Terminated);
        }
        hit
    }

    /// Cancels the calls of these submissions, in ascending order, that have no result yet. Waiting ones never run, and
    /// those sent to a worker are taken back. What becomes of one that has started is what `reach` says. Returns whether
    /// there was anything to cancel.
    pub(crate) fn cancel(&mut self, tickets: &[Ticket], reach: Reach, now: Time) -> bool {
        debug_assert!(tickets.is_sorted());
        let waiting = self.queue.cancel(tickets);
        let mut any = !waiting.is_empty();
        let seats = if self.in_flight_calls > 0 { self.seats.len() } else { 0 };
        for seat in 0..seats {
            let flights = self.seats[seat].in_flight.iter_mut();
            let hit = flights.filter(|flight| flight.cancelled < Some(reach) && flight.calls.is_of(tickets));
            if hit.map(|flight| flight.cancelled = Some(reach)).count() > 0 {
                any = true;
                // Only then is it known which of them have started.
                self.recall(seat);
            }
        }
        for range in waiting {
            self.note_withdrawn(range.ticket);
            if reach == Reach::Running {
                self.forsake(&range, Unreported::Other);
            }
            self.fail_unstarted(&range, &Why::Cancelled);
        }
        self.feed_idle(now);
        any
    }

    /// As [`cancel`](Self::cancel) within the reach of [`Reach::Waiting`], for one who then asks with the returned number
    /// whether any call [was cancelled](Self::was_withdrawn).
    pub(crate) fn withdraw(&mut self, tickets: &[Ticket], now: Time) -> u64 {
        let question = self.withdrawn.last().map_or(0, |last| last.question + 1);
        self.withdrawn.push(Withdrawn { question, tickets: tickets.into(), any: false });
        self.cancel(tickets, Reach::Waiting, now);
        question
    }

    /// The answer to [`withdraw`](Self::withdraw), which is given once. None while a worker may still answer.
    pub(crate) fn was_withdrawn(&mut self, question: u64) -> Option<bool> {
        let at = self.withdrawn.iter().position(|withdrawn| withdrawn.question == question)?;
        let tickets = &self.withdrawn[at].tickets;
        let in_doubt =
            |seat: &Seat<W>| seat.recalling && seat.in_flight.iter().any(|flight| flight.calls.is_of(tickets));
        (!self.seats.iter().any(in_doubt)).then(|| self.withdrawn.remove(at).any)
    }

    /// Calls of a submission were cancelled before they started.
    pub(super) fn note_withdrawn(&mut self, ticket: Ticket) {
        for withdrawn in &mut self.withdrawn {
            withdrawn.any |= withdrawn.tickets.binary_search(&ticket).is_ok();
        }
    }

    // ---- inline calls, which run on the thread that submits them ----

    pub(crate) fn begin_inline(&mut self, calls: u32) -> Result<(), Refusal> {
        self.accepts()?;
        self.inline_calls += calls as usize;
        Ok(())
    }

    pub(crate) fn goes_on_inline(&self) -> bool {
        self.over != Some(Refusal::Terminated)
    }

    /// One has ended. Returns whether its result counts: not once the pool was terminated.
    pub(crate) fn ended_inline(&mut self, is_value: bool) -> bool {
        self.inline_calls -= 1;
        let counts = self.goes_on_inline();
        match is_value && counts {
            true => self.done += 1,
            false => self.failed += 1,
        }
        counts
    }

    // ---- from workers ----

    /// A worker reports how calls have ended; their ends are appended to `ended`. After the last report that is
    /// available, [`progressed`](Self::progressed) must be called.
    pub(crate) fn reported(&mut self, seat: usize, epoch: u32, report: Reported, ended: &mut Vec<Ended<W>>) -> Checked {
        let Reported { first: mut number, mut count, mut failed } = report;
        while count > 0 {
            let state = &mut self.seats[seat];
            let known = state.works(epoch);
            let Some(flight) = state.in_flight.front_mut().filter(|flight| flight.number == number) else {
                // Reports of a worker that is being killed no longer matter.
                return if known { Err(NOT_SENT) } else { Ok(()) };
            };
            let (through, cancelled) = (flight.len().min(count), flight.is_given_up());
            let range = flight.take(through);
            if flight.len() == 0 {
                state.in_flight.pop_front();
            }
            state.ahead -= range.ahead();
            state.calls -= through as usize;
            state.has_read(range.last_number());
            (state.failures, state.relieved, state.worker.silence) = (0, 0, None);
            state.worker.has_reported = true;
            state.worker.left.clear();
            state.worker.finished += u64::from(through);
            state.done += u64::from(through);
            state.task = range.calls.work.task();
            self.futile_starts = 0;
            self.in_flight_calls -= through as usize;
            let calls = range.calls;
            if let Some(failed) = failed.take() {
                if failed.leaving && self.transit(seat, Phase::Leaving) && !self.is_running_out() {
                    self.effects.push_back(Effect::Retired { seat, epoch, why: Retirement::Panic });
                }
                let ran = failed.stage.ran();
                let why = if cancelled { Why::Cancelled } else { Why::Reported(failed) };
                ended.push(self.failure(&calls, calls.next, calls.attempt, ran, why));
            } else if cancelled {
                let cancelled = |index| self.failure(&calls, index, calls.attempt, Ran::Yes, Why::Cancelled);
                ended.extend((calls.next..calls.end).map(cancelled));
            } else {
                self.done += u64::from(through);
                self.count_ended(&calls.work, calls.next..calls.end);
                ended.push(Ended { work: calls.work, first: calls.next, count: through, how: How::Values { number } });
            }
            number = number.wrapping_add(through);
            count -= through;
        }
        Ok(())
    }

    /// A worker has sent the beginning of a long report about a call.
    pub(crate) fn begins(&self, seat: usize, epoch: u32, number: u32) -> Result<Option<&Arc<W>>, &'static str> {
        let state = &self.seats[seat];
        if !state.works(epoch) {
            return Ok(None);
        }
        let front = state.in_flight.front().filter(|flight| flight.number == number);
        front.map(|flight| Some(&flight.calls.work)).ok_or(NOT_SENT)
    }

    /// The latest `calls` of a worker took `nanos` in all.
    pub(crate) fn timed(&mut self, seat: usize, epoch: u32, calls: u32, nanos: u64) -> Checked {
        let state = &mut self.seats[seat];
        if state.works(epoch) {
            let untimed = state.worker.finished - state.worker.timed;
            if calls == 0 || u64::from(calls) > untimed {
                return Err("reports times of more calls than it has run");
            }
            state.worker.timed += u64::from(calls);
        }
        let each = (nanos / u64::from(calls.max(1))).clamp(self.limits.shortest, LONGEST);
        let task = self.seats[seat].task;
        if !task.is_empty() {
            self.durations.add(task, each);
        }
        Ok(())
    }

    /// All reports of a worker that were available have been told.
    pub(crate) fn progressed(&mut self, seat: usize, epoch: u32, now: Time) {
        let state = &mut self.seats[seat];
        if state.epoch() == epoch {
            if std::mem::take(&mut state.worker.has_reported) {
                state.worker.progress = now;
            }
            self.after_progress(seat, now);
        }
    }

    /// The calls that had not started at a seat were taken back; `claimed` is the number of the latest that had.
    pub(crate) fn taken_back(&mut self, seat: usize, epoch: u32, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        if state.epoch() != epoch || !state.recalling {
            return;
        }
        state.recalling = false;
        if state.is_beyond(claimed) {
            return self.kill_at_once(seat);
        }
        state.worker.started = claimed;
        state.worker.generation = state.worker.generation.wrapping_add(1);
        self.condemn_if_moved_too_often(seat, claimed);
        let state = &mut self.seats[seat];
        let front = state.in_flight.front().filter(|front| front.cancelled.is_none()).map(|front| front.number);
        let suspect = state.worker.suspect.take().filter(|number| front == Some(*number) && is_after(*number, claimed));
        let reached = suspect.unwrap_or_else(|| state.reached(claimed));
        let mut back = self.take_behind(seat, reached);
        self.seats[seat].worker.is_doubted |= !back.is_empty();
        let is_over = self.seats[seat].worker.silence.is_some_and(|silence| silence.is_over);
        let has_moved = back.front().is_some_and(|front| front.calls.moves > 0);
        let mut moved = None;
        if self.seats[seat].is_busy() {
            self.seats[seat].worker.silence = None;
        } else if self.seats[seat].phase() == Phase::Ready {
            self.doubt(seat, &mut back, now);
            moved = back.pop_front_if(|_| has_moved);
        }
        // In reverse, as each goes to the front.
        for flight in back.into_iter().rev() {
            self.send_back(flight);
        }
        for flight in self.seats[seat].in_flight.iter_mut().filter(|flight| !flight.is_given_up()) {
            // What was to be cancelled only before it starts has started, unless it is kept back because it is condemned.
            let unstarted = is_after(flight.last_number(), claimed);
            flight.cancelled = flight.cancelled.filter(|_| unstarted).map(|_| Reach::Running);
        }
        if is_over && self.seats[seat].is_silent() {
            self.kill(seat);
        }
        if self.seats[seat].phase() == Phase::Leaving && self.seats[seat].is_busy() {
            // It has started another one after it said that it would not.
            self.kill_at_once(seat);
        }
        if suspect.is_some() {
            self.seats[seat].worker.is_convicted = true;
            self.kill(seat);
        }
        self.kill_if_cancelled(seat, reached);
        self.kill_if_condemned(seat, claimed, now);
        self.seats[seat].await_given_up(now.saturating_add(self.limits.grace));
        self.watch_at = self.watch_at.min(self.seats[seat].given_up_until());
        let nobody = moved.and_then(|flight| self.give_again(seat, flight, now));
        nobody.into_iter().for_each(|flight| self.send_back(flight));
        self.feed_idle(now);
        if self.seats[seat].phase() == Phase::Ready {
            self.after_progress(seat, now);
        }
        self.look_again_for(seat, now);
    }

    /// Kills the worker if the latest call that it started was cancelled. The calls behind that one have been taken
    /// back and those before it have finished, so no other call is lost.
    fn kill_if_cancelled(&mut self, seat: usize, claimed: u32) {
        let last = self.seats[seat].in_flight.back();
        if last.is_some_and(|flight| flight.is_given_up() && flight.last_number() == claimed) {
            for last in self.take_behind(seat, claimed.wrapping_sub(1)) {
                self.fail_running(seat, &last.calls, &Why::Cancelled);
            }
            self.kill(seat);
        }
    }
}
