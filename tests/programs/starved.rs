//! Parts of the scenarios: a program that the system gives no more descriptors, processes or memory.

use super::{double, interrupted::meet, pool, say, twice};
use pool_runtime::{Pool, Result, Shared, WorkerState, task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};

/// While it lives, there is no more of something. Nothing is to be printed meanwhile: that may be refused too.
struct Shortage(Resource, Rlimit);

impl Shortage {
    fn of(what: &str) -> Self {
        let (resource, limit) = match what {
            // The lowest number that is not in use.
            "descriptors" => (Resource::Nofile, File::open("/dev/null").expect("a descriptor").as_raw_fd() as u64),
            // Threads are counted too.
            "processes" => (Resource::Nproc, 0),
            // Memory that is shared is a file, which can have a size.
            "memory" => (Resource::Fsize, 0),
            // Enough for pages, and not for rings.
            "memory-for-rings" => (Resource::Fsize, 1 << 16),
            unknown => panic!("no shortage of {unknown:?}"),
        };
        Self::within(resource, limit)
    }

    fn within(resource: Resource, limit: u64) -> Self {
        let before = getrlimit(resource);
        setrlimit(resource, Rlimit { current: Some(limit), ..before }).expect("a limit");
        Self(resource, before)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        setrlimit(self.0, self.1).expect("a limit");
    }
}

/// What becomes of a pool that is made during the shortage, and of one after it.
pub(super) fn at_start(what: &str) -> Result<()> {
    let shortage = Shortage::of(what);
    let outcome = double("21");
    drop(shortage);
    say(outcome);
    say(double("4"));
    Ok(())
}

#[task]
fn bytes(length: usize) -> Vec<u8> {
    vec![1; length]
}

#[task]
fn texts(length: usize) -> Vec<String> {
    vec!["x".repeat(length / 100); 100]
}

/// What becomes of results for which this process has no addresses left, and of one after it.
pub(super) fn of_addresses() -> Result<()> {
    const LENGTH: usize = 200 << 20;
    let starved = |work: &dyn Fn(&Pool) -> Result<usize>| {
        // Of its own: a worker that is started meanwhile would have as few addresses.
        let pool = pool(1)?;
        await_ready(&pool, 1);
        // The thread that listens has begun by then: the standard library ends a program that has no memory for what a new
        // thread needs.
        let job = pool.apply_async(twice::call(1));
        while !job.is_ready() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
        let shortage = Shortage::within(Resource::As, pages * 4096 + (64 << 20));
        let outcome = work(&pool);
        drop(shortage);
        say(outcome.map_or_else(|error| format!("error: {error}"), |length| length.to_string()));
        Ok::<_, pool_runtime::Error>(())
    };
    starved(&|pool| pool.apply(bytes::call(LENGTH)).map(|bytes| bytes.len()))?;
    starved(&|pool| pool.apply(texts::call(LENGTH)).map(|texts| texts.len()))?;
    starved(&|pool| pool.map(bytes::call, [1, LENGTH]).map(|all| all.len()))?;
    say(pool(1)?.apply(texts::call(LENGTH / 10))?.iter().map(String::len).sum::<usize>());
    Ok(())
}

/// What becomes of a shared slice of so many bytes.
pub(super) fn share(bytes: usize) -> Result<()> {
    say(Shared::from_fn(bytes, |_| 1_u8)
        .map_or_else(|error| format!("error: {error:?}"), |slice| slice.len().to_string()));
    Ok(())
}

fn ready(pool: &Pool) -> Vec<u32> {
    let workers = pool.workers();
    workers.iter().filter(|worker| worker.state == WorkerState::Idle).map(|worker| worker.pid).collect()
}

fn await_ready(pool: &Pool, count: usize) -> Vec<u32> {
    while ready(pool).len() < count {
        std::thread::sleep(Duration::from_millis(2));
    }
    ready(pool)
}

fn kill(pid: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// Longer than a worker that cannot start at all is tried again.
const LONG: Duration = Duration::from_secs(1);

/// A worker has to be replaced during the shortage, while another one works.
pub(super) fn while_another_works(what: &str, directory: &Path) -> Result<()> {
    let pool = pool(2)?;
    let before = await_ready(&pool, 2);
    let shortage = Shortage::of(what);
    kill(before[0]);
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < LONG {
        assert_eq!(pool.apply(twice::call(calls))?, 2 * calls);
        calls += 1;
    }
    drop(shortage);
    let after = await_ready(&pool, 2);
    assert!(after.contains(&before[1]) && !after.contains(&before[0]));
    let jobs: Vec<_> = (0..2).map(|own| pool.apply_async(meet::call(directory.to_owned(), own, 2))).collect();
    let met: Vec<u32> = jobs.into_iter().map(|job| job.get()).collect::<Result<_>>()?;
    assert!(met.iter().all(|pid| after.contains(pid)) && met[0] != met[1]);
    say(format!("{} of 2 work", met.len()));
    Ok(())
}

/// The only worker has to be replaced during the shortage, while calls wait.
pub(super) fn while_calls_wait(what: &str) -> Result<()> {
    let pool = pool(1)?;
    let before = await_ready(&pool, 1);
    let shortage = Shortage::of(what);
    kill(before[0]);
    let jobs: Vec<_> = (0..100).map(|n| pool.apply_async(twice::call(n))).collect();
    std::thread::sleep(LONG);
    drop(shortage);
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.get()?, 2 * n);
    }
    say("none is lost");
    Ok(())
}

/// The pool is terminated during the shortage.
pub(super) fn terminated(what: &str) -> Result<()> {
    let pool = pool(2)?;
    let before = await_ready(&pool, 2);
    let shortage = Shortage::of(what);
    before.into_iter().for_each(kill);
    let job = pool.apply_async(twice::call(1));
    pool.terminate();
    let joined = pool.join();
    drop(shortage);
    joined?;
    assert!(job.get().is_err());
    say("joined");
    Ok(())
}
