//! Calls that a worker was already sent, and has not started, never run once nobody waits for them: an `imap` was
//! dropped, the inputs of a `map` panicked, or only what waits was cancelled. What runs goes on.

use crate::support::{Signals, await_given, count, give, over_every_transport, pool, until};
use pool_runtime::{Job, Pool, task};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

over_every_transport! {
    a_dropped_imap_leaves_only_what_runs,
    a_map_whose_inputs_panic_leaves_only_what_runs,
    cancelling_what_waits_hits_a_call_in_a_worker_and_not_the_one_that_runs,
    cancelling_what_waits_leaves_a_call_that_runs_its_retries,
    of_a_map_what_has_not_started_is_cancelled,
    a_job_runs_from_its_start_to_its_end,
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

/// Of another task, so that the pool goes on believing that `step` is short.
#[task]
fn hold(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

#[task(retries = 1)]
fn die_once(begun: &Path, release: &Path) -> u32 {
    let first = !begun.exists();
    count(begun);
    await_given(release);
    if first {
        std::process::abort();
    }
    7
}

struct Place {
    pool: Pool,
    signals: Signals,
    ran: PathBuf,
    release: PathBuf,
}

impl Place {
    /// A pool of one worker that believes that `step` is short: then several calls are sent to the worker at a time.
    fn new() -> Self {
        let (pool, signals) = (pool(1), Signals::new());
        let (ran, release, nowhere) = (signals.path("ran"), signals.path("release"), signals.path("warm"));
        std::fs::create_dir(&ran).unwrap();
        std::fs::create_dir(&nowhere).unwrap();
        for _ in 0..3 {
            pool.map(|n| step::call(n, false, &nowhere, &nowhere), 0..500).unwrap();
        }
        Self { pool, signals, ran, release }
    }

    fn runs(&self, n: u32) -> usize {
        std::fs::read(self.ran.join(n.to_string())).map_or(0, |counted| counted.len())
    }

    fn await_run(&self, n: u32) {
        await_given(&self.ran.join(n.to_string()));
    }

    fn step(&self, n: u32) -> impl pool_runtime::TaskCall<Output = u32> {
        step::call(n, n > 0, &self.ran, &self.release)
    }

    /// Calls 0 to `calls`, sent to the worker together. 0 has ended, and 1 runs.
    fn sent_together(&self, calls: u32) -> Vec<Job<u32>> {
        let gate = self.signals.path("gate");
        let first = self.pool.apply_async(hold::call(&self.signals.path("held"), &gate));
        self.signals.await_given("held");
        let jobs = (0..calls).map(|n| self.pool.apply_async(self.step(n))).collect();
        give(&gate);
        first.get().unwrap();
        self.await_run(1);
        until("the first one has ended", || self.pool.stats().waiting + self.pool.stats().running < calls as usize);
        assert!(self.pool.stats().running > 1, "sent together: {:?}", self.pool.stats());
        jobs
    }

    /// Only call 1 is left, and it is let go: the pool is free at once, with the same worker.
    fn is_free(&self, worker: u32) {
        until("the calls that were sent ahead are back", || self.pool.stats().waiting + self.pool.stats().running == 1);
        give(&self.release);
        assert_eq!(self.pool.apply(pid::call()).unwrap(), worker, "no worker was killed");
        assert_eq!((self.runs(1), self.runs(2), self.runs(3)), (1, 0, 0));
    }
}

fn a_dropped_imap_leaves_only_what_runs() {
    let place = Place::new();
    let worker = place.pool.apply(pid::call()).unwrap();
    let mut results = place.pool.imap(|n| place.step(n), 0..4).chunk_size(4);
    assert_eq!(results.next().unwrap().unwrap(), 0);
    place.await_run(1);
    assert!(place.pool.stats().running > 1, "sent ahead: {:?}", place.pool.stats());
    drop(results);
    place.is_free(worker);
}

fn a_map_whose_inputs_panic_leaves_only_what_runs() {
    for asynchronous in [false, true] {
        let place = Place::new();
        let worker = place.pool.apply(pid::call()).unwrap();
        // Batches of four: the first one is with the worker when the fifth input is read.
        let inputs = (0..64).inspect(|n| {
            if *n == 4 {
                place.await_run(1);
                assert!(place.pool.stats().running > 1, "sent ahead: {:?}", place.pool.stats());
                panic!("no more inputs");
            }
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| match asynchronous {
            false => drop(place.pool.map(|n| place.step(n), inputs)),
            true => drop(place.pool.map_async(|n| place.step(n), inputs)),
        }));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"no more inputs"));
        place.is_free(worker);
    }
}

fn cancelling_what_waits_hits_a_call_in_a_worker_and_not_the_one_that_runs() {
    let place = Place::new();
    let worker = place.pool.apply(pid::call()).unwrap();
    let jobs = place.sent_together(6);
    assert!(!jobs[1].cancel_waiting(), "it runs");
    assert!(!jobs[0].cancel_waiting(), "it has ended");
    assert!(jobs[3].cancel_waiting());
    assert!(jobs[3].is_ready() && !jobs[3].cancel_waiting(), "at once, and once");
    let with_callback = place.pool.apply_async(place.step(9)).on_done(|_| {});
    assert!(with_callback.cancel_waiting());
    give(&place.release);
    for (n, job) in (0..).zip(jobs) {
        match job.get() {
            Ok(value) => assert!(value == n && n != 3),
            Err(error) => assert!(n == 3 && error.is_cancelled() && error.ran() == pool_runtime::Ran::No, "{error}"),
        }
    }
    assert!(with_callback.get().unwrap_err().is_cancelled());
    assert_eq!((place.runs(3), place.runs(4), place.runs(9)), (0, 1, 0));
    assert_eq!(place.pool.apply(pid::call()).unwrap(), worker, "no worker was killed");
}

fn cancelling_what_waits_leaves_a_call_that_runs_its_retries() {
    let (pool, signals) = (pool(1), Signals::new());
    let job = pool.apply_async(die_once::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    assert!(!job.cancel_waiting());
    signals.give("release");
    assert_eq!(job.get().unwrap(), 7, "tried again");
    assert_eq!(signals.counted("begun"), 2);
}

fn of_a_map_what_has_not_started_is_cancelled() {
    let place = Place::new();
    let map = place.pool.map_async(|n| place.step(n), 0..40);
    place.await_run(1);
    assert!(map.is_running());
    assert!(map.cancel_waiting());
    assert!(!map.is_ready(), "one still runs");
    assert!(!map.cancel_waiting());
    give(&place.release);
    assert!(map.get().unwrap_err().is_cancelled());
    assert_eq!((place.runs(0), place.runs(1), place.runs(2), place.runs(39)), (1, 1, 0, 0));
}

fn a_job_runs_from_its_start_to_its_end() {
    let place = Place::new();
    let jobs = place.sent_together(4);
    let running: Vec<bool> = jobs.iter().map(Job::is_running).collect();
    assert_eq!(running, [false, true, false, false], "the last ones wait in the worker");
    give(&place.release);
    for job in &jobs {
        assert!(job.wait(crate::support::PATIENCE));
        assert!(!job.is_running());
    }
    let cancelled = place.pool.apply_async(step::call(50, true, &place.ran, &place.signals.path("never")));
    place.await_run(50);
    assert!(cancelled.is_running());
    assert!(cancelled.cancel() && !cancelled.is_running());
}
