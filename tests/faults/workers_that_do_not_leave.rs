//! A worker that was told to leave and hangs on its way out, in a handler of `atexit` or in the `drop` of its state, is
//! killed after a grace. What its calls returned counts, its seat is filled again, and the pool ends. One that joins the
//! processes that it has started has its time, if it really does.

use crate::support::{Signals, await_given, builder, count, give, over_every_transport, returns};
use pool_runtime::{Backend, Pool, PoolBuilder, Process, task};
use std::{path::Path, path::PathBuf, time::Duration};

over_every_transport! {
    a_hang_at_exit_does_not_keep_a_closed_pool,
    a_hang_at_exit_does_not_keep_the_seat_of_a_worn_worker,
    a_hang_at_exit_does_not_keep_the_seat_of_an_old_worker,
    a_hang_at_exit_does_not_keep_the_seat_of_a_large_worker,
    a_state_that_takes_long_to_drop_does_not_keep_its_seat,
    a_state_that_takes_long_to_drop_after_a_panic_does_not_keep_its_seat,
    a_worker_that_joins_its_processes_outlives_the_grace,
    a_state_that_joins_its_process_outlives_the_grace,
    a_worker_that_only_says_that_it_joins_is_killed,
    what_is_done_within_the_grace_is_done,
}

const GRACE: Duration = Duration::from_millis(200);

fn builder_of_one() -> PoolBuilder {
    builder().processes(1).exit_grace(GRACE)
}

extern "C" fn hang() {
    crate::support::hang();
}

fn at_exit(handler: extern "C" fn()) {
    // SAFETY: a function that may run at any time.
    assert_eq!(unsafe { libc::atexit(handler) }, 0);
}

#[task]
fn hang_at_exit(n: u32) -> u32 {
    at_exit(hang);
    n
}

#[task]
fn hang_at_exit_with_memory(n: u32) -> u32 {
    at_exit(hang);
    std::mem::forget(vec![1u8; 32 << 20]);
    n
}

/// Closes the pool, and waits until it has ended.
fn ends(pool: Pool) {
    pool.close();
    returns("join", move || pool.join()).unwrap();
}

/// Whatever each worker does on its way out, the next one comes.
fn is_filled_again(pool: Pool, call: fn(&Pool, u32) -> u32) {
    let pool = returns("the calls", move || {
        assert!((0..3).all(|n| call(&pool, n) == n));
        pool
    });
    ends(pool);
}

fn a_hang_at_exit_does_not_keep_a_closed_pool() {
    let pool = builder_of_one().build().unwrap();
    assert_eq!(pool.apply(hang_at_exit::call(7)).unwrap(), 7);
    let last = pool.apply_async(hang_at_exit::call(8));
    ends(pool);
    assert_eq!(last.get().unwrap(), 8, "what has come counts");
}

fn a_hang_at_exit_does_not_keep_the_seat_of_a_worn_worker() {
    let pool = builder_of_one().max_tasks_per_child(1).build().unwrap();
    is_filled_again(pool, |pool, n| pool.apply(hang_at_exit::call(n)).unwrap());
}

fn a_hang_at_exit_does_not_keep_the_seat_of_an_old_worker() {
    let pool = builder_of_one().max_age_per_child(Duration::from_millis(1)).build().unwrap();
    is_filled_again(pool, |pool, n| pool.apply(hang_at_exit::call(n)).unwrap());
}

fn a_hang_at_exit_does_not_keep_the_seat_of_a_large_worker() {
    let pool = builder_of_one().max_memory_per_child(16 << 20).build().unwrap();
    is_filled_again(pool, |pool, n| pool.apply(hang_at_exit_with_memory::call(n)).unwrap());
}

/// Does not end on its own.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        hang();
    }
}

#[task(initializer)]
fn endless() -> Endless {
    Endless
}

#[task]
fn use_endless(#[state] _endless: &mut Endless, n: u32) -> u32 {
    n
}

#[task]
fn break_endless(#[state] _endless: &mut Endless) {
    panic!("the state may be broken");
}

fn a_state_that_takes_long_to_drop_does_not_keep_its_seat() {
    let pool = builder_of_one().initializer(endless::call()).max_tasks_per_child(1).build().unwrap();
    is_filled_again(pool, |pool, n| pool.apply(use_endless::call(n)).unwrap());
}

