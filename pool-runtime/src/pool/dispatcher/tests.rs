//! Single cases. The [simulation](super::simulation) checks what is true of all orders of events.

mod cancel;
mod ends;
mod limits;

use crate::dossier::{Loss, Ran, Stage};
use crate::options::RestartPolicy;
use crate::panic::PanicInfo;
use crate::policy::Policy;
use crate::pool::dispatcher::events::MILLISECOND;
use crate::pool::dispatcher::workers::MAX_DEATHS;
use crate::pool::dispatcher::*;
use crate::protocol::{CallHeader, Failed};
use std::ops::Range;
use std::sync::Arc;

/// How many starts may fail in a row, and the longest pause between them.
const MAX_FAILED_STARTS: u32 = 5;
const LONGEST_BACK_OFF: Time = 2_000 * MILLISECOND;

pub(super) const LIMITS: Limits =
    Limits { unhindered: 1 << 15, frame: 1 << 15, frames: 16, calls: 1024, shortest: 2_000, ..Limits::NONE };

#[derive(Debug)]
pub(super) struct Calls {
    pub(super) first_job: u64,
    pub(super) calls: u32,
    /// The bytes of each.
    pub(super) size: usize,
    pub(super) policy: Policy,
}

impl Work for Calls {
    fn task(&self) -> &'static str {
        "demo::task"
    }
    fn first_job(&self) -> u64 {
        self.first_job
    }
    fn size(&self, calls: Range<u32>) -> usize {
        assert!(calls.end <= self.calls);
        calls.len() * self.size
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
}

pub(super) type Simple = Dispatcher<Calls>;

pub(super) fn work(first_job: u64, calls: u32) -> Calls {
    Calls { first_job, calls, size: 1, policy: Policy::NONE }
}

/// A pool with the usual restarts.
pub(super) fn made(seats: usize, limits: Limits) -> Simple {
    Dispatcher::new(seats, limits, RestartPolicy::default())
}

impl Simple {
    fn add(&mut self, work: Calls, now: Time) -> Result<Ticket, Refusal> {
        let calls = work.calls;
        self.submit(Arc::new(work), calls, now)
    }

    /// A worker reports so many calls from this number on; their ends are among the effects.
    pub(super) fn report(
        &mut self,
        seat: usize,
        epoch: u32,
        (first, count): (u32, u32),
        failed: Option<Failed>,
    ) -> Result<(), &'static str> {
        let mut ended = Vec::new();
        let told = self.reported(seat, epoch, Reported { first, count, failed }, &mut ended);
        self.effects.extend(ended.into_iter().map(Effect::Ended));
        told
    }

    /// A call ends with a value, after so long.
    fn value(&mut self, seat: usize, call: CallHeader, nanos: Time, now: Time) -> Result<(), &'static str> {
        self.report(seat, 1, (call.number, 1), None)?;
        self.timed(seat, self.seats[seat].epoch(), 1, nanos).unwrap();
        self.progressed(seat, 1, now);
        Ok(())
    }
}

fn pool(seats: usize) -> Simple {
    let mut pool = made(seats, LIMITS);
    for seat in 0..seats {
        let Start::Now { epoch } = pool.next_start(seat, 0) else { panic!("seat {seat} cannot start") };
        pool.ready(seat, epoch, 0);
    }
    pool
}

fn effects(pool: &mut Simple) -> Vec<Effect<Calls>> {
    std::iter::from_fn(|| pool.effect()).collect()
}

/// Each call of some flights.
pub(super) fn headers<'f>(flights: impl Iterator<Item = &'f Flight<Calls>>) -> Vec<CallHeader> {
    let each = |flight: &Flight<Calls>| {
        let first = flight.header_of(flight.calls.next);
        let header =
            move |n| CallHeader { job: first.job + u64::from(n), number: first.number.wrapping_add(n), ..first };
        (0..flight.len()).map(header).collect::<Vec<_>>()
    };
    flights.flat_map(each).collect()
}

fn sent(pool: &mut Simple) -> Vec<(usize, Vec<CallHeader>)> {
    let sends = effects(pool).into_iter().filter_map(|effect| match effect {
        Effect::Send { seat, first, last, .. } => Some((seat, headers(pool.flights(seat, first, last)))),
        _ => None,
    });
    sends.collect()
}

/// Each call that has ended, and whether with a value.
pub(super) fn ends(effect: &Effect<Calls>) -> Vec<(u64, bool)> {
    match effect {
        Effect::Ended(Ended { work, first, count, how }) => {
            let is_value = matches!(how, How::Values { .. });
            (*first..first + count).map(|index| (work.first_job + u64::from(index), is_value)).collect()
        }
        _ => Vec::new(),
    }
}

/// How a call has failed, if the effect is that.
fn failure(effect: Option<Effect<Calls>>) -> Option<CallFailure> {
    match effect {
        Some(Effect::Ended(Ended { how: How::Failed(failure), .. })) => Some(failure),
        _ => None,
    }
}

