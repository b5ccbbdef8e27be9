//! Single cases. The [simulation](super::simulation) checks what is true of all orders of events.

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
        let told = self.reported(seat, epoch, Report { first, count, failed }, &mut ended);
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
    assert_eq!(pool.counts(), PoolStats { waiting: 7, running: 3, done: 0, failed: 0 });
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

#[test]
fn a_lost_worker_costs_the_call_that_it_had_started() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 5), 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    pool.value(seat, calls[0], 1, 0).unwrap();
    pool.lost(seat, 1, &loss(), calls[1].number, 0);
    assert_eq!(finished(&mut pool), [(0, true), (1, false)]);
    assert_eq!(pool.counts().waiting, 3);
    let Start::Now { epoch: 2 } = pool.next_start(seat, 0) else { panic!("no new worker") };
    pool.ready(seat, 2, 0);
    let again: Vec<_> = sent(&mut pool).remove(0).1;
    assert_eq!(again.iter().map(|call| (call.job, call.attempt)).collect::<Vec<_>>(), [(2, 1), (3, 1), (4, 1)]);
}

#[test]
fn a_call_whose_workers_die_before_it_starts_is_given_up_in_the_end() {
    let mut pool = pool(1);
    pool.add(work(0, 1), 0).unwrap();
    let mut deaths = 0;
    while pool.counts().failed == 0 {
        let claimed = sent(&mut pool).remove(0).1[0].number - 1;
        deaths += 1;
        // It lived long enough not to count as one that cannot start.
        let now = deaths * 10_000 * MILLISECOND;
        pool.lost(0, deaths as u32, &loss(), claimed, now);
        if let Start::Now { epoch } = pool.next_start(0, now) {
            pool.ready(0, epoch, now);
        }
    }
    assert_eq!(deaths, u64::from(MAX_DEATHS));
}

#[test]
fn what_waits_behind_a_call_whose_workers_die_before_it_starts_is_spared() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 44), 0).unwrap();
    let mut alone = 0;
    for epoch in 1..=MAX_DEATHS {
        let calls: Vec<_> = sent(&mut pool).into_iter().flat_map(|(_, calls)| calls).collect();
        assert_eq!(calls[0].job, 0);
        alone += u32::from(calls.len() == 1);
        // Young, and by its own doing.
        pool.lost(0, epoch, &loss(), calls[0].number - 1, u64::from(epoch));
        if epoch < MAX_DEATHS {
            let now = (1 + u64::from(epoch)) * LONGEST_BACK_OFF;
            let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {epoch}") };
            pool.ready(0, epoch, now);
        }
    }
    assert_eq!(alone, MAX_DEATHS - 2, "it goes alone once two workers have died");
    assert_eq!(finished(&mut pool), [(0, false)]);
    assert!(pool.accepts().is_ok());
    assert_eq!(pool.counts().waiting, 43);
}

/// A call with a timeout, sent to the only worker of a pool.
fn limited(seats: usize, policy: Policy) -> (Simple, usize, CallHeader) {
    let mut pool = pool(seats);
    pool.add(Calls { policy, ..work(0, 1) }, 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    (pool, seat, calls[0])
}

const SECOND: Time = 1000 * MILLISECOND;

/// Ticks until a time, and answers each look with what the page is said to show. Returns when calls were taken back.
fn lies(pool: &mut Simple, seat: usize, shows: impl Fn(Time) -> Observation, until: Time) -> Option<Time> {
    let mut looks = 0;
    while let Some(now) = pool.next_tick().filter(|at| *at <= until) {
        pool.tick(now);
        for effect in effects(pool) {
            match effect {
                Effect::Look { seat: at, .. } => {
                    looks += 1;
                    assert!(looks < 10_000, "it looks and looks");
                    let shows = if at == seat { shows(now) } else { Observation::default() };
                    pool.seen(at, 1, shows, now);
                }
                Effect::TakeBack { .. } => return Some(now),
                other => panic!("{other:?}"),
            }
        }
        if pool.effects.iter().any(|effect| matches!(effect, Effect::TakeBack { .. })) {
            return Some(now);
        }
    }
    None
}

#[test]
fn a_limit_of_time_holds_whatever_the_page_says() {
    let policy = Policy { timeout: SECOND, ..Policy::NONE };
    for lie in 0..2 {
        let (mut pool, seat, call) = limited(1, policy);
        let shows = |now: Time| match lie {
            0 => Observation { claimed: call.number - 1, ..Observation::default() },
            _ => Observation { claimed: call.number, started: Some(now), ..Observation::default() },
        };
        let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
        assert!((SECOND..=SECOND + LIMITS.grace + MILLISECOND).contains(&at), "lie {lie}: {at}");
        pool.taken_back(seat, 1, shows(at).claimed, at);
        assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })), "lie {lie}");
        pool.lost(seat, 1, &killed(), shows(at).claimed, at);
        let failure = effects(&mut pool).into_iter().find_map(|effect| failure(Some(effect))).expect("an end");
        assert!(
            matches!(failure.why, Why::Lost { condemned: Some(Excess::Time { .. }), .. }),
            "lie {lie}: {failure:?}"
        );
        assert_eq!(failure.ran, if lie == 1 { Ran::Yes } else { Ran::Maybe });
    }
}

