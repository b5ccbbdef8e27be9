//! How much each worker is given, and when what it was given is taken back.
//!
//! Calls of unknown or long duration go singly to workers that have nothing; short ones are sent ahead, so that the way
//! there and back is hidden, and are taken back when one of them turns out to be slow while another worker is idle. What
//! is on its way to a worker is limited in calls, bytes and frames: sending must never wait for a worker that is busy.

use super::{Dispatcher, Effect, Flight, MILLISECOND, Phase, Time, is_after};

/// How much work a worker is given ahead, where calls are short: what hides the way there and back.
pub(super) const AHEAD: Time = 2 * MILLISECOND;
/// A seat that has less than this left gets more.
pub(super) const LOW: Time = MILLISECOND;
/// How long a worker may show no progress until what waits behind its call is given to an idle one.
pub(super) const STALLED: Time = MILLISECOND;
/// How much a call takes in a frame beside its arguments, about.
pub(super) const CALL_BYTES: usize = 96;
/// How many frames may lie unread between here and a worker: a socket holds a few hundred, however small they are, and
/// whoever sends one more waits for the worker to read, which it may not do before somebody reads its reports.
pub(super) const MAX_UNREAD: usize = 16;
/// How many calls may be in flight at one seat.
pub(super) const MAX_IN_FLIGHT: usize = 1024;

impl<S> Dispatcher<S> {
    pub(super) fn feed_idle(&mut self, now: Time) {
        let share = self.share();
        while self.waiting_calls > 0 {
            let Some(seat) = self.idle.pop() else { break };
            self.feed(seat, share, now);
        }
        self.relieve(now);
        self.leave_if_idle();
    }

    /// How many of the waiting calls one worker gets at the most: no worker is to have what another could be doing.
    pub(super) fn share(&self) -> usize {
        let ready = self.seats.iter().filter(|seat| seat.phase == Phase::Ready).count();
        self.waiting_calls.div_ceil(ready.max(1))
    }

    /// Gives a worker what it should have: something if it has nothing; more if what it has is soon done.
    pub(super) fn feed(&mut self, seat: usize, share: usize, now: Time) {
        let state = &self.seats[seat];
        if state.phase != Phase::Ready || state.recalling || self.waiting_calls == 0 {
            return;
        }
        if !state.in_flight.is_empty() && (state.ahead > LOW || now.saturating_sub(state.progress) > STALLED) {
            return;
        }
        if state.unread.len() >= MAX_UNREAD {
            return;
        }
        let (mut calls, mut size) = (Vec::new(), 0);
        while calls.len() < share {
            let Some((task, bytes)) = self.front() else { break };
            let duration = self.duration(task);
            let state = &self.seats[seat];
            let alone = state.in_flight.is_empty();
            let fits = state.in_flight.len() < MAX_IN_FLIGHT
                && state.ahead + duration <= AHEAD
                && state.unread_bytes + size + bytes <= self.limits.unhindered;
            if state.given >= self.limits.tasks_per_child || !(alone || fits) {
                break;
            }
            let Some(flight) = self.take(seat, duration) else { break };
            size += bytes;
            calls.push(flight);
        }
        if !calls.is_empty() {
            let state = &mut self.seats[seat];
            if state.in_flight.len() == calls.len() {
                state.progress = now;
            }
            state.unread.push_back((state.sent, size));
            state.unread_bytes += size;
            self.effects.push_back(Effect::Send { seat, epoch: state.epoch, generation: state.generation, calls });
        }
    }

    /// How long a call is expected to take; one of an unknown task is expected to fill any worker.
    fn duration(&self, task: &'static str) -> Time {
        self.durations.get(task).copied().unwrap_or(AHEAD)
    }

    /// The task of the call that is next, and how many bytes its arguments have. Units that are empty go away.
    pub(super) fn front(&mut self) -> Option<(&'static str, usize)> {
        while self.returned.front().is_some_and(|unit| unit.len() == 0) {
            self.returned.pop_front();
        }
        if self.returned.is_empty() {
            while self.waiting.front().is_some_and(|unit| unit.len() == 0) {
                self.waiting.pop_front();
                self.first_ticket += 1;
            }
        }
        let unit = self.returned.front().or_else(|| self.waiting.front())?;
        Some((unit.batch.task, CALL_BYTES + unit.batch.arguments(unit.next).len()))
    }

    /// Moves the call at the front to a seat.
    fn take(&mut self, seat: usize, expected: Time) -> Option<Flight<S>> {
        let unit = match self.returned.front_mut() {
            Some(unit) => unit,
            None => self.waiting.front_mut()?,
        };
        let state = &mut self.seats[seat];
        state.sent = state.sent.wrapping_add(1);
        let flight = Flight {
            ticket: unit.ticket,
            batch: unit.batch.clone(),
            index: unit.next,
            attempt: unit.attempt,
            deaths: unit.deaths,
            number: state.sent,
            expected,
            cancelled: false,
        };
        unit.next += 1;
        state.given += 1;
        state.ahead += expected;
        state.in_flight.push_back(flight.clone());
        self.waiting_calls -= 1;
        self.in_flight_calls += 1;
        // A batch that has been given out must not be kept in memory by a unit that has nothing left.
        self.front();
        Some(flight)
    }

    /// If a worker is idle while another has calls behind one that takes long, those are taken back for it.
    pub(super) fn relieve(&mut self, now: Time) {
        if self.idle.is_empty() || self.waiting_calls > 0 || self.in_flight_calls < 2 {
            return;
        }
        let mut again: Option<Time> = None;
        for seat in 0..self.seats.len() {
            let state = &self.seats[seat];
            if state.phase != Phase::Ready || state.recalling || state.in_flight.len() < 2 {
                continue;
            }
            // The first one runs; the last one may be known to have started, its report being on the way.
            let (Some(first), Some(last)) = (state.in_flight.front(), state.in_flight.back()) else { continue };
            if !is_after(last.number, state.started) {
                continue;
            }
            let behind = state.ahead - first.expected;
            let stalled_at = state.progress + STALLED;
            if behind >= STALLED || stalled_at <= now {
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
