//! A callback runs once, with the result, before its job is ready; callbacks run one after the other, in the order in
//! which jobs end. They may use the pool and terminate it, and one that panics harms nothing else.

use crate::support::{Signals, await_given, over_every_transport, pool, returns, until};
use pool_runtime::{Job, task};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

over_every_transport! {
    each_runs_once_with_the_result_in_the_order_of_the_ends,
    one_at_a_time_whatever_many_workers_do,
    a_job_is_not_ready_before_its_callback_has_run,
    of_a_job_that_has_ended_it_runs_all_the_same_and_they_can_be_chained,
    one_that_panics_harms_nothing_else,
    one_may_use_the_pool,
    one_may_terminate_close_and_join_the_pool,
    one_may_drop_the_last_handle_of_the_pool,
}

#[task]
fn double(n: u32) -> u32 {
    assert_ne!(n, 13, "unlucky");
    2 * n
}

#[task]
fn wait(signal: &Path) -> String {
    await_given(signal);
    "waited".into()
}

fn each_runs_once_with_the_result_in_the_order_of_the_ends() {
    let pool = pool(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let jobs: Vec<Job<u32>> = (0..100)
        .map(|n| {
            let seen = seen.clone();
            pool.apply_async(double::call(n)).on_done(move |result| {
                seen.lock().unwrap().push(result.as_ref().map_or_else(|error| error.to_string(), u32::to_string));
            })
        })
        .collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.get().ok(), (n != 13).then_some(2 * n), "the result is not used up");
        assert!(seen.lock().unwrap().len() > n as usize, "the callback comes first");
    }
    pool.close();
    pool.join().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    for (n, text) in (0u32..).zip(&*seen) {
        if n == 13 {
            assert!(text.contains("unlucky"), "{text}");
        } else {
            assert_eq!(*text, (2 * n).to_string());
        }
    }
}

fn one_at_a_time_whatever_many_workers_do() {
    let pool = pool(3);
    let (inside, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs: Vec<_> = (100..300)
        .map(|n| {
            let (inside, calls) = (inside.clone(), calls.clone());
            pool.apply_async(double::call(n)).on_done(move |_| {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                calls.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    drop(jobs);
    pool.close();
    pool.join().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 200, "join has waited for all; dropped handles keep their callbacks");
}

fn a_job_is_not_ready_before_its_callback_has_run() {
    let pool = pool(1);
    let (lets, let_go) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let mut job = pool.apply_async(double::call(4)).on_done(move |_| {
        begins.send(()).unwrap();
        let_go.recv().unwrap();
    });
    begun.recv().unwrap();
    assert!(!job.is_ready());
    assert_eq!(job.is_successful(), None);
    assert!(job.get_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
    lets.send(()).unwrap();
    assert_eq!(job.get().unwrap(), 8);
}

fn of_a_job_that_has_ended_it_runs_all_the_same_and_they_can_be_chained() {
    let pool = pool(1);
    let job = pool.apply_async(double::call(4));
    until("ready", || job.is_ready());
    let order = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (order.clone(), order.clone());
    let job = job.on_done(move |result| first.lock().unwrap().push((1, result.clone().unwrap())));
    let job = job.on_done(move |result| second.lock().unwrap().push((2, result.clone().unwrap())));
    assert_eq!(job.get().unwrap(), 8);
    assert_eq!(*order.lock().unwrap(), [(1, 8), (2, 8)]);
    // Of a map: the whole result.
    let (sends, sent) = mpsc::channel();
    let map = pool.map_async(double::call, 0..10).on_done(move |result| sends.send(result.clone().unwrap()).unwrap());
    assert_eq!(sent.recv().unwrap(), map.get().unwrap());
}

fn one_that_panics_harms_nothing_else() {
    let pool = pool(2);
    let calls = Arc::new(AtomicUsize::new(0));
    let jobs: Vec<_> = (20..40)
        .map(|n| {
            let calls = calls.clone();
            pool.apply_async(double::call(n)).on_done(move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                assert!(n % 2 == 0, "a callback that panics");
            })
        })
        .collect();
    for (n, job) in (20..).zip(jobs) {
        assert_eq!(job.get().unwrap(), 2 * n, "its own job's result among them");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 20);
    assert_eq!(pool.apply(double::call(1)).unwrap(), 2);
    pool.close();
    pool.join().unwrap();
}

fn one_may_use_the_pool() {
    let pool = Arc::new(pool(1));
    let (sends, sent) = mpsc::channel();
    let inner = pool.clone();
    let job = pool.apply_async(double::call(1)).on_done(move |result| {
        let next = inner.apply(double::call(*result.as_ref().unwrap())).unwrap();
        let map = inner.map(double::call, [next, 100]).unwrap();
        let third = sends.clone();
        // A callback that makes a job with a callback; dropping the handle leaves it alone.
        drop(inner.apply_async(double::call(map[0])).on_done(move |result| third.send(result.clone()).unwrap()));
        sends.send(Ok(map[1])).unwrap();
    });
    assert_eq!(returns("get", move || job.get()).unwrap(), 2);
    assert_eq!(sent.recv().unwrap().unwrap(), 200);
    assert_eq!(sent.recv().unwrap().unwrap(), 16);
}

fn one_may_terminate_close_and_join_the_pool() {
    let (pool, signals) = (Arc::new(pool(2)), Signals::new());
    let never = signals.path("never");
    let running = pool.apply_async(wait::call(&never));
    let waiting: Vec<_> = (0..100).map(|_| pool.apply_async(wait::call(&never))).collect();
    let inner = pool.clone();
    let other = crate::support::pool(1);
    let trigger = other.apply_async(double::call(1)).on_done(move |_| {
        inner.terminate();
        inner.join().unwrap();
    });
    returns("get", move || trigger.get()).unwrap();
    assert!(running.get().unwrap_err().is_closed());
    assert!(waiting.into_iter().all(|job| job.get().unwrap_err().is_closed()));

    // Its own pool, with other callbacks behind it.
    let pool = Arc::new(crate::support::pool(1));
    let (inner, calls) = (pool.clone(), Arc::new(AtomicUsize::new(0)));
    let first = pool.apply_async(double::call(1)).on_done(move |_| {
        inner.terminate();
        inner.join().unwrap();
    });
    let others: Vec<_> = (0..10)
        .map(|_| {
            let calls = calls.clone();
            pool.apply_async(wait::call(&never)).on_done(move |result| {
                assert!(result.as_ref().is_err_and(|error| error.is_closed()));
                calls.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    assert_eq!(returns("get", move || first.get()).unwrap(), 2);
    let ended =
        returns("the others", move || others.into_iter().filter(|job| job.wait(crate::support::PATIENCE)).count());
    assert_eq!(ended, 10);
    pool.join().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 10);
}

fn one_may_drop_the_last_handle_of_the_pool() {
    let (pool, signals) = (Arc::new(pool(1)), Signals::new());
    let (gives, given) = mpsc::channel::<Arc<pool_runtime::Pool>>();
    let job = pool.apply_async(wait::call(&signals.path("go"))).on_done(move |_| {
        let pool = given.recv().unwrap();
        assert_eq!(Arc::strong_count(&pool), 1);
        drop(pool);
    });
    gives.send(pool).unwrap();
    signals.give("go");
    assert_eq!(returns("get", move || job.get()).unwrap(), "waited");
}