#[test]
fn what_a_task_was_granted_is_kept() {
    let policy = Policy { timeout: SECOND, soft_timeout: SECOND / 2, ..Policy::NONE };
    let (mut pool, seat, call) = limited(1, policy);
    let granted = 10 * SECOND;
    let honest = Observation { claimed: call.number, started: Some(0), ..Observation::default() };
    let shows = |_| Observation { extended: Some(granted), ..honest };
    let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
    assert_eq!(at, granted);
}

#[test]
fn a_limit_of_memory_holds_for_the_seat() {
    let policy = Policy { memory: 100, ..Policy::NONE };
    let (mut pool, seat, call) = limited(1, policy);
    let shows = |_| Observation { claimed: call.number - 1, memory: Some(101), ..Observation::default() };
    pool.limits.weigh_every = 10 * MILLISECOND;
    let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
    pool.taken_back(seat, 1, call.number - 1, at);
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
    assert!(at <= LIMITS.grace + 100 * MILLISECOND, "{at}");
}

#[test]
fn a_call_that_its_worker_does_not_start_goes_to_an_idle_one() {
    let (mut pool, seat, call) = limited(2, Policy::NONE);
    let shows = |_| Observation { claimed: call.number - 1, ..Observation::default() };
    let at = lies(&mut pool, seat, shows, SECOND).expect("it stays there");
    assert!(at < 100 * MILLISECOND);
    pool.taken_back(seat, 1, call.number - 1, at);
    let (other, calls) = sent(&mut pool).remove(0);
    assert!(other != seat && calls[0].job == 0);
    // Nobody is left to whom it could go: the silent one is asked last.
    let shows = |_| Observation { claimed: calls[0].number - 1, ..Observation::default() };
    assert_eq!(lies(&mut pool, other, shows, SECOND), None);
    pool.value(other, calls[0], 10_000, SECOND).unwrap();
    pool.add(work(1, 1), SECOND).unwrap();
    assert_eq!(sent(&mut pool).remove(0).0, other);
}

#[test]
fn a_worker_that_reads_nothing_is_not_sent_more_and_more() {
    let (mut pool, silent, other) = (pool(2), 0, 1);
    let (mut at, mut calls, mut killed) = (0, 0, None);
    while killed.is_none() {
        let until = at + 20 * SECOND;
        pool.add(work(calls, 2), at).unwrap();
        calls += 2;
        loop {
            while let Some(effect) = pool.effect() {
                match effect {
                    Effect::TakeBack { seat, .. } if seat == silent => pool.taken_back(seat, 1, 0, at),
                    Effect::Look { seat, .. } if seat == silent => pool.seen(seat, 1, Observation::default(), at),
                    Effect::Kill { seat, .. } if seat == silent => killed = Some(at),
                    Effect::Look { .. } | Effect::Send { .. } | Effect::Ended(_) => {}
                    effect => panic!("{effect:?}"),
                }
            }
            if pool.seats[other].is_busy() {
                let (first, count) = (pool.seats[other].in_flight[0].number, pool.seats[other].calls as u32);
                pool.report(other, 1, (first, count), None).unwrap();
                pool.progressed(other, 1, at);
                continue;
            }
            let unread = pool.seats[silent].unread.len();
            assert!(unread <= LIMITS.frames && calls < 1000, "{unread} frames for {calls} calls");
            let Some(tick) = pool.next_tick().filter(|tick| *tick <= until) else { break };
            at = at.max(tick);
            pool.tick(at);
        }
        assert_eq!(pool.counts().done, calls, "the other one runs them all");
        at = until;
    }
    assert_eq!(pool.seats[silent].unread.len(), LIMITS.frames);
}

