//! With a grace before a worker is killed, it gets SIGTERM first: without a handler it ends at once, a handler can clean
//! up, and one that goes on is killed. It starts no more calls. A SIGTERM from elsewhere does not end a worker.

use crate::support::{Signals, await_given, builder, count, give, over_every_transport, pids, pool, returns, signal};
use pool_runtime::{Backend, Pool, task};
use std::{
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

over_every_transport! {
    a_worker_without_a_handler_ends_at_once,
    a_handler_can_clean_up,
    a_worker_that_does_not_end_is_killed,
    a_timeout_asks_too,
    no_call_starts_in_a_worker_that_was_asked,
    a_request_to_end_from_elsewhere_is_not_obeyed,
}

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(600);

#[task]
fn work(begun: &Path) {
    give(begun);
    std::thread::sleep(LONG);
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

static CLEANED: OnceLock<PathBuf> = OnceLock::new();
static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn clean_up(_: i32) {
    // A real handler would do less; nothing else runs in this process that could hold a lock.
    count(CLEANED.get().unwrap());
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

extern "C" fn note(_: i32) {
    ASKED.store(true, Ordering::Relaxed);
}

fn handle(handler: extern "C" fn(i32)) {
    // SAFETY: the handlers are functions of one number.
    unsafe { libc::signal(libc::SIGTERM, handler as usize) };
}

#[task]
fn work_and_clean_up(begun: &Path, cleaned: &Path) {
    CLEANED.get_or_init(|| cleaned.to_owned());
    handle(clean_up);
    give(begun);
    std::thread::sleep(LONG);
}

#[task]
fn work_on(begun: &Path, asked: &Path) {
    handle(note);
    give(begun);
    while !ASKED.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    give(asked);
    std::thread::sleep(LONG);
}

#[task]
fn work_until_asked(n: u32, ran: &Path) -> u32 {
    handle(note);
    count(&ran.join(n.to_string()));
    while n > 0 && !ASKED.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    n
}

fn with_grace(grace: Duration) -> Pool {
    builder().processes(1).terminate_grace(grace).build().unwrap()
}

/// Terminates the pool, and waits for its end. Returns how long that took.
fn end(pool: Pool) -> Duration {
    let began = Instant::now();
    pool.terminate();
    returns("join", move || pool.join()).unwrap();
    began.elapsed()
}

fn a_worker_without_a_handler_ends_at_once() {
    let (pool, signals) = (with_grace(LONG), Signals::new());
    let job = pool.apply_async(work::call(&signals.path("begun")));
    signals.await_given("begun");
    end(pool);
    assert!(job.get().unwrap_err().is_closed());
    // One that is idle.
    end(with_grace(LONG));
}

fn a_handler_can_clean_up() {
    let (pool, signals) = (with_grace(LONG), Signals::new());
    let job = pool.apply_async(work_and_clean_up::call(&signals.path("begun"), &signals.path("cleaned")));
    signals.await_given("begun");
    assert!(job.cancel());
    let error = job.get().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    pool.apply(pid::call()).unwrap();
    assert_eq!(signals.counted("cleaned"), 1);
    end(pool);
}

fn a_worker_that_does_not_end_is_killed() {
    let (pool, signals) = (with_grace(Duration::from_millis(300)), Signals::new());
    let job = pool.apply_async(work_on::call(&signals.path("begun"), &signals.path("asked")));
    signals.await_given("begun");
    let took = end(pool);
    assert!(signals.path("asked").exists() && took >= Duration::from_millis(300), "{took:?}");
    assert!(job.get().unwrap_err().is_closed());
}

fn a_timeout_asks_too() {
    let (pool, signals) = (with_grace(LONG), Signals::new());
    let (begun, cleaned) = (signals.path("begun"), signals.path("cleaned"));
    let call = work_and_clean_up::call(&begun, &cleaned);
    let error = pool.apply(call.timeout(Duration::from_secs(1))).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(signals.counted("cleaned"), 1);
    end(pool);
}

fn no_call_starts_in_a_worker_that_was_asked() {
    let (pool, signals) = (with_grace(LONG), Signals::new());
    let ran = signals.path("ran");
    std::fs::create_dir(&ran).unwrap();
    for _ in 0..3 {
        pool.map(|_| work_until_asked::call(0, &ran), 0..500).unwrap();
    }
    let calls = pool.map_async(|n| work_until_asked::call(n, &ran), 1..20);
    await_given(&ran.join("1"));
    // Its call returns, and it leaves in good order.
    end(pool);
    assert!(calls.get().unwrap_err().is_closed());
    assert!(!ran.join("2").exists());
}

#[test]
fn a_thread_is_abandoned_at_once() {
    let signals = Signals::new();
    let pool = Pool::builder().processes(1).backend(Backend::Threads).terminate_grace(LONG).build().unwrap();
    let job = pool.apply_async(work::call(&signals.path("begun")));
    signals.await_given("begun");
    end(pool);
    assert!(job.get().unwrap_err().is_closed());
}

fn a_request_to_end_from_elsewhere_is_not_obeyed() {
    let pool = pool(1);
    let before = pids(&pool);
    for number in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        signal(before[0], number);
        assert_eq!(pool.apply(pid::call()).unwrap(), before[0], "{number}");
    }
}
