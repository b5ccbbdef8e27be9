//! Events of workers: started, failed to start, lost; and when a seat or the pool is given up.

use crate::dossier::{Loss, Ran};
use crate::os::End;
use crate::pool::dispatcher::events::{
    AfterStarts, CallLoss, Effect, FailedStart, MILLISECOND, Start, Time, Why, Work,
};
use crate::pool::dispatcher::machine::{Dispatcher, Over};
use crate::pool::dispatcher::range::Flight;
use crate::pool::dispatcher::seat::{Phase, Seat};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How many workers may die before they start a call until it is given up; more if it may be tried again.
pub(super) const MAX_DEATHS: u32 = 5;

/// A worker that dies before it is this old, and has finished nothing, is as good as one that could not be started.
const YOUNG: Time = 1000 * MILLISECOND;

fn nanos(time: Duration) -> Time {
    Time::try_from(time.as_nanos()).unwrap_or(Time::MAX)
}

impl<W: ?Sized + Work> Dispatcher<W> {
    /// What is to happen at an empty seat.
    pub(crate) fn next_start(&mut self, seat: usize, now: Time) -> Start {
        let needed = match self.over {
            Over::No => true,
            Over::Closed => self.more_may_come(),
            Over::Terminated | Over::Failed => false,
        };
        match self.seats[seat].phase() {
            Phase::Empty { .. } if !needed => {
                let _ = self.transit(seat, Seat::close);
                Start::Never
            }
            Phase::Empty { not_before } if not_before > now => Start::NotBefore(not_before),
            _ => self.seats[seat].start().map_or(Start::Never, |epoch| Start::Now { epoch }),
        }
    }

    /// A worker of this epoch takes calls.
    pub(crate) fn ready(&mut self, seat: usize, epoch: u32, now: Time) {
        self.ever_ready = true;
        if self.seats[seat].epoch() != epoch || !self.transit(seat, |state| state.ready(now)) {
            return;
        }
        self.watch_at = self.watch_at.min(now.saturating_add(self.limits.age_per_child));
        if !self.goes_on() {
            return self.kill(seat);
        }
        self.idle.push(seat);
        self.feed_idle(now);
        self.leave_if_through(seat);
    }

    /// A worker of this epoch could not be started.
    pub(crate) fn start_failed(&mut self, seat: usize, epoch: u32, failed: FailedStart, now: Time) {
        if self.seats[seat].epoch() == epoch {
            self.count_failure(seat, FailedStart { for_good: failed.for_good && !self.ever_ready, ..failed }, now);
            self.vacate(seat, now);
        }
    }

    /// The worker of a seat has ended. `claimed` is the number of the latest call that it started.
    pub(crate) fn lost(&mut self, seat: usize, epoch: u32, loss: &Arc<Loss>, claimed: u32, now: Time) {
        let state = &self.seats[seat];
        if state.epoch() != epoch || matches!(state.phase(), Phase::Empty { .. } | Phase::Closed) {
            // That is known already.
            return;
        }
        let expected = matches!(state.phase(), Phase::Leaving | Phase::Doomed);
        let useless = state.finished == 0 && now.saturating_sub(state.ready_at) < YOUNG;
        // The call began when the one before it was reported, or when it was sent.
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
        let _ = self.transit(seat, |state| state.vacate(now));
        let lost = |attempt, time| CallLoss { loss: loss.clone(), job: 0, attempt, time, condemned: None };
        // In reverse, as each goes to the front. They are not to blame for what a call before them did.
        for mut flight in back.into_iter().rev() {
            let calls = &mut flight.calls;
            calls.deaths = calls.deaths.saturating_add(nothing_started.into());
            let most = MAX_DEATHS.saturating_add(calls.work.policy().retries);
            if u32::from(calls.deaths) < most || flight.cancelled {
                self.send_back(flight);
            } else {
                let (tried, attempt) = (calls.tried_before(), calls.attempt);
                self.fail_lost(&flight, tried, |_| (Ran::No, Some(lost(attempt, None))));
            }
        }
        for flight in started {
            let ran = ran(&flight, flight.last_number() == claimed, loss);
            let Some(flight) = self.retry(seat, flight, claimed, ran, now) else { continue };
            let condemned = self.seats[seat].watch.condemned;
            let (tried, attempt) = (flight.calls.tried(), flight.calls.attempt);
            self.fail_lost(&flight, tried, |number| {
                let condemned = condemned.filter(|(condemned, _)| *condemned == number).map(|(_, excess)| excess);
                let lost = CallLoss { condemned, ..lost(attempt, Some(time)) };
                (self::ran(&flight, number == claimed, loss), (!flight.cancelled).then_some(lost))
            });
        }
        if !expected && (useless && nothing_started || self.restarts.intensity == 0) {
            // It died by itself before it did anything: as good as a failed start.
            let may_pass = loss.status.is_some_and(End::was_killed);
            self.count_failure(seat, FailedStart { for_good: false, may_pass }, now);
        }
        self.vacate(seat, now);
        self.feed_idle(now);
    }

