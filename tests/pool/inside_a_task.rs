//! A task makes a pool. What that leaves behind ends with its worker, and recursion without end is refused.

use crate::support::{Signals, await_given, builder, exists, is_alive, over_every_transport, pool, until};
use pool_runtime::{current_process, parent_process, task};
use std::path::Path;

over_every_transport! {
    a_task_uses_a_pool_of_its_own,
    names_tell_who_is_whose,
    workers_of_a_worker_end_with_it,
    recursion_without_end_is_refused,
}

#[task]
fn square(n: u64) -> u64 {
    n * n
}

#[task]
fn sum_of_squares(up_to: u64) -> Result<u64, String> {
    let squares = pool(2).map(square::call, 0..=up_to).map_err(|error| error.to_string())?;
    Ok(squares.into_iter().sum())
}

#[task]
fn chain() -> Vec<String> {
    let parent = parent_process().map(|parent| parent.name().to_owned());
    [current_process().name().to_owned()].into_iter().chain(parent).collect()
}

#[task]
fn chain_below() -> Vec<String> {
    let pool = builder().processes(1).name("inner").build().unwrap();
    pool.apply(chain::call()).unwrap()
}

/// Makes a pool, leaves it as it is, and says who its workers are.
#[task]
fn leave_a_pool(signal: &Path) -> Vec<u32> {
    let pool = pool(2);
    let jobs: Vec<_> = (0..2).map(|_| pool.apply_async(wait::call(signal))).collect();
    until("both run", || pool.stats().running == 2);
    let pids = pool.workers().iter().map(|worker| worker.pid).collect();
    std::mem::forget((pool, jobs));
    pids
}

#[task]
fn wait(signal: &Path) {
    await_given(signal);
}

#[task]
fn descend(depth: u32) -> String {
    match builder().processes(1).build().map(|pool| pool.apply(descend::call(depth + 1))) {
        Ok(result) => result.unwrap_or_else(|error| format!("lost: {error}")),
        Err(error) => format!("{depth}: {error}"),
    }
}

fn a_task_uses_a_pool_of_its_own() {
    let pool = pool(2);
    let sums = pool.map(sum_of_squares::call, [0, 1, 10, 100]).unwrap();
    assert_eq!(sums, [Ok(0), Ok(1), Ok(385), Ok(338_350)]);
}

fn names_tell_who_is_whose() {
    let pool = builder().processes(1).name("outer").build().unwrap();
    assert_eq!(pool.apply(chain::call()).unwrap(), ["outer-1", "MainProcess"]);
    assert_eq!(pool.apply(chain_below::call()).unwrap(), ["inner-1", "outer-1"]);
}

fn workers_of_a_worker_end_with_it() {
    let (pool, signals) = (pool(1), Signals::new());
    let below = pool.apply(leave_a_pool::call(&signals.path("never"))).unwrap();
    assert!(below.iter().all(|pid| exists(*pid)));
    pool.terminate();
    pool.join().unwrap();
    until("they have ended", || !below.iter().any(|pid| is_alive(*pid)));
}

fn recursion_without_end_is_refused() {
    let bottom = descend(0);
    let (depth, reason) = bottom.split_once(": ").unwrap();
    assert_eq!(depth, "16", "{bottom}");
    assert_eq!(
        reason,
        "processes are nested 16 deep: a task that starts processes whose tasks start processes has no end"
    );
}