#[test]
fn large_arguments_are_read_before_they_are_missed() {
    const SIZE: usize = 100 << 20;
    for timeout in [u64::MAX, 60 * SECOND] {
        let mut pool = pool(64);
        let policy = Policy { timeout, ..Policy::NONE };
        pool.add(Calls { size: SIZE, policy, ..work(0, 1) }, 0).unwrap();
        let (seat, calls) = sent(&mut pool).remove(0);
        let shows = |_| Observation { claimed: calls[0].number - 1, ..Observation::default() };
        assert_eq!(lies(&mut pool, seat, shows, SECOND), None, "it still reads");
        let at = lies(&mut pool, seat, shows, 10 * SECOND).expect("it stays there");
        pool.taken_back(seat, 1, calls[0].number - 1, at);
        // Slow, and honest: it goes on reading.
        let silence = pool.seats[seat].worker.silence.expect("it has not started it");
        assert!(silence.until >= at + LIMITS.grace + SIZE as Time, "{silence:?}");
        // Each one that gets it has more time.
        assert_eq!(sent(&mut pool).remove(0).1[0].job, 0);
        let moved = pool.seats.iter().find_map(|seat| seat.in_flight.front()).expect("it is sent again");
        assert_eq!(moved.calls.moves, 1);
    }
}

#[test]
fn a_long_call_keeps_no_clock_busy() {
    for calls in [1, 3] {
        let mut pool = pool(4);
        pool.add(work(0, calls), 0).unwrap();
        let mut ticks = 0;
        while let Some(now) = pool.next_tick().filter(|now| *now < 3600 * SECOND) {
            pool.tick(now);
            ticks += 1;
            assert!(ticks < 10, "a tick at {now}");
            for effect in effects(&mut pool) {
                let Effect::Look { seat, .. } = effect else { continue };
                pool.seen(seat, 1, Observation { claimed: 1, ..Observation::default() }, now);
            }
        }
    }
}

#[test]
fn a_silent_worker_that_wakes_up_takes_over_from_one_that_stops() {
    for wakes_at in [0, 5 * SECOND] {
        let (mut pool, silent, call) = limited(2, Policy::NONE);
        let unstarted = |_| Observation { claimed: call.number - 1, ..Observation::default() };
        let at = lies(&mut pool, silent, unstarted, SECOND).expect("it stays there");
        pool.taken_back(silent, 1, call.number - 1, at);
        let (stops, calls) = sent(&mut pool).remove(0);
        pool.value(stops, calls[0], 10_000, at).unwrap();
        pool.add(work(1, 1), at).unwrap();
        assert_eq!(sent(&mut pool).remove(0).0, stops);
        let (mut looks, mut taken_back) = (0, None);
        while let Some(now) = pool.next_tick().filter(|now| *now < 60 * SECOND && taken_back.is_none()) {
            pool.tick(now);
            while let Some(effect) = pool.effect() {
                match effect {
                    Effect::Look { seat, .. } if seat == silent => {
                        let heard = u32::from(now >= wakes_at);
                        pool.seen(seat, 1, Observation { heard, ..unstarted(now) }, now);
                    }
                    Effect::Look { seat, .. } => {
                        let claimed = calls[0].number;
                        pool.seen(seat, 1, Observation { claimed, ..Observation::default() }, now);
                    }
                    Effect::TakeBack { seat, .. } if seat == stops => taken_back = Some(now),
                    other => panic!("{other:?}"),
                }
                looks += 1;
            }
        }
        let at = taken_back.expect("the call stays with a worker that has stopped");
        assert!(at < wakes_at + SECOND && looks < 100, "{at}, after {looks} looks");
    }
}

