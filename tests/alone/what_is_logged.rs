//! Each event that the guide's page on the log lists is seen by a subscriber, with its fields; and nothing is logged for
//! a call that succeeds.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Backend, Pool, PoolStats, pool_main, task};
use std::time::Duration;
use support::{
    Logged, Misbehaves, Misbehaving, await_logged, builder, kill_this_process, log_anew, logged, over_every_transport,
    pids, until,
};
use tracing::Level;

pool_main!();

over_every_transport! {
    in_turn:
    a_pool_and_its_workers,
    a_worker_that_is_lost_and_the_next_one,
    workers_that_are_replaced_as_planned,
    timeouts_retries_and_giving_up,
    a_limit_of_memory,
    a_pool_that_cannot_start,
    a_pool_that_is_dropped_with_work,
    a_failure_that_nobody_reads_is_told_once,
    a_loss_that_nobody_reads_is_told,
    what_was_read_or_cancelled_is_not_told,
    a_map_that_nobody_reads_is_told_once,
    calls_of_a_pool_that_has_failed_are_not_told_one_by_one,
    a_start_that_fails_is_told,
    texts_of_workers_stay_on_one_line,
    workers_that_are_threads,
    a_subscriber_that_panics_loses_no_result,
    a_subscriber_that_blocks_keeps_no_call_from_ending,
    the_subscriber_of_the_thread_that_built_the_pool_is_told,
}

const POOL: &str = "pool_runtime::pool";
const WORKER: &str = "pool_runtime::worker";
const JOB: &str = "pool_runtime::job";

#[task]
fn add_one(n: u32) -> u32 {
    n + 1
}

#[task]
fn dies() {
    kill_this_process();
}

#[task]
fn panics(text: &str) {
    panic!("{text}");
}

#[task(timeout = "20ms")]
fn hangs() {
    support::hang();
}

#[task(memory = "64MiB")]
fn fills() -> usize {
    let all: Vec<_> = (0..4096)
        .map(|_| {
            std::thread::sleep(Duration::from_micros(300));
            vec![1u8; 1 << 20]
        })
        .collect();
    all.len()
}

#[task(initializer)]
fn cannot_begin() -> Result<(), String> {
    Err("no model".into())
}

#[task(initializer)]
fn begins() -> u32 {
    1
}

#[task]
fn panics_with_state(#[state] state: &u32) {
    panic!("{state}");
}

fn a_pool_and_its_workers() {
    log_anew();
    let pool = builder().processes(2).name("crawler").build().unwrap();
    let built = await_logged("built", 1, |event| event.is(Level::DEBUG, POOL));
    assert_eq!((built[0].field("pool"), built[0].field("workers")), ("crawler", "2"));
    assert_eq!(built[0].field("backend"), "processes");
    let mut started = await_logged("started", 2, |event| event.is(Level::DEBUG, WORKER));
    started.sort_by_key(|event| event.field("worker").to_owned());
    for (event, worker) in started.iter().zip(["1", "2"]) {
        assert_eq!((event.field("pool"), event.field("epoch"), event.field("worker")), ("crawler", "1", worker));
    }
    let mut told: Vec<u32> = started.iter().map(|event| event.field("pid").parse().unwrap()).collect();
    told.sort_unstable();
    let mut are = pids(&pool);
    are.sort_unstable();
    assert_eq!(told, are);

    let before = logged().len();
    assert_eq!(pool.map(add_one::call, 0..1000).unwrap().len(), 1000);
    assert_eq!(pool.apply(add_one::call(1)).unwrap(), 2);
    assert_eq!(logged().len(), before, "calls that succeed are logged");

    pool.close();
    pool.join().unwrap();
    let ended = await_logged("ended", 2, |event| event.is(Level::DEBUG, POOL));
    assert_eq!((ended[1].field("done"), ended[1].field("failed")), ("1001", "0"));
    let left = await_logged("workers ended", 4, |event| event.is(Level::DEBUG, WORKER));
    assert!(left[2..].iter().all(|event| event.field("reason").contains("exited with code 0")), "{left:?}");
    drop(pool);
    assert_eq!(logged().iter().filter(|event| event.is(Level::DEBUG, POOL)).count(), 2, "it ends once");
}

