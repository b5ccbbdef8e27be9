//! What is done about calls that take too long or too much memory, about workers that are worn, and about calls that
//! may be tried again.
//!
//! ```text
//!   look_at ──tick──▶ Look ──seen──▶ nothing wrong: look again later
//!                                └─▶ condemned ──▶ TakeBack ──taken back──▶ still that call: Kill ──lost──▶ Failed, or
//!                                                                      └──▶ it is through: nothing         delayed
//! ```
//!
//! Which call a worker runs, and since when, only its status page says. A worker is never killed because of what the
//! page said a moment ago: first nothing more may start there, and only if that very call still runs then, the worker
//! is killed. A result that comes in the meantime counts.

use crate::dossier::Ran;
use crate::policy::Policy;
use crate::pool::dispatcher::events::{Effect, Excess, MILLISECOND, NEVER, Observation, Time, Work};
use crate::pool::dispatcher::machine::Dispatcher;
use crate::pool::dispatcher::range::{CallRange, Flight};

/// A call waits at most so long until it is tried again.
const LONGEST_DELAY: Time = 30_000 * MILLISECOND;

/// A call that has not started yet is looked at again after so long, at the least.
const SOON: Time = MILLISECOND;

impl<W: ?Sized + Work> Dispatcher<W> {
    /// The worker has something to do, or has made progress: says when to look at it.
    pub(super) fn watch(&mut self, seat: usize, now: Time) {
        let (state, limits) = (&mut self.seats[seat], &self.limits);
        let weighs = limits.memory_per_child != u64::MAX;
        let Some(front) = state.in_flight.front() else {
            // It may have grown with its last call.
            let at = if weighs && !state.watch.worn { state.watch.weighed_at + limits.weigh_every } else { NEVER };
            return self.look_at(seat, at);
        };
        let policy = front.calls.work.policy();
        if !weighs && !policy.is_watched() {
            state.watch.look_at = NEVER;
            return;
        }
        if state.watch.front.0 != front.number || state.watch.front.1 < state.ready_at {
            state.watch.front = (front.number, now);
        }
        let mut at = state.watch.front.1.saturating_add(policy.timeout);
        if weighs || policy.memory != u64::MAX {
            at = at.min((state.watch.weighed_at + limits.weigh_every).max(now));
        }
        self.look_at(seat, at);
    }

    fn look_at(&mut self, seat: usize, at: Time) {
        self.seats[seat].watch.look_at = at;
        if at < self.watch_at {
            self.watch_at = at;
        }
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        let watch = Some(self.watch_at).filter(|at| *at != NEVER);
        [self.look_again, self.queue.next_due(), watch].into_iter().flatten().min()
    }

