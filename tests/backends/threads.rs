//! `Backend::Threads`: as many threads as workers run calls side by side; one that should be killed is abandoned, and
//! the pool goes on without it at once.

use crate::support::{Signals, await_given, count, pool_on, returns, until};
use pool_runtime::{Backend, Pool, Ran, current_process, task};
use std::{
    collections::HashSet,
    path::Path,
    sync::Barrier,
    time::{Duration, Instant},
};

static ALL: Barrier = Barrier::new(4);

#[task]
fn meet() -> (String, u32) {
    ALL.wait();
    (std::thread::current().name().unwrap_or_default().to_owned(), std::process::id())
}

#[test]
fn they_run_side_by_side() {
    returns("all of them meet", || {
        let pool = Pool::builder().processes(4).name("team").backend(Backend::Threads).build().unwrap();
        let met: HashSet<_> = pool.map(|()| meet::call(), [(); 4]).unwrap().into_iter().collect();
        let expected = ["team-1", "team-2", "team-3", "team-4"].map(|name| (name.to_owned(), std::process::id()));
        assert_eq!(met, expected.into());
        assert_eq!(pool.workers().len(), 4);
    });
}

#[task]
fn name() -> String {
    current_process().name().to_owned()
}

#[test]
fn their_process_is_the_program() {
    assert_eq!(pool_on(Backend::Threads, 1).apply(name::call()).unwrap(), current_process().name());
}

#[task]
fn block(begun: &Path, release: &Path) -> u32 {
    count(begun);
    await_given(release);
    count(&release.with_extension("over"));
    7
}

#[task]
fn note(file: &Path, n: u32) -> u32 {
    count(file);
    n
}

/// Signals, and a job that runs and blocks until it is released.
fn blocked(pool: &Pool) -> (Signals, pool_runtime::Job<u32>) {
    let signals = Signals::new();
    let job = pool.apply_async(block::call(&signals.path("begun"), &signals.path("release")));
    until("it runs", || signals.counted("begun") == 1);
    (signals, job)
}

/// Lets it end, which reaches nobody.
fn release(signals: &Signals) {
    signals.give("release");
    until("it ends all the same", || signals.counted("release.over") == 1);
}

