//! Limits of time and memory, the replacement of old and large workers, those that do not leave, and retries.
//!
//! ```text
//!   look_at ──tick──▶ Look ──seen──▶ nothing wrong: look again later
//!                                └─▶ condemned ──▶ TakeBack ──taken back──▶ still that call: Kill ──lost──▶ Failed, or
//!                                                                      └──▶ it has finished: nothing       delayed
//! ```
//!
//! Only its status page tells which call a worker runs, and since when. That may have changed since it was read, so a
//! worker is never killed because of it alone: first its other calls are taken back, and it is killed only if it still
//! runs that very call. A result that arrives in the meantime counts.

use crate::dossier::Ran;
use crate::pool::dispatcher::{
    CallRange, Dispatcher, Effect, Excess, Flight, MILLISECOND, NEVER, Observation, Phase, Time, Work,
};

/// The longest delay of a retry.
const LONGEST_DELAY: Time = 30_000 * MILLISECOND;

/// The least time until the next look at a worker whose call has not started yet.
const SOON: Time = MILLISECOND;

/// The least time between two looks at a worker that joins its processes.
const STILL_JOINS: Time = 100 * MILLISECOND;

impl<W: ?Sized + Work> Dispatcher<W> {
    /// Sets the time of the next look at a worker that was given calls, or has made progress.
    pub(super) fn watch(&mut self, seat: usize, now: Time) {
        let (state, limits) = (&mut self.seats[seat], &self.limits);
        let weighs = limits.memory_per_child != u64::MAX;
        let Some(front) = state.in_flight.front() else {
            let at =
                if weighs && !state.worker.retiring { state.worker.weighed_at + limits.weigh_every } else { NEVER };
            return self.look_at(seat, at);
        };
        let policy = front.calls.work.policy();
        if !weighs && !policy.is_watched() {
            state.worker.look_at = NEVER;
            return;
        }
        if state.worker.front.0 != front.number || state.worker.front.1 < state.worker.ready_at {
            state.worker.front = (front.number, now);
        }
        let mut at = state.worker.front.1.saturating_add(policy.timeout);
        if weighs || policy.memory != u64::MAX {
            at = at.min((state.worker.weighed_at + limits.weigh_every).max(now));
        }
        self.look_at(seat, at);
    }

    fn look_at(&mut self, seat: usize, at: Time) {
        self.seats[seat].worker.look_at = at;
        self.watch_at = self.watch_at.min(at);
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        Some(self.look_again.min(self.queue.next_due()).min(self.watch_at)).filter(|at| *at != NEVER)
    }