fn a_worker_that_is_lost_and_the_next_one() {
    log_anew();
    let pool = builder().processes(1).name("lossy").build().unwrap();
    let pid = pids(&pool)[0].to_string();
    assert!(pool.apply(dies::call()).unwrap_err().is_worker_lost());
    let lost = await_logged("lost", 1, |event| event.is(Level::WARN, WORKER));
    assert_eq!((lost[0].field("pool"), lost[0].field("worker"), lost[0].field("epoch")), ("lossy", "1", "1"));
    assert_eq!(lost[0].field("pid"), pid);
    assert!(lost[0].field("reason").contains("signal 9"), "{lost:?}");
    let next = await_logged("replaced", 1, |event| event.is(Level::INFO, WORKER));
    assert_eq!((next[0].field("pool"), next[0].field("worker"), next[0].field("epoch")), ("lossy", "1", "2"));
    assert_ne!(next[0].field("pid"), pid);
    until("it counts as a restart", || pool.stats().restarts == 1);
    assert_eq!(lost.len(), 1);
}

fn workers_that_are_replaced_as_planned() {
    log_anew();
    let pool = builder().processes(1).name("worn").max_tasks_per_child(3).build().unwrap();
    for n in 0..3 {
        assert_eq!(pool.apply(add_one::call(n)).unwrap(), n + 1);
    }
    let retired = await_logged("recycled", 1, |event| event.field("message").contains("is replaced"));
    assert!(retired[0].is(Level::DEBUG, WORKER) && retired[0].field("reason").contains("max_tasks_per_child"));
    assert_eq!((retired[0].field("pool"), retired[0].field("worker"), retired[0].field("epoch")), ("worn", "1", "1"));
    assert_eq!(pool.apply(add_one::call(1)).unwrap(), 2);
    assert_eq!(pool.stats().restarts, 0, "as planned");

    // State that a panic may have broken is made anew.
    let pool = builder().processes(1).name("stateful").initializer(begins::call()).build().unwrap();
    assert!(pool.apply(panics_with_state::call()).unwrap_err().is_panic());
    let retired = await_logged("replaced after a panic", 1, |event| event.field("reason").contains("panicked"));
    assert_eq!((retired[0].field("pool"), retired[0].field("worker")), ("stateful", "1"));
    assert_eq!(pool.apply(add_one::call(1)).unwrap(), 2);
    assert_eq!(pool.stats().restarts, 0, "as planned");
    assert!(!logged().iter().any(|event| event.level <= Level::INFO), "{:?}", logged());
}

fn timeouts_retries_and_giving_up() {
    log_anew();
    let pool = builder().processes(1).name("slow").retry_delay(Duration::ZERO).build().unwrap();
    let error = pool.apply(hangs::call().retries(1)).unwrap_err();
    assert!(error.is_timeout() && error.attempts() == 2, "{error}");
    let late = await_logged("timed out", 2, |event| event.is(Level::WARN, JOB) && !event.field("limit").is_empty());
    for (event, attempt) in late.iter().zip(["1", "2"]) {
        assert_eq!((event.field("pool"), event.field("worker"), event.field("attempt")), ("slow", "1", attempt));
        assert!(event.field("task").ends_with("hangs") && event.field("job") == "1", "{event:?}");
        assert_eq!(event.field("limit"), "20ms");
    }
    let again = await_logged("tried again", 1, |event| event.is(Level::INFO, JOB));
    assert_eq!((again[0].field("pool"), again[0].field("job"), again[0].field("attempt")), ("slow", "1", "1"));
    assert!(again[0].field("task").ends_with("hangs") && again[0].field("reason").contains("signal 9"), "{again:?}");
    let ends = await_logged("given up", 1, |event| event.is(Level::WARN, JOB) && !event.field("attempts").is_empty());
    assert_eq!((ends[0].field("pool"), ends[0].field("job"), ends[0].field("attempts")), ("slow", "1", "2"));
    assert!(ends[0].field("task").ends_with("hangs") && ends[0].field("reason").contains("20ms"), "{ends:?}");
    until("both workers were replaced", || pool.stats().restarts == 2);
    let PoolStats { failed, retries, timeouts, .. } = pool.stats();
    assert_eq!((failed, retries, timeouts), (1, 1, 2));
    assert!(!logged().iter().any(|event| event.is(Level::WARN, WORKER)), "the pool has killed them: {:?}", logged());
}

