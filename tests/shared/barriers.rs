//! Barriers: all go on together, round after round, and one who is late, aborts or ends keeps nobody waiting.

over_every_transport! {
    in_turn:
    all_go_on_together_round_after_round,
    one_of_them_is_the_leader,
    whoever_waits_in_vain_breaks_it,
    an_abort_breaks_it_until_it_is_reset,
    a_reset_sends_those_who_wait_away,
    one_that_ends_waiting_breaks_it,
    whoever_is_killed_anywhere_keeps_nobody,
    a_barrier_is_for_so_many,
    a_barrier_travels_as_values_do,
    a_sandbox_may_wait_at_a_barrier,
}

use crate::support::{builder, over_every_transport, signal, until};
use pool_runtime::sync::{Barrier, BrokenBarrier};
use pool_runtime::{Atomic, Pool, Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(50);

/// Returns how often it was the leader.
#[task]
fn go_round(barrier: &Barrier, arrived: &Atomic<u32>, parties: u32, rounds: u32) -> u32 {
    rounds_of(barrier, arrived, parties, rounds)
}

fn rounds_of(barrier: &Barrier, arrived: &Atomic<u32>, parties: u32, rounds: u32) -> u32 {
    let mut led = 0;
    for round in 0..rounds {
        arrived.fetch_add(1, AcqRel);
        led += u32::from(barrier.wait().unwrap().is_leader());
        // All have come to this round, and none of them has come to the one after the next.
        let now = arrived.load(Acquire);
        assert!(((round + 1) * parties..(round + 2) * parties).contains(&now), "{now} in round {round}");
    }
    led
}

fn all_go_on_together_round_after_round() {
    let pool = builder().processes(2).build().unwrap();
    let (barrier, arrived) = (Barrier::new(4).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(go_round::call(&barrier, &arrived, 4, 200)));
    let led: u32 = thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| rounds_of(&barrier, &arrived, 4, 200)));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(led + jobs.into_iter().map(|job| job.get().unwrap()).sum::<u32>(), 200);
    assert_eq!((barrier.waiting(), barrier.parties(), barrier.is_broken()), (0, 4, false));
}

fn one_of_them_is_the_leader() {
    for parties in [0, 1] {
        let alone = Barrier::new(parties).unwrap();
        assert!(alone.wait().unwrap().is_leader() && alone.wait_timeout(Duration::ZERO).unwrap().is_leader());
    }
    let barrier = Barrier::new(2).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| barrier.wait().unwrap().is_leader());
        until("it waits", || barrier.waiting() == 1);
        assert!(barrier.wait_timeout(LONG).unwrap().is_leader() && !first.join().unwrap());
    });
}

/// Returns the error, and whether it says that the time of this one is over.
#[task]
fn wait_in_vain(barrier: &Barrier) -> (String, bool) {
    let broken: BrokenBarrier = barrier.wait().unwrap_err();
    (broken.to_string(), broken.is_timeout())
}

fn waiting(pool: &Pool, barrier: &Barrier, there: usize) -> pool_runtime::Job<(String, bool)> {
    let job = pool.apply_async(wait_in_vain::call(barrier));
    until("it waits", || barrier.waiting() == there);
    job
}

fn whoever_waits_in_vain_breaks_it() {
    let pool = builder().processes(1).build().unwrap();
    let barrier = Barrier::new(3).unwrap();
    let job = waiting(&pool, &barrier, 1);
    let began = Instant::now();
    let late = barrier.wait_timeout(Duration::from_millis(30)).unwrap_err();
    assert!(late.is_timeout() && began.elapsed() >= Duration::from_millis(30) && barrier.is_broken());
    let (what, is_timeout) = job.get().unwrap();
    assert!(what.contains("did not wait any longer") && !is_timeout, "{what}");
    // And all who come later.
    assert!(barrier.wait().is_err_and(|broken| !broken.is_timeout()));
    assert!(pool.apply(wait_in_vain::call(&barrier)).unwrap().0.contains("broken"));
    assert!(pool_runtime::Error::from(late).to_string().contains("in time"));
    assert!(format!("{barrier:?}").contains("is_broken: true"));
}

fn an_abort_breaks_it_until_it_is_reset() {
    let pool = builder().processes(1).build().unwrap();
    let barrier = Barrier::new(2).unwrap();
    let job = waiting(&pool, &barrier, 1);
    barrier.abort();
    assert!(job.get().unwrap().0.contains("aborted") && barrier.is_broken());
    assert!(barrier.wait_timeout(LONG).unwrap_err().to_string().contains("aborted"));
    barrier.reset();
    assert!(!barrier.is_broken());
    let arrived = Atomic::new(0).unwrap();
    let job = pool.apply_async(go_round::call(&barrier, &arrived, 2, 5));
    assert_eq!(rounds_of(&barrier, &arrived, 2, 5) + job.get().unwrap(), 5);
}

