//! A worker is replaced after `max_tasks_per_child` calls, by then at the latest; no result is lost, also with 1 and
//! after an early close.

use crate::support::{builder, over_every_transport, returns};
use pool_runtime::{Pool, Result, task};
use std::{collections::HashMap, sync::atomic};

over_every_transport! {
    one_worker_does_exactly_so_many_calls,
    calls_submitted_in_each_way_count,
    several_workers_are_replaced_independently,
    a_call_that_panics_counts,
    what_waits_at_an_early_close_is_done_by_new_workers,
    closing_in_the_midst_of_replacements_ends,
}

#[task]
fn who(n: u32) -> (u32, u32, u64) {
    static CALLS: atomic::AtomicU64 = atomic::AtomicU64::new(0);
    (n, std::process::id(), CALLS.fetch_add(1, atomic::Ordering::Relaxed) + 1)
}

#[task]
fn panics(n: u32) -> u32 {
    panic!("{n} in {}", std::process::id());
}

fn limited(processes: usize, tasks: u64) -> Pool {
    builder().processes(processes).max_tasks_per_child(tasks).build().unwrap()
}

/// All results are there, and no process has done more than it may. Returns how many processes there were.
fn check(results: &[(u32, u32, u64)], tasks: u64) -> usize {
    assert!(results.iter().map(|(n, ..)| *n).eq(0..results.len() as u32), "whole, and in order");
    let mut most: HashMap<u32, u64> = HashMap::new();
    for (_, pid, calls) in results {
        let calls_of_process = most.entry(*pid).or_default();
        *calls_of_process = (*calls_of_process).max(*calls);
    }
    assert!(most.values().all(|calls| *calls <= tasks), "{most:?}");
    assert_eq!(most.values().sum::<u64>(), results.len() as u64, "each call has run once");
    most.len()
}

fn one_worker_does_exactly_so_many_calls() {
    for (tasks, inputs) in [(1, 8), (3, 12), (100, 250)] {
        let pool = limited(1, tasks);
        let results = pool.map(who::call, 0..inputs).unwrap();
        assert_eq!(check(&results, tasks), inputs.div_ceil(tasks as u32) as usize);
        let next = pool.apply(who::call(0)).unwrap();
        assert_eq!(next.2, u64::from(inputs) % tasks + 1);
    }
}

fn calls_submitted_in_each_way_count() {
    let pool = limited(2, 5);
    let results: Vec<_> = (0..20).map(|n| pool.apply(who::call(n)).unwrap()).collect();
    check(&results, 5);
    // Workers that have begun before would have counted calls of before.
    let pool = limited(2, 5);
    let jobs: Vec<_> = (0..40).map(|n| pool.apply_async(who::call(n))).collect();
    check(&jobs.into_iter().map(|job| job.get().unwrap()).collect::<Vec<_>>(), 5);
}

fn several_workers_are_replaced_independently() {
    let pool = limited(3, 2);
    let results: Vec<_> = pool.imap(who::call, 0..40).collect::<Result<_>>().unwrap();
    assert!(check(&results, 2) >= 20);
    assert_eq!((pool.stats().done, pool.stats().failed), (40, 0));
    assert_eq!(pool.processes(), 3);
}

fn a_call_that_panics_counts() {
    let pool = limited(1, 2);
    let pid = |n| {
        let error = pool.apply(panics::call(n)).unwrap_err();
        error.panic().unwrap().message().split_once(" in ").unwrap().1.parse::<u32>().unwrap()
    };
    let pids: Vec<u32> = (0..4).map(pid).collect();
    assert_eq!((pids[0], pids[2]), (pids[1], pids[3]));
    assert_ne!(pids[0], pids[2]);
}

fn what_waits_at_an_early_close_is_done_by_new_workers() {
    for tasks in [1, 4] {
        let pool = limited(2, tasks);
        let jobs: Vec<_> = (0..20).map(|n| pool.apply_async(who::call(n))).collect();
        pool.close();
        let pool = returns("join", move || {
            pool.join().unwrap();
            pool
        });
        let results: Vec<_> = jobs.into_iter().map(|job| job.get().unwrap()).collect();
        assert!(check(&results, tasks) >= 20 / tasks as usize);
        assert_eq!(pool.workers(), []);
    }
}

fn closing_in_the_midst_of_replacements_ends() {
    for calls in 0..10 {
        let pool = limited(2, 1);
        let jobs: Vec<_> = (0..calls).map(|n| pool.apply_async(who::call(n))).collect();
        if let Some(first) = jobs.into_iter().next() {
            first.get().unwrap();
        }
        pool.close();
        returns("join", move || pool.join()).unwrap();
    }
}
