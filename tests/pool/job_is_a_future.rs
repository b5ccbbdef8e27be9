//! A job can be awaited on any executor, polled from two tasks in turn, and dropped while it is pending.

use crate::support::{PATIENCE, Signals, await_given, block_on, count, over_every_transport, pool, until};
use pool_runtime::{Job, Pool, task};
use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

over_every_transport! {
    jobs_can_be_awaited,
    a_pending_job_wakes_its_waker_once,
    polled_from_two_tasks_in_turn_it_wakes_the_later_one,
    of_two_jobs_awaited_together_each_wakes,
    one_dropped_while_pending_goes_on,
    a_pending_job_ends_with_its_pool,
    one_with_a_callback_is_ready_after_it,
    polling_after_the_end_panics,
    a_waker_may_call_the_pool_and_wait,
}

#[task]
fn wait(begun: &Path, release: &Path) -> u32 {
    count(begun);
    await_given(release);
    7
}

#[task]
fn double(n: u32) -> u32 {
    assert_ne!(n, 13, "unlucky");
    2 * n
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn counted(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<R>(job: &mut Job<R>, wakes: &Arc<Wakes>) -> Poll<pool_runtime::Result<R>> {
    Pin::new(job).poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

fn jobs_can_be_awaited() {
    let pool = pool(2);
    let sum = block_on(async {
        let jobs: Vec<_> = (20..60).map(|n| pool.apply_async(double::call(n))).collect();
        let mut sum = 0;
        for job in jobs {
            sum += job.await?;
        }
        let map = pool.map_async(double::call, 0..10).await?;
        Ok::<_, pool_runtime::Error>(sum + map.into_iter().sum::<u32>())
    });
    assert_eq!(sum.unwrap(), (20..60).chain(0..10).map(double).sum());
    let error = block_on(pool.apply_async(double::call(13))).unwrap_err();
    assert!(error.panic().unwrap().message().contains("unlucky"));
    let error = block_on(pool.map_async(double::call, 10..20)).unwrap_err();
    assert!(error.is_panic());
}

fn a_pending_job_wakes_its_waker_once() {
    let (pool, signals) = (pool(1), Signals::new());
    let mut job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut job, &wakes).is_pending());
    assert!(poll(&mut job, &wakes).is_pending(), "polled for no reason");
    assert_eq!(wakes.counted(), 0);
    signals.give("release");
    until("woken", || wakes.counted() > 0);
    assert!(matches!(poll(&mut job, &wakes), Poll::Ready(Ok(7))));
    assert_eq!(wakes.counted(), 1);
    until("the waker is let go", || Arc::strong_count(&wakes) == 1);
}

fn polled_from_two_tasks_in_turn_it_wakes_the_later_one() {
    let (pool, signals) = (pool(1), Signals::new());
    let mut job = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    assert!(poll(&mut job, &first).is_pending());
    assert!(poll(&mut job, &second).is_pending());
    assert!(poll(&mut job, &first).is_pending());
    // From here on another thread's executor has it.
    let other = second.clone();
    let mut job = std::thread::spawn(move || {
        assert!(poll(&mut job, &other).is_pending());
        job
    })
    .join()
    .unwrap();
    signals.give("release");
    until("woken", || second.counted() > 0);
    assert_eq!(first.counted(), 0);
    assert!(matches!(poll(&mut job, &first), Poll::Ready(Ok(7))));
    assert_eq!((first.counted(), second.counted()), (0, 1));
}

fn of_two_jobs_awaited_together_each_wakes() {
    let (pool, signals) = (pool(2), Signals::new());
    let mut jobs = ["one", "two"].map(|name| pool.apply_async(wait::call(&signals.path("begun"), &signals.path(name))));
    let mut given = 0;
    let ends = block_on(async {
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let end = poll_fn(|context| {
                if given == ends.len() {
                    signals.give(["two", "one"][given]);
                    given += 1;
                }
                for (index, job) in jobs.iter_mut().enumerate().filter(|(index, _)| !ends.contains(index)) {
                    if let Poll::Ready(value) = Pin::new(job).poll(context) {
                        assert_eq!(value.unwrap(), 7);
                        return Poll::Ready(index);
                    }
                }
                Poll::Pending
            });
            let end = end.await;
            ends.push(end);
        }
        ends
    });
    assert_eq!(ends, [1, 0]);
}

