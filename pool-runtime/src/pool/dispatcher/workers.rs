//! Events of workers: started, failed to start, lost; and the decision to give up a seat or the pool.

use crate::dossier::{Loss, Ran};
use crate::os::End;
use crate::pool::dispatcher::{
    AfterStarts, Condemned, Dispatcher, Effect, Excess, FailedStart, Flight, MILLISECOND, NEVER, Parting, Phase, Reach,
    Refusal, Seat, SeatWorker, Start, Time, Unreported, Why, Work, is_after, nanos,
};
use crate::protocol::CallHeader;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A call fails after so many workers died before they started it. Its retries are added.
pub(super) const MAX_DEATHS: u32 = 5;

/// The death of a worker that is younger, has finished nothing and was to start nothing counts as a failed start.
const YOUNG: Time = 1000 * MILLISECOND;

impl<W: ?Sized + Work> Dispatcher<W> {
    /// What is to happen at an empty seat.
    pub(crate) fn next_start(&mut self, seat: usize, now: Time) -> Start {
        let needed = match self.over {
            None => true,
            Some(Refusal::Closed) => self.more_may_come(),
            Some(Refusal::Terminated | Refusal::Failed) => false,
        };
        match self.seats[seat].phase() {
            Phase::Empty { .. } if !needed => {
                let _ = self.transit(seat, Phase::Closed);
                Start::Never
            }
            Phase::Empty { not_before } if not_before > now => Start::NotBefore(not_before),
            _ => self.seats[seat].start().map_or(Start::Never, |epoch| Start::Now { epoch }),
        }
    }

    /// A worker of this epoch takes calls.
    pub(crate) fn ready(&mut self, seat: usize, epoch: u32, now: Time) {
        self.ever_ready = true;
        if self.seats[seat].epoch() != epoch || !self.transit(seat, Phase::Ready) {
            return;
        }
        self.seats[seat].worker = SeatWorker {
            ready_at: now,
            progress: now,
            weighed_at: now,
            look_at: NEVER,
            gone_by: NEVER,
            ..SeatWorker::default()
        };
        if std::mem::take(&mut self.seats[seat].was_lost) {
            self.restarted += 1;
        }
        self.watch_at = self.watch_at.min(now.saturating_add(self.limits.age_per_child));
        if !self.goes_on() {
            return self.kill(seat);
        }
        self.idle.push(seat);
        self.feed_idle(now);
        self.leave_if_through(seat, now);
    }

    /// A worker of this epoch could not be started.
    pub(crate) fn start_failed(&mut self, seat: usize, epoch: u32, failed: FailedStart, now: Time) {
        let state = &self.seats[seat];
        if state.epoch() == epoch && !matches!(state.phase(), Phase::Empty { .. } | Phase::Closed) {
            self.count_failure(seat, FailedStart { for_good: failed.for_good && !self.ever_ready, ..failed }, now);
            self.vacate(seat, true, now);
        }
    }