    /// The time has come that [`next_tick`](Self::next_tick) said, or later.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.look_again.is_some_and(|at| at <= now) {
            self.look_again = None;
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
        if !state.works(state.epoch()) {
            return;
        }
        let old_at = state.ready_at.saturating_add(self.limits.age_per_child);
        if old_at > now {
            self.watch_at = self.watch_at.min(old_at);
        } else if self.is_old(seat, now) && !self.seats[seat].watch.worn {
            self.wear_out(seat);
        }
        let state = &mut self.seats[seat];
        if state.watch.look_at > now {
            self.watch_at = self.watch_at.min(state.watch.look_at);
        } else if !state.watch.looking && state.watch.condemned.is_none() {
            let policy = state.in_flight.front().map(|flight| flight.calls.work.policy());
            let memory =
                self.limits.memory_per_child != u64::MAX || policy.is_some_and(|policy| policy.memory != u64::MAX);
            (state.watch.looking, state.watch.weighing) = (true, memory);
            state.watch.look_at = NEVER;
            self.effects.push_back(Effect::Look { seat, epoch: state.epoch(), memory });
        }
    }

    /// Is the process too old for more calls? One that has had none is not: an idle pool is left in peace.
    pub(super) fn is_old(&self, seat: usize, now: Time) -> bool {
        let state = &self.seats[seat];
        state.given > 0 && state.ready_at.saturating_add(self.limits.age_per_child) <= now
    }

    /// The process takes no more calls: it is replaced when it is through with those that it has.
    fn wear_out(&mut self, seat: usize) {
        let state = &mut self.seats[seat];
        state.watch.worn = true;
        if state.calls > 1 {
            // Only the one that runs is left to it.
            self.recall(seat);
        }
        self.leave_if_through(seat);
    }

    /// What a [look](Effect::Look) has shown.
    pub(crate) fn seen(&mut self, seat: usize, epoch: u32, seen: Observation, now: Time) {
        let state = &mut self.seats[seat];
        if !state.works(epoch) {
            return;
        }
        state.watch.looking = false;
        if state.watch.weighing {
            // Also where there was nothing to be seen: it is not looked at again at once.
            state.watch.weighed_at = now;
        }
        let policy = state.policy_of(seen.claimed).copied();
        let used = seen.memory.unwrap_or(0);
        if let Some(Policy { memory: limit, .. }) = policy
            && used > limit
        {
            return self.condemn(seat, seen.claimed, Excess::Memory { limit, used });
        }
        if used > self.limits.memory_per_child && !state.watch.worn {
            self.wear_out(seat);
        }
        let state = &mut self.seats[seat];
        if state.in_flight.is_empty() {
            // Once more only if it has run something since this look began.
            self.watch_at = self.watch_at.min(state.watch.look_at);
            return;
        }
        self.watch(seat, now);
        let state = &mut self.seats[seat];
        let Some(policy) = policy.filter(|policy| policy.timeout != u64::MAX) else {
            // It has not started what it has, or is through with it: that time does not count.
            if let Some(limit) = state.in_flight.front().map(|flight| flight.calls.work.policy().timeout)
                && limit != u64::MAX
            {
                state.watch.front.1 = now;
                self.watch(seat, now);
                let at = self.seats[seat].watch.look_at.max(now + SOON);
                self.look_at(seat, at);
            }
            return;
        };
        let started = match state.watch.began.filter(|(number, _)| *number == seen.claimed) {
            Some((_, started)) => started,
            None => seen.started.unwrap_or(now).min(now),
        };
        state.watch.began = Some((seen.claimed, started));
        let asked = seen.extended.filter(|_| policy.soft_timeout != u64::MAX).unwrap_or(0);
        let deadline = started.saturating_add(policy.timeout).max(asked);
        if deadline <= now {
            return self.condemn(seat, seen.claimed, Excess::Time { limit: policy.timeout });
        }
        let at = self.seats[seat].watch.look_at;
        self.look_at(seat, if at <= now || at == NEVER { deadline } else { at.min(deadline) });
    }

    fn condemn(&mut self, seat: usize, number: u32, reason: Excess) {
        self.seats[seat].watch.condemned = Some((number, reason));
        self.recall(seat);
    }

    /// Nothing more starts at a seat, and its task has asked to be let run until `extended`, at the last moment, if it
    /// is the call of this number.
    pub(crate) fn extended(&mut self, seat: usize, epoch: u32, claimed: u32, extended: Time, now: Time) {
        let state = &mut self.seats[seat];
        let soft = state.policy_of(claimed).is_some_and(|policy| policy.soft_timeout != u64::MAX);
        let condemned = matches!(state.watch.condemned, Some((number, Excess::Time { .. })) if number == claimed);
        if state.epoch() == epoch && soft && condemned && extended > now {
            state.watch.condemned = None;
        }
    }

    /// Nothing more starts at a seat, and the call of this number is the latest that has: if that is why the worker is
    /// to be killed, it is.
    pub(super) fn kill_if_condemned(&mut self, seat: usize, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        let Some((number, _)) = state.watch.condemned else { return };
        if number == claimed && state.policy_of(number).is_some() {
            self.kill(seat);
        } else {
            // It has come to its end after all.
            state.watch.condemned = None;
            self.watch(seat, now);
        }
    }

    /// Tries calls again that were lost with their worker, if they may be; gives back those that may not.
    pub(super) fn retry(
        &mut self,
        seat: usize,
        flight: Flight<W>,
        claimed: u32,
        ran: Ran,
        now: Time,
    ) -> Option<Flight<W>> {
        let condemned = self.seats[seat].watch.condemned.filter(|(number, _)| *number == claimed);
        let over = matches!(condemned, Some((_, Excess::Memory { .. }))) && flight.last_number() == claimed;
        let calls = &flight.calls;
        let may = calls.attempt <= calls.work.policy().retries && !flight.cancelled && !over;
        if !may || !self.goes_on() {
            return Some(flight);
        }
        let delay = self.limits.retry_delay.saturating_mul(1 << (calls.attempt - 1).min(20)).min(LONGEST_DELAY);
        let attempt = calls.attempt + 1;
        self.queue.delay(now.saturating_add(delay), CallRange { attempt, deaths: 0, ran, ..flight.calls });
        None
    }
}
