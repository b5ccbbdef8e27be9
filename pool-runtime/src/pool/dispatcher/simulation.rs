//! Drives the dispatcher through random orders of all events, with up to ten thousand workers and millions of calls, and
//! checks after each event what must always be true.
//!
//! Workers are simulated as the parent cannot see them: calls arrive, start, end, hang, grow and die; reports arrive late,
//! several at a time, twice, or never; what was taken back or looked at is told later, in any order; a death is noticed
//! later still; users submit, cancel, close and terminate at any time. A call's fate is drawn when it starts.
//!
//! - Every call ends exactly once, and none is lost.
//! - No call runs in two places at once, nor more often than it may be tried.
//! - How it ends agrees with what happened to it: a time-out only after its time, a loss only with its worker, …
//! - No worker is killed but for a call that it runs, and that was cancelled, took too long or too much memory.
//! - Every queue is within its limit, every count is what it counts, and nobody is idle while a call waits.
//! - Whatever happens, a pool that is closed comes to its end: a call that hangs must not prevent it.
//!
//! `POOL_SIMULATE_SECONDS` says for how long (in `cargo test`, a few seconds). A failure prints its seed, and
//! `POOL_SIMULATE_SEED` runs that one alone.

use super::{
    tests::{Calls, LIMITS, Simple, ends, headers},
    watch::NEVER,
    *,
};
use crate::{
    error::Stage,
    panic::PanicInfo,
    policy::Policy,
    protocol::{CallHeader, Failure},
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

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

/// What a world is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seats: usize,
    /// How many calls are submitted at the most.
    calls: u64,
    /// How many events happen before the pool is closed, at the most.
    events: u64,
    /// How much time passes between two events, at the most.
    pause: Time,
    /// After how many events everything is checked, not only what an event has touched.
    check_every: u64,
}

/// Short lives, of which many fit into a second: what is rare is the beginning and the end.
const TINY: Shape = Shape { seats: 3, calls: 60, events: 400, pause: 2 * MILLISECOND, check_every: 1 };
const SMALL: Shape = Shape { seats: 6, calls: 3_000, events: 3_000, pause: 2 * MILLISECOND, check_every: 1 };
const MEDIUM: Shape = Shape { seats: 200, calls: 100_000, events: 200_000, pause: MILLISECOND / 10, check_every: 200 };
const LARGE: Shape =
    Shape { seats: 10_000, calls: 3_000_000, events: 3_000_000, pause: MILLISECOND / 500, check_every: 50_000 };

/// What becomes of a call once it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Returns,
    Panics,
    /// Its arguments cannot be read.
    Unreadable,
    /// Around the time at which it is killed.
    ReturnsLate,
    Dies,
    Hangs,
    Grows,
}

/// What has become of a job.
#[derive(Clone, Copy, Debug, Default)]
struct Fact {
    starts: u32,
    /// Its task has been called.
    ran: bool,
    running: bool,
    ended: bool,
    cancelled: bool,
    policy: u8,
}

struct Running {
    call: CallHeader,
    fate: Fate,
    since: Time,
    until: Time,
}

/// A worker as the parent cannot see it.
#[derive(Default)]
struct Process {
    epoch: u32,
    generation: u32,
    claimed: u32,
    inbox: VecDeque<(u32, CallHeader)>,
    reports: VecDeque<(CallHeader, Time, Fate)>,
    running: Option<Running>,
    stopping: bool,
    /// It was killed, or died, which nobody has noticed yet.
    dead: bool,
    stage: Option<Stage>,
}

/// Something that the dispatcher has yet to be told.
enum News {
    TakenBack { seat: usize, epoch: u32, claimed: u32 },
    Seen { seat: usize, epoch: u32, seen: Seen },
}

struct World {
    shape: Shape,
    pool: Simple,
    policies: Vec<Policy>,
    processes: Vec<Option<Process>>,
    /// Seats where something may happen.
    active: Vec<usize>,
    is_active: Vec<bool>,
    empty: Vec<usize>,
    news: Vec<News>,
    random: Random,
    now: Time,
    jobs: Vec<Fact>,
    ended: u64,
    tickets: Vec<(Ticket, u64, u32)>,
    /// The pool takes no work any more, or is over at once.
    closed: bool,
    terminated: bool,
    /// The latest event that all could be checked after.
    events: u64,
    touched: Option<usize>,
    /// One in so many calls dies, and one in so many meets something else.
    deaths: usize,
    troubles: usize,
}

