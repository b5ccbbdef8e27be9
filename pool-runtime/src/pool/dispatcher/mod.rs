//! Decides: which call goes to which worker, when one is taken back, what a death means. A state machine over bytes.
//!
//! ```text
//!             submit                    Send
//!   batch ──────────────▶ waiting ──────────────▶ in flight at a seat ──report──▶ Finish
//!                            ▲                      │        │
//!                            └───── not started ────┘        └─started, worker lost──▶ Finish (error)
//!                          (taken back, or its worker lost)
//! ```
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
mod state;

pub(crate) use state::{Batch, Counts, Effect, Flight, Limits, Start, Ticket};
use state::{Over, Phase, Seat, Waiting};

use crate::{
    error::{Error, Kind, Loss, Ran},
    protocol::{Ending, Report},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Nanoseconds since the pool began.
pub(crate) type Time = u64;

const MILLISECOND: Time = 1_000_000;

/// No call is taken to be shorter, as its transport is not.
const SHORTEST: Time = 2_000;
/// Nor longer: enough to be sent singly.
const LONGEST: Time = 1_000_000 * MILLISECOND;
/// How many workers may die before they start a call until it is given up.
const MAX_DEATHS: u32 = 5;
/// How many starts may fail one after another before the pool gives up.
const MAX_FAILED_STARTS: u32 = 5;
const FIRST_BACK_OFF: Time = 10 * MILLISECOND;
const LONGEST_BACK_OFF: Time = 2_000 * MILLISECOND;

#[derive(Debug)]
pub(crate) struct Dispatcher<S> {
    limits: Limits,
    over: Over,
    seats: Vec<Seat<S>>,
    /// Seats that are ready and have nothing in flight; the latest one last.
    idle: Vec<usize>,
    /// In the order of submission; the first one has the ticket `first_ticket`. Cancelled ones are empty.
    waiting: VecDeque<Waiting<S>>,
    first_ticket: Ticket,
    /// Came back from a worker; goes first.
    returned: VecDeque<Waiting<S>>,
    /// How many calls are in those two.
    waiting_calls: usize,
    in_flight_calls: usize,
    /// How long calls of a task take: a moving average.
    durations: HashMap<&'static str, Time>,
    ever_ready: bool,
    done: u64,
    failed: u64,
    /// When to look again for a worker that shows no progress.
    look_again: Option<Time>,
    effects: VecDeque<Effect<S>>,
}

impl<S> Dispatcher<S> {
    pub(crate) fn new(seats: usize, limits: Limits) -> Self {
        let seat = || Seat {
            phase: Phase::Empty { not_before: 0 },
            epoch: 0,
            generation: 0,
            sent: 0,
            started: 0,
            in_flight: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            failures: 0,
            ahead: 0,
            recalling: false,
            given: 0,
            finished: 0,
            done: 0,
            ready_at: 0,
            progress: 0,
        };
        Self {
            limits,
            over: Over::No,
            seats: (0..seats).map(|_| seat()).collect(),
            idle: Vec::with_capacity(seats),
            waiting: VecDeque::new(),
            first_ticket: 0,
            returned: VecDeque::new(),
            waiting_calls: 0,
            in_flight_calls: 0,
            durations: HashMap::new(),
            ever_ready: false,
            done: 0,
            failed: 0,
            look_again: None,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub(crate) fn effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    // ---- events from the users ----

    /// # Errors
    ///
    /// The pool is closed, terminated or failed.
    pub(crate) fn submit(&mut self, batch: Batch<S>, now: Time) -> Result<Ticket, Error> {
        self.accepts().map_err(|error| error.of_task(batch.task))?;
        let ticket = self.first_ticket + self.waiting.len() as u64;
        let end = batch.len();
        self.waiting_calls += end as usize;
        self.waiting.push_back(Waiting { ticket, batch: Arc::new(batch), next: 0, end, attempt: 1, deaths: 0 });
        self.feed_idle(now);
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
        let hit = self.waiting_calls + self.in_flight_calls;
        self.fail_waiting(&Error::new(Kind::Terminated));
        for seat in 0..self.seats.len() {
            for flight in self.empty(seat) {
                // The parent does not look: whether the latest one has started makes no difference to anybody.
                self.finish(flight.batch, flight.index, Err(Error::new(Kind::Terminated).with_ran(Ran::Maybe)));
            }
            self.kill(seat);
        }
        self.idle.clear();
        hit
    }

    /// Cancels what has no result yet of a batch: what waits never runs. If `running` says so, what was sent to a worker
    /// is taken back, and if it turns out to run there, the worker is killed. Returns whether there was anything to
    /// cancel.
    pub(crate) fn cancel(&mut self, ticket: Ticket, running: bool, now: Time) -> bool {
        let mut cancelled = Vec::new();
        let position = ticket.checked_sub(self.first_ticket).map(|position| position as usize);
        let waiting = position.and_then(|position| self.waiting.get_mut(position));
        for waiting in waiting.into_iter().chain(self.returned.iter_mut().filter(|unit| unit.ticket == ticket)) {
            self.waiting_calls -= waiting.len();
            cancelled.extend((waiting.next..waiting.end).map(|index| (waiting.batch.clone(), index)));
            waiting.end = waiting.next;
        }
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
        for (batch, index) in cancelled {
            self.finish(batch, index, Err(Error::new(Kind::Cancelled)));
        }
        self.feed_idle(now);
        any
    }

    // ---- events from the seats ----

    /// What is to happen at an empty seat.
    pub(crate) fn next_start(&mut self, seat: usize, now: Time) -> Start {
        let needed = match self.over {
            Over::No => true,
            Over::Closed => self.more_may_come(),
            Over::Terminated | Over::Failed(_) => false,
        };
        let state = &mut self.seats[seat];
        match state.phase {
            Phase::Empty { .. } if !needed => {
                state.phase = Phase::Closed;
                Start::Never
            }
            Phase::Empty { not_before } if not_before > now => Start::NotBefore(not_before),
            Phase::Empty { .. } => {
                state.epoch += 1;
                state.phase = Phase::Starting;
                Start::Now { epoch: state.epoch }
            }
            _ => Start::Never,
        }
    }

    /// A process of this epoch takes calls.
    pub(crate) fn ready(&mut self, seat: usize, epoch: u32, now: Time) {
        self.ever_ready = true;
        let state = &mut self.seats[seat];
        if state.epoch != epoch || state.phase != Phase::Starting {
            return;
        }
        state.phase = Phase::Ready;
        (state.generation, state.sent, state.started, state.given, state.finished) = (0, 0, 0, 0, 0);
        (state.ready_at, state.progress) = (now, now);
        self.idle.push(seat);
        if !matches!(self.over, Over::No | Over::Closed) {
            self.kill(seat);
            self.idle.retain(|idle| *idle != seat);
            return;
        }
        self.feed_idle(now);
        self.leave_if_through(seat);
    }

    /// A process did not become a worker.
    pub(crate) fn start_failed(&mut self, seat: usize, epoch: u32, error: Error, for_good: bool, now: Time) {
        if self.seats[seat].epoch != epoch {
            return;
        }
        self.start_failed_for(seat, error, for_good && !self.ever_ready);
        self.vacate(seat, now);
    }

    /// Counts a failed start. A seat where all starts fail is given up; so is the pool when nobody else works in it.
    fn start_failed_for(&mut self, seat: usize, error: Error, at_once: bool) {
        self.seats[seat].failures += 1;
        let tries = self.seats[seat].failures;
        let others = self.seats.iter().any(|seat| seat.phase == Phase::Ready);
        if !at_once && tries < MAX_FAILED_STARTS {
            return;
        }
        if others {
            tracing::warn!("a worker is given up after {tries} starts that failed, the last one so: {error}");
            self.seats[seat].phase = Phase::Closed;
        } else if matches!(self.over, Over::No | Over::Closed) {
            let reason = match tries {
                1 => error.to_string(),
                tries => format!("{error} ({tries} tries)"),
            };
            let error = Error::new(Kind::PoolFailed { reason, cause: Some(Box::new(error)) });
            self.fail_waiting(&error);
            self.over = Over::Failed(error);
        }
    }

    /// A worker reports.
    ///
    /// # Errors
    ///
    /// The report is not about any call it was sent: the worker makes no sense.
    pub(crate) fn report(&mut self, seat: usize, report: Report, now: Time) -> Result<(), &'static str> {
        let state = &mut self.seats[seat];
        if report.epoch != state.epoch {
            return Err("reports for another process");
        }
        let Some(position) = state.in_flight.iter().position(|flight| flight.number == report.call.number) else {
            return match state.phase {
                Phase::Ready | Phase::Leaving => Err("reports a call that it was not sent"),
                // It has been given up already.
                _ => Ok(()),
            };
        };
        if state.in_flight[position].header() != report.call {
            return Err("reports a call that it was not sent");
        }
        let Some(flight) = state.in_flight.remove(position) else { return Err("reports a call twice") };
        state.ahead -= flight.expected;
        state.has_read(flight.number);
        state.failures = 0;
        state.finished += 1;
        state.done += 1;
        state.progress = now;
        self.in_flight_calls -= 1;
        let nanos = report.nanos.clamp(SHORTEST, LONGEST);
        let average = self.durations.entry(flight.batch.task).or_insert(nanos);
        *average = (*average * 7 + nanos) / 8;

        if report.leaving && state.phase == Phase::Ready {
            state.phase = Phase::Leaving;
        }
        let ran = report.stage.ran();
        let result = match report.ending {
            _ if flight.cancelled => Err(Error::new(Kind::Cancelled).with_ran(ran)),
            Ending::Value(bytes) => Ok(bytes),
            Ending::Panicked(panic) => Err(Error::new(Kind::Panicked { panic, stage: report.stage }).with_ran(ran)),
            Ending::Decode(why) => Err(Error::new(Kind::DecodeArgument(why))),
            Ending::Encode(why) => Err(Error::new(Kind::EncodeResult(why)).with_ran(ran)),
            Ending::Unfit(why) => Err(Error::new(Kind::State(why))),
        };
        self.finish(flight.batch, flight.index, result);
        self.after_progress(seat, now);
        Ok(())
    }

    /// The process of a seat has ended. `claimed` is the number of the latest call that it started.
    pub(crate) fn lost(&mut self, seat: usize, epoch: u32, loss: &Loss, claimed: u32, now: Time) {
        if self.seats[seat].epoch != epoch {
            return;
        }
        let state = &self.seats[seat];
        let expected = matches!(state.phase, Phase::Leaving | Phase::Doomed);
        let useless = state.finished == 0 && now.saturating_sub(state.ready_at) < 1000 * MILLISECOND;
        let (back, started): (Vec<_>, Vec<_>) =
            self.empty(seat).into_iter().partition(|flight| is_after(flight.number, claimed));
        let nothing_started = started.is_empty();
        self.seats[seat].phase = Phase::Empty { not_before: now };
        // In reverse, as each goes to the front. They are not to blame for what a call before them did.
        for flight in back.into_iter().rev() {
            let flight = Flight { deaths: flight.deaths + u32::from(nothing_started), ..flight };
            if flight.deaths < MAX_DEATHS || flight.cancelled {
                self.send_back(flight);
            } else {
                self.finish(flight.batch, flight.index, Err(Error::new(Kind::Lost(loss.clone()))));
            }
        }
        for flight in started {
            let ran = if flight.number == claimed { loss.stage.ran() } else { Ran::Maybe };
            let kind = if flight.cancelled { Kind::Cancelled } else { Kind::Lost(loss.clone()) };
            self.finish(flight.batch, flight.index, Err(Error::new(kind).with_ran(ran)));
        }
        if !expected && useless && nothing_started {
            // It died by itself before it did anything: as good as a failed start.
            self.start_failed_for(seat, Error::new(Kind::Lost(loss.clone())), false);
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
        let kept = state.in_flight.iter().take_while(|flight| !is_after(flight.number, claimed)).count();
        let back = state.in_flight.split_off(kept);
        state.given -= back.len() as u64;
        state.ahead -= back.iter().map(|flight| flight.expected).sum::<Time>();
        state.has_read(claimed);
        self.in_flight_calls -= back.len();
        // In reverse, as each goes to the front.
        for flight in back.into_iter().rev() {
            self.send_back(flight);
        }
        self.kill_if_cancelled(seat, claimed);
        self.feed_idle(now);
        if self.seats[seat].phase == Phase::Ready {
            self.after_progress(seat, now);
        }
    }

    // ---- time ----

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        self.look_again
    }

    pub(crate) fn tick(&mut self, now: Time) {
        if self.look_again.is_some_and(|at| at <= now) {
            self.look_again = None;
            self.relieve(now);
        }
    }

    // ---- questions ----

    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.over, Over::No)
    }

    /// Every seat is empty for good, and so nothing is left to be told.
    pub(crate) fn is_finished(&self) -> bool {
        self.seats.iter().all(|seat| seat.phase == Phase::Closed)
    }

    pub(crate) fn is_starting(&self, seat: usize) -> bool {
        self.seats[seat].phase == Phase::Starting
    }

    /// Nobody attends to these seats any more. What was there, and what nobody is left to do, fails.
    pub(crate) fn abandon(&mut self, seats: std::ops::Range<usize>, error: &Error) {
        for seat in seats {
            for flight in self.empty(seat) {
                self.finish(flight.batch, flight.index, Err(error.clone().with_ran(Ran::Maybe)));
            }
            self.kill(seat);
            self.idle.retain(|idle| *idle != seat);
            self.seats[seat].phase = Phase::Closed;
        }
        if self.is_finished() && matches!(self.over, Over::No | Over::Closed) {
            self.fail_waiting(error);
            self.over = Over::Failed(error.clone());
        }
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
        Counts { waiting: self.waiting_calls, running: self.in_flight_calls, done: self.done, failed: self.failed }
    }

    /// Where this batch is, a single call, if it is the only one in flight there.
    pub(crate) fn alone_at(&self, ticket: Ticket) -> Option<(usize, u32)> {
        let alone = |seat: &&Seat<S>| seat.in_flight.len() == 1 && seat.in_flight[0].ticket == ticket;
        self.seats.iter().enumerate().find(|(_, seat)| alone(seat)).map(|(index, seat)| (index, seat.epoch))
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

    // ---- the parts ----

    fn finish(&mut self, batch: Arc<Batch<S>>, index: u32, result: Result<Vec<u8>, Error>) {
        match result {
            Ok(_) => self.done += 1,
            Err(_) => self.failed += 1,
        }
        let result = result.map_err(|error| error.of_task(batch.task));
        self.effects.push_back(Effect::Finish { batch, index, result });
    }

    fn fail_waiting(&mut self, error: &Error) {
        self.first_ticket += self.waiting.len() as u64;
        let all: Vec<_> = self.returned.drain(..).chain(self.waiting.drain(..)).collect();
        self.waiting_calls = 0;
        for unit in all {
            for index in unit.next..unit.end {
                self.finish(unit.batch.clone(), index, Err(error.clone()));
            }
        }
    }

    /// Takes everything off a seat.
    fn empty(&mut self, seat: usize) -> VecDeque<Flight<S>> {
        let state = &mut self.seats[seat];
        (state.unread_bytes, state.ahead) = (0, 0);
        state.unread.clear();
        state.recalling = false;
        let flights = std::mem::take(&mut state.in_flight);
        self.in_flight_calls -= flights.len();
        flights
    }

    /// A call that did not start waits again, before all others.
    fn send_back(&mut self, flight: Flight<S>) {
        if flight.cancelled {
            self.finish(flight.batch, flight.index, Err(Error::new(Kind::Cancelled)));
            return;
        }
        let over = match &self.over {
            Over::Failed(error) => Some(error.clone()),
            Over::Terminated => Some(Error::new(Kind::Terminated)),
            Over::No | Over::Closed => None,
        };
        if let Some(error) = over {
            self.finish(flight.batch, flight.index, Err(error));
            return;
        }
        self.waiting_calls += 1;
        // Calls that lay side by side in a batch do so again.
        if let Some(front) = self.returned.front_mut()
            && front.ticket == flight.ticket
            && front.next == flight.index + 1
            && (front.attempt, front.deaths) == (flight.attempt + 1, flight.deaths)
        {
            front.next = flight.index;
            return;
        }
        self.returned.push_front(Waiting {
            ticket: flight.ticket,
            batch: flight.batch,
            next: flight.index,
            end: flight.index + 1,
            attempt: flight.attempt + 1,
            deaths: flight.deaths,
        });
    }

    fn vacate(&mut self, seat: usize, now: Time) {
        self.idle.retain(|idle| *idle != seat);
        let state = &mut self.seats[seat];
        if state.phase == Phase::Closed {
            return;
        }
        let back_off = match state.failures {
            0 => 0,
            failures => (FIRST_BACK_OFF << (failures - 1).min(16)).min(LONGEST_BACK_OFF),
        };
        state.phase = Phase::Empty { not_before: now + back_off };
    }

    fn kill(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        if !matches!(state.phase, Phase::Empty { .. } | Phase::Closed | Phase::Doomed) {
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
        let Some(flight) = state.in_flight.pop_back_if(|flight| flight.cancelled && flight.number == claimed) else {
            return;
        };
        state.ahead -= flight.expected;
        self.in_flight_calls -= 1;
        self.finish(flight.batch, flight.index, Err(Error::new(Kind::Cancelled).with_ran(Ran::Maybe)));
        self.kill(seat);
    }

    fn leave_if_through(&mut self, seat: usize) {
        let worn = self.seats[seat].given >= self.limits.tasks_per_child;
        let no_more = !matches!(self.over, Over::No) && !self.more_may_come();
        let state = &mut self.seats[seat];
        if state.phase == Phase::Ready && state.in_flight.is_empty() && !state.recalling && (worn || no_more) {
            state.phase = Phase::Leaving;
            self.effects.push_back(Effect::Stop { seat, epoch: state.epoch });
            self.idle.retain(|idle| *idle != seat);
        }
    }

    /// Does any call wait, or could one that was sent behind another be taken back?
    fn more_may_come(&self) -> bool {
        let behind = |seat: &Seat<S>| {
            seat.in_flight.len() > 1 && seat.in_flight.back().is_some_and(|last| is_after(last.number, seat.started))
        };
        self.waiting_calls > 0 || self.seats.iter().any(behind)
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
        self.feed(seat, self.share(), now);
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
mod tests;