fn a_reset_sends_those_who_wait_away() {
    let pool = builder().processes(1).build().unwrap();
    let barrier = Barrier::new(2).unwrap();
    let job = waiting(&pool, &barrier, 1);
    barrier.reset();
    assert!(job.get().unwrap().0.contains("was reset") && !barrier.is_broken());
    thread::scope(|scope| {
        scope.spawn(|| barrier.wait().unwrap());
        barrier.wait().unwrap();
    });
}

#[task]
fn say_and_wait(barrier: &Barrier, pid: &Atomic<u32>) {
    pid.store(std::process::id(), Release);
    let _ = barrier.wait();
}

fn one_that_ends_waiting_breaks_it() {
    let pool = builder().processes(2).build().unwrap();
    let (barrier, pid) = (Barrier::new(3).unwrap(), Atomic::new(0).unwrap());
    let other = waiting(&pool, &barrier, 1);
    let dies = pool.apply_async(say_and_wait::call(&barrier, &pid));
    until("both wait", || barrier.waiting() == 2);
    signal(pid.load(Acquire), 9);
    assert!(other.get().unwrap().0.contains("a process has ended"));
    assert!(dies.get().unwrap_err().is_worker_lost());
    barrier.reset();
    // The last one to come finds out, too.
    let pid = Atomic::new(0).unwrap();
    let barrier = Barrier::new(2).unwrap();
    let dies = pool.apply_async(say_and_wait::call(&barrier, &pid));
    until("it waits", || barrier.waiting() == 1);
    signal(pid.load(Acquire), 9);
    assert!(dies.get().unwrap_err().is_worker_lost());
    assert!(barrier.wait().unwrap_err().to_string().contains("a process has ended"));
}

#[task]
fn meet_again_and_again(barrier: &Barrier, rounds: &Atomic<u32>) {
    while barrier.wait().is_ok() {
        rounds.fetch_add(1, AcqRel);
    }
}

fn whoever_is_killed_anywhere_keeps_nobody() {
    let pool = builder().processes(3).build().unwrap();
    let barrier = Barrier::new(3).unwrap();
    for round in 0..15 {
        let rounds = Atomic::new(0).unwrap();
        let mut jobs = [(); 3].map(|()| pool.apply_async(meet_again_and_again::call(&barrier, &rounds)));
        until("they meet", || rounds.load(Acquire) > 20 + round % 5 * 7);
        jobs[0].cancel();
        assert!(jobs[0].get_timeout(LONG).is_err());
        // This one comes for it: all go on, or find out that it has ended while it waited.
        for _ in 0..3 {
            assert!(!barrier.wait_timeout(LONG).is_err_and(|broken| broken.is_timeout()));
        }
        barrier.abort();
        jobs[1].get_timeout(LONG).unwrap();
        jobs[2].get_timeout(LONG).unwrap();
        barrier.reset();
        assert_eq!(barrier.waiting(), 0);
    }
}

fn a_barrier_is_for_so_many() {
    let error = Barrier::new(257).unwrap_err();
    assert!(error.to_string().contains("at most 256 threads, got 257"), "{error}");
    let barrier = Barrier::new(256).unwrap();
    for _ in 0..2 {
        let led: usize = thread::scope(|scope| {
            let wait = || usize::from(barrier.wait().unwrap().is_leader());
            let threads: Vec<_> = (0..256).map(|_| scope.spawn(wait)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(led, 1);
    }
}

#[derive(Serialize, Deserialize)]
struct Meeting {
    barriers: Vec<Option<Barrier>>,
}

#[task]
fn meet(meeting: Meeting) {
    meeting.barriers.iter().flatten().for_each(|barrier| assert!(barrier.wait().is_ok()));
}

fn a_barrier_travels_as_values_do() {
    let barriers = [(); 2].map(|()| Barrier::new(2).unwrap());
    let all = || Meeting { barriers: barriers.iter().cloned().map(Some).chain([None]).collect() };
    let other = Process::new(meet::call(all())).start().unwrap();
    Process::new(meet::call(all())).start().unwrap().join().unwrap();
    other.join().unwrap();
}

fn a_sandbox_may_wait_at_a_barrier() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (barrier, arrived) = (Barrier::new(2).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(go_round::call(&barrier, &arrived, 2, 50)));
    assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).sum::<u32>(), 50);
    let pid = Atomic::new(0).unwrap();
    let dies = pool.apply_async(say_and_wait::call(&barrier, &pid));
    until("it waits", || barrier.waiting() == 1);
    signal(pid.load(Acquire), 9);
    assert!(dies.get().unwrap_err().is_worker_lost());
    assert!(pool.apply(wait_in_vain::call(&barrier)).unwrap().0.contains("a process has ended"));
}