impl World {
    fn new(seed: u64, most: Shape) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let seats = if most.seats > 1000 { most.seats } else { 1 + random.below(most.seats) };
        let chosen = |random: &mut Random, chances, value: u64| if random.one_in(chances) { value } else { u64::MAX };
        let limits = Limits {
            tasks_per_child: chosen(&mut random, 3, 1),
            memory_per_child: chosen(&mut random, 4, 50),
            age_per_child: chosen(&mut random, 4, 100 * MILLISECOND),
            retry_delay: if random.one_in(2) { 0 } else { 5 * MILLISECOND },
            weigh_every: 10 * MILLISECOND,
            unhindered: 20 * CHUNK,
            calls: 200,
            ..LIMITS
        };
        let tasks_per_child = if limits.tasks_per_child == 1 { 1 + random.next() % 20 } else { u64::MAX };
        let limits = Limits { tasks_per_child, ..limits };
        let policies = (0..4).map(|index| match index {
            0 => Policy::NONE,
            _ => Policy {
                timeout: if random.one_in(2) { (5 * MILLISECOND) << random.below(4) } else { u64::MAX },
                soft_timeout: u64::MAX,
                retries: random.below(4) as u32,
                memory: if random.one_in(3) { 100 } else { u64::MAX },
            },
        });
        let policies = policies.collect();
        let deaths = [20, 200, 5000][random.below(3)];
        let troubles = [10, 100, 2000][random.below(3)];
        Self {
            shape: Shape { seats, ..most },
            pool: Dispatcher::new(seats, limits),
            policies,
            processes: (0..seats).map(|_| None).collect(),
            active: Vec::new(),
            is_active: vec![false; seats],
            empty: (0..seats).collect(),
            news: Vec::new(),
            random,
            now: 0,
            jobs: Vec::new(),
            ended: 0,
            tickets: Vec::new(),
            closed: false,
            terminated: false,
            events: 0,
            touched: None,
            deaths,
            troubles,
        }
    }

    fn activate(&mut self, seat: usize) {
        if !std::mem::replace(&mut self.is_active[seat], true) {
            self.active.push(seat);
        }
    }

    // ---- what the dispatcher wants ----

    fn carry_out(&mut self) {
        while let Some(effect) = self.pool.effect() {
            match effect {
                Effect::Values { .. } => {
                    for (job, _) in ends(&effect) {
                        self.end(job, None);
                    }
                }
                Effect::Failed { work, index, error } => self.end(work.first_job + u64::from(index), Some(&error)),
                Effect::Send { seat, epoch, generation, first, last } => {
                    assert!(!self.pool.seats[seat].watch.worn, "a worker that is worn is given more");
                    let calls = headers(self.pool.flights(seat, first, last));
                    assert_eq!(calls.len() as u32, last.wrapping_sub(first).wrapping_add(1));
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        process.inbox.extend(calls.into_iter().map(|call| (generation, call)));
                        self.activate(seat);
                    }
                }
                Effect::TakeBack { seat, epoch, generation } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        assert_eq!(process.generation, generation);
                        process.generation += 1;
                        self.news.push(News::TakenBack { seat, epoch, claimed: process.claimed });
                    }
                }
                Effect::Look { seat, epoch, memory } => {
                    if let Some(process) = self.processes[seat].as_ref().filter(|process| process.epoch == epoch) {
                        let seen = Seen {
                            claimed: process.claimed,
                            started: process.running.as_ref().map(|running| running.since),
                            extended: None,
                            // Not every look shows everything.
                            memory: (memory && !self.random.one_in(5)).then(|| process.memory()),
                        };
                        self.news.push(News::Seen { seat, epoch, seen });
                    }
                }
                Effect::Stop { seat, epoch } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        process.stopping = true;
                        self.activate(seat);
                    }
                }
                Effect::Kill { seat, epoch } => self.kill(seat, epoch),
            }
        }
    }

    fn kill(&mut self, seat: usize, epoch: u32) {
        let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) else { return };
        if let Some(running) = process.running.as_ref().filter(|_| !self.terminated && !process.dead) {
            let fact = &self.jobs[running.call.job as usize];
            let policy = &self.policies[usize::from(fact.policy)];
            let late = self.now.saturating_sub(running.since) >= policy.timeout;
            let large = running.fate == Fate::Grows && policy.memory != u64::MAX;
            assert!(fact.cancelled || late || large, "{:?} is killed for nothing: {fact:?}", running.call);
        }
        process.dead = true;
        self.activate(seat);
    }

    fn end(&mut self, job: u64, error: Option<&Error>) {
        let fact = &mut self.jobs[job as usize];
        assert!(!std::mem::replace(&mut fact.ended, true), "job {job} ended twice");
        self.ended += 1;
        let policy = &self.policies[usize::from(fact.policy)];
        let Some(error) = error else {
            assert!(fact.starts > 0, "job {job} has a value and never ran");
            return;
        };
        let attempts = error.attempts();
        assert!(attempts == fact.starts.max(1) || attempts == fact.starts + 1, "{error}: {fact:?}");
        if error.is_timeout() {
            assert!(policy.timeout != u64::MAX && fact.starts == policy.retries + 1, "{error}: {fact:?}");
        } else if error.is_worker_lost() && error.ran() == Ran::Yes {
            assert_eq!(fact.starts, policy.retries + 1, "{error}: {fact:?}");
        } else if error.is_out_of_memory() {
            assert!(policy.memory != u64::MAX, "{error}: {fact:?}");
        } else if error.is_cancelled() {
            assert!(fact.cancelled || self.terminated, "{error}: {fact:?}");
        }
        match error.ran() {
            Ran::No => assert!(!fact.ran, "{error}: it ran"),
            Ran::Yes => assert!(fact.ran, "{error}: it did not run"),
            Ran::Maybe => {}
        }
    }

    // ---- what happens ----

    /// Something happens somewhere.
    fn step(&mut self) {
        self.events += 1;
        self.now += self.random.next() % self.shape.pause;
        self.touched = None;
        let seat = match self.active.len() {
            0 => self.random.below(self.processes.len()),
            active => self.active[self.random.below(active)],
        };
        match self.random.below(20) {
            0 | 1 => self.submit(),
            2 if self.random.one_in(4) => self.cancel(),
            // A clock may be late; it is never early.
            3 if self.pool.next_tick().is_some_and(|at| at <= self.now) => self.pool.tick(self.now),
            3 => {}
            4 | 5 => self.tell_news(),
            6 | 7 => self.start(),
            8..=14 => self.work(seat),
            15..=17 => self.deliver(seat),
            18 => self.notice_death(seat),
            // Once it is closed, only what hangs is left to be killed: by the pool.
            _ if !self.closed && self.random.one_in(self.deaths) => {
                // From outside, whatever it is doing.
                let seat = self.random.below(self.processes.len());
                if let Some(process) = &mut self.processes[seat] {
                    process.dead = true;
                    self.activate(seat);
                }
            }
            _ => {}
        }
        self.carry_out();
        self.check();
    }

    fn submit(&mut self) {
        if self.closed || self.jobs.len() as u64 >= self.shape.calls {
            return;
        }
        let most = (4 * self.shape.seats).clamp(30, 4000);
        let most = if self.random.one_in(3) { most } else { 3 };
        let calls = 1 + self.random.below(most) as u32;
        let policy = self.random.below(self.policies.len()) as u8;
        let first_job = self.jobs.len() as u64;
        let work = Calls { first_job, calls, size: 1, policy: self.policies[usize::from(policy)] };
        self.jobs.extend((0..calls).map(|_| Fact { policy, ..Fact::default() }));
        match self.pool.submit(Arc::new(work), calls, self.now) {
            Ok(ticket) => self.tickets.push((ticket, first_job, calls)),
            Err(error) => (first_job..first_job + u64::from(calls)).for_each(|job| self.end(job, Some(&error))),
        }
    }

    fn cancel(&mut self) {
        // Young and old ones alike.
        let count = self.tickets.len();
        let latest = count.saturating_sub(1 + self.random.below(20));
        let index = if self.random.one_in(2) { latest } else { self.random.below(count) };
        // Those that wait to be tried again are few.
        let delayed = self.pool.delayed.first().filter(|_| self.random.one_in(3)).map(|(_, unit)| unit.ticket);
        let index =
            delayed.and_then(|ticket| self.tickets.iter().position(|(other, ..)| *other == ticket)).unwrap_or(index);
        let Some((ticket, first, calls)) = self.tickets.get(index).copied() else { return };
        let running = self.random.one_in(2);
        for fact in &mut self.jobs[first as usize..first as usize + calls as usize] {
            fact.cancelled = true;
        }
        self.pool.cancel(ticket, running, self.now);
    }

    fn tell_news(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let index = self.random.below(self.news.len());
        match self.news.swap_remove(index) {
            News::TakenBack { seat, epoch, claimed } => self.pool.taken_back(seat, epoch, claimed, self.now),
            News::Seen { seat, epoch, seen } => self.pool.seen(seat, epoch, seen, self.now),
        }
    }

    fn start(&mut self) {
        if self.empty.is_empty() {
            return;
        }
        let index = self.random.below(self.empty.len());
        let seat = self.empty[index];
        match self.pool.next_start(seat, self.now) {
            Start::Now { epoch } => {
                if self.random.one_in(20) {
                    self.pool.start_failed(seat, epoch, Error::invalid("bad luck"), false, self.now);
                    // A run of bad luck must not end the simulation.
                    self.pool.seats[seat].failures = 0;
                    return;
                }
                self.empty.swap_remove(index);
                self.processes[seat] = Some(Process { epoch, ..Process::default() });
                self.pool.ready(seat, epoch, self.now);
                self.activate(seat);
            }
            Start::NotBefore(_) => {}
            Start::Never => {
                self.empty.swap_remove(index);
            }
        }
    }

    fn work(&mut self, seat: usize) {
        let (now, random) = (self.now, &mut self.random);
        let Some(process) = self.processes[seat].as_mut().filter(|process| !process.dead) else { return };
        if let Some(running) = &process.running {
            if running.until > now {
                return;
            }
            let Some(Running { call, fate, since, .. }) = process.running.take() else { return };
            let fact = &mut self.jobs[call.job as usize];
            fact.running = false;
            if fate == Fate::Dies {
                process.dead = true;
                let stage = [Stage::Decoding, Stage::Running, Stage::Encoding][random.below(3)];
                fact.ran |= stage != Stage::Decoding;
                process.stage = Some(stage);
                return;
            }
            fact.ran |= fate != Fate::Unreadable;
            process.stage = (fate == Fate::Unreadable).then_some(Stage::Decoding);
            process.reports.push_back((call, (now - since).max(1000), fate));
        } else if let Some((generation, call)) = process.inbox.pop_front() {
            if generation != process.generation {
                return;
            }
            (process.claimed, process.stage) = (call.number, None);
            let fact = &mut self.jobs[call.job as usize];
            let policy = &self.policies[usize::from(fact.policy)];
            fact.starts += 1;
            assert!(!std::mem::replace(&mut fact.running, true), "job {} runs twice at once", call.job);
            assert!(!fact.ended || fact.cancelled || self.terminated, "job {} starts after its end", call.job);
            assert!(fact.starts <= policy.retries + 1, "job {} runs too often", call.job);
            assert_eq!(call.attempt, fact.starts, "job {}", call.job);
            let fate = match random.below(self.troubles) {
                _ if random.one_in(self.deaths) => Fate::Dies,
                0 => Fate::Panics,
                5 => Fate::Unreadable,
                1 if policy.timeout != u64::MAX => Fate::Hangs,
                3 | 4 if policy.timeout != u64::MAX => Fate::ReturnsLate,
                2 if policy.memory != u64::MAX => Fate::Grows,
                _ => Fate::Returns,
            };
            let takes = if random.one_in(50) { 20 * MILLISECOND } else { random.next() % 30_000 };
            let until = match fate {
                Fate::Hangs | Fate::Grows => NEVER,
                Fate::ReturnsLate => now + policy.timeout + random.next() % (2 * MILLISECOND),
                _ => now + takes,
            };
            process.running = Some(Running { call, fate, since: now, until });
        } else if process.stopping && process.reports.is_empty() {
            process.dead = true;
        }
    }

    fn deliver(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].as_mut() else { return };
        let (epoch, several) = (process.epoch, 1 + self.random.below(4));
        let mut twice = None;
        for _ in 0..several {
            let Some((call, nanos, fate)) = process.reports.pop_front() else { break };
            report(&mut self.pool, seat, epoch, call, nanos, fate).expect("it is about a call that was sent");
            twice = Some((call, nanos, fate));
        }
        if let Some((call, nanos, fate)) = twice.filter(|_| self.random.one_in(500))
            && report(&mut self.pool, seat, epoch, call, nanos, fate).is_err()
        {
            // Whoever says something twice makes no sense, and is killed.
            process.dead = true;
            process.reports.clear();
        }
        self.pool.progressed(seat, epoch, self.now);
        self.touched = Some(seat);
    }

    /// All that a worker has sent arrives, or all but the end of it; then its death is noticed.
    fn notice_death(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].take_if(|process| process.dead) else {
            if self.processes[seat].as_ref().is_none_or(Process::is_quiet) {
                // There is nothing to come from it.
                self.is_active[seat] = false;
                self.active.retain(|active| *active != seat);
            }
            return;
        };
        let arrive = match self.random.one_in(4) {
            true => self.random.below(process.reports.len() + 1),
            false => process.reports.len(),
        };
        for (call, nanos, fate) in process.reports.into_iter().take(arrive) {
            report(&mut self.pool, seat, process.epoch, call, nanos, fate).expect("it was sent");
        }
        if let Some(running) = process.running {
            let fact = &mut self.jobs[running.call.job as usize];
            (fact.running, fact.ran) = (false, true);
        }
        let stage = process.stage.unwrap_or(Stage::Running);
        let loss = Arc::new(Loss { stage, ..(*tests::loss()).clone() });
        self.pool.lost(seat, process.epoch, &loss, process.claimed, self.now);
        self.pool.seats[seat].failures = 0;
        self.empty.push(seat);
        self.touched = Some(seat);
    }

    // ---- what is always true ----

    fn check(&self) {
        let pool = &self.pool;
        let known = pool.waiting_calls + pool.delayed_calls + pool.in_flight_calls;
        assert_eq!(known as u64 + self.ended, self.jobs.len() as u64, "a call is lost");
        assert!(pool.idle.is_empty() || pool.waiting_calls == 0, "a call waits while a worker is idle");
        if let Some(seat) = self.touched {
            self.check_seat(seat);
        }
        if self.events.is_multiple_of(self.shape.check_every) {
            self.check_all();
        }
    }

    fn check_all(&self) {
        let pool = &self.pool;
        let waiting: usize = pool.waiting.iter().chain(&pool.returned).map(Waiting::len).sum();
        assert_eq!(waiting, pool.waiting_calls);
        assert_eq!(pool.delayed.iter().map(|(_, unit)| unit.len()).sum::<usize>(), pool.delayed_calls);
        assert!(pool.delayed.is_sorted_by_key(|(at, _)| *at));
        assert!(pool.delayed.iter().all(|(_, unit)| unit.len() > 0));
        let in_flight: usize = pool.seats.iter().map(|seat| seat.calls).sum();
        assert_eq!(in_flight, pool.in_flight_calls);
        assert_eq!(pool.ready_seats, pool.seats.iter().filter(|seat| seat.phase == Phase::Ready).count());
        for seat in 0..pool.seats.len() {
            self.check_seat(seat);
        }
        let idle: HashSet<_> = pool.idle.iter().collect();
        assert_eq!(idle.len(), pool.idle.len(), "a seat is idle twice");
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].phase == Phase::Ready));
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].in_flight.is_empty()), "a busy seat is idle");
    }

    fn check_seat(&self, seat: usize) {
        let (seat, limits) = (&self.pool.seats[seat], &self.pool.limits);
        assert_eq!(seat.calls, seat.in_flight.iter().map(|flight| flight.len() as usize).sum::<usize>());
        assert!(seat.in_flight.iter().all(|flight| flight.len() > 0));
        assert!(seat.unread.len() <= limits.frames && seat.calls <= limits.calls);
        let unread: usize = seat.unread.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(seat.unread_bytes, unread);
        // One call goes to a worker that has nothing, however large; what was taken back may still lie before it.
        assert!(unread <= limits.unhindered || seat.unread.len() <= 2 || seat.calls <= 1, "{unread} bytes");
        assert_eq!(seat.ahead, seat.in_flight.iter().map(Flight::ahead).sum::<Time>());
        let next = seat.in_flight.iter().skip(1);
        assert!(seat.in_flight.iter().zip(next).all(|(a, b)| is_after(b.number, a.last_number())));
    }

    // ---- a whole life ----

    fn live(&mut self) {
        while self.events < self.shape.events && (self.jobs.len() as u64) < self.shape.calls {
            self.step();
        }
        self.closed = true;
        if self.random.one_in(2) {
            // Close to its end, or at it.
            let left = self.random.below(4);
            let most = self.events + 20_000;
            while self.pool.waiting_calls + self.pool.in_flight_calls > left && self.events < most {
                self.step();
            }
        }
        if self.random.one_in(5) {
            self.terminated = true;
            self.pool.terminate();
        } else {
            self.pool.close();
        }
        self.carry_out();
        let left = self.jobs.len() as u64 - self.ended;
        let most = self.events + 400_000 + 400 * left + 4_000 * self.shape.seats as u64;
        while !self.pool.is_finished() && self.events < most {
            self.step();
        }
        assert!(self.pool.is_finished(), "the pool does not end: {:?}", self.pool.counts());
        assert_eq!(self.ended, self.jobs.len() as u64);
        self.check_all();
    }
}

