//! Decides: which call goes to which worker, when one is taken back, what a death means. A state machine that sees
//! neither arguments nor results.
//!
//! ```text
//!             submit                    Send
//!   work  ──────────────▶ waiting ──────────────▶ in flight at a seat ──reported──▶ Values, Failed
//!                            ▲                      │        │
//!                            └───── not started ────┘        └─started, worker lost──▶ Failed
//!                          (taken back, or its worker lost)
//! ```
//!
//! Calls that were submitted together stay together as far as they can: a range of them waits, is in flight and is
//! reported as one, so that ten million calls cost as much here as a few thousand ranges.
//!
//! Every method is an event; what is to be done about it is left in [`Dispatcher::effects`], and the caller carries it
//! out. Nothing here makes a system call, reads a clock, knows a process or a user's type: time comes in as a number,
//! and so unit tests and simulations can drive it through every order of events.
//!
//! A *seat* is a worker's place in the pool. Processes come and go at a seat; each has its own *epoch*, and an event of
//! an earlier epoch is ignored. The calls of a seat are numbered in the order in which they are sent; a worker starts
//! them in that order, and the number of the latest one that has started says, after a death, what is lost and what is
//! merely to be sent elsewhere.
//!
//! Invariants, which the simulation in the tests checks after each event: a call is in exactly one place, ends once and
//! runs at most once; a seat that is idle has nothing in flight; nobody is idle while a call waits.

mod feed;
mod here;
mod questions;
mod starts;
mod state;
mod watch;

use feed::Durations;
pub(crate) use state::{Counts, Effect, Flight, Limits, Start, Ticket, Work};
use state::{Over, Phase, Seat, Tried, Waiting};
pub(crate) use watch::Seen;
use watch::{NEVER, Watch};

