//! Join before close is an error; close, terminate and join may be called again, in any order; after close or
//! terminate, submitting is an error that says which.

use crate::support::{Signals, await_given, give, over_every_transport, pool, returns, until};
use pool_runtime::{Error, Pool, Ran, task};
use std::path::Path;

over_every_transport! {
    join_before_close_is_an_error,
    close_and_terminate_may_be_repeated,
    several_threads_may_join,
    after_close_submitting_is_an_error_and_what_runs_goes_on,
    after_terminate_submitting_is_an_error_and_what_runs_has_ended,
    terminate_ends_a_join_that_waits,
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

#[task]
fn wait(begun: &Path, release: &Path) -> u32 {
    give(begun);
    await_given(release);
    7
}

fn join_before_close_is_an_error() {
    let pool = pool(1);
    let error = pool.join().unwrap_err();
    assert_eq!(error.to_string(), "cannot join a pool that takes work: close or terminate it first");
    assert_eq!(pool.apply(double::call(2)).unwrap(), 4, "and the pool goes on");
    pool.close();
    pool.join().unwrap();
    pool.join().unwrap();
}

fn close_and_terminate_may_be_repeated() {
    let pool = pool(2);
    pool.close();
    pool.close();
    pool.terminate();
    pool.terminate();
    pool.close();
    pool.join().unwrap();
    pool.terminate();
    pool.close();
    pool.join().unwrap();
}

fn several_threads_may_join() {
    let pool = pool(2);
    pool.close();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pool.join().unwrap());
        }
    });
}

fn refused(error: &Error, how: &str) {
    assert!(error.is_closed());
    assert_eq!(error.ran(), Ran::No);
    let task = "pool::close_terminate_join::double";
    assert_eq!(error.task_name(), Some(task));
    assert_eq!(error.to_string(), format!("task `{task}` cannot be submitted: the pool is {how}"));
}

fn refuses(pool: &Pool, how: &str) {
    refused(&pool.apply(double::call(1)).unwrap_err(), how);
    let job = pool.apply_async(double::call(1));
    assert!(job.is_ready());
    assert_eq!(job.is_successful(), Some(false));
    assert!(!job.cancel());
    refused(&job.get().unwrap_err(), how);
    refused(&pool.map(double::call, 0..100).unwrap_err(), how);
    refused(&pool.map_async(double::call, [1]).get().unwrap_err(), how);
    refused(&pool.imap(double::call, 0..).next().unwrap().unwrap_err(), how);
    refused(&pool.imap_unordered(double::call, 0..).next().unwrap().unwrap_err(), how);
}

fn after_close_submitting_is_an_error_and_what_runs_goes_on() {
    let (pool, signals) = (pool(2), Signals::new());
    let running = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    pool.close();
    refuses(&pool, "closed");
    signals.give("release");
    assert_eq!(running.get().unwrap(), 7);
    pool.join().unwrap();
    refuses(&pool, "closed");
}

fn after_terminate_submitting_is_an_error_and_what_runs_has_ended() {
    let (pool, signals) = (pool(2), Signals::new());
    let running = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    pool.terminate();
    refuses(&pool, "terminated");
    let error = running.get().unwrap_err();
    assert!(error.is_closed() && error.is_cancelled() && !error.is_worker_lost());
    assert_eq!(error.ran(), Ran::Maybe);
    let text = "task `pool::close_terminate_join::wait` was not finished when its pool was terminated";
    assert_eq!(error.to_string(), text);
    pool.join().unwrap();
    refuses(&pool, "terminated");
}

fn terminate_ends_a_join_that_waits() {
    let (pool, signals) = (pool(1), Signals::new());
    let job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    pool.close();
    let pool = std::sync::Arc::new(pool);
    let joining = pool.clone();
    let (joins, joined) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        joins.send(()).unwrap();
        joining.join()
    });
    joined.recv().unwrap();
    assert!(!thread.is_finished());
    pool.terminate();
    returns("join", move || thread.join()).unwrap().unwrap();
    assert!(job.get().unwrap_err().is_closed());
    until("the workers are gone", || pool.workers().is_empty());
}
