//! Drives the dispatcher through random orders of all events, with up to ten thousand workers and millions of calls,
//! and checks the invariants after each event.
//!
//! Workers are simulated with the state that the parent cannot see: calls arrive, start, end, hang, grow and die;
//! reports arrive late, several at a time, twice, or never; answers to effects arrive later, in any order; a death is
//! noticed later still, and sometimes told twice; users submit, cancel, close and terminate at any time. A call's fate
//! is drawn when it starts.
//!
//! - Every call ends exactly once, and none is lost.
//! - No call runs in two places at once, more often than it may be tried, or after it was cancelled.
//! - Its end agrees with what happened to it: a timeout only after its time, a loss only with its worker, …
//! - One that lies runs in two places at most, and in none for long once it took too long.
//! - A worker is killed only for a call that it runs and that was cancelled or exceeded a limit, or if it does not
//!   answer, or start what it is given. Where only what had not started was cancelled, what runs goes on.
//! - No call with a timeout stays at the front of a seat for longer than that and a grace, by the dispatcher's clock,
//!   though some workers lie about what they have started, and when.
//! - Every queue is within its limit, every count is exact, and no worker is idle while a call waits.
//! - A worker that was told to leave is killed only after its grace, and not while it joins processes.
//! - A pool that is closed always finishes, even if a call or a worker's exit hangs.
//!
//! `POOL_SIMULATE_SECONDS` sets the duration (the default is about two seconds). A failure prints its seed, and
//! `POOL_SIMULATE_SEED` runs only that one.

mod events;
mod invariants;

use crate::dossier::{Loss, Ran, Stage};
use crate::options::RestartPolicy;
use crate::panic::PanicInfo;
use crate::policy::Policy;
use crate::pool::dispatcher::events::{MILLISECOND, NEVER};
use crate::pool::dispatcher::range::is_after;
use crate::pool::dispatcher::seat::Phase;
use crate::pool::dispatcher::tests::{Calls, LIMITS, Simple, ends, headers};
use crate::pool::dispatcher::*;
use crate::protocol::{CallHeader, Failed};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// The size and speed of a simulated world.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seats: usize,
    /// The most calls that are submitted.
    calls: u64,
    /// The most events before the pool is closed.
    events: u64,
    /// The longest time between two events.
    pause: Time,
    /// The clock ticks at one in so many chances.
    late: usize,
    /// After how many events all seats are checked, not only the one that an event concerns.
    check_every: u64,
}

/// Many short runs per second, as start and shutdown are otherwise rare.
const TINY: Shape = Shape { seats: 3, calls: 60, events: 400, pause: 2 * MILLISECOND, late: 1, check_every: 1 };
const SMALL: Shape = Shape { seats: 6, calls: 3_000, events: 3_000, pause: 2 * MILLISECOND, late: 1, check_every: 1 };
const MEDIUM: Shape =
    Shape { seats: 200, calls: 100_000, events: 2_000_000, pause: MILLISECOND / 10, late: 1, check_every: 200 };
const LARGE: Shape = Shape {
    seats: 10_000,
    calls: 3_000_000,
    events: 100_000_000,
    pause: MILLISECOND / 500,
    late: 20,
    check_every: 50_000,
};

/// What happens to a call once it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Returns,
    Panics,
    /// Its arguments cannot be read.
    Unreadable,
    /// At about the time at which it is killed.
    ReturnsLate,
    Dies,
    Hangs,
    Grows,
    /// It never ends, and its worker's page says something else.
    Lies(Lie),
}

/// What the page of a worker says that runs a call that lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// The call has not started.
    NotStarted,
    /// Calls that were sent behind it have started.
    FarAhead,
    /// Calls have started that were not even sent.
    Beyond,
    /// It has only just started.
    JustNow,
    /// It has not started, and the worker knows of all that was taken back.
    Idle,
}

/// What has happened to a job.
#[derive(Clone, Copy, Debug, Default)]
struct Fact {
    starts: u32,
    /// Its task has been called.
    ran: bool,
    running: bool,
    ended: bool,
    cancelled: bool,
    /// It was cancelled even if it has started: its worker may be killed.
    given_up: bool,
    /// It has lied: where and how often it runs is its own doing.
    liar: bool,
    /// It was sent to the worker of a liar, which says that it has started.
    slandered: bool,
    /// It was cancelled before it started, or given up: it must not start any more.
    barred: bool,
    /// It ended as cancelled.
    withdrawn: bool,
    /// It ended as it took too long.
    late: bool,
    policy: u8,
}

struct Running {
    call: CallHeader,
    fate: Fate,
    since: Time,
    until: Time,
}