fn a_state_that_takes_long_to_drop_after_a_panic_does_not_keep_its_seat() {
    let pool = builder_of_one().initializer(endless::call()).build().unwrap();
    is_filled_again(pool, |pool, n| {
        assert!(pool.apply(break_endless::call()).unwrap_err().is_panic());
        n
    });
}

#[test]
fn a_state_of_a_thread_that_takes_long_to_drop_does_not_keep_its_seat() {
    let builder = Pool::builder().processes(1).backend(Backend::Threads).exit_grace(GRACE);
    let pool = builder.initializer(endless::call()).max_tasks_per_child(1).build().unwrap();
    is_filled_again(pool, |pool, n| pool.apply(use_endless::call(n)).unwrap());
}

#[task]
fn write_when_told(begun: &Path, go: &Path, file: &Path) {
    give(begun);
    await_given(go);
    // The worker is looked at again and again.
    std::thread::sleep(GRACE * 5);
    give(file);
}

#[task]
fn start_and_leave(begun: &Path, go: &Path, file: &Path) {
    Process::new(write_when_told::call(begun, go, file)).start().unwrap();
    await_given(begun);
    at_exit(hang);
}

fn a_worker_that_joins_its_processes_outlives_the_grace() {
    let (pool, signals) = (builder_of_one().build().unwrap(), Signals::new());
    pool.apply(start_and_leave::call(&signals.path("begun"), &signals.path("go"), &signals.path("file"))).unwrap();
    pool.close();
    assert!(!pool.join_timeout(GRACE * 3).unwrap(), "it still joins");
    signals.give("go");
    // And it hangs afterwards.
    returns("join", move || pool.join()).unwrap();
    assert!(signals.path("file").exists());
}

/// Joins what it has started when it is dropped.
struct Keeper(pool_runtime::RunningProcess<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.join().unwrap();
    }
}

#[task(initializer)]
fn keep(begun: &Path, go: &Path, file: &Path) -> Keeper {
    Keeper(Process::new(write_when_told::call(begun, go, file)).start().unwrap())
}

fn a_state_that_joins_its_process_outlives_the_grace() {
    let signals = Signals::new();
    let (begun, go, file) = (signals.path("begun"), signals.path("go"), signals.path("file"));
    let pool = builder_of_one().initializer(keep::call(&begun, &go, &file)).build().unwrap();
    signals.await_given("begun");
    pool.close();
    assert!(!pool.join_timeout(GRACE * 3).unwrap(), "it still joins");
    signals.give("go");
    returns("join", move || pool.join()).unwrap();
    assert!(file.exists());
}

/// Where the status page of this worker says what the worker does, and the number that says that it joins.
const STAGE: usize = 32;
const JOINING: u8 = 4;

extern "C" fn lie_and_hang() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let page = maps.lines().find(|line| line.contains("pool-status")).unwrap();
    let start = usize::from_str_radix(page.split('-').next().unwrap(), 16).unwrap();
    loop {
        // SAFETY: the page is mapped for as long as the process lives.
        unsafe { ((start + STAGE) as *mut u8).write_volatile(JOINING) };
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[task]
fn lie_at_exit() {
    at_exit(lie_and_hang);
}

fn a_worker_that_only_says_that_it_joins_is_killed() {
    let pool = builder_of_one().build().unwrap();
    pool.apply(lie_at_exit::call()).unwrap();
    ends(pool);
}

struct Slow(PathBuf);

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(300));
        count(&self.0);
    }
}

#[task(initializer)]
fn slow(end: &Path) -> Slow {
    Slow(end.to_owned())
}

#[task]
fn use_slow(#[state] _slow: &mut Slow) {}

fn what_is_done_within_the_grace_is_done() {
    let signals = Signals::new();
    let builder = builder().processes(1).initializer(slow::call(&signals.path("end"))).max_tasks_per_child(1);
    let pool = builder.exit_grace(Duration::MAX).build().unwrap();
    for _ in 0..3 {
        pool.apply(use_slow::call()).unwrap();
    }
    pool.close();
    pool.join().unwrap();
    assert!(signals.counted("end") >= 3, "each was dropped whole: {}", signals.counted("end"));
}
