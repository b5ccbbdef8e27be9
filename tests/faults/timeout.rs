//! A call that takes too long fails with `is_timeout`, and its worker is replaced, also if the task ignores SIGTERM;
//! the clock starts when the task does. A result that arrives as the time-out fires: one outcome.

use crate::support::{Signals, builder, over_every_transport, pids, pool, returns};
use pool_runtime::{Pool, Ran, Result, task};
use std::{
    path::Path,
    time::{Duration, Instant},
};

over_every_transport! {
    a_call_that_never_ends_is_killed,
    a_task_that_ignores_sigterm_is_killed_too,
    the_clock_starts_when_the_task_does,
    a_limit_of_one_call_spares_the_others,
    the_call_goes_before_the_task_and_the_task_before_the_pool,
    a_map_fails_at_the_input_that_takes_too_long,
    what_was_sent_behind_is_run_by_others,
    a_result_at_the_last_moment_is_a_result_or_a_timeout,
    decoding_counts,
}

const SHORT: Duration = Duration::from_millis(50);

#[task]
fn hang() {
    crate::support::hang();
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

fn a_call_that_never_ends_is_killed() {
    let pool = builder().processes(1).timeout(SHORT).build().unwrap();
    let before = pool.apply(pid::call()).unwrap();
    let error = pool.apply(hang::call()).unwrap_err();
    assert!(error.is_timeout() && !error.is_pending() && !error.is_worker_lost() && !error.is_cancelled(), "{error}");
    assert_eq!((error.ran(), error.attempts()), (Ran::Yes, 1));
    let text = error.to_string();
    assert!(text.contains("hang") && text.contains("took longer than 50ms"), "{text}");
    assert_eq!(error.dossier().unwrap().pid(), before);
    assert!(error.dossier().unwrap().duration().unwrap() >= SHORT);
    assert_ne!(pool.apply(pid::call()).unwrap(), before, "it was replaced");
    assert_eq!(pool.stats().failed, 1);
}

#[task]
fn hang_without_sigterm() {
    // SAFETY: no handler is run.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n + 1);
    }
}

fn a_task_that_ignores_sigterm_is_killed_too() {
    let pool = pool(1);
    let before = pids(&pool);
    let error = pool.apply(hang_without_sigterm::call().timeout(SHORT)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    pool.apply(pid::call()).unwrap();
    assert_ne!(pids(&pool), before);
}

#[task(timeout = "1500ms")]
fn nap(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn the_clock_starts_when_the_task_does() {
    let pool = pool(1);
    // All of them together take longer than one may.
    let jobs: Vec<_> = (0..8).map(|_| pool.apply_async(nap::call(300))).collect();
    for job in jobs {
        assert_eq!(job.get().unwrap(), 300);
    }
}

fn a_limit_of_one_call_spares_the_others() {
    let signals = Signals::new();
    let pool = pool(2);
    let slow = pool.apply_async(wait_for::call(&signals.path("go on")));
    let error = pool.apply(hang::call().timeout(SHORT)).unwrap_err();
    assert!(error.is_timeout());
    assert!(!slow.is_ready());
    signals.give("go on");
    assert!(slow.get().unwrap());
}

#[task]
fn wait_for(signal: &Path) -> bool {
    crate::support::await_given(signal);
    true
}

#[task(timeout = "50ms")]
fn hang_declared() {
    hang();
}

fn the_call_goes_before_the_task_and_the_task_before_the_pool() {
    let patient = builder().processes(1).timeout(Duration::from_secs(3600)).build().unwrap();
    assert!(patient.apply(hang_declared::call()).unwrap_err().to_string().contains("longer than 50ms"));
    let error = patient.apply(hang_declared::call().timeout(Duration::from_millis(60))).unwrap_err();
    assert!(error.to_string().contains("longer than 60ms"), "{error}");
    let hasty = builder().processes(1).timeout(SHORT).build().unwrap();
    assert!(hasty.apply(nap::call(100)).is_ok(), "the task has a limit of its own");
    let slow = hasty.apply_async(wait_and_return::call(200).timeout(Duration::MAX));
    assert_eq!(slow.get().unwrap(), 200, "no limit at all");
    assert!(hasty.apply(wait_and_return::call(60_000)).unwrap_err().is_timeout());
}

#[task]
fn wait_and_return(millis: u64) -> u64 {
    nap(millis)
}

#[task]
fn hang_at_seven(n: u64) -> u64 {
    if n == 7 {
        hang();
    }
    n
}

fn a_map_fails_at_the_input_that_takes_too_long() {
    let pool = builder().processes(2).timeout(Duration::from_millis(300)).build().unwrap();
    let results: Vec<Result<u64>> = pool.imap(hang_at_seven::call, 0..100).collect();
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!((*value, n == 7), (n as u64, false)),
            Err(error) => assert!(n == 7 && error.is_timeout(), "{n}: {error}"),
        }
    }
    assert!(pool.map(hang_at_seven::call, 0..100).unwrap_err().is_timeout());
}

fn what_was_sent_behind_is_run_by_others() {
    let pool = pool(1);
    // The pool learns that they are short, and sends many at a time.
    pool.map(hang_at_seven::call, 100..1100).unwrap();
    let results: Vec<_> =
        (0..50).map(|n| pool.apply_async(hang_at_seven::call(n).timeout(Duration::from_millis(200)))).collect();
    let failed: Vec<_> = results.into_iter().map(|job| job.get()).enumerate().filter(|(_, r)| r.is_err()).collect();
    assert_eq!(failed.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [7]);
    assert!(failed[0].1.as_ref().unwrap_err().is_timeout());
}

fn a_result_at_the_last_moment_is_a_result_or_a_timeout() {
    let pool = pool(2);
    let (mut values, mut timeouts) = (0, 0);
    for round in 0..150u64 {
        // Around the time at which the worker is looked at.
        let limit = Duration::from_millis(10);
        let job = pool.apply_async(spin::call(8_500 + round % 30 * 100).timeout(limit));
        let next = pool.apply_async(pid::call());
        match job.get() {
            Ok(value) => values += usize::from(value > 0),
            Err(error) => {
                assert!(error.is_timeout(), "{error}");
                timeouts += 1;
            }
        }
        next.get().expect("the next call is not hit");
    }
    assert_eq!(values + timeouts, 150);
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed), (150 + values as u64, timeouts as u64));
}

#[task]
fn spin(micros: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(micros) {}
    micros
}

#[derive(serde::Serialize)]
struct Endless;

impl<'de> serde::Deserialize<'de> for Endless {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        hang();
        Ok(Self)
    }
}

#[task]
fn take(_: Endless) {}

fn decoding_counts() {
    let error = returns("a call whose argument never ends", || {
        let pool: Pool = pool(1);
        pool.apply(take::call(Endless).timeout(SHORT)).unwrap_err()
    });
    assert!(error.is_timeout() && error.ran() == Ran::No, "{error}");
}