#[test]
fn a_running_call_is_cancelled_at_once_and_those_behind_it_run() {
    returns("the job ends", || {
        let pool = pool_on(Backend::Threads, 1);
        let warm = Signals::new();
        let file = warm.path("warm");
        pool.map(|n| note::call(&file, n), 0..50).unwrap();
        let (signals, job) = blocked(&pool);
        let behind: Vec<_> = (0..20).map(|n| pool.apply_async(note::call(&warm.path("behind"), n))).collect();
        assert!(job.cancel());
        let error = job.get().unwrap_err();
        assert!(error.is_cancelled() && error.ran() != Ran::No, "{error}");
        for (n, job) in (0..).zip(behind) {
            assert_eq!(job.get().unwrap(), n);
        }
        assert_eq!(warm.counted("behind"), 20, "each ran once");
        release(&signals);
        assert_eq!((pool.stats().done, pool.stats().failed), (70, 1));
        assert_eq!(pool.apply(note::call(&warm.path("after"), 3)).unwrap(), 3);
    });
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_tried_again() {
    returns("the job ends", || {
        let pool = pool_on(Backend::Threads, 1);
        let signals = Signals::new();
        let (begun, end) = (signals.path("begun"), signals.path("release"));
        let error = pool.apply(block::call(&begun, &end).timeout(Duration::from_millis(50)).retries(2)).unwrap_err();
        assert!(error.is_timeout() && !error.is_worker_lost(), "{error}");
        assert_eq!((error.ran(), error.attempts(), signals.counted("begun")), (Ran::Yes, 3, 3));
        signals.give("release");
        until("all end", || signals.counted("release.over") == 3);
        assert_eq!((pool.stats().done, pool.stats().failed), (0, 1));
    });
}

#[test]
fn terminate_and_drop_do_not_wait_for_tasks() {
    returns("the pools end", || {
        let pool = pool_on(Backend::Threads, 1);
        let (signals, job) = blocked(&pool);
        let waiting = pool.apply_async(note::call(&signals.path("waiting"), 1));
        pool.terminate();
        pool.join().unwrap();
        for error in [job.get().unwrap_err(), waiting.get().unwrap_err()] {
            assert!(error.is_closed() && error.to_string().contains("was terminated"), "{error}");
        }
        release(&signals);
        assert_eq!(signals.counted("waiting"), 0, "it never ran");

        let pool = pool_on(Backend::Threads, 2);
        let (signals, job) = blocked(&pool);
        drop(pool);
        assert!(job.get().unwrap_err().is_cancelled());
        release(&signals);
    });
}

#[task]
fn large(xs: &[f64], begun: &Path, release: &Path) -> f64 {
    count(begun);
    await_given(release);
    let sum = xs.iter().sum();
    count(&release.with_extension(format!("is {sum}")));
    sum
}

#[test]
fn a_task_that_is_given_up_keeps_its_arguments() {
    returns("the task ends", || {
        // Rings have an arena, from which large arguments are lent.
        let rings = Pool::new(1).unwrap();
        let pool = pool_on(Backend::Threads, 1);
        let signals = Signals::new();
        let xs = vec![1.0; 100_000];
        let job = pool.apply_async(large::call(&xs, &signals.path("begun"), &signals.path("release")));
        until("it runs", || signals.counted("begun") == 1);
        assert!(job.cancel());
        drop(pool);
        // Whatever memory is used next, it is not that one.
        for n in 0..20 {
            let begun = signals.path("others");
            let other = pool_on(Backend::Threads, 1);
            signals.give("go on");
            let sum = other.apply(large::call(&vec![f64::from(n); 100_000], &begun, &signals.path("go on")));
            assert_eq!(sum.unwrap(), f64::from(n) * 100_000.0);
        }
        signals.give("release");
        until("it has what it was lent", || signals.counted("release.is 100000") == 1);
        drop(rings);
    });
}

#[task]
fn spin(until: u64) -> u64 {
    let end = Instant::now() + Duration::from_micros(until);
    while Instant::now() < end {}
    until
}

#[test]
fn cancelling_at_any_moment_hits_that_job_alone() {
    returns("all jobs end", || {
        let pool = pool_on(Backend::Threads, 2);
        let mut cancelled = 0;
        for round in 0..50 {
            let jobs: Vec<_> = (0..10).map(|n| pool.apply_async(spin::call(round * n % 97))).collect();
            let hit = jobs[(round % 10) as usize].cancel();
            for (n, job) in (0..).zip(jobs) {
                match job.get() {
                    Ok(value) => assert_eq!(value, round * n % 97),
                    Err(error) => {
                        assert!(error.is_cancelled() && hit && n == round % 10, "{n} of {round}: {error}");
                        cancelled += 1;
                    }
                }
            }
        }
        assert_eq!((pool.stats().done, pool.stats().failed), (500 - cancelled, cancelled));
        pool.close();
        pool.join().unwrap();
    });
}

/// Blocks, but for the first one.
#[task(initializer)]
fn open(begun: &Path, release: &Path) {
    let is_first = std::fs::File::create_new(begun.with_extension("first")).is_ok();
    count(begun);
    if !is_first {
        await_given(release);
        count(&release.with_extension("over"));
    }
}

#[test]
fn a_thread_that_has_yet_to_begin_is_not_waited_for_either() {
    returns("the pool ends", || {
        let signals = Signals::new();
        let (begun, end) = (signals.path("begun"), signals.path("release"));
        let builder = Pool::builder().processes(2).backend(Backend::Threads);
        let pool = builder.initializer(open::call(&begun, &end)).build().unwrap();
        until("both have begun", || signals.counted("begun") == 2);
        pool.terminate();
        pool.join().unwrap();
        release(&signals);
    });
}

#[test]
fn an_initializer_that_takes_too_long_fails_the_pool() {
    returns("the pool fails", || {
        let signals = Signals::new();
        let (begun, end) = (signals.path("begun"), signals.path("release"));
        std::fs::File::create_new(begun.with_extension("first")).unwrap();
        let call = open::call(&begun, &end).timeout(Duration::from_millis(50));
        let error = Pool::builder().processes(1).backend(Backend::Threads).initializer(call).build().unwrap_err();
        assert!(error.to_string().ends_with("the initializer failed: it took longer than 50ms"), "{error}");
        release(&signals);
    });
}
