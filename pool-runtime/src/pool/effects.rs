//! Carries out what the dispatcher decides: the only place that matches all [effects](Effect). It also makes the error of
//! a failed call.

use crate::dossier::Dossier;
use crate::error::{Error, Kind};
use crate::locks::lock;
use crate::peer::{Answer, Glance, Peer, Sent};
use crate::pool::dispatcher::{
    AfterStarts, CallFailure, Dispatcher, Effect, Ended, Excess, How, Observation, Time, Why,
};
use crate::pool::{ALL_CALLS, CallsFrame, Core, Inner, Outcome, Station, Submission, dossiers};
use crate::protocol::Values;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// What is left to do after the core is unlocked.
#[derive(Default)]
#[must_use]
pub(super) struct Todo {
    effects: VecDeque<Effect<dyn Submission>>,
    /// Their peers have frames to send.
    unflushed: VecDeque<Arc<Station>>,
}

impl Inner {
    /// Tells the dispatcher an event, and carries out what it decides.
    pub(super) fn tell<R>(&self, event: impl FnOnce(&mut Dispatcher<dyn Submission>, Time) -> R) -> R {
        self.tell_core(|core, now| event(&mut core.dispatcher, now))
    }

    #[inline]
    pub(super) fn tell_core<R>(&self, event: impl FnOnce(&mut Core, Time) -> R) -> R {
        let (told, todo) = self.decide(event);
        self.carry_out(todo);
        told
    }

    /// Tells the dispatcher an event. Frames are handed to the peers while the core is locked, so that they leave in the
    /// order in which the dispatcher numbered the calls.
    #[inline]
    pub(super) fn decide<R>(&self, event: impl FnOnce(&mut Core, Time) -> R) -> (R, Todo) {
        self.decide_in(lock(&self.core), event)
    }

    /// The same with the core already locked.
    #[inline]
    pub(super) fn decide_in<R>(
        &self,
        mut core: MutexGuard<'_, Core>,
        event: impl FnOnce(&mut Core, Time) -> R,
    ) -> (R, Todo) {
        let now = self.now();
        let told = event(&mut core, now);
        (told, self.settle(core, now))
    }

    /// Carries out those effects that need the core locked, and unlocks it.
    pub(super) fn settle(&self, mut core: MutexGuard<'_, Core>, now: Time) -> Todo {
        let mut todo = Todo::default();
        while let Some(effect) = core.dispatcher.effect() {
            match effect {
                Effect::Send { .. } | Effect::Stop { .. } => self.send(&mut core, &effect, &mut todo),
                Effect::StartsFailed { tries, then } => {
                    let reason = self.starts_failed(&mut core, tries, then);
                    self.log_starts_failed(tries, then, &reason);
                }
                Effect::Departed { seat, epoch, how, loss } => self.log_departed(seat, epoch, how, &loss),
                // While the core is locked, the worker is still there.
                Effect::Retired { seat, epoch, why } => {
                    core.station(seat, epoch).inspect(|station| self.log_retired(station, why));
                }
                Effect::Overstayed { seat, epoch } => {
                    core.station(seat, epoch).inspect(|station| self.log_overstayed(station));
                }
                Effect::Outgrown { seat, epoch, limit, used } => {
                    core.station(seat, epoch).inspect(|station| self.log_outgrown(station, limit, used));
                }
                other => todo.effects.push_back(other),
            }
        }
        // Threads may wait for the pool's end, or for a seat to open.
        let is_over = core.dispatcher.is_over();
        let phase = (is_over, if is_over { core.dispatcher.open_seats() } else { self.seats });
        if std::mem::replace(&mut core.phase, phase) != phase {
            self.over.store(is_over, Ordering::Relaxed);
            self.notify();
        }
        self.wake_blocked(&core);
        self.set_clock(&mut core, now);
        if let Some(listener) = &self.listener {
            listener.adapt(core.dispatcher.busy_seats(), &core.stations);
        }
        todo
    }