#[test]
fn a_silent_worker_that_may_run_what_was_taken_from_it_is_killed() {
    for answers in [false, true] {
        let (mut pool, seat, call) = limited(2, Policy { timeout: 60 * SECOND, ..Policy::NONE });
        let shows = |_| Observation { claimed: call.number - 1, ..Observation::default() };
        let at = lies(&mut pool, seat, shows, SECOND).expect("it stays there");
        pool.taken_back(seat, 1, call.number - 1, at);
        let (other, calls) = sent(&mut pool).remove(0);
        pool.value(other, calls[0], 10_000, at).unwrap();
        effects(&mut pool);
        let mut killed = false;
        while let Some(now) = pool.next_tick().filter(|now| *now < 10 * SECOND) {
            pool.tick(now);
            while let Some(effect) = pool.effect() {
                let heard = u32::from(answers);
                match effect {
                    Effect::Look { seat: at, .. } if at == seat => {
                        pool.seen(seat, 1, Observation { heard, ..shows(now) }, now);
                    }
                    Effect::TakeBack { seat: at, .. } if at == seat => {
                        pool.taken_back(seat, 1, call.number - 1, now);
                    }
                    Effect::Kill { seat: at, .. } if at == seat => killed = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(killed, !answers);
    }
}

#[test]
fn a_worker_that_cannot_be_killed_holds_nobody_up() {
    for retries in [0, 1] {
        let (mut pool, seat, call) = limited(1, Policy { timeout: SECOND, retries, ..Policy::NONE });
        let shows = |_| Observation { claimed: call.number, started: Some(0), ..Observation::default() };
        let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
        pool.taken_back(seat, 1, call.number, at);
        assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
        let lives = Arc::new(Loss { lives: true, ..(*loss()).clone() });
        pool.overdue(seat, 1, &lives, at);
        let told = finished(&mut pool);
        assert_eq!(told.len(), usize::from(retries == 0), "what may be retried waits for the death");
        // In vain: then there is no other attempt.
        pool.lost(seat, 1, &lives, call.number, at);
        assert_eq!(told.len() + finished(&mut pool).len(), 1);
        assert_eq!(pool.counts(), PoolStats { waiting: 0, running: 0, done: 0, failed: 1 });
        assert!(matches!(pool.next_start(seat, at + LONGEST_BACK_OFF), Start::Now { .. }));
    }
}

#[test]
fn a_death_that_is_told_twice_counts_once() {
    let mut pool = pool(1);
    pool.lost(0, 1, &loss(), 0, MILLISECOND);
    pool.close(0);
    assert!(matches!(pool.next_start(0, MILLISECOND), Start::Never));
    pool.lost(0, 1, &loss(), 0, MILLISECOND);
    assert!(pool.is_finished(), "the seat is open again");
}

#[test]
fn a_call_behind_many_that_kill_their_workers_is_run_in_the_end() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let killers = u64::from(2 * MAX_DEATHS);
    for job in 0..=killers {
        pool.add(work(job, 1), 0).unwrap();
    }
    for epoch in 1..=killers as u32 {
        let call = sent(&mut pool).remove(0).1[0];
        pool.lost(0, epoch, &loss(), call.number, 0);
        assert_eq!(pool.next_start(0, 0), Start::Now { epoch: epoch + 1 });
        pool.ready(0, epoch + 1, 0);
    }
    assert_eq!(sent(&mut pool).remove(0).1[0].job, killers);
    assert_eq!(pool.counts().failed, killers);
}

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
fn cancelling_a_running_call_kills_its_worker_and_spares_the_others() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets: Vec<_> = (0..3).map(|job| pool.add(work(job, 1), 0).unwrap()).collect();
    let calls: Vec<_> = sent(&mut pool).into_iter().flat_map(|(_, calls)| calls).collect();
    assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
    assert!(!pool.cancel(&tickets[..1], Reach::Running, 0), "there is nothing left to cancel");
    let effects = effects(&mut pool);
    assert!(
        matches!(effects[..], [Effect::TakeBack { seat: 0, epoch: 1, generation: 0 }]),
        "first nothing more may start"
    );
    pool.taken_back(0, 1, calls[0].number, 0);
    assert!(matches!(pool.effect(), Some(Effect::Hold { seat: 0, epoch: 1, .. })), "it may still run");
    let failure = failure(pool.effect()).expect("not cancelled");
    assert!(matches!(failure, CallFailure { why: Why::Cancelled, ran: Ran::Maybe, .. }));
    assert!(matches!(pool.effect(), Some(Effect::Kill { seat: 0, epoch: 1 })));
    assert_eq!(pool.counts().waiting, 2);
    pool.value(0, calls[0], 0, 0).expect("it may have been through by then");
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    assert_eq!(finished(&mut pool), []);
    assert_eq!(pool.counts().waiting, 2);
}

/// What becomes of a pool until this time, if each page shows the same all the time.
fn kills(pool: &mut Simple, claimed: u32, until: Time) -> Option<Time> {
    let mut now = pool.next_tick().unwrap_or(NEVER);
    loop {
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Look { seat, epoch, .. } => {
                    pool.seen(seat, epoch, Observation { claimed, ..Observation::default() }, now);
                }
                Effect::TakeBack { seat, epoch, .. } => pool.taken_back(seat, epoch, claimed, now),
                Effect::Kill { .. } => return Some(now),
                _ => {}
            }
        }
        now = pool.next_tick().filter(|at| *at <= until)?;
        pool.tick(now);
    }
}

