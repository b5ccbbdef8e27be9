//! A job that takes long does not hold back those behind it, also where short calls are sent many at a time: what was
//! behind it in the same worker is done by the others.

use crate::support::{Signals, await_given, give, over_every_transport, pool, returns, until};
use pool_runtime::{Job, Pool, task};
use std::path::{Path, PathBuf};

over_every_transport! {
    in_a_map,
    in_jobs_one_by_one,
    in_a_pool_that_was_closed_meanwhile,
    in_several_workers_at_once,
    behind_a_slow_one_that_everybody_waits_for,
}

/// Short, but for one.
#[task]
fn mostly_short(n: u32, slow: u32, begun: &Path, release: &Path) -> u32 {
    if n == slow {
        give(begun);
        await_given(release);
    }
    n
}

/// Calls of the task have been short, so that they are sent many at a time.
fn warm(pool: &Pool) {
    let nowhere = Path::new("");
    for _ in 0..3 {
        pool.map(|n| mostly_short::call(n, u32::MAX, nowhere, nowhere), 0..2000).unwrap();
    }
}

fn signals() -> (Signals, PathBuf, PathBuf) {
    let signals = Signals::new();
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    (signals, begun, release)
}

fn in_a_map() {
    for slow in [0, 1, 500, 998, 999] {
        let (pool, (signals, begun, release)) = (pool(2), signals());
        warm(&pool);
        let before = pool.stats().done;
        let map = pool.map_async(|n| mostly_short::call(n, slow, &begun, &release), 0..1000);
        until("all others are done", || pool.stats().done == before + 999);
        signals.await_given("begun");
        assert!(!map.is_ready());
        signals.give("release");
        assert!(map.get().unwrap().into_iter().eq(0..1000));
    }
}

fn in_jobs_one_by_one() {
    for slow in [0, 1, 2, 50, 99] {
        let (pool, (signals, begun, release)) = (pool(2), signals());
        warm(&pool);
        let jobs: Vec<Job<u32>> =
            (0..100).map(|n| pool.apply_async(mostly_short::call(n, slow, &begun, &release))).collect();
        let ready = |job: &Job<u32>| job.wait(crate::support::PATIENCE);
        assert!((0..).zip(&jobs).all(|(n, job)| n == slow || ready(job)));
        signals.await_given("begun");
        assert!(!jobs[slow as usize].is_ready());
        signals.give("release");
        for (n, job) in (0..).zip(jobs) {
            assert_eq!(job.get().unwrap(), n);
        }
    }
}

fn in_a_pool_that_was_closed_meanwhile() {
    for slow in [0, 1, 500, 998] {
        let (pool, (signals, begun, release)) = (pool(2), signals());
        warm(&pool);
        let before = pool.stats().done;
        let map = pool.map_async(|n| mostly_short::call(n, slow, &begun, &release), 0..1000);
        pool.close();
        until("all others are done", || pool.stats().done == before + 999);
        signals.give("release");
        assert!(map.get().unwrap().into_iter().eq(0..1000));
        returns("join", move || pool.join()).unwrap();
    }
}

fn in_several_workers_at_once() {
    let (pool, (signals, begun, release)) = (pool(3), signals());
    warm(&pool);
    let before = pool.stats().done;
    let jobs: Vec<Job<u32>> =
        (0..300).map(|n| pool.apply_async(mostly_short::call(n, n / 150 * 150, &begun, &release))).collect();
    until("all but the two slow ones are done", || pool.stats().done == before + 298);
    assert!(!jobs[0].is_ready() && !jobs[150].is_ready());
    signals.give("release");
    assert!(jobs.into_iter().map(|job| job.get().unwrap()).eq(0..300));
}

fn behind_a_slow_one_that_everybody_waits_for() {
    // The slow one is let go by a call that was submitted later, and may have been sent behind it.
    #[task]
    fn let_go(release: &Path) {
        give(release);
    }
    let (pool, (_signals, begun, release)) = (pool(2), signals());
    warm(&pool);
    for _ in 0..200 {
        pool.apply(let_go::call(&release)).unwrap();
    }
    for _ in 0..20 {
        std::fs::remove_file(&release).unwrap();
        let slow = pool.apply_async(mostly_short::call(0, 0, &begun, &release));
        let short: Vec<_> = (1..10).map(|n| pool.apply_async(mostly_short::call(n, 0, &begun, &release))).collect();
        let key = pool.apply_async(let_go::call(&release));
        assert_eq!(slow.get().unwrap(), 0);
        key.get().unwrap();
        assert!(short.into_iter().map(|job| job.get().unwrap()).eq(1..10));
    }
}
