//! 100,000 jobs wait where 256 descriptors are allowed, and hold none.

pool_runtime::pool_main!();

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Job, task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use support::{Signals, await_given, descriptors, over_every_transport, pool, threads, until};

over_every_transport! { in_turn: waiting_jobs_hold_no_descriptors }

#[task]
fn wait(signal: &Path) {
    await_given(signal);
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

// Nothing else runs in this program: the limit and the counts are the whole process's.
fn waiting_jobs_hold_no_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).unwrap();
    let (pool, signals) = (pool(2), Signals::new());
    let release = signals.path("release");
    let blocking: Vec<Job<()>> = (0..2).map(|_| pool.apply_async(wait::call(&release))).collect();
    until("both workers run", || pool.stats().running == 2);
    // The threads that pass on what workers print hold a few for moments.
    let (bound, threads_before) = (descriptors().len() + 10, threads());
    let jobs: Vec<Job<u32>> = (0..100_000).map(|n| pool.apply_async(double::call(n))).collect();
    assert_eq!(pool.stats().waiting, 100_000);
    assert!(descriptors().len() < bound, "{} are open", descriptors().len());
    assert!(threads() <= threads_before + 2, "{} threads, then {}", threads_before, threads());
    signals.give("release");
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.get().unwrap(), 2 * n);
    }
    blocking.into_iter().for_each(|job| job.get().unwrap());
    assert!(descriptors().len() < bound, "{} are open", descriptors().len());
}
