//! A waiting job that is cancelled never runs; a running one has its worker killed and replaced; one that has ended
//! keeps its result. No other job is ever hit, not even one that was sent to the same worker.

use crate::support::{PATIENCE, Signals, await_given, count, give, over_every_transport, pool, returns, until};
use pool_runtime::{Error, Job, Pool, Ran, task};
use std::{collections::HashSet, path::Path};

over_every_transport! {
    a_waiting_job_never_runs,
    a_running_job_has_its_worker_replaced,
    a_finished_job_keeps_its_result,
    a_map_is_cancelled_whole,
    a_map_that_is_partly_done_is_cancelled_too,
    with_a_callback,
    one_behind_a_running_job_in_its_worker_hits_neither_that_nor_those_behind,
    a_running_job_with_others_behind_it_is_the_only_one_hit,
    racing_with_the_end_it_hits_that_job_or_none,
}

#[task]
fn wait(n: u32, begun: &Path, release: &Path) -> u32 {
    count(begun);
    await_given(release);
    n
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

/// Counts, and returns at once unless it is told to wait.
#[task]
fn step(n: u32, waits: bool, ran: &Path, release: &Path) -> u32 {
    count(&ran.join(n.to_string()));
    if waits {
        await_given(release);
    }
    n
}

fn was_cancelled(error: &Error, ran: Ran) {
    assert!(error.is_cancelled() && !error.is_closed() && !error.is_worker_lost() && !error.is_timeout());
    assert_eq!(error.ran(), ran);
    let task = error.task_name().unwrap();
    assert_eq!(error.to_string(), format!("task `{task}` was cancelled"));
}

fn a_waiting_job_never_runs() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, other, release) = (signals.path("begun"), signals.path("other"), signals.path("release"));
    let first = pool.apply_async(wait::call(1, &begun, &release));
    signals.await_given("begun");
    let waiting = pool.apply_async(wait::call(2, &other, &release));
    let last = pool.apply_async(wait::call(3, &begun, &release));
    assert!(waiting.cancel());
    assert!(waiting.is_ready(), "at once");
    assert!(!waiting.cancel(), "once");
    was_cancelled(&waiting.get().unwrap_err(), Ran::No);
    signals.give("release");
    assert_eq!((first.get().unwrap(), last.get().unwrap()), (1, 3));
    assert_eq!(signals.counted("other"), 0);
    assert_eq!((pool.stats().done, pool.stats().failed), (2, 1));
}

fn a_running_job_has_its_worker_replaced() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, never) = (signals.path("begun"), signals.path("never"));
    let before = pool.apply(pid::call()).unwrap();
    let mut job = pool.apply_async(wait::call(1, &begun, &never));
    let next = pool.apply_async(pid::call());
    signals.await_given("begun");
    assert!(job.cancel());
    assert!(job.is_ready());
    assert!(!job.cancel());
    assert_eq!(job.is_successful(), Some(false));
    was_cancelled(&job.get_timeout(PATIENCE).unwrap_err(), Ran::Maybe);
    assert_ne!(next.get().unwrap(), before);
    assert_eq!(pool.processes(), 1);
    assert!(!crate::support::exists(before), "it is dead and reaped");
    assert_eq!(signals.counted("begun"), 1, "it is not run again");
}

fn a_finished_job_keeps_its_result() {
    let pool = pool(1);
    let before = pool.apply(pid::call()).unwrap();
    let job = pool.apply_async(pid::call());
    assert!(job.wait(PATIENCE));
    assert!(!job.cancel());
    assert_eq!(job.get().unwrap(), before);
    assert_eq!(pool.apply(pid::call()).unwrap(), before, "and no worker is hit");
}

fn a_map_is_cancelled_whole() {
    let (pool, signals) = (pool(2), Signals::new());
    let (begun, never) = (signals.path("begun"), signals.path("never"));
    let map = pool.map_async(|n| wait::call(n, &begun, &never), 0..100);
    until("two have begun", || signals.counted("begun") == 2);
    assert!(map.cancel());
    assert!(map.is_ready() && !map.cancel());
    assert!(map.get().unwrap_err().is_cancelled());
    assert_eq!(pool.map(|_| pid::call(), 0..10).unwrap().len(), 10);
    assert_eq!(signals.counted("begun"), 2, "nothing else has begun");
}

fn a_map_that_is_partly_done_is_cancelled_too() {
    let (pool, signals) = (pool(2), Signals::new());
    let (ran, never) = (signals.path("ran"), signals.path("never"));
    std::fs::create_dir(&ran).unwrap();
    let map = pool.map_async(|n| step::call(n, n >= 20, &ran, &never), 0..40);
    until("the first are done", || pool.stats().done == 20);
    assert!(map.cancel());
    assert!(map.get().unwrap_err().is_cancelled());
    until("nothing is left", || pool.stats().waiting + pool.stats().running == 0);
    assert_eq!((pool.stats().done, pool.stats().failed), (20, 20));
}