    fn send(&self, core: &mut Core, effect: &Effect<dyn Submission>, todo: &mut Todo) {
        let (Effect::Send { seat, epoch, .. } | Effect::Stop { seat, epoch }) = *effect else { return };
        let Some(station) = core.station(seat, epoch).cloned() else { return };
        if let Some(listener) = &self.listener {
            listener.before_sending(&mut core.listening, &station);
        }
        let sent = match *effect {
            Effect::Send { generation, first, last, .. } => {
                let frame = CallsFrame { dispatcher: &core.dispatcher, seat, generation, first, last };
                let mut held = Vec::new();
                for flight in frame.flights() {
                    let calls = &flight.calls;
                    calls.work.with_regions(calls.range(), &mut |regions| station.peer.bring(regions, &mut held));
                }
                station.peer.send(&frame, held)
            }
            _ => station.peer.stop(),
        };
        match sent {
            Sent::Done => {}
            Sent::Unflushed => todo.unflushed.push_back(station),
            // The attendant finds out why.
            Sent::Corrupt => station.peer.kill(),
        }
    }

    /// Notes why the pool has failed, if it has. Returns why the latest start did.
    fn starts_failed(&self, core: &mut Core, tries: u32, then: AfterStarts) -> Error {
        let error = core.trouble.clone().unwrap_or_else(|| Error::invalid("it ended"));
        match then {
            AfterStarts::TryOn => {}
            AfterStarts::GiveUpSeat => {
                core.given_up = Some(error.clone());
                // Threads may wait for all workers.
                self.changed.notify_all();
            }
            AfterStarts::GiveUpPool if self.single => core.failure = Some(error.clone()),
            AfterStarts::GiveUpPool => core.failure = Some(Error::pool_failed(tries, error.clone())),
        }
        error
    }

    pub(super) fn carry_out(&self, mut todo: Todo) {
        // Told last, as that wakes threads and may run code of an async runtime, for which no worker must wait.
        let mut ended = Vec::new();
        loop {
            while let Some(effect) = todo.effects.pop_front() {
                match effect {
                    Effect::Ended(end) => ended.push(end),
                    Effect::TakeBack { seat, epoch, generation } => {
                        let question = |peer: &Peer| peer.take_back(generation);
                        self.ask((seat, epoch), &mut todo, question, |core, glance, now| {
                            let extended = glance.extended.saturating_sub(self.began);
                            core.dispatcher.extended(seat, epoch, glance.claimed, extended, now);
                            core.dispatcher.taken_back(seat, epoch, glance.claimed, now);
                        });
                    }
                    Effect::Look { seat, epoch, memory } => {
                        let question = |peer: &Peer| peer.look(memory);
                        self.ask((seat, epoch), &mut todo, question, |core, glance, now| {
                            core.dispatcher.seen(seat, epoch, self.observation(glance), now);
                        });
                    }
                    Effect::Kill { seat, epoch } => {
                        self.station(seat, epoch).inspect(|station| station.peer.kill());
                    }
                    Effect::AskToEnd { seat, epoch, generation } => {
                        let (station, has_clock) = {
                            let core = lock(&self.core);
                            (core.station(seat, epoch).cloned(), core.has_clock)
                        };
                        match station {
                            Some(station) if has_clock => ask_to_end(&station, generation, &mut todo),
                            // Nobody would kill it when its time is over.
                            Some(station) => station.peer.kill(),
                            None => {}
                        }
                    }
                    Effect::Exceeded { work, call, seat, excess } => self.log_exceeded(&*work, call, seat, excess),
                    Effect::Retried { work, first, count, attempt, seat, loss } => {
                        self.log_retried(&*work, first..first + count, attempt, seat, &loss);
                    }
                    Effect::Hold { seat, epoch, work } => {
                        let mut held = Vec::new();
                        work.with_regions(ALL_CALLS, &mut |regions| held.extend_from_slice(regions));
                        if !held.is_empty()
                            && let Some(station) = self.station(seat, epoch)
                        {
                            station.hold(&held);
                        }
                    }
                    // Done while the core was locked.
                    Effect::Send { .. }
                    | Effect::Stop { .. }
                    | Effect::StartsFailed { .. }
                    | Effect::Departed { .. }
                    | Effect::Retired { .. }
                    | Effect::Overstayed { .. }
                    | Effect::Outgrown { .. } => {}
                }
            }
            let Some(station) = todo.unflushed.pop_front() else { break };
            station.peer.flush();
        }
        if !ended.is_empty() {
            // None has a value: those are told where reports are read.
            tell_ends(self, ended, &[]);
            self.wake_leader();
        }
    }

    pub(super) fn station(&self, seat: usize, epoch: u32) -> Option<Arc<Station>> {
        lock(&self.core).station(seat, epoch).cloned()
    }

