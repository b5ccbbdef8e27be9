//! The dispatcher's state, and the steps of which its events are made.

use crate::dossier::Ran;
use crate::options::RestartPolicy;
use crate::pool::dispatcher::durations::Durations;
use crate::pool::dispatcher::queue::CallQueue;
use crate::pool::dispatcher::{
    AfterStarts, CallFailure, CallRange, Effect, Ended, Flight, How, Limits, NEVER, Phase, Refusal, Retirement, Seat,
    Ticket, Time, Unreported, Why, Work,
};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Whether calls of these submissions were cancelled before they started.
#[derive(Debug)]
pub(super) struct Withdrawn {
    pub(super) question: u64,
    pub(super) tickets: Box<[Ticket]>,
    pub(super) any: bool,
}

#[derive(Debug)]
pub(crate) struct Dispatcher<W: ?Sized> {
    pub(super) limits: Limits,
    pub(super) restarts: RestartPolicy,
    /// Why no more work is taken, once that is so.
    pub(super) over: Option<Refusal>,
    pub(super) seats: Vec<Seat<W>>,
    pub(super) ready_seats: usize,
    /// Seats whose workers have nothing to do; the latest one last.
    pub(super) idle: Vec<usize>,
    /// The seat that was fed last.
    pub(super) latest: usize,
    pub(super) queue: CallQueue<W>,
    pub(super) in_flight_calls: usize,
    /// Of the arguments of calls that have not ended, if the limits say that they are counted.
    pub(super) unended_bytes: usize,
    /// Calls that run on the threads that submitted them.
    pub(super) inline_calls: usize,
    /// Submissions of which calls were cancelled before they started, while somebody [asks](Self::ask_withdrawn).
    pub(super) withdrawn: Vec<Withdrawn>,
    pub(super) durations: Durations,
    pub(crate) ever_ready: bool,
    /// How many starts failed, at any seat, since a call was finished, and when the first of them did.
    pub(super) futile_starts: u32,
    pub(super) futile_since: Time,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) retries: u64,
    pub(super) restarted: u64,
    pub(super) timeouts: u64,
    /// When to look again for a worker that shows no progress.
    pub(super) look_again: Time,
    /// When to look at a worker, or earlier: see [`watch`](super::watch).
    pub(super) watch_at: Time,
    pub(super) effects: VecDeque<Effect<W>>,
}

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn new(seats: usize, limits: Limits, restarts: RestartPolicy) -> Self {
        Self {
            limits,
            restarts,
            over: None,
            seats: (0..seats).map(|_| Seat::new()).collect(),
            ready_seats: 0,
            idle: Vec::with_capacity(seats),
            latest: 0,
            queue: CallQueue::new(),
            in_flight_calls: 0,
            unended_bytes: 0,
            inline_calls: 0,
            withdrawn: Vec::new(),
            durations: Durations::default(),
            ever_ready: false,
            futile_starts: 0,
            futile_since: 0,
            done: 0,
            failed: 0,
            retries: 0,
            restarted: 0,
            timeouts: 0,
            look_again: NEVER,
            watch_at: NEVER,
            effects: VecDeque::new(),
        }
    }

    pub(crate) fn effect(&mut self) -> Option<Effect<W>> {
        self.effects.pop_front()
    }

    pub(crate) fn accepts(&self) -> Result<(), Refusal> {
        self.over.map_or(Ok(()), Err)
    }

    /// Is work that was submitted still done?
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.over, None | Some(Refusal::Closed))
    }

    // ---- transitions of seats ----

    /// Changes the phase of a seat, and the counts that depend on it. Returns whether it may change so.
    pub(super) fn transit(&mut self, seat: usize, to: Phase) -> bool {
        let state = &mut self.seats[seat];
        let before = state.phase() == Phase::Ready;
        let changed = state.change(to);
        match (before, state.phase() == Phase::Ready) {
            (false, true) => self.ready_seats += 1,
            (true, false) => {
                self.ready_seats -= 1;
                self.idle.retain(|idle| *idle != seat);
            }
            _ => {}
        }
        changed
    }

    /// Ends the worker of a seat: asks it first, if the pool has a grace for that.
    pub(super) fn kill(&mut self, seat: usize) {
        if self.limits.terminate_grace == 0 {
            return self.kill_at_once(seat);
        }
        if self.transit(seat, Phase::Killed) {
            let state = &mut self.seats[seat];
            let (epoch, generation) = (state.epoch(), state.worker.generation);
            state.worker.kill_at = Some(NEVER);
            // The clock gives it its time at once.
            self.watch_at = 0;
            self.effects.push_back(Effect::AskToEnd { seat, epoch, generation });
        }
    }

    pub(super) fn kill_at_once(&mut self, seat: usize) {
        if self.transit(seat, Phase::Killed) {
            self.effects.push_back(Effect::Kill { seat, epoch: self.seats[seat].epoch() });
        }
    }

    /// Takes back the calls that have not started at a seat. Nothing is sent there until that is done.
    pub(super) fn recall(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        if state.works(state.epoch()) && !state.recalling {
            state.recalling = true;
            let (epoch, generation) = (state.epoch(), state.worker.generation);
            self.effects.push_back(Effect::TakeBack { seat, epoch, generation });
        }
    }

    /// Stops an idle worker that is to be replaced, or can get no more work.
    pub(super) fn leave_if_through(&mut self, seat: usize, now: Time) {
        let state = &self.seats[seat];
        let retiring = state.worker.given >= self.limits.tasks_per_child || state.worker.retiring;
        if state.is_idle() && (retiring || self.is_running_out()) && self.transit(seat, Phase::Leaving) {
            if retiring && !self.is_running_out() {
                self.note_retirement(seat, now);
            }
            self.effects.push_back(Effect::Stop { seat, epoch: self.seats[seat].epoch() });
            self.see_off(seat, now);
        }
    }

    /// Says why a worker is replaced. In a pool that runs out of work, none is.
    fn note_retirement(&mut self, seat: usize, now: Time) {
        let state = &self.seats[seat];
        let (epoch, given) = (state.epoch(), state.worker.given);
        let why = match () {
            () if given >= self.limits.tasks_per_child => Retirement::Calls,
            () if self.is_old(seat, now) => Retirement::Age,
            () => Retirement::Memory,
        };
        self.effects.push_back(Effect::Retired { seat, epoch, why });
    }

    /// Stops all idle workers once none can get more work.
    pub(super) fn leave_if_idle(&mut self, now: Time) {
        if self.is_running_out() {
            for seat in self.idle.clone() {
                self.leave_if_through(seat, now);
            }
        }
    }

    /// Is the pool over, and nothing left that an idle worker could take over?
    pub(super) fn is_running_out(&self) -> bool {
        self.over.is_some() && !self.more_may_come()
    }

    /// Does any call wait, or could one that was sent behind another be taken back?
    pub(super) fn more_may_come(&self) -> bool {
        self.queue.len() > 0 || self.seats.iter().any(Seat::has_calls_behind)
    }

    pub(super) fn take_all(&mut self, seat: usize) -> VecDeque<Flight<W>> {
        self.in_flight_calls -= self.seats[seat].calls;
        self.seats[seat].take_all()
    }

    /// Removes the calls after the one of this number from a seat.
    pub(super) fn take_behind(&mut self, seat: usize, number: u32) -> VecDeque<Flight<W>> {
        let before = self.seats[seat].calls;
        let back = self.seats[seat].take_behind(number);
        self.in_flight_calls -= before - self.seats[seat].calls;
        back
    }

    /// The worker of a seat has reported, or there is room for more calls.
    pub(super) fn after_progress(&mut self, seat: usize, now: Time) {
        if self.is_old(seat, now) {
            self.seats[seat].worker.retiring = true;
        }
        self.feed(seat, self.share(), now);
        self.watch(seat, now);
        if self.seats[seat].is_idle() {
            if !self.idle.contains(&seat) {
                // One that may not answer comes last.
                let at = if self.seats[seat].is_silent() { 0 } else { self.idle.len() };
                self.idle.insert(at, seat);
            }
            self.leave_if_through(seat, now);
            self.relieve(now);
        }
        if self.seats[seat].phase() == Phase::Leaving && self.seats[seat].worker.leave_by.is_none() {
            // It leaves of its own accord, as its report said, and starts nothing more.
            self.see_off(seat, now);
            if self.seats[seat].is_busy() {
                self.recall(seat);
            }
        }
        self.leave_if_idle(now);
    }

    // ---- ends of calls ----

    /// The failure of one call after so many `attempts`. `ran` is about the present one.
    pub(super) fn failure(&mut self, calls: &CallRange<W>, index: u32, attempts: u32, ran: Ran, why: Why) -> Ended<W> {
        self.failed += 1;
        self.count_ended(&calls.work, index..index + 1);
        let how = How::Failed(CallFailure { why, ran: ran.or_before(calls.ran), attempts });
        Ended { work: calls.work.clone(), first: index, count: 1, how }
    }

    /// Calls have ended, and their arguments are kept no longer.
    #[inline]
    pub(super) fn count_ended(&mut self, work: &Arc<W>, calls: Range<u32>) {
        if self.limits.counts_bytes {
            let bytes = work.size(calls);
            debug_assert!(bytes <= self.unended_bytes, "a call ends once");
            self.unended_bytes = self.unended_bytes.saturating_sub(bytes);
        }
    }

    /// Fails all calls of a range; `how` tells of each index whether it ran, and why it fails.
    pub(super) fn fail(&mut self, calls: &CallRange<W>, attempts: u32, how: impl Fn(u32) -> (Ran, Why)) {
        for index in calls.next..calls.end {
            let (ran, why) = how(index);
            let ended = self.failure(calls, index, attempts, ran, why);
            self.effects.push_back(Effect::Ended(ended));
        }
    }

    /// Fails calls that no worker has started in the present attempt.
    pub(super) fn fail_unstarted(&mut self, calls: &CallRange<W>, why: &Why) {
        self.fail(calls, calls.attempts_before(), |_| (Ran::No, why.clone()));
    }

    pub(super) fn fail_waiting(&mut self, why: &Why) {
        for range in self.queue.drain() {
            self.fail_unstarted(&range, why);
        }
    }

    /// Fails calls that may still run at a seat. The memory they share with the worker is kept until it is gone.
    pub(super) fn fail_running(&mut self, seat: usize, calls: &CallRange<W>, why: &Why) {
        let (epoch, work) = (self.seats[seat].epoch(), calls.work.clone());
        self.effects.push_back(Effect::Hold { seat, epoch, work });
        self.fail(calls, calls.attempt, |_| (Ran::Maybe, why.clone()));
        self.forsake(calls, Unreported::Other);
    }

    /// Fails all calls of a seat, and kills its worker.
    pub(super) fn fail_seat(&mut self, seat: usize, why: &Why) {
        for flight in self.take_all(seat) {
            self.fail_running(seat, &flight.calls, why);
        }
        self.kill(seat);
    }

    /// Calls that did not start wait again, before all others.
    pub(super) fn send_back(&mut self, flight: Flight<W>) {
        let why = match self.over {
            _ if flight.cancelled.is_some() => {
                self.note_withdrawn(flight.calls.ticket);
                if flight.is_given_up() {
                    self.forsake(&flight.calls, Unreported::Other);
                }
                Why::Cancelled
            }
            Some(Refusal::Failed) => Why::PoolFailed,
            Some(Refusal::Terminated) => Why::Terminated,
            None | Some(Refusal::Closed) => return self.queue.put_back(flight.calls),
        };
        self.fail_unstarted(&flight.calls, &why);
    }

    /// The pool has failed: no waiting call is run.
    pub(super) fn give_up(&mut self, tries: u32) {
        if self.goes_on() {
            // First, as it is why the waiting calls fail.
            self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::GiveUpPool });
            self.over = Some(Refusal::Failed);
            self.fail_waiting(&Why::PoolFailed);
        }
    }
}