fn a_limit_of_memory() {
    log_anew();
    let pool = builder().processes(1).name("large").build().unwrap();
    assert!(pool.apply(fills::call()).unwrap_err().is_out_of_memory());
    let told = await_logged("too large", 1, |event| event.is(Level::WARN, JOB));
    assert_eq!((told[0].field("pool"), told[0].field("worker"), told[0].field("job")), ("large", "1", "1"));
    assert!(told[0].field("task").ends_with("fills") && told[0].field("attempt") == "1", "{told:?}");
    assert_eq!(told[0].field("limit"), (64 << 20).to_string());
    assert!(told[0].field("used").parse::<u64>().unwrap() > 64 << 20, "{told:?}");
    assert_eq!((pool.stats().timeouts, pool.stats().retries), (0, 0));
}

fn a_pool_that_cannot_start() {
    log_anew();
    builder().processes(1).name("stillborn").initializer(cannot_begin::call()).build().unwrap_err();
    let failed = await_logged("failed", 1, |event| event.is(Level::ERROR, POOL));
    assert_eq!(failed[0].field("pool"), "stillborn");
    assert!(failed[0].field("reason").contains("no model"), "{failed:?}");
    let start = logged().into_iter().find(|event| event.target == WORKER).expect("a start that failed");
    assert!(start.is(Level::INFO, WORKER) && start.field("reason").contains("no model"), "{start:?}");
    assert!(!logged().iter().any(|event| event.is(Level::DEBUG, POOL)), "it was never built: {:?}", logged());
}

fn a_pool_that_is_dropped_with_work() {
    log_anew();
    let pool = builder().processes(1).name("left").build().unwrap();
    let job = pool.apply_async(hangs::call().timeout(Duration::from_secs(3600)));
    drop(pool);
    let left = await_logged("dropped", 1, |event| event.is(Level::WARN, POOL));
    assert_eq!((left[0].field("pool"), left[0].field("abandoned")), ("left", "1"));
    drop(job);
    assert!(!logged().iter().any(|event| event.target == JOB), "it was terminated: {:?}", logged());
}

/// Of processes, over the transport that is tested.
fn pool_of_one(backend: Backend) -> Pool {
    match backend {
        Backend::Processes => builder().processes(1).build().unwrap(),
        _ => support::pool_on(backend, 1),
    }
}

fn unread() -> Vec<support::Logged> {
    logged().into_iter().filter(|event| event.field("message").contains("nobody reads why")).collect()
}

fn a_failure_that_nobody_reads_is_told_once() {
    for backend in support::BACKENDS {
        log_anew();
        let pool = pool_of_one(backend);
        // Dropped before it fails, where calls do not run at once; and after.
        let id = {
            let job = pool.apply_async(panics::call("unseen"));
            job.id().to_string()
        };
        await_logged("told", 1, |event| event.field("message").contains("nobody reads why"));
        let later = pool.apply_async(panics::call("unseen"));
        assert!(later.wait(support::PATIENCE));
        assert_eq!(unread().len(), 1, "it may yet be read");
        let later_id = later.id().to_string();
        drop(later);
        pool.close();
        pool.join().unwrap();
        let told = unread();
        assert_eq!(told.iter().map(|event| event.field("job")).collect::<Vec<_>>(), [&*id, &*later_id], "{backend:?}");
        for event in told {
            assert!(event.is(Level::WARN, JOB) && event.field("task").ends_with("panics"), "{event:?}");
            assert!(event.field("reason").contains("unseen"), "{event:?}");
        }
    }
}

fn a_loss_that_nobody_reads_is_told() {
    log_anew();
    let pool: Pool = builder().processes(1).build().unwrap();
    drop(pool.apply_async(dies::call()));
    let told = await_logged("told", 1, |event| event.field("message").contains("nobody reads why"));
    assert!(told[0].field("reason").contains("signal 9") && told[0].field("task").ends_with("dies"), "{told:?}");
    pool.close();
    drop(pool.apply_async(add_one::call(1)));
    assert_eq!(unread().len(), 2, "it was refused");
}

