//! A call is tried again only after its worker was lost or it took too long, only where that is allowed, and that is
//! counted; an `Err` and a panic are not tried again.

use crate::support::{Signals, builder, over_every_transport, pool};
use pool_runtime::{Ran, current_job, task};
use std::{path::Path, time::Duration};

over_every_transport! {
    a_call_whose_worker_dies_is_tried_again,
    a_call_that_takes_too_long_is_tried_again,
    it_is_given_up_after_so_many,
    errors_and_panics_are_not_tried_again,
    nothing_is_tried_again_unasked,
    a_call_that_waits_to_be_tried_again_can_be_cancelled,
    terminating_and_closing_with_calls_to_be_tried_again,
    each_input_of_a_map_is_tried_for_itself,
}

/// Dies until it has been called `deaths` times.
#[task]
fn die_first(calls: &Path, deaths: usize) -> (usize, u32) {
    crate::support::count(calls);
    let called = std::fs::read(calls).unwrap().len();
    if called <= deaths {
        std::process::abort();
    }
    (called, current_job().attempt())
}

fn a_call_whose_worker_dies_is_tried_again() {
    let signals = Signals::new();
    let pool = builder().processes(2).retry_delay(Duration::from_millis(1)).build().unwrap();
    assert_eq!(pool.apply(die_first::call(&signals.path("calls"), 2).retries(2)).unwrap(), (3, 3));
    assert_eq!((pool.stats().done, pool.stats().failed), (1, 0));
}

#[task(timeout = "50ms", retries = 3)]
fn hang_first(calls: &Path) -> usize {
    crate::support::count(calls);
    let called = std::fs::read(calls).unwrap().len();
    if called < 3 {
        crate::support::hang();
    }
    called
}

fn a_call_that_takes_too_long_is_tried_again() {
    let signals = Signals::new();
    let calls = signals.path("calls");
    assert_eq!(pool(1).apply(hang_first::call(&calls).timeout(Duration::from_millis(500))).unwrap(), 3);
}

fn it_is_given_up_after_so_many() {
    let signals = Signals::new();
    let pool = builder().processes(2).retries(2).retry_delay(Duration::from_millis(1)).build().unwrap();
    let error = pool.apply(die_first::call(&signals.path("calls"), 100)).unwrap_err();
    assert!(error.is_worker_lost(), "{error}");
    assert_eq!((error.signal(), error.attempts(), error.ran()), (Some(6), 3, Ran::Yes));
    assert!(error.to_string().contains("(3 attempts)"), "{error}");
    assert_eq!(error.dossier().unwrap().attempt(), Some(3));
    assert_eq!(signals.counted("calls"), 3);
}

#[task]
fn refuse(calls: &Path) -> Result<(), String> {
    crate::support::count(calls);
    Err("no".into())
}

#[task]
fn panics(calls: &Path) {
    crate::support::count(calls);
    panic!("no");
}

fn errors_and_panics_are_not_tried_again() {
    let signals = Signals::new();
    let pool = builder().processes(1).retries(5).retry_delay(Duration::ZERO).build().unwrap();
    assert_eq!(pool.apply(refuse::call(&signals.path("refused"))).unwrap(), Err("no".into()));
    let error = pool.apply(panics::call(&signals.path("panicked"))).unwrap_err();
    assert!(error.is_panic() && error.attempts() == 1);
    assert_eq!((signals.counted("refused"), signals.counted("panicked")), (1, 1));
}

fn nothing_is_tried_again_unasked() {
    let signals = Signals::new();
    let error = pool(1).apply(die_first::call(&signals.path("calls"), 1)).unwrap_err();
    assert_eq!((error.attempts(), signals.counted("calls")), (1, 1));
    let pool = builder().processes(1).retries(5).build().unwrap();
    let error = pool.apply(die_first::call(&signals.path("others"), 1).retries(0)).unwrap_err();
    assert_eq!((error.attempts(), signals.counted("others")), (1, 1));
}

fn a_call_that_waits_to_be_tried_again_can_be_cancelled() {
    let signals = Signals::new();
    let pool = builder().processes(1).retries(1).retry_delay(Duration::from_secs(3600)).build().unwrap();
    let pid = crate::support::pids(&pool);
    let job = pool.apply_async(die_first::call(&signals.path("calls"), 100));
    signals.await_given("calls");
    crate::support::until("its worker is replaced", || {
        pool.workers().iter().all(|worker| worker.state == pool_runtime::WorkerState::Idle && pid != [worker.pid])
            && pool.stats().waiting == 1
    });
    assert!(job.cancel());
    assert!(job.get().unwrap_err().is_cancelled());
    assert_eq!((pool.stats().waiting, pool.stats().failed, signals.counted("calls")), (0, 1, 1));
}

fn terminating_and_closing_with_calls_to_be_tried_again() {
    let signals = Signals::new();
    for close in [false, true] {
        let name = if close { "closed" } else { "terminated" };
        let delay = if close { Duration::from_millis(100) } else { Duration::from_secs(3600) };
        let pool = builder().processes(1).retries(1).retry_delay(delay).build().unwrap();
        let job = pool.apply_async(die_first::call(&signals.path(name), 1));
        signals.await_given(name);
        if close {
            pool.close();
            pool.join().unwrap();
            assert_eq!(job.get().unwrap(), (2, 2));
        } else {
            crate::support::until("it waits to be tried again", || pool.stats().waiting == 1);
            pool.terminate();
            pool.join().unwrap();
            let error = job.get().unwrap_err();
            assert!(error.is_closed() && error.ran() == Ran::Yes, "{error}");
        }
    }
}

#[task]
fn die_on_first_attempt(n: u32) -> u32 {
    if n % 10 == 3 && current_job().attempt() == 1 {
        std::process::abort();
    }
    n
}

fn each_input_of_a_map_is_tried_for_itself() {
    let pool = builder().processes(2).retries(1).retry_delay(Duration::from_millis(1)).build().unwrap();
    assert_eq!(pool.map(die_on_first_attempt::call, 0..100).unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(pool.stats().failed, 0);
}
