//! The limits of a call hold whatever its worker writes on its status page, and though the worker is stopped: the parent's
//! own clock bounds them. What was sent behind such a call, or beside it, is not harmed.

use crate::support::{
    Signals, Stopped, await_given, builder, count, give, is_alive, over_every_transport, pids, pool, until,
};
use pool_runtime::{Error, Pool, Process, Ran, WorkerState, task};
use std::{
    io::Write,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

over_every_transport! {
    one_that_says_it_has_not_started,
    one_that_says_so_with_too_much_memory,
    one_that_says_it_has_only_just_started,
    one_that_goes_back_in_time_once_it_was_seen,
    one_that_hides_runs_in_two_places_at_most,
    one_that_dies_as_if_it_had_not_begun_takes_no_neighbours_along,
    a_stopped_worker_counts_as_slow,
    what_a_stopped_worker_was_given_goes_to_another,
}

const SHORT: Duration = Duration::from_millis(300);
/// As long as a limit may be exceeded, on an overloaded machine.
const LATE: Duration = Duration::from_secs(20);

/// The words of this worker's status page: what it has claimed, the generation, which of them it has found out about (in
/// the upper half), and when the call started.
const CLAIMED: usize = 0;
const GENERATION: usize = 16;
const HEARD: usize = 24;
const STARTED: usize = 40;

/// A word of memory that this worker shares with its parent.
fn shared(memory: &str, offset: usize) -> &'static AtomicU64 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let name = format!("/memfd:{memory} ");
    let found = maps.lines().filter(|line| line.contains(&name)).find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let begins = rest.split(' ').nth(1)?;
        let [from, to, begins] = [from, to, begins].map(|hex| usize::from_str_radix(hex, 16).expect("a number"));
        (begins..begins + (to - from)).contains(&offset).then(|| from + (offset - begins))
    });
    let place = found.expect("this worker has such memory");
    // SAFETY: it stays mapped for the life of the worker, the word is aligned, and all access to it is atomic.
    unsafe { AtomicU64::from_ptr(place as *mut u64) }
}