/// Three calls, submitted one by one, that were sent to the only worker together.
fn three_sent() -> (Simple, Vec<Ticket>, Vec<CallHeader>) {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets: Vec<_> = (0..4).map(|job| pool.add(work(job, 1), 0).unwrap()).collect();
    let (_, first) = sent(&mut pool).remove(0);
    pool.value(0, first[0], 10_000, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 3);
    (pool, tickets[1..].to_vec(), calls)
}

#[test]
fn a_page_that_is_ahead_does_not_keep_a_cancelled_call_running() {
    // A number that was not sent is a fault, and one behind which all else stays unreported shows in time.
    for (lie, latest) in [(4, NEVER), (1000, NEVER), (1, LIMITS.grace), (2, LIMITS.grace)] {
        let (mut pool, tickets, calls) = three_sent();
        assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
        let Some(Effect::TakeBack { seat, epoch, .. }) = pool.effect() else { panic!("nothing taken back") };
        let shows = calls[0].number + lie;
        pool.taken_back(seat, epoch, shows, 0);
        let at = kills(&mut pool, shows, 10 * SECOND).unwrap_or_else(|| panic!("{lie}: it runs for ever"));
        // NEVER: before the first tick.
        assert_eq!(at, latest, "{lie}");
        pool.lost(seat, epoch, &killed(), shows, LIMITS.grace);
        let ends = effects(&mut pool).into_iter().filter_map(|effect| failure(Some(effect)));
        assert_eq!(ends.filter(|end| matches!(end.why, Why::Cancelled)).count(), 1, "{lie}");
    }
}

#[test]
fn a_report_that_comes_late_keeps_a_cancelled_call_from_killing_its_worker() {
    let (mut pool, tickets, calls) = three_sent();
    assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
    pool.taken_back(0, 1, calls[1].number, 0);
    pool.value(0, calls[0], 10_000, LIMITS.grace / 2).unwrap();
    assert_eq!(kills(&mut pool, calls[1].number, 10 * SECOND), None);
}

#[test]
fn cancelling_what_has_not_started_kills_nobody() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets = [pool.add(work(0, 2), 0).unwrap(), pool.add(work(2, 1), 0).unwrap()];
    let (_, calls) = sent(&mut pool).remove(0);
    pool.value(0, calls[0], 10_000, 0).unwrap();
    let (_, behind) = sent(&mut pool).remove(0);
    effects(&mut pool);
    assert!(pool.cancel(&tickets[1..2], Reach::Running, 0));
    effects(&mut pool);
    pool.taken_back(0, 1, calls[1].number, 0);
    let failure = failure(pool.effect()).expect("not cancelled");
    assert!(matches!(failure, CallFailure { why: Why::Cancelled, ran: Ran::No, .. }));
    assert!(!effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
    pool.value(0, calls[1], 10_000, 0).unwrap();
    assert_eq!(finished(&mut pool), [(1, true)]);
    assert!(pool.value(0, behind[0], 10_000, 0).is_err(), "it has been taken back");
}