/// How a call has failed, if that comes next but for what is only logged.
fn next_failure(pool: &mut Simple) -> Option<CallFailure> {
    loop {
        match pool.effect() {
            Some(Effect::Exceeded { .. } | Effect::Retried { .. } | Effect::Departed { .. }) => {}
            effect => return failure(effect),
        }
    }
}

fn finished(pool: &mut Simple) -> Vec<(u64, bool)> {
    effects(pool).iter().flat_map(ends).collect()
}

pub(super) fn loss() -> Arc<Loss> {
    Arc::new(Loss { stage: Stage::Running, ..Loss::of(1) })
}

fn killed() -> Arc<Loss> {
    Arc::new(Loss { status: Some(crate::os::End::KILLED), ..(*loss()).clone() })
}

/// A failed start that would fail again.
const MISTAKE: FailedStart = FailedStart { for_good: false, may_pass: false };

/// Teaches the pool that calls take `nanos`.
fn warm_up(pool: &mut Simple, nanos: Time) {
    pool.add(work(1_000_000, 1), 0).unwrap();
    let (seat, calls) = sent(pool).remove(0);
    pool.value(seat, calls[0], nanos, 0).unwrap();
    effects(pool);
}

#[test]
fn calls_of_unknown_duration_are_sent_one_to_each_worker() {
    let mut pool = pool(3);
    pool.add(work(0, 10), 0).unwrap();
    let sent = sent(&mut pool);
    assert_eq!(sent.iter().map(|(_, calls)| calls.len()).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(pool.counts(), PoolStats { waiting: 7, running: 3, ..PoolStats::default() });
}

#[test]
fn short_calls_are_sent_many_at_a_time_and_long_ones_singly() {
    let mut short = pool(2);
    warm_up(&mut short, 10_000);
    short.add(work(0, 1000), 0).unwrap();
    assert!(sent(&mut short).iter().all(|(_, calls)| calls.len() as Time == feed::AHEAD / 10_000));
    let mut long = pool(2);
    warm_up(&mut long, 5 * MILLISECOND);
    long.add(work(0, 1000), 0).unwrap();
    assert!(sent(&mut long).iter().all(|(_, calls)| calls.len() == 1));
}

#[test]
fn few_short_calls_are_shared_among_the_workers() {
    let mut pool = pool(4);
    warm_up(&mut pool, 100_000);
    pool.add(work(0, 8), 0).unwrap();
    assert_eq!(sent(&mut pool).iter().map(|(_, calls)| calls.len()).collect::<Vec<_>>(), [2, 2, 2, 2]);
}

#[test]
fn hardly_any_work_is_left_to_one_worker() {
    let mut pool = pool(4);
    warm_up(&mut pool, 2_000);
    pool.add(work(0, 8), 0).unwrap();
    assert_eq!(sent(&mut pool).iter().map(|(_, calls)| calls.len()).collect::<Vec<_>>(), [8]);
    // What comes next is put behind it, where it is sooner done than by one who has to be woken.
    pool.add(work(8, 1), 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    assert_eq!((seat, calls.len()), (pool.latest, 1));
    assert_eq!(pool.idle.len(), 3);
}

#[test]
fn a_large_argument_is_sent_to_an_idle_worker_alone() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let large = || Calls { size: 1 << 20, ..work(0, 1) };
    for _ in 0..2 {
        pool.add(large(), 0).unwrap();
    }
    assert_eq!(sent(&mut pool).len(), 1);
    assert_eq!(pool.counts().waiting, 1);
}

#[test]
fn what_waits_behind_a_slow_call_is_given_to_an_idle_worker() {
    let mut pool = pool(2);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 20), 0).unwrap();
    let [(quick, calls), (slow, stuck)] = <[_; 2]>::try_from(sent(&mut pool)).unwrap();
    for call in &calls {
        pool.value(quick, *call, 10_000, 1000).unwrap();
    }
    effects(&mut pool);
    let at = pool.next_tick().expect("an idle worker is to look again");
    pool.tick(at);
    let Some(Effect::TakeBack { seat, epoch, generation: 0 }) = pool.effect() else { panic!("nothing taken back") };
    assert_eq!(seat, slow);
    pool.taken_back(seat, epoch, stuck[0].number, at);
    let again: Vec<_> =
        sent(&mut pool).into_iter().filter(|(seat, _)| *seat == quick).flat_map(|(_, calls)| calls).collect();
    let jobs: Vec<_> = again.iter().map(|call| call.job).collect();
    assert!(!jobs.is_empty() && jobs.iter().all(|job| stuck[1..].iter().any(|call| call.job == *job)), "{jobs:?}");
    assert!(again.iter().all(|call| call.attempt == 1), "it has not been tried");
}

