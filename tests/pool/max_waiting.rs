//! A pool with `max_waiting` or `max_waiting_bytes` takes no more calls than that: who submits another one waits, or is
//! told.

use crate::support::{Signals, await_given, builder, count, over_every_transport, returns, until};
use pool_runtime::{Backend, Job, Pool, task};
use std::{
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake},
    thread,
    time::Duration,
};

over_every_transport! {
    as_many_calls_wait_as_may,
    each_call_that_starts_makes_room_for_one,
    the_end_of_the_pool_ends_the_wait_for_room,
    a_map_reads_its_inputs_no_faster,
    an_imap_gives_its_results_before_it_waits_for_room,
    an_imap_waits_for_room_no_longer_than_it_may,
    arguments_of_so_many_bytes_are_taken,
    a_callback_waits_for_room,
    what_a_waker_runs_does_not_wait_for_room,
}

#[task]
fn echo(n: u64) -> u64 {
    n
}

#[task]
fn hold(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

/// Occupies all workers of a pool until `release` is given.
fn occupy(pool: &Pool, signals: &Signals) -> Vec<Job<()>> {
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let jobs = (0..pool.processes()).map(|_| pool.apply_async(hold::call(&begun, &release))).collect();
    until("all workers are busy", || signals.counted("begun") == pool.processes());
    jobs
}

fn bounded(processes: usize, calls: usize) -> Pool {
    let pool = builder().processes(processes).max_waiting(calls).build().unwrap();
    pool.wait_ready(None).unwrap();
    pool
}

fn as_many_calls_wait_as_may() {
    for processes in [1, 2] {
        let (pool, signals) = (bounded(processes, 3), Signals::new());
        let held = occupy(&pool, &signals);
        let mut jobs: Vec<_> = (0..3).map(|n| pool.try_apply_async(echo::call(n)).unwrap()).collect();
        for _ in 0..2 {
            let error = pool.try_apply_async(echo::call(3)).unwrap_err();
            assert!(error.is_would_block() && !error.is_closed(), "{error}");
            let text = "echo` cannot be submitted: 3 calls wait, and the pool's limit is 3 (`max_waiting`): ";
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(jobs.remove(1).cancel());
        jobs.push(pool.try_apply_async(echo::call(4)).unwrap());
        assert!(pool.try_apply_async(echo::call(5)).is_err());
        signals.give("release");
        assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).collect::<Vec<_>>(), [0, 2, 4]);
        held.into_iter().for_each(|job| job.get().unwrap());
        assert_eq!(pool.try_apply_async(echo::call(6)).unwrap().get().unwrap(), 6);
    }
}

fn each_call_that_starts_makes_room_for_one() {
    const CALLS: usize = 6;
    let (pool, signals) = (bounded(1, 2), Signals::new());
    let submitted = AtomicUsize::new(0);
    let file = |what: &str, n: usize| signals.path(&format!("{what} {n}"));
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..CALLS {
                drop(pool.apply_async(hold::call(&file("begun", n), &file("release", n))));
                submitted.fetch_add(1, Ordering::SeqCst);
            }
        });
        for n in 0..CALLS {
            await_given(&file("begun", n));
            let most = CALLS.min(n + 3);
            until("there is room", || submitted.load(Ordering::SeqCst) == most);
            assert_eq!(pool.stats().waiting + pool.stats().running, most - n, "{:?}", pool.stats());
            crate::support::give(&file("release", n));
        }
    });
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.stats().done as usize, CALLS);
}

fn the_end_of_the_pool_ends_the_wait_for_room() {
    for (end, word) in [(Pool::close as fn(&Pool), "closed"), (Pool::terminate, "terminated")] {
        let (pool, signals) = (bounded(1, 1), Signals::new());
        let held = occupy(&pool, &signals);
        let waiting = pool.apply_async(echo::call(1));
        let (one, many, blocking) = thread::scope(|scope| {
            let one = scope.spawn(|| pool.apply_async(echo::call(2)).get());
            let many = scope.spawn(|| pool.map(echo::call, 0..100));
            let blocking = scope.spawn(|| pool.apply(echo::call(3)));
            end(&pool);
            (one.join().unwrap(), many.join().unwrap(), blocking.join().unwrap())
        });
        for error in [one.unwrap_err(), many.unwrap_err(), blocking.unwrap_err()] {
            assert!(error.is_closed() && error.to_string().contains(word), "{error}");
        }
        signals.give("release");
        assert_eq!(waiting.get().is_ok(), word == "closed");
        drop(held);
        pool.join().unwrap();
    }
}

fn a_map_reads_its_inputs_no_faster() {
    let (pool, signals) = (bounded(1, 2), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        let inputs = (0..200).inspect(|_| {
            read.fetch_add(1, Ordering::SeqCst);
        });
        let map = scope.spawn(|| pool.map(|_| hold::call(&begun, &release), inputs));
        await_given(&begun);
        until("as many wait as may", || pool.stats().waiting + pool.stats().running >= 2);
        // One runs, two wait, and two are the next to be submitted.
        assert!(read.load(Ordering::SeqCst) <= 5);
        assert!(pool.stats().waiting + pool.stats().running <= 3);
        signals.give("release");
        assert_eq!(map.join().unwrap().unwrap().len(), 200);
    });
    assert_eq!(pool.map_async(echo::call, 0..1000).get().unwrap(), (0..1000).collect::<Vec<_>>());
}

