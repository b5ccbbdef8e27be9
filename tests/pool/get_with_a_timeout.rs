//! A wait that is too short neither cancels the job nor loses its value, however often; and a wait is as long as it was
//! asked for.

use crate::support::{PATIENCE, Signals, await_given, count, over_every_transport, pool};
use pool_runtime::{Ran, task};
use std::{
    path::Path,
    time::{Duration, Instant},
};

over_every_transport! {
    a_short_wait_leaves_the_job_alone,
    how_a_job_ended_is_known_after_its_error_was_taken,
    get_after_a_short_wait_gives_the_value,
    a_wait_is_as_long_as_was_asked_for,
    a_wait_ends_with_the_job,
    a_short_wait_leaves_an_imap_alone,
    a_short_wait_leaves_an_indexed_imap_alone,
}

#[task]
fn wait(begun: &Path, release: &Path) -> String {
    count(begun);
    await_given(release);
    "the value".into()
}

#[task]
fn fail() {
    panic!("on purpose");
}

fn a_short_wait_leaves_the_job_alone() {
    let (pool, signals) = (pool(1), Signals::new());
    let mut job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    for patience in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(20)] {
        let error = job.get_timeout(patience).unwrap_err();
        assert!(error.is_timeout() && !error.is_cancelled() && !error.is_worker_lost());
        assert_eq!(error.ran(), Ran::Maybe);
        let expected = format!(
            "task `pool::get_with_a_timeout::wait` has no result yet: waited {patience:?}; it goes on, and can be waited for again"
        );
        assert_eq!(error.to_string(), expected);
        assert!(!job.wait(patience));
        assert!(!job.is_ready());
        assert_eq!(job.is_successful(), None);
    }
    signals.give("release");
    assert!(job.wait(PATIENCE));
    assert!(job.is_ready());
    assert_eq!(job.is_successful(), Some(true));
    assert_eq!(job.get_timeout(Duration::ZERO).unwrap(), "the value", "what is there needs no wait");
    assert_eq!(signals.counted("begun"), 1, "it has run once");

    let again = job.get_timeout(Duration::MAX).unwrap_err();
    assert!(!again.is_timeout());
    assert_eq!(again.to_string(), "task `pool::get_with_a_timeout::wait` has given its result away already");
    assert!(job.is_ready() && job.wait(Duration::ZERO));
    assert_eq!(job.is_successful(), Some(true));
}

fn how_a_job_ended_is_known_after_its_error_was_taken() {
    let pool = pool(1);
    let mut job = pool.apply_async(fail::call());
    assert!(job.get_timeout(PATIENCE).unwrap_err().is_panic());
    assert_eq!(job.is_successful(), Some(false));
    let mut job = pool.apply_async(fail::call()).on_done(|_| ());
    assert!(job.get_timeout(PATIENCE).unwrap_err().is_panic());
    assert_eq!(job.is_successful(), Some(false));
    let mut map = pool.map_async(|()| fail::call(), [(), ()]);
    assert!(map.get_timeout(PATIENCE).unwrap_err().is_panic());
    assert_eq!(map.is_successful(), Some(false));
}

fn get_after_a_short_wait_gives_the_value() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let mut map = pool.map_async(|_| wait::call(&begun, &release), 0..3);
    assert!(map.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    signals.give("release");
    assert_eq!(map.get().unwrap(), ["the value"; 3]);
}

fn a_wait_is_as_long_as_was_asked_for() {
    let (pool, signals) = (pool(1), Signals::new());
    let mut job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    let patience = Duration::from_millis(1100);
    let begun = Instant::now();
    assert!(job.get_timeout(patience).unwrap_err().is_timeout());
    assert!(begun.elapsed() >= patience);
    // No bound above but one that says that the machine is asleep; that it is no multiple of the time is what
    // `a_wait_ends_with_the_job` shows.
    assert!(begun.elapsed() < 20 * patience);
    signals.give("release");
    job.get().unwrap();
}

fn a_wait_ends_with_the_job() {
    let (pool, signals) = (pool(1), Signals::new());
    for _ in 0..20 {
        let mut job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
        let release = signals.path("release");
        let releaser = std::thread::spawn(move || crate::support::give(&release));
        let begun = Instant::now();
        assert_eq!(job.get_timeout(10 * PATIENCE).unwrap(), "the value");
        assert!(begun.elapsed() < PATIENCE, "nobody waits for the whole time");
        releaser.join().unwrap();
        std::fs::remove_file(signals.path("release")).unwrap();
    }
}

#[task]
fn wait_for_odd(n: u32, release: &Path) -> u32 {
    if n % 2 == 1 {
        await_given(release);
    }
    n
}

fn a_short_wait_leaves_an_imap_alone() {
    for ordered in [true, false] {
        let (pool, signals) = (pool(1), Signals::new());
        let release = signals.path("release");
        let f = |n: u32| wait_for_odd::call(n, &release);
        let mut results = if ordered { pool.imap(f, 0..3) } else { pool.imap_unordered(f, 0..3) };
        assert_eq!(results.next_timeout(PATIENCE).unwrap().unwrap(), 0);
        for patience in [Duration::ZERO, Duration::from_millis(20)] {
            let began = Instant::now();
            let error = results.next_timeout(patience).unwrap().unwrap_err();
            assert!(error.is_pending() && error.is_timeout() && error.ran() == Ran::Maybe, "{error}");
            assert!(began.elapsed() >= patience);
            assert_eq!(results.size_hint(), (2, Some(2)), "nothing was taken");
        }
        signals.give("release");
        assert_eq!(results.next_timeout(PATIENCE).unwrap().unwrap(), 1);
        assert_eq!(results.next().unwrap().unwrap(), 2);
        assert!(results.next_timeout(Duration::ZERO).is_none() && results.next().is_none());
    }
}

fn a_short_wait_leaves_an_indexed_imap_alone() {
    let (pool, signals) = (pool(1), Signals::new());
    let release = signals.path("release");
    let mut results = pool.imap_unordered(|n| wait_for_odd::call(n, &release), 1..).indexed().look_ahead(2);
    let error = results.next_timeout(Duration::from_millis(20)).unwrap().unwrap_err();
    assert!(error.is_pending() && error.index().is_none(), "{error}");
    signals.give("release");
    let (index, result) = results.next_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!((index, result.unwrap()), (0, 1));
}
