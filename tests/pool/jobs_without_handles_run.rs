//! Jobs whose handles are dropped run all the same, and their results are thrown away.

use crate::support::{Signals, await_given, count, over_every_transport, pool, until};
use pool_runtime::task;
use std::path::Path;

over_every_transport! {
    jobs_without_handles_run,
    what_a_dropped_iterator_had_not_begun_does_not_run,
}

#[task]
fn note(signal: &Path) {
    count(signal);
}

#[task]
fn note_and_panic(signal: &Path) {
    count(signal);
    panic!("nobody hears this");
}

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

/// The first call returns, and the others wait for the signal.
#[task]
fn note_and_wait(n: u32, ran: &Path, release: &Path) {
    count(ran);
    if n > 0 {
        await_given(release);
    }
}

fn what_a_dropped_iterator_had_not_begun_does_not_run() {
    let (pool, signals) = (pool(1), Signals::new());
    let (ran, release) = (signals.path("ran"), signals.path("release"));
    let call = |n: u32| note_and_wait::call(n, &ran, &release);
    pool.imap(call, 0..).look_ahead(1000).next().unwrap().unwrap();
    signals.give("release");
    until("what had begun has ended", || pool.stats().running == 0);
    std::fs::remove_file(&release).unwrap();
    let before = pool.stats();
    assert_eq!((before.waiting, before.done + before.failed), (0, 1000), "each was done or cancelled");
    assert!(before.failed > 0, "some were cancelled");

    pool.imap_unordered(call, 0..).look_ahead(1000).next().unwrap().unwrap();
    signals.give("release");
    pool.close();
    pool.join().unwrap();
    let stats = pool.stats();
    assert_eq!(stats.done + stats.failed, 2000);
    assert!(stats.failed > before.failed);
    assert_eq!(stats.done as usize, signals.counted("ran"));
}
