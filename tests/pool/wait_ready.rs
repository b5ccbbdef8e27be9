//! `wait_ready` waits until all workers take calls, or says why they will not.

use crate::support::{PATIENCE, Signals, await_given, builder, count, over_every_transport};
use pool_runtime::{Backend, Pool, WorkerState, task};
use std::{fs::OpenOptions, path::Path, thread, time::Duration};

over_every_transport! {
    all_workers_are_warm,
    a_worker_that_starts_slowly_is_waited_for,
    closing_the_pool_ends_the_wait,
    a_worker_that_cannot_start_is_an_error_that_says_why,
}

/// Whether nobody was first before.
fn is_first(file: &Path) -> bool {
    OpenOptions::new().write(true).create_new(true).open(file).is_ok()
}

#[task(initializer)]
fn warm_up(warm: &Path) {
    count(warm);
}

/// All but the first wait for the signal.
#[task(initializer)]
fn one_is_early(first: &Path, release: &Path) {
    if !is_first(first) {
        await_given(release);
    }
}

#[task(initializer)]
fn one_is_enough(first: &Path) -> Result<(), String> {
    is_first(first).then_some(()).ok_or("there is one already".into())
}

fn all_workers_are_warm() {
    let signals = Signals::new();
    let pool = builder().processes(3).initializer(warm_up::call(&signals.path("warm"))).build().unwrap();
    pool.wait_ready(None).unwrap();
    assert_eq!(signals.counted("warm"), 3);
    assert!(pool.workers().iter().all(|worker| worker.state == WorkerState::Idle), "{:?}", pool.workers());
    pool.wait_ready(Duration::ZERO).unwrap();
}

fn a_worker_that_starts_slowly_is_waited_for() {
    let signals = Signals::new();
    let call = one_is_early::call(&signals.path("first"), &signals.path("release"));
    let pool = builder().processes(2).initializer(call).build().unwrap();
    for patience in [Duration::ZERO, Duration::from_millis(1)] {
        let error = pool.wait_ready(patience).unwrap_err();
        assert!(error.is_timeout() && !error.is_closed(), "{error}");
        assert!(error.to_string().contains("not all started yet"), "{error}");
    }
    signals.give("release");
    pool.wait_ready(PATIENCE).unwrap();
    assert_eq!(pool.workers().len(), 2);
}

fn closing_the_pool_ends_the_wait() {
    for (end, word) in [(Pool::close as fn(&Pool), "closed"), (Pool::terminate, "terminated")] {
        let signals = Signals::new();
        let call = one_is_early::call(&signals.path("first"), &signals.path("release"));
        let pool = builder().processes(2).initializer(call).build().unwrap();
        let error = thread::scope(|scope| {
            let waits = scope.spawn(|| pool.wait_ready(None).unwrap_err());
            end(&pool);
            waits.join().unwrap()
        });
        assert!(error.is_closed() && error.to_string().contains(word), "{error}");
        signals.give("release");
    }
}

fn a_worker_that_cannot_start_is_an_error_that_says_why() {
    let signals = Signals::new();
    let call = one_is_enough::call(&signals.path("first"));
    let pool = builder().processes(2).initializer(call).build().unwrap();
    let error = pool.wait_ready(PATIENCE).unwrap_err();
    assert!(!error.is_timeout() && error.to_string().contains("there is one already"), "{error}");
    assert!(pool.is_open());
}

#[test]
fn where_there_are_no_workers_nothing_is_waited_for() {
    let pool = Pool::builder().processes(4).backend(Backend::Inline).build().unwrap();
    pool.wait_ready(Duration::ZERO).unwrap();
    pool.close();
    assert!(pool.wait_ready(None).unwrap_err().is_closed());
}
