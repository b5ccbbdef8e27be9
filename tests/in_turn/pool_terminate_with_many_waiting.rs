//! Terminate with 10,000 waiting jobs ends each of them, with an error that says so, and no worker is left.

use crate::support::{Signals, await_given, children, count, over_every_transport, pool, returns};
use pool_runtime::{Job, Ran, task};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

over_every_transport! { in_turn: terminate_ends_every_waiting_job }

#[task]
fn wait(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

fn terminate_ends_every_waiting_job() {
    let (pool, signals) = (pool(2), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let jobs: Vec<Job<()>> = (0..10_000).map(|_| pool.apply_async(wait::call(&begun, &release))).collect();
    let map = pool.map_async(|_| wait::call(&begun, &release), 0..10_000);
    let called = Arc::new(AtomicUsize::new(0));
    let in_callback = called.clone();
    let with_callback = pool.apply_async(wait::call(&begun, &release)).on_done(move |result| {
        assert!(result.is_err());
        in_callback.fetch_add(1, Ordering::Relaxed);
    });
    // Some wait in `get` already.
    let (mut blocked, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.id() % 1000 == 0);
    assert!(blocked.len() >= 9);
    let getters: Vec<_> = blocked.drain(..).map(|job| std::thread::spawn(move || job.get())).collect();
    crate::support::until("two have begun", || signals.counted("begun") == 2);

    let pool = returns("terminate", move || {
        pool.terminate();
        pool
    });
    let mut maybe = 0;
    for result in jobs.into_iter().map(Job::get).chain(getters.into_iter().map(|getter| getter.join().unwrap())) {
        let error = result.unwrap_err();
        assert!(error.is_closed() && error.is_cancelled(), "{error}");
        maybe += usize::from(error.ran() == Ran::Maybe);
    }
    assert_eq!(maybe, 2, "those that ran");
    assert!(map.get().unwrap_err().is_closed());
    assert!(with_callback.get().unwrap_err().is_closed());
    pool.join().unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 1);
    assert_eq!(signals.counted("begun"), 2, "nothing else has begun");
    assert_eq!(children(), []);
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.running, stats.done, stats.failed), (0, 0, 0, 20_001));
}
