//! Workers that have grown or are old are replaced between two calls; no call is lost by that.

use crate::support::{builder, over_every_transport, pids, until};
use pool_runtime::task;
use std::{collections::HashSet, time::Duration};

over_every_transport! {
    a_worker_that_has_grown_is_replaced,
    a_worker_that_is_old_is_replaced,
    an_idle_worker_is_left_alone,
    short_calls_in_great_number_are_all_run,
}

#[task]
fn leak(bytes: usize) -> u32 {
    std::mem::forget(vec![1u8; bytes]);
    std::process::id()
}

fn a_worker_that_has_grown_is_replaced() {
    let pool = builder().processes(1).max_memory_per_child(64 << 20).build().unwrap();
    let before = pids(&pool);
    assert_eq!(vec![pool.apply(leak::call(1000)).unwrap()], before);
    assert_eq!(vec![pool.apply(leak::call(100 << 20)).unwrap()], before, "it is not killed for it");
    until("the worker is replaced", || pids(&pool).len() == 1 && pids(&pool) != before);
    assert_eq!(pool.stats().failed, 0);
    // One that leaks with each call is replaced again and again.
    let workers: HashSet<u32> = pool.map(|_| leak::call(8 << 20), 0..64).unwrap().into_iter().collect();
    assert!(workers.len() > 1, "{workers:?}");
}

fn a_worker_that_is_old_is_replaced() {
    let pool = builder().processes(1).max_age_per_child(Duration::from_millis(20)).build().unwrap();
    let first = pool.apply(leak::call(1)).unwrap();
    until("the worker is replaced", || pool.apply(leak::call(1)).unwrap() != first);
    let second = pool.apply(leak::call(1)).unwrap();
    until("its successor, too", || pool.apply(leak::call(1)).unwrap() != second);
}

fn an_idle_worker_is_left_alone() {
    let pool = builder().processes(1).max_age_per_child(Duration::from_millis(1)).build().unwrap();
    let before = pids(&pool);
    let other = builder().processes(1).max_age_per_child(Duration::from_millis(1)).build().unwrap();
    // Meanwhile this one grows old several times.
    for _ in 0..5 {
        other.apply(leak::call(1)).unwrap();
    }
    assert_eq!(pids(&pool), before);
}

fn short_calls_in_great_number_are_all_run() {
    let age = Duration::from_millis(30);
    let pool = builder().processes(2).max_age_per_child(age).max_memory_per_child(32 << 20).build().unwrap();
    let workers = pool.map(|_| leak::call(1 << 10), 0..100_000).unwrap();
    assert_eq!(workers.len(), 100_000);
    assert_eq!((pool.stats().done, pool.stats().failed), (100_000, 0));
    let workers: HashSet<u32> = workers.into_iter().collect();
    assert!(workers.len() > 2, "{workers:?}");
}