fn what_was_read_or_cancelled_is_not_told() {
    for backend in support::BACKENDS {
        log_anew();
        let pool = pool_of_one(backend);
        assert!(pool.apply(panics::call("seen")).unwrap_err().is_panic());
        assert!(pool.apply_async(panics::call("seen")).get().unwrap_err().is_panic());
        let mut waited = pool.apply_async(panics::call("seen"));
        assert!(waited.get_timeout(support::PATIENCE).unwrap_err().is_panic());
        drop(waited);
        let asked = pool.apply_async(panics::call("seen"));
        assert!(asked.wait(support::PATIENCE) && asked.is_successful() == Some(false));
        drop(asked);
        assert!(support::block_on(pool.apply_async(panics::call("seen"))).unwrap_err().is_panic());
        let (seen, sees) = std::sync::mpsc::channel();
        drop(pool.apply_async(panics::call("seen")).on_done(move |result| seen.send(result.is_err()).unwrap()));
        assert!(sees.recv().unwrap());
        drop(pool.apply_async(add_one::call(1)));
        if backend == Backend::Processes {
            let job = pool.apply_async(hangs::call().timeout(Duration::from_secs(3600)));
            assert!(job.cancel());
            drop(job);
        }
        pool.close();
        pool.join().unwrap();
        assert!(unread().is_empty(), "{backend:?}: {:?}", unread());
    }
}

fn a_map_that_nobody_reads_is_told_once() {
    for backend in support::BACKENDS {
        log_anew();
        let pool = pool_of_one(backend);
        let id = {
            let job = pool.map_async(panics::call, ["first", "second", "third"]);
            job.id().to_string()
        };
        pool.close();
        pool.join().unwrap();
        let told = unread();
        assert_eq!(told.len(), 1, "{backend:?}: {told:?}");
        let reason = told[0].field("reason");
        assert!(reason.contains("first") && reason.contains("input 0"), "{told:?}");
        assert_eq!(told[0].field("job"), id);
    }
}

/// Has the first worker begin, and no other.
#[task(initializer)]
fn begins_once(flag: &str) -> Result<(), String> {
    std::fs::File::create_new(flag).map(drop).map_err(|error| format!("no second time: {error}"))
}

/// A pool of one worker, which no other replaces.
fn without_successor(dir: &std::path::Path) -> Pool {
    let flag = dir.join("begun");
    builder().processes(1).name("once").initializer(begins_once::call(flag.to_str().unwrap())).build().unwrap()
}

fn calls_of_a_pool_that_has_failed_are_not_told_one_by_one() {
    log_anew();
    let dir = tempfile::tempdir().unwrap();
    let pool = without_successor(dir.path());
    drop(pool.apply_async(dies::call()));
    for _ in 0..100 {
        drop(pool.apply_async(add_one::call(1)));
    }
    await_logged("failed", 1, |event| event.is(Level::ERROR, POOL));
    assert!(pool.join().is_err());
    drop(pool.apply_async(add_one::call(1)));
    let told = unread();
    assert!(told.len() == 1 && told[0].field("job") == "1", "{told:?}");
}

fn a_start_that_fails_is_told() {
    log_anew();
    let dir = tempfile::tempdir().unwrap();
    let pool = without_successor(dir.path());
    let jobs: Vec<_> = (0..10).map(|_| pool.apply_async(dies::call())).collect();
    let told = await_logged("could not start", 1, |event| event.field("message").contains("could not be started"));
    assert!(told[0].is(Level::WARN, WORKER) && told[0].field("reason").contains("no second time"), "{told:?}");
    assert_eq!((told[0].field("pool"), told[0].field("worker"), told[0].field("epoch")), ("once", "1", "2"));
    assert!(jobs.into_iter().all(|job| job.get().is_err()));
}

fn texts_of_workers_stay_on_one_line() {
    log_anew();
    let pool = builder().processes(1).build().unwrap();
    drop(pool.apply_async(panics::call("one\nWARN pool_runtime::pool: two\x1b[2J")));
    let told = await_logged("told", 1, |event| event.field("message").contains("nobody reads why"));
    let reason = told[0].field("reason");
    assert!(reason.contains("one\\nWARN") && reason.contains("\\x1b[2J"), "{reason}");
    assert!(logged().iter().all(|event| !event.fields.values().any(|text| text.contains('\n'))), "{:?}", logged());
    assert!(!told[0].field("message").contains("one"), "the reason is told twice: {told:?}");
}