    /// The worker of a seat has ended. `claimed` is the number of the latest call that it started.
    pub(crate) fn lost(&mut self, seat: usize, epoch: u32, loss: &Arc<Loss>, claimed: u32, now: Time) {
        let state = &self.seats[seat];
        if state.epoch() != epoch || matches!(state.phase(), Phase::Empty { .. } | Phase::Closed) {
            // A death may be told twice.
            return;
        }
        let leaves = state.phase() == Phase::Leaving;
        let expected = leaves || state.phase() == Phase::Killed;
        let how = match state.phase() {
            Phase::Leaving => Parting::Left,
            // Why it was is told with the call for which it was, but not that it goes on.
            Phase::Killed if !loss.lives => Parting::Killed,
            _ => Parting::Lost,
        };
        self.effects.push_back(Effect::Departed { seat, epoch, how, loss: loss.clone() });
        // One that was killed as it had not left in time was replaced as planned.
        self.seats[seat].was_lost |= how != Parting::Left && state.worker.leave_by.is_none();
        let state = &self.seats[seat];
        let useless = state.worker.finished == 0 && now.saturating_sub(state.worker.ready_at) < YOUNG;
        let (condemned, convicted) = (state.worker.condemned, state.worker.is_convicted);
        let reached = state.reached(claimed);
        let over_memory = condemned
            .is_some_and(|condemned| condemned.number == reached && matches!(condemned.excess, Excess::Memory { .. }));
        // The call began when the one before it was reported, or when it was sent.
        let time = Duration::from_nanos(now.saturating_sub(state.worker.progress));
        let mut back = self.take_behind(seat, reached);
        let started = self.take_all(seat);
        let nothing_started = started.is_empty();
        // If it was to start a call, that one has died once more, which has a limit: it may be its doing, whatever its page
        // says. Calls that end their workers one after the other are not to end the pool.
        let had_nothing = nothing_started && back.is_empty();
        let lost = |call: CallHeader, time, condemned| Why::Lost {
            loss: loss.clone(),
            job: call.job,
            attempt: call.attempt,
            time,
            condemned,
        };
        // One that leaves as it has said so is no reason to suspect the call behind.
        if nothing_started
            && !leaves
            && let Some(front) = back.front_mut()
        {
            // The worker was to start this one next. Those behind it are not to blame.
            let mut first = front.take(1);
            if front.len() == 0 {
                back.pop_front();
            }
            if convicted {
                // By the dispatcher, and not by the call.
                first.calls.moves = first.calls.moves.saturating_add(1);
            } else {
                first.calls.deaths = first.calls.deaths.saturating_add(1);
            }
            back.push_front(first);
        }
        // In reverse, as each goes to the front. These calls are not to blame for what one before them did.
        for flight in back.into_iter().rev() {
            let calls = &flight.calls;
            let most = MAX_DEATHS.saturating_add(calls.work.policy().retries);
            if u32::from(calls.deaths) < most || flight.cancelled.is_some() {
                self.send_back(flight);
            } else {
                let lost = |index| (Ran::No, lost(flight.header_of(index), None, None));
                self.fail(&flight.calls, flight.calls.attempts_before(), lost);
            }
        }
        for mut flight in started {
            if is_after(flight.last_number(), claimed) {
                // It is kept only because it is condemned: what was to be cancelled before it starts is.
                flight.cancelled = flight.cancelled.map(|_| Reach::Running);
            }
            // The loss says how far the call got that ran, but nothing of those before it.
            let last = flight.split_after(reached.wrapping_sub(1));
            for flight in [Some(flight), last].into_iter().flatten().filter(|flight| flight.len() > 0) {
                let runs = flight.has(reached);
                let known = reached == claimed && !loss.lives;
                if condemned.is_some_and(|condemned| flight.has(condemned.number)) {
                    self.forsake(&flight.calls, Unreported::Late);
                }
                let ran = if runs && known { loss.stage.ran() } else { Ran::Maybe };
                // No second attempt starts before the process of the first one is dead.
                let never = loss.lives || runs && over_memory;
                if let Some(condemned) = condemned.filter(|condemned| flight.has(condemned.number)) {
                    self.note_excess(seat, &flight, condemned);
                }
                let (work, first, count) = (flight.calls.work.clone(), flight.calls.next, flight.len());
                let attempt = flight.calls.attempt;
                let Some(flight) = self.retry(flight, never, ran, now) else {
                    self.retries += u64::from(count);
                    self.effects.push_back(Effect::Retried { work, first, count, attempt, seat, loss: loss.clone() });
                    continue;
                };
                if loss.lives {
                    self.effects.push_back(Effect::Hold { seat, epoch, work: flight.calls.work.clone() });
                }
                self.fail(&flight.calls, flight.calls.attempt, |index| {
                    let call = flight.header_of(index);
                    let condemned = condemned.filter(|condemned| condemned.number == call.number);
                    let excess = condemned.map(|condemned| condemned.excess);
                    (ran, if flight.is_given_up() { Why::Cancelled } else { lost(call, Some(time), excess) })
                });
            }
        }
        let died_early = !expected && useless && nothing_started;
        let in_vain = !expected && (useless && had_nothing || self.restarts.intensity == 0);
        if in_vain || loss.lives && self.goes_on() {
            let may_pass = loss.lives || loss.status.is_some_and(End::was_killed);
            self.count_failure(seat, FailedStart { for_good: false, may_pass }, now);
        }
        self.vacate(seat, died_early, now);
        self.feed_idle(now);
    }