/// A worker, with the state that the parent cannot see.
#[derive(Default)]
struct Process {
    epoch: u32,
    generation: u32,
    /// The latest generation that it has found out about.
    heard: u32,
    claimed: u32,
    inbox: VecDeque<(u32, CallHeader)>,
    reports: VecDeque<(CallHeader, Time, Fate)>,
    running: Option<Running>,
    /// Since when it has been told to leave.
    stopping: Option<Time>,
    /// Until when it joins processes that it has started, once it is told to leave.
    joins_until: Time,
    /// It never leaves, as a handler that runs at its exit hangs.
    lingers: bool,
    /// When it was asked to end.
    asked: Option<Time>,
    /// It was killed or died, and the dispatcher has not been told.
    dead: bool,
    stage: Option<Stage>,
}

/// An event that the dispatcher has yet to be told.
enum News {
    TakenBack {
        seat: usize,
        epoch: u32,
        claimed: u32,
    },
    Seen {
        seat: usize,
        epoch: u32,
        seen: Observation,
    },
    /// A death that was told before.
    Lost {
        seat: usize,
        epoch: u32,
        claimed: u32,
    },
}

struct World {
    shape: Shape,
    pool: Simple,
    policies: Vec<Policy>,
    processes: Vec<Option<Process>>,
    /// Seats whose worker may do something.
    active: Vec<usize>,
    is_active: Vec<bool>,
    /// The call at the front of each seat, and since when it is there.
    fronts: Vec<(u32, u32, Time)>,
    empty: Vec<usize>,
    news: Vec<News>,
    random: Random,
    now: Time,
    jobs: Vec<Fact>,
    ended: u64,
    /// How many jobs ended with a value.
    values: u64,
    tickets: Vec<(Ticket, u64, u32)>,
    /// The pool was closed, or terminated.
    closed: bool,
    terminated: bool,
    /// Nothing is cancelled once the pool is closed: calls that hang must end all the same.
    patient: bool,
    events: u64,
    /// The seat that the latest event concerned.
    touched: Option<usize>,
    /// One in so many calls dies, and one in so many fails in another way.
    deaths: usize,
    troubles: usize,
    /// One in so many calls with a timeout lies.
    lies: usize,
    /// The most calls that wait per worker before users submit more.
    backlog: usize,
    /// How many times users cancelled.
    cancels: usize,
    /// Questions whether calls of a submission were cancelled before they started.
    questions: Vec<Question>,
}

/// A user who cancelled what has not started waits for the answer.
struct Question {
    number: u64,
    first_job: u64,
    calls: u32,
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
            exit_grace: EXIT_GRACE,
            terminate_grace: if random.one_in(3) { 5 * MILLISECOND } else { 0 },
            unhindered: 20 * CHUNK,
            calls: 200,
            grace: GRACE,
            ..LIMITS
        };
        let tasks_per_child = if limits.tasks_per_child == 1 { 1 + random.next() % 20 } else { u64::MAX };
        let limits = Limits { tasks_per_child, counts_bytes: true, ..limits };
        let policies = (0..4).map(|index| match index {
            0 => Policy::NONE,
            _ => Policy {
                timeout: if random.one_in(2) { (5 * MILLISECOND) << random.below(4) } else { u64::MAX },
                soft_timeout: u64::MAX,
                retries: random.below(4) as u32,
                memory: if random.one_in(3) { 100 } else { u64::MAX },
                max_result: None,
            },
        });
        let policies = policies.collect();
        let deaths = [20, 200, 5000][random.below(3)];
        let troubles = [10, 100, 2000][random.below(3)];
        let lies = [20, 1000, usize::MAX][random.below(3)];
        let patient = random.one_in(2);
        let backlog = [4, 40, 400][random.below(3)];
        Self {
            shape: Shape { seats, ..most },
            pool: Dispatcher::new(seats, limits, RestartPolicy::default()),
            policies,
            processes: (0..seats).map(|_| None).collect(),
            active: Vec::new(),
            is_active: vec![false; seats],
            fronts: vec![(0, 0, 0); seats],
            empty: (0..seats).collect(),
            news: Vec::new(),
            random,
            now: 0,
            jobs: Vec::new(),
            ended: 0,
            values: 0,
            tickets: Vec::new(),
            closed: false,
            terminated: false,
            patient,
            events: 0,
            touched: None,
            deaths,
            troubles,
            lies,
            backlog,
            cancels: 0,
            questions: Vec::new(),
        }
    }

    fn activate(&mut self, seat: usize) {
        if !std::mem::replace(&mut self.is_active[seat], true) {
            self.active.push(seat);
        }
    }

    fn live(&mut self) {
        while self.events < self.shape.events && (self.jobs.len() as u64) < self.shape.calls {
            self.step();
        }
        self.closed = true;
        if self.random.one_in(2) {
            // Close the pool when little or no work is left.
            let left = self.random.below(4);
            let most = self.events + 20_000;
            while self.pool.queue.ready() + self.pool.in_flight_calls > left && self.events < most {
                self.step();
            }
        }
        if self.random.one_in(5) {
            self.terminated = true;
            self.pool.terminate();
        } else {
            self.pool.close(self.now);
        }
        self.carry_out();
        let left = self.jobs.len() as u64 - self.ended;
        let most = self.events + 400_000 + 400 * left + 4_000 * self.shape.seats as u64;
        while !self.pool.is_finished() && self.events < most {
            self.step();
        }
        assert!(self.pool.is_finished(), "the pool does not end: {:?}", self.pool.counts());
        assert_eq!(self.ended, self.jobs.len() as u64);
        assert_eq!((self.pool.backlog(), self.pool.unended_bytes()), (0, 0));
        self.check_all();
        self.ask();
        assert!(self.questions.is_empty(), "a user waits in vain");
    }
}