#[test]
fn a_call_that_has_reported_is_not_hit_by_the_end_of_the_next() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets: Vec<_> = (0..4).map(|job| pool.add(work(job, 1), 0).unwrap()).collect();
    let (_, first) = sent(&mut pool).remove(0);
    pool.value(0, first[0], 10_000, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 3);
    assert!(pool.cancel(&tickets[2..3], Reach::Running, 0));
    pool.taken_back(0, 1, calls[1].number, 0);
    effects(&mut pool);
    // The report of the one before was on its way when the worker was killed.
    pool.value(0, calls[0], 10_000, 0).unwrap();
    assert_eq!(finished(&mut pool), [(1, true)]);
    pool.lost(0, 1, &loss(), calls[1].number, 0);
    assert_eq!(finished(&mut pool), []);
    assert_eq!(pool.counts().waiting, 1);
}

#[test]
fn calls_behind_one_whose_worker_leaves_go_elsewhere_at_once() {
    for tells_first in [true, false] {
        let (mut pool, _, calls) = three_sent();
        let message = PanicInfo::from_message("its state is lost".into());
        let failure = crate::protocol::Failure::Panicked(message);
        let failed = Failed { stage: Stage::Running, leaving: true, failure };
        pool.report(0, 1, (calls[0].number, 1), Some(failed)).unwrap();
        pool.progressed(0, 1, 0);
        let asked = effects(&mut pool).iter().any(|effect| matches!(effect, Effect::TakeBack { seat: 0, .. }));
        assert!(asked, "they wait until it is gone");
        if tells_first {
            pool.taken_back(0, 1, calls[0].number, 0);
            assert_eq!(pool.counts().waiting, 2);
        }
        pool.lost(0, 1, &loss(), calls[0].number, 0);
        assert_eq!(pool.counts().waiting, 2);
        assert_eq!(pool.queue.front().map(|range| range.deaths), Some(0), "it is not to blame");
    }
    // One that goes on all the same.
    let (mut pool, _, calls) = three_sent();
    let failure = crate::protocol::Failure::Decode("no".into());
    let failed = Failed { stage: Stage::Decoding, leaving: true, failure };
    pool.report(0, 1, (calls[0].number, 1), Some(failed)).unwrap();
    pool.progressed(0, 1, 0);
    pool.taken_back(0, 1, calls[1].number, 0);
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { seat: 0, .. })));
}

#[test]
fn a_worker_that_had_its_number_of_calls_is_replaced() {
    let mut pool = made(1, Limits { tasks_per_child: 2, ..LIMITS });
    pool.next_start(0, 0);
    pool.ready(0, 1, 0);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 5), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 1, "one of two was the warming up");
    pool.value(0, calls[0], 1, 0).unwrap();
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    assert_eq!(pool.next_start(0, 0), Start::Now { epoch: 2 });
}

#[test]
fn starts_that_fail_are_tried_again_later_and_then_given_up() {
    let mut pool = made(2, LIMITS);
    pool.add(work(0, 3), 0).unwrap();
    let mut now = 0;
    for tries in 1..=MAX_FAILED_STARTS {
        assert_eq!(pool.counts().failed, 0, "after {} tries", tries - 1);
        let epoch = loop {
            match pool.next_start(0, now) {
                Start::Now { epoch } => break epoch,
                Start::NotBefore(time) => now = time,
                Start::Never => panic!("given up after {} tries", tries - 1),
            }
        };
        pool.start_failed(0, epoch, MISTAKE, now);
    }
    assert!(now > 0, "there was a pause");
    let told = effects(&mut pool);
    let given_up = Effect::StartsFailed::<Calls> { tries: MAX_FAILED_STARTS, then: AfterStarts::GiveUpPool };
    assert_eq!(format!("{:?}", told[0]), format!("{given_up:?}"), "why comes before those who ask");
    assert_eq!(told.iter().flat_map(ends).collect::<Vec<_>>(), [(0, false), (1, false), (2, false)]);
    assert_eq!(pool.add(work(3, 1), now), Err(Refusal::Failed));
    assert_eq!(pool.next_start(0, now), Start::Never);
    assert_eq!(pool.next_start(1, now), Start::Never);
    assert!(pool.is_finished());
}

