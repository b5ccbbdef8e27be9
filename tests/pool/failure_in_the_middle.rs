//! A call that panics, or returns an error, fails alone, at its own index, however long its text is.

use crate::support::{over_every_transport, pool, until};
use pool_runtime::{Error, Ran, Result, task};

over_every_transport! {
    only_the_call_that_panics_fails,
    map_fails_with_its_first_failure_and_runs_the_others,
    a_long_error_text_arrives_whole,
}

#[task]
fn odd_only(n: u32) -> u32 {
    assert!(n % 2 == 1, "{n} is even");
    n
}

#[task]
fn one_panic(n: u32, at: u32) -> u32 {
    assert_ne!(n, at, "this one");
    n
}

#[task]
fn shout(length: usize) {
    panic!("{}", "x".repeat(length));
}

#[task]
fn fail(length: usize) -> Result<(), String> {
    Err("y".repeat(length))
}

/// `index` is that of the input, where there are several.
fn check(error: &Error, n: u32, index: Option<usize>) {
    assert!(error.is_panic() && !error.is_worker_lost() && !error.is_timeout() && !error.is_cancelled());
    assert_eq!(error.ran(), Ran::Yes);
    let panic = error.panic().unwrap();
    assert_eq!(panic.message(), format!("{n} is even"));
    assert!(panic.file().unwrap().ends_with("tests/pool/failure_in_the_middle.rs"));
    assert_eq!(error.task_name(), Some("pool::failure_in_the_middle::odd_only"));
    let text = error.to_string();
    let place = format!("{}:{}:{}", panic.file().unwrap(), panic.line().unwrap(), panic.column().unwrap());
    assert_eq!(error.index(), index);
    let input = index.map_or_else(String::new, |index| format!(" (input {index})"));
    let whole = format!("task `pool::failure_in_the_middle::odd_only`{input} panicked at {place}: {n} is even");
    assert_eq!(text, whole);
}

fn only_the_call_that_panics_fails() {
    let pool = pool(2);
    until("both workers are there", || pool.workers().len() == 2);
    let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    let jobs: Vec<_> = (0..100).map(|n| pool.apply_async(odd_only::call(n))).collect();
    for (n, job) in (0..).zip(jobs) {
        let id = job.id();
        match job.get() {
            Ok(value) => assert_eq!((value, n % 2), (n, 1)),
            Err(error) => {
                check(&error, n, None);
                assert_eq!(error.job(), Some(id));
            }
        }
    }
    let results = pool.imap(odd_only::call, 0..100);
    for (n, result) in (0..).zip(results) {
        assert_eq!(result.is_ok(), n % 2 == 1);
        result.map_or_else(|error| check(&error, n, Some(n as usize)), |value| assert_eq!(value, n));
    }
    let (good, bad): (Vec<_>, Vec<_>) = pool.imap_unordered(odd_only::call, 0..100).partition(|result| result.is_ok());
    assert_eq!((good.len(), bad.len()), (50, 50));
    assert_eq!((pool.stats().done, pool.stats().failed), (150, 150));
    let still: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    assert!(still.iter().all(|pid| pids.contains(pid)), "a panic costs no worker: {pids:?} {still:?}");
}

fn map_fails_with_its_first_failure_and_runs_the_others() {
    let pool = pool(2);
    check(&pool.map(odd_only::call, 1..100).unwrap_err(), 2, Some(1));
    assert_eq!((pool.stats().done, pool.stats().failed), (50, 49), "after the failure all others have run");
    for at in [0, 499, 999] {
        let error = pool.map(|n| one_panic::call(n, at), 0..1000).unwrap_err();
        assert!(error.panic().unwrap().message().contains("this one"));
    }
    assert_eq!(pool.map(|n| one_panic::call(n, 1000), 0..1000).unwrap().len(), 1000);
}

fn a_long_error_text_arrives_whole() {
    const LENGTH: usize = 1 << 20;
    let pool = pool(2);
    let jobs: Vec<_> = (0..4).map(|_| pool.apply_async(shout::call(LENGTH))).collect();
    let values: Vec<_> = (0..4).map(|_| pool.apply_async(fail::call(LENGTH))).collect();
    for job in jobs {
        let error = job.get().unwrap_err();
        assert_eq!(error.panic().unwrap().message().len(), LENGTH);
        assert!(error.panic().unwrap().line().is_some());
    }
    for value in values {
        assert_eq!(value.get().unwrap().unwrap_err().len(), LENGTH);
    }
    let error = pool.map(shout::call, [LENGTH, 1]).unwrap_err();
    assert_eq!(error.panic().unwrap().message().len(), LENGTH);
    assert_eq!(pool.apply(one_panic::call(1, 2)).unwrap(), 1);
}