    /// The worker of a seat was killed and does not die at once; `loss` is what is known of it. The call for which it was
    /// killed ends now, unless it may be retried: then it has to wait for the death.
    pub(crate) fn overdue(&mut self, seat: usize, epoch: u32, loss: &Arc<Loss>, now: Time) {
        let state = &self.seats[seat];
        let killed = state.epoch() == epoch && state.phase() == Phase::Killed;
        let Some(condemned) = state.worker.condemned.filter(|_| killed) else { return };
        let time = Duration::from_nanos(now.saturating_sub(state.worker.progress));
        let Some(last) = state.in_flight.back().filter(|last| last.last_number() == condemned.number) else { return };
        if last.calls.attempt <= last.calls.work.policy().retries {
            return;
        }
        for last in self.take_behind(seat, condemned.number.wrapping_sub(1)) {
            self.note_excess(seat, &last, condemned);
            self.effects.push_back(Effect::Hold { seat, epoch, work: last.calls.work.clone() });
            self.fail(&last.calls, last.calls.attempt, |index| {
                let (loss, CallHeader { job, attempt, .. }) = (loss.clone(), last.header_of(index));
                let condemned = Some(condemned.excess);
                let lost = Why::Lost { loss, job, attempt, time: Some(time), condemned };
                (Ran::Maybe, if last.is_given_up() { Why::Cancelled } else { lost })
            });
        }
    }

    /// An attempt at a call has ended as it exceeded a limit, unless it was cancelled meanwhile.
    fn note_excess(&mut self, seat: usize, flight: &Flight<W>, condemned: Condemned) {
        if flight.is_given_up() {
            return;
        }
        if let Excess::Time { .. } = condemned.excess {
            self.timeouts += 1;
        }
        let index = flight.calls.next + condemned.number.wrapping_sub(flight.number);
        let (work, call) = (flight.calls.work.clone(), flight.header_of(index));
        self.effects.push_back(Effect::Exceeded { work, call, seat, excess: condemned.excess });
    }

    /// These seats have no attendants any more: all their calls fail.
    pub(crate) fn abandon(&mut self, seats: Range<usize>) {
        for seat in seats {
            self.fail_seat(seat, &Why::PoolFailed);
            let _ = self.transit(seat, Phase::Closed);
        }
        if self.is_finished() && self.goes_on() {
            self.fail_waiting(&Why::PoolFailed);
            self.over = Some(Refusal::Failed);
        }
    }

    /// Counts a failed start. A seat where starts keep failing is closed, unless the cause may pass, such as a shortage
    /// of processes. If no other seat works, the pool has failed.
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
        // A worker that leaves shows that starts succeed.
        let works = |seat: &Seat<W>| match seat.phase() {
            Phase::Ready | Phase::Leaving => true,
            // So does one that is killed for its call. A seat's first start may succeed.
            Phase::Killed => !at_once,
            Phase::Starting => !at_once && seat.failures == 0,
            Phase::Empty { .. } | Phase::Closed => false,
        };
        let mut other_seats = self.seats.iter().enumerate().filter(|(other, _)| *other != seat);
        let others = other_seats.any(|(_, other)| works(other));
        // If no other seat works now, it matters whether any has worked since.
        let (failures, since) = match others {
            true => (tries, self.seats[seat].failing_since),
            false => (tries.min(self.futile_starts), self.futile_since.max(self.seats[seat].failing_since)),
        };
        let may_pass = failed.may_pass && intensity > 0;
        let lasts = !may_pass || !self.ever_ready || now.saturating_sub(since) >= period;
        let is_over = at_once || failures >= intensity && lasts;
        if others && may_pass {
            if tries == intensity {
                self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::TryOn });
            }
        } else if is_over && others {
            self.effects.push_back(Effect::StartsFailed { tries, then: AfterStarts::GiveUpSeat });
            let _ = self.transit(seat, Phase::Closed);
        } else if is_over {
            self.give_up(tries);
        }
    }

    /// The seat has no worker. Sets when the next one may start: after the shortest pause at least if this one `died_early`,
    /// before it had started a call.
    fn vacate(&mut self, seat: usize, died_early: bool, now: Time) {
        let failures = self.seats[seat].failures.max(u32::from(died_early));
        let factor = if failures == 0 { 0 } else { 1 << (failures - 1).min(40) };
        let longest = nanos(self.restarts.longest_backoff);
        let back_off = nanos(self.restarts.first_backoff).saturating_mul(factor).min(longest);
        let _ = self.transit(seat, Phase::Empty { not_before: now.saturating_add(back_off) });
    }
}