fn workers_that_are_threads() {
    log_anew();
    NAPS.store(true, std::sync::atomic::Ordering::Release);
    let pool = support::pool_on(Backend::Threads, 1);
    assert!(pool.apply(naps::call().timeout(Duration::from_millis(1))).unwrap_err().is_timeout());
    let told = await_logged("ended", 1, |event| event.is(Level::DEBUG, WORKER) && !event.field("reason").is_empty());
    assert_eq!(told[0].field("reason"), "the thread was given up while running");
    let late = await_logged("late", 1, |event| event.is(Level::WARN, JOB));
    assert!(late[0].field("message").ends_with("its worker was given up"), "{late:?}");
    let texts = |event: &Logged| format!("{} {}", event.field("message"), event.field("reason"));
    await_logged("the next", 1, |event| event.is(Level::INFO, WORKER));
    assert!(!logged().iter().filter(|event| event.target == WORKER).any(|event| texts(event).contains("process")));
    NAPS.store(false, std::sync::atomic::Ordering::Release);
}

static NAPS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Until the test is over, so that the thread ends with it.
#[task]
fn naps() {
    while NAPS.load(std::sync::atomic::Ordering::Acquire) {
        std::thread::yield_now();
    }
}

fn a_subscriber_that_panics_loses_no_result() {
    for backend in support::BACKENDS {
        log_anew();
        let misbehaving = Misbehaving::so(Misbehaves::Panics);
        let pool = pool_of_one(backend);
        if backend == Backend::Processes {
            assert!(pool.apply(dies::call().retries(1)).unwrap_err().is_worker_lost());
            assert!(pool.apply(hangs::call()).unwrap_err().is_timeout());
        }
        assert_eq!(pool.apply(add_one::call(1)).unwrap(), 2);
        drop(pool.apply_async(panics::call("unseen")));
        let job = pool.apply_async(add_one::call(2)).on_done(|_| panic!("a callback"));
        assert_eq!(job.get().unwrap(), 3);
        let later = pool.apply_async(panics::call("unseen"));
        assert!(later.wait(support::PATIENCE));
        drop(later);
        assert_eq!(pool.map(add_one::call, 0..100).unwrap().len(), 100);
        pool.close();
        pool.join().unwrap();
        drop(misbehaving);
        assert_eq!(unread().len(), 2, "{backend:?}: {:?}", logged());
        let callback = |event: &&Logged| event.field("message").contains("callback");
        assert!(logged().iter().find(callback).unwrap().field("reason").contains("a callback"));
    }
}

fn a_subscriber_that_blocks_keeps_no_call_from_ending() {
    log_anew();
    let misbehaving = Misbehaving::so(Misbehaves::Blocks);
    let pool = builder().processes(1).name("blocked").retry_delay(Duration::ZERO).build().unwrap();
    assert!(pool.apply(dies::call().retries(1)).unwrap_err().is_worker_lost());
    assert!(pool.apply(hangs::call()).unwrap_err().is_timeout());
    assert_eq!(pool.apply(add_one::call(1)).unwrap(), 2);
    drop(pool.apply_async(dies::call()));
    assert_eq!(pool.map(add_one::call, 0..100).unwrap().len(), 100);
    pool.close();
    pool.join().unwrap();
    assert_eq!(logged().len(), 1, "{:?}", logged());
    drop(misbehaving);
    await_logged("lost, tried again, late, unread", 1, |event| event.field("message").contains("nobody reads why"));
    await_logged("all of it", 1, |event| event.field("message").contains("has ended") && event.target == POOL);
    assert_eq!(logged().iter().filter(|event| event.is(Level::WARN, WORKER)).count(), 3, "{:?}", logged());
    assert!(logged().iter().any(|event| event.is(Level::INFO, JOB)), "{:?}", logged());
}

fn the_subscriber_of_the_thread_that_built_the_pool_is_told() {
    log_anew();
    let (others, told) = std::sync::mpsc::channel();
    let build = || builder().processes(1).name("own").build().unwrap();
    let pool = tracing::subscriber::with_default(support::Forwarder(others), build);
    drop(pool.apply_async(dies::call()));
    pool.close();
    pool.join().unwrap();
    drop(pool);
    let told: Vec<_> = told.try_iter().collect();
    for text in ["was built", "was lost", "nobody reads why", "has ended"] {
        assert!(told.iter().any(|event| event.field("message").contains(text)), "{text}: {told:?}");
    }
    assert!(logged().is_empty(), "{:?}", logged());
}
