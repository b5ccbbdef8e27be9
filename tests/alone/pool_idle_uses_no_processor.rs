//! A pool that has nothing to do uses no processor, and neither does the program that has it.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Pool, pool_main, task};
use std::time::Duration;
use support::{builder, over_every_transport, pids, pool, until};

pool_main!();

over_every_transport! { in_turn: a_pool_of_eight_that_is_idle, one_whose_memory_has_a_limit }

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

/// How long all threads of a process have run.
fn time_used(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let nanos = threads.flatten().filter_map(|thread| {
        // A thread may end meanwhile.
        let schedule = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedule.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn a_pool_of_eight_that_is_idle() {
    uses_nothing(&pool(8));
}

fn one_whose_memory_has_a_limit() {
    uses_nothing(&builder().processes(8).memory(1 << 30).build().unwrap());
}

fn uses_nothing(pool: &Pool) {
    until("all are there", || pids(pool).len() == 8);
    for _ in 0..2 {
        assert_eq!(pool.map(double::call, 0..10_000).unwrap()[9999], 19_998);
        (0..500).for_each(|n| assert_eq!(pool.apply(double::call(n)).unwrap(), 2 * n));
        let all: Vec<u32> = pids(pool).into_iter().chain([std::process::id()]).collect();
        let used = || all.iter().map(|pid| time_used(*pid)).sum::<Duration>();
        // Whoever has listened goes to sleep by and by.
        std::thread::sleep(Duration::from_millis(100));
        let before = used();
        // Nothing is waited for: this is the interval that is measured, in which nothing is to happen.
        std::thread::sleep(Duration::from_secs(1));
        let idle = used() - before;
        // Spinning would take as much as there are processors; reading these numbers takes a little.
        assert!(idle < Duration::from_millis(20), "{idle:?} in a second");
    }
}
