//! How much each worker is given, and when what it was given is taken back.
//!
//! Calls of unknown or long duration go singly to workers that have nothing; short ones are sent ahead, so that the way
//! there and back is hidden, and are taken back when one of them turns out to be slow while another worker is idle.
//! What is on its way to a worker is limited in calls, bytes and frames: sending must never wait for a worker that is
//! busy.

use crate::pool::dispatcher::events::{Effect, MILLISECOND, Time, Work};
use crate::pool::dispatcher::machine::Dispatcher;
use crate::pool::dispatcher::range::Flight;
use crate::pool::dispatcher::seat::Phase;

/// How much work a worker is given ahead, where calls are short: what hides the way there and back.
pub(super) const AHEAD: Time = 4 * MILLISECOND;
/// A seat that has less than this left gets more.
pub(super) const LOW: Time = 2 * MILLISECOND;
/// How long a worker may show no progress until what waits behind its call is given to an idle one.
pub(super) const STALLED: Time = MILLISECOND;
/// So much work is not shared among workers: to wake one more would take about as long.
pub(super) const GRAIN: Time = 100_000;
/// How much a chunk of calls takes in a frame beside their arguments, about.
pub(super) const CHUNK_BYTES: usize = 128;

impl<W: ?Sized + Work> Dispatcher<W> {
    pub(super) fn feed_idle(&mut self, now: Time) {
        let share = self.share();
        while self.queue.ready() > 0 {
            let Some(seat) = self.idle.pop() else { break };
            self.feed(seat, share, now);
        }
        self.relieve(now);
        self.leave_if_idle();
    }

    /// Gives what waits to the worker that was given something last, if that is busy with little: it gets to it sooner
    /// than one that has to be woken. Says whether that was all.
    pub(super) fn append(&mut self, now: Time) -> bool {
        let seat = self.latest;
        let Some(duration) = self.next_task().and_then(|task| self.durations.get(task)) else { return false };
        let state = &self.seats[seat];
        let more = duration.saturating_mul(self.queue.ready() as Time);
        if state.calls == 0 || state.ahead.saturating_add(more) > GRAIN || now.saturating_sub(state.progress) > GRAIN {
            return false;
        }
        self.feed(seat, usize::MAX, now);
        // If its call turns out to be a slow one, it is taken back.
        if !self.idle.is_empty() {
            self.look_again.get_or_insert(now + STALLED);
        }
        self.queue.ready() == 0
    }

    /// How many of the waiting calls one worker gets at the most: no worker is to have what another could be doing.
    pub(super) fn share(&self) -> usize {
        self.queue.ready().div_ceil(self.ready_seats.max(1))
    }

    /// Gives a worker what it should have: something if it has nothing; more if what it has is soon done.
    pub(super) fn feed(&mut self, seat: usize, share: usize, now: Time) {
        let (state, limits) = (&self.seats[seat], self.limits);
        if state.phase() != Phase::Ready || state.recalling || state.watch.worn || self.queue.ready() == 0 {
            return;
        }
        let enough = state.ahead > LOW
            || state.calls > limits.calls / 2
            || state.unread_bytes > limits.unhindered / 2
            || now.saturating_sub(state.progress) > STALLED;
        if (state.calls > 0 && enough) || state.unread.len() >= limits.frames {
            return;
        }
        let first = state.sent.wrapping_add(1);
        let (mut given, mut size) = (0, 0);
        while let Some(task) = self.next_task() {
            let duration = self.durations.get(task).unwrap_or(AHEAD);
            let share = share.max((GRAIN / duration) as usize).saturating_sub(given);
            let Some(calls) = self.fitting(seat, share, size, duration) else { break };
            let Some(bytes) = self.take(seat, calls, duration) else { break };
            size += bytes;
            given += calls as usize;
        }
        if given > 0 {
            let state = &mut self.seats[seat];
            let alone = state.calls == given;
            if alone {
                state.progress = now;
            }
            state.unread.push_back((state.sent, size));
            state.unread_bytes += size;
            let (epoch, generation, last) = (state.epoch(), state.generation, state.sent);
            self.latest = seat;
            self.effects.push_back(Effect::Send { seat, epoch, generation, first, last });
            if alone {
                self.watch(seat, now);
            }
        }
    }

