//! Drives the dispatcher through single cases, and through random orders of all events.

use super::{feed::CHUNK_BYTES, *};
use crate::{error::Stage, policy::Policy, protocol::CallHeader};
use std::{collections::HashSet, ops::Range};

const LIMITS: Limits =
    Limits { unhindered: 1 << 15, frame: 1 << 15, frames: 16, calls: 1024, shortest: 2_000, ..Limits::NONE };

struct Calls {
    first_job: u64,
    calls: u32,
    /// The bytes of each.
    size: usize,
    policy: Policy,
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

type Simple = Dispatcher<Calls>;

fn work(first_job: u64, calls: u32) -> Calls {
    Calls { first_job, calls, size: 1, policy: Policy::NONE }
}

impl Simple {
    fn add(&mut self, work: Calls, now: Time) -> Result<Ticket, Error> {
        let calls = work.calls;
        self.submit(Arc::new(work), calls, now)
    }

    /// A call ends with a value, after so long.
    fn value(&mut self, seat: usize, call: CallHeader, nanos: Time, now: Time) -> Result<(), &'static str> {
        self.reported(seat, 1, (call.number, 1), None)?;
        self.timed(seat, 1, nanos);
        self.progressed(seat, 1, now);
        Ok(())
    }
}

fn pool(seats: usize) -> Simple {
    let mut pool = Dispatcher::new(seats, LIMITS);
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
fn headers<'f>(flights: impl Iterator<Item = &'f Flight<Calls>>) -> Vec<CallHeader> {
    let each = |flight: &Flight<Calls>| {
        let first = flight.header();
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
fn ends(effect: &Effect<Calls>) -> Vec<(u64, bool)> {
    match effect {
        Effect::Values { work, first, count, .. } => {
            (*first..first + count).map(|index| (work.first_job + u64::from(index), true)).collect()
        }
        Effect::Failed { work, index, .. } => vec![(work.first_job + u64::from(*index), false)],
        _ => Vec::new(),
    }
}

fn finished(pool: &mut Simple) -> Vec<(u64, bool)> {
    effects(pool).iter().flat_map(ends).collect()
}

fn loss() -> Arc<Loss> {
    Arc::new(Loss { pid: 1, status: None, stage: Stage::Running, panic: None, fault: None })
}

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
    assert_eq!(pool.counts(), Counts { waiting: 7, running: 3, done: 0, failed: 0 });
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
    assert!(pool.reported(seat, 1, (right.number, 2), None).is_err(), "one more than it has");
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
    assert!(pool.cancel(tickets[0], true, 0));
    assert!(!pool.cancel(tickets[0], true, 0), "there is nothing left to cancel");
    let effects = effects(&mut pool);
    assert!(
        matches!(effects[..], [Effect::TakeBack { seat: 0, epoch: 1, generation: 0 }]),
        "first nothing more may start"
    );
    pool.taken_back(0, 1, calls[0].number, 0);
    let Some(Effect::Failed { index: 0, error, .. }) = pool.effect() else { panic!("not cancelled") };
    assert!(error.is_cancelled() && error.ran() == Ran::Maybe);
    assert!(matches!(pool.effect(), Some(Effect::Kill { seat: 0, epoch: 1 })));
    assert_eq!(pool.counts().waiting, 2);
    pool.value(0, calls[0], 0, 0).expect("it may have been through by then");
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    assert_eq!(finished(&mut pool), []);
    assert_eq!(pool.counts().waiting, 2);
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
    assert!(pool.cancel(tickets[1], true, 0));
    effects(&mut pool);
    pool.taken_back(0, 1, calls[1].number, 0);
    let Some(Effect::Failed { error, .. }) = pool.effect() else { panic!("not cancelled") };
    assert!(error.is_cancelled() && error.ran() == Ran::No);
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
    assert!(pool.cancel(tickets[2], true, 0));
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
fn a_worker_that_had_its_number_of_calls_is_replaced() {
    let mut pool = Simple::new(1, Limits { tasks_per_child: 2, ..LIMITS });
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
    let mut pool = Simple::new(2, LIMITS);
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
        pool.start_failed(0, epoch, Error::invalid("no such luck"), false, now);
    }
    assert!(now > 0, "there was a pause");
    assert_eq!(finished(&mut pool), [(0, false), (1, false), (2, false)]);
    let error = pool.add(work(3, 1), now).unwrap_err();
    assert!(error.to_string().contains("no such luck"), "{error}");
    assert_eq!(pool.next_start(0, now), Start::Never);
    assert_eq!(pool.next_start(1, now), Start::Never);
    assert!(pool.is_finished());
}

#[test]
fn closing_lets_everything_finish_and_terminating_nothing() {
    let mut closed = pool(1);
    closed.add(work(0, 2), 0).unwrap();
    closed.close();
    assert!(closed.add(work(9, 1), 0).unwrap_err().is_closed());
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

// ---- any order of events ----

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// A worker as the parent cannot see it.
#[derive(Default)]
struct Process {
    epoch: u32,
    generation: u32,
    claimed: u32,
    inbox: VecDeque<(u32, CallHeader)>,
    reports: VecDeque<(CallHeader, Time)>,
    running: Option<CallHeader>,
    stopping: bool,
    doomed: bool,
}

struct World {
    pool: Simple,
    processes: Vec<Option<Process>>,
    /// Taken back by the parent, which the dispatcher has yet to be told.
    taken_back: VecDeque<(usize, u32, u32)>,
    random: Random,
    now: Time,
    runs: HashSet<u64>,
    ends: HashSet<u64>,
    tickets: Vec<Ticket>,
    submitted: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let seats = 1 + random.below(6);
        let tasks_per_child = if random.one_in(3) { 1 + random.next() % 20 } else { u64::MAX };
        Self {
            pool: Dispatcher::new(
                seats,
                Limits { tasks_per_child, unhindered: 20 * CHUNK_BYTES, calls: 200, ..LIMITS },
            ),
            processes: (0..seats).map(|_| None).collect(),
            taken_back: VecDeque::new(),
            random,
            now: 0,
            runs: HashSet::new(),
            ends: HashSet::new(),
            tickets: Vec::new(),
            submitted: 0,
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.pool.effect() {
            match effect {
                ended @ (Effect::Values { .. } | Effect::Failed { .. }) => {
                    for (job, _) in ends(&ended) {
                        assert!(self.ends.insert(job), "job {job} ended twice");
                    }
                }
                Effect::Send { seat, epoch, generation, first, last } => {
                    let calls = headers(self.pool.flights(seat, first, last));
                    assert_eq!(calls.len() as u32, last.wrapping_sub(first).wrapping_add(1));
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        process.inbox.extend(calls.into_iter().map(|call| (generation, call)));
                    }
                }
                Effect::TakeBack { seat, epoch, generation } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        assert_eq!(process.generation, generation);
                        process.generation += 1;
                        self.taken_back.push_back((seat, epoch, process.claimed));
                    }
                }
                Effect::Stop { seat, .. } => {
                    if let Some(process) = &mut self.processes[seat] {
                        process.stopping = true;
                    }
                }
                Effect::Look { .. } => unreachable!("nothing is watched"),
                Effect::Kill { seat, .. } => {
                    if let Some(process) = &mut self.processes[seat] {
                        process.doomed = true;
                    }
                }
            }
        }
    }

    /// Something happens somewhere.
    fn step(&mut self, over: bool) {
        self.now += self.random.next() % (2 * MILLISECOND);
        let seat = self.random.below(self.processes.len());
        match self.random.below(20) {
            0 | 1 if !over => {
                let calls = 1 + self.random.below(30) as u32;
                self.tickets.push(self.pool.add(work(self.submitted, calls), self.now).unwrap());
                self.submitted += u64::from(calls);
            }
            2 if !over && self.random.one_in(4) => {
                let ticket = self.tickets.get(self.random.below(self.tickets.len())).copied();
                let running = self.random.one_in(2);
                if let Some(ticket) = ticket {
                    self.pool.cancel(ticket, running, self.now);
                }
            }
            3 => {
                if self.pool.next_tick().is_some() {
                    self.pool.tick(self.now);
                }
            }
            4 | 5 => {
                if let Some((seat, epoch, claimed)) = self.taken_back.pop_front() {
                    self.pool.taken_back(seat, epoch, claimed, self.now);
                }
            }
            6..=8 => self.start(seat, over),
            9..=15 => self.work(seat),
            16..=18 => self.deliver(seat),
            _ => {
                let dies = self.processes[seat].as_ref().is_some_and(|process| process.doomed);
                if dies || self.random.one_in(10) {
                    self.die(seat);
                }
            }
        }
        self.carry_out();
        self.check();
    }

    fn start(&mut self, seat: usize, over: bool) {
        if self.processes[seat].is_some() {
            return;
        }
        if let Start::Now { epoch } = self.pool.next_start(seat, self.now) {
            if !over && self.random.one_in(20) {
                let error = Error::invalid("bad luck");
                self.pool.start_failed(seat, epoch, error, false, self.now);
                // A run of bad luck must not end the simulation.
                self.pool.seats[seat].failures = 0;
                return;
            }
            self.processes[seat] = Some(Process { epoch, ..Process::default() });
            self.pool.ready(seat, epoch, self.now);
        }
    }

    fn work(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].as_mut() else { return };
        if let Some(call) = process.running.take() {
            let nanos = if self.random.one_in(10) { 20 * MILLISECOND } else { 30_000 };
            process.reports.push_back((call, nanos));
        } else if let Some((generation, call)) = process.inbox.pop_front() {
            if generation == process.generation {
                process.claimed = call.number;
                process.running = Some(call);
                assert!(self.runs.insert(call.job), "job {} ran twice", call.job);
            }
        } else if process.stopping && process.reports.is_empty() {
            self.die(seat);
        }
    }

    fn deliver(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].as_mut() else { return };
        let (epoch, several) = (process.epoch, 1 + self.random.below(3));
        for _ in 0..several {
            let Some((call, nanos)) = process.reports.pop_front() else { break };
            self.pool.reported(seat, epoch, (call.number, 1), None).unwrap();
            self.pool.timed(seat, 1, nanos);
        }
        self.pool.progressed(seat, epoch, self.now);
    }

    /// All that a worker has sent arrives; then its end is noticed.
    fn die(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].take() else { return };
        for (call, _) in process.reports {
            self.pool.reported(seat, process.epoch, (call.number, 1), None).unwrap();
        }
        self.pool.lost(seat, process.epoch, &loss(), process.claimed, self.now);
        self.pool.seats[seat].failures = 0;
    }

    fn check(&self) {
        let pool = &self.pool;
        let waiting: usize = pool.waiting.iter().chain(&pool.returned).map(Waiting::len).sum();
        assert_eq!(waiting, pool.waiting_calls);
        let count = |seat: &Seat<Calls>| seat.in_flight.iter().map(|flight| flight.len() as usize).sum::<usize>();
        let in_flight: usize = pool.seats.iter().map(count).sum();
        assert_eq!(pool.ready_seats, pool.seats.iter().filter(|seat| seat.phase == Phase::Ready).count());
        assert_eq!(in_flight, pool.in_flight_calls);
        assert_eq!(waiting + in_flight + self.ends.len(), self.submitted as usize, "a call is lost");
        for seat in &pool.seats {
            assert!(seat.unread.len() <= LIMITS.frames);
            assert_eq!(seat.calls, count(seat));
            assert!(seat.in_flight.iter().all(|flight| flight.len() > 0));
            assert_eq!(seat.unread_bytes, seat.unread.iter().map(|(_, bytes)| bytes).sum::<usize>());
            assert_eq!(seat.ahead, seat.in_flight.iter().map(Flight::ahead).sum::<Time>());
            assert!(seat.calls <= 200);
            assert!(
                seat.in_flight
                    .iter()
                    .zip(seat.in_flight.iter().skip(1))
                    .all(|(a, b)| is_after(b.number, a.last_number()))
            );
        }
        let idle: HashSet<_> = pool.idle.iter().collect();
        assert_eq!(idle.len(), pool.idle.len(), "a seat is idle twice");
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].phase == Phase::Ready));
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].in_flight.is_empty()), "a busy seat is idle");
        assert!(pool.idle.is_empty() || waiting == 0, "a call waits while a worker is idle");
    }
}

#[test]
fn whatever_happens_every_call_ends_once_and_runs_at_most_once() {
    for seed in 0..100 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..1000 {
                world.step(false);
            }
            world.pool.close();
            world.carry_out();
            for _ in 0..200_000 {
                if world.pool.is_finished() {
                    break;
                }
                world.step(true);
            }
            assert!(world.pool.is_finished(), "the pool does not end: {:?}", world.pool.counts());
            assert_eq!(world.ends.len() as u64, world.submitted);
        });
        if let Err(payload) = outcome {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(payload);
        }
    }
}