    /// Asks a peer a question, and tells the dispatcher the answer.
    fn ask(
        &self,
        (seat, epoch): (usize, u32),
        todo: &mut Todo,
        question: impl FnOnce(&Peer) -> Answer<Glance>,
        tell: impl FnOnce(&mut Core, Glance, Time),
    ) {
        let Some(station) = self.station(seat, epoch) else { return };
        match question(&station.peer) {
            Answer::Now(glance) => {
                let ((), more) = self.decide(|core, now| tell(core, glance, now));
                todo.effects.extend(more.effects);
                todo.unflushed.extend(more.unflushed);
            }
            // The dispatcher is told when it comes.
            Answer::Later => {}
            Answer::Corrupt => station.peer.kill(),
        }
    }

    fn observation(&self, glance: Glance) -> Observation {
        let time = |nanos: u64| (nanos != 0).then(|| nanos.saturating_sub(self.began));
        let Glance { claimed, started, extended, memory, whole, heard, joins } = glance;
        let whole = whole.map(|(began, bytes)| (began.saturating_sub(self.began), bytes));
        Observation { claimed, started: time(started), extended: time(extended), memory, whole, heard, joins }
    }

    /// Tells a submission that one of its calls has failed.
    pub(super) fn fail(&self, work: &Arc<dyn Submission>, index: u32, failure: CallFailure) {
        // A call that no worker has started has had no time.
        let given_up =
            matches!(failure.why, Why::Lost { time, .. } if time.is_none() || failure.attempts > 1) && !self.single;
        let (attempts, with_pool) = (failure.attempts, matches!(failure.why, Why::PoolFailed));
        let job = work.first_job() + u64::from(index);
        let mut error = self.error_of(failure).of_task(work.task()).of_job(job);
        if given_up {
            self.log_given_up(&**work, index, attempts, &error);
        }
        if let Some(keeper) = &self.keeper {
            dossiers::keep(keeper, self, &**work, index, &mut error);
        }
        work.end(index, if with_pool { Outcome::WithPool(error) } else { Outcome::One(Err(error)) });
    }

    fn error_of(&self, failure: CallFailure) -> Error {
        let error = match failure.why {
            Why::Reported(failed) => failed.into(),
            Why::Cancelled => Error::new(Kind::Cancelled),
            Why::Terminated => Error::new(Kind::Terminated),
            Why::PoolFailed => lock(&self.core).failed(),
            Why::Lost { loss, job, attempt, time, condemned } => {
                let dossier = Dossier::of_call(&loss, job, attempt, time);
                Error::new(match condemned {
                    None => Kind::Lost(dossier),
                    Some(Excess::Time { limit }) => Kind::TimedOut { limit: Duration::from_nanos(limit), dossier },
                    Some(Excess::Memory { limit, used }) => Kind::OverMemory { limit, used, dossier },
                })
            }
        };
        error.with_ran(failure.ran).with_attempts(failure.attempts)
    }
}

/// Asks a worker to end: by a signal, which may make its call return early. Then there is nothing more for it to do.
fn ask_to_end(station: &Arc<Station>, generation: u32, todo: &mut Todo) {
    let peer = &station.peer;
    if peer.take_back(generation) == Answer::Corrupt {
        return peer.kill();
    }
    match peer.stop() {
        Sent::Done => {}
        Sent::Unflushed => todo.unflushed.push_back(station.clone()),
        Sent::Corrupt => return peer.kill(),
    }
    peer.ask_to_end();
}

/// Tells submissions how their calls have ended, in the order in which they did; `runs` has the values.
pub(super) fn tell_ends(inner: &Inner, ended: Vec<Ended<dyn Submission>>, runs: &[Values<'_>]) {
    let mut runs = runs.iter().copied();
    let mut run = runs.next();
    for Ended { work, first, count, how } in ended {
        let number = match how {
            How::Failed(failure) => {
                inner.fail(&work, first, failure);
                continue;
            }
            How::Values { number } => number,
        };
        // Nothing waits for the values of calls that had ended before.
        while run.is_some_and(|run| number.wrapping_sub(run.first()) >= run.count()) {
            run = runs.next();
        }
        let Some(run) = &mut run else { return };
        run.skip_to(number);
        work.end(first, Outcome::Values(run.take(count)));
    }
}