impl Process {
    fn memory(&self) -> u64 {
        match &self.running {
            Some(Running { fate: Fate::Grows, .. }) => 101,
            _ => u64::from(self.claimed) % 60,
        }
    }

    fn is_quiet(&self) -> bool {
        !self.dead && !self.stopping && self.running.is_none() && self.inbox.is_empty() && self.reports.is_empty()
    }
}

fn report(
    pool: &mut Simple,
    seat: usize,
    epoch: u32,
    call: CallHeader,
    nanos: Time,
    fate: Fate,
) -> Result<(), &'static str> {
    let failed = |stage, failure| Some(Failed { stage, leaving: false, failure });
    let failed = match fate {
        Fate::Panics => failed(Stage::Running, Failure::Panicked(PanicInfo::from_message("simulated".into()))),
        Fate::Unreadable => failed(Stage::Decoding, Failure::Decode("simulated".into())),
        _ => None,
    };
    pool.reported(seat, epoch, (call.number, 1), failed)?;
    pool.timed(seat, 1, nanos);
    Ok(())
}

const CHUNK: usize = feed::CHUNK_BYTES;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs worlds of this shape, one after the other, for so long; at least one.
fn simulate(shape: Shape, first_seed: u64, time: Duration) -> (u64, u64, u64) {
    let began = Instant::now();
    // Where there is time, other worlds than those of the last run.
    let fresh = setting("POOL_SIMULATE_SECONDS")
        .map_or(0, |_| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64));
    let first_seed = first_seed.wrapping_add(fresh);
    let (mut worlds, mut events, mut calls) = (0, 0, 0);
    let chosen = setting("POOL_SIMULATE_SEED");
    while worlds == 0 || (began.elapsed() < time && chosen.is_none()) {
        let seed = chosen.unwrap_or(first_seed.wrapping_add(worlds));
        let lived = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, shape);
            world.live();
            (world.events, world.jobs.len() as u64)
        });
        match lived {
            Ok((happened, submitted)) => (events, calls) = (events + happened, calls + submitted),
            Err(payload) => {
                eprintln!("seed {seed} of {shape:?} fails: POOL_SIMULATE_SEED={seed} runs it again");
                std::panic::resume_unwind(payload);
            }
        }
        worlds += 1;
    }
    eprintln!("{worlds} worlds, {events} events, {calls} calls");
    (worlds, events, calls)
}

