//! Limits of memory, by the dispatcher's own account: a worker may say that it runs another call, or none.
//!
//! A call is to blame for what its worker has while that says that it runs the call, or once the call has been at the
//! [front](super::seat::Front) of its seat for a grace. A worker with more than any of its calls may use is killed, though
//! none of them is to blame.

use crate::os::UNSEEN;
use crate::pool::dispatcher::feed::LONELY;
use crate::pool::dispatcher::{Condemned, Dispatcher, Effect, Excess, Flight, Observation, Time, Work};

/// How much more an idle worker may have at a look than at the one before, in bytes, without a sign of growth.
const GROWTH: u64 = 1 << 20;

/// The pause between two looks at an idle worker doubles so often.
const MOST_SELDOM: u32 = 7;

/// How much more memory may be in use than a limit of what may be written: the stack, and what became read-only since.
const BESIDE: u64 = 64 << 20;

impl<W: ?Sized + Work> Dispatcher<W> {
    /// Is the memory of a worker to be measured?
    pub(super) fn weighs(&self, seat: usize) -> bool {
        let (limits, allowed) = (&self.limits, self.seats[seat].worker.allowed);
        let of_pool = limits.memory_per_child.min(limits.memory) != u64::MAX;
        let limited = |flight: &Flight<W>| flight.calls.work.policy().memory != u64::MAX;
        of_pool
            || allowed.is_some_and(|most| most != u64::MAX)
            || self.seats[seat].in_flight.front().is_some_and(limited)
    }

    /// Memory is that of the process, whatever its page claims to run: the limit of the call at the front holds, once that
    /// has been there for some time, in which what the worker had before was given back. Once too much is enough, however
    /// little it has later; but a report that is read after a look can show that it was another call's.
    pub(super) fn weigh_front(&mut self, seat: usize, seen: Observation, now: Time) -> Option<Condemned> {
        let grace = self.limits.grace;
        let state = &mut self.seats[seat];
        let Flight { number, calls, .. } = state.in_flight.front()?;
        let (number, limit) = (*number, calls.work.policy().memory);
        let front = Some(&mut state.worker.front).filter(|front| front.number == number && state.worker.weighing)?;
        if let Some(used) = front.over_memory {
            return Some(Condemned { number, excess: Excess::Memory { limit, used }, surely: true });
        }
        let counts_from = front.since.saturating_add(grace);
        let used = seen.memory.filter(|_| now >= counts_from);
        let whole = seen.whole.filter(|(at, _)| *at >= counts_from).map(|(_, bytes)| bytes);
        front.over_memory = used.max(whole).filter(|used| *used > limit);
        None
    }

    /// An idle worker has been looked at. It may say that it is idle, and go on: it is looked at ever more seldom, unless
    /// it grows.
    pub(super) fn weigh_idle(&mut self, seat: usize, used: Option<u64>, now: Time) {
        let weighs = self.weighs(seat) && !self.seats[seat].worker.retiring;
        let worker = &mut self.seats[seat].worker;
        if weighs && worker.weighing {
            let (before, used) = (worker.weight, used.unwrap_or(0));
            worker.weight = used;
            worker.idle_looks = if used > before.saturating_add(GROWTH) { 0 } else { worker.idle_looks + 1 };
            let pause = self.limits.weigh_every << worker.idle_looks.min(MOST_SELDOM);
            worker.look_at = worker.look_at.min(now.saturating_add(pause));
        }
        self.watch_at = self.watch_at.min(self.seats[seat].worker.look_at);
    }

    /// Does a worker have more memory than it may have at all, whatever it runs?
    pub(super) fn excess(&self, seat: usize, used: Option<u64>) -> Option<Excess> {
        let (used, allowed, most) = (used?, self.seats[seat].worker.allowed, self.limits.memory);
        if let Some(limit) = allowed.filter(|limit| used > *limit) {
            return Some(Excess::Memory { limit, used });
        }
        // The system sees to this one by itself, if perhaps not to all.
        let over = used != UNSEEN && used > most.saturating_add(BESIDE);
        over.then_some(Excess::Memory { limit: most, used })
    }

    /// Ends a worker that has more memory than any of its calls may use. It may say that it runs none, though it does:
    /// then nobody knows which of them is to blame.
    pub(super) fn end_excess(&mut self, seat: usize, excess: Excess, claimed: u32, now: Time) {
        let state = &mut self.seats[seat];
        if state.policy_of(claimed).is_none()
            && state.in_flight.front().is_some_and(|front| front.number == state.worker.front.number)
            && !std::mem::replace(&mut state.worker.front.excess, true)
        {
            // What was seen may be of a call that was reported since then.
            return self.watch(seat, now);
        }
        // One that has gone alone before was there each time.
        let lonely = |front: &&Flight<W>| front.calls.deaths >= LONELY;
        let number = match state.policy_of(claimed) {
            Some(_) => Some(claimed),
            None => state.in_flight.front().filter(lonely).map(|front| front.number),
        };
        match number {
            Some(number) => {
                let surely = state.policy_of(claimed).is_none();
                self.condemn(seat, Condemned { number, excess, surely });
            }
            None => self.kill_outgrown(seat, excess),
        }
    }

    /// Ends a worker that has too much memory, and nobody is to blame.
    pub(super) fn kill_outgrown(&mut self, seat: usize, excess: Excess) {
        if let Excess::Memory { limit, used } = excess {
            self.effects.push_back(Effect::Outgrown { seat, epoch: self.seats[seat].epoch(), limit, used });
        }
        self.kill_at_once(seat);
    }
}