fn with_a_callback() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, never) = (signals.path("begun"), signals.path("never"));
    let (sends, sent) = std::sync::mpsc::channel();
    let jobs: Vec<_> = (0..2)
        .map(|n| {
            let sends = sends.clone();
            pool.apply_async(wait::call(n, &begun, &never))
                .on_done(move |result| sends.send(result.as_ref().is_err_and(Error::is_cancelled)).unwrap())
        })
        .collect();
    signals.await_given("begun");
    assert!(jobs.iter().rev().all(Job::cancel));
    assert_eq!([sent.recv().unwrap(), sent.recv().unwrap()], [true, true]);
    assert!(jobs.into_iter().all(|job| job.get().unwrap_err().is_cancelled()));
}

/// Makes the pool believe that `step` is short: then several calls are sent to a worker at a time.
fn warm(pool: &Pool, signals: &Signals) {
    let nowhere = signals.path("warm");
    std::fs::create_dir(&nowhere).unwrap();
    for _ in 0..3 {
        pool.map(|n| step::call(n, false, &nowhere, &nowhere), 0..500).unwrap();
    }
}

/// Submits calls that are then sent to the only worker together, as it has been busy with another until now.
fn sent_together<R>(pool: &Pool, signals: &Signals, submit: impl FnOnce() -> R) -> R {
    let (begun, release) = (signals.path("gate begun"), signals.path("gate"));
    let gate = pool.apply_async(wait::call(0, &begun, &release));
    await_given(&begun);
    let submitted = submit();
    give(&release);
    gate.get().unwrap();
    submitted
}

fn one_behind_a_running_job_in_its_worker_hits_neither_that_nor_those_behind() {
    let (pool, signals) = (pool(1), Signals::new());
    warm(&pool, &signals);
    let (ran, release) = (signals.path("ran"), signals.path("release"));
    std::fs::create_dir(&ran).unwrap();
    let before = pool.apply(pid::call()).unwrap();
    let jobs: Vec<_> = sent_together(&pool, &signals, || {
        (0..10).map(|n| pool.apply_async(step::call(n, n == 0, &ran, &release))).collect()
    });
    await_given(&ran.join("0"));
    assert!(pool.stats().running > 1, "sent together: {:?}", pool.stats());
    assert!(jobs[3].cancel());
    assert!(jobs[3].is_ready());
    assert!(!jobs[0].is_ready(), "the one that runs goes on");
    give(&release);
    for (n, job) in (0..).zip(jobs) {
        match job.get() {
            Ok(value) => assert!(value == n && n != 3),
            Err(error) => {
                assert_eq!(n, 3, "{error}");
                was_cancelled(&error, Ran::No);
            }
        }
    }
    assert!(!ran.join("3").exists(), "it never ran");
    assert_eq!(pool.apply(pid::call()).unwrap(), before, "no worker was killed for it");
}

fn a_running_job_with_others_behind_it_is_the_only_one_hit() {
    let (pool, signals) = (pool(1), Signals::new());
    warm(&pool, &signals);
    let (ran, never) = (signals.path("ran"), signals.path("never"));
    std::fs::create_dir(&ran).unwrap();
    let jobs: Vec<_> = sent_together(&pool, &signals, || {
        (0..10).map(|n| pool.apply_async(step::call(n, n == 4, &ran, &never))).collect()
    });
    await_given(&ran.join("4"));
    until("the first are done", || jobs[3].is_ready());
    assert!(jobs[4].cancel());
    for (n, job) in (0..).zip(jobs) {
        match job.get() {
            Ok(value) => assert_eq!(value, n),
            Err(error) => {
                assert_eq!(n, 4, "{error}");
                was_cancelled(&error, Ran::Maybe);
            }
        }
    }
    let runs = |n: u32| std::fs::read(ran.join(n.to_string())).map_or(0, |counted| counted.len());
    assert!((0..10).all(|n| runs(n) == 1), "each has run once");
}

fn racing_with_the_end_it_hits_that_job_or_none() {
    let (pool, signals) = (pool(2), Signals::new());
    warm(&pool, &signals);
    let (ran, nowhere) = (signals.path("ran"), signals.path("nowhere"));
    std::fs::create_dir(&ran).unwrap();
    let mut cancelled = HashSet::new();
    let jobs: Vec<(u32, Job<u32>)> = (0..600)
        .map(|n| {
            let job = pool.apply_async(step::call(n, false, &ran, &nowhere));
            if n % 3 == 0 && job.cancel() {
                cancelled.insert(n);
            }
            (n, job)
        })
        .collect();
    let outcomes: Vec<(u32, Result<u32, Error>)> =
        returns("all", move || jobs.into_iter().map(|(n, job)| (n, job.get())).collect());
    for (n, outcome) in outcomes {
        match outcome {
            Ok(value) => assert!(value == n && !cancelled.contains(&n), "{n}"),
            Err(error) => {
                assert!(cancelled.contains(&n), "{n}: {error}");
                assert!(error.is_cancelled(), "{error}");
                if error.ran() == Ran::No {
                    assert!(!ran.join(n.to_string()).exists(), "{n} was said not to have run");
                }
            }
        }
        let runs = std::fs::read(ran.join(n.to_string())).map_or(0, |counted| counted.len());
        assert!(runs <= 1, "{n} has run {runs} times");
    }
    assert!(!cancelled.is_empty(), "some were early enough");
}