fn an_imap_gives_its_results_before_it_waits_for_room() {
    let pool = bounded(2, 3);
    for chunk in [1, 7] {
        let results = pool.imap(echo::call, 0..500).look_ahead(100).chunk_size(chunk);
        assert_eq!(results.collect::<Result<Vec<_>, _>>().unwrap(), (0..500).collect::<Vec<_>>());
        let mut results = pool.imap_unordered(echo::call, 0..500).look_ahead(100).chunk_size(chunk);
        let first = results.next().unwrap().unwrap();
        assert_eq!(first + results.map(Result::unwrap).sum::<u64>(), 499 * 500 / 2);
    }
}

fn an_imap_waits_for_room_no_longer_than_it_may() {
    let (pool, signals) = (bounded(1, 1), Signals::new());
    let held = occupy(&pool, &signals);
    let waiting = pool.apply_async(echo::call(0));
    let mut results = pool.imap(echo::call, 1..=3).look_ahead(2).chunk_size(2);
    for patience in [Duration::ZERO, Duration::from_millis(1)] {
        assert!(results.next_timeout(patience).unwrap().unwrap_err().is_pending());
    }
    signals.give("release");
    assert_eq!(results.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(results.next().is_none());
    waiting.get().unwrap();
    drop(held);
}

fn arguments_of_so_many_bytes_are_taken() {
    let pool = builder().processes(1).max_waiting_bytes(10_000).build().unwrap();
    for _ in 0..2 {
        let signals = Signals::new();
        let held = occupy(&pool, &signals);
        let bytes = vec![0; 6_000];
        let first = pool.try_apply_async(length::call(&bytes)).unwrap();
        let error = pool.try_apply_async(length::call(&bytes)).unwrap_err();
        assert!(
            error.is_would_block() && error.to_string().contains("its limit is 10000 (`max_waiting_bytes`)"),
            "{error}"
        );
        let small = pool.try_apply_async(length::call(&bytes[..10])).unwrap();
        signals.give("release");
        assert_eq!((first.get().unwrap(), small.get().unwrap()), (6_000, 10));
        held.into_iter().for_each(|job| job.get().unwrap());
        // What would never fit is taken as soon as nothing waits, and so is what follows.
        let large = vec![0; 50_000];
        assert_eq!(pool.map(|_| length::call(&large), 0..5).unwrap(), [50_000; 5]);
        until("nothing is left", || pool.stats().waiting + pool.stats().running == 0);
    }
}

fn a_callback_waits_for_room() {
    let (pool, signals) = (Arc::new(bounded(1, 1)), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let (sends, done) = mpsc::channel();
    let own = pool.clone();
    drop(pool.apply_async(hold::call(&begun, &release)).on_done(move |_| {
        for n in 0..50 {
            let sends = sends.clone();
            drop(own.apply_async(echo::call(n)).on_done(move |result| sends.send(*result.as_ref().unwrap()).unwrap()));
        }
    }));
    signals.give("release");
    assert_eq!(returns("all of them", move || done.iter().sum::<u64>()), 49 * 50 / 2);
}

/// Submits calls when it is woken, on the thread that does that.
struct Submitter {
    pool: Pool,
    jobs: Mutex<mpsc::Sender<Job<u64>>>,
}

impl Wake for Submitter {
    fn wake(self: Arc<Self>) {
        for n in 0..20 {
            let _ = self.jobs.lock().unwrap().send(self.pool.apply_async(echo::call(n)));
        }
    }
}

fn what_a_waker_runs_does_not_wait_for_room() {
    let signals = Signals::new();
    let (jobs, submitted) = mpsc::channel();
    let submitter = Arc::new(Submitter { pool: bounded(1, 1), jobs: Mutex::new(jobs) });
    let held = occupy(&submitter.pool, &signals).pop().unwrap();
    let waker = submitter.clone().into();
    let mut held = pin!(held);
    assert!(held.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    signals.give("release");
    let jobs = returns("it submits all of them", move || submitted.iter().take(20).collect::<Vec<_>>());
    assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).sum::<u64>(), 190);
    assert!(matches!(held.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(()))));
}

/// The pool of threads to which a task of it submits calls.
static OWN: OnceLock<Pool> = OnceLock::new();

#[task]
fn submit_to_own_pool(calls: u64) {
    let pool = OWN.get().unwrap();
    (0..calls).for_each(|n| drop(pool.apply_async(echo::call(n))));
}

#[test]
fn a_task_on_a_thread_of_the_pool_does_not_wait_for_room() {
    let pool = Pool::builder().processes(1).backend(Backend::Threads).max_waiting(1).build().unwrap();
    let pool = OWN.get_or_init(|| pool);
    returns("it submits all of them", || pool.apply(submit_to_own_pool::call(20)).unwrap());
    until("they have run", || pool.stats().done == 21);
}

#[test]
fn where_calls_run_at_once_none_is_refused() {
    let pool = Pool::builder().backend(Backend::Inline).max_waiting(1).max_waiting_bytes(1).build().unwrap();
    let jobs: Vec<_> = (0..10).map(|n| pool.try_apply_async(echo::call(n)).unwrap()).collect();
    assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).sum::<u64>(), 45);
}

#[test]
fn a_pool_in_which_nothing_may_wait_is_refused() {
    for builder in [Pool::builder().max_waiting(0), Pool::builder().max_waiting_bytes(0)] {
        let error = builder.backend(Backend::Inline).build().unwrap_err();
        assert!(error.to_string().contains("max_waiting_bytes are at least 1"), "{error}");
    }
}
