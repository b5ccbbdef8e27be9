//! Looks at workers: limits of time, the replacement of old and large workers, those that do not leave, and retries.
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
//!
//! A page can lie, or show nothing, as its worker is stopped. So what it says can only make a limit exact. The dispatcher
//! itself knows since when each call has been at the [front](super::seat::Front) of its seat, and kills the worker when
//! that was longer than the timeout and a [grace](super::Limits::grace).

use crate::dossier::Ran;
use crate::pool::dispatcher::feed::LONE;
use crate::pool::dispatcher::{
    CallRange, Condemned, Dispatcher, Effect, Excess, Flight, Front, MILLISECOND, NEVER, Observation, Phase, Silence,
    Time, Unreported, Work, is_after,
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
        let weighs = self.weighs(seat);
        let (state, limits) = (&mut self.seats[seat], &self.limits);
        let Some(front) = state.in_flight.front() else {
            state.worker.idle_looks = 0;
            let at = if weighs { state.worker.weighed_at + limits.weigh_every } else { NEVER };
            let silent = state.worker.silence.map_or(NEVER, |silence| silence.look_at);
            return self.look_at(seat, at.min(silent));
        };
        let policy = front.calls.work.policy();
        let doubtful = state.doubtful_until(limits);
        if !weighs && !policy.is_watched() {
            return self.look_at(seat, doubtful);
        }
        let (number, timeout) = (front.number, policy.timeout);
        if state.worker.front.number != number || state.worker.front.since < state.worker.ready_at {
            let until = now.saturating_add(timeout).saturating_add(limits.grace).saturating_add(state.time_to_read());
            state.worker.front = Front { number, since: now, until, over_memory: None, excess: false };
        }
        let mut at = state.worker.front.since.saturating_add(timeout).min(state.worker.front.until).min(doubtful);
        if weighs {
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
        let look_again = if self.in_flight_calls > 0 { self.look_again } else { NEVER };
        Some(look_again.min(self.queue.next_due()).min(self.watch_at)).filter(|at| *at != NEVER)
    }

    /// Is the next tick more than a look at a call that may not have started? Then it is not to be late.
    pub(crate) fn has_limits_to_keep(&self) -> bool {
        self.watch_at != NEVER || self.queue.next_due() != NEVER
    }

    /// The time of [`next_tick`](Self::next_tick) has come.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.look_again <= now {
            self.look_again = NEVER;
            self.doubt_fronts(now);
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
        let until = state.front_until();
        if until <= now {
            // Without another look: the time for that is past.
            let limit = state.policy_of(state.worker.front.number).map_or(0, |policy| policy.timeout);
            let number = state.worker.front.number;
            return self.condemn(seat, Condemned { number, excess: Excess::Time { limit }, surely: true });
        }
        let owed_by = state.given_up_until();
        if owed_by <= now {
            // It still runs what it said that it had finished.
            return self.kill(seat);
        }
        self.watch_at = self.watch_at.min(owed_by);
        let state = &mut self.seats[seat];
        let silent_until = state.worker.silence.map_or(NEVER, |silence| silence.until);
        self.watch_at = self.watch_at.min(until);
        if silent_until > now {
            self.watch_at = self.watch_at.min(silent_until);
        }
        let state = &mut self.seats[seat];
        if state.worker.look_at > now && silent_until > now {
            self.watch_at = self.watch_at.min(state.worker.look_at);
        } else if !state.worker.looking && state.worker.condemned.is_none() {
            state.worker.look_at = NEVER;
            self.ask_for_look(seat, self.weighs(seat));
        }
    }

    pub(super) fn ask_for_look(&mut self, seat: usize, memory: bool) {
        let state = &mut self.seats[seat];
        (state.worker.looking, state.worker.weighing) = (true, memory);
        self.effects.push_back(Effect::Look { seat, epoch: state.epoch(), memory });
    }

    /// Is the worker too old for more calls? Not if it has finished none: an idle pool does not replace its workers.
    pub(super) fn is_old(&self, seat: usize, now: Time) -> bool {
        let state = &self.seats[seat];
        state.worker.finished > 0 && state.worker.ready_at.saturating_add(self.limits.age_per_child) <= now
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
        let worker = &mut self.seats[seat].worker;
        let last = worker.front.number == worker.sent && worker.front.since >= worker.ready_at;
        if self.limits.until_gone && last {
            // It may still run what it says has ended.
            worker.gone_by = worker.front.until.max(now.saturating_add(self.limits.grace));
        }
        let by = now.saturating_add(self.limits.exit_grace).min(worker.gone_by);
        worker.leave_by = Some(by);
        self.watch_at = self.watch_at.min(by);
        self.watch_leaving(seat, now);
    }

    /// A worker that leaves is looked at when its grace is over: it may be waiting for processes that it has started.
    fn watch_leaving(&mut self, seat: usize, now: Time) {
        let state = &mut self.seats[seat];
        let Some(by) = state.worker.leave_by else { return };
        if by > now {
            let weigh_at = state.worker.weighed_at.saturating_add(self.limits.weigh_every);
            let at = if self.weighs(seat) && !self.seats[seat].worker.looking { weigh_at } else { NEVER };
            self.watch_at = self.watch_at.min(by).min(at.max(now + 1));
            if at <= now {
                self.ask_for_look(seat, true);
            }
        } else if !state.worker.looking {
            (state.worker.looking, state.worker.weighing, state.worker.seeing_off) = (true, false, true);
            self.effects.push_back(Effect::Look { seat, epoch: state.epoch(), memory: false });
        }
    }

    /// A worker that was asked to end is killed when its time is over.
    fn watch_killed(&mut self, seat: usize, now: Time) {
        let (grace, weighs, every) = (self.limits.terminate_grace, self.weighs(seat), self.limits.weigh_every);
        let state = &mut self.seats[seat];
        let Some(mut at) = state.worker.kill_at else { return };
        if at == NEVER {
            at = now.saturating_add(grace).min(NEVER - 1);
        }
        state.worker.kill_at = Some(at).filter(|at| *at > now);
        if at > now {
            self.watch_at = self.watch_at.min(at);
            if weighs && !state.worker.looking {
                let weigh_at = state.worker.weighed_at.saturating_add(every);
                self.watch_at = self.watch_at.min(weigh_at.max(now + 1));
                if weigh_at <= now {
                    self.ask_for_look(seat, true);
                }
            }
        } else {
            self.effects.push_back(Effect::Kill { seat, epoch: self.seats[seat].epoch() });
        }
    }

    /// The grace of a worker is over, and this is what it does.
    fn overstays(&mut self, seat: usize, seen: Observation, now: Time) {
        let gone_by = self.seats[seat].worker.gone_by;
        if seen.joins && gone_by > now {
            // What follows, such as handlers that run at its exit, has the whole grace.
            let by = now.saturating_add(self.limits.exit_grace.max(STILL_JOINS)).min(gone_by);
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
        // What its initializer had counts no longer.
        let whole = seen.whole.filter(|(at, _)| *at >= state.worker.ready_at).map(|(_, bytes)| bytes);
        let weight = seen.memory.max(whole);
        if state.phase() == Phase::Killed && state.epoch() == epoch {
            (state.worker.looking, state.worker.weighed_at) = (false, now);
            let asked = state.worker.kill_at.is_some();
            if asked && self.excess(seat, weight).is_some() {
                self.seats[seat].worker.kill_at = None;
                self.effects.push_back(Effect::Kill { seat, epoch });
            }
            return self.watch_killed(seat, now);
        }
        if !state.works(epoch) {
            return;
        }
        state.worker.looking = false;
        if state.is_beyond(seen.claimed) {
            return self.kill_at_once(seat);
        }
        if state.worker.weighing {
            // Even if memory cannot be measured: a look right after this one would show no more.
            state.worker.weighed_at = now;
        }
        if let Some(by) = state.worker.leave_by {
            let is_busy = state.is_busy();
            if let Some(excess) = self.excess(seat, weight).filter(|_| !is_busy) {
                return self.kill_outgrown(seat, excess);
            }
            if std::mem::take(&mut self.seats[seat].worker.seeing_off) {
                self.overstays(seat, seen, now);
            } else {
                // It was weighed, or looked at when it had yet to leave.
                self.watch_at = self.watch_at.min(by);
                self.watch_leaving(seat, now);
            }
            return;
        }
        if let Some(silence) = state.worker.silence {
            if !is_after(silence.generation, seen.heard) {
                state.worker.silence = None;
                state.skips();
                // One that is too large or too old gets nothing more.
                let is_large = seen.memory.is_some_and(|used| used > self.limits.memory_per_child);
                self.seats[seat].worker.retiring |= is_large || self.is_old(seat, now);
                // It may be the only one that can take what waits, or take over what another has not started.
                self.look_again = self.look_again.min(now);
                self.feed_idle(now);
                if self.seats[seat].phase() != Phase::Ready {
                    return;
                }
            } else if silence.until <= now {
                // It runs something that it has not claimed, or hangs, or it wakes up right now.
                state.worker.silence = Some(Silence { is_over: true, ..silence });
                return self.recall(seat);
            }
        }
        let state = &mut self.seats[seat];
        if state.worker.condemned.is_some() {
            // What was taken back will show.
            return;
        }
        let policy = state.policy_of(seen.claimed).copied();
        if policy.is_some() && is_after(seen.claimed, state.worker.started) {
            state.worker.started = seen.claimed;
        }
        let (used, limit) = (seen.memory.unwrap_or(0), policy.map_or(u64::MAX, |policy| policy.memory));
        if used > limit {
            let excess = Excess::Memory { limit, used };
            return self.condemn(seat, Condemned { number: seen.claimed, excess, surely: false });
        }
        if let Some(condemned) = self.weigh_front(seat, seen, now) {
            return self.condemn(seat, condemned);
        }
        if let Some(excess) = self.excess(seat, weight) {
            return self.end_excess(seat, excess, seen.claimed, now);
        }
        if used > self.limits.memory_per_child && !self.seats[seat].worker.retiring {
            self.retire(seat, now);
        }
        if self.relieve_front(seat, seen.claimed, now) {
            return;
        }
        let state = &mut self.seats[seat];
        if state.in_flight.is_empty() {
            if let Some(silence) = &mut state.worker.silence {
                // Ever more seldom, as it may never wake up.
                silence.looks += 1;
                silence.look_at = now.saturating_add(LONE << silence.looks.min(30));
                state.worker.look_at = state.worker.look_at.min(silence.look_at);
            }
            self.weigh_idle(seat, weight, now);
            return;
        }
        self.watch(seat, now);
        let state = &mut self.seats[seat];
        let Some(policy) = policy.filter(|policy| policy.timeout != u64::MAX) else {
            // Its first call has not started, or has ended: until that is known, look now and then.
            if state.in_flight.front().is_some_and(|flight| flight.calls.work.policy().timeout != u64::MAX) {
                let soon = SOON.max(now.saturating_sub(state.worker.front.since) / 8);
                let (at, until) = (state.worker.look_at.max(now + soon), state.worker.front.until);
                self.look_at(seat, at.min(until));
            }
            return;
        };
        let began = state.worker.began.filter(|(number, _)| *number == seen.claimed);
        let started = began.map_or_else(|| seen.started.unwrap_or(now).min(now), |(_, started)| started);
        state.worker.began = Some((seen.claimed, started));
        let asked = seen.extended.filter(|_| policy.soft_timeout != u64::MAX).unwrap_or(0);
        if asked > 0 && state.worker.front.number == seen.claimed {
            // What a task was granted is kept, whatever the page says later.
            let until = asked.saturating_add(self.limits.grace);
            state.worker.front.until = state.worker.front.until.max(until);
        }
        let deadline = started.saturating_add(policy.timeout).max(asked);
        if deadline <= now {
            let excess = Excess::Time { limit: policy.timeout };
            return self.condemn(seat, Condemned { number: seen.claimed, excess, surely: false });
        }
        let state = &self.seats[seat];
        let (at, until) = (state.worker.look_at, state.front_until());
        let at = if at <= now || at == NEVER { deadline } else { at.min(deadline) };
        self.look_at(seat, at.min(until));
    }

    pub(super) fn condemn(&mut self, seat: usize, condemned: Condemned) {
        self.seats[seat].worker.condemned = Some(condemned);
        self.recall(seat);
    }

    /// A call with a timeout that every worker gives back before it starts would have all the time in the world.
    pub(super) fn condemn_if_moved_too_often(&mut self, seat: usize, claimed: u32) {
        const TOO_OFTEN: u8 = 64;
        let state = &mut self.seats[seat];
        let Some(front) = state.in_flight.front().filter(|front| is_after(front.number, claimed)) else { return };
        let limit = front.calls.work.policy().timeout;
        if front.calls.moves >= TOO_OFTEN && limit != u64::MAX && state.worker.condemned.is_none() {
            let excess = Excess::Time { limit };
            state.worker.condemned = Some(Condemned { number: front.number, excess, surely: true });
        }
    }

    /// Told before [`taken_back`](Self::taken_back): the call of this number is the latest that started at a seat, and
    /// its task has asked for time until `extended`.
    pub(crate) fn extended(&mut self, seat: usize, epoch: u32, claimed: u32, extended: Time, now: Time) {
        let state = &mut self.seats[seat];
        let soft = state.policy_of(claimed).is_some_and(|policy| policy.soft_timeout != u64::MAX);
        let late = |condemned: Condemned| matches!(condemned.excess, Excess::Time { .. }) && !condemned.surely;
        let condemned = state.worker.condemned.is_some_and(|condemned| condemned.number == claimed && late(condemned));
        if state.epoch() == epoch && soft && condemned && extended > now {
            state.worker.condemned = None;
        }
    }

    /// Kills the worker unless it has started another call since it was condemned for one. No call starts there any
    /// more.
    pub(super) fn kill_if_condemned(&mut self, seat: usize, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        let Some(Condemned { number, surely, excess }) = state.worker.condemned else { return };
        let flight = state.in_flight.iter().find(|flight| flight.has(number));
        if let Some(flight) = flight.filter(|_| surely || !is_after(claimed, number)) {
            let calls = flight.calls.clone();
            let why = match excess {
                Excess::Time { .. } => {
                    self.kill(seat);
                    Unreported::Late
                }
                Excess::Memory { .. } => {
                    // Until it ends, it might use ever more.
                    self.kill_at_once(seat);
                    Unreported::Other
                }
            };
            self.forsake(&calls, why);
        } else {
            // The condemned call has ended.
            state.worker.condemned = None;
            self.watch(seat, now);
        }
    }

    /// Delays calls that were lost with their worker, if they may be retried; returns those that may not.
    pub(super) fn retry(&mut self, flight: Flight<W>, never: bool, ran: Ran, now: Time) -> Option<Flight<W>> {
        let calls = &flight.calls;
        self.forsake(calls, Unreported::Other);
        let may = calls.attempt <= calls.work.policy().retries && !flight.is_given_up() && !never;
        if !may || !self.goes_on() {
            return Some(flight);
        }
        let delay = self.limits.retry_delay.saturating_mul(1 << (calls.attempt - 1).min(20)).min(LONGEST_DELAY);
        let (attempt, ran) = (calls.attempt + 1, ran.or_before(calls.ran));
        self.queue.delay(now.saturating_add(delay), CallRange { attempt, deaths: 0, moves: 0, ran, ..flight.calls });
        None
    }
}
