//! How many calls each worker is given, and when they are taken back.
//!
//! Calls of unknown or long duration go singly to idle workers. Short ones are sent ahead, which hides the latency of
//! the transport, and are taken back when one of them is slow while another worker is idle. The calls, bytes and frames
//! on their way to a worker are limited: sending must never wait for a busy worker.

use crate::pool::dispatcher::{
    CallRange, Dispatcher, Effect, Flight, Left, MILLISECOND, NEVER, Phase, Silence, Time, Unreported, Work, is_after,
};
use std::collections::VecDeque;

/// How much work a worker is given ahead if calls are short: enough to hide the latency of the transport.
pub(super) const AHEAD: Time = 4 * MILLISECOND;
/// A seat with less expected work than this gets more.
const LOW: Time = 2 * MILLISECOND;
/// If a worker shows no progress for so long, the calls behind its current one are given to an idle worker.
const STALLED: Time = MILLISECOND;
/// If a worker has not started the call that it was given for so long, an idle worker gets it.
pub(super) const LONE: Time = 8 * MILLISECOND;
/// The longest time between two looks at workers that did not answer, while a call waits for one.
const LONGEST_PAUSE: Time = 1000 * MILLISECOND;
/// A worker from which so many calls were taken since it last reported, and which had started none, is killed.
const MOST_LEFT: usize = 8;
/// A call goes alone, with none behind it, after so many workers died before they started it.
pub(super) const LONELY: u16 = 2;
/// Less work than this is not shared: waking another worker would take about as long.
const GRAIN: Time = 100_000;
/// The approximate size of a chunk of calls in a frame, without the arguments.
pub(super) const CHUNK_BYTES: usize = 128;

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(super) fn feed_idle(&mut self, now: Time) {
        let share = self.share();
        while self.queue.ready() > 0 {
            // Nearly always the last one.
            let Some(at) = self.idle.iter().rposition(|seat| self.seats[*seat].has_room(&self.limits)) else { break };
            let seat = self.idle.remove(at);
            self.feed(seat, share, now);
        }
        self.relieve(now);
        self.leave_if_idle(now);
    }

    /// Gives the waiting calls to the seat that was fed last, if it is busy with little: that is sooner than waking an
    /// idle worker. Returns whether no call waits any more.
    pub(super) fn append(&mut self, now: Time) -> bool {
        let seat = self.latest;
        let Some(duration) = self.next_task().and_then(|task| self.durations.get(task)) else { return false };
        let state = &self.seats[seat];
        let more = duration.saturating_mul(self.queue.ready() as Time);
        if state.calls == 0
            || state.ahead.saturating_add(more) > GRAIN
            || now.saturating_sub(state.worker.progress) > GRAIN
        {
            return false;
        }
        self.feed(seat, usize::MAX, now);
        // If its current call is slow after all, these calls are taken back.
        if !self.idle.is_empty() && self.look_again == NEVER {
            self.look_again = now + STALLED;
        }
        self.queue.ready() == 0
    }

    /// The most waiting calls that one worker gets, so that it has none that another could run.
    pub(super) fn share(&self) -> usize {
        self.queue.ready().div_ceil(self.ready_seats.max(1))
    }

    /// Gives calls to a worker that has none, or will soon have finished those that it has.
    pub(super) fn feed(&mut self, seat: usize, share: usize, now: Time) {
        let (state, limits) = (&self.seats[seat], self.limits);
        if state.calls > 0 && state.in_flight.front().is_some_and(|front| front.calls.deaths >= LONELY) {
            return;
        }
        if state.phase() != Phase::Ready || state.recalling || state.worker.retiring || self.queue.ready() == 0 {
            return;
        }
        let enough = state.ahead > LOW
            || state.calls > limits.calls / 2
            || state.unread_bytes > limits.unhindered / 2
            || now.saturating_sub(state.worker.progress) > STALLED;
        if state.calls > 0 && (enough || state.unread.len() >= limits.frames) || !state.has_room(&limits) {
            return;
        }
        let first = state.worker.sent.wrapping_add(1);
        let (mut given, mut size) = (0, 0);
        while let Some(task) = self.next_task() {
            if self.is_next_lonely() {
                // What would be behind it, or before it, is not to share its fate.
                if self.seats[seat].calls == 0
                    && let Some(range) = self.queue.take(1)
                {
                    size += CHUNK_BYTES + range.work.size(range.next..range.end);
                    given += 1;
                    self.seats[seat].push(range, AHEAD);
                }
                break;
            }
            let duration = self.durations.get(task).unwrap_or(AHEAD);
            let share = share.max((GRAIN / duration) as usize).saturating_sub(given);
            let Some(calls) = self.fitting(seat, share, size, duration) else { break };
            let Some(range) = self.queue.take(calls) else { break };
            size += CHUNK_BYTES + range.work.size(range.next..range.end);
            given += calls as usize;
            self.seats[seat].push(range, duration);
        }
        self.send(seat, first, given, size, now);
    }

    /// So many calls, which have been pushed and take so many bytes, are sent to a worker.
    #[inline]
    fn send(&mut self, seat: usize, first: u32, given: usize, size: usize, now: Time) {
        if self.in_flight_calls == 0 {
            // It was for calls that have ended.
            self.look_again = NEVER;
        }
        self.in_flight_calls += given;
        if given > 0 {
            let state = &mut self.seats[seat];
            let alone = state.calls == given;
            if alone {
                state.worker.progress = now;
            }
            state.unread.push_back((state.worker.sent, size));
            state.unread_bytes += size;
            let (epoch, generation, last) = (state.epoch(), state.worker.generation, state.worker.sent);
            self.latest = seat;
            self.effects.push_back(Effect::Send { seat, epoch, generation, first, last });
            if alone {
                self.watch(seat, now);
                if self.seats.len() > 1 {
                    self.look_again = self.look_again.min(now + LONE);
                }
            }
        }
    }

    /// Did so many workers die that were to start the next call that it has to go alone?
    fn is_next_lonely(&self) -> bool {
        self.queue.front().is_some_and(|range| range.deaths >= LONELY)
    }

    /// How many of the calls at the front a seat may be given, in a frame that has `size` bytes already.
    fn fitting(&self, seat: usize, share: usize, size: usize, duration: Time) -> Option<u32> {
        let (state, limits) = (&self.seats[seat], &self.limits);
        let range = self.queue.front().filter(|_| share > 0)?;
        let left = limits.tasks_per_child.saturating_sub(state.worker.given);
        let most = (range.len() as usize).min(share).min(usize::try_from(left).unwrap_or(usize::MAX));
        // A worker that has no call gets one, however large or long.
        let least = usize::from(state.calls == 0).min(most);
        let in_time = AHEAD.saturating_sub(state.ahead) / duration;
        let in_number = limits.calls.saturating_sub(state.calls);
        let room = limits.frame.min(limits.unhindered.saturating_sub(state.unread_bytes)).saturating_sub(size);
        let mut most = most.min(in_number).min(usize::try_from(in_time).unwrap_or(usize::MAX));
        let fits = |calls: usize| CHUNK_BYTES + range.work.size(range.next..range.next + calls as u32) <= room;
        if !fits(most) {
            // Find the greatest number that fits by bisection.
            let mut low = 0;
            while most - low > 1 {
                let middle = low.midpoint(most);
                if fits(middle) { low = middle } else { most = middle }
            }
            most = low;
        }
        let calls = most.max(least);
        (calls > 0).then_some(calls as u32)
    }

    fn next_task(&self) -> Option<&'static str> {
        self.queue.front().map(|range| range.work.task())
    }

    /// If a worker is idle while another has calls behind a slow one, takes those back.
    pub(super) fn relieve(&mut self, now: Time) {
        if self.queue.ready() > 0 || self.in_flight_calls == 0 || !self.anyone_has_room() {
            return;
        }
        let mut again = NEVER;
        if self.look_again == NEVER {
            // No worker was idle when the others were looked at, or one is since then.
            let stalls = (0..self.seats.len()).filter_map(|seat| self.front_stalls_at(seat)).min();
            again = stalls.map_or(NEVER, |at| at.max(now + LONE));
        }
        for (seat, state) in self.seats.iter_mut().enumerate() {
            // The first call runs. The last one may have started too, and its report be on its way.
            let may_be_taken = state.phase() == Phase::Ready && !state.recalling && state.has_calls_behind();
            let Some(first) = state.in_flight.front().filter(|_| may_be_taken) else { continue };
            let behind = state.ahead - first.expected;
            // On an overloaded machine all workers are slow to start calls, which would move to and fro: the wait
            // doubles each time that nothing comes of it.
            let stalled_at = state.worker.progress + (STALLED << state.relieved.min(10));
            if (behind >= STALLED && state.relieved == 0) || stalled_at <= now {
                state.relieved += 1;
                return self.recall(seat);
            }
            again = again.min(stalled_at);
        }
        self.look_again = self.look_again.min(again);
    }

    /// If a worker is idle while another may not have started what it was given, looks at that one.
    pub(super) fn doubt_fronts(&mut self, now: Time) {
        if self.queue.ready() > 0 || self.idle.is_empty() {
            return;
        }
        let answers = self.others_answer();
        let mut since = NEVER;
        for seat in 0..self.seats.len() {
            let Some(stalled_at) = self.front_stalls_at(seat) else { continue };
            if stalled_at > now {
                self.look_again = self.look_again.min(stalled_at);
            } else if !answers {
                since = since.min(stalled_at);
            } else if !self.seats[seat].worker.looking {
                self.ask_for_look(seat, false);
            }
        }
        if since != NEVER {
            // One of those that did not answer may be able to by now.
            for at in 0..self.idle.len() {
                if !self.seats[self.idle[at]].worker.looking {
                    self.ask_for_look(self.idle[at], false);
                }
            }
            let pause = ((now - since) / 8).clamp(LONE, LONGEST_PAUSE);
            self.look_again = self.look_again.min(now + pause);
        }
    }

    /// Takes the calls of a worker back that has not even started the first of them, if an idle worker can take over.
    /// Returns whether that was done.
    ///
    /// The worker may run that call all the same, and say otherwise. So a call goes from one living worker to another only
    /// once, and once back.
    pub(super) fn relieve_front(&mut self, seat: usize, claimed: u32, now: Time) -> bool {
        let stalls = self.front_stalls_at(seat).is_some_and(|at| at <= now);
        let may_move = stalls && self.queue.ready() == 0 && self.others_answer();
        let state = &mut self.seats[seat];
        let is_doubtful = !state.recalling && state.doubtful_until(&self.limits) <= now;
        let Some(front) = state.in_flight.front().filter(|front| is_after(front.number, claimed)) else { return false };
        if !may_move && !is_doubtful {
            return false;
        }
        state.worker.suspect = Some(front.number).filter(|_| is_doubtful);
        state.relieved += 1;
        self.recall(seat);
        true
    }

    /// When a worker has taken too long to start its first call. None if it has started it, as far as is known.
    fn front_stalls_at(&self, seat: usize) -> Option<Time> {
        let state = &self.seats[seat];
        let front = state.in_flight.front()?;
        let may_be_taken = state.phase() == Phase::Ready && !state.recalling && front.calls.moves <= 1;
        let unknown = is_after(front.number, state.worker.started);
        // As calls behind a slow one, it would move to and fro where all workers are slow to start.
        let mut wait = LONE << state.relieved.min(10);
        if front.calls.work.policy().timeout != u64::MAX {
            wait = wait.min(self.limits.grace / 4);
        }
        let may_move = || front.calls.moves == 0 || self.left_by(&front.calls).is_some();
        (may_be_taken && unknown && may_move()).then(|| state.worker.progress + state.time_to_read() + wait)
    }

    /// An idle worker that answers, and from which these calls were taken in their present attempt.
    fn left_by(&self, calls: &CallRange<W>) -> Option<usize> {
        let mut answering = self.idle.iter().copied().filter(|seat| !self.seats[*seat].is_silent());
        answering.find(|seat| self.seats[*seat].may_have(calls))
    }

    /// Gives a call that has moved, and was taken back, to the worker that had it before, or to this one again: either may
    /// run it already. Returns it if neither takes calls.
    pub(super) fn give_again(&mut self, seat: usize, mut flight: Flight<W>, now: Time) -> Option<Flight<W>> {
        let takes =
            |seat: usize| !self.seats[seat].worker.retiring && !self.is_old(seat, now) && self.seats[seat].is_idle();
        let before = self.left_by(&flight.calls).filter(|before| *before != seat && takes(*before));
        let to = before.unwrap_or(seat);
        if !takes(to) || !self.goes_on() || flight.cancelled.is_some() {
            return Some(flight);
        }
        if to == seat {
            flight.calls.moves -= 1;
        }
        self.idle.retain(|idle| *idle != to);
        let (first, calls) = (self.seats[to].worker.sent.wrapping_add(1), flight.calls);
        let size = CHUNK_BYTES + calls.work.size(calls.range());
        self.seats[to].push(calls, flight.expected);
        self.send(to, first, 1, size, now);
        None
    }

    /// Something has changed at a seat that has calls: its first one may yet have to be taken back.
    pub(super) fn look_again_for(&mut self, seat: usize, now: Time) {
        if let Some(stalled_at) = self.front_stalls_at(seat) {
            self.look_again = self.look_again.min(stalled_at.max(now + LONE));
        }
    }

    /// Is any worker idle that could be given a call?
    fn anyone_has_room(&self) -> bool {
        self.idle.iter().rev().any(|seat| self.seats[*seat].has_room(&self.limits))
    }

    /// Is any worker idle that is not known to be slow to answer?
    fn others_answer(&self) -> bool {
        self.idle.iter().any(|seat| !self.seats[*seat].is_silent())
    }

    /// The worker has started nothing of what was taken back from it: until it shows that it lives, others come first.
    pub(super) fn doubt(&mut self, seat: usize, back: &mut VecDeque<Flight<W>>, now: Time) {
        let Some(front) = back.front_mut() else { return };
        let (policy, given_up) = (*front.calls.work.policy(), front.is_given_up());
        let state = &mut self.seats[seat];
        let spent = state.spent(now);
        // It may run the call all the same, and lie about it.
        let bounded = policy.is_watched() || given_up;
        let grace = if bounded { self.limits.grace } else { self.limits.useless(&front.calls) };
        let until = now.saturating_add(grace).saturating_add(state.time_to_read());
        let until = state.worker.silence.map_or(until, |silence| silence.until.min(until));
        let (generation, look_at) = (state.worker.generation, now + LONE);
        state.worker.silence = Some(Silence { generation, until, is_over: false, look_at, looks: 0 });
        self.watch_at = self.watch_at.min(until);
        let mut first = front.take(1);
        if front.len() == 0 {
            back.pop_front();
        }
        let calls = &mut first.calls;
        let moved = calls.moves > 0;
        calls.moves = calls.moves.saturating_add(1);
        // Whoever had no time to wake up is no suspect, unless another one has not started it either.
        let had_time = spent >= LONE || given_up && moved;
        let grace = self.limits.grace;
        let is_old = |left: &Left| now.saturating_sub(left.since) >= grace;
        let left = &mut state.worker.left;
        let suspicious = || left.iter().filter(|left| left.had_time);
        let again = suspicious().any(|left| left.is_over && is_old(left))
            || suspicious().count() >= MOST_LEFT && suspicious().next().is_some_and(is_old);
        match left.iter_mut().find(|left| left.is_of(calls)) {
            Some(left) => (left.had_time, left.is_over) = (left.had_time || had_time, left.is_over || given_up),
            None => {
                // What is least likely to run is forgotten.
                if left.len() >= 2 * MOST_LEFT
                    && let Some(forgotten) = left.iter().position(|left| !left.had_time)
                {
                    left.remove(forgotten);
                }
                let CallRange { ticket, next: index, attempt, .. } = *calls;
                left.push(Left { ticket, index, attempt, since: now, had_time, is_over: given_up });
            }
        }
        if had_time && (again || given_up && (moved || spent >= grace / 4)) {
            self.kill(seat);
        }
        back.push_front(first);
    }

    /// The present attempt at these calls is over, and not by a worker's report: those to whom they were sent before, and
    /// who have reported nothing since, may still run them. Where they took too long, so may those who hardly had the time to
    /// begin.
    pub(super) fn forsake(&mut self, calls: &CallRange<W>, why: Unreported) {
        if calls.moves == 0 {
            return;
        }
        for seat in 0..self.seats.len() {
            let state = &mut self.seats[seat];
            let left = state.worker.left.iter_mut();
            let may_run =
                left.filter(|left| left.is_of(calls) && !left.is_over && (left.had_time || why == Unreported::Late));
            let any = may_run.map(|left| left.is_over = true).count() > 0;
            // What it is said to run since then is not to suffer.
            if any && state.works(state.epoch()) && !state.is_busy() {
                self.kill(seat);
            }
        }
    }
}
