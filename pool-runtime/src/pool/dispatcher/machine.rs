//! What the dispatcher keeps, and the parts of which its events are made.

use crate::dossier::Ran;
use crate::options::RestartPolicy;
use crate::pool::dispatcher::durations::Durations;
use crate::pool::dispatcher::events::{
    AfterStarts, CallFailure, CallLoss, Effect, Ended, How, MILLISECOND, NEVER, Refusal, Time, Why, Work,
};
use crate::pool::dispatcher::limits::Limits;
use crate::pool::dispatcher::queue::Queue;
use crate::pool::dispatcher::range::{CallRange, Flight, Tried};
use crate::pool::dispatcher::seat::{Phase, Seat};
use std::collections::VecDeque;
use std::sync::Arc;

/// No call is taken to be longer: enough to be sent singly.
pub(super) const LONGEST: Time = 1_000_000 * MILLISECOND;

#[derive(Debug)]
pub(crate) struct Dispatcher<W: ?Sized> {
    pub(super) limits: Limits,
    pub(super) restarts: RestartPolicy,
    pub(super) over: Over,
    pub(super) seats: Vec<Seat<W>>,
    /// How many of them take calls.
    pub(super) ready_seats: usize,
    /// Seats whose workers have nothing to do; the latest one last.
    pub(super) idle: Vec<usize>,
    /// The seat that something was sent to last.
    pub(super) latest: usize,
    pub(super) queue: Queue<W>,
    pub(super) in_flight_calls: usize,
    /// Calls that run where they were submitted.
    pub(super) inline_calls: usize,
    pub(super) durations: Durations,
    pub(super) ever_ready: bool,
    /// How many starts have failed, at any seat, since a call was finished, and since when.
    pub(super) futile_starts: u32,
    pub(super) futile_since: Time,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// When to look again for a worker that shows no progress.
    pub(super) look_again: Option<Time>,
    /// When to look at some worker, or before: see [`watch`](super::watch).
    pub(super) watch_at: Time,
    pub(super) effects: VecDeque<Effect<W>>,
}

