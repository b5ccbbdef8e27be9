//! `Backend::Inline`: a call runs on the thread that submits it, before the submission returns, in the order of
//! submission.

use crate::support::{pool_on, returns};
use pool_runtime::{Backend, Pool, current_job, task};
use std::{
    cell::RefCell,
    sync::{OnceLock, mpsc},
};

thread_local! {
    /// What has run on this thread.
    static LOG: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[task]
fn note(n: u32) -> u32 {
    LOG.with_borrow_mut(|log| log.push(n));
    n
}

fn log() -> Vec<u32> {
    LOG.take()
}

#[test]
fn it_runs_before_the_submission_returns() {
    let pool = pool_on(Backend::Inline, 4);
    let job = pool.apply_async(note::call(1));
    assert_eq!((log(), job.is_ready(), job.is_successful()), (vec![1], true, Some(true)));
    assert!(!job.cancel(), "nothing is left to be cancelled");
    let jobs = pool.map_async(note::call, 0..40);
    assert!(jobs.is_ready());
    assert_eq!(log(), (0..40).collect::<Vec<_>>());
    drop(pool.apply_async(note::call(2)));
    assert_eq!(pool.apply(note::call(3)).unwrap(), 3);
    assert_eq!(log(), [2, 3]);
    assert_eq!(jobs.get().unwrap().len(), 40);
    assert!(pool.workers().is_empty());
    assert_eq!(pool.stats().done, 43);
}

#[test]
fn an_iterator_runs_what_it_reads() {
    let pool = pool_on(Backend::Inline, 1);
    let mut results = pool.imap(note::call, 0..).look_ahead(3);
    assert_eq!(log(), [0; 0]);
    assert_eq!(results.next().unwrap().unwrap(), 0);
    assert_eq!(log(), [0, 1, 2]);
    assert_eq!(results.next().unwrap().unwrap(), 1);
    assert_eq!(log(), [3]);
    drop(results);
    assert_eq!(log(), [0; 0]);
}

static GLOBAL: OnceLock<Pool> = OnceLock::new();

#[task]
fn down(n: u32) -> u32 {
    if n == 0 { 0 } else { 1 + GLOBAL.get().unwrap().apply(down::call(n - 1)).unwrap() }
}

#[test]
fn a_task_may_submit_to_its_own_pool() {
    let pool = GLOBAL.get_or_init(|| pool_on(Backend::Inline, 1));
    assert_eq!(pool.apply(down::call(10)).unwrap(), 10);
    assert_eq!(pool.stats().done, 11);
}

#[task(soft_timeout = "20ms", timeout = "21ms")]
fn search() -> u64 {
    let mut tried = 0;
    while !current_job().is_cancelled() {
        tried += 1;
    }
    tried
}

#[test]
fn a_task_is_told_to_come_to_an_end_and_not_killed() {
    let pool = pool_on(Backend::Inline, 1);
    let tried = returns("it is told", move || pool.apply(search::call()));
    assert!(tried.unwrap() > 0);
}

static CHANNEL: OnceLock<(mpsc::SyncSender<()>, std::sync::Mutex<mpsc::Receiver<()>>)> = OnceLock::new();

#[task]
fn meet(n: u32) -> u32 {
    let (begun, go_on) = CHANNEL.get().unwrap();
    if n == 0 {
        begun.send(()).unwrap();
        go_on.lock().unwrap().recv().unwrap();
    }
    LOG.with_borrow_mut(|log| log.push(n));
    n
}

#[test]
fn a_pool_that_is_closed_waits_for_what_runs_and_one_that_is_terminated_runs_nothing_more() {
    let (begun, begins) = mpsc::sync_channel(0);
    let (go_on, goes_on) = mpsc::sync_channel(0);
    CHANNEL.set((begun, std::sync::Mutex::new(goes_on))).unwrap();
    returns("the maps end", move || {
        let pool = pool_on(Backend::Inline, 1);
        std::thread::scope(|scope| {
            let mapping =
                scope.spawn(|| pool.imap(meet::call, 0..5).chunk_size(5).map(Result::unwrap).collect::<Vec<_>>());
            begins.recv().unwrap();
            pool.close();
            let joining = scope.spawn(|| {
                pool.join().unwrap();
                pool.stats().done
            });
            go_on.send(()).unwrap();
            assert_eq!(joining.join().unwrap(), 5, "all of it is waited for");
            assert_eq!(mapping.join().unwrap(), [0, 1, 2, 3, 4]);
        });

        let pool = pool_on(Backend::Inline, 1);
        std::thread::scope(|scope| {
            let mapping = scope.spawn(|| {
                let results: Vec<_> = pool.imap(meet::call, 0..5).chunk_size(5).collect();
                (results, log())
            });
            begins.recv().unwrap();
            assert_eq!(pool.stats().running, 5);
            pool.terminate();
            pool.join().unwrap();
            go_on.send(()).unwrap();
            let (results, log) = mapping.join().unwrap();
            assert_eq!(log, [0], "the one that ran was let run");
            for result in results {
                let error = result.unwrap_err();
                assert!(error.is_closed() && error.is_cancelled(), "{error}");
            }
        });
        assert_eq!((pool.stats().done, pool.stats().failed, pool.stats().running), (0, 5, 0));
    });
}