const EXIT_GRACE: Time = 20 * MILLISECOND;

const CHUNK: usize = feed::CHUNK_BYTES;

/// How much longer than its timeout a call may stay at the front.
const GRACE: Time = 20 * MILLISECOND;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs worlds of this shape for so long; at least one.
fn simulate(shape: Shape, first_seed: u64, time: Duration) {
    let began = Instant::now();
    // A long run gets seeds of its own.
    let fresh = setting("POOL_SIMULATE_SECONDS")
        .map_or(0, |_| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64));
    let first_seed = first_seed.wrapping_add(fresh);
    let (mut worlds, mut events, mut calls, mut values) = (0, 0, 0, 0);
    let chosen = setting("POOL_SIMULATE_SEED");
    while worlds == 0 || (began.elapsed() < time && chosen.is_none()) {
        let seed = chosen.unwrap_or(first_seed.wrapping_add(worlds));
        let lived = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, shape);
            world.live();
            (world.events, world.jobs.len() as u64, world.values)
        });
        match lived {
            Ok((happened, submitted, returned)) => {
                (events, calls, values) = (events + happened, calls + submitted, values + returned);
            }
            Err(payload) => {
                eprintln!("seed {seed} of {shape:?} fails: POOL_SIMULATE_SEED={seed} runs it again");
                std::panic::resume_unwind(payload);
            }
        }
        worlds += 1;
    }
    eprintln!("{worlds} worlds, {events} events, {calls} calls, {values} with a value");
    // A world in which nearly everything is cancelled tests little.
    assert!(worlds < 20 || values > calls / 3, "too few calls are run to their end");
}

/// The time for a shape: its share of the environment's setting, or so many milliseconds.
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
    // An ordinary test run gets a small world, and a long one a world that can end in its time.
    let shape = match setting("POOL_SIMULATE_SECONDS") {
        Some(seconds) => Shape { calls: LARGE.calls.min(15_000 * seconds), ..LARGE },
        None => Shape { seats: 2_000, calls: 20_000, events: 20_000, check_every: 10_000, ..LARGE },
    };
    simulate(shape, 1 << 21, time(0.3, 0));
}

/// The simulation detects that a liar is believed.
#[test]
fn a_call_that_stays_too_long_is_found_out() {
    let found = (0..20).find_map(|seed| {
        std::panic::catch_unwind(|| {
            let mut world = World::new(seed, SMALL);
            world.lies = 20;
            for _ in 0..SMALL.events {
                world.step();
                // As if what the pages say could postpone it.
                for seat in &mut world.pool.seats {
                    seat.worker.front.until = NEVER;
                }
            }
        })
        .err()
    });
    let text = found.expect("it finds it").downcast::<String>().expect("a text");
    assert!(text.contains("stays at the front"), "{text}");
}

/// The simulation detects an error.
#[test]
fn a_call_that_is_lost_is_found_out() {
    let found: Result<(), _> = std::panic::catch_unwind(|| {
        let mut world = World::new(1, SMALL);
        for event in 0..SMALL.events {
            world.step();
            if event > 500 && world.pool.queue.ready() > 0 {
                // Lose a call.
                let _ = world.pool.queue.take(1);
            }
        }
    });
    let text = found.expect_err("it finds it").downcast::<String>().expect("a text");
    assert!(text.contains("a call is lost"), "{text}");
}