#[test]
fn a_worker_that_is_ahead_of_its_reports_is_not_asked_again() {
    let mut pool = pool(2);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 20), 0).unwrap();
    let [(quick, calls), (slow, stuck)] = <[_; 2]>::try_from(sent(&mut pool)).unwrap();
    for call in &calls {
        pool.value(quick, *call, 10_000, 10 * MILLISECOND).unwrap();
    }
    let asked = |pool: &mut Simple| effects(pool).iter().filter(|e| matches!(e, Effect::TakeBack { .. })).count();
    assert_eq!(asked(&mut pool), 1);
    pool.taken_back(slow, 1, stuck.last().unwrap().number, 10 * MILLISECOND);
    pool.tick(20 * MILLISECOND);
    assert_eq!(asked(&mut pool), 0);
}

const SECOND: Time = 1000 * MILLISECOND;

#[test]
fn a_report_about_another_call_is_a_fault() {
    let mut pool = pool(1);
    pool.add(work(0, 1), 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    let right = calls[0];
    let wrong = CallHeader { number: right.number + 1, ..right };
    assert!(pool.value(seat, wrong, 1, 0).is_err());
    assert!(pool.report(seat, 1, (right.number, 2), None).is_err(), "one more than it has");
    let mut pool = self::pool(1);
    pool.add(work(0, 1), 0).unwrap();
    effects(&mut pool);
    assert!(pool.value(seat, right, 1, 0).is_ok());
    assert!(pool.value(seat, right, 1, 0).is_err(), "twice");
}

#[test]
fn what_was_tried_before_is_said_of_every_end() {
    let policy = Policy { retries: 1, ..Policy::NONE };
    let lost_once = || {
        let mut pool = made(1, LIMITS);
        pool.next_start(0, 0);
        pool.ready(0, 1, 0);
        pool.add(Calls { policy, ..work(0, 1) }, 0).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        pool.lost(0, 1, &loss(), calls[0].number, 0);
        pool
    };
    let end = |mut pool: Simple| {
        let failure = next_failure(&mut pool).expect("a failure");
        (failure.attempts, failure.ran)
    };
    let mut delayed = lost_once();
    delayed.terminate();
    assert_eq!(end(delayed), (1, Ran::Yes));
    let mut unreadable = lost_once();
    unreadable.next_start(0, 0);
    unreadable.ready(0, 2, 0);
    unreadable.tick(0);
    let (_, calls) = sent(&mut unreadable).remove(0);
    let failed =
        Failed { stage: Stage::Decoding, leaving: false, failure: crate::protocol::Failure::Decode("no".into()) };
    unreadable.report(0, 2, (calls[0].number, 1), Some(failed)).unwrap();
    assert_eq!(end(unreadable), (2, Ran::Yes), "the first attempt ran");
}

#[test]
fn calls_side_by_side_are_not_taken_for_equal_if_only_one_of_them_has_run() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let mut now = 0;
    let mut restart = |pool: &mut Simple| {
        now += LONGEST_BACK_OFF;
        let Start::Now { epoch } = pool.next_start(0, now) else { panic!("it is not started again") };
        pool.tick(now);
        pool.ready(0, epoch, now);
        (epoch, sent(pool).into_iter().flat_map(|(_, calls)| calls).collect::<Vec<_>>())
    };
    pool.add(Calls { policy: Policy { retries: 1, ..Policy::NONE }, ..work(0, 2) }, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 2);
    // The first is lost while it runs, and the second, which is sent again, before.
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    let (epoch, calls) = restart(&mut pool);
    let decoding = Arc::new(Loss { stage: Stage::Decoding, ..Loss::of(1) });
    pool.lost(0, epoch, &decoding, calls.iter().find(|call| call.job == 1).unwrap().number, 0);
    // Both are sent again, and come back together.
    let (epoch, calls) = restart(&mut pool);
    assert_eq!(calls.iter().map(|call| (call.job, call.attempt)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    pool.lost(0, epoch, &loss(), calls[0].number - 1, 0);
    let (epoch, calls) = restart(&mut pool);
    for call in calls {
        let failure = crate::protocol::Failure::Decode("no".into());
        let failed = Failed { stage: Stage::Decoding, leaving: false, failure };
        pool.report(0, epoch, (call.number, 1), Some(failed)).unwrap();
        let failed = effects(&mut pool).into_iter().find_map(|effect| self::failure(Some(effect)));
        assert_eq!(failed.unwrap().ran, if call.job == 0 { Ran::Yes } else { Ran::No }, "job {}", call.job);
    }
}

#[test]
fn when_to_look_at_a_call_that_has_ended_is_not_when_to_look_at_the_next_one() {
    let mut pool = pool(2);
    pool.add(work(0, 1), 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    let look = pool.next_tick().unwrap();
    pool.value(seat, calls[0], 1000, 1000).unwrap();
    assert_eq!(pool.next_tick(), None);
    let later = 10 * look;
    pool.add(work(1, 1), later).unwrap();
    assert_eq!(pool.next_tick(), Some(later + look));
}

#[test]
fn what_waits_is_small() {
    // A million jobs may wait, each by itself.
    assert!(size_of::<CallRange<Calls>>() <= 32 && size_of::<CallRange<dyn Work>>() <= 40);
}