#[test]
fn a_shortage_passes_and_a_mistake_does_not() {
    let short = FailedStart { may_pass: true, ..MISTAKE };
    for (failed, tried_on) in [(short, true), (MISTAKE, false)] {
        let mut pool = pool(2);
        pool.lost(1, 1, &loss(), 0, 0);
        let mut now = LONGEST_BACK_OFF;
        for _ in 0..3 * MAX_FAILED_STARTS {
            let Start::Now { epoch } = pool.next_start(1, now) else { break };
            pool.start_failed(1, epoch, failed, now);
            now += LONGEST_BACK_OFF;
        }
        assert_eq!(pool.next_start(1, now) != Start::Never, tried_on, "{failed:?}");
        assert!(pool.accepts().is_ok(), "the other one works");
    }
}

#[test]
fn a_shortage_is_borne_for_a_while_where_nobody_else_works() {
    let mut pool = pool(1);
    pool.lost(0, 1, &killed(), 0, 0);
    let (mut now, mut tries) = (0, 0);
    let over = loop {
        match pool.next_start(0, now) {
            Start::Now { epoch } => pool.start_failed(0, epoch, FailedStart { may_pass: true, ..MISTAKE }, now),
            Start::NotBefore(time) => now = time,
            Start::Never => break now,
        }
        tries += 1;
    };
    let period = RestartPolicy::default().period.as_nanos() as Time;
    assert!(tries > MAX_FAILED_STARTS && (period..period + 2 * LONGEST_BACK_OFF).contains(&over), "{over}");
}

#[test]
fn where_nothing_is_restarted_a_lost_worker_is_the_end() {
    let mut pool = Dispatcher::new(1, LIMITS, RestartPolicy::NEVER);
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it is not started at all") };
    pool.ready(0, epoch, 0);
    pool.add(work(0, 2), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    pool.lost(0, epoch, &loss(), calls[0].number, 10_000 * MILLISECOND);
    assert_eq!(finished(&mut pool), [(0, false), (1, false)]);
    assert_eq!(pool.next_start(0, Time::MAX), Start::Never);
    assert!(pool.is_finished());
}

#[test]
fn a_pool_whose_workers_are_killed_now_and_then_goes_on() {
    let mut pool = pool(1);
    let killed = killed();
    let mut now = 0;
    for round in 1..20 {
        // Young and idle, again and again; but in between, work is done.
        pool.lost(0, 2 * round - 1, &killed, 0, now);
        now += LONGEST_BACK_OFF;
        let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {round} deaths") };
        pool.ready(0, epoch, now);
        pool.add(work(u64::from(round), 1), now).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        pool.report(0, epoch, (calls[0].number, 1), None).unwrap();
        pool.progressed(0, epoch, now);
        pool.lost(0, epoch, &killed, calls[0].number, now);
        let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {round} deaths") };
        pool.ready(0, epoch, now);
    }
}

#[test]
fn closing_lets_everything_finish_and_terminating_nothing() {
    let mut closed = pool(1);
    closed.add(work(0, 2), 0).unwrap();
    closed.close(0);
    assert_eq!(closed.add(work(9, 1), 0), Err(Refusal::Closed));
    for _ in 0..2 {
        let (seat, calls) = sent(&mut closed).remove(0);
        closed.value(seat, calls[0], 5 * MILLISECOND, 0).unwrap();
    }
    assert!(effects(&mut closed).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    let mut terminated = pool(1);
    terminated.add(work(0, 2), 0).unwrap();
    assert_eq!(terminated.terminate(), 2);
    assert_eq!(terminated.terminate(), 0);
    let effects = effects(&mut terminated);
    assert_eq!(effects.iter().flat_map(ends).count(), 2);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Kill { .. })));
}