    /// The time of [`next_tick`](Self::next_tick) has come.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.look_again <= now {
            self.look_again = NEVER;
            self.relieve(now);
        }
        let due = self.queue.release_due(now);
        if self.watch_at <= now {
            self.watch_at = NEVER;
            for seat in 0..self.seats.len() {
                self.watch_seat(seat, now);
            }
        }
        if due {
            self.feed_idle(now);
        }
    }

    fn watch_seat(&mut self, seat: usize, now: Time) {
        let state = &mut self.seats[seat];
        if state.phase() == Phase::Killed {
            return self.watch_killed(seat, now);
        }
        if !state.works(state.epoch()) {
            return;
        }
        if state.phase() == Phase::Leaving {
            return self.watch_leaving(seat, now);
        }
        let old_at = state.worker.ready_at.saturating_add(self.limits.age_per_child);
        if old_at > now {
            self.watch_at = self.watch_at.min(old_at);
        } else if self.is_old(seat, now) && !self.seats[seat].worker.retiring {
            self.retire(seat, now);
        }
        let state = &mut self.seats[seat];
        if state.worker.look_at > now {
            self.watch_at = self.watch_at.min(state.worker.look_at);
        } else if !state.worker.looking && state.worker.condemned.is_none() {
            let limited = state.in_flight.front().is_some_and(|flight| flight.calls.work.policy().memory != u64::MAX);
            let memory = limited || self.limits.memory_per_child != u64::MAX;
            (state.worker.looking, state.worker.weighing) = (true, memory);
            state.worker.look_at = NEVER;
            self.effects.push_back(Effect::Look { seat, epoch: state.epoch(), memory });
        }
    }

    /// Is the worker too old for more calls? Not if it has had none: an idle pool does not replace its workers.
    pub(super) fn is_old(&self, seat: usize, now: Time) -> bool {
        let state = &self.seats[seat];
        state.worker.given > 0 && state.worker.ready_at.saturating_add(self.limits.age_per_child) <= now
    }

    /// The worker gets no more calls, and is replaced once it has run its present one.
    fn retire(&mut self, seat: usize, now: Time) {
        let state = &mut self.seats[seat];
        state.worker.retiring = true;
        if state.calls > 1 {
            self.recall(seat);
        }
        self.leave_if_through(seat, now);
    }

    /// The worker of a seat leaves. From now on its grace counts.
    pub(super) fn see_off(&mut self, seat: usize, now: Time) {
        let by = now.saturating_add(self.limits.exit_grace);
        self.seats[seat].worker.leave_by = Some(by);
        self.watch_at = self.watch_at.min(by);
    }

    /// A worker that leaves is looked at when its grace is over: it may be waiting for processes that it has started.
    fn watch_leaving(&mut self, seat: usize, now: Time) {
        let state = &mut self.seats[seat];
        let Some(by) = state.worker.leave_by else { return };
        if by > now {
            self.watch_at = self.watch_at.min(by);
        } else if !state.worker.looking {
            (state.worker.looking, state.worker.weighing, state.worker.seeing_off) = (true, false, true);
            self.effects.push_back(Effect::Look { seat, epoch: state.epoch(), memory: false });
        }
    }

    /// A worker that was asked to end is killed when its time is over.
    fn watch_killed(&mut self, seat: usize, now: Time) {
        let (grace, state) = (self.limits.terminate_grace, &mut self.seats[seat]);
        let Some(mut at) = state.worker.kill_at else { return };
        if at == NEVER {
            at = now.saturating_add(grace).min(NEVER - 1);
        }
        state.worker.kill_at = Some(at).filter(|at| *at > now);
        if at > now {
            self.watch_at = self.watch_at.min(at);
        } else {
            self.effects.push_back(Effect::Kill { seat, epoch: self.seats[seat].epoch() });
        }
    }

    /// The grace of a worker is over, and this is what it does.
    fn overstays(&mut self, seat: usize, seen: Observation, now: Time) {
        if seen.joins {
            // What follows, such as handlers that run at its exit, has the whole grace.
            let by = now.saturating_add(self.limits.exit_grace.max(STILL_JOINS));
            self.seats[seat].worker.leave_by = Some(by);
            self.watch_at = self.watch_at.min(by);
            return;
        }
        self.effects.push_back(Effect::Overstayed { seat, epoch: self.seats[seat].epoch() });
        // It was asked to leave before.
        self.kill_at_once(seat);
    }

    /// A [look](Effect::Look) at a worker has shown this.
    pub(crate) fn seen(&mut self, seat: usize, epoch: u32, seen: Observation, now: Time) {
        let state = &mut self.seats[seat];
        if !state.works(epoch) {
            return;
        }
        state.worker.looking = false;
        if let Some(by) = state.worker.leave_by {
            if std::mem::take(&mut state.worker.seeing_off) {
                self.overstays(seat, seen, now);
            } else {
                // It was looked at when it had yet to leave.
                self.watch_at = self.watch_at.min(by);
            }
            return;
        }
        if state.worker.weighing {
            // Even if memory cannot be measured: a look right after this one would show no more.
            state.worker.weighed_at = now;
        }
        let policy = state.policy_of(seen.claimed).copied();
        let (used, limit) = (seen.memory.unwrap_or(0), policy.map_or(u64::MAX, |policy| policy.memory));
        if used > limit {
            return self.condemn(seat, seen.claimed, Excess::Memory { limit, used });
        }
        if used > self.limits.memory_per_child && !state.worker.retiring {
            self.retire(seat, now);
        }
        let state = &mut self.seats[seat];
        if state.in_flight.is_empty() {
            // Look again only if it has run something since this look began.
            self.watch_at = self.watch_at.min(state.worker.look_at);
            return;
        }
        self.watch(seat, now);
        let state = &mut self.seats[seat];
        let Some(policy) = policy.filter(|policy| policy.timeout != u64::MAX) else {
            // Its first call has not started, or has ended: the time until now does not count.
            if state.in_flight.front().is_some_and(|flight| flight.calls.work.policy().timeout != u64::MAX) {
                state.worker.front.1 = now;
                self.watch(seat, now);
                let at = self.seats[seat].worker.look_at.max(now + SOON);
                self.look_at(seat, at);
            }
            return;
        };
        let began = state.worker.began.filter(|(number, _)| *number == seen.claimed);
        let started = began.map_or_else(|| seen.started.unwrap_or(now).min(now), |(_, started)| started);
        state.worker.began = Some((seen.claimed, started));
        let asked = seen.extended.filter(|_| policy.soft_timeout != u64::MAX).unwrap_or(0);
        let deadline = started.saturating_add(policy.timeout).max(asked);
        if deadline <= now {
            return self.condemn(seat, seen.claimed, Excess::Time { limit: policy.timeout });
        }
        let at = self.seats[seat].worker.look_at;
        self.look_at(seat, if at <= now || at == NEVER { deadline } else { at.min(deadline) });
    }

    fn condemn(&mut self, seat: usize, number: u32, reason: Excess) {
        self.seats[seat].worker.condemned = Some((number, reason));
        self.recall(seat);
    }

    /// Told before [`taken_back`](Self::taken_back): the call of this number is the latest that started at a seat, and
    /// its task has asked for time until `extended`.
    pub(crate) fn extended(&mut self, seat: usize, epoch: u32, claimed: u32, extended: Time, now: Time) {
        let state = &mut self.seats[seat];
        let soft = state.policy_of(claimed).is_some_and(|policy| policy.soft_timeout != u64::MAX);
        let condemned = matches!(state.worker.condemned, Some((number, Excess::Time { .. })) if number == claimed);
        if state.epoch() == epoch && soft && condemned && extended > now {
            state.worker.condemned = None;
        }
    }

    /// Kills the worker if the latest call that it started is condemned. No other call starts there any more.
    pub(super) fn kill_if_condemned(&mut self, seat: usize, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        let Some((number, _)) = state.worker.condemned else { return };
        if number == claimed && state.policy_of(number).is_some() {
            self.kill(seat);
        } else {
            // The condemned call has ended.
            state.worker.condemned = None;
            self.watch(seat, now);
        }
    }

    /// Delays calls that were lost with their worker, if they may be retried; returns those that may not.
    pub(super) fn retry(&mut self, flight: Flight<W>, over_memory: bool, ran: Ran, now: Time) -> Option<Flight<W>> {
        let calls = &flight.calls;
        let may = calls.attempt <= calls.work.policy().retries && !flight.is_given_up() && !over_memory;
        if !may || !self.goes_on() {
            return Some(flight);
        }
        let delay = self.limits.retry_delay.saturating_mul(1 << (calls.attempt - 1).min(20)).min(LONGEST_DELAY);
        let (attempt, ran) = (calls.attempt + 1, ran.or_before(calls.ran));
        self.queue.delay(now.saturating_add(delay), CallRange { attempt, deaths: 0, ran, ..flight.calls });
        None
    }
}
