//! A worker that is stopped and goes on later, while it is idle, while it runs, while a large argument or result is on
//! its way: others work meanwhile, and nothing is lost. One that stays stopped can be got rid of all the same.

use crate::support::{
    Signals, Stopped, await_given, count, is_alive, over_every_transport, pids, pool, returns, until,
};
use pool_runtime::{Job, Pool, Process, WorkerState, task};
use std::path::Path;

over_every_transport! {
    stopped_while_idle,
    stopped_while_it_runs,
    stopped_while_a_large_argument_is_on_its_way,
    stopped_while_a_large_result_is_on_its_way,
    cancelling_what_a_stopped_worker_runs,
    terminating_a_pool_with_stopped_workers,
    dropping_a_pool_with_stopped_workers,
}

const LARGE: usize = 32 << 20;

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn filled(begun: &Path, length: usize) -> Vec<u8> {
    count(begun);
    vec![7; length]
}

/// Counts each run.
#[task]
fn step(n: u32, ran: &Path) -> u32 {
    count(ran);
    n
}

#[task]
fn wait(begun: &Path, release: &Path) -> u32 {
    count(begun);
    await_given(release);
    std::process::id()
}

fn both_ready(pool: &Pool) {
    until("both workers are ready", || {
        pool.workers().iter().filter(|worker| worker.state == WorkerState::Idle).count() == 2
    });
}

/// A pool of two: one waits in a call, the other is idle. Returns the idle one.
fn one_idle(pool: &Pool, signals: &Signals) -> (u32, Job<u32>) {
    both_ready(pool);
    let waits = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    let idle = pool.workers().iter().find(|worker| worker.state == WorkerState::Idle).expect("the other one").pid;
    (idle, waits)
}

fn stopped_while_idle() {
    let (pool, signals) = (pool(2), Signals::new());
    let ran = signals.path("ran");
    both_ready(&pool);
    let stopped = Stopped::new(pids(&pool)[0]);
    let jobs: Vec<_> = (0..200).map(|n| pool.apply_async(step::call(n, &ran))).collect();
    // What was sent to it before anybody could know waits for it; all else is run by the other one.
    until("the other one works", || jobs.iter().filter(|job| job.is_ready()).count() >= 100);
    assert_eq!(pool.apply(length::call(&[1, 2])).unwrap(), 2);
    drop(stopped);
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.get().unwrap(), n);
    }
    assert_eq!(signals.counted("ran"), 200, "each ran once");
}

fn stopped_while_it_runs() {
    let (pool, signals) = (pool(2), Signals::new());
    both_ready(&pool);
    let runs = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    let busy = pool.workers().iter().find(|worker| worker.state == WorkerState::Busy).expect("it runs").pid;
    let stopped = Stopped::new(busy);
    signals.give("release");
    let ran = signals.path("ran");
    assert_eq!(pool.map(|n| step::call(n, &ran), 0..200).unwrap(), (0..200).collect::<Vec<_>>());
    assert!(!runs.is_ready());
    drop(stopped);
    assert_eq!(runs.get().unwrap(), busy);
    assert_eq!(pids(&pool).iter().filter(|pid| **pid == busy).count(), 1, "it was not replaced");
}

fn stopped_while_a_large_argument_is_on_its_way() {
    let (pool, signals) = (pool(2), Signals::new());
    let (idle, waits) = one_idle(&pool, &signals);
    let stopped = Stopped::new(idle);
    let large = vec![1; LARGE];
    let job = pool.apply_async(length::call(&large));
    signals.give("release");
    waits.get().unwrap();
    // The other one takes small calls and large ones, whatever is stuck on its way to the first one.
    for _ in 0..3 {
        assert_eq!(pool.apply(length::call(&[1, 2, 3])).unwrap(), 3);
        assert_eq!(pool.apply(length::call(&large)).unwrap(), LARGE);
    }
    drop(stopped);
    assert_eq!(job.get().unwrap(), LARGE);
}

fn stopped_while_a_large_result_is_on_its_way() {
    let pool = pool(2);
    both_ready(&pool);
    for _ in 0..5 {
        let signals = Signals::new();
        let mut job = pool.apply_async(filled::call(&signals.path("begun"), LARGE));
        signals.await_given("begun");
        let busy = pool.workers().iter().find(|worker| worker.state == WorkerState::Busy).map(|worker| worker.pid);
        // It may be through already.
        let stopped = busy.map(Stopped::new);
        assert_eq!(pool.apply(length::call(&[1, 2, 3])).unwrap(), 3);
        drop(stopped);
        let result = job.get_timeout(crate::support::PATIENCE).unwrap();
        assert!(result.len() == LARGE && result.iter().all(|byte| *byte == 7));
    }
}

fn cancelling_what_a_stopped_worker_runs() {
    let (pool, signals) = (pool(1), Signals::new());
    let job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    let pid = pids(&pool)[0];
    let stopped = Stopped::new(pid);
    assert!(job.cancel());
    assert!(returns("get", move || job.get()).unwrap_err().is_cancelled());
    assert_eq!(pool.apply(length::call(&[1])).unwrap(), 1, "in the next worker");
    assert!(!is_alive(pid));
    drop(stopped);
}

/// Two workers, both stopped: one that runs a call, one that was idle and has been sent some since.
fn two_stopped(pool: &Pool, signals: &Signals) -> ([Stopped; 2], Vec<Job<u32>>) {
    let (idle, waits) = one_idle(pool, signals);
    let busy = pids(pool).into_iter().find(|pid| *pid != idle).expect("the other one");
    let stopped = [Stopped::new(idle), Stopped::new(busy)];
    let ran = signals.path("ran");
    let jobs = (0..20).map(|n| pool.apply_async(step::call(n, &ran)));
    let jobs = [waits].into_iter().chain(jobs).collect();
    (stopped, jobs)
}

fn ends(signals: &Signals, stopped: [Stopped; 2], jobs: Vec<Job<u32>>) {
    for job in jobs {
        assert!(returns("get", move || job.get()).unwrap_err().is_closed());
    }
    assert!(stopped.iter().all(|stopped| !is_alive(stopped.pid())));
    assert_eq!(signals.counted("ran"), 0);
}

fn terminating_a_pool_with_stopped_workers() {
    let (pool, signals) = (pool(2), Signals::new());
    let (stopped, jobs) = two_stopped(&pool, &signals);
    returns("terminate and join", move || {
        pool.terminate();
        pool.join()
    })
    .unwrap();
    ends(&signals, stopped, jobs);
}

fn dropping_a_pool_with_stopped_workers() {
    let (pool, signals) = (pool(2), Signals::new());
    let (stopped, jobs) = two_stopped(&pool, &signals);
    returns("drop", move || drop(pool));
    ends(&signals, stopped, jobs);
}

#[test]
fn a_stopped_process_goes_on_or_is_killed() {
    let signals = Signals::new();
    let start = |begun: &str| {
        let process = Process::new(wait::call(&signals.path(begun), &signals.path("release"))).start().unwrap();
        signals.await_given(begun);
        process
    };
    let [goes_on, killed] = [start("first"), start("second")];
    let stopped = [Stopped::new(goes_on.pid()), Stopped::new(killed.pid())];
    signals.give("release");
    killed.kill().unwrap();
    assert_eq!(killed.join().unwrap_err().signal(), Some(libc::SIGKILL));
    assert!(goes_on.is_alive());
    drop(stopped);
    assert_eq!(goes_on.join().unwrap(), goes_on.pid());
}