fn one_dropped_while_pending_goes_on() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    let wakes = Arc::new(Wakes::default());
    for _ in 0..3 {
        let mut job = pool.apply_async(wait::call(&begun, &release));
        assert!(poll(&mut job, &wakes).is_pending());
        drop(job);
    }
    signals.give("release");
    pool.close();
    pool.join().unwrap();
    assert_eq!(signals.counted("begun"), 3);
    assert_eq!(Arc::strong_count(&wakes), 1, "no waker is left behind");
}

fn a_pending_job_ends_with_its_pool() {
    let (pool, signals) = (pool(1), Signals::new());
    let never = signals.path("never");
    let mut jobs: Vec<_> = (0..3).map(|_| pool.apply_async(wait::call(&never, &never.join("no")))).collect();
    let wakes = Arc::new(Wakes::default());
    assert!(jobs.iter_mut().all(|job| poll(job, &wakes).is_pending()));
    drop(pool);
    assert_eq!(wakes.counted(), 3);
    for job in jobs {
        assert!(block_on(job).unwrap_err().is_closed());
    }
}

fn one_with_a_callback_is_ready_after_it() {
    let pool = pool(1);
    let called = Arc::new(AtomicUsize::new(0));
    let inner = called.clone();
    let job = pool.apply_async(double::call(4)).on_done(move |_| {
        inner.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(block_on(job).unwrap(), 8);
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

fn polling_after_the_end_panics() {
    let pool = pool(1);
    let mut job = pool.apply_async(double::call(4));
    assert!(job.wait(PATIENCE));
    let wakes = Arc::new(Wakes::default());
    assert!(matches!(poll(&mut job, &wakes), Poll::Ready(Ok(8))));
    let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut job, &wakes).is_ready())).unwrap_err();
    let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(message.contains("polled after its result was taken"), "{message}");
}

/// A waker that goes on at once, as an executor does that polls where it is woken: it makes a call and waits for it.
struct Calls {
    pool: Arc<Pool>,
    returned: AtomicUsize,
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        assert_eq!(self.pool.apply(double::call(21)).unwrap(), 42);
        self.returned.fetch_add(1, Ordering::SeqCst);
    }
}

fn a_waker_may_call_the_pool_and_wait() {
    let (pool, signals) = (Arc::new(pool(2)), Signals::new());
    let calls = Arc::new(Calls { pool: pool.clone(), returned: AtomicUsize::new(0) });
    let waker = Waker::from(calls.clone());
    for round in 0..20 {
        let release = signals.path(&format!("release {round}"));
        let begun = signals.path(&format!("begun {round}"));
        let mut job = pool.apply_async(wait::call(&begun, &release));
        assert!(Pin::new(&mut job).poll(&mut Context::from_waker(&waker)).is_pending());
        // In every other round a caller listens meanwhile, who waits for another call.
        let listens = (round % 2 == 0).then(|| {
            let (pool, signals) =
                (pool.clone(), (signals.path(&format!("begun too {round}")), signals.path(&format!("all {round}"))));
            std::thread::spawn(move || pool.apply(wait::call(&signals.0, &signals.1)).unwrap())
        });
        if listens.is_some() {
            signals.await_given(&format!("begun too {round}"));
        }
        signals.give(&format!("release {round}"));
        until("the waker's call has returned", || calls.returned.load(Ordering::SeqCst) == round + 1);
        signals.give(&format!("all {round}"));
        if let Some(listens) = listens {
            assert_eq!(listens.join().unwrap(), 7);
        }
        assert_eq!(job.get().unwrap(), 7);
    }
}