use crate::{
    dossier::{Dossier, Loss, Ran},
    error::{Error, Kind},
    protocol::{CallHeader, Failed},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Nanoseconds since the pool began.
pub(crate) type Time = u64;

const MILLISECOND: Time = 1_000_000;

/// No call is taken to be longer: enough to be sent singly.
const LONGEST: Time = 1_000_000 * MILLISECOND;
/// How many workers may die before they start a call until it is given up; more if it may be tried again.
const MAX_DEATHS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Dispatcher<W: ?Sized> {
    limits: Limits,
    over: Over,
    seats: Vec<Seat<W>>,
    /// How many of them take calls.
    ready_seats: usize,
    /// Seats that are ready and have nothing in flight; the latest one last.
    idle: Vec<usize>,
    /// The seat that something was sent to last.
    latest: usize,
    /// In the order of submission; the first one has the ticket `first_ticket`. Cancelled ones are empty.
    waiting: VecDeque<Waiting<W>>,
    first_ticket: Ticket,
    /// Came back from a worker; goes first.
    returned: VecDeque<Waiting<W>>,
    /// How many calls are in those two.
    waiting_calls: usize,
    /// Are tried again at a time, in the order of their times.
    delayed: Vec<(Time, Waiting<W>)>,
    delayed_calls: usize,
    in_flight_calls: usize,
    /// Calls that run where they were submitted.
    running_here: usize,
    durations: Durations,
    ever_ready: bool,
    /// How many starts have failed, at any seat, since a call was finished.
    futile_starts: u32,
    done: u64,
    failed: u64,
    /// When to look again for a worker that shows no progress.
    look_again: Option<Time>,
    /// When to look at some worker, or before: see [`watch`].
    watch_at: Time,
    effects: VecDeque<Effect<W>>,
}

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(crate) fn new(seats: usize, limits: Limits) -> Self {
        let seat = || Seat {
            phase: Phase::Empty { not_before: 0 },
            epoch: 0,
            generation: 0,
            sent: 0,
            started: 0,
            in_flight: VecDeque::new(),
            calls: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            failures: 0,
            ahead: 0,
            task: "",
            recalling: false,
            relieved: 0,
            given: 0,
            finished: 0,
            done: 0,
            ready_at: 0,
            progress: 0,
            watch: Watch::new(),
        };
        Self {
            limits,
            over: Over::No,
            seats: (0..seats).map(|_| seat()).collect(),
            ready_seats: 0,
            idle: Vec::with_capacity(seats),
            latest: 0,
            waiting: VecDeque::new(),
            first_ticket: 0,
            returned: VecDeque::new(),
            waiting_calls: 0,
            delayed: Vec::new(),
            delayed_calls: 0,
            in_flight_calls: 0,
            running_here: 0,
            durations: Durations::default(),
            ever_ready: false,
            futile_starts: 0,
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

    // ---- events from the users ----

    /// # Errors
    ///
    /// The pool is closed, terminated or failed.
    pub(crate) fn submit(&mut self, work: Arc<W>, calls: u32, now: Time) -> Result<Ticket, Error> {
        self.accepts().map_err(|error| error.of_task(work.task()))?;
        let ticket = self.first_ticket + self.waiting.len() as u64;
        self.waiting_calls += calls as usize;
        self.waiting.push_back(Waiting { ticket, work, next: 0, end: calls, attempt: 1, deaths: 0, ran: Ran::No });
        if !self.idle.is_empty() && !self.append(now) {
            self.feed_idle(now);
        }
        Ok(ticket)
    }

    /// # Errors
    ///
    /// No new work is taken: why not.
    pub(crate) fn accepts(&self) -> Result<(), Error> {
        match &self.over {
            Over::No => Ok(()),
            Over::Closed => Err(Error::new(Kind::Closed("closed"))),
            Over::Terminated => Err(Error::new(Kind::Closed("terminated"))),
            Over::Failed(error) => Err(error.clone()),
        }
    }

    pub(crate) fn close(&mut self) {
        if matches!(self.over, Over::No) {
            self.over = Over::Closed;
        }
        for seat in 0..self.seats.len() {
            self.leave_if_through(seat);
        }
    }

    /// Ends everything: what waits and what runs fails, every process is killed. Returns how many calls that hit.
    pub(crate) fn terminate(&mut self) -> usize {
        if matches!(self.over, Over::Terminated) {
            return 0;
        }
        self.over = Over::Terminated;
        let hit = self.waiting_calls + self.delayed_calls + self.in_flight_calls + self.running_here;
        self.fail_waiting(&Error::new(Kind::Terminated));
        for seat in 0..self.seats.len() {
            for flight in self.empty(seat) {
                // The parent does not look: whether the latest one has started makes no difference to anybody.
                self.fail_flight(&flight, flight.tried(), |_| Error::new(Kind::Terminated).with_ran(Ran::Maybe));
            }
            self.kill(seat);
        }
        self.idle.clear();
        hit
    }

    /// Cancels what has no result yet of a batch: what waits never runs. If `running` says so, what was sent to a
    /// worker is taken back, and if it turns out to run there, the worker is killed. Returns whether there was anything
    /// to cancel.
    pub(crate) fn cancel(&mut self, ticket: Ticket, running: bool, now: Time) -> bool {
        let mut cancelled = Vec::new();
        let position = ticket.checked_sub(self.first_ticket).map(|position| position as usize);
        let waiting = position.and_then(|position| self.waiting.get_mut(position));
        let delayed = self.delayed.iter_mut().map(|(_, unit)| (true, unit));
        let others = self.returned.iter_mut().map(|unit| (false, unit)).chain(delayed);
        let waiting =
            waiting.into_iter().map(|unit| (false, unit)).chain(others.filter(|(_, unit)| unit.ticket == ticket));
        for (delayed, waiting) in waiting {
            *if delayed { &mut self.delayed_calls } else { &mut self.waiting_calls } -= waiting.len();
            cancelled.extend((waiting.next..waiting.end).map(|index| (waiting.work.clone(), index, waiting.tried())));
            waiting.end = waiting.next;
        }
        self.delayed.retain(|(_, unit)| unit.len() > 0);
        let mut sent = 0;
        for seat in 0..if running { self.seats.len() } else { 0 } {
            let hit =
                self.seats[seat].in_flight.iter_mut().filter(|flight| flight.ticket == ticket && !flight.cancelled);
            let hit = hit.map(|flight| flight.cancelled = true).count();
            if hit > 0 {
                // Until it is known which call runs there, none is to be killed.
                self.recall(seat);
            }
            sent += hit;
        }
        let any = sent > 0 || !cancelled.is_empty();
        for (work, index, tried) in cancelled {
            self.fail(work, index, tried, Error::new(Kind::Cancelled));
        }
        self.feed_idle(now);
        any
    }

    // ---- events from the seats ----

    /// A worker reports how calls have ended, from this number on: with values, or one with a failure. When all that it
    /// has to say is told, [`progressed`](Self::progressed) is to follow.
    ///
    /// # Errors
    ///
    /// The report is not about the calls that come next: the worker makes no sense.
    pub(crate) fn reported(
        &mut self,
        seat: usize,
        epoch: u32,
        (mut number, mut count): (u32, u32),
        mut failed: Option<Failed>,
    ) -> Result<(), &'static str> {
        while count > 0 {
            let state = &mut self.seats[seat];
            let known = state.epoch == epoch && matches!(state.phase, Phase::Ready | Phase::Leaving);
            let Some(flight) = state.in_flight.front_mut().filter(|flight| flight.number == number) else {
                // What a worker has to say that was given up is of no interest.
                return if known { Err("reports a call that it was not sent") } else { Ok(()) };
            };
            let ended = flight.len().min(count);
            let (first, cancelled, tried) = (flight.next, flight.cancelled, flight.tried());
            state.ahead -= flight.expected * Time::from(ended);
            let work = if ended == flight.len() {
                state.in_flight.pop_front().map(|flight| flight.work)
            } else {
                flight.next += ended;
                flight.number = flight.number.wrapping_add(ended);
                Some(flight.work.clone())
            };
            let Some(work) = work else { return Ok(()) };
            state.calls -= ended as usize;
            state.has_read(number.wrapping_add(ended).wrapping_sub(1));
            (state.failures, state.relieved) = (0, 0);
            self.futile_starts = 0;
            state.finished += u64::from(ended);
            state.done += u64::from(ended);
            state.task = work.task();
            self.in_flight_calls -= ended as usize;
            if failed.as_ref().is_some_and(|failed| failed.leaving) && state.phase == Phase::Ready {
                state.phase = Phase::Leaving;
                self.ready_seats -= 1;
            }
            if let Some(failed) = failed.take() {
                let error = match cancelled {
                    true => Error::new(Kind::Cancelled).with_ran(failed.stage.ran()),
                    false => failed.into(),
                };
                self.fail(work, first, tried, error);
            } else if cancelled {
                for index in first..first + ended {
                    self.fail(work.clone(), index, tried, Error::new(Kind::Cancelled).with_ran(Ran::Yes));
                }
            } else {
                self.done += u64::from(ended);
                self.effects.push_back(Effect::Values { work, first, count: ended, number });
            }
            number = number.wrapping_add(ended);
            count -= ended;
        }
        Ok(())
    }

    /// A worker has begun to report a call, at some length.
    pub(crate) fn begins(&self, seat: usize, epoch: u32, number: u32) -> Result<(), &'static str> {
        let state = &self.seats[seat];
        let known = state.epoch == epoch && matches!(state.phase, Phase::Ready | Phase::Leaving);
        let sent = state.in_flight.front().is_some_and(|flight| flight.number == number);
        if known && !sent { Err("reports a call that it was not sent") } else { Ok(()) }
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
        if self.seats[seat].epoch == epoch {
            self.seats[seat].progress = now;
            self.after_progress(seat, now);
        }
    }

    /// The process of a seat has ended. `claimed` is the number of the latest call that it started.
    pub(crate) fn lost(&mut self, seat: usize, epoch: u32, loss: &Arc<Loss>, claimed: u32, now: Time) {
        let state = &self.seats[seat];
        if state.epoch != epoch || matches!(state.phase, Phase::Empty { .. } | Phase::Closed) {
            // Of that one, it is known.
            return;
        }
        let expected = matches!(state.phase, Phase::Leaving | Phase::Doomed);
        let useless = state.finished == 0 && now.saturating_sub(state.ready_at) < 1000 * MILLISECOND;
        // It began when the one before it was reported, or when it was sent.
        let time = Duration::from_nanos(now.saturating_sub(state.progress));
        let (mut back, mut started) = (Vec::new(), Vec::new());
        for mut flight in self.empty(seat) {
            let behind = flight.split_after(claimed);
            // What is said of the one that ran is not said of those before it.
            let last = flight.split_after(claimed.wrapping_sub(1));
            started.extend([Some(flight), last].into_iter().flatten().filter(|flight| flight.len() > 0));
            back.extend(behind);
        }
        let nothing_started = started.is_empty();
        self.gone(seat);
        self.seats[seat].phase = Phase::Empty { not_before: now };
        // In reverse, as each goes to the front. They are not to blame for what a call before them did.
        for flight in back.into_iter().rev() {
            let flight = Flight { deaths: flight.deaths.saturating_add(nothing_started.into()), ..flight };
            let most = MAX_DEATHS.saturating_add(flight.work.policy().retries);
            if u32::from(flight.deaths) < most || flight.cancelled {
                self.send_back(flight);
            } else {
                self.fail_flight(&flight, flight.tried_before(), |call| {
                    Error::new(Kind::Lost(Dossier::of_call(loss, call.job, call.attempt, None)))
                });
            }
        }
        for flight in started {
            let ran = Self::ran(&flight, flight.last_number() == claimed, loss);
            let Some(flight) = self.retry(seat, flight, claimed, ran, now) else { continue };
            for index in flight.next..flight.end {
                let call = flight.header_of(index);
                let ran = Self::ran(&flight, call.number == claimed, loss);
                let dossier = Dossier::of_call(loss, call.job, call.attempt, Some(time));
                let kind = if flight.cancelled { Kind::Cancelled } else { self.how_lost(seat, call.number, dossier) };
                self.fail(flight.work.clone(), index, flight.tried(), Error::new(kind).with_ran(ran));
            }
        }
        if !expected && useless && nothing_started {
            // It died by itself before it did anything: as good as a failed start.
            let dossier = Dossier::of_process(loss.clone());
            self.start_failed_for(seat, Error::new(Kind::Lost(dossier)), false);
        }
        self.vacate(seat, now);
        self.feed_idle(now);
    }

    /// What had not started at a seat was taken back; `claimed` is the number of the latest call that had.
    pub(crate) fn taken_back(&mut self, seat: usize, epoch: u32, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        if state.epoch != epoch || !state.recalling {
            return;
        }
        state.recalling = false;
        state.started = claimed;
        state.generation = state.generation.wrapping_add(1);
        let kept = state.in_flight.partition_point(|flight| !is_after(flight.number, claimed));
        let mut back = state.in_flight.split_off(kept);
        if let Some(behind) = state.in_flight.back_mut().and_then(|flight| flight.split_after(claimed)) {
            back.push_front(behind);
        }
        let calls: usize = back.iter().map(|flight| flight.len() as usize).sum();
        state.given -= calls as u64;
        state.calls -= calls;
        state.ahead -= back.iter().map(Flight::ahead).sum::<Time>();
        state.has_read(claimed);
        self.in_flight_calls -= calls;
        // In reverse, as each goes to the front.
        for flight in back.into_iter().rev() {
            self.send_back(flight);
        }
        self.kill_if_cancelled(seat, claimed);
        self.kill_if_condemned(seat, claimed, now);
        self.feed_idle(now);
        if self.seats[seat].phase == Phase::Ready {
            self.after_progress(seat, now);
        }
    }

    // ---- time ----

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        self.look_again.into_iter().chain(self.next_watch()).min()
    }

    pub(crate) fn tick(&mut self, now: Time) {
        if self.look_again.is_some_and(|at| at <= now) {
            self.look_again = None;
            self.relieve(now);
        }
        self.tick_watches(now);
    }

    /// Nobody attends to these seats any more. What was there, and what nobody is left to do, fails.
    pub(crate) fn abandon(&mut self, seats: std::ops::Range<usize>, error: &Error) {
        for seat in seats {
            for flight in self.empty(seat) {
                self.fail_flight(&flight, flight.tried(), |_| error.clone().with_ran(Ran::Maybe));
            }
            self.kill(seat);
            self.gone(seat);
            self.idle.retain(|idle| *idle != seat);
            self.seats[seat].phase = Phase::Closed;
        }
        if self.is_finished() && matches!(self.over, Over::No | Over::Closed) {
            self.fail_waiting(error);
            self.over = Over::Failed(error.clone());
        }
    }

    // ---- the parts ----

    /// Have calls been started that were lost with a worker which had taken them up? Of the `last` one it is known how
    /// far it was.
    fn ran(flight: &Flight<W>, last: bool, loss: &Loss) -> Ran {
        let now = if last { loss.stage.ran() } else { Ran::Maybe };
        now.or_before(flight.ran)
    }

    /// The error says what its own attempt has come to; what was `tried` before is added.
    fn fail(&mut self, work: Arc<W>, index: u32, tried: Tried, error: Error) {
        self.failed += 1;
        let ran = error.ran().or_before(tried.ran);
        let error = error.of_task(work.task()).with_ran(ran).with_attempts(tried.attempts);
        self.effects.push_back(Effect::Failed { work, index, error });
    }

    /// Fails all of it, each with an error of its own.
    fn fail_flight(&mut self, flight: &Flight<W>, tried: Tried, error: impl Fn(CallHeader) -> Error) {
        for index in flight.next..flight.end {
            self.fail(flight.work.clone(), index, tried, error(flight.header_of(index)));
        }
    }

    /// A process is not there any more, or not for calls.
    fn gone(&mut self, seat: usize) {
        if self.seats[seat].phase == Phase::Ready {
            self.ready_seats -= 1;
        }
    }

    fn fail_waiting(&mut self, error: &Error) {
        self.first_ticket += self.waiting.len() as u64;
        let delayed = self.delayed.drain(..).map(|(_, unit)| unit);
        let all: Vec<_> = self.returned.drain(..).chain(delayed).chain(self.waiting.drain(..)).collect();
        (self.waiting_calls, self.delayed_calls) = (0, 0);
        for unit in all {
            for index in unit.next..unit.end {
                self.fail(unit.work.clone(), index, unit.tried(), error.clone());
            }
        }
    }

    /// Takes everything off a seat.
    fn empty(&mut self, seat: usize) -> VecDeque<Flight<W>> {
        let state = &mut self.seats[seat];
        self.in_flight_calls -= state.calls;
        (state.unread_bytes, state.ahead, state.calls) = (0, 0, 0);
        state.unread.clear();
        state.recalling = false;
        std::mem::take(&mut state.in_flight)
    }

    /// Calls that did not start wait again, before all others.
    fn send_back(&mut self, flight: Flight<W>) {
        let over = match &self.over {
            _ if flight.cancelled => Some(Error::new(Kind::Cancelled)),
            Over::Failed(error) => Some(error.clone()),
            Over::Terminated => Some(Error::new(Kind::Terminated)),
            Over::No | Over::Closed => None,
        };
        if let Some(error) = over {
            return self.fail_flight(&flight, flight.tried_before(), |_| error.clone());
        }
        self.waiting_calls += flight.len() as usize;
        // Calls that were submitted side by side are so again.
        if let Some(front) = self.returned.front_mut()
            && front.ticket == flight.ticket
            && front.next == flight.end
            && (front.attempt, front.deaths, front.ran) == (flight.attempt, flight.deaths, flight.ran)
        {
            front.next = flight.next;
            return;
        }
        self.returned.push_front(Waiting {
            ticket: flight.ticket,
            work: flight.work,
            next: flight.next,
            end: flight.end,
            attempt: flight.attempt,
            deaths: flight.deaths,
            ran: flight.ran,
        });
    }

    fn kill(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        if !matches!(state.phase, Phase::Empty { .. } | Phase::Closed | Phase::Doomed) {
            self.ready_seats -= usize::from(state.phase == Phase::Ready);
            state.phase = Phase::Doomed;
            self.effects.push_back(Effect::Kill { seat, epoch: state.epoch });
        }
    }

    /// Asks for what has not started at a seat, so that it can go elsewhere. Nothing is sent there until that is done.
    fn recall(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        if matches!(state.phase, Phase::Ready | Phase::Leaving) && !state.recalling {
            state.recalling = true;
            self.effects.push_back(Effect::TakeBack { seat, epoch: state.epoch, generation: state.generation });
        }
    }

    /// Kills the worker if the latest call that it started was cancelled. What it has not started has been taken back,
    /// so no other call is hit; what it finished before is reported, or will be.
    fn kill_if_cancelled(&mut self, seat: usize, claimed: u32) {
        let state = &mut self.seats[seat];
        let Some(flight) =
            state.in_flight.back_mut().filter(|flight| flight.cancelled && flight.last_number() == claimed)
        else {
            return;
        };
        let (work, index, expected, tried) = (flight.work.clone(), flight.end - 1, flight.expected, flight.tried());
        flight.end = index;
        if flight.len() == 0 {
            state.in_flight.pop_back();
        }
        state.ahead -= expected;
        state.calls -= 1;
        self.in_flight_calls -= 1;
        self.fail(work, index, tried, Error::new(Kind::Cancelled).with_ran(Ran::Maybe));
        self.kill(seat);
    }

    fn leave_if_through(&mut self, seat: usize) {
        let worn = self.seats[seat].given >= self.limits.tasks_per_child || self.seats[seat].watch.worn;
        let no_more = !matches!(self.over, Over::No) && !self.more_may_come();
        let state = &mut self.seats[seat];
        if state.phase == Phase::Ready && state.in_flight.is_empty() && !state.recalling && (worn || no_more) {
            state.phase = Phase::Leaving;
            self.ready_seats -= 1;
            self.effects.push_back(Effect::Stop { seat, epoch: state.epoch });
            self.idle.retain(|idle| *idle != seat);
        }
    }

    /// Is what has not come to an end done at all?
    fn takes_back(&self) -> bool {
        matches!(self.over, Over::No | Over::Closed)
    }

    /// Does any call wait, or could one that was sent behind another be taken back?
    fn more_may_come(&self) -> bool {
        let behind = |seat: &Seat<W>| {
            seat.calls > 1 && seat.in_flight.back().is_some_and(|last| is_after(last.last_number(), seat.started))
        };
        self.waiting_calls + self.delayed_calls > 0 || self.seats.iter().any(behind)
    }

    /// Once the pool is closed, lets workers go when there is nothing left that they could take over.
    fn leave_if_idle(&mut self) {
        if matches!(self.over, Over::No) || self.more_may_come() {
            return;
        }
        for seat in std::mem::take(&mut self.idle) {
            self.leave_if_through(seat);
        }
    }

    fn after_progress(&mut self, seat: usize, now: Time) {
        if self.is_old(seat, now) {
            self.seats[seat].watch.worn = true;
        }
        self.feed(seat, self.share(), now);
        self.watch(seat, now);
        let state = &self.seats[seat];
        if state.phase == Phase::Ready && state.in_flight.is_empty() && !state.recalling {
            if !self.idle.contains(&seat) {
                self.idle.push(seat);
            }
            self.leave_if_through(seat);
            self.relieve(now);
        }
        self.leave_if_idle();
    }
}

/// Numbers wrap around; what is in flight is far less than half of them.
fn is_after(number: u32, claimed: u32) -> bool {
    number.wrapping_sub(claimed) as i32 > 0
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