#[test]
fn a_limit_of_memory_that_cannot_be_seen_keeps_no_clock_busy() {
    let mut pool = made(1, Limits { weigh_every: 10 * MILLISECOND, ..LIMITS });
    pool.next_start(0, 0);
    pool.ready(0, 1, 0);
    let policy = Policy { memory: 1 << 20, ..Policy::NONE };
    pool.add(Calls { policy, ..work(0, 1) }, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    let mut looks = 0;
    for _ in 0..100 {
        let Some(at) = pool.next_tick().filter(|at| *at < 1000 * MILLISECOND) else { break };
        pool.tick(at);
        for effect in effects(&mut pool) {
            assert!(matches!(effect, Effect::Look { memory: true, .. }), "{effect:?}");
            looks += 1;
            pool.seen(0, 1, Observation { claimed: calls[0].number, ..Observation::default() }, at);
        }
    }
    assert!((90..=100).contains(&looks), "{looks} looks in a second");
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
        let failure = failure(pool.effect()).expect("a failure");
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
fn a_seat_that_cannot_start_does_not_fail_the_pool_while_others_are_on_their_way() {
    let mut pool = made(2, LIMITS);
    assert_eq!(pool.next_start(0, 0), Start::Now { epoch: 1 });
    let mut now = 0;
    for _ in 0..MAX_FAILED_STARTS {
        let Start::Now { epoch } = pool.next_start(1, now) else { panic!("not tried") };
        pool.start_failed(1, epoch, MISTAKE, now);
        now += LONGEST_BACK_OFF;
    }
    assert!(pool.accepts().is_ok());
    pool.ready(0, 1, now);
    assert_eq!(pool.next_start(1, now), Start::Never, "that one is given up");
}

#[test]
fn what_waits_is_small() {
    // A million jobs may wait, each by itself.
    assert!(size_of::<CallRange<Calls>>() <= 32 && size_of::<CallRange<dyn Work>>() <= 40);
}

#[test]
fn a_worker_that_does_not_leave_is_killed_after_its_grace_unless_it_joins() {
    let grace = 100 * MILLISECOND;
    let mut pool = made(1, Limits { exit_grace: grace, terminate_grace: 1, ..LIMITS });
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it cannot start") };
    pool.ready(0, epoch, 0);
    pool.close(5);
    assert!(matches!(effects(&mut pool)[..], [Effect::Stop { seat: 0, .. }]));
    assert_eq!(pool.next_tick(), Some(5 + grace));
    pool.tick(5 + grace);
    assert!(matches!(effects(&mut pool)[..], [Effect::Look { seat: 0, memory: false, .. }]));
    pool.seen(0, epoch, Observation { joins: true, ..Observation::default() }, 6 + grace);
    assert!(effects(&mut pool).is_empty());
    assert_eq!(pool.next_tick(), Some(6 + 2 * grace));
    pool.tick(6 + 2 * grace);
    effects(&mut pool);
    pool.seen(0, epoch, Observation::default(), 7 + 2 * grace);
    // At once, as it was asked to leave before.
    assert!(matches!(effects(&mut pool)[..], [Effect::Overstayed { .. }, Effect::Kill { .. }]));
}

#[test]
fn a_worker_that_is_asked_to_end_is_killed_when_its_time_is_over() {
    let mut pool = made(1, Limits { terminate_grace: 100, ..LIMITS });
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it cannot start") };
    pool.ready(0, epoch, 0);
    pool.terminate();
    assert!(matches!(effects(&mut pool)[..], [Effect::AskToEnd { seat: 0, generation: 0, .. }]));
    assert!(pool.next_tick().is_some_and(|at| at <= 7), "its time begins at once");
    pool.tick(7);
    assert_eq!((effects(&mut pool).len(), pool.next_tick()), (0, Some(107)));
    pool.tick(107);
    assert!(matches!(effects(&mut pool)[..], [Effect::Kill { seat: 0, .. }]));
    assert_eq!(pool.next_tick(), None);
}

#[test]
fn cancelling_what_waits_spares_what_runs() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let ticket = pool.add(work(0, 5), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 5);
    let question = pool.withdraw(&[ticket], 0);
    assert_eq!(pool.was_withdrawn(question), None, "the worker has not answered");
    let taken_back = effects(&mut pool);
    assert!(matches!(taken_back[..], [Effect::TakeBack { seat: 0, .. }]));
    pool.taken_back(0, 1, calls[1].number, 0);
    assert_eq!(pool.was_withdrawn(question), Some(true));
    assert_eq!(finished(&mut pool), [(2, false), (3, false), (4, false)]);
    assert!(!pool.cancel(&[ticket], Reach::Waiting, 0) || effects(&mut pool).len() == 1, "nothing else is hit");
    pool.taken_back(0, 1, calls[1].number, 0);
    for call in &calls[..2] {
        pool.value(0, *call, 1, 0).unwrap();
    }
    assert_eq!(finished(&mut pool), [(0, true), (1, true)]);
}
