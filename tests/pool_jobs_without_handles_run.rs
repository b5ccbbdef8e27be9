//! W6: jobs whose handles are dropped run all the same, and their results are thrown away.

pool_runtime::pool_main!();

mod pool_support;

use pool_runtime::task;
use pool_support::{Signals, count, pool};
use std::path::Path;

#[task]
fn note(signal: &Path) {
    count(signal);
}

#[task]
fn note_and_panic(signal: &Path) {
    count(signal);
    panic!("nobody hears this");
}

#[test]
fn jobs_without_handles_run() {
    let (pool, signals) = (pool(2), Signals::new());
    let ran = signals.path("ran");
    for n in 0..100 {
        drop(pool.apply_async(note::call(&ran)));
        if n % 10 == 0 {
            drop(pool.apply_async(note_and_panic::call(&ran)));
        }
    }
    drop(pool.map_async(|_| note::call(&ran), 0..50));
    pool.close();
    pool.join().unwrap();
    assert_eq!(signals.counted("ran"), 160);
    assert_eq!((pool.stats().done, pool.stats().failed), (150, 10));
}

#[test]
fn what_a_dropped_iterator_had_not_begun_does_not_run() {
    let (pool, signals) = (pool(1), Signals::new());
    let ran = signals.path("ran");
    let call = |_: u32| note::call(&ran);
    pool.imap(call, 0..).look_ahead(1000).next().unwrap().unwrap();
    pool.imap_unordered(call, 0..).look_ahead(1000).next().unwrap().unwrap();
    pool.close();
    pool.join().unwrap();
    let stats = pool.stats();
    assert_eq!(stats.done as usize, signals.counted("ran"));
    assert_eq!(stats.done + stats.failed, 2000, "each was done or cancelled");
    assert!(stats.failed > 0, "some were cancelled");
}