/// The time for a shape: its share of what the environment says, or so many milliseconds.
fn time(share: f64, otherwise: u64) -> Duration {
    setting("POOL_SIMULATE_SECONDS")
        .map_or(Duration::from_millis(otherwise), |seconds| Duration::from_secs(seconds).mul_f64(share))
}

#[test]
fn simulation_of_short_lives() {
    simulate(TINY, 1 << 22, time(0.2, 1_000));
}

#[test]
fn simulation_of_small_pools() {
    simulate(SMALL, 0, time(0.3, 1_000));
}

#[test]
fn simulation_of_pools_of_hundreds() {
    simulate(MEDIUM, 1 << 20, time(0.2, 0));
}

#[test]
fn simulation_of_a_pool_of_ten_thousand() {
    // In an ordinary test run, a small life.
    let shape = match setting("POOL_SIMULATE_SECONDS") {
        Some(_) => LARGE,
        None => Shape { seats: 2_000, calls: 20_000, events: 20_000, check_every: 10_000, ..LARGE },
    };
    simulate(shape, 1 << 21, time(0.3, 0));
}

/// A simulation that finds nothing must be able to find something.
#[test]
fn a_call_that_is_lost_is_found_out() {
    let found: Result<(), _> = std::panic::catch_unwind(|| {
        let mut world = World::new(1, SMALL);
        for event in 0..SMALL.events {
            world.step();
            if event > 500 && world.pool.waiting_calls > 0 {
                // As if somebody had forgotten one.
                world.pool.waiting_calls -= 1;
            }
        }
    });
    let text = found.expect_err("it finds it").downcast::<String>().expect("a text");
    assert!(text.contains("a call is lost"), "{text}");
}