/// Makes the page say that the call which runs has not started.
pub fn say_unstarted() {
    shared("pool-status", CLAIMED).fetch_sub(1, Ordering::SeqCst);
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

/// Says that it has not started; then uses memory, and never ends.
#[task]
fn hide(mebibytes: usize) {
    say_unstarted();
    let all = vec![1u8; mebibytes << 20];
    std::hint::black_box(&all);
    wait_for_ever();
}

fn idle(pool: &Pool) -> Vec<u32> {
    let workers = pool.workers();
    workers.iter().filter(|worker| worker.state == WorkerState::Idle).map(|worker| worker.pid).collect()
}

fn all_idle(pool: &Pool) -> Vec<u32> {
    until("all workers are ready", || idle(pool).len() == pool.processes());
    idle(pool)
}

fn is_late(error: &Error, begun: Instant) {
    assert!(error.is_timeout() && !error.is_pending(), "{error}");
    assert!((SHORT..LATE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

fn one_that_says_it_has_not_started() {
    for processes in [1, 2] {
        let pool = pool(processes);
        let before = all_idle(&pool);
        let begun = Instant::now();
        let error = pool.apply(hide::call(0).timeout(SHORT)).unwrap_err();
        is_late(&error, begun);
        // Each worker that got it is rid of.
        let next = pool.apply(pid::call()).unwrap();
        if processes == 1 {
            assert_ne!(next, before[0]);
        }
        let spins = |pid: &u32| is_alive(*pid) && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok();
        until("the liars are dead", || before.iter().filter(|pid| spins(pid)).count() < processes);
    }
}

fn one_that_says_so_with_too_much_memory() {
    let pool = pool(1);
    let begun = Instant::now();
    let error = pool.apply(hide::call(200).memory(64 << 20)).unwrap_err();
    // If it was looked at before it lied, its page goes back in time, which ends it as well.
    assert!((error.is_out_of_memory() || error.is_worker_lost()) && begun.elapsed() < LATE, "{error}");
    assert!(pool.apply(pid::call()).is_ok());
}

/// Says all the time that it has only just started.
#[task]
fn postpone() {
    let started = shared("pool-status", STARTED);
    loop {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is that of a time.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        started.store(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, Ordering::SeqCst);
    }
}

fn one_that_says_it_has_only_just_started() {
    let begun = Instant::now();
    let error = pool(1).apply(postpone::call().timeout(SHORT)).unwrap_err();
    is_late(&error, begun);
}

#[test]
fn a_process_that_says_it_has_only_just_started() {
    let begun = Instant::now();
    let process = Process::new(postpone::call().timeout(SHORT)).start().unwrap();
    is_late(&process.join().unwrap_err(), begun);
    let process = Process::new(hide::call(0).timeout(SHORT)).start().unwrap();
    let begun = Instant::now();
    is_late(&process.join().unwrap_err(), begun);
}

/// Is seen to have started, and then says that it has not.
#[task]
fn hide_later() {
    std::thread::sleep(Duration::from_millis(200));
    shared("pool-status", CLAIMED).fetch_sub(1, Ordering::SeqCst);
    wait_for_ever();
}

fn one_that_goes_back_in_time_once_it_was_seen() {
    // Its memory is looked at all the time.
    let pool = builder().processes(1).memory(1 << 30).build().unwrap();
    let begun = Instant::now();
    let error = pool.apply(hide_later::call().timeout(Duration::from_secs(600))).unwrap_err();
    assert!(error.is_worker_lost() && begun.elapsed() < LATE, "{error}");
    assert!(pool.apply(pid::call()).is_ok());
}

/// Says that it has not started, and, if it is to, that it is idle; never ends.
#[task]
fn hide_idly(begun: &Path, idly: bool) {
    shared("pool-status", CLAIMED).fetch_sub(1, Ordering::SeqCst);
    let mut pids = std::fs::File::options().create(true).append(true).open(begun).expect("a list");
    pids.write_all(format!("{}\n", std::process::id()).as_bytes()).expect("a list");
    loop {
        if idly {
            let generation = shared("pool-status", GENERATION).load(Ordering::SeqCst);
            let other = shared("pool-status", HEARD).load(Ordering::SeqCst) & u64::from(u32::MAX);
            shared("pool-status", HEARD).store(generation << 32 | other, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn one_that_hides_runs_in_two_places_at_most() {
    for idly in [false, true] {
        for cancels in [false, true] {
            // A worker may have been too slow to start it before it was taken back, and the other one have it alone.
            assert!((0..10).any(|_| hides(idly, cancels)), "it never went from one worker to another");
        }
    }
}

/// Returns whether it was run by two workers.
fn hides(idly: bool, cancels: bool) -> bool {
    let (pool, signals) = (pool(4), Signals::new());
    let begun = signals.path("begun");
    let pids = || -> Vec<u32> {
        let list = std::fs::read_to_string(&begun).unwrap_or_default();
        list.split_terminator('\n').map(|pid| pid.parse().expect("a number")).collect()
    };
    let alive = || pids().into_iter().filter(|pid| is_alive(*pid)).count();
    let limit = if cancels { Duration::MAX } else { 5 * SHORT };
    let liar = pool.apply_async(hide_idly::call(&begun, idly).timeout(limit));
    let patience = Instant::now() + 3 * SHORT;
    while pids().len() < 2 {
        if Instant::now() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Honest calls are run meanwhile, also if they are sent to where it hides.
    for _ in 0..20 {
        assert!(pool.apply(pid::call().timeout(LATE)).is_ok());
        assert!(alive() <= 2, "{:?}", pids());
    }
    if cancels {
        liar.cancel();
    }
    let error = liar.get().unwrap_err();
    assert!(if cancels { error.is_cancelled() } else { error.is_timeout() }, "{error}");
    until("no worker runs it on", || alive() == 0);
    assert!(pool.apply(pid::call()).is_ok());
    true
}

#[task]
fn same(n: u32) -> u32 {
    n
}

/// Dies as if it had never started.
#[task]
fn die_unclaimed(begun: &Path, go: &Path) {
    count(begun);
    await_given(go);
    shared("pool-status", CLAIMED).fetch_sub(1, Ordering::SeqCst);
    std::process::abort();
}

fn one_that_dies_as_if_it_had_not_begun_takes_no_neighbours_along() {
    let (pool, signals) = (pool(1), Signals::new());
    // The pool learns that they are short, and sends many at a time.
    pool.map(same::call, 0..1000).unwrap();
    let killer = pool.apply_async(die_unclaimed::call(&signals.path("begun"), &signals.path("go")));
    let behind: Vec<_> = (0..43).map(|n| pool.apply_async(same::call(n))).collect();
    signals.await_given("begun");
    give(&signals.path("go"));
    let error = killer.get().unwrap_err();
    assert!(error.is_worker_lost() && error.ran() == Ran::No, "{error}");
    for (n, job) in (0..).zip(behind) {
        assert_eq!(job.get().unwrap(), n);
    }
    assert_eq!(signals.counted("begun"), 5);
}

fn a_stopped_worker_counts_as_slow() {
    let pool = pool(1);
    let _stopped = Stopped::new(all_idle(&pool)[0]);
    let begun = Instant::now();
    let error = pool.apply(pid::call().timeout(SHORT)).unwrap_err();
    is_late(&error, begun);
    assert!(pool.apply(pid::call()).is_ok(), "by the next worker");
    assert_eq!(pids(&pool).len(), 1);
}

fn what_a_stopped_worker_was_given_goes_to_another() {
    let pool = pool(2);
    let idle = all_idle(&pool);
    let stopped = Stopped::new(idle[0]);
    for limit in [Duration::MAX, Duration::from_secs(600)] {
        for _ in 0..10 {
            let mut job = pool.apply_async(pid::call().timeout(limit));
            assert_eq!(job.get_timeout(LATE).unwrap(), idle[1]);
        }
    }
    drop(stopped);
}
