//! Join before close is an error; close, terminate and join may be called again, in any order; after close or
//! terminate, submitting is an error that says which.

use crate::support::{PATIENCE, Signals, await_given, exists, give, over_every_transport, pool, returns, until};
use pool_runtime::{Error, Pool, Ran, task};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

over_every_transport! {
    join_before_close_is_an_error,
    close_and_terminate_may_be_repeated,
    several_threads_may_join,
    after_close_submitting_is_an_error_and_what_runs_goes_on,
    after_terminate_submitting_is_an_error_and_what_runs_has_ended,
    terminate_ends_a_join_that_waits,
    a_pool_that_is_over_reads_no_inputs,
    a_map_stops_reading_when_its_pool_is_closed,
    a_map_stops_reading_when_its_pool_is_terminated,
    an_imap_gives_what_was_submitted_then_one_error_then_ends,
    a_map_whose_inputs_have_all_been_read_outlives_close,
    a_join_with_a_timeout_ends_in_time_and_can_be_repeated,
    a_join_with_a_timeout_waits_for_callbacks_no_longer_than_that,
    a_detached_pool_finishes_its_work_and_leaves,
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
    let pool = Arc::new(pool);
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

fn a_pool_that_is_over_reads_no_inputs() {
    for (how, end) in [("closed", Pool::close as fn(&Pool)), ("terminated", Pool::terminate)] {
        let pool = pool(1);
        end(&pool);
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let inputs = move || {
            let read = counted.clone();
            (0u32..).inspect(move |_| _ = read.fetch_add(1, Ordering::Relaxed))
        };
        let mapped = returns("map", move || {
            let errors = [pool.map(double::call, inputs()), pool.map_async(double::call, inputs()).get()];
            let iterated = [pool.imap(double::call, inputs()), pool.imap_unordered(double::call, inputs())];
            (errors, iterated.map(|results| results.collect::<Vec<_>>()))
        });
        assert_eq!(read.load(Ordering::Relaxed), 2, "an `imap` finds out with its first call");
        mapped.0.into_iter().for_each(|error| refused(&error.unwrap_err(), how));
        for results in mapped.1 {
            assert_eq!(results.len(), 1, "one error, and then the end");
            results.into_iter().for_each(|error| refused(&error.unwrap_err(), how));
        }
    }
}

/// A map over endless inputs, whose pool ends when this one is read.
const LAST: u32 = 50_000;

fn stops_reading(how: &str, end: fn(&Pool)) {
    for asynchronous in [false, true] {
        let pool = Arc::new(pool(2));
        let read = Arc::new(AtomicUsize::new(0));
        let (counted, ended) = (read.clone(), pool.clone());
        let inputs = (0u32..).inspect(move |n| {
            counted.fetch_add(1, Ordering::Relaxed);
            if *n == LAST {
                end(&ended);
            }
        });
        let error = returns("map", move || match asynchronous {
            false => pool.map(double::call, inputs),
            true => pool.map_async(double::call, inputs).get(),
        })
        .unwrap_err();
        assert!(error.is_closed(), "{error}");
        if how == "closed" {
            refused(&error, how);
        }
        assert_eq!(read.load(Ordering::Relaxed), LAST as usize + 1, "no more is read");
    }
}

fn a_map_stops_reading_when_its_pool_is_closed() {
    stops_reading("closed", Pool::close);
}

fn a_map_stops_reading_when_its_pool_is_terminated() {
    stops_reading("terminated", Pool::terminate);
}

fn an_imap_gives_what_was_submitted_then_one_error_then_ends() {
    for ordered in [true, false] {
        for chunk in [1, 4] {
            let pool = pool(2);
            let f = |n: u32| double::call(n);
            let mut results = match ordered {
                true => pool.imap(f, 0u32..),
                false => pool.imap_unordered(f, 0u32..),
            }
            .chunk_size(chunk)
            .look_ahead(8);
            results.next().unwrap().unwrap();
            pool.close();
            assert!(!pool.is_open());
            let mut rest = Vec::new();
            while let Some(result) = results.next() {
                assert!(results.size_hint().0 <= 8);
                rest.push(result);
            }
            refused(&rest.pop().unwrap().unwrap_err(), "closed");
            let mut values: Vec<u32> = rest.into_iter().map(Result::unwrap).collect();
            assert!((3..8).contains(&values.len()), "{values:?}");
            values.sort_unstable();
            assert!(values.iter().all(|n| n % 2 == 0) && values.is_sorted());
            assert!(results.next().is_none() && results.next().is_none());
            assert_eq!(results.size_hint(), (0, Some(0)));
        }
    }
}

fn a_map_whose_inputs_have_all_been_read_outlives_close() {
    let (pool, signals) = (Arc::new(pool(1)), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let closing = (pool.clone(), signals.path("read"), signals.path("release"));
    let closer = std::thread::spawn(move || {
        await_given(&closing.1);
        closing.0.close();
        give(&closing.2);
    });
    let last = std::iter::from_fn(|| {
        signals.give("read");
        None
    });
    assert_eq!(pool.map(|_| wait::call(&begun, &release), (0..3).chain(last)).unwrap(), [7, 7, 7]);
    closer.join().unwrap();
    assert!(!pool.is_open());
}

fn a_join_with_a_timeout_ends_in_time_and_can_be_repeated() {
    let (pool, signals) = (pool(1), Signals::new());
    let error = pool.join_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "cannot join a pool that takes work: close or terminate it first");
    let job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    pool.close();
    assert!(!pool.join_timeout(Duration::ZERO).unwrap());
    assert!(!pool.join_timeout(Duration::from_millis(50)).unwrap());
    signals.give("release");
    assert!(pool.join_timeout(PATIENCE).unwrap());
    assert!(pool.join_timeout(Duration::ZERO).unwrap() && pool.workers().is_empty());
    assert_eq!(job.get().unwrap(), 7);
}

fn a_join_with_a_timeout_waits_for_callbacks_no_longer_than_that() {
    let (pool, signals) = (pool(1), Signals::new());
    let release = signals.path("release");
    let job = pool.apply_async(double::call(1)).on_done(move |_| await_given(&release));
    pool.close();
    assert!(!pool.join_timeout(Duration::from_millis(300)).unwrap());
    signals.give("release");
    assert!(pool.join_timeout(PATIENCE).unwrap());
    assert_eq!(job.get().unwrap(), 2);
}

fn a_detached_pool_finishes_its_work_and_leaves() {
    let (pool, signals) = (pool(1), Signals::new());
    let worker = pool.workers()[0].pid;
    let running = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    let waiting = pool.map_async(double::call, 0..10);
    signals.await_given("begun");
    pool.detach();
    assert!(!running.is_ready());
    signals.give("release");
    assert_eq!(running.get().unwrap(), 7);
    assert_eq!(waiting.get().unwrap(), (0..10).map(double).collect::<Vec<_>>());
    until("the worker is gone", || !exists(worker));
}
