//! Processes that come to a seat: when one is started, what it means that it could not be, and when that is given up.

use crate::error::{Error, Kind};
use crate::pool::dispatcher::state::{Over, Phase, Seat, Start, Work};
use crate::pool::dispatcher::{Dispatcher, MILLISECOND, Time};

/// How many starts may fail one after another before the pool gives up.
pub(super) const MAX_FAILED_STARTS: u32 = 5;
/// The same, once workers have worked, where starts fail because something is short or somebody kills processes: with
/// the pauses between them, they take ten seconds.
const MAX_UNLUCKY_STARTS: u32 = 12;
const FIRST_BACK_OFF: Time = 10 * MILLISECOND;
pub(super) const LONGEST_BACK_OFF: Time = 2_000 * MILLISECOND;

impl<W: ?Sized + Work> Dispatcher<W> {
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
        self.ready_seats += 1;
        (state.generation, state.sent, state.started, state.given, state.finished) = (0, 0, 0, 0, 0);
        (state.ready_at, state.progress) = (now, now);
        self.watch_new(seat, now);
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

    /// Counts a failed start. A seat where all starts fail is given up, if that is not because processes are short or
    /// are killed: that passes. So is the pool when nobody else works in it.
    pub(super) fn start_failed_for(&mut self, seat: usize, error: Error, at_once: bool) {
        self.seats[seat].failures += 1;
        self.futile_starts += 1;
        let tries = self.seats[seat].failures;
        // Also one that is just leaving: where it was good, others will be.
        let works = |seat: &Seat<W>| match seat.phase {
            Phase::Ready | Phase::Leaving => true,
            // One that is killed for its call was good; one that is coming for the first time may be.
            Phase::Doomed => !at_once,
            Phase::Starting => !at_once && seat.failures == 0,
            Phase::Empty { .. } | Phase::Closed => false,
        };
        let mut other_seats = self.seats.iter().enumerate().filter(|(other, _)| *other != seat);
        let others = other_seats.any(|(_, other)| works(other));
        let most = if error.may_pass() && self.ever_ready { MAX_UNLUCKY_STARTS } else { MAX_FAILED_STARTS };
        // Where nobody works just now, it matters whether anybody has worked since.
        if !at_once && (if others { tries } else { tries.min(self.futile_starts) }) < most {
            return;
        }
        if others && error.may_pass() {
            if tries == most {
                tracing::warn!("a worker could not be started {tries} times, and is tried every 2 s: {error}");
            }
        } else if others {
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

    pub(super) fn vacate(&mut self, seat: usize, now: Time) {
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
}