    /// Nobody attends to these seats any more. What was there, and what nobody is left to do, fails.
    pub(crate) fn abandon(&mut self, seats: Range<usize>) {
        for seat in seats {
            for flight in self.empty(seat) {
                self.fail_running(seat, &flight.calls, &Why::PoolFailed);
            }
            self.kill(seat);
            let _ = self.transit(seat, Seat::close);
        }
        if self.is_finished() && self.goes_on() {
            self.fail_waiting(&Why::PoolFailed);
            self.over = Over::Failed;
        }
    }

    /// Counts a failed start. A seat where all starts fail is given up, if that is not because processes are short or
    /// are killed: that passes. So is the pool when nobody else works in it.
    fn count_failure(&mut self, seat: usize, failed: FailedStart, now: Time) {
        let (at_once, intensity, period) = (failed.for_good, self.restarts.intensity, nanos(self.restarts.period));
        let state = &mut self.seats[seat];
        if state.failures == 0 {
            state.failing_since = now;
        }
        if self.futile_starts == 0 {
            self.futile_since = now;
        }
        state.failures += 1;
        self.futile_starts += 1;
        let tries = state.failures;
        // Also one that is just leaving: where it was good, others will be.
        let works = |seat: &Seat<W>| match seat.phase() {
            Phase::Ready | Phase::Leaving => true,
            // One that is killed for its call was good; one that is coming for the first time may be.
            Phase::Doomed => !at_once,
            Phase::Starting => !at_once && seat.failures == 0,
            Phase::Empty { .. } | Phase::Closed => false,
        };
        let mut other_seats = self.seats.iter().enumerate().filter(|(other, _)| *other != seat);
        let others = other_seats.any(|(_, other)| works(other));
        // Where nobody works just now, it matters whether anybody has worked since.
        let (failures, since) = match others {
            true => (tries, self.seats[seat].failing_since),
            false => (tries.min(self.futile_starts), self.futile_since.max(self.seats[seat].failing_since)),
        };
        let may_pass = failed.may_pass && self.ever_ready && intensity > 0;
        let is_over = failures >= intensity && (!may_pass || now.saturating_sub(since) >= period);
        if others && may_pass {
            if tries == intensity {
                self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::TryOn });
            }
        } else if at_once || is_over {
            if others {
                self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::GiveUpSeat });
                let _ = self.transit(seat, Seat::close);
            } else {
                self.give_up(tries);
            }
        }
    }

    /// There is no worker at a seat: when may the next one start?
    fn vacate(&mut self, seat: usize, now: Time) {
        let back_off = match self.seats[seat].failures {
            0 => 0,
            failures => {
                let doubled = nanos(self.restarts.first_backoff).saturating_mul(1 << (failures - 1).min(40));
                doubled.min(nanos(self.restarts.longest_backoff))
            }
        };
        let _ = self.transit(seat, |state| state.vacate(now + back_off));
    }
}

/// Have calls been started that were lost with a worker which had taken them up? Of the `last` one it is known how far
/// it was.
fn ran<W: ?Sized>(flight: &Flight<W>, last: bool, loss: &Loss) -> Ran {
    let now = if last { loss.stage.ran() } else { Ran::Maybe };
    now.or_before(flight.calls.ran)
}