    /// How many of the calls at the front a seat may have, beside `size` bytes that it has just been given.
    fn fitting(&self, seat: usize, share: usize, size: usize, duration: Time) -> Option<u32> {
        let (state, limits) = (&self.seats[seat], &self.limits);
        let range = self.queue.front()?;
        let left = limits.tasks_per_child.saturating_sub(state.given);
        if share == 0 {
            return None;
        }
        let most = (range.len() as usize).min(share).min(usize::try_from(left).unwrap_or(usize::MAX));
        // A worker that has nothing gets one call, however large or long.
        let least = usize::from(state.calls == 0).min(most);
        let in_time = AHEAD.saturating_sub(state.ahead) / duration;
        let in_number = limits.calls.saturating_sub(state.calls);
        let room = limits.frame.min(limits.unhindered.saturating_sub(state.unread_bytes)).saturating_sub(size);
        let most = most.min(in_number).min(usize::try_from(in_time).unwrap_or(usize::MAX));
        let fits = |calls: usize| CHUNK_BYTES + range.work.size(range.next..range.next + calls as u32) <= room;
        let mut fitting = most;
        if !fits(fitting) {
            // The most that fits is between the two.
            let mut low = 0;
            while fitting - low > 1 {
                let middle = low.midpoint(fitting);
                if fits(middle) { low = middle } else { fitting = middle }
            }
            fitting = low;
        }
        let calls = fitting.max(least);
        (calls > 0).then_some(calls as u32)
    }

    /// The task of the call that is next.
    fn next_task(&self) -> Option<&'static str> {
        self.queue.front().map(|range| range.work.task())
    }

    /// Moves calls at the front to a seat. Returns how many bytes they take.
    fn take(&mut self, seat: usize, calls: u32, expected: Time) -> Option<usize> {
        let range = self.queue.take(calls)?;
        let state = &mut self.seats[seat];
        let size = CHUNK_BYTES + range.work.size(range.next..range.end);
        let flight = Flight { calls: range, number: state.sent.wrapping_add(1), expected, cancelled: false };
        state.sent = state.sent.wrapping_add(calls);
        state.given += u64::from(calls);
        state.ahead += flight.ahead();
        state.calls += calls as usize;
        state.in_flight.push_back(flight);
        self.in_flight_calls += calls as usize;
        Some(size)
    }

    /// If a worker is idle while another has calls behind one that takes long, those are taken back for it.
    pub(super) fn relieve(&mut self, now: Time) {
        if self.idle.is_empty() || self.queue.ready() > 0 || self.in_flight_calls < 2 {
            return;
        }
        let mut again: Option<Time> = None;
        for seat in 0..self.seats.len() {
            let state = &self.seats[seat];
            if state.phase() != Phase::Ready || state.recalling {
                continue;
            }
            // The first one runs; the last one may be known to have started, its report being on the way.
            let Some(first) = state.in_flight.front().filter(|_| state.has_calls_behind()) else { continue };
            let behind = state.ahead - first.expected;
            // Where all are slow to start anything, as the machine is busy with something else, calls would be taken to
            // and fro: each time that nothing comes of it, a worker gets twice as long.
            let stalled_at = state.progress + (STALLED << state.relieved.min(10));
            if (behind >= STALLED && state.relieved == 0) || stalled_at <= now {
                self.seats[seat].relieved += 1;
                self.recall(seat);
                return;
            }
            again = Some(again.map_or(stalled_at, |at| at.min(stalled_at)));
        }
        if let Some(again) = again {
            self.look_again = Some(self.look_again.map_or(again, |at| at.min(again)));
        }
    }
}