/// How work ends for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    No,
    /// No new work; what is there is done.
    Closed,
    /// No work at all.
    Terminated,
    /// The workers cannot start.
    Failed,
}

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn new(seats: usize, limits: Limits, restarts: RestartPolicy) -> Self {
        Self {
            limits,
            restarts,
            over: Over::No,
            seats: (0..seats).map(|_| Seat::new()).collect(),
            ready_seats: 0,
            idle: Vec::with_capacity(seats),
            latest: 0,
            queue: Queue::default(),
            in_flight_calls: 0,
            inline_calls: 0,
            durations: Durations::default(),
            ever_ready: false,
            futile_starts: 0,
            futile_since: 0,
            done: 0,
            failed: 0,
            look_again: None,
            watch_at: NEVER,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub(crate) fn effect(&mut self) -> Option<Effect<W>> {
        self.effects.pop_front()
    }

    /// # Errors
    ///
    /// No new work is taken: why not.
    pub(crate) fn accepts(&self) -> Result<(), Refusal> {
        match self.over {
            Over::No => Ok(()),
            Over::Closed => Err(Refusal::Closed),
            Over::Terminated => Err(Refusal::Terminated),
            Over::Failed => Err(Refusal::Failed),
        }
    }

    /// Is work that was submitted still done?
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.over, Over::No | Over::Closed)
    }

    // ---- transitions of seats ----

    /// Changes the phase of a seat, and what is counted by phase. Returns what `change` does.
    pub(super) fn transit(&mut self, seat: usize, change: impl FnOnce(&mut Seat<W>) -> bool) -> bool {
        let state = &mut self.seats[seat];
        let before = state.phase() == Phase::Ready;
        let changed = change(state);
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

    pub(super) fn kill(&mut self, seat: usize) {
        if self.transit(seat, Seat::doom) {
            self.effects.push_back(Effect::Kill { seat, epoch: self.seats[seat].epoch() });
        }
    }

    /// Asks for what has not started at a seat, so that it can go elsewhere. Nothing is sent there until that is done.
    pub(super) fn recall(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        if state.works(state.epoch()) && !state.recalling {
            state.recalling = true;
            let (epoch, generation) = (state.epoch(), state.generation);
            self.effects.push_back(Effect::TakeBack { seat, epoch, generation });
        }
    }

    /// Lets an idle worker go that is worn, or that could get no more work.
    pub(super) fn leave_if_through(&mut self, seat: usize) {
        let state = &self.seats[seat];
        let worn = state.given >= self.limits.tasks_per_child || state.watch.worn;
        let no_more = self.over != Over::No && !self.more_may_come();
        if state.is_idle() && (worn || no_more) && self.transit(seat, Seat::leave) {
            self.effects.push_back(Effect::Stop { seat, epoch: self.seats[seat].epoch() });
        }
    }

    /// Once the pool is closed, lets workers go when there is nothing left that they could take over.
    pub(super) fn leave_if_idle(&mut self) {
        if self.over != Over::No && !self.more_may_come() {
            for seat in self.idle.clone() {
                self.leave_if_through(seat);
            }
        }
    }

    /// Does any call wait, or could one that was sent behind another be taken back?
    pub(super) fn more_may_come(&self) -> bool {
        self.queue.len() > 0 || self.seats.iter().any(Seat::has_calls_behind)
    }

    /// Takes everything off a seat.
    pub(super) fn empty(&mut self, seat: usize) -> VecDeque<Flight<W>> {
        self.in_flight_calls -= self.seats[seat].calls;
        self.seats[seat].empty()
    }

    /// The worker of a seat has reported, or there is room for more calls.
    pub(super) fn after_progress(&mut self, seat: usize, now: Time) {
        if self.is_old(seat, now) {
            self.seats[seat].watch.worn = true;
        }
        self.feed(seat, self.share(), now);
        self.watch(seat, now);
        if self.seats[seat].is_idle() {
            if !self.idle.contains(&seat) {
                self.idle.push(seat);
            }
            self.leave_if_through(seat);
            self.relieve(now);
        }
        self.leave_if_idle();
    }

    // ---- ends of calls ----

    /// Fails one call. `ran` is true of the present attempt; what was `tried` before is added.
    pub(super) fn fail(&mut self, work: &Arc<W>, index: u32, tried: Tried, ran: Ran, why: Why) {
        let ended = self.failure(work, index, tried, ran, why);
        self.effects.push_back(Effect::Ended(ended));
    }

    pub(super) fn failure(&mut self, work: &Arc<W>, index: u32, tried: Tried, ran: Ran, why: Why) -> Ended<W> {
        self.failed += 1;
        let how = How::Failed(CallFailure { why, ran: ran.or_before(tried.ran), attempts: tried.attempts });
        Ended { work: work.clone(), first: index, count: 1, how }
    }

    /// Fails all calls of a range.
    pub(super) fn fail_range(&mut self, range: &CallRange<W>, tried: Tried, ran: Ran, why: &Why) {
        for index in range.next..range.end {
            self.fail(&range.work, index, tried, ran, why.clone());
        }
    }

    /// Fails calls that were in flight and were lost with their worker.
    pub(super) fn fail_lost(&mut self, flight: &Flight<W>, tried: Tried, how: impl Fn(u32) -> (Ran, Option<CallLoss>)) {
        for index in flight.calls.next..flight.calls.end {
            let (ran, lost) = how(flight.header_of(index).number);
            let lost = lost.map(|lost| CallLoss { job: flight.header_of(index).job, ..lost });
            self.fail(&flight.calls.work, index, tried, ran, lost.map_or(Why::Cancelled, Why::Lost));
        }
    }

    pub(super) fn fail_waiting(&mut self, why: &Why) {
        for range in self.queue.drain() {
            self.fail_range(&range, range.tried_before(), Ran::No, why);
        }
    }

    /// Ends calls that may still run at a seat. What they lend the worker is kept until it is gone.
    pub(super) fn fail_running(&mut self, seat: usize, range: &CallRange<W>, why: &Why) {
        let (epoch, work) = (self.seats[seat].epoch(), range.work.clone());
        self.effects.push_back(Effect::Hold { seat, epoch, work });
        self.fail_range(range, range.tried(), Ran::Maybe, why);
    }

    /// Calls that did not start wait again, before all others.
    pub(super) fn send_back(&mut self, flight: Flight<W>) {
        let why = match self.over {
            _ if flight.cancelled => Why::Cancelled,
            Over::Failed => Why::PoolFailed,
            Over::Terminated => Why::Terminated,
            Over::No | Over::Closed => return self.queue.put_back(flight.calls),
        };
        self.fail_range(&flight.calls, flight.calls.tried_before(), Ran::No, &why);
    }

    /// The pool has failed: nothing that waits is done.
    pub(super) fn give_up(&mut self, tries: u32) {
        if self.goes_on() {
            // Told first: what waits fails for this reason.
            self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::GiveUpPool });
            self.over = Over::Failed;
            self.fail_waiting(&Why::PoolFailed);
        }
    }
}
