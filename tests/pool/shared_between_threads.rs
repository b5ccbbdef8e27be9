//! Jobs are submitted from many threads at once; each gets its own results, and none is lost.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Job, Pool, Result, task};
use std::{
    collections::HashSet,
    sync::{Barrier, Mutex},
};

over_every_transport! {
    many_threads_share_a_pool,
    a_job_is_taken_on_another_thread_than_it_was_submitted_on,
}

#[task]
fn pair(thread: u32, n: u32) -> (u32, u32) {
    (thread, n)
}

fn many_threads_share_a_pool() {
    const THREADS: u32 = 16;
    let pool = pool(3);
    let (start, ids) = (Barrier::new(THREADS as usize), Mutex::new(HashSet::new()));
    let by_thread = |pool: &Pool, thread: u32| {
        start.wait();
        for n in 0..50 {
            assert_eq!(pool.apply(pair::call(thread, n)).unwrap(), (thread, n));
        }
        let jobs: Vec<Job<_>> = (0..100).map(|n| pool.apply_async(pair::call(thread, n))).collect();
        let mut ids = ids.lock().unwrap();
        assert!(jobs.iter().all(|job| ids.insert(job.id())), "no id is given twice");
        drop(ids);
        let mapped = pool.map(|n| pair::call(thread, n), 0..500).unwrap();
        assert!(mapped.into_iter().eq((0..500).map(|n| (thread, n))));
        let iterated: Vec<_> = pool.imap(|n| pair::call(thread, n), 0..100).collect::<Result<_>>().unwrap();
        assert!(iterated.into_iter().eq((0..100).map(|n| (thread, n))));
        for (n, job) in (0..).zip(jobs) {
            assert_eq!(job.get().unwrap(), (thread, n));
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn({
                let (pool, by_thread) = (&pool, &by_thread);
                move || by_thread(pool, thread)
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.running, stats.done, stats.failed), (0, 0, u64::from(THREADS) * 750, 0));
}

fn a_job_is_taken_on_another_thread_than_it_was_submitted_on() {
    let pool = pool(2);
    let (sender, receiver) = std::sync::mpsc::channel::<Job<(u32, u32)>>();
    let taker = std::thread::spawn(move || receiver.iter().map(|job| job.get().unwrap().1).sum::<u32>());
    for n in 0..100 {
        sender.send(pool.apply_async(pair::call(0, n))).unwrap();
    }
    drop(sender);
    assert_eq!(taker.join().unwrap(), (0..100).sum());
}
